"""The conformance report on real programs: ours, thin sound ones, and those that are broken on purpose.

All runs go at once, each as a process of its own with a broker and ports of its own, and each test looks at
one. What a broken program fails is named exactly: a line more or less is a defect of the report.
"""

import json
import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from cli.process import SOURCE, Process, portico, wait_until
from simulator.broker import PORTS_SETTING, free_range
from simulator.peers import collector, gateway

pytestmark = [pytest.mark.field, pytest.mark.timeout(400)]

LONGEST_S = 300
FAULT_S = "6"
GATEWAY = f"{sys.executable} -m simulator.peers.gateway {{site}}"
COLLECTOR = f"{sys.executable} -m simulator.peers.collector {{site}}"
READINGS = ("--readings-command", f"{COLLECTOR} --readings")

AGENTS = {
    "old-value": {"A-32", "A-33", "A-37", "A-38"},
    "late-answer": {"A-32", "A-35", "A-36"},
    "same-epoch": {"A-20", "A-22", "A-23"},
    "believing": {"A-51", "A-52", "A-53", "A-58"},
    "no-offset": {"A-31", "A-32"},
    "acknowledged": {"A-73"},
}
HEADENDS = {
    "early": {"H-60", "H-65"},
    "twice": {"H-60"},
    "unverified": {"H-20", "H-21", "H-22", "H-24", "H-42", "H-63"},
    "holes": {"H-13"},
}
UNTESTED = {"agent same-epoch": {"A-74"}}
"""Its lives have no epochs of their own, so nobody can tell which life a Gap is of."""


@dataclass
class Done:
    """A run that is over."""

    code: int
    report: dict[str, Any]
    said: str

    def ids(self, result: str) -> set[str]:
        """The lines with a result."""
        return {line["id"] for line in self.report["lines"] if line["result"] == result}

    def words(self) -> str:
        """What to read when a test fails."""
        lines = [line for line in self.report["lines"] if line["result"] != "passed"]
        return "\n".join([self.said, *(json.dumps(line) for line in lines)])


def commands() -> dict[str, list[str]]:
    found = {
        "agent own": ["agent", "--seconds", FAULT_S],
        "agent sound": ["agent", "--seconds", FAULT_S, "--command", GATEWAY],
        "headend own": ["headend"],
        "headend sound": ["headend", "--command", COLLECTOR, *READINGS],
        "headend blind": ["headend", "--only", "H-01,H-60,H-63", "--command", COLLECTOR],
    }
    for name in AGENTS:
        found[f"agent {name}"] = ["agent", "--seconds", FAULT_S, "--command", f"{GATEWAY} --defect {name}"]
    for name in HEADENDS:
        found[f"headend {name}"] = ["headend", "--command", f"{COLLECTOR} --defect {name}", *READINGS]
    return found


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Done]]:
    """Run everything at once."""
    place = tmp_path_factory.mktemp("conformance")
    started: dict[str, subprocess.Popen[str]] = {}
    wanted, ports = commands(), free_range()
    share = len(ports) // len(wanted)
    try:
        for number, (name, words) in enumerate(wanted.items()):
            stem = name.replace(" ", "-")
            own = ports[number * share : (number + 1) * share]
            environment = {
                **os.environ,
                "PYTHONPATH": str(SOURCE),
                PORTS_SETTING: f"{own[0]}-{own[-1]}",
            }
            files = ("--junit", str(place / f"{stem}.xml"), "--dir", str(place / stem))
            with (place / f"{stem}.err").open("w") as said_there:
                started[name] = subprocess.Popen(
                    [*portico("conformance", *words, "--json"), *files],
                    stdout=subprocess.PIPE,
                    stderr=said_there,
                    text=True,
                    cwd=SOURCE,
                    env=environment,
                )
        done: dict[str, Done] = {}
        for name, process in started.items():
            out, _ = process.communicate(timeout=LONGEST_S)
            said = (place / f"{name.replace(' ', '-')}.err").read_text()
            assert out, said
            done[name] = Done(process.returncode, json.loads(out), said)
        yield done
    finally:
        for process in started.values():
            if process.poll() is None:
                process.terminate()
            process.communicate(timeout=60)  # closes its pipe also where nobody has read it


