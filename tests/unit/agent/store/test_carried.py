"""The journal of controls over a salvage: carried whole, or lost and said to be, and never something else."""

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from agent import changes, learnednote
from agent.control import journal
from agent.policy import note as policynote
from agent.store.carried import CARRIED_NOTES, CARRIED_PREFIX, LOST, journal_tables
from tests.unit.agent.store.store_made import opened
from tests.unit.agent.store.test_damage import PAGE, garbage, overwrite, pages_of, root_of

COMMANDS = 300
"""Several pages of them."""

Rows = dict[str, list[tuple[object, ...]]]


def filled_journal(path: Path) -> None:
    """Write into a file that nobody has open what a gateway with some controls would have there."""
    control = ("esco1", "c-7", "wh-01", "LoadShed", "shed", "shed", 1, 100, "always", "1", "0", "timer")
    control += ("restore", 900, "any_time", 1000, 2000, "confirmed", 1500, "", 0, 0, 0)
    with closing(sqlite3.connect(path)) as db, db:
        for number in range(COMMANDS):
            row = ("esco1", f"c-{number:04}", "00" * 32, 9000 + number, "restored", "ended", number)
            db.execute("INSERT INTO command VALUES (?,?,?,?,?,?,?,?,?,?)", (*row, "wh-01", "P", b"x" * 100))
        db.execute(f"INSERT INTO control VALUES ({','.join('?' * len(control))})", control)
        db.execute("INSERT INTO last_issued VALUES ('esco1', 'wh-01', 'LoadShed', 77)")
        db.execute("INSERT INTO budget VALUES ('shed', 'wh-01', 'day', '2026-11-22', 2, 7200)")
        db.execute("INSERT INTO written VALUES ('wh-01', 'LoadShed', 1500)")
        db.execute("INSERT INTO wear VALUES ('wh-01', 'holding 0', 20000, 3)")
        db.execute("INSERT INTO armed VALUES ('esco1', 'c-7', 'wh-01', 'holding:257', 15000)")
        db.execute("INSERT INTO meta VALUES ('control-born', '55')")
        db.execute("INSERT INTO meta VALUES ('was-keys', 'AAAA')")


def rows(path: Path) -> Rows:
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
        return {
            table: db.execute(f"SELECT * FROM {table} ORDER BY 1, 2").fetchall()
            for table in journal_tables(db)
        }


def born(path: Path) -> str | None:
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
        row = db.execute("SELECT value FROM meta WHERE key = ?", (journal.BORN,)).fetchone()
    return row and row[0]


async def lost(directory: Path) -> bool:
    async with opened(directory) as store:
        return store.control_lost


@pytest.fixture
async def directory(tmp_path: Path) -> Path:
    """A store whose journal is full, and which ended in order."""
    async with opened(tmp_path / "one"):
        pass
    filled_journal(tmp_path / "one" / "control.db")
    return tmp_path / "one"


@pytest.fixture
def control(directory: Path) -> Path:
    return directory / "control.db"


async def test_a_journal_beside_the_damage_is_carried_whole_and_not_lost(
    directory: Path, control: Path
) -> None:
    before = rows(control)
    assert {table for table in before if before[table]} == {*before}
    root_of("record")(control)
    assert await lost(directory) is False
    assert list(directory.glob("control.db.aside-*"))
    assert rows(control) == before
    assert born(control) == "55"


@pytest.mark.parametrize("table", ["command", "control", "last_issued", "budget", "written", "wear", "armed"])
async def test_a_damaged_table_is_found_at_the_start_and_the_others_are_carried(
    directory: Path, control: Path, table: str
) -> None:
    before = rows(control)
    root_of(table)(control)
    assert await lost(directory) is True
    after = rows(control)
    assert after.pop(table) == []
    before.pop(table)
    assert after == before


async def test_a_damaged_table_of_notes_loses_the_journal_and_carries_its_rows(
    directory: Path, control: Path
) -> None:
    before = rows(control)
    root_of("meta")(control)
    assert await lost(directory) is True
    assert rows(control) == before


