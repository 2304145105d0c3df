"""Damaged, cut, lost and older files: set aside, salvaged, told, and never mistaken for whole ones."""

import asyncio
import contextlib
import json
import random
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.store.look import Look
from agent.store.recordfile import RecordFile, RouteState
from agent.store.salvage import Spare, mark_of, set_aside
from agent.store.store import Store
from core.errors import StoreCorrupt
from tests.unit.agent.store.store_made import (
    Contents,
    add,
    at,
    beaten,
    committed,
    contents,
    files_of,
    manifest,
    opened,
    put_back,
    until,
)

PAGE = 4096
ROWS = 3000


async def filled(directory: Path, rows: int = ROWS) -> str:
    """A life of so many rows of each of two groups; returns its epoch."""
    async with opened(directory) as store:
        for number in range(rows):
            add(store, 1, at(number))
            add(store, 2, at(number))
            if number % 500 == 0:
                await committed(store)
        return store.epoch


def pages_of(path: Path) -> int:
    return path.stat().st_size // PAGE


def overwrite(path: Path, page: int, many: int = 1) -> None:
    with path.open("r+b") as file:
        file.seek(page * PAGE)
        file.write(b"\xa5" * (PAGE * many))


def flip_a_digit(path: Path) -> None:
    """Change one digit inside one row's body: SQLite cannot see that."""
    content = bytearray(path.read_bytes())
    place = content.index(b"1,%d,[7],[" % at(ROWS // 2)) + 20
    content[place] ^= 1
    path.write_bytes(content)


def first_page(path: Path) -> None:
    overwrite(path, 0)


def middle(path: Path) -> None:
    overwrite(path, pages_of(path) // 2, 3)


def cut(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(pages_of(path) * 2 // 3 * PAGE)


def taken_out(path: Path) -> None:
    """The middle third is gone: what follows has moved."""
    content = path.read_bytes()
    third = pages_of(path) // 3 * PAGE
    path.write_bytes(content[:third] + content[2 * third :])


def garbage(path: Path) -> None:
    path.write_bytes(b"no database at all " * 10_000)


def every_tenth(path: Path) -> None:
    for page in range(1, pages_of(path), 10):
        overwrite(path, page)


def root_of(table: str) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        db = sqlite3.connect(path)
        (page,) = db.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", (table,)).fetchone()
        db.close()
        overwrite(path, page - 1)

    damage.__name__ = f"root of {table}"
    return damage


def covered(found: Contents, grp: int) -> set[int]:
    return {*found.ticks(grp), *found.gap_ticks(grp)}


def told_lost(found: Contents, epoch: str) -> set[int]:
    before = found.starts()[-1]["before"]
    assert isinstance(before, list)
    (entry,) = [one for one in before if one["epoch"] == epoch]
    return {seq for first, last in entry["lost"] for seq in range(first, last + 1)}


async def noticed(store: Store) -> None:
    """Read everything, as a route would."""
    at_id = 1
    while at_id <= store.data.top:
        await store.read(store.data, at_id, at_id + 999, 1000)
        at_id += 1000


DAMAGES = [
    (first_page, 0.95),
    (middle, 0.9),
    (cut, 0.5),
    (taken_out, 0.5),
    (every_tenth, 0.8),
    (root_of("record"), 0.95),
    (root_of("epoch"), 0.99),
    (root_of("manifest"), 0.99),
    (root_of("manifest_span"), 0.99),
    (root_of("route"), 0.99),
    (root_of("meta"), 0.99),
    (flip_a_digit, 0.99),
    (garbage, 0.0),
]


@pytest.mark.parametrize(("damage", "share"), DAMAGES, ids=lambda one: getattr(one, "__name__", str(one)))
async def test_what_is_left_of_a_damaged_file_keeps_its_epoch_and_the_rest_is_told(
    tmp_path: Path, damage: Callable[[Path], None], share: float
) -> None:
    epoch = await filled(tmp_path)
    path = tmp_path / "readings.db"
    damage(path)
    damaged = path.read_bytes()
    async with opened(tmp_path) as store:
        if store.ended_before != "set-aside":
            # the damage is deep: it shows when it is read, and the next start salvages
            with pytest.raises(StoreCorrupt):
                await noticed(store)
            await asyncio.wait_for(store.fatal.wait(), 10)
    if store.ended_before != "set-aside":
        async with opened(tmp_path) as store:
            assert store.ended_before == "set-aside"
    else:
        aside = next(one for one in tmp_path.glob("readings.db.aside-*") if one.name[-1].isdigit())
        assert aside.read_bytes() == damaged
    async with opened(tmp_path) as store:
        assert store.ended_before == "stop"
        await noticed(store)
        add(store, 1, at(ROWS + 5))
        add(store, 2, at(ROWS + 5))
    found = contents(tmp_path)
    starts = [one for one in found.starts() if one["ended"] == "set-aside"]
    assert len(starts) == 1
    salvaged = [id_ for id_, _, tick in found.rows if tick < at(ROWS)]
    assert len(salvaged) >= share * 2 * ROWS
    assert found.epochs[0] == (epoch, 0)
    # every sequence of the old epoch is there or told as lost, none is both
    present = set(salvaged) | {id_ for id_, _ in found.records if id_ <= found.epochs[1][1]}
    before = next(one for start in starts for one in start["before"] if one["epoch"] == epoch)
    lost = {seq for first, last in before["lost"] for seq in range(first, last + 1)}
    assert not lost & present
    assert lost | present | {2} == set(range(1, before["last"] + 1)) | {2}
    assert before["last"] == 2 * ROWS + 2
    # and every tick is a row or lies in a Gap
    for grp in (1, 2):
        assert covered(found, grp) >= {at(number) for number in range(ROWS + 6)}
    assert [row for row in found.rows if row[2] < at(ROWS)] == sorted(
        (2 + 2 * number + grp, grp, at(number))
        for number in range(ROWS)
        for grp in (1, 2)
        if 2 + 2 * number + grp in present
    )


async def test_a_flipped_digit_is_never_read(tmp_path: Path) -> None:
    await filled(tmp_path)
    flip_a_digit(tmp_path / "readings.db")
    async with opened(tmp_path) as store:
        with pytest.raises(StoreCorrupt, match="not what was written"):
            await store.read(store.data, 1, 2 * ROWS, 2 * ROWS)
        await asyncio.wait_for(store.fatal.wait(), 10)
    assert mark_of(tmp_path / "readings.db").exists()
    async with opened(tmp_path) as store:
        assert store.ended_before == "set-aside"
        assert len(await store.read(store.data, 1, 2 * ROWS, 2 * ROWS)) == 2 * ROWS - 1


async def test_salvage_tells_an_alarm_when_somebody_listens(tmp_path: Path) -> None:
    await filled(tmp_path, 50)
    garbage(tmp_path / "readings.db")
    async with opened(tmp_path) as store:
        alarms: list[tuple[str, str]] = []
        store.on_alarm = lambda code, raised, text: alarms.append((code, text))
        await until(lambda: bool(alarms), "told")
    assert alarms[0][0] == "store-set-aside"
    assert "readings.db was damaged: set aside as readings.db.aside-" in alarms[0][1]


@pytest.mark.parametrize("step", ["renamed the log", "renamed", "half filled", "filled"])
async def test_a_salvage_that_was_interrupted_goes_on(tmp_path: Path, step: str) -> None:
    await filled(tmp_path, 500)
    path = tmp_path / "readings.db"
    middle(path)
    path.with_name("readings.db-wal").write_bytes(b"")
    aside = path.with_name("readings.db.aside-20260101T000000")
    mark_of(path).write_text(aside.name)
    if step != "renamed the log":
        path.rename(aside)
    path.with_name("readings.db-wal").rename(aside.with_name(aside.name + "-wal"))
    if step == "half filled":
        path.with_name("readings.db.salvage").write_bytes(b"half a file")
    if step == "filled":
        twin = tmp_path / "twin"
        twin.mkdir()
        shutil.copy(aside, twin / "readings.db")
        set_aside(twin / "readings.db", "readings", Spare())
        (twin / "readings.db").rename(path)
    async with opened(tmp_path) as store:
        assert store.ended_before == "set-aside"
    found = contents(tmp_path)
    assert 700 < len(found.rows) < 1000
    assert not mark_of(path).exists()
    assert not path.with_name("readings.db.salvage").exists()
    asides = [one.name for one in tmp_path.glob("*.aside-*") if not one.name.endswith(("-wal", "-shm"))]
    assert asides == [aside.name]


async def test_two_salvages_in_one_second_keep_both_files(tmp_path: Path) -> None:
    for _ in range(2):
        await filled(tmp_path, 10)
        garbage(tmp_path / "readings.db")
        async with opened(tmp_path) as store:
            assert store.ended_before == "set-aside"
    assert len([one for one in tmp_path.glob("*.aside-*") if not one.name.endswith(("-wal", "-shm"))]) == 2


async def test_what_the_books_hold_survives_a_salvage_and_never_covers_new_records(tmp_path: Path) -> None:
    await filled(tmp_path)
    async with opened(tmp_path) as store:
        state = RouteState("dso", "dso.example", "0" * 16, 3, ((1, store.data.top),))
        store.save_route(store.data, state)
        await committed(store)
    path = tmp_path / "readings.db"
    overwrite(path, pages_of(path) - 4, 4)
    mark_of(path).touch()
    async with opened(tmp_path) as store:
        assert store.ended_before == "set-aside"
        remembered = store.data.file.routes()["dso"]
        assert remembered == state
        assert store.data.epoch.base >= state.held[0][1]


async def test_a_memory_of_confirmations_that_was_changed_is_forgotten(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        store.save_route(store.data, RouteState("dso", "dso.example", "", 3, ((1, 2),)))
    db = sqlite3.connect(tmp_path / "readings.db")
    db.execute("UPDATE route SET held = '[[1, 9]]'")
    db.commit()
    db.close()
    async with opened(tmp_path) as store:
        assert store.data.file.routes() == {}


async def test_rows_whose_manifest_is_lost_everywhere_are_told_as_lost_not_sent(tmp_path: Path) -> None:
    epoch = await filled(tmp_path, 50)
    for name in ("readings.db", "control.db"):
        db = sqlite3.connect(tmp_path / name)
        db.execute("UPDATE manifest SET body = x'00'")
        db.commit()
        db.close()
    mark_of(tmp_path / "readings.db").touch()
    async with opened(tmp_path, manifest(1, 2, points=4)):
        pass
    found = contents(tmp_path)
    assert found.rows == []
    assert told_lost(found, epoch) == set(range(2, 103))


LEARNED = 40
"""The tick at which a life of `learned` changed its manifest in the middle of an epoch."""


async def learned(directory: Path) -> None:
    """Two lives; in each the plan changes: rows have 3 values, then 2, then 4, then 1."""
    for first, (before, after) in ((0, (3, 2)), (100, (4, 1))):
        async with opened(directory, manifest(points=before)) as store:
            for number in range(first, first + LEARNED):
                add(store, 1, at(number), values=before)
            assert store.change_manifest(manifest(points=after), at(first + LEARNED))
            for number in range(first + LEARNED, first + 100):
                add(store, 1, at(number), values=after)
            await committed(store)


def meant(directory: Path) -> dict[int, int]:
    """How many values each row of group 1 has by its manifest, by tick; StoreCorrupt if one does not fit."""
    with Look(directory) as look:
        rows = [look.row(stored) for stored in look.records(*look.edges()) if stored.grp == 1]
    return {row.tick: len(row.group.points) for row in rows}


MEANT = {at(number): (3, 2, 4, 1)[2 * (number >= 100) + (number % 100 >= LEARNED)] for number in range(200)}


def whole(path: Path) -> None:
    """Nothing is wrong with it."""


def without_changes(path: Path) -> None:
    """The records that tell of a change of the manifest are gone, and so is where it was in force."""
    db = sqlite3.connect(path)
    db.execute("DELETE FROM record WHERE grp = -1 AND id NOT IN (SELECT base + 2 FROM epoch)")
    db.execute("DELETE FROM manifest_span WHERE from_id NOT IN (SELECT base + 1 FROM epoch)")
    db.commit()
    db.close()


@pytest.mark.parametrize(
    "damage", [whole, root_of("manifest_span"), root_of("manifest"), root_of("epoch"), without_changes]
)
async def test_rows_behind_a_change_of_the_manifest_are_salvaged_with_their_own(
    tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    await learned(tmp_path)
    damage(tmp_path / "readings.db")
    mark_of(tmp_path / "readings.db").touch()
    async with opened(tmp_path, manifest(points=1)) as store:
        assert store.ended_before == "set-aside"
    assert meant(tmp_path) == MEANT


async def test_change_of_the_manifest_is_found_in_the_records_when_nothing_else_tells_of_it(
    tmp_path: Path,
) -> None:
    await learned(tmp_path)
    garbage(tmp_path / "control.db")
    db = sqlite3.connect(tmp_path / "readings.db")
    db.execute("DELETE FROM manifest_span")
    db.commit()
    db.close()
    mark_of(tmp_path / "readings.db").touch()
    async with opened(tmp_path, manifest(points=1)):
        pass
    assert meant(tmp_path) == MEANT


async def test_killed_life_keeps_its_change_of_the_manifest_beside_the_readings(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        add(store, 1, at(0))
        store.change_manifest(manifest(points=2), at(0))
        add(store, 1, at(1), values=2)
        await committed(store)
        await store.call(store.control, lambda file: None)
        files = await files_of(store)
    put_back(files)
    without_changes(tmp_path / "readings.db")
    mark_of(tmp_path / "readings.db").touch()
    async with opened(tmp_path, manifest(points=2)):
        pass
    assert meant(tmp_path) == {at(0): 3, at(1): 2}


async def test_a_damaged_control_file_does_not_stop_the_readings(tmp_path: Path) -> None:
    await filled(tmp_path, 50)
    garbage(tmp_path / "control.db")
    async with opened(tmp_path) as store:
        assert store.ended_before == "stop"
        add(store, 1, at(60))
    assert len(contents(tmp_path).rows) == 101
    assert list(tmp_path.glob("control.db.aside-*"))


@pytest.mark.parametrize("table", ["meta", "manifest", "epoch"])
async def test_a_damaged_index_of_the_control_file_is_found_beside_damaged_readings(
    tmp_path: Path, table: str
) -> None:
    await filled(tmp_path, 50)
    root_of(f"sqlite_autoindex_{table}_1")(tmp_path / "control.db")
    root_of("record")(tmp_path / "readings.db")
    async with opened(tmp_path) as store:
        assert store.ended_before == "set-aside"
        add(store, 1, at(60))
    assert len(contents(tmp_path).rows) >= 90
    assert list(tmp_path.glob("control.db.aside-*"))


async def test_a_damaged_audit_file_is_set_aside_and_a_new_one_begun(tmp_path: Path) -> None:
    await filled(tmp_path, 5)
    garbage(tmp_path / "audit.db")
    async with opened(tmp_path):
        pass
    assert (tmp_path / "audit.db.damaged-1").read_bytes().startswith(b"no database")
    db = sqlite3.connect(tmp_path / "audit.db")
    entries = db.execute("SELECT kind, body FROM event ORDER BY id").fetchall()
    assert [kind for kind, _ in entries] == ["set-aside", "start", "stop"]
    assert json.loads(entries[0][1]) == {"file": "audit.db", "as": "audit.db.damaged-1"}
    db.close()


async def test_a_lost_file_of_readings_is_noticed_and_its_ticks_lie_in_a_gap(tmp_path: Path) -> None:
    epoch = await filled(tmp_path, 50)
    (tmp_path / "readings.db").unlink()
    async with opened(tmp_path) as store:
        assert store.ended_before == "restored"
        add(store, 1, at(60))
    found = contents(tmp_path)
    assert found.starts()[0]["before"] == [{"epoch": epoch, "last": 0, "control_last": 0, "lost": []}]
    (gap,) = found.gaps(1)
    assert (gap["first_tick"], gap["last_tick"], gap["reason"]) == (at(0), at(59), "store-lost")


async def test_an_empty_file_of_readings_is_a_lost_one(tmp_path: Path) -> None:
    await filled(tmp_path, 5)
    (tmp_path / "readings.db").write_bytes(b"")
    async with opened(tmp_path) as store:
        assert store.ended_before == "restored"


def test_a_file_made_anew_is_told_from_the_one_before_although_its_number_returns(tmp_path: Path) -> None:
    path = tmp_path / "readings.db"
    seen: dict[str, set[str]] = {}
    for _ in range(20):
        file = RecordFile(path, "readings")
        number, _, generation = file.inode.partition(":")
        file.close()
        path.unlink()
        if not generation:
            pytest.skip("the file system here knows no generations of inodes")
        assert generation not in seen.setdefault(number, set())
        seen[number].add(generation)
    if all(len(one) == 1 for one in seen.values()):
        pytest.skip("no number of an inode returned here")


async def test_a_store_of_an_earlier_version_that_noted_the_number_alone_goes_on(tmp_path: Path) -> None:
    await filled(tmp_path, 5)
    with contextlib.closing(sqlite3.connect(tmp_path / "readings.db")) as db:
        number = (tmp_path / "readings.db").stat().st_ino
        db.execute("UPDATE meta SET value = ? WHERE key = 'inode'", (str(number),))
        db.commit()
    async with opened(tmp_path) as store:
        assert store.ended_before == "stop"


@pytest.mark.parametrize("whole", [True, False], ids=["directory", "readings alone"])
async def test_an_older_copy_is_noticed_and_safe(tmp_path: Path, whole: bool) -> None:
    old, now = tmp_path / "old", tmp_path / "now"
    first = await filled(now, 50)
    shutil.copytree(now, old)
    async with opened(now) as store:
        for number in range(50, 80):
            add(store, 1, at(number))
        second = store.epoch
    if whole:
        shutil.rmtree(now)
        shutil.copytree(old, now)
    else:
        shutil.copy(old / "readings.db", now / "readings.db")
    async with opened(now) as store:
        assert store.ended_before == "restored"
        assert store.epoch not in (first, second)
        add(store, 1, at(100))
    found = contents(now)
    (gap,) = found.gaps(1)
    assert (gap["first_tick"], gap["last_tick"], gap["reason"]) == (at(50), at(99), "store-lost")
    assert [epoch for epoch, _ in found.epochs] == [first, store.epoch]


async def test_a_log_that_was_cut_loses_its_end_and_that_is_noticed(tmp_path: Path) -> None:
    async with opened(tmp_path, reserve_bytes=4 << 20) as store:  # nothing is folded back
        for number in range(100):
            add(store, 1, at(number))
            await committed(store)
        await beaten(store)
        files = await files_of(store)
    wal = tmp_path / "readings.db-wal"
    files[wal] = files[wal][: len(files[wal]) // 2]
    put_back(files)
    async with opened(tmp_path) as store:
        assert store.ended_before == "restored"
        last = store.data.writer.ticks[1]
        assert at(10) < last < at(90)
        add(store, 1, at(100))
    found = contents(tmp_path)
    assert covered(found, 1) >= {at(number) for number in range(101)}
    assert found.ticks(1)[:-1] == [at(number) for number in range(len(found.ticks(1)) - 1)]


def hurt(path: Path, rng: random.Random) -> None:
    """Do to a file one of the things that happen to files."""
    content = bytearray(path.read_bytes())
    if not content:
        return
    place = rng.randrange(len(content))
    page = place // PAGE * PAGE
    match rng.choice(["flip", "garbage", "cut", "zeros", "gone", "twice"]):
        case "flip":
            for _ in range(rng.randint(1, 20)):
                content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        case "garbage":
            content[page : page + PAGE] = rng.randbytes(len(content[page : page + PAGE]))
        case "cut":
            del content[place:]
        case "zeros":
            content[place : place + 9000] = bytes(len(content[place : place + 9000]))
        case "gone":
            del content[page : page + PAGE * rng.randint(1, 20)]
        case _:
            content[page:page] = content[page : page + PAGE]
    path.write_bytes(content)


@pytest.mark.parametrize("seed", range(30))
async def test_no_damage_keeps_the_agent_from_starting_or_makes_it_read_what_was_not_written(
    tmp_path: Path, seed: int
) -> None:
    rng = random.Random(seed)
    async with opened(tmp_path) as store:
        for number in range(400):
            add(store, 1, at(number))
            add(store, 2, at(number))
            if number % 100 == 0:
                await committed(store)
        store.save_route(store.data, RouteState("dso", "dso.example", "b", 1, ((1, 300),)))
        await beaten(store)
        first, files = store.epoch, await files_of(store)
    put_back(files)  # killed: much of it is still in the logs
    for _ in range(rng.randint(1, 4)):
        part = tmp_path / rng.choice(["readings.db", "readings.db-wal", "control.db", "audit.db"])
        if part.exists():
            hurt(part, rng)
    for _ in range(3):
        async with opened(tmp_path) as store:
            with contextlib.suppress(StoreCorrupt):
                await noticed(store)
                add(store, 1, at(500))
                await committed(store)
                break
    assert store.fatal_error is None
    found = contents(tmp_path)
    base = dict(found.epochs).get(first)
    end = min([other for epoch, other in found.epochs if epoch != first], default=0)
    for id_, grp, tick in found.rows:
        if base is not None and id_ <= end:
            assert (grp, tick) == ((id_ - 3) % 2 + 1, at((id_ - 3) // 2))
    assert at(500) in found.ticks(1)
