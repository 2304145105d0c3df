"""Intervals of a cumulative register: edges, amounts, and what makes one partial or missing."""

from collections.abc import Iterable
from datetime import datetime
from itertools import groupby, pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.intervals import (
    DECREASED,
    METER_CHANGE,
    NO_END,
    NO_START,
    TRANSFORMER_CHANGE,
    Completeness,
    Interval,
    Register,
    Sample,
    intervals,
)

QUARTER = 900_000
T0 = 1_795_348_800_000
"""A boundary: 2026-11-22T12:00:00Z."""
MINUTE = 60_000
A = Register("a")
ACTUAL, PARTIAL, MISSING = Completeness.ACTUAL, Completeness.PARTIAL, Completeness.MISSING


def at(
    minute: float, steps: int | None, *reasons: str, register: Register = A, modulus: int | None = None
) -> Sample:
    return Sample(T0 + int(minute * MINUTE), steps, reasons, register, MINUTE, modulus)


def minutes(first: int, last: int, register: Register = A, base: int = 0) -> list[Sample]:
    """A sample each minute, both ends included; ten steps a minute."""
    return [at(minute, base + 10 * minute, register=register) for minute in range(first, last + 1)]


def made(samples: Iterable[Sample], begin: int | None = None, end: int | None = None) -> list[Interval]:
    """Intervals; bounds in minutes."""
    bounds = [None if bound is None else T0 + bound * MINUTE for bound in (begin, end)]
    return list(intervals(samples, QUARTER, *bounds))


def short(found: list[Interval]) -> list[tuple[int | None, Completeness]]:
    return [(one.steps, one.completeness) for one in found]


def test_intervals_are_aligned_half_open_and_share_their_edges() -> None:
    found = made(minutes(0, 45))
    assert short(found) == [(150, ACTUAL)] * 3
    assert [(one.start_ms, one.end_ms) for one in found] == [
        (T0 + number * QUARTER, T0 + (number + 1) * QUARTER) for number in range(3)
    ]
    assert [one.good for one in found] == [15, 15, 15]


def test_interval_that_is_not_over_is_not_told() -> None:
    assert len(made(minutes(0, 44))) == 2
    assert made(minutes(0, 14)) == []


def test_edge_within_the_tolerance_counts_and_one_behind_it_does_not() -> None:
    late = [at(0, 0), at(14, 140), at(16, 160), at(30, 300)]
    assert short(made(late)) == [(160, ACTUAL), (140, ACTUAL)]
    too_late = [at(0, 0), at(14, 140), at(16.1, 161), at(30, 300)]
    found = made(too_late)
    assert short(found) == [(140, PARTIAL), (139, PARTIAL)]
    assert [one.reasons for one in found] == [(NO_END,), (NO_START,)]


def test_edge_is_the_first_good_sample_not_the_first() -> None:
    samples = [at(0, 0), at(15, None, "timeout"), at(16, 160), at(30, 300)]
    found = made(samples)
    assert short(found) == [(160, ACTUAL), (140, ACTUAL)]
    assert [one.reasons for one in found] == [(), ("timeout",)]


def test_gap_inside_loses_nothing_and_its_reasons_are_told() -> None:
    samples = [at(0, 0), at(3, None, "timeout"), at(9, 95, "rate"), at(15, 150)]
    (found,) = made(samples)
    assert (found.steps, found.completeness, found.reasons) == (150, ACTUAL, ("timeout", "rate"))


def test_gap_over_boundaries_makes_partial_and_missing_intervals() -> None:
    samples = [*minutes(0, 20), *minutes(50, 75)]
    found = made(samples)
    assert short(found) == [(150, ACTUAL), (50, PARTIAL), (None, MISSING), (100, PARTIAL), (150, ACTUAL)]
    assert found[2].reasons == (NO_START, NO_END)


def test_reset_is_never_counted_over() -> None:
    samples = [*minutes(0, 7), at(8, 3, "reset"), at(15, 73), at(30, 223)]
    found = made(samples)
    assert short(found) == [(140, PARTIAL), (150, ACTUAL)]
    assert found[0].reasons == ("reset",)


def test_decrease_that_nobody_explained_makes_the_interval_partial() -> None:
    samples = [*minutes(0, 7), at(8, 3), at(15, 73)]
    assert [(one.steps, one.completeness, one.reasons) for one in made(samples)] == [
        (140, PARTIAL, (DECREASED,))
    ]


