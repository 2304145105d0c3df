"""A small site as the judge finds it on disk, written by hand: a store, two books, a plant's log.

The tables have no keys, so that a test can plant what a real file would refuse. The gateway `gw` polled a
counter of `a.example` and a meter owned by `a.example` and `b.example` every second, was killed after
tick 5 (the poll of tick 6 was answered and never committed), and polled again from tick 9 on.
"""

import json
import sqlite3
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from core.manifest import Group, Manifest, Point, ValueKind
from core.ownership import Ownership

GATEWAY = "gw"
A, B = "a.example", "b.example"
FIRST, SECOND = "1111111111111111", "2222222222222222"
BEGIN_MS = 1_795_000_000_000
EPOCH_NO = {FIRST: 1, SECOND: 2}
LIVES = {FIRST: range(6), SECOND: range(9, 13)}

STORE_TABLES = """
CREATE TABLE epoch (base, epoch, begun_ms, boot, ended);
CREATE TABLE record (id, grp, tick, body);
CREATE TABLE manifest (hash, body);
CREATE TABLE manifest_span (from_id, hash);
CREATE TABLE route (name, entity, books, n, held);
"""
BOOKS_TABLES = """
CREATE TABLE epoch (no, gateway, epoch, started_ms);
CREATE TABLE manifest (hash, gateway, first_seen_ms, body);
CREATE TABLE grp (no, manifest, number, gateway, key, body);
CREATE TABLE row (epoch_no, seq, grp_no, tick, received_ms, body);
CREATE TABLE record (epoch_no, space, seq, type, received_ms, body);
CREATE TABLE counter (name, gateway, n);
CREATE TABLE conflict (epoch_no, space, seq, arrived);
"""


def tick_ms(number: int) -> int:
    """Return the instant of a tick."""
    return BEGIN_MS + number * 1000


def _owned(*owners: str) -> tuple[Ownership, ...]:
    return (Ownership(owners[0], owners, owners[0], owners[0]),)


COUNTER = Group(
    1, "counter", "test-counter", 1000, (Point("PollCount", "PollCount", "1", ValueKind.INTEGER),), _owned(A)
)
METER = Group(
    2,
    "meter",
    "test-meter",
    1000,
    (Point("W", "W", "W", ValueKind.INTEGER), Point("Hz", "Hz", "Hz", ValueKind.INTEGER, -2)),
    _owned(A, B),
)
MANIFEST = Manifest(GATEWAY, (COUNTER, METER))


@dataclass(slots=True)
class Poll:
    """One row, wherever it lies."""

    epoch: str
    seq: int
    group: int
    tick: int
    values: list[object]


@dataclass(slots=True)
class Said:
    """One other record of the data stream."""

    epoch: str
    seq: int
    record: dict[str, object]


@dataclass(slots=True)
class Books:
    """What the books of an entity hold."""

    entity: str
    rows: list[Poll]
    records: list[Said]
    redelivered: int = 0
    conflicts: int = 0


