"""Lines about what an agent makes of its devices: every tick told, values exact, and nothing invented.

The plant's log says what a device answered and when: each count of a device is given once, and written down
before it is sent. So a value that was never given, or given at another time, is known from outside.

Pure functions over :class:`AgentEvidence`. Not here: the messages as such (`agent_wire_lines`).
"""

from collections.abc import Iterator
from decimal import Decimal
from itertools import pairwise
from typing import Final

from cli.conformance.agent_evidence import AgentEvidence, RowSeen
from cli.conformance.lines import Found, failed, judged, passed, untested
from core.manifest import Group, ValueKind, shown
from core.quality import reasons
from core.ranges import RangeSet

SLACK_MS: Final = 60
"""How far the wall clock's readings of two processes, rounded to milliseconds, may differ."""
HEARD_MS: Final = 500
"""So long after a device gave an answer a gateway on a busy machine may first look at its clock."""
AFTER_MS: Final = 4000
"""So long after its end a fault may still show: a late answer, a device that is asked again after a pause."""
SPOILS: Final = ("garbage", "half", "wrong-unit", "stale")
NEIGHBOUR_MISSES: Final = 1
"""Ticks in a row that a device may miss while others fail."""


def every_tick(seen: AgentEvidence) -> Found:
    """Between the first and the last row of a group every tick is a row or in a Gap."""
    told: dict[str, RangeSet] = {}
    ends: dict[str, tuple[Group, int, int]] = {}
    for row in seen.rows:
        number = _number(row.group, row.row.tick)
        told.setdefault(row.key, RangeSet()).add(number, number)
        _, low, high = ends.get(row.key, (row.group, number, number))
        ends[row.key] = (row.group, min(low, number), max(high, number))
    for gap in seen.gaps:
        first, last = _number(gap.group, gap.gap.first_tick), _number(gap.group, gap.gap.last_tick)
        if first <= last:
            told.setdefault(gap.group.key, RangeSet()).add(first, last)
    faults = []
    ticks = 0
    for key, (group, low, high) in ends.items():
        ticks += high - low + 1
        for first, last in told[key].missing(low, high):
            at = first * group.every_ms + group.phase_ms
            faults.append(f"{group.device}: {last - first + 1} ticks from {at} on have neither row nor Gap")
    if faults:
        return failed(f"{len(faults)} spans of ticks are not told", faults)
    return passed(f"{ticks} ticks of {len(ends)} groups") if ticks else untested("no rows came")


def on_grid(seen: AgentEvidence) -> Found:
    """Offsets are the time from the tick to the answer, and no answer is after the message that tells it."""
    faults = []
    for one in seen.rows:
        row = one.row
        if (row.tick - one.group.phase_ms) % one.group.every_ms:
            faults.append(f"{one} is not on the grid of {one.group.every_ms} ms")
        for offset in row.offsets:
            if offset < 0 or row.tick + offset > one.heard.at_ms + SLACK_MS:
                faults.append(f"{one} has an answer at {row.tick + offset}, and came at {one.heard.at_ms}")
    for one, index, value in seen.counted():
        gave = seen.counts[one.group.device].get(_count(value))
        if gave is None or gave < one.row.tick - SLACK_MS or not one.row.offsets:
            continue  # a value of no answer to this poll is another line's affair
        offset = one.row.offsets[one.group.points[index].request]
        if not gave - SLACK_MS <= one.row.tick + offset <= gave + HEARD_MS:
            faults.append(
                f"{one}: the answer was given {gave - one.row.tick} ms after its tick, not {offset}"
            )
    return judged(faults, len(seen.rows), "rows", "rows have instants that cannot be")


# --- counts: what a device gave, and when


