"""Faults by hand while a plant runs, on each kind of line, and what the log tells of them."""

import json
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from core.errors import PorticoError
from simulator.ctlsocket import LONGEST_REQUEST, MOST_CONNECTIONS, Ctl, reached
from simulator.device import NEVER
from simulator.pytest_plugin import Premises, Starter
from tests.support.rawmodbus import RawModbus
from tests.support.rawmodbus import frame as tcp_frame
from tests.support.rtuclient import RtuClient, SerialWire, TcpWire, crc

DEADLINE_S = 20.0
PORTICO = (sys.executable, "-c", "from cli.main import main; main()", "simulate", "ctl")

LINES = """
name = "faults"
seed = 7
[[premises]]
name = "home"
[[premises.line]]
name = "lan"
[[premises.line]]
name = "bus"
kind = "rtu"
baud = 115_200
[[premises.line]]
name = "server"
kind = "rtu-tcp"
baud = 115_200
[[premises.device]]
name = "meter"
type = "eastron-sdm630"
line = "lan"
[[premises.device]]
name = "relay"
type = "generic-load-relay"
line = "lan"
unit_id = 2
controls = ["water-heater"]
behaviour = { delay = "100ms", at_least = "10ms" }
[[premises.device]]
name = "tcp"
type = "simulator-counter"
line = "lan"
unit_id = 3
[[premises.device]]
name = "rtu"
type = "simulator-counter"
line = "bus"
unit_id = 3
[[premises.device]]
name = "bus-meter"
type = "eastron-sdm630"
line = "bus"
[[premises.device]]
name = "rtu-tcp"
type = "simulator-counter"
line = "server"
unit_id = 3
[[premises.device]]
name = "clock"
type = "simulator-clock"
"""
COUNT = struct.pack(">BHH", 3, 0, 2)
RIGHT = 4 + 2


class Client:
    """One client of any of the three kinds of line, that takes what comes."""

    def __init__(self, home: Premises, device: str) -> None:
        at = home.devices[device]
        self.serial = RtuClient(SerialWire(at.path) if at.kind == "rtu" else TcpWire(at.port))
        self.tcp = at.kind == "tcp"
        self.unit_id = at.unit_id
        self.transaction = 0

    def ask(self, pdu: bytes = COUNT) -> bytes:
        """Send a request and return what comes first, until it is quiet."""
        self.send(pdu)
        return self.serial.receive(1) + self.serial.receive(within_s=0.15)

    def silence(self, pdu: bytes = COUNT) -> bool:
        """Send a request and tell whether nothing comes."""
        self.send(pdu)
        return not self.serial.receive(within_s=0.25)

    def send(self, pdu: bytes) -> None:
        if self.tcp:
            self.transaction += 1
            self.serial.wire.put(tcp_frame(pdu, transaction=self.transaction, unit_id=self.unit_id))
        else:
            self.serial.send(pdu, self.unit_id)

    def pdu(self, received: bytes) -> bytes:
        """Return the PDU of an answer to the last request; empty when it is none."""
        if self.tcp:
            head = struct.pack(">HHHB", self.transaction, 0, len(received) - 6, self.unit_id)
            return received[7:] if received[:7] == head else b""
        good = received[:1] == bytes((self.unit_id,)) and received[-2:] == crc(received[:-2])
        return received[1:-2] if good else b""

    def count(self) -> int:
        found = self.pdu(self.ask())
        assert found[:2] == b"\x03\x04", found.hex()
        return int(struct.unpack(">I", found[2:])[0])


@contextmanager
def client(home: Premises, device: str) -> Iterator[Client]:
    found = Client(home, device)
    try:
        yield found
    finally:
        found.serial.wire.close()


KINDS = ("tcp", "rtu", "rtu-tcp")


