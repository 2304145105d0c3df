"""Waiting to a tenth of a millisecond: event loops round to one, which on a fast line is a third of a pause.

The last milliseconds are slept by a thread of its own, so that nothing else in the loop waits.
"""

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Final

COARSE_S: Final = 0.002
"""What an event loop may be late: one millisecond of rounding and one of other work."""


class PreciseSleep:
    """Sleeps for one task at a time; the thread begins with the first short wait."""

    def __init__(self) -> None:
        self._pool: ThreadPoolExecutor | None = None

    def now(self) -> float:
        """Return the instant, in seconds of ``time.monotonic``."""
        return time.monotonic()

    async def until(self, instant: float) -> None:
        """Return at an instant, not before it."""
        left = instant - self.now()
        if left > 2 * COARSE_S:
            await asyncio.sleep(left - COARSE_S)
            left = instant - self.now()
        if left > 0:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(1, "portico-silence")
            await asyncio.get_running_loop().run_in_executor(self._pool, time.sleep, left)

    def close(self) -> None:
        """End the thread."""
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
            self._pool = None
