"""The demo's house runs faster than time, and still no meter in it gains more than one of its type can."""

import struct
from datetime import UTC, datetime
from decimal import Decimal

from agent.sense import GroupSense, Ticket
from cli.demo_site import EVERY_S, SPEED
from drivers.modbus.plan import plan
from drivers.modbus.values import GroupDecoder
from simulator.device import Device
from simulator.plant import Plant
from simulator.run import load_types
from simulator.scenario import SCENARIOS, load_scenario

EVENING = datetime(2026, 11, 22, 17, 0, tzinfo=UTC)
"""When the car comes home."""
HOURS = 3
T0 = 1_795_348_800_000


class Unread:
    """A journal that nobody reads."""

    def counted(self, device: str, point: str, count: int) -> None:
        return None

    def written(self, device: str, point: str, value: Decimal, cause: str) -> None:
        return None

    def took_effect(self, device: str, point: str, value: Decimal, cause: str) -> None:
        return None


class Polled:
    """One device as the agent polls it."""

    def __init__(self, device: Device) -> None:
        self.device = device
        self.points = [point for point in device.type.points if point.default]
        self.requests = plan(self.points, device.type.limits, device.type.blocks)
        self.decoder = GroupDecoder(self.points, self.requests)
        self.sense = GroupSense(self.points, [point.steps.exp for point in self.points])

    def reasons(self, tick: int) -> dict[str, list[str]]:
        answers: list[bytes | str] = [
            self.device.answer(struct.pack(">BHH", one.table.read_function, one.address, one.count))[2:]
            for one in self.requests
        ]
        values, quality = self.decoder.decode(answers)
        self.sense.judge(tick, values, quality, Ticket())
        return {self.points[int(index)].name: found for index, found in quality.items()}


def test_no_reading_of_the_demo_is_marked_for_being_too_fast() -> None:
    scenario = load_scenario(SCENARIOS / "household.toml").model_copy(update={"speed": SPEED})
    plant = Plant(
        scenario,
        load_types(scenario),
        now=EVENING,
        journal=Unread(),
        clock=lambda: 0.0,
        counts={("counter", "PollCount"): 5},
    )
    devices = [Polled(device) for device in plant.devices]
    highest = Decimal(0)
    for poll in range(int(HOURS * 3600 / SPEED / EVERY_S)):
        while plant.advance(float(poll * EVERY_S)):
            pass
        for one in devices:
            assert one.reasons(T0 + poll * EVERY_S * 1000) == {}, one.device.name
        highest = max(highest, Decimal(str(plant.devices[0].values()["W"])))
    assert highest > 8_000, "the car was never charged, so nothing was shown"
