"""The two clocks: wall time for ticks, monotonic time for waiting; and noticing when they part.

The only place of the agent that asks the operating system for the time.  A wall
clock that was stepped (by NTP, a person, a suspended machine) is noticed by
comparing it with the monotonic one; a slow slew is followed silently.
"""

import ctypes
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

STEP_MS: Final = 250
"""A difference of more than this between two looks is a step; ours, NTP itself slews below 128 ms."""
HOLDOVER_S: Final = 24 * 3600.0
"""So long after it was synchronised last, a free running clock still counts (50 ppm are 4 s a day); ours."""
STA_UNSYNC: Final = 0x0040
"""adjtimex(2): the kernel's clock is not synchronised."""


class _Timex(ctypes.Structure):
    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("padding", ctypes.c_byte * 256),
    )


class Clock:
    """Wall and monotonic clock of this machine."""

    def __init__(self, trusted: bool = False, kernel: Callable[[], int | None] | None = None) -> None:
        """Prepare.

        Args:
            trusted: something else keeps the clock right, says the operator; the kernel is not asked.
            kernel: returns the status bits of adjtimex(2), None where they cannot be had.
        """
        self._trusted = trusted
        self._kernel = kernel or _kernel_status()
        self._synchronised_at: float | None = None
        self.steps = 0
        """How often the wall clock was stepped since the start."""
        self.on_step: Callable[[int], None] = lambda step_ms: None
        """Called with new minus old wall clock in ms, before anybody uses the new time."""
        self._wall_ms = time.time_ns() // 1_000_000
        self._mono = time.monotonic()

    def now_ms(self) -> int:
        """Return wall time, UTC, ms since 1970; a step is told before this returns."""
        return self._looked(time.time_ns() // 1_000_000, time.monotonic())

    def _looked(self, wall: int, mono: float) -> int:
        step = wall - self._wall_ms - round((mono - self._mono) * 1000)
        self._wall_ms, self._mono = wall, mono
        if abs(step) > STEP_MS:
            self.steps += 1
            self.on_step(step)
        return wall

    def left_s(self, at_ms: int) -> float:
        """Return how long it is until an instant of the wall clock, in seconds; negative when it is over."""
        return at_ms / 1000 - time.time()

    def mono(self) -> float:
        """Return monotonic time in seconds."""
        return time.monotonic()

    def state(self) -> str:
        """Return ``synchronised`` as the kernel says it, for a day after that ``holdover``, else ``unsure``.

        Only what was looked at is known: whoever wants to know of holdover asks every now and then.
        """
        if self._trusted:
            return "synchronised"
        status, now = self._kernel(), self.mono()
        if status is None:
            return "unsure"
        if not status & STA_UNSYNC:
            self._synchronised_at = now
            return "synchronised"
        since = self._synchronised_at
        return "holdover" if since is not None and now - since < HOLDOVER_S else "unsure"


def _kernel_status() -> Callable[[], int | None]:
    try:
        adjtimex: Callable[..., int] = ctypes.CDLL(None).adjtimex
    except (OSError, AttributeError):
        return lambda: None

    def status() -> int | None:
        timex = _Timex()
        return int(timex.status) if adjtimex(ctypes.byref(timex)) >= 0 else None

    return status


def boot_id() -> str:
    """Return the boot id of the machine, empty where the system has none."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""
