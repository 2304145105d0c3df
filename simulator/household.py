"""A house that lives through its day: loads on three phases, voltages that give way, meters that count.

A pure function of seed, start and steps: the same seed gives the same day, however time is cut into
calls, as long as the same loads are shed at the same steps.

Relies on `simulator.mains` for the supply, `simulator.loads` for what draws power, `simulator.meter`
for what is metered. Not here: registers, sockets, wall time.
"""

import math
import random
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from simulator import loads
from simulator.loads import Load, Moment, Wiring
from simulator.mains import Supply, Wander
from simulator.meter import Metering

LOOP_OHM: Final = 0.28
"""Impedance between the feeder and the meter, ohms: 32 A on one phase take 9 V."""

A, B, C = 0, 1, 2


@dataclass(frozen=True, slots=True)
class Equipment:
    """What a house has; zero means that it has none."""

    people: int = 3
    ev_w: float = 11_000.0
    water_heater_w: float = 2_000.0
    solar_peak_w: float = 0.0


def loads_of(seed: str, equipment: Equipment) -> list[Load]:
    """Return the loads of a house. Powers and habits are plausible, not measured."""
    rng = random.Random(f"{seed}/loads")
    many = 0.6 + 0.2 * equipment.people

    def electronics(phase: int) -> Wiring:
        return Wiring((phase,), tan_phi=-0.25, noise=0.02)

    def motor(phase: int) -> Wiring:
        return Wiring((phase,), tan_phi=0.75, noise=0.015)

    def heat(phase: int) -> Wiring:
        return Wiring((phase,), resistive=True, noise=0.004)

    found: list[Load] = [
        loads.BaseLoad("base-a", electronics(A), standby_w=rng.uniform(35, 70), lively_w=180 * many),
        loads.BaseLoad("base-b", electronics(B), standby_w=rng.uniform(20, 50), lively_w=140 * many),
        loads.BaseLoad("base-c", electronics(C), standby_w=rng.uniform(15, 40), lively_w=90 * many),
        loads.Cycling(
            "fridge",
            motor(A),
            watts=rng.uniform(80, 120),
            on_s=900,
            off_s=1900,
            rng=random.Random(f"{seed}/fridge"),
        ),
        loads.Cycling(
            "freezer",
            motor(B),
            watts=rng.uniform(70, 110),
            on_s=1100,
            off_s=2600,
            rng=random.Random(f"{seed}/freezer"),
        ),
    ]

    def appliance(name: str, wiring: Wiring, habit: loads.Habit, profile: loads.Profile) -> None:
        found.append(loads.Appliance(name, wiring, habit=habit, profile=profile, seed=seed))

    busy = min(0.95, 0.35 + 0.15 * equipment.people)
    appliance(
        "kettle",
        heat(B),
        loads.Habit((6.7, 7.5, 10.2, 13.1, 16.0, 19.6, 21.2), busy, 0.4, 90, 260),
        loads.steady(2000),
    )
    appliance(
        "oven",
        heat(C),
        loads.Habit((12.2, 18.4), 0.5, 0.5, 1500, 3900),
        loads.thermostat(2600, warm_up_s=480, on_s=45, off_s=75),
    )
    appliance(
        "hob",
        heat(A),
        loads.Habit((12.4, 18.7), 0.8, 0.4, 900, 2400),
        loads.thermostat(1800, warm_up_s=150, on_s=12, off_s=18),
    )
    appliance(
        "washing",
        motor(C),
        loads.Habit((9.5, 17.3), busy / 2, 1.2, 4200, 7200),
        loads.phases_of_a_wash(2000, 180),
    )
    appliance(
        "dishwasher",
        motor(B),
        loads.Habit((13.6, 20.1), 0.45, 0.6, 5400, 8400),
        loads.phases_of_a_wash(1900, 60),
    )
    if equipment.ev_w:
        wiring = Wiring((A, B, C) if equipment.ev_w > 4_600 else (A,), tan_phi=-0.04, noise=0.003)
        appliance("ev", wiring, loads.Habit((18.1,), 0.75, 0.8, 3600, 12_600), loads.charging(equipment.ev_w))
    if equipment.water_heater_w:
        found.append(
            loads.WaterHeater(
                "water-heater",
                heat(B),
                watts=equipment.water_heater_w,
                litres=80.0 + 30 * equipment.people,
                seed=seed,
                showers=(6.6, 7.0, 22.0)[: equipment.people],
            )
        )
    if equipment.solar_peak_w:
        wiring = Wiring((A, B, C) if equipment.solar_peak_w > 4_600 else (A,), tan_phi=0.02, noise=0.004)
        found.append(
            loads.SolarRoof(
                "solar", wiring, peak_w=equipment.solar_peak_w, rng=random.Random(f"{seed}/solar")
            )
        )
    return found


