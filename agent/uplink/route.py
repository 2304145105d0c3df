"""One route: the stream of one entity, from the store to its broker, until its books hold it.

Lanes are served control, live, backlog, each with a minimum share.  What is
committed and waits goes into one message up to a limit.  A confirmation, signed
by the entity's collector, is the only thing that ends the care for a record;
the broker's acknowledgement frees the window and nothing else.

Relies on :class:`agent.uplink.outbox.Outbox` for what to send, on
:class:`agent.uplink.view.EntityView` for what may be seen, and on the codec.
"""

import asyncio
import base64
import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

from agent.store.recordfile import Epoch, RouteState, Stored
from agent.store.store import Lane as FileLane
from agent.store.store import Store
from agent.uplink.broker import Broker
from agent.uplink.hearing import Hearing
from agent.uplink.outbox import Flight, Outbox
from agent.uplink.sender import RouteCounts, RouteOptions, Sender
from agent.uplink.unconfirmed import Unconfirmed
from agent.uplink.view import EntityView, Part
from certs.signing import SigningKey, TrustedSigners
from core.codec import encode_stream, seal
from core.errors import StoreError
from core.manifest import Manifest
from core.records import Ask, Confirmation, StreamMessage
from core.topics import Lane, StreamTopic, manifest_topic

log = logging.getLogger(__name__)

MESSAGE_BYTES: Final = 256 << 10
"""Body of one message before compression; about 1,000 rows of 50 points."""
MESSAGE_ROWS: Final = 1000
FAST_ABOVE: Final = 16 << 10
"""Bodies above this are compressed at level 1: a third of the CPU for a tenth more bytes."""
LIVE_AGE_S: Final = 30.0
"""What could not leave for so long is backlog, and the newest goes first."""
LIVE_SHARE: Final = 3
"""While both wait: so many live messages for one of the backlog."""
GRACE_S: Final = 5.0
"""After a reconnection, how long a confirmation may still come before sending again."""
QUIET_S: Final = 600.0
"""Coverage without anything to see is sent at the latest after this long."""
SAVE_S: Final = 1.0
REFUSED_PAUSE_S: Final = 5.0
ASK_DAY_S: Final = 86400.0
MANIFESTS_IN_ONE: Final = 4


