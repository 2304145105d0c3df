"""`portico simulate` on real sockets: foreign clients read it, faults show, the log tells what happened."""

import json
import os
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.rawmodbus import RawModbus, frame

DEADLINE_S = 20.0
SIMULATE = (sys.executable, "-c", "from cli.main import main; main()", "simulate")

SCENARIO = """
name = "field"
seed = 7
start = 2026-11-22T18:00:00+01:00
[[premises]]
name = "home"
[[premises.line]]
name = "lan"
[[premises.device]]
name = "meter"
type = "eastron-sdm630"
line = "lan"
unit_id = 1
[[premises.device]]
name = "relay"
type = "generic-load-relay"
line = "lan"
unit_id = 3
controls = ["water-heater"]
[[premises.device]]
name = "counter"
type = "simulator-counter"
line = "lan"
unit_id = 4
[[premises.device]]
name = "alone"
type = "schneider-iem3155"
measures = ["ev", "water-heater"]
"""


class Plant:
    """A simulator process that is ready."""

    def __init__(self, process: subprocess.Popen[str], told: dict[str, object]) -> None:
        self.process = process
        self.told = told
        devices = told["devices"]
        assert isinstance(devices, list)
        self.ports: dict[str, int] = {one["device"]: one["port"] for one in devices}
        self.log_path = Path(str(told["log"]))

    def log(self, kind: str) -> list[dict[str, object]]:
        lines = self.log_path.read_text().splitlines()
        return [entry for line in lines if line and (entry := json.loads(line))["kind"] == kind]

    def outcomes(self, device: str) -> dict[object, int]:
        """Return how many requests of a device had which outcome, of those logged so far."""
        found: dict[object, int] = {}
        for entry in self.log("requests"):
            if entry["device"] == device:
                found[entry["outcome"]] = found.get(entry["outcome"], 0) + int(str(entry["n"]))
        return found

    def stop(self) -> str:
        """End it in order and return what it printed last."""
        self.process.terminate()
        out, _ = self.process.communicate(timeout=DEADLINE_S)
        assert self.process.returncode == 0
        return out.splitlines()[-1] if out else ""


