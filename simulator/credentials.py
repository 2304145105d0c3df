"""Certificates for lines with TLS that bring none of their own: an authority, a server, clients with roles.

Written into the log's directory, so that a gateway under test can be given its half, and used again by a
plant that starts anew there. The authority's key is forgotten when all are made: for tests alone.

Relies on `cryptography`. Not here: certificates of gateways and head-ends, which are another package's.
"""

import ipaddress
import os
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from simulator.security import ROLE_OID, der_utf8_string

LASTS: Final = timedelta(days=3650)
AUTHORITY: Final = "ca.pem"
SERVER: Final = "server"
CLIENT: Final = "client"


def names(roles: Iterable[str], devices: Iterable[str]) -> list[tuple[str, str | None]]:
    """Return what is made: file stem and role; a client's role is in its file's name."""
    return [
        (SERVER, None),
        (CLIENT, None),
        *((f"{CLIENT}-{role}", role) for role in sorted(set(roles))),
        *((f"device-{device}", None) for device in sorted(set(devices))),
    ]


def make(directory: Path, hosts: Iterable[str], roles: Iterable[str], devices: Iterable[str]) -> None:
    """Write every certificate with its key, unless all of them are there. OSError when that is not possible.

    `hosts` are those that servers are known by, of the plant and of who is dialled.
    """
    wanted = names(roles, devices)
    if (directory / AUTHORITY).exists() and all((directory / f"{stem}.key").exists() for stem, _ in wanted):
        return
    directory.mkdir(parents=True, exist_ok=True)
    key = ec.generate_private_key(ec.SECP256R1())
    own = _name("Simulated plant, not for premises")
    known = sorted(set(hosts))
    begun = datetime.now(UTC) - timedelta(hours=1)
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    authority = (
        _plain(own, own, key.public_key(), begun)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(authority=True), critical=True)
        .add_extension(identifier, critical=False)
        .sign(key, hashes.SHA256())
    )
    for stem, role in wanted:
        leaf = ec.generate_private_key(ec.SECP256R1())
        subject = stem.removeprefix("device-")
        builder = (
            _plain(_name(subject), own, leaf.public_key(), begun)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(authority=False), critical=True)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), critical=False
            )
            .add_extension(_alternatives(subject, known if stem == SERVER else []), critical=False)
            .add_extension(_purpose(stem), critical=False)
        )
        if role is not None:
            extension = x509.UnrecognizedExtension(ROLE_OID, der_utf8_string(role))
            builder = builder.add_extension(extension, critical=False)
        certificate = builder.sign(key, hashes.SHA256())
        _write(directory / f"{stem}.pem", certificate.public_bytes(serialization.Encoding.PEM))
        _write(
            directory / f"{stem}.key",
            leaf.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            ),
        )
    _write(directory / AUTHORITY, authority.public_bytes(serialization.Encoding.PEM))


def _plain(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, begun: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(begun)
        .not_valid_after(begun + LASTS)
    )


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text[:64])])


def _alternatives(subject: str, hosts: list[str]) -> x509.SubjectAlternativeName:
    found: list[x509.GeneralName] = [x509.DNSName(subject)]
    for host in hosts:
        try:
            found.append(x509.IPAddress(ipaddress.ip_address(host)))
        except ValueError:
            found.append(x509.DNSName(host))
    return x509.SubjectAlternativeName(found)


def _purpose(stem: str) -> x509.ExtendedKeyUsage:
    purpose = ExtendedKeyUsageOID.SERVER_AUTH if stem == SERVER else ExtendedKeyUsageOID.CLIENT_AUTH
    return x509.ExtendedKeyUsage([purpose])


def _usage(*, authority: bool) -> x509.KeyUsage:
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


def _write(path: Path, body: bytes) -> None:
    fresh = path.with_name(path.name + ".new")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(body)
    fresh.replace(path)
