"""Keys and certificates of a thin program on the wire: what docs/wire.md says of them, and no more.

Written apart from our own `certs`, from the page alone. A certificate is judged by one authority, the common
name, the organizational unit and its validity now. Not here: revocation, renewal, purposes.
"""

import base64
import hashlib
import ssl
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.x509.oid import NameOID

from core.errors import ConfigError, TrustError, UnknownKey

_Public = ed25519.Ed25519PublicKey | ec.EllipticCurvePublicKey


class Key:
    """An Ed25519 key that signs, with its certificate."""

    alg: Final = "e"

    def __init__(self, cert: Path, key: Path) -> None:
        """Read both from PEM. Raises ConfigError for another kind of key."""
        private = serialization.load_pem_private_key(key.read_bytes(), None)
        if not isinstance(private, ed25519.Ed25519PrivateKey):
            raise ConfigError(f"{key} is no Ed25519 key: this program signs with no other")
        self._private = private
        der = x509.load_pem_x509_certificate(cert.read_bytes()).public_bytes(serialization.Encoding.DER)
        self.certificate: Final = base64.b64encode(der).decode()
        self.kid: Final = key_id(private.public_key())

    def sign(self, message: bytes) -> bytes:
        """Sign; 64 bytes."""
        return self._private.sign(message)


class Trust:
    """The keys of others in one role, by one authority."""

    def __init__(self, ca: Path, role: str) -> None:
        self._authority = x509.load_pem_x509_certificate(ca.read_bytes())
        self._role: Final = role
        self._keys: dict[tuple[str, bytes], tuple[_Public, x509.Certificate]] = {}

    def learn(self, der: bytes, subject: str) -> None:
        """Take the certificate of somebody. Raises TrustError when it is not good for that."""
        try:
            certificate = x509.load_der_x509_certificate(der)
            certificate.verify_directly_issued_by(self._authority)
        except (ValueError, TypeError, InvalidSignature) as error:
            raise TrustError(f"the certificate of {subject} is not by our authority") from error
        public = certificate.public_key()
        if not isinstance(public, ed25519.Ed25519PublicKey | ec.EllipticCurvePublicKey):
            raise TrustError(f"the key of {subject} is neither Ed25519 nor P-256")
        names = {part.oid: part.value for part in certificate.subject}
        found = names.get(NameOID.COMMON_NAME), names.get(NameOID.ORGANIZATIONAL_UNIT_NAME)
        if found != (subject, self._role):
            raise TrustError(f"the certificate is of {found}, not of {subject} as {self._role}")
        self._keys[subject, key_id(public)] = public, certificate

    def verify(self, subject: str, kid: bytes, alg: str, signature: bytes, message: bytes) -> None:
        """Return when a signature by somebody holds now. Raises UnknownKey and TrustError."""
        known = self._keys.get((subject, kid))
        if known is None:
            raise UnknownKey(kid, f"key {kid.hex()} of {subject} is not known here")
        public, certificate = known
        now = datetime.now(UTC)
        if not certificate.not_valid_before_utc <= now < certificate.not_valid_after_utc:
            raise TrustError(f"the certificate of {subject} is not valid now")
        try:
            if isinstance(public, ed25519.Ed25519PublicKey) and alg == "e":
                public.verify(signature, message)
            elif isinstance(public, ec.EllipticCurvePublicKey) and alg == "p":
                r, s = (int.from_bytes(half, "big") for half in (signature[:32], signature[32:]))
                public.verify(encode_dss_signature(r, s), message, ec.ECDSA(hashes.SHA256()))
            else:
                raise TrustError(f"key {kid.hex()} is not for algorithm {alg}")
        except InvalidSignature as error:
            raise TrustError(f"the signature is not by {subject} over these bytes") from error


def key_id(public: _Public) -> bytes:
    """Return the first 8 bytes of SHA-256 over the public key (SubjectPublicKeyInfo, DER)."""
    spki = public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(spki).digest()[:8]


def tls(ca: str, cert: str, key: str) -> ssl.SSLContext:
    """Return a client's context with its certificate."""
    context = ssl.create_default_context(cafile=ca)
    context.load_cert_chain(cert, key)
    return context
