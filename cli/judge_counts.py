"""The plant's side of a judgement: what was sampled, and whether every answered count is accounted for.

A counter device says one more in each answer, and its plant logs each count before it answers. So each
count is either the value of a row, or it proves a poll whose tick has to lie in a Gap. Imports nothing of
`agent` or `headend`; pure.
"""

from bisect import bisect_right
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

from cli.evidence import PlantSeen, Requests, Row, SeriesKey
from cli.gathered import Evidence, Order, covered_ticks, tick_number
from core.manifest import Group
from core.ranges import RangeSet


@dataclass(frozen=True, slots=True)
class Unproved:
    """Counts of one device between two of its rows for which there is no Gap."""

    device: str
    first: int
    last: int
    counts: int


def polled(plant: PlantSeen, groups: Collection[Group]) -> int:
    """Return the values or failures sampled: points of the polled groups inside each request.

    A request serves one group, whose points stand at both its ends; where no group fits, the plant's
    own number counts.
    """
    return sum(_points_of(one, plant, groups) * one.times for one in plant.requests)


def _points_of(request: Requests, plant: PlantSeen, groups: Collection[Group]) -> int:
    places = plant.registers.get(request.type, {})
    end = request.first + request.count
    best = -1
    for group in groups:
        if group.device != request.device:
            continue
        named = [places[point.name] for point in group.points if point.name in places]
        inside = [
            (address, address + registers)
            for table, address, registers in named
            if table == request.table and request.first <= address and address + registers <= end
        ]
        if inside and min(a for a, _ in inside) == request.first and max(b for _, b in inside) == end:
            best = max(best, len(inside))
    return request.points if best < 0 else best


def counted_rows(plant: PlantSeen, rows: Iterable[Row]) -> dict[str, list[Row]]:
    """Return for each counter device its rows in the books, in the order of their counts, each count once."""
    found: dict[str, dict[int, Row]] = {device: {} for device in plant.counts}
    for row in rows:
        if row.count is not None and row.group.device in found:
            found[row.group.device].setdefault(row.count, row)
    return {device: [by_count[count] for count in sorted(by_count)] for device, by_count in found.items()}


def unproved(
    plant: PlantSeen, rows: dict[str, list[Row]], evidence: Evidence, order: Order, in_flight: int
) -> Iterator[Unproved]:
    """Yield answered counts that are neither in the books nor, tick by tick, inside a Gap.

    `in_flight` counts after a device's last row are not asked for: the poll that the end interrupted.
    """
    gaps = covered_ticks(evidence.gaps.values())
    for device, answered in plant.counts.items():
        there = rows.get(device, [])
        known = [row.count or 0 for row in there]
        between: dict[int, list[int]] = {}
        for count in sorted(answered.keys() - set(known)):
            between.setdefault(bisect_right(known, count), []).append(count)
        for at, counts in between.items():
            if at == len(there):
                room = in_flight
            else:
                before = there[at - 1] if at else None
                room = _room(before, there[at], [answered[one] for one in counts], gaps, evidence, order)
            if len(counts) > room:
                yield Unproved(device, counts[0], counts[-1], len(counts) - room)


def _room(
    before: Row | None,
    after: Row,
    answered_ms: list[int],
    gaps: dict[SeriesKey, RangeSet],
    evidence: Evidence,
    order: Order,
) -> int:
    """Return how many counts between two rows lie in ticks of Gaps."""
    many = len(answered_ms)
    covered = gaps.get(after.series, RangeSet())
    if before is None:
        room = covered.count()
    elif after.tick <= before.tick:
        # The time was lived twice: no tick is missing, and the gateway has said that its clock went back.
        return many if order.clock_went_back(before, after) else 0
    else:
        begin, end = tick_number(before.group, before.tick) + 1, tick_number(after.group, after.tick) - 1
        room = sum(b - a + 1 for a, b in covered.overlap(begin, end)) if begin <= end else 0
    if evidence.clock_is_one(after.id.gateway):
        # The same clock as the plant's: the tick itself, or the one before when the answer came late.
        ticks = [tick_number(after.group, at) for at in answered_ms]
        room = min(room, sum(tick in covered or tick - 1 in covered for tick in ticks))
    return room
