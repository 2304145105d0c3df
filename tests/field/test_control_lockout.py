"""A charger with a lock at its own terminals: whoever has locked it there is stronger than any command.

The simulated charger takes orders while it is locked, as a real one may: so what is not written shows.
"""

import asyncio
from pathlib import Path

import pytest

from agent.control.course import Judged
from agent.control.life import Control, State
from policies.command import Command
from policies.forms import instant_text
from policies.grant import Verb
from simulator.pytest_plugin import Premises, Starter
from tests.support.controlrig import (
    CHARGER,
    LIMIT,
    WALLBOX,
    Documents,
    command,
    crashing,
    now_ms,
    rig,
    rulebook,
)

pytestmark = [pytest.mark.field, pytest.mark.timeout(60)]


@pytest.fixture
def home(portico_premises: Starter) -> Premises:
    return portico_premises(WALLBOX)


@pytest.fixture
def documents() -> Documents:
    return Documents(rulebook(LIMIT))


def limiting(**changed: object) -> Command:
    return command(**{"device": CHARGER, "point": "ALimit", "verb": Verb.LIMIT, "value": "6", **changed})


def written(home: Premises) -> list[float]:
    """Return what the charger was ordered by way of its registers, in order."""
    return [one["value"] for one in home.log("write") if one["point"] == "ALimit" and one["cause"] == "write"]


async def test_a_command_to_a_device_that_is_locked_is_refused_and_nothing_is_written(
    home: Premises, tmp_path: Path, documents: Documents
) -> None:
    home.set(CHARGER, "Unlocked", 0)
    async with rig(home, tmp_path, documents, device=CHARGER) as gateway:
        gateway.send(limiting())
        assert "locked-out" in (await gateway.until("refused")).reasons
        home.set(CHARGER, "Unlocked", 1)
        gateway.send(limiting(id="c-2", value="7"))
        await gateway.until("unverified", "c-2")
        assert written(home) == [7]


async def test_a_lock_that_cannot_be_read_counts_as_locked(
    home: Premises, tmp_path: Path, documents: Documents
) -> None:
    home.fault(CHARGER, "silent")
    async with rig(home, tmp_path, documents, device=CHARGER) as gateway:
        gateway.send(limiting())
        assert "locked-out" in (await gateway.until("refused")).reasons
    assert written(home) == []


async def test_the_lock_is_read_again_right_before_the_write(
    home: Premises, tmp_path: Path, documents: Documents
) -> None:
    async with rig(home, tmp_path, documents, device=CHARGER) as gateway:
        taker = gateway.commander.taker

        async def locked_meanwhile(control: Control) -> Judged:
            home.set(CHARGER, "Unlocked", 0)
            return Judged()

        taker.may_begin = locked_meanwhile  # type: ignore[method-assign]
        gateway.send(limiting(start=instant_text(now_ms() + 1_500)))
        assert (await gateway.until("refused")).reasons == ["locked-out"]
        assert await gateway.states() == ["accepted", "refused"]
        assert written(home) == []


async def test_a_lock_that_is_set_while_a_control_runs_puts_the_device_back_at_once(
    home: Premises, tmp_path: Path, documents: Documents
) -> None:
    async with rig(home, tmp_path, documents, device=CHARGER) as gateway:
        gateway.send(limiting())
        await gateway.until("unverified")
        home.set(CHARGER, "Unlocked", 0)
        assert (await gateway.until("restoring", seconds=5)).reasons == ["locked-out"]
        await gateway.until("restored")
        assert written(home) == [6, 16]


async def test_a_lock_that_was_set_while_the_agent_was_gone_is_seen_at_its_start(
    home: Premises, tmp_path: Path, documents: Documents
) -> None:
    async with rig(home, tmp_path, documents, device=CHARGER, orderly=False) as gateway:
        gateway.send(limiting())
        await gateway.until("unverified")
    home.set(CHARGER, "Unlocked", 0)
    async with rig(home, tmp_path, documents, device=CHARGER) as gateway:
        assert (await gateway.until("restoring")).reasons == ["locked-out"]
        await gateway.until("restored")


async def test_a_crash_between_the_lock_and_the_write_leaves_nothing_ordered(
    home: Premises, tmp_path: Path, documents: Documents
) -> None:
    desk, there = crashing(State.DISPATCHED, written=True)
    async with rig(home, tmp_path, documents, device=CHARGER, orderly=False, desk_type=desk) as gateway:
        gateway.send(limiting())
        async with asyncio.timeout(30):
            await there.wait()
    assert written(home) == []
    async with rig(home, tmp_path, documents, device=CHARGER) as gateway:
        await gateway.until("restored")
        assert written(home) == [16]
