"""The store as the rest of the agent sees it: append, read, confirm, and what happened before.

Opening begins a new epoch and writes its start record and manifest, so whatever
happened to the files (a crash, a copy put back, damage) the identities that
follow are new.  Two files are written here by one thread each: the readings by
groups of the commit window, the control lane at once; a third keeps the audit.

Relies on :mod:`agent.store.writer` and :mod:`agent.store.recordfile`.  Not here:
what is sent to whom (``agent.uplink.route``).
"""

import asyncio
import contextlib
import fcntl
import json
import logging
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from agent.store.recordfile import (
    Epoch,
    RecordFile,
    RouteState,
    Stored,
    connect,
    read_records,
    translated,
)
from agent.store.room import DELETE_STEP, Floor, Keys, Room, drop_unconfirmed, droppable
from agent.store.salvage import mark_damaged, needs_salvage, set_aside
from agent.store.schema import migrate
from agent.store.writer import Waiting, Writer
from core.codec import encode_record
from core.errors import ConfigError, StoreCorrupt, StoreError, StoreFull
from core.ids import new_epoch
from core.manifest import Manifest, decode_manifest
from core.records import Before, Record, Start

log = logging.getLogger(__name__)
T = TypeVar("T")

BEFORE_TOLD: Final = 16
"""Earlier epochs named in a start record."""
HEARTBEAT_S: Final = 30.0
"""How often the control file notes where the readings are, against their loss."""
CHECK_ROOM_S: Final = 1.0
FREE_WANTED: Final = 4
"""The reserve is taken again when the disk has so many times its size free."""
CONTROL_RESERVE: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class StoreOptions:
    """Settings of the store, from ``[gateway]``."""

    directory: Path
    window_s: float = 0.1
    quota_bytes: int = 1 << 30
    reserve_bytes: int = 4 << 20
    keep_s: float = 30 * 86400.0


