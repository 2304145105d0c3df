"""A certificate authority for development, demo and tests.

It issues what a site's own authority issues in production: TLS certificates for brokers and clients
(P-256) and signing certificates (Ed25519). Its subject carries `DEVELOPMENT_ORGANIZATION`, by which
production settings recognise and refuse it. Running it again keeps what is still good, so keys do not
change under a running demo.

Not here: enrolment, revocation and a protected authority key; a site uses its own authority for them.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from certs.pem import (
    CERTIFICATE_MODE,
    KEY_MODE,
    certificate_pem,
    key_pem,
    read_certificates,
    read_private_key,
    write_atomically,
)
from certs.profile import (
    DEVELOPMENT_ORGANIZATION,
    SIGNING_PURPOSE,
    Kind,
    SignerRole,
    checked_id,
    common_name,
    is_authority,
    is_development,
    kind_of,
    names_of,
)
from core.errors import ConfigError

DEFAULT_DAYS: Final = 825
"""Validity of what is issued: the longest that Apple's and the CA/Browser Forum's rules allowed in
2018-2020 and that strict TLS clients still take. Production uses 90 days (`certs/README.md`)."""

AUTHORITY_DAYS: Final = 3650
BACKDATE: Final = timedelta(days=1)
"""Certificates begin a day early: a gateway's clock may lag behind the authority's."""

_Key = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate and its key on disk. `written` is False when a good one was there and was kept."""

    subject: str
    kind: Kind
    cert_path: Path
    key_path: Path
    not_after: datetime
    written: bool


