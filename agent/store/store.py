"""The store as the rest of the agent sees it: append, read, confirm, and what happened before.

Two files are written here by one thread each: the readings by groups of the commit
window, the control lane at once; a third keeps the audit.  Opening begins a new epoch.

Relies on :mod:`agent.store.writer`, :mod:`agent.store.opening`, :mod:`agent.store.birth`
and :mod:`agent.store.housekeeping`.  Not here: what is sent to whom
(``agent.uplink.route``).
"""

import asyncio
import contextlib
import itertools
import logging
import os
import sqlite3
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from agent.groupmemory import LeftOut
from agent.lived import Lived
from agent.sense import Later, Ticket
from agent.store import birth as births
from agent.store import opening
from agent.store.audit import Head
from agent.store.birth import Birth
from agent.store.carried import LOST
from agent.store.connection import connect, file_bytes, translated, wal_of
from agent.store.dropping import Terms
from agent.store.heartbeat import NOTE, Heartbeat
from agent.store.housekeeping import Housekeeper, explain
from agent.store.lastrows import LastRow
from agent.store.laterjudgement import LOOK_BACK, ROWS, of_earlier_life, of_this_life
from agent.store.livednote import KEY, LivedNote
from agent.store.missed import Missed
from agent.store.recordfile import Epoch, RecordFile, RouteState, Stored, read_records
from agent.store.room import INSIDE_CHECKPOINT, Floor, Room, RoomCounts, keep_room_inside
from agent.store.salvage import mark_damaged
from agent.store.writer import Waiting, Writer
from core.errors import StoreCorrupt, StoreError
from core.ids import new_epoch
from core.manifest import Manifest
from core.records import Record

__all__ = ["Birth", "Lane", "Store", "StoreOptions"]

log = logging.getLogger(__name__)
T = TypeVar("T")

DAMAGES = 3
"""How often damage may show while the files are opened: each file once, and one that hid behind it."""


@dataclass(frozen=True, slots=True)
class StoreOptions:
    """Settings of the store, from ``[gateway]``."""

    directory: Path
    window_s: float = 0.1
    quota_bytes: int = 1 << 30
    reserve_bytes: int = 4 << 20
    keep_s: float = 30 * 86400.0


class Lane:
    """One file with its writer: the data (readings) or the control records."""

    def __init__(self, file: RecordFile, epoch: Epoch, manifests: list[tuple[int, Manifest]]) -> None:
        self.file = file
        self.epoch = epoch
        self.manifests = manifests
        """Manifests in the file by the id from which they are in force."""
        self.top = file.top
        """Largest committed id, as the event loop knows it."""
        self.listeners: list[Callable[[int], None]] = []
        self.writer: Writer