async def test_of_a_table_with_a_hole_both_ends_are_carried(directory: Path, control: Path) -> None:
    before = rows(control)["command"]
    middle = b"c-%04d" % (COMMANDS // 2)
    overwrite(control, control.read_bytes().index(middle) // PAGE)
    assert await lost(directory) is True
    after = rows(control)["command"]
    assert after[0] == before[0]
    assert after[-1] == before[-1]
    assert 0 < len(before) - len(after) < 100
    assert set(after) < set(before)


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE control SET state = 'flying'",
        "UPDATE control SET value = 'full'",
        "UPDATE control SET value = 'NaN'",
        "UPDATE control SET restore_to = ''",
        "UPDATE control SET end_ms = 900",
        "UPDATE command SET state = 'flying' WHERE id = 'c-0009'",
        "UPDATE budget SET seconds = -1",
        "UPDATE last_issued SET issued_ms = -77",
        "UPDATE command SET device = CAST(x'ff' AS TEXT) WHERE id = 'c-0009'",
    ],
)
async def test_a_row_that_cannot_be_is_left_out_and_the_journal_counts_as_lost(
    directory: Path, control: Path, change: str
) -> None:
    before = rows(control)
    with closing(sqlite3.connect(control)) as db, db:
        assert db.execute(change).rowcount == 1
    root_of("record")(control)
    assert await lost(directory) is True
    after = rows(control)
    assert sum(map(len, before.values())) - sum(map(len, after.values())) == 1
    assert all(set(after[table]) <= set(before[table]) for table in before)


async def test_a_loss_stays_known_until_it_was_dealt_with(directory: Path, control: Path) -> None:
    root_of("control")(control)
    assert [await lost(directory), await lost(directory)] == [True, True]
    async with opened(directory) as store:
        await store.call(store.control, lambda file: journal.dealt_with(file.db))
    assert await lost(directory) is False


async def test_a_second_damage_before_it_was_dealt_with_does_not_hide_the_first(
    directory: Path, control: Path
) -> None:
    root_of("control")(control)
    assert await lost(directory) is True
    root_of("record")(control)
    assert await lost(directory) is True


async def test_a_control_file_that_is_gone_is_a_lost_journal_and_a_first_start_is_none(
    directory: Path, tmp_path: Path
) -> None:
    assert await lost(tmp_path / "first") is False
    for part in directory.glob("control.db*"):
        part.unlink()
    assert [await lost(directory), await lost(directory)] == [True, True]


async def test_a_file_of_no_use_at_all_is_a_lost_journal(directory: Path, control: Path) -> None:
    garbage(control)
    assert await lost(directory) is True
    assert not any(rows(control).values())


async def test_whatever_page_is_damaged_the_journal_is_whole_or_said_to_be_lost(
    directory: Path, control: Path, tmp_path: Path
) -> None:
    before = rows(control)
    verdicts = []
    for number in range(pages_of(control)):
        copy = tmp_path / f"page-{number}"
        shutil.copytree(directory, copy)
        overwrite(copy / "control.db", number)
        verdicts.append(await lost(copy))
        after = rows(copy / "control.db")
        if not verdicts[-1]:
            assert after == before, f"page {number + 1}"
            assert born(copy / "control.db") == "55", f"page {number + 1}"
        assert all(set(after[table]) <= set(before[table]) for table in before), f"page {number + 1}"
    assert {True, False} == set(verdicts)


def test_the_notes_carried_are_those_of_their_parts() -> None:
    assert (journal.BORN, policynote.KEY, learnednote.KEY) == CARRIED_NOTES
    assert changes.NOTE == CARRIED_PREFIX
    assert LOST not in CARRIED_NOTES


def test_every_table_of_the_journal_is_filled_here(directory: Path, control: Path) -> None:
    assert all(rows(control).values())
