"""One file of records: epochs, rows and other records, manifests, and what each route's books hold.

Synchronous, no threads, no policy: the writer thread owns the one writing
connection, readers open their own for one short transaction each.  Ids are the
local order over all epochs; a sequence is an id minus the base of its epoch.

Every record carries a checksum over its bytes, its id, group and tick: what was
changed by a failing disk is found when it is read, never sent.
"""

import contextlib
import hashlib
import json
import os
import sqlite3
import zlib
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Final, NamedTuple

from agent.store.connection import (
    CHECKPOINT_PAGES,
    PAGE_SIZE,
    connect,
    file_bytes,
    inode_of,
    translated,
    wal_of,
)
from agent.store.schema import migrate
from core.errors import StoreCorrupt, StoreError
from core.ranges import Range, RangeSet

HEAD: Final = 2
"""Records at the begin of an epoch that stay as long as any other of it: start and manifest."""
PRIME: Final = 4_294_967_291
"""The largest prime below 2^32: a bit that flips in an id or a tick, also a high one, changes the rest."""
LATEST: Final = 3
"""Rows of a group that a look back names."""
LOOK_BACK: Final = 200_000
"""Records looked at for the last tick of each group; a note made while running cuts the look short."""


@dataclass(frozen=True, slots=True)
class Epoch:
    """One life of the agent in the store."""

    epoch: str
    base: int
    """Sequence = id - base."""
    begun_ms: int
    boot: str
    ended: str | None
    """``stop`` when it was closed in order; None otherwise."""


class Stored(NamedTuple):
    """One record as it lies in the file."""

    id: int
    grp: int
    tick: int
    body: bytes


class Latest(NamedTuple):
    """The latest rows of each group, by its key."""

    ticks: dict[str, int]
    """The last committed tick."""
    rows: dict[str, list[int]]
    """Ids of some rows, the latest first; after the latest ones comes one that is known to have a value."""


@dataclass(frozen=True, slots=True)
class RouteState:
    """What is remembered of a route: whose it is, and what its books hold."""

    name: str
    entity: str
    books: str
    n: int
    held: tuple[Range, ...]


def checksum(id_: int, grp: int, tick: int, body: bytes) -> int:
    """Return the CRC-32 over a body, seeded with the place it belongs to."""
    return zlib.crc32(body, (id_ * 31 + grp * 7 + tick) % PRIME)


def is_manifest(hash_: object, body: object) -> bool:
    """Tell whether the bytes of a manifest are those that its hash names."""
    return isinstance(body, bytes) and hashlib.sha256(body).hexdigest()[:32] == hash_


def intact(id_: int, grp: int, tick: int, body: bytes, crc: int) -> bool:
    """Tell whether a record is what was written; in a damaged file not even the types are sure."""
    try:
        return checksum(id_, grp, tick, body) == crc
    except TypeError:
        return False