@pytest.mark.parametrize("device", KINDS)
def test_faults_of_answers_show_on_every_kind_of_line_and_nothing_of_them_counts(
    portico_premises: Starter, device: str
) -> None:
    home = portico_premises(LINES)
    with client(home, device) as one:
        assert one.count() == 1
        home.fault(device, "silent")
        assert one.silence()
        home.clear(device)
        home.fault(device, "exception", code=6)
        assert one.pdu(one.ask()) == b"\x83\x06"
        home.clear(device)
        home.fault(device, "half")
        half = one.ask()
        assert 0 < len(half) < 9
        home.clear(device)
        home.fault(device, "wrong-unit")
        wrong = one.ask()
        assert one.pdu(wrong) == b""
        assert wrong[6 if one.tcp else 0] == one.unit_id ^ 0x55
        home.clear(device)
        home.fault(device, "garbage")
        for _ in range(7):
            found = one.pdu(one.ask())
            assert not (found[:2] == b"\x03\x04" and len(found) == RIGHT)
    home.clear(device)
    with client(home, device) as one:
        assert one.count() == 2
    home.stop()
    assert home.outcomes(device)["ok"] == 2
    assert home.outcomes(device)["garbage"] == 7
    assert [one["count"] for one in home.log("count")] == [1, 2]


@pytest.mark.parametrize("device", KINDS)
def test_a_late_answer_comes_into_the_next_exchange_with_a_count_that_is_never_given(
    portico_premises: Starter, device: str
) -> None:
    home = portico_premises(LINES)
    with client(home, device) as one:
        assert one.count() == 1
        home.fault(device, "late", ms=350)
        assert one.silence()
        home.clear(device)
        late = one.serial.receive(within_s=1.0)
        assert struct.pack(">I", 1 + NEVER) in late
        assert one.count() == 2
    home.stop()
    assert home.outcomes(device) == {"ok": 2, "too-late": 1}


@pytest.mark.parametrize("device", KINDS)
def test_a_stale_device_answers_each_request_with_the_answer_to_the_one_before(
    portico_premises: Starter, device: str
) -> None:
    home = portico_premises(LINES)
    with client(home, device) as one:
        home.fault(device, "stale")
        assert one.silence(struct.pack(">BHH", 3, 0, 1))
        second = one.ask()
        # The answer to the first: one register where two were asked for.
        assert second[7 if one.tcp else 1 :][:2] == b"\x03\x02"
    home.stop()
    assert home.outcomes(device) == {"silent": 1, "stale": 1}


@pytest.mark.parametrize("device", ["rtu", "rtu-tcp"])
def test_a_slow_answer_on_a_bus_is_given_up_when_the_client_asks_anew(
    portico_premises: Starter, device: str
) -> None:
    home = portico_premises(LINES)
    with client(home, device) as one:
        home.fault(device, "slow", ms=600)
        assert one.silence()
        home.clear(device)
        assert one.count() == 1
        assert one.serial.receive(within_s=0.6) == b""
    home.stop()
    assert home.outcomes(device) == {"silent": 1, "ok": 1}


@pytest.mark.parametrize("kind", ["close", "reset"])
@pytest.mark.parametrize("device", ["tcp", "rtu-tcp"])
def test_a_connection_is_closed_or_reset_in_place_of_an_answer(
    portico_premises: Starter, device: str, kind: str
) -> None:
    home = portico_premises(LINES)
    home.fault(device, kind)
    at = home.devices[device]
    with socket.create_connection(("127.0.0.1", at.port), DEADLINE_S) as connection:
        body = bytes((3,)) + COUNT
        connection.sendall(tcp_frame(COUNT, unit_id=3) if at.kind == "tcp" else body + crc(body))
        if kind == "reset":
            with pytest.raises(ConnectionResetError):
                connection.recv(100)
        else:
            assert connection.recv(100) == b""
    home.stop()
    assert home.outcomes(device) == {kind: 1}


def read_meter(home: Premises, device: str, function: int, address: int, count: int) -> bytes:
    at = home.devices[device]
    with RawModbus(at.port) as one:
        return one.read(function, address, count, unit_id=at.unit_id)


