"""One point's registers as a value, and back: the reference, plain and exact.

:func:`decode_point` is written to be read beside the device's manual; speed lives in
``drivers.modbus.values``, which must agree with it for every register content.  Arithmetic is in
integers and in ``Decimal`` with room for every float, so that nothing is rounded but the one time
that a resolution asks for (half to even).

Pure.  Deliberately not here: which registers to read, and limits of a control policy.
"""

import struct
from collections.abc import Sequence
from decimal import ROUND_HALF_EVEN, Context, Decimal

from core.manifest import Value, ValueKind
from drivers.points import PointType, RegisterType, last_digit

EXACT = 2**53
"""Largest magnitude that stays a JSON number; beyond it an integer is written as text."""
DIGITS = 20
"""Longest integer on the wire in characters, sign included: that of any 64-bit integer."""

MAX_POWER = 10
"""Powers of ten that a device may say (SunSpec: -10 to 10)."""

# float64 has up to 767 significant digits and exponents down to -1074: wide enough to round nothing.
_WIDE = Context(prec=1200, rounding=ROUND_HALF_EVEN)

NOT_AVAILABLE = "not-available"
UNDECODABLE = "undecodable"
OUT_OF_RANGE = "out-of-range"

Decoded = tuple[Value, str | None]
"""A value or None, and the reason (``core.quality``) why it is not good."""


def decode_point(point: PointType, chunk: bytes) -> Decoded:
    """Return the value in a point's own bytes as they came over the wire.

    For a table of bits ``chunk`` is one byte, 0 or 1.
    """
    match point.type:
        case RegisterType.BOOL:
            return chunk != b"\0", None
        case RegisterType.BIT:
            register = int.from_bytes(in_order(point, chunk), "big")
            return bool(register >> (point.bit or 0) & 1), None
        case RegisterType.STRING:
            return _text(in_order(point, chunk))
        case RegisterType.FLOAT32 | RegisterType.FLOAT64:
            return _float(point, in_order(point, chunk))
    return _integer(point, in_order(point, chunk))


def in_order(point: PointType, chunk: bytes) -> bytes:
    """Return a point's bytes with the most significant first; it is its own inverse."""
    words = [chunk[at : at + 2] for at in range(0, len(chunk), 2)]
    if point.byte_order == "little":
        words = [word[::-1] for word in words]
    if point.word_order == "little" and point.type is not RegisterType.STRING:
        words.reverse()
    return b"".join(words)


def _text(chunk: bytes) -> Decoded:
    """Text ends at the first NUL; blanks at its end are padding."""
    try:
        text = chunk.partition(b"\0")[0].decode("utf-8").rstrip()
    except UnicodeDecodeError:
        return None, UNDECODABLE
    return (text, None) if text.isprintable() else (None, UNDECODABLE)


def _integer(point: PointType, chunk: bytes) -> Decoded:
    if int.from_bytes(chunk, "big") in point.markers:
        return None, NOT_AVAILABLE
    raw = int.from_bytes(chunk, "big", signed=point.type.is_signed)
    mult, add, _ = point.steps
    return _stepped(point, raw * mult + add)


def _float(point: PointType, chunk: bytes) -> Decoded:
    if int.from_bytes(chunk, "big") in point.markers:
        return None, NOT_AVAILABLE
    number: float = struct.unpack(">f" if len(chunk) == 4 else ">d", chunk)[0]
    if number != number:
        return None, NOT_AVAILABLE if point.nan_is_marker else UNDECODABLE
    if number in (float("inf"), float("-inf")):
        return None, UNDECODABLE
    if point.resolution is not None:
        return _stepped(point, rounded(number, point.shift))
    shortest = (shortest32(number) if len(chunk) == 4 else number) + 0.0  # + 0.0: zero has no sign
    low, high = float_bounds(point)
    return shortest, None if low <= shortest <= high else OUT_OF_RANGE


def _stepped(point: PointType, steps: int) -> Decoded:
    if len(str(steps)) > DIGITS:
        return None, UNDECODABLE
    low, high = point.step_bounds
    bad = (low is not None and steps < low) or (high is not None and steps > high)
    return (steps if -EXACT <= steps <= EXACT else str(steps)), OUT_OF_RANGE if bad else None


def rescaled(point: PointType, value: Value, power: Value) -> Decoded:
    """Return a value that was decoded by the point's ``scale`` by the power of ten that the device says.

    Rounded once, half to even, to the steps of ``scale`` where the device's power is finer.  A power that is
    none leaves no value: a wrong one would be off by ten.
    """
    if value is None or isinstance(value, bool | float):
        return value, None
    if not isinstance(power, int) or isinstance(power, bool) or abs(power) > MAX_POWER:
        return None, UNDECODABLE
    steps = _WIDE.scaleb(Decimal(value), power - point.steps.exp)
    return _stepped(point, int(steps.to_integral_value(ROUND_HALF_EVEN, _WIDE)))


