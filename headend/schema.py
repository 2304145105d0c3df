"""The tables of the books, and how their file is opened.

Documented for people and programs that read them: `docs/books.md`. SQLite in WAL mode with
`synchronous=FULL`; one connection writes and belongs to one thread, and several processes may share a
file. Errors of SQLite become errors of ours here, and nowhere else.

Not here: what is written into the tables (`headend.books` and beside it).
"""

from __future__ import annotations

import errno
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from core.errors import ConfigError, StoreCorrupt, StoreError, StoreFull, StoreTooNew
from core.ids import new_books_id

VERSION: Final = 3
"""`PRAGMA user_version`: raised with each change of the tables."""
APPLICATION: Final = 0x506F7274
"""`PRAGMA application_id`: "Port", by which file(1) and we know the file."""
BUSY_TIMEOUT_S: Final = 10.0
PAGE_BYTES: Final = 8192
"""Rows up to 2 kB (some 300 values) lie in their page; with SQLite's 4 kB it would be 1 kB, and what is
longer takes a page of its own. Measured at 250,000 readings/s: the same CPU."""
CHECKPOINT_PAGES: Final = 2000
"""The WAL is written back at 16 MB: fewer, longer checkpoints than SQLite's 4 MB."""
WAL_LIMIT_BYTES: Final = 64 << 20


class BooksBusy(StoreError):
    """Another process held the books for longer than we wait; try again."""


class BooksReplaced(StoreError):
    """The file at the path is another one than we opened: somebody put a copy there."""


