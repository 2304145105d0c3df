"""Values that a device shows although they are not so: frozen, rolled over, reset, jumped, set by hand.

A bend stands between what the plant knows and what registers show; the answers around it look healthy,
so only a judgement of values can find it. Bends apply one after another, in the order of beginning, in
plain units (W, Wh, V).

Pure; time is an argument. Not here: which faults there are (`simulator.faults`), registers.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Final

from drivers.types import DeviceType, PointType, RegisterType
from simulator.encoding import Plain, unit_factor
from simulator.faults import Fault, FaultKind

COUNTER: Final = "PollCount"
"""The quantity that counts answered reads which touch it; it proves, so no fault bends it."""
CLOCK: Final = "Tms"
"""The quantity of a device's own clock: seconds since 2000-01-01 UTC, as SunSpec's `Tms`."""
JUMP: Final = 1_000_000.0
"""How far a value jumps when nobody said, in the point's own unit."""
MARGIN: Final = 1.0
"""How far before the end of its register a counter is put when nobody said, in the point's own unit."""


@dataclass(frozen=True, slots=True)
class Bend:
    """What is shown instead, by point name."""

    fixed: Mapping[str, Plain] = field(default_factory=dict)
    added: Mapping[str, float] = field(default_factory=dict)
    ends: Mapping[str, float] = field(default_factory=dict)
    """Where a float counter starts again."""
    rate: float = 0.0
    """Added once a second since it began."""
    began_s: float = 0.0

    @property
    def points(self) -> list[str]:
        """The points that it bends."""
        return sorted({*self.fixed, *self.added})

    def shown(self, name: str, value: Plain, now_s: float) -> Plain:
        """Return what is shown for a value."""
        if name in self.fixed:
            return self.fixed[name]
        if name not in self.added or isinstance(value, str):
            return value
        found = float(value) + self.added[name] + self.rate * (now_s - self.began_s)
        return found % self.ends[name] if name in self.ends else found


def bend(
    device_type: DeviceType, fault: Fault, shown: Mapping[str, Plain], now_s: float, ordered: frozenset[str]
) -> Bend:
    """Return what a fault makes of the values that are shown now.

    `ordered` are points that show an order, which a fault bends only where it names them. ValueError with
    a sentence when there is nothing to bend.
    """
    points = chosen(device_type, fault, ordered)
    match fault.kind:
        case FaultKind.FROZEN:
            return Bend(fixed={point.name: shown[point.name] for point in points}, began_s=now_s)
        case FaultKind.COUNTER_RESET:
            return Bend(added={point.name: -number(shown[point.name]) for point in points}, began_s=now_s)
        case FaultKind.JUMP:
            by = JUMP if fault.by is None else fault.by
            added = {point.name: by / unit_factor(point.unit) for point in points}
            return Bend(added=added, began_s=now_s)
        case FaultKind.CLOCK_DRIFT:
            by = fault.by or 0.0
            added = {point.name: by / unit_factor(point.unit) for point in points}
            return Bend(added=added, rate=fault.ppm / 1e6, began_s=now_s)
        case FaultKind.ROLLOVER:
            margin = MARGIN if fault.by is None else fault.by
            ends = {point.name: end_of(point, number(shown[point.name])) for point in points}
            added = {
                point.name: (ends[point.name] - margin - half_step(point)) / unit_factor(point.unit)
                - number(shown[point.name])
                for point in points
            }
            wrapped = {
                point.name: ends[point.name] / unit_factor(point.unit)
                for point in points
                if point.type.is_float or modulus_of(point) is not None
            }
            return Bend(added=added, ends=wrapped, began_s=now_s)
    raise ValueError(f"{fault.kind.value} bends no values")


def chosen(device_type: DeviceType, fault: Fault, ordered: frozenset[str]) -> list[PointType]:
    """Return the points that a fault bends: those it names, else all that it makes sense for."""
    numbers = [point for point in device_type.points if is_number(point) and point.quantity != COUNTER]
    counting = [point for point in numbers if point.cumulative]
    free = [point for point in device_type.points if point.name not in ordered and point.quantity != COUNTER]
    match fault.kind:
        case FaultKind.FROZEN:
            possible, what = free, "value that it measures"
        case FaultKind.JUMP:
            possible, what = counting or [one for one in numbers if one.name not in ordered], "number"
        case FaultKind.CLOCK_DRIFT:
            possible, what = [point for point in numbers if point.quantity == CLOCK], "clock"
        case _:
            possible, what = counting, "cumulative value"
    if not fault.points:
        if not possible:
            raise ValueError(f"a {device_type.name} has no {what}, so {fault.kind.value} cannot show on it")
        return possible
    return [named(device_type, name, fault.kind) for name in fault.points]


def named(device_type: DeviceType, name: str, kind: FaultKind) -> PointType:
    """Return a point that a fault names. ValueError when the fault cannot bend it."""
    try:
        point = device_type.point(name)
    except KeyError:
        raise ValueError(f"a {device_type.name} has no point {name}") from None
    if point.quantity == COUNTER:
        raise ValueError(f"{name} counts answered reads for proofs, so its value is never bent")
    if kind is not FaultKind.FROZEN and not is_number(point):
        raise ValueError(f"{name} is no number, so {kind.value} cannot show on it")
    if kind in (FaultKind.ROLLOVER, FaultKind.COUNTER_RESET) and not point.cumulative:
        raise ValueError(f"{name} is not cumulative, so {kind.value} cannot show on it")
    return point


def is_number(point: PointType) -> bool:
    """Tell whether a point shows a number."""
    return point.type not in (RegisterType.STRING, RegisterType.BOOL, RegisterType.BIT)


def number(value: Plain) -> float:
    """Return a value as a number; what is none counts as zero."""
    return 0.0 if isinstance(value, str) else float(value)


def end_of(point: PointType, shown: float) -> float:
    """Return where a cumulative register starts again, in its own unit.

    That is where its type says. Else an integer ends where its bits do (a signed one before its sign), and a
    float, of which no register tells, at the next power of ten, as a display of so many digits would.
    """
    modulus = modulus_of(point)
    if modulus is not None:
        return float(modulus)
    if point.type.is_float:
        own = max(1.0, abs(shown) * unit_factor(point.unit))
        return float(10.0 ** (math.floor(math.log10(own)) + 1))
    steps = 1 << (point.type.bits - point.type.is_signed)
    return float(steps * point.scale + point.offset)


def modulus_of(point: PointType) -> Decimal | None:
    """Return where a counter begins again at zero by its type, in its own unit."""
    return None if point.sense is None else point.sense.modulus


def half_step(point: PointType) -> float:
    """Return half a step of an integer register in its own unit: what rounding takes."""
    return 0.0 if point.type.is_float else float(point.scale / Decimal(2))
