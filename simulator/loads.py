"""What draws or gives power in a house: base load, appliances with a habit, charging, hot water, sun.

A load tells its active power at nominal voltage for a moment of the simulated day; the household
spreads it over phases, adds noise and the effect of voltage. Random use is drawn from a seed, the
load's name and the day, so a day is the same however it is stepped through.

Relies on moments that never go back. Not here: voltage, reactive power in numbers, energy.
"""

import math
import random
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

DAY_S: Final = 86_400.0
HOUR_S: Final = 3_600.0

Run = tuple[float, float]
"""Start and end, in seconds of simulated Unix time plus the offset of local time."""


@dataclass(frozen=True, slots=True)
class Moment:
    """One instant of simulated time, as loads need it."""

    local_s: float
    """Unix time plus the offset of local time, seconds."""
    step_s: float

    @property
    def day(self) -> int:
        """Number of the local day."""
        return int(self.local_s // DAY_S)

    @property
    def hour(self) -> float:
        """Hours since local midnight, 0 to 24."""
        return (self.local_s % DAY_S) / HOUR_S


@dataclass(frozen=True, slots=True)
class Wiring:
    """How a load hangs on the house: phases by index, reactive power, effect of voltage."""

    phases: tuple[int, ...]
    tan_phi: float = 0.0
    """Reactive by active power; positive is inductive."""
    resistive: bool = False
    """Power goes with the square of the voltage; otherwise the load's electronics keep it."""
    noise: float = 0.01
    """Standard deviation of the power from step to step, as a part of it."""


class Load(Protocol):
    """Anything with a power. `shed` is set from outside: while it is true, no power may be drawn."""

    name: str
    wiring: Wiring
    shed: bool

    def power(self, moment: Moment) -> float:
        """Return active power at nominal voltage in W, negative for generation."""
        ...


def lighting_curve(hour: float) -> float:
    """How much of a house's small consumption is on at an hour, 0 to 1: morning and evening peaks."""

    def bump(centre: float, width: float) -> float:
        away = min(abs(hour - centre), 24 - abs(hour - centre))
        return math.exp(-((away / width) ** 2))

    return 0.12 + 0.35 * bump(7.2, 1.2) + 0.25 * bump(12.8, 2.5) + 0.75 * bump(20.3, 2.6)


class BaseLoad:
    """Standby, network, lighting and screens of one phase."""

    def __init__(self, name: str, wiring: Wiring, *, standby_w: float, lively_w: float) -> None:
        self.name = name
        self.wiring = wiring
        self.shed = False
        self._standby_w = standby_w
        self._lively_w = lively_w

    def power(self, moment: Moment) -> float:
        return self._standby_w + self._lively_w * lighting_curve(moment.hour)


class Cycling:
    """A compressor: on and off in turn, with lengths that differ, and a short rush at each start."""

    RUSH_S: Final = 2.0
    RUSH: Final = 3.0

    def __init__(
        self, name: str, wiring: Wiring, *, watts: float, on_s: float, off_s: float, rng: random.Random
    ) -> None:
        self.name = name
        self.wiring = wiring
        self.shed = False
        self._watts = watts
        self._on_s = on_s
        self._off_s = off_s
        self._rng = rng
        self._on = rng.random() < on_s / (on_s + off_s)
        self._age_s = self.RUSH_S
        self._left_s = rng.random() * (on_s if self._on else off_s)

    def power(self, moment: Moment) -> float:
        self._left_s -= moment.step_s
        self._age_s += moment.step_s
        if self._left_s <= 0:
            self._on = not self._on
            self._age_s = 0.0
            self._left_s = (self._on_s if self._on else self._off_s) * self._rng.uniform(0.8, 1.25)
        if not self._on or self.shed:
            return 0.0
        return self._watts * (self.RUSH if self._age_s < self.RUSH_S else 1.0)


@dataclass(frozen=True, slots=True)
class Habit:
    """When a load is used: how often a day, around which hours, for how long."""

    hours: tuple[float, ...]
    """One possible use a day around each of these local hours."""
    chance: float
    """Of each use to happen, 0 to 1."""
    spread_h: float
    """Standard deviation of the start, hours."""
    shortest_s: float
    longest_s: float

    def runs(self, seed: str, day: int) -> list[Run]:
        """Return the uses that begin on a day, in order, none overlapping."""
        rng = random.Random(f"{seed}/{day}")
        starts = [
            day * DAY_S + rng.gauss(hour, self.spread_h) * HOUR_S
            for hour in self.hours
            if rng.random() < self.chance
        ]
        runs: list[Run] = []
        for start in sorted(starts):
            begin = max(start, day * DAY_S, runs[-1][1] if runs else start)
            runs.append((begin, begin + rng.uniform(self.shortest_s, self.longest_s)))
        return runs


Profile = Callable[[float, float], float]
"""Power in W by seconds since the start of a use and its whole length."""


class Appliance:
    """A load with a habit and a profile: kettle, oven, washing machine, charging car."""

    def __init__(self, name: str, wiring: Wiring, *, habit: Habit, profile: Profile, seed: str) -> None:
        self.name = name
        self.wiring = wiring
        self.shed = False
        self._habit = habit
        self._profile = profile
        self._seed = f"{seed}/{name}"
        self._runs: deque[Run] = deque()
        self._planned: int | None = None

    def power(self, moment: Moment) -> float:
        if self._planned is None:
            # A use that began before midnight may still go on.
            self._planned = moment.day - 2
        while self._planned < moment.day:
            self._planned += 1
            self._runs.extend(self._habit.runs(self._seed, self._planned))
        while self._runs and self._runs[0][1] <= moment.local_s:
            self._runs.popleft()
        if not self._runs or moment.local_s < self._runs[0][0] or self.shed:
            return 0.0
        start, end = self._runs[0]
        return self._profile(moment.local_s - start, end - start)


def steady(watts: float) -> Profile:
    """A profile that is on from start to end."""
    return lambda since_s, length_s: watts


def thermostat(watts: float, *, warm_up_s: float, on_s: float, off_s: float) -> Profile:
    """A profile that heats up at first and then keeps the heat by switching."""

    def profile(since_s: float, length_s: float) -> float:
        if since_s < warm_up_s:
            return watts
        return watts if (since_s - warm_up_s) % (on_s + off_s) >= off_s else 25.0

    return profile


def phases_of_a_wash(heater_w: float, motor_w: float) -> Profile:
    """A profile of a washing machine: fill, heat, wash with pauses, spin."""

    def profile(since_s: float, length_s: float) -> float:
        part = since_s / length_s
        if part < 0.05:
            return 12.0
        if part < 0.30:
            return heater_w + motor_w / 2
        if part < 0.85:
            return motor_w if since_s % 20 < 12 else 8.0
        return motor_w * (1 + 2 * (part - 0.85) / 0.15)

    return profile


def charging(watts: float) -> Profile:
    """A profile of a car: full current, then falling over the last tenth."""

    def profile(since_s: float, length_s: float) -> float:
        part = since_s / length_s
        return watts * (1.0 if part < 0.9 else max(0.12, (1 - part) / 0.1))

    return profile


class WaterHeater:
    """A tank with a thermostat: cools by losses and by hot water drawn, and remembers being shed."""

    COLD_C: Final = 12.0
    ROOM_C: Final = 18.0
    LOSS_W_PER_K: Final = 1.6
    J_PER_LITRE_K: Final = 4186.0
    FLOW_L_PER_S: Final = 0.09

    def __init__(
        self, name: str, wiring: Wiring, *, watts: float, litres: float, seed: str, showers: Sequence[float]
    ) -> None:
        rng = random.Random(f"{seed}/{name}")
        self.name = name
        self.wiring = wiring
        self.shed = False
        self.temperature_c = rng.uniform(50, 60)
        self._watts = watts
        self._heat_j_per_k = litres * self.J_PER_LITRE_K
        self._heating = self.temperature_c < 54
        self._draws = Appliance(
            f"{name}-tap",
            wiring,
            habit=Habit((*showers, 7.6, 12.4, 18.8, 21.5), 0.85, 0.5, 40, 300),
            profile=steady(1.0),
            seed=seed,
        )

    def power(self, moment: Moment) -> float:
        """Return the heater's power, after the tank has lived through one step."""
        if self.temperature_c < 53:
            self._heating = True
        elif self.temperature_c > 60:
            self._heating = False
        drawn = self._watts if self._heating and not self.shed else 0.0
        loss = self.LOSS_W_PER_K * (self.temperature_c - self.ROOM_C)
        tap = self._draws.power(moment) * self.FLOW_L_PER_S * self.J_PER_LITRE_K
        loss += tap * (self.temperature_c - self.COLD_C)
        self.temperature_c += (drawn - loss) * moment.step_s / self._heat_j_per_k
        self.temperature_c = max(self.COLD_C, min(90.0, self.temperature_c))
        return drawn


class SolarRoof:
    """Photovoltaics: a clear-sky bell of the local hour, dimmed by clouds that pass."""

    def __init__(self, name: str, wiring: Wiring, *, peak_w: float, rng: random.Random) -> None:
        self.name = name
        self.wiring = wiring
        self.shed = False
        self._peak_w = peak_w
        self._rng = rng
        self._clear = rng.uniform(0.4, 1.0)
        self._towards = self._clear
        self._until_s = 0.0

    def power(self, moment: Moment) -> float:
        if moment.local_s >= self._until_s:
            self._until_s = moment.local_s + self._rng.uniform(60, 900)
            self._towards = self._rng.choice((0.15, 0.3, 0.6, 0.85, 1.0))
        self._clear += (self._towards - self._clear) * min(1.0, moment.step_s / 45)
        height = math.sin(math.pi * (moment.hour - 6.5) / 12.5) if 6.5 < moment.hour < 19.0 else 0.0
        return 0.0 if self.shed else -self._peak_w * max(0.0, height) ** 1.3 * self._clear