def imported_kwh(home: Premises) -> float:
    (found,) = struct.unpack(">f", read_meter(home, "meter", 4, 72, 2))
    return float(found)


def test_a_counter_jumps_rolls_over_and_is_reset_and_the_log_names_its_points(
    portico_premises: Starter,
) -> None:
    home = portico_premises(LINES)
    before = imported_kwh(home)
    home.fault("meter", "jump", points=["TotWhImp"], by=1000)
    assert imported_kwh(home) == pytest.approx(before + 1000, abs=1)
    home.clear("meter")
    home.fault("meter", "counter-reset", points=["TotWhImp"])
    assert imported_kwh(home) < 1
    home.clear("meter")
    home.fault("meter", "rollover", points=["TotWhImp"], by=0.001)
    end = 10.0 ** len(str(int(before)))
    home.until(lambda: imported_kwh(home) < 1, f"the counter to roll over at {end:g} kWh")
    home.clear()
    assert imported_kwh(home) == pytest.approx(before, abs=1)
    told = [(one["fault"], one["points"], one.get("by")) for one in home.log("fault") if one["began"]]
    assert told[0] == ("jump", ["TotWhImp"], 1000.0)
    assert [one[0] for one in told] == ["jump", "counter-reset", "rollover"]


def test_a_frozen_value_stays_while_the_others_move(portico_premises: Starter) -> None:
    home = portico_premises(LINES, "--speed", "60")
    home.fault("meter", "frozen", points=["PhVphA"])
    before = read_meter(home, "meter", 4, 0, 6)
    home.until(lambda: read_meter(home, "meter", 4, 0, 6)[4:] != before[4:], "other voltages")
    assert read_meter(home, "meter", 4, 0, 6)[:4] == before[:4]
    home.clear()
    home.until(lambda: read_meter(home, "meter", 4, 0, 6)[:4] != before[:4], "the voltage to move again")


def clock_s(home: Premises) -> int:
    (found,) = struct.unpack(">I", read_meter(home, "clock", 3, 0, 2))
    return int(found)


def test_a_devices_clock_is_off_and_drifts(portico_premises: Starter) -> None:
    home = portico_premises(LINES)
    right = clock_s(home)
    home.fault("clock", "clock-drift", by=-3600)
    assert -3601 <= clock_s(home) - right <= -3590
    home.clear()
    home.fault("clock", "clock-drift", ppm=1_000_000)
    begun = clock_s(home)
    with RawModbus(home.devices["clock"].port) as one:
        seen = {struct.unpack(">I", one.read(3, 0, 2))[0]}
        home.until(
            lambda: seen.add(struct.unpack(">I", one.read(3, 0, 2))[0]) or max(seen) - begun >= 4,
            "the clock to run",
        )
    assert home.log("fault")[-1]["ppm"] == 1_000_000


def test_a_value_set_by_hand_shows_until_it_is_cleared_and_is_told(portico_premises: Starter) -> None:
    home = portico_premises(LINES)
    home.set("meter", "PhVphA", 253.5)
    assert struct.unpack(">f", read_meter(home, "meter", 4, 0, 2)) == (253.5,)
    assert home.values("meter")["PhVphA"] == 253.5
    home.set("meter", "PhVphA", 0)
    assert [one["kind"] for one in home.troubles("meter")] == ["set"]
    assert home.clear("meter", "set") == 1
    assert struct.unpack(">f", read_meter(home, "meter", 4, 0, 2))[0] > 200
    assert [(one["point"], one.get("value"), one["began"]) for one in home.log("set")] == [
        ("PhVphA", "253.5", True),
        ("PhVphA", None, False),
        ("PhVphA", "0", True),
        ("PhVphA", None, False),
    ]


