"""The power-cut proof holds, and would notice if it did not."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.powercut import SqliteWriter, judge, prove
from tests.powercut_agent import AgentOnDisk
from tests.support.power_cut import Outcome
from tests.support.power_disk import PowerCutDisk, PowerCutUnavailable

ROUNDS = 3


@pytest.fixture
def disk() -> Iterator[PowerCutDisk]:
    try:
        with PowerCutDisk() as disk:
            yield disk
    except PowerCutUnavailable as error:
        pytest.skip(str(error))


def test_only_flushed_bytes_survive_a_cut(disk: PowerCutDisk) -> None:
    program = (
        "import os, signal, sys\n"
        "with open('flushed', 'wb') as file:\n"
        "    file.write(b'kept')\n"
        "    file.flush()\n"
        "    os.fsync(file.fileno())\n"
        "    file.write(b'lost')\n"
        "    file.flush()\n"
        "    open('unflushed', 'wb').write(b'lost')\n"
        "    print('ready', flush=True)\n"
        "    signal.pause()\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, cwd=disk.path) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        cut = disk.cut([process.pid])
        assert process.wait(5) == -9
    disk.remount()
    assert (disk.path / "flushed").read_bytes() == b"kept"
    assert not (disk.path / "unflushed").exists()
    assert cut.stop_ms <= cut.silent_ms <= cut.shutdown_ms


def test_a_process_that_does_not_stop_writing_is_silenced_by_the_cut(disk: PowerCutDisk) -> None:
    program = "import os\nwhile True: os.write(1, b'x' * 100)"
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, cwd=disk.path) as process:
        assert process.stdout is not None
        process.stdout.read(1)
        disk.cut([process.pid])
        process.stdout.read()  # returns: the other end is closed
        assert process.wait(5) == -9


def test_nothing_is_left_behind_when_the_test_itself_fails() -> None:
    paths: list[Path] = []
    try:
        with PowerCutDisk() as disk:
            paths.append(disk.path)
            (disk.path / "file").write_bytes(b"x")
            raise LookupError
    except PowerCutUnavailable as error:
        pytest.skip(str(error))
    except LookupError:
        pass
    assert not paths[0].parent.exists()
    assert str(paths[0]) not in Path("/proc/self/mounts").read_text()
    backing = Path("/sys/block").glob("loop*/loop/backing_file")
    assert not any(str(paths[0].parent) in file.read_text() for file in backing)


@pytest.mark.parametrize("synchronous", ["FULL", "NORMAL"])
def test_full_keeps_what_was_acknowledged_and_normal_does_not(synchronous: str) -> None:
    try:
        verdict = prove(SqliteWriter(synchronous), rounds=ROUNDS, seed=1)
    except PowerCutUnavailable as error:
        pytest.skip(str(error))
    assert verdict.acknowledged > 0
    assert verdict.corrupt == ()
    assert (verdict.lost > 0) == (synchronous == "NORMAL")


@pytest.mark.timeout(180)
@pytest.mark.parametrize("synchronous", ["FULL", "NORMAL"])
def test_an_agent_keeps_what_the_broker_received_and_would_not_without_full(synchronous: str) -> None:
    try:
        verdict = prove(AgentOnDisk(synchronous), rounds=1, seed=1)
    except PowerCutUnavailable as error:
        pytest.skip(str(error))
    assert verdict.acknowledged > 0
    assert verdict.corrupt == ()
    assert (verdict.lost > 0) == (synchronous == "NORMAL")
    assert verdict.ok


@pytest.mark.parametrize(
    ("synchronous", "outcome", "ok"),
    [
        ("FULL", Outcome(10, 12, 0, None), True),
        ("FULL", Outcome(10, 9, 1, None), False),
        ("FULL", Outcome(10, 12, 0, "a.db: malformed"), False),
        ("FULL", Outcome(0, 0, 0, None), False),
        ("NORMAL", Outcome(10, 9, 1, None), True),
        ("NORMAL", Outcome(10, 12, 0, None), False),
    ],
)
def test_the_verdict_needs_teeth_and_something_acknowledged(
    synchronous: str, outcome: Outcome, ok: bool
) -> None:
    assert judge(SqliteWriter(synchronous), [outcome]).ok is ok


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give root away")
def test_without_root_it_says_so_in_one_sentence() -> None:
    command = [
        sys.executable,
        "-c",
        "import os; from tests.powercut import main; os.seteuid(65534); exit(main([]))",
    ]
    run = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert run.returncode == 2
    assert run.stdout == "The power-cut proof did not run: it needs root for loop devices and mount.\n"
