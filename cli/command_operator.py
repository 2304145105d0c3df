"""Who commands, by which broker, and whom he believes: `operator.toml`, and options that say otherwise.

    [operator]
    entity = "esco1"
    application = "dr-hub"
    individual = "op-17"
    key = "op-17.key"            # PEM, Ed25519 or P-256; its public half is in the entity's roster
    key_id = "op-17"             # as the roster names the key; without it the file's name

    [broker]
    url = "mqtts://broker.example:8883"
    ca = "ca.pem"
    cert = "esco1.pem"           # the entity's, as its collector has one
    key = "esco1.tls.key"

    [gateways]
    trust = ["ca.pem"]           # authorities of the gateways' signing keys; without it the broker's
    certificates = "gateways"    # folder with <gateway>.sign.pem
    books = "var/books.db"       # or the books of the entity's collector, which know them

Paths are relative to the file.  Not here: commands (`cli.command`) and the network (`cli.command_wire`).
"""

import os
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from pydantic import BaseModel, ConfigDict, ValidationError

from certs.pem import read_bytes, read_private_key
from core.errors import ConfigError
from headend.config import BrokerSection
from policies.command import Issuer
from policies.envelope import PrivateKey

DEFAULT_FILE: Final = "operator.toml"
ENVIRONMENT: Final = "PORTICO_OPERATOR"


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class OperatorSection(_Section):
    """`[operator]`."""

    entity: str | None = None
    application: str | None = None
    individual: str | None = None
    key: Path | None = None
    key_id: str | None = None


class BrokerFile(_Section):
    """`[broker]`."""

    url: str | None = None
    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None


class GatewaysSection(_Section):
    """`[gateways]`."""

    trust: tuple[Path, ...] = ()
    certificates: Path | None = None
    books: Path | None = None


class OperatorFile(_Section):
    """The whole file."""

    operator: OperatorSection = OperatorSection()
    broker: BrokerFile = BrokerFile()
    gateways: GatewaysSection = GatewaysSection()


@dataclass(frozen=True, slots=True)
class Given:
    """What the command line says; it goes before the file."""

    config: Path | None = None
    issuer: str | None = None
    key: Path | None = None
    key_id: str | None = None
    broker: str | None = None
    ca: Path | None = None
    cert: Path | None = None
    key_tls: Path | None = None
    trust: tuple[Path, ...] = ()
    certificates: Path | None = None
    books: Path | None = None


class Operator:
    """File and options together; what is missing is said when it is needed."""

    def __init__(self, given: Given, file: OperatorFile) -> None:
        self._given = given
        self._file = file

    @property
    def issuer(self) -> Issuer:
        """Entity, application and individual."""
        section = self._file.operator
        text = self._given.issuer or "/".join(
            (section.entity or "", section.application or "", section.individual or "")
        )
        parts = text.split("/")
        if len(parts) != 3 or not all(parts):
            raise ConfigError(
                "who commands is not said whole: give --as entity/application/individual, for example "
                f"--as esco1/dr-hub/op-17, or [operator] in {DEFAULT_FILE}"
            )
        try:
            return Issuer(entity=parts[0], application=parts[1], individual=parts[2])
        except ValidationError as error:
            raise ConfigError(f"--as {text}: {_sentence(error)}") from error

    @property
    def entity(self) -> str:
        """The entity alone: watching needs no more."""
        text = self._given.issuer or self._file.operator.entity
        if not text:
            raise ConfigError(f"which entity reads is not said: give --as, or [operator] in {DEFAULT_FILE}")
        return text.partition("/")[0]

    def key(self, pass_phrase: bytes | None = None) -> tuple[str, PrivateKey]:
        """Return the key that signs, with its id."""
        path = self._given.key or self._file.operator.key
        if path is None:
            raise ConfigError("no key to sign with: give --key op.key (its public half is in the roster)")
        own = self._file.operator.key_id if self._given.key is None else None
        return self._given.key_id or own or path.stem, signing_key(path, pass_phrase)

    @property
    def broker(self) -> BrokerSection:
        """The broker, with what its connection needs."""
        given, file = self._given, self._file.broker
        url = given.broker or file.url
        if url is None:
            raise ConfigError("no broker is named: give --broker mqtts://host:8883 --ca --cert --key-tls")
        files = {
            "ca": given.ca or file.ca,
            "cert": given.cert or file.cert,
            "key": given.key_tls or file.key,
        }
        try:
            return BrokerSection.model_validate({"url": url, **files})
        except ValidationError as error:
            raise ConfigError(f"--broker {url}: {_sentence(error)} (--ca, --cert, --key-tls)") from error

    @property
    def trust(self) -> tuple[Path, ...]:
        """Authorities of the gateways' signing keys."""
        ca = self._given.ca or self._file.broker.ca
        found = self._given.trust or self._file.gateways.trust or ((ca,) if ca is not None else ())
        if not found:
            raise ConfigError("no authority is named by which gateways are believed: give --trust ca.pem")
        return found

    @property
    def certificates(self) -> Path | None:
        """Folder with signing certificates of gateways."""
        return self._given.certificates or self._file.gateways.certificates

    @property
    def books(self) -> Path | None:
        """The books of the entity's collector."""
        return self._given.books or self._file.gateways.books


def load_operator(given: Given) -> Operator:
    """Read `operator.toml`: the one named, else the one here, else none."""
    path = given.config or Path(os.environ.get(ENVIRONMENT) or DEFAULT_FILE)
    if given.config is None and ENVIRONMENT not in os.environ and not path.exists():
        return Operator(given, OperatorFile())
    try:
        document = tomllib.loads(read_bytes(path, "operator file").decode())
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"operator file {path} is not TOML: {error}") from error
    try:
        file = OperatorFile.model_validate(document)
    except ValidationError as error:
        faults = tuple(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())
        raise ConfigError(f"operator file {path} has faults", faults) from error
    return Operator(given, _anchored(file, path.resolve().parent))


def _anchored(file: OperatorFile, base: Path) -> OperatorFile:
    def at(path: Path | None) -> Path | None:
        return None if path is None else base / path

    broker, gateways = file.broker, file.gateways
    return OperatorFile(
        operator=file.operator.model_copy(update={"key": at(file.operator.key)}),
        broker=broker.model_copy(
            update={"ca": at(broker.ca), "cert": at(broker.cert), "key": at(broker.key)}
        ),
        gateways=GatewaysSection(
            trust=tuple(base / one for one in gateways.trust),
            certificates=at(gateways.certificates),
            books=at(gateways.books),
        ),
    )


def signing_key(path: Path, pass_phrase: bytes | None = None) -> PrivateKey:
    """Return the private key in a file."""
    if pass_phrase is None:
        key = read_private_key(path)
    else:
        try:
            key = load_pem_private_key(read_bytes(path, "private key"), pass_phrase)
        except (ValueError, TypeError) as error:
            raise ConfigError(f"private key {path} cannot be opened with this pass phrase") from error
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return key
    if isinstance(key, ec.EllipticCurvePrivateKey) and key.curve.name == "secp256r1":
        return key
    raise ConfigError(f"key {path} is neither Ed25519 nor P-256: portico policy keygen makes one")


def _sentence(error: ValidationError) -> str:
    return error.errors()[0]["msg"].removeprefix("Value error, ")
