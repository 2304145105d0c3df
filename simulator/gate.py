"""A gateway that takes one request at a time, so that a slow or silent device holds up its neighbours.

Modbus TCP gateways to a serial bus do so; a device that stays silent costs the gateway's own time-out,
after which it says that the target failed to respond.

Relies on an event loop's timers. Not here: frames, connections.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Final

from simulator.faults import Fault, FaultKind

MOST_WAITING: Final = 64
"""Requests that may wait for their turn; more are refused as busy."""

Finish = Callable[[Fault | None], None]
Turn = tuple[Fault | None, Finish, Callable[[], None]]


class Gate:
    """Lets one request through after the other."""

    def __init__(self, patience_s: float, exchange_s: float) -> None:
        """`patience_s` is the gateway's own time-out, `exchange_s` what each request takes on its bus."""
        self._patience_s: Final = patience_s
        self._exchange_s: Final = exchange_s
        self._waiting: deque[Turn] = deque()
        self._busy = False

    def turn(self, fault: Fault | None, finish: Finish, give_up: Callable[[], None]) -> bool:
        """Call `finish`, or `give_up` for a device that is too slow, in its turn; tell if there is room."""
        if len(self._waiting) >= MOST_WAITING:
            return False
        self._waiting.append((fault, finish, give_up))
        self._next()
        return True

    def _next(self) -> None:
        if self._busy or not self._waiting:
            return
        fault, finish, give_up = self._waiting.popleft()
        silent = fault is not None and fault.kind in (FaultKind.SILENT, FaultKind.REBOOT)
        wait_s = self._exchange_s + (fault.wait_s if fault is not None else 0.0)
        if silent or wait_s > self._patience_s:
            wait_s, act = self._patience_s, give_up
        else:
            act = partial(finish, fault)
        if wait_s:
            self._busy = True
            asyncio.get_running_loop().call_later(wait_s, self._end, act)
        else:
            act()
            self._next()

    def _end(self, act: Callable[[], None]) -> None:
        self._busy = False
        act()
        self._next()
