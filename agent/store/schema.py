"""Tables of the three files, and how an older file becomes a newer one.

=============== ============================================================
readings.db     epochs, manifests, records (rows and the others), routes
control.db      the same tables for the control lane, and what must survive
                the loss of the readings: the heartbeat, a copy of the epochs
                and manifests; later the command journal, replay memory,
                budgets and running controls
audit.db        what the gateway did and when, append only
=============== ============================================================

``PRAGMA user_version`` counts schema versions; a migration is one numbered step
in one transaction.  A file of a later version is refused, never guessed at.
"""

import sqlite3
from pathlib import Path
from typing import Final

from agent.store.connection import translated
from core.errors import StoreTooNew

RECORD_TABLES: Final = (
    # A data (or control) sequence is id - base of its epoch: identity is (gateway, epoch, sequence).
    """CREATE TABLE epoch (
         base INTEGER PRIMARY KEY,
         epoch TEXT NOT NULL UNIQUE,
         begun_ms INTEGER NOT NULL,
         boot TEXT NOT NULL,
         ended TEXT
       ) STRICT""",
    # grp > 0: a row, body as core.codec.row_body wrote it.  grp = 0: another record, body its JSON.
    # grp = -1: a manifest record, body the hash.  No AUTOINCREMENT: it writes a second table a commit.
    # crc: SQLite has no checksums over its pages; a digit that flipped would become a bill.
    """CREATE TABLE record (
         id INTEGER PRIMARY KEY,
         grp INTEGER NOT NULL,
         tick INTEGER NOT NULL,
         body BLOB NOT NULL,
         crc INTEGER NOT NULL
       ) STRICT""",
    "CREATE TABLE manifest (hash TEXT PRIMARY KEY, body BLOB NOT NULL) STRICT",
    # Which manifest rows from an id on belong to.
    "CREATE TABLE manifest_span (from_id INTEGER PRIMARY KEY, hash TEXT NOT NULL) STRICT",
    # held: JSON ranges of ids that the entity's books hold; crc over it.
    """CREATE TABLE route (
         name TEXT PRIMARY KEY,
         entity TEXT NOT NULL,
         books TEXT NOT NULL DEFAULT '',
         n INTEGER NOT NULL DEFAULT 0,
         held TEXT NOT NULL DEFAULT '[]',
         crc INTEGER NOT NULL
       ) STRICT""",
    "CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT",
)

ROOM_TABLE: Final = "CREATE TABLE room (body BLOB NOT NULL) STRICT"
"""Filled once and emptied: its pages stay in the file, free, for when the disk has none."""

AUDIT_TABLES: Final = (
    """CREATE TABLE event (
         id INTEGER PRIMARY KEY,
         at_ms INTEGER NOT NULL,
         kind TEXT NOT NULL,
         body TEXT NOT NULL
       ) STRICT""",
)

CONTROL_TABLES: Final = (
    # Every command that came in time, for as long as somebody could send it again.
    """CREATE TABLE command (
         entity TEXT NOT NULL, id TEXT NOT NULL, digest TEXT NOT NULL, expires_ms INTEGER NOT NULL,
         state TEXT NOT NULL, code TEXT NOT NULL, at_ms INTEGER NOT NULL, device TEXT NOT NULL,
         point TEXT NOT NULL, body BLOB NOT NULL,
         PRIMARY KEY (entity, id)
       ) STRICT, WITHOUT ROWID""",
    # The latest instant of issue of each entity for each point: what is older comes too late.
    """CREATE TABLE last_issued (
         entity TEXT NOT NULL, device TEXT NOT NULL, point TEXT NOT NULL, issued_ms INTEGER NOT NULL,
         PRIMARY KEY (entity, device, point)
       ) STRICT, WITHOUT ROWID""",
    # Controls that are not ended.
    """CREATE TABLE control (
         entity TEXT NOT NULL, id TEXT NOT NULL, device TEXT NOT NULL, point TEXT NOT NULL,
         verb TEXT NOT NULL, grant_id TEXT NOT NULL, revision INTEGER NOT NULL, level INTEGER NOT NULL,
         preemptible TEXT NOT NULL, value TEXT NOT NULL, restore_to TEXT, hold TEXT NOT NULL,
         on_comm_loss TEXT NOT NULL, comm_loss_after_s INTEGER NOT NULL, opt_out TEXT NOT NULL,
         begin_ms INTEGER NOT NULL, end_ms INTEGER NOT NULL, state TEXT NOT NULL,
         changed_ms INTEGER NOT NULL, why TEXT NOT NULL,
         PRIMARY KEY (entity, id)
       ) STRICT, WITHOUT ROWID""",
    """CREATE TABLE budget (
         grant_id TEXT NOT NULL, device TEXT NOT NULL, unit TEXT NOT NULL, first TEXT NOT NULL,
         controls INTEGER NOT NULL, seconds INTEGER NOT NULL,
         PRIMARY KEY (grant_id, device, unit, first)
       ) STRICT, WITHOUT ROWID""",
    """CREATE TABLE written (
         device TEXT NOT NULL, point TEXT NOT NULL, at_ms INTEGER NOT NULL,
         PRIMARY KEY (device, point)
       ) STRICT, WITHOUT ROWID""",
)

