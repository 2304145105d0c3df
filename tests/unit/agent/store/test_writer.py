"""The writer: what it refuses, what it measures, whose jobs it does, and how its end is seen."""

import asyncio
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from agent.store import writer as writers
from agent.store.recordfile import RecordFile
from agent.store.store import Store
from core.errors import StoreError, StoreFull
from core.records import Clock
from tests.unit.agent.store.store_made import add, at, committed, contents, opened, until


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Somebody looks into the readings with a tool that locks the file."""
    db = sqlite3.connect(directory / "readings.db", isolation_level=None)
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        db.execute("ROLLBACK")
        db.close()


@contextmanager
def full(store: Store) -> Iterator[None]:
    """No page more than the file has: SQLite says the disk is full."""
    file = store.data.file
    pages = file.db.execute("PRAGMA page_count").fetchone()[0]
    file.db.execute(f"PRAGMA max_page_count={pages}")
    yield
    file.db.execute("PRAGMA max_page_count=1073741823")


async def test_rows_beyond_the_bound_are_refused_and_lie_in_a_gap(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writers, "MAX_PENDING_ROWS", 3)
    async with opened(tmp_path) as store:
        assert [add(store, 1, at(number)) for number in range(5)] == [True, True, True, False, False]
        assert store.data.writer.counts.refused_rows == 2
        await committed(store)
        assert add(store, 1, at(5))
    (gap,) = contents(tmp_path).gaps()
    assert (gap["first_tick"], gap["last_tick"], gap["reason"]) == (at(3), at(4), "overrun")


async def test_bytes_that_wait_are_bounded_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writers, "MAX_PENDING_BYTES", 100)
    async with opened(tmp_path) as store:
        taken = [add(store, 1, at(number)) for number in range(10)]
    assert taken == [True] * taken.count(True) + [False] * taken.count(False)
    assert 2 <= taken.count(True) <= 4


async def test_while_the_disk_is_full_rows_wait_then_are_refused_and_the_gap_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writers, "MAX_PENDING_ROWS", 20)
    monkeypatch.setattr(writers, "RETRY_S", 0.02)
    async with opened(tmp_path, window_s=0.0) as store:
        alarms: list[tuple[str, bool]] = []
        store.on_alarm = lambda code, raised, text: alarms.append((code, raised))
        add(store, 1, at(0))
        await committed(store)
        with full(store):
            kept = 0
            while store.data.writer.trouble is None:
                kept += 1
                assert add(store, 1, at(kept), values=60)
                await asyncio.sleep(0.005)
            assert isinstance(store.data.writer.trouble, StoreFull)
            while add(store, 1, at(kept + 1), values=60):
                kept += 1
            assert not add(store, 1, at(kept + 2), values=60)
            await until(lambda: store.data.writer.counts.failed_commits > 3, "tried again")
        await until(lambda: store.data.writer.trouble is None, "written again")
        assert add(store, 1, at(kept + 5))
        await committed(store)
        await until(lambda: len(alarms) == 2, "told")
    assert alarms == [("store-unwritable", True), ("store-unwritable", False)]
    found = contents(tmp_path)
    assert found.ticks(1) == [at(number) for number in [*range(kept + 1), kept + 5]]
    (gap,) = found.gaps()
    assert (gap["first_tick"], gap["ticks"], gap["reason"]) == (at(kept + 1), 4, "disk-full")


async def test_a_refused_tick_explains_only_the_gap_it_lies_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writers, "RETRY_S", 0.02)
    async with opened(tmp_path) as store:
        add(store, 1, at(0))
        add(store, 2, at(0))
        await committed(store)
        store.data.writer.missed.refused(1, at(2))
        for number in (3, 5):
            add(store, 1, at(number))
        add(store, 2, at(3))
    found = contents(tmp_path)
    assert [gap["reason"] for gap in found.gaps(1)] == ["disk-full", "overrun"]
    assert [gap["reason"] for gap in found.gaps(2)] == ["overrun"]


async def test_a_file_that_a_person_locks_delays_and_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.store.connection.BUSY_S", 0.05)
    monkeypatch.setattr(writers, "RETRY_S", 0.02)
    async with opened(tmp_path, window_s=0.0) as store:
        with locked(tmp_path):
            for number in range(5):
                assert add(store, 1, at(number))
            await until(lambda: store.data.writer.counts.failed_commits > 0, "the lock is met")
        await until(lambda: store.data.writer.counts.rows == 5, "committed")
        assert store.data.writer.counts.longest_durable_s >= 0.05
    assert contents(tmp_path).ticks(1) == [at(number) for number in range(5)]


async def test_sample_to_durable_counts_from_the_sample_of_the_oldest_row(tmp_path: Path) -> None:
    import time

    from agent.store.writer import Waiting

    async with opened(tmp_path) as store:
        now = time.monotonic()
        for age_s in (5.0, 0.0):
            store.data.writer.append(Waiting(1, at(round(-age_s)), b"1,0,[],[]]", 7, now - age_s, "overrun"))
        await committed(store)
        counts = store.data.writer.counts
        assert 5.0 <= counts.longest_durable_s < 5.0 + 30
        assert counts.longest_commit_s < counts.longest_durable_s
        assert (counts.rows, counts.readings) == (2, 14)
        assert sorted(counts.latencies)[0] < 5.0 <= counts.durable_p99_s()


async def test_a_job_gets_its_result_or_its_error(tmp_path: Path) -> None:
    def refused(file: RecordFile) -> None:
        file.set_meta("half", "done")
        raise StoreError("no")

    def wrong(file: RecordFile) -> None:
        file.db.execute("SELECT * FROM nowhere")

    async with opened(tmp_path) as store:
        assert await store.call(store.data, lambda file: file.top) == 2
        with pytest.raises(StoreError, match="no"):
            await store.call(store.data, refused)
        with pytest.raises(StoreError, match="no such table"):
            await store.call(store.data, wrong)
        assert await store.call(store.data, lambda file: file.meta("half")) is None


async def test_a_job_that_fails_leaves_no_trace_in_what_the_file_remembers(tmp_path: Path) -> None:
    def half(file: RecordFile) -> None:
        file.delete_below(50, 10)
        file.insert([(file.top + 1, 0, 0, b"{}")])
        raise StoreError("no")

    async with opened(tmp_path) as store:
        for number in range(60):
            add(store, 1, at(number))
        await committed(store)
        file = store.data.file
        before = (file.low, file.top, file.loose, file.epochs)
        with pytest.raises(StoreError, match="no"):
            await store.call(store.data, half)
        assert (file.low, file.top, file.loose, file.epochs) == before
        add(store, 1, at(60))
        await committed(store)
    assert len(contents(tmp_path).rows) == 61


async def test_a_job_that_nobody_waits_for_any_more_is_left_out(tmp_path: Path) -> None:
    held = threading.Event()
    async with opened(tmp_path) as store:
        first = store.data.writer.call(lambda file: held.wait(30))
        second = store.data.writer.call(lambda file: file.set_meta("done", "yes"))
        assert second.cancel()
        held.set()
        assert await asyncio.wrap_future(first)
        assert await store.call(store.data, lambda file: file.meta("done")) is None
        assert store.data.writer.crashed is None


async def test_jobs_that_wait_at_the_end_are_done(tmp_path: Path) -> None:
    held = threading.Event()
    async with opened(tmp_path) as store:
        store.data.writer.call(lambda file: held.wait(30))
        last = store.data.writer.call(lambda file: file.top)
        asyncio.get_running_loop().call_later(0.01, held.set)
    assert last.result(0) == 2


async def test_jobs_beyond_the_bound_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writers, "MAX_JOBS", 2)
    held = threading.Event()
    async with opened(tmp_path) as store:
        running = store.data.writer.call(lambda file: held.wait(30))
        await until(running.running, "the first job runs")
        waiting = [store.data.writer.call(lambda file: file.top) for _ in range(2)]
        with pytest.raises(StoreError, match="too slow"):
            store.data.writer.call(lambda file: file.top).result(0)
        held.set()
    assert [one.result(0) for one in waiting] == [2, 2]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
async def test_a_crash_of_the_writer_is_seen_and_everybody_is_told(tmp_path: Path) -> None:
    def bug(file: RecordFile) -> None:
        raise ZeroDivisionError("a bug of ours")

    async with opened(tmp_path) as store:
        alarms: list[str] = []
        store.on_alarm = lambda code, raised, text: alarms.append(text)
        held = threading.Event()
        running = store.data.writer.call(lambda file: held.wait(30))
        await until(running.running, "the first job runs")
        crash, after = store.data.writer.call(bug), store.data.writer.call(lambda file: file.top)
        held.set()
        with pytest.raises(ZeroDivisionError):
            await asyncio.wrap_future(crash)
        with pytest.raises(StoreError, match="writer ended"):
            await asyncio.wrap_future(after)
        assert isinstance(store.data.writer.crashed, ZeroDivisionError)
        await asyncio.wait_for(store.fatal.wait(), 30)
        assert "a bug of ours" in str(store.fatal_error)
        assert not add(store, 1, at(0))
        with pytest.raises(StoreError, match="closing"):
            await store.call(store.data, lambda file: file.top)
        assert any("a bug of ours" in text for text in alarms)
    async with opened(tmp_path) as store:
        assert store.ended_before == "crash"


async def test_a_record_is_made_with_its_sequence_in_the_order_of_the_rows(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        add(store, 1, at(0))
        store.append_record(at(1), lambda seq: Clock(seq, at(1), "boot-1", "unsure", 77))
        add(store, 1, at(1))
        await committed(store)
        found = await store.read(store.data, 3, 5, 9)
    assert [record.grp for record in found] == [1, 0, 1]
    assert b'"seq":4' in found[1].body