class DevAuthority:
    """The authority in one directory: `ca.pem`, `ca.key`, and all that it issues beside them."""

    def __init__(
        self, directory: Path, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey
    ) -> None:
        self.directory: Final = directory
        self.certificate: Final = certificate
        self.ca_path: Final = directory / "ca.pem"
        self.ca_key_path: Final = directory / "ca.key"
        self._key = key

    @classmethod
    def create(cls, directory: Path, *, now: datetime | None = None) -> DevAuthority:
        """Make a new authority in `directory`, or open the one that is there and valid at `now`.

        To begin anew, delete `ca.pem` and `ca.key`: what the old authority issued is then issued again.
        A directory that was empty gets a `.gitignore`, so that its keys are not committed.
        """
        directory = Path(directory)
        at = now or datetime.now(UTC)
        try:
            directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"directory {directory} cannot be made: {error.strerror}") from error
        _refuse_foreign(directory / "ca.pem", directory / "ca.key")
        if (directory / "ca.pem").exists() and (directory / "ca.key").exists():
            opened = cls.open(directory)
            if opened.certificate.not_valid_after_utc > at:
                return opened
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name(
            [
                x509.NameAttribute(NameOID.ORGANIZATION_NAME, DEVELOPMENT_ORGANIZATION),
                x509.NameAttribute(NameOID.COMMON_NAME, f"Portico development CA {at:%Y-%m-%d %H:%M:%S}"),
            ]
        )
        identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(at - BACKDATE)
            .not_valid_after(at + timedelta(days=AUTHORITY_DAYS))
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_key_usage(authority=True), critical=True)
            .add_extension(identifier, critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), critical=False
            )
            .sign(key, hashes.SHA256())
        )
        if not any(directory.iterdir()):
            write_atomically(directory / ".gitignore", b"# Keys are never committed.\n*\n", CERTIFICATE_MODE)
        _write_pair(directory / "ca.pem", certificate, directory / "ca.key", key)
        return cls(directory, certificate, key)

    @classmethod
    def open(cls, directory: Path) -> DevAuthority:
        """Open the authority of a directory. Raises ConfigError when it is absent, broken or not ours."""
        directory = Path(directory)
        ca_path = directory / "ca.pem"
        certificate = read_certificates(ca_path, "authority")[0]
        key = read_private_key(directory / "ca.key")
        if not is_authority(certificate) or not is_development(certificate):
            raise ConfigError(f"{ca_path} is not a development authority: use another directory for it")
        if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
            raise ConfigError(
                f"{directory / 'ca.key'} does not belong to {ca_path}: delete both to make a new authority"
            )
        return cls(directory, certificate, key)

    def issue_all(
        self,
        *,
        gateways: Sequence[str] = (),
        entities: Sequence[str] = (),
        hosts: Sequence[str] = (),
        days: int = DEFAULT_DAYS,
        now: datetime | None = None,
        force: bool = False,
    ) -> tuple[Issued, ...]:
        """What a small site needs: a server pair for `hosts`, and two pairs a gateway and an entity."""
        issued = [self.issue_server(hosts, days=days, now=now, force=force)] if hosts else []
        for gateway in gateways:
            issued.append(self.issue_client(gateway, days=days, now=now, force=force))
            issued.append(self.issue_signer(gateway, role="stream", days=days, now=now, force=force))
        for entity in entities:
            issued.append(self.issue_client(entity, days=days, now=now, force=force))
            issued.append(self.issue_signer(entity, role="collector", days=days, now=now, force=force))
        return tuple(issued)

    def issue_server(
        self,
        hosts: Sequence[str],
        *,
        name: str = "broker",
        days: int = DEFAULT_DAYS,
        now: datetime | None = None,
        force: bool = False,
    ) -> Issued:
        """A TLS server certificate `<name>.pem`, valid for DNS names and IP addresses `hosts`."""
        if not hosts:
            raise ConfigError("a server certificate needs a host name or address: give at least one")
        return self._issue(
            checked_id(name), "server", name, _alternative_names(hosts), days=days, now=now, force=force
        )

    def issue_client(
        self, identity: str, *, days: int = DEFAULT_DAYS, now: datetime | None = None, force: bool = False
    ) -> Issued:
        """A TLS client certificate `<identity>.pem` for a gateway, or for an entity's collectors."""
        return self._issue(checked_id(identity), "client", identity, None, days=days, now=now, force=force)

    def issue_signer(
        self,
        identity: str,
        *,
        role: SignerRole,
        days: int = DEFAULT_DAYS,
        now: datetime | None = None,
        force: bool = False,
    ) -> Issued:
        """A signing certificate `<identity>.sign.pem`; `role` is stream (gateway) or collector (entity)."""
        stem = f"{checked_id(identity)}.sign"
        return self._issue(identity, role, stem, None, days=days, now=now, force=force)

    def _issue(
        self,
        subject: str,
        kind: Kind,
        stem: str,
        names: x509.SubjectAlternativeName | None,
        *,
        days: int,
        now: datetime | None,
        force: bool,
    ) -> Issued:
        at = now or datetime.now(UTC)
        cert_path, key_path = self.directory / f"{stem}.pem", self.directory / f"{stem}.key"
        if cert_path == self.ca_path:
            raise ConfigError("identity 'ca' is taken by the authority itself: choose another one")
        _refuse_foreign(cert_path, key_path)
        existing = self._existing(subject, kind, cert_path)
        if existing is not None and not force and self._is_good(existing, key_path, names, at):
            return Issued(subject, kind, cert_path, key_path, existing.not_valid_after_utc, written=False)
        key: _Key
        signing = kind in ("stream", "collector")
        key = ed25519.Ed25519PrivateKey.generate() if signing else ec.generate_private_key(ec.SECP256R1())
        certificate = self._certificate(subject, kind, key, names, at, days)
        _write_pair(cert_path, certificate, key_path, key)
        return Issued(subject, kind, cert_path, key_path, certificate.not_valid_after_utc, written=True)

    def _certificate(
        self,
        subject: str,
        kind: Kind,
        key: _Key,
        names: x509.SubjectAlternativeName | None,
        at: datetime,
        days: int,
    ) -> x509.Certificate:
        attributes = [x509.NameAttribute(NameOID.COMMON_NAME, subject)]
        if kind in ("stream", "collector"):
            attributes.insert(0, x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, kind))
            purpose = SIGNING_PURPOSE
        else:
            purpose = ExtendedKeyUsageOID.SERVER_AUTH if kind == "server" else ExtendedKeyUsageOID.CLIENT_AUTH
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name(attributes))
            .issuer_name(self.certificate.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(at - BACKDATE)
            .not_valid_after(min(at + timedelta(days=days), self.certificate.not_valid_after_utc))
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(authority=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False
            )
        )
        if names is not None:
            builder = builder.add_extension(names, critical=False)
        return builder.sign(self._key, hashes.SHA256())

    @staticmethod
    def _existing(subject: str, kind: Kind, cert_path: Path) -> x509.Certificate | None:
        """The certificate in that file. Raises ConfigError when it is another's or for something else."""
        if not cert_path.exists():
            return None
        existing = read_certificates(cert_path)[0]
        if common_name(existing) != subject or kind_of(existing) != kind:
            raise ConfigError(
                f"{cert_path} is the {kind_of(existing)} certificate of {common_name(existing)!r} "
                f"and would become the {kind} certificate of {subject!r}: choose another identity"
            )
        return existing

    def _is_good(
        self,
        existing: x509.Certificate,
        key_path: Path,
        names: x509.SubjectAlternativeName | None,
        at: datetime,
    ) -> bool:
        """True when the pair on disk is what would be issued, and valid at `at`."""
        try:
            existing.verify_directly_issued_by(self.certificate)
            key = read_private_key(key_path)
        except (ConfigError, InvalidSignature, ValueError, TypeError):
            return False
        return (
            key.public_key() == existing.public_key()
            and existing.not_valid_before_utc <= at < existing.not_valid_after_utc
            and (names is None or set(names_of(existing)) == {str(name.value) for name in names})
        )


def _refuse_foreign(cert_path: Path, key_path: Path) -> None:
    """Raise ConfigError rather than overwrite what a development authority did not make.

    The certificate is written before the key, so a key that stands alone is somebody's.
    """
    if not cert_path.exists():
        if key_path.exists():
            raise ConfigError(f"{key_path} has no certificate {cert_path.name} beside it: move it away first")
        return
    if not is_development(read_certificates(cert_path)[0]):
        raise ConfigError(f"{cert_path} is not of a development authority: use another directory")


def _write_pair(cert_path: Path, certificate: x509.Certificate, key_path: Path, key: _Key) -> None:
    """Write both. A crash in between leaves a pair that does not match, and is issued again."""
    write_atomically(cert_path, certificate_pem(certificate), CERTIFICATE_MODE)
    write_atomically(key_path, key_pem(key), KEY_MODE)


def _alternative_names(hosts: Sequence[str]) -> x509.SubjectAlternativeName:
    names: list[x509.GeneralName] = []
    for host in hosts:
        try:
            names.append(x509.IPAddress(ipaddress.ip_address(host)))
        except ValueError:
            try:
                names.append(x509.DNSName(host))
            except ValueError as error:
                raise ConfigError(f"{host!r} is neither an IP address nor a host name") from error
    return x509.SubjectAlternativeName(names)


def _key_usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )
