"""A device's own hold that is shorter than the control: fed while it runs, not beyond it, told when lost.

Types are those that ship, with a shorter hold; the plant's log tells whether the device fell back by itself
(`cause` is ``hold``).
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest

from agent.control.actuator import Actuator
from agent.control.desk import Desk
from core.errors import NoAnswer
from drivers.modbus.link import ControlLink
from policies.command import Command
from policies.grant import Verb
from simulator.pytest_plugin import Premises, Starter
from tests.support.controlrig import (
    CHARGER,
    DEVICE,
    LIMIT,
    WALLBOX,
    Controlled,
    Documents,
    Rig,
    command,
    rig,
    rulebook,
)

pytestmark = [pytest.mark.field, pytest.mark.timeout(60)]
SHIPPED = Path(__file__).parents[2] / "drivers" / "types"
Changed = Callable[..., Path]

WATCHDOG = {"max = 65.535, default = 15": "max = 3", 'locked_if = { point = "Unlocked", value = 0 }\n': ""}
TIMER = {"max = 65535": "max = 4"}


@pytest.fixture
def changed(tmp_path: Path) -> Changed:
    """Return a folder with a shipped type in which some texts are others."""

    def change(name: str, texts: dict[str, str]) -> Path:
        text = (SHIPPED / f"{name}.toml").read_text()
        for old, new in texts.items():
            assert text.count(old) == 1
            text = text.replace(old, new)
        (tmp_path / "types").mkdir()
        (tmp_path / "types" / f"{name}.toml").write_text(text)
        return tmp_path / "types"

    return change


def limiting(**other: object) -> Command:
    return command(**{"device": CHARGER, "point": "ALimit", "verb": Verb.LIMIT, "value": "6", **other})


def orders(home: Premises, point: str) -> list[tuple[float, str]]:
    """Return what became of a point's order, and why, in order."""
    return [(one["value"], one["cause"]) for one in home.log("write") if one["point"] == point]


def fell_back_ms(home: Premises, end_ms: int) -> list[int]:
    """Return how long before the control's end the relay fell back by itself, each time."""
    return [end_ms - one["ms"] for one in home.log("write") if one["cause"] == "hold"]


async def test_a_watchdog_is_fed_by_requests_for_as_long_as_the_control_runs(
    portico_premises: Starter, tmp_path: Path, changed: Changed
) -> None:
    home, types = portico_premises(WALLBOX), changed("heidelberg-energy-control", WATCHDOG)
    async with rig(home, tmp_path, Documents(rulebook(LIMIT)), device=CHARGER, types=types) as gateway:
        gateway.send(limiting(duration="10s"))
        await gateway.until("restored")
        assert (await gateway.until("restoring")).reasons == ["ended"]
    assert orders(home, "ALimit") == [(6, "write"), (16, "write")]
    assert orders(home, "ALimit/hold") == [(3, "write"), (0, "write")]


REGISTER = 257


async def delivered(gateway: Rig, milliseconds: int = 15_000) -> None:
    """Set the watchdog as the charger is delivered, or as its installer wants it."""
    unit_id = gateway.home.devices[CHARGER].unit_id
    await gateway.lane.take(lambda link: link.write_register(unit_id, REGISTER, milliseconds))


async def test_a_watchdog_is_after_a_short_control_what_it_was_and_a_stop_of_the_agent_costs_nothing(
    portico_premises: Starter, tmp_path: Path
) -> None:
    home = portico_premises(WALLBOX)
    async with rig(home, tmp_path, Documents(rulebook(LIMIT)), device=CHARGER) as gateway:
        await delivered(gateway, 30_000)
        gateway.send(limiting(duration="3s"))
        await gateway.until("restored")
    silent_since = time.monotonic()
    home.until(lambda: time.monotonic() > silent_since + 6, "the agent is away for six seconds")
    assert orders(home, "ALimit") == [(6, "write"), (16, "write")]
    assert orders(home, "ALimit/hold") == [(30, "write"), (10, "write"), (30, "write")]


async def test_a_watchdog_that_was_off_is_off_again(portico_premises: Starter, tmp_path: Path) -> None:
    home = portico_premises(WALLBOX)
    async with rig(home, tmp_path, Documents(rulebook(LIMIT)), device=CHARGER) as gateway:
        gateway.send(limiting(duration="3s"))
        await gateway.until("restored")
    assert orders(home, "ALimit/hold") == [(10, "write"), (0, "write")]


