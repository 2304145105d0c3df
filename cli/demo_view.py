"""What the demo shows while it runs: the latest readings in the books, and how the parts are.

A :class:`Moment` is one look from outside: at the entities' books, the gateway's store and the
processes. Looks are short, read-only, and may fail for a moment while a part is being killed: then the
moment before is shown on. Relies on `headend.readings` for readings as the head-end tells them. Not here:
the story (`cli.demo_story`), the judgement (`cli.judge`).
"""

import json
import textwrap
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final

from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

from cli.demo_site import OWNERS
from cli.evidence import NoEvidence, looking
from cli.stand import Stand
from core.quality import GOOD_CODE
from core.ranges import RangeSet
from headend.readings import Reading, Selection, readings
from headend.shown import value_text

SHOWN: Final[Mapping[str, tuple[str, ...]]] = {
    "main-meter": ("PhVphA", "PhVphB", "PhVphC", "Hz", "WphA", "WphB", "WphC", "W", "PF", "TotWhImp"),
    "sub-meter": ("W", "AphA", "TotWhImp"),
    "heater-relay": ("LoadState", "W"),
    "counter": ("PollCount",),
}
"""Points in the live table, by device; the books hold all of them."""
LOOKED_BACK: Final = 160
"""Readings of a device looked through for the latest of each point: more than one poll of it."""
RATE_OVER_S: Final = 6.0
SPARED: Final = (
    *(("main-meter", point) for point in ("WphB", "WphC", "PhVphB", "PhVphC", "WphA", "PF")),
    ("sub-meter", "AphA"),
    ("heater-relay", "W"),
    ("main-meter", "Hz"),
)
"""Left out of the table first, in this order, where a terminal is too low for all."""
STORY_LINES: Final = 8
"""Most lines of the story in the live view; a quarter of a low terminal."""
STORY_INDENT: Final = 9
"""Columns before the words of a line of the story."""
HEADINGS: Final = 2
"""Lines above the first reading."""
WIDE_COLUMNS: Final = 100
"""From this width on the table has all its columns."""


@dataclass(frozen=True, slots=True)
class Moment:
    """One look at everything."""

    readings: tuple[Reading, ...]
    arrived: int
    """Readings in all books; one that two entities own counts in both."""
    rate: float
    """Readings a second that arrived lately."""
    confirmations: int
    """Given by the collectors."""
    stored: int
    """Records in the gateway's store."""
    waiting: int
    """Of them, not yet confirmed to the slowest route."""
    parts: tuple[tuple[str, str, bool], ...]
    """Name, state, whether it runs."""
    command: str = ""
    """Where the permitted command stands, by the company's books."""


class Watch:
    """Looks again and again, and knows the rate."""

    def __init__(self, stand: Stand) -> None:
        self._stand = stand
        self._arrivals: deque[tuple[float, int]] = deque()
        self._last = Moment((), 0, 0.0, 0, 0, 0, ())

    def look(self, command: str = "") -> Moment:
        """Return how everything is now; `command` is where the permitted command stands."""
        last = self._last
        latest = {(one.device, one.point): one for one in last.readings}
        arrived = confirmations = 0
        try:
            for path in self._stand.books().values():
                more, given = _books(path, latest)
                arrived += more
                confirmations += given
            stored, waiting = _store(self._stand.agent.store_path)
        except NoEvidence:
            arrived, confirmations = last.arrived, last.confirmations
            stored, waiting = last.stored, last.waiting
        order = [(device, point) for device, points in SHOWN.items() for point in points]
        self._last = Moment(
            tuple(latest[key] for key in order if key in latest),
            arrived,
            self._rate(arrived),
            confirmations,
            stored,
            waiting,
            self._parts(),
            command,
        )
        return self._last

    def _rate(self, arrived: int) -> float:
        now = time.monotonic()
        self._arrivals.append((now, arrived))
        while self._arrivals[0][0] < now - RATE_OVER_S:
            self._arrivals.popleft()
        since, before = self._arrivals[0]
        return (arrived - before) / (now - since) if now > since else 0.0

    def _parts(self) -> tuple[tuple[str, str, bool], ...]:
        stand = self._stand
        broker, agent = stand.broker, stand.agent
        gone = "killed" if (agent.exit_code or 0) < 0 else "ended"
        life = f"pid {agent.pid}, life {agent.lives}" if agent.running else gone
        parts = [
            ("broker", f"pid {broker.pid}" if broker.running else "stopped", broker.running),
            ("agent", life, agent.running),
        ]
        for one in stand.collectors:
            state = f"pid {one.pid}" if one.running else "stopped"
            parts.append((f"collector {one.plan.entity.partition('.')[0]}", state, one.running))
        return tuple(parts)


def _books(path: Path, latest: dict[tuple[str, str], Reading]) -> tuple[int, int]:
    """Bring `latest` up to date; return readings stored and confirmations given."""
    with looking(path) as books:
        for device, points in SHOWN.items():
            found: set[str] = set()
            of_device = readings(books, Selection(device=device), newest_first=True)
            for one in islice(of_device, LOOKED_BACK):
                known = latest.get((device, one.point))
                if one.point in points and one.point not in found:
                    found.add(one.point)
                    if known is None or known.tick_ms < one.tick_ms:
                        latest[device, one.point] = one
        stored = books.execute("SELECT sum(n) FROM counter WHERE name = 'readings.stored'").fetchone()[0]
        given = books.execute("SELECT sum(n) FROM counter WHERE name = 'confirmations'").fetchone()[0]
    return stored or 0, given or 0