SPREAD_CONTROL: Final = (
    # Over so long a restore is spread that many controls have at one instant.
    "ALTER TABLE control ADD COLUMN spread_s INTEGER NOT NULL DEFAULT 0",
)

WEAR_TABLES: Final = (
    # How often each register was written on the day (since 1970, UTC) on which it was written last.
    """CREATE TABLE wear (
         device TEXT NOT NULL, register TEXT NOT NULL, day INTEGER NOT NULL, writes INTEGER NOT NULL,
         PRIMARY KEY (device, register)
       ) STRICT, WITHOUT ROWID""",
)

ARMED_TABLES: Final = (
    # What the register of a device's watchdog held before a control set it; NULL: nobody knows.
    """CREATE TABLE armed (
         entity TEXT NOT NULL, id TEXT NOT NULL, device TEXT NOT NULL, register TEXT NOT NULL, before INTEGER,
         PRIMARY KEY (entity, id)
       ) STRICT, WITHOUT ROWID""",
)

LEAST_CONTROL: Final = (
    # So long a control holds at least, and since when.
    "ALTER TABLE control ADD COLUMN least_s INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE control ADD COLUMN written_ms INTEGER NOT NULL DEFAULT 0",
)

CHAINED_AUDIT: Final = (
    # Hash of the entry and the leaf before it; entries of the first version get theirs at opening.
    "ALTER TABLE event ADD COLUMN leaf BLOB",
    # One row: peaks of the whole tree and its last leaf; the same for what was dropped by age.
    """CREATE TABLE tree (
         one INTEGER PRIMARY KEY CHECK (one = 1),
         size INTEGER NOT NULL,
         peaks BLOB NOT NULL,
         last BLOB NOT NULL,
         dropped INTEGER NOT NULL,
         dropped_peaks BLOB NOT NULL,
         dropped_last BLOB NOT NULL
       ) STRICT""",
    # Checkpoints that were signed.
    "CREATE TABLE head (size INTEGER PRIMARY KEY, at_ms INTEGER NOT NULL, note TEXT NOT NULL) STRICT",
    """CREATE TRIGGER event_stays BEFORE UPDATE ON event WHEN OLD.leaf IS NOT NULL
       BEGIN SELECT RAISE(ABORT, 'the audit is append only'); END""",
)

MIGRATIONS: Final[dict[str, tuple[tuple[str, ...], ...]]] = {
    "readings": (RECORD_TABLES,),
    "control": (
        (*RECORD_TABLES, ROOM_TABLE),
        CONTROL_TABLES,
        SPREAD_CONTROL,
        WEAR_TABLES,
        ARMED_TABLES,
        LEAST_CONTROL,
    ),
    "audit": ((*AUDIT_TABLES, ROOM_TABLE), CHAINED_AUDIT),
}
"""For each file: the statements that lead from version n to n + 1."""


def migrate(db: sqlite3.Connection, kind: str, path: Path) -> None:
    """Bring a file to the version of this software.

    Raises :class:`StoreTooNew` for a later version, else a StoreError as SQLite's error says.
    """
    steps = MIGRATIONS[kind]
    try:
        version = version_of(db, kind, path)
        for number in range(version, len(steps)):
            db.execute("BEGIN IMMEDIATE")
            try:
                for statement in steps[number]:
                    db.execute(statement)
                db.execute(f"PRAGMA user_version = {number + 1}")
                db.execute("COMMIT")
            except sqlite3.Error:
                if db.in_transaction:
                    db.execute("ROLLBACK")
                raise
    except sqlite3.Error as error:
        raise translated(error, path) from error


def version_of(db: sqlite3.Connection, kind: str, path: Path) -> int:
    """Return the schema version of a file, 0 for a new one; refuses a later one with StoreTooNew."""
    version = int(db.execute("PRAGMA user_version").fetchone()[0])
    known = len(MIGRATIONS[kind])
    if version > known:
        raise StoreTooNew(
            f"{path} was written by a later version of Portico (schema {version}, this one knows "
            f"{known}): install that version, or move the file away"
        )
    return version
