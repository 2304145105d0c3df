"""Whether an instant, and a whole stretch of time, lies in windows: zones, weekdays, holidays, seasons.

A window is judged instant by instant: it holds when the clock on the wall in its zone reads a time within,
on one of its days.  So an hour that daylight saving repeats counts twice and one that it skips not at all.
A date that the calendar does not cover is neither holiday nor working day: unknown.

Pure; relies on `zoneinfo`.  Not here: what follows from it (`policies.conditions`).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from enum import Enum
from typing import NamedTuple
from zoneinfo import ZoneInfo

from policies.forms import Season, zone_of
from policies.grant import Weekday, Window
from policies.policy import Calendar

DAY_MS = 86_400_000
_MINUTE_MS = 60_000
_WEEKDAYS: tuple[Weekday, ...] = ("mo", "tu", "we", "th", "fr", "sa", "su")
_ONE_DAY = timedelta(days=1)


class Holds(Enum):
    """Whether something holds; unknown is an answer."""

    YES = "yes"
    NO = "no"
    UNKNOWN = "unknown"


class Span(NamedTuple):
    """A stretch of time from begin to before end, ms since 1970; never empty."""

    begin_ms: int
    end_ms: int


@dataclass(frozen=True, slots=True, eq=False)
class ZonedWindow:
    """A window with the zone and the calendar that it names."""

    window: Window
    zone: ZoneInfo
    calendar: Calendar | None

    @classmethod
    def of(cls, window: Window, zone: str, calendars: Sequence[Calendar]) -> "ZonedWindow":
        """Return a window with what it names; `zone` is the policy's."""
        named = next((one for one in calendars if one.id == window.calendar), None)
        return cls(window, zone_of(window.zone or zone), named)

    def at(self, instant_ms: int) -> tuple[Holds, int]:
        """Tell whether the window holds at an instant, and until when at least that stays so."""
        local = local_time(instant_ms, self.zone)
        wall_ms = (local.hour * 60 + local.minute) * _MINUTE_MS + local.second * 1000 + instant_ms % 1000
        start_ms, end_ms = self.window.start_min * _MINUTE_MS, self.window.end_min * _MINUTE_MS
        over_midnight = end_ms <= start_ms
        if over_midnight and wall_ms < end_ms:
            holds, edge_ms = self._on(local.date() - _ONE_DAY), end_ms
        elif wall_ms < start_ms:
            holds, edge_ms = Holds.NO, start_ms
        elif over_midnight or wall_ms < end_ms:
            holds, edge_ms = self._on(local.date()), DAY_MS if over_midnight else end_ms
        else:
            holds, edge_ms = Holds.NO, DAY_MS
        return holds, _before_change(instant_ms, instant_ms + edge_ms - wall_ms, self.zone)

    def _on(self, day: date) -> Holds:
        window = self.window
        if window.season is not None and not in_season(window.season, day):
            return Holds.NO
        listed = _WEEKDAYS[day.weekday()] in window.days
        if self.calendar is None:
            # Without its calendar a named one, or a holiday, is nothing that anybody could tell.
            return Holds.UNKNOWN if window.calendar is not None else Holds.YES if listed else Holds.NO
        as_holiday = "holiday" in window.days
        if listed == as_holiday:
            return Holds.YES if listed else Holds.NO
        holiday = self.calendar.is_holiday(day)
        if holiday is None:
            return Holds.UNKNOWN
        return Holds.YES if holiday == as_holiday else Holds.NO


def local_time(instant_ms: int, zone: ZoneInfo) -> datetime:
    """Return what the clock on the wall reads, without the milliseconds."""
    return datetime.fromtimestamp(instant_ms // 1000, zone)


def in_season(season: Season, day: date) -> bool:
    """Tell whether a date lies in a season, which may go over New Year."""
    first, last = season
    number = day.month * 100 + day.day
    return first <= number <= last if first <= last else number >= first or number <= last


def season_start(season: Season, day: date) -> date | None:
    """Return the first date of the season in which a date lies, None outside."""
    if not in_season(season, day):
        return None
    first = season[0]
    year = day.year if day.month * 100 + day.day >= first else day.year - 1
    month, number = divmod(first, 100)
    try:
        return date(year, month, number)
    except ValueError:  # a season from the 29th of February begins a day later in other years
        return date(year, 3, 1)


def covered(windows: Sequence[ZonedWindow], span: Span) -> tuple[Holds, int]:
    """Tell whether every instant of a span lies in one of the windows, and the first that does not."""
    at_ms = span.begin_ms
    while at_ms < span.end_ms:
        states = [window.at(at_ms) for window in windows]
        inside = [until_ms for holds, until_ms in states if holds is Holds.YES]
        if not inside:
            unknown = any(holds is Holds.UNKNOWN for holds, _ in states)
            return Holds.UNKNOWN if unknown else Holds.NO, at_ms
        at_ms = max(inside)
    return Holds.YES, at_ms


def touched(windows: Sequence[ZonedWindow], span: Span) -> bool:
    """Tell whether any instant of a span lies, or may lie, in one of the windows."""
    for window in windows:
        at_ms = span.begin_ms
        while at_ms < span.end_ms:
            holds, at_ms = window.at(at_ms)
            if holds is not Holds.NO:
                return True
    return False


def dates(span: Span, zone: ZoneInfo) -> Iterator[date]:
    """Yield the local dates that a span touches."""
    day = local_time(span.begin_ms, zone).date()
    last = local_time(span.end_ms - 1, zone).date()
    while day <= last:
        yield day
        day += _ONE_DAY


def _before_change(from_ms: int, to_ms: int, zone: ZoneInfo) -> int:
    """Return the first instant after ``from_ms`` at which the zone's offset is another, at most ``to_ms``.

    No zone changes its offset twice within a day, so that the two ends tell whether it does between.
    """
    offset = _offset(from_ms, zone)
    if _offset(to_ms, zone) == offset:
        return to_ms
    low, high = from_ms // 1000, -(-to_ms // 1000)  # offsets change at whole seconds
    while high - low > 1:
        middle = (low + high) // 2
        if _offset(middle * 1000, zone) == offset:
            low = middle
        else:
            high = middle
    return min(high * 1000, to_ms)


def _offset(instant_ms: int, zone: ZoneInfo) -> timedelta | None:
    return datetime.fromtimestamp(instant_ms // 1000, zone).utcoffset()
