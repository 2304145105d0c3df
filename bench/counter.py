"""The light counter: an independent reader of one entity's stream, a process of its own.

It subscribes with the entity's certificate, decodes the JSON of every message by a decoder of its own,
and counts rows times points. It checks what only an outsider can: that sequences are covered without a
hole, and that each device's own counter of answered reads, which travels as a point, arrives without a
hole. With `--confirm` it answers as a collector does, with signed confirmations, so that the gateway's
flow control does not stop; without it only listens (our collector confirms then).

One line on stdin asks for one line of JSON on stdout, a :class:`Counted`; `reset` also empties the
histograms of latency. The end of stdin ends it. Relies on paho and, for what it sends, on `core.codec`
and `certs.signing`. Deliberately not here: any code of the head-end, any store, any trust in what is read.
"""

import argparse
import base64
import socket
import sys
import threading
import time
import zlib
from collections import Counter
from pathlib import Path
from typing import Any, Final

import msgspec
import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from certs.contexts import client_context
from certs.signing import SigningKey
from core.codec import encode_plain, seal
from core.ids import new_books_id
from core.ranges import RangeSet
from core.records import Confirmation
from core.topics import confirm_topic, stream_filter

SPACING_S: Final = 0.2
"""Confirmations to one gateway are at least so far apart, as those of our collector."""
SUBSCRIBE_TIMEOUT_S: Final = 10.0
HOST: Final = "127.0.0.1"
HEAD: Final = 76
"""Bytes of a sealed message before its body (docs/wire.md)."""
FORM: Final = 3
"""Place of the byte that says whether the body is compressed."""


class Row(msgspec.Struct, array_like=True):
    """A row of the wire, as docs/wire.md describes it."""

    seq: int
    group: int
    tick: int
    offsets: list[int]
    values: list[int | float | str | bool | None]
    quality: dict[str, list[str]] = {}


class Other(msgspec.Struct):
    """Another record; of gaps the extent and the reason."""

    type: str
    seq: int
    ticks: int | dict[str, int] = 0
    reason: str = ""


class Message(msgspec.Struct):
    """What the counter wants of a message; it has more fields."""

    epoch: str
    first: int
    last: int
    within: int = 0
    rows: list[Row] = []
    records: list[Other] = []
    want: list[str] = []


class Counted(msgspec.Struct):
    """What was counted since the start; the histograms since the last reset."""

    at: float = 0.0
    messages: int = 0
    payload_bytes: int = 0
    rows: int = 0
    points: int = 0
    backlog_rows: int = 0
    backlog_points: int = 0
    doubled_rows: int = 0
    flagged_rows: int = 0
    """Rows with a quality entry: a reading that failed, or a marked time."""
    confirmations: int = 0
    last_at: float = 0.0
    """When the last row came, Unix time: messages come in steps, and a rate is right from step to step."""
    backlog_from: float = 0.0
    """When the first row came on the lane of the backlog, Unix time."""
    backlog_to: float = 0.0
    gaps: dict[str, int] = {}
    """Ticks in Gap records, by reason."""
    uncovered: int = 0
    """Sequences that no message covered, between the first and the last that one did."""
    counter_holes: int = 0
    """Answers that the devices counted and that did not arrive, between the first and the last that did."""
    tick_ms: dict[int, int] = {}
    """Live rows by ms from the tick to the arrival here."""
    answer_ms: dict[int, int] = {}
    """Live rows by ms from the device's own clock in its answer to the arrival here."""
    start_ms: dict[int, int] = {}
    """Live rows by ms from the tick to the device's own clock, rounded up: how late the request came."""


