"""Every kind of line of the simulator, read by foreign clients: mbpoll, OpenSSL, sockets that wait."""

import os
import shutil
import socket
import ssl
import struct
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from cryptography import x509

from simulator.pytest_plugin import Premises, Starter
from tests.support.rawmodbus import RawModbus
from tests.support.rtuclient import RtuClient, SerialWire, TcpWire, frame

DEADLINE_S = 20.0

SERIAL = """
name = "serial"
seed = 7
[[premises]]
name = "home"
[[premises.line]]
name = "bus"
kind = "rtu"
baud = {baud}
[[premises.line]]
name = "server"
kind = "rtu-tcp"
baud = {baud}
[[premises.device]]
name = "meter"
type = "eastron-sdm630"
line = "bus"
[[premises.device]]
name = "relay"
type = "generic-load-relay"
line = "bus"
unit_id = 2
controls = ["water-heater"]
[[premises.device]]
name = "counter"
type = "simulator-counter"
line = "bus"
unit_id = 3
[[premises.device]]
name = "far-meter"
type = "eastron-sdm630"
line = "server"
[[premises.device]]
name = "far-counter"
type = "simulator-counter"
line = "server"
unit_id = 3
"""


def serial(baud: int = 9600) -> str:
    return SERIAL.format(baud=baud)


def mbpoll(*options: str) -> str:
    program = shutil.which("mbpoll")
    if program is None:
        pytest.skip("mbpoll is missing; run apt-get install mbpoll")
    run = subprocess.run(
        [program, "-0", "-1", "-q", *options], capture_output=True, text=True, timeout=DEADLINE_S, check=False
    )
    return run.stdout + run.stderr


def on_bus(premises: Premises, *options: str, unit_id: int = 1) -> str:
    path = premises.devices["meter"].path
    return mbpoll("-m", "rtu", "-b", "9600", "-P", "none", "-a", str(unit_id), *options, path)


def read(function: int, address: int, count: int) -> bytes:
    return struct.pack(">BHH", function, address, count)


def test_mbpoll_reads_a_meter_on_a_serial_line(portico_premises: Starter) -> None:
    said = on_bus(portico_premises(serial()), "-t", "3:float", "-B", "-r", "0", "-c", "3")
    volts = [float(line.split()[1]) for line in said.splitlines() if line.startswith("[")]
    assert len(volts) == 3
    assert all(200 < value < 250 for value in volts)


def test_mbpoll_switches_a_relay_on_a_serial_line_and_reads_its_feedback(portico_premises: Starter) -> None:
    home = portico_premises(serial())
    path = home.devices["relay"].path
    for options in (("-t", "4", "-r", "0", path, "60"), ("-t", "0", "-r", "0", path, "1")):
        said = mbpoll("-m", "rtu", "-b", "9600", "-P", "none", "-a", "2", *options)
        assert "Written 1 references." in said
    assert "[0]: \t1" in on_bus(home, "-t", "1", "-r", "0", unit_id=2)
    assert [(one["point"], one["value"]) for one in home.log("effect")] == [("LoadShed", 1)]


def test_mbpoll_is_told_that_an_address_is_illegal_and_hears_nothing_of_a_unit_that_is_not_there(
    portico_premises: Starter,
) -> None:
    home = portico_premises(serial())
    assert "Illegal data address" in on_bus(home, "-t", "3", "-r", "9000")
    assert "timed out" in on_bus(home, "-r", "0", "-o", "0.3", unit_id=77)
    home.stop()
    silent = [one for one in home.log("requests") if one["unit_id"] == 77]
    assert [(one["device"], one["outcome"], one["line"], one["port"]) for one in silent] == [
        ("", "silent", "home/bus", 0)
    ]


def test_the_path_of_a_serial_line_is_a_link_to_a_terminal_and_goes_with_the_plant(
    portico_premises: Starter,
) -> None:
    home = portico_premises(serial())
    meter = home.devices["meter"]
    assert meter.url == f"modbus+rtu://{meter.path}"
    assert os.readlink(meter.path).startswith("/dev/pts/")
    home.stop()
    assert not os.path.lexists(meter.path)


