"""So often a day each register of a device is written, and no more; putting back is never refused."""

import asyncio
from pathlib import Path

import pytest

from agent.control import wear
from agent.control.course import Judged
from agent.control.life import Control, State
from policies.forms import instant_text
from simulator.pytest_plugin import Premises, Starter
from tests.support.controlrig import DEVICE, Rig, command, crashing, now_ms, rig

pytestmark = [pytest.mark.field, pytest.mark.timeout(60)]
ROOT = Path(__file__).parents[2]


@pytest.fixture
def home(portico_premises: Starter) -> Premises:
    return portico_premises("household")


@pytest.fixture
def types(tmp_path: Path) -> Path:
    """Return a folder in which the relay bears three writes a day."""
    text = (ROOT / "drivers" / "types" / "generic-load-relay.toml").read_text()
    assert "writes_a_day = 10_000" in text
    (tmp_path / "types").mkdir()
    (tmp_path / "types" / "generic-load-relay.toml").write_text(
        text.replace("writes_a_day = 10_000", "writes_a_day = 3")
    )
    return tmp_path / "types"


async def used(gateway: Rig, register: str) -> int:
    store = gateway.store
    return await store.call(store.control, lambda file: wear.used(file.db, DEVICE, [register], now_ms()))


async def test_the_write_that_is_one_too_many_is_refused_and_putting_back_is_not(
    home: Premises, tmp_path: Path, types: Path
) -> None:
    async with rig(home, tmp_path, types=types) as gateway:
        for id_ in ("c-1", "c-2"):
            gateway.send(command(id=id_, duration="1s"))
            await gateway.until("restored", id_)
        assert (await used(gateway, "coil:0"), await used(gateway, "holding:0")) == (4, 2)
    async with rig(home, tmp_path, types=types) as gateway:
        gateway.send(command(id="c-3"))
        assert (await gateway.until("refused", "c-3")).reasons == ["write-budget"]
        assert await gateway.states("c-3") == ["refused"]
        assert gateway.shed() is False


async def test_a_write_counts_before_it_is_made(home: Premises, tmp_path: Path, types: Path) -> None:
    desk, there = crashing(State.DISPATCHED, written=True)
    async with rig(home, tmp_path, types=types, orderly=False, desk_type=desk) as gateway:
        gateway.send(command())
        async with asyncio.timeout(30):
            await there.wait()
        assert (await used(gateway, "coil:0"), await used(gateway, "holding:0")) == (1, 1)


async def test_a_control_that_waited_is_refused_where_the_day_was_used_up_meanwhile(
    home: Premises, tmp_path: Path, types: Path
) -> None:
    async with rig(home, tmp_path, types=types) as gateway:
        store, taker = gateway.store, gateway.commander.taker
        judge = taker.may_begin

        async def used_up(control: Control) -> Judged:
            for _ in range(3):
                await store.call(
                    store.control, lambda file: wear.count(file.db, DEVICE, ["coil:0"], now_ms())
                )
            return await judge(control)

        taker.may_begin = used_up  # type: ignore[method-assign]
        gateway.send(command(start=instant_text(now_ms() + 1_500)))
        assert (await gateway.until("refused")).reasons == ["write-budget"]
        assert await gateway.states() == ["accepted", "refused"]
        assert gateway.shed() is False


async def test_after_the_loss_of_the_journal_the_day_counts_as_used(home: Premises, tmp_path: Path) -> None:
    async with rig(home, tmp_path):
        pass
    for part in tmp_path.glob("control.db*"):
        part.unlink()
    async with rig(home, tmp_path) as gateway:
        gateway.send(command())
        assert (await gateway.until("refused")).reasons == ["write-budget"]
