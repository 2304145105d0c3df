"""TLS contexts: a sentence for every fault of the files, and real handshakes over memory for the rest."""

import ssl
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from certs.authority import DevAuthority, Issued
from certs.contexts import client_context, refuse_development_authority, server_context
from certs.pem import KEY_MODE, read_private_key
from core.errors import ConfigError, PorticoError, TrustError

NOW = datetime.now(UTC)  # OpenSSL judges a handshake by the machine's clock

Maker = Callable[[Path, Path, Path], ssl.SSLContext]


@pytest.fixture
def authority(tmp_path: Path) -> DevAuthority:
    return DevAuthority.create(tmp_path / "ca", now=NOW)


@pytest.fixture
def other_authority(tmp_path: Path) -> DevAuthority:
    return DevAuthority.create(tmp_path / "other", now=NOW)


@pytest.fixture
def broker(authority: DevAuthority) -> Issued:
    return authority.issue_server(["127.0.0.1", "broker.example"], now=NOW)


@pytest.fixture
def gateway(authority: DevAuthority) -> Issued:
    return authority.issue_client("gw-0001", now=NOW)


def shake(client: ssl.SSLContext, server: ssl.SSLContext, host: str) -> tuple[ssl.SSLObject, ssl.SSLObject]:
    """A handshake through memory, to the end on both sides; raises what either side raises."""
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    near = client.wrap_bio(to_client, to_server, server_hostname=host)
    far = server.wrap_bio(to_server, to_client, server_side=True)
    waiting = [near, far]
    for _ in range(20):
        for side in list(waiting):
            try:
                side.do_handshake()
                waiting.remove(side)
            except ssl.SSLWantReadError:
                pass
        if not waiting:
            return near, far
    raise AssertionError("the handshake did not end")


def test_both_sides_know_each_other_over_tls_1_3(
    authority: DevAuthority, broker: Issued, gateway: Issued
) -> None:
    client = client_context(authority.ca_path, gateway.cert_path, gateway.key_path)
    server = server_context(authority.ca_path, broker.cert_path, broker.key_path)
    near, far = shake(client, server, "127.0.0.1")
    shown = far.getpeercert()
    assert shown is not None
    assert shown["subject"] == ((("commonName", "gw-0001"),),)
    assert near.version() == "TLSv1.3"


def test_tls_1_2_is_spoken_with_forward_secrecy_and_1_1_is_not(
    authority: DevAuthority, broker: Issued, gateway: Issued
) -> None:
    client = client_context(authority.ca_path, gateway.cert_path, gateway.key_path)
    server = server_context(authority.ca_path, broker.cert_path, broker.key_path)
    assert client.minimum_version == server.minimum_version == ssl.TLSVersion.TLSv1_2
    client.maximum_version = ssl.TLSVersion.TLSv1_2
    near, _ = shake(client, server, "broker.example")
    cipher = near.cipher()
    assert near.version() == "TLSv1.2"
    assert cipher is not None
    assert cipher[0].startswith("ECDHE-")


@pytest.mark.parametrize("host", ["localhost", "127.0.0.2", "other.example"])
def test_server_of_another_name_is_refused(
    authority: DevAuthority, broker: Issued, gateway: Issued, host: str
) -> None:
    client = client_context(authority.ca_path, gateway.cert_path, gateway.key_path)
    server = server_context(authority.ca_path, broker.cert_path, broker.key_path)
    with pytest.raises(ssl.SSLCertVerificationError, match=r"mismatch|doesn't match"):
        shake(client, server, host)


def test_server_of_another_authority_is_refused(
    authority: DevAuthority, other_authority: DevAuthority, gateway: Issued
) -> None:
    client = client_context(authority.ca_path, gateway.cert_path, gateway.key_path)
    strange = other_authority.issue_server(["127.0.0.1"], now=NOW)
    server = server_context(authority.ca_path, strange.cert_path, strange.key_path)
    with pytest.raises(ssl.SSLCertVerificationError):
        shake(client, server, "127.0.0.1")


