"""Whole streets on few processes: every device answers, the log is one, and nothing outlives its parent."""

import os
import signal
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from simulator.pytest_plugin import Premises, Starter
from tests.support.rawmodbus import RawModbus

DEADLINE_S = 30.0
COUNT = struct.pack(">BHH", 3, 0, 2)


def children(pid: int) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parts = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(parts[1]) == pid and parts[0] != "Z":
            found.append(int(path.parent.name))
    return found


def lives(pid: int) -> bool:
    """Tell whether a process runs; one that ended and was not waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def count_all(home: Premises) -> int:
    asked = 0
    for at in home.devices.values():
        if at.counter:
            with RawModbus(at.port) as client:
                client.read(3, 0, 2, unit_id=at.unit_id)
                asked += 1
    return asked


def test_every_device_of_a_fleet_answers_and_one_log_tells_of_all(portico_premises: Starter) -> None:
    home = portico_premises("fleet", "--fleet", "60", "--workers", "2")
    assert len(home.devices) == 60
    assert home.told["workers"] == 2
    assert len(children(home.pid)) == 2
    assert len({at.port for at in home.devices.values()}) == 15
    for at in home.devices.values():
        with RawModbus(at.port) as client:
            client.exception(COUNT, unit_id=at.unit_id)
    stats = home.stop()
    (start,), (stop,) = home.log("start"), home.log("stop")
    assert len(start["devices"]) == 60
    assert stop["totals"] == stats
    logged = [one for one in home.log("requests") if one["device"]]
    assert sum(one["n"] for one in logged) == 60 == sum(n for kind, n in stats.items() if kind != "points")
    assert {one["device"] for one in logged} == set(home.devices)


def test_the_same_seed_gives_the_same_houses_whatever_the_number_of_processes(
    portico_premises: Starter,
) -> None:
    shown = []
    scenario = (Path(__file__).parents[2] / "simulator" / "scenarios" / "fleet.toml").read_text()
    text = scenario.replace("seed = 23", "seed = 23\nstart = 2026-11-22T18:00:00+01:00")
    for workers in ("1", "3"):
        home = portico_premises(text, "--fleet", "12", "--workers", workers, "--speed", "0.001")
        shown.append({name: home.values(name) for name in home.devices if name.startswith("main")})
    assert shown[0] == shown[1]
    assert len({values["TotWhImp"] for values in shown[0].values()}) == 3


def test_faults_by_hand_reach_the_process_that_has_the_device(portico_premises: Starter) -> None:
    home = portico_premises("fleet", "--fleet", "8", "--workers", "2")
    for name in ("counter-01", "counter-02"):
        home.fault(name, "exception", code=6)
        with RawModbus(home.devices[name].port) as client:
            assert client.exception(COUNT, unit_id=4) == 6
    assert [one["device"] for one in home.troubles()] == ["counter-01", "counter-02"]
    assert home.clear() == 2
    assert [(one["device"], one["began"]) for one in home.log("fault")] == [
        ("counter-01", True),
        ("counter-02", True),
        ("counter-01", False),
        ("counter-02", False),
    ]


def test_counters_of_a_fleet_go_on_over_lives(portico_premises: Starter) -> None:
    home = portico_premises("fleet", "--fleet", "16", "--workers", "2")
    assert count_all(home) == 4
    home.stop()
    again = portico_premises("fleet", "--fleet", "16", "--workers", "2", log=home.log_path.parent)
    count_all(again)
    assert sorted(one["count"] for one in again.log("count")) == [1, 1, 1, 1, 2, 2, 2, 2]


def test_when_a_process_of_a_fleet_dies_the_plant_ends_with_a_sentence(portico_premises: Starter) -> None:
    home = portico_premises("fleet", "--fleet", "8", "--workers", "2")
    workers = children(home.pid)
    os.kill(workers[0], signal.SIGKILL)
    assert home.process.wait(DEADLINE_S) == 1
    home.until(lambda: not any(map(lives, workers)), "both processes to be gone")


def test_no_process_of_a_fleet_outlives_its_parent(portico_premises: Starter) -> None:
    home = portico_premises("fleet", "--fleet", "8", "--workers", "2")
    workers = children(home.pid)
    home.kill()
    home.until(lambda: not any(map(lives, workers)), "both processes to be gone")


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_type_that_is_not_known_is_one_sentence_and_exit_code_2(tmp_path: Path, workers: str) -> None:
    scenario = tmp_path / "s.toml"
    scenario.write_text(
        'name = "s"\n[[premises]]\nname = "h"\ncopies = 2\ndevice = [{ name = "d", type = "none" }]\n'
    )
    done = subprocess.run(
        [
            *(sys.executable, "-c", "from cli.main import main; main()", "simulate"),
            *("-s", str(scenario), "--log", str(tmp_path / "log"), "--workers", workers),
        ],
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: scenario s needs device types that cannot be used.")


def test_a_port_taken_from_a_worker_is_one_sentence_and_exit_code_2(
    portico_premises: Starter, tmp_path: Path
) -> None:
    home = portico_premises("fleet", "--fleet", "4")
    (port,) = {at.port for at in home.devices.values()}
    scenario = tmp_path / "s.toml"
    scenario.write_text(
        'name = "s"\n[[premises]]\nname = "h"\n'
        f'device = [{{ name = "d", type = "simulator-counter", port = {port} }}]\n'
        '[[premises]]\nname = "i"\ndevice = [{ name = "e", type = "simulator-counter" }]\n'
    )
    done = subprocess.run(
        [
            *(sys.executable, "-c", "from cli.main import main; main()", "simulate"),
            *("-s", str(scenario), "--log", str(tmp_path / "log"), "--workers", "2"),
        ],
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: port {port} of 127.0.0.1 cannot be opened (")
