"""A thin gateway, sound or broken on purpose: it proves that the conformance report judges others too.

    python -m simulator.peers.gateway SITE [--defect NAME]

Written from docs/wire.md on `core` alone, for one entity and the devices of a `site.json`
(docs/conformance.md). A thread for each device polls, one writes and sends. Without a defect it keeps every
line of the report; each defect is one that real programs have:

- `old-value`: when a device gives no answer, the last value is written under the new tick;
- `late-answer`: the next frame that comes is taken for the answer, whatever request it belongs to;
- `same-epoch`: a new start goes on under the old epoch, after the last sequence of it;
- `believing`: confirmations are taken without their signature being checked;
- `no-offset`: an answer is said to have come at its tick;
- `acknowledged`: after a kill, what the broker had acknowledged is taken for confirmed.

Not here: control, alarms, quotas, pruning, several entities: it is no product.
"""

import argparse
import json
import queue
import secrets
import signal
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from core.codec import (
    carried_certificate,
    decode_ask,
    decode_confirmation,
    encode_plain,
    encode_record,
    encode_stream,
    row_body,
    row_bytes,
    seal,
    unseal,
)
from core.errors import TrustError, UnknownKey, WireError
from core.ids import books_born_ms, new_epoch
from core.ranges import RangeSet
from core.records import Ask, Before, Confirmation, Gap, ManifestRecord, Start, State, StreamMessage
from core.topics import Lane, StreamTopic, ask_topic, confirm_topic, manifest_topic, state_topic
from simulator.peers.gatewaystore import GatewayStore
from simulator.peers.polling import Poll, Poller, manifest_of, now_ms
from simulator.peers.trust import Key, Trust, tls

DEFECTS: Final = ("old-value", "late-answer", "same-epoch", "believing", "no-offset", "acknowledged")
MOST_RECORDS: Final = 200
MOST_FLIGHTS: Final = 50
QUEUE: Final = 1000
START: Final = b'{"type":"start",'
SESSION_S: Final = 86_400
END_S: Final = 10.0
"""Within which the broker has to take the last state."""
ACKNOWLEDGED_S: Final = 2.0


@dataclass
class Flight:
    """A message on its way: published, not confirmed."""

    epoch: str
    first: int
    last: int
    overdue_s: float


@dataclass
class Told:
    """What the collector lets us owe it besides new records."""

    cert: bool = False
    manifest: bool = False
    want_cert: bool = False
    """We lack its certificate."""
    again: dict[str, RangeSet] = field(default_factory=dict)


