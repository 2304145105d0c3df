"""Missed ticks are found from the ticks of rows, and explained as far as known."""

import pytest

from agent.store.missed import Missed, MissedTicks
from core.manifest import Group
from tests.support.gateway_double import group


def missed(ticks: dict[int, int], reason: str = "stopped", every_ms: int = 10) -> Missed:
    groups: tuple[Group, ...] = (group(1, every_ms=every_ms), group(2, every_ms=every_ms))
    return Missed(groups, ticks, reason)


@pytest.mark.parametrize(
    ("last", "tick", "found"),
    [
        (100, 110, None),
        (100, 120, (110, 110, 1)),
        (100, 150, (110, 140, 4)),
        (None, 500, None),
        # the grid was shifted: ticks of the new one count
        (100, 123, (103, 113, 2)),
        (100, 105, None),
    ],
)
def test_ticks_between_two_rows_are_missed(
    last: int | None, tick: int, found: tuple[int, int, int] | None
) -> None:
    pending = {} if last is None else {1: last}
    hole = missed({}).before(1, tick, "overrun", pending)
    assert hole == (None if found is None else MissedTicks(*found, "overrun"))


@pytest.mark.parametrize("tick", [40, 50, 100])
def test_a_clock_that_went_back_between_two_lives_hides_no_lost_poll(tick: int) -> None:
    one = missed({1: 100}, reason="crashed")
    assert one.before(1, tick, "overrun", {}) == MissedTicks(110, 110, 1, "crashed", unknown_extent=True)
    one.committed({1: tick}, {1: tick})
    assert one.before(1, tick + 10, "overrun", {}) is None


def test_a_clock_set_back_in_a_life_leaves_no_hole() -> None:
    one = missed({1: 100})
    one.committed({1: 110}, {1: 110})
    assert one.before(1, 50, "clock-step", {}) is None


def test_only_the_first_row_of_a_life_explains_what_was_before_it() -> None:
    one = missed({1: 100})
    hole = one.before(1, 130, "overrun", {})
    assert hole is not None
    assert hole.reason == "stopped"
    later = one.before(1, 160, "overrun", {1: 130})
    assert later is not None
    assert later.reason == "overrun"
    one.committed({1: 130}, {1: 130})
    after = one.before(1, 160, "clock-step", {})
    assert after is not None
    assert after.reason == "clock-step"


def test_a_failed_commit_changes_nothing() -> None:
    one = missed({1: 100})
    assert one.before(1, 130, "overrun", {}) == one.before(1, 130, "overrun", {})


def test_a_refusal_after_the_rows_that_waited_is_still_known_when_they_commit() -> None:
    one = missed({1: 100}, every_ms=10)
    one.committed({1: 110}, {1: 110})
    one.refused(1, 140)
    one.committed({1: 130}, {1: 120})
    hole = one.before(1, 160, "overrun", {})
    assert hole == MissedTicks(140, 150, 2, "disk-full")
    one.committed({1: 160}, {1: 160})
    again = one.before(1, 180, "overrun", {})
    assert again is not None
    assert again.reason == "overrun"


def test_the_tick_before_the_first_row_of_a_new_group_is_kept() -> None:
    one = missed({1: 100})
    one.committed({1: 110, 2: 230}, {1: 110, 2: 200})
    assert one.begun == {2: 190}