def _store(path: Path) -> tuple[int, int]:
    """Return records stored, and those that the slowest owner's route does not know to be in its books."""
    with looking(path) as store:
        low, top, many = store.execute("SELECT min(id), max(id), count(*) FROM record").fetchone()
        routes = store.execute("SELECT entity, held FROM route").fetchall()
    held = [RangeSet(json.loads(ranges)) for entity, ranges in routes if entity in OWNERS]
    if not many:
        return 0, 0
    missing = [sum(b - a + 1 for a, b in ranges.missing(low, top)) for ranges in held]
    return many, max(missing, default=many)


@dataclass(frozen=True, slots=True)
class Picture:
    """A moment with the story, cut to the terminal: what was told last is never what is left out."""

    moment: Moment
    story: Sequence[str]
    elapsed_s: float
    seconds: float

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Give the story and the figures the lines that they need, and the table what is left."""
        # A Live takes the line below its last one too.
        height, width = options.size.height - 1, options.max_width
        now = self.moment
        states = [
            Text.assemble((name, "bold"), " ", (state, "green" if runs else "bold red"))
            for name, state, runs in now.parts
        ]
        figures = [
            Text(f"books {now.arrived:,} readings, {now.rate:.0f}/s"),
            Text(f"confirmations {now.confirmations:,}"),
            Text(f"store {now.stored:,} records, {now.waiting:,} not yet confirmed"),
            *([Text.assemble("command ", (now.command, "bold magenta"))] if now.command else []),
        ]
        below = [*packed(states, width), *packed(figures, width)]
        told = told_last(self.story, width, max(2, min(STORY_LINES, height // 4)))
        rows = height - len(below) - len(told) - HEADINGS
        spaced = rows >= len(now.readings) + 2
        rows = max(1, rows if spaced else rows - 1)
        yield Text(f"Readings at the head-end   {self.elapsed_s:.0f} of {self.seconds:.0f} s", style="bold")
        yield readings_table(fitting(now.readings, rows), wide=width >= WIDE_COLUMNS)
        yield Text("")
        yield from below
        if spaced:
            yield Text("")
        yield from told


def packed(parts: Sequence[Text], width: int) -> list[Text]:
    """Return lines of whole parts, as many in each as there is width for."""
    lines: list[Text] = []
    for part in parts:
        if lines and lines[-1].cell_len + 3 + part.cell_len <= width:
            lines[-1] = Text.assemble(lines[-1], "   ", part)
        else:
            lines.append(part)
    return lines


def told_last(story: Sequence[str], width: int, lines: int) -> list[Text]:
    """Return what was told last, wrapped: whole sentences, in at most so many lines."""
    told: list[str] = []
    for one in reversed(story):
        wrapped = textwrap.wrap(one, width, subsequent_indent=" " * STORY_INDENT)
        if told and len(told) + len(wrapped) > lines:
            break
        told = [*wrapped, *told]
    return [Text(line, style="cyan") for line in told[:lines]]


def fitting(shown: Sequence[Reading], rows: int) -> list[Reading]:
    """Return as many readings as there are rows; those that say least by themselves go first."""
    excess = len(shown) - rows
    if excess <= 0:
        return list(shown)
    ranks = {key: rank for rank, key in enumerate(SPARED)}
    by_rank = sorted(
        range(len(shown)), key=lambda at: (ranks.get((shown[at].device, shown[at].point), len(ranks)), -at)
    )
    left_out = set(by_rank[:excess])
    return [one for at, one in enumerate(shown) if at not in left_out]


def readings_table(shown: Sequence[Reading], *, wide: bool) -> Table:
    """Return the table of readings; one that is not wide is without time and reasons."""
    table = Table(box=None, header_style="bold", pad_edge=False, expand=False)
    for name in ("device", "point"):
        table.add_column(name, no_wrap=True)
    table.add_column("value", justify="right", no_wrap=True)
    table.add_column("unit", no_wrap=True)
    table.add_column("owner", no_wrap=True)
    # The one column that gives way when the others need the room; its cells do not wrap either.
    table.add_column("quality", min_width=7)
    if wide:
        table.add_column("time", no_wrap=True)
    table.add_column("delay", justify="right", no_wrap=True)
    device = ""
    for one in shown:
        good = one.quality.code == GOOD_CODE
        quality = "good" if good else " ".join((one.quality.code, *(one.quality.reasons if wide else ())))
        table.add_row(
            "" if one.device == device else one.device,
            one.point,
            value_text(one.value) or "-",
            one.unit,
            " + ".join(owner.partition(".")[0] for owner in one.owners),
            Text(quality, style="green" if good else "yellow", no_wrap=True, overflow="ellipsis"),
            *([time.strftime("%H:%M:%S", time.localtime(one.tick_ms / 1000))] if wide else []),
            Text(f"{one.delay_ms / 1000:.2f} s", style="" if one.delay_ms < 2000 else "yellow"),
        )
        device = one.device
    return table


def progress(moment: Moment) -> str:
    """Return the moment as one line."""
    stopped = [f"{name} {state}" for name, state, runs in moment.parts if not runs]
    return (
        f"{moment.arrived} readings in the books, {moment.rate:.0f}/s, {moment.confirmations} confirmations, "
        f"{moment.waiting} of {moment.stored} records not yet confirmed"
        + (f"; {', '.join(stopped)}" if stopped else "")
    )
