"""What a row of an earlier life says to the first poll of this one: values to compare with, or none.

Rows hold primary values, register sense judges what registers show: the ratio of the row's tick is taken
out again, exactly, or the value is not recalled.  So it is where a point is not the same any more: another
type, unit or kind.  Nothing is ever guessed.  Pure.
"""

from collections.abc import Iterable, Mapping
from fractions import Fraction
from typing import Final

from agent.sense import Recalled, Ticket
from agent.site import PollGroup
from agent.store.lastrows import LastRow
from core.manifest import Group, Point, Value, ValueKind
from core.transformers import Behind
from drivers.points import PointType

GROUND: Final = frozenset(
    {"rollover", "reset", "frozen", "device-clock", "clock-unsure", "clock-back", "clock-forward"}
)
"""Reasons with which a value is what the register showed."""
UNSURE: Final = "clock-unsure"


def recalled(groups: Iterable[PollGroup], last: Mapping[int, LastRow]) -> dict[int, Recalled]:
    """Return what is recalled of each group, by its number."""
    return {
        group.group.group: recall(group, last[group.group.group])
        for group in groups
        if group.group.group in last
    }


def recall(group: PollGroup, last: LastRow) -> Recalled:
    """Return what a row of an earlier life says to a group as it is polled now."""
    then, now, row = last.group, group.group, last.row
    values: list[Value] = [None] * len(group.points)
    frozen: set[int] = set()
    same = then.device_type == now.device_type
    at = {point.name: index for index, point in enumerate(then.points)}
    for index, point in enumerate(group.points):
        before = at.get(point.name)
        if not same or before is None or not _is_same(then.points[before], point):
            continue
        reasons = {*row.quality.get("*", ()), *row.quality.get(str(before), ())}
        if not reasons <= GROUND:
            continue
        values[index] = _shown(then, then.points[before], row.tick, row.values[before], point)
        # A later judgement names rows by number and index: both must be what they were.
        if "frozen" in reasons and values[index] is not None and before == index:
            frozen.add(index)
    known = then.group == now.group and [point.name for point in then.points] == [p.name for p in now.points]
    ticket = Ticket(row.seq, epoch=last.epoch) if known else Ticket()
    return Recalled(
        row.tick, tuple(values), ticket, frozenset(frozen), UNSURE not in row.quality.get("*", ())
    )


def _is_same(before: Point, now: PointType) -> bool:
    return (before.quantity, before.unit, before.kind, before.cumulative) == (
        now.quantity,
        now.unit,
        now.kind,
        now.cumulative,
    )


def _shown(group: Group, before: Point, tick: int, value: Value, now: PointType) -> int | None:
    """Return what the register showed, in steps of today; None when that is not whole."""
    if now.kind is not ValueKind.INTEGER or isinstance(value, bool | float) or value is None:
        return None
    behind = Behind(group, before)
    if now.ratio is None and behind.ratio_at(tick) != 1:
        return None
    steps = int(value) * Fraction(10) ** (before.exp - now.steps.exp) / behind.ratio_at(tick)
    return steps.numerator if steps.denominator == 1 else None
