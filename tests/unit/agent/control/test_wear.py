"""How often a register was written today: counted by register and day, whatever the clock does."""

import sqlite3

import pytest

from agent.control import wear
from agent.store.schema import WEAR_TABLES

DAY = 86_400_000
NOON = 20_000 * DAY + DAY // 2


@pytest.fixture
def db() -> sqlite3.Connection:
    made = sqlite3.connect(":memory:", isolation_level=None)
    for statement in WEAR_TABLES:
        made.execute(statement)
    return made


def test_the_register_that_was_written_most_counts(db: sqlite3.Connection) -> None:
    wear.count(db, "relay", ["coil:0", "holding:8"], NOON)
    wear.count(db, "relay", ["holding:8"], NOON)
    assert wear.used(db, "relay", ["coil:0"], NOON) == 1
    assert wear.used(db, "relay", ["coil:0", "holding:8"], NOON) == 2
    assert wear.used(db, "relay", ["coil:1"], NOON) == 0
    assert wear.used(db, "other", ["holding:8"], NOON) == 0


def test_another_day_begins_anew(db: sqlite3.Connection) -> None:
    wear.count(db, "relay", ["coil:0"], NOON)
    assert wear.used(db, "relay", ["coil:0"], NOON + DAY) == 0
    wear.count(db, "relay", ["coil:0"], NOON + DAY)
    assert wear.used(db, "relay", ["coil:0"], NOON + DAY) == 1


def test_a_clock_that_is_set_back_gives_no_new_day(db: sqlite3.Connection) -> None:
    for _ in range(3):
        wear.count(db, "relay", ["coil:0"], NOON)
    wear.count(db, "relay", ["coil:0"], NOON - DAY)
    assert wear.used(db, "relay", ["coil:0"], NOON - DAY) == 4
    assert wear.used(db, "relay", ["coil:0"], NOON) == 4


def test_no_more_than_the_most_is_taken(db: sqlite3.Connection) -> None:
    assert [wear.take(db, "relay", ["coil:0"], 2, NOON) for _ in range(3)] == [True, True, False]
    assert wear.used(db, "relay", ["coil:0"], NOON) == 2
