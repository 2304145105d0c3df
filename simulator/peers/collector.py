"""A thin collector, sound or broken on purpose: it proves that the conformance report judges others too.

    python -m simulator.peers.collector SITE [--defect early|twice|unverified|holes]
    python -m simulator.peers.collector SITE --readings

Written from docs/wire.md on `core` alone, for the entity of a `site.json` (docs/conformance.md). Without a
defect it keeps every line of the report; each defect is one that real programs have:

- `early`: confirms, and acknowledges to the broker, what is durable only seconds later;
- `twice`: books a message that comes again once more;
- `unverified`: takes messages without their signature being checked;
- `holes`: confirms from 1 to the last sequence, whatever came in between.

Not here: ownership by people, completeness, alarms, several collectors: it is no product.
"""

import argparse
import json
import queue
import signal
import sys
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
    decode_stream,
    encode_plain,
    manifest_names,
    row_fault,
    seal,
    unseal,
)
from core.errors import TrustError, UnknownKey, WireError
from core.ids import books_born_ms
from core.manifest import Manifest, manifest_fault
from core.ownership import owners_at
from core.ranges import RangeSet
from core.records import (
    Alarm,
    Ask,
    Confirmation,
    Extension,
    Gap,
    ManifestRecord,
    Outcome,
    QualityRecord,
    StreamMessage,
)
from core.topics import Lane, StreamTopic, ask_topic, confirm_topic, stream_filter
from simulator.peers.collectorbooks import CollectorBooks
from simulator.peers.trust import Key, Trust, tls

DEFECTS: Final = ("early", "twice", "unverified", "holes")
LATE_S: Final = 3.0
"""After so long the defect `early` makes durable what it confirmed."""
ASK_AGAIN_S: Final = 3.0
QUEUE: Final = 1000
SESSION_S: Final = 86_400


class Refused(Exception):
    """A message that is not taken; the argument says why."""


class NoManifest(Refused):
    """It lacks its manifest, whose name is the argument."""


@dataclass
class Due:
    """What a gateway is owed."""

    epochs: set[str] = field(default_factory=set)
    manifests: set[str] = field(default_factory=set)
    want_cert: bool = False
    asked_s: float = 0.0


