"""Which ticks of a group were polled already, so that a tick that comes again is marked.

After a clock that ran ahead and was set right, the true time was not lived before: only the ticks that
were really polled are twice there.  Spans of ticks are remembered over lives (``agent.store.livednote``).

Pure; owned by the worker of a line.  Not here: noticing a step (``agent.clock``), the Gap that a jump
leaves (``agent.store.missed``).
"""

from collections.abc import Iterable
from itertools import pairwise
from typing import Final, NamedTuple

MAX_SPANS: Final = 16
"""Spans of a group that are remembered; beyond, the smallest hole is filled and its ticks are marked too."""
BACK: Final = "clock-back"
FORWARD: Final = "clock-forward"

Span = tuple[int, int]
"""First and last tick of a time that was polled, both included."""


class Lived(NamedTuple):
    """What is known of the lives before."""

    spans: tuple[Span, ...] = ()
    """Ascending, without overlaps."""
    last: int | None = None
    """The last committed tick."""


def joined(spans: Iterable[Span], hole: int = 0) -> tuple[Span, ...]:
    """Return spans in order and without overlaps, those as one that are no further apart than ``hole``.

    At most :data:`MAX_SPANS`: where there are more, the smallest holes are filled.
    """
    found: list[Span] = []
    for first, last in sorted(spans):
        if found and first - found[-1][1] <= hole:
            found[-1] = (found[-1][0], max(found[-1][1], last))
        else:
            found.append((first, last))
    while len(found) > MAX_SPANS:
        holes = [(two[0] - one[1], at) for at, (one, two) in enumerate(pairwise(found))]
        at = min(holes)[1]
        found[at : at + 2] = [(found[at][0], found[at + 1][1])]
    return tuple(found)


class LivedTicks:
    """Ticks of one group, in spans between the steps of the clock."""

    def __init__(self, before: Lived, steps: int) -> None:
        """Begin with what the lives before polled; ``steps`` counts the steps of the clock."""
        self._before = before.spans
        self._last = before.last
        self._now: Span | None = None
        self._steps = steps

    def stepped(self, steps: int) -> bool:
        """Tell whether the clock was stepped since the last row; ``steps`` counts them."""
        return steps != self._steps

    def mark(self, tick: int, steps: int) -> str | None:
        """Return the reason by which a row at a tick is marked, None for an ordinary one."""
        if any(first <= tick <= last for first, last in self._before):
            return BACK
        if self._now is not None and self._now[0] <= tick <= self._now[1]:
            return BACK
        if not self.stepped(steps):
            return None
        return BACK if self._last is not None and tick < self._last else FORWARD

    def lived(self, tick: int, steps: int) -> None:
        """Note that a row at a tick was taken; ``steps`` is how often the clock was stepped before it."""
        if self._now is None or self.stepped(steps):
            if self._now is not None:
                self._before = joined([*self._before, self._now])
            self._now = (tick, tick)
            self._steps = steps
        else:
            self._now = (self._now[0], max(self._now[1], tick))
        self._last = tick
