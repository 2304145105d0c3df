"""The audit file: what was decided and changed, and when, append only and tamper-evident.

Each entry's hash covers the hash of the one before, and all of them are leaves of a tree
(`core.merkle`) whose root is signed and published: who rewrites or cuts the log is
consistent here, and not with what others hold.

Written by the control writer's thread.  What cannot be written waits, bounded; the file
has room of its own for when the disk is full.  Not here: signing and publishing
(`agent.uplink.auditheads`), reading and judging a log (`agent.store.auditlook`).
"""

import contextlib
import json
import sqlite3
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agent.store.auditentry import NOTHING_BEFORE, Chain, canonical, chained
from agent.store.connection import connect, translated
from agent.store.room import INSIDE_CHECKPOINT, keep_room_inside
from agent.store.schema import migrate
from core.errors import AuditUnavailable, StoreCorrupt, StoreError
from core.merkle import Peaks, Tree

MAX_WAITING: Final = 1000
MAX_ENTRIES: Final = 400_000
"""About 64 MB; the oldest quarter goes when there are more."""
HEADS_KEPT: Final = 8
"""Heads to which a new one is proved: an observer that missed up to so many still follows."""


@dataclass(frozen=True, slots=True)
class Head:
    """The log at one size, and the proofs that it continues what was published before."""

    size: int
    root: bytes
    proofs: tuple[tuple[int, tuple[bytes, ...]], ...] = ()
    """(earlier published size, proof)."""


