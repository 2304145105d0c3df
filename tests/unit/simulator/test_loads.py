"""Habits and profiles of loads: uses that do not overlap, and days that do not depend on how they are cut."""

import random
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator.loads import (
    DAY_S,
    Appliance,
    Cycling,
    Habit,
    Moment,
    SolarRoof,
    Wiring,
    charging,
    phases_of_a_wash,
    steady,
    thermostat,
)

HABIT = Habit(hours=(6.0, 7.0, 12.0, 18.0, 23.5), chance=0.8, spread_h=1.0, shortest_s=600, longest_s=7200)


@given(st.text(max_size=8), st.integers(0, 40_000))
def test_uses_of_a_day_follow_each_other_without_overlap(seed: str, day: int) -> None:
    runs = HABIT.runs(seed, day)
    assert all(start < end for start, end in runs)
    assert all(one[1] <= two[0] for one, two in pairwise(runs))
    assert all(start >= day * DAY_S for start, _ in runs)


def power_at(start_s: float, step_s: float, until_s: float) -> float:
    kettle = Appliance("kettle", Wiring((0,)), habit=HABIT, profile=steady(2000), seed="1")
    at = start_s
    while at < until_s:
        kettle.power(Moment(at, step_s))
        at += step_s
    return kettle.power(Moment(until_s, step_s))


@pytest.mark.parametrize("hour", range(0, 24, 2))
def test_an_appliance_is_on_at_the_same_time_from_wherever_the_day_is_entered(hour: int) -> None:
    until_s = 20_000 * DAY_S + hour * 3600
    assert power_at(until_s - 3 * DAY_S, 60, until_s) == power_at(until_s - 300, 7, until_s)


def test_a_shed_appliance_draws_nothing() -> None:
    on = Habit(hours=(0.0,), chance=1.0, spread_h=0.0, shortest_s=DAY_S, longest_s=DAY_S)
    load = Appliance("oven", Wiring((0,)), habit=on, profile=steady(2000), seed="1")
    assert load.power(Moment(100 * DAY_S + 60, 1)) == 2000
    load.shed = True
    assert load.power(Moment(100 * DAY_S + 61, 1)) == 0


def test_a_compressor_cycles_and_rushes_at_its_start() -> None:
    fridge = Cycling("fridge", Wiring((0,)), watts=100, on_s=60, off_s=120, rng=random.Random(1))
    walk = [fridge.power(Moment(at, 1)) for at in range(3600)]
    starts = [at for at in range(1, 3600) if walk[at] and not walk[at - 1]]
    assert set(walk) == {0.0, 100.0, 300.0}
    assert len(starts) > 10
    assert all(walk[at] == 300 and walk[at + 3] == 100 for at in starts[:-1])


def test_the_sun_gives_by_day_only_and_never_more_than_its_peak() -> None:
    roof = SolarRoof("solar", Wiring((0,)), peak_w=5000, rng=random.Random(1))
    walk = [(at / 3600, roof.power(Moment(float(at), 10))) for at in range(0, int(DAY_S), 10)]
    assert all(power == 0 for hour, power in walk if hour < 6.5 or hour > 19)
    assert all(-5000 <= power <= 0 for _, power in walk)
    assert min(power for _, power in walk) < -2000


@pytest.mark.parametrize(
    ("profile", "peak"),
    [
        (steady(2000), 2000),
        (thermostat(2600, warm_up_s=300, on_s=30, off_s=60), 2600),
        (phases_of_a_wash(2000, 200), 2100),
        (charging(11_000), 11_000),
    ],
    ids=["steady", "thermostat", "wash", "charging"],
)
def test_a_profile_reaches_its_peak_and_never_generates(profile: object, peak: float) -> None:
    assert callable(profile)
    walk = [profile(float(at), 3600.0) for at in range(3600)]
    assert max(walk) == peak
    assert min(walk) >= 0