@pytest.mark.parametrize("name", ["agent own", "agent sound", "headend own", "headend sound"])
def test_a_sound_program_passes_every_line(runs: dict[str, Done], name: str) -> None:
    done = runs[name]
    assert done.ids("failed") | done.ids("not tested") == set(), done.words()
    assert done.code == 0
    assert done.report["ok"] is True


@pytest.mark.parametrize("name", sorted([f"agent {n}" for n in AGENTS] + [f"headend {n}" for n in HEADENDS]))
def test_a_broken_program_fails_its_named_lines_and_no_others(runs: dict[str, Done], name: str) -> None:
    part, _, defect = name.partition(" ")
    done = runs[name]
    assert done.ids("failed") == {"agent": AGENTS, "headend": HEADENDS}[part][defect], done.words()
    assert done.ids("not tested") == UNTESTED.get(name, set()), done.words()
    assert done.code == 1
    assert all(line["evidence"] for line in done.report["lines"] if line["result"] == "failed")


def test_every_defect_that_is_shipped_is_named_here() -> None:
    assert set(gateway.DEFECTS) == set(AGENTS)
    assert set(collector.DEFECTS) == set(HEADENDS)


def test_books_that_no_command_shows_are_not_tested(runs: dict[str, Done]) -> None:
    done = runs["headend blind"]
    assert done.ids("passed") == {"H-01"}
    assert done.ids("not tested") == {"H-60", "H-63"}
    assert done.code == 0


def test_junit_says_the_same_as_json(runs: dict[str, Done], tmp_path_factory: pytest.TempPathFactory) -> None:
    place = next(tmp_path_factory.getbasetemp().glob("conformance*"))
    for name, done in runs.items():
        suite = ET.parse(place / f"{name.replace(' ', '-')}.xml").getroot().find("testsuite")
        assert suite is not None
        cases = suite.findall("testcase")
        failed = {str(case.get("name")).split()[0] for case in cases if case.find("failure") is not None}
        skipped = {str(case.get("name")).split()[0] for case in cases if case.find("skipped") is not None}
        assert (failed, skipped) == (done.ids("failed"), done.ids("not tested"))


def test_a_program_that_does_not_come_up_is_told_with_its_last_words(tmp_path: Path) -> None:
    command = portico("conformance", "agent", "--json", "--dir", str(tmp_path / "run"))
    broken = f"{sys.executable} -c \"raise SystemExit('no such site')\""
    done = subprocess.run(
        [*command, "--command", broken], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 1
    lines = {line["id"]: line for line in json.loads(done.stdout)["lines"]}
    assert lines["A-01"]["result"] == "failed"
    assert "no such site" in lines["A-14"]["evidence"][0]
    assert lines["A-73"]["result"] == "not tested"


def test_a_program_may_be_started_by_hand_and_what_needs_its_end_is_not_tested(tmp_path: Path) -> None:
    place = tmp_path / "run"
    words = ("--by-hand", "--only", "H-01,H-50", "--json", "--dir", str(place))
    environment = {**os.environ, "PYTHONPATH": str(SOURCE)}
    site = place / "site.json"
    collecting = [sys.executable, "-m", "simulator.peers.collector", str(site)]
    by_hand = Process("the collector", collecting, tmp_path / "collector.log", env=environment)
    command = portico("conformance", "headend", *words)
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as report:
        try:
            wait_until(
                lambda: site.is_file() and site.stat().st_size > 0, 60, lambda: "there is no site.json"
            )
            with by_hand:
                out, _ = report.communicate(timeout=120)
                assert by_hand.running
        finally:
            report.terminate()
    lines = {line["id"]: line for line in json.loads(out)["lines"]}
    assert lines["H-01"]["result"] == "passed"
    assert lines["H-50"]["result"] == "not tested"
    assert "by hand" in lines["H-50"]["reason"]
    assert report.returncode == 0
