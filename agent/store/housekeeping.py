"""Housekeeping between commits, in the writer's thread, in bounded steps.

Over quota goes first what was set aside long ago, then what every route has
confirmed, then the oldest rows that the least important route still waits for, with
a Gap.  The reserve is given back when the disk itself is full.  Age counts only
while the clock is synchronised and never takes an unconfirmed row.

The heartbeat (``agent.store.heartbeat``) is noted in between: where the readings
are, so that a store that was lost or went back in time is noticed at the next start,
and its Gaps begin where the books still have everything.
"""

import logging
import os
import sqlite3
import time
from collections.abc import Callable
from typing import Final, Protocol

from agent.store.connection import file_bytes, translated, wal_of
from agent.store.dropping import Terms, drop_unconfirmed
from agent.store.heartbeat import STOPPED, Heartbeat
from agent.store.recordfile import RecordFile
from agent.store.room import DELETE_STEP, Floor, Room, droppable
from agent.store.writer import Writer
from core.errors import StoreError, StoreFull

log = logging.getLogger(__name__)

HEARTBEAT_S: Final = 30.0
CHECK_ROOM_S: Final = 1.0
PATIENCE_S: Final = 60.0
"""How long after the start the quota waits for the routes to say what their books hold."""
MAX_PAGES: Final = 1073741823
"""SQLite's own bound (sqlite.org/limits.html)."""
FREE_WANTED: Final = 2
"""The reserve is taken again when the disk has so many times its size free."""
SPARED: Final = 64
"""Over quota, this part of it is emptied at once."""
SWEEP_S: Final = 3600.0
"""What grew old goes in full steps, and at least so often however little it is."""


class Surroundings(Protocol):
    """What the rest of the agent says; see ``agent.store.store.Store``."""

    @property
    def floors(self) -> tuple[Floor, ...] | None: ...
    @property
    def clock_synchronised(self) -> bool: ...
    @property
    def distrusted_until(self) -> float: ...


