"""The role in a certificate is one UTF8String, and anything else is none."""

from pathlib import Path

import pytest

from certs.authority import DevAuthority
from certs.modbus import modbus_role
from certs.pem import read_certificates
from tests.support.rolecert import issue_with_role


@pytest.mark.parametrize(
    ("value", "role"),
    [
        (b"\x0c\x08Operator", "Operator"),
        ("\x0c\x06Zähl".encode()[:2] + "Zähler".encode()[:6], "Zähle"),
        (None, None),
        (b"\x04\x08Operator", None),
        (b"\x0c\x09Operator", None),
        (b"\x0c\x08Operator more", None),
        (b"\x0c\x00", None),
        (b"\x0c\x02\xff\xfe", None),
        (b"Operator", None),
    ],
)
def test_role_is_one_utf8_string(tmp_path: Path, value: bytes | None, role: str | None) -> None:
    DevAuthority.create(tmp_path)
    cert, _ = issue_with_role(tmp_path, "gw-0001", value)
    assert modbus_role(read_certificates(cert)[0]) == role
