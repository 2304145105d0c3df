"""Intervals of a cumulative register: how much was counted in each quarter of an hour.

One rule for everybody who makes intervals, at the edge and at the head-end:

- An interval is half-open, [start, end), stored by its start, aligned to the clock in UTC.
- The *edge value* of a boundary is the first good sample at or after it, if it is not later than a
  tolerance. Neighbours share it: so the amounts of actual intervals add up to the register difference.
- ``actual``: both edge values are there and nothing between them makes their difference doubtful.
  ``partial``: something is missing; the amount is that of the pairs of good samples which surely belong
  to the interval, never more than what was counted. ``missing``: not even one such pair.
- Registers of two meters, or of two transformer ratios, are never subtracted from each other; a reset
  and a decrease that nothing explains make an interval partial. So does an edge value of which the clock
  was in doubt: the amount is right and belongs to about this time. A rollover is handled exactly where the
  modulus is known, and makes the interval partial where it is not.
- What lies between the edges does not matter for the amount: a register goes on counting while nobody
  reads it. The reasons of readings inside are told nevertheless.

All in integers, steps of the register. Pure; samples come in the order of their ticks, intervals go out
in the order of their starts, two are in memory at a time.  Not here: where samples come from.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import Final, NamedTuple

LENGTHS: Final = {"5min": 300_000, "15min": 900_000, "30min": 1_800_000, "60min": 3_600_000, "1h": 3_600_000}
"""How a length is written, with its milliseconds; each divides an hour, and the day."""

SOUND: Final = frozenset({"rollover", "reset"})
"""Reasons of a reading whose value is what the register shows: it may be an edge value."""
TIME_IN_DOUBT: Final = frozenset({"clock-unsure", "clock-forward"})
"""Reasons that concern the time and not the value: it may be an edge value, of partial intervals."""
_COUNTED: Final = SOUND | TIME_IN_DOUBT

NO_START: Final = "no-start-edge"
NO_END: Final = "no-end-edge"
METER_CHANGE: Final = "meter-change"
TRANSFORMER_CHANGE: Final = "transformer-change"
DECREASED: Final = "decreased"


class Completeness(Enum):
    """How far the amount of an interval can be trusted."""

    ACTUAL = "actual"
    PARTIAL = "partial"
    MISSING = "missing"


class Register(NamedTuple):
    """What a sample was read from: values of two different ones are never subtracted."""

    meter: str
    ratio: str = "1"


class Sample(NamedTuple):
    """One reading of a cumulative register."""

    tick: int
    """UTC, ms since 1970."""
    steps: int | None
    """None: there is no value."""
    reasons: tuple[str, ...] = ()
    """Why it is not simply good."""
    register: Register = Register("")
    within_ms: int = 0
    """It is the edge value of a boundary that it follows by no more than this."""
    modulus: int | None = None
    """Steps at which the register begins again, when that is known."""

    @property
    def good(self) -> bool:
        """Whether its value may be counted with."""
        return self.steps is not None and _COUNTED.issuperset(self.reasons)


@dataclass(frozen=True, slots=True)
class Interval:
    """What was counted in [start_ms, end_ms)."""

    start_ms: int
    end_ms: int
    steps: int | None
    """Amount; of a partial interval the part that is sure, of a missing one None."""
    completeness: Completeness
    reasons: tuple[str, ...]
    """Why it is not actual, and the reasons of the readings inside; in the order in which they came."""
    good: int
    """Good samples inside."""


@dataclass(slots=True)
class _Open:
    """An interval that is not over yet."""

    number: int
    start_edge: bool = False
    end_edge: bool = False
    broken: bool = False
    steps: int = 0
    pairs: int = 0
    good: int = 0
    reasons: dict[str, None] = field(default_factory=dict)

    def note(self, *reasons: str) -> None:
        self.reasons.update(dict.fromkeys(reasons))

    def closed(self, every_ms: int) -> Interval:
        start = self.number * every_ms
        whole = self.start_edge and self.end_edge and not self.broken
        found = Completeness.ACTUAL if whole else Completeness.PARTIAL
        if not self.pairs:
            found = Completeness.MISSING
        edges = [*([] if self.start_edge else [NO_START]), *([] if self.end_edge else [NO_END])]
        return Interval(
            start,
            start + every_ms,
            self.steps if self.pairs else None,
            found,
            (*edges, *self.reasons),
            self.good,
        )


def intervals(
    samples: Iterable[Sample], every_ms: int, from_ms: int | None = None, to_ms: int | None = None
) -> Iterator[Interval]:
    """Yield the intervals of some samples, without a hole.

    Args:
        samples: in the order of their ticks; one that comes later than that is passed over, and of
            several good ones with one tick the first counts.
        every_ms: length, see :data:`LENGTHS`.
        from_ms: the first interval is the first that begins here or later; None: the one of the first
            sample.
        to_ms: the last interval is the last that ends here or earlier. None: the last one of which the
            end was reached. Samples are needed up to :func:`last_needed`.
    """
    first = None if from_ms is None else -(-from_ms // every_ms)
    last = None if to_ms is None else to_ms // every_ms - 1
    run = _Run(every_ms, first, last)
    for sample in samples:
        if first is not None and sample.tick < first * every_ms:
            continue
        if last is not None and sample.tick >= (last + 2) * every_ms:
            break
        yield from run.take(sample)
    yield from run.rest()


def last_needed(every_ms: int, to_ms: int) -> int:
    """Return the end of the ticks that are needed to make the intervals up to an instant."""
    return (to_ms // every_ms + 1) * every_ms


class _Run:
    """The walk over the samples; intervals are numbered from 1970 on."""

    def __init__(self, every_ms: int, first: int | None, last: int | None) -> None:
        self._every_ms = every_ms
        self._last = last
        self._next = first
        """The next interval that goes out; None: that of the first sample."""
        self._open: dict[int, _Open] = {}
        """At most two: the one that runs, and the one before it, which waits for its end edge."""
        self._before: Sample | None = None
        """The last good sample."""
        self._rollovers = 0
        self._reset = False
        """What samples after it told that are not good themselves."""
        self._newest = -(2**63)

    def take(self, sample: Sample) -> Iterator[Interval]:
        """Take the next sample; intervals that it decides go out."""
        if sample.tick < self._newest:
            return
        self._newest = sample.tick
        number = sample.tick // self._every_ms
        if self._next is None:
            self._next = number
        yield from self._out(number - 1)
        current = self._at(number)
        current.note(*(reason for reason in sample.reasons if reason not in SOUND))
        before = self._before
        if not sample.good:
            if before is not None and before.register == sample.register:
                self._rollovers += "rollover" in sample.reasons
                self._reset = self._reset or "reset" in sample.reasons
            return
        if before is not None and sample.tick == before.tick:
            return
        edge = not current.good and sample.tick - number * self._every_ms <= sample.within_ms
        if edge:
            current.start_edge = True
            ended = self._at(number - 1)
            ended.end_edge = True
            doubts = TIME_IN_DOUBT.intersection(sample.reasons)
            if doubts:
                ended.note(*sorted(doubts))
                current.broken = ended.broken = True
        current.good += 1
        if before is not None:
            self._pair(before, sample, number - edge)
        self._before, self._rollovers, self._reset = sample, 0, False
        yield from self._out(number)

    def rest(self) -> Iterator[Interval]:
        """Let the rest go: up to the last that was asked for, else up to the last that is over."""
        yield from self._out(self._newest // self._every_ms if self._last is None else self._last + 1)

    def _pair(self, before: Sample, sample: Sample, end: int) -> None:
        """Count what lies between two good samples that follow each other.

        ``end`` is the interval of the second one; of an edge value, the one that ends with it.
        """
        steps, event = self._difference(before, sample)
        begin = before.tick // self._every_ms
        if event:
            # Where it happened within the pair, nobody knows; what went out already had no end edge.
            for number in range(max(begin, end - 1), end + 1):
                touched = self._at(number)
                touched.note(event)
                touched.broken = touched.broken or steps is None
        if steps is not None and begin == end:
            counted = self._at(begin)
            counted.steps += steps
            counted.pairs += 1

    def _difference(self, before: Sample, sample: Sample) -> tuple[int | None, str]:
        """Return the steps between two good samples, None when that cannot be said, and what happened."""
        assert before.steps is not None
        assert sample.steps is not None
        if before.register.meter != sample.register.meter:
            return None, METER_CHANGE
        if before.register != sample.register:
            return None, TRANSFORMER_CHANGE
        if self._reset or "reset" in sample.reasons:
            return None, "reset"
        rollovers = self._rollovers + ("rollover" in sample.reasons)
        difference = sample.steps - before.steps
        if rollovers:
            if sample.modulus is None:
                return None, "rollover"
            difference += rollovers * sample.modulus
        if difference < 0:
            return None, DECREASED
        return difference, "rollover" if rollovers else ""

    def _at(self, number: int) -> _Open:
        found = self._open.get(number)
        if found is None:
            found = self._open[number] = _Open(number)
        return found

    def _out(self, before: int) -> Iterator[Interval]:
        """Let the intervals go whose number is below ``before``, and none behind the last."""
        if self._next is None:
            return
        if self._last is not None:
            before = min(before, self._last + 1)
        while self._next < before:
            yield (self._open.pop(self._next, None) or _Open(self._next)).closed(self._every_ms)
            self._next += 1
        for number in [number for number in self._open if number < self._next]:
            del self._open[number]
