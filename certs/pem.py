"""Certificates and keys as files: read with a sentence for every fault, written atomically.

Every fault is a ConfigError that names the file and says what to do. Relies on POSIX modes and on
rename within one directory being atomic.

Not here: whether a certificate is trusted, or what it is for.
"""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

from core.errors import ConfigError

MAX_FILE_BYTES: Final = 4 * 1024 * 1024
"""Largest file read: a bundle of all public authorities is a quarter of a megabyte."""

KEY_MODE: Final = 0o600
CERTIFICATE_MODE: Final = 0o644


def read_bytes(path: Path, what: str) -> bytes:
    """Read a file; `what` is its part in the sentence, as in "CA bundle". Raises ConfigError."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except FileNotFoundError as error:
        raise ConfigError(f"{what} {path} does not exist: put it there or correct the path") from error
    except IsADirectoryError as error:
        raise ConfigError(f"{what} {path} is a directory: name the file in it") from error
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise ConfigError(f"{what} {path} cannot be read ({reason}): check its owner and mode") from error
    if len(content) > MAX_FILE_BYTES:
        raise ConfigError(f"{what} {path} is larger than {MAX_FILE_BYTES} bytes: this is not a PEM file")
    return content


def read_certificates(path: Path, what: str = "certificate") -> tuple[x509.Certificate, ...]:
    """All certificates of a PEM file, at least one, in the order of the file. Raises ConfigError."""
    content = read_bytes(path, what)
    try:
        found = x509.load_pem_x509_certificates(content)
    except ValueError as error:
        raise ConfigError(
            f"{what} {path} holds no readable PEM certificate: it must begin with "
            "-----BEGIN CERTIFICATE----- (convert DER with: openssl x509 -inform der -in FILE)"
        ) from error
    return tuple(found)


def check_key_file(path: Path) -> None:
    """Refuse a private key that is missing, open to everybody, encrypted or no PEM. Raises ConfigError.

    Group access is allowed on purpose: Debian's group ssl-cert and systemd's credentials use it.
    """
    content = read_bytes(path, "private key")
    if path.stat().st_mode & stat.S_IRWXO:
        raise ConfigError(f"private key {path} is open to every user of this machine: run chmod 600 {path}")
    if b"-----BEGIN ENCRYPTED PRIVATE KEY-----" in content or b"Proc-Type: 4,ENCRYPTED" in content:
        raise ConfigError(
            f"private key {path} is encrypted and nobody is there to type its password: "
            "decrypt it, or hold it in a TPM or in systemd credentials"
        )
    if b"PRIVATE KEY-----" not in content:
        raise ConfigError(
            f"private key {path} is not PEM: it must begin with -----BEGIN PRIVATE KEY----- "
            "(convert DER with: openssl pkey -inform der -in FILE)"
        )


def read_private_key(path: Path) -> PrivateKeyTypes:
    """The private key of a PEM file, after `check_key_file`. Raises ConfigError."""
    check_key_file(path)
    try:
        return serialization.load_pem_private_key(read_bytes(path, "private key"), password=None)
    except (ValueError, TypeError) as error:
        raise ConfigError(f"private key {path} is damaged or of an unknown kind: issue a new one") from error


def key_pem(key: PrivateKeyTypes) -> bytes:
    """A private key in PEM, PKCS #8, not encrypted: the file's mode is its protection."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def certificate_pem(certificate: x509.Certificate) -> bytes:
    """A certificate in PEM."""
    return certificate.public_bytes(serialization.Encoding.PEM)


def write_atomically(path: Path, content: bytes, mode: int) -> None:
    """Replace a file by way of a synchronised neighbour: a reader sees the old one or the new one.

    The neighbour is born with mode 0600, so a key is at no time open to others. Raises ConfigError.
    """
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                os.fchmod(file.fileno(), mode)
                file.flush()
                os.fsync(file.fileno())
            os.replace(name, path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
        directory = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise ConfigError(f"{path} cannot be written ({reason}): check the directory and its mode") from error
