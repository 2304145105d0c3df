"""The way in for commands: acts that wait for a line and go before its polls, and between retries.

The line has one owner, its worker.  Whoever has to write or to read back hands in an act; the worker calls
it with the link as soon as the request that is on its way has ended, in the order of arrival.  An act holds
the line for as long as it runs: a command that waits for a device to settle reads back by a second act.

Bounded: a lane that is full says so at once.  Not here: what a command does (acts are of whoever commands),
and when a line is connected (``agent.lineworker``).
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from core.errors import LinkDown
from drivers.modbus.link import ControlLink

T = TypeVar("T")
Act = Callable[[ControlLink], Awaitable[T]]
"""Asks what it has to, each with a deadline; raises ``FieldError``."""

ROOM: Final = 64
"""Acts that may wait for one line."""


class CommandLane:
    """Acts that wait for one line."""

    def __init__(self, room: int = ROOM) -> None:
        self.refused = 0
        """Acts that found the lane full."""
        self._room = room
        self._waiting: deque[tuple[Act[object], asyncio.Future[object]]] = deque()
        self._pausing: asyncio.Future[None] | None = None
        self._closed = False

    async def take(self, act: Act[T]) -> T:
        """Return what an act brings, once it had its turn.

        Who gives up before the turn came is left out; an act that has begun is ended by its own deadlines
        alone, because a write that is on its way cannot be taken back.

        Raises:
            LinkDown: nobody owns the line any more, or too many wait for it; nothing was asked.
            FieldError: as the act does.
        """
        if self._closed:
            raise LinkDown("the line is not polled any more")
        if len(self._waiting) >= self._room:
            self.refused += 1
            raise LinkDown(f"{self._room} commands wait for the line already")
        brought: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        self._waiting.append((act, brought))
        if self._pausing is not None and not self._pausing.done():
            self._pausing.set_result(None)
        return await brought  # type: ignore[return-value]  # of the act that lies beside it

    def __bool__(self) -> bool:
        """Whether an act waits."""
        return bool(self._waiting)

    async def pause(self, bell: asyncio.Future[None]) -> None:
        """Return when a bell rings, or as soon as an act waits."""
        if not self._waiting:
            self._pausing = bell
            await bell

    async def give_turns(self, link: ControlLink, connect: Callable[[], Awaitable[None]]) -> None:
        """Let all that wait have their turn; ``connect`` is called before each, and raises ``LinkDown``."""
        while self._waiting:
            act, brought = self._waiting.popleft()
            if brought.done():
                continue
            try:
                [came] = await asyncio.gather(_turn(act, link, connect), return_exceptions=True)
            except asyncio.CancelledError:  # the owner of the line ends
                _fail(brought, LinkDown("the line was closed in the middle of the act"))
                raise
            if isinstance(came, BaseException):  # a fault of ours too: it is of who commands
                _fail(brought, came)
            elif not brought.done():
                brought.set_result(came)

    def close(self) -> None:
        """End what waits: the line has no owner any more."""
        self._closed = True
        while self._waiting:
            _fail(self._waiting.popleft()[1], LinkDown("the line is not polled any more"))


async def _turn(act: Act[object], link: ControlLink, connect: Callable[[], Awaitable[None]]) -> object:
    await connect()
    return await act(link)


def _fail(brought: "asyncio.Future[object]", error: BaseException) -> None:
    if not brought.done():
        brought.set_exception(error)