@dataclass(slots=True)
class Site:
    """Everything on disk; change it, then :meth:`write` it."""

    bases: dict[str, int] = field(default_factory=dict)
    rows: list[Poll] = field(default_factory=list)
    records: list[Said] = field(default_factory=list)
    books: dict[str, Books] = field(default_factory=dict)
    held: dict[str, list[tuple[int, int]]] = field(default_factory=dict)
    counts: dict[int, int] = field(default_factory=dict)
    """Answered counts and their instants."""
    requests: list[dict[str, object]] = field(default_factory=list)

    def store_path(self, directory: Path) -> Path:
        """Return where the store lies."""
        return directory / "readings.db"

    def books_paths(self, directory: Path) -> dict[str, Path]:
        """Return where the books lie."""
        return {entity: directory / f"{entity}.db" for entity in self.books}

    def plant_path(self, directory: Path) -> Path:
        """Return where the plant's log lies."""
        return directory / "plant.jsonl"

    def write(self, directory: Path) -> "Site":
        """Write all files anew."""
        self.write_store(self.store_path(directory))
        for entity, path in self.books_paths(directory).items():
            self._write_books(self.books[entity], path)
        self._write_plant(self.plant_path(directory))
        return self

    def write_store(self, path: Path) -> None:
        """Write the store alone."""
        path.unlink(missing_ok=True)
        with closing(sqlite3.connect(path)) as db:
            db.executescript(STORE_TABLES)
            for epoch, base in self.bases.items():
                db.execute("INSERT INTO epoch VALUES (?, ?, 0, '', NULL)", (base, epoch))
                db.execute("INSERT INTO manifest_span VALUES (?, ?)", (base + 1, MANIFEST.hash()))
            db.execute("INSERT INTO manifest VALUES (?, ?)", (MANIFEST.hash(), MANIFEST.encode()))
            for row in self.rows:
                body = json.dumps([row.group, row.tick, [3], row.values])[1:].encode()
                place = self.bases[row.epoch] + row.seq
                db.execute("INSERT INTO record VALUES (?, ?, ?, ?)", (place, row.group, row.tick, body))
            for said in self.records:
                body = json.dumps({**said.record, "seq": said.seq}).encode()
                db.execute(
                    "INSERT INTO record VALUES (?, 0, 0, ?)", (self.bases[said.epoch] + said.seq, body)
                )
            for entity, ranges in self.held.items():
                db.execute("INSERT INTO route VALUES (?, ?, '', 1, ?)", (entity, entity, json.dumps(ranges)))
            db.commit()

    def _write_books(self, books: Books, path: Path) -> None:
        path.unlink(missing_ok=True)
        view = MANIFEST.view(books.entity)
        with closing(sqlite3.connect(path)) as db:
            db.executescript(BOOKS_TABLES)
            for epoch, no in EPOCH_NO.items():
                db.execute("INSERT INTO epoch VALUES (?, ?, ?, 0)", (no, GATEWAY, epoch))
            db.execute(
                "INSERT INTO manifest VALUES (?, ?, 0, ?)", (view.hash(), GATEWAY, view.encode().decode())
            )
            for group in (COUNTER, METER):
                # A group that the entity may not see is in books only when somebody erred.
                manifest = view.hash() if group.group in view.group_by_number() else "whole"
                body = msgspec.json.encode(group).decode()
                db.execute(
                    "INSERT INTO grp VALUES (?, ?, ?, ?, ?, ?)",
                    (group.group, manifest, group.group, GATEWAY, group.key, body),
                )
            db.execute(
                "INSERT INTO manifest VALUES ('whole', ?, -1, ?)", (GATEWAY, MANIFEST.encode().decode())
            )
            for row in books.rows:
                body = json.dumps([[3], row.values])
                db.execute(
                    "INSERT INTO row VALUES (?, ?, ?, ?, 0, ?)",
                    (EPOCH_NO[row.epoch], row.seq, row.group, row.tick, body),
                )
            for said in books.records:
                record = {**said.record, "seq": said.seq}
                if record["type"] == "manifest":
                    record["hash"] = view.hash()
                db.execute(
                    "INSERT INTO record VALUES (?, 'data', ?, ?, 0, ?)",
                    (EPOCH_NO[said.epoch], said.seq, record["type"], json.dumps(record)),
                )
            db.execute(
                "INSERT INTO counter VALUES ('readings.redelivered', ?, ?)", (GATEWAY, books.redelivered)
            )
            for number in range(books.conflicts):
                db.execute("INSERT INTO conflict VALUES (1, 'data', ?, '[]')", (number,))
            db.commit()

    def _write_plant(self, path: Path) -> None:
        places = [{"name": "W", "address": 0}, {"name": "Hz", "address": 1}, {"name": "PF", "address": 2}]
        lines: list[dict[str, object]] = [
            {
                "kind": "start",
                "ms": 0,
                "devices": [
                    {"device": "counter", "type": "test-counter"},
                    {"device": "meter", "type": "test-meter"},
                ],
                "types": {
                    "test-counter": [{"name": "PollCount", "table": "holding", "address": 0, "registers": 2}],
                    "test-meter": [{**one, "table": "input", "registers": 1} for one in places],
                },
            },
            *self.requests,
            *({"kind": "count", "ms": ms, "device": "counter", "count": n} for n, ms in self.counts.items()),
        ]
        path.write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"kind": "requ')


def request(
    device: str, function: int, address: int, count: int, points: int, times: int
) -> dict[str, object]:
    """Return a line of the plant's log."""
    return {
        "kind": "requests",
        "device": device,
        "function": function,
        "address": address,
        "count": count,
        "points": points,
        "outcome": "ok",
        "n": times,
    }


def clean_site() -> Site:
    """Return a site in which every promise holds."""
    site = Site()
    top = 0
    for epoch, ticks in LIVES.items():
        site.bases[epoch] = top
        site.records.append(Said(epoch, 1, {"type": "start", "at": tick_ms(ticks[0]) - 500, "before": []}))
        site.records.append(Said(epoch, 2, {"type": "manifest", "hash": MANIFEST.hash()}))
        seq = 3
        for number in ticks:
            for group in (COUNTER.group, METER.group):
                if epoch == SECOND and number == ticks[0]:
                    site.records.append(Said(epoch, seq, gap(group, 6, 8)))
                    seq += 1
                values: list[object] = [number + 1] if group == COUNTER.group else [230 + number, 5000]
                if group == COUNTER.group and epoch == SECOND:
                    values = [number - 1]
                site.rows.append(Poll(epoch, seq, group, tick_ms(number), values))
                seq += 1
        top += seq - 1
    # Counts 1..6 at ticks 0..5, 7 at tick 6 just before the kill, 8..11 at ticks 9..12.
    site.counts = {count: tick_ms(count - 1) + 4 for count in range(1, 8)}
    site.counts |= {count: tick_ms(count + 1) + 4 for count in range(8, 12)}
    site.requests = [request("counter", 3, 0, 2, 1, 11), request("meter", 4, 0, 2, 2, 11)]
    site.books = {
        A: Books(A, [*site.rows], [*site.records]),
        B: Books(
            B,
            [row for row in site.rows if row.group == METER.group],
            [one for one in site.records if one.record.get("group", 2) == METER.group],
        ),
    }
    site.held = {A: [(1, top)], B: [(1, top)]}
    return site


def gap(group: int, first: int, last: int, reason: str = "crashed") -> dict[str, object]:
    """Return a Gap record over ticks first..last."""
    return {
        "type": "gap",
        "group": group,
        "first_tick": tick_ms(first),
        "last_tick": tick_ms(last),
        "ticks": last - first + 1,
        "reason": reason,
    }
