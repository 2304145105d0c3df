"""Setting a device's own clock: by a command, once, by a clock that is right, and seen to be so."""

import asyncio
import re
from collections.abc import Sequence
from pathlib import Path

import pytest

from agent.clock import Clock
from agent.control.desk import Desk
from agent.control.journal import admit
from agent.control.life import State
from policies.command import Command
from policies.forms import instant_text
from policies.grant import Verb
from simulator.pytest_plugin import Premises, Starter
from tests.support.controlrig import (
    DEVICE,
    POINT,
    Controlled,
    Documents,
    command,
    now_ms,
    rig,
    rulebook,
    signed,
)

pytestmark = [pytest.mark.field, pytest.mark.timeout(60)]
TYPES = Path(__file__).parents[2] / "simulator" / "types"
METER = "clock-meter"
CLOCK = Controlled(METER, "simulator-clock", "Clock", "set-clock", {})
SINCE_2000_S = 946_684_800
SCENARIO = """
name = "clock"
[[premises]]
name = "home"
[[premises.device]]
name = "clock-meter"
type = "simulator-clock"
"""


@pytest.fixture
def home(portico_premises: Starter) -> Premises:
    return portico_premises(SCENARIO)


@pytest.fixture
def documents() -> Documents:
    return Documents(rulebook(CLOCK))


def setting(**changed: object) -> Command:
    plain = {"device": METER, "point": "Clock", "verb": Verb.SET_CLOCK, "value": None, "duration": None}
    return command(**{**plain, **changed})


def off_s(home: Premises) -> float:
    """Return by how many seconds the meter's clock is ahead."""
    return float(home.values(METER)["Clock"]) + SINCE_2000_S - now_ms() / 1000


def settings(home: Premises) -> int:
    return sum(one["point"] == "Clock" and one["cause"] == "write" for one in home.log("write"))


async def test_a_clock_that_is_off_is_set_once_and_read_back(
    home: Premises, tmp_path: Path, documents: Documents
) -> None:
    home.fault(METER, "clock-drift", by=-90)
    assert off_s(home) < -80
    async with rig(home, tmp_path, documents, device=METER, types=TYPES) as gateway:
        gateway.send(setting())
        told = await gateway.until("done")
        assert told.reasons == []
        assert re.search(r"it was -(89|90)\.\d s off", told.text)
        assert await gateway.states() == ["accepted", "dispatched", "done"]
        assert abs(off_s(home)) < 3
        assert settings(home) == 1
        raw = signed(setting())
        gateway.send(raw)
        await gateway.told_so_often(4)
    assert settings(home) == 1


@pytest.mark.parametrize("state", ["holdover", "unsure"])
async def test_a_gateway_whose_own_clock_is_not_synchronised_sets_none(
    home: Premises, tmp_path: Path, documents: Documents, state: str
) -> None:
    class Other(Clock):
        def state(self) -> str:
            return state

    async with rig(home, tmp_path, documents, device=METER, types=TYPES, clock=Other()) as gateway:
        gateway.send(setting())
        assert "clock-unsure" in (await gateway.until("refused")).reasons
    assert settings(home) == 0


async def test_a_clock_that_ceases_to_be_synchronised_before_the_write_writes_nothing(
    home: Premises, tmp_path: Path, documents: Documents
) -> None:
    class Ceasing(Clock):
        ceased = False

        def state(self) -> str:
            return "unsure" if self.ceased else "synchronised"

    clock = Ceasing()
    async with rig(home, tmp_path, documents, device=METER, types=TYPES, clock=clock) as gateway:
        setter = gateway.commander.taker

        async def cease(*arguments: object) -> str:
            clock.ceased = True
            return ""

        setter._setting.unfit = cease  # type: ignore[method-assign]
        gateway.send(setting())
        assert (await gateway.until("refused")).reasons == ["clock-unsure"]
        assert "dispatched" not in await gateway.states()
    assert settings(home) == 0