async def test_a_control_that_takes_over_puts_back_what_the_watchdog_was_before_the_first(
    portico_premises: Starter, tmp_path: Path
) -> None:
    home = portico_premises(WALLBOX)
    async with rig(home, tmp_path, Documents(rulebook(LIMIT)), device=CHARGER) as gateway:
        await delivered(gateway)
        gateway.send(limiting(duration="60s"))
        await gateway.until("unverified")
        gateway.send(limiting(id="c-2", duration="3s", value="8"))
        await gateway.until("superseded")
        await gateway.until("restored", "c-2")
    assert orders(home, "ALimit/hold")[-1] == (15, "write")
    assert len(orders(home, "ALimit/hold")) == 4


async def test_a_watchdog_is_put_back_also_by_the_agent_after_the_one_that_set_it(
    portico_premises: Starter, tmp_path: Path
) -> None:
    home, documents = portico_premises(WALLBOX), Documents(rulebook(LIMIT))
    async with rig(home, tmp_path, documents, device=CHARGER, orderly=False) as gateway:
        await delivered(gateway, 40_000)
        gateway.send(limiting(duration="10s"))
        await gateway.until("unverified")
    async with rig(home, tmp_path, documents, device=CHARGER) as gateway:
        await gateway.until("restored")
    assert orders(home, "ALimit/hold") == [(40, "write"), (10, "write"), (40, "write")]


