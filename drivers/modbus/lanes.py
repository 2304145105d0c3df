"""Numbers of one kind of arithmetic as values, many at a time.

A lane takes the points of its kind out of all numbers of a poll and decodes them by one
comprehension.  A point has an interval of steps that are surely good: no marker, inside the plausible
range, a JSON number.  What falls outside is named as doubtful and left to the reference.

Why doubles are exact here: a float32 has 24 significant bits, and 10**m is 5**m times a power of two,
so with m up to 12 their product has at most 24 + 28 = 52 bits and a double holds it exactly; ``round``
then rounds half to even, once.  Other floats with a resolution (float64, a resolution coarser than
the unit) have no lane and are left to the reference: few devices have them.

Pure.  Deliberately not here: bytes and requests (``drivers.modbus.values``).
"""

import struct
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from operator import itemgetter
from typing import Protocol

from core.manifest import Value, ValueKind
from drivers.modbus.registers import EXACT, float_bounds, rounded
from drivers.points import PointType, RegisterType

CODES = {
    RegisterType.BOOL: "B",
    RegisterType.BIT: "H",
    RegisterType.INT16: "h",
    RegisterType.UINT16: "H",
    RegisterType.INT32: "i",
    RegisterType.UINT32: "I",
    RegisterType.INT64: "q",
    RegisterType.UINT64: "Q",
    RegisterType.FLOAT32: "f",
    RegisterType.FLOAT64: "d",
}
"""The ``struct`` code that reads each type."""

EXACT_SHIFT = 12
"""Largest m for which every float32 times 10**m is exact in a double."""

Numbers = tuple[float, ...]
Pick = Callable[[Numbers], Numbers]


class Lane(Protocol):
    """Decodes the points of one kind of arithmetic."""

    def decode(self, numbers: Numbers, doubtful: list[int]) -> Sequence[Value]:
        """Return their values; the indexes of those that the reference has to judge join ``doubtful``."""


def lanes(
    points: Sequence[PointType], positions: Mapping[int, int], bits: Sequence[int]
) -> tuple[tuple[Lane, ...], list[int]]:
    """Return the lanes, and the point indexes in the order in which the lanes return their values.

    ``positions`` says where the number of a point is among all numbers, ``bits`` which of its bits is
    meant.  A point that no lane takes is missing in the order.
    """
    kinds: dict[type[Lane], list[int]] = {}
    for index in positions:
        kind = _kind(points[index])
        if kind is not None:
            kinds.setdefault(kind, []).append(index)
    total = len(set(positions.values()))
    made: list[Lane] = []
    order: list[int] = []
    for kind, indexes in kinds.items():
        indexes.sort(key=lambda index: (positions[index], index))
        pick = _pick([positions[index] for index in indexes], total)
        chosen = [points[index] for index in indexes]
        if kind is _Bits:
            made.append(_Bits(pick, [1 << bits[index] for index in indexes]))
        elif kind is _Scaled:
            made.append(_Scaled(pick, indexes, chosen))
        elif kind is _Whole:
            made.append(_Whole(pick, indexes, chosen))
        elif kind is _Linear:
            made.append(_Linear(pick, indexes, chosen))
        else:
            made.append(_Floating(pick, indexes, chosen))
        order += indexes
    return tuple(made), order


def _kind(point: PointType) -> "type[Lane] | None":
    if point.kind is ValueKind.BOOLEAN:
        return _Bits
    if point.type.is_integer:
        return _Whole if point.steps[:2] == (1, 0) else _Linear
    if point.type.is_float and point.resolution is None:
        return None if point.markers else _Floating
    if point.type is RegisterType.FLOAT32 and 0 <= point.shift <= EXACT_SHIFT:
        return _Scaled
    return None


def _pick(positions: Sequence[int], total: int) -> Pick:
    if list(positions) == list(range(total)):
        return lambda numbers: numbers
    if len(positions) == 1:
        only = positions[0]
        return lambda numbers: (numbers[only],)
    return itemgetter(*positions)


class _Scaled:
    """float32 rounded to a resolution."""

    def __init__(self, pick: Pick, indexes: Sequence[int], points: Sequence[PointType]) -> None:
        self._pick = pick
        self._indexes = tuple(indexes)
        self._factors = tuple(10.0**point.shift for point in points)
        self._lows, self._highs = _intervals(points)

    def decode(self, numbers: Numbers, doubtful: list[int]) -> Sequence[Value]:
        mine = self._pick(numbers)
        try:
            values = [
                steps
                for number, factor, low, high in zip(mine, self._factors, self._lows, self._highs)  # noqa: B905
                if low <= (steps := round(number * factor)) <= high
            ]
        except (ValueError, OverflowError):  # not a number, or infinite
            values = []
        if len(values) == len(mine):
            return values
        judged: list[Value] = []
        for index, number, factor, low, high in zip(
            self._indexes, mine, self._factors, self._lows, self._highs, strict=True
        ):
            # Infinity and not-a-number leave something when taken from themselves.
            if number - number == 0 and low <= (steps := round(number * factor)) <= high:
                judged.append(steps)
            else:
                judged.append(None)
                doubtful.append(index)
        return judged


