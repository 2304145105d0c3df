"""A place in a house where energy is metered: power of three phases now, and registers that integrate it.

Powers are whole milliwatts (and milli-VAr, milli-VA) and steps whole milliseconds, so the energy
registers are integers and integrate the shown power exactly. Import and export are counted for each
phase; a total is the sum of its phases.

Relies on the household for voltages and powers. Not here: what a device type makes of the values.
"""

import math
import random
from collections.abc import Sequence
from typing import Final

PHASES: Final = "ABC"
MICROJOULE_PER_WH: Final = 3_600_000_000
DEMANDS: Final = ("W", "VA", "AphA", "AphB", "AphC", "AphN")
DEMAND_WINDOW_MS: Final = 900_000

Quantities = dict[str, float]
"""SunSpec name to value, in V, A, W, VAr, VA, Hz, Wh, VArh, VAh, 1, degrees Celsius."""


class Metering:
    """The measuring part of one meter."""

    def __init__(
        self, measures: frozenset[str] | None, rng: random.Random, *, gives: bool, nominal_v: float = 230.0
    ) -> None:
        """Meter the loads that `measures` names, or everything for None.

        The registers begin at a plausible age of the meter; those of export at zero unless it `gives`.
        """
        self.measures = measures
        self.imported_uj = [rng.randrange(300_000, 4_000_000) * MICROJOULE_PER_WH for _ in PHASES]
        self.exported_uj = [rng.randrange(50_000, 900_000) * MICROJOULE_PER_WH * gives for _ in PHASES]
        self.var_imported_uj = [uj // 5 for uj in self.imported_uj]
        self.var_exported_uj = [uj // 40 for uj in self.imported_uj]
        self.va_uj = [uj * 21 // 20 for uj in self.imported_uj]
        self.charge_uas = [uj * 105 // 23_000 for uj in self.imported_uj]
        self.power_mw = [0, 0, 0]
        self.reactive_mvar = [0, 0, 0]
        self.apparent_mva = [0, 0, 0]
        self.voltage_v = [nominal_v] * 3
        self.demand = dict.fromkeys(DEMANDS, 0.0)
        self.peak_demand = dict.fromkeys(DEMANDS, 0.0)
        self.hz = 0.0

    def step(
        self,
        voltage: Sequence[float],
        power: Sequence[float],
        reactive: Sequence[float],
        hz: float,
        step_ms: int,
    ) -> None:
        """Show these powers (W, VAr, by phase) from now on, and integrate them over a step."""
        self.hz = hz
        for phase in range(3):
            mw, mvar = round(power[phase] * 1000), round(reactive[phase] * 1000)
            mva = math.isqrt(mw * mw + mvar * mvar)
            self.voltage_v[phase] = voltage[phase]
            self.power_mw[phase], self.reactive_mvar[phase], self.apparent_mva[phase] = mw, mvar, mva
            if mw >= 0:
                self.imported_uj[phase] += mw * step_ms
            else:
                self.exported_uj[phase] -= mw * step_ms
            if mvar >= 0:
                self.var_imported_uj[phase] += mvar * step_ms
            else:
                self.var_exported_uj[phase] -= mvar * step_ms
            self.va_uj[phase] += mva * step_ms
            self.charge_uas[phase] += round(mva * step_ms / voltage[phase])
        self._remember_demand(min(1.0, step_ms / DEMAND_WINDOW_MS))

    def _remember_demand(self, part: float) -> None:
        """Let the means of the last quarter of an hour follow, as an exponential window."""
        a, b, c = self._currents()
        n = neutral((a, b, c), self.power_mw, self.reactive_mvar)
        now = (sum(self.power_mw) / 1000, sum(self.apparent_mva) / 1000, a, b, c, n)
        for name, value in zip(DEMANDS, now, strict=True):
            self.demand[name] += (value - self.demand[name]) * part
            self.peak_demand[name] = max(self.peak_demand[name], self.demand[name])

    def _currents(self) -> list[float]:
        return [mva / 1000 / v for mva, v in zip(self.apparent_mva, self.voltage_v, strict=True)]

    def quantities(self) -> Quantities:
        """Return everything that this place can tell, by SunSpec name (model 203 where it has one)."""
        found: Quantities = {"Hz": self.hz}
        for name in DEMANDS:
            found[f"{name}Dmd"], found[f"Max{name}Dmd"] = self.demand[name], self.peak_demand[name]
        currents = self._currents()
        for phase, letter in enumerate(PHASES):
            suffix = f"ph{letter}"
            found[f"PhV{suffix}"] = self.voltage_v[phase]
            found[f"A{suffix}"] = currents[phase]
            found[f"W{suffix}"] = self.power_mw[phase] / 1000
            found[f"VAR{suffix}"] = self.reactive_mvar[phase] / 1000
            found[f"VA{suffix}"] = self.apparent_mva[phase] / 1000
            found[f"PF{suffix}"] = power_factor(self.power_mw[phase], self.apparent_mva[phase])
            found[f"Phi{suffix}"] = angle(self.power_mw[phase], self.reactive_mvar[phase])
            self._energy(found, f"Ph{letter}", slice(phase, phase + 1))
        mw, mvar, mva = sum(self.power_mw), sum(self.reactive_mvar), sum(self.apparent_mva)
        found["W"], found["VAR"], found["VA"] = mw / 1000, mvar / 1000, mva / 1000
        # The quadrant in the value, as iEM3000 meters show it: see the type's comment on PF4Q.
        found["PF4Q"] = four_quadrants(mw, mvar, mva)
        found["PF"], found["Phi"] = power_factor(mw, mva), angle(mw, mvar)
        found["A"] = sum(currents)
        found["AphAvg"], found["AphN"] = found["A"] / 3, neutral(currents, self.power_mw, self.reactive_mvar)
        va, vb, vc = self.voltage_v
        found["PhV"] = (va + vb + vc) / 3
        between = {"AB": line_to_line(va, vb), "BC": line_to_line(vb, vc), "CA": line_to_line(vc, va)}
        for pair, volts in between.items():
            found[f"PPVph{pair}"] = volts
        found["PPV"] = sum(between.values()) / 3
        self._distortion(found, currents)
        self._energy(found, "", slice(0, 3))
        return found

    def _distortion(self, found: Quantities, currents: Sequence[float]) -> None:
        """Add total harmonic distortion in percent: plausible and restless, not calculated."""
        volts = [1.9 + 0.04 * (230.0 - v) for v in self.voltage_v]
        amperes = [4.0 + 40.0 / (1.0 + current) for current in currents]
        for phase, letter in enumerate(PHASES):
            found[f"THDPhVph{letter}"], found[f"THDAph{letter}"] = volts[phase], amperes[phase]
            found[f"THDPPVph{letter}{PHASES[phase - 2]}"] = (volts[phase] + volts[phase - 2]) / 2
        found["THDPhV"] = found["THDPPV"] = sum(volts) / 3
        found["THDA"] = sum(amperes) / 3

    def _energy(self, found: Quantities, suffix: str, phases: slice) -> None:
        imported, exported = sum(self.imported_uj[phases]), sum(self.exported_uj[phases])
        var_imported, var_exported = sum(self.var_imported_uj[phases]), sum(self.var_exported_uj[phases])
        for name, microjoules in (
            ("TotWhImp", imported),
            ("TotWhExp", exported),
            ("TotWh", imported + exported),
            ("TotWhNet", imported - exported),
            ("TotVArhImp", var_imported),
            ("TotVArhExp", var_exported),
            ("TotVArh", var_imported + var_exported),
            ("TotVAh", sum(self.va_uj[phases])),
        ):
            found[f"{name}{suffix}"] = microjoules / MICROJOULE_PER_WH
        found[f"TotAh{suffix}"] = sum(self.charge_uas[phases]) / MICROJOULE_PER_WH


def power_factor(mw: int, mva: int) -> float:
    """Return active by apparent power, with the sign of active power; 1 where nothing flows."""
    return mw / mva if mva else 1.0


def four_quadrants(mw: int, mvar: int, mva: int) -> float:
    """Return the power factor with its quadrant, -2 to 2: beyond 1 where active and reactive power differ."""
    plain = power_factor(mw, mva)
    if mw >= 0:
        return plain if mvar >= 0 else 2 - plain
    return plain if mvar >= 0 else -2 - plain


def angle(mw: int, mvar: int) -> float:
    """Return the angle between current and voltage in degrees, positive for inductive."""
    return math.degrees(math.atan2(mvar, mw))


def line_to_line(first_v: float, second_v: float) -> float:
    """Return the voltage between two phases that are 120 degrees apart."""
    return math.sqrt(first_v * first_v + second_v * second_v + first_v * second_v)


def neutral(currents: Sequence[float], mw: Sequence[int], mvar: Sequence[int]) -> float:
    """Return the current in the neutral conductor: the sum of the three as vectors, in A."""
    real = imaginary = 0.0
    for phase, current in enumerate(currents):
        at = -2 * math.pi * phase / 3 - math.atan2(mvar[phase], mw[phase])
        real += current * math.cos(at)
        imaginary += current * math.sin(at)
    return math.hypot(real, imaginary)