async def test_a_control_is_not_restored_before_its_watchdog_is(
    portico_premises: Starter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries: list[int] = []

    async def refuses(_: Actuator, link: ControlLink, count: int) -> None:
        tries.append(count)
        if len(tries) == 1:
            raise NoAnswer("it did not answer")
        await set_watchdog(_, link, count)

    set_watchdog = Actuator.set_watchdog
    monkeypatch.setattr(Actuator, "set_watchdog", refuses)
    home = portico_premises(WALLBOX)
    async with rig(home, tmp_path, Documents(rulebook(LIMIT)), device=CHARGER) as gateway:
        await delivered(gateway)
        gateway.send(limiting(duration="3s"))
        await gateway.until("restored")
    assert tries == [15_000, 15_000]
    assert orders(home, "ALimit/hold")[-1] == (15, "write")


async def test_a_watchdog_that_nobody_could_read_gets_what_its_type_says(
    portico_premises: Starter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def unread(_: Actuator, __: ControlLink) -> int | None:
        return None

    monkeypatch.setattr(Actuator, "watchdog_count", unread)
    home = portico_premises(WALLBOX)
    async with rig(home, tmp_path, Documents(rulebook(LIMIT)), device=CHARGER) as gateway:
        gateway.send(limiting(duration="3s"))
        await gateway.until("restored")
    assert orders(home, "ALimit/hold") == [(10, "write"), (15, "write")]


async def test_a_gateway_that_falls_silent_feeds_no_watchdog(
    portico_premises: Starter, tmp_path: Path, changed: Changed
) -> None:
    home, types = portico_premises(WALLBOX), changed("heidelberg-energy-control", WATCHDOG)
    documents = Documents(rulebook(LIMIT))
    async with rig(home, tmp_path, documents, device=CHARGER, types=types, orderly=False) as gateway:
        gateway.send(limiting(duration="60s"))
        await gateway.until("unverified")
    home.until(lambda: (0, "hold") in orders(home, "ALimit"), "it fell back to its fail-safe current")


async def test_a_control_whose_watchdog_could_not_be_fed_is_over_and_put_back(
    portico_premises: Starter, tmp_path: Path, changed: Changed
) -> None:
    home, types = portico_premises(WALLBOX), changed("heidelberg-energy-control", WATCHDOG)
    async with rig(home, tmp_path, Documents(rulebook(LIMIT)), device=CHARGER, types=types) as gateway:
        gateway.send(limiting(duration="60s"))
        await gateway.until("unverified")
        home.fault(CHARGER, "silent")
        assert (await gateway.until("restoring")).reasons == ["hold-lost"]
        home.until(lambda: (0, "hold") in orders(home, "ALimit"), "it fell back by itself")
        home.clear(CHARGER)
        await gateway.until("restored")
    assert orders(home, "ALimit") == [(6, "write"), (0, "hold"), (16, "write")]


async def test_a_timer_is_written_again_while_the_control_runs_and_its_value_is_not(
    portico_premises: Starter, tmp_path: Path, changed: Changed
) -> None:
    home, types = portico_premises("household"), changed("generic-load-relay", TIMER)
    async with rig(home, tmp_path, types=types) as gateway:
        gateway.send(command(duration="9s"))
        end_ms = int((await gateway.until("accepted")).x["end"])
        await gateway.until("restored")
        assert (await gateway.until("restoring")).reasons == ["ended"]
    assert [value for value, cause in orders(home, "LoadShed") if cause == "write"] == [1, 0]
    # A hold is in whole seconds: it may end in the last one.
    assert all(early < 1500 for early in fell_back_ms(home, end_ms))
    holds = orders(home, "LoadShed/hold")
    assert len(holds) >= 3
    assert all(1 <= seconds <= 4 for seconds, _ in holds)


async def test_a_timer_is_never_written_beyond_the_end_of_the_control(
    portico_premises: Starter, tmp_path: Path, changed: Changed
) -> None:
    home, types = portico_premises("household"), changed("generic-load-relay", TIMER)
    async with rig(home, tmp_path, types=types) as gateway:
        gateway.send(command(duration="6s"))
        end_ms = int((await gateway.until("accepted")).x["end"])
        await gateway.until("restored")
    holds = [one for one in home.log("write") if one["point"] == "LoadShed/hold"]
    assert len(holds) >= 2
    assert all(one["ms"] + one["value"] * 1000 <= end_ms + 500 for one in holds)


BY_VALUE = {**TIMER, 'refresh = "hold"': 'refresh = "value"'}


async def test_a_device_that_wants_its_order_again_gets_it_again(
    portico_premises: Starter, tmp_path: Path, changed: Changed
) -> None:
    types = changed("generic-load-relay", BY_VALUE)
    home = portico_premises("household", "--types", str(types))
    async with rig(home, tmp_path, types=types) as gateway:
        gateway.send(command(duration="9s"))
        end_ms = int((await gateway.until("accepted")).x["end"])
        await gateway.until("restored")
        assert (await gateway.until("restoring")).reasons == ["ended"]
    found = [value for value, cause in orders(home, "LoadShed") if cause == "write"]
    assert len(found) >= 4
    assert found == [1] * (len(found) - 1) + [0]
    assert all(early < 1500 for early in fell_back_ms(home, end_ms))
    assert home.values(DEVICE)["Cycles"] == 1


async def test_writing_a_hold_again_needs_room_in_the_budget_before_anything_is_written(
    portico_premises: Starter, tmp_path: Path, changed: Changed
) -> None:
    texts = {**BY_VALUE, "writes_a_day = 10_000": "writes_a_day = 10"}
    home, types = portico_premises("household"), changed("generic-load-relay", texts)
    async with rig(home, tmp_path, types=types) as gateway:
        gateway.send(command(duration="60s"))
        assert (await gateway.until("refused")).reasons == ["write-budget"]
        gateway.send(command(id="c-2", duration="3s"))
        await gateway.until("restored", "c-2")
    assert [value for value, cause in orders(home, "LoadShed") if cause == "write"] == [1, 0]


async def test_a_timer_that_nothing_prolongs_bears_no_longer_control(
    portico_premises: Starter, tmp_path: Path, changed: Changed
) -> None:
    texts = {**TIMER, 'refresh = "hold"\n': ""}
    home, types = portico_premises("household"), changed("generic-load-relay", texts)
    async with rig(home, tmp_path, types=types) as gateway:
        gateway.send(command(duration="9s"))
        assert (await gateway.until("refused")).reasons == ["hold-too-short"]
        gateway.send(command(id="c-2", duration="3s"))
        await gateway.until("restored", "c-2")


async def test_a_crash_while_a_hold_is_written_again_leaves_the_device_to_its_hold(
    portico_premises: Starter, tmp_path: Path, changed: Changed
) -> None:
    there = asyncio.Event()

    class Crashing(Desk):
        async def take_room(self, *arguments: object) -> bool:
            there.set()
            await asyncio.Event().wait()
            raise AssertionError("nobody comes here")

    home, types = portico_premises("household"), changed("generic-load-relay", TIMER)
    async with rig(home, tmp_path, types=types, orderly=False, desk_type=Crashing) as gateway:
        gateway.send(command(duration="40s"))
        async with asyncio.timeout(30):
            await there.wait()
    home.until(lambda: (0, "hold") in orders(home, "LoadShed"), "it fell back by itself")
    async with rig(home, tmp_path, types=types) as gateway:
        assert (await gateway.until("restoring")).reasons == ["restarted"]
        await gateway.until("restored")
    assert orders(home, "LoadShed")[:2] == [(1, "write"), (0, "hold")]


async def test_a_device_goes_back_to_the_default_that_was_signed_and_not_to_its_type_s(
    portico_premises: Starter, tmp_path: Path, changed: Changed
) -> None:
    home, types = portico_premises(WALLBOX), changed("heidelberg-energy-control", WATCHDOG)
    signed = rulebook(replace(LIMIT, limits={**LIMIT.limits, "default": 10}))
    async with rig(home, tmp_path, Documents(signed), device=CHARGER, types=types) as gateway:
        gateway.send(limiting(duration="2s"))
        await gateway.until("restored")
    assert orders(home, "ALimit")[-1] == (10, "write")


async def test_after_the_loss_of_the_journal_a_device_at_its_signed_default_is_no_alarm(
    portico_premises: Starter, tmp_path: Path, changed: Changed
) -> None:
    home, types = portico_premises(WALLBOX), changed("heidelberg-energy-control", WATCHDOG)
    signed = rulebook(replace(LIMIT, limits={**LIMIT.limits, "default": 10}))
    async with rig(home, tmp_path, Documents(signed), device=CHARGER, types=types) as gateway:
        gateway.send(limiting(duration="1s"))
        await gateway.until("restored")
        actuator = gateway.commander.actuator(CHARGER, "ALimit")
        await gateway.commander.look_at(actuator)
        assert gateway.alarms == {}
        await actuator.write(gateway.lane, Decimal(16), None)
        await gateway.commander.look_at(actuator)
        assert ", not 10: find out" in gateway.alarms["control-unknown", CHARGER]


async def test_a_device_that_cannot_stay_where_it_has_to_go_back_to_is_not_controlled(
    portico_premises: Starter, tmp_path: Path
) -> None:
    home = portico_premises("household")
    signed = rulebook(Controlled(limits={"hold": "timer", "default": 1}))
    async with rig(home, tmp_path, Documents(signed)) as gateway:
        gateway.send(command())
        assert (await gateway.until("refused")).reasons == ["cannot-restore"]
    assert home.log("write") == []


LASTING = Controlled(limits={"hold": "timer", "min_on": "4s"})


async def test_a_control_shorter_than_the_signed_minimum_time_lasts_as_long_as_that(
    portico_premises: Starter, tmp_path: Path
) -> None:
    home = portico_premises("household")
    async with rig(home, tmp_path, Documents(rulebook(LASTING))) as gateway:
        gateway.send(command(duration="1s"))
        told = await gateway.until("accepted")
        await gateway.until("restored")
    assert int(told.x["end"]) - int(told.x["begin"]) >= 3_900
    assert orders(home, "LoadShed/hold")[0][0] >= 4


async def test_a_signed_minimum_time_delays_putting_back_which_is_told_at_once(
    portico_premises: Starter, tmp_path: Path
) -> None:
    home = portico_premises("household")
    async with rig(home, tmp_path, Documents(rulebook(LASTING))) as gateway:
        gateway.send(command())
        await gateway.until("confirmed")
        course = gateway.commander.courses.get("esco1", "c-1")
        assert course is not None
        course.end("opted-out")
        told = await gateway.until("restoring")
        assert (told.reasons, gateway.shed()) == (["opted-out"], True)
        assert told.text.startswith("delayed by the minimum time until ")
        back = await gateway.until("restored")
    on, off = (one["ms"] for one in home.log("write") if one["point"] == "LoadShed")
    assert off - on >= 3_500
    assert back.at - told.at >= 1_000
    assert orders(home, "LoadShed") == [(1, "write"), (0, "write")]


async def test_a_delay_by_the_minimum_time_goes_on_after_a_crash(
    portico_premises: Starter, tmp_path: Path
) -> None:
    home = portico_premises("household")
    documents = Documents(rulebook(LASTING))
    async with rig(home, tmp_path, documents, orderly=False) as gateway:
        gateway.send(command())
        await gateway.until("confirmed")
        course = gateway.commander.courses.get("esco1", "c-1")
        assert course is not None
        course.end("opted-out")
        await gateway.until("restoring")
    async with rig(home, tmp_path, documents) as gateway:
        await gateway.until("restored")
    on, off = (one["ms"] for one in home.log("write") if one["point"] == "LoadShed")
    assert off - on >= 3_500