def test_rollover_is_exact_where_the_modulus_is_known() -> None:
    known = [at(0, 940, modulus=1000), at(7, 5, "rollover", modulus=1000), at(15, 90, modulus=1000)]
    (found,) = made(known)
    assert (found.steps, found.completeness, found.reasons) == (150, ACTUAL, ("rollover",))
    (found,) = made([one._replace(modulus=None) for one in known])
    assert (found.steps, found.completeness, found.reasons) == (85, PARTIAL, ("rollover",))


def test_rollover_and_reset_told_by_a_reading_that_is_not_good_are_not_forgotten() -> None:
    rolled = [at(0, 940, modulus=1000), at(7, 5, "rollover", "stale"), at(15, 90, modulus=1000)]
    assert short(made(rolled)) == [(150, ACTUAL)]
    reset = [at(0, 5), at(7, 2, "reset", "stale"), at(15, 90)]
    assert short(made(reset)) == [(None, MISSING)]


def test_registers_of_two_meters_are_never_subtracted() -> None:
    b = Register("b")
    samples = [*minutes(0, 20), *minutes(21, 45, b, base=100_000)]
    found = made(samples)
    assert short(found) == [(150, ACTUAL), (50 + 90, PARTIAL), (150, ACTUAL)]
    assert [one.reasons for one in found] == [(), (METER_CHANGE,), ()]


def test_change_of_meter_at_a_boundary_makes_the_interval_before_it_partial() -> None:
    samples = [*minutes(0, 14), *minutes(15, 30, Register("b"), base=7)]
    found = made(samples)
    assert short(found) == [(140, PARTIAL), (150, ACTUAL)]
    assert found[0].reasons == (METER_CHANGE,)


def test_change_of_transformers_is_said_and_not_counted_over() -> None:
    samples = [*minutes(0, 20), *minutes(21, 30, Register("a", "40"), base=210)]
    found = made(samples)
    assert short(found) == [(150, ACTUAL), (140, PARTIAL)]
    assert found[1].reasons == (TRANSFORMER_CHANGE,)


def test_bounds_bring_missing_intervals_where_there_is_nothing() -> None:
    assert short(made([], 0, 30)) == [(None, MISSING)] * 2
    assert short(made(minutes(15, 30), 0, 45)) == [(None, MISSING), (150, ACTUAL), (None, MISSING)]
    assert made([]) == made([], 0) == made([], 10, 20) == []


