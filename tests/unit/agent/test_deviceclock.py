"""The clock of a device beside ours: offset, drift, bounds, and what is not judged."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.deviceclock import KEPT, REASON, WINDOW_MS, DeviceClock, GroupClocks, drift_of
from core.quality import is_reason
from drivers.points import ClockSpec, PointType, point_faults
from tests.support.points import point

T0 = 1_795_348_800_000
SINCE_MS = 946_684_800_000
"""2000-01-01T00:00:00Z."""
DAY_MS = 86_400_000


def spec(max_offset: str = "60s", max_ppm: int | None = None) -> ClockSpec:
    return ClockSpec.model_validate({"since": "2000-01-01", "max_offset": max_offset, "max_ppm": max_ppm})


def shown(at_ms: float, offset_ms: float = 0, ppm: float = 0, step_ms: float = 1000) -> int:
    """Return what a clock that cuts off below its step shows at an instant of ours."""
    return int((at_ms - SINCE_MS + offset_ms + (at_ms - T0) * ppm / 1e6) // step_ms)


def played(
    clock: DeviceClock,
    lapse_ms: float,
    count: int,
    *,
    offset_ms: float = 0,
    ppm: float = 0,
    step_ms: float = 1000,
) -> list[bool]:
    """Compare every so often; the answer is made in the middle of 20 ms."""
    return [
        clock.compare(shown(at, offset_ms, ppm, step_ms), at - 10, at + 10)
        for at in (T0 + number * lapse_ms for number in range(count))
    ]


def clock_point(**clock: object) -> PointType:
    told = {"since": "2000-01-01", "max_offset": "60s", **clock}
    return point("Clock", quantity="Tms", type="uint32", unit="s", sense={"clock": told})


@given(
    offset_ms=st.floats(-1e8, 1e8),
    asked=st.floats(0, 500),
    after=st.floats(0, 500),
    step=st.sampled_from([0, -3]),
)
def test_the_true_offset_lies_within_what_is_said(
    offset_ms: float, asked: float, after: float, step: int
) -> None:
    clock = DeviceClock(spec(), step)
    at = T0 + 123.0
    clock.compare(shown(at, offset_ms, step_ms=1000 * 10.0**step), at - asked, at + after)
    assert clock.last is not None
    assert abs(clock.last.offset_ms - offset_ms) <= clock.last.within_ms + 1e-3


@given(
    ppm=st.floats(-50_000, 50_000),
    offset_ms=st.floats(-1e6, 1e6),
    polls=st.lists(
        st.tuples(st.floats(1000, 600_000), st.floats(0, 400), st.floats(0, 400)), min_size=8, max_size=150
    ),
)
def test_the_true_drift_lies_within_what_is_said(
    ppm: float, offset_ms: float, polls: list[tuple[float, float, float]]
) -> None:
    clock = DeviceClock(spec(), 0)
    at = float(T0)
    for lapse, before, after in polls:
        at += lapse
        clock.compare(shown(at, offset_ms, ppm), at - before, at + after)
    assert clock.drift is not None
    assert clock.settings == 0
    # The comparison is with the middle of the exchange, so at another instant by half of its length.
    assert abs(clock.drift.ppm - ppm) <= clock.drift.within_ppm + 1


@given(st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=60), st.integers(1, 7_200_000))
def test_whatever_a_clock_shows_memory_is_bounded_and_nothing_fails(values: list[int], lapse: int) -> None:
    clock = DeviceClock(spec(max_ppm=100), 0)
    for number, value in enumerate(values):
        at = T0 + number * lapse
        clock.compare(value, at, at + 5)
        clock.news()
        clock.sentence()
        assert len(clock._kept) <= KEPT
        assert all(at + 2.5 - one.at_ms <= WINDOW_MS for one in clock._kept)


def test_drift_of_a_day_is_known_to_a_few_ppm_by_a_register_of_seconds() -> None:
    clock = DeviceClock(spec(), 0)
    played(clock, 60_000, 1440, ppm=-80)
    assert clock.drift is not None
    assert clock.drift.ppm == pytest.approx(-80, abs=15)
    assert clock.drift.within_ppm < 30


def test_bad_comparisons_do_not_move_the_drift() -> None:
    clock = DeviceClock(spec(), -3)
    for number in range(30):
        at = T0 + number * 60_000
        wrong_ms = 900 if number % 7 == 3 else 0  # answered late, and the device said so at once
        clock.compare(shown(at, wrong_ms, 200, 1), at - 10, at + 10)
    assert clock.drift is not None
    assert clock.drift.ppm == pytest.approx(200, abs=20)


def test_an_offset_counts_as_beyond_its_bound_only_when_that_is_certain() -> None:
    clock = DeviceClock(spec("60s"), 0)
    assert played(clock, 10_000, 3, offset_ms=60_500) == [False] * 3  # 61 s shown, one of them is open
    assert played(clock, 10_000, 3, offset_ms=-3_600_000) == [True] * 3


def test_a_clock_that_was_set_begins_a_new_window_and_leaves_no_drift_behind() -> None:
    clock = DeviceClock(spec(), 0)
    played(clock, 10_000, 20, offset_ms=40_000)
    assert clock.drift is not None
    at = T0 + 200_000
    clock.compare(shown(at), at - 10, at + 10)
    assert clock.settings == 1
    assert clock.drift is None


def test_an_alarm_begins_and_ends_once_and_not_where_it_is_uncertain() -> None:
    clock = DeviceClock(spec("60s"), 0)
    told = []
    for seconds in [0, 59, 60.5, 62, 63, 60.5, 59.5, 58, 0, 0]:
        clock.compare(shown(T0, seconds * 1000), T0 - 10, T0 + 10)
        told.append(clock.news())
    assert told == [None, None, None, True, None, None, None, False, None, None]


def test_a_drift_beyond_its_bound_is_an_alarm_while_the_offset_is_still_small() -> None:
    clock = DeviceClock(spec("1h", max_ppm=100), 0)
    played(clock, 60_000, 240, ppm=400)
    assert clock.news() is True
    assert "gains" in clock.sentence()
    assert "100 ppm" in clock.sentence()


def test_comparisons_at_one_instant_show_no_drift() -> None:
    clock = DeviceClock(spec(), 0)
    played(clock, 0, 9)
    assert clock.drift is None
    assert drift_of([]) is None


def group(exp: int = 0) -> GroupClocks:
    return GroupClocks([point("W"), clock_point()], [0, exp])


def judged(
    clocks: GroupClocks, value: object, tick: int = T0, steps: int = 0, **quality: list[str]
) -> dict[str, list[str]]:
    found = {key.removeprefix("p"): list(reasons) for key, reasons in quality.items()}
    clocks.judge(tick, steps, [5, value], found, {1: (0.0, 20.0)})  # type: ignore[list-item]
    return found


def test_the_reason_is_in_the_list_and_concerns_the_clock_alone() -> None:
    assert is_reason(REASON)
    assert judged(group(), shown(T0 + 10, 3_600_000)) == {"1": [REASON]}
    assert judged(group(), shown(T0 + 10)) == {}


def test_a_clock_that_jumped_is_compared_and_one_without_a_good_value_is_not() -> None:
    off = shown(T0 + 10, 3_600_000)
    assert judged(group(), off, p1=["rate"]) == {"1": ["rate", REASON]}
    assert judged(group(), off, p1=["out-of-range"]) == {"1": ["out-of-range"]}
    assert judged(group(), off, p1=["substituted"]) == {"1": ["substituted"]}
    assert judged(group(), None, p1=["not-available"]) == {"1": ["not-available"]}


def test_nothing_is_compared_over_a_step_of_our_own_clock() -> None:
    clocks = group()
    for number in range(10):
        judged(clocks, shown(T0 + 10 + number * 10_000), T0 + number * 10_000)
    ours = T0 + 100_000 + 3_600_000  # set forward by an hour: now the device seems to be behind
    judged(clocks, shown(T0 + 100_010), ours, steps=1)
    clock = clocks.by_point[1]
    assert clock.settings == 0
    assert clock.drift is None
    assert list(clocks.news()) == [(True, clock.sentence())]
    assert "3600.0 s behind" in clock.sentence() or "3601.0 s behind" in clock.sentence()


def test_a_clock_is_declared_for_seconds_and_with_a_bound_wider_than_its_steps() -> None:
    assert point_faults(clock_point()) == []
    counter = clock_point().model_copy(update={"cumulative": True})
    assert "no counter" in point_faults(counter)[0]
    assert "no day" in point_faults(clock_point_unchecked(since="2000-02-30"))[0]
    assert "more than two steps" in point_faults(clock_point_unchecked(max_offset="2s"))[0]
    assert "writes a number of table" in point_faults(clock_point_unchecked(set="registers"))[0]


def clock_point_unchecked(**clock: object) -> PointType:
    told = {"since": "2000-01-01", "max_offset": "60s", **clock}
    whole = {
        "name": "Clock",
        "quantity": "Tms",
        "unit": "s",
        "table": "input",
        "address": 0,
        "type": "uint32",
    }
    return PointType.model_validate({**whole, "sense": {"clock": told}})


def test_a_zero_instant_is_the_beginning_of_its_day_in_utc() -> None:
    assert spec().since_ms == SINCE_MS
    assert ClockSpec(since="1970-01-02", max_offset="1min", max_ppm=Decimal(5)).since_ms == DAY_MS  # type: ignore[arg-type,call-arg]
