"""Ticks lived twice are marked, and only those."""

from agent.lived import BACK, FORWARD, MAX_SPANS, LivedTicks


def test_ticks_of_an_earlier_life_may_occur_twice() -> None:
    lived = LivedTicks(100, 0)
    assert lived.mark(100, 0) == BACK
    assert lived.mark(110, 0) is None


def test_only_ticks_that_were_polled_are_marked_after_a_clock_was_ahead() -> None:
    lived = LivedTicks(None, 0)
    lived.lived(10, 0)
    assert lived.mark(5000, 1) == FORWARD
    lived.lived(5000, 1)
    lived.lived(5010, 1)
    assert lived.mark(30, 2) == BACK  # the first one after the step says that there was one
    lived.lived(30, 2)
    assert lived.mark(40, 2) is None
    assert lived.mark(5010, 2) == BACK


def test_a_clock_that_steps_for_ever_costs_a_bounded_memory_and_misses_no_tick_lived_twice() -> None:
    lived = LivedTicks(None, 0)
    for step in range(10 * MAX_SPANS):
        lived.lived(step * 1000, step)
    assert all(lived.mark(step * 1000, 10 * MAX_SPANS) == BACK for step in range(10 * MAX_SPANS))
