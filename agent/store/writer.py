"""The one writer: a thread that commits what waits, a group at a time.

Rows are taken from a bounded queue, kept for the commit window, and written in
one transaction, with a Gap before each row that does not follow the one before it
(``agent.store.missed``).  When a commit fails its rows wait and are tried again;
nobody waits for them: beyond the bound rows are refused, and their ticks lie in a Gap.

Relies on :class:`agent.store.recordfile.RecordFile`; owns its connection.  Not
here: what to drop when room is short (``agent.store.housekeeping``), reading.
"""

import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Final, Protocol, TypeVar

from agent.groupmemory import LeftOut
from agent.store.connection import translated
from agent.store.livednote import KEY, LivedNote
from agent.store.missed import Missed
from agent.store.recordfile import RecordFile
from core.codec import encode_record
from core.errors import StoreError, StoreFull
from core.manifest import Manifest
from core.records import Gap, Record

T = TypeVar("T")

MAX_PENDING_ROWS: Final = 20_000
"""Rows waiting for the disk; beyond, a row is refused and its tick lies in the next Gap."""
MAX_PENDING_BYTES: Final = 16 << 20
MAX_JOBS: Final = 1000
LOOK_S: Final = 1.0
"""Longest pause between two looks at the room."""
RETRY_S: Final = 1.0
"""Pause before a failed commit is tried again."""
LATENCIES_KEPT: Final = 4096
STEP: Final = "clock-step"
"""Why ticks before a row may be missing: the clock was stepped."""


@dataclass(slots=True)
class Waiting:
    """One row or record that waits for its commit."""

    grp: int
    tick: int
    body: bytes
    points: int
    sampled: float
    """Monotonic instant of the last answer, s."""
    reason: str
    """Why ticks before this row may be missing, as far as the caller knows."""
    make: Callable[[int], Record] | None = None
    """For a record: makes it once its sequence is known."""
    ticket: "Numbered | None" = None
    """For a row: is told its sequence, before any record behind it is made."""
    manifest: Manifest | None = None
    """For a change of the manifest (``grp`` -1): the rows behind it are of this one."""


class Numbered(Protocol):
    """Something that wants to know the sequence of a row, and knows whether it has any value."""

    seq: int | None
    valued: bool


@dataclass(slots=True)
class WriterCounts:
    """What the writer did; read by the status, written by the writer only."""

    rows: int = 0
    readings: int = 0
    commits: int = 0
    refused_rows: int = 0
    failed_commits: int = 0
    gap_ticks: int = 0
    longest_commit_s: float = 0.0
    longest_durable_s: float = 0.0
    """Longest time from a sample to its commit: the measured bound of what a power cut can take."""
    latencies: deque[float] = field(default_factory=lambda: deque(maxlen=LATENCIES_KEPT))

    def durable_p99_s(self) -> float:
        """Return the 99th percentile of the latest sample-to-durable times, s."""
        values = sorted(self.latencies.copy())
        return values[int(len(values) * 0.99)] if values else 0.0