class Gateway:
    """The part that writes and sends; one thread owns it."""

    def __init__(self, site: dict[str, Any], defect: str) -> None:
        self._site, self._defect = site, defect
        self._id, self._entity = site["gateway"], site["entity"]
        self._key = Key(Path(site["signing"]["cert"]), Path(site["signing"]["key"]))
        self._trust = Trust(Path(site["signing"]["trust"]), "collector")
        self._manifest = manifest_of(site)
        self._groups = self._manifest.group_by_number()
        self._store = GatewayStore(Path(site["data"]) / "gateway.db")
        self._polls: queue.Queue[Poll] = queue.Queue(QUEUE)
        self._inbox: queue.Queue[tuple[str, bytes]] = queue.Queue(QUEUE)
        self._told = Told()
        self._flights: list[Flight] = []
        self._books, self._n = self._store.taken()
        self._held = self._store.held()
        self._instance = secrets.token_hex(8)
        self._over = threading.Event()
        self._epoch, self._seq, self._sent_upto = "", 0, 0
        self._begin()
        self._client = self._new_client()

    # --- epochs

    def _begin(self) -> None:
        """Enter a new epoch with its start record and manifest."""
        before = self._store.epochs()
        stopped = self._store.stopped()
        self._ticks = self._store.ticks()
        self._pause_reason = "stopped" if stopped else "crashed"
        ended = "first" if not before else "stop" if stopped else "crash"
        if self._defect == "same-epoch" and before:
            self._epoch = before.pop()
        else:
            self._epoch = new_epoch()
            self._store.begin(self._epoch)
        if self._defect == "acknowledged" and ended == "crash":
            for epoch, first, last in self._store.acknowledged():
                self._held.setdefault(epoch, RangeSet()).add(first, last)
        seq = self._store.last(self._epoch)
        start = Start(
            seq=seq + 1,
            at=now_ms(),
            ended=ended,
            boot="thin",
            clock="synchronised",
            software="thin gateway 1",
            before=[Before(one, self._store.last(one)) for one in before[::-1][:16]],
            ticks=dict(self._ticks),
        )
        named = ManifestRecord(seq + 2, self._manifest.hash(), self._manifest)
        self._epochs = [*before, self._epoch]
        self._seq = seq + 2
        records = [(seq + 1, False, encode_record(start)), (seq + 2, False, encode_record(named))]
        self._store.append(self._epoch, records, self._ticks)
        self._resumed = set(self._ticks)

    def _write(self, polls: list[Poll]) -> None:
        """Commit polls as rows, each with a Gap before it when ticks are missing."""
        records: list[tuple[int, bool, bytes]] = []
        for poll in polls:
            group = self._groups[poll.group]
            last = self._ticks.get(group.key)
            if last is not None and poll.tick <= last:
                continue
            if last is not None and poll.tick - last > group.every_ms:
                reason = self._pause_reason if group.key in self._resumed else "overrun"
                self._seq += 1
                ticks = (poll.tick - last) // group.every_ms - 1
                gap = Gap(
                    self._seq, group.group, last + group.every_ms, poll.tick - group.every_ms, ticks, reason
                )
                records.append((self._seq, False, encode_record(gap)))
            self._resumed.discard(group.key)
            self._ticks[group.key] = poll.tick
            quality = {"*": [poll.reason]} if poll.reason else {}
            self._seq += 1
            body = row_body(poll.tick, group.group, [poll.offset], list(poll.values), quality)
            records.append((self._seq, True, body))
        self._store.append(self._epoch, records, self._ticks)

    # --- the life

    def run(self) -> None:
        """Poll, write and send until SIGTERM."""
        signal.signal(signal.SIGTERM, lambda number, frame: self._over.set())
        signal.signal(signal.SIGINT, lambda number, frame: self._over.set())
        for number, device in enumerate(self._site["devices"], 1):
            Poller(number, device, self._site["every_ms"], self._polls, self._defect).start()
        self._client.connect_async(
            self._site["broker"]["host"],
            self._site["broker"]["port"],
            keepalive=10,
            clean_start=False,
            properties=_lasting(),
        )
        self._client.loop_start()
        while not self._over.is_set():
            polls = self._gathered()
            if polls:
                self._write(polls)
            while not self._inbox.empty():
                self._hear(*self._inbox.get())
            if self._client.is_connected():
                self._send()
        self._end()

    def _end(self) -> None:
        self._send()
        self._store.note_stop()
        self._client.publish(*self._state(online=False), qos=1, retain=True).wait_for_publish(END_S)
        self._client.disconnect()
        self._client.loop_stop()
        self._store.close()

    def _gathered(self) -> list[Poll]:
        """Return what was polled: wait a moment, and then take all there is."""
        polls: list[Poll] = []
        try:
            polls.append(self._polls.get(timeout=0.05))
            while True:
                polls.append(self._polls.get_nowait())
        except queue.Empty:
            return polls

    # --- sending

    def _send(self) -> None:
        """Send what is neither held nor on its way, and again what is overdue."""
        now_s = time.monotonic()
        self._flights = [one for one in self._flights if one.overdue_s > now_s]
        for epoch in self._epochs:
            last = self._seq if epoch == self._epoch else self._store.last(epoch)
            gone = self._held.get(epoch, RangeSet()).copy()
            for one in self._flights:
                if one.epoch == epoch:
                    gone.add(one.first, one.last)
            for first, end in self._told.again.get(epoch, ()):
                gone.remove(first, end)
            for first, end in gone.missing(1, last) if last else []:
                self._send_range(epoch, first, end)
        self._told.again.clear()
        if self._told.cert or self._told.manifest or self._told.want_cert:
            self._send_range(self._epoch, self._seq, self._seq)

    def _send_range(self, epoch: str, first: int, last: int) -> None:
        while first <= last and len(self._flights) < MOST_FLIGHTS:
            end = min(last, first + MOST_RECORDS - 1)
            fresh = epoch == self._epoch and first > self._sent_upto
            if fresh:
                self._sent_upto = end
            self._publish(epoch, first, end, Lane.LIVE if fresh else Lane.BACKLOG)
            overdue_s = time.monotonic() + self._site["resend_after_s"] + self._site["within_s"]
            self._flights = [one for one in self._flights if (one.epoch, one.first) != (epoch, first)]
            self._flights.append(Flight(epoch, first, end, overdue_s))
            first = end + 1

    def _publish(self, epoch: str, first: int, last: int, lane: Lane) -> None:
        stored = self._store.between(epoch, first, last)
        rows = [row_bytes(seq, body) for seq, is_row, body in stored if is_row]
        records = [body for _, is_row, body in stored if not is_row]
        introduces = any(body.startswith(START) for body in records)
        header = StreamMessage(
            v=1,
            gateway=self._id,
            epoch=epoch,
            first=first,
            last=last,
            manifest=self._manifest.hash(),
            sent=now_ms(),
            books=self._books,
            n=self._n,
            within=self._site["within_s"],
            want=["cert"] if self._told.want_cert else [],
            cert=self._key.certificate if introduces or self._told.cert else "",
            manifests=[self._manifest] if self._told.manifest else [],
        )
        self._told.cert = self._told.manifest = self._told.want_cert = False
        topic = str(StreamTopic(self._id, self._entity, lane))
        sent = self._client.publish(
            topic, seal(topic, encode_stream(header, rows, records), self._key), qos=1
        )
        if self._defect == "acknowledged":
            sent.wait_for_publish(ACKNOWLEDGED_S)
            if sent.is_published():
                self._store.acknowledge(epoch, first, last)

    # --- what comes back

    def _hear(self, topic: str, payload: bytes) -> None:
        """Judge a confirmation or question, and do what it says."""
        try:
            body = self._opened(topic, payload)
            message = (
                decode_confirmation(body) if topic.endswith(f"/confirm/{self._entity}") else decode_ask(body)
            )
        except (WireError, TrustError):
            return
        if message.books == self._books:
            if message.n <= self._n:
                return
        elif self._books and books_born_ms(message.books) <= books_born_ms(self._books):
            return
        elif self._books:
            self._held.clear()
            self._flights.clear()
        self._books, self._n = message.books, message.n
        if isinstance(message, Confirmation):
            self._confirmed(message)
        else:
            self._asked(message)
        self._store.take(self._books, self._n, self._held)

    def _opened(self, topic: str, payload: bytes) -> bytes:
        def verify(kid: bytes, alg: str, signature: bytes, message: bytes) -> None:
            if self._defect != "believing":
                self._trust.verify(self._entity, kid, alg, signature, message)

        try:
            return unseal(topic, payload, verify, 1 << 20)
        except UnknownKey:
            der = carried_certificate(payload)
            if der is None:
                self._told.want_cert = True
                raise
        self._trust.learn(der, self._entity)
        return unseal(topic, payload, verify, 1 << 20)

    def _confirmed(self, message: Confirmation) -> None:
        for epoch, ranges in message.held.items():
            if epoch in self._epochs:
                self._held.setdefault(epoch, RangeSet()).update(RangeSet(ranges))
        self._flights = [
            one
            for one in self._flights
            if not self._held.get(one.epoch, RangeSet()).covers(one.first, one.last)
        ]

    def _asked(self, message: Ask) -> None:
        self._told.cert = self._told.cert or "cert" in message.want
        self._told.manifest = self._manifest.hash() in message.manifests
        for epoch, ranges in message.ranges.items():
            if epoch in self._epochs:
                self._told.again[epoch] = RangeSet(ranges)

    # --- MQTT

    def _new_client(self) -> mqtt.Client:
        broker = self._site["broker"]
        client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=self._id, protocol=mqtt.MQTTv5)
        client.tls_set_context(tls(broker["ca"], broker["cert"], broker["key"]))
        client.will_set(*self._state(online=False), qos=1, retain=True)
        client.reconnect_delay_set(1, 2)
        client.on_connect = self._connected
        client.on_message = self._arrived
        return client

    def _connected(
        self, client: mqtt.Client, userdata: Any, flags: Any, reason: Any, properties: Any
    ) -> None:
        if reason.is_failure:
            return
        client.subscribe([(confirm_topic(self._id, self._entity), 1), (ask_topic(self._id, self._entity), 1)])
        client.publish(*self._state(online=True), qos=1, retain=True)
        topic = manifest_topic(self._id, self._entity)
        client.publish(topic, seal(topic, self._manifest.encode(), self._key), qos=1, retain=True)

    def _arrived(self, client: mqtt.Client, userdata: Any, message: mqtt.MQTTMessage) -> None:
        if not message.retain and not self._inbox.full():
            self._inbox.put((message.topic, bytes(message.payload)))

    def _state(self, *, online: bool) -> tuple[str, bytes]:
        topic = state_topic(self._id)
        state = State(
            v=1,
            gateway=self._id,
            online=online,
            at=now_ms(),
            epoch=self._epoch,
            software="thin gateway 1",
            clock="synchronised",
            instance=self._instance,
        )
        return topic, seal(topic, encode_plain(state), self._key)


def _lasting() -> Properties:
    properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
    properties.SessionExpiryInterval = SESSION_S
    return properties


def main() -> None:
    """Run it from a command line."""
    parser = argparse.ArgumentParser(prog="python -m simulator.peers.gateway")
    parser.add_argument("site", type=Path, help="site.json of the conformance report")
    parser.add_argument("--defect", choices=DEFECTS, default="")
    options = parser.parse_args()
    Gateway(json.loads(options.site.read_text()), options.defect).run()


if __name__ == "__main__":
    main()
