"""Setting a damaged file aside, and saving what can be read of it under its old epochs.

The damaged file is renamed, never changed.  Epochs, manifests and routes are
copied as far as SQLite can read them, then the records, in ever smaller steps
around what cannot be read.  What was lost is told in the start record of the
next epoch, so the other end can close the old ones.
"""

import contextlib
import sqlite3
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agent.store.recordfile import RecordFile, connect
from core.errors import StoreError

STEP: Final = 4096
MARK: Final = ".damaged"
"""A file ``readings.db.damaged`` asks the next start to salvage ``readings.db``."""


@dataclass(frozen=True, slots=True)
class Salvage:
    """What became of a damaged file."""

    aside: Path
    records: int
    unreadable_steps: int


def needs_salvage(path: Path) -> bool:
    """Tell whether an earlier life found the file damaged, or SQLite cannot open it now."""
    if path.with_name(path.name + MARK).exists():
        return True
    if not path.exists():
        return False
    try:
        with contextlib.closing(connect(path, readonly=False)) as db:
            db.execute("SELECT max(id) FROM record").fetchone()
            db.execute("SELECT base FROM epoch").fetchall()
            db.execute("SELECT name FROM route").fetchall()
    except sqlite3.OperationalError as error:
        return "no such table" in str(error) and path.stat().st_size > 0 and not _is_new(path)
    except sqlite3.DatabaseError:
        return True
    return False


def _is_new(path: Path) -> bool:
    with contextlib.closing(connect(path, readonly=True)) as db:
        return bool(db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0)


def mark_damaged(path: Path) -> None:
    """Ask the next start to salvage a file (the daemon then ends and is started again)."""
    path.with_name(path.name + MARK).touch()


def set_aside(path: Path, kind: str) -> tuple[RecordFile, Salvage]:
    """Rename the file and its WAL, open a new one, and copy what can be read into it."""
    aside = path.with_name(f"{path.name}.aside-{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}")
    for suffix in ("-wal", "-shm", ""):
        part = path.with_name(path.name + suffix)
        if part.exists():
            part.rename(aside.with_name(aside.name + suffix))
    fresh = RecordFile(path, kind)
    records, unreadable = 0, 0
    try:
        with contextlib.closing(connect(aside, readonly=False)) as old:
            _copy_small(old, fresh.db)
            records, unreadable = _copy_records(old, fresh.db)
    except sqlite3.DatabaseError:
        unreadable += 1
    fresh.close()
    path.with_name(path.name + MARK).unlink(missing_ok=True)
    return RecordFile(path, kind), Salvage(aside, records, unreadable)


def _copy_small(old: sqlite3.Connection, new: sqlite3.Connection) -> None:
    for table in ("epoch", "manifest", "manifest_span", "route", "meta"):
        with contextlib.suppress(sqlite3.DatabaseError):
            for row in old.execute(f"SELECT * FROM {table}"):
                new.execute(f"INSERT OR IGNORE INTO {table} VALUES ({','.join('?' * len(row))})", row)


def _copy_records(old: sqlite3.Connection, new: sqlite3.Connection) -> tuple[int, int]:
    """Copy records below the highest epoch base known to be whole; halve the step where reading fails."""
    low, high = _bounds(old)
    epochs = new.execute("SELECT count(*) FROM epoch").fetchone()[0]
    if not epochs:
        return 0, 1
    copied = failed = 0
    steps = (
        [(low, high)]
        if high - low < STEP
        else [(a, min(a + STEP - 1, high)) for a in range(low, high + 1, STEP)]
    )
    steps.reverse()
    while steps:
        first, last = steps.pop()
        try:
            rows = old.execute(
                "SELECT id, grp, tick, body FROM record WHERE id BETWEEN ? AND ?", (first, last)
            ).fetchall()
        except sqlite3.DatabaseError:
            if first == last:
                failed += 1
            else:
                middle = (first + last) // 2
                steps += [(middle + 1, last), (first, middle)]
            continue
        new.execute("BEGIN IMMEDIATE")
        new.executemany("INSERT OR IGNORE INTO record VALUES (?, ?, ?, ?)", rows)
        new.execute("COMMIT")
        copied += len(rows)
    return copied, failed


def _bounds(old: sqlite3.Connection) -> tuple[int, int]:
    low, high = 1, 0
    for query, keep_low in (("SELECT min(id) FROM record", True), ("SELECT max(id) FROM record", False)):
        try:
            value = old.execute(query).fetchone()[0]
        except sqlite3.DatabaseError:
            value = None
        if value is not None and keep_low:
            low = value
        elif value is not None:
            high = value
    if not high:
        # The right edge of the tree is unreadable: look as far as the file could possibly reach.
        try:
            base = old.execute("SELECT max(base) FROM epoch").fetchone()[0] or 0
            pages = old.execute("PRAGMA page_count").fetchone()[0]
        except sqlite3.DatabaseError as error:
            raise StoreError(f"nothing of the damaged file can be read: {error}") from error
        high = base + pages * 32
    return low, high
