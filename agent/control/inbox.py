"""Commands as they come: bounded for each entity, in turn, so that a flood of one delays no other.

A broker is not trusted: what comes here is bytes of anybody.  They are counted, kept up to a bound, and
handed out one at a time.  Not here: what is in them (`agent.control.taker`).
"""

import asyncio
from collections import OrderedDict, deque
from dataclasses import dataclass
from typing import Final

from core.topics import command_parts
from policies.envelope import LONGEST

WAITING: Final = 32
"""Commands of one entity that may wait."""
ENTITIES: Final = 64


@dataclass(frozen=True, slots=True)
class Arrival:
    """A message on a topic for commands."""

    entity: str
    device: str
    payload: bytes
    retained: bool


class Inbox:
    """Hears commands; a listener of the connections (`agent.uplink.broker`)."""

    def __init__(self, gateway: str) -> None:
        self.dropped = 0
        """Messages that found their entity's place full, or were longer than any command."""
        self._gateway = gateway
        self._queues: OrderedDict[str, deque[Arrival]] = OrderedDict()
        self._something = asyncio.Event()

    @property
    def waiting(self) -> bool:
        """Whether a message is not taken yet."""
        return bool(self._queues)

    def up(self, session_present: bool) -> None:
        """Nothing to do."""

    def down(self) -> None:
        """Nothing to do."""

    def heard(self, topic: str, payload: bytes, retained: bool) -> None:
        """Keep a message that may be a command."""
        parts = command_parts(topic, self._gateway)
        if parts is None:
            return
        entity, device = parts
        queue = self._queues.get(entity)
        if queue is None:
            if len(self._queues) >= ENTITIES:
                self.dropped += 1
                return
            queue = self._queues[entity] = deque()
        if len(queue) >= WAITING or len(payload) > LONGEST:
            self.dropped += 1
            return
        queue.append(Arrival(entity, device, payload, retained))
        self._something.set()

    async def next(self) -> Arrival:
        """Return the next message: entities take turns."""
        while not self._queues:
            self._something.clear()
            await self._something.wait()
        entity, queue = self._queues.popitem(last=False)
        arrival = queue.popleft()
        if queue:
            self._queues[entity] = queue
        return arrival
