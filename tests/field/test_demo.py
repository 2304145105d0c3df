"""The demo as a user runs it: real processes, real mosquitto, judged at the end."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from cli.process import Process, ProcessFailed, portico
from cli.stand import Stand

KEYS = {
    "polled",
    "committed",
    "delivered",
    "confirmed",
    "lost",
    "duplicates",
    "redelivered",
    "gaps",
    "control",
    "ok",
}


@pytest.mark.timeout(90)
def test_demo_balances_through_an_outage_and_a_kill(tmp_path: Path) -> None:
    done = subprocess.run(
        portico("demo", "--seconds", "20", "--json", "--dir", str(tmp_path / "demo")),
        capture_output=True,
        text=True,
        timeout=80,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    verdict = json.loads(done.stdout.splitlines()[-1])
    assert verdict.keys() >= KEYS
    assert verdict["ok"] is True
    assert (verdict["lost"], verdict["duplicates"]) == (0, 0)
    # The kill took a poll that was answered and not yet durable; it lies in a Gap.
    assert verdict["polled"] > verdict["committed"] > 0
    assert verdict["gaps"] > 0
    assert verdict["committed"] == verdict["delivered"]
    assert "the broker is stopped" in done.stdout
    assert "the agent is killed with -9" in done.stdout
    customer, dso, esco = sorted(verdict["entities"], key=lambda one: str(one["entity"]))
    assert 0 < customer["in_books"] < verdict["committed"]
    assert 0 < dso["in_books"] < verdict["committed"]
    assert esco["in_books"] == 0
    control = verdict["control"]
    assert (control["executed"], control["read_back"], control["restored"]) == (True, True, True)
    refused = control["refused"]
    assert refused["other_entity"] == ["no-grant"]
    assert refused["window"] == ["window"]
    assert "replayed" in refused["replay"]
    assert refused["forged"] == ["bad-signature"]
    assert refused["opt_out"] == ["opted-out"]


def test_demo_without_mosquitto_says_what_to_install(tmp_path: Path) -> None:
    program = (
        "import simulator.broker, cli.demo\n"
        "from core.errors import ConfigError\n"
        "def absent():\n"
        "    raise ConfigError('mosquitto is not installed: run apt-get install mosquitto')\n"
        "cli.demo.find_mosquitto = absent\n"
        "from cli.main import main\n"
        "main(['demo', '--json'])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 2
    assert done.stderr == "error: mosquitto is not installed: run apt-get install mosquitto\n"


def test_demo_does_not_mix_with_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "something").touch()
    done = subprocess.run(
        portico("demo", "--dir", str(tmp_path)), capture_output=True, text=True, timeout=30, check=False
    )
    assert (done.returncode, "is not empty" in done.stderr) == (2, True)


@pytest.mark.timeout(60)
def test_demo_that_is_ended_leaves_no_process(tmp_path: Path) -> None:
    log = tmp_path / "demo.log"
    demo = Process(
        "the demo",
        portico("demo", "--seconds", "60", "--dir", str(tmp_path / "demo")),
        log,
        ready=lambda process: "every part is a process" in process.said(),
    )
    with demo:
        parts = children_of(demo.pid)
        assert len(parts) == 6  # mosquitto, the plant, the agent, three collectors
        demo.stop()
    assert demo.exit_code == 1
    assert "ended by SIGTERM" in log.read_text()
    assert [part for part in parts if is_alive(part)] == []


@pytest.mark.timeout(60)
def test_stand_whose_part_fails_ends_the_others(tmp_path: Path) -> None:
    stand = Stand(tmp_path)
    stand.collector.config_path.write_text("[headend]\n")
    with pytest.raises(ProcessFailed, match=r"collector a of dso\.example ended at once.*headend"):
        stand.start()
    assert not stand.broker.running
    assert not stand.plant.running


def children_of(pid: int) -> list[int]:
    """Return the processes that a process started."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            after_name = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(after_name[1]) == pid:
            found.append(int(stat.parent.name))
    return found


def is_alive(pid: int) -> bool:
    """Tell whether a process exists."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