def rounded(number: float, shift: int) -> int:
    """Return a finite float times ``10**shift`` as the nearest integer, half to even, rounded once."""
    exact = _WIDE.scaleb(Decimal(number), shift)
    return int(exact.to_integral_value(ROUND_HALF_EVEN, _WIDE))


def float_bounds(point: PointType) -> tuple[float, float]:
    """Return the plausible range of a value that stays a float, infinite where there is no bound."""
    low = float("-inf") if point.low is None else float(point.low)
    return low, float("inf") if point.high is None else float(point.high)


_single = struct.Struct(">f")


def shortest32(number: float) -> float:
    """Return the double whose shortest decimal is the shortest one that reads back to the same float32.

    ``number`` is finite and a float32.  The nearest decimal of n digits reads back whenever any of n
    digits does, save at a power of two, where floats below lie closer than above: there both
    neighbours of n digits are tried.
    """
    same = _single.pack(number)
    for digits in range(1, 9):
        near = f"{number:.{digits - 1}e}"
        if _reads_back(near, same):
            return float(near)
        if number and same[1:] in (b"\x00\x00\x00", b"\x80\x00\x00"):
            for other in _neighbours(near):
                if _reads_back(other, same):
                    return float(other)
    return float(f"{number:.8e}")


def _neighbours(text: str) -> list[str]:
    """Return a decimal one step of its last digit lower and higher."""
    number = Decimal(text)
    step = Decimal((0, (1,), int(number.as_tuple().exponent)))
    return [str(number - step), str(number + step)]


def _reads_back(text: str, same: bytes) -> bool:
    try:
        return _single.pack(float(text)) == same
    except OverflowError:
        return False


def encode(point: PointType, value: Decimal | int | bool, power: Value = None) -> list[int]:
    """Return what to write so that reading it back gives exactly ``value`` (in the point's unit).

    ``power`` is the power of ten that the device says just now, for a point that has one (``scale_by``);
    one other than that of its ``scale`` is refused, since the registers would mean something else.  For a
    coil one item, 0 or 1; else the registers in order of address.  ``ValueError`` says why a
    value cannot be written: not writable, outside of the type's limits, off its steps, or beyond
    what the registers hold.
    """
    write = point.write
    if write is None:
        raise ValueError(f"point {point.name} is not writable")
    if point.scale_by and power != point.steps.exp:
        raise ValueError(
            f"{point.scale_by} says {power} and not {point.steps.exp}: the device counts otherwise now"
        )
    number = Decimal(value)
    if not number.is_finite() or not (number in write.also or write.min <= number <= write.max):
        raise ValueError(f"{value} is not one of {write.limits} {point.unit}".rstrip())
    if not write.allows(number):
        raise ValueError(f"{value} is not on a step of {write.step} from {write.min}")
    if point.type is RegisterType.BOOL:
        return [int(number)]
    chunk = in_order(
        point, _float_bytes(point, number) if point.type.is_float else _integer_bytes(point, number)
    )
    back, reason = decode_point(point, chunk)
    if reason in (NOT_AVAILABLE, UNDECODABLE) or _amount(point, back) != number:
        raise ValueError(f"{value} cannot be held by {point.type.value}: it would read back as {back}")
    return list(registers(chunk))


def registers(chunk: bytes) -> Sequence[int]:
    """Return bytes of the wire as unsigned registers."""
    return struct.unpack(f">{len(chunk) // 2}H", chunk)


def _integer_bytes(point: PointType, number: Decimal) -> bytes:
    mult, add, exp = point.steps
    steps = _WIDE.scaleb(number, -exp)
    raw, rest = divmod(int(steps) - add, mult)
    if rest or steps != int(steps):
        raise ValueError(f"{number} is not on a step of {point.scale} of the register")
    try:
        return raw.to_bytes(point.type.bits // 8, "big", signed=point.type.is_signed)
    except OverflowError as error:
        raise ValueError(f"{number} does not fit into {point.type.value}") from error


def _float_bytes(point: PointType, number: Decimal) -> bytes:
    scaled = float(_WIDE.scaleb(number, -last_digit(point.scale)))  # a float's scale is a power of ten
    try:
        return struct.pack(">f" if point.type is RegisterType.FLOAT32 else ">d", scaled)
    except OverflowError as error:
        raise ValueError(f"{number} does not fit into {point.type.value}") from error


def _amount(point: PointType, value: Value) -> Decimal | None:
    if value is None or isinstance(value, bool):
        return None
    if point.kind is ValueKind.DECIMAL:
        return Decimal(repr(value))
    return _WIDE.scaleb(Decimal(value), point.steps.exp)
