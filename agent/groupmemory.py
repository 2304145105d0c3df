"""What a worker remembers of one group between ticks, and what it makes of each poll.

Decides, for every poll: which reasons the row gets (a special time, register sense,
an unsure clock), whether a row is written at all, and why the ticks before it have
none.  Two kinds of ticks are left out on purpose, and lie in a Gap that says so:
those of a device that goes on giving no answer (``no-answer``: one record over the
span, not one a tick), and those in which nothing changed where a group is reported
by exception (``unchanged``).  Pure.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from agent.deviceclock import GroupClocks
from agent.lived import Lived, LivedTicks
from agent.sense import GroupSense, Later, Recalled, Ticket
from core.manifest import Value
from drivers.points import PointType

NO_ANSWER: Final = frozenset({"timeout", "backoff", "line-down", "bad-frame"})
SILENT_ROW_MS: Final = 15 * 60_000
"""A device that stays silent still gets a row this often, so that the span so far is told."""


@dataclass(frozen=True, slots=True)
class ByException:
    """Report by exception: a row only when something changed, and at every heartbeat."""

    heartbeat_ms: int
    deadbands: tuple[Decimal, ...]
    """For each point, in its unit and before any transformer ratio; a change of more than this is one."""
    changes: tuple[int, ...] = ()
    """Instants at which values begin to mean something else: the first tick from one on gets a row."""


@dataclass(frozen=True, slots=True)
class Judged:
    """What became of a poll."""

    write: bool
    """Whether a row is to be written."""
    silent: bool
    """The device gave no answer."""
    reason: str
    """Why ticks since the last row are missing, if some are."""
    quality: dict[str, list[str]]
    later: list[Later]
    row: Ticket


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Ticks without a row, on purpose, and all of them for one reason."""

    since: int
    """Tick of the last row written, after which they begin."""
    tick: int
    """The last of them."""
    reason: str


class GroupMemory:
    """One group of one worker."""

    def __init__(
        self,
        points: Sequence[PointType],
        exps: Sequence[int],
        every_ms: int,
        lived: Lived,
        steps: int,
        by_exception: ByException | None = None,
        recalled: Recalled | None = None,
    ) -> None:
        """Begin with the ticks that the lives before polled; ``steps`` counts steps of the clock.

        ``recalled`` is the last row before this life, if anything of it may be compared with.
        """
        self.lived = LivedTicks(lived, steps)
        self.sense = GroupSense(points, exps)
        if recalled is not None:
            self.sense.remember(recalled)
        self.clocks = GroupClocks(points, exps, steps)
        self._every_ms = every_ms
        self._by_exception = by_exception
        self._bands = (
            ()
            if by_exception is None
            else tuple(band.scaleb(-exp) for band, exp in zip(by_exception.deadbands, exps, strict=True))
        )
        self._last: tuple[int, Sequence[Value], bool] | None = None
        """Tick, values and silence of the last row written."""
        self._left_out = 0
        """Ticks since that row that were left out on purpose."""
        self._why = ""
        self._reasons: dict[str, list[str]] = {}
        """Reasons in the last row written, save those of the clock."""
        self._new_reasons: dict[str, list[str]] = {}

    def judge(
        self,
        tick: int,
        steps: int,
        values: Sequence[Value],
        quality: dict[str, list[str]],
        unsure: bool,
        exchanges: Mapping[int, tuple[float, float]] | None = None,
    ) -> Judged:
        """Judge one poll.

        Args:
            tick: the grid instant.
            steps: how often the clock was stepped before the poll began.
            values: decoded, one a point.
            quality: reasons by point, as decoded; more are added.
            unsure: the gateway's clock is not synchronised.
            exchanges: for points that are clocks of their device, when they were asked for and answered,
                in ms from the tick.
        """
        ticket = Ticket(valued=any(value is not None for value in values))
        silent = is_silent(values, quality)
        later = (
            self.sense.judge(tick, values, quality, ticket, not unsure) if self.sense and not silent else []
        )
        if exchanges and not unsure:
            self.clocks.judge(tick, steps, values, quality, exchanges)
        self._new_reasons = {key: list(reasons) for key, reasons in quality.items()}
        mark = self.lived.mark(tick, steps)
        marks = [*([mark] if mark is not None else []), *(["clock-unsure"] if unsure else [])]
        if marks:
            quality["*"] = [*quality.get("*", []), *marks]
        stepped = self.lived.stepped(steps)
        write = stepped or mark is not None or bool(later) or self._due(tick, values, silent)
        ticket.lost = not write
        return Judged(write, silent, "clock-step" if stepped else self._reason(tick), quality, later, ticket)

    def left_out(self, tick: int, silent: bool) -> LeftOut | None:
        """Note that a poll was judged and no row written; return what the ticks since the last row are."""
        why = "no-answer" if silent else "unchanged"
        self._why = why if self._why in ("", why) else "overrun"
        self._left_out += 1
        if self._last is None:
            return None
        return LeftOut(self._last[0], tick, self._reason(tick + self._every_ms))

    def refused(self, judged: Judged) -> None:
        """Note that the store had no room for a row."""
        judged.row.lost = True
        for later in judged.later:
            self.sense.tell_again(later)

    def written(self, tick: int, steps: int, values: Sequence[Value], silent: bool) -> None:
        """Note that the store took a row."""
        self.lived.lived(tick, steps)
        self._last = (tick, values, silent)
        self._reasons = self._new_reasons
        self._left_out, self._why = 0, ""

    def _due(self, tick: int, values: Sequence[Value], silent: bool) -> bool:
        if self._last is None:
            return True
        before, old, was_silent = self._last
        if silent:
            return not was_silent or tick - before >= SILENT_ROW_MS
        if self._by_exception is None or was_silent or tick - before >= self._by_exception.heartbeat_ms:
            return True
        if any(before < at <= tick for at in self._by_exception.changes):
            return True
        if self._new_reasons != self._reasons:
            return True
        return any(
            _changed(one, other, band) for one, other, band in zip(old, values, self._bands, strict=True)
        )

    def _reason(self, tick: int) -> str:
        """Name the ticks since the last row: left out on purpose when all of them were, else overrun."""
        if self._last is None or not self._left_out:
            return "overrun"
        missing = (tick - self._last[0]) // self._every_ms - 1
        return self._why if missing == self._left_out else "overrun"


def is_silent(values: Sequence[Value], quality: dict[str, list[str]]) -> bool:
    """Tell whether a poll brought nothing because the device gave no answer."""
    return bool(set(quality.get("*", ())) & NO_ANSWER) and all(value is None for value in values)


def _changed(old: Value, new: Value, band: Decimal) -> bool:
    if isinstance(old, bool) or isinstance(new, bool) or old is None or new is None:
        return old is not new
    if isinstance(old, str) or isinstance(new, str):
        return old != new
    return abs(Decimal(repr(new)) - Decimal(repr(old))) > band
