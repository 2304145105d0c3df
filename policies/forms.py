"""How single values are written in policies: names, instants, durations, times of day, exact numbers.

One text form serves the file that a person writes (TOML) and the canonical JSON that is signed, so that
both are read by the same code.  A number without its unit is refused where it could have two.  Instants
are milliseconds since 1970 (UTC), durations whole seconds, numbers ``Decimal``; never a binary float.

Relies on pydantic to hand parsed values into a model.  Not here: what the values mean.
"""

import re
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import cache, lru_cache
from typing import Annotated, Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    WithJsonSchema,
)

from core.ids import NAME_PATTERN, name_fault

LAST_MS: Final = 7_258_118_400_000
"""2200-01-01: no instant of ours lies later, so that arithmetic on instants cannot leave the calendar."""
_DURATION = re.compile(r"(\d{1,7})(s|min|h|d)", re.ASCII)
_SECONDS = {"s": 1, "min": 60, "h": 3600, "d": 86_400}
_CLOCK = re.compile(r"([01]\d|2[0-3]):([0-5]\d)", re.ASCII)
_MONTH_DAY = re.compile(r"(\d\d)-(\d\d)", re.ASCII)
_DAYS_OF_MONTH = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
_NUMBER = re.compile(r"-?\d{1,12}(\.\d{1,6})?", re.ASCII)
_INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,3})?(Z|[+-]\d\d:\d\d)", re.ASCII)
_DATE = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
LARGEST: Final = Decimal(10) ** 12
"""Numbers of a policy are smaller than this and have at most six decimals: sums of them stay exact."""


class Noun(BaseModel):
    """Strict, frozen, and closed: a key that nobody knows is a fault."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid", validate_default=False)


def _text(value: object, example: str) -> str:
    if not isinstance(value, str):
        raise ValueError(f'must be text in quotes, for example "{example}"')
    return value


def _name(text: str) -> str:
    fault = name_fault(text)
    if fault is not None:
        raise ValueError(f'"{text[:80]}" {fault}')
    return text


def parse_duration(value: object) -> int:
    """Return the seconds of ``"90s"``, ``"15min"``, ``"4h"`` or ``"7d"``; ``ValueError`` for others."""
    parts = _DURATION.fullmatch(_text(value, "4h"))
    if parts is None:
        raise ValueError(f'"{value}" is no duration: write "90s", "15min", "4h" or "7d"')
    return int(parts[1]) * _SECONDS[parts[2]]


@lru_cache(maxsize=1024)
def duration_text(seconds: int) -> str:
    """Return a duration in its largest whole unit, as :func:`parse_duration` reads it."""
    for unit in ("d", "h", "min"):
        if seconds and seconds % _SECONDS[unit] == 0:
            return f"{seconds // _SECONDS[unit]}{unit}"
    return f"{seconds}s"


def parse_instant(value: object) -> int:
    """Return the milliseconds of an instant with its offset; ``ValueError`` says how to write one."""
    if isinstance(value, str) and _INSTANT.fullmatch(value):
        try:
            value = datetime.fromisoformat(value)
        except ValueError as error:
            raise ValueError(f'"{value}" is no instant ({error})') from error
    if not isinstance(value, datetime):
        raise ValueError("must be a date and time with offset, for example 2027-06-01T00:00:00Z")
    if value.utcoffset() is None:
        raise ValueError("needs an offset from UTC, for example 2027-06-01T00:00:00Z")
    try:
        ms = (value - _EPOCH) // timedelta(milliseconds=1)
    except OverflowError:
        ms = -1
    if not 0 <= ms < LAST_MS:
        raise ValueError("must lie between 1970 and 2199")
    return ms


_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def instant_text(ms: int) -> str:
    """Return an instant as RFC 3339 text in UTC, with milliseconds only where there are some."""
    at = datetime.fromtimestamp(ms // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{at}.{ms % 1000:03d}Z" if ms % 1000 else f"{at}Z"


def _clock(value: object) -> int:
    text = _text(value, "06:00")
    parts = _CLOCK.fullmatch(text)
    if parts is None and text != "24:00":
        raise ValueError(f'"{text[:20]}" is no time of day: write "06:00", or "24:00" for the end of a day')
    return 1440 if parts is None else int(parts[1]) * 60 + int(parts[2])


def clock_text(minutes: int) -> str:
    """Return a time of day as ``06:00``."""
    return f"{minutes // 60:02d}:{minutes % 60:02d}"


def _month_day(value: object) -> int:
    text = _text(value, "10-01")
    parts = _MONTH_DAY.fullmatch(text)
    month, day = (int(parts[1]), int(parts[2])) if parts else (0, 0)
    if not 1 <= month <= 12 or not 1 <= day <= _DAYS_OF_MONTH[month - 1]:
        raise ValueError(f'"{text[:20]}" is no day of a year: write "10-01" for the first of October')
    return month * 100 + day


def month_day_text(number: int) -> str:
    """Return a day of the year as ``10-01``."""
    return f"{number // 100:02d}-{number % 100:02d}"


def _date(value: object) -> date:
    if isinstance(value, str) and _DATE.fullmatch(value):
        try:
            value = date.fromisoformat(value)
        except ValueError as error:
            raise ValueError(f'"{value}" is no date ({error})') from error
    if isinstance(value, datetime) or not isinstance(value, date) or not 1970 <= value.year < 2200:
        raise ValueError("must be a date between 1970 and 2199, for example 2026-12-25")
    return value


def _number(value: object) -> Decimal:
    if isinstance(value, bool) or not isinstance(value, int | Decimal | str):
        raise ValueError('must be a number, for example 16 or "0.5"')
    if isinstance(value, str):
        if _NUMBER.fullmatch(value) is None:
            raise ValueError(f'"{value[:30]}" is no number of ours: write for example 16 or "0.5"')
        value = Decimal(value)
    number = Decimal(value)
    if not is_number(number):
        raise ValueError("must be below 1000000000000 and have at most six decimals")
    return number


def is_number(number: Decimal) -> bool:
    """Tell whether a number is finite and of a size and precision with which sums stay exact."""
    return number.is_finite() and abs(number) < LARGEST and number == number.quantize(_FINEST)


_FINEST: Final = Decimal("0.000001")


def number_text(number: Decimal) -> str:
    """Return a number in its shortest plain form: ``16``, ``0.5``, never ``1E+1``."""
    text = format(number, "f")
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if text == "-0" else text


@cache
def zone_of(name: str) -> ZoneInfo:
    """Return a time zone by its IANA name; ``ValueError`` when this machine does not know it."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ValueError(f'"{name[:60]}" is no time zone: write for example "America/New_York"') from error