def test_client_of_another_authority_or_none_is_refused(
    authority: DevAuthority, other_authority: DevAuthority, broker: Issued
) -> None:
    server = server_context(authority.ca_path, broker.cert_path, broker.key_path)
    strange = other_authority.issue_client("gw-0001", now=NOW)
    client = client_context(authority.ca_path, strange.cert_path, strange.key_path)
    with pytest.raises(ssl.SSLError):
        shake(client, server, "127.0.0.1")
    bare = ssl.create_default_context(cafile=str(authority.ca_path))
    with pytest.raises(ssl.SSLError, match=r"(?i)certificate"):
        shake(bare, server, "127.0.0.1")


def test_signing_certificate_opens_no_tls_session(
    authority: DevAuthority, broker: Issued, gateway: Issued
) -> None:
    signer = authority.issue_signer("gw-0001", role="stream", now=NOW)
    client = client_context(authority.ca_path, signer.cert_path, signer.key_path)
    server = server_context(authority.ca_path, broker.cert_path, broker.key_path)
    with pytest.raises(ssl.SSLError):
        shake(client, server, "127.0.0.1")


def test_client_certificate_is_no_server(authority: DevAuthority, gateway: Issued) -> None:
    client = client_context(authority.ca_path, gateway.cert_path, gateway.key_path)
    server = server_context(authority.ca_path, gateway.cert_path, gateway.key_path)
    with pytest.raises(ssl.SSLCertVerificationError, match="purpose"):
        shake(client, server, "127.0.0.1")


@pytest.fixture(params=["client", "server"])
def make(request: pytest.FixtureRequest) -> Maker:
    """Either function: both look at the files in the same way."""
    return client_context if request.param == "client" else server_context


def fault(make: Maker, ca: Path, cert: Path, key: Path) -> PorticoError:
    with pytest.raises(PorticoError) as caught:
        make(ca, cert, key)
    sentence = str(caught.value)
    assert "\n" not in sentence
    return caught.value


@pytest.mark.parametrize("missing", [0, 1, 2])
def test_missing_file_is_named(
    make: Maker, authority: DevAuthority, gateway: Issued, tmp_path: Path, missing: int
) -> None:
    paths = [authority.ca_path, gateway.cert_path, gateway.key_path]
    paths[missing] = tmp_path / "absent.pem"
    error = fault(make, *paths)
    assert isinstance(error, ConfigError)
    assert f"{tmp_path / 'absent.pem'} does not exist" in str(error)


@pytest.mark.parametrize("broken", [0, 1, 2])
@pytest.mark.parametrize(
    "content", [b"", b"hello", b"\x30\x82\x01\x00", b"-----BEGIN CERTIFICATE-----\nAAAA\n"]
)
def test_file_that_is_not_pem_is_named(
    make: Maker, authority: DevAuthority, gateway: Issued, tmp_path: Path, broken: int, content: bytes
) -> None:
    paths = [authority.ca_path, gateway.cert_path, gateway.key_path]
    paths[broken] = tmp_path / "broken.pem"
    paths[broken].write_bytes(content)
    paths[broken].chmod(KEY_MODE)
    error = fault(make, *paths)
    assert isinstance(error, ConfigError)
    assert str(tmp_path / "broken.pem") in str(error)
    assert "PEM" in str(error)


def test_damaged_key_is_named(make: Maker, authority: DevAuthority, gateway: Issued) -> None:
    gateway.key_path.write_bytes(b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")
    error = fault(make, authority.ca_path, gateway.cert_path, gateway.key_path)
    assert isinstance(error, ConfigError)
    assert str(gateway.key_path) in str(error)


def test_directory_in_place_of_a_file_is_named(make: Maker, authority: DevAuthority, gateway: Issued) -> None:
    error = fault(make, authority.directory, gateway.cert_path, gateway.key_path)
    assert f"{authority.directory} is a directory" in str(error)


def test_unreadable_file_is_named(make: Maker, authority: DevAuthority, gateway: Issued) -> None:
    # Modes do not stop root; the first page of a process's memory is readable by nobody.
    error = fault(make, authority.ca_path, Path("/proc/self/mem"), gateway.key_path)
    assert isinstance(error, ConfigError)
    assert "certificate /proc/self/mem cannot be read" in str(error)


@pytest.mark.parametrize("mode", [0o604, 0o644, 0o602, 0o777])
def test_key_open_to_everybody_is_refused_with_the_command_to_run(
    make: Maker, authority: DevAuthority, gateway: Issued, mode: int
) -> None:
    gateway.key_path.chmod(mode)
    error = fault(make, authority.ca_path, gateway.cert_path, gateway.key_path)
    assert isinstance(error, ConfigError)
    assert f"run chmod 600 {gateway.key_path}" in str(error)


@pytest.mark.parametrize("mode", [0o400, 0o600, 0o640, 0o440])
def test_key_of_owner_and_group_is_taken(
    make: Maker, authority: DevAuthority, gateway: Issued, mode: int
) -> None:
    gateway.key_path.chmod(mode)
    make(authority.ca_path, gateway.cert_path, gateway.key_path)


def test_encrypted_key_is_refused_and_nobody_is_asked(
    make: Maker, authority: DevAuthority, gateway: Issued
) -> None:
    key = read_private_key(gateway.key_path)
    for form in (serialization.PrivateFormat.PKCS8, serialization.PrivateFormat.TraditionalOpenSSL):
        gateway.key_path.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, form, serialization.BestAvailableEncryption(b"secret")
            )
        )
        error = fault(make, authority.ca_path, gateway.cert_path, gateway.key_path)
        assert f"{gateway.key_path} is encrypted" in str(error)