@pytest.mark.parametrize(("baud", "slowest_s"), [(1200, 165 * 10 / 1200), (9600, 165 * 10 / 9600)])
def test_an_answer_takes_at_least_the_time_that_its_bytes_need_on_the_line(
    portico_premises: Starter, baud: int, slowest_s: float
) -> None:
    home = portico_premises(serial(baud))
    with RtuClient(SerialWire(home.devices["meter"].path)) as client:
        begun = time.monotonic()
        client.read(4, 0, 80)
        took_s = client.stamps[-1] - begun
    # The request of 8 bytes has to be heard first, and 3.5 characters of silence to pass.
    assert took_s >= slowest_s + (8 + 3.5) * 10 / baud
    assert len(client.stamps) > 10, "the answer came in one piece"


def test_a_count_on_a_serial_line_is_in_the_log_when_its_answer_arrives(
    portico_premises: Starter,
) -> None:
    home = portico_premises(serial(115_200))
    with RtuClient(SerialWire(home.devices["counter"].path)) as client:
        for count in range(1, 21):
            assert struct.unpack(">I", client.read(3, 0, 2, unit_id=3)) == (count,)
            assert home.log("count")[-1]["count"] == count


def test_a_frame_cut_anywhere_is_answered_and_one_with_a_wrong_check_never(
    portico_premises: Starter,
) -> None:
    home = portico_premises(serial(115_200))
    with RtuClient(SerialWire(home.devices["counter"].path)) as client:
        right = frame(read(3, 0, 2), 3)
        for at in range(1, len(right)):
            client.wire.put(right[:at])
            client.wire.put(right[at:])
            assert len(client.receive(9)) == 9
        client.wire.put(right[:-1] + bytes((right[-1] ^ 1,)))
        assert client.receive() == b""
        client.wire.put(right[:5])
        assert client.receive() == b""
        client.read(3, 0, 2, unit_id=3)
    home.stop()
    assert home.log("stop")[0]["disorder"]["home/bus"]["broken"] == 2


def test_who_speaks_into_an_answer_destroys_it_and_his_own_request(portico_premises: Starter) -> None:
    home = portico_premises(serial())
    with RtuClient(SerialWire(home.devices["meter"].path)) as client:
        client.send(read(4, 0, 80))
        begun = client.receive(20)
        client.send(read(3, 0, 2), 3)
        rest = client.receive()
        assert len(begun) + len(rest) < 165
        client.read(3, 0, 2, unit_id=3)  # and the line is good again
    home.stop()
    assert home.log("stop")[0]["disorder"]["home/bus"]["collisions"] == 1
    assert home.outcomes("counter") == {"collision": 1, "ok": 1}


def test_a_broadcast_reaches_every_unit_and_nobody_answers(portico_premises: Starter) -> None:
    home = portico_premises(serial(115_200))
    with RtuClient(SerialWire(home.devices["relay"].path)) as client:
        client.send(struct.pack(">BHH", 6, 0, 60), 0)
        assert client.receive() == b""
        client.send(struct.pack(">BHH", 5, 0, 0xFF00), 0)
        assert client.receive() == b""
        assert home.values("relay")["LoadState"] is True


def test_a_port_that_is_pulled_out_comes_back_under_the_same_name(portico_premises: Starter) -> None:
    home = portico_premises(serial(115_200))
    path = home.devices["meter"].path
    with RtuClient(SerialWire(path)) as client:
        client.read(4, 0, 2)
        home.fault("meter", "close", for_s=0.3)
        client.send(read(4, 0, 2))
        home.until(lambda: not os.path.lexists(path), "the port to be gone")
    home.until(lambda: os.path.exists(path) and not home.troubles(), "the port to come back")
    with RtuClient(SerialWire(path)) as client:
        client.read(4, 0, 2)


def test_a_serial_server_hands_answers_through_to_who_asked(portico_premises: Starter) -> None:
    home = portico_premises(serial(115_200))
    far = home.devices["far-meter"]
    assert far.url == f"modbus+rtu+tcp://127.0.0.1:{far.port}"
    with RtuClient(TcpWire(far.port)) as one, RtuClient(TcpWire(far.port)) as other:
        # Both ask at once; the bus behind takes one request after the other.
        one.send(read(3, 0, 2), 3)
        other.send(read(4, 0, 10), 1)
        assert len(one.receive(9)) == 9
        assert len(other.receive(25)) == 25
    home.stop()
    assert home.log("stop")[0]["disorder"]["home/server"]["collisions"] == 0