class Route:
    """Runs until cancelled; told by the broker through the :class:`Listener` methods."""

    def __init__(
        self,
        options: RouteOptions,
        store: Store,
        broker: Broker,
        key: SigningKey,
        trusted: TrustedSigners,
        on_alarm: Callable[[str, bool, str], None],
    ) -> None:
        self.options = options
        self.counts = RouteCounts()
        self.store = store
        self.hearing = Hearing(options.gateway, options.entity, trusted)
        self.on_floor: Callable[[], None] = lambda: None
        """Told when the floor may have moved."""
        self.on_word: Callable[[str, int], None] = lambda entity, issued_ms: None
        """Told when the entity confirmed something, with when it wrote that."""
        self._broker = broker
        self._key = key
        self._on_alarm = on_alarm
        self._unconfirmed = Unconfirmed(options, self.counts, broker.name, on_alarm)
        self._wake = asyncio.Event()
        self._views: dict[str, EntityView] = {}
        self._send_cert = False
        self._owed_manifests: list[Manifest] = []
        self._served = 0
        self._paused_until = 0.0
        self._next_every = 0.0
        self._released = 0
        self._live_marks: list[tuple[float, int]] = []
        self._save_at: float | None = None
        self._asked_since = 0.0
        self.data = self._sender(store.data)
        self.control = self._sender(store.control)
        store.data.listeners.append(self._committed)
        store.on_manifest.append(self._publish_manifest)
        store.control.listeners.append(self._committed_control)
        broker.listeners.append(self)

    def _sender(self, lane: FileLane) -> Sender:
        remembered = lane.file.routes().get(self.options.name)
        if remembered is not None and remembered.entity != self.options.entity:
            remembered = None
        if remembered is not None and remembered.books:
            hearing = self.hearing
            newest = max((hearing.books, hearing.n), (remembered.books, remembered.n))
            hearing.books, hearing.n = newest
        held = remembered.held if remembered is not None else ()
        outbox = Outbox(held, lane.file.low, lane.top, lane.epoch.base + 1, self._wait_s)
        return Sender(lane, outbox, self.options.name)

    @property
    def _wait_s(self) -> float:
        return self.options.resend_after_s + self.options.within_s + self.options.every_s

    @property
    def connected(self) -> bool:
        """Tell whether the route's broker is there."""
        return self._broker.connected

    @property
    def idle(self) -> bool:
        """Tell whether everything committed was acknowledged by the broker at least."""
        outboxes = (self.data.outbox, self.control.outbox)
        return not any(one.unacked for one in outboxes) and self.data.outbox.next_live(self._released) is None

    @property
    def floor(self) -> int:
        """Return the data id below which the books hold everything."""
        return self.data.outbox.floor()

    # --- what wakes it

    def _committed(self, top: int) -> None:
        self.data.outbox.top = top
        self.data.outbox.low = self.data.lane.file.low
        if not self.options.every_s:
            self._released = top
            self._wake.set()

    def _committed_control(self, top: int) -> None:
        self.control.outbox.top = top
        self._wake.set()

    def up(self, session_present: bool) -> None:
        """The broker is there."""
        now = time.monotonic()
        for sender in (self.data, self.control):
            sender.outbox.reconnected(now, GRACE_S)
        self._live_marks.clear()
        self._publish_manifest()
        self._wake.set()

    def down(self) -> None:
        """The broker is gone: what it did not acknowledge waits again."""
        for sender in (self.data, self.control):
            sender.outbox.disconnected()

    def heard(self, topic: str, payload: bytes, retained: bool) -> None:
        """A message came; ours are confirmations and questions of our entity."""
        if not self.hearing.concerns(topic):
            return
        judged = self.hearing.judge(topic, payload, retained, datetime.now(UTC))
        if judged is not None:
            message, renewed = judged
            if renewed:
                self._begin_anew()
            if isinstance(message, Confirmation):
                self._confirmed(message, time.monotonic())
                self.on_word(self.options.entity, message.at)
            else:
                self._asked(message, time.monotonic())
        self._wake.set()

    def _begin_anew(self) -> None:
        log.warning("the books of %s were made anew or restored: all is sent again", self.options.entity)
        self._on_alarm("books-new", True, "an entity's books were made anew or restored: all is sent again")
        for sender in (self.data, self.control):
            sender.outbox.forget()
            sender.empty = None

    def _confirmed(self, message: Confirmation, now: float) -> None:
        self.counts.confirmations += 1
        for sender, held in ((self.data, message.held), (self.control, message.control)):
            for epoch, ranges in held.items():
                sender.outbox.confirmed(sender.lane.file.ids_of(epoch, ranges), now)
        if self._save_at is None:
            self._save_at = now + SAVE_S

    def _asked(self, message: Ask, now: float) -> None:
        if message.want:
            self._send_cert = True
        if now - self._asked_since > ASK_DAY_S or not self._asked_since:
            self._asked_since, self.counts.asked_bytes = now, 0
        if self.counts.asked_bytes >= self.options.ask_budget_bytes:
            log.warning("route %s: the budget for questions is used up for today", self.options.name)
            return
        for sender, asked in ((self.data, message.ranges), (self.control, message.control)):
            for epoch, ranges in asked.items():
                sender.outbox.again(sender.lane.file.ids_of(epoch, ranges))
        self._owed_manifests = [
            view.manifest
            for view in {id(m): self._view(m) for _, m in self.data.lane.manifests}.values()
            if view.hash in message.manifests
        ][:MANIFESTS_IN_ONE]
        if (self._owed_manifests or self._send_cert) and self.data.outbox.next_live(self._released) is None:
            # nothing waits that could take them along: the newest record goes once more
            self.data.outbox.again([(self.data.outbox.top, self.data.outbox.top)])

    # --- sending

    async def run(self) -> None:
        """Send what waits, for ever."""
        self._released = self.data.outbox.top
        self._note_floor()
        while True:
            await self._wait()
            now = time.monotonic()
            self._unconfirmed.look(now, self._broker.connected)
            for sender in (self.control, self.data):
                if self._broker.connected and sender.outbox.probe(now):
                    self.counts.probes += 1
            if self._save_at is not None and now >= self._save_at:
                self._save()
            try:
                while self._may_send(now) and await self._send_next():
                    now = time.monotonic()
            except StoreError as error:
                log.warning("route %s cannot read the store: %s", self.options.name, error)
                self._paused_until = now + 1.0

    async def _wait(self) -> None:
        now = time.monotonic()
        until = now + 5.0
        for at in (self._save_at, self.data.outbox.deadline(), self.control.outbox.deadline()):
            if at is not None:
                until = min(until, at)
        if self.options.every_s:
            if now >= self._next_every:
                # aligned to the wall clock, so that messages of one minute hold one minute
                wall, every = time.time(), self.options.every_s
                self._next_every = now + every - wall % every
            until = min(until, self._next_every)
        if self._paused_until > now:
            until = min(until, self._paused_until)
        if not self._wake.is_set():
            try:
                async with asyncio.timeout(max(until - now, 0.01)):
                    await self._wake.wait()
            except TimeoutError:
                pass
        self._wake.clear()
        if self.options.every_s and time.monotonic() >= self._next_every:
            self._released = self.data.outbox.top
        self._age_live(time.monotonic())

    def _age_live(self, now: float) -> None:
        """What waited as live for too long becomes backlog, so that the newest arrives first."""
        marks = self._live_marks
        if not marks or marks[-1][1] < self._released:
            marks.append((now, self._released))
        keep = LIVE_AGE_S + self.options.every_s
        old = 0
        while marks and marks[0][0] < now - keep:
            old = marks.pop(0)[1]
        if old:
            self.data.outbox.demote(old + 1)

    def _may_send(self, now: float) -> bool:
        data, control = self.data.outbox, self.control.outbox
        return (
            self._broker.connected
            and now >= self._paused_until
            and data.unacked + control.unacked < self.options.window
            and data.unconfirmed_bytes + control.unconfirmed_bytes < self.options.unconfirmed_bytes
        )

    async def _send_next(self) -> bool:
        """Send one message of the lane whose turn it is; False when nothing waits."""
        waiting = self.control.outbox.next_live(self.control.outbox.top)
        if waiting is None:
            waiting = self.control.outbox.next_backlog()
        if waiting is not None:
            return await self._send(self.control, Lane.CONTROL, waiting)
        live = self.data.outbox.next_live(self._released)
        backlog = self.data.outbox.next_backlog()
        if live is not None and self._quiet(self.data, live):
            live = None
        if live is not None and (backlog is None or self._served < LIVE_SHARE):
            self._served += 1
            return await self._send(self.data, Lane.LIVE, live)
        self._served = 0
        if backlog is not None:
            begun = time.monotonic()
            sent = await self._send(self.data, Lane.BACKLOG, backlog)
            await asyncio.sleep(time.monotonic() - begun)  # half of the time is the polls', whatever waits
            return sent
        return False

    def _quiet(self, sender: Sender, waiting: tuple[int, int]) -> bool:
        """Tell whether all that waits was looked at, holds nothing for the entity, and is not due."""
        return (
            sender.empty is not None
            and sender.empty[0] == waiting[0]
            and sender.empty[1] >= waiting[1]
            and time.monotonic() < sender.empty_since + QUIET_S
            and not self._send_cert
            and not self.hearing.want_cert
        )

    async def _send(self, sender: Sender, lane: Lane, waiting: tuple[int, int]) -> bool:
        first, end = waiting
        file = sender.lane.file
        epoch = file.epoch_of(first)
        end = min(end, self._segment_end(sender, first))
        scan = first
        if sender.empty is not None and sender.empty[0] == first:
            scan = min(sender.empty[1] + 1, end)
        stored = await self.store.read(sender.lane, scan, end, MESSAGE_ROWS)
        run = _contiguous(stored, scan)
        if not run:
            sender.outbox.skip(scan, stored[0].id - 1 if stored else end)
            return True
        manifest = self.store.manifest_at(run[-1].id) if sender is self.data else self.store.manifest
        view = self._view(manifest)
        part = view.part(run, epoch.base, MESSAGE_BYTES)
        last = part.last
        if (
            part.empty
            and lane is Lane.LIVE
            and last >= self._released
            and not self._overdue_empty(sender, first)
        ):
            sender.empty = (first, last)
            return False
        if sender.empty is not None and sender.empty[0] == first:
            sender.empty = None
        payload = await self._sealed(lane, epoch, first, last, view, part)
        if not self._broker.connected:  # it went while the message was made: the ids still wait
            self._send_cert = True
            return False
        flight = sender.outbox.sent(first, last, len(payload), time.monotonic())
        self._publish(sender, lane, flight, payload)
        self.counts.rows += len(part.rows)
        return True

    def _overdue_empty(self, sender: Sender, first: int) -> bool:
        now = time.monotonic()
        if sender.empty is None or sender.empty[0] != first:
            sender.empty_since = now
        return now >= sender.empty_since + QUIET_S or self._send_cert or self.hearing.want_cert

    def _segment_end(self, sender: Sender, first: int) -> int:
        """Return the last id that may share a message with ``first``: same epoch, same manifest."""
        epoch, end = next(span for span in sender.lane.file.epoch_spans() if span[1] >= first)
        for begin, _ in sender.lane.manifests:
            if first < begin and begin > epoch.base + 1:
                return min(end, begin - 1)
        return end

    def _view(self, manifest: Manifest) -> EntityView:
        key = manifest.hash() if len(self._views) > 64 else str(id(manifest))
        view = self._views.get(key)
        if view is None:
            if len(self._views) > 64:
                self._views.clear()
            view = self._views[key] = EntityView(manifest, self.options.entity)
        return view

    async def _sealed(
        self, lane: Lane, epoch: Epoch, first: int, last: int, view: EntityView, part: Part
    ) -> bytes:
        bring = part.has_start or self._send_cert
        manifests, self._owed_manifests, self._send_cert = self._owed_manifests, [], False
        low = max(1, self.data.lane.file.low - epoch.base) if lane is not Lane.CONTROL else 1
        header = StreamMessage(
            v=1,
            gateway=self.options.gateway,
            epoch=epoch.epoch,
            first=first - epoch.base,
            last=last - epoch.base,
            manifest=view.hash if part.rows or part.records else "",
            sent=time.time_ns() // 1_000_000,
            books=self.hearing.books,
            n=self.hearing.n,
            within=self.options.wish_s(self.data.outbox.unconfirmed_bytes),
            want=["cert"] if self.hearing.want_cert else [],
            cert=base64.b64encode(self._key.certificate_der).decode() if bring else "",
            low=low,
            manifests=manifests,
        )
        body = encode_stream(header, part.rows, part.records)
        topic = str(StreamTopic(self.options.gateway, self.options.entity, lane))
        if len(body) <= FAST_ABOVE:
            return seal(topic, body, self._key)
        # Compressing takes milliseconds, in which a fast grid would miss its ticks; zlib gives the GIL away.
        return await asyncio.to_thread(seal, topic, body, self._key, 1)

    def _publish(self, sender: Sender, lane: Lane, flight: Flight, payload: bytes) -> None:
        topic = str(StreamTopic(self.options.gateway, self.options.entity, lane))
        self.counts.messages += 1
        self.counts.bytes += len(payload)
        self.counts.asked_bytes += len(payload) if lane is Lane.BACKLOG else 0

        def on_ack(code: int) -> None:
            if code == 0 or code == 0x10:  # 0x10: no subscriber there now; the confirmation will tell
                self.counts.acked += 1
                sender.outbox.acked(flight)
            else:
                self.counts.refused += 1
                sender.outbox.refused(flight)
                self._paused_until = time.monotonic() + REFUSED_PAUSE_S
                log.warning("broker %s refuses %s (0x%02x)", self._broker.name, topic, code)
                # Alarms without a device reach every entity: no other entity is named in them.
                text = f"broker {self._broker.name} refuses a stream (0x{code:02x}): check its access rules"
                self._on_alarm("publish-refused", True, text)
            self._wake.set()

        self._broker.publish(topic, payload, on_ack)

    def _publish_manifest(self) -> None:
        """Publish the retained copy for people (DESIGN: the stream carries the one that counts)."""
        view = self._view(self.store.manifest)
        topic = manifest_topic(self.options.gateway, self.options.entity)
        self._broker.publish(
            topic, seal(topic, view.manifest.encode(), self._key), lambda _: None, retain=True
        )

    def _save(self) -> None:
        self._save_at = None
        for sender in (self.data, self.control):
            heard, held = self.hearing, tuple(sender.outbox.held)
            state = RouteState(sender.name, self.options.entity, heard.books, heard.n, held)
            self.store.save_route(sender.lane, state)
        self._note_floor()

    def _note_floor(self) -> None:
        self.on_floor()

    def close(self) -> None:
        """Keep what is known of the books."""
        self._save()


def _contiguous(stored: list[Stored], first: int) -> list[Stored]:
    """Return the records from ``first`` on that follow each other: what is missing is covered by nobody."""
    if not stored or stored[0].id != first:
        return []
    if stored[-1].id - first + 1 == len(stored):
        return stored
    return [record for index, record in enumerate(stored) if record.id == first + index]
