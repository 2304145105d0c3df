"""One file of records: epochs, rows and other records, manifests, and what each route's books hold.

Synchronous, no threads, no policy: the writer thread owns the one writing
connection, readers open their own for one short transaction each.  Ids are the
local order over all epochs; a sequence is an id minus the base of its epoch.

Relies on SQLite in WAL mode with ``synchronous=FULL``: a commit that returned
survives a power cut as far as the drive keeps its promise.
"""

import json
import sqlite3
from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from agent.store.schema import migrate
from core.errors import StoreCorrupt, StoreError, StoreFull
from core.ranges import Range, RangeSet

PAGE_SIZE = 4096
SYNCHRONOUS = "FULL"
"""A commit waits for the drive.  NORMAL would lose acknowledged rows at a power cut (tests/powercut.py)."""
CHECKPOINT_PAGES = 1000
"""SQLite folds the WAL back after so many pages; a larger WAL writes hot pages less often."""


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


@dataclass(frozen=True, slots=True)
class Stored:
    """One record as it lies in the file."""

    id: int
    grp: int
    tick: int
    body: bytes


@dataclass(frozen=True, slots=True)
class RouteState:
    """What is remembered of a route: whose it is, and what its books hold."""

    name: str
    entity: str
    books: str
    n: int
    held: tuple[Range, ...]


def connect(path: Path, *, readonly: bool = False) -> sqlite3.Connection:
    """Open a connection in autocommit mode, so that every transaction is visible in the code."""
    mode = "ro" if readonly else "rwc"
    db = sqlite3.connect(
        f"file:{path}?mode={mode}", uri=True, isolation_level=None, check_same_thread=False, timeout=10
    )
    if not readonly:
        db.execute(f"PRAGMA page_size={PAGE_SIZE}")
        db.execute("PRAGMA journal_mode=WAL")
        db.execute(f"PRAGMA synchronous={SYNCHRONOUS}")
        db.execute(f"PRAGMA wal_autocheckpoint={CHECKPOINT_PAGES}")
        db.execute("PRAGMA cache_size=-4096")
    return db


