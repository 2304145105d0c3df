"""`headend.toml`: read with pydantic, all faults at once, each with its place.

Paths are relative to the file. Not here: what the values do.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Final, Literal
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)
from pydantic_core import ErrorDetails

from core.errors import ConfigError
from core.faultwords import near, of_another, sentence
from core.ids import name_fault

SEVEN_DAYS_S: Final = 7 * 86_400
SHARED_SESSION_S: Final = 60
DEFAULT_PORTS: Final = {"mqtts": 8883, "mqtt": 1883}


def _name(text: str) -> str:
    fault = name_fault(text)
    if fault is not None:
        raise ValueError(fault)
    return text


def _url(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in DEFAULT_PORTS:
        raise ValueError("begins with mqtts:// (or mqtt:// in development)")
    try:
        port = parts.port
    except ValueError:
        raise ValueError("has a port that is no number from 1 to 65535") from None
    if not parts.hostname or parts.path not in ("", "/") or parts.username or port == 0:
        raise ValueError("has the form mqtts://host:port, without user, password or path")
    return text


def _some(given: object) -> object:
    if given in ([], ()):
        raise ValueError("names none: at least one is needed")
    return given


Name = Annotated[str, AfterValidator(_name)]
Url = Annotated[str, AfterValidator(_url)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class HeadendSection(_Section):
    """`[headend]`: whose collector this is, and where the books lie."""

    entity: Name
    books: Path
    setting: Literal["development", "production"] = "development"
    gateways: frozenset[Name] | None = None
    """Take messages of these gateways alone; absent: of every one that the authority certified."""
    status: Path | None = None
    """Where the collector writes its figures, as JSON; absent: beside the books."""
    window_ms: int = Field(25, ge=1, le=1000)
    """While busy, transactions are this far apart: they share a flush of the disk."""


class BrokerSection(_Section):
    """`[[broker]]`: one broker to collect from."""

    url: Url
    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None
    share: Name | None = None
    """Name of the group of collectors that share the work."""
    session_expiry_s: int | None = Field(None, ge=0, le=2**32 - 1)
    """How long the broker keeps what comes while we are away; absent: 7 days, shared: 60 s."""
    window: int = Field(100, ge=1, le=1000)
    """Messages that may be on their way to us, not yet in the books."""
    keepalive_s: int = Field(30, ge=5, le=3600)

    @property
    def host(self) -> str:
        """Host of the broker."""
        return urlsplit(self.url).hostname or ""

    @property
    def port(self) -> int:
        """Port of the broker."""
        parts = urlsplit(self.url)
        return parts.port or DEFAULT_PORTS[parts.scheme]

    @property
    def tls(self) -> bool:
        """Whether the connection is by TLS."""
        return urlsplit(self.url).scheme == "mqtts"

    @property
    def expiry_s(self) -> int:
        """Session expiry in force.

        A broker may go on giving a sleeping member of a group its share of the messages (mosquitto 2.0
        does): a short session gives them back to the others soon.
        """
        if self.session_expiry_s is not None:
            return self.session_expiry_s
        return SEVEN_DAYS_S if self.share is None else SHARED_SESSION_S

    @model_validator(mode="after")
    def _files_for_tls(self) -> BrokerSection:
        missing = [name for name in ("ca", "cert", "key") if getattr(self, name) is None]
        if self.tls and missing:
            raise ValueError(f"a broker by mqtts:// needs {', '.join(missing)}")
        return self


class SigningSection(_Section):
    """`[signing]`: what confirmations are signed with, and who may certify gateways."""

    cert: Path
    key: Path
    trust: Annotated[tuple[Path, ...], BeforeValidator(_some)]


class PolicySection(_Section):
    """`[policy]`: what was published, to see which gateways hold something older."""

    published: Path
    """The folder that `portico policy publish` writes."""
    lag_s: int = Field(3600, ge=1, le=30 * 86_400)
    """How long after a publication a gateway may still hold what was before."""


class HeadendConfig(_Section):
    """The whole file."""

    headend: HeadendSection
    broker: Annotated[tuple[BrokerSection, ...], BeforeValidator(_some)]
    signing: SigningSection
    policy: PolicySection | None = None

    @model_validator(mode="after")
    def _no_plain_in_production(self) -> HeadendConfig:
        if self.headend.setting == "production":
            for number, broker in enumerate(self.broker):
                if not broker.tls:
                    raise ValueError(f"broker {number + 1} is without TLS, which production refuses")
        return self

    def status_path(self, name: str) -> Path:
        """Return where a collector writes its figures."""
        return self.headend.status or self.headend.books.with_name(f"collector-{name}.json")


_SECTIONS: Final[Mapping[str, type[BaseModel]]] = {
    "headend": HeadendSection,
    "broker": BrokerSection,
    "signing": SigningSection,
    "policy": PolicySection,
}
_TABLES: Final = {
    "headend": 'write [headend] with entity = "dso.example" and books = "var/books.db"',
    "broker": 'write [[broker]] with url = "mqtts://broker.example:8883", ca, cert and key',
    "signing": "write [signing] with cert, key and trust, the paths of PEM files",
}
_EXAMPLES: Final = {
    "entity": 'entity = "dso.example"',
    "books": 'books = "var/books.db"',
    "url": 'url = "mqtts://broker.example:8883"',
    "cert": 'cert = "dso.example.sign.pem"',
    "key": 'key = "dso.example.sign.key"',
    "trust": 'trust = ["ca.pem"]',
    "published": 'published = "published"',
}
"""How the tables and keys that must be there are written."""


def load(path: Path) -> HeadendConfig:
    """Read a configuration. Raises ConfigError with every fault and its place."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"configuration {path} cannot be read: {error.strerror}") from error
    try:
        document = tomllib.loads(raw.decode())
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise ConfigError(
            f"configuration {path} is not UTF-8 text (line {line}): save it as UTF-8"
        ) from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"configuration {path} is not TOML: {error}") from error
    try:
        config = HeadendConfig.model_validate(document)
    except ValidationError as error:
        other = of_another(document, "headend")
        if other:
            raise ConfigError(f"{path} {other}") from error
        faults = tuple(_fault(one) for one in error.errors(include_url=False))
        number = "one fault" if len(faults) == 1 else f"{len(faults)} faults"
        raise ConfigError(f"configuration {path} has {number}", faults) from error
    return _anchored(config, path.resolve().parent)


