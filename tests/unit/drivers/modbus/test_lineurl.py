"""The addresses of lines: every kind is read, what is none is refused with an example of its form."""

import pytest

from core.errors import ConfigError
from drivers.modbus.lineurl import LineScheme, LinkUrl


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("modbus+tcp://192.168.1.20", LinkUrl("192.168.1.20", 502)),
        ("modbus+tcp://meter.lan:5020", LinkUrl("meter.lan", 5020)),
        ("modbus+tcp://[::1]:503/", LinkUrl("::1", 503)),
        ("modbus+tls://meter.lan", LinkUrl("meter.lan", 802, LineScheme.TLS)),
        ("modbus+rtu+tcp://h:4001", LinkUrl("h", 4001, LineScheme.RTU_TCP)),
        ("modbus+listen://[::1]:5502", LinkUrl("::1", 5502, LineScheme.LISTEN)),
        ("modbus+rtu:///dev/ttyUSB0", LinkUrl("", 0, LineScheme.RTU, "/dev/ttyUSB0")),
        (
            "modbus+rtu:///dev/serial/by-id/usb-FTDI_A1-if00-port0",
            LinkUrl("", 0, LineScheme.RTU, "/dev/serial/by-id/usb-FTDI_A1-if00-port0"),
        ),
    ],
)
def test_address_of_a_line_is_read(text: str, url: LinkUrl) -> None:
    assert LinkUrl.parse(text) == url
    assert LinkUrl.parse(str(url)) == url


@pytest.mark.parametrize(
    ("text", "example"),
    [
        ("", "modbus+tcp://192"),
        ("192.168.1.20:502", "modbus+tcp://192"),
        ("tcp://h", "modbus+tcp://192"),
        ("modbus+tcp://", "modbus+tcp://192"),
        ("modbus+tcp://:502", "modbus+tcp://192"),
        ("modbus+tcp://h:99999", "modbus+tcp://192"),
        ("modbus+tcp://h:0", "modbus+tcp://192"),
        ("modbus+tcp://h:a", "modbus+tcp://192"),
        ("modbus+tcp://h/path", "modbus+tcp://192"),
        ("modbus+tcp://h?x=1", "modbus+tcp://192"),
        ("modbus+tcp://[::1", "modbus+tcp://192"),
        ("modbus+tls://h/x", "modbus+tls://"),
        ("modbus+rtu://dev/ttyUSB0", "modbus+rtu:///dev/ttyUSB0"),
        ("modbus+rtu://", "modbus+rtu:///dev/ttyUSB0"),
        ("modbus+rtu:///dev/", "modbus+rtu:///dev/ttyUSB0"),
        ("modbus+rtu:///dev/ttyUSB0?baud=9600", "modbus+rtu:///dev/ttyUSB0"),
        ("modbus+rtu+tcp://h", "modbus+rtu+tcp://192.168.1.60:4001"),
        ("modbus+listen://192.168.1.2", "modbus+listen://192.168.1.2:5502"),
        ("modbus+listen://gateway.lan:5502", "modbus+listen://192.168.1.2:5502"),
    ],
)
def test_what_is_no_address_is_refused_with_an_example_of_its_kind(text: str, example: str) -> None:
    with pytest.raises(ConfigError) as error:
        LinkUrl.parse(text)
    assert f'write for example "{example}' in str(error.value)


@pytest.mark.parametrize("text", ["modbus+listen://0.0.0.0:5502", "modbus+listen://[::]:5502"])
def test_devices_never_dial_in_at_every_address(text: str) -> None:
    with pytest.raises(ConfigError, match="every address of this box"):
        LinkUrl.parse(text)


def test_user_name_in_an_address_is_refused() -> None:
    with pytest.raises(ConfigError, match="user name"):
        LinkUrl.parse("modbus+tcp://user@h")


def test_two_spellings_of_one_host_are_one_end() -> None:
    assert LinkUrl.parse("modbus+tcp://Meter.LAN").end == LinkUrl.parse("modbus+rtu+tcp://meter.lan:502").end
