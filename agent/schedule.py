"""The poll grid: at which instants groups are due, aligned to the wall clock.

A tick is a multiple of the interval plus the phase, counted from 1970 UTC, so that
it is the same whoever computes it and whenever the agent was started.  Pure: now
is an argument, in ms.  Not here: waiting, noticing that the clock was stepped
(`resync` is called by whoever does), and the Gap for ticks that were skipped,
which the store derives from the ticks of the rows.
"""

import heapq
from collections.abc import Sequence
from typing import Generic, Protocol, TypeVar


class Paced(Protocol):
    """Something that is due on a grid."""

    @property
    def every_ms(self) -> int: ...
    @property
    def phase_ms(self) -> int: ...


def tick_at_or_before(at_ms: int, every_ms: int, phase_ms: int = 0) -> int:
    """Return the latest tick that is not after an instant."""
    return at_ms - (at_ms - phase_ms) % every_ms


def next_tick(after_ms: int, every_ms: int, phase_ms: int = 0) -> int:
    """Return the first tick strictly after an instant."""
    return tick_at_or_before(after_ms, every_ms, phase_ms) + every_ms


def ticks_between(first: int, last: int, every_ms: int) -> int:
    """Return how many ticks lie in first..last, both of which are ticks and count; 0 when last < first."""
    return max(0, (last - first) // every_ms + 1)


def missed(last_tick: int, tick: int, every_ms: int) -> tuple[int, int, int] | None:
    """Return the ticks strictly between two ticks of a grid as (first, last, how many), or None.

    None also when ``tick`` is not after ``last_tick``: the clock went back.
    """
    many = (tick - last_tick - 1) // every_ms
    if many < 1:
        return None
    return tick - many * every_ms, tick - every_ms, many


_Group = TypeVar("_Group", bound=Paced)


class LineSchedule(Generic[_Group]):
    """When the groups of one line are due.  Mutable; owned by the worker of the line."""

    def __init__(self, groups: Sequence[_Group], now_ms: int) -> None:
        """Begin with the first tick of each group strictly after ``now_ms``."""
        self._groups = tuple(groups)
        self._next: list[tuple[int, int]] = []
        self.resync(now_ms)

    def resync(self, now_ms: int) -> None:
        """Continue with the first tick of each group strictly after ``now_ms``, wherever the clock was.

        To be called when the wall clock was stepped, forward or back.  After a step back the ticks
        of the time that is lived twice are due twice.
        """
        self._next = [
            (next_tick(now_ms, group.every_ms, group.phase_ms), index)
            for index, group in enumerate(self._groups)
        ]
        heapq.heapify(self._next)

    def next_ms(self) -> int | None:
        """Return the instant at which something is due next; None when there are no groups."""
        return self._next[0][0] if self._next else None

    def due(self, now_ms: int) -> list[tuple[int, _Group]]:
        """Take what is due at ``now_ms``: each group at most once, with its latest tick not after now.

        Ticks before that one are too late (an old value would get a new time) and are skipped.
        The group that waits longest comes first.
        """
        taken: list[tuple[int, _Group]] = []
        while self._next and self._next[0][0] <= now_ms:
            _, index = self._next[0]
            group = self._groups[index]
            tick = tick_at_or_before(now_ms, group.every_ms, group.phase_ms)
            heapq.heapreplace(self._next, (tick + group.every_ms, index))
            taken.append((tick, group))
        return taken