TABLES: Final = """
CREATE TABLE books (
    id TEXT NOT NULL,               -- <born, ms since 1970>-<random>; a new one after a restore
    n INTEGER NOT NULL              -- counts confirmations and questions; jumps to the clock at each opening
);
CREATE TABLE books_past (           -- ids that these books had before they were put back
    id TEXT NOT NULL, until_ms INTEGER NOT NULL, reason TEXT NOT NULL
);
CREATE TABLE gateway (
    gateway TEXT PRIMARY KEY,
    first_seen_ms INTEGER NOT NULL, last_seen_ms INTEGER NOT NULL,
    state TEXT                      -- its last state message: a claim, unsigned
) WITHOUT ROWID;
CREATE TABLE given (                -- numbers of the last confirmations and questions to a gateway
    gateway TEXT NOT NULL, entity TEXT NOT NULL, n INTEGER NOT NULL,
    PRIMARY KEY (gateway, entity, n)
) WITHOUT ROWID;
CREATE TABLE epoch (
    no INTEGER PRIMARY KEY,
    gateway TEXT NOT NULL, epoch TEXT NOT NULL, first_seen_ms INTEGER NOT NULL,
    started_ms INTEGER, ended TEXT, boot TEXT, clock TEXT, software TEXT,   -- its start record
    closed_last INTEGER,            -- last data sequence, by the start record of a later epoch
    control_last INTEGER,
    lost TEXT NOT NULL DEFAULT '[]',-- [[first, last], ...]: sequences that the gateway lost itself
    low INTEGER NOT NULL DEFAULT 1, -- lowest data sequence that its store still has
    UNIQUE (gateway, epoch)
);
CREATE TABLE coverage (             -- the ledger: what arrived, advanced with the rows
    epoch_no INTEGER NOT NULL REFERENCES epoch, entity TEXT NOT NULL,
    space TEXT NOT NULL,            -- data | control
    ranges TEXT NOT NULL,           -- [[first, last], ...], both inclusive
    PRIMARY KEY (epoch_no, entity, space)
) WITHOUT ROWID;
CREATE TABLE manifest (
    hash TEXT PRIMARY KEY, gateway TEXT NOT NULL, first_seen_ms INTEGER NOT NULL, body TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE grp (                  -- a group number means something within its manifest
    no INTEGER PRIMARY KEY,
    manifest TEXT NOT NULL REFERENCES manifest, number INTEGER NOT NULL, gateway TEXT NOT NULL,
    key TEXT NOT NULL, device TEXT NOT NULL, device_type TEXT NOT NULL,
    every_ms INTEGER NOT NULL, phase_ms INTEGER NOT NULL, usage_point TEXT NOT NULL,
    body TEXT NOT NULL,             -- the group as in the manifest
    UNIQUE (manifest, number)
);
CREATE INDEX grp_device ON grp (gateway, device);
CREATE TABLE row (                  -- one poll of one group
    epoch_no INTEGER NOT NULL REFERENCES epoch, seq INTEGER NOT NULL,
    grp_no INTEGER NOT NULL REFERENCES grp,
    tick INTEGER NOT NULL,          -- when it was due, UTC, ms since 1970
    received_ms INTEGER NOT NULL,
    body TEXT NOT NULL,             -- [[answer offsets], [values]] or [.., .., {point index: [reasons]}]
    PRIMARY KEY (epoch_no, seq)
) WITHOUT ROWID;
CREATE INDEX row_tick ON row (grp_no, tick);
CREATE TABLE record (               -- everything else of the streams
    epoch_no INTEGER NOT NULL REFERENCES epoch, space TEXT NOT NULL, seq INTEGER NOT NULL,
    type TEXT NOT NULL, received_ms INTEGER NOT NULL, body TEXT NOT NULL,
    PRIMARY KEY (epoch_no, space, seq)
) WITHOUT ROWID;
CREATE INDEX record_type ON record (type, epoch_no);
CREATE TABLE gap (
    epoch_no INTEGER NOT NULL REFERENCES epoch, seq INTEGER NOT NULL,
    number INTEGER NOT NULL,        -- group number
    grp_no INTEGER REFERENCES grp,  -- NULL until the manifest is known
    first_tick INTEGER NOT NULL, last_tick INTEGER NOT NULL, ticks INTEGER NOT NULL,
    reason TEXT NOT NULL, unknown_extent INTEGER NOT NULL,
    PRIMARY KEY (epoch_no, seq)
) WITHOUT ROWID;
CREATE INDEX gap_grp ON gap (grp_no, first_tick);
CREATE TABLE conflict (             -- the same identity with other content: both are kept
    epoch_no INTEGER NOT NULL REFERENCES epoch, space TEXT NOT NULL, seq INTEGER NOT NULL,
    arrived TEXT NOT NULL,          -- what came later; what came first is where it belongs
    stored TEXT,                    -- what came first; NULL: the sequence was covered without content
    first_ms INTEGER NOT NULL, last_ms INTEGER NOT NULL, arrivals INTEGER NOT NULL,
    PRIMARY KEY (epoch_no, space, seq, arrived)
) WITHOUT ROWID;
CREATE TABLE quality_entry (        -- the journal: appended, never changed
    id INTEGER PRIMARY KEY,
    gateway TEXT NOT NULL, device TEXT NOT NULL, point TEXT NOT NULL,    -- '': every point
    from_ms INTEGER, to_ms INTEGER, -- ticks judged, [from, to); NULL where by sequence
    epoch TEXT NOT NULL, number INTEGER NOT NULL, first_seq INTEGER NOT NULL, last_seq INTEGER NOT NULL,
    points TEXT NOT NULL,           -- [index, ...] of a judgement by sequence; []: all
    code TEXT NOT NULL, reasons TEXT NOT NULL, rule TEXT NOT NULL,
    entity TEXT NOT NULL, who TEXT NOT NULL, precedence INTEGER NOT NULL, known_ms INTEGER NOT NULL
);
CREATE INDEX quality_device ON quality_entry (gateway, device, from_ms);
CREATE INDEX quality_epoch ON quality_entry (epoch, number, first_seq);
CREATE TABLE usage_point_term (
    usage_point TEXT NOT NULL, gateway TEXT NOT NULL, device TEXT NOT NULL,
    valid_from_ms INTEGER, valid_to_ms INTEGER,      -- [from, to); NULL: open
    known_ms INTEGER NOT NULL, source TEXT NOT NULL  -- the later known counts; source: manifest | person
);
CREATE INDEX usage_point_device ON usage_point_term (gateway, device, known_ms);
CREATE TABLE ownership_term (
    gateway TEXT NOT NULL, device TEXT NOT NULL, grp_key TEXT NOT NULL,
    device_owner TEXT NOT NULL, data_owners TEXT NOT NULL, steward TEXT NOT NULL, validator TEXT NOT NULL,
    purpose TEXT NOT NULL, valid_from_ms INTEGER, valid_to_ms INTEGER,
    known_ms INTEGER NOT NULL, source TEXT NOT NULL
);
CREATE INDEX ownership_group ON ownership_term (gateway, grp_key, known_ms);
CREATE TABLE certificate (          -- signing certificates seen, for old signatures
    fingerprint TEXT PRIMARY KEY, kid TEXT NOT NULL, subject TEXT NOT NULL, role TEXT NOT NULL,
    not_before_ms INTEGER NOT NULL, not_after_ms INTEGER NOT NULL, first_seen_ms INTEGER NOT NULL,
    der BLOB NOT NULL
) WITHOUT ROWID;
CREATE INDEX certificate_kid ON certificate (kid, subject);
CREATE TABLE alarm (                -- raised by the head-end; those of gateways are records
    code TEXT NOT NULL, gateway TEXT NOT NULL, text TEXT NOT NULL,
    first_ms INTEGER NOT NULL, last_ms INTEGER NOT NULL, count INTEGER NOT NULL,
    PRIMARY KEY (code, gateway)
) WITHOUT ROWID;
CREATE TABLE counter (              -- readings: stored, redelivered, conflicting; messages: taken, refused.*
    name TEXT NOT NULL, gateway TEXT NOT NULL, n INTEGER NOT NULL,
    PRIMARY KEY (name, gateway)
) WITHOUT ROWID;
CREATE TRIGGER row_stays BEFORE UPDATE ON row
BEGIN SELECT RAISE(ABORT, 'a reading is never changed'); END;
CREATE TRIGGER record_stays BEFORE UPDATE ON record
BEGIN SELECT RAISE(ABORT, 'a record is never changed'); END;
CREATE TRIGGER quality_stays BEFORE UPDATE ON quality_entry
BEGIN SELECT RAISE(ABORT, 'the quality journal is appended to, never changed'); END;
CREATE TRIGGER quality_remains BEFORE DELETE ON quality_entry
BEGIN SELECT RAISE(ABORT, 'the quality journal is appended to, never deleted from'); END;
CREATE VIEW gateway_alarm AS
SELECT epoch.gateway, epoch.epoch, record.seq, json_extract(body, '$.at') AS at_ms,
       json_extract(body, '$.code') AS code, json_extract(body, '$.raised') AS raised,
       json_extract(body, '$.text') AS text, coalesce(json_extract(body, '$.device'), '') AS device
FROM record JOIN epoch ON epoch.no = record.epoch_no WHERE type = 'alarm';
CREATE VIEW clock_change AS
SELECT epoch.gateway, epoch.epoch, record.seq, json_extract(body, '$.at') AS at_ms,
       json_extract(body, '$.state') AS state, coalesce(json_extract(body, '$.step_ms'), 0) AS step_ms
FROM record JOIN epoch ON epoch.no = record.epoch_no WHERE type = 'clock';
"""