class Store:
    """The three files.  Made by :meth:`open`; use as an async context manager."""

    def __init__(self, options: StoreOptions, birth: Birth, manifest: Manifest) -> None:
        self.options = options
        self.manifest = manifest
        self.epoch = new_epoch()
        self.floors: tuple[Floor, ...] | None = None
        """How far each route's books hold everything; set by the routes, read by the writer."""
        self.clock_synchronised = birth.clock == "synchronised"
        self.distrusted_until = 0.0
        """Monotonic instant before which no row ages: the clock leapt, and may leap back."""
        self.on_alarm: Callable[[str, bool, str], None] = lambda code, raised, text: None
        """Called in the event loop: (code, raised, text)."""
        self.on_manifest: list[Callable[[], None]] = []
        """Called in the event loop when another manifest is in force."""
        self.last_rows: dict[int, LastRow] = {}
        """By group number, the last row with a value in the lives before."""
        self.lived: dict[int, Lived] = {}
        """By group number, the ticks that lives before polled."""
        self.fatal: asyncio.Event = asyncio.Event()
        """Set when the store cannot go on: the agent ends and is started again."""
        self.fatal_error: StoreError | None = None
        self.room = Room(
            options.quota_bytes,
            int(options.keep_s * 1000),
            options.directory / "readings.reserve",
            options.reserve_bytes,
            RoomCounts(),
        )
        self._loop = asyncio.get_running_loop()
        self._reader = ThreadPoolExecutor(1, "store-reader")
        self._reading: dict[Path, sqlite3.Connection] = {}
        with contextlib.ExitStack() as undo:
            self._lock = opening.lock(options.directory)
            undo.callback(os.close, self._lock)
            self._begin(birth, undo)
            undo.pop_all()

    @classmethod
    def open(cls, options: StoreOptions, birth: Birth, manifest: Manifest) -> "Store":
        """Open or create the files and begin a new epoch; raises StoreError, ConfigError.

        Called from the event loop at start, before anything else runs.
        """
        for _ in range(DAMAGES):
            try:
                return cls(options, birth, manifest)
            except StoreCorrupt as error:
                log.warning("%s", error)  # it is marked now: the next try salvages it
        return cls(options, birth, manifest)

    async def __aenter__(self) -> "Store":
        return self

    async def __aexit__(self, *exc: object) -> None:
        await asyncio.to_thread(self.close)

    def _begin(self, birth: Birth, undo: contextlib.ExitStack) -> None:
        room, epoch, manifest = self.room, self.epoch, self.manifest
        path = self.options.directory / opening.CONTROL
        control, told_control = opening.with_room(
            room, path, lambda: opening.opened(path, "control", INSIDE_CHECKPOINT)
        )
        undo.callback(control.close)
        file, told, past = self._past(control)
        undo.callback(file.close)
        begun = opening.with_room(room, file.path, lambda: births.begin(file, past, epoch, birth, manifest))
        new = births.begun_ticks(past, manifest, birth)
        heartbeat = Heartbeat(epoch, births.keys_of(manifest), new | past.safe)
        lived = births.lived_note(past, manifest, birth)
        notes = {
            NOTE: heartbeat.first(file.top, births.accounted(past, manifest) | new),
            KEY: lived.text(),
        }
        if not control.epochs and past.ended != "first":
            notes[LOST] = "1"
        control_begun = opening.with_room(
            room, path, lambda: births.begin_control(control, file, epoch, birth, notes)
        )
        audit = self.options.directory / opening.AUDIT
        self.audit_file = opening.with_room(room, audit, lambda: opening.opened_audit(audit))
        undo.callback(self.audit_file.close)
        spans = [*past.spans, (begun.base + 1, manifest)]
        opening.with_room(room, path, lambda: keep_room_inside(control.db, path))
        room.hold_reserve()
        self.ended_before = past.ended
        self.control_lost = control.meta(LOST) is not None
        """The journal of controls, or a part of it, is not the one of the life before."""
        self.data = Lane(file, begun, spans)
        self.control = Lane(control, control_begun, [])
        self._terms = Terms(spans, manifest)
        self._make_writers(past, new, heartbeat, lived, birth.now_ms)
        self.data.writer.start()
        self.control.writer.start()
        begin = {"epoch": self.epoch, "ended": past.ended, "software": birth.software, "clock": birth.clock}
        self.audit("start", {**begin, "control_lost": self.control_lost}, birth.now_ms)
        for text in filter(None, (told_control, told)):
            self._loop.call_soon(self._alarm, "store-set-aside", text)
            self.audit("set-aside", {"text": text}, birth.now_ms)

    def _past(self, control: RecordFile) -> tuple[RecordFile, str, births.Past]:
        """Open the readings and look back."""
        path = self.options.directory / opening.READINGS

        def look() -> tuple[RecordFile, str, births.Past]:
            file, told = opening.opened(
                path, "readings", self.room.checkpoint_pages, lambda: opening.spare_in(control)
            )
            try:
                return file, told, births.look_back(file, control, bool(told))
            except BaseException:
                file.close()
                raise

        return opening.with_room(self.room, path, look)

    def _make_writers(
        self, past: births.Past, new: dict[str, int], heartbeat: Heartbeat, lived: LivedNote, now_ms: int
    ) -> None:
        data, control = self.data, self.control
        numbers = {group.key: group.group for group in self.manifest.groups}
        self._housekeeper = Housekeeper(
            self.room,
            self._terms,
            heartbeat,
            self,
            lambda note: control.writer.call(lambda file: file.set_meta(NOTE, note)),
        )
        told = births.accounted(past, self.manifest)
        ticks = {numbers[key]: tick for key, tick in told.items() if key in numbers}
        begun = {numbers[key]: tick for key, tick in new.items()}
        self.lived = {numbers[key]: one for key, one in past.lived(now_ms).items() if key in numbers}
        lived.on_change = self._keep_lived
        data.writer = Writer(
            data.file,
            Missed(self.manifest.groups, ticks, past.reason, begun),
            self.options.window_s,
            lambda top: self._tell(data, top),
            lambda error: self._trouble(data, "store-unwritable", error),
            self._housekeep,
            self._manifest_committed,
            lived,
        )
        control.writer = Writer(
            control.file,
            Missed((), {}, ""),
            0.0,
            lambda top: self._tell(control, top),
            lambda error: self._trouble(control, "control-unwritable", error),
            self._housekeep_control,
        )
        self.last_rows = {numbers[key]: one for key, one in past.last_rows.items() if key in numbers}
        data.writer.valued = {number: one.id for number, one in self.last_rows.items()}

    def _keep_lived(self, text: str) -> None:
        """Keep a copy where the loss of the readings does not take it."""
        self.control.writer.call(lambda file: file.set_meta(KEY, text))

    # --- appending and reading

    def append_row(
        self,
        grp: int,
        tick: int,
        points: int,
        body: bytes,
        sampled: float,
        reason: str,
        ticket: Ticket | None = None,
    ) -> bool:
        """Queue a row for the next commit; False when the disk cannot follow (its tick lies in a Gap)."""
        return self.data.writer.append(Waiting(grp, tick, body, points, sampled, reason, None, ticket))

    def left_out(self, grp: int, left_out: LeftOut) -> None:
        """Know of ticks without a row on purpose: should no row follow them, the next start tells why."""
        self.data.writer.left_out(grp, left_out)

    def distrust_clock_for(self, seconds: float) -> None:
        """Let nothing age for so long: after a leap forward every row looks old."""
        self.distrusted_until = time.monotonic() + seconds

    def append_judgement(self, grp: int, later: Later, at_ms: int) -> bool:
        """Queue a judgement over the rows of a group since one of them (it is behind them in the queue).

        Where that is a row of an earlier life, the rows there are judged too, since the value stands still.
        """
        if later.since.epoch not in ("", self.epoch) and later.since.seq is not None:
            self._reader.submit(self._judge_back, grp, later, later.since.seq, at_ms)
        return self.append_record(at_ms, of_this_life(grp, later, self.epoch, at_ms))

    def _judge_back(self, grp: int, later: Later, seq: int, at_ms: int) -> None:
        """Judge rows of an earlier life, in the reader's thread."""
        spans = {known.epoch: (known, end) for known, end in self.data.file.epoch_spans()}
        if later.since.epoch not in spans:
            return  # dropped meanwhile
        known, end = spans[later.since.epoch]
        high = known.base + seq
        bounds = {"grp": grp, "low": max(known.base + 1, high - LOOK_BACK), "high": high}
        try:
            with contextlib.closing(self._reading_from(self.data.file.path).execute(ROWS, bounds)) as found:
                rows = itertools.starmap(Stored, found)
                record = of_earlier_life(grp, later, at_ms, known, end, rows)
        except sqlite3.Error as error:  # the last row of that life is known without a look
            log.warning("how long a value stands still cannot be looked up: %s", error)
            record = of_earlier_life(grp, later, at_ms, known, end, ())
        self.append_record(at_ms, record)

    def change_manifest(self, manifest: Manifest, at_ms: int) -> bool:
        """Put a manifest behind the rows appended so far: those that follow are of this one.

        Numbers, keys and intervals of the groups must be those of the manifest before.  False when there
        is no room: nothing changed then.
        """
        waiting = Waiting(-1, at_ms, manifest.hash().encode(), 0, time.monotonic(), "", manifest=manifest)
        return self.data.writer.append(waiting)

    def append_record(self, at_ms: int, make: Callable[[int], Record]) -> bool:
        """Queue a data record (clock, quality) that is made once its sequence is known."""
        return self.data.writer.append(Waiting(0, at_ms, b"", 0, time.monotonic(), "", make))

    def append_control(self, at_ms: int, make: Callable[[int], Record]) -> bool:
        """Queue a record of the control lane (alarm, outcome): committed at once."""
        return self.control.writer.append(Waiting(0, at_ms, b"", 0, time.monotonic(), "", make))

    def audit(self, kind: str, body: dict[str, object], at_ms: int) -> None:
        """Append to the audit file, by the control writer's thread."""
        self.control.writer.call(lambda _: self.audit_file.append(at_ms, kind, body))

    async def audited(self, kind: str, body: dict[str, object], at_ms: int) -> int:
        """Append to the audit file and return the entry's number; `AuditUnavailable` when it cannot be.

        What is refused by that must not be done: nobody would ever know of it.
        """
        job = self.control.writer.call(lambda _: self.audit_file.append_now(at_ms, kind, body))
        return await asyncio.wrap_future(job)

    async def audit_head(self) -> Head:
        """Return the audit log as it is now, with the proofs from heads published before."""
        return await asyncio.wrap_future(self.control.writer.call(lambda _: self.audit_file.head()))

    def note_audit_head(self, size: int, at_ms: int, note: str) -> None:
        """Keep a head that is being published; the next ones are proved to continue it."""
        self.control.writer.call(lambda _: self.audit_file.note_head(size, at_ms, note))

    async def read(self, lane: Lane, first: int, last: int, limit: int) -> list[Stored]:
        """Return committed records with ids in first..last, at most ``limit``, in order."""
        return await self._loop.run_in_executor(self._reader, self._read, lane.file.path, first, last, limit)

    def _read(self, path: Path, first: int, last: int, limit: int) -> list[Stored]:
        try:
            try:
                return read_records(self._reading_from(path), first, last, limit)
            except sqlite3.Error as error:
                raise translated(error, path) from error
        except StoreCorrupt as error:
            self._loop.call_soon_threadsafe(self._fail, path, error)
            raise

    def _reading_from(self, path: Path) -> sqlite3.Connection:
        """Return the reader's connection to a file, in its thread."""
        if path not in self._reading:
            self._reading[path] = connect(path, readonly=True)
        return self._reading[path]

    async def call(self, lane: Lane, job: Callable[[RecordFile], T]) -> T:
        """Run a job in the lane's writer, in a transaction of its own."""
        return await asyncio.wrap_future(lane.writer.call(job))

    def save_route(self, lane: Lane, state: RouteState) -> None:
        """Keep what a route's books hold; a lost note only means that more is sent again."""
        lane.writer.call(lambda file: file.save_route(state))

    def manifest_at(self, id_: int) -> Manifest:
        """Return the manifest in force at a data id."""
        return self._terms.manifest_at(id_)

    # --- from the writers' threads

    def _manifest_committed(self, id_: int, manifest: Manifest) -> None:
        """Know a manifest before anybody can read the rows that need it."""
        self._terms.add(id_, manifest)
        self.data.manifests.append((id_, manifest))
        self.manifest = manifest
        self.control.writer.call(lambda control: opening.keep_span(control, id_, manifest))
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._told_manifest)

    def _told_manifest(self) -> None:
        for listener in self.on_manifest:
            listener()

    def _tell(self, lane: Lane, top: int) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody listens any more
            self._loop.call_soon_threadsafe(self._told_top, lane, top)

    def _told_top(self, lane: Lane, top: int) -> None:
        lane.top = top
        for listener in lane.listeners:
            listener(top)

    def _trouble(self, lane: Lane, code: str, error: StoreError | None) -> None:
        with contextlib.suppress(RuntimeError):
            if isinstance(error, StoreCorrupt) or lane.writer.crashed is not None:
                self._loop.call_soon_threadsafe(self._fail, lane.file.path, error)
            text = explain(error) if error is not None else "the store can be written again"
            # The alarm and the status file lie on the same disk: where that is full, only the log is left.
            log.log(logging.WARNING if error is None else logging.ERROR, "%s: %s", lane.file.path.name, text)
            self._loop.call_soon_threadsafe(self.on_alarm, code, error is not None, text)

    def _alarm(self, code: str, text: str) -> None:
        self.on_alarm(code, True, text)

    def _fail(self, path: Path, error: StoreError | None) -> None:
        if self.fatal_error is None and error is not None:
            self.fatal_error = error
            self.fatal.set()
            if isinstance(error, StoreCorrupt):
                mark_damaged(path)

    def _housekeep(self, writer: Writer) -> bool:
        dropped = self.room.counts.dropped
        more = self._housekeeper.step(writer)
        if self.room.counts.dropped != dropped:
            self._tell(self.data, writer.file.top)
        return more

    def _housekeep_control(self, writer: Writer) -> bool:
        if self.audit_file.waiting:
            self.audit_file.retry()
        if gone := self.audit_file.drop_old():
            self.audit_file.append(time.time_ns() // 1_000_000, "dropped", {"entries": gone})
        return False

    # --- looking and closing

    def used_bytes(self) -> int:
        """Return the bytes of the readings file and its WAL (for the status; a stat, no lock)."""
        path = self.data.file.path
        return file_bytes(path) + file_bytes(wal_of(path))

    def close(self) -> None:
        """Commit what waits, note the orderly end, close the files."""
        writer = self.data.writer
        ended = writer.stop()
        orderly = ended and writer.crashed is None and self.fatal_error is None
        self.audit("stop", {"epoch": self.epoch, "orderly": orderly}, time.time_ns() // 1_000_000)
        if orderly:
            self._housekeeper.beat(writer, stopped=True)
        control_ended = self.control.writer.stop()
        self._reader.shutdown(wait=True)
        for db in self._reading.values():
            db.close()
        closing: list[Callable[[], None]] = []
        if ended:  # else its thread still waits for the disk, with this connection
            closing.append(self.data.file.close)
        if control_ended:
            closing += [self.control.file.close, self.audit_file.close]
        # Each folds its log back, two flushes one after the other: a slow disk takes those of all at once.
        with ThreadPoolExecutor(len(closing) or 1, "store-close") as pool:
            for closed in [pool.submit(close) for close in closing]:
                with contextlib.suppress(sqlite3.Error):
                    closed.result()
        os.close(self._lock)
