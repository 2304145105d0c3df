"""Commands as they come: bounded for each entity, in turn, so that a flood of one delays no other.

A broker is not trusted: what comes here is bytes of anybody.  They are counted, kept up to a bound, and
handed out one at a time and at a bounded rate, because verifying a signature takes the processor from the
polls.  What says of itself that it is a cancellation has places of its own and goes first in a crowd: that
is believed for its place alone.  Not here: what is in them (`agent.control.taker`).
"""

import asyncio
import base64
import contextlib
import random
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from core.topics import command_parts
from policies.envelope import LONGEST

WAITING: Final = 32
"""Commands of one entity that may wait."""
CANCELS: Final = 16
"""Beside them, what says that it is a cancellation."""
CROWD: Final = 8
"""With more commands than that waiting, cancellations go before them; else all go as they came."""
TURNS: Final = 4
"""In a crowd one of so many is a command all the same."""
A_SECOND: Final = 50.0
"""Messages of one entity that are handed out in a second, once as many as may wait were."""
ENTITIES: Final = 64


@dataclass(frozen=True, slots=True)
class Arrival:
    """A message on a topic for commands."""

    entity: str
    device: str
    payload: bytes
    retained: bool


@dataclass(slots=True)
class _Place:
    """What waits of one entity, each with the number of its coming, and how much may be handed out."""

    at_s: float
    left: float = WAITING
    turn: int = 0
    commands: deque[tuple[int, Arrival]] = field(default_factory=deque)
    cancels: deque[tuple[int, Arrival]] = field(default_factory=deque)

    @property
    def waiting(self) -> bool:
        return bool(self.commands or self.cancels)

    def refill(self, now_s: float) -> None:
        self.left = min(WAITING, self.left + max(0.0, now_s - self.at_s) * A_SECOND)
        self.at_s = now_s

    def take(self) -> Arrival:
        self.left -= 1
        if not (self.commands and self.cancels):
            queue = self.commands or self.cancels
        elif len(self.commands) > CROWD:
            self.turn += 1
            queue = self.cancels if self.turn % TURNS else self.commands
        else:
            queue = min(self.commands, self.cancels, key=lambda one: one[0][0])
        return queue.popleft()[1]


class Inbox:
    """Hears commands; a listener of the connections (`agent.uplink.broker`)."""

    def __init__(
        self, gateway: str, rng: random.Random | None = None, mono: Callable[[], float] = time.monotonic
    ) -> None:
        self.dropped = 0
        """Messages for which there was no place, or that were longer than any command."""
        self._gateway = gateway
        self._mono = mono
        self._rng = rng or random.SystemRandom()
        self._places: OrderedDict[str, _Place] = OrderedDict()
        self._count = 0
        self._something = asyncio.Event()

    @property
    def waiting(self) -> bool:
        """Whether a message is not taken yet."""
        return any(place.waiting for place in self._places.values())

    def up(self, session_present: bool) -> None:
        """Nothing to do."""

    def down(self) -> None:
        """Nothing to do."""

    def heard(self, topic: str, payload: bytes, retained: bool) -> None:
        """Keep a message that may be a command; in a full place a random one gives way to it."""
        parts = command_parts(topic, self._gateway)
        if parts is None:
            return
        entity, device = parts
        place = None if len(payload) > LONGEST else self._place(entity, self._mono())
        if place is None:
            self.dropped += 1
            return
        if not place.waiting:
            self._something.set()
        queue, most = (place.cancels, CANCELS) if _cancels(payload) else (place.commands, WAITING)
        if len(queue) >= most:
            # Were it the newest, whoever fills the place once would keep everybody else out.
            del queue[self._rng.randrange(most)]
            self.dropped += 1
        self._count += 1
        queue.append((self._count, Arrival(entity, device, payload, retained)))

    def _place(self, entity: str, now_s: float) -> _Place | None:
        place = self._places.get(entity)
        if place is None:
            if len(self._places) >= ENTITIES:
                self._forget(now_s)
            if len(self._places) >= ENTITIES:
                return None
            place = self._places[entity] = _Place(now_s)
        return place

    def _forget(self, now_s: float) -> None:
        """Forget entities of whom nothing waits, and who would have their whole burst again."""
        for entity, place in list(self._places.items()):
            if not place.waiting and now_s - place.at_s > WAITING / A_SECOND:
                del self._places[entity]

    def take(self, now_s: float) -> Arrival | float | None:
        """Return the next message, else for how long none may be handed out, or None: none waits.

        Entities take turns; ``now_s`` is monotonic.
        """
        pause: float | None = None
        for entity, place in list(self._places.items()):
            if not place.waiting:
                continue
            place.refill(now_s)
            if place.left >= 1:
                self._places.move_to_end(entity)
                return place.take()
            needed = (1 - place.left) / A_SECOND
            pause = needed if pause is None else min(pause, needed)
        return pause

    async def next(self) -> Arrival:
        """Return the next message that may be handed out."""
        while True:
            found = self.take(self._mono())
            if isinstance(found, Arrival):
                return found
            self._something.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(found):
                    await self._something.wait()


def _cancels(raw: bytes) -> bool:
    """Tell whether a message says, unverified, that it is a cancellation."""
    if raw.startswith(b"{"):
        body = raw.partition(b'"payload":"')[2].partition(b'"')[0]
    else:
        body = raw.partition(b".")[2].partition(b".")[0]
    try:
        return b'"verb":"cancel"' in base64.urlsafe_b64decode(body + b"==")
    except ValueError:
        return False
