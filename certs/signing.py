"""Signatures over stream records, confirmations and questions, and whom they are taken from.

A signing certificate binds a key to an id (common name) and a role (organizational unit). The key id
in a message's header says which; the certificate itself travels once. `TrustedSigners` admits
certificates that an authority of the bundle issued, and judges signatures by the certificate that was
valid at a given instant, so an old signature stays good after a renewal. Signatures are 64 bytes,
whatever the algorithm: Ed25519 as RFC 8032 writes it, ECDSA P-256 with SHA-256 as r || s.

Relies on `cryptography` for every operation on keys. One owner: not to be shared between threads.

Cost, measured on one core of an AMD EPYC with cryptography 50.0.2, microseconds: a message of 4 kB is
signed in 27 and verified in 68 with Ed25519, in 19 and 49 with P-256; 100 kB take 192 and 150, 67 and
96; admitting a certificate takes 85.

Not here: the bytes that are signed (`core`'s codec), where certificates are kept for years (the
books), chains through an intermediate that is not itself in the bundle, revocation.
"""

from __future__ import annotations

import warnings
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final, Literal, assert_never

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.utils import CryptographyDeprecationWarning
from cryptography.x509.oid import ExtensionOID, NameOID

from certs.pem import read_certificates, read_private_key
from certs.profile import (
    SIGNING_PURPOSE,
    UNREADABLE,
    SignerRole,
    alg_of,
    attribute,
    common_name,
    is_authority,
    kid_of,
    purposes,
)
from core.codec import Verifier
from core.errors import ConfigError, TrustError, UnknownKey

Alg = Literal["e", "p"]
"""As the codec's header writes it: 'e' Ed25519, 'p' ECDSA on P-256 with SHA-256."""

SIGNATURE_BYTES: Final = 64
MAX_CERTIFICATE_BYTES: Final = 4096
"""A signing certificate takes about 600 bytes; a larger one on a topic is not worth parsing."""

DEFAULT_CAPACITY: Final = 16_384
"""Keys held in memory, about 2 kB each. A key that fell out is unknown and is asked for again."""

_PER_KID: Final = 8
_KNOWN_CRITICAL: Final = frozenset(
    {ExtensionOID.BASIC_CONSTRAINTS, ExtensionOID.KEY_USAGE, ExtensionOID.EXTENDED_KEY_USAGE}
)
_ECDSA: Final = ec.ECDSA(hashes.SHA256())

_PrivateKey = ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey
_PublicKey = ed25519.Ed25519PublicKey | ec.EllipticCurvePublicKey


class BadSignature(TrustError):
    """The signature is not by this key over these bytes."""


class Expired(TrustError):
    """The certificate was not valid at the instant asked for: over, or not begun."""


class WrongSubject(TrustError):
    """The certificate is good, but of another id or role."""


class Untrusted(TrustError):
    """The certificate is unreadable, of no authority in the bundle, or made for something else."""


@dataclass(frozen=True, slots=True)
class Signer:
    """A signing certificate that was admitted. Times are UTC; `der` is the certificate."""

    kid: bytes
    subject: str
    role: SignerRole
    not_before: datetime
    not_after: datetime
    der: bytes
    alg: Alg


@dataclass(frozen=True, slots=True)
class _Admitted:
    signer: Signer
    key: _PublicKey


class SigningKey:
    """A private key that signs, with its certificate."""

    def __init__(self, key: _PrivateKey, certificate: x509.Certificate) -> None:
        """Raises ConfigError when the two do not belong together or the algorithm is not one of ours."""
        public_key = key.public_key()
        alg = alg_of(public_key)
        if alg is None:
            raise ConfigError("a signing key must be Ed25519 or P-256: issue a new one")
        if public_key != certificate.public_key():
            raise ConfigError("the signing key does not belong to its certificate: pair them")
        self.alg: Final[Alg] = alg
        self.kid: Final = kid_of(public_key)
        self.certificate_der: Final = certificate.public_bytes(serialization.Encoding.DER)
        self.subject: Final = common_name(certificate)
        self.role: Final = attribute(certificate.subject, NameOID.ORGANIZATIONAL_UNIT_NAME)
        self.not_before: Final = certificate.not_valid_before_utc
        self.not_after: Final = certificate.not_valid_after_utc
        self._key = key

    @classmethod
    def load(cls, key_path: Path, cert_path: Path) -> SigningKey:
        """Read key and certificate. Raises ConfigError naming the file at fault.

        An expired certificate loads: readings are measured and stored without one. The other end
        refuses what it signs; who wants to know earlier compares `not_after`.
        """
        key_path, cert_path = Path(key_path), Path(cert_path)
        certificate = read_certificates(cert_path, "signing certificate")[0]
        key = read_private_key(key_path)
        if not isinstance(key, ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey):
            raise ConfigError(f"signing key {key_path} is neither Ed25519 nor P-256: issue a new one")
        if SIGNING_PURPOSE not in purposes(certificate):
            raise ConfigError(
                f"signing certificate {cert_path} is not made for signing records: "
                "use the one named <id>.sign.pem"
            )
        try:
            return cls(key, certificate)
        except ConfigError as error:
            raise ConfigError(f"{key_path} with {cert_path}: {error}") from error

    def sign(self, message: bytes) -> bytes:
        """Sign; 64 bytes."""
        if isinstance(self._key, ed25519.Ed25519PrivateKey):
            return self._key.sign(message)
        r, s = decode_dss_signature(self._key.sign(message, _ECDSA))
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")