class RecordFile:
    """The writing side of one file; every method is one transaction or a part of the caller's."""

    def __init__(self, path: Path, kind: str, checkpoint: int = CHECKPOINT_PAGES) -> None:
        """Open or create; raises StoreCorrupt, StoreTooNew or another StoreError."""
        self.path = path
        try:
            self.db = connect(path, checkpoint=checkpoint)
        except sqlite3.Error as error:
            raise translated(error, path) from error
        # Open as long as the connection: to close it earlier would take the locks that SQLite has.
        self._handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            migrate(self.db, kind, path)
            self.epochs = read_epochs(self.db)
            low, newest = self._one("SELECT min(id) FROM record"), self._one("SELECT max(id) FROM record")
            held = max((last for state in self.routes().values() for _, last in state.held), default=0)
            base = self.epochs[-1].base if self.epochs else 0
            self.top: int = max(newest or 0, base, held)
            """Largest id ever given; the newest record is never deleted, so this survives a restart."""
            self.low: int = low or 1
            """Smallest id that may still be in the file."""
            self.loose: int = self.first_loose()
            """Smallest id that may be deleted: the head of the oldest epoch stays with its rows."""
        except sqlite3.Error as error:
            self.close()
            raise translated(error, path) from error
        except StoreError:
            self.close()
            raise

    def _one(self, query: str, *values: object) -> int | None:
        row = self.db.execute(query, values).fetchone()
        return None if row is None or row[0] is None else int(row[0])

    def first_loose(self) -> int:
        """Return the smallest id that may be deleted, by a look into the file."""
        head = self._one(  # a manifest in the middle of an epoch is no head
            "SELECT from_id FROM manifest_span JOIN epoch ON base = from_id - 1 WHERE from_id = ?", self.low
        )
        after = self.low + HEAD if head is not None else self.low
        return self._one("SELECT min(id) FROM record WHERE id >= ?", after) or self.top + 1

    def close(self) -> None:
        """Close the connection; the last one folds the WAL back."""
        self.db.close()
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1

    @property
    def inode(self) -> str:
        """What tells this file from a copy of it."""
        return inode_of(self._handle)

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """Commit what the block does, all or nothing, also in what this object remembers."""
        before = self.top, self.low, self.loose, self.epochs
        try:
            self.db.execute("BEGIN IMMEDIATE")
            yield
            self.db.execute("COMMIT")
        except BaseException:
            self.top, self.low, self.loose, self.epochs = before
            with contextlib.suppress(sqlite3.Error):
                if self.db.in_transaction:
                    self.db.execute("ROLLBACK")
            raise

    # --- epochs

    def begin_epoch(self, epoch: str, begun_ms: int, boot: str, above: int = 0) -> Epoch:
        """Begin an epoch behind the whole file and behind id ``above`` (in the caller's transaction)."""
        begun = Epoch(epoch, max(self.top, above), begun_ms, boot, None)
        self.db.execute(  # an epoch without a record, as the control lane has them, is replaced
            "INSERT OR REPLACE INTO epoch (base, epoch, begun_ms, boot) VALUES (?, ?, ?, ?)",
            (begun.base, epoch, begun_ms, boot),
        )
        self.top = begun.base
        self.epochs = [*(known for known in self.epochs if known.base < begun.base), begun]
        return begun

    def end_epoch(self, how: str) -> None:
        """Note how the current epoch ended (in the caller's transaction)."""
        self.db.execute("UPDATE epoch SET ended = ? WHERE base = ?", (how, self.epochs[-1].base))

    def epoch_spans(self) -> list[tuple[Epoch, int]]:
        """Return every epoch with the last id that belongs to it, in order."""
        epochs = self.epochs  # one look: the writer replaces the list, never changes it
        ends = [epoch.base for epoch in epochs[1:]] + [self.top] * bool(epochs)
        return list(zip(epochs, ends, strict=True))

    def epoch_of(self, id_: int) -> Epoch:
        """Return the epoch an id belongs to."""
        epochs = self.epochs
        return epochs[max(bisect_right(epochs, id_ - 1, key=_base) - 1, 0)]

    def ids_of(self, epoch: str, ranges: Iterable[Range]) -> list[Range]:
        """Return ids for sequences of an epoch, cut to what can be in the file; none for a foreign epoch."""
        for known, end in self.epoch_spans():
            if known.epoch == epoch:
                found = ((first + known.base, min(last + known.base, end)) for first, last in ranges)
                return [(first, last) for first, last in found if first <= last]
        return []

    # --- records

    def insert(self, rows: list[tuple[int, int, int, bytes]]) -> None:
        """Insert (id, grp, tick, body) (in the caller's transaction); ids go on from :attr:`top`."""
        if rows:
            self.db.executemany(_INSERT, [(*row, checksum(*row)) for row in rows])
            self.top = max(self.top, rows[-1][0])

    def add_manifest(self, hash_: str, from_id: int, body: bytes) -> None:
        """Keep a manifest, known by its hash, in force from an id on."""
        self.db.execute("INSERT OR REPLACE INTO manifest VALUES (?, ?)", (hash_, body))
        self.db.execute("INSERT OR REPLACE INTO manifest_span VALUES (?, ?)", (from_id, hash_))

    def manifests(self) -> dict[str, bytes]:
        """Return the bytes of every manifest in the file by its hash."""
        return dict(self.db.execute("SELECT hash, body FROM manifest"))

    def manifest_spans(self) -> list[tuple[int, str]]:
        """Return (first id, hash) of every manifest's term, in order."""
        return self.db.execute("SELECT from_id, hash FROM manifest_span ORDER BY from_id").fetchall()

    def latest(self, keys: dict[str, dict[int, str]], limit: int = LOOK_BACK) -> Latest:
        """Return the latest rows by group key, looking back over at most ``limit`` records.

        ``keys`` gives the key of each group number by the hash of the manifest.
        """
        noted = self.note("ticks")
        noted_at = noted.get("id")
        if not isinstance(noted_at, int) or noted_at > (self._one("SELECT max(id) FROM record") or 0):
            noted_at = 0  # the note is later than the records: some of them are lost
        noted = noted if noted_at else {}
        spans = self.manifest_spans()
        begins = [begin for begin, _ in spans]
        ticks: dict[str, int] = {}
        rows: dict[str, list[int]] = {}
        query = "SELECT id, grp, tick FROM record WHERE id > ? AND grp > 0 ORDER BY id DESC LIMIT ?"
        for id_, grp, tick in self.db.execute(query, (noted_at, limit)):
            at = bisect_right(begins, id_) - 1
            key = keys.get(spans[at][1], {}).get(grp) if at >= 0 else None
            if key is None:
                continue
            ticks.setdefault(key, tick)
            if len(known := rows.setdefault(key, [])) < LATEST:
                known.append(id_)
        for key, id_ in ticks_in(noted, "rows").items():
            rows.setdefault(key, []).append(id_)
        return Latest(ticks_in(noted, "ticks") | ticks, rows)

    def note_latest(self, ticks: dict[str, int], rows: dict[str, int]) -> None:
        """Remember the last committed ticks, and the ids of the last rows with a value."""
        self.set_meta("ticks", json.dumps({"id": self.top, "ticks": ticks, "rows": rows}))

    # --- what the other end holds

    def routes(self) -> dict[str, RouteState]:
        """Return every route remembered; one whose memory is damaged sends everything again."""
        return read_routes(self.db)

    def save_route(self, state: RouteState) -> None:
        """Keep what a route's books hold; what is known already costs no flush."""
        held = json.dumps(state.held)
        self.db.execute(
            "INSERT INTO route (name, entity, books, n, held, crc) VALUES (?, ?, ?, ?, ?, ?) "
            "ON CONFLICT DO UPDATE SET entity = excluded.entity, books = excluded.books, n = excluded.n, "
            "held = excluded.held, crc = excluded.crc WHERE (entity, books, n, held, crc) "
            "<> (excluded.entity, excluded.books, excluded.n, excluded.held, excluded.crc)",
            (state.name, state.entity, state.books, state.n, held, zlib.crc32(held.encode())),
        )

    # --- room

    def used_bytes(self) -> int:
        """Return bytes of pages in use plus the WAL file."""
        pages = self._one("PRAGMA page_count") or 0
        free = self._one("PRAGMA freelist_count") or 0
        return (pages - free) * PAGE_SIZE + file_bytes(wal_of(self.path))

    def delete_below(self, below: int, at_most: int) -> int:
        """Delete the oldest records with id < ``below``, at most so many (in the caller's transaction).

        The newest always stays, and so does the head of an epoch of which rows stay: without its
        manifest nobody could read them.  Returns how many went.  Steps are bounded: one DELETE of
        500,000 rows made a 750 MB WAL.
        """
        below = min(below, self._one("SELECT max(id) FROM record") or 0)
        if below <= self.loose:
            return 0
        beyond = "SELECT id FROM record WHERE id >= ? AND id < ? ORDER BY id LIMIT 1 OFFSET ?"
        end = self._one(beyond, self.loose, below, at_most) or below
        stays = self.epoch_of(end).base + 1
        if self._one("SELECT from_id FROM manifest_span WHERE from_id = ?", stays) is None:
            stays = end  # an epoch without a head: the control lane
        gone = self.db.execute("DELETE FROM record WHERE id < ?", (min(stays, end),)).rowcount
        after_head = min(stays + HEAD, end)
        gone += self.db.execute("DELETE FROM record WHERE id >= ? AND id < ?", (after_head, end)).rowcount
        self.low = self._one("SELECT min(id) FROM record") or end
        self.loose = self._one("SELECT min(id) FROM record WHERE id >= ?", max(end, after_head)) or end
        self._forget_epochs()
        return gone

    def _forget_epochs(self) -> None:
        """Drop the epochs and manifests of which no record is left."""
        while len(self.epochs) > 1 and self.epochs[1].base < self.low:
            self.db.execute("DELETE FROM epoch WHERE base = ?", (self.epochs[0].base,))
            self.epochs = self.epochs[1:]
        cut = None
        for (_, _), (following, _) in pairwise(self.manifest_spans()):
            if following <= self.low:
                cut = following
        if cut is not None:
            self.db.execute("DELETE FROM manifest_span WHERE from_id < ?", (cut,))
            self.db.execute("DELETE FROM manifest WHERE hash NOT IN (SELECT hash FROM manifest_span)")

    # --- notes

    def meta(self, key: str) -> str | None:
        """Return a note, None when there is none."""
        row = self.db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return None if row is None else str(row[0])

    def note(self, key: str) -> dict[str, object]:
        """Return a note that is a JSON object; empty when there is none, or when it is damaged."""
        try:
            found = json.loads(self.meta(key) or "{}")
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}

    def set_meta(self, key: str, value: str) -> None:
        """Keep a note; what is noted already costs no flush."""
        self.db.execute(
            "INSERT INTO meta VALUES (?, ?) ON CONFLICT DO UPDATE SET value = excluded.value "
            "WHERE value <> excluded.value",
            (key, value),
        )

    def present(self, known: Epoch, end: int) -> RangeSet:
        """Return the sequences of an epoch that are in the file (a full look: after salvage only)."""
        found: list[Range] = []
        first = last = None
        query = "SELECT id - ? FROM record WHERE id > ? AND id <= ? ORDER BY id"
        for (seq,) in self.db.execute(query, (known.base, known.base, end)):
            if last is not None and seq != last + 1:
                found.append((first or seq, last))
                first = seq
            first, last = first or seq, seq
        return RangeSet(found if last is None else [*found, (first or last, last)])


