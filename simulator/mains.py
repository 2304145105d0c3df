"""The public supply that all premises of a scenario share: frequency and the voltage of each phase.

Frequency is a slow bounded walk around its nominal value, each phase voltage another; what the loads
of one house do to its own voltage is not here but in `simulator.household`.

Relies on nothing but a seed and steps of equal length. Not here: outages, harmonics, sags.
"""

import math
import random
from dataclasses import dataclass
from typing import Final

HZ_BOUND: Final = 0.2
"""Largest distance from the nominal frequency, Hz. Ours: about what a large grid keeps to."""

V_BOUND: Final = 0.06
"""Largest distance from the nominal voltage before the house's own drop, as a part of it. Ours."""


class Wander:
    """A value that walks around a middle and never leaves its bounds; each step differs from the last."""

    def __init__(
        self, rng: random.Random, *, middle: float, spread: float, bound: float, time_s: float, step_s: float
    ) -> None:
        """Start near the middle.

        `spread` is the standard deviation in the long run, `bound` the largest distance from the
        middle, `time_s` how long the walk remembers (the Ornstein-Uhlenbeck process, exact for a step).
        """
        self._rng = rng
        self._middle = middle
        self._bound = bound
        self._keep = math.exp(-step_s / time_s)
        self._kick = spread * math.sqrt(1 - self._keep * self._keep)
        self._away = max(-bound, min(bound, rng.gauss(0, spread)))

    def step(self) -> float:
        """Walk one step and return the new value."""
        away = self._away * self._keep + self._rng.gauss(0.0, self._kick)
        self._away = max(-self._bound, min(self._bound, away))
        return self._middle + self._away


@dataclass(frozen=True, slots=True)
class Supply:
    """What the public supply offers at one instant."""

    hz: float
    v: tuple[float, float, float]


class Mains:
    """The supply, walking in steps of equal length."""

    def __init__(self, seed: str, *, hz: float = 50.0, v: float = 230.0, step_s: float = 1.0) -> None:
        self.nominal_hz: Final = hz
        self.nominal_v: Final = v
        rng = random.Random(f"{seed}/mains")
        self._slow_hz = Wander(rng, middle=hz, spread=0.02, bound=HZ_BOUND - 0.01, time_s=300, step_s=step_s)
        self._fast_hz = Wander(rng, middle=0.0, spread=0.002, bound=0.01, time_s=2, step_s=step_s)
        # What the whole street draws moves the three phases together, single loads each for itself.
        self._common_v = Wander(rng, middle=v, spread=1.5, bound=V_BOUND * v / 2, time_s=600, step_s=step_s)
        self._phase_v = tuple(
            Wander(rng, middle=0.0, spread=0.4, bound=V_BOUND * v / 2, time_s=10, step_s=step_s)
            for _ in "abc"
        )
        self.now: Supply = self.step()

    def step(self) -> Supply:
        """Walk one step and return what the supply offers now."""
        common = self._common_v.step()
        a, b, c = self._phase_v
        self.now = Supply(
            self._slow_hz.step() + self._fast_hz.step(),
            (common + a.step(), common + b.step(), common + c.step()),
        )
        return self.now
