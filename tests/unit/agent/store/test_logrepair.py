"""A write-ahead log that is damaged in its middle: found before SQLite passes over it, and salvaged."""

import contextlib
import random
import shutil
import sqlite3
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.store.connection import connect
from agent.store.logrepair import cut_log, looked_at, mend_log
from agent.store.look import Look
from agent.store.opening import opened_audit
from agent.store.verify import verify
from core.records import Alarm
from tests.unit.agent.store.store_made import (
    add,
    at,
    beaten,
    committed,
    contents,
    files_of,
    opened,
    put_back,
    until,
)

FRAME = 24 + 4096
ROWS = 40


def frame(number: int) -> int:
    """Where a frame begins, from 1 on."""
    return 32 + (number - 1) * FRAME


def frames_in(log: bytes) -> list[tuple[int, int]]:
    """(page, pages of the file after a commit) of each frame with the salts of the log's header."""
    found = []
    for place in range(32, len(log) - FRAME + 1, FRAME):
        page, size, *salts = struct.unpack_from(">4I", log, place)
        if salts != list(struct.unpack_from(">2I", log, 16)):
            break
        found.append((page, size))
    return found


def flip(path: Path, place: int, bit: int = 3) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1 << bit
    path.write_bytes(content)


def garble(path: Path, place: int) -> None:
    """Put something else in the place of 512 bytes, as a sector that was not written."""
    content = bytearray(path.read_bytes())
    content[place : place + 512] = random.Random(place).randbytes(512)
    path.write_bytes(content)


@pytest.fixture
async def killed(tmp_path: Path) -> Path:
    """The directory of a life that was killed, all of it in the logs; each row was a commit."""
    directory = tmp_path / "killed"
    async with opened(directory, reserve_bytes=4 << 20) as store:
        for number in range(ROWS):
            add(store, 1, at(number))
            await committed(store)
        await beaten(store)
        files = await files_of(store)
    put_back(files)
    return directory


def ids_of(directory: Path) -> set[int]:
    """Ids of what SQLite reads in a copy of the readings."""
    copy = directory.with_name("looked-at")
    shutil.copytree(directory, copy)
    found: set[int] = set()
    with (
        contextlib.closing(sqlite3.connect(copy / "readings.db")) as db,
        contextlib.suppress(sqlite3.OperationalError),  # not even the table is there
    ):
        found = {id_ for (id_,) in db.execute("SELECT id FROM record")}
    shutil.rmtree(copy)
    return found


async def salvaged_ids(directory: Path, top: int) -> set[int]:
    """Start over a damaged log; return the ids of the life before that are there, all others being told."""
    async with opened(directory) as store:
        assert store.ended_before == "set-aside"
        add(store, 1, at(ROWS + 1))
    found = contents(directory)
    there = {id_ for id_ in ids_of(directory) if id_ <= top}
    (before,) = found.starts()[-1]["before"]  # type: ignore[misc]
    lost = {seq for first, last in before["lost"] for seq in range(first, last + 1)}
    assert not lost & there
    assert lost | there == set(range(1, before["last"] + 1))
    assert before["last"] >= top
    assert {*found.ticks(1), *found.gap_ticks(1)} >= {at(number) for number in range(ROWS + 2)}
    for id_, _, tick in found.rows:
        assert id_ > top or tick == at(id_ - 3)
    return there


