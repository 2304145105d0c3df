"""What the shipped types say of their values over time: no false alarm in a quiet house or at full load.

The physics here is plain: power times time, shown in whole steps of the register, as old as its refresh.
"""

import random
from collections.abc import Iterator
from decimal import ROUND_FLOOR, Decimal

import pytest

from agent.sense import GroupSense, PointSense, Ticket
from drivers.points import PointType
from drivers.types import known_types, load_type

T0 = 1_795_348_800_000
POINTS = [
    pytest.param(point, id=f"{name} {point.name}")
    for name in known_types()
    for point in load_type(name).points
    if point.sense is not None
]
COUNTERS = [one for one in POINTS if one.values[0].cumulative]
VOLTAGES = [one for one in POINTS if one.values[0].sense.frozen_ms is not None]
POLLED_S = [1, 10, 60, 900, 3600]


def shown(point: PointType, value: Decimal) -> int:
    """Return a value as it stands in a row, as a register of that type shows it."""
    register = point.scale if point.type.is_integer else Decimal(1).scaleb(point.steps.exp)
    held = (value / register).to_integral_value(ROUND_FLOOR) * register
    return int(held.scaleb(-point.steps.exp))


def sense_of(point: PointType) -> PointSense:
    assert point.sense is not None
    return PointSense(point.sense, point.steps.exp, point.cumulative, point.grain)


def counting(point: PointType, every_s: int, load: Decimal) -> Iterator[tuple[int, int]]:
    """Yield ticks and what a counter shows at a share of its greatest rate, with polls that come late."""
    assert point.sense is not None
    rate = point.sense.max_rate
    assert rate is not None
    chance = random.Random(f"{point.name} {every_s}")
    refresh_ms = max(point.sense.refresh_ms, 1)
    for number in range(200):
        if chance.random() < 0.05:
            continue  # a poll without an answer
        tick_ms = number * every_s * 1000
        asked_ms = tick_ms + chance.randint(0, min(900, every_s * 300))
        told_ms = asked_ms - asked_ms % refresh_ms
        yield tick_ms, shown(point, Decimal(100) + rate * load * told_ms / 1000)


@pytest.mark.parametrize("point", COUNTERS)
def test_no_counter_at_nearly_its_greatest_rate_is_too_fast(point: PointType) -> None:
    # 1.2 is the margin in the rates of the types: what is below it is what the device can really do.
    for every_s in POLLED_S:
        sense = sense_of(point)
        for tick, value in counting(point, every_s, Decimal(1) / Decimal("1.2")):
            assert sense.judge(T0 + tick, value) is None, f"polled every {every_s} s"


@pytest.mark.parametrize("point", COUNTERS)
def test_a_counter_that_jumps_by_a_day_of_its_greatest_rate_is_too_fast(point: PointType) -> None:
    assert point.sense is not None
    assert point.sense.max_rate is not None
    sense = sense_of(point)
    assert sense.judge(T0, shown(point, Decimal(100))) is None
    assert sense.judge(T0 + 60_000, shown(point, 100 + point.sense.max_rate * 86_400)) == "rate"


def quiet(point: PointType, every_s: int) -> Iterator[Decimal]:
    """Yield what a point shows for a week in which nobody is at home: only voltages move, as they do."""
    chance = random.Random(f"{point.name} {every_s}")
    for _ in range(7 * 86_400 // max(every_s, 600)):
        yield Decimal(str(round(chance.gauss(231, 1.5), 1))) if point.unit == "V" else Decimal(4321)


@pytest.mark.parametrize("point", POINTS)
def test_nothing_is_frozen_in_a_quiet_house_nor_on_a_phase_that_is_not_used(point: PointType) -> None:
    for every_s in POLLED_S:
        for values in (quiet(point, every_s), [Decimal(0)] * 1000):
            sense = GroupSense([point], [point.steps.exp])
            for number, value in enumerate(values):
                quality: dict[str, list[str]] = {}
                sense.judge(T0 + number * every_s * 1000, [shown(point, value)], quality, Ticket())
                assert quality == {}, f"polled every {every_s} s"


@pytest.mark.parametrize("point", VOLTAGES)
def test_a_voltage_that_stands_still_for_an_hour_is_frozen(point: PointType) -> None:
    sense = GroupSense([point], [point.steps.exp])
    reasons = []
    for number in range(400):
        quality: dict[str, list[str]] = {}
        sense.judge(T0 + number * 10_000, [shown(point, Decimal("230.4"))], quality, Ticket())
        reasons.append(bool(quality))
    assert reasons == [False] * 360 + [True] * 40


def test_every_counter_of_every_shipped_type_has_a_greatest_rate() -> None:
    for name in known_types():
        for point in load_type(name).points:
            if point.cumulative:
                assert point.sense is not None, f"{name} {point.name}"
                assert point.sense.max_rate is not None, f"{name} {point.name}"


@pytest.mark.parametrize("point", VOLTAGES)
def test_only_voltages_told_in_tenths_may_be_found_frozen(point: PointType) -> None:
    assert point.unit == "V"
    assert point.steps.exp <= -1
    assert point.grain == 1
