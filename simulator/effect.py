"""What becomes of an order: contactors that lag, stick, keep times of their own, or know better.

A load does not always obey. Its thermostat overrides an order, a compressor stays on for a minimum of
time, an order comes into effect late or not at all, a timer of the device ends the effect while the order
still stands in its register. So what a feedback point shows is not the register just written.

Time is an argument, in seconds of a clock that never goes back. Not here: the register of the order
(`simulator.control`), the load.
"""

from dataclasses import dataclass
from decimal import Decimal
from enum import Enum
from typing import Final

HYSTERESIS_K: Final = 2.0
"""A thermostat that overrides an order does so until it is that much warmer."""


@dataclass(frozen=True, slots=True)
class Behaviour:
    """How a device obeys; without any of it at once and for as long as the order stands."""

    delay_s: float = 0.0
    """An order comes into effect that much later."""
    refuses: int = 0
    """Exception code that answers every write; 0: none."""
    ignores: bool = False
    """Orders are taken, and nothing follows."""
    keeps: bool = False
    """Orders outlive a power cut."""
    at_least_s: float = 0.0
    """The effect stays that long once it has changed, as a compressor wants it."""
    at_most_s: float = 0.0
    """The effect ends by itself after that long, though the order stands; 0: never."""
    warm_c: float | None = None
    """While the water is colder than that, the load is not shed, whatever the order."""


class Cause(Enum):
    """Why an effect changed."""

    ORDER = "order"
    TIMER = "timer"
    THERMOSTAT = "thermostat"


class Effect:
    """What one order does, now and so far."""

    def __init__(self, default: Decimal, behaviour: Behaviour) -> None:
        self.default: Final = default
        self.behaviour: Final = behaviour
        self.value = default
        self.cycles = 0
        """How often the effect left its default."""
        self._target = default
        self._changed_s: float | None = None
        self._away_s = 0.0
        self._ended_s: float | None = None
        """The order, by the time it was given, whose effect a timer ended."""
        self._cold = False
        self._lost = False

    @property
    def active(self) -> bool:
        """Tell whether the effect differs from the default."""
        return self.value != self.default

    def follow(
        self, order: Decimal, ordered_s: float, now_s: float, *, stuck: bool, water_c: float | None
    ) -> Cause | None:
        """Do what the order, given at `ordered_s`, leads to; return why the effect changed, if it did."""
        own = self.behaviour
        if stuck or own.ignores:
            return None
        at_s = ordered_s + own.delay_s
        if at_s <= now_s:
            self._target = order
        wanted, cause = self._target, Cause.ORDER
        if self._lost:
            at_s, self._lost = now_s, False
        most_s = None if self._changed_s is None else self._changed_s + own.at_most_s
        if own.at_most_s and self.active and most_s is not None and now_s >= most_s:
            self._ended_s, at_s, cause = ordered_s, most_s, Cause.TIMER
        if self._ended_s == ordered_s:
            wanted = self.default
        if self._is_cold(water_c) and wanted != self.default:
            wanted, at_s, cause = self.default, now_s, Cause.THERMOSTAT
        if wanted == self.value:
            return None
        if self._changed_s is not None:
            free_s = self._changed_s + own.at_least_s
            if now_s < free_s:
                return None
            at_s = max(at_s, free_s)
        self._become(wanted, min(at_s, now_s))
        return cause

    def lose(self, now_s: float) -> bool:
        """Fall to the default for want of power; tell whether that changed anything."""
        was_active = self.active
        self._target, self._lost = self.default, True
        self._become(self.default, now_s)
        return was_active

    def away_s(self, now_s: float) -> float:
        """Return for how long, in all, the effect differed from the default."""
        since = self._changed_s
        return self._away_s + (now_s - since if self.active and since is not None else 0.0)

    def _become(self, value: Decimal, at_s: float) -> None:
        if value == self.value:
            return
        if self.active and self._changed_s is not None:
            self._away_s += max(0.0, at_s - self._changed_s)
        self.cycles += not self.active
        self.value = value
        self._changed_s = at_s

    def _is_cold(self, water_c: float | None) -> bool:
        warm_c = self.behaviour.warm_c
        if warm_c is None or water_c is None:
            return False
        self._cold = water_c < warm_c + (HYSTERESIS_K if self._cold else 0.0)
        return self._cold