class TrustedSigners:
    """The signing certificates taken from others, under the authorities of one bundle.

    At most `capacity` key ids are held; the one that was not used for the longest time goes first.
    Only certificates that an authority issued are held, so strangers cannot push others out.
    """

    def __init__(self, bundles: Path | Iterable[Path], *, capacity: int = DEFAULT_CAPACITY) -> None:
        """Read CA bundles. Raises ConfigError when one is unreadable or holds no authority."""
        paths = [bundles] if isinstance(bundles, str | Path) else list(bundles)
        authorities: dict[bytes, x509.Certificate] = {}
        for path in paths:
            found = [c for c in read_certificates(Path(path), "CA bundle") if is_authority(c)]
            if not found:
                raise ConfigError(f"CA bundle {path} holds no authority: put the issuer's certificate there")
            authorities.update((c.fingerprint(hashes.SHA256()), c) for c in found)
        if not authorities:
            raise ConfigError("no CA bundle is named: signatures could not be checked")
        self._authorities = tuple(authorities.values())
        self._capacity = capacity
        self._admitted: OrderedDict[bytes, tuple[_Admitted, ...]] = OrderedDict()

    @property
    def held(self) -> int:
        """How many key ids are held; never more than the capacity."""
        return len(self._admitted)

    def certificates(self, kid: bytes) -> tuple[Signer, ...]:
        """The certificates held for a key id, in the order in which they were admitted last."""
        return tuple(admitted.signer for admitted in self._admitted.get(kid, ()))

    def admit(self, der: bytes, *, subject: str, role: SignerRole, at: datetime) -> Signer:
        """Judge a certificate at the instant `at` and hold it, for `verify`.

        Raises WrongSubject when it is of another id or role, Expired when it is not valid at `at`, and
        Untrusted when it is unreadable, issued by no authority of the bundle that was itself valid at
        `at`, no end certificate, or not made for signing records.
        """
        if at.tzinfo is None:
            raise TypeError("the instant of a judgement has a time zone")
        if len(der) > MAX_CERTIFICATE_BYTES:
            raise Untrusted(f"the certificate of {subject} is larger than {MAX_CERTIFICATE_BYTES} bytes")
        try:
            with warnings.catch_warnings():
                # What RFC 5280 forbids and the library still reads with a warning is refused too.
                warnings.simplefilter("error", CryptographyDeprecationWarning)
                certificate = x509.load_der_x509_certificate(der)
                admitted = self._judge(certificate, der, subject, role, at)
        except (CryptographyDeprecationWarning, *UNREADABLE) as error:
            raise Untrusted(f"the certificate of {subject} is not readable: ask for it again") from error
        kid = admitted.signer.kid
        # Not compared by its bytes: the authority's signature can be written in more than one way.
        others = tuple(a for a in self._admitted.get(kid, ()) if not _same(a.signer, admitted.signer))
        self._admitted[kid] = (*others[-(_PER_KID - 1) :], admitted)
        self._admitted.move_to_end(kid)
        while len(self._admitted) > self._capacity:
            self._admitted.popitem(last=False)
        return admitted.signer

    def verify(
        self,
        kid: bytes,
        subject: str,
        role: SignerRole,
        signature: bytes,
        message: bytes,
        at: datetime,
        *,
        alg: str | None = None,
    ) -> None:
        """Return if `signature` over `message` is by key `kid` of `subject` in `role`, valid at `at`.

        `at` is the instant at which the message came (now, or the one recorded in the books), never one
        that the message itself claims: who holds an expired key would date it back.
        `alg`, where the header states one, must be the key's.

        Raises UnknownKey (ask for the certificate), WrongSubject, Expired, BadSignature.
        """
        held = self._admitted.get(kid)
        if held is None:
            raise UnknownKey(kid, f"key {kid.hex()} of {subject} is not known here: ask for its certificate")
        self._admitted.move_to_end(kid)
        own = [a for a in held if a.signer.subject == subject and a.signer.role == role]
        if not own:
            raise WrongSubject(f"key {kid.hex()} is not {subject}'s key for role {role}")
        valid = [a for a in own if a.signer.not_before <= at < a.signer.not_after]
        if not valid:
            raise Expired(
                f"key {kid.hex()} of {subject} has no certificate that is valid at {at.isoformat()}"
            )
        if alg is not None and alg != valid[0].signer.alg:
            raise BadSignature(f"the header states algorithm {alg!r}, which key {kid.hex()} is not for")
        if not any(_holds(a.key, signature, message) for a in valid):
            raise BadSignature(f"the signature is not by key {kid.hex()} of {subject} over these bytes")

    def verifier(self, subject: str, role: SignerRole, at: datetime) -> Verifier:
        """`verify` for one sender, role and instant, in the form that `core.codec.unseal` calls."""

        def judge(kid: bytes, alg: str, signature: bytes, message: bytes) -> None:
            self.verify(kid, subject, role, signature, message, at, alg=alg)

        return judge

    def _judge(
        self, certificate: x509.Certificate, der: bytes, subject: str, role: SignerRole, at: datetime
    ) -> _Admitted:
        self._check_issuer(certificate, subject, at)
        found_role = attribute(certificate.subject, NameOID.ORGANIZATIONAL_UNIT_NAME)
        if common_name(certificate) != subject or found_role != role:
            raise WrongSubject(
                f"the certificate is of {common_name(certificate)!r} in role {found_role!r}, "
                f"not of {subject!r} in role {role!r}"
            )
        if not certificate.not_valid_before_utc <= at < certificate.not_valid_after_utc:
            raise Expired(
                f"the certificate of {subject} is valid from {certificate.not_valid_before_utc.isoformat()} "
                f"until {certificate.not_valid_after_utc.isoformat()}, not at {at.isoformat()}"
            )
        _check_purpose(certificate, subject)
        key = certificate.public_key()
        alg = alg_of(key)
        if alg is None or not isinstance(key, ed25519.Ed25519PublicKey | ec.EllipticCurvePublicKey):
            raise Untrusted(f"the key of {subject} is neither Ed25519 nor P-256")
        signer = Signer(
            kid=kid_of(key),
            subject=subject,
            role=role,
            not_before=certificate.not_valid_before_utc,
            not_after=certificate.not_valid_after_utc,
            der=der,
            alg=alg,
        )
        return _Admitted(signer, key)

    def _check_issuer(self, certificate: x509.Certificate, subject: str, at: datetime) -> None:
        for authority in self._authorities:
            if not authority.not_valid_before_utc <= at < authority.not_valid_after_utc:
                continue
            try:
                certificate.verify_directly_issued_by(authority)
            except (InvalidSignature, *UNREADABLE):
                continue
            return
        raise Untrusted(f"the certificate of {subject} was issued by no authority that is trusted here")