def of_its_tick(seen: AgentEvidence) -> Found:
    """A count that a device gave is in the row of the tick at which it gave it."""
    faults = []
    number = 0
    for one, index, value in seen.counted():
        given = seen.counts[one.group.device].get(_count(value))
        if given is None:
            continue
        number += 1
        offset = one.row.offsets[one.group.points[index].request] if one.row.offsets else 0
        if not one.row.tick - SLACK_MS <= given <= one.row.tick + offset + SLACK_MS:
            faults.append(
                f"{one}: value {value} was given at {given}, its row says {one.row.tick} + {offset} ms"
            )
    return judged(
        faults, number, "values with their instants", "values have a time at which they were not given"
    )


def each_once(seen: AgentEvidence) -> Found:
    """One answer is one row."""
    first: dict[tuple[str, int], RowSeen] = {}
    faults = []
    for one, _, value in seen.counted():
        if _count(value) not in seen.counts[one.group.device]:
            continue
        before = first.setdefault((one.group.device, _count(value)), one)
        if before is not one:
            faults.append(f"{one}: value {value} was already in {before}")
    return judged(faults, len(first), "answers", "rows say again what an earlier row said")


def _invented(seen: AgentEvidence) -> Iterator[tuple[RowSeen, str, int | float | str | bool]]:
    """Yield values that no device gave, with the kind of fault that the device had."""
    for one, _, value in seen.counted():
        if _count(value) not in seen.counts[one.group.device]:
            trouble = seen.trouble_at(
                one.group.device, one.row.tick + seen.every_ms, AFTER_MS + seen.every_ms
            )
            yield one, trouble.kind if trouble is not None else "", value


def given(seen: AgentEvidence) -> Found:
    """A value is one that the device gave."""
    faults = [f"{one}: value {value} was never given" for one, kind, value in _invented(seen) if not kind]
    number = sum(1 for _ in seen.counted())
    return judged(faults, number, "values that the device gave", "values were never given")


def late_answer(seen: AgentEvidence) -> Found:
    """An answer that comes after its time is not taken for the next one."""
    return _nothing_of(seen, ("late",), "late answers")


def garbled_answer(seen: AgentEvidence) -> Found:
    """What is no answer to the request gives no value."""
    return _nothing_of(seen, SPOILS, "spoiled answers")


def _nothing_of(seen: AgentEvidence, kinds: tuple[str, ...], what: str) -> Found:
    troubles = [one for one in seen.troubles if one.kind in kinds]
    if not troubles:
        return untested(f"no device gave {what}")
    faults = [f"{one}: value {value} is of {kind}" for one, kind, value in _invented(seen) if kind in kinds]
    asked = sum(
        1
        for one in seen.rows
        for trouble in troubles
        if _during(one, trouble.device, trouble.begin_ms, trouble.end_ms)
    )
    return judged(faults, asked, f"rows while devices gave {what}", f"values were taken from {what}")


def silent(seen: AgentEvidence) -> Found:
    """Of a device that does not answer there is no value, and a reason."""
    return _no_value(seen, "silent", "did not answer")


def refused(seen: AgentEvidence) -> Found:
    """Of a device that refuses there is no value, and a reason."""
    return _no_value(seen, "exception", "refused")


def _no_value(seen: AgentEvidence, kind: str, what: str) -> Found:
    faults = []
    number = 0
    for trouble in seen.troubles:
        if trouble.kind != kind:
            continue
        for one in seen.rows:
            # At the edges an answer may have been under way.
            if not _during(one, trouble.device, trouble.begin_ms + SLACK_MS, trouble.end_ms - seen.every_ms):
                continue
            number += 1
            for index, value in enumerate(one.row.values):
                if value is not None:
                    name = one.group.points[index].name
                    faults.append(f"{one}: {name} is {value!r} while the device {what}")
                elif not one.reasons(index):
                    faults.append(f"{one}: {one.group.points[index].name} has neither value nor reason")
        held = [
            gap for gap in seen.gaps if gap.group.device == trouble.device and gap.gap.reason == "no-answer"
        ]
        number += sum(1 for gap in held if gap.gap.last_tick >= trouble.begin_ms)
    return judged(faults, number, f"rows and Gaps while a device {what}", f"values of a device that {what}")


