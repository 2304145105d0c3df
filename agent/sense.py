"""Register sense: what a value means beside the values before it.

A counter rolls over, is reset, or goes back where it must not; a value jumps faster
than the quantity can; a register freezes.  Each judgement is a reason of the closed
list, at once where it can be known at once, else a later judgement over the rows
since it began.  A doubtful value is kept with its reason, never dropped and never
replaced.  Pure: ticks and values come in, reasons go out.

A wrong value that is plausible in every one of these ways cannot be told from a
right one here.  Not here: range and "not available" (``drivers.modbus.values``).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from core.manifest import Value
from drivers.points import PointType, SenseSpec

ACCEPTED_AFTER: Final = 3
"""So many values in a row that agree with each other are a new level, not a slip; ours."""
RESET_PART: Final = 100
ROLLOVER_PART: Final = 10
"""Without a greatest rate: after a reset a counter is below 1/100 of what it was, and over a
rollover it gains less than 1/10 of its span; ours."""

FROZEN_READINGS: Final = 5
"""So many times in a row the same is no chance; a value polled seldom is not frozen after one; ours."""


@dataclass(slots=True)
class Ticket:
    """A row of an earlier life, or one on its way into the store that is told its sequence by the commit."""

    seq: int | None = None
    valued: bool = True
    """Whether it has any value: if so, the first row of the next life is compared with it."""
    epoch: str = ""
    """The earlier life; empty: this one."""
    lost: bool = False
    """It was left out, or the store had no room for it."""


@dataclass(frozen=True, slots=True)
class Later:
    """A judgement that concerns rows before the present one."""

    point: int
    reason: str
    rule: str
    since: Ticket
    """The first row it concerns."""


@dataclass(frozen=True, slots=True)
class Recalled:
    """The last row of a group before this life."""

    tick: int
    values: tuple[Value, ...]
    """What registers showed, in the steps of today; None where nothing is to be compared with."""
    row: Ticket
    frozen: frozenset[int]
    """Points of which was told already that they are frozen."""
    sure: bool
    """The clock was synchronised, so that the tick is the true time."""


class PointSense:
    """What is remembered of one point."""

    def __init__(self, spec: SenseSpec, exp: int, cumulative: bool, grain: int = 1) -> None:
        """Prepare for values in steps of 10**exp, of which the register shows every ``grain``-th."""
        step = Decimal(1).scaleb(exp)
        self._grain = grain
        self._refresh_ms = spec.refresh_ms
        self._cumulative = cumulative
        self._rate = None if spec.max_rate is None else spec.max_rate / step
        """Steps a second."""
        self._modulus = None if spec.modulus is None else int(spec.modulus / step)
        self._substituted = frozenset(int(value / step) for value in spec.substituted)
        self._frozen_ms = spec.frozen_ms
        self._good: tuple[int, int] | None = None
        """Tick and value that the next is compared with."""
        self._doubt: tuple[int, int, int] | None = None
        """Tick, value and number of doubtful values that agree with each other."""
        self._same: tuple[int, int, Ticket] | None = None
        """Since when, and from which row on, the value has not changed."""
        self._again = 0
        """How often it was the same again."""
        self._told_frozen = False
        self._recalled: bool | None = None
        """Set while the ground is of an earlier life: whether its tick is the true time."""
        self._watched = True
        """The value was seen since this life began."""

    def recall(self, tick: int, value: Value, row: Ticket, frozen: bool, sure: bool) -> None:
        """Take a value of an earlier life as what the next is compared with; nothing is judged.

        ``frozen``: that it is was told already. ``sure``: the clock was right.
        """
        if not isinstance(value, int) or isinstance(value, bool) or value in self._substituted:
            return
        self._good, self._recalled = (tick, value), sure
        self._same, self._told_frozen, self._watched = (tick, value, row), frozen, False

    def judge(self, tick: int, value: Value, sure: bool = True) -> str | None:
        """Return the reason that concerns this value, None when it makes sense.

        ``sure``: our clock is. Between two lives a clock in doubt says nothing of the time that passed.
        """
        if not isinstance(value, int) or isinstance(value, bool):
            return None
        if value in self._substituted:
            return "substituted"
        if self._good is None or tick <= self._good[0]:
            self._take(tick, value)
            return None
        timed = self._recalled is None or (self._recalled and sure)
        reason = self._compared(self._good, tick, value, timed)
        if reason in (None, "rollover", "reset"):
            self._take(tick, value)
            return reason
        agrees = self._doubt is not None and self._compared(self._doubt[:2], tick, value) is None
        count = self._doubt[2] + 1 if agrees and self._doubt is not None else 1
        self._doubt = (tick, value, count)
        if count >= ACCEPTED_AFTER:
            self._take(tick, value)
            return "reset" if self._cumulative else reason
        return reason

    def _take(self, tick: int, value: int) -> None:
        self._good, self._doubt, self._recalled = (tick, value), None, None

    def _compared(self, good: tuple[int, int], tick: int, value: int, timed: bool = True) -> str | None:
        """Compare with an earlier value; ``timed``: the time between the two is known."""
        before_ms, before = good
        rate = self._rate if timed else None
        lapse_ms, change = tick - before_ms, value - before
        if not self._cumulative or change >= 0:
            return "rate" if not self._possible(rate, abs(change), lapse_ms) else None
        if self._rolled_over(before, value, rate, lapse_ms):
            return "rollover"
        if rate is not None:
            return "reset" if self._possible(rate, value, lapse_ms) else "decreased"
        return "reset" if value * RESET_PART <= before else "decreased"

    def _rolled_over(self, before: int, value: int, rate: Decimal | None, lapse_ms: int) -> bool:
        """Tell whether a rollover explains a decrease, by what was gained if it was one."""
        if self._modulus is None or before >= self._modulus:
            return False
        gained = value + self._modulus - before
        if rate is not None:
            return self._possible(rate, gained, lapse_ms)
        return gained * ROLLOVER_PART <= self._modulus

    def _possible(self, rate: Decimal | None, steps: int, lapse_ms: int) -> bool:
        """Tell whether a change is possible.

        The register moves by whole steps of its own, and what it shows may be as old as its refresh: a
        change that is polled in between belongs to a longer time.
        """
        if rate is None:
            return True
        return (steps - self._grain) * 1000 <= rate * (max(lapse_ms, 1) + self._refresh_ms)

    def frozen(self, tick: int, value: Value, row: Ticket) -> tuple[bool, Ticket | None]:
        """Return whether the value is frozen now, and from which row on when that is news."""
        if self._frozen_ms is None or not isinstance(value, int) or isinstance(value, bool):
            return False, None
        if self._same is None or self._same[1] != value or (tick < self._same[0] and self._watched):
            self._same, self._again, self._told_frozen = (tick, value, row), 0, False
            self._watched = True
            return False, None
        self._again += 1
        if value == 0:  # a phase without voltage, a load that is off: at rest, not frozen
            return False, None
        if self._told_frozen:
            return True, None
        if not self._watched:  # nobody looked between the two lives: only what this one saw counts
            before = self._same[2]
            self._same, self._watched = (tick, value, before if before.epoch else row), True
            self._again = 0
        if self._same[2].lost:  # a judgement can only begin with a row that is there
            self._same = (self._same[0], value, row)
        if tick - self._same[0] < self._frozen_ms or self._again < FROZEN_READINGS:
            return False, None
        self._told_frozen = True
        return True, self._same[2]

    def tell_again(self) -> None:
        """Take what was told last for not told: nobody could write it down."""
        self._told_frozen = False

    @property
    def frozen_rule(self) -> str:
        """Name of the rule with its limit, for the record."""
        return f"frozen {(self._frozen_ms or 0) // 1000} s"


class GroupSense:
    """The points of one group that say how they behave."""

    def __init__(self, points: Sequence[PointType], exps: Sequence[int]) -> None:
        """Prepare; ``exps`` are the exponents of the values as they stand in rows."""
        self._senses = [
            (index, str(index), PointSense(point.sense or SenseSpec(), exp, point.cumulative, point.grain))
            for index, (point, exp) in enumerate(zip(points, exps, strict=True))
            if (point.sense is not None or point.cumulative) and point.kind.value == "integer"
        ]

    def __bool__(self) -> bool:
        return bool(self._senses)

    def remember(self, before: Recalled) -> None:
        """Take a row of an earlier life as what the next is compared with; nothing is judged."""
        for index, _, sense in self._senses:
            frozen = index in before.frozen
            sense.recall(before.tick, before.values[index], before.row, frozen, before.sure)

    def tell_again(self, later: Later) -> None:
        """Tell a judgement once more, if it still holds: nobody could write it down."""
        for index, _, sense in self._senses:
            if index == later.point:
                sense.tell_again()

    def judge(
        self,
        tick: int,
        values: Sequence[Value],
        quality: dict[str, list[str]],
        row: Ticket,
        sure: bool = True,
    ) -> list[Later]:
        """Add reasons to the quality of a row; return what concerns the rows before it."""
        later: list[Later] = []
        for index, key, sense in self._senses:
            if key in quality:
                continue  # out of range or without a value: no ground for a comparison
            value = values[index]
            reason = sense.judge(tick, value, sure)
            if reason is not None:
                quality.setdefault(key, []).append(reason)
            frozen, since = sense.frozen(tick, value, row)
            if frozen:
                quality.setdefault(key, []).append("frozen")
            if since is not None:
                later.append(Later(index, "frozen", sense.frozen_rule, since))
        return later
