"""Windows: over midnight, over daylight saving, holidays, seasons; a whole span, not its ends."""

from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.forms import instant_text
from policies.grant import Window
from policies.policy import Calendar
from policies.when import Holds, Span, ZonedWindow, covered, dates, in_season, season_start, touched
from tests.unit.policies.made import CALENDAR, MIN, H, Table, at

ZONE = "America/New_York"
US = Calendar.model_validate(CALENDAR)


def windows(*tables: Table) -> list[ZonedWindow]:
    return [ZonedWindow.of(Window.model_validate(one), ZONE, [US]) for one in tables]


def span(begin: str, hours: float) -> Span:
    begin_ms = at(begin)
    return Span(begin_ms, begin_ms + round(hours * H))


def test_a_window_holds_from_its_start_to_before_its_end() -> None:
    day = windows({"start": "06:00", "end": "22:00"})
    assert covered(day, span("2026-11-24T11:00:00Z", 16))[0] is Holds.YES
    assert covered(day, span("2026-11-24T11:00:00Z", 16.001)) == (Holds.NO, at("2026-11-25T03:00:00Z"))
    assert covered(day, Span(at("2026-11-24T10:59:59.999Z"), at("2026-11-24T12:00:00Z")))[0] is Holds.NO


@pytest.mark.parametrize("instant", ["15:00:00Z", "15:00:00.250Z", "15:00:59Z", "15:59:59.999Z", "11:00:00Z"])
def test_an_answer_holds_until_the_very_end_of_the_window(instant: str) -> None:
    day = windows({"start": "06:00", "end": "22:00"})[0]
    assert day.at(at(f"2026-11-24T{instant}")) == (Holds.YES, at("2026-11-25T03:00:00Z"))
    assert day.at(at(f"2026-11-24T{instant}") - 12 * H) in (
        (Holds.NO, at("2026-11-24T05:00:00Z")),  # until midnight, or from there to the morning
        (Holds.YES, at("2026-11-24T03:00:00Z")),
    )


def test_a_shed_at_a_minute_to_the_end_for_four_hours_is_not_covered() -> None:
    assert covered(windows({"start": "06:00", "end": "22:00"}), span("2026-11-25T02:59:00Z", 4)) == (
        Holds.NO,
        at("2026-11-25T03:00:00Z"),
    )


def test_both_ends_inside_and_a_night_between_is_not_covered() -> None:
    assert (
        covered(windows({"start": "06:00", "end": "22:00"}), span("2026-11-24T15:00:00Z", 24))[0] is Holds.NO
    )


def test_a_night_belongs_to_the_day_on_which_it_began() -> None:
    friday = windows({"days": ["fr"], "start": "22:00", "end": "06:00"})
    assert covered(friday, span("2026-11-28T03:00:00Z", 8))[0] is Holds.YES
    assert covered(friday, span("2026-11-28T03:00:00Z", 8.01))[0] is Holds.NO
    assert covered(friday, span("2026-11-27T05:00:00Z", 1))[0] is Holds.NO


def test_windows_that_join_cover_together() -> None:
    both = windows({"start": "06:00", "end": "12:00"}, {"start": "11:59", "end": "18:00"})
    assert covered(both, span("2026-11-24T11:00:00Z", 12))[0] is Holds.YES
    apart = windows({"start": "06:00", "end": "12:00"}, {"start": "12:01", "end": "18:00"})
    assert covered(apart, span("2026-11-24T11:00:00Z", 12)) == (Holds.NO, at("2026-11-24T17:00:00Z"))


def test_zones_of_windows_are_their_own() -> None:
    berlin = windows({"start": "06:00", "end": "22:00", "zone": "Europe/Berlin"})
    assert covered(berlin, span("2026-11-24T05:00:00Z", 16))[0] is Holds.YES