_EPOCHS: Final = "SELECT epoch, base, begun_ms, boot, ended FROM epoch ORDER BY base"
_ROUTES: Final = "SELECT name, entity, books, n, held, crc FROM route"
_INSERT: Final = "INSERT INTO record (id, grp, tick, body, crc) VALUES (?, ?, ?, ?, ?)"


def read_epochs(db: sqlite3.Connection) -> list[Epoch]:
    """Return the epochs in a file, in order."""
    return [Epoch(*row) for row in db.execute(_EPOCHS)]


def read_routes(db: sqlite3.Connection) -> dict[str, RouteState]:
    """Return every route remembered whose memory is what was written."""
    found = {}
    for name, entity, books, n, held, crc in db.execute(_ROUTES):
        if zlib.crc32(held.encode()) == crc:
            found[name] = RouteState(name, entity, books, n, tuple((a, b) for a, b in json.loads(held)))
    return found


def ticks_in(note: Mapping[str, object], name: str) -> dict[str, int]:
    """Return the ticks by group key that a note holds under a name; what is no such thing is left out."""
    found = note.get(name)
    if not isinstance(found, dict):
        return {}
    return {key: tick for key, tick in found.items() if isinstance(key, str) and isinstance(tick, int)}


def _base(epoch: Epoch) -> int:
    return epoch.base


def read_records(db: sqlite3.Connection, first: int, last: int, limit: int) -> list[Stored]:
    """Return the records with ids in first..last, at most ``limit``, from a reader's connection.

    Raises :class:`StoreCorrupt` when one of them is not what was written.
    """
    rows = db.execute(
        "SELECT id, grp, tick, body, crc FROM record WHERE id BETWEEN ? AND ? ORDER BY id LIMIT ?",
        (first, last, limit),
    ).fetchall()
    found = []
    for id_, grp, tick, body, crc in rows:
        if not intact(id_, grp, tick, body, crc):
            raise StoreCorrupt(
                f"record {id_} of the store is not what was written: the disk changed it; "
                "the next start sets the file aside and salvages it"
            )
        found.append(Stored(id_, grp, tick, body))
    return found
