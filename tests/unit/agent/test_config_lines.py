"""``[[line]]`` of gateway.toml: each kind of line has its own keys, and who may dial in is said."""

from pathlib import Path

import pytest

from agent.linelink import line_link
from drivers.modbus.dialin import Callers, DialInLink
from drivers.modbus.lineurl import LineScheme, LinkUrl
from drivers.modbus.wires import SerialSettings
from tests.support.config_text import DEVICE, WHOLE, faults, parsed, warned

RTU = 'url = "modbus+rtu:///dev/ttyUSB0"'
TLS = 'url = "modbus+tls://127.0.0.1"\nca = "ca.pem"\ncert = "c.pem"\nkey = "c.key"'
TCP = 'url = "modbus+tcp://127.0.0.1:5020"'
LISTEN = 'url = "modbus+listen://127.0.0.1:5502"'


def test_a_serial_line_has_settings_and_a_serial_server_only_when_they_are_told() -> None:
    def serial(line: str) -> SerialSettings | None:
        return parsed(WHOLE.replace(TCP, line)).lines[0].serial

    assert serial(RTU) == SerialSettings(9600, "none", 1)
    assert serial(RTU + '\nbaud = 19200\nparity = "even"\nstop_bits = 2') == SerialSettings(19200, "even", 2)
    assert serial('url = "modbus+rtu+tcp://h:4001"') is None
    assert serial('url = "modbus+rtu+tcp://h:4001"\nbaud = 19200') == SerialSettings(19200)
    assert serial(TCP) is None


def test_a_line_in_tls_reads_its_files_from_the_folder_of_the_file() -> None:
    (line,) = parsed(WHOLE.replace(TCP, TLS)).lines
    assert line.url == LinkUrl("127.0.0.1", 802, LineScheme.TLS)
    assert (line.ca, line.key) == (Path("/etc/portico/ca.pem"), Path("/etc/portico/c.key"))


def test_devices_that_dial_in_are_named_or_come_from_an_address() -> None:
    assert parsed(WHOLE.replace(TCP, LISTEN + '\ntrust_address = ["192.0.2.7"]')).lines[0].trust_address == (
        "192.0.2.7",
    )
    files = '\nca = "ca.pem"\ncert = "c.pem"\nkey = "c.key"'
    assert parsed(WHOLE.replace(TCP, f'{LISTEN}{files}\ndevices = ["meter"]')).lines[0].devices == ("meter",)


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        (TCP + "\nbaud = 9600", "baud belongs to a line by modbus+rtu:// and modbus+rtu+tcp://"),
        (RTU + "\nbaud = 110", "must be at least 300"),
        (RTU + '\nparity = "mark"', "parity"),
        (RTU + "\ndata_bits = 7", "data_bits"),
        (RTU + "\nstop_bits = 3", "stop_bits"),
        (RTU + '\nca = "ca.pem"', "ca belongs to a line by modbus+tls:// and modbus+listen://"),
        ('url = "modbus+tls://h"\nca = "ca.pem"', "needs cert and key"),
        (TCP + '\ndevices = ["meter"]', "devices belongs to a line by modbus+listen://"),
        (LISTEN, "says nobody may dial in"),
        (LISTEN + '\ndevices = ["meter"]', "known by their certificates, which needs ca and cert and key"),
        (LISTEN + '\ntrust_address = ["meter.lan"]', "is no address in numbers"),
        (LISTEN + "\ntrust_address = []", "an empty list"),
        (LISTEN + '\ntrust_address = ["::1"]\ndevices = ["meter"]', "has devices and trust_address"),
        (LISTEN + '\nca = "ca.pem"\ntrust_address = ["::1"]', "has certificates and no devices"),
        ('url = "modbus+listen://0.0.0.0:5502"\ntrust_address = ["::1"]', "every address of this box"),
    ],
)
def test_a_key_that_does_not_fit_its_line_is_refused(line: str, sentence: str) -> None:
    (fault,) = faults(WHOLE.replace(TCP, line))
    assert sentence in fault


def test_a_broadcast_is_no_device_of_a_serial_line() -> None:
    (fault,) = faults(WHOLE.replace(TCP, RTU).replace("unit_id = 1", "unit_id = 0"))
    assert "asks all devices at once and none answers" in fault
    assert parsed(WHOLE.replace("unit_id = 1", "unit_id = 0")).devices[0].unit_id == 0