def test_a_serial_server_is_as_slow_as_its_line(portico_premises: Starter) -> None:
    home = portico_premises(serial())
    with RtuClient(TcpWire(home.devices["far-meter"].port)) as client:
        begun = time.monotonic()
        client.read(4, 0, 80)
        assert time.monotonic() - begun >= (8 + 3.5 + 165) * 10 / 9600


SECURE = """
name = "secure"
seed = 7
[[premises]]
name = "home"
[[premises.line]]
name = "sec"
kind = "tls"
roles = { operator = "write", viewer = "read" }
[[premises.device]]
name = "relay"
type = "generic-load-relay"
line = "sec"
"""


@contextmanager
def secured(home: Premises, stem: str | None) -> Iterator[RawModbus]:
    """Connect with one of the certificates that the plant has made, or with none."""
    relay = home.devices["relay"]
    context = ssl.create_default_context(cafile=relay.tls["ca"])
    if stem is not None:
        directory = Path(relay.tls["cert"]).parent
        context.load_cert_chain(directory / f"{stem}.pem", directory / f"{stem}.key")
    with RawModbus(relay.port) as client:
        plain = client._socket
        client._socket = context.wrap_socket(plain, server_hostname="127.0.0.1")
        yield client


def test_a_role_that_may_write_reads_and_writes(portico_premises: Starter) -> None:
    home = portico_premises(SECURE)
    assert home.url("relay").startswith("modbus+tls://127.0.0.1:")
    assert Path(home.devices["relay"].tls["cert"]).name == "client-operator.pem"
    with secured(home, "client-operator") as client:
        assert client.exception(struct.pack(">BHH", 6, 0, 60)) == 0
        assert client.read(3, 0, 1) == b"\x00\x3c"


def test_a_role_that_may_only_read_is_refused_a_write_as_a_function_that_is_not_there(
    portico_premises: Starter,
) -> None:
    home = portico_premises(SECURE)
    with secured(home, "client-viewer") as client:
        assert client.exception(struct.pack(">BHH", 6, 0, 60)) == 1
        assert client.read(3, 0, 1) == b"\x00\x00"
    with secured(home, "client") as client:
        assert client.exception(read(3, 0, 1)) == 1, "a certificate without a role may do nothing"
    assert home.log("write") == []


def test_without_a_certificate_there_is_no_connection(portico_premises: Starter) -> None:
    home = portico_premises(SECURE)
    with pytest.raises((ssl.SSLError, OSError, EOFError)), secured(home, None) as client:
        client.read(3, 0, 1)


def test_the_role_is_in_the_certificate_as_an_utf8_string(portico_premises: Starter) -> None:
    home = portico_premises(SECURE)
    shown = subprocess.run(
        ["openssl", "x509", "-in", home.devices["relay"].tls["cert"], "-noout", "-text"],
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=True,
    ).stdout
    assert "1.3.6.1.4.1.50316.802.1" in shown
    assert "..operator" in shown  # tag and length are no letters


DIALLING = """
name = "dialling"
seed = 7
[[premises]]
name = "home"
[[premises.line]]
name = "out"
kind = "dial-in"
connect = "127.0.0.1:{port}"
{more}
[[premises.device]]
name = "meter"
type = "eastron-sdm630"
line = "out"
[[premises.device]]
name = "counter"
type = "simulator-counter"
line = "out"
unit_id = 2
"""


@contextmanager
def listening() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(DEADLINE_S)
        yield server


def port_of(server: socket.socket) -> int:
    port: int = server.getsockname()[1]
    return port


def exchange(connection: socket.socket, unit_id: int, pdu: bytes) -> bytes:
    connection.settimeout(DEADLINE_S)
    connection.sendall(struct.pack(">HHHB", 9, 0, len(pdu) + 1, unit_id) + pdu)
    received = connection.recv(1000)
    assert received[:2] == b"\0\x09"
    return received[7:]


