"""Roles in certificates: what is in them, and what they allow."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509

from simulator import credentials
from simulator.security import Role, der_utf8_string, role_in, utf8_string


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("tls")
    credentials.make(directory, ["127.0.0.1", "meter.example"], ["operator", "viewer"], ["meter-1"])
    return directory


def certificate(directory: Path, stem: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate((directory / f"{stem}.pem").read_bytes())


@pytest.mark.parametrize(
    ("stem", "role"),
    [
        ("client-operator", "operator"),
        ("client-viewer", "viewer"),
        ("client", None),
        ("device-meter-1", None),
    ],
)
def test_a_client_certificate_names_its_role_alone(made: Path, stem: str, role: str | None) -> None:
    assert role_in(certificate(made, stem)) == role


def test_a_server_is_known_by_address_and_name_and_a_device_by_its_name(made: Path) -> None:
    names = certificate(made, "server").extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [str(one) for one in names.get_values_for_type(x509.IPAddress)] == ["127.0.0.1"]
    assert "meter.example" in names.get_values_for_type(x509.DNSName)
    assert certificate(made, "device-meter-1").subject.rfc4514_string() == "CN=meter-1"


def test_certificates_are_used_again_and_made_anew_only_when_one_is_missing(
    made: Path, tmp_path: Path
) -> None:
    before = certificate(made, "server").serial_number
    credentials.make(made, ["127.0.0.1"], ["viewer"], [])
    assert certificate(made, "server").serial_number == before
    credentials.make(made, ["127.0.0.1", "meter.example"], ["operator", "viewer", "third"], ["meter-1"])
    assert certificate(made, "server").serial_number != before


def test_keys_are_their_owners_alone_and_certificates_hold_for_years(made: Path) -> None:
    assert (made / "server.key").stat().st_mode & 0o777 == 0o600
    assert not (made / "ca.key").exists()
    assert certificate(made, "server").not_valid_after_utc.year > datetime.now(UTC).year + 5


@pytest.mark.parametrize("text", ["", "operator", "Überwacher", "x" * 127])
def test_a_role_goes_into_der_and_back(text: str) -> None:
    assert utf8_string(der_utf8_string(text)) == text


@pytest.mark.parametrize("der", ["", "0c", "0c02 41", "1301 41", "0c01 ff", "0c81 01 41"])
def test_what_is_no_short_utf8_string_names_no_role(der: str) -> None:
    assert utf8_string(bytes.fromhex(der)) is None


@pytest.mark.parametrize(
    ("role", "may_read", "may_write"),
    [(Role.NOTHING, False, False), (Role.READ, True, False), (Role.WRITE, True, True)],
)
def test_what_a_role_may_do(role: Role, may_read: bool, may_write: bool) -> None:
    assert {role.may(function) for function in (1, 2, 3, 4)} == {may_read}
    assert {role.may(function) for function in (5, 6, 15, 16)} == {may_write}