def test_devices_that_dial_in_are_those_of_the_line() -> None:
    files = '\nca = "ca.pem"\ncert = "c.pem"\nkey = "c.key"'
    found = faults(WHOLE.replace(TCP, f'{LISTEN}{files}\ndevices = ["metre"]'))
    assert [fault.split(": ")[1] for fault in found] == ['device[1] "meter" line', 'line[1] "lan" devices']


def test_an_address_that_is_believed_without_certificate_is_warned_of() -> None:
    (warning,) = warned(WHOLE.replace(TCP, LISTEN + '\ntrust_address = ["192.0.2.7"]'))
    assert "believes whoever has the address 192.0.2.7" in warning


def test_two_lines_on_one_serial_port_are_warned_of() -> None:
    twice = WHOLE.replace(TCP, RTU) + f'[[line]]\nname = "again"\n{RTU}\n'
    assert any("lead to the same address modbus+rtu:///dev/ttyUSB0" in one for one in warned(twice))


FILES = '\nca = "ca.pem"\ncert = "c.pem"\nkey = "c.key"'
TRUSTED = LISTEN + '\ntrust_address = ["192.0.2.7"]'
SECOND = DEVICE.replace("unit_id = 1", "unit_id = 2").replace('"meter"', '"relay"')


def test_devices_that_dial_in_may_name_themselves_by_their_first_frame() -> None:
    frames = '\nfirst_frame = { meter = "METER 7", relay = "hex:01 A7" }'
    config = parsed(WHOLE.replace(TCP, TRUSTED + frames) + SECOND)
    (line,) = config.lines
    assert line.first_frame == {"meter": b"METER 7", "relay": b"\x01\xa7"}
    link = line_link(config, line)
    assert isinstance(link, DialInLink)
    assert link._callers == Callers({}, frozenset({"192.0.2.7"}), {1: b"METER 7", 2: b"\x01\xa7"})
    (warning,) = [one for one in warned(WHOLE.replace(TCP, TRUSTED + frames) + SECOND) if "believes" in one]
    assert "has the address 192.0.2.7 and says the first frame of a device" in warning
    certified = f'{LISTEN}{FILES}\ndevices = ["meter"]\nfirst_frame = {{ meter = "METER 7" }}'
    assert parsed(WHOLE.replace(TCP, certified)).lines[0].first_frame == {"meter": b"METER 7"}


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        (TCP + '\nfirst_frame = { meter = "a" }', "first_frame belongs to a line by modbus+listen://"),
        (LISTEN + '\nfirst_frame = { meter = "a" }', "proves nothing, since anybody can send it"),
        (TRUSTED + "\nfirst_frame = {}", "first_frame is empty"),
        (TRUSTED + "\nfirst_frame = { meter = 7 }", "must be text in quotes"),
        (TRUSTED + '\nfirst_frame = { meter = "" }', "has 0 bytes: a first frame has 1 to 64"),
        (TRUSTED + f'\nfirst_frame = {{ meter = "{"x" * 65}" }}', "has 65 bytes"),
        (TRUSTED + '\nfirst_frame = { meter = "hex:0" }', "is not in hexadecimal digits"),
        (TRUSTED + '\nfirst_frame = { meter = "\u00e4" }', "no text of printable ASCII"),
        (TRUSTED + '\nfirst_frame = { meter = "a", metre = "ab" }', '"a" begins "ab"'),
        (
            TRUSTED + '\nfirst_frame = { meter = "a", metre = "b" }',
            'no [[device]] of this line is named "metre"',
        ),
        (f'{LISTEN}{FILES}\ndevices = ["meter"]\nfirst_frame = {{ metre = "a" }}', "devices does not list"),
    ],
)
def test_a_first_frame_that_tells_nobody_apart_is_refused(line: str, sentence: str) -> None:
    (fault,) = faults(WHOLE.replace(TCP, line))
    assert sentence in fault


def test_each_device_of_a_line_with_first_frames_has_one() -> None:
    (fault,) = faults(WHOLE.replace(TCP, TRUSTED + '\nfirst_frame = { meter = "a" }') + SECOND)
    assert fault.endswith('does not say how it names itself: add "relay"')
