"""The development authority: what its certificates state, what it keeps, what it refuses to overwrite."""

import ipaddress
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from certs.authority import DevAuthority, Issued
from certs.pem import certificate_pem, key_pem, read_certificates, read_private_key
from certs.profile import DEVELOPMENT_ORGANIZATION, SIGNING_PURPOSE, SignerRole, kind_of
from core.errors import ConfigError

NOW = datetime(2026, 6, 1, 12, 0, tzinfo=UTC)


def certificate_of(issued: Issued) -> x509.Certificate:
    return read_certificates(issued.cert_path)[0]


def purposes(certificate: x509.Certificate) -> list[x509.ObjectIdentifier]:
    return list(certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)


def site_pair(directory: Path, identity: str) -> tuple[bytes, bytes]:
    """A pair as a site's own authority would have put there: not of a development authority."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, identity)])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(NOW)
        .not_valid_after(NOW + timedelta(days=90))
        .sign(key, hashes.SHA256())
    )
    pair = certificate_pem(certificate), key_pem(key)
    (directory / f"{identity}.pem").write_bytes(pair[0])
    (directory / f"{identity}.key").write_bytes(pair[1])
    return pair


def test_server_certificate_names_hosts_and_addresses(authority: DevAuthority) -> None:
    certificate = certificate_of(authority.issue_server(["127.0.0.1", "::1", "broker.example"], now=NOW))
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["broker.example"]
    assert names.get_values_for_type(x509.IPAddress) == [
        ipaddress.ip_address("127.0.0.1"),
        ipaddress.ip_address("::1"),
    ]
    assert purposes(certificate) == [ExtendedKeyUsageOID.SERVER_AUTH]


def test_client_certificate_is_p256_and_for_clients_alone(authority: DevAuthority) -> None:
    certificate = certificate_of(authority.issue_client("gw-0001", now=NOW))
    key = certificate.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    assert key.curve.name == "secp256r1"
    assert purposes(certificate) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    assert certificate.subject.rfc4514_string() == "CN=gw-0001"


@pytest.mark.parametrize("role", ["stream", "collector"])
def test_signing_certificate_is_ed25519_with_its_role_and_no_other_use(
    authority: DevAuthority, role: SignerRole
) -> None:
    issued = authority.issue_signer("gw-0001", role=role, now=NOW)
    certificate = certificate_of(issued)
    usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    assert isinstance(certificate.public_key(), ed25519.Ed25519PublicKey)
    assert certificate.subject.rfc4514_string() == f"CN=gw-0001,OU={role}"
    assert purposes(certificate) == [SIGNING_PURPOSE]
    assert usage.digital_signature
    assert not any((usage.key_cert_sign, usage.crl_sign, usage.key_agreement, usage.key_encipherment))
    assert issued.cert_path.name == "gw-0001.sign.pem"


def test_authority_carries_the_development_mark(authority: DevAuthority) -> None:
    found = authority.certificate.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)
    assert [value.value for value in found] == [DEVELOPMENT_ORGANIZATION]
    assert kind_of(authority.certificate) == "authority"


def test_validity_begins_a_day_early_and_never_outlives_the_authority(authority: DevAuthority) -> None:
    usual = certificate_of(authority.issue_client("gw-0001", now=NOW))
    assert usual.not_valid_before_utc == NOW - timedelta(days=1)
    assert usual.not_valid_after_utc == NOW + timedelta(days=825)
    long = certificate_of(authority.issue_client("gw-0002", now=NOW, days=10_000))
    assert long.not_valid_after_utc == authority.certificate.not_valid_after_utc


def test_keys_are_readable_by_their_owner_alone(authority: DevAuthority) -> None:
    issued = authority.issue_signer("gw-0001", role="stream", now=NOW)
    for path in (issued.key_path, authority.ca_key_path):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert path.read_bytes().startswith(b"-----BEGIN PRIVATE KEY-----")


def test_a_second_run_keeps_every_file(tmp_path: Path) -> None:
    def run() -> tuple[tuple[Issued, ...], dict[str, bytes]]:
        made = DevAuthority.create(tmp_path, now=NOW)
        issued = made.issue_all(gateways=["gw-0001"], entities=["dso.example"], hosts=["127.0.0.1"], now=NOW)
        return issued, {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    first, before = run()
    second, after = run()
    assert after == before
    assert [one.written for one in first] == [True] * 5
    assert [one.written for one in second] == [False] * 5


def test_force_issues_again_under_the_same_authority(authority: DevAuthority) -> None:
    old = certificate_of(authority.issue_client("gw-0001", now=NOW))
    again = authority.issue_client("gw-0001", now=NOW, force=True)
    assert again.written
    assert certificate_of(again).serial_number != old.serial_number
    certificate_of(again).verify_directly_issued_by(authority.certificate)


def test_expired_certificate_is_issued_again(authority: DevAuthority) -> None:
    authority.issue_client("gw-0001", now=NOW, days=1)
    assert authority.issue_client("gw-0001", now=NOW + timedelta(hours=23)).written is False
    assert authority.issue_client("gw-0001", now=NOW + timedelta(days=1)).written is True


def test_server_certificate_for_other_hosts_is_issued_again(authority: DevAuthority) -> None:
    authority.issue_server(["127.0.0.1", "a.example"], now=NOW)
    assert authority.issue_server(["a.example", "127.0.0.1"], now=NOW).written is False
    assert authority.issue_server(["127.0.0.1"], now=NOW).written is True


def test_pair_torn_by_a_crash_is_issued_again(authority: DevAuthority) -> None:
    first = authority.issue_client("gw-0001", now=NOW)
    old_key = first.key_path.read_bytes()
    authority.issue_client("gw-0001", now=NOW, force=True)
    first.key_path.write_bytes(old_key)  # the crash came after the certificate and before the key
    again = authority.issue_client("gw-0001", now=NOW)
    assert again.written
    assert read_private_key(again.key_path).public_key() == certificate_of(again).public_key()


def test_certificates_of_an_authority_that_was_replaced_are_issued_again(authority: DevAuthority) -> None:
    authority.issue_client("gw-0001", now=NOW)
    authority.ca_path.unlink()
    authority.ca_key_path.unlink()
    new = DevAuthority.create(authority.directory, now=NOW)
    assert new.issue_client("gw-0001", now=NOW).written is True


def test_expired_authority_is_replaced(authority: DevAuthority) -> None:
    later = authority.certificate.not_valid_after_utc + timedelta(seconds=1)
    new = DevAuthority.create(authority.directory, now=later)
    assert new.certificate.not_valid_after_utc > later
    assert DevAuthority.open(authority.directory).certificate == new.certificate


def test_a_sites_own_certificate_is_never_overwritten(authority: DevAuthority) -> None:
    pair = site_pair(authority.directory, "gw-0001")
    for force in (False, True):
        with pytest.raises(ConfigError, match=r"gw-0001\.pem is not of a development authority"):
            authority.issue_client("gw-0001", now=NOW, force=force)
    directory = authority.directory
    assert ((directory / "gw-0001.pem").read_bytes(), (directory / "gw-0001.key").read_bytes()) == pair


def test_a_sites_own_authority_is_never_overwritten(tmp_path: Path) -> None:
    pair = site_pair(tmp_path, "ca")
    with pytest.raises(ConfigError, match=r"ca\.pem is not of a development authority"):
        DevAuthority.create(tmp_path, now=NOW)
    assert ((tmp_path / "ca.pem").read_bytes(), (tmp_path / "ca.key").read_bytes()) == pair


def test_a_key_that_stands_alone_is_never_overwritten(authority: DevAuthority) -> None:
    lone = authority.directory / "gw-0001.key"
    lone.write_bytes(b"somebody's")
    with pytest.raises(ConfigError, match=r"gw-0001\.key has no certificate"):
        authority.issue_client("gw-0001", now=NOW, force=True)
    assert lone.read_bytes() == b"somebody's"


def test_two_uses_of_one_file_are_refused(authority: DevAuthority) -> None:
    authority.issue_server(["127.0.0.1"], now=NOW)
    with pytest.raises(ConfigError, match="choose another identity"):
        authority.issue_client("broker", now=NOW)
    authority.issue_signer("x", role="stream", now=NOW)
    with pytest.raises(ConfigError, match="choose another identity"):
        authority.issue_signer("x", role="collector", now=NOW)
    with pytest.raises(ConfigError, match="taken by the authority"):
        authority.issue_client("ca", now=NOW)


@pytest.mark.parametrize(
    "identity", ["", "a/b", "+", "#", "..", "gw 1", "é", "x" * 65, "grp", "beat", "policy"]
)
def test_identity_that_cannot_be_a_topic_and_a_file_is_refused(
    authority: DevAuthority, identity: str
) -> None:
    with pytest.raises(ConfigError, match="identity"):
        authority.issue_client(identity, now=NOW)
    with pytest.raises(ConfigError, match="identity"):
        authority.issue_signer(identity, role="stream", now=NOW)


def test_server_certificate_without_a_host_is_refused(authority: DevAuthority) -> None:
    with pytest.raises(ConfigError, match="host name or address"):
        authority.issue_server([], now=NOW)
    with pytest.raises(ConfigError, match="neither an IP address nor a host name"):
        authority.issue_server(["bröker"], now=NOW)


def test_key_of_another_authority_is_refused(authority: DevAuthority, other_authority: DevAuthority) -> None:
    authority.ca_key_path.write_bytes(other_authority.ca_key_path.read_bytes())
    with pytest.raises(ConfigError, match="does not belong"):
        DevAuthority.open(authority.directory)


def test_empty_directory_gets_a_gitignore_and_a_used_one_does_not(tmp_path: Path) -> None:
    assert "*" in (DevAuthority.create(tmp_path / "new", now=NOW).directory / ".gitignore").read_text()
    used = tmp_path / "used"
    used.mkdir()
    (used / "README.md").write_text("mine")
    assert not (DevAuthority.create(used, now=NOW).directory / ".gitignore").exists()


def test_no_neighbour_file_is_left_behind(authority: DevAuthority) -> None:
    authority.issue_client("gw-0001", now=NOW)
    names = {path.name for path in authority.directory.iterdir()}
    assert names == {".gitignore", "ca.pem", "ca.key", "gw-0001.pem", "gw-0001.key"}