def test_devices_dial_in_answer_as_servers_do_and_dial_again(portico_premises: Starter) -> None:
    with listening() as server:
        home = portico_premises(DIALLING.format(port=port_of(server), more='hello = "home 17"'))
        assert home.url("meter") == f"modbus+listen://127.0.0.1:{port_of(server)}"
        for count in (1, 2):
            connection, _ = server.accept()
            with connection:
                assert connection.recv(7, socket.MSG_WAITALL) == b"home 17"
                assert exchange(connection, 2, read(3, 0, 2)) == b"\x03\x04" + struct.pack(">I", count)
                assert len(exchange(connection, 1, read(4, 0, 80))) == 162


def test_devices_dial_until_somebody_listens(portico_premises: Starter) -> None:
    with listening() as reserved:
        port = port_of(reserved)
    home = portico_premises(DIALLING.format(port=port, more=""))
    home.until(lambda: home.process.poll() is None, "the plant to live")
    with socket.create_server(("127.0.0.1", port)) as server:
        server.settimeout(DEADLINE_S)
        connection, _ = server.accept()
        with connection:
            assert len(exchange(connection, 1, read(4, 0, 2))) == 6


def test_rtu_frames_travel_on_a_connection_that_was_dialled(portico_premises: Starter) -> None:
    with listening() as server:
        portico_premises(DIALLING.format(port=port_of(server), more='framing = "rtu"\nbaud = 115_200'))
        connection, _ = server.accept()
        with connection:
            connection.settimeout(DEADLINE_S)
            connection.sendall(frame(read(3, 0, 2), 2))
            assert connection.recv(100) == frame(b"\x03\x04\0\0\0\x01", 2)


def test_each_device_that_dials_with_tls_shows_a_certificate_in_its_name(portico_premises: Starter) -> None:
    with listening() as server:
        home = portico_premises(DIALLING.format(port=port_of(server), more="tls = true"))
        files = home.devices["meter"].tls
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(files["cert"], files["key"])
        context.load_verify_locations(files["ca"])
        context.verify_mode = ssl.CERT_REQUIRED
        units = {"meter": 1, "counter": 2}
        seen = set()
        for _ in units:
            connection, _ = server.accept()
            connection.settimeout(DEADLINE_S)
            with context.wrap_socket(connection, server_side=True) as secure:
                shown = secure.getpeercert(binary_form=True)
                assert shown is not None
                (name,) = x509.load_der_x509_certificate(shown).subject
                device = str(name.value)
                seen.add(device)
                assert exchange(secure, units[device], read(3, 0, 1))[0] in (0x03, 0x83)
                # It is that device alone which answers there.
                other = units["counter" if device == "meter" else "meter"]
                assert exchange(secure, other, read(3, 0, 1)) == b"\x83\x0b"
        assert seen == {"meter", "counter"}


GATEWAY = """
name = "gateway"
seed = 7
[[premises]]
name = "home"
[[premises.line]]
name = "lan"
one_at_a_time = true
patience = "300ms"
[[premises.device]]
name = "meter"
type = "eastron-sdm630"
line = "lan"
[[premises.device]]
name = "counter"
type = "simulator-counter"
line = "lan"
unit_id = 2
"""


def test_behind_a_gateway_a_slow_device_holds_up_its_neighbour(portico_premises: Starter) -> None:
    home = portico_premises(GATEWAY)
    home.fault("meter", "slow", ms=200)
    with RawModbus(home.devices["meter"].port) as client:
        client.send(struct.pack(">HHHB", 1, 0, 6, 1) + read(4, 0, 2))
        client.send(struct.pack(">HHHB", 2, 0, 6, 2) + read(3, 0, 2))
        assert [client.receive()[0] for _ in range(2)] == [1, 2]


def test_behind_a_gateway_a_silent_device_costs_the_gateways_patience_and_is_told(
    portico_premises: Starter,
) -> None:
    home = portico_premises(GATEWAY)
    home.fault("meter", "silent")
    with RawModbus(home.devices["meter"].port) as client:
        begun = time.monotonic()
        assert client.exception(read(4, 0, 2)) == 11
        assert time.monotonic() - begun >= 0.3
        assert client.read(3, 0, 2, unit_id=2) == b"\0\0\0\x01"
    home.stop()
    assert home.outcomes("meter") == {"exception 11": 1}
