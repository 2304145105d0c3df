"""Setting a damaged file aside, and saving what can be read of it under its old epochs.

The damaged file is renamed, never changed.  Epochs, manifests, routes and the journal of
controls are copied as far as SQLite can read them, then every record whose checksum holds; where
SQLite cannot go on, the pages are read without it.  A record without its epoch or
its manifest has no identity or no meaning, and is lost.  What was lost is told in
the start record of the next epoch, so the other end can close the old ones.

A salvage that is itself interrupted goes on at the next start: a mark beside the
file names what was set aside, and the new file gets its name when it is whole.
"""

import contextlib
import logging
import os
import sqlite3
import sys
import time
import zlib
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from agent.store.carried import LOST, carry, journal_tables, mark_lost, unmark_lost
from agent.store.connection import connect, file_bytes, translated, wal_of
from agent.store.leafpages import records_in
from agent.store.logrepair import looked_at, mend_log
from agent.store.recordfile import Epoch, RecordFile, Stored, checksum, intact, is_manifest
from agent.store.room import ASIDE
from agent.store.schema import version_of
from core.errors import StoreCorrupt
from core.ranges import RangeSet

log = logging.getLogger(__name__)

STEP: Final = 4096
SMALLEST_STEP: Final = 64
"""Around damage SQLite is asked for no less; the pages are read directly instead."""
MARK: Final = ".damaged"
"""A file ``readings.db.damaged`` asks the next start to salvage ``readings.db``."""
SMALL_TABLES: Final = ("epoch", "manifest_span", "manifest", "route", "meta")
SUFFIXES: Final = ("-wal", "-shm", "")
FILLED: Final = ".salvage"
CONTROL: Final = "control"


@dataclass(frozen=True, slots=True)
class Spare:
    """What another file remembers of this one: enough to name and to read its records."""

    epochs: tuple[tuple[Epoch, str], ...] = ()
    """Epochs with the hash of the manifest that they began with."""
    spans: tuple[tuple[int, str], ...] = ()
    """Manifests that came later in an epoch: the id from which each is in force, and its hash."""
    manifests: dict[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Salvage:
    """What became of a damaged file."""

    aside: Path
    records: int
    whole: bool
    """SQLite could read all of it; else pages were read without it, and something may be lost."""
    journal_lost: bool = False
    """Of a control file: the journal of controls, or a part of it, is lost."""


def needs_salvage(path: Path, kind: str) -> bool:
    """Tell whether an earlier life found the file damaged, or SQLite cannot open it now.

    Raises StoreTooNew for a file of a later version: it is not damaged, only not ours to touch.
    """
    if mark_of(path).exists():
        return True
    if not path.exists():
        return False
    try:
        # Only looked at: a connection that writes would fold the log of a killed life back, in three flushes.
        with looked_at(path) as (db, cut):
            version = version_of(db, kind, path)
            if cut is not None:
                log.error("%s", cut)
                return True
            if version == 0:
                return bool(db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0])
            db.execute("SELECT id, grp, tick, body, crc FROM record ORDER BY id DESC LIMIT 1").fetchone()
            db.execute("SELECT id FROM record ORDER BY id LIMIT 1").fetchone()
            for table in (*SMALL_TABLES, *journal_tables(db)):
                db.execute(f"SELECT * FROM {table}").fetchall()
                # A look by key reads an index that a look at all does not.
                if db.execute(f"PRAGMA integrity_check({table})").fetchall() != [("ok",)]:
                    return True
    except sqlite3.Error as error:
        return isinstance(translated(error, path), StoreCorrupt)
    return False


def mark_of(path: Path) -> Path:
    """Return the mark that asks for a salvage."""
    return path.with_name(path.name + MARK)


def mark_damaged(path: Path) -> None:
    """Ask the next start to salvage a file (the daemon then ends and is started again)."""
    with contextlib.suppress(OSError):  # no room for a mark: the damage will be found once more
        mark_of(path).touch()


def set_aside(path: Path, kind: str, spare: Spare) -> Salvage:
    """Rename the file and its WAL, and fill a new one with what can be read."""
    mark = mark_of(path)
    aside = _aside_named(path, mark)
    filled = path.with_name(path.name + FILLED)
    salvage = Salvage(aside, 0, True)
    if not (aside.exists() and path.exists()):  # else only the mark was left to remove
        for suffix in (*SUFFIXES, "-journal"):
            filled.with_name(filled.name + suffix).unlink(missing_ok=True)
        for suffix in SUFFIXES:
            part = path.with_name(path.name + suffix)
            if part.exists():
                part.rename(aside.with_name(aside.name + suffix))
        salvage = _fill(filled, kind, aside, spare)
        filled.with_name(filled.name + "-journal").unlink(missing_ok=True)
        filled.rename(path)
    mark.unlink(missing_ok=True)
    _sync_directory(path.parent)
    return salvage