def _zone(text: str) -> str:
    zone_of(text)
    return text


def _distinct(names: tuple[object, ...]) -> tuple[object, ...]:
    if not names:
        raise ValueError("an empty list: name at least one, or leave the key out")
    for position, name in enumerate(names):
        if name in names[:position]:
            raise ValueError(f'names "{name}" twice')
    return names


def _string(pattern: str) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "pattern": f"^{pattern}$"})


Name = Annotated[str, AfterValidator(_name), _string(NAME_PATTERN)]
ZoneName = Annotated[str, AfterValidator(_zone)]
Instant = Annotated[
    int,
    BeforeValidator(parse_instant),
    PlainSerializer(instant_text, return_type=str, when_used="json"),
    WithJsonSchema({"type": "string", "format": "date-time"}),
]
Span = Annotated[
    int,
    BeforeValidator(parse_duration),
    PlainSerializer(duration_text, return_type=str, when_used="json"),
    _string(_DURATION.pattern),
]
"""A duration in whole seconds; how long it may be is said by the key that holds it."""
ClockTime = Annotated[
    int,
    BeforeValidator(_clock),
    PlainSerializer(clock_text, return_type=str, when_used="json"),
    _string(rf"({_CLOCK.pattern}|24:00)"),
]
"""Minutes since local midnight, as the clock on the wall shows them."""
MonthDay = Annotated[
    int,
    BeforeValidator(_month_day),
    PlainSerializer(month_day_text, return_type=str, when_used="json"),
    _string(_MONTH_DAY.pattern),
]
"""A day of any year as ``month * 100 + day``."""
Day = Annotated[date, BeforeValidator(_date)]
Number = Annotated[
    Decimal,
    BeforeValidator(_number),
    PlainSerializer(number_text, return_type=str, when_used="json"),
    WithJsonSchema({"anyOf": [{"type": "integer"}, {"type": "string", "pattern": f"^{_NUMBER.pattern}$"}]}),
]
Names = Annotated[tuple[Name, ...], Field(strict=False), AfterValidator(_distinct)]
Numbers = Annotated[tuple[Number, ...], Field(strict=False), AfterValidator(_distinct)]
Season = Annotated[tuple[MonthDay, MonthDay], Field(strict=False)]
"""First and last day of every year, both included; a season may go over New Year."""
