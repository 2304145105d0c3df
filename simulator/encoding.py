"""From the value of a quantity to the registers of a point: the inverse of what a client decodes.

Written apart from the client's decoding on purpose. Register types, byte and word order are those of
the format of device types (`drivers/types/*.toml`).

Relies on a point that says what it is. Not here: where the value comes from.
"""

import math
import struct
from decimal import Decimal
from typing import Final

from drivers.types import PointType, RegisterType

Plain = float | int | str | bool | Decimal
"""A value of the plant, before scale: number, text or truth."""

FLOATS: Final = {RegisterType.FLOAT32: ">f", RegisterType.FLOAT64: ">d"}
LARGEST_FLOAT32: Final = 3.4028234663852886e38

PREFIXES: Final = {"k": 1e-3, "M": 1e-6, "m": 1e3}
PREFIXED: Final = frozenset(
    {"V", "A", "W", "VA", "var", "VAr", "VAR", "Wh", "VAh", "varh", "VArh", "VARh", "Ah", "Hz"}
)


def unit_factor(unit: str) -> float:
    """Return what turns a value in the plain unit (W, Wh, V) into this unit (kW, kWh, mV)."""
    if len(unit) > 1 and unit[0] in PREFIXES and unit[1:] in PREFIXED:
        return PREFIXES[unit[0]]
    return 1.0


def encode(point: PointType, value: Plain) -> bytes:
    """Return the registers of a point that shows a value given in the plain unit.

    Integers are rounded to the nearest step; what does not fit rolls over in a cumulative register
    and stays at the end of the range in any other.
    """
    kind = point.type
    if kind is RegisterType.STRING:
        size = 2 * point.width
        return ordered(point, str(value).encode("ascii", "replace")[:size].ljust(size, b"\0"), words=False)
    if isinstance(value, str):
        raise TypeError(f"point {point.name} is a {kind.value} and cannot show a text")
    if kind.is_float:
        shown = float(value) * unit_factor(point.unit) / float(point.scale)
        if kind is RegisterType.FLOAT32:
            shown = max(-LARGEST_FLOAT32, min(LARGEST_FLOAT32, shown))
        return ordered(point, struct.pack(FLOATS[kind], shown))
    bits = kind.bits or 16
    return ordered(point, integer(point, value, bits, kind.is_signed).to_bytes(bits // 8, "big"))


def integer(point: PointType, value: float | Decimal, bits: int, signed: bool) -> int:
    """Return the register value, as an unsigned number of so many bits."""
    shown = (Decimal(value) * Decimal(str(unit_factor(point.unit))) - point.offset) / point.scale
    steps = int(shown.to_integral_value()) if math.isfinite(shown) else 0
    if not point.cumulative:
        lowest = -(1 << bits - 1) if signed else 0
        steps = max(lowest, min(lowest + (1 << bits) - 1, steps))
    elif signed:
        steps %= 1 << bits - 1
    return steps % (1 << bits)


def decode(point: PointType, body: bytes) -> Decimal:
    """Return the number that a client wrote into a point. ValueError when it is none."""
    plain = ordered(point, body)
    if point.type.is_float:
        found: float = struct.unpack(FLOATS[point.type], plain)[0]
        if not math.isfinite(found):
            raise ValueError(f"{found} is no number")
        return Decimal(f"{found:.9g}" if point.type is RegisterType.FLOAT32 else repr(found)) * point.scale
    return int.from_bytes(plain, "big", signed=point.type.is_signed) * point.scale + point.offset


def ordered(point: PointType, body: bytes, *, words: bool = True) -> bytes:
    """Return bytes in the order that the point declares, or back: the exchange is its own inverse."""
    found = [body[at : at + 2] for at in range(0, len(body), 2)]
    if words and point.word_order == "little":
        found.reverse()
    if point.byte_order == "little":
        found = [word[::-1] for word in found]
    return b"".join(found)
