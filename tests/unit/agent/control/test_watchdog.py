"""What a watchdog held before: shared by the controls of one register, put back by the last of them."""

import sqlite3
from dataclasses import replace
from decimal import Decimal

import pytest

from agent.control import journal
from agent.control.life import Control, State
from agent.control.watchdog import Kept, kept
from agent.store.schema import MIGRATIONS
from tests.support.controlrig import command

REGISTER = "holding:8"
FIRST = Control(
    "esco1", "c-1", "relay", "K1", "shed", "shed", 1, 100, "always", Decimal(1), None, "watchdog",
    "restore", 900, "any_time", 1000, 2000, State.ACCEPTED, 900,
)  # fmt: skip
SECOND = replace(FIRST, id="c-2", point="K2")


@pytest.fixture
def db() -> sqlite3.Connection:
    made = sqlite3.connect(":memory:", isolation_level=None)
    for step in MIGRATIONS["control"]:
        for statement in step:
            made.execute(statement)
    return made


def dispatched(db: sqlite3.Connection, control: Control, before: int | None) -> Control:
    assert journal.accept(db, command(id=control.id), control, ())
    journal.note_watchdog(db, control, REGISTER, before)
    return journal.step(db, control, State.DISPATCHED, 1000)


def restoring(db: sqlite3.Connection, control: Control) -> Control:
    return journal.step(db, control, State.RESTORING, 2000)


def test_the_last_control_of_a_register_puts_back_what_it_held_before_the_first(
    db: sqlite3.Connection,
) -> None:
    first, second = dispatched(db, FIRST, 15), dispatched(db, SECOND, 60)
    first = restoring(db, first)
    assert kept(db, first, REGISTER) == Kept(15, shared=True)
    journal.step(db, first, State.RESTORED, 2001)
    assert kept(db, restoring(db, second), REGISTER) == Kept(15, shared=False)


def test_two_that_are_put_back_at_once_do_not_leave_it_to_each_other(db: sqlite3.Connection) -> None:
    first, second = dispatched(db, FIRST, 15), dispatched(db, SECOND, 60)
    first, second = restoring(db, first), restoring(db, second)
    assert kept(db, first, REGISTER) == kept(db, second, REGISTER) == Kept(15, shared=False)


def test_after_a_loss_of_the_journal_nobody_knows_what_it_held(db: sqlite3.Connection) -> None:
    first = dispatched(db, FIRST, 15)
    journal.begin(db, 3000, lost=True)
    assert kept(db, first, REGISTER) == Kept(None, shared=False)