@pytest.mark.parametrize(
    ("days", "begin", "holds"),
    [
        (["th"], "2026-11-26T15:00:00Z", Holds.NO),
        (["holiday"], "2026-11-26T15:00:00Z", Holds.YES),
        (["th", "holiday"], "2026-11-26T15:00:00Z", Holds.YES),
        (["th"], "2026-11-19T15:00:00Z", Holds.YES),
        (["holiday"], "2026-11-19T15:00:00Z", Holds.NO),
        (["mo"], "2028-01-03T15:00:00Z", Holds.UNKNOWN),
        (["holiday"], "2028-01-03T15:00:00Z", Holds.UNKNOWN),
        (["mo", "holiday"], "2028-01-03T15:00:00Z", Holds.YES),
        (["tu"], "2028-01-03T15:00:00Z", Holds.NO),
    ],
)
def test_a_holiday_is_no_weekday_and_beyond_the_calendar_nobody_knows(
    days: list[str], begin: str, holds: Holds
) -> None:
    found = windows({"days": days, "calendar": "us"})
    assert covered(found, span(begin, 1))[0] is holds


def test_a_calendar_that_nobody_has_makes_a_window_unknown() -> None:
    missing = [ZonedWindow.of(Window.model_validate({"days": ["tu"], "calendar": "us"}), ZONE, [])]
    assert covered(missing, span("2026-11-24T15:00:00Z", 1))[0] is Holds.UNKNOWN
    assert touched(missing, span("2026-11-24T15:00:00Z", 1))


def test_a_season_ends_at_local_midnight_and_may_go_over_new_year() -> None:
    winter = windows({"season": ["10-01", "04-30"]})
    assert covered(winter, span("2027-05-01T03:00:00Z", 1))[0] is Holds.YES
    assert covered(winter, span("2027-05-01T03:00:00Z", 1.01)) == (Holds.NO, at("2027-05-01T04:00:00Z"))
    assert covered(winter, span("2027-01-01T04:00:00Z", 2))[0] is Holds.YES


def test_the_hour_that_comes_twice_lies_in_its_window_twice() -> None:
    # 2026-11-01: 01:00 to 02:00 is 05:00Z to 06:00Z in summer time and again 06:00Z to 07:00Z.
    hour = windows({"start": "01:00", "end": "02:00"})
    assert covered(hour, span("2026-11-01T05:00:00Z", 2))[0] is Holds.YES
    half = windows({"start": "01:00", "end": "01:30"})
    assert covered(half, span("2026-11-01T05:00:00Z", 1)) == (Holds.NO, at("2026-11-01T05:30:00Z"))
    assert covered(half, span("2026-11-01T06:00:00Z", 0.5))[0] is Holds.YES
    long = windows({"start": "00:00", "end": "03:00"})
    assert covered(long, span("2026-11-01T04:00:00Z", 4))[0] is Holds.YES
    assert covered(long, span("2026-11-01T04:00:00Z", 4.01))[0] is Holds.NO


@pytest.mark.parametrize("seconds", range(1, 40))
def test_an_answer_holds_until_the_very_instant_at_which_the_clock_is_changed(seconds: int) -> None:
    whole_day = windows({})[0]
    for change in ("2026-11-01T06:00:00Z", "2026-03-08T07:00:00Z"):
        assert whole_day.at(at(change) - seconds * 1000 - 7) == (Holds.YES, at(change))


def test_the_hour_that_does_not_come_shortens_its_window() -> None:
    # 2026-03-08: the clock goes from 02:00 to 03:00 at 07:00Z.
    skipped = windows({"start": "02:00", "end": "03:00"})
    assert not touched(skipped, span("2026-03-08T05:00:00Z", 12))
    around = windows({"start": "01:00", "end": "04:00"})
    assert covered(around, span("2026-03-08T06:00:00Z", 2))[0] is Holds.YES
    assert covered(around, span("2026-03-08T06:00:00Z", 2.01))[0] is Holds.NO


def test_a_window_is_touched_by_any_instant_of_it() -> None:
    evening = windows({"start": "22:00", "end": "23:00"})
    assert touched(evening, span("2026-11-25T02:00:00Z", 1.001))
    assert not touched(evening, span("2026-11-25T02:00:00Z", 1))