def _aside_named(path: Path, mark: Path) -> Path:
    """Return the name that an interrupted salvage chose, or choose one and write it down."""
    with contextlib.suppress(OSError, UnicodeDecodeError):
        name = mark.read_text().strip()
        if name.startswith(path.name + ASIDE):
            return path.with_name(name)
    stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime())
    number = 0
    aside = path.with_name(f"{path.name}{ASIDE}{stamp}")
    while aside.exists():
        number += 1
        aside = path.with_name(f"{path.name}{ASIDE}{stamp}.{number}")
    mark.write_text(aside.name)
    _sync_directory(path.parent)
    return aside


def _sync_directory(directory: Path) -> None:
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _fill(filled: Path, kind: str, aside: Path, spare: Spare) -> Salvage:
    fresh = RecordFile(filled, kind)
    try:
        # The log would take as much room as the file; opened by the agent, it is a WAL again.
        fresh.db.execute("PRAGMA journal_mode=TRUNCATE").fetchone()
        if kind == CONTROL:
            mark_lost(fresh.db)  # until it is seen not to be
        salvage = _copied(fresh, aside, spare)
        return replace(salvage, journal_lost=fresh.meta(LOST) is not None)
    finally:
        fresh.close()


def _copied(fresh: RecordFile, aside: Path, spare: Spare) -> Salvage:
    # Without room for a second copy, what every route has confirmed is not copied.
    disk = os.statvfs(aside.parent)
    roomy = disk.f_bavail * disk.f_frsize > 2 * file_bytes(aside)
    whole = spans_read = False
    before = 0
    log_as_it_was = mend_log(aside)
    try:
        with contextlib.closing(connect(aside, readonly=True)) as old:
            unread = _copy_small(old, fresh, spare)
            whole = not unread and log_as_it_was == wal_of(aside)
            if fresh.meta(LOST) is not None and _carried(old, fresh) and log_as_it_was == wal_of(aside):
                unmark_lost(fresh.db)
            spans_read = "manifest_span" not in unread
            wanted = _Wanted(fresh, roomy)
            for rows in _ranges(old):
                if rows is None:
                    whole = False
                else:
                    good = [Stored(*row[:4]) for row in rows if intact(*row)]
                    wanted.learn(good)
                    _keep(fresh, wanted, good)
                    whole = whole and len(good) == len(rows)
    except sqlite3.OperationalError as error:
        if aside.exists():
            log.error("%s: the salvage ended early: %s", aside.name, error)
        whole = False
    except sqlite3.DatabaseError:
        whole = False
    with contextlib.suppress(sqlite3.Error):
        before = int(fresh.db.execute("SELECT count(*) FROM record").fetchone()[0])
    if not whole:
        before += _copy_pages(fresh, aside, log_as_it_was, spare, roomy, spans_read)
    return Salvage(aside, before, whole)


def _carried(old: sqlite3.Connection, fresh: RecordFile) -> bool:
    with fresh.transaction():
        return carry(old, fresh.db)


def _copy_pages(
    fresh: RecordFile, aside: Path, wal: Path, spare: Spare, roomy: bool, spans_read: bool
) -> int:
    _copy_spare(fresh, spare)
    wanted = _Wanted(fresh, roomy)
    have = fresh.present(Epoch("", 0, 0, "", None), sys.maxsize)
    kept = 0
    if not spans_read:  # pages come in any order: first where the manifests change, then what they mean
        wanted.learn(record for record in records_in(aside, wal, have) if record.grp == -1)
    batch: list[Stored] = []
    with contextlib.suppress(sqlite3.OperationalError):  # the disk is full: what is copied is copied
        for record in records_in(aside, wal, have):
            batch.append(record)
            if len(batch) >= STEP:
                kept += _keep(fresh, wanted, batch)
                batch = []
        kept += _keep(fresh, wanted, batch)
    return kept