def _fault(one: ErrorDetails) -> str:
    """Return a fault with its place."""
    location = one["loc"]
    key = str(location[-1]) if location else ""
    if len(location) == 1 and one["type"] == "missing":
        return f"[{key}] is missing: {_TABLES[key]}"
    if len(location) == 1 and one["type"] == "extra_forbidden":
        return f"[{key}]: no such table: {near(key, HeadendConfig.model_fields)}"
    model = _SECTIONS.get(str(location[0]) if location else "", HeadendConfig)
    context = {"key": key, **one.get("ctx", {})}
    words = sentence(
        one["type"], one["msg"], one["input"], context, model.model_fields, _EXAMPLES.get(key, "")
    )
    return f"{_place(location)}: {words}"


def _place(location: tuple[int | str, ...]) -> str:
    place = ""
    for part in location:
        place += f"[{part + 1}]" if isinstance(part, int) else f".{part}" if place else part
    return place or "file"


def _anchored(config: HeadendConfig, base: Path) -> HeadendConfig:
    """Return the configuration with paths that hold wherever we are started."""

    def at(path: Path | None) -> Path | None:
        return None if path is None else base / path

    headend, signing = config.headend, config.signing
    return config.model_copy(
        update={
            "headend": headend.model_copy(
                update={"books": base / headend.books, "status": at(headend.status)}
            ),
            "broker": tuple(
                one.model_copy(update={"ca": at(one.ca), "cert": at(one.cert), "key": at(one.key)})
                for one in config.broker
            ),
            "signing": signing.model_copy(
                update={
                    "cert": base / signing.cert,
                    "key": base / signing.key,
                    "trust": tuple(base / one for one in signing.trust),
                }
            ),
            "policy": None
            if config.policy is None
            else config.policy.model_copy(update={"published": base / config.policy.published}),
        }
    )