@dataclass(frozen=True, slots=True)
class Birth:
    """What the start record of a new epoch has to say besides the store's own knowledge."""

    now_ms: int
    boot: str
    clock: str
    software: str


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
        self.floors: tuple[Floor, ...] = ()
        """How far each route's books hold everything; set by the routes, read by the writer."""
        self.clock_synchronised = birth.clock == "synchronised"
        self.on_alarm: Callable[[str, bool, str], None] = lambda code, raised, text: None
        """Called in the event loop: (code, raised, text)."""
        self.fatal: asyncio.Event = asyncio.Event()
        """Set when the store cannot go on: the agent ends and is started again."""
        self.fatal_error: StoreError | None = None
        self._loop = asyncio.get_running_loop()
        self._lock = _locked(options.directory)
        self._reader = ThreadPoolExecutor(1, "store-reader")
        self._reading: dict[Path, sqlite3.Connection] = {}
        self._next_heartbeat = 0.0
        self._next_room = 0.0
        try:
            self._begin(birth)
        except BaseException:
            os.close(self._lock)
            raise

    @classmethod
    def open(cls, options: StoreOptions, birth: Birth, manifest: Manifest) -> "Store":
        """Open or create the files and begin a new epoch; raises StoreError, ConfigError.

        Called from the event loop at start, before anything else runs.
        """
        return cls(options, birth, manifest)

    async def __aenter__(self) -> "Store":
        return self

    async def __aexit__(self, *exc: object) -> None:
        await asyncio.to_thread(self.close)

    # --- opening

    def _begin(self, birth: Birth) -> None:
        directory = self.options.directory
        self.room = Room(
            self.options.quota_bytes,
            int(self.options.keep_s * 1000),
            directory / "readings.reserve",
            self.options.reserve_bytes,
        )
        self._control_room = Room(1 << 62, 1 << 62, directory / "control.reserve", CONTROL_RESERVE)
        control_file, _ = _opened(directory / "control.db", "control")
        file, set_aside_now = _opened(directory / "readings.db", "readings")
        heartbeat = json.loads(control_file.meta("heartbeat") or "{}")
        before = file.epochs[-1] if file.epochs else None
        how = _how_it_ended(before, file, heartbeat, set_aside_now)
        spans = [(begin, decode_manifest(body)) for begin, _, body in file.manifests()]
        ticks = heartbeat.get("ticks", {}) | file.last_ticks(
            {hash_: _keys(decode_manifest(body)) for _, hash_, body in file.manifests()}
        )
        told = self._told(file, control_file, heartbeat, how)
        with _transaction(file):
            epoch = file.begin_epoch(self.epoch, birth.now_ms, birth.boot)
            hash_ = self.manifest.hash()
            start = Start(
                seq=1,
                at=birth.now_ms,
                ended=how,
                boot=birth.boot,
                clock=birth.clock,
                software=birth.software,
                before=told,
                ticks=ticks,
            )
            file.insert(
                [
                    (file.top + 1, 0, birth.now_ms, encode_record(start)),
                    (file.top + 2, -1, birth.now_ms, hash_.encode()),
                ]
            )
            file.add_manifest(hash_, epoch.base + 1, self.manifest.encode())
        spans.append((epoch.base + 1, self.manifest))
        with _transaction(control_file):
            control_epoch = control_file.begin_epoch(self.epoch, birth.now_ms, birth.boot)
        self.ended_before = how
        self.data = Lane(file, epoch, spans)
        self.control = Lane(control_file, control_epoch, [])
        self._keys = Keys([(begin, _keys(manifest)) for begin, manifest in spans])
        self._numbers = {group.key: group.group for group in self.manifest.groups}
        numbered = {self._numbers[key]: tick for key, tick in ticks.items() if key in self._numbers}
        reason = {"stop": "stopped", "set-aside": "store-lost", "restored": "store-lost"}.get(how, "crashed")
        self.data.writer = Writer(
            file,
            self.manifest.groups,
            numbered,
            reason,
            self.options.window_s,
            lambda top: self._tell(self.data, top),
            lambda error: self._trouble(file, error),
            self._housekeep,
        )
        self.control.writer = Writer(
            control_file,
            (),
            {},
            "",
            0.0,
            lambda top: self._tell(self.control, top),
            lambda error: self._trouble(control_file, error),
            lambda writer: self._housekeep_control(writer),
        )
        self._audit = connect(directory / "audit.db")
        migrate(self._audit, "audit", str(directory / "audit.db"))
        self.room.hold_reserve()
        self._control_room.hold_reserve()
        self.data.writer.start()
        self.control.writer.start()
        self.audit("start", {"epoch": self.epoch, "ended": how, "software": birth.software}, birth.now_ms)

    def _told(
        self, file: RecordFile, control: RecordFile, heartbeat: dict[str, object], how: str
    ) -> list[Before]:
        control_last = {known.epoch: end - known.base for known, end in control.epoch_spans()}
        told = []
        for known, end in file.epoch_spans()[-1 : -1 - BEFORE_TOLD : -1]:
            last = end - known.base
            lost: list[tuple[int, int]] = []
            if how == "set-aside" and last:
                begin = max(file.low - known.base, 1)
                lost = file.present(known, end).missing(begin, last) if begin <= last else []
            told.append(Before(known.epoch, last, control_last.get(known.epoch, 0), lost))
        if not told and isinstance(heartbeat.get("epoch"), str):
            epoch = str(heartbeat["epoch"])
            told.append(Before(epoch, 0, control_last.get(epoch, 0)))
        return told

    # --- appending and reading

    def append_row(self, grp: int, tick: int, points: int, body: bytes, sampled: float, reason: str) -> bool:
        """Queue a row for the next commit; False when the disk cannot follow (its tick lies in a Gap)."""
        return self.data.writer.append(Waiting(grp, tick, body, points, sampled, reason))

    def append_record(self, at_ms: int, make: Callable[[int], Record]) -> bool:
        """Queue a data record (clock, quality) that is made once its sequence is known."""
        return self.data.writer.append(Waiting(0, at_ms, b"", 0, time.monotonic(), "", make))

    def append_control(self, at_ms: int, make: Callable[[int], Record]) -> bool:
        """Queue a record of the control lane (alarm, outcome): committed at once."""
        return self.control.writer.append(Waiting(0, at_ms, b"", 0, time.monotonic() - 1, "", make))

    def audit(self, kind: str, body: dict[str, object], at_ms: int) -> None:
        """Append to the audit file, by the control writer's thread."""

        def write(_: RecordFile) -> None:
            with contextlib.suppress(sqlite3.OperationalError):
                self._audit.execute(
                    "INSERT INTO event (at_ms, kind, body) VALUES (?, ?, ?)", (at_ms, kind, json.dumps(body))
                )

        self.control.writer.call(write)

    async def read(self, lane: Lane, first: int, last: int, limit: int) -> list[Stored]:
        """Return committed records with ids in first..last, at most ``limit``, in order."""
        return await self._loop.run_in_executor(self._reader, self._read, lane.file.path, first, last, limit)

    def _read(self, path: Path, first: int, last: int, limit: int) -> list[Stored]:
        db = self._reading.get(path)
        try:
            if db is None:
                db = self._reading[path] = connect(path, readonly=True)
            return read_records(db, first, last, limit)
        except sqlite3.Error as error:
            found = translated(error, path)
            if isinstance(found, StoreCorrupt):
                self._loop.call_soon_threadsafe(self._fail, path, found)
            raise found from error

    async def call(self, lane: Lane, job: Callable[[RecordFile], T]) -> T:
        """Run a job in the lane's writer, in a transaction of its own."""
        return await asyncio.wrap_future(lane.writer.call(job))

    def save_route(self, lane: Lane, state: RouteState) -> None:
        """Keep what a route's books hold; a lost note only means that more is sent again."""
        lane.writer.call(lambda file: file.save_route(state))

    def manifest_at(self, id_: int) -> Manifest:
        """Return the manifest in force at a data id."""
        at = 0
        for index, (begin, _) in enumerate(self.data.manifests):
            if begin <= id_:
                at = index
        return self.data.manifests[at][1]

    # --- from the writers' threads

    def _tell(self, lane: Lane, top: int) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody listens any more
            self._loop.call_soon_threadsafe(self._told_top, lane, top)

    def _told_top(self, lane: Lane, top: int) -> None:
        lane.top = top
        for listener in lane.listeners:
            listener(top)

    def _trouble(self, file: RecordFile, error: StoreError | None) -> None:
        with contextlib.suppress(RuntimeError):
            if isinstance(error, StoreCorrupt):
                self._loop.call_soon_threadsafe(self._fail, file.path, error)
            text = str(error) if error is not None else "the store can be written again"
            self._loop.call_soon_threadsafe(self.on_alarm, "store-unwritable", error is not None, text)

    def _fail(self, path: Path, error: StoreError) -> None:
        if self.fatal_error is None:
            mark_damaged(path)
            self.fatal_error = error
            self.fatal.set()

    def _housekeep(self, writer: Writer) -> bool:
        """One bounded step in the writer's thread; True when more waits."""
        now = time.monotonic()
        if now >= self._next_heartbeat:
            self._next_heartbeat = now + HEARTBEAT_S
            self._beat(writer)
        if now < self._next_room:
            return False
        file = writer.file
        try:
            if isinstance(writer.trouble, StoreFull):
                more = self._make_room_on_disk(file)
            elif file.used_bytes() + self.room.aside_bytes() > self.room.quota_bytes:
                more = self._make_room_in_quota(file)
            else:
                more = self._forget_old(file)
                self._take_reserve_again()
        except sqlite3.Error as error:
            if file.db.in_transaction:
                file.db.execute("ROLLBACK")
            log.debug("housekeeping failed: %s", translated(error, file.path))
            more = False
        if not more:
            self._next_room = now + CHECK_ROOM_S
        return more

    def _beat(self, writer: Writer) -> None:
        names = {number: key for key, number in self._numbers.items()}
        ticks = {names[number]: tick for number, tick in writer.ticks.items() if number in names}
        note = json.dumps({"epoch": self.epoch, "top": writer.file.top, "ticks": ticks})
        self.control.writer.call(lambda file: file.set_meta("heartbeat", note))
        with contextlib.suppress(sqlite3.Error):
            writer.file.note_ticks(ticks)

    def _confirmed_below(self) -> int:
        return min((floor.below for floor in self.floors), default=0)

    def _make_room_on_disk(self, file: RecordFile) -> bool:
        self.room.give_reserve_back()
        with _transaction(file):
            gone = file.delete_below(self._confirmed_below(), DELETE_STEP)
        self.room.counts.pruned += gone
        file.db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        return False

    def _make_room_in_quota(self, file: RecordFile) -> bool:
        below, confirmed = droppable(self.floors, file.low)
        with _transaction(file):
            if confirmed:
                gone = file.delete_below(below, DELETE_STEP)
                self.room.counts.pruned += gone
            else:
                gone = drop_unconfirmed(file, below, self._numbers, self._keys)
                self.room.counts.dropped += gone
        if not confirmed and gone:
            self._tell(self.data, file.top)
        if file.path.with_name(file.path.name + "-wal").stat().st_size > self.room.quota_bytes // 4:
            file.db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        return gone > 0

    def _forget_old(self, file: RecordFile) -> bool:
        if not self.clock_synchronised:
            return False
        cutoff = time.time_ns() // 1_000_000 - self.room.keep_ms
        oldest = file.db.execute("SELECT tick FROM record ORDER BY id LIMIT 1").fetchone()
        if oldest is None or oldest[0] >= cutoff:
            return False
        first_young = file.db.execute(
            "SELECT id FROM record WHERE id < ? AND tick >= ? ORDER BY id LIMIT 1",
            (file.low + DELETE_STEP, cutoff),
        ).fetchone()
        below = min(self._confirmed_below(), first_young[0] if first_young else file.top)
        if below <= file.low:
            return False
        with _transaction(file):
            gone = file.delete_below(below, DELETE_STEP)
        self.room.counts.pruned += gone
        return gone > 0

    def _take_reserve_again(self) -> None:
        if not self.room.reserve.exists():
            free = os.statvfs(self.options.directory)
            if free.f_bavail * free.f_frsize > FREE_WANTED * self.room.reserve_bytes:
                self.room.hold_reserve()

    def _housekeep_control(self, writer: Writer) -> bool:
        if isinstance(writer.trouble, StoreFull):
            self._control_room.give_reserve_back()
        return False

    # --- looking and closing

    def used_bytes(self) -> int:
        """Return the bytes of the readings file and its WAL (for the status; a stat, no lock)."""
        path = self.data.file.path
        wal = path.with_name(path.name + "-wal")
        return path.stat().st_size + (wal.stat().st_size if wal.exists() else 0)

    def close(self) -> None:
        """Commit what waits, note the orderly end, close the files."""
        self.data.writer.stop()
        orderly = self.fatal_error is None and self.data.writer.trouble is None
        if orderly:
            self._beat(self.data.writer)
            with contextlib.suppress(sqlite3.Error), _transaction(self.data.file):
                self.data.file.end_epoch("stop")
        self.audit("stop", {"epoch": self.epoch, "orderly": orderly}, time.time_ns() // 1_000_000)
        self.control.writer.stop()
        self._reader.shutdown(wait=True)
        for db in self._reading.values():
            db.close()
        self._audit.close()
        for lane in (self.data, self.control):
            with contextlib.suppress(sqlite3.Error):
                lane.file.close()
        os.close(self._lock)


def _locked(directory: Path) -> int:
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    handle = os.open(directory / "lock", os.O_CREAT | os.O_RDWR, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(handle)
        raise ConfigError(
            f"another agent is using {directory}: stop it, or give this gateway a data_dir of its own"
        ) from error
    return handle


def _opened(path: Path, kind: str) -> tuple[RecordFile, bool]:
    if needs_salvage(path):
        file, salvage = set_aside(path, kind)
        log.warning(
            "%s was damaged: set aside as %s, %d records salvaged, %d places unreadable",
            path.name,
            salvage.aside.name,
            salvage.records,
            salvage.unreadable_steps,
        )
        return file, True
    return RecordFile(path, kind), False


def _how_it_ended(before: Epoch | None, file: RecordFile, heartbeat: dict[str, object], aside: bool) -> str:
    if aside:
        return "set-aside"
    known = heartbeat.get("epoch")
    if before is None:
        return "first" if known is None else "restored"
    if known is not None and known != before.epoch and all(known != epoch.epoch for epoch in file.epochs):
        return "restored"  # the control file knows a later life than the readings
    top = heartbeat.get("top")
    if known == before.epoch and isinstance(top, int) and top > file.top:
        return "restored"
    return "stop" if before.ended == "stop" else "crash"


def _keys(manifest: Manifest) -> dict[int, str]:
    return {group.group: group.key for group in manifest.groups}


@contextlib.contextmanager
def _transaction(file: RecordFile) -> Iterator[None]:
    file.db.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        if file.db.in_transaction:
            file.db.execute("ROLLBACK")
        raise
    file.db.execute("COMMIT")
