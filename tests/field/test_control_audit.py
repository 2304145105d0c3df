"""While the audit cannot be written nothing new is done, and what runs is still cancelled and put back."""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from policies.grant import Verb
from simulator.pytest_plugin import Premises, Starter
from tests.support.controlrig import Rig, command, rig

pytestmark = [pytest.mark.field, pytest.mark.timeout(60)]


@pytest.fixture
def home(portico_premises: Starter) -> Premises:
    return portico_premises("household")


@contextmanager
def unwritable(path: Path) -> Iterator[None]:
    """Keep the file locked, as a disk that takes nothing does."""
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("BEGIN IMMEDIATE")
        try:
            yield
        finally:
            db.execute("ROLLBACK")


async def impatient(gateway: Rig) -> None:
    """Let the gateway find at once that the audit is locked."""
    store = gateway.store
    await store.call(store.control, lambda _: store.audit_file._db.execute("PRAGMA busy_timeout = 10"))


def entries(path: Path, kind: str) -> list[dict[str, object]]:
    with closing(sqlite3.connect(path)) as db:
        found = db.execute("SELECT body FROM event WHERE kind = ? ORDER BY id", (kind,)).fetchall()
    return [json.loads(body) for (body,) in found]


async def test_without_the_audit_a_command_is_refused_and_what_runs_is_cancelled_and_put_back(
    home: Premises, tmp_path: Path
) -> None:
    audit = tmp_path / "audit.db"
    async with rig(home, tmp_path) as gateway:
        await impatient(gateway)
        gateway.send(command())
        await gateway.until("confirmed")
        with unwritable(audit):
            gateway.send(command(id="c-2"))
            assert (await gateway.until("refused", "c-2")).reasons == ["audit-unavailable"]
            assert await gateway.states("c-2") == ["refused"]
            assert gateway.shed() is True
            gateway.send(command(id="end", verb=Verb.CANCEL, value=None, duration=None, cancels="c-1"))
            await gateway.until("restored")
            assert gateway.shed() is False
        gateway.send(command(id="c-3", duration="1s"))
        await gateway.until("restored", "c-3")
    told = [(one["command"], one["allowed"]) for one in entries(audit, "decision")]
    assert told == [("c-1", True), ("end", True), ("c-3", True)]
    assert [one["command"] for one in entries(audit, "refusal")] == ["c-2"]
    assert [one["state"] for one in entries(audit, "control") if one["command"] == "c-1"] == [
        "dispatched",
        "confirmed",
        "restoring",
        "restored",
    ]
