"""The whole plant: time that can be cut anywhere, and values that the agent finds plausible."""

import struct
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from core.errors import ConfigError
from drivers.modbus.plan import plan
from drivers.modbus.values import GroupDecoder
from simulator.device import Device
from simulator.plant import MOST_HOUSE_STEPS, Plant
from simulator.run import load_types
from simulator.scenario import SCENARIOS, Scenario, load_scenario

NOW = datetime(2026, 11, 22, 17, 0, tzinfo=UTC)


class Unread:
    """A journal that nobody reads."""

    def counted(self, device: str, point: str, count: int) -> None:
        return None

    def written(self, device: str, point: str, value: Decimal, cause: str) -> None:
        return None

    def took_effect(self, device: str, point: str, value: Decimal, cause: str) -> None:
        return None


def build(scenario: Scenario, clock: Callable[[], float] = lambda: 0.0) -> Plant:
    types = load_types(scenario)
    return Plant(
        scenario, types, now=NOW, journal=Unread(), clock=clock, counts={("counter", "PollCount"): 5}
    )


def household(**changes: object) -> Scenario:
    return load_scenario(SCENARIOS / "household.toml").model_copy(update=changes)


def named(plant: Plant, name: str) -> Device:
    return next(device for device in plant.devices if device.name == name)


def live(plant: Plant, to_s: float) -> None:
    while plant.advance(to_s):
        pass


def row(device: Device) -> tuple[list[object], dict[str, list[str]]]:
    """Return what the agent would store of one poll of everything."""
    points = device.type.points
    requests = plan(points, device.type.limits, device.type.blocks)
    answers: list[bytes | str] = [
        device.answer(struct.pack(">BHH", one.table.read_function, one.address, one.count))[2:]
        for one in requests
    ]
    values, reasons = GroupDecoder(points, requests).decode(answers)
    return list(values), reasons


def test_values_do_not_depend_on_how_time_was_cut() -> None:
    at_once, by_and_by = build(household()), build(household())
    live(at_once, 500.0)
    for tenth in range(1, 5001):
        live(by_and_by, tenth / 10)
        if tenth % 37 == 0:
            named(by_and_by, "main-meter").values()
    for name in ("main-meter", "sub-meter"):
        assert named(at_once, name).values() == named(by_and_by, name).values()


def test_time_runs_as_fast_as_the_scenario_says() -> None:
    plant = build(household(speed=60.0))
    before = plant.now
    live(plant, 10.0)
    assert (plant.now - before).total_seconds() == 600


def test_a_plant_that_was_stopped_catches_up_in_bounded_pieces() -> None:
    plant = build(household(speed=100.0))
    owed = [plant.advance(14.0) for _ in range(4)]
    assert owed == [1400 - MOST_HOUSE_STEPS, 1400 - 2 * MOST_HOUSE_STEPS, 0, 0]


def test_time_never_goes_back() -> None:
    plant = build(household())
    live(plant, 100.0)
    steps = plant.steps
    assert plant.advance(50.0) == 0
    assert plant.steps == steps


@pytest.mark.parametrize("scenario", ["household", "street"])
def test_every_reading_of_an_evening_is_plausible_to_the_agent(scenario: str) -> None:
    plant = build(load_scenario(SCENARIOS / f"{scenario}.toml").model_copy(update={"speed": 600.0}))
    for at in range(4):
        live(plant, at * 3.0)
        for device in plant.devices[:8]:
            values, reasons = row(device)
            assert reasons == {}, device.name
            assert None not in values


def test_a_meter_of_the_whole_house_and_its_sub_meter_agree_on_the_voltage() -> None:
    plant = build(household())
    live(plant, 100.0)
    main, sub = named(plant, "main-meter").values(), named(plant, "sub-meter").values()
    assert main["PhVphA"] == sub["PhVphA"]
    assert main["TotWhImp"] != sub["TotWhImp"]


def test_shedding_by_the_relay_takes_the_power_from_its_load_and_gives_it_back() -> None:
    now_s = 0.0
    plant = build(household(seed=4, speed=1.0), lambda: now_s)
    relay = named(plant, "heater-relay")

    def power(after_s: float) -> object:
        nonlocal now_s
        now_s += after_s
        live(plant, now_s)
        plant.settle()
        return relay.values()["W"]

    while not power(60.0):
        assert now_s < 86_400
    relay.answer(bytes.fromhex("06 0000 0078"))
    relay.answer(bytes.fromhex("05 0000 ff00"))
    assert power(2.0) == 0
    assert power(117.0) == 0
    power(1.0)
    shown = power(2.0)
    assert isinstance(shown, float)
    assert shown > 1000


def test_counters_go_on_from_an_earlier_life() -> None:
    assert named(build(household()), "counter").counts == {"PollCount": 5}


def test_loads_that_are_not_there_are_told_all_at_once(tmp_path: Path) -> None:
    path = tmp_path / "bad.toml"
    path.write_text("""
name = "bad"
[[premises]]
name = "home"
ev_w = 0
device = [
    { name = "a", type = "simulator-counter", measures = ["ev"] },
    { name = "b", type = "simulator-counter", controls = ["sauna", "kettle"] },
]
""")
    with pytest.raises(ConfigError) as raised:
        build(load_scenario(path))
    assert [fault.partition(";")[0] for fault in raised.value.faults] == [
        "premises home, device a: the house has no ev",
        "premises home, device b: the house has no sauna",
    ]