def test_only_intervals_that_lie_within_the_bounds_are_told() -> None:
    found = made(minutes(-20, 60), 1, 44)
    assert [(one.start_ms - T0) // MINUTE for one in found] == [15]


def test_late_and_double_samples_change_nothing() -> None:
    samples = minutes(0, 15)
    doubled = [*samples[:8], samples[7]._replace(steps=71), samples[3], *samples[8:]]
    assert made(doubled) == made(samples)


def test_day_on_which_the_clocks_change_has_the_intervals_that_it_lasts() -> None:
    berlin = ZoneInfo("Europe/Berlin")
    for day, hours in ((25, 25), (24, 24)):
        begin = int(datetime(2026, 10, day, tzinfo=berlin).timestamp()) * 1000
        end = int(datetime(2026, 10, day + 1, tzinfo=berlin).timestamp()) * 1000
        samples = [Sample(tick, tick // 1000) for tick in range(begin, end + 1, 5 * MINUTE)]
        found = list(intervals(samples, QUARTER, begin, end))
        assert len(found) == 4 * hours
        assert {one.completeness for one in found} == {ACTUAL}
        assert sum(one.steps or 0 for one in found) == hours * 3600


@st.composite
def _walks(draw: st.DrawFn) -> list[Sample]:
    """A register that only grows, read now and then, by two meters, with rollovers, resets and failures."""
    modulus = draw(st.sampled_from([None, 5000]))
    tick, total, samples, register = T0, draw(st.integers(0, 4999)), [], A
    for _ in range(draw(st.integers(0, 60))):
        tick += draw(st.sampled_from([1, 10, 60, 60, 60, 240, 900, 2000])) * 1000
        growth = draw(st.integers(0, 400))
        event = draw(
            st.sampled_from(["", "", "", "", "", "timeout", "stale", "reset", "meter", "clock-unsure"])
        )
        if event == "reset":
            total = 0
        elif event == "meter":
            register, total = Register(draw(st.sampled_from("abc"))), draw(st.integers(0, 4999))
        rolled = modulus is not None and total % 5000 + growth >= 5000
        total += growth
        reasons = [event] if event not in ("", "meter") else []
        value = None if event == "timeout" else total % modulus if modulus else total
        if event == "timeout" and rolled:
            total -= growth
            rolled = False
        samples.append(
            Sample(tick, value, (*reasons, *(["rollover"] if rolled else [])), register, MINUTE, modulus)
        )
    return samples


@given(_walks(), st.sampled_from([300_000, QUARTER, 3_600_000]))
def test_intervals_follow_each_other_and_more_samples_than_two_intervals_are_not_needed(
    samples: list[Sample], every_ms: int
) -> None:
    found = list(intervals(samples, every_ms))
    if found:
        starts = [one.start_ms for one in found]
        assert starts == list(range(starts[0], starts[0] + every_ms * len(starts), every_ms))
        assert starts[0] == samples[0].tick // every_ms * every_ms
    for one in found:
        assert (one.steps is None) == (one.completeness is MISSING)
        assert one.steps is None or one.steps >= 0
        inside = [sample for sample in samples if one.start_ms <= sample.tick < one.end_ms + every_ms]
        alone = list(intervals(inside, every_ms, one.start_ms, one.end_ms))
        assert [(it.steps, it.completeness) for it in alone] == [(one.steps, one.completeness)]


@given(_walks(), st.sampled_from([300_000, QUARTER]))
def test_sums_over_actual_intervals_are_the_register_difference(samples: list[Sample], every_ms: int) -> None:
    edges: dict[int, Sample] = {}
    for sample in samples:
        if sample.good:
            edges.setdefault(sample.tick // every_ms * every_ms, sample)
    for whole, run in groupby(intervals(samples, every_ms), lambda one: one.completeness is ACTUAL):
        if not whole:
            continue
        actual = list(run)
        first, last = edges[actual[0].start_ms], edges[actual[-1].end_ms]
        assert first.register == last.register
        assert first.steps is not None
        assert last.steps is not None
        between = [sample for sample in samples if first.tick < sample.tick <= last.tick]
        assert not any("reset" in sample.reasons for sample in between)
        rolled = sum("rollover" in sample.reasons for sample in between) * (first.modulus or 0)
        assert sum(one.steps or 0 for one in actual) == last.steps - first.steps + rolled


@given(_walks())
def test_longer_intervals_are_the_sum_of_the_shorter_ones_where_these_are_actual(
    samples: list[Sample],
) -> None:
    short_ones = {one.start_ms: one for one in intervals(samples, 300_000)}
    for one in intervals(samples, QUARTER):
        parts = [short_ones.get(one.start_ms + number * 300_000) for number in range(3)]
        if all(part is not None and part.completeness is ACTUAL for part in parts):
            assert one.steps == sum(part.steps or 0 for part in parts if part is not None)
            assert one.completeness is ACTUAL


@given(_walks())
def test_what_is_told_is_never_more_than_what_was_counted(samples: list[Sample]) -> None:
    good = [sample for sample in samples if sample.good]
    counted = sum(
        max((after.steps or 0) - (before.steps or 0), 0)
        + (5000 if after.modulus and "rollover" in after.reasons else 0)
        for before, after in pairwise(good)
        if before.register == after.register
    )
    if not any("rollover" in sample.reasons and not sample.good for sample in samples):
        assert sum(one.steps or 0 for one in intervals(samples, QUARTER)) <= counted


@pytest.mark.parametrize("reason", ["clock-unsure", "clock-forward"])
def test_edge_whose_time_is_in_doubt_keeps_the_amount_and_makes_its_intervals_partial(reason: str) -> None:
    samples = [*minutes(0, 14), at(15, 150, reason), at(20, 200, reason), *minutes(30, 60)]
    found = made(samples)
    assert short(found) == [(150, PARTIAL), (150, PARTIAL), (150, ACTUAL), (150, ACTUAL)]
    assert [one.reasons for one in found] == [(reason,), (reason,), (), ()]
    inside = [*minutes(0, 7), at(8, 80, reason), *minutes(9, 15)]
    assert [(one.steps, one.completeness, one.reasons) for one in made(inside)] == [(150, ACTUAL, (reason,))]


@pytest.mark.parametrize("reason", ["clock-back", "rate", "substituted", "frozen", "stale", "unheard-of"])
def test_doubtful_value_is_no_edge(reason: str) -> None:
    found = made([at(0, 0), at(15, 150, reason), at(30, 300)])
    assert short(found) == [(None, MISSING), (None, MISSING)]
    assert reason in found[1].reasons
