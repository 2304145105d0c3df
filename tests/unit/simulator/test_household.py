"""The simulated house: electricity that adds up, energy that integrates power, a day that repeats."""

import math
from collections.abc import Iterator
from itertools import pairwise

import pytest

from simulator.household import Equipment, Household
from simulator.loads import DAY_S, Moment
from simulator.mains import HZ_BOUND, Mains
from simulator.meter import DEMANDS, MICROJOULE_PER_WH, PHASES, Metering, four_quadrants

EVENING_S = 1_800_000_000 - 1_800_000_000 % DAY_S + 18 * 3600
NOON_S = EVENING_S - 6 * 3600
STEP_MS = 1000


class Lived:
    """A house with a main meter and a sub meter, stepped from a start."""

    def __init__(
        self, seed: str = "7", *, start_s: float = EVENING_S, hz: float = 50.0, **has: float
    ) -> None:
        self.mains = Mains(seed, hz=hz)
        self.house = Household(seed, Equipment(**has))  # type: ignore[arg-type]  # people is whole, watts are not
        self.main = self.house.meter(None, "main")
        self.sub = self.house.meter(["ev", "water-heater"], "sub")
        self.local_s = start_s

    def live(self, count: int) -> Iterator[None]:
        """Live through so many steps, with a stop after each."""
        for _ in range(count):
            self.house.step(self.mains.step(), Moment(self.local_s, STEP_MS / 1000), STEP_MS)
            self.local_s += STEP_MS / 1000
            yield

    def steps(self, count: int) -> Iterator[dict[str, float]]:
        """Yield what the main meter shows after each step."""
        for _ in self.live(count):
            yield self.main.quantities()


def raw(meter: Metering) -> tuple[int, ...]:
    return (*meter.imported_uj, *meter.exported_uj, *meter.var_imported_uj, *meter.va_uj)


def test_active_reactive_and_apparent_power_current_and_power_factor_agree_in_every_phase() -> None:
    for now in Lived(solar_peak_w=5000.0, start_s=NOON_S).steps(600):
        for phase in PHASES:
            w, var, va = now[f"Wph{phase}"], now[f"VARph{phase}"], now[f"VAph{phase}"]
            assert math.hypot(w, var) == pytest.approx(va, abs=0.002)
            assert now[f"Aph{phase}"] * now[f"PhVph{phase}"] == pytest.approx(va)
            assert now[f"PFph{phase}"] * va == pytest.approx(w)


def test_totals_are_the_sums_of_the_three_phases() -> None:
    for now in Lived(solar_peak_w=5000.0, start_s=NOON_S).steps(600):
        for total, part in (("W", "Wph{}"), ("VAR", "VARph{}"), ("VA", "VAph{}"), ("A", "Aph{}")):
            assert now[total] == pytest.approx(sum(now[part.format(phase)] for phase in PHASES))
        for total in ("TotWhImp", "TotWhExp", "TotVArhImp", "TotVArhExp", "TotVAh", "TotAh"):
            assert now[total] == pytest.approx(sum(now[f"{total}Ph{phase}"] for phase in PHASES))
        assert now["PF"] == pytest.approx(now["W"] / now["VA"])
        assert now["PhV"] == pytest.approx(sum(now[f"PhVph{phase}"] for phase in PHASES) / 3)


def test_energy_is_exactly_the_integral_of_the_power_that_was_shown() -> None:
    lived = Lived(solar_peak_w=5000.0, start_s=NOON_S - 2 * 3600)
    imported, exported = list(lived.main.imported_uj), list(lived.main.exported_uj)
    for now in lived.steps(10_000):
        for at, phase in enumerate(PHASES):
            mw = round(now[f"Wph{phase}"] * 1000)
            imported[at] += max(mw, 0) * STEP_MS
            exported[at] += max(-mw, 0) * STEP_MS
    assert lived.main.imported_uj == imported
    assert lived.main.exported_uj == exported
    assert lived.main.quantities()["TotWhExp"] == sum(exported) / MICROJOULE_PER_WH


def test_a_house_with_sun_exports_at_noon_and_a_house_without_never() -> None:
    def exported(start_s: float, solar_peak_w: float) -> int:
        lived = Lived(solar_peak_w=solar_peak_w, start_s=start_s)
        before = sum(lived.main.exported_uj)
        for _ in lived.live(3600):
            pass
        return sum(lived.main.exported_uj) - before

    assert exported(NOON_S, 8000.0) > 0
    assert exported(NOON_S + 12 * 3600, 8000.0) == 0
    assert exported(NOON_S, 0.0) == 0