class _Wanted:
    """Which records have an identity and a meaning, and are not confirmed if room is short."""

    def __init__(self, fresh: RecordFile, roomy: bool) -> None:
        self._fresh = fresh
        self._bases = {row[0] for row in fresh.db.execute("SELECT base FROM epoch")}
        self._lowest = min(self._bases, default=None)
        self._held = [] if roomy else [RangeSet(state.held) for state in fresh.routes().values()]
        self._look()

    def _look(self) -> None:
        fresh = self._fresh
        spans = fresh.db.execute("SELECT from_id, hash FROM manifest_span ORDER BY from_id").fetchall()
        known = fresh.manifests()
        self._begins = [begin for begin, _ in spans]
        self._readable = [hash_ in known for _, hash_ in spans]

    def learn(self, records: Iterable[Stored]) -> None:
        """Take from the records of manifests where each is in force; the first of an epoch from its begin."""
        told = [one for one in records if one.grp == -1]
        for one in told:
            head = one.id - 2 in self._bases
            _insert(self._fresh, "manifest_span", (one.id - head, one.body.decode("ascii", "replace")))
        if told:
            self._look()

    def __call__(self, record: Stored) -> bool:
        if self._lowest is None or record.id <= self._lowest:
            return False
        if record.grp == 0:
            return True
        if record.grp > 0 and self._held and all(record.id in held for held in self._held):
            return False
        at = bisect_right(self._begins, record.id) - 1
        return at >= 0 and self._readable[at]


def _keep(fresh: RecordFile, wanted: _Wanted, records: Iterable[Stored]) -> int:
    rows = [(*record, checksum(*record)) for record in records if wanted(record)]
    with fresh.transaction():
        before = fresh.db.total_changes
        fresh.db.executemany("INSERT OR IGNORE INTO record VALUES (?, ?, ?, ?, ?)", rows)
        return fresh.db.total_changes - before


def _copy_small(old: sqlite3.Connection, fresh: RecordFile, spare: Spare) -> set[str]:
    """Copy epochs, manifests and routes; return the tables not read whole.  Notes are made anew."""
    unread: set[str] = set()
    for table, good in _SMALL:
        for order in ("", " DESC"):  # from both ends towards the damage
            try:
                for row in old.execute(f"SELECT * FROM {table} ORDER BY rowid{order}"):
                    if good(row):
                        _insert(fresh, table, row)
                break
            except (sqlite3.DatabaseError, UnicodeDecodeError):
                unread.add(table)
    _copy_spare(fresh, spare)
    return unread


def _insert(fresh: RecordFile, table: str, row: tuple[object, ...]) -> None:
    marks = ",".join("?" * len(row))
    with contextlib.suppress(sqlite3.IntegrityError):  # of another type: damaged
        fresh.db.execute(f"INSERT OR IGNORE INTO {table} VALUES ({marks})", row)


def _copy_spare(fresh: RecordFile, spare: Spare) -> None:
    for known, hash_ in spare.epochs:
        row = (known.base, known.epoch, known.begun_ms, known.boot, known.ended)
        _insert(fresh, "epoch", row)
        _insert(fresh, "manifest_span", (known.base + 1, hash_))
    for span in spare.spans:
        _insert(fresh, "manifest_span", span)
    for entry in spare.manifests.items():
        if _is_manifest(entry):
            _insert(fresh, "manifest", entry)


def _any(row: tuple[object, ...]) -> bool:
    return True


def _is_manifest(row: tuple[object, ...]) -> bool:
    return is_manifest(row[0], row[1])


def _is_route(row: tuple[object, ...]) -> bool:
    return isinstance(row[4], str) and zlib.crc32(row[4].encode()) == row[5]


_SMALL: Final = (
    ("epoch", _any),
    ("manifest", _is_manifest),
    ("manifest_span", _any),
    ("route", _is_route),
)


def _ranges(old: sqlite3.Connection) -> Iterator[list[tuple[int, int, int, bytes, int]] | None]:
    """Yield the records step by step, None for each stretch that SQLite cannot read."""
    low, high = _edge(old, "min"), _edge(old, "max")
    if low is None or high is None:
        yield None
        return
    for begin in range(low, high + 1, STEP):
        steps = [(begin, min(begin + STEP - 1, high))]
        while steps:
            first, last = steps.pop()
            try:
                yield old.execute(_READ, (first, last)).fetchall()
            except sqlite3.DatabaseError:
                if last - first < SMALLEST_STEP:
                    yield None
                else:
                    middle = (first + last) // 2
                    steps += [(middle + 1, last), (first, middle)]


_READ: Final = "SELECT id, grp, tick, body, crc FROM record WHERE id BETWEEN ? AND ? ORDER BY id"


def _edge(old: sqlite3.Connection, which: str) -> int | None:
    try:
        found = old.execute(f"SELECT {which}(id) FROM record").fetchone()[0]
    except sqlite3.DatabaseError:
        return None
    return None if found is None else int(found)
