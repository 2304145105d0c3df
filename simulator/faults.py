"""What can go wrong with a simulated device on purpose, and what is wrong with it now.

Three sorts: what spoils an answer (the one that began last shows), what bends the values shown (all of
them, in the order of their beginning, see `simulator.bends`), and what changes how a device obeys.

Relies on whoever calls `begin` and `end` at the right time. Not here: the lines that act on it, the
script that names times (`simulator.scenario`), the bytes of an answer that is spoiled (`simulator.frames`).
"""

from dataclasses import dataclass
from enum import Enum
from itertools import count
from typing import Final

from simulator.pdu import DEVICE_FAILURE


class FaultKind(Enum):
    """How a device fails."""

    SILENT = "silent"
    """No answer; the connection stays."""
    SLOW = "slow"
    """The right answer, `ms` late; given up when the client gave up first."""
    LATE = "late"
    """An answer that comes `ms` late whatever the client did since; on a bus also into the next exchange."""
    STALE = "stale"
    """Each request gets the answer to the one before it; the first gets none."""
    EXCEPTION = "exception"
    """Every request is refused with `code`."""
    WRONG_UNIT = "wrong-unit"
    """The answer names another unit id."""
    HALF = "half"
    """Half the answer, and then nothing."""
    GARBAGE = "garbage"
    """Something that is no answer to the request, in several manners by turns."""
    CLOSE = "close"
    """The connection is closed instead of an answer; a serial adapter is pulled out and put back."""
    RESET = "reset"
    """As `close`, but TCP says RST instead of FIN."""
    REBOOT = "reboot"
    """Without power: silent, connections of a device alone on its line fall, controls lose their state."""

    FROZEN = "frozen"
    """Values stay what they were, while the answers look healthy."""
    ROLLOVER = "rollover"
    """Cumulative values stand just before the end of their register, and go on."""
    COUNTER_RESET = "counter-reset"
    """Cumulative values start from zero, and go on."""
    JUMP = "jump"
    """Values are off by `by`."""
    CLOCK_DRIFT = "clock-drift"
    """The device's own clock is off by `by` seconds and drifts by `ppm`."""

    REFUSED_WRITES = "refused-writes"
    """Writes are refused with `code`, reads are answered."""
    IGNORED_WRITES = "ignored-writes"
    """Orders are taken and nothing follows: the contactor is stuck where it was."""

    @property
    def spoils(self) -> bool:
        """Whether it shows in answers as such."""
        return not self.bends and not self.disobeys

    @property
    def is_dark(self) -> bool:
        """Whether the device is without power."""
        return self is FaultKind.REBOOT

    @property
    def bends(self) -> bool:
        """Whether it changes values only."""
        return self in _BENDS

    @property
    def disobeys(self) -> bool:
        """Whether it changes what an order does."""
        return self in (FaultKind.REFUSED_WRITES, FaultKind.IGNORED_WRITES)


_BENDS: Final = frozenset(
    {
        FaultKind.FROZEN,
        FaultKind.ROLLOVER,
        FaultKind.COUNTER_RESET,
        FaultKind.JUMP,
        FaultKind.CLOCK_DRIFT,
    }
)


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault of one device."""

    kind: FaultKind
    ms: int = 1000
    """slow, late: how late."""
    code: int = DEVICE_FAILURE
    """exception, refused-writes: which exception."""
    points: tuple[str, ...] = ()
    """Which points' values are bent; none: every one that the fault makes sense for."""
    by: float | None = None
    """jump: how much, in the point's own unit; rollover: how far before the end; clock-drift: seconds."""
    ppm: float = 0.0
    """clock-drift: microseconds a second."""

    @property
    def wait_s(self) -> float:
        """How late an answer is."""
        return self.ms / 1000 if self.kind in (FaultKind.SLOW, FaultKind.LATE) else 0.0


@dataclass(frozen=True, slots=True)
class Kept:
    """An answer that was kept back: what its frame needs."""

    tag: int
    unit_id: int
    found: bytes


class Condition:
    """The faults that a device has now; of those that spoil answers, the one that began last shows."""

    def __init__(self) -> None:
        self._faults: list[Fault] = []
        self.now: Fault | None = None
        """What spoils answers."""
        self.refuses: Fault | None = None
        """What refuses writes."""
        self.stuck = False
        """Whether orders stay without effect."""
        self.kept: Kept | None = None
        """The answer that a `stale` device gives next."""
        self._manner: Final = count()

    @property
    def all(self) -> tuple[Fault, ...]:
        """Every fault, in the order of beginning."""
        return tuple(self._faults)

    def begin(self, fault: Fault) -> None:
        self._faults.append(fault)
        self._show()

    def end(self, fault: Fault) -> None:
        """End a fault; one that never began is ignored."""
        if fault in self._faults:
            self._faults.remove(fault)
        self._show()

    def manner(self) -> int:
        """Return the number of the next manner of garbage."""
        return next(self._manner)

    def _show(self) -> None:
        latest = self._faults[::-1]
        self.now = next((one for one in latest if one.kind.spoils), None)
        self.refuses = next((one for one in latest if one.kind is FaultKind.REFUSED_WRITES), None)
        self.stuck = any(one.kind is FaultKind.IGNORED_WRITES for one in latest)
        if self.now is None or self.now.kind is not FaultKind.STALE:
            self.kept = None
