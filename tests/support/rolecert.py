"""A client certificate with a role of Modbus/TCP Security; the development authority issues none."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from certs.modbus import ROLE
from certs.pem import KEY_MODE, certificate_pem, key_pem, read_certificates, read_private_key


def issue_with_role(folder: Path, name: str, value: bytes | None) -> tuple[Path, Path]:
    """Write and return certificate and key, signed by the authority in a folder; ``value`` is DER."""
    authority = read_certificates(folder / "ca.pem")[0]
    signer = read_private_key(folder / "ca.key")
    assert isinstance(signer, ec.EllipticCurvePrivateKey)
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(authority.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=90))
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
    )
    if value is not None:
        builder = builder.add_extension(x509.UnrecognizedExtension(ROLE, value), critical=False)
    cert_path, key_path = folder / f"{name}.pem", folder / f"{name}.key"
    cert_path.write_bytes(certificate_pem(builder.sign(signer, hashes.SHA256())))
    key_path.touch(KEY_MODE)
    key_path.write_bytes(key_pem(key))
    return cert_path, key_path
