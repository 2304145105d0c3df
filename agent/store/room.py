"""Room: what may be dropped, the reserve on the disk, and room kept free inside a file.

A full disk refuses even DELETE.  The readings keep a reserve file beside them that
is given back then; the control lane and the audit keep free pages inside their own
files, and a write-ahead log already grown, which nobody else can take.

Not here: when to do what (``agent.store.housekeeping``).
"""

import os
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agent.store.connection import CHECKPOINT_PAGES, PAGE_SIZE, file_bytes, wal_of

DELETE_STEP: Final = 2_000
"""Rows deleted in one transaction: short enough that no insert waits noticeably."""
INSIDE_PAGES: Final = 64
"""Pages kept free inside the control and the audit file: some thousand alarms."""
INSIDE_CHECKPOINT: Final = INSIDE_PAGES // 2
"""Their write-ahead logs are folded back before they outgrow what they have on the disk."""
ASIDE: Final = ".aside-"
"""In the name of a damaged file that was set aside."""


@dataclass(frozen=True, slots=True)
class Floor:
    """How far one route's books hold everything: ids below are confirmed."""

    priority: int
    """Importance of the route; the lowest goes first."""
    below: int


@dataclass(slots=True)
class RoomCounts:
    """What was dropped, and why."""

    pruned: int = 0
    """Confirmed records that made room or grew old."""
    dropped: int = 0
    """Records that some route had not confirmed: each lies in a Gap."""


@dataclass(slots=True)
class Room:
    """Rules and state of the room of the readings."""

    quota_bytes: int
    keep_ms: int
    reserve: Path
    reserve_bytes: int
    counts: RoomCounts

    @property
    def checkpoint_pages(self) -> int:
        """Pages of log after which it is folded back: the reserve must be able to take them."""
        return max(min(CHECKPOINT_PAGES, self.reserve_bytes // PAGE_SIZE * 3 // 4), INSIDE_CHECKPOINT)

    def hold_reserve(self) -> bool:
        """Make sure the reserve file is there and really takes its room; False when the disk has none."""
        if file_bytes(self.reserve) >= self.reserve_bytes:
            return True
        try:
            handle = os.open(self.reserve, os.O_CREAT | os.O_RDWR, 0o600)
            try:
                os.posix_fallocate(handle, 0, max(self.reserve_bytes, 1))
            finally:
                os.close(handle)
        except OSError:
            self.give_reserve_back()
            return False
        return True

    def give_reserve_back(self) -> bool:
        """Free the reserve for the work of making room; False when it was given already."""
        try:
            self.reserve.unlink()
        except OSError:
            return False
        return True

    def aside_files(self) -> list[Path]:
        """Return the parts of damaged files set aside, oldest first: they count against the quota too."""
        return sorted(part for part in self.reserve.parent.iterdir() if ASIDE in part.name)

    def aside_bytes(self) -> int:
        """Return the bytes of files set aside."""
        return sum(file_bytes(part) for part in self.aside_files())


def droppable(floors: Sequence[Floor], low: int) -> tuple[int, bool]:
    """Return (ids below this may go, whether every route has confirmed them).  Pure.

    When some route still waits for the oldest, they go as far as no other route is harmed: a row
    that waits for several goes after all that wait for one.  Importance decides nothing here,
    because rows go oldest first and whoever waits for the oldest is harmed by any of them.
    Without any route nothing is confirmed by anybody.
    """
    below = min((floor.below for floor in floors if floor.below > low), default=low + DELETE_STEP)
    return below, bool(floors) and all(floor.below > low for floor in floors)


def keep_room_inside(db: sqlite3.Connection, path: Path) -> bool:
    """Make sure that a file has free pages of its own and a log already grown; False on a full disk.

    The pages stay in the file, so at a later start only the log has to grow, which costs no flush.
    """
    wanted = INSIDE_PAGES * PAGE_SIZE
    try:
        if db.execute("PRAGMA freelist_count").fetchone()[0] < INSIDE_PAGES:
            db.execute("INSERT INTO room VALUES (zeroblob(?))", (wanted,))
            db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
            db.execute("DELETE FROM room")
            db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
        return _grow_log(db, path, wanted)
    except sqlite3.OperationalError:
        return False


def _grow_log(db: sqlite3.Connection, path: Path, wanted: int) -> bool:
    """Give a log its room before it is needed: zeros behind its frames, which SQLite takes for its end.

    (https://www.sqlite.org/walformat.html: a frame counts only with the salts of the log's header.)
    """
    db.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone()  # the log is there now
    try:
        handle = os.open(wal_of(path), os.O_RDWR)
    except OSError:
        return False
    try:
        os.posix_fallocate(handle, 0, wanted)
    except OSError:
        return False
    finally:
        os.close(handle)
    return True
