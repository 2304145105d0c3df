"""Every fault of the simulator on every kind of line: which quality must be stored, and that it is.

    python -m tests.faultmatrix            # runs every cell, several rounds of garbage
    python -m tests.faultmatrix --table    # the table that docs/faults.md holds

A cell is a line of its own with two devices: the one with the fault, and another one. Our worker polls
both with our own link; the fault begins by hand when both are good, and ends when what must be stored is.

The oracle of answers is `PollCount`: the simulator logs every count that it really gave, and what it puts
into an answer that is none, or comes too late, is a count that it never gives.

Relies on the pytest plugin's `Premises`. Deliberately not here: the store (rows are taken where it would
take them), writing, and what a foreign peer does wrong.
"""

import argparse
import asyncio
import inspect
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Final

import msgspec

from agent.clock import Clock
from agent.config import parse_config
from agent.groupmemory import LeftOut
from agent.lineworker import LineWorker
from agent.sense import Later, Ticket
from agent.site import build_site
from certs.contexts import client_context
from core.codec import row_bytes
from core.records import Row
from drivers.modbus.dialin import Callers
from drivers.modbus.lineurl import LinkUrl
from drivers.modbus.link import ControlLink
from drivers.modbus.links import LineOptions, open_link
from drivers.modbus.wires import SerialSettings
from drivers.types import load_type
from simulator.broker import free_port
from simulator.pytest_plugin import Premises, Starter, portico_premises
from tests.support.faultcells import CELLS, KINDS, Cell

TYPES: Final = Path(__file__).parent / "support" / "types"
EVERY_MS: Final = 500
TIMEOUT_MS: Final = 200
DEADLINE_S: Final = 20.0
BAUD: Final = 115_200
MANNERS: Final = 7
"""Of garbage."""
SLIP: Final = 1
"""So many ticks of the other device may be missing in a row, where a cell says nothing else."""
VICTIM, OTHER = 1, 2
"""Unit ids, and numbers of groups."""
POINTS: Final = ("PollCount", "Sway", "Energy", "Clock")

CONFIG = f"""
[gateway]
id = "gw-0001"
data_dir = "var"
types = ["{TYPES}"]
[[line]]
name = "line"
url = "modbus+tcp://127.0.0.1"
timeout = "{TIMEOUT_MS}ms"
""" + "".join(
    f"""
[[device]]
name = "{name}"
type = "fault-meter"
line = "line"
unit_id = {unit}
every = "{EVERY_MS}ms"
owner = "dso.example"
"""
    for name, unit in (("victim", VICTIM), ("other", OTHER))
)


def scenario(kind: str, cells: tuple[Cell, ...] = CELLS) -> str:
    """Return a scenario with one line of a kind for each cell."""
    text = 'name = "faults"\nseed = 7\nspeed = 60\n[[premises]]\nname = "home"\n'
    for cell in cells:
        text += f'[[premises.line]]\nname = "{cell.name}"\nkind = "{kind}"\n'
        if kind.startswith("rtu"):
            text += f"baud = {BAUD}\n"
        if kind == "dial-in":
            text += f'connect = "127.0.0.1:{free_port()}"\ntls = false\n'
        for role, unit in (("victim", VICTIM), ("other", OTHER)):
            text += (
                f'[[premises.device]]\nname = "{cell.name}-{role}"\ntype = "fault-meter"\n'
                f'line = "{cell.name}"\nunit_id = {unit}\n'
            )
    return text


def link_to(home: Premises, kind: str, cell: Cell) -> ControlLink:
    """Return our link to the line of a cell."""
    at = home.devices[f"{cell.name}-victim"]
    options = LineOptions()
    if kind.startswith("rtu"):
        options = LineOptions(serial=SerialSettings(BAUD))
    elif kind == "tls":
        ca, cert, key = (Path(at.tls[name]) for name in ("ca", "cert", "key"))
        options = LineOptions(tls=lambda: client_context(ca, cert, key))
    elif kind == "dial-in":
        options = LineOptions(callers=Callers(addresses=frozenset({"127.0.0.1"})))
    return open_link(LinkUrl.parse(at.url), options)


@dataclass
class Sink:
    """Keeps rows as the store would."""

    rows: list[Row] = field(default_factory=list)
    later: list[tuple[int, str]] = field(default_factory=list)

    def left_out(self, grp: int, left_out: LeftOut) -> None:
        """Nothing to keep: no life follows this one."""

    def append_judgement(self, grp: int, later: Later, at_ms: int) -> bool:
        self.later.append((grp, later.reason))
        return True

    def append_row(
        self,
        grp: int,
        tick: int,
        points: int,
        body: bytes,
        sampled: float,
        reason: str,
        ticket: Ticket | None = None,
    ) -> bool:
        self.rows.append(msgspec.json.decode(row_bytes(1, body), type=Row))
        return True

    def of(self, group: int) -> list[Row]:
        """Return the rows of a group."""
        return [row for row in self.rows if row.group == group]