def test_nothing_that_is_measured_stands_still() -> None:
    restless = ("Hz", "W", "VAR", "PF", "A", "PhVphA", "PhVphB", "PhVphC", "TotWhImp", "PPVphAB", "THDA")
    for before, now in pairwise(Lived().steps(300)):
        assert all(before[name] != now[name] for name in restless)


def test_the_same_seed_gives_the_same_day_and_another_seed_another() -> None:
    first, second, other = (list(Lived(seed).steps(2000)) for seed in ("7", "7", "8"))
    assert first == second
    assert all(one["W"] != two["W"] for one, two in zip(first, other, strict=True))


@pytest.mark.parametrize("hz", [50.0, 60.0])
def test_frequency_walks_slowly_within_its_bounds(hz: float) -> None:
    mains = Mains("3", hz=hz)
    walk = [mains.step().hz for _ in range(10_000)]
    assert all(abs(value - hz) <= HZ_BOUND for value in walk)
    assert max(abs(after - before) for before, after in pairwise(walk)) < 0.02
    assert max(walk) - min(walk) > 0.04


def test_voltage_stays_near_230_and_falls_with_the_load() -> None:
    now = list(Lived().steps(10_000))
    volts = [one[f"PhVph{phase}"] for one in now for phase in PHASES]
    assert all(200 < value < 250 for value in volts)

    def mean_v(heavy: bool) -> float:
        chosen = [one["PhVphB"] for one in now if (one["WphB"] > 1500) is heavy]
        assert len(chosen) > 100
        return sum(chosen) / len(chosen)

    assert mean_v(heavy=False) - mean_v(heavy=True) > 1.0


def test_a_sub_meter_sees_its_loads_and_the_main_meter_sees_them_too() -> None:
    lived, active = Lived(), 0
    for now in lived.steps(10_000):
        part = lived.sub.quantities()
        active += part["W"] > 0
        for phase in PHASES:
            assert 0 <= part[f"Wph{phase}"] <= now[f"Wph{phase}"] + 1e-9
            assert part[f"PhVph{phase}"] == now[f"PhVph{phase}"]
    assert active > 100


def test_a_shed_load_draws_nothing_and_comes_back_hungry() -> None:
    lived = Lived("4")
    heater = lived.house.meter(["water-heater"], "heater")
    for _ in lived.live(3600):
        pass
    lived.house.shed(["water-heater"], True)
    warm = lived.house.quantities()["TmpWater"]
    for _ in lived.live(8 * 3600):
        assert heater.power_mw == [0, 0, 0]
    assert lived.house.quantities()["TmpWater"] < min(warm, 53)
    lived.house.shed(["water-heater"], False)
    for _ in lived.live(2):
        pass
    assert heater.quantities()["W"] > 1500


def test_water_stays_within_what_a_tank_can_be() -> None:
    lived = Lived()
    for _ in lived.live(int(DAY_S)):
        assert 30 < lived.house.quantities()["TmpWater"] < 61


def test_registers_only_grow() -> None:
    lived = Lived(solar_peak_w=5000.0, start_s=NOON_S)
    before = raw(lived.main)
    for _ in lived.live(2000):
        now = raw(lived.main)
        assert all(later >= earlier for earlier, later in zip(before, now, strict=True))
        before = now


def test_demand_follows_power_and_its_peak_never_falls() -> None:
    lived, peak = Lived(), 0.0
    for now in lived.steps(5000):
        assert now["MaxWDmd"] >= peak
        assert all(now[f"Max{name}Dmd"] >= now[f"{name}Dmd"] for name in DEMANDS)
        peak = now["MaxWDmd"]
    assert peak > 100


def test_a_balanced_load_leaves_the_neutral_without_current_and_a_single_phase_fills_it() -> None:
    meter = Lived().main
    meter.step([230.0] * 3, [1000.0] * 3, [0.0] * 3, 50.0, STEP_MS)
    assert meter.quantities()["AphN"] == pytest.approx(0, abs=1e-9)
    meter.step([230.0] * 3, [2300.0, 0.0, 0.0], [0.0] * 3, 50.0, STEP_MS)
    assert meter.quantities()["AphN"] == pytest.approx(10)


def test_the_meter_of_an_unknown_load_is_refused() -> None:
    with pytest.raises(ValueError, match="the house has no sauna"):
        Lived().house.meter(["ev", "sauna"], "third")


@pytest.mark.parametrize(
    ("mw", "mvar", "shown"), [(3, 4, 0.6), (3, -4, 1.4), (-3, 4, -0.6), (-3, -4, -1.4)], ids=str
)
def test_the_quadrant_is_in_the_power_factor_of_four_quadrants(mw: int, mvar: int, shown: float) -> None:
    assert four_quadrants(mw, mvar, 5) == pytest.approx(shown)