def test_a_fault_ends_by_itself_and_both_ends_are_told_with_one_id(portico_premises: Starter) -> None:
    home = portico_premises(LINES)
    number = home.fault("meter", "silent", for_s=0.3)
    assert home.troubles("meter")[0]["kind"] == "silent"
    home.until(lambda: not home.troubles(), "the fault to end")
    assert [(one["began"], one["id"], one["cause"]) for one in home.log("fault")] == [
        (True, number, "hand"),
        (False, number, "hand"),
    ]


def test_an_order_lags_behind_and_is_lost_with_the_power(portico_premises: Starter) -> None:
    home = portico_premises(LINES)
    with RawModbus(home.devices["relay"].port) as one:
        one.ask(struct.pack(">BHH", 6, 0, 600), unit_id=2)
        one.ask(struct.pack(">BHH", 5, 0, 0xFF00), unit_id=2)
        home.until(lambda: one.read(2, 0, 1, unit_id=2) == b"\x01", "the order to take effect")
        home.fault("relay", "reboot", for_s=0.3)
        home.until(lambda: not home.troubles("relay"), "the relay to come back")
        assert one.read(1, 0, 1, unit_id=2) == b"\x00"
    assert [(one["value"], one["cause"]) for one in home.log("effect")] == [(1, "order"), (0, "power-cut")]
    assert [(one["point"], one["cause"]) for one in home.log("write")] == [
        ("LoadShed/hold", "write"),
        ("LoadShed", "write"),
        ("LoadShed", "power-cut"),
    ]


def test_who_reboots_alone_on_a_line_drops_its_connections(portico_premises: Starter) -> None:
    home = portico_premises(LINES)
    with RawModbus(home.devices["clock"].port) as one, RawModbus(home.devices["relay"].port) as shared:
        one.read(3, 0, 2)
        home.fault("clock", "reboot", for_s=0.2)
        home.fault("relay", "reboot", for_s=0.2)
        with pytest.raises((EOFError, ConnectionResetError)):
            one.read(3, 0, 2)
        shared.read(3, 0, 2, unit_id=3)


def test_a_stuck_contactor_takes_orders_and_a_refusing_one_none(portico_premises: Starter) -> None:
    home = portico_premises(LINES)
    with RawModbus(home.devices["relay"].port) as one:
        home.fault("relay", "refused-writes", code=4)
        assert one.exception(struct.pack(">BHH", 6, 0, 600), unit_id=2) == 4
        home.clear()
        home.fault("relay", "ignored-writes")
        one.ask(struct.pack(">BHH", 6, 0, 600), unit_id=2)
        one.ask(struct.pack(">BHH", 5, 0, 0xFF00), unit_id=2)
        assert one.read(1, 0, 1, unit_id=2) == b"\x01"
        assert home.log("effect") == []
        home.clear()
        home.until(lambda: one.read(2, 0, 1, unit_id=2) == b"\x01", "the contactor to come free")


@pytest.mark.parametrize(
    ("request_", "sentence"),
    [
        (
            {"do": "fault", "device": "metre", "kind": "silent"},
            "no device is called metre: did you mean meter",
        ),
        ({"do": "fault", "device": "meter", "kind": "sulking"}, "'sulking' is no kind of fault; there are"),
        (
            {"do": "fault", "device": "meter", "kind": "slow", "ms": 0},
            "that is no request: Expected `int` >= 1",
        ),
        ({"do": "fault", "device": "meter", "kind": "clock-drift"}, "has no clock"),
        ({"do": "set", "device": "tcp", "point": "PollCount", "value": "1"}, "never set"),
        ({"do": "set", "device": "relay", "point": "LoadShed", "value": "2"}, "LoadShed is 0 or 1"),
        ({"do": "dance"}, "that is no request: Invalid value 'dance'"),
        ({"do": "clear", "device": "x"}, "no device is called x"),
        ({"do": "list", "more": 1}, "that is no request: Object contains unknown field"),
    ],
)
def test_what_cannot_be_is_one_sentence_and_changes_nothing(
    portico_premises: Starter, request_: dict[str, object], sentence: str
) -> None:
    home = portico_premises(LINES)
    with Ctl(home.log_path.parent) as ctl, pytest.raises(PorticoError) as raised:
        ctl.ask(**request_)
    assert sentence in str(raised.value)
    assert not str(raised.value).endswith(("?.", ".."))
    assert home.troubles() == []
    assert home.log("fault") == []