def _check_purpose(certificate: x509.Certificate, subject: str) -> None:
    extensions = certificate.extensions
    for extension in extensions:
        if extension.critical and extension.oid not in _KNOWN_CRITICAL:
            raise Untrusted(
                f"the certificate of {subject} demands {extension.oid.dotted_string}, unknown here"
            )
    if is_authority(certificate):
        raise Untrusted(f"the certificate of {subject} is an authority's, which signs no records")
    if SIGNING_PURPOSE not in purposes(certificate):
        raise Untrusted(f"the certificate of {subject} is not made for signing records")
    try:
        usage = extensions.get_extension_for_class(x509.KeyUsage).value
    except x509.ExtensionNotFound:
        raise Untrusted(f"the certificate of {subject} states no key usage") from None
    if not usage.digital_signature:
        raise Untrusted(f"the certificate of {subject} is not for digital signatures")


def _same(one: Signer, other: Signer) -> bool:
    """True when two certificates of one key say the same."""
    return (one.subject, one.role, one.not_before, one.not_after) == (
        other.subject,
        other.role,
        other.not_before,
        other.not_after,
    )


def _holds(key: _PublicKey, signature: bytes, message: bytes) -> bool:
    if len(signature) != SIGNATURE_BYTES:
        return False
    try:
        match key:
            case ed25519.Ed25519PublicKey():
                key.verify(signature, message)
            case ec.EllipticCurvePublicKey():
                r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
                key.verify(encode_dss_signature(r, s), message, _ECDSA)
            case _:
                assert_never(key)
    except InvalidSignature:
        return False
    return True
