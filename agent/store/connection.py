"""Connections to SQLite: how they are opened, and its errors as ours.

WAL with ``synchronous=FULL``: a commit that returned survives a power cut as far as
the drive keeps its promise.  Autocommit mode, so that every transaction is visible
in the code.  Deliberately not here: tables (``agent.store.schema``) and who may write.
"""

import fcntl
import os
import sqlite3
import struct
import sys
from pathlib import Path
from typing import Final

from core.errors import StoreCorrupt, StoreError, StoreFull

PAGE_SIZE: Final = 4096
SYNCHRONOUS: Final = "FULL"
"""A commit waits for the drive.  NORMAL would lose acknowledged rows at a power cut (tests/powercut.py)."""
CHECKPOINT_PAGES: Final = 1000
"""SQLite folds the WAL back after so many pages; a larger WAL writes hot pages less often."""
NO_ROOM_TOO: Final = frozenset({sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN})
"""What SQLite says when a full disk has no room for the file of shared memory beside the log."""
DAMAGE: Final = ("no such table", "no such column", "Could not decode to UTF-8", "malformed database schema")
"""Signs of damage in what SQLite or Python calls an error of ours."""
NOT_SALVAGED: Final = "audit.db"
"""Tamper-evident as a whole: of a part nobody could say what it proves."""
SHM_BYTES: Final = 64 << 10
"""Less than this free: there is no room for that file, which takes 32 KiB at least."""
CACHE_KIB: Final = 1024
"""Of a writer: a window of 25,000 readings and its index fit; more gains nothing, and stays taken."""
FS_IOC_GETVERSION: Final = 2 << 30 | struct.calcsize("l") << 16 | ord("v") << 8 | 1
"""``_IOR('v', 1, long)`` of linux/fs.h, as most machines encode it; elsewhere it fails and says nothing."""
READ_CACHE_KIB: Final = 256
"""Of a reader: it goes on from where it was, and hardly ever comes back."""
BUSY_S: Final = 10.0
"""How long to wait for a person who looks into the file with a tool that locks it."""


def connect(path: Path, *, readonly: bool = False, checkpoint: int = CHECKPOINT_PAGES) -> sqlite3.Connection:
    """Open a connection in autocommit mode; raises ``sqlite3.Error``.

    Args:
        path: of the file; created when it is missing, unless ``readonly``.
        readonly: for readers; never folds the WAL back, never changes the file.
        checkpoint: pages of WAL after which it is folded back.
    """
    mode = "ro" if readonly else "rwc"
    db = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode={mode}",
        uri=True,
        isolation_level=None,
        check_same_thread=False,
        timeout=BUSY_S,
    )
    try:
        if readonly:
            db.execute(f"PRAGMA cache_size=-{READ_CACHE_KIB}")
        else:
            db.execute(f"PRAGMA page_size={PAGE_SIZE}")
            journal = db.execute("PRAGMA journal_mode=WAL").fetchone()[0]
            if journal != "wal":
                raise sqlite3.OperationalError(f"the file system of {path} allows no write-ahead log")
            db.execute(f"PRAGMA synchronous={SYNCHRONOUS}")
            db.execute(f"PRAGMA wal_autocheckpoint={checkpoint}")
            db.execute(f"PRAGMA cache_size=-{CACHE_KIB}")
            # Debian builds it in: the pages of deleted rows would be written once more, as zeros.
            db.execute("PRAGMA secure_delete=OFF")
        db.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone()  # damage there shows now, not later
    except UnicodeDecodeError:  # the sentence of SQLite's error quotes what it found in the file
        db.close()
        raise sqlite3.DatabaseError("malformed database schema") from None
    except BaseException:
        db.close()
        raise
    return db


def translated(error: sqlite3.Error, path: Path) -> StoreError:
    """Return the error of our tree for one of SQLite's."""
    code = (getattr(error, "sqlite_errorcode", 0) or 0) & 0xFF
    if code == sqlite3.SQLITE_FULL or (code in NO_ROOM_TOO and _is_full(path)):
        return StoreFull(f"no room on the disk for {path}: free some, nothing that was committed is lost")
    damaged = code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_FORMAT)
    if damaged or any(sign in str(error) for sign in DAMAGE):
        then = "begins a new one" if path.name == NOT_SALVAGED else "salvages it"
        return StoreCorrupt(f"{path} is damaged: {error}; the next start sets it aside and {then}")
    return StoreError(f"{path}: {error}")


def _is_full(path: Path) -> bool:
    try:
        disk = os.statvfs(path.parent)
        return disk.f_bavail * disk.f_frsize < SHM_BYTES
    except OSError:
        return False


def inode_of(handle: int) -> str:
    """Return what tells an open file from a copy of it at the same place: inode, and its generation if known.

    The number alone returns: a directory that is removed and copied back may get the same ones.
    """
    number = os.fstat(handle).st_ino
    try:
        generation = fcntl.ioctl(handle, FS_IOC_GETVERSION, bytes(struct.calcsize("l")))
    except OSError:  # not every file system has one
        return str(number)
    return f"{number}:{int.from_bytes(generation[:4], sys.byteorder)}"


def file_bytes(path: Path) -> int:
    """Return the bytes of a file, 0 when there is none."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def wal_of(path: Path) -> Path:
    """Return where SQLite keeps the write-ahead log of a file."""
    return path.with_name(path.name + "-wal")