AUDIT_TABLES: Final = """
CREATE TABLE audit_head (           -- heads of the gateways' audit logs, in the order in which they came
    no INTEGER PRIMARY KEY, gateway TEXT NOT NULL, size INTEGER NOT NULL, root BLOB NOT NULL,
    note TEXT NOT NULL, at_ms INTEGER NOT NULL, received_ms INTEGER NOT NULL,
    verdict TEXT NOT NULL           -- first, continues, unproven, cut, rewritten
);
CREATE INDEX audit_head_gateway ON audit_head (gateway, no);
"""
"""Since version 2."""

CONTROL_TABLES: Final = """
ALTER TABLE alarm ADD COLUMN cleared_ms INTEGER;  -- NULL: it stands
CREATE TABLE control (              -- where each command stands, by the outcomes that came
    gateway TEXT NOT NULL, entity TEXT NOT NULL, command TEXT NOT NULL,
    device TEXT NOT NULL, point TEXT NOT NULL,
    state TEXT NOT NULL, at_ms INTEGER NOT NULL,
    begin_ms INTEGER, end_ms INTEGER,   -- drawn by the gateway when it accepted
    ended INTEGER NOT NULL,             -- 1: nothing more is owed to the device
    PRIMARY KEY (gateway, entity, command)
) WITHOUT ROWID;
CREATE INDEX control_open ON control (end_ms) WHERE ended = 0;
CREATE VIEW outcome AS
SELECT epoch.gateway, epoch.epoch, record.seq, json_extract(body, '$.at') AS at_ms,
       json_extract(body, '$.command') AS command, coalesce(json_extract(body, '$.entity'), '') AS entity,
       json_extract(body, '$.state') AS state, coalesce(json_extract(body, '$.device'), '') AS device,
       coalesce(json_extract(body, '$.point'), '') AS point, json_extract(body, '$.value') AS value,
       coalesce(json_extract(body, '$.reasons'), '[]') AS reasons,
       coalesce(json_extract(body, '$.text'), '') AS text,
       json_extract(body, '$.x.begin') AS begin_ms, json_extract(body, '$.x.end') AS end_ms,
       json_extract(body, '$.x.grant') AS "grant", record.received_ms
FROM record JOIN epoch ON epoch.no = record.epoch_no WHERE type = 'outcome';
"""
"""Since version 3."""


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """Turn SQLite's errors into ours; a constraint that fails stays what it is, a bug."""
    try:
        yield
    except sqlite3.IntegrityError:
        raise
    except sqlite3.DatabaseError as error:
        name = getattr(error, "sqlite_errorname", "") or ""
        if name in ("SQLITE_FULL", "SQLITE_IOERR_SHMSIZE"):  # the latter: no room for the WAL's index
            raise _no_room(path) from error
        if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
            raise BooksBusy(
                f"another process has held the books {path} for more than {BUSY_TIMEOUT_S:g} s: "
                "close what writes or looks into them for long"
            ) from error
        if name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
            raise StoreCorrupt(
                f"the books {path} are damaged ({error}): put the last backup in their place, "
                "the gateways send again what they still hold"
            ) from error
        raise StoreError(f"the books {path} cannot be used ({error}): check the file and its disk") from error