def reasons_fit(seen: AgentEvidence) -> Found:
    """What has no value has a reason; a reason that means no value has none beside it."""
    faults = []
    known = reasons()
    number = 0
    for one in seen.rows:
        for index, value in enumerate(one.row.values):
            number += 1
            named = one.reasons(index)
            point = one.group.points[index].name
            if value is None and not named:
                faults.append(f"{one}: {point} has neither value nor reason")
            empty = [name for name in named if name in known and not known[name].carries_value]
            if value is not None and empty:
                faults.append(f"{one}: {point} is {value!r} and {empty[0]}")
    return judged(faults, number, "readings", "readings have a value or a reason that does not fit")


def neighbours(seen: AgentEvidence) -> Found:
    """A device that is well keeps its ticks while others are not."""
    if not seen.troubles:
        return untested("no device failed")
    begin, end = min(one.begin_ms for one in seen.troubles), max(one.end_ms for one in seen.troubles)
    ticks = sorted(
        one.row.tick
        for one, _, _ in seen.counted()
        if one.group.device == "steady" and begin <= one.row.tick <= end
    )
    if not ticks:
        return failed("the steady device has no value while others fail")
    edges = [begin - begin % seen.every_ms, *ticks, end - end % seen.every_ms]
    faults = [
        f"steady: no value from {earlier} to {later}"
        for earlier, later in pairwise(edges)
        if later - earlier > (NEIGHBOUR_MISSES + 1) * seen.every_ms
    ]
    return judged(faults, len(ticks), "ticks of the steady device while others fail", "times it was held up")


def recovers(seen: AgentEvidence) -> Found:
    """After a fault a device has values again."""
    if "faults-over" not in seen.marks:
        return untested("no device failed")
    after_ms = max(one.end_ms for one in seen.troubles)
    devices = sorted({one.device for one in seen.troubles})
    again = {one.group.device for one, _, _ in seen.counted() if one.row.tick > after_ms}
    faults = [f"{device} has no value after its fault" for device in devices if device not in again]
    return judged(faults, len(devices), "devices", "devices did not come back")


# --- exactness


def exact(seen: AgentEvidence) -> Found:
    """Values that are set by hand arrive to the last digit."""
    if not seen.values:
        return untested("no value was set")
    faults = []
    number = 0
    for one in seen.rows:
        if one.group.device != "steady":
            continue
        for point, value in zip(one.group.points, one.row.values, strict=True):
            if point.name not in seen.values or value is None:
                continue
            number += 1
            true = seen.values[point.name]
            said = shown(point, value)
            if said != (true if point.kind is ValueKind.TEXT else Decimal(true)):
                faults.append(f"{one}: {point.name} is {said}, the device shows {true}")
    return judged(faults, number, "values", "values are not what the device shows")


def units(seen: AgentEvidence) -> Found:
    """Units are SI symbols, counters are told as such."""
    faults = []
    number = 0
    for name, manifest in seen.manifests.items():
        for group in manifest.groups:
            for point in group.points:
                wanted = UNITS.get(point.name)
                if wanted is None:
                    continue
                number += 1
                if (point.unit, point.cumulative) != wanted:
                    faults.append(
                        f"manifest {name}: {group.device} {point.name} has {point.unit!r}, {point.cumulative}"
                    )
    return judged(faults, number, "points", "points have another unit, or are counters that do not say so")


UNITS: Final = {
    "PollCount": ("1", True),
    "W": ("W", False),
    "Serial": ("1", False),
    "PhVphA": ("V", False),
    "Nam": ("", False),
}


def _during(row: RowSeen, device: str, begin_ms: int, end_ms: int) -> bool:
    return row.group.device == device and begin_ms <= row.row.tick <= end_ms


def _number(group: Group, tick: int) -> int:
    return (tick - group.phase_ms) // group.every_ms


def _count(value: int | float | str | bool) -> int:
    """Return a count as a number; what is none was never given."""
    try:
        return int(value)
    except ValueError:
        return -1