def test_key_of_another_certificate_is_refused(make: Maker, authority: DevAuthority, gateway: Issued) -> None:
    other = authority.issue_client("gw-0002", now=NOW)
    error = fault(make, authority.ca_path, gateway.cert_path, other.key_path)
    assert isinstance(error, ConfigError)
    assert f"{other.key_path} does not belong to certificate {gateway.cert_path}" in str(error)


def test_expired_certificate_is_refused_with_its_date(make: Maker, authority: DevAuthority) -> None:
    past = NOW - timedelta(days=40)
    old = authority.issue_client("gw-0009", now=past, days=30)
    error = fault(make, authority.ca_path, old.cert_path, old.key_path)
    assert isinstance(error, TrustError)
    assert f"{old.cert_path} expired on {past + timedelta(days=30):%Y-%m-%d}" in str(error)


def test_certificate_of_the_future_points_to_the_clock(make: Maker, authority: DevAuthority) -> None:
    young = authority.issue_client("gw-0009", now=NOW + timedelta(days=10))
    error = fault(make, authority.ca_path, young.cert_path, young.key_path)
    assert isinstance(error, TrustError)
    assert "check the clock" in str(error)


def test_expired_authority_is_refused_and_beside_a_valid_one_taken(
    make: Maker, authority: DevAuthority, gateway: Issued, tmp_path: Path
) -> None:
    old = DevAuthority.create(tmp_path / "old", now=NOW - timedelta(days=4000))
    error = fault(make, old.ca_path, gateway.cert_path, gateway.key_path)
    assert isinstance(error, TrustError)
    assert f"CA bundle {old.ca_path} expired" in str(error)
    both = tmp_path / "both.pem"
    both.write_bytes(old.ca_path.read_bytes() + authority.ca_path.read_bytes())
    make(both, gateway.cert_path, gateway.key_path)


def test_bundle_without_an_authority_is_refused(make: Maker, gateway: Issued) -> None:
    error = fault(make, gateway.cert_path, gateway.cert_path, gateway.key_path)
    assert isinstance(error, ConfigError)
    assert "holds no authority" in str(error)


def site_authority() -> bytes:
    """A site's own authority, in PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Utility")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(NOW - timedelta(days=1))
        .not_valid_after(NOW + timedelta(days=90))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    return certificate.public_bytes(serialization.Encoding.PEM)


def test_production_refuses_the_development_authority_anywhere_in_a_bundle(
    authority: DevAuthority, tmp_path: Path
) -> None:
    bundle = tmp_path / "bundle.pem"
    for content in (
        authority.ca_path.read_bytes(),
        site_authority() + authority.ca_path.read_bytes(),
        authority.ca_path.read_bytes() + site_authority(),
    ):
        bundle.write_bytes(content)
        with pytest.raises(TrustError, match="holds a development authority"):
            refuse_development_authority(bundle, "production")
        refuse_development_authority(bundle, "development")


def test_production_refuses_what_a_development_authority_issued(gateway: Issued) -> None:
    with pytest.raises(TrustError):
        refuse_development_authority(gateway.cert_path, "production")


def test_production_takes_a_sites_own_authority(tmp_path: Path) -> None:
    bundle = tmp_path / "bundle.pem"
    bundle.write_bytes(site_authority())
    refuse_development_authority(bundle, "production")