class Housekeeper:
    """Looks after the room of the readings; called by their writer between commits."""

    def __init__(
        self,
        room: Room,
        terms: Terms,
        heartbeat: Heartbeat,
        around: Surroundings,
        keep_note: Callable[[str], object],
    ) -> None:
        """Prepare.

        Args:
            room: rules and reserve.
            terms: which manifest was in force when.
            heartbeat: what the control file is to remember.
            around: the routes' floors and the state of the clock.
            keep_note: puts the heartbeat into the control file.
        """
        self.room = room
        self._terms = terms
        self._heartbeat = heartbeat
        self._around = around
        self._keep_note = keep_note
        self._next_beat = time.monotonic() + HEARTBEAT_S  # the first one began the epoch
        self._next_look = 0.0
        self._next_sweep = 0.0
        self._emptying = False
        self._frozen = False
        self._patient_until = time.monotonic() + PATIENCE_S

    def step(self, writer: Writer) -> bool:
        """Do one bounded step; True when more waits."""
        now = time.monotonic()
        if now >= self._next_beat:
            self._next_beat = now + HEARTBEAT_S
            self.beat(writer)
        if now < self._next_look:
            return False
        try:
            more = self._make_room(writer)
        except sqlite3.Error as error:
            log.debug("housekeeping failed: %s", translated(error, writer.file.path))
            more = False
        except OSError as error:
            log.debug("housekeeping failed: %s", error)
            more = False
        if not more:
            self._next_look = now + CHECK_ROOM_S
        return more

    def beat(self, writer: Writer, *, stopped: bool = False) -> None:
        """Note where the readings are, in the control file and for the next start in their own.

        ``stopped``: the last one, at an orderly end; the epoch is closed with it.
        """
        self._keep_note(self._heartbeat.beat(writer, self._confirmed_below(), stopped=stopped))
        writer.missed.begun.clear()
        try:
            with writer.file.transaction():
                writer.file.note_latest(self._heartbeat.ticks(writer), self._heartbeat.rows(writer))
                if stopped:
                    writer.file.end_epoch(STOPPED)
        except sqlite3.Error as error:
            log.debug("no note of the last ticks: %s", translated(error, writer.file.path))

    def _confirmed_below(self) -> int:
        return min((floor.below for floor in self._around.floors or ()), default=0)

    def _make_room(self, writer: Writer) -> bool:
        file = writer.file
        full = isinstance(writer.trouble, StoreFull)
        if (full or self._frozen) and self._disk_has_room():
            self._thaw(file)
            return False
        if full:
            return self._on_full_disk(file)
        # Once begun it goes on for a while: a step every second would cost a commit every second.
        bound = self.room.quota_bytes
        if self._emptying:
            bound -= bound // SPARED
        self._emptying = file.used_bytes() + self.room.aside_bytes() > bound
        if self._emptying:
            self._emptying = self._over_quota(file)
            return self._emptying
        more = self._forget_old(file)
        self._take_reserve_again()
        return more

    def _on_full_disk(self, file: RecordFile) -> bool:
        """Make room inside the file, with what the reserve gives; the file itself grows no more.

        The reserve serves to fold the log back, which may lengthen the file; inserts would only
        eat it up.  After that every page has its place on the disk, and a DELETE needs no byte
        more: the log keeps its own room, which nobody else can take.
        """
        for part in self.room.aside_files():
            part.unlink()
        if not self._frozen:
            self.room.give_reserve_back()
            _, pages, folded = file.db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
            if pages != folded:
                return False
            self._freeze(file, file.db.execute("PRAGMA page_count").fetchone()[0])
            log.warning("%s grows no more until the disk has room", file.path.name)
        with file.transaction():
            gone = file.delete_below(self._confirmed_below(), DELETE_STEP)
        self.room.counts.pruned += gone
        file.db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
        return False

    def _freeze(self, file: RecordFile, pages: int) -> None:
        file.db.execute(f"PRAGMA max_page_count={pages}").fetchall()
        self._frozen = pages != MAX_PAGES

    def _thaw(self, file: RecordFile) -> None:
        self.room.hold_reserve()
        if self._frozen:
            self._freeze(file, MAX_PAGES)
            log.warning("%s may grow again: the disk has room", file.path.name)

    def _disk_has_room(self) -> bool:
        disk = os.statvfs(self.room.reserve.parent)
        return disk.f_bavail * disk.f_frsize > FREE_WANTED * self.room.reserve_bytes

    def _over_quota(self, file: RecordFile) -> bool:
        for part in self.room.aside_files():  # what could be read of them was salvaged long ago
            log.warning("over the quota: removing %s, which was set aside", part.name)
            part.unlink()
            return True
        if file_bytes(wal_of(file.path)) > self.room.quota_bytes // 4:
            file.db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            if file_bytes(wal_of(file.path)) == 0:
                return True
        floors = self._around.floors
        if floors is None:
            if time.monotonic() < self._patient_until:
                return False  # the routes have not said yet what their books hold
            floors = ()
        below, confirmed = droppable(floors, file.loose)
        with file.transaction():
            gone = (
                file.delete_below(below, DELETE_STEP)
                if confirmed
                else drop_unconfirmed(file, below, self._terms)
            )
        if confirmed:
            self.room.counts.pruned += gone
        else:
            self.room.counts.dropped += gone
        return gone > 0

    def _forget_old(self, file: RecordFile) -> bool:
        if not self._around.clock_synchronised or time.monotonic() < self._around.distrusted_until:
            return False
        cutoff = time.time_ns() // 1_000_000 - self.room.keep_ms
        oldest = file.db.execute(
            "SELECT tick FROM record WHERE id >= ? ORDER BY id LIMIT 1", (file.loose,)
        ).fetchone()
        if oldest is None or oldest[0] >= cutoff:
            return False
        now = time.monotonic()
        until = file.loose + DELETE_STEP
        young = file.db.execute(
            "SELECT id FROM record WHERE id >= ? AND id < ? AND tick >= ? ORDER BY id LIMIT 1",
            (file.loose, until, cutoff),
        ).fetchone()
        below = min(self._confirmed_below(), until if young is None else young[0])
        if below <= file.loose or (below < until and now < self._next_sweep):
            return False
        if below < until:
            self._next_sweep = now + SWEEP_S
        with file.transaction():
            gone = file.delete_below(below, DELETE_STEP)
        self.room.counts.pruned += gone
        return gone > 0

    def _take_reserve_again(self) -> None:
        if file_bytes(self.room.reserve) < self.room.reserve_bytes and self._disk_has_room():
            self.room.hold_reserve()


def explain(error: StoreError) -> str:
    """Return what a person should know when the store cannot be written."""
    return f"{error}; readings wait in memory for a short time, then their ticks become a gap"