@dataclass(frozen=True)
class Shown:
    """What a cell came to."""

    cell: Cell
    kind: str
    stored: tuple[str, ...]
    """Reasons of the device with the fault while it lasted, each once, in order."""
    faults: tuple[str, ...]
    """What does not hold; none: the cell is shown."""


def reasons_of(row: Row, point: str | None) -> tuple[str, ...]:
    """Return the reasons of a row that concern a point, or any."""
    keys = row.quality.keys() if point is None else {"*", str(POINTS.index(point))}
    return tuple(reason for key in row.quality if key in keys for reason in row.quality[key])


def once(reasons: list[str]) -> tuple[str, ...]:
    """Return each reason once, in the order of its first."""
    return tuple(dict.fromkeys(reasons))


class Run:
    """One cell on one line."""

    def __init__(self, home: Premises, kind: str, cell: Cell) -> None:
        self.home: Final = home
        self.kind: Final = kind
        self.cell: Final = cell
        self.sink: Final = Sink()
        self.point: Final = cell.points[0] if cell.points else None
        self.problems: list[str] = []
        self.other_from = 0
        """From this row on the other device is judged: before, a line may not have been there."""
        types = lambda name: load_type(name, (TYPES,))  # noqa: E731
        groups = build_site(parse_config(CONFIG, Path("/etc/gateway.toml")), types).groups
        self.worker: Final = LineWorker(
            cell.name,
            link_to(home, kind, cell),
            groups,
            cell.retries,
            Clock(trusted=True),
            self.sink,
            {},
            lambda code, raised, text, device: None,
        )

    async def shown(self, rounds: int) -> Shown:
        """Let the fault begin and end, so many times, and judge what was stored."""
        if self.cell.before is not None and self.point is not None:
            self.home.set(f"{self.cell.name}-victim", self.point, self.cell.before)
        polling = asyncio.create_task(self.worker.run())
        stored: list[str] = []
        try:
            for _ in range(rounds):
                await self._until(lambda: self._good(VICTIM) and self._good(OTHER), "both devices to be good")
                self.other_from = self.other_from or len(self.sink.of(OTHER)) - 2
                stored += await self._fault()
                await self._until(lambda: self._good(VICTIM), "the device to be good again")
        except TimeoutError as error:
            self.problems.append(str(error))
        finally:
            polling.cancel()
            await asyncio.wait([polling])
        self._judge(once(stored))
        return Shown(self.cell, self.kind, once(stored), tuple(self.problems))

    async def _fault(self) -> list[str]:
        cell, name = self.cell, f"{self.cell.name}-victim"
        begun, until = len(self.sink.of(VICTIM)), asyncio.get_running_loop().time() + cell.hold_on(self.kind)
        if cell.fault == "set":
            assert self.point is not None
            assert cell.value is not None
            self.home.set(name, self.point, cell.value)
        else:
            self.home.fault(
                name,
                cell.fault,
                ms=cell.ms,
                code=cell.code,
                points=cell.points,
                by=cell.by,
                ppm=cell.ppm,
                for_s=cell.for_s,
            )
        want = cell.stored_on(self.kind)

        def found() -> list[str]:
            rows = self.sink.of(VICTIM)[begun:]
            return [reason for row in rows for reason in reasons_of(row, self.point)]

        def enough() -> bool:
            rows = self.sink.of(VICTIM)[begun:]
            if asyncio.get_running_loop().time() < until:
                return False
            if not want:
                return len(rows) >= cell.rows
            return set(want) <= set(found()) or (bool(found()) and bool(cell.also_on(self.kind)))

        try:
            await self._until(enough, f"{', '.join(want) or 'rows without a reason'} to be stored")
        except TimeoutError as error:
            self.problems.append(f"{error}; stored were {once(found())}")
        reasons = found()
        self.home.clear(name, cell.fault)
        return reasons

    def _good(self, group: int) -> bool:
        rows = self.sink.of(group)
        return len(rows) > 1 and not rows[-1].quality and not rows[-2].quality

    async def _until(self, holds: Callable[[], bool], what: str) -> None:
        start = len(self.sink.rows)
        loop = asyncio.get_running_loop()
        end = loop.time() + DEADLINE_S + self.cell.hold_on(self.kind)
        while not (len(self.sink.rows) > start and holds()):
            if loop.time() > end:
                last = [(row.values, row.quality) for row in self.sink.rows[-2:]]
                raise TimeoutError(f"not within {DEADLINE_S:g} s: {what}; last rows {last}")
            await asyncio.sleep(0.02)

    def _judge(self, stored: tuple[str, ...]) -> None:
        want = set(self.cell.stored_on(self.kind))
        if not want <= set(stored) <= want | set(self.cell.also_on(self.kind)):
            self.problems.append(f"stored {sorted(stored)}, must be {sorted(want)}")
        if self.cell.later and (VICTIM, self.cell.later) not in self.sink.later:
            self.problems.append(f"no later judgement {self.cell.later}")
        if self.cell.bent is not None and not self._has_bent_good():
            self.problems.append("the wrong value was not read as good: the cell shows nothing")
        strange = [row.quality for row in self.sink.of(OTHER)[self.other_from :] if row.quality]
        allowed = set(self.cell.other_on(self.kind))
        if any(set(reasons) - allowed for quality in strange for reasons in quality.values()):
            self.problems.append(f"the other device got {strange}")
        ticks = [row.tick for row in self.sink.of(OTHER)[self.other_from :]]
        gap = max((two - one for one, two in pairwise(ticks)), default=0)
        if gap > (1 + self.cell.slip.get(self.kind, SLIP)) * EVERY_MS:
            self.problems.append(f"the other device's schedule slipped by {gap - EVERY_MS} ms")

    def _has_bent_good(self) -> bool:
        """Tell whether two good rows in a row differ as only a bent value does."""
        assert self.point is not None
        assert self.cell.bent is not None
        index = POINTS.index(self.point)
        rows = [row for row in self.sink.of(VICTIM) if not row.quality]
        return any(
            self.cell.bent(int(two.values[index] or 0) - int(one.values[index] or 0))
            for one, two in pairwise(rows)
            if two.tick - one.tick == EVERY_MS
        )

    def counted(self, given: Mapping[str, set[int]]) -> tuple[str, ...]:
        """Return what is wrong with the counts of good readings, beside those that the plant gave."""
        wrong = []
        for role, group in (("victim", VICTIM), ("other", OTHER)):
            counts = [
                int(row.values[0] or 0)
                for row in self.sink.of(group)
                if row.values[0] is not None and not set(row.quality) & {"*", "0"}
            ]
            never = sorted(set(counts) - given.get(f"{self.cell.name}-{role}", set()))
            if never:
                wrong.append(f"{role}: counts stored as good that were never given: {never[:5]}")
            if len(set(counts)) != len(counts) or counts != sorted(counts):
                wrong.append(f"{role}: an old count was stored as good")
        return tuple(wrong)