@contextmanager
def plant(directory: Path, text: str = SCENARIO, *options: str) -> Iterator[Plant]:
    scenario = directory / "field.toml"
    scenario.write_text(text)
    process = subprocess.Popen(
        [*SIMULATE, "-s", str(scenario), "--log", str(directory / "log"), "--json", "--stats", *options],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        yield Plant(process, json.loads(process.stdout.readline()))
    finally:
        process.kill()
        process.wait(DEADLINE_S)
        if process.stdout is not None:
            process.stdout.close()


def until(holds: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not holds():
        assert time.monotonic() < deadline, f"not within {DEADLINE_S} s: {what}"
        time.sleep(0.02)


def faulty(device: str, kind: str, more: str = "") -> str:
    return f'{SCENARIO}\n[[fault]]\ndevice = "{device}"\nkind = "{kind}"\n{more}\n'


def mbpoll(port: int, unit_id: int, *options: str) -> str:
    program = shutil.which("mbpoll")
    if program is None:
        pytest.skip("mbpoll is missing; run apt-get install mbpoll")
    run = subprocess.run(
        [program, "-m", "tcp", "-p", str(port), "-a", str(unit_id), "-0", "-1", "-q", *options],
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    return run.stdout + run.stderr


def test_mbpoll_reads_the_voltage_of_a_phase_as_a_float(tmp_path: Path) -> None:
    with plant(tmp_path) as running:
        said = mbpoll(running.ports["meter"], 1, "-t", "3:float", "-B", "-r", "0", "-c", "3", "127.0.0.1")
    volts = [float(line.split()[1]) for line in said.splitlines() if line.startswith("[")]
    assert len(volts) == 3
    assert all(200 < value < 250 for value in volts)


def test_mbpoll_writes_the_relay_and_sees_it_shed(tmp_path: Path) -> None:
    with plant(tmp_path) as running:
        port = running.ports["relay"]
        assert "Written 1 references." in mbpoll(port, 3, "-t", "4", "-r", "0", "127.0.0.1", "60")
        assert "Written 1 references." in mbpoll(port, 3, "-t", "0", "-r", "0", "127.0.0.1", "1")
        assert "[0]: \t1" in mbpoll(port, 3, "-t", "1", "-r", "0", "127.0.0.1")
        written = [(one["point"], one["value"]) for one in running.log("write")]
    assert written == [("LoadShed/hold", 60), ("LoadShed", 1)]


def test_mbpoll_is_told_that_an_address_is_illegal_and_a_unit_is_not_there(tmp_path: Path) -> None:
    with plant(tmp_path) as running:
        assert "Illegal data address" in mbpoll(
            running.ports["meter"], 1, "-t", "3", "-r", "9000", "127.0.0.1"
        )
        assert "Target device failed to respond" in mbpoll(running.ports["meter"], 77, "-r", "0", "127.0.0.1")


def test_every_count_is_in_the_log_when_its_answer_arrives(tmp_path: Path) -> None:
    with plant(tmp_path) as running, RawModbus(running.ports["counter"]) as client:
        for count in range(1, 51):
            assert struct.unpack(">I", client.read(3, 0, 2, unit_id=4)) == (count,)
            assert running.log("count")[-1]["count"] == count


def test_counters_go_on_after_kill_9_and_the_log_of_both_lives_is_one(tmp_path: Path) -> None:
    with plant(tmp_path) as running:
        with RawModbus(running.ports["counter"]) as client:
            client.read(3, 0, 2, unit_id=4)
            client.read(3, 0, 2, unit_id=4)
        running.process.kill()
        running.process.wait(DEADLINE_S)
    with plant(tmp_path) as running, RawModbus(running.ports["counter"]) as client:
        assert struct.unpack(">I", client.read(3, 0, 2, unit_id=4)) == (3,)
        assert [one["count"] for one in running.log("count")] == [1, 2, 3]
        assert len(running.log("start")) == 2


def test_the_log_counts_requests_and_the_points_inside_them(tmp_path: Path) -> None:
    with plant(tmp_path) as running:
        with RawModbus(running.ports["meter"]) as client:
            for _ in range(5):
                client.read(4, 0, 80, unit_id=1)
            assert client.exception(struct.pack(">BHH", 4, 0, 81), unit_id=1) == 3
            client.read(4, 342, 40, unit_id=1)
        last = json.loads(running.stop())
        (start,) = running.log("start")
        types = start["types"]
        assert isinstance(types, dict)
        inside = [
            one
            for one in types["eastron-sdm630"]
            if one["default"] and one["address"] + one["registers"] <= 80
        ]
        entries = {(one["address"], one["count"]): one for one in running.log("requests")}
        assert entries[0, 80]["points"] == len(inside)
        assert (entries[0, 80]["n"], entries[0, 80]["outcome"], entries[0, 80]["port"]) == (
            5,
            "ok",
            running.ports["meter"],
        )
        assert entries[0, 81]["outcome"] == "exception 3"
        polled = sum(int(str(one["points"])) * int(str(one["n"])) for one in running.log("requests"))
        assert last == {"stats": {"ok": 6, "exception 3": 1, "points": polled}}
        assert running.log("stop")[0]["totals"] == last["stats"]


def test_requests_reach_the_log_within_seconds_while_the_plant_runs(tmp_path: Path) -> None:
    with plant(tmp_path) as running, RawModbus(running.ports["alone"]) as client:
        client.read(3, 2999, 6)
        until(lambda: running.outcomes("alone") == {"ok": 1}, "the request in the log")


def test_values_move_on_by_themselves(tmp_path: Path) -> None:
    with plant(tmp_path) as running, RawModbus(running.ports["meter"]) as client:
        first = client.read(4, 0, 80)
        until(lambda: client.read(4, 0, 80) != first, "another value")


def test_a_silent_device_says_nothing_and_its_neighbour_on_the_line_answers(tmp_path: Path) -> None:
    with plant(tmp_path, faulty("meter", "silent")) as running:
        with RawModbus(running.ports["meter"]) as client:
            client.send(frame(struct.pack(">BHH", 4, 0, 2), transaction=1, unit_id=1))
            client.send(frame(struct.pack(">BHH", 3, 0, 2), transaction=2, unit_id=4))
            assert client.receive() == (2, bytes.fromhex("03 04 0000 0001"))
        running.stop()
        assert running.outcomes("meter") == {"silent": 1}
        assert running.outcomes("counter") == {"ok": 1}


def test_a_slow_device_answers_late_and_does_not_hold_up_its_neighbour(tmp_path: Path) -> None:
    with plant(tmp_path, faulty("counter", "slow", "ms = 300")) as running:
        with RawModbus(running.ports["meter"]) as client:
            client.send(frame(struct.pack(">BHH", 3, 0, 2), transaction=1, unit_id=4))
            client.send(frame(struct.pack(">BHH", 4, 0, 2), transaction=2, unit_id=1))
            assert [client.receive()[0] for _ in range(2)] == [2, 1]
        running.stop()
        assert running.outcomes("counter") == {"late": 1}


def test_a_late_answer_that_nobody_waits_for_does_not_count(tmp_path: Path) -> None:
    with plant(tmp_path, faulty("counter", "slow", "ms = 300")) as running:
        with RawModbus(running.ports["counter"]) as client:
            client.send(frame(struct.pack(">BHH", 3, 0, 2), unit_id=4))
        until(lambda: running.outcomes("counter") == {"silent": 1}, "the request in the log")
        assert running.log("count") == []


def test_an_excepting_device_refuses_with_the_code_of_the_script(tmp_path: Path) -> None:
    with plant(tmp_path, faulty("meter", "exception", "code = 6")) as running:
        with RawModbus(running.ports["meter"]) as client:
            assert client.exception(struct.pack(">BHH", 4, 0, 2)) == 6
        running.stop()
        assert running.outcomes("meter") == {"exception 6": 1}


def test_a_closing_device_hangs_up(tmp_path: Path) -> None:
    with plant(tmp_path, faulty("meter", "close")) as running:
        with RawModbus(running.ports["meter"]) as client, pytest.raises((EOFError, ConnectionResetError)):
            client.ask(struct.pack(">BHH", 4, 0, 2))
        running.stop()
        assert running.outcomes("meter") == {"close": 1}


def test_garbage_is_never_a_right_answer_and_never_counts(tmp_path: Path) -> None:
    request = struct.pack(">BHH", 3, 0, 2)
    with plant(tmp_path, faulty("counter", "garbage")) as running:
        seen = set()
        for _ in range(7):
            with socket.create_connection(("127.0.0.1", running.ports["counter"]), DEADLINE_S) as client:
                client.sendall(frame(request, transaction=0x1234, unit_id=4))
                answer = client.recv(1000)
                seen.add(answer)
                # As right as it can be: our transaction, protocol 0, our length, unit id and function.
                assert not (answer[:9] == bytes.fromhex("1234 0000 0007 04 03 04") and len(answer) == 13)
        running.stop()
        assert len(seen) == 7
        assert running.outcomes("counter") == {"garbage": 7}
        assert running.log("count") == []


def test_a_fault_comes_and_goes_by_the_script(tmp_path: Path) -> None:
    script = faulty("meter", "exception", 'at = "300ms"\nfor = "600ms"')
    with plant(tmp_path, script) as running, RawModbus(running.ports["meter"]) as client:
        request = struct.pack(">BHH", 4, 0, 2)
        assert client.exception(request) == 0
        until(lambda: client.exception(request) == 4, "the fault")
        until(lambda: client.exception(request) == 0, "its end")
        assert [(one["device"], one["fault"], one["began"]) for one in running.log("fault")] == [
            ("meter", "exception", True),
            ("meter", "exception", False),
        ]


@pytest.mark.parametrize(
    "frame_",
    ["0001 0001 0006 01 04 0000 0002", "0001 0000 0001 01", "0001 0000 00ff 01 04", "0001 0000 0000"],
    ids=["protocol", "length 1", "length 255", "length 0"],
)
def test_what_is_no_frame_closes_the_connection_and_no_other(tmp_path: Path, frame_: str) -> None:
    with plant(tmp_path) as running, RawModbus(running.ports["meter"]) as other:
        with RawModbus(running.ports["meter"]) as client:
            client.send(bytes.fromhex(frame_) + b"\0" * 8)
            with pytest.raises((EOFError, ConnectionResetError)):
                client.receive()
        assert len(other.read(4, 0, 2)) == 4


def test_frames_cut_anywhere_and_frames_glued_together_are_all_answered(tmp_path: Path) -> None:
    requests = b"".join(
        frame(struct.pack(">BHH", 4, 0, count), transaction=count) for count in range(2, 62, 2)
    )
    with plant(tmp_path) as running, RawModbus(running.ports["meter"]) as client:
        for size in (1, 5, 11, 12, 13, len(requests)):
            for at in range(0, len(requests), size):
                client.send(requests[at : at + size])
            for count in range(2, 62, 2):
                transaction, answer = client.receive()
                assert (transaction, len(answer)) == (count, 2 + 2 * count)


def test_a_client_that_does_not_read_does_not_fill_the_memory_and_loses_nothing(tmp_path: Path) -> None:
    request = frame(struct.pack(">BHH", 4, 0, 80))
    with plant(tmp_path) as running:
        resident = Path(f"/proc/{running.process.pid}/statm")
        before = int(resident.read_text().split()[1])
        with socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.connect(("127.0.0.1", running.ports["meter"]))
            client.setblocking(False)
            sent = 0
            # Until the kernel takes nothing for a while, because the server reads nothing.
            while select.select([], [client], [], 0.3)[1]:
                sent += client.send((request * 1000)[sent % len(request) :])
                assert sent < 100 << 20, "the server never stopped reading"
            grown = (int(resident.read_text().split()[1]) - before) * os.sysconf("SC_PAGE_SIZE")
            assert grown < 32 << 20
            client.settimeout(DEADLINE_S)
            wanted = sent // len(request) * (9 + 160)
            got = 0
            while got < wanted:
                chunk = client.recv(1 << 20)
                assert chunk
                got += len(chunk)
            assert got == wanted


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_in_order_with_clients_still_connected(tmp_path: Path, number: signal.Signals) -> None:
    with plant(tmp_path) as running, RawModbus(running.ports["meter"]) as client:
        client.read(4, 0, 2)
        running.process.send_signal(number)
        assert running.process.wait(DEADLINE_S) == 0
        assert len(running.log("stop")) == 1


def test_a_taken_port_is_one_sentence_and_exit_code_2(tmp_path: Path) -> None:
    with plant(tmp_path) as running:
        text = SCENARIO.replace('name = "lan"', f'name = "lan"\nport = {running.ports["meter"]}', 1)
        second = tmp_path / "second"
        second.mkdir()
        (second / "s.toml").write_text(text)
        run = subprocess.run(
            [*SIMULATE, "-s", str(second / "s.toml"), "--log", str(second)],
            capture_output=True,
            text=True,
            timeout=DEADLINE_S,
            check=False,
        )
    assert run.returncode == 2
    assert run.stderr.startswith(f"error: port {running.ports['meter']} of 127.0.0.1 cannot be opened (")
    assert "--port-base" in run.stderr
    assert "Traceback" not in run.stderr
