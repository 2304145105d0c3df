"""What goes when room is short, in which order, and what is told of it."""

import contextlib
import json
import random
import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.store import dropping, housekeeping, room
from agent.store.connection import PAGE_SIZE, wal_of
from agent.store.recordfile import RecordFile, RouteState
from agent.store.room import (
    DELETE_STEP,
    INSIDE_PAGES,
    Floor,
    Room,
    RoomCounts,
    droppable,
    keep_room_inside,
)
from agent.store.salvage import needs_salvage
from agent.store.store import Store
from core.records import Alarm
from tests.unit.agent.store.store_made import (
    EVERY_MS,
    Contents,
    add,
    at,
    beaten,
    birth,
    committed,
    contents,
    files_of,
    manifest,
    opened,
    put_back,
    until,
)

BIG = 40
"""Values a row: some 300 bytes."""


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look at the room all the time, in small steps."""
    monkeypatch.setattr(housekeeping, "CHECK_ROOM_S", 0.0)
    monkeypatch.setattr(housekeeping, "SWEEP_S", 0.0)
    monkeypatch.setattr(room, "DELETE_STEP", 50)
    monkeypatch.setattr(dropping, "DELETE_STEP", 50)
    monkeypatch.setattr(housekeeping, "DELETE_STEP", 50)


async def fill(store: Store, first: int, many: int) -> None:
    """Append ticks first, first + 1, ... of group 1 and let the housekeeping do all it wants."""
    for number in range(first, first + many):
        assert add(store, 1, at(number), values=BIG)
        if number % 20 == 0:
            await committed(store)
    await settled(store)


async def settled(store: Store) -> None:
    await committed(store)
    before = None
    while before != (now := (store.data.file.low, store.data.file.top, store.data.file.loose)):
        before = now
        for _ in range(5):
            await store.call(store.data, lambda file: file.top)


async def shrunk(store: Store, by: int) -> int:
    """Set the quota so many bytes below what is used, and wait; returns the quota."""

    def below(file: RecordFile) -> int:
        return (file.db.execute("PRAGMA page_count").fetchone()[0] - 1) * 4096 - by

    store.room.quota_bytes = await store.call(store.data, below)
    await settled(store)
    return store.room.quota_bytes


def dropped(found: Contents) -> dict[str, set[int]]:
    """Sequences told as dropped, by epoch."""
    told: dict[str, set[int]] = {}
    for gap in found.gaps(0):
        ranges = gap["dropped"]
        assert isinstance(ranges, list)
        for first, last in ranges:
            told.setdefault(str(gap["epoch"]), set()).update(range(first, last + 1))
    return told


async def test_over_quota_confirmed_rows_go_first_and_leave_no_gap(tmp_path: Path) -> None:
    async with opened(tmp_path, quota_bytes=1 << 40) as store:
        store.floors = (Floor(0, 400), Floor(5, 300))
        await fill(store, 0, 500)
        quota = await shrunk(store, 40_000)
        assert store.room.counts.pruned > 0
        assert store.room.counts.dropped == 0
        assert store.data.file.used_bytes() <= quota
        assert store.data.file.loose <= 300
    assert contents(tmp_path).gaps() == []


async def test_over_quota_the_least_important_route_waits_in_vain_and_is_told(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        store.floors = (Floor(0, 3), Floor(5, 453))
        await fill(store, 0, 500)
        await shrunk(store, 80_000)
        low = store.data.file.loose
        assert store.room.counts.dropped == low - 3 > 0
        assert store.data.file.used_bytes() <= store.room.quota_bytes
    found = contents(tmp_path)
    assert dropped(found) == {store.epoch: set(range(3, low))}
    assert {gap["reason"] for gap in found.gaps()} == {"quota"}
    assert sorted(found.gap_ticks(1)) == [at(number) for number in range(low - 3)]
    assert found.ticks(1) == [at(number) for number in range(low - 3, 500)]


async def test_what_only_the_important_route_waits_for_goes_last(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        store.floors = (Floor(0, 3), Floor(5, 103))
        await fill(store, 0, 500)
        store.room.quota_bytes = 1
        await settled(store)
        # nothing is left but the newest record and the head of its epoch
        found = await store.read(store.data, 1, store.data.file.top, 9999)
        assert found[-1].id == store.data.file.top
        assert [record.grp for record in found[:2]] == [0, -1]
    told = dropped(contents(tmp_path))[store.epoch]
    assert set(range(3, 503)) <= told


async def test_without_a_word_from_the_routes_the_quota_waits(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await fill(store, 0, 100)
        store.room.quota_bytes = 1
        await settled(store)
        assert store.data.file.loose == 3
        store.floors = ()
        await settled(store)
        assert store.data.file.loose > 90
    assert dropped(contents(tmp_path))[store.epoch] >= set(range(3, 90))


async def test_gaps_that_nobody_confirmed_are_told_again_when_they_go_themselves(tmp_path: Path) -> None:
    rng = random.Random(1)
    async with opened(tmp_path, window_s=3600) as store:
        store.floors = (Floor(0, 1),)
        number = 0
        due = []
        store.room.quota_bytes = 300_000
        for _ in range(3000):
            due.append(number)
            assert add(store, 1, at(number), values=BIG)
            number += rng.choice([1, 1, 1, 1, 2, 9])
            if number % 30 == 0:
                await settled(store)
        await settled(store)
        assert store.room.counts.dropped > 1500
    found = contents(tmp_path)
    covered = {*found.ticks(1), *found.gap_ticks(1)}
    assert covered == {at(one) for one in range(due[-1] + 1)}
    assert not set(found.ticks(1)) & set(found.gap_ticks(1))
    reasons = {gap["reason"] for gap in found.gaps(1)}
    assert reasons == {"quota", "overrun"}
    ids = {id_ for id_, _, _ in found.rows} | {id_ for id_, _ in found.records} | {2}
    (sequences,) = dropped(found).values()
    assert not ids & sequences
    assert ids | sequences == set(range(1, max(ids) + 1))


async def test_epochs_that_are_empty_are_forgotten_and_ids_still_never_return(tmp_path: Path) -> None:
    tops = []
    for life in range(4):
        async with opened(tmp_path) as store:
            assert store.data.epoch.base == (tops[-1] if tops else 0)
            await fill(store, 100 * life, 60)
            store.floors = (Floor(0, store.data.file.top + 1),)
            store.room.quota_bytes = 1
            await settled(store)
            tops.append(store.data.file.top)
    found = contents(tmp_path)
    assert [epoch for epoch, _ in found.epochs] == [store.epoch]
    ids = [id_ for id_, _, _ in found.rows] + [id_ for id_, _ in found.records]
    assert sorted(ids) == [tops[2] + 1, tops[3]]  # the head of the epoch, and the newest


async def test_the_head_of_an_epoch_stays_as_long_as_its_rows(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        first = store.data.epoch.base
        await fill(store, 0, 300)
    async with opened(tmp_path) as store:
        second = store.data.epoch.base
        store.floors = (Floor(0, 200),)
        store.room.keep_ms = 0
        await settled(store)
        file = store.data.file
        assert (file.low, file.loose) == (first + 1, 200)
        assert [one.id for one in await store.read(store.data, 1, 200, 9)] == [1, 2, 200]
        assert len(file.epochs) == len(file.manifest_spans()) == 2
        store.floors = (Floor(0, second + 3),)
        await settled(store)
        assert (file.low, file.loose) == (second + 1, second + 2)
        assert [one.epoch for one in file.epochs] == [store.epoch]
        assert file.manifest_spans() == [(second + 1, manifest().hash())]
    async with opened(tmp_path) as store:
        assert (store.data.file.low, store.data.file.loose) == (second + 1, second + 3)


async def test_deletes_are_bounded_steps(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await fill(store, 0, 300)
        gone = [await store.call(store.data, lambda file: file.delete_below(250, 40)) for _ in range(8)]
    assert gone == [42 - 2, 40, 40, 40, 40, 40, 7, 0]


async def test_age_never_takes_an_unconfirmed_row(tmp_path: Path) -> None:
    async with opened(tmp_path, keep_s=0) as store:
        store.floors = (Floor(0, 100), Floor(9, 60))
        await fill(store, 0, 200)
        assert store.data.file.loose == 60
        assert store.room.counts.dropped == 0


async def test_age_does_not_count_while_the_clock_is_unsure(tmp_path: Path) -> None:
    async with opened(tmp_path, keep_s=0, born=birth("unsure")) as store:
        store.floors = (Floor(0, 100),)
        await fill(store, 0, 200)
        assert store.data.file.loose == 3
        store.clock_synchronised = True
        await settled(store)
        assert store.data.file.loose == 100


async def test_young_rows_stay_although_they_are_confirmed(tmp_path: Path) -> None:
    import time

    now = time.time_ns() // 1_000_000 // EVERY_MS * EVERY_MS
    async with opened(tmp_path, keep_s=3600) as store:
        store.floors = (Floor(0, 1 << 40),)
        for number in range(7200, 0, -60):
            add(store, 1, now - number * EVERY_MS)
        await settled(store)
        (oldest,) = await store.call(
            store.data, lambda file: file.db.execute("SELECT min(tick) FROM record WHERE grp > 0").fetchone()
        )
        assert now - 3_600_000 - 60_000 < oldest <= now - 3_600_000 + 60_000


async def test_what_grew_old_goes_in_full_steps_or_once_in_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(housekeeping, "SWEEP_S", 3600.0)
    async with opened(tmp_path, keep_s=0) as store:
        store.floors = (Floor(0, 1),)
        await fill(store, 0, 300)
        store.floors = (Floor(0, 120),)
        await settled(store)
        assert store.data.file.loose == 120  # two steps of 50, and a sweep for the rest
        store.floors = (Floor(0, 160),)
        await settled(store)
        assert store.data.file.loose == 120
        store.floors = (Floor(0, 180),)
        await settled(store)
        assert store.data.file.loose == 170


async def test_files_set_aside_go_first(tmp_path: Path) -> None:
    aside = tmp_path / "readings.db.aside-20260101T000000"
    async with opened(tmp_path) as store:
        store.floors = (Floor(0, 1),)
        await fill(store, 0, 50)
        aside.write_bytes(b"x" * 100_000)
        store.room.quota_bytes = store.data.file.used_bytes() + 200_000
        await settled(store)
        assert aside.exists()
        store.room.quota_bytes -= 150_000
        await settled(store)
        assert not aside.exists()
        assert store.data.file.loose == 3


async def test_the_reserve_takes_its_room_and_is_given_back_once(tmp_path: Path) -> None:
    one = Room(0, 0, tmp_path / "reserve", 100_000, RoomCounts())
    assert one.hold_reserve()
    assert (tmp_path / "reserve").stat().st_blocks * 512 >= 100_000
    assert one.give_reserve_back()
    assert not one.give_reserve_back()
    assert not (tmp_path / "reserve").exists()


async def test_the_reserve_is_taken_again_when_there_is_room(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        assert store.room.give_reserve_back()
        await until(store.room.reserve.exists, "taken again")


async def test_alarms_are_kept_when_no_page_can_be_added_to_the_control_file(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        pages = await store.call(
            store.control, lambda file: file.db.execute("PRAGMA page_count").fetchone()[0]
        )
        await store.call(store.control, lambda file: file.db.execute(f"PRAGMA max_page_count={pages}"))
        wal = tmp_path / "control.db-wal"
        size = wal.stat().st_size
        for number in range(500):
            store.append_control(at(number), lambda seq: Alarm(seq, 0, "x", True, "t" * 200))
            if number % 50 == 0:
                await until(lambda number=number: store.control.top > number, "committed")
        await until(lambda: store.control.top == 500, "all committed")
        assert wal.stat().st_size == size


@given(st.lists(st.integers(1, 300), max_size=6), st.integers(1, 200))
def test_what_goes_harms_only_routes_that_wait_for_the_oldest(belows: list[int], low: int) -> None:
    below, confirmed = droppable([Floor(0, one) for one in belows], low)
    assert below > low
    waiting = [one for one in belows if one <= low]
    assert confirmed == (bool(belows) and not waiting)
    assert all(one >= below for one in belows if one not in waiting)


async def test_a_gap_at_every_second_tick_does_not_block_the_quota(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        store.floors = (Floor(0, 1),)
        for number in range(0, 2000, 2):
            add(store, 1, at(number), values=BIG)
        await settled(store)
        await shrunk(store, 150_000)
        assert store.data.file.used_bytes() <= store.room.quota_bytes
    found = contents(tmp_path)
    assert {*found.ticks(1), *found.gap_ticks(1)} == {at(number) for number in range(1999)}
    assert not set(found.ticks(1)) & set(found.gap_ticks(1))


async def test_a_route_memory_is_kept_by_name(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        store.save_route(store.data, RouteState("dso", "dso.example", "b", 7, ((1, 5), (8, 9))))
        await committed(store)
    async with opened(tmp_path) as store:
        assert store.data.file.routes() == {"dso": RouteState("dso", "dso.example", "b", 7, ((1, 5), (8, 9)))}


def test_a_later_start_takes_room_inside_without_writing_a_page(tmp_path: Path) -> None:
    path = tmp_path / "control.db"
    for life in range(3):
        file = RecordFile(path, "control")
        changes, pages = file.db.total_changes, path.stat().st_size
        assert keep_room_inside(file.db, path)
        assert (file.db.total_changes > changes) is (life == 0)
        assert (path.stat().st_size > pages) is (life == 0)
        assert wal_of(path).stat().st_size >= INSIDE_PAGES * PAGE_SIZE
        file.set_meta("life", str(life))
        file.close()
        assert not wal_of(path).exists()
    with contextlib.closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert db.execute("SELECT value FROM meta WHERE key = 'life'").fetchone() == ("2",)


async def test_room_in_the_log_is_no_part_of_what_a_killed_life_left(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        store.append_control(at(0), lambda seq: Alarm(seq, 0, "x", True, "t"))
        await until(lambda: store.control.top == 1, "committed")
        files = await files_of(store)
    put_back(files)
    assert not needs_salvage(tmp_path / "control.db", "control")
    assert wal_of(tmp_path / "control.db").exists()  # looking folds nothing back
    async with opened(tmp_path) as store:
        assert store.ended_before == "crash"
        assert [record.id for record in await store.read(store.control, 1, 9, 9)] == [1]


def test_what_is_noted_already_is_not_written_again(tmp_path: Path) -> None:
    file = RecordFile(tmp_path / "control.db", "control")
    state = RouteState("dso", "dso.example", "b", 1, ((1, 3),))
    for many in (1, 0):
        before = file.db.total_changes
        file.set_meta("key", "value")
        file.save_route(state)
        assert file.db.total_changes == before + 2 * many
    file.set_meta("key", "other")
    file.save_route(replace(state, n=2))
    assert (file.meta("key"), file.routes()["dso"].n) == ("other", 2)
    file.close()


async def test_the_heartbeat_says_up_to_which_ticks_all_was_confirmed(tmp_path: Path) -> None:
    def noted() -> dict[str, dict[str, int]]:
        db = sqlite3.connect(tmp_path / "control.db")
        (value,) = db.execute("SELECT value FROM meta WHERE key = 'heartbeat'").fetchone()
        db.close()
        found: dict[str, dict[str, int]] = json.loads(value)
        return found

    key = "meter-1/1000/p0"
    async with opened(tmp_path) as store:
        await fill(store, 0, 10)
    assert noted()["safe"][key] == at(-1)
    async with opened(tmp_path) as store:
        store.floors = (Floor(0, store.data.file.top + 1),)
        await fill(store, 10, 10)
        await beaten(store)
    assert noted()["ticks"][key] == at(19)
    assert noted()["safe"][key] == at(9)


def test_a_step_is_small_enough_for_a_window() -> None:
    assert DELETE_STEP <= 10_000
