"""Beats as they come: bounded, verified at a bounded rate, judged, and noted as contact.

A broker is not trusted: it may flood, forge, keep and repeat.  A few messages of each entity wait, entities
take turns, and no more than so many a second are verified; what is too much is dropped and counted, which at
worst loses contact, and a control is then put back.  A beat that was kept is old by the clock, and also when
the clock is put back: it is not earlier than the last beat that counted says.

Not here: what a beat is (`policies.beat`).
"""

import asyncio
import logging
from collections import Counter, OrderedDict, deque
from typing import Final

from agent.clock import Clock
from agent.control.contacts import Contacts
from agent.control.inforce import InForce
from core.topics import beat_entity
from policies.beat import LONGEST, Beaten, doubt, open_beat
from policies.jws import EnvelopeError
from policies.roster import Key

log = logging.getLogger(__name__)

WAITING: Final = 4
"""Beats of one entity that may wait."""
ENTITIES: Final = 64
PAUSE_S: Final = 0.05
"""Between two verifications: at most twenty a second, under a hundredth of a small processor."""
SLOWEST: Final = 0.999
"""A hub's clock may be so much slower than ours without its beats growing old by it."""
BELIEVED_S: Final = 3600.0
"""So long a beat says that it is not earlier: were clocks ahead on both sides, it is over after that."""


class Beats:
    """Hears the hubs of one segment; a listener of the connections (`agent.uplink.broker`)."""

    def __init__(self, segment: str, in_force: InForce, contacts: Contacts, clock: Clock) -> None:
        self.counts: Counter[str] = Counter()
        """Beats by what became of them: ``taken``, ``dropped``, or why not."""
        self._segment = segment
        self._in_force = in_force
        self._contacts = contacts
        self._clock = clock
        self._queues: OrderedDict[str, deque[bytes]] = OrderedDict()
        self._something = asyncio.Event()
        self._last: dict[tuple[str, str], int] = {}
        self._not_before = (0, clock.mono())

    def up(self, session_present: bool) -> None:
        """Nothing to do."""

    def down(self) -> None:
        """Nothing to do."""

    def heard(self, topic: str, payload: bytes, retained: bool) -> None:
        """Keep a message that may be a beat."""
        entity = beat_entity(topic, self._segment)
        if entity is None:
            return
        if retained:  # never published so by a hub: an old one, kept by somebody
            self.counts["retained"] += 1
            return
        queue = self._queues.get(entity)
        full = len(self._queues) >= ENTITIES if queue is None else len(queue) >= WAITING
        if full or len(payload) > LONGEST:
            self.counts["dropped"] += 1
            return
        if queue is None:
            queue = self._queues[entity] = deque()
        queue.append(payload)
        self._something.set()

    async def run(self) -> None:
        """Judge what comes, for ever."""
        while True:
            while not self._queues:
                self._something.clear()
                await self._something.wait()
            entity, queue = self._queues.popitem(last=False)
            self.counts[self._judge(entity, queue.popleft())] += 1
            if queue:
                self._queues[entity] = queue
            await asyncio.sleep(PAUSE_S)

    def _judge(self, entity: str, payload: bytes) -> str:
        """Note contact by a beat that counts; return what became of it."""
        book = self._in_force.rulebook
        if book is None:
            return "no-policy"
        try:
            beaten = open_beat(payload, self._key_of)
        except EnvelopeError as error:
            log.debug("no beat of %s: %s", entity, error)
            return error.code
        beat = beaten.beat
        if (beat.entity, beat.segment) != (entity, self._segment):
            return "elsewhere"
        now = self._now_ms()
        last = (beat.entity, beaten.key)
        why = doubt(beaten, book, now, self._last.get(last))
        if why is not None:
            return why.value
        self._last[last] = beat.issued_ms
        self._take(beaten, now)
        return "taken"

    def _take(self, beaten: Beaten, now_ms: int) -> None:
        issued = beaten.beat.issued_ms
        # By our own clock from here on, so that one that is put back makes no old beat young.
        self._contacts.heard(beaten.beat.entity, issued + self._clock.now_ms() - now_ms)
        self._not_before = (max(issued, self._floor_ms()), self._clock.mono())

    def _floor_ms(self) -> int:
        at_ms, mono = self._not_before
        passed_s = self._clock.mono() - mono
        return at_ms + round(passed_s * 1000 * SLOWEST) if passed_s < BELIEVED_S else 0

    def _now_ms(self) -> int:
        return max(self._clock.now_ms(), self._floor_ms())

    def _key_of(self, entity: str, id_: str) -> Key | None:
        book = self._in_force.rulebook
        holder = None if book is None else book.holders(entity).get(id_)
        return None if holder is None else holder.key