def translated(error: sqlite3.Error, path: Path) -> StoreError:
    """Return the error of our tree for one of SQLite's."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code == sqlite3.SQLITE_FULL:
        return StoreFull(f"no room on the disk for {path}: free some, nothing that was committed is lost")
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return StoreCorrupt(f"{path} is damaged: {error}; the next start sets it aside and salvages it")
    return StoreError(f"{path}: {error}")


class RecordFile:
    """The writing side of one file; every method is one transaction or a part of the caller's."""

    def __init__(self, path: Path, kind: str) -> None:
        """Open or create; raises StoreCorrupt, StoreTooNew or StoreError."""
        self.path = path
        try:
            self.db = connect(path)
            migrate(self.db, kind, str(path))
            self.epochs: list[Epoch] = self._read_epochs()
            row = self.db.execute("SELECT min(id), max(id) FROM record").fetchone()
        except sqlite3.Error as error:
            raise translated(error, path) from error
        self.low: int = row[0] or 1
        """Smallest id that may still be in the file."""
        self.top: int = max(row[1] or 0, self.epochs[-1].base if self.epochs else 0)
        """Largest id ever given; the newest record is never deleted, so this survives a restart."""

    def _read_epochs(self) -> list[Epoch]:
        rows = self.db.execute("SELECT epoch, base, begun_ms, boot, ended FROM epoch ORDER BY base")
        return [Epoch(*row) for row in rows]

    def close(self) -> None:
        """Close the connection; the last one folds the WAL back."""
        self.db.close()

    # --- epochs

    def begin_epoch(self, epoch: str, begun_ms: int, boot: str, skip: int = 0) -> Epoch:
        """Begin a new epoch behind everything in the file (inside the caller's transaction)."""
        begun = Epoch(epoch, self.top + skip, begun_ms, boot, None)
        if self.epochs and self.epochs[-1].base == begun.base:
            # The epoch before never wrote anything here (a quiet control lane): nothing refers to it.
            self.db.execute("DELETE FROM epoch WHERE base = ?", (begun.base,))
            self.epochs = self.epochs[:-1]
        self.db.execute(
            "INSERT INTO epoch (base, epoch, begun_ms, boot) VALUES (?, ?, ?, ?)",
            (begun.base, epoch, begun_ms, boot),
        )
        self.top = begun.base
        self.epochs = [*self.epochs, begun]
        return begun

    def end_epoch(self, how: str) -> None:
        """Note how the current epoch ended (inside the caller's transaction)."""
        self.db.execute("UPDATE epoch SET ended = ? WHERE base = ?", (how, self.epochs[-1].base))

    def epoch_spans(self) -> list[tuple[Epoch, int]]:
        """Return every epoch with the last id that belongs to it, in order."""
        epochs = self.epochs  # one look: the writer replaces the list, never changes it
        ends = [epoch.base for epoch in epochs[1:]] + [self.top] * bool(epochs)
        return list(zip(epochs, ends, strict=True))

    def epoch_of(self, id_: int) -> Epoch:
        """Return the epoch an id belongs to."""
        epochs = self.epochs
        return epochs[bisect_right(epochs, id_ - 1, key=lambda epoch: epoch.base) - 1]

    def ids_of(self, epoch: str, ranges: Iterable[Range]) -> list[Range]:
        """Return ids for sequences of an epoch, cut to what can be in the file; none for a foreign epoch."""
        for known, end in self.epoch_spans():
            if known.epoch == epoch:
                found = ((first + known.base, min(last + known.base, end)) for first, last in ranges)
                return [(first, last) for first, last in found if first <= last]
        return []

    # --- records

    def insert(self, rows: list[tuple[int, int, int, bytes]]) -> None:
        """Insert (id, grp, tick, body) (inside the caller's transaction); ids go on from :attr:`top`."""
        self.db.executemany("INSERT INTO record (id, grp, tick, body) VALUES (?, ?, ?, ?)", rows)
        if rows:
            self.top = max(self.top, rows[-1][0])

    def add_manifest(self, hash_: str, from_id: int, body: bytes) -> None:
        """Keep a manifest, known by its hash, in force from an id on."""
        self.db.execute("INSERT OR REPLACE INTO manifest VALUES (?, ?)", (hash_, body))
        self.db.execute("INSERT OR REPLACE INTO manifest_span VALUES (?, ?)", (from_id, hash_))

    def last_ticks(
        self, groups_by_manifest: dict[str, dict[int, str]], limit: int = 200_000
    ) -> dict[str, int]:
        """Return the last committed tick by group key, looking back over at most ``limit`` records.

        A note made while running (:meth:`note_ticks`) cuts the look short.
        """
        ticks: dict[str, int] = {}
        noted_at = 0
        noted = self.meta("ticks")
        if noted is not None:
            document = json.loads(noted)
            noted_at, ticks = document["id"], document["ticks"]
        spans = self.db.execute("SELECT from_id, hash FROM manifest_span ORDER BY from_id").fetchall()
        begins = [span[0] for span in spans]
        found: dict[str, int] = {}
        query = "SELECT id, grp, tick FROM record WHERE id > ? AND grp > 0 ORDER BY id DESC LIMIT ?"
        for id_, grp, tick in self.db.execute(query, (noted_at, limit)):
            at = bisect_right(begins, id_) - 1
            key = groups_by_manifest.get(spans[at][1], {}).get(grp) if at >= 0 else None
            if key is not None and key not in found:
                found[key] = tick
        return ticks | found

    def note_ticks(self, ticks: dict[str, int]) -> None:
        """Remember the last committed ticks, so that the next start need not look far back."""
        self.set_meta("ticks", json.dumps({"id": self.top, "ticks": ticks}))

    def manifests(self) -> list[tuple[int, str, bytes]]:
        """Return (from_id, hash, body) of every manifest in the file, in order."""
        return self.db.execute(
            "SELECT from_id, hash, body FROM manifest_span JOIN manifest USING (hash) ORDER BY from_id"
        ).fetchall()

    # --- what the other end holds

    def routes(self) -> dict[str, RouteState]:
        """Return every route remembered."""
        rows = self.db.execute("SELECT name, entity, books, n, held FROM route")
        return {
            name: RouteState(name, entity, books, n, tuple((a, b) for a, b in json.loads(held)))
            for name, entity, books, n, held in rows
        }

    def save_route(self, state: RouteState) -> None:
        """Keep what a route's books hold."""
        self.db.execute(
            "INSERT OR REPLACE INTO route (name, entity, books, n, held) VALUES (?, ?, ?, ?, ?)",
            (state.name, state.entity, state.books, state.n, json.dumps(state.held)),
        )

    def forget_route(self, name: str) -> None:
        """Drop what is remembered of a route that is no longer configured."""
        self.db.execute("DELETE FROM route WHERE name = ?", (name,))

    # --- room

    def used_bytes(self) -> int:
        """Return bytes of pages in use plus the WAL file."""
        pages = self.db.execute("PRAGMA page_count").fetchone()[0]
        free = self.db.execute("PRAGMA freelist_count").fetchone()[0]
        wal = self.path.with_name(self.path.name + "-wal")
        return int(pages - free) * PAGE_SIZE + (wal.stat().st_size if wal.exists() else 0)

    def delete_below(self, below: int, at_most: int) -> int:
        """Delete the oldest records with id < ``below``, at most so many; the newest always stays.

        Returns how many went.  One DELETE of 500,000 rows made a 750 MB WAL: steps are bounded.
        """
        below = min(below, self.top)
        row = self.db.execute(
            "SELECT id FROM record WHERE id < ? ORDER BY id LIMIT 1 OFFSET ?", (below, at_most)
        ).fetchone()
        end = row[0] if row is not None else below
        gone = self.db.execute("DELETE FROM record WHERE id < ?", (end,)).rowcount
        oldest = self.db.execute("SELECT min(id) FROM record").fetchone()[0]
        self.low = oldest if oldest is not None else end
        while len(self.epochs) > 1 and self.epochs[1].base < self.low:
            self.db.execute("DELETE FROM epoch WHERE base = ?", (self.epochs[0].base,))
            self.epochs = self.epochs[1:]
        spans = self.db.execute("SELECT from_id FROM manifest_span ORDER BY from_id").fetchall()
        for (_,), (following,) in pairwise(spans):
            if following <= self.low:
                self.db.execute("DELETE FROM manifest_span WHERE from_id < ?", (following,))
        self.db.execute("DELETE FROM manifest WHERE hash NOT IN (SELECT hash FROM manifest_span)")
        return gone

    # --- notes

    def meta(self, key: str) -> str | None:
        """Return a note, None when there is none."""
        row = self.db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return None if row is None else str(row[0])

    def set_meta(self, key: str, value: str) -> None:
        """Keep a note."""
        self.db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))

    def present(self, known: Epoch, end: int) -> RangeSet:
        """Return the sequences of an epoch that are in the file (used after salvage: a full look)."""
        ids = [
            row[0]
            for row in self.db.execute(
                "SELECT id FROM record WHERE id > ? AND id <= ? ORDER BY id",
                (known.base, end),
            )
        ]
        found = RangeSet()
        if not ids:
            return found
        begin = ids[0]
        for before, after in pairwise(ids):
            if after != before + 1:
                found.add(begin - known.base, before - known.base)
                begin = after
        found.add(begin - known.base, ids[-1] - known.base)
        return found


def read_records(db: sqlite3.Connection, first: int, last: int, limit: int) -> list[Stored]:
    """Return the records with ids in first..last, at most ``limit``, from a reader's connection."""
    rows = db.execute(
        "SELECT id, grp, tick, body FROM record WHERE id BETWEEN ? AND ? ORDER BY id LIMIT ?",
        (first, last, limit),
    ).fetchall()
    return [Stored(*row) for row in rows]
