"""TLS contexts for both ends: TLS 1.2 or later, certificates on both sides, host names checked.

Every fault of the files is found here, before the first connection, with a sentence that names the
file; at the socket it would be one of OpenSSL's. Keys are handed to `ssl` as files, so a key in a TPM
(`TSS2 PRIVATE KEY`) works too.

Not here: revocation lists (the broker checks them, `certs.broker`), the trust in signatures
(`certs.signing`).
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Literal, NoReturn

from cryptography import x509

from certs.pem import check_key_file, read_certificates
from certs.profile import is_authority, is_development
from core.errors import ConfigError, TrustError

Setting = Literal["development", "production"]

CIPHERS_TLS12: Final = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""TLS 1.2 with forward secrecy and authenticated encryption alone (IEC 62351-3); 1.3 has no others."""


def client_context(ca: Path, cert: Path, key: Path, *, now: datetime | None = None) -> ssl.SSLContext:
    """Context of a client that shows `cert` and trusts servers of the authorities in `ca`, by host name.

    Raises ConfigError for a file that is missing, unreadable, not PEM or open to others, and for a key
    that does not match; TrustError for a certificate that is expired or not yet valid at `now`.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = True
    _equip(context, Path(ca), Path(cert), Path(key), now or datetime.now(UTC))
    return context


def server_context(ca: Path, cert: Path, key: Path, *, now: datetime | None = None) -> ssl.SSLContext:
    """Context of a server that shows `cert` and requires certificates of the authorities in `ca`.

    Raises as `client_context` does.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.options |= ssl.OP_NO_RENEGOTIATION
    _equip(context, Path(ca), Path(cert), Path(key), now or datetime.now(UTC))
    return context


def refuse_development_authority(ca_path: Path, setting: Setting) -> None:
    """Raise TrustError when a production setting would trust the development authority.

    Every certificate of the bundle is looked at, and one that a development authority issued counts.
    """
    if setting == "development":
        return
    for certificate in read_certificates(Path(ca_path), "CA bundle"):
        if is_development(certificate):
            raise TrustError(
                f"CA bundle {ca_path} holds a development authority, which a production setting never "
                "trusts: take it out, or use the bundle of the site's own authority"
            )


def check_validity(certificate: x509.Certificate, path: Path, what: str, at: datetime) -> None:
    """Raise TrustError when the certificate is expired or not yet valid at `at`."""
    if at >= certificate.not_valid_after_utc:
        raise TrustError(
            f"{what} {path} expired on {certificate.not_valid_after_utc:%Y-%m-%d %H:%M} UTC: "
            "put a renewed one there"
        )
    if at < certificate.not_valid_before_utc:
        raise TrustError(
            f"{what} {path} is valid only from {certificate.not_valid_before_utc:%Y-%m-%d %H:%M} UTC and "
            f"it is {at:%Y-%m-%d %H:%M} here: check the clock"
        )


def _equip(context: ssl.SSLContext, ca: Path, cert: Path, key: Path, at: datetime) -> None:
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_mode = ssl.CERT_REQUIRED
    context.set_ciphers(CIPHERS_TLS12)
    _check_authorities(read_certificates(ca, "CA bundle"), ca, at)
    check_validity(read_certificates(cert)[0], cert, "certificate", at)
    check_key_file(key)
    try:
        context.load_verify_locations(cafile=str(ca))
    except (ssl.SSLError, OSError) as error:
        raise ConfigError(f"CA bundle {ca} is refused by OpenSSL ({error}): write it anew") from error
    try:
        context.load_cert_chain(str(cert), str(key), password=_no_password(key))
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise ConfigError(
                f"private key {key} does not belong to certificate {cert}: pair them"
            ) from error
        reason = error.reason or str(error)
        raise ConfigError(
            f"certificate {cert} and private key {key} are refused by OpenSSL ({reason}): issue them anew"
        ) from error


def _check_authorities(bundle: Sequence[x509.Certificate], path: Path, at: datetime) -> None:
    """One authority that is valid is enough: while authorities change, the old one may have run out."""
    authorities = [certificate for certificate in bundle if is_authority(certificate)]
    if not authorities:
        raise ConfigError(
            f"CA bundle {path} holds no authority, only end certificates: put the issuer's there"
        )
    if not any(c.not_valid_before_utc <= at < c.not_valid_after_utc for c in authorities):
        check_validity(max(authorities, key=lambda c: c.not_valid_after_utc), path, "CA bundle", at)


def _no_password(key: Path) -> Callable[[], str]:
    """An answer to OpenSSL's question for a password: without one it would ask the terminal."""

    def refuse() -> NoReturn:
        raise ConfigError(f"private key {key} is encrypted and nobody is there to type its password")

    return refuse