class AuditFile:
    """Owned by one thread after it was opened."""

    def __init__(self, path: Path) -> None:
        """Open or create; raises StoreError."""
        self.path = path
        self.refused = 0
        """Entries lost because too many waited for the disk."""
        self._waiting: deque[tuple[int, str, str]] = deque()
        self._lost = 0
        self._doubtful = False
        """A commit failed: whether it is in the file only the file knows."""
        try:
            self._db = connect(path, checkpoint=INSIDE_CHECKPOINT)
            try:
                migrate(self._db, "audit", path)
                self._chain, self._dropped = self._begin()
                self._tree = Tree(self._leaves, self._dropped.peaks)
                keep_room_inside(self._db, path)
            except (StoreError, sqlite3.Error):
                self._db.close()
                raise
        except sqlite3.Error as error:
            raise translated(error, path) from error

    def _begin(self) -> tuple[Chain, Chain]:
        row = self._db.execute(
            "SELECT size, peaks, last, dropped, dropped_peaks, dropped_last FROM tree"
        ).fetchone()
        chain = dropped = Chain(Peaks(), NOTHING_BEFORE)
        if row is not None:
            try:
                chain = Chain(Peaks.decode(row[0], row[1]), row[2])
                dropped = Chain(Peaks.decode(row[3], row[4]), row[5])
            except ValueError as error:
                raise StoreCorrupt(f"{self.path} holds a tree that is none: {error}") from error
        top = self._db.execute("SELECT coalesce(max(id), 0) FROM event").fetchone()[0]
        bare = self._db.execute("SELECT count(*) FROM event WHERE leaf IS NULL").fetchone()[0]
        if top > chain.peaks.size + bare:
            raise StoreCorrupt(f"{self.path} holds entries that its tree does not know")
        if bare:
            with self._transaction():
                chain = self._chain_bare(chain, dropped)
        return chain, dropped

    def _chain_bare(self, chain: Chain, dropped: Chain) -> Chain:
        """Take in entries that a first version of the file wrote without hashes."""
        rows = self._db.execute("SELECT id, at_ms, kind, body FROM event WHERE leaf IS NULL ORDER BY id")
        for id_, at_ms, kind, body in rows.fetchall():
            if id_ != chain.peaks.size + 1:
                raise StoreCorrupt(f"{self.path} lacks entries before {id_}")
            chain = chained(chain, canonical(id_, at_ms, kind, body))
            self._db.execute("UPDATE event SET leaf = ? WHERE id = ?", (chain.last, id_))
        self._keep(chain, dropped)
        return chain

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise

    def _keep(self, chain: Chain, dropped: Chain) -> None:
        self._db.execute(
            "INSERT OR REPLACE INTO tree VALUES (1, ?, ?, ?, ?, ?, ?)",
            (
                chain.peaks.size,
                chain.peaks.encode(),
                chain.last,
                dropped.peaks.size,
                dropped.peaks.encode(),
                dropped.last,
            ),
        )

    def append(self, at_ms: int, kind: str, body: dict[str, object]) -> None:
        """Write an entry, and those that wait before it; later where the disk does not take it now."""
        if len(self._waiting) >= MAX_WAITING:
            self.refused += 1
            self._lost += 1
            return
        self._waiting.append((at_ms, kind, json.dumps(body, sort_keys=True, separators=(",", ":"))))
        self.retry()

    def append_now(self, at_ms: int, kind: str, body: dict[str, object]) -> int:
        """Write an entry and return its number; `AuditUnavailable` when it cannot be written now.

        What raised was not written, and never will be: the caller does not do what it would have told.
        """
        self.retry()
        if self._waiting or self._lost:
            raise AuditUnavailable(f"{self.path} cannot be written: entries wait for the disk")
        entry = (at_ms, kind, json.dumps(body, sort_keys=True, separators=(",", ":")))
        try:
            return self._write([entry])
        except sqlite3.Error as error:
            raise AuditUnavailable(f"{self.path} cannot be written: {error}") from error

    def retry(self) -> None:
        """Write what waits, as far as the disk allows; entries that had to be left out are told first."""
        with contextlib.suppress(sqlite3.Error):
            while self._waiting:
                batch = list(self._waiting)
                if self._lost:
                    told = json.dumps({"entries": self._lost}, separators=(",", ":"))
                    batch.append((batch[-1][0], "lost", told))
                self._write(batch)
                self._waiting.clear()
                self._lost = 0

    def _write(self, entries: list[tuple[int, str, str]]) -> int:
        if self._doubtful:
            self._chain, self._dropped = self._begin()
        self._doubtful = True
        chain = self._chain
        with self._transaction():
            for at_ms, kind, body in entries:
                number = chain.peaks.size + 1
                chain = chained(chain, canonical(number, at_ms, kind, body))
                self._db.execute(
                    "INSERT INTO event (id, at_ms, kind, body, leaf) VALUES (?, ?, ?, ?, ?)",
                    (number, at_ms, kind, body, chain.last),
                )
            self._keep(chain, self._dropped)
        self._chain = chain
        self._doubtful = False
        return chain.peaks.size

    @property
    def waiting(self) -> int:
        """How many entries wait for the disk."""
        return len(self._waiting)

    def head(self) -> Head:
        """Return the log as it is now, with proofs from the heads that were published last."""
        size, root = self._chain.peaks.size, self._chain.peaks.root
        earlier = self._db.execute(
            "SELECT size FROM head WHERE size < ? AND size >= ? AND size > 0 ORDER BY size DESC LIMIT ?",
            (size, self._dropped.peaks.size, HEADS_KEPT),
        ).fetchall()
        return Head(size, root, tuple((old, tuple(self._tree.consistency(old, size))) for (old,) in earlier))

    def _leaves(self, begin: int, end: int) -> list[bytes]:
        rows = self._db.execute("SELECT leaf FROM event WHERE id > ? AND id <= ? ORDER BY id", (begin, end))
        return [leaf for (leaf,) in rows]

    def note_head(self, size: int, at_ms: int, note: str) -> None:
        """Keep a head that was signed."""
        with contextlib.suppress(sqlite3.Error):
            self._db.execute("INSERT OR IGNORE INTO head VALUES (?, ?, ?)", (size, at_ms, note))

    def drop_old(self, keep: int = MAX_ENTRIES) -> int:
        """Drop the oldest quarter when there are more than ``keep``; return how many went.

        What is left proves all it did before; of what went, the peaks stay.  The caller makes an entry of it.
        """
        held = self._chain.peaks.size - self._dropped.peaks.size
        if held <= keep:
            return 0
        going = held // 4
        dropped = self._dropped
        with self._transaction():
            for leaf in self._leaves(dropped.peaks.size, dropped.peaks.size + going):
                dropped = Chain(dropped.peaks.with_leaf(leaf), leaf)
            self._db.execute("DELETE FROM event WHERE id <= ?", (dropped.peaks.size,))
            self._db.execute("DELETE FROM head WHERE size < ?", (dropped.peaks.size,))
            self._keep(self._chain, dropped)
        self._dropped = dropped
        self._tree = Tree(self._leaves, dropped.peaks)
        return going

    def close(self) -> None:
        """Close the file."""
        self._db.close()
