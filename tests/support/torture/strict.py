"""Ticks and counts in the order in which they were lived: what a set of ticks cannot show.

`cli.judge` asks whether each tick is somewhere a row or in a Gap. After a clock that jumped a year ahead and
back, one Gap lies over every later tick, and nothing missed from then on would show. Here the records of a
group are walked in the gateway's own order, epoch by epoch and sequence by sequence: whatever lies between
two neighbouring rows must be in Gaps told between these two.

Relies on `cli.evidence` for what was seen. Pure. Not here: what is lost, doubled or changed (`cli.judge`).
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from cli.evidence import GapRecord, Identity, Row, SeriesKey
from core.manifest import Group
from core.ranges import RangeSet

Place = tuple[int, int]
"""Number of the epoch in the gateway's order, and sequence."""


class Placing(Protocol):
    """Gives the place of an identity."""

    def __call__(self, one: Identity) -> Place: ...


@dataclass(frozen=True, slots=True)
class Told:
    """What gateways said of their clocks and lives."""

    epochs: Mapping[str, list[str]]
    """By gateway, in the order in which they began."""
    steps: frozenset[Identity]
    """Clock records with a step."""
    starts: Mapping[tuple[str, str], int]
    """Instant of the start record by (gateway, epoch)."""
    taken: frozenset[Identity]
    """Rows that stood in a store before an older copy of it was put back."""


class Fault(NamedTuple):
    """Something that does not hold."""

    kind: str
    many: int
    words: str


UNKNOWN_EXTENT = 1 << 60
"""What a Gap may hold that was told where the clock went back."""
UNREPORTED = "ticks with neither row nor Gap between two rows"
OVERLAID = "ticks with a row and in a Gap"
MISCOUNTED = "Gaps whose number of ticks is wrong"
UNPROVED = "answered counts outside the Gaps between their rows"
BACKWARDS = "rows before an earlier tick without a step of the clock"


def faults(
    rows: Iterable[Row],
    gaps: Iterable[GapRecord],
    told: Told,
    answered: Mapping[str, Iterable[int]],
    in_flight: int = 0,
) -> Iterator[Fault]:
    """Yield what does not hold of one reader's rows and Gaps.

    Args:
        rows: each once.
        gaps: each once.
        told: by the gateways.
        answered: counts that counter devices gave, by device.
        in_flight: how many after the last row are not asked for.
    """
    numbers = {
        (gateway, epoch): at for gateway, order in told.epochs.items() for at, epoch in enumerate(order)
    }

    def place(one: Identity) -> Place:
        return numbers.get((one.gateway, one.epoch), -1), one.seq

    by_series: dict[SeriesKey, tuple[list[Row], list[GapRecord]]] = {}
    for row in rows:
        by_series.setdefault(row.series, ([], []))[0].append(row)
    for gap in gaps:
        by_series.setdefault(gap.series, ([], []))[1].append(gap)
    steps = {(place(step), step.gateway) for step in told.steps}
    counts = {device: sorted(given) for device, given in answered.items()}
    for series, (found, holes) in sorted(by_series.items()):
        found.sort(key=lambda row: place(row.id))
        holes.sort(key=lambda gap: place(gap.id))
        mine = sorted(at for at, gateway in steps if gateway == series.gateway)
        yield from _walk(series, found, holes, mine, place, told, counts)
        yield from _after_the_last(found, counts, in_flight)


def _walk(
    series: SeriesKey,
    rows: list[Row],
    gaps: list[GapRecord],
    steps: list[Place],
    place: Placing,
    told: Told,
    counts: Mapping[str, list[int]],
) -> Iterator[Fault]:
    at = 0
    counted: Row | None = None
    room = 0
    earlier: Row | None = None
    previous: Row | None = None
    for row in rows:
        between: list[GapRecord] = []
        while at < len(gaps) and place(gaps[at].id) < place(row.id):
            between.append(gaps[at])
            at += 1
        for gap in between:
            yield from _gap_itself(series, gap)
        if previous is not None:
            back = row.tick <= previous.tick
            # A poll that was under way when another line noticed the step stands behind its record.
            if back and not _went_back(earlier or previous, previous, row, steps, place, told):
                yield Fault(BACKWARDS, 1, f"{series.key}: {previous.tick} then {row.tick} ({row.id})")
            if not back:
                yield from _between(series, previous, row, between, told)
        room += sum(gap.ticks for gap in between)
        if between and previous is not None and row.tick <= previous.tick:
            room = UNKNOWN_EXTENT
        if row.count is None:
            room += 1  # asked, answered too late or spoiled: the row says so, and why
        else:
            if counted is not None:
                yield from _counts(counted, row, room, counts)
            counted, room = row, 0
        earlier, previous = previous, row


def _between(
    series: SeriesKey, before: Row, after: Row, gaps: list[GapRecord], told: Told
) -> Iterator[Fault]:
    first, last = _number(before.group, before.tick) + 1, _number(after.group, after.tick) - 1
    covered = RangeSet()
    for gap in gaps:
        low, high = _number(gap.group, gap.first), _number(gap.group, gap.last)
        if low <= high:
            covered.add(low, high)
    for low, high in covered.missing(first, last) if first <= last else []:
        yield Fault(
            UNREPORTED,
            high - low + 1,
            f"{series.gateway} {series.key}: {high - low + 1} after tick {before.tick} ({before.id.epoch}/"
            f"{before.id.seq}) and before {after.tick} ({after.id.epoch}/{after.id.seq})",
        )
    over = [(low, high) for low, high in covered if low < first or high > last]
    if over and before.id not in told.taken:
        yield Fault(
            OVERLAID,
            len(over),
            f"{series.key}: a Gap before {after.id.epoch}/{after.id.seq} goes beyond its rows",
        )


def _gap_itself(series: SeriesKey, gap: GapRecord) -> Iterator[Fault]:
    extent = _number(gap.group, gap.last) - _number(gap.group, gap.first) + 1
    if gap.ticks != max(extent, 0):
        yield Fault(
            MISCOUNTED, 1, f"{series.key}: {gap.ticks} in {gap.first}..{gap.last}, which has {extent}"
        )


def _counts(before: Row, after: Row, room: int, counts: Mapping[str, list[int]]) -> Iterator[Fault]:
    low, high = before.count or 0, after.count or 0
    answered = sum(low < count < high for count in counts.get(after.group.device, ()))
    if answered > room:
        yield Fault(
            UNPROVED,
            answered - room,
            f"{after.group.device}: {answered} between counts {low} and {high}, with room for {room}",
        )


def _after_the_last(rows: list[Row], counts: Mapping[str, list[int]], in_flight: int) -> Iterator[Fault]:
    last = next((row for row in reversed(rows) if row.count is not None), None)
    if last is None or last.count is None:
        return
    newest = last.count
    failed = sum(1 for row in rows[rows.index(last) + 1 :])
    after = sum(count > newest for count in counts.get(last.group.device, ()))
    if after > in_flight + failed:
        words = f"{last.group.device}: {after} after its last row, count {newest}, with {in_flight} under way"
        yield Fault(UNPROVED, after - in_flight - failed, words)


def _went_back(earlier: Row, before: Row, after: Row, steps: list[Place], place: Placing, told: Told) -> bool:
    low, high = place(earlier.id), place(after.id)
    if any(low < step < high for step in steps):
        return True
    started = told.starts.get((after.id.gateway, after.id.epoch))
    return before.id.epoch != after.id.epoch and started is not None and started <= before.tick


def _number(group: Group, at_ms: int) -> int:
    return (at_ms - group.phase_ms) // group.every_ms