async def test_a_clock_that_cannot_be_read_is_not_set(
    home: Premises, tmp_path: Path, documents: Documents
) -> None:
    home.fault(METER, "silent")
    async with rig(home, tmp_path, documents, device=METER, types=TYPES) as gateway:
        gateway.send(setting())
        assert (await gateway.until("refused")).reasons == ["timeout"]
        assert await gateway.states() == ["accepted", "refused"]


async def test_a_meter_that_refuses_to_be_set_is_told_and_not_asked_again(
    portico_premises: Starter, tmp_path: Path, documents: Documents
) -> None:
    text = (TYPES / "simulator-clock.toml").read_text()
    assert text.count(', set = "registers"') == 1
    (tmp_path / "plant").mkdir()
    (tmp_path / "plant" / "simulator-clock.toml").write_text(text.replace(', set = "registers"', ""))
    home = portico_premises(SCENARIO, "--types", str(tmp_path / "plant"))
    async with rig(home, tmp_path, documents, device=METER, types=TYPES) as gateway:
        gateway.send(setting())
        assert (await gateway.until("done")).reasons == ["exception-2"]
        assert (await gateway.until("failed")).reasons == ["exception-2"]
        assert await gateway.states() == ["accepted", "dispatched", "failed", "done"]
    assert settings(home) == 0


async def test_where_there_is_no_clock_none_is_set(portico_premises: Starter, tmp_path: Path) -> None:
    home = portico_premises("household")
    relay = Controlled(verb="set-clock", limits={})
    async with rig(home, tmp_path, Documents(rulebook(relay))) as gateway:
        gateway.send(setting(device=DEVICE, point=POINT))
        assert (await gateway.until("refused")).reasons == ["no-clock"]


async def test_a_clock_is_set_now_or_not_at_all(home: Premises, tmp_path: Path, documents: Documents) -> None:
    async with rig(home, tmp_path, documents, device=METER, types=TYPES) as gateway:
        gateway.send(setting(start=instant_text(now_ms() + 20_000)))
        assert (await gateway.until("refused")).reasons == ["incomplete"]


async def test_a_crash_between_the_journal_and_the_write_is_told_and_the_write_not_made_up_for(
    home: Premises, tmp_path: Path, documents: Documents
) -> None:
    there = asyncio.Event()

    class Crashing(Desk):
        async def answer(
            self, command: Command, state: State, code: str = "", text: str = "", writes: Sequence[str] = ()
        ) -> None:
            if not there.is_set():
                await super().answer(command, state, code, text, writes)
            if state is State.DISPATCHED or there.is_set():
                there.set()
                await asyncio.Event().wait()  # who is dead writes nothing any more, whatever its line says

    raw = signed(setting())
    async with rig(
        home, tmp_path, documents, device=METER, types=TYPES, orderly=False, desk_type=Crashing
    ) as gateway:
        gateway.send(raw)
        async with asyncio.timeout(30):
            await there.wait()
    async with rig(home, tmp_path, documents, device=METER, types=TYPES) as gateway:
        assert (await gateway.until("failed")).reasons == ["restarted"]
        assert (await gateway.until("done")).reasons == ["restarted"]
        gateway.send(raw)
        await gateway.told_so_often(3)
        assert "replayed" in (await gateway.outcomes())[-1].reasons
    assert settings(home) == 0


async def test_a_command_that_was_taken_and_not_decided_is_refused_by_the_next_life(
    home: Premises, tmp_path: Path, documents: Documents
) -> None:
    one = setting()
    async with rig(home, tmp_path, documents, device=METER, types=TYPES) as gateway:
        store = gateway.store
        await store.call(store.control, lambda file: admit(file.db, one, "digest", b"", now_ms(), 0))
    async with rig(home, tmp_path, documents, device=METER, types=TYPES) as gateway:
        assert (await gateway.until("refused")).reasons == ["restarted"]