class Writer:
    """Owns the thread and the connection; everything else talks to it through its queue."""

    def __init__(
        self,
        file: RecordFile,
        missed: Missed,
        window_s: float,
        on_commit: Callable[[int], None],
        on_trouble: Callable[[StoreError | None], None],
        idle: Callable[["Writer"], bool],
        on_manifest: Callable[[int, Manifest], None] = lambda id_, manifest: None,
        lived: LivedNote | None = None,
    ) -> None:
        """Prepare; :meth:`start` begins.

        Args:
            file: opened, with its epoch begun.
            missed: the last committed ticks; the writer's own from now on.
            window_s: how long rows wait for company.
            on_commit: called in the writer's thread with the new top id.
            on_trouble: called with the error when commits begin to fail, with None when they work
                again, and with the error that ended the thread (:attr:`crashed` is set then).
            idle: called between commits, at least once a second; does one bounded step of
                housekeeping and tells whether more waits.
            on_manifest: called in the writer's thread with the id from which a committed manifest is in
                force, before ``on_commit``.
            lived: which ticks were polled; the writer's own from now on.
        """
        self.file = file
        self.counts = WriterCounts()
        self.trouble: StoreError | None = None
        self.crashed: BaseException | None = None
        self.missed = missed
        self.lived = lived or LivedNote()
        self.valued: dict[int, int] = {}
        """Id of the last row with a value by group number."""
        self._window_s = window_s
        self._on_commit = on_commit
        self._on_trouble = on_trouble
        self._idle = idle
        self._on_manifest = on_manifest
        self._waiting: list[Waiting] = []
        self._bytes = 0
        self._jobs: deque[tuple[Callable[[RecordFile], object], Future[object]]] = deque()
        self._wake = threading.Condition()
        self._urgent = False
        self._stop = False
        self._thread = threading.Thread(target=self._run, name="store-writer", daemon=True)

    @property
    def ticks(self) -> dict[int, int]:
        """Last committed tick by group number."""
        return self.missed.ticks

    @property
    def waiting_rows(self) -> int:
        """How many rows wait for their commit."""
        return len(self._waiting)

    def unwritten(self) -> tuple[dict[int, int], str]:
        """Return the last tick polled, by group number, that could not be written, and why."""
        with self._wake:
            found = self.missed.refused_ticks()
            for waiting in self._waiting if self.trouble is not None else ():
                if waiting.grp > 0:
                    found[waiting.grp] = max(waiting.tick, found.get(waiting.grp, 0))
        full = self.trouble is None or isinstance(self.trouble, StoreFull)
        return found, "disk-full" if full else "overrun"

    def open_spans(self) -> dict[int, LeftOut]:
        """Return, by group number, the ticks left out on purpose that no row has followed yet."""
        with self._wake:
            return self.missed.open_spans()

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self, timeout_s: float = 30.0) -> bool:
        """Commit what waits, end the thread and wait for it; False when the disk holds it up longer."""
        with self._wake:
            self._stop = True
            self._wake.notify()
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    # --- called from other threads

    def append(self, waiting: Waiting) -> bool:
        """Queue a row or a record; False when there is no room: then its tick will lie in a Gap."""
        with self._wake:
            if len(self._waiting) >= MAX_PENDING_ROWS or self._bytes >= MAX_PENDING_BYTES or self._stop:
                self.counts.refused_rows += 1
                if isinstance(self.trouble, StoreFull):
                    self.missed.refused(waiting.grp, waiting.tick)
                return False
            self._waiting.append(waiting)
            self._bytes += len(waiting.body)
            if len(self._waiting) == 1:
                self._wake.notify()
        return True

    def left_out(self, grp: int, left_out: LeftOut) -> None:
        """Note ticks that were polled and left out on purpose."""
        with self._wake:
            self.missed.left_out(grp, left_out)

    def hurry(self) -> None:
        """Commit now instead of at the end of the window."""
        with self._wake:
            self._urgent = True
            self._wake.notify()

    def call(self, job: Callable[[RecordFile], T]) -> "Future[T]":
        """Run a job in the writer's thread, in a transaction of its own; its result or error follows."""
        future: Future[T] = Future()
        with self._wake:
            if self._stop:
                future.set_exception(StoreError("the store is closing"))
            elif len(self._jobs) >= MAX_JOBS:
                future.set_exception(StoreError("the disk is too slow: too much waits for it already"))
            else:
                self._jobs.append((job, future))  # type: ignore[arg-type]  # the queue forgets T
                self._wake.notify()
        return future

    # --- the thread

    def _run(self) -> None:
        try:
            while self._turn():
                pass
        except BaseException as error:
            self._ended_by(error)
            raise

    def _ended_by(self, error: BaseException) -> None:
        """Refuse everything from now on; whoever waits for a job is told."""
        ended = StoreError(f"the store's writer ended: {error}")
        with self._wake:
            self.crashed = error
            self._stop = True
            jobs = list(self._jobs)
            self._jobs.clear()
        for _, future in jobs:
            if future.set_running_or_notify_cancel():
                future.set_exception(ended)
        self._on_trouble(ended)

    def _turn(self) -> bool:
        """Wait for work, do it; False when the writer is to end."""
        more = self._idle(self)
        with self._wake:
            if not self._waiting and not self._jobs and not self._stop and not more:
                self._wake.wait(LOOK_S)
            if self._waiting and not more:
                due_at = self._waiting[0].sampled + self._window_s
                self._wake.wait_for(
                    lambda: bool(self._jobs) or self._urgent or self._stop,
                    min(max(due_at - time.monotonic(), 0.0), self._window_s),
                )
            batch = self._waiting
            jobs = len(self._jobs)
            due = bool(batch) and (
                self._stop or self._urgent or time.monotonic() >= batch[0].sampled + self._window_s - 0.001
            )
            if due:
                self._waiting, self._bytes = [], 0
            self._urgent = self._urgent and not due and bool(batch)
            stopping = self._stop
        if due and not self._commit(batch):
            self._put_back(batch)
            if not stopping:
                with self._wake:
                    self._wake.wait_for(lambda: self._stop or bool(self._jobs), RETRY_S)
        for _ in range(jobs):
            self._do(*self._jobs.popleft())
        return not (stopping and (not self._waiting or self.trouble is not None))

    def _put_back(self, batch: list[Waiting]) -> None:
        with self._wake:
            self._waiting[:0] = batch
            self._bytes = sum(len(waiting.body) for waiting in self._waiting)

    def _commit(self, batch: list[Waiting]) -> bool:
        file = self.file
        begun = time.monotonic()
        rows, ticks, firsts, gap_ticks = self._built(batch)
        changes = (waiting.manifest for waiting in batch if waiting.manifest is not None)
        manifests = list(zip((row[0] for row in rows if row[1] == -1), changes, strict=True))
        lived = self.lived.after((one.grp, one.tick, one.reason == STEP) for one in batch if one.grp > 0)
        try:
            with file.transaction():
                file.insert(rows)
                for id_, manifest in manifests:
                    file.add_manifest(manifest.hash(), id_, manifest.encode())
                if lived.news:
                    file.set_meta(KEY, self.lived.text(lived))
        except sqlite3.Error as error:
            self._failed(translated(error, file.path))
            return False
        done = time.monotonic()
        with self._wake:  # append() tells of refused ticks at any time
            self.missed.committed(ticks, firsts)
        self.lived.keep(lived)
        base = file.epochs[-1].base
        for one in batch:
            if one.ticket is not None and one.ticket.valued and one.ticket.seq is not None:
                self.valued[one.grp] = base + one.ticket.seq
        self._count(batch, gap_ticks, begun, done)
        for id_, manifest in manifests:
            self._on_manifest(id_, manifest)
        if self.trouble is not None:
            self.trouble = None
            self._on_trouble(None)
        self._on_commit(file.top)
        return True

    def _built(self, batch: list[Waiting]) -> "Built":
        """Return what to insert, the last and first ticks in it, and how many ticks lie in new gaps."""
        base = self.file.epochs[-1].base
        next_id = self.file.top + 1
        rows: list[tuple[int, int, int, bytes]] = []
        ticks: dict[int, int] = {}
        firsts: dict[int, int] = {}
        gap_ticks = 0
        for waiting in batch:
            grp, tick = waiting.grp, waiting.tick
            if waiting.manifest is not None:
                rows.append((next_id, -1, tick, waiting.body))
                next_id += 1
                continue
            if waiting.make is not None:
                rows.append((next_id, 0, tick, encode_record(waiting.make(next_id - base))))
                next_id += 1
                continue
            hole = self.missed.before(grp, tick, waiting.reason, ticks)
            if hole is not None:
                gap = Gap(
                    seq=next_id - base,
                    group=grp,
                    first_tick=hole.first,
                    last_tick=hole.last,
                    ticks=hole.ticks,
                    reason=hole.reason,
                    unknown_extent=hole.unknown_extent or waiting.reason == STEP,
                )
                gap_ticks += gap.ticks
                rows.append((next_id, 0, tick, encode_record(gap)))
                next_id += 1
            rows.append((next_id, grp, tick, waiting.body))
            if waiting.ticket is not None:
                waiting.ticket.seq = next_id - base
            next_id += 1
            ticks[grp] = tick
            firsts.setdefault(grp, tick)
        return rows, ticks, firsts, gap_ticks

    def _failed(self, error: StoreError) -> None:
        self.counts.failed_commits += 1
        # Told once for each kind: a disk that was full and is now damaged is news.
        news = type(self.trouble) is not type(error)
        self.trouble = error
        if news:
            self._on_trouble(error)

    def _count(self, batch: list[Waiting], gap_ticks: int, begun: float, done: float) -> None:
        counts = self.counts
        counts.commits += 1
        counts.gap_ticks += gap_ticks
        counts.longest_commit_s = max(counts.longest_commit_s, done - begun)
        rows = [waiting for waiting in batch if waiting.grp > 0]
        if not rows:
            return
        counts.rows += len(rows)
        counts.readings += sum(waiting.points for waiting in rows)
        counts.longest_durable_s = max(counts.longest_durable_s, done - min(row.sampled for row in rows))
        step = max(1, len(rows) // 16)
        counts.latencies.extend(done - row.sampled for row in rows[::step])

    def _do(self, job: Callable[[RecordFile], object], future: "Future[object]") -> None:
        if not future.set_running_or_notify_cancel():
            return  # nobody waits for it any more
        try:
            with self.file.transaction():
                result = job(self.file)
        except sqlite3.Error as error:
            future.set_exception(translated(error, self.file.path))
        except StoreError as error:
            future.set_exception(error)
        except BaseException as error:
            future.set_exception(error)
            raise
        else:
            future.set_result(result)


Built = tuple[list[tuple[int, int, int, bytes]], dict[int, int], dict[int, int], int]
