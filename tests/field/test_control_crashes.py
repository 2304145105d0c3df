"""The agent gone at every step of a control, before and after it is written down: the device is put back.

The plant is a process of its own, and goes on.  A step that is written down and not yet done, or done and
not yet told, is found by the next life: the value is written at most once, the default until it shows.
"""

import asyncio
from pathlib import Path

import pytest

from agent.control.life import State
from simulator.pytest_plugin import Premises, Starter
from tests.support.controlrig import DEVICE, command, crashing, rig

pytestmark = [pytest.mark.field, pytest.mark.timeout(60)]


@pytest.fixture
def home(portico_premises: Starter) -> Premises:
    return portico_premises("household")


@pytest.mark.parametrize("written", [False, True], ids=["before", "after"])
@pytest.mark.parametrize(
    "at", [State.DISPATCHED, State.CONFIRMED, State.RESTORING, State.RESTORED], ids=lambda one: one.value
)
async def test_a_crash_at_a_step_leaves_nothing_shed(
    home: Premises, tmp_path: Path, at: State, written: bool
) -> None:
    desk, there = crashing(at, written=written)
    async with rig(home, tmp_path, orderly=False, desk_type=desk) as gateway:
        gateway.send(command(duration="1s"))
        async with asyncio.timeout(30):
            await there.wait()
    # Before it was written: its time is over when the next life begins, and it never began.
    never = at is State.DISPATCHED and not written
    async with rig(home, tmp_path) as gateway:
        await gateway.until("cancelled" if never else "restored")
        home.until(lambda: home.values(DEVICE)["LoadState"] in (0, False), "the load has its supply again")
        assert orders(home) <= 1


def orders(home: Premises) -> int:
    """Return how often the relay opened its contactor."""
    return int(home.values(DEVICE)["Cycles"])


async def test_a_crash_in_the_middle_of_a_long_control_does_not_write_it_again(
    home: Premises, tmp_path: Path
) -> None:
    desk, there = crashing(State.CONFIRMED, written=False)
    async with rig(home, tmp_path, orderly=False, desk_type=desk) as gateway:
        gateway.send(command(duration="60s"))
        async with asyncio.timeout(30):
            await there.wait()
    async with rig(home, tmp_path) as gateway:
        assert (await gateway.until("confirmed")).reasons == ["goes-on"]
        assert orders(home) == 1
        assert gateway.shed() is True


async def test_a_silent_device_is_put_back_over_many_restarts(home: Premises, tmp_path: Path) -> None:
    async with rig(home, tmp_path, orderly=False) as gateway:
        gateway.send(command(duration="60s"))
        await gateway.until("confirmed")
    home.fault(DEVICE, "silent")
    for _ in range(3):
        async with rig(home, tmp_path, orderly=False) as gateway:
            await gateway.until("restoring")
    home.clear(DEVICE)
    async with rig(home, tmp_path) as gateway:
        await gateway.until("restored")
        assert gateway.shed() is False


@pytest.mark.parametrize("written", [False, True], ids=["before", "after"])
async def test_a_crash_while_a_control_takes_over_leaves_the_device_to_one_of_both(
    home: Premises, tmp_path: Path, written: bool
) -> None:
    desk, there = crashing(State.SUPERSEDED, written=written)
    async with rig(home, tmp_path, orderly=False, desk_type=desk) as gateway:
        gateway.send(command(duration="8s"))
        await gateway.until("confirmed")
        gateway.send(command(id="c-2", duration="6s"))
        async with asyncio.timeout(30):
            await there.wait()
    async with rig(home, tmp_path) as gateway:
        await gateway.until("restored", "c-2" if written else "c-1")
        home.until(lambda: home.values(DEVICE)["LoadState"] in (0, False), "the load has its supply again")
        assert orders(home) == 1
