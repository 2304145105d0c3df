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


@dataclass(slots=True)
class Ticket:
    """A row on its way into the store; it gets its sequence when it is committed."""

    seq: int | None = None


@dataclass(frozen=True, slots=True)
class Later:
    """A judgement that concerns rows before the present one."""

    point: int
    reason: str
    rule: str
    since: Ticket
    """The first row it concerns."""


class PointSense:
    """What is remembered of one point."""

    def __init__(self, spec: SenseSpec, exp: int, cumulative: bool) -> None:
        step = Decimal(1).scaleb(exp)
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
        self._told_frozen = False

    def judge(self, tick: int, value: Value) -> str | None:
        """Return the reason that concerns this value, None when it makes sense."""
        if not isinstance(value, int) or isinstance(value, bool):
            return None
        if value in self._substituted:
            return "substituted"
        if self._good is None or tick <= self._good[0]:
            self._good, self._doubt = (tick, value), None
            return None
        reason = self._compared(self._good, tick, value)
        if reason in (None, "rollover", "reset"):
            self._good, self._doubt = (tick, value), None
            return reason
        agrees = self._doubt is not None and self._compared(self._doubt[:2], tick, value) is None
        count = self._doubt[2] + 1 if agrees and self._doubt is not None else 1
        self._doubt = (tick, value, count)
        if count >= ACCEPTED_AFTER:
            self._good, self._doubt = (tick, value), None
            return "reset" if self._cumulative else reason
        return reason

    def _compared(self, good: tuple[int, int], tick: int, value: int) -> str | None:
        before_ms, before = good
        lapse_ms, change = tick - before_ms, value - before
        if not self._cumulative or change >= 0:
            return "rate" if not self._possible(abs(change), lapse_ms) else None
        if self._modulus is not None and self._gained_over_rollover(before, value, lapse_ms):
            return "rollover"
        if self._rate is not None:
            return "reset" if self._possible(value, lapse_ms) else "decreased"
        return "reset" if value * RESET_PART <= before else "decreased"

    def _gained_over_rollover(self, before: int, value: int, lapse_ms: int) -> bool:
        assert self._modulus is not None
        gained = value + self._modulus - before
        if self._rate is not None:
            return self._possible(gained, lapse_ms)
        return gained * ROLLOVER_PART <= self._modulus

    def _possible(self, steps: int, lapse_ms: int) -> bool:
        return self._rate is None or steps * 1000 <= self._rate * max(lapse_ms, 1)

    def frozen(self, tick: int, value: Value, row: Ticket) -> tuple[bool, Ticket | None]:
        """Return whether the value is frozen now, and from which row on when that is news."""
        if self._frozen_ms is None or not isinstance(value, int) or isinstance(value, bool):
            return False, None
        if self._same is None or self._same[1] != value or tick < self._same[0]:
            self._same, self._told_frozen = (tick, value, row), False
            return False, None
        if tick - self._same[0] < self._frozen_ms:
            return False, None
        if self._told_frozen:
            return True, None
        self._told_frozen = True
        return True, self._same[2]

    @property
    def frozen_rule(self) -> str:
        """Name of the rule with its limit, for the record."""
        return f"frozen {(self._frozen_ms or 0) // 1000} s"


class GroupSense:
    """The points of one group that say how they behave."""

    def __init__(self, points: Sequence[PointType], exps: Sequence[int]) -> None:
        """Prepare; ``exps`` are the exponents of the values as they stand in rows."""
        self._senses = [
            (index, str(index), PointSense(point.sense or SenseSpec(), exp, point.cumulative))
            for index, (point, exp) in enumerate(zip(points, exps, strict=True))
            if (point.sense is not None or point.cumulative) and point.kind.value == "integer"
        ]

    def __bool__(self) -> bool:
        return bool(self._senses)

    def remember(self, tick: int, values: Sequence[Value]) -> None:
        """Take a row of an earlier life as what the next is compared with; nothing is judged."""
        for index, _, sense in self._senses:
            sense.judge(tick, values[index])

    def judge(
        self, tick: int, values: Sequence[Value], quality: dict[str, list[str]], row: Ticket
    ) -> list[Later]:
        """Add reasons to the quality of a row; return what concerns the rows before it."""
        later: list[Later] = []
        for index, key, sense in self._senses:
            if key in quality:
                continue  # out of range or without a value: no ground for a comparison
            value = values[index]
            reason = sense.judge(tick, value)
            if reason is not None:
                quality.setdefault(key, []).append(reason)
            frozen, since = sense.frozen(tick, value, row)
            if frozen:
                quality.setdefault(key, []).append("frozen")
            if since is not None:
                later.append(Later(index, "frozen", sense.frozen_rule, since))
        return later