async def run_kind(
    home: Premises, kind: str, cells: tuple[Cell, ...] = CELLS, rounds: int = 1
) -> list[Shown]:
    """Run all cells of one kind of line beside each other; the premises are ended by it."""
    runs = [Run(home, kind, cell) for cell in cells]
    shown = await asyncio.gather(*(run.shown(rounds if run.cell.fault == "garbage" else 1) for run in runs))
    home.stop()
    given: dict[str, set[int]] = {}
    for one in home.log("count"):
        given.setdefault(one["device"], set()).add(one["count"])
    return [
        Shown(one.cell, kind, one.stored, one.faults + run.counted(given))
        for one, run in zip(shown, runs, strict=True)
    ]


def table() -> str:
    """Return the matrix as docs/faults.md holds it."""
    lines = ["| fault | what happens | " + " | ".join(KINDS) + " |", "|---" * (len(KINDS) + 2) + "|"]
    for cell in CELLS:
        good = "good" if cell.seen else "**good, not seen**"
        found = [cell_text(cell, kind) or good for kind in KINDS]
        lines.append(f"| {cell.name} | {cell.what} | " + " | ".join(found) + " |")
    return "\n".join(lines) + "\n"


def cell_text(cell: Cell, kind: str) -> str:
    """Return the reasons of one cell, those in brackets that may be stored beside or instead."""
    must = cell.stored_on(kind)
    also = [f"(`{one}`)" for one in cell.also_on(kind) if one not in must]
    return ", ".join([*(f"`{one}`" for one in must), *also])


@contextmanager
def starting(directory: Path) -> Iterator[Starter]:
    """Give what starts premises, as the fixture does without pytest."""
    given = inspect.unwrap(portico_premises)(directory)
    yield next(given)
    for _ in given:
        pass


def main() -> int:
    """Run the whole matrix, or print its table; 0 when every cell is shown."""
    parser = argparse.ArgumentParser(prog="python -m tests.faultmatrix", description=__doc__)
    parser.add_argument("--table", action="store_true", help="print the table and run nothing")
    parser.add_argument("--kind", choices=KINDS, action="append", help="only lines of this kind")
    parser.add_argument("--rounds", type=int, default=MANNERS, help="how often garbage begins anew")
    asked = parser.parse_args()
    if asked.table:
        print(table(), end="")
        return 0
    failed = 0
    for kind in asked.kind or KINDS:
        with tempfile.TemporaryDirectory() as directory, starting(Path(directory)) as start:
            home = start(scenario(kind), "--types", str(TYPES))
            for one in asyncio.run(run_kind(home, kind, rounds=asked.rounds)):
                failed += bool(one.faults)
                state = "FAILED" if one.faults else "shown"
                print(f"{state:7} {kind:8} {one.cell.name:14} {', '.join(one.stored) or 'good'}", flush=True)
                for fault in one.faults:
                    print(f"        {fault}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
