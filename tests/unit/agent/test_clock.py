"""What the clock says of itself: synchronised, for a day holdover, else unsure; and steps."""

from collections.abc import Iterator
from contextlib import closing

import pytest

from agent.clock import HOLDOVER_S, STA_UNSYNC, STEP_MS, Clock
from tests.support.virtual_time import VirtualClock, VirtualTimeLoop

NANO = 0x2000
"""STA_NANO of adjtimex(2): another bit, which says nothing of being synchronised."""


@pytest.fixture
def clock() -> Iterator[VirtualClock]:
    with closing(VirtualTimeLoop()) as loop:
        yield VirtualClock(loop)


def passes(clock: VirtualClock, seconds: float) -> None:
    clock._loop.now += seconds


def test_after_synchronisation_is_lost_it_is_holdover_for_a_day_and_then_unsure(clock: VirtualClock) -> None:
    assert clock.state() == "synchronised"
    clock.status = STA_UNSYNC | NANO
    for seconds in (1, HOLDOVER_S - 2):
        passes(clock, seconds)
        assert clock.state() == "holdover"
    passes(clock, 1)
    assert clock.state() == "unsure"
    clock.status = NANO
    assert clock.state() == "synchronised"


def test_the_day_begins_when_it_was_last_seen_synchronised(clock: VirtualClock) -> None:
    assert clock.state() == "synchronised"
    passes(clock, HOLDOVER_S - 1)
    assert clock.state() == "synchronised"
    clock.status = STA_UNSYNC
    passes(clock, HOLDOVER_S - 1)
    assert clock.state() == "holdover"


def test_a_clock_that_was_never_synchronised_is_unsure_at_once(clock: VirtualClock) -> None:
    clock.status = STA_UNSYNC
    assert clock.state() == "unsure"


def test_a_kernel_that_cannot_be_asked_makes_it_unsure_whatever_was_before(clock: VirtualClock) -> None:
    assert clock.state() == "synchronised"
    clock.status = None
    assert clock.state() == "unsure"


def test_a_clock_that_the_operator_trusts_is_not_asked() -> None:
    def never() -> int | None:
        raise AssertionError("asked")

    assert Clock(trusted=True, kernel=never).state() == "synchronised"


def test_the_kernel_of_this_machine_says_something() -> None:
    assert Clock().state() in ("synchronised", "holdover", "unsure")


@pytest.mark.parametrize("step_ms", [3_600_000, -3_600_000, STEP_MS + 1, -STEP_MS - 1])
def test_a_step_is_told_before_its_time_is_used(clock: VirtualClock, step_ms: int) -> None:
    told: list[int] = []
    clock.on_step = told.append
    passes(clock, 10)
    clock.offset_ms += step_ms
    clock.now_ms()
    assert told == [step_ms]
    assert clock.steps == 1


def test_what_ntp_slews_is_no_step(clock: VirtualClock) -> None:
    for _ in range(100):
        passes(clock, 60)
        clock.offset_ms += 30  # 500 ppm
        clock.now_ms()
    assert clock.steps == 0
