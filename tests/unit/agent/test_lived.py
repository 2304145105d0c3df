"""Ticks lived twice are marked, and only those."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from agent.lived import BACK, FORWARD, MAX_SPANS, Lived, LivedTicks, Span, joined


def test_ticks_of_an_earlier_life_may_occur_twice() -> None:
    lived = LivedTicks(Lived(((0, 100),), 100), 0)
    assert lived.mark(100, 0) == BACK
    assert lived.mark(110, 0) is None


def test_only_ticks_that_were_polled_are_marked_after_a_clock_was_ahead() -> None:
    lived = LivedTicks(Lived(), 0)
    lived.lived(10, 0)
    assert lived.mark(5000, 1) == FORWARD
    lived.lived(5000, 1)
    lived.lived(5010, 1)
    assert lived.mark(30, 2) == BACK  # the first one after the step says that there was one
    lived.lived(30, 2)
    assert lived.mark(40, 2) is None
    assert lived.mark(5010, 2) == BACK


def test_ticks_of_an_earlier_life_that_a_clock_set_back_left_behind_are_marked_when_they_come() -> None:
    # polled until 1000, set back to 400, polled until 500, restarted
    lived = LivedTicks(Lived(((0, 1000),), 500), 0)
    assert lived.mark(510, 0) == BACK
    lived.lived(510, 0)
    assert lived.mark(1000, 0) == BACK
    lived.lived(1000, 0)
    assert lived.mark(1010, 0) is None


def test_ticks_between_two_lives_of_which_one_was_ahead_are_not_marked() -> None:
    lived = LivedTicks(Lived(((0, 100), (9000, 9100)), 9100), 0)
    assert lived.mark(110, 0) is None
    assert lived.mark(9050, 0) == BACK


def test_a_clock_that_steps_for_ever_costs_a_bounded_memory_and_misses_no_tick_lived_twice() -> None:
    lived = LivedTicks(Lived(), 0)
    for step in range(10 * MAX_SPANS):
        lived.lived(step * 1000, step)
    assert all(lived.mark(step * 1000, 10 * MAX_SPANS) == BACK for step in range(10 * MAX_SPANS))


def test_the_smallest_holes_are_filled_first() -> None:
    year = 1_000_000
    spans = [(number * 100, number * 100 + 50) for number in range(MAX_SPANS + 5)]
    found = joined([*spans, (year, year + 10)])
    assert len(found) == MAX_SPANS
    assert found[-1] == (year, year + 10)


spans = st.lists(
    st.tuples(st.integers(0, 500), st.integers(0, 20)).map(lambda one: (one[0], one[0] + one[1]))
)


@given(spans, st.integers(0, 30))
def test_joined_spans_hold_every_tick_in_order_and_bounded(found: list[Span], hole: int) -> None:
    whole = joined(found, hole)
    assert len(whole) <= MAX_SPANS
    assert all(one[1] + hole < two[0] for one, two in pairwise(whole))
    assert all(any(first <= tick <= last for first, last in whole) for span in found for tick in span)
    assert joined(whole, hole) == whole