class Household:
    """One house between the public supply and its loads."""

    def __init__(
        self, seed: str, equipment: Equipment, *, nominal_v: float = 230.0, step_s: float = 1.0
    ) -> None:
        self.seed: Final = seed
        self.equipment: Final = equipment
        self.nominal_v: Final = nominal_v
        self._loads = loads_of(seed, equipment)
        self._by_name = {load.name: load for load in self._loads}
        self._meters: list[Metering] = []
        self._noise = random.Random(f"{seed}/noise")
        self._drop = [0.0, 0.0, 0.0]
        self._unrest = [
            Wander(self._noise, middle=0.0, spread=0.12, bound=0.6, time_s=1.5, step_s=step_s) for _ in "abc"
        ]
        self._outdoor = Wander(self._noise, middle=0.0, spread=1.5, bound=5.0, time_s=7200, step_s=step_s)
        self.outdoor_c = 8.0

    def load_names(self) -> frozenset[str]:
        """Return the names that a meter can measure and a relay can shed."""
        return frozenset(self._by_name)

    def meter(self, measures: Iterable[str] | None, name: str) -> Metering:
        """Put a meter before the loads named, or before the whole house for None. ValueError if unknown."""
        chosen = None if measures is None else frozenset(measures)
        unknown = (chosen or frozenset()) - self.load_names()
        if unknown:
            raise ValueError(f"the house has no {', '.join(sorted(unknown))}")
        gives = bool(self.equipment.solar_peak_w) and (chosen is None or "solar" in chosen)
        rng = random.Random(f"{self.seed}/meter/{name}")
        metering = Metering(chosen, rng, gives=gives, nominal_v=self.nominal_v)
        self._meters.append(metering)
        return metering

    def shed(self, names: Iterable[str], shed: bool) -> None:
        """Take power from the loads named, or give it back, from the next step on."""
        for name in names:
            self._by_name[name].shed = shed

    def quantities(self) -> dict[str, float]:
        """Return what the house itself can tell: temperatures."""
        found = {"TmpAmb": self.outdoor_c}
        heater = self._by_name.get("water-heater")
        if isinstance(heater, loads.WaterHeater):
            found["TmpWater"] = heater.temperature_c
        return found

    def step(self, supply: Supply, moment: Moment, step_ms: int) -> None:
        """Live through one step: voltages from the last step's currents, then powers, then meters."""
        voltage = [
            v - drop + unrest.step()
            for v, drop, unrest in zip(supply.v, self._drop, self._unrest, strict=True)
        ]
        squared = [(v / self.nominal_v) ** 2 for v in voltage]
        drawn: list[tuple[str, list[float], list[float]]] = []
        power_all, reactive_all = [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]
        for load in self._loads:
            watts = load.power(moment)
            if not watts:
                continue
            wiring = load.wiring
            power, reactive = [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]
            share = watts / len(wiring.phases)
            for phase in wiring.phases:
                w = share * (1.0 + self._noise.gauss(0.0, wiring.noise))
                if wiring.resistive:
                    w *= squared[phase]
                power[phase] = w
                # Reactive power follows the kind of load, whichever way the active power flows.
                reactive[phase] = abs(w) * wiring.tan_phi
                power_all[phase] += w
                reactive_all[phase] += reactive[phase]
            drawn.append((load.name, power, reactive))
        for metering in self._meters:
            if metering.measures is None:
                metering.step(voltage, power_all, reactive_all, supply.hz, step_ms)
            else:
                chosen = [parts for parts in drawn if parts[0] in metering.measures]
                metering.step(
                    voltage,
                    [sum(parts[1][phase] for parts in chosen) for phase in range(3)],
                    [sum(parts[2][phase] for parts in chosen) for phase in range(3)],
                    supply.hz,
                    step_ms,
                )
        self._drop = [LOOP_OHM * power_all[phase] / voltage[phase] for phase in range(3)]
        self.outdoor_c = 8.0 - 4.0 * math.cos((moment.hour - 3) * math.pi / 12) + self._outdoor.step()
