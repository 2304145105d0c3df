"""What a Portico certificate looks like: names, roles, purposes, and how a key is called.

Relied on by the authority that writes certificates, by the signers that judge them and by the
commands that show them, so that the three cannot differ. Pure.

Not here: reading and writing files (`certs.pem`), trust (`certs.signing`, `certs.contexts`).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from core.errors import ConfigError
from core.ids import name_fault

SignerRole = Literal["stream", "collector"]
"""What a signing certificate is for, in its organizational unit: a gateway's stream, or the
confirmations and questions of an entity's collector."""

Kind = Literal["authority", "server", "client", "stream", "collector", "other"]

SIGNING_PURPOSE: Final = x509.ObjectIdentifier("1.3.6.1.4.1.32473.1.1")
"""Extended key usage of a signing certificate. A development choice: 32473 is the enterprise number
that IANA set aside for examples (RFC 5612), to be replaced when the project has a number of its own.
It keeps the two worlds apart: a signing certificate opens no TLS session and a TLS certificate signs
no record."""

DEVELOPMENT_ORGANIZATION: Final = "PORTICO DEVELOPMENT ONLY"
"""Organization in the subject of a development authority; a production setting refuses it."""

UNREADABLE: Final = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    x509.UnsupportedGeneralNameType,
    x509.DuplicateExtension,
    x509.InvalidVersion,
)
"""What `cryptography` raises, now or on first access, for bytes that are no certificate it knows."""

RESERVED_IDS: Final = frozenset({"beat", "grp", "policy"})
"""First topic levels under `portico/v1/` that are no gateway, so no identity may bear them."""


@dataclass(frozen=True, slots=True)
class Description:
    """One certificate as a person wants to see it. `kid` is hexadecimal; times are UTC."""

    subject: str
    kind: Kind
    names: tuple[str, ...]
    issuer: str
    not_before: datetime
    not_after: datetime
    days_left: int
    fingerprint: str
    kid: str
    development: bool


def checked_id(text: str) -> str:
    """Return `text` if it can be a common name, MQTT user name, topic level and file name at once.

    The grammar is `core.ids`, whose 64 characters are also X.520's upper bound of a common name.
    Raises ConfigError.
    """
    fault = name_fault(text)
    if fault is not None:
        raise ConfigError(f"identity {text!r} {fault}")
    if text in RESERVED_IDS:
        raise ConfigError(f"identity {text!r} is reserved for topics of the system: choose another one")
    return text


def kid_of(public_key: PublicKeyTypes) -> bytes:
    """Key id: the first 8 bytes of SHA-256 over the key's SubjectPublicKeyInfo in DER."""
    spki = public_key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return hashlib.sha256(spki).digest()[:8]


def attribute(name: x509.Name, oid: x509.ObjectIdentifier) -> str:
    """The one value of an attribute in a name; empty when it is absent or there are several.

    Several common names are refused that way: which of them counts would be anybody's guess.
    """
    found = name.get_attributes_for_oid(oid)
    return str(found[0].value) if len(found) == 1 else ""


def common_name(certificate: x509.Certificate) -> str:
    """Common name of the subject, or the empty string."""
    return attribute(certificate.subject, NameOID.COMMON_NAME)


def is_authority(certificate: x509.Certificate) -> bool:
    """True when the certificate may sign certificates (basic constraints, and key usage where stated)."""
    try:
        if not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca:
            return False
        return certificate.extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign
    except x509.ExtensionNotFound as absent:
        return absent.oid == x509.KeyUsage.oid
    except ValueError:
        return False


def is_development(certificate: x509.Certificate) -> bool:
    """True when the certificate is a development authority, or was issued by one."""
    return any(
        str(value.value) == DEVELOPMENT_ORGANIZATION
        for name in (certificate.subject, certificate.issuer)
        for value in name.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)
    )


def purposes(certificate: x509.Certificate) -> frozenset[x509.ObjectIdentifier]:
    """The extended key usages that the certificate states; none when it is silent or unreadable."""
    try:
        return frozenset(certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)
    except (x509.ExtensionNotFound, ValueError):
        return frozenset()


def names_of(certificate: x509.Certificate) -> tuple[str, ...]:
    """DNS names and IP addresses of the subject alternative name, as text, in order."""
    try:
        alternative = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return ()
    addresses = (str(address) for address in alternative.get_values_for_type(x509.IPAddress))
    return (*alternative.get_values_for_type(x509.DNSName), *addresses)


def kind_of(certificate: x509.Certificate) -> Kind:
    """What the certificate is for, judged by what it states."""
    if is_authority(certificate):
        return "authority"
    stated = purposes(certificate)
    if SIGNING_PURPOSE in stated:
        unit = attribute(certificate.subject, NameOID.ORGANIZATIONAL_UNIT_NAME)
        if unit == "stream":
            return "stream"
        return "collector" if unit == "collector" else "other"
    if ExtendedKeyUsageOID.SERVER_AUTH in stated:
        return "server"
    return "client" if ExtendedKeyUsageOID.CLIENT_AUTH in stated else "other"


def alg_of(public_key: object) -> Literal["e", "p"] | None:
    """The signature algorithm of a key, as the codec's header writes it.

    'e' is Ed25519 (RFC 8032), 'p' is ECDSA on P-256 with SHA-256; None for anything else.
    """
    if isinstance(public_key, ed25519.Ed25519PublicKey):
        return "e"
    if isinstance(public_key, ec.EllipticCurvePublicKey) and isinstance(public_key.curve, ec.SECP256R1):
        return "p"
    return None


def describe(certificate: x509.Certificate, at: datetime) -> Description:
    """Describe a certificate at an instant; `days_left` is rounded down and negative once expired."""
    return Description(
        subject=common_name(certificate) or certificate.subject.rfc4514_string(),
        kind=kind_of(certificate),
        names=names_of(certificate),
        issuer=attribute(certificate.issuer, NameOID.COMMON_NAME) or certificate.issuer.rfc4514_string(),
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
        days_left=(certificate.not_valid_after_utc - at).days,
        fingerprint=certificate.fingerprint(hashes.SHA256()).hex(),
        kid=kid_of(certificate.public_key()).hex(),
        development=is_development(certificate),
    )