class _Linear:
    """Integers times a whole factor plus a whole offset."""

    def __init__(self, pick: Pick, indexes: Sequence[int], points: Sequence[PointType]) -> None:
        self._pick = pick
        self._indexes = tuple(indexes)
        self._mults = tuple(point.steps.mult for point in points)
        self._adds = tuple(point.steps.add for point in points)
        self._lows, self._highs = _intervals(points)

    def decode(self, numbers: Numbers, doubtful: list[int]) -> Sequence[Value]:
        mine = self._pick(numbers)
        steps = [number * mult + add for number, mult, add in zip(mine, self._mults, self._adds)]  # noqa: B905
        return _checked(steps, self._indexes, self._lows, self._highs, doubtful)


class _Whole:
    """Integers as they are."""

    def __init__(self, pick: Pick, indexes: Sequence[int], points: Sequence[PointType]) -> None:
        self._pick = pick
        self._indexes = tuple(indexes)
        self._lows, self._highs = _intervals(points)

    def decode(self, numbers: Numbers, doubtful: list[int]) -> Sequence[Value]:
        return _checked(self._pick(numbers), self._indexes, self._lows, self._highs, doubtful)


class _Bits:
    """Bits of registers and of bit tables."""

    def __init__(self, pick: Pick, masks: Sequence[int]) -> None:
        self._pick = pick
        self._masks = tuple(masks)

    def decode(self, numbers: Numbers, doubtful: list[int]) -> Sequence[Value]:
        return [int(number) & mask != 0 for number, mask in zip(self._pick(numbers), self._masks)]  # noqa: B905


class _Floating:
    """Floats without a resolution: the shortest decimal that reads back to the same float."""

    def __init__(self, pick: Pick, indexes: Sequence[int], points: Sequence[PointType]) -> None:
        self._pick = pick
        self._indexes = tuple(indexes)
        self._single = tuple(point.type is RegisterType.FLOAT32 for point in points)
        bounds = [float_bounds(point) for point in points]
        self._lows = tuple(max(low, -_LARGEST) for low, _ in bounds)
        self._highs = tuple(min(high, _LARGEST) for _, high in bounds)

    def decode(self, numbers: Numbers, doubtful: list[int]) -> Sequence[Value]:
        judged: list[Value] = []
        for index, number, single, low, high in zip(
            self._indexes, self._pick(numbers), self._single, self._lows, self._highs, strict=True
        ):
            short = _shortest(number) if single else number + 0.0
            if short is not None and low <= short <= high:
                judged.append(short)
            else:
                judged.append(None)
                doubtful.append(index)
        return judged


_LARGEST = 1.7976931348623157e308
_single = struct.Struct(">f")


def _shortest(number: float) -> float | None:
    """Return the shortest decimal of an ordinary float32, None for one that is not ordinary.

    Six digits survive the way through a float32, so a shorter decimal is found among those of six;
    nine always suffice.  Not ordinary: powers of two, zero, subnormal, infinite, not a number.
    """
    try:
        same = _single.pack(number)
        bits = int.from_bytes(same, "big")
        if not bits & 0x7FFFFF or not 0 < bits >> 23 & 0xFF < 0xFF:
            return None
        for text in (f"{number:.6g}", f"{number:.7g}", f"{number:.8g}"):
            short = float(text)
            if _single.pack(short) == same:
                return short
    except OverflowError:  # rounded up beyond the largest float32
        return None
    return float(f"{number:.9g}")


def _checked(
    steps: Sequence[float],
    indexes: Sequence[int],
    lows: Sequence[int],
    highs: Sequence[int],
    doubtful: list[int],
) -> Sequence[Value]:
    good = [step for step, low, high in zip(steps, lows, highs) if low <= step <= high]  # noqa: B905
    if len(good) == len(steps):
        return good
    judged: list[Value] = []
    for index, step, low, high in zip(indexes, steps, lows, highs, strict=True):
        if low <= step <= high:
            judged.append(step)
        else:
            judged.append(None)
            doubtful.append(index)
    return judged


def _intervals(points: Sequence[PointType]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    both = [surely_good(point) for point in points]
    return tuple(low for low, _ in both), tuple(high for _, high in both)


def surely_good(point: PointType) -> tuple[int, int]:
    """Return a run of steps in which nothing can be wrong: no marker, plausible, a JSON number.

    Markers cut the plausible range into runs; the one with 0 or 1 in it is taken, else the longest.
    An empty run (1, 0) leaves the point to the reference always.
    """
    low, high = point.step_bounds
    first = -EXACT if low is None else max(low, -EXACT)
    last = EXACT if high is None else min(high, EXACT)
    marks = sorted(mark for mark in _marker_steps(point) if first <= mark <= last)
    runs = [(before + 1, after - 1) for before, after in pairwise([first - 1, *marks, last + 1])]
    runs = [run for run in runs if run[0] <= run[1]]
    for wanted in (0, 1):
        for run in runs:
            if run[0] <= wanted <= run[1]:
                return run
    return max(runs, key=lambda run: run[1] - run[0], default=(1, 0))


def _marker_steps(point: PointType) -> set[int]:
    """Return the steps to which the markers would decode."""
    bits = point.type.bits
    if point.type.is_integer:
        mult, add, _ = point.steps
        signed = {mark - (1 << bits) if mark >> (bits - 1) else mark for mark in point.markers}
        return {raw * mult + add for raw in (signed if point.type.is_signed else point.markers)}
    code = ">f" if bits == 32 else ">d"
    values = [struct.unpack(code, mark.to_bytes(bits // 8, "big"))[0] for mark in point.markers]
    return {rounded(value, point.shift) for value in values if value - value == 0}
