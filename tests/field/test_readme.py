"""The README's walk by hand, run as it stands there: its files, its commands, in its order, on free ports."""

import csv
import re
import shlex
import subprocess
import sys
import time
import tomllib
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import pytest

from cli.process import Process
from simulator.broker import find_mosquitto, free_port

README: Final = (Path(__file__).resolve().parents[2] / "README.md").read_text()
DEADLINE_S: Final = 40.0
NOT_RUN: Final = ("make setup", "export PATH=", "kill $(jobs -p)")
"""What the test does by itself: packages, the path, and the end of what goes on running."""


def blocks(language: str) -> list[str]:
    """The README's code blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def walk() -> list[str]:
    """The commands of the walk, without their comments."""
    (block,) = [block for block in blocks("console") if "portico certs dev" in block]
    return [line.partition("  #")[0].strip() for line in block.splitlines()]


def run(line: str, *, again: bool) -> str:
    """Type a command; what needs a reading is typed again until it succeeds."""
    deadline = time.monotonic() + DEADLINE_S
    while True:
        done = subprocess.run(shlex.split(line), capture_output=True, text=True, timeout=30, check=False)
        enough = "readings" not in line or ",PhVphA," in done.stdout
        if done.returncode == 0 and enough:
            return done.stdout
        assert again, f"{line}: exit {done.returncode}: {done.stdout}{done.stderr}"
        assert time.monotonic() < deadline, f"{line}: exit {done.returncode}: {done.stdout}{done.stderr}"
        time.sleep(0.2)  # the pause of a wait with a deadline


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with the README's files and the virtual environment on the path, as the walk exports it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:/usr/bin:/bin:/usr/local/sbin:/usr/sbin")
    monkeypatch.delenv("PORTICO_SETTING", raising=False)
    find_mosquitto()
    return tmp_path


@pytest.mark.timeout(120)
def test_walk_of_the_readme_ends_with_readings_in_the_books(place: Path) -> None:
    broker_port, line_port = str(free_port()), str(free_port())
    for block in blocks("toml"):
        name = "gateway.toml" if "gateway" in tomllib.loads(block) else "headend.toml"
        (place / name).write_text(block.replace(":8883", f":{broker_port}").replace(":5020", f":{line_port}"))
    assert {path.name for path in place.iterdir()} == {"gateway.toml", "headend.toml"}

    said: dict[str, str] = {}
    with ExitStack() as running:
        for line in walk():
            if line.startswith(NOT_RUN):
                continue
            typed = line.replace("--port 8883", f"--port {broker_port}")
            if typed.endswith("&"):
                command = shlex.split(typed.removesuffix("&"))
                if "simulate" in command:
                    command += ["--port-base", line_port]
                running.enter_context(Process(typed, command, place / f"{'-'.join(command[:2])}.log"))
            else:
                # Until the agent runs every command must work at once.
                said[line] = run(typed, again=(place / "portico-headend.log").exists())

    (listed,) = [output for line, output in said.items() if "headend readings" in line]
    values = {row["point"]: float(row["value"]) for row in csv.DictReader(listed.splitlines())}
    assert 200 < values["PhVphA"] < 260
    assert any(output.rstrip().rpartition("\n")[2].startswith("complete up to ") for output in said.values())
    for part in ("certs dev", "certs broker", "agent check", "agent status", "store stats"):
        assert any(part in line for line in said), part


def test_walk_starts_every_part_and_ends_them() -> None:
    lines = walk()
    assert [line.split()[0:3] for line in lines if line.endswith("&")] == [
        ["mosquitto", "-c", "var/broker/mosquitto.conf"],
        ["portico", "simulate", "-s"],
        ["portico", "agent", "run"],
        ["portico", "headend", "run"],
    ]
    assert (lines[0], lines[-1]) == ("make setup", "kill $(jobs -p)")
