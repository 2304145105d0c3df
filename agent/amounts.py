"""Durations and sizes as people write them: ``"10s"``, ``"500ms"``, ``"1GiB"``.

A number without its unit is refused, because a configuration in which ``10`` is
sometimes seconds and sometimes milliseconds goes wrong in the field.  Relies on
pydantic only to hand the parsed value into a model.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, TypeVar

from pydantic import PlainValidator, WithJsonSchema

DAY_MS = 86_400_000
SHORTEST_INTERVAL_MS = 10

_DURATION = re.compile(r"(\d{1,9}(?:\.\d{1,3})?)(ms|s|min|h|d)", re.ASCII)
_SIZE = re.compile(r"(\d{1,9}(?:\.\d{1,3})?)(B|kB|MB|GB|KiB|MiB|GiB)", re.ASCII)
_MS = {"ms": 1, "s": 1000, "min": 60_000, "h": 3_600_000, "d": DAY_MS}
_BYTES = {"B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}


@dataclass(frozen=True, slots=True, order=True)
class Duration:
    """A length of time in whole milliseconds."""

    ms: int

    @property
    def s(self) -> float:
        """The same in seconds."""
        return self.ms / 1000

    def __str__(self) -> str:
        for unit in ("d", "h", "min", "s"):
            if self.ms and self.ms % _MS[unit] == 0:
                return f"{self.ms // _MS[unit]}{unit}"
        return f"{self.ms}ms"


@dataclass(frozen=True, slots=True, order=True)
class Size:
    """An amount of storage or of a message, in bytes."""

    octets: int

    def __str__(self) -> str:
        for unit in ("GiB", "MiB", "KiB"):
            if self.octets and self.octets % _BYTES[unit] == 0:
                return f"{self.octets // _BYTES[unit]}{unit}"
        return f"{self.octets}B"


def parse_duration(value: object) -> Duration:
    """Return the duration in a text such as ``"10s"``; ``ValueError`` says how to write one."""
    if isinstance(value, Duration):
        return value
    parts = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if parts is None:
        raise ValueError(f'{_shown(value)} is no duration: write "10s", "500ms", "5min", "1h" or "30d"')
    ms = Decimal(parts[1]) * _MS[parts[2]]
    if ms != int(ms):
        raise ValueError(f"{_shown(value)} is not a whole number of milliseconds")
    return Duration(int(ms))


def parse_size(value: object) -> Size:
    """Return the size in a text such as ``"1GiB"``; ``ValueError`` says how to write one."""
    if isinstance(value, Size):
        return value
    parts = _SIZE.fullmatch(value) if isinstance(value, str) else None
    if parts is None:
        raise ValueError(f'{_shown(value)} is no size: write "64KiB", "8MiB", "1GiB" or "500MB"')
    octets = Decimal(parts[1]) * _BYTES[parts[2]]
    if octets != int(octets):
        raise ValueError(f"{_shown(value)} is not a whole number of bytes")
    return Size(int(octets))


def parse_interval(value: object) -> Duration:
    """Return the interval of a poll grid: from 10 ms to one day, and a day is a multiple of it.

    So the grid meets every midnight (UTC), whatever day the gateway was started.
    """
    every = parse_duration(value)
    if not SHORTEST_INTERVAL_MS <= every.ms <= DAY_MS:
        raise ValueError(f"{_shown(value)} is outside 10ms to 1d")
    if DAY_MS % every.ms:
        step = next(ms for ms in (60_000, 1000, 1) if every.ms % ms == 0)
        shorter = next(ms for ms in range(every.ms, 0, -step) if DAY_MS % ms == 0)
        longer = next(ms for ms in range(every.ms, DAY_MS + 1, step) if DAY_MS % ms == 0)
        near = f"{_shown(str(Duration(shorter)))} or {_shown(str(Duration(longer)))}"
        raise ValueError(f"{_shown(value)} does not divide a day, so its grid would drift: take {near}")
    return every


_Amount = TypeVar("_Amount", Duration, Size)


def within(low: _Amount, high: _Amount) -> Callable[[_Amount], _Amount]:
    """Return a check that a value lies in low..high, both included."""

    def check(value: _Amount) -> _Amount:
        if not low <= value <= high:
            raise ValueError(f"{_shown(str(value))} is outside {low} to {high}")
        return value

    return check


def _shown(value: object) -> str:
    return f'"{value}"' if isinstance(value, str) else repr(value)


DurationKey = Annotated[
    Duration, PlainValidator(parse_duration), WithJsonSchema({"type": "string", "pattern": _DURATION.pattern})
]
IntervalKey = Annotated[
    Duration, PlainValidator(parse_interval), WithJsonSchema({"type": "string", "pattern": _DURATION.pattern})
]
SizeKey = Annotated[
    Size, PlainValidator(parse_size), WithJsonSchema({"type": "string", "pattern": _SIZE.pattern})
]