class Collector:
    """Takes, books and confirms; one thread owns it."""

    def __init__(self, site: dict[str, Any], defect: str) -> None:
        self._site, self._defect = site, defect
        self._entity = site["entity"]
        self._key = Key(Path(site["signing"]["cert"]), Path(site["signing"]["key"]))
        self._trust = Trust(Path(site["signing"]["trust"]), "stream")
        self._books = CollectorBooks(books_path(site))
        for gateway, der in self._books.certificates():
            self._learn(gateway, der)
        self._inbox: queue.Queue[mqtt.MQTTMessage] = queue.Queue(QUEUE)
        self._due: dict[str, Due] = {}
        self._over = threading.Event()
        broker = site["broker"]
        self._client = mqtt.Client(
            CallbackAPIVersion.VERSION2,
            client_id=f"{self._entity}-thin",
            protocol=mqtt.MQTTv5,
            manual_ack=defect != "early",
        )
        self._client.tls_set_context(tls(broker["ca"], broker["cert"], broker["key"]))
        self._client.reconnect_delay_set(1, 2)
        self._client.on_connect = self._connected
        self._client.on_message = lambda client, userdata, message: self._inbox.put(message)

    def run(self) -> None:
        """Collect until SIGTERM."""
        signal.signal(signal.SIGTERM, lambda number, frame: self._over.set())
        signal.signal(signal.SIGINT, lambda number, frame: self._over.set())
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.SessionExpiryInterval = SESSION_S
        broker = self._site["broker"]
        self._client.connect_async(
            broker["host"], broker["port"], keepalive=10, clean_start=False, properties=properties
        )
        self._client.loop_start()
        while not self._over.is_set():
            self._work(self._gathered())
        self._books.commit()
        self._client.disconnect()
        self._client.loop_stop()
        self._books.close()

    def _connected(
        self, client: mqtt.Client, userdata: Any, flags: Any, reason: Any, properties: Any
    ) -> None:
        if not reason.is_failure:
            client.subscribe(stream_filter(self._entity), qos=1)

    def _gathered(self) -> list[mqtt.MQTTMessage]:
        """Return what came: wait a moment, and then take all there is."""
        found: list[mqtt.MQTTMessage] = []
        try:
            found.append(self._inbox.get(timeout=0.05))
            while True:
                found.append(self._inbox.get_nowait())
        except queue.Empty:
            return found

    # --- one transaction

    def _work(self, messages: list[mqtt.MQTTMessage]) -> None:
        """Book what came, make it durable, and only then acknowledge and confirm."""
        if messages:
            self._books.begin()
        for message in messages:
            self._take(message.topic, bytes(message.payload))
        letters = self._letters() if self._client.is_connected() else []
        began_s = self._books.began_s
        if self._defect != "early" or (began_s is not None and time.monotonic() - began_s > LATE_S):
            self._books.commit()
        if self._defect != "early":
            for message in messages:
                self._client.ack(message.mid, message.qos)
        for topic, payload in letters:
            self._client.publish(topic, payload, qos=1)

    def _take(self, topic: str, payload: bytes) -> None:
        """Book a message, or note what it lacks."""
        where = StreamTopic.parse(topic)
        if where is None or where.entity != self._entity:
            return
        due = self._due.setdefault(where.gateway, Due())
        try:
            body = self._opened(where.gateway, topic, payload)
            self._enter(where, decode_stream(body), body)
        except UnknownKey:
            due.want_cert = True
        except NoManifest as missing:
            due.manifests.add(str(missing))
        except (WireError, TrustError, Refused):
            return

    def _opened(self, gateway: str, topic: str, payload: bytes) -> bytes:
        def verify(kid: bytes, alg: str, signature: bytes, message: bytes) -> None:
            if self._defect != "unverified":
                self._trust.verify(gateway, kid, alg, signature, message)

        try:
            return unseal(topic, payload, verify)
        except UnknownKey:
            der = carried_certificate(payload)
            if der is None:
                raise
        self._trust.learn(der, gateway)
        body = unseal(topic, payload, verify)
        self._books.add_certificate(gateway, der)
        return body

    def _learn(self, gateway: str, der: bytes) -> None:
        try:
            self._trust.learn(der, gateway)
        except TrustError:
            return  # it was good once; the gateway will bring another

    # --- judging

    def _enter(self, where: StreamTopic, message: StreamMessage, body: bytes) -> None:
        """Book a message whose signature holds, whole or not at all."""
        gateway, epoch = where.gateway, message.epoch
        if message.gateway != gateway:
            raise Refused("its header names another gateway")
        control = where.lane is Lane.CONTROL
        brought = self._brought(message, body, gateway)
        manifest = brought.get(message.manifest) or self._books.manifest(message.manifest)
        self._judge_records(message, control=control)
        if manifest is None and message.manifest and _needs_manifest(message):
            raise NoManifest(message.manifest)
        self._judge_rows(message, manifest)
        self._notice_restored(gateway, message)
        space = "control" if control else "data"
        for name, one in brought.items():
            self._books.add_manifest(name, one)
        for row in message.rows:
            self._books.add_row(gateway, epoch, message.manifest, row, careless=self._defect == "twice")
        for record in message.records:
            self._books.add_record(gateway, epoch, space, record)
        self._books.cover(gateway, epoch, space, message.first, message.last)
        self._due[gateway].epochs.add(epoch)

    def _brought(self, message: StreamMessage, body: bytes, gateway: str) -> dict[str, Manifest]:
        """Return the manifests of a message by the names of their bytes."""
        names, loose = manifest_names(body)
        records = [one for one in message.records if isinstance(one, ManifestRecord)]
        if any(one.hash != name for one, name in zip(records, names, strict=True)):
            raise Refused("a manifest is not what it is called")
        found = dict(zip(names, (one.manifest for one in records), strict=True))
        found |= dict(zip(loose, message.manifests, strict=True))
        for manifest in found.values():
            strangers = [group for group in manifest.groups if self._entity not in group.entities()]
            if manifest.gateway != gateway or manifest_fault(manifest) or strangers:
                raise Refused("a manifest is not usable")
        return found

    def _judge_records(self, message: StreamMessage, *, control: bool) -> None:
        if control and message.rows:
            raise Refused("rows on lane control")
        for record in message.records:
            if not isinstance(record, Extension) and isinstance(record, Alarm | Outcome) is not control:
                raise Refused("a record on the wrong lane")

    def _judge_rows(self, message: StreamMessage, manifest: Manifest | None) -> None:
        groups = manifest.group_by_number() if manifest is not None else {}
        for row in message.rows:
            group = groups.get(row.group)
            if group is None or row_fault(row, group) is not None:
                raise Refused(f"row {row.seq} does not fit")
            if self._entity not in owners_at(group.owners, row.tick):
                raise Refused(f"row {row.seq} is of others")

    def _notice_restored(self, gateway: str, message: StreamMessage) -> None:
        """Take a new id when a gateway proves that these books went back in time."""
        if not message.books:
            return
        books = self._books.books
        ahead = message.books == books and message.n > self._books.n(gateway)
        later = message.books != books and books_born_ms(message.books) >= books_born_ms(books)
        if ahead or later:
            self._books.renew(message.books)
            for one, due in self._due.items():
                due.epochs.update(self._books.epochs(one))

    # --- what is said

    def _letters(self) -> list[tuple[str, bytes]]:
        """Return the confirmations and questions that are due, numbered in this transaction."""
        found = []
        now_s = time.monotonic()
        for gateway, due in self._due.items():
            asks = (due.want_cert or due.manifests) and now_s - due.asked_s > ASK_AGAIN_S
            if due.epochs or asks:
                self._books.begin()
            if due.epochs:
                found.append(self._confirmation(gateway, due.epochs))
                due.epochs = set()
            if asks:
                found.append(self._question(gateway, due))
                due.want_cert, due.manifests, due.asked_s = False, set(), now_s
        return found

    def _confirmation(self, gateway: str, epochs: set[str]) -> tuple[str, bytes]:
        held = {one: self._books.held(gateway, one, "data") for one in epochs}
        control = {one: self._books.held(gateway, one, "control") for one in epochs}
        if self._defect == "holes":
            held = {one: RangeSet([(1, max(b for _, b in ranges))]) for one, ranges in held.items() if ranges}
        message = Confirmation(
            v=1,
            books=self._books.books,
            n=self._books.next_n(gateway),
            held={one: list(ranges) for one, ranges in held.items() if ranges},
            control={one: list(ranges) for one, ranges in control.items() if ranges},
            cert=self._key.certificate,
            at=time.time_ns() // 1_000_000,
        )
        topic = confirm_topic(gateway, self._entity)
        return topic, seal(topic, encode_plain(message), self._key)

    def _question(self, gateway: str, due: Due) -> tuple[str, bytes]:
        message = Ask(
            v=1,
            books=self._books.books,
            n=self._books.next_n(gateway),
            manifests=sorted(due.manifests),
            want=["cert"] if due.want_cert else [],
            cert=self._key.certificate,
            at=time.time_ns() // 1_000_000,
        )
        topic = ask_topic(gateway, self._entity)
        return topic, seal(topic, encode_plain(message), self._key)


def _needs_manifest(message: StreamMessage) -> bool:
    return bool(message.rows) or any(
        isinstance(one, QualityRecord) or (isinstance(one, Gap) and one.group > 0) for one in message.records
    )


def books_path(site: dict[str, Any]) -> Path:
    """Return where the books lie."""
    return Path(site["data"]) / "books.db"


def main() -> None:
    """Run it from a command line."""
    parser = argparse.ArgumentParser(prog="python -m simulator.peers.collector")
    parser.add_argument("site", type=Path, help="site.json of the conformance report")
    parser.add_argument("--defect", choices=DEFECTS, default="")
    parser.add_argument(
        "--readings", action="store_true", help="print what is booked, one JSON object a line"
    )
    options = parser.parse_args()
    site = json.loads(options.site.read_text())
    if not options.readings:
        Collector(site, options.defect).run()
        return
    books = CollectorBooks(books_path(site), read_only=True)
    for reading in books.readings():
        sys.stdout.write(json.dumps(reading) + "\n")
    books.close()


if __name__ == "__main__":
    main()
