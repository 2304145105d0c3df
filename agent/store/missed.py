"""Which ticks have no row, and why: derived when a row commits, never counted on the way.

A missed tick cannot be forgotten, whatever the reason it was missed: every tick of
a group's grid between its last committed row and the next one becomes part of a
Gap.  What is kept here is only the *reason*, as far as it is known.  Pure; owned by
the writer's thread, save for :meth:`refused` and :meth:`left_out`, which are one assignment each.
"""

from dataclasses import dataclass
from typing import Final

from agent.groupmemory import LeftOut
from agent.schedule import missed
from core.manifest import Group

NOT_YET: Final = "stopped"
"""A new group between the start of the agent and its first poll: not running yet."""


@dataclass(frozen=True, slots=True)
class MissedTicks:
    """Ticks of one group without a row."""

    first: int
    last: int
    ticks: int
    reason: str
    unknown_extent: bool = False
    """The clock went back meanwhile: at least these, and nobody knows how many."""


class Missed:
    """The last committed tick of each group, and what may explain a hole after it."""

    def __init__(
        self,
        groups: tuple[Group, ...],
        ticks: dict[int, int],
        first_reason: str,
        begun: dict[int, int] | None = None,
    ) -> None:
        """Begin with what the store holds.

        Args:
            groups: of the manifest in force.
            ticks: last committed tick by group number, from the store.
            first_reason: why ticks before the first row of each group are missing.
            begun: for groups that have no row yet, the tick at which they were begun: what is due
                after it is a row or lies in a Gap, also when the first commits fail.
        """
        self.ticks = ticks | (begun or {})
        """Last committed tick by group number."""
        self.begun: dict[int, int] = dict(begun or {})
        """For groups never seen before: the tick before their first row."""
        self._every = {group.group: group.every_ms for group in groups}
        self._first_reason = dict.fromkeys(self._every, first_reason) | dict.fromkeys(begun or {}, NOT_YET)
        self._no_room: dict[int, int] = {}
        self._left_out: dict[int, LeftOut] = {}

    def refused(self, grp: int, tick: int) -> None:
        """Note that a row was refused because the disk is full (any thread)."""
        self._no_room[grp] = tick

    def refused_ticks(self) -> dict[int, int]:
        """Return the last refused tick, by group number, of those that no row has followed yet."""
        return {grp: tick for grp, tick in self._no_room.items() if tick > self.ticks.get(grp, tick)}

    def left_out(self, grp: int, left_out: LeftOut) -> None:
        """Note ticks left out on purpose (under the writer's lock)."""
        self._left_out[grp] = left_out

    def open_spans(self) -> dict[int, LeftOut]:
        """Return, by group number, the ticks left out after the row that was committed last.

        Those after a row that still waits for its commit are none: that row would be missing in between.
        """
        return {grp: one for grp, one in self._left_out.items() if self.ticks.get(grp) == one.since}

    def before(self, grp: int, tick: int, reason: str, pending: dict[int, int]) -> MissedTicks | None:
        """Return the ticks missed before a row, or None; ``pending`` are ticks not yet committed."""
        last = pending.get(grp, self.ticks.get(grp))
        if last is None:
            return None
        first_here = grp not in pending and grp in self._first_reason
        if first_here and tick <= last:
            # Between two lives the clock went back: polls that the earlier one took with it left no hole.
            every = self._every[grp]
            after = tick + ((last - tick) // every + 1) * every
            return MissedTicks(after, after, 1, self._first_reason[grp], unknown_extent=True)
        hole = missed(last, tick, self._every[grp])
        if hole is None:
            return None
        if first_here and self._first_reason[grp] != NOT_YET:
            reason = self._first_reason[grp]
        elif last < self._no_room.get(grp, last) < tick:
            reason = "disk-full"
        elif first_here:
            reason = NOT_YET
        return MissedTicks(*hole, reason)

    def committed(self, pending: dict[int, int], firsts: dict[int, int]) -> None:
        """Take over ticks that are committed; ``firsts`` are the first ones of groups in this batch."""
        for grp, tick in pending.items():
            if grp not in self.ticks:
                self.begun[grp] = firsts[grp] - self._every[grp]
            self.ticks[grp] = tick
            self._first_reason.pop(grp, None)
            if self._no_room.get(grp, tick) < tick:
                del self._no_room[grp]
