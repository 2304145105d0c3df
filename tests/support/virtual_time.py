"""An event loop whose clock jumps instead of waiting, and the agent's clock on top of it.

An hour passes in milliseconds, and a test that waits for something that can never
happen ends at once with an error instead of hanging.
"""

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from typing import Any

from agent.clock import Clock

NOON = 1_795_348_800_000
"""2026-11-22T12:00:00Z, where virtual wall clocks begin: a whole minute."""


class _JumpingSelector(selectors.BaseSelector):
    """A selector that never blocks: it moves the loop's clock forward."""

    def __init__(self, loop: "VirtualTimeLoop", real: selectors.BaseSelector) -> None:
        self._loop, self._real = loop, real

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = self._real.select(0)
        if not ready and timeout != 0 and self._loop.grace_s:
            ready = self._real.select(self._loop.grace_s)
        if not ready and timeout:
            self._loop.now += timeout
        elif not ready and timeout is None:
            raise RuntimeError("nothing can ever happen: every task waits, no timer is set")
        return ready

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._real.register(fileobj, events, data)

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return self._real.unregister(fileobj)

    def modify(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._real.modify(fileobj, events, data)

    def close(self) -> None:
        self._real.close()

    def get_map(self) -> Any:
        return self._real.get_map()

    def get_key(self, fileobj: Any) -> selectors.SelectorKey:
        return self._real.get_key(fileobj)


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """Loop time starts at 0 s and advances only when every task is idle."""

    def __init__(self, grace_s: float = 0.0) -> None:
        """Begin; what the kernel takes to carry bytes over (pseudo-terminals: a moment) is ``grace_s``."""
        self.now = 0.0
        self.grace_s = grace_s
        super().__init__()
        self._selector: selectors.BaseSelector = _JumpingSelector(self, self._selector)

    def time(self) -> float:
        return self.now


class VirtualClock(Clock):
    """The agent's clock on a virtual loop: wall time begins at noon and can be stepped by the test.

    The kernel says ``status``: 0 is synchronised.
    """

    def __init__(self, loop: VirtualTimeLoop) -> None:
        self._loop = loop
        self.offset_ms = NOON
        self.status: int | None = 0
        super().__init__(kernel=lambda: self.status)
        self._wall_ms, self._mono = self._wall(), loop.now

    def _wall(self) -> int:
        return self.offset_ms + round(self._loop.now * 1000)

    def now_ms(self) -> int:
        return self._looked(self._wall(), self._loop.now)

    def left_s(self, at_ms: int) -> float:
        return (at_ms - self._wall()) / 1000

    def mono(self) -> float:
        return self._loop.now


def run_virtually(main: Callable[[VirtualTimeLoop, VirtualClock], Coroutine[Any, Any, None]]) -> None:
    """Run a coroutine function with a virtual loop and clock."""
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        loop = runner.get_loop()
        assert isinstance(loop, VirtualTimeLoop)
        runner.run(main(loop, VirtualClock(loop)))