def make_folder(books: Path) -> None:
    """Make the folder of the books where there is none.  Raises ConfigError and StoreFull."""
    try:
        books.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(books, error) from error


def unwritable(books: Path, error: OSError) -> ConfigError | StoreFull:
    """Return what to say of books beside which nothing can be written."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return _no_room(books)
    words = {errno.EROFS: "its file system is read-only", errno.EEXIST: "it is a file"}
    why = words.get(error.errno or 0, error.strerror)
    return ConfigError(
        f"the folder {books.parent} of the books cannot be used ({why}): "
        "name a folder that can be written, under books in [headend]"
    )


def _no_room(books: Path) -> StoreFull:
    return StoreFull(f"no room on the disk of the books {books}: make room, nothing is lost")


def open_writer(path: Path, now_ms: int) -> sqlite3.Connection:
    """Open the books for writing; make them, with a new books id, where there are none."""
    make_folder(path)
    with translated(path):
        connection = sqlite3.connect(
            path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=True
        )
        connection.execute(f"PRAGMA page_size={PAGE_BYTES}")
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute(f"PRAGMA wal_autocheckpoint={CHECKPOINT_PAGES}")
        connection.execute(f"PRAGMA journal_size_limit={WAL_LIMIT_BYTES}")
        connection.execute("PRAGMA cache_size=-16000")
        connection.execute("BEGIN IMMEDIATE")
        try:
            version = _version(connection, path)
            if version == 0:
                _create(connection, now_ms)
            if version < 2:
                _run(connection, AUDIT_TABLES)
            if version < 3:
                _run(connection, CONTROL_TABLES)
            if version < VERSION:
                connection.execute(f"PRAGMA user_version={VERSION}")
            connection.execute("COMMIT")
        except BaseException:
            # SQLite rolls back by itself when there is no room: a ROLLBACK would fail and hide the cause.
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            connection.close()
            raise
    return connection


def open_reader(path: Path) -> sqlite3.Connection:
    """Open books that exist, to look only. Keep reads short: an open one lets the WAL grow."""
    if not path.is_file():
        raise ConfigError(f"there are no books at {path}: start the collector once, or name another file")
    with translated(path):
        connection = sqlite3.connect(
            f"{path.resolve().as_uri()}?mode=ro", uri=True, timeout=BUSY_TIMEOUT_S, isolation_level=None
        )
        if _version(connection, path) == 0:
            connection.close()
            raise ConfigError(f"{path} is empty: start the collector once")
    return connection


def _version(connection: sqlite3.Connection, path: Path) -> int:
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    application: int = connection.execute("PRAGMA application_id").fetchone()[0]
    if version == 0 and connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
        raise ConfigError(f"{path} is a database, but no books: name another file")
    if version and application != APPLICATION:
        raise ConfigError(f"{path} is a database of another program: name another file")
    if version > VERSION:
        raise StoreTooNew(f"the books {path} were written by a later version of Portico: update this one")
    return version


def _create(connection: sqlite3.Connection, now_ms: int) -> None:
    _run(connection, TABLES)
    connection.execute("INSERT INTO books (id, n) VALUES (?, 0)", (new_books_id(now_ms),))
    connection.execute(f"PRAGMA application_id={APPLICATION}")


def _run(connection: sqlite3.Connection, script: str) -> None:
    """Run the statements of a script inside the caller's transaction."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            connection.execute(statement)
            statement = ""