@given(
    st.integers(at("2026-01-01T00:00:00Z") // MIN, at("2027-12-01T00:00:00Z") // MIN),
    st.integers(1, 50 * 60),
    st.integers(0, 95),
    st.integers(1, 95),
    st.sampled_from(["America/New_York", "Europe/Berlin", "Australia/Lord_Howe", "Asia/Kolkata"]),
)
def test_a_span_is_covered_when_each_of_its_minutes_is(
    begin: int, length: int, start: int, long: int, zone: str
) -> None:
    first, last = start * 15, (start + long) * 15 % 1440
    window = Window.model_validate(
        {
            "start": f"{first // 60:02d}:{first % 60:02d}",
            "end": f"{last // 60:02d}:{last % 60:02d}" if last else "24:00",
            "zone": zone,
        }
    )
    found = [ZonedWindow.of(window, ZONE, [])]
    whole = Span(begin * MIN, (begin + length) * MIN)
    each = [found[0].at(one * MIN)[0] is Holds.YES for one in range(begin, begin + length)]
    assert (covered(found, whole)[0] is Holds.YES) == all(each)
    assert touched(found, whole) == any(each)


def test_dates_are_local_and_the_last_instant_is_not_of_the_next_day() -> None:
    evening = span("2026-11-25T03:00:00Z", 2)
    zone = windows({})[0].zone
    assert list(dates(evening, zone)) == [date(2026, 11, 24)]
    assert list(dates(Span(evening.begin_ms, evening.end_ms + 1), zone)) == [
        date(2026, 11, 24),
        date(2026, 11, 25),
    ]


@pytest.mark.parametrize(
    ("season", "day", "first"),
    [
        ((601, 930), date(2026, 6, 1), date(2026, 6, 1)),
        ((601, 930), date(2026, 9, 30), date(2026, 6, 1)),
        ((601, 930), date(2026, 10, 1), None),
        ((1001, 430), date(2027, 1, 5), date(2026, 10, 1)),
        ((1001, 430), date(2026, 12, 5), date(2026, 10, 1)),
        ((1001, 430), date(2026, 10, 1), date(2026, 10, 1)),
        ((1211, 1205), date(2026, 12, 5), date(2025, 12, 11)),
        ((501, 501), date(2027, 5, 1), date(2027, 5, 1)),
        ((501, 501), date(2027, 5, 2), None),
        ((501, 501), date(2027, 4, 30), None),
        ((229, 1231), date(2027, 3, 1), date(2027, 3, 1)),
        ((229, 1231), date(2028, 3, 1), date(2028, 2, 29)),
    ],
)
def test_a_season_is_named_by_its_first_date(season: tuple[int, int], day: date, first: date | None) -> None:
    assert season_start(season, day) == first
    assert in_season(season, day) == (first is not None)


def test_instants_are_written_as_they_are_read() -> None:
    for text in ("2026-11-24T15:00:00Z", "2026-11-24T15:00:00.123Z"):
        assert instant_text(at(text)) == text


def test_one_window_that_nobody_knows_makes_the_answer_unknown_beside_one_that_does_not_hold() -> None:
    both = windows({"start": "06:00", "end": "07:00"}, {"calendar": "none", "days": ["holiday"]})
    assert covered(both, span("2026-11-24T15:00:00Z", 1))[0] is Holds.UNKNOWN
    assert covered(both[::-1], span("2026-11-24T15:00:00Z", 1))[0] is Holds.UNKNOWN
    assert covered(both[:1], span("2026-11-24T15:00:00Z", 1))[0] is Holds.NO


def test_a_calendar_covers_its_first_and_its_last_day() -> None:
    assert US.is_holiday(US.first) is False
    assert US.is_holiday(US.last) is False
    assert US.is_holiday(US.first - timedelta(days=1)) is None
    assert US.is_holiday(US.last + timedelta(days=1)) is None


def test_a_window_does_not_begin_at_the_end_of_the_day() -> None:
    for start, end in (("24:00", "06:00"), ("06:00", "06:00")):
        with pytest.raises(ValueError, match="leave nothing between"):
            Window.model_validate({"start": start, "end": end})