def test_the_socket_is_its_owners_alone_and_goes_with_the_plant(portico_premises: Starter) -> None:
    home = portico_premises(LINES)
    sock = home.log_path.parent / "ctl.sock"
    assert sock.stat().st_mode & 0o777 == 0o600
    home.stop()
    assert not sock.exists()


def test_who_says_too_much_or_nothing_whole_is_hung_up_and_others_are_served(
    portico_premises: Starter,
) -> None:
    home = portico_premises(LINES)
    with reached(home.log_path.parent) as place, socket.socket(socket.AF_UNIX) as loud:
        loud.settimeout(DEADLINE_S)
        loud.connect(f"{place}/ctl.sock")
        with pytest.raises(OSError):  # noqa: PT012 - the kernel takes some of it first
            for _ in range(1000):
                loud.sendall(b"x" * LONGEST_REQUEST)
            assert loud.recv(1) == b""
            raise ConnectionError("hung up")
    crowd = [Ctl(home.log_path.parent) for _ in range(MOST_CONNECTIONS)]
    try:
        for one in crowd:
            one.ask(do="list")
        with pytest.raises(PorticoError), Ctl(home.log_path.parent) as late:
            late.ask(do="list")
    finally:
        for one in crowd:
            one.close()
    home.until(lambda: answers(home), "room for another client")


def answers(home: Premises) -> bool:
    try:
        return home.troubles() == []
    except PorticoError:
        return False


def test_a_second_plant_with_the_same_log_is_refused(portico_premises: Starter) -> None:
    home = portico_premises(LINES)
    with pytest.raises(PorticoError, match="a plant runs already with the log in"):
        portico_premises(LINES, log=home.log_path.parent)


def test_a_socket_left_behind_by_a_kill_is_no_hindrance(portico_premises: Starter) -> None:
    home = portico_premises(LINES)
    home.kill()
    again = portico_premises(LINES, log=home.log_path.parent)
    assert again.troubles() == []


def run(home: Premises, *arguments: str) -> tuple[int, str, str]:
    done = subprocess.run(
        [*PORTICO, *arguments, "--log", str(home.log_path.parent)],
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def test_a_person_lists_faults_sets_and_clears_by_command(portico_premises: Starter) -> None:
    home = portico_premises(LINES)
    assert run(home, "fault", "meter", "slow", "--ms", "300", "--for", "1min")[1] == "meter: slow for 60 s\n"
    code, out, _ = run(home, "set", "meter", "PhVphA", "240.5", "--json")
    assert (code, json.loads(out)["stays"]) == (0, True)
    code, out, _ = run(home, "list", "meter")
    assert "240.5" in out
    assert "slow for" in out
    code, out, _ = run(home, "list", "--json")
    listed = {one["device"]: one["troubles"] for one in json.loads(out)["devices"]}
    assert [one["kind"] for one in listed["meter"]] == ["slow", "set"]
    assert run(home, "clear", "meter")[1] == "cleared: 2\n"
    code, _, err = run(home, "fault", "metre", "silent")
    assert (code, err.startswith("error: no device is called metre")) == (1, True)
    code, _, err = run(home, "fault", "meter", "silent", "--for", "10")
    assert (code, "'10' is no duration" in err) == (2, True)


def test_without_a_plant_the_command_says_so(tmp_path: Path) -> None:
    done = subprocess.run(
        [*PORTICO, "list", "--log", str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: no plant runs with its log in {tmp_path}")
