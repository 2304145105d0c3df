"""Which ticks of a group were polled already, so that a tick that comes again is marked.

After a clock that ran ahead and was set right, the true time was not lived before: only the ticks that
were really polled are twice there.  Pure; owned by the worker of a line.  Not here: noticing a step
(``agent.clock``), the Gap that a jump leaves (``agent.store.missed``).
"""

from typing import Final

MAX_SPANS: Final = 16
"""Spans of one clock that are remembered; the two oldest are joined, and their ticks between marked too."""
BACK: Final = "clock-back"
FORWARD: Final = "clock-forward"


class LivedTicks:
    """Ticks of one group, in spans between the steps of the clock."""

    def __init__(self, last_tick: int | None, steps: int) -> None:
        """Begin with the last tick of the lives before; which of those before it were polled is not known."""
        self._before: list[tuple[int, int]] = [] if last_tick is None else [(0, last_tick)]
        self._now: tuple[int, int] | None = None
        self._steps = steps

    def stepped(self, steps: int) -> bool:
        """Tell whether the clock was stepped since the last row; ``steps`` counts them."""
        return steps != self._steps

    def mark(self, tick: int, steps: int) -> str | None:
        """Return the reason by which a row at a tick is marked, None for an ordinary one."""
        spans = [*self._before, *([self._now] if self._now is not None else [])]
        if any(first <= tick <= last for first, last in spans):
            return BACK
        if not self.stepped(steps):
            return None
        return BACK if spans and tick < spans[-1][1] else FORWARD

    def lived(self, tick: int, steps: int) -> None:
        """Note that a row at a tick was taken; ``steps`` is how often the clock was stepped before it."""
        if self._now is None or self.stepped(steps):
            if self._now is not None:
                self._before.append(self._now)
            if len(self._before) > MAX_SPANS:
                one, other, *rest = self._before
                self._before = [(min(one[0], other[0]), max(one[1], other[1])), *rest]
            self._now = (tick, tick)
            self._steps = steps
        else:
            self._now = (self._now[0], max(self._now[1], tick))
