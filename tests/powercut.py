"""The power-cut proof: what was acknowledged before the power went is there when it is back.

    python -m tests.powercut [--rounds N] [--seed S] [--json]        as root

Each scenario runs its rounds on a disk of its own (tests/support/power_disk.py): start, wait until enough
was acknowledged, cut, mount again, compare. First SQLite alone, then the real agent with broker, plant and
books outside of its disk (tests/powercut_agent.py). A scenario that must survive (`synchronous=FULL`) loses
nothing in any round; its twin that must not (`NORMAL`) loses something in at least one, or the proof has no
teeth and fails as well. Exit code 0 when it holds, 1 when not, 2 where it cannot run, with one sentence.

What it does not show: a drive that acknowledges a flush and keeps the data in a volatile cache of its own.
"""

import argparse
import json
import os
import random
import select
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.powercut_agent import AgentOnDisk
from tests.support.power_cut import Outcome, Scenario
from tests.support.power_disk import PowerCutDisk, PowerCutUnavailable

WRITER = Path(__file__).parent / "support" / "acknowledging_writer.py"
DEADLINE_S = 30.0


@dataclass(frozen=True)
class Verdict:
    scenario: str
    must_survive: bool
    rounds: int
    acknowledged: int
    lost: int
    rounds_with_loss: int
    corrupt: tuple[str, ...]
    oldest_ms: float
    """The newest row that survived was at most so much older than its cut."""
    bound_ms: float
    """The largest bound that a store had measured of itself."""

    @property
    def ok(self) -> bool:
        if self.rounds == 0 or self.acknowledged == 0 or self.corrupt:
            return False
        return self.lost == 0 if self.must_survive else self.rounds_with_loss > 0


def judge(scenario: Scenario, outcomes: Sequence[Outcome]) -> Verdict:
    return Verdict(
        scenario=scenario.name,
        must_survive=scenario.must_survive,
        rounds=len(outcomes),
        acknowledged=sum(outcome.acknowledged for outcome in outcomes),
        lost=sum(outcome.lost for outcome in outcomes),
        rounds_with_loss=sum(outcome.lost > 0 for outcome in outcomes),
        corrupt=tuple(outcome.corrupt for outcome in outcomes if outcome.corrupt is not None),
        oldest_ms=max((outcome.age_ms for outcome in outcomes), default=0.0),
        bound_ms=max((outcome.bound_ms for outcome in outcomes), default=0.0),
    )


def prove(scenario: Scenario, *, rounds: int, seed: int) -> Verdict:
    """Play the rounds on a fresh disk; raises PowerCutUnavailable where none can be had."""
    rng = random.Random(seed)
    with PowerCutDisk() as disk:
        return judge(scenario, [scenario.play(disk, number, rng) for number in range(rounds)])


@dataclass(frozen=True)
class SqliteWriter:
    """SQLite in WAL mode under a process that acknowledges each group commit on a pipe."""

    synchronous: str

    @property
    def name(self) -> str:
        return f"sqlite-{self.synchronous.lower()}"

    @property
    def must_survive(self) -> bool:
        return self.synchronous == "FULL"

    def play(self, disk: PowerCutDisk, number: int, rng: random.Random) -> Outcome:
        database = disk.path / f"round-{number}.db"
        enough = rng.randint(1, 5_000)  # from before the first checkpoint to after some
        command = [sys.executable, str(WRITER), str(database), self.synchronous, str(number)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as writer:
            try:
                assert writer.stdout is not None
                told = _read_until(writer.stdout.fileno(), enough)
                disk.cut([writer.pid])
                told += writer.stdout.read()  # written before the cut, still in the pipe
            finally:
                writer.kill()
        acknowledged = _last_id(told)
        disk.remount()
        survived, corrupt = _inspect(database)
        for leftover in disk.path.glob(f"{database.name}*"):
            leftover.unlink()
        return Outcome(acknowledged, survived, max(0, acknowledged - survived), corrupt)


def _read_until(pipe: int, enough: int) -> bytes:
    """Read acknowledgements until id `enough` was acknowledged."""
    told = b""
    end = time.monotonic() + DEADLINE_S
    while _last_id(told) < enough:
        readable, _, _ = select.select([pipe], [], [], max(0.0, end - time.monotonic()))
        chunk = os.read(pipe, 65536) if readable else b""
        if not chunk:
            raise TimeoutError(f"the writer acknowledged only {_last_id(told)} of {enough} rows")
        told = (told + chunk)[-65536:]
    return told


def _last_id(told: bytes) -> int:
    lines = told[: told.rfind(b"\n") + 1].split()
    return int(lines[-1]) if lines else 0


def _inspect(database: Path) -> tuple[int, str | None]:
    """Return how many rows from id 1 on are there without a hole, and what is wrong."""
    try:
        with closing(sqlite3.connect(database)) as connection:
            (integrity,) = connection.execute("PRAGMA integrity_check").fetchone()
            tables = connection.execute("SELECT count(*) FROM sqlite_schema WHERE name = 'row'").fetchone()
            if tables == (0,):
                return 0, None
            rows, last = connection.execute("SELECT count(*), coalesce(max(id), 0) FROM row").fetchone()
    except sqlite3.DatabaseError as error:
        return 0, f"{database.name}: {error}"
    if integrity != "ok":
        return rows, f"{database.name}: {integrity}"
    if rows != last:
        return rows, f"{database.name}: {rows} rows, but the last id is {last}"
    return rows, None


SCENARIOS: tuple[Scenario, ...] = (
    SqliteWriter("FULL"),
    SqliteWriter("NORMAL"),
    AgentOnDisk("FULL"),
    AgentOnDisk("NORMAL"),
)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.powercut", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--rounds", type=int, default=8, help="power cuts a scenario (default 8)")
    parser.add_argument("--seed", type=int, default=1, help="chooses the instants of the cuts (default 1)")
    parser.add_argument("--json", action="store_true", help="one JSON object on the last line")
    options = parser.parse_args(arguments)
    if options.rounds < 1:
        parser.error("--rounds must be at least 1")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that the disk is taken down on the way out
    try:
        verdicts = [prove(each, rounds=options.rounds, seed=options.seed) for each in SCENARIOS]
    except PowerCutUnavailable as error:
        print(json.dumps({"ok": None, "reason": str(error)}) if options.json else error)
        return 2
    ok = all(verdict.ok for verdict in verdicts)
    for verdict in verdicts:
        expected = "must lose nothing" if verdict.must_survive else "must lose something: the proof's teeth"
        print(
            f"{verdict.scenario}: {verdict.rounds} power cuts, {verdict.acknowledged} rows acknowledged, "
            f"{verdict.lost} lost in {verdict.rounds_with_loss} rounds ({expected}): "
            f"{'ok' if verdict.ok else 'FAILED'}"
        )
        if verdict.bound_ms and verdict.must_survive:
            print(
                f"{verdict.scenario}: the newest row kept was at most {verdict.oldest_ms:.0f} ms older than "
                f"its cut; measured bound {verdict.bound_ms:.0f} ms"
            )
        for sentence in verdict.corrupt:
            print(f"{verdict.scenario}: wrong: {sentence}")
    if options.json:
        found = {"rounds": options.rounds, "ok": ok, "scenarios": [asdict(verdict) for verdict in verdicts]}
        print(json.dumps(found))
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
