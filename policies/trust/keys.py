"""Signing keys of the policy as files: a private half that its holder keeps, a public half to hand out.

PEM on both sides (PKCS #8, SubjectPublicKeyInfo), Ed25519 or P-256, the private half encrypted when there is
a pass phrase.  A key's id follows from the key, so that no list of names can be got wrong; the name of its
holder travels with the public half for people.

Not here: which key may sign what (`policies.trust.repository`), and keys in hardware.
"""

import os
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import (
    SECP256R1,
    EllipticCurvePrivateKey,
    generate_private_key,
)
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)
from securesystemslib.signer import CryptoSigner, SSlibKey

from core.errors import ConfigError
from core.ids import name_fault
from policies.trust.verified import SCHEMES

HOLDER: Final = "x-portico-holder"
"""Member of a key in signed metadata: what people call who has it."""
_LONGEST: Final = 16 << 10
_PrivateKey = Ed25519PrivateKey | EllipticCurvePrivateKey


class Algorithm(Enum):
    """What a key is for signing with."""

    ED25519 = "ed25519"
    P256 = "p256"


@dataclass(frozen=True, slots=True)
class KeyPair:
    """Both halves of a key that this program has in its hands."""

    holder: str
    signer: CryptoSigner

    @property
    def public(self) -> SSlibKey:
        """The half to hand out."""
        return self.signer.public_key


def generate(holder: str, algorithm: Algorithm) -> KeyPair:
    """Return a new key of a holder."""
    private: _PrivateKey = (
        Ed25519PrivateKey.generate() if algorithm is Algorithm.ED25519 else generate_private_key(SECP256R1())
    )
    return KeyPair(holder, CryptoSigner(private, _public(SSlibKey.from_crypto(private.public_key()), holder)))


def write(folder: Path, pair: KeyPair, pass_phrase: bytes | None) -> tuple[Path, Path]:
    """Write ``<holder>.key`` and ``<holder>.pub``; ConfigError when one of them is there already."""
    private_path, public_path = folder / f"{pair.holder}.key", folder / f"{pair.holder}.pub"
    private = load_pem_private_key(pair.signer.private_bytes, None)
    guard: KeySerializationEncryption = (
        NoEncryption() if pass_phrase is None else BestAvailableEncryption(pass_phrase)
    )
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        for path, content, mode in (
            (private_path, private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, guard), 0o600),
            (
                public_path,
                private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
                0o644,
            ),
        ):
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
            with os.fdopen(handle, "wb") as file:
                file.write(content)
    except FileExistsError as error:
        raise ConfigError(
            f"{error.filename} is there already: a key is never written over, choose another name"
        ) from error
    except OSError as error:
        raise ConfigError(f"the key {private_path} cannot be written: {error.strerror}") from error
    return private_path, public_path


def read_public(path: Path) -> SSlibKey:
    """Return the public half in a file; its holder is the file's name.  ConfigError for anything else."""
    try:
        key = SSlibKey.from_crypto(load_pem_public_key(_read(path)))
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ConfigError(
            f"{path} is no public key: give the .pub file that portico policy keygen wrote"
        ) from error
    if key.scheme not in SCHEMES:
        raise ConfigError(f"{path} is a key for {key.scheme}: Ed25519 and P-256 are used here")
    return _public(key, path.stem)


def is_encrypted(path: Path) -> bool:
    """Tell whether a private key wants a pass phrase."""
    return b"BEGIN ENCRYPTED PRIVATE KEY" in _read(path)


def read_private(path: Path, pass_phrase: bytes | None) -> KeyPair:
    """Return the key in a file.  ConfigError when it cannot be read, or not with this pass phrase."""
    raw = _read(path)
    if b"BEGIN ENCRYPTED PRIVATE KEY" in raw and pass_phrase is None:
        raise ConfigError(f"{path} is encrypted: give its pass phrase with --pass-phrase-file")
    try:
        private = load_pem_private_key(raw, pass_phrase if b"ENCRYPTED" in raw else None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise ConfigError(f"{path} is no private key, or the pass phrase is another one") from error
    if not isinstance(private, Ed25519PrivateKey | EllipticCurvePrivateKey):
        raise ConfigError(f"{path} is of a kind that is not used here: Ed25519 and P-256 are")
    key = SSlibKey.from_crypto(private.public_key())
    if key.scheme not in SCHEMES:
        raise ConfigError(f"{path} is a key for {key.scheme}: Ed25519 and P-256 are used here")
    return KeyPair(path.stem, CryptoSigner(private, _public(key, path.stem)))


def _public(key: SSlibKey, holder: str) -> SSlibKey:
    if name_fault(holder) is None:
        key.unrecognized_fields[HOLDER] = holder
    return key


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_LONGEST)
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from error