class LightCounter:
    """Counts in paho's thread; :meth:`snapshot` may be asked from another."""

    def __init__(self, certs: Path, entity: str, port: int, points: int, confirming: bool) -> None:
        """Connect. ``points`` of a row count; behind them stand the device's time and counter."""
        self._entity = entity
        self._points = points
        self._confirming = confirming
        self._lock = threading.Lock()
        self._counted = Counted()
        self._gaps: Counter[str] = Counter()
        self._tick_ms: Counter[int] = Counter()
        self._answer_ms: Counter[int] = Counter()
        self._start_ms: Counter[int] = Counter()
        self._held: dict[tuple[str, str, str], RangeSet] = {}
        """By gateway, epoch and space."""
        self._counts: dict[tuple[str, int], RangeSet] = {}
        """The devices' own counters, by gateway and group."""
        self._due: dict[str, tuple[float, frozenset[str]]] = {}
        """When a gateway is to be confirmed, and which epochs."""
        self._sent: dict[str, float] = {}
        self._introduced: set[str] = set()
        self._books = new_books_id(time.time_ns() // 1_000_000)
        self._n = 0
        self._decode = msgspec.json.Decoder(Message).decode
        self._key = SigningKey.load(certs / f"{entity}.sign.key", certs / f"{entity}.sign.pem")
        self._subscribed = threading.Event()
        self._stopping = threading.Event()
        self._client = self._connected(certs, port)
        self._confirmer = threading.Thread(target=self._confirm_for_ever, daemon=True)
        if confirming:
            self._confirmer.start()

    def _connected(self, certs: Path, port: int) -> paho.Client:
        client = paho.Client(
            CallbackAPIVersion.VERSION2, client_id=f"{self._entity}-counter", protocol=paho.MQTTv5
        )
        own = certs / self._entity
        client.tls_set_context(client_context(certs / "ca.pem", own.with_name(f"{own.name}.pem"),
                                              own.with_name(f"{own.name}.key")))  # fmt: skip
        client.on_socket_open = _no_delay
        client.on_connect = lambda client, *_: client.subscribe(stream_filter(self._entity), qos=1)
        client.on_subscribe = lambda *_: self._subscribed.set()
        client.on_message = self._heard
        client.connect(HOST, port, keepalive=60, clean_start=True)
        client.loop_start()
        return client

    def wait_subscribed(self) -> bool:
        """Tell whether the broker took the subscription in time."""
        return self._subscribed.wait(SUBSCRIBE_TIMEOUT_S)

    def close(self) -> None:
        """Disconnect."""
        self._stopping.set()
        self._client.disconnect()
        self._client.loop_stop()

    def snapshot(self, reset: bool) -> Counted:
        """Return all figures; with ``reset``, latencies are counted anew afterwards."""
        with self._lock:
            figures = msgspec.structs.replace(
                self._counted,
                at=time.time(),
                gaps=dict(self._gaps),
                uncovered=sum(_holes(held) for held in self._held.values()),
                counter_holes=sum(_holes(seen) for seen in self._counts.values()),
                tick_ms=dict(self._tick_ms),
                answer_ms=dict(self._answer_ms),
                start_ms=dict(self._start_ms),
            )
            if reset:
                self._tick_ms.clear()
                self._answer_ms.clear()
                self._start_ms.clear()
        return figures

    def _heard(self, client: paho.Client, userdata: Any, message: paho.MQTTMessage) -> None:
        now = time.time()
        parts = message.topic.split("/")
        payload = message.payload
        body = zlib.decompress(payload[HEAD:]) if payload[FORM] == ord("z") else payload[HEAD:]
        heard = self._decode(body)
        with self._lock:
            self._counted.messages += 1
            self._counted.payload_bytes += len(payload)
            self._count(parts[2], parts[5], heard, now)
            if self._confirming:
                self._note_due(parts[2], heard)

    def _count(self, gateway: str, lane: str, heard: Message, now: float) -> None:
        space = "control" if lane == "control" else "data"
        held = self._held.setdefault((gateway, heard.epoch, space), RangeSet())
        rows = heard.rows
        if held.overlap(heard.first, heard.last):
            rows = [row for row in rows if row.seq not in held]
            self._counted.doubled_rows += len(heard.rows) - len(rows)
        for record in heard.records:
            if record.type == "gap" and record.seq not in held and isinstance(record.ticks, int):
                self._gaps[record.reason] += record.ticks
        held.add(heard.first, heard.last)
        if rows:
            self._count_rows(gateway, lane, rows, now)

    def _count_rows(self, gateway: str, lane: str, rows: list[Row], now: float) -> None:
        counted, points = self._counted, self._points
        counted.rows += len(rows)
        counted.last_at = now
        counted.points += points * len(rows)
        counted.flagged_rows += sum(bool(row.quality) for row in rows)
        if lane == "backlog":
            counted.backlog_rows += len(rows)
            counted.backlog_points += points * len(rows)
            counted.backlog_from = counted.backlog_from or now
            counted.backlog_to = now
        now_ms = round(now * 1000)
        for row in rows:
            told, count = row.values[points : points + 2]
            if type(count) is int and count:  # 0: made by bench.fill, no device answered
                self._counts.setdefault((gateway, row.group), RangeSet()).add(count, count)
            if lane == "live" and type(told) is int:
                self._tick_ms[now_ms - row.tick] += 1
                self._answer_ms[now_ms - told] += 1
                self._start_ms[told - row.tick + 1] += 1

    # --- confirming

    def _note_due(self, gateway: str, heard: Message) -> None:
        due = time.monotonic() + heard.within
        before, epochs = self._due.get(gateway, (due, frozenset[str]()))
        self._due[gateway] = (min(before, due), epochs | {heard.epoch})
        if "cert" in heard.want:
            self._introduced.discard(gateway)

    def _confirm_for_ever(self) -> None:
        while not self._stopping.wait(0.05):
            now = time.monotonic()
            with self._lock:
                for gateway, (due, epochs) in list(self._due.items()):
                    if now >= due and now >= self._sent.get(gateway, 0.0) + SPACING_S:
                        del self._due[gateway]
                        self._sent[gateway] = now
                        self._confirm(gateway, epochs)

    def _confirm(self, gateway: str, epochs: frozenset[str]) -> None:
        self._n += 1
        self._counted.confirmations += 1
        cert = "" if gateway in self._introduced else base64.b64encode(self._key.certificate_der).decode()
        self._introduced.add(gateway)

        def held(space: str) -> dict[str, list[tuple[int, int]]]:
            every = {epoch: self._held.get((gateway, epoch, space)) for epoch in epochs}
            return {epoch: list(ranges) for epoch, ranges in every.items() if ranges}

        message = Confirmation(
            v=1, books=self._books, n=self._n, held=held("data"), control=held("control"), cert=cert
        )
        topic = confirm_topic(gateway, self._entity)
        self._client.publish(topic, seal(topic, encode_plain(message), self._key), qos=1)


def _holes(held: RangeSet) -> int:
    """Return how many integers are missing between the first and the last of a set."""
    ranges = list(held)
    return ranges[-1][1] - ranges[0][0] + 1 - held.count() if ranges else 0


def _no_delay(client: paho.Client, userdata: Any, sock: Any) -> None:
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def main() -> None:
    """Count until stdin ends."""
    parser = argparse.ArgumentParser(prog="python -m bench.counter", description="Count one entity's stream.")
    parser.add_argument("--certs", type=Path, required=True)
    parser.add_argument("--entity", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--points", type=int, required=True, help="points of a row that count")
    parser.add_argument("--confirm", action="store_true", help="answer as a collector does")
    options = parser.parse_args()
    counter = LightCounter(options.certs, options.entity, options.port, options.points, options.confirm)
    if not counter.wait_subscribed():
        sys.exit("the broker did not take the subscription in time")
    _say(Counted())  # ready
    for line in sys.stdin:
        _say(counter.snapshot(line.strip() == "reset"))
    counter.close()


def _say(figures: Counted) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(figures) + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
