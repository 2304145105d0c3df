"""Wakes the workers of all lines: those that wait for one tick at once, by one timer.

With a timer for each worker those of a late millisecond would wait until the answers of the early ones
have been worked off; so every request of a tick goes out before the first answer to it is looked at.  The
bell is also who looks at the wall clock: when that was stepped, everybody is woken.

Relies on the agent's clock.  Not here: what is due (`agent.schedule`).
"""

import asyncio
import heapq
from typing import Final

from agent.clock import Clock

LOOK_S: Final = 1.0
"""Longest sleep: a wall clock that was set forward is noticed at the latest then."""
SHORTEST_S: Final = 0.001
"""An event loop counts in milliseconds and may wake a little early; it then sleeps so long."""


class Bell:
    """One for all workers of an agent; used from one event loop."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._steps = clock.steps
        self._waiting: dict[int, dict[str, asyncio.Future[None]]] = {}
        """By tick and name."""
        self._ticks: list[int] = []
        """Its keys, as a heap."""
        self._timer: asyncio.TimerHandle | None = None

    def at(self, tick: int, name: str) -> asyncio.Future[None]:
        """Return what is done at an instant, in ms since 1970 by the wall clock, or when that was stepped.

        ``name`` is of who waits; what it got for the same instant before is forgotten.
        """
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiting = self._waiting.get(tick)
        if waiting is not None:
            waiting[name] = future
        else:
            self._waiting[tick] = {name: future}
            heapq.heappush(self._ticks, tick)
            if self._ticks[0] == tick:
                self._set()
        return future

    def _set(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        left_s = min(max(self._clock.left_s(self._ticks[0]), SHORTEST_S), LOOK_S)
        self._timer = asyncio.get_running_loop().call_later(left_s, self._ring)

    def _ring(self) -> None:
        self._timer = None
        now = self._clock.now_ms()
        stepped = self._clock.steps != self._steps
        self._steps = self._clock.steps
        while self._ticks and (stepped or self._ticks[0] <= now):
            for future in self._waiting.pop(heapq.heappop(self._ticks)).values():
                if not future.done():  # else its worker was cancelled, or woken by a command
                    future.set_result(None)
        if self._ticks:
            self._set()
