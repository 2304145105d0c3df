"""A writable point of a device, and what the device does by itself when nobody speaks to it any more.

`hold = "timer"`: a written value other than the default stays for the seconds in the hold register,
which counts down, and then falls back, whoever still talks. `"watchdog"`: it falls back when no
request reached the device for that long; 0 switches the watchdog off. `"none"`: it stays.

Time is an argument, in seconds of a clock that never goes back: a device's own timer runs in real
time, also where the simulated day runs faster. Not here: registers, and what the order does
(`simulator.effect`).
"""

from collections.abc import Callable
from decimal import Decimal
from enum import Enum
from typing import Final


class Hold(Enum):
    """What a device does by itself."""

    TIMER = "timer"
    WATCHDOG = "watchdog"
    NONE = "none"


class Control:
    """The state of one writable point."""

    def __init__(
        self,
        *,
        default: Decimal,
        hold: Hold,
        fall_back_to: Callable[[], Decimal] | None = None,
        fed_by: str | None = None,
    ) -> None:
        """Begin at the default; without `fall_back_to` that is also what it falls back to.

        `fed_by` is what begins a running hold anew: `contact`, `hold` or `value` (`WriteSpec.refresh`);
        without it a request for a watchdog, the register for a timer.
        """
        self.default: Final = default
        self._fall_back_to: Final = fall_back_to or (lambda: default)
        self.hold: Final = hold
        self._fed_by: Final = fed_by or ("contact" if hold is Hold.WATCHDOG else "hold")
        self.value = default
        """The order that stands."""
        self.changed_s = 0.0
        """When it became that."""
        self._preset_s = 0.0
        self._until_s: float | None = None

    @property
    def active(self) -> bool:
        """Tell whether the value differs from its default."""
        return self.value != self.default

    def write(self, value: Decimal, now_s: float) -> None:
        """Take a value; a timer starts anew with what its register says."""
        self._become(value, now_s)
        if self.hold is Hold.TIMER:
            preset_s = self._preset_s if self._fed_by == "value" else self.hold_s(now_s)
            self._preset_s = preset_s if self.active else 0.0
            self._until_s = None
        self._arm(now_s)
        self.settle(now_s)

    def write_for(self, value: Decimal, seconds: float, now_s: float) -> None:
        """Take a value together with the time for which it stays."""
        self._preset_s = seconds
        self.write(value, now_s)

    def write_hold(self, seconds: float, now_s: float) -> None:
        """Set the hold register; while a hold runs, this extends or shortens it."""
        self._preset_s = seconds
        if self._fed_by == "value" and self._until_s is not None:
            return
        self._until_s = None
        self._arm(now_s)
        self.settle(now_s)

    def feed(self, now_s: float) -> None:
        """Note that a request reached the device; only a watchdog cares."""
        if self.hold is Hold.WATCHDOG and self._fed_by == "contact":
            self._arm(now_s)

    def settle(self, now_s: float) -> bool:
        """Fall back if the hold has run out; tell whether it did."""
        value = self._fall_back_to()
        if self._until_s is None or now_s < self._until_s or self.value == value:
            return False
        self._become(value, self._until_s)
        self._until_s = None
        if self.hold is Hold.TIMER:
            self._preset_s = 0.0
        return True

    def hold_s(self, now_s: float) -> float:
        """Return what the hold register shows: what is left of a running timer, else what was written."""
        if self.hold is Hold.TIMER and self._until_s is not None:
            return max(0.0, self._until_s - now_s)
        return self._preset_s

    def lose(self, now_s: float) -> bool:
        """Forget the order, and what is left of a timer, for want of power; tell whether there was one."""
        was_active = self.active
        self._become(self.default, now_s)
        self._until_s = None
        if self.hold is Hold.TIMER:
            self._preset_s = 0.0
        return was_active

    def _become(self, value: Decimal, at_s: float) -> None:
        if value != self.value:
            self.value = value
            self.changed_s = max(at_s, self.changed_s)

    def _arm(self, now_s: float) -> None:
        match self.hold:
            case Hold.TIMER if self.active:
                self._until_s = now_s + self._preset_s
            case Hold.WATCHDOG:
                self._until_s = now_s + self._preset_s if self._preset_s else None
            case _:
                self._until_s = None