PLACES = [
    ("content of frame 2", lambda many: frame(2) + 2000),
    ("content of frame 9", lambda many: frame(9) + 4000),
    ("content in the middle", lambda many: frame(many // 2) + 1000),
    ("begin of a page in the middle", lambda many: frame(many // 2) + 24),
    ("page number", lambda many: frame(many // 2) + 3),
    ("mark of a commit", lambda many: frame(many // 2) + 7),
    ("salt of a frame", lambda many: frame(many // 2) + 9),
    ("checksum of a frame", lambda many: frame(many // 2) + 17),
    ("magic", lambda many: 2),
    ("version", lambda many: 6),
    ("page size", lambda many: 10),
    ("count of folds", lambda many: 15),
    ("salt", lambda many: 17),
    ("checksum of the header", lambda many: 26),
]


@pytest.mark.parametrize("place", [one[1] for one in PLACES], ids=[one[0] for one in PLACES])
async def test_one_flipped_bit_in_a_log_takes_no_commit_behind_it(
    killed: Path, place: Callable[[int], int], caplog: pytest.LogCaptureFixture
) -> None:
    everything = ids_of(killed)
    log = killed / "readings.db-wal"
    many = len(frames_in(log.read_bytes()))
    flip(log, place(many))
    as_it_was = log.read_bytes()
    assert len(ids_of(killed)) < len(everything), "SQLite passes over it"
    there = await salvaged_ids(killed, max(everything))
    assert len(everything - there) <= 1, "a bit is in one record at most"
    assert [one.levelname for one in caplog.records if "readings.db-wal is damaged" in one.message] == [
        "ERROR"
    ]
    (kept,) = killed.glob("readings.db.aside-*.damaged-wal")
    assert kept.read_bytes() == as_it_was
    async with opened(killed) as store:
        assert store.ended_before == "stop"
    assert len([*killed.glob("readings.db.aside-*.damaged-wal")]) == 1


async def test_verify_says_what_the_next_start_does_and_then_what_was_lost(killed: Path) -> None:
    log = killed / "readings.db-wal"
    content = log.read_bytes()
    many = len(frames_in(content))
    flip(log, frame(many // 2) + 24 + 3000)
    with Look(killed) as look:
        verdict = verify(look)
    (said,) = [one for one in verdict.faults if "readings.db-wal" in one]
    assert f"damaged in its middle: of the {many} frames that were committed SQLite reads " in said
    assert "sets readings.db aside as readings.db.aside-<time> and salvages every record" in said


async def test_lost_sequences_are_not_all_well(killed: Path) -> None:
    log = killed / "readings.db-wal"
    content = log.read_bytes()
    hurt = content.replace(b"1,%d," % at(5), b"1,%d," % at(6))
    assert hurt != content
    log.write_bytes(hurt)  # the row of one tick, in every frame that has it
    await salvaged_ids(killed, 2 + ROWS)
    with Look(killed) as look:
        verdict = verify(look)
    assert verdict.ok
    assert [[*lost] for lost in verdict.lost.values()] == [[(8, 8)]]
    *_, told, conclusion = verdict.sentences()
    assert "sequences 8..8 were not there when a damaged file was salvaged" in told
    assert conclusion.endswith("no faults, 1 sequences told as lost")


async def test_damaged_log_of_the_control_file_is_salvaged(tmp_path: Path) -> None:
    directory = tmp_path / "one"
    async with opened(directory) as store:
        for number in range(10):
            store.append_control(at(number), lambda seq, n=number: Alarm(seq, at(n), "test", True, str(n)))
            await store.call(store.control, lambda file: None)
        files = await files_of(store)
        top = store.control.top
    put_back(files)
    log = directory / "control.db-wal"
    flip(log, frame(len(frames_in(log.read_bytes())) // 2) + 2000)
    with Look(directory) as look:
        assert any("control.db-wal is damaged in its middle" in one for one in verify(look).faults)
    async with opened(directory) as store:
        assert store.control_lost
        alarms: list[tuple[str, str]] = []
        store.on_alarm = lambda code, raised, text: alarms.append((code, text))
        await until(lambda: bool(alarms), "told")
    assert [code for code, _ in alarms] == ["store-set-aside"]
    assert "control.db was damaged" in alarms[0][1]
    assert [*directory.glob("control.db.aside-*.damaged-wal")]
    there = [id_ for id_, record in contents(directory, "control.db").records if record["type"] == "alarm"]
    assert len([id_ for id_ in there if id_ <= top]) == 10


def transactions(path: Path, many: int) -> None:
    """Leave a file whose log holds so many transactions of one frame or more, as a kill leaves it."""
    live = path.with_name("live.db")
    with contextlib.closing(connect(live, checkpoint=1 << 20)) as db:
        db.execute("CREATE TABLE one (id INTEGER PRIMARY KEY, body BLOB)")
        for number in range(many):
            db.execute("INSERT INTO one VALUES (?, ?)", (number, bytes([number % 251]) * 9000))
        shutil.copy(live, path)
        shutil.copy(f"{live}-wal", f"{path}-wal")


def cut_at_start(path: Path) -> tuple[int, int] | None:
    with looked_at(path) as (_, cut):
        found = None if cut is None else (cut.read, cut.frames)
    alone = cut_log(path)
    assert found == (None if alone is None else (alone.read, alone.frames)), "both ways say the same"
    return found


@pytest.mark.parametrize("gone", [1, 100, FRAME - 1, FRAME, FRAME + 1, 3 * FRAME + 7])
def test_torn_end_is_no_damage(tmp_path: Path, gone: int) -> None:
    path, log = tmp_path / "a.db", tmp_path / "a.db-wal"
    transactions(path, 20)
    log.write_bytes(log.read_bytes()[:-gone])
    assert cut_at_start(path) is None


def test_last_transaction_of_which_a_part_is_missing_is_no_damage(tmp_path: Path) -> None:
    """A power cut leaves any part of what was not yet acknowledged, also its end without its begin."""
    path, log = tmp_path / "a.db", tmp_path / "a.db-wal"
    transactions(path, 20)
    sizes = frames_in(log.read_bytes())
    before = max(at for at, (_, size) in enumerate(sizes[:-1], 1) if size)
    whole = log.read_bytes()
    for number in range(before + 1, len(sizes) + 1):
        log.write_bytes(whole)
        garble(log, frame(number) + 2000)
        assert cut_at_start(path) is None
    log.write_bytes(whole)
    garble(log, frame(before) + 2000)
    read = max(at for at, (_, size) in enumerate(sizes[: before - 1], 1) if size)
    assert cut_at_start(path) == (read, len(sizes))


@pytest.mark.parametrize("back", [0, 1, 2])
def test_one_flipped_bit_is_put_right_also_in_the_last_transaction(tmp_path: Path, back: int) -> None:
    path, log = tmp_path / "a.db", tmp_path / "a.db-wal"
    transactions(path, 5)
    as_it_was = log.read_bytes()
    many = len(frames_in(as_it_was))
    for place in (2, 24, 25, 29, 2000, FRAME - 7, 18, 19, *([8, 15] if back else [])):
        for bit in (0, 7):
            log.write_bytes(as_it_was)
            flip(log, frame(many - back) + place, bit)
            found = cut_at_start(path)
            assert found is not None, (place, bit)
            assert found[1] == many
            kept = mend_log(path)
            assert log.read_bytes() == as_it_was[: frame(many + 1)], (place, bit)
            kept.unlink()


def test_high_bit_of_which_nobody_knows_where_it_flipped_is_damage_and_its_frame_left_out(
    tmp_path: Path,
) -> None:
    path, log = tmp_path / "a.db", tmp_path / "a.db-wal"
    transactions(path, 5)
    many = len(frames_in(log.read_bytes()))
    flip(log, frame(many - 1) + 24 + 403, 7)
    found = cut_at_start(path)
    assert found is not None
    assert found[1] == many
    mend_log(path)
    assert len(frames_in(log.read_bytes())) == many - 1


def test_frames_of_an_earlier_log_behind_the_end_are_no_damage(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    live = tmp_path / "live.db"
    with contextlib.closing(connect(live, checkpoint=1 << 20)) as db:
        db.execute("CREATE TABLE one (id INTEGER PRIMARY KEY, body BLOB)")
        for number in range(20):
            db.execute("INSERT INTO one VALUES (?, ?)", (number, bytes(9000)))
        db.execute("PRAGMA wal_checkpoint(RESTART)").fetchall()
        db.execute("INSERT INTO one VALUES (100, 'new')")
        shutil.copy(live, path)
        shutil.copy(f"{live}-wal", f"{path}-wal")
    log = tmp_path / "a.db-wal"
    assert 0 < len(frames_in(log.read_bytes())) < 5 < len(log.read_bytes()) // FRAME
    assert cut_at_start(path) is None


def test_log_of_zeros_is_no_damage(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    transactions(path, 1)
    path.with_name("a.db-wal").write_bytes(bytes(10 * FRAME))
    assert cut_at_start(path) is None


@pytest.mark.parametrize("step", ["nothing done", "half written", "written", "kept", "done"])
def test_mending_that_was_interrupted_goes_on(tmp_path: Path, step: str) -> None:
    path, log = tmp_path / "a.db", tmp_path / "a.db-wal"
    transactions(path, 20)
    garble(log, frame(10) + 2000)
    as_it_was = log.read_bytes()
    mended, kept = tmp_path / "a.db.mended-wal", tmp_path / "a.db.damaged-wal"
    if step == "half written":
        mended.write_bytes(b"half a log")
    elif step != "nothing done":
        mend_log(path)
        if step != "done":
            log.rename(mended)
        if step == "written":
            kept.rename(log)
    assert mend_log(path) == kept
    assert kept.read_bytes() == as_it_was
    assert not mended.exists()
    assert cut_at_start(path) is None
    sizes = frames_in(log.read_bytes())
    assert len(sizes) == len(frames_in(as_it_was)) - 1
    with contextlib.closing(connect(path, readonly=True)) as db, contextlib.suppress(sqlite3.DatabaseError):
        assert db.execute("SELECT max(id) FROM one").fetchone() == (19,)


async def test_damaged_log_of_the_audit_is_set_aside_and_said_so_before(tmp_path: Path) -> None:
    directory = tmp_path / "one"
    async with opened(directory) as store:
        for number in range(20):
            store.audit("test", {"number": number}, at(number))
            await store.call(store.control, lambda file: None)
        parts = [directory / "audit.db", directory / "audit.db-wal"]
        files = {part: part.read_bytes() for part in parts} | await files_of(store)
    put_back(files)
    log = directory / "audit.db-wal"
    flip(log, frame(len(frames_in(log.read_bytes())) // 2) + 2000)
    as_it_was = log.read_bytes()
    with Look(directory) as look:
        (said,) = [one for one in verify(look).faults if "audit.db-wal" in one]
    then = "sets audit.db aside as audit.db.damaged-N and begins a new one, nothing of it is salvaged"
    assert said.endswith(then)
    async with opened(directory):
        pass
    assert (directory / "audit.db.damaged-1-wal").read_bytes() == as_it_was
    with contextlib.closing(sqlite3.connect(directory / "audit.db")) as db:
        assert db.execute("SELECT count(*) FROM event").fetchone()[0] < 20


@pytest.mark.parametrize("step", ["linked", "moved"])
async def test_audit_that_was_set_aside_half_is_never_gone_on_with_without_its_log(
    tmp_path: Path, step: str
) -> None:
    path = tmp_path / "audit.db"
    transactions(path, 20)
    log, aside = tmp_path / "audit.db-wal", tmp_path / "audit.db.damaged-1"
    flip(log, frame(20) + 2000)
    as_it_was = log.read_bytes()
    aside.with_name(aside.name + "-wal").hardlink_to(log)
    if step == "moved":
        path.rename(aside)
    opened_audit(path).close()
    assert aside.with_name(aside.name + "-wal").read_bytes() == as_it_was
    assert aside.exists()
    with contextlib.closing(sqlite3.connect(path)) as db:
        kinds = [kind for (kind,) in db.execute("SELECT kind FROM event")]
    assert kinds == (["set-aside"] if step == "linked" else [])  # moved already: a start began on it before


@pytest.mark.parametrize("seed", range(12))
async def test_after_any_damage_in_the_log_every_record_is_there_or_told(killed: Path, seed: int) -> None:
    rng = random.Random(seed)
    everything = ids_of(killed)
    log = killed / "readings.db-wal"
    many = len(frames_in(log.read_bytes()))
    hurts = rng.randint(1, 5)
    for _ in range(hurts):
        if seed % 2:
            garble(log, rng.randrange(frame(many - 8)))
        else:
            flip(log, rng.randrange(frame(many - 8)), rng.randrange(8))
    there = await salvaged_ids(killed, max(everything))
    if seed % 2 == 0:
        assert len(everything - there) <= hurts
    async with opened(killed) as store:
        assert store.ended_before == "stop"
