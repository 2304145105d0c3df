"""Controls over a damaged control file: what was saved goes on, and what was not is never believed."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from agent.store.carried import LOST
from simulator.pytest_plugin import Premises, Starter
from tests.support.controlrig import DEVICE, Documents, command, now_ms, rig, rulebook, signed, text

pytestmark = [pytest.mark.field, pytest.mark.timeout(90)]
PAGE = 4096


@pytest.fixture
def home(portico_premises: Starter) -> Premises:
    return portico_premises("household")


def damage(directory: Path, table: str) -> None:
    """Overwrite the page at which a table of the control file begins; nobody has it open."""
    path = directory / "control.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        (page,) = db.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", (table,)).fetchone()
    with path.open("r+b") as file:
        file.seek((page - 1) * PAGE)
        file.write(b"\xa5" * PAGE)


async def test_beside_the_damage_a_control_goes_on_and_its_command_and_budget_are_known(
    home: Premises, tmp_path: Path
) -> None:
    raw = signed(command())
    documents = Documents(rulebook(budget={"count_day": 1}))
    async with rig(home, tmp_path, documents, orderly=False) as gateway:
        gateway.send(raw)
        await gateway.until("confirmed")
    damage(tmp_path, "record")
    async with rig(home, tmp_path, documents) as gateway:
        assert not gateway.store.control_lost
        assert list(tmp_path.glob("control.db.aside-*"))
        assert (await gateway.until("confirmed")).text == "told after a start"
        gateway.send(raw)
        await gateway.told_so_often(2)
        assert "replayed" in (await gateway.outcomes())[-1].reasons
        gateway.send(command(id="c-2"))
        assert "budget" in (await gateway.until("refused", "c-2")).reasons
        assert gateway.shed() is True
        assert gateway.alarms.keys() == set()


async def test_when_a_part_of_the_journal_is_lost_what_was_saved_is_put_back_and_nothing_older_is_taken(
    home: Premises, tmp_path: Path
) -> None:
    late = signed(command(id="c-2"))
    async with rig(home, tmp_path, orderly=False) as gateway:
        gateway.send(command())
        await gateway.until("confirmed")
    damage(tmp_path, "budget")
    documents = Documents(rulebook(budget={"count_day": 5}))
    async with rig(home, tmp_path, documents) as gateway:
        assert gateway.store.control_lost
        assert (await gateway.until("restoring")).reasons == ["restarted"]
        await gateway.until("restored")
        assert gateway.shed() is False
        gateway.send(late)
        assert (await gateway.until("refused", "c-2")).reasons == ["journal-lost"]
        gateway.send(command(id="c-3"))
        assert "budget" in (await gateway.until("refused", "c-3")).reasons
        assert ("control-unknown", DEVICE) not in gateway.alarms


async def test_a_control_that_waited_does_not_begin_after_a_loss(home: Premises, tmp_path: Path) -> None:
    async with rig(home, tmp_path, orderly=False) as gateway:
        gateway.send(command(start=text(now_ms() + 30_000)))
        await gateway.until("accepted")
    damage(tmp_path, "written")
    async with rig(home, tmp_path) as gateway:
        assert (await gateway.until("cancelled")).reasons == ["journal-lost"]


async def test_without_the_table_of_controls_every_point_is_read_and_alarmed(
    home: Premises, tmp_path: Path
) -> None:
    async with rig(home, tmp_path, orderly=False) as gateway:
        gateway.send(command())
        await gateway.until("confirmed")
    damage(tmp_path, "control")
    async with rig(home, tmp_path) as gateway:
        while await gateway.store.call(gateway.store.control, lambda file: file.meta(LOST)) is not None:
            pass  # each round waits for the writer; the test has its own deadline
        assert "find out who ordered it" in gateway.alarms["control-unknown", DEVICE]
    async with rig(home, tmp_path) as gateway:
        assert not gateway.store.control_lost
