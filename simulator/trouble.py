"""Faults that come and go, and values set by hand: by script and while the plant runs, and told in its log.

Relies on asyncio's timers. Not here: what a fault does (`simulator.exchange`, `simulator.bends`), who asks
for it (`simulator.ctl`).
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import count
from typing import Final

from simulator.bends import JUMP, MARGIN
from simulator.device import Device
from simulator.exchange import Cut
from simulator.faults import Fault, FaultKind
from simulator.log import PlantLog

REBOOT_S: Final = 3.0
"""How long a device is away when nobody said."""
MOST_TROUBLES: Final = 10_000
"""Faults and set values at one time."""
SET: Final = "set"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a device is, as far as a fault needs it."""

    device: Device
    cut: Callable[[Cut], None] | None
    """Drops the connections of its line, when it has the line for itself."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """One fault, or one value set by hand, while it lasts."""

    number: int
    device: str
    kind: str
    """Of the fault, or `set`."""
    cause: str
    """Who asked for it: script or hand."""
    points: tuple[str, ...]
    fault: Fault | None
    until_s: float | None
    """Of the event loop's clock; None: until it is cleared."""


class Troubles:
    """Every trouble of a plant; the only one who begins and ends them."""

    def __init__(self, places: Mapping[str, Place], log: PlantLog, now_ms: Callable[[], int]) -> None:
        self._places: Final = places
        self._log: Final = log
        self._now_ms: Final = now_ms
        self._number: Final = count(1)
        self._lasting: dict[int, Trouble] = {}
        self._timers: dict[int, asyncio.TimerHandle] = {}

    @property
    def lasting(self) -> tuple[Trouble, ...]:
        """What lasts now, in the order of beginning."""
        return tuple(self._lasting.values())

    def begin(self, device: str, fault: Fault, *, cause: str, lasts_s: float | None) -> Trouble:
        """Let a fault begin. ValueError with a sentence when it cannot show on the device."""
        place = self._places[device]
        if fault.kind is FaultKind.REBOOT and lasts_s is None:
            lasts_s = REBOOT_S
        number = self._next()
        points = place.device.begin(number, fault)
        if fault.kind is FaultKind.REBOOT and place.cut is not None:
            place.cut(Cut.RESET)
        found = Trouble(number, device, fault.kind.value, cause, tuple(points), fault, self._until(lasts_s))
        self._keep(found, lasts_s)
        self._tell(found, began=True)
        return found

    def set(self, device: str, point: str, text: str, *, lasts_s: float | None) -> Trouble | None:
        """Set a value by hand; None when it was an order, which lasts as orders do.

        ValueError with a sentence when the point cannot show such a value.
        """
        number = self._next()
        # A value set again takes the place of the one before.
        self._end_all(lambda one: one.device == device and one.kind == SET and point in one.points)
        if not self._places[device].device.set(number, point, text):
            return None
        found = Trouble(number, device, SET, "hand", (point,), None, self._until(lasts_s))
        self._keep(found, lasts_s)
        self._log.event(
            SET, self._now_ms(), device=device, point=point, value=text, began=True, id=number, cause="hand"
        )
        return found

    def clear(self, device: str | None = None, kind: str | None = None) -> int:
        """End what lasts, of one device or one kind if named; return how much that was."""
        return self._end_all(lambda one: device in (None, one.device) and kind in (None, one.kind))

    def end(self, number: int) -> None:
        """End one trouble; what has ended is ignored."""
        found = self._lasting.pop(number, None)
        timer = self._timers.pop(number, None)
        if timer is not None:
            timer.cancel()
        if found is None:
            return
        device = self._places[found.device].device
        if found.fault is None:
            device.release(number)
            self._log.event(
                SET, self._now_ms(), device=found.device, point=found.points[0], began=False, id=number
            )
        else:
            device.end(number, found.fault)
            self._tell(found, began=False)

    def close(self) -> None:
        """Let nothing end by the clock any more."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

    def _end_all(self, chosen: Callable[[Trouble], bool]) -> int:
        numbers = [one.number for one in self._lasting.values() if chosen(one)]
        for number in numbers:
            self.end(number)
        return len(numbers)

    def _next(self) -> int:
        if len(self._lasting) >= MOST_TROUBLES:
            raise ValueError(f"{MOST_TROUBLES} faults last already: clear some first")
        return next(self._number)

    def _until(self, lasts_s: float | None) -> float | None:
        return None if lasts_s is None else asyncio.get_running_loop().time() + lasts_s

    def _keep(self, found: Trouble, lasts_s: float | None) -> None:
        self._lasting[found.number] = found
        if lasts_s is not None:
            loop = asyncio.get_running_loop()
            self._timers[found.number] = loop.call_later(lasts_s, partial(self.end, found.number))

    def _tell(self, trouble: Trouble, *, began: bool) -> None:
        assert trouble.fault is not None
        self._log.event(
            "fault",
            self._now_ms(),
            device=trouble.device,
            fault=trouble.kind,
            began=began,
            id=trouble.number,
            cause=trouble.cause,
            **(details(trouble.fault) | {"points": list(trouble.points)} if began else {}),
        )


def details(fault: Fault) -> dict[str, object]:
    """Return what a fault's kind makes use of."""
    match fault.kind:
        case FaultKind.SLOW | FaultKind.LATE:
            return {"late_ms": fault.ms}
        case FaultKind.EXCEPTION | FaultKind.REFUSED_WRITES:
            return {"code": fault.code}
        case FaultKind.JUMP:
            return {"by": JUMP if fault.by is None else fault.by}
        case FaultKind.ROLLOVER:
            return {"by": MARGIN if fault.by is None else fault.by}
        case FaultKind.CLOCK_DRIFT:
            return {"by": fault.by or 0.0, "ppm": fault.ppm}
        case _:
            return {}
