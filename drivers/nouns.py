"""The words of which device types are made: tables, register types, exact numbers, durations.

Relies on pydantic.  Not here: points (``drivers.points``) and their sections (``drivers.sections``).
"""

import re
from decimal import Decimal
from enum import Enum
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, Strict


class Table(Enum):
    """The four tables of a Modbus device (Modbus Application Protocol V1.1b3 §4.3)."""

    COIL = "coil"
    DISCRETE = "discrete"
    INPUT = "input"
    HOLDING = "holding"

    __hash__ = object.__hash__
    """By identity, as they are compared: that of `Enum` is Python code, and every poll looks tables up."""

    @property
    def read_function(self) -> int:
        """Function code that reads it."""
        return _READ_FUNCTION[self]

    @property
    def is_bits(self) -> bool:
        """Whether an address holds one bit; else it holds a register of 16."""
        return self in _BITS


_BITS = frozenset({Table.COIL, Table.DISCRETE})
_READ_FUNCTION = {Table.COIL: 1, Table.DISCRETE: 2, Table.HOLDING: 3, Table.INPUT: 4}


class RegisterType(Enum):
    """What some registers hold."""

    BOOL = "bool"
    """One bit of a table of bits."""
    BIT = "bit"
    """One bit of a register."""
    INT16 = "int16"
    UINT16 = "uint16"
    INT32 = "int32"
    UINT32 = "uint32"
    INT64 = "int64"
    UINT64 = "uint64"
    FLOAT32 = "float32"
    FLOAT64 = "float64"
    STRING = "string"

    @property
    def is_integer(self) -> bool:
        """Whether it is a whole number of its own."""
        return "int" in self.value

    @property
    def is_signed(self) -> bool:
        """Whether it is an integer with a sign."""
        return self.value.startswith("int")

    @property
    def is_float(self) -> bool:
        """Whether it is IEEE 754 binary."""
        return self.value.startswith("float")

    @property
    def bits(self) -> int:
        """Bits of a number; 0 for the others."""
        return int(self.value.lstrip("uintfloa")) if self.is_integer or self.is_float else 0


def _number(raw: object) -> object:
    """Return an integer, or a decimal in quotes, as Decimal; anything else goes on to be refused."""
    if isinstance(raw, int) and not isinstance(raw, bool):
        return Decimal(raw)
    if isinstance(raw, str) and _DECIMAL.fullmatch(raw):
        return Decimal(raw)
    return raw


_DECIMAL = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d{1,2})?", re.ASCII)
Number = Annotated[Decimal, BeforeValidator(_number), Field(max_digits=24)]
"""An exact number: an integer, a TOML float (read as Decimal) or a decimal in quotes."""

_DURATION = re.compile(r"(\d{1,9})(ms|s|min|h)", re.ASCII)
_UNIT_MS = {"ms": 1, "s": 1000, "min": 60_000, "h": 3_600_000}


def duration_ms(text: str) -> int:
    """Return the milliseconds of ``500ms``, ``10s``, ``15min`` or ``1h``; ``ValueError`` for others."""
    match = _DURATION.fullmatch(text)
    if match is None or int(match[1]) == 0:
        raise ValueError(f'{text!r} is no duration, write one as "500ms", "10s", "15min" or "1h"')
    return int(match[1]) * _UNIT_MS[match[2]]


def _duration(raw: object) -> object:
    return duration_ms(raw) if isinstance(raw, str) else raw


Duration = Annotated[int, BeforeValidator(_duration)]
"""Milliseconds, in a file a text such as ``10s``."""


class Noun(BaseModel):
    """Strict, frozen, and closed: a key that nobody knows is a fault."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")


Address = Annotated[int, Field(ge=0, le=0xFFFF)]
"""Zero-based protocol address, as on the wire."""
Order = Literal["big", "little"]
TableName = Annotated[Table, Strict(False)]
