"""How fresh a policy is, at the edges of each of its dates."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.trust.floor import BEHIND_MS, NO_FLOOR, Floor
from policies.trust.freshness import (
    ALLOWED,
    GRACE_MS,
    Control,
    Forwarding,
    Freshness,
    Running,
    freshness,
    roster_in_date,
)

DAY = 86_400_000
NOW = 1_000 * DAY
EXPIRES = {
    "root": NOW + 700 * DAY,
    "targets": NOW + 180 * DAY,
    "snapshot": NOW + 60 * DAY,
    "timestamp": NOW + 14 * DAY,
    "esco1": NOW + 90 * DAY,
}
ASSIGNED = NOW + 150 * DAY


def at(now: int, floor: Floor = NO_FLOOR, assigned: int | None = ASSIGNED, *, sure: bool = True) -> Freshness:
    """Return the state at an instant."""
    return freshness(EXPIRES, assigned, now, floor, clock_sure=sure)


@pytest.mark.parametrize(
    ("days", "state"),
    [
        (0, Freshness.FRESH),
        (14, Freshness.STALE),
        (14 + 30, Freshness.EXPIRED),
        (700, Freshness.ROOT_EXPIRED),
    ],
)
def test_states_begin_at_the_instant_of_expiry(days: int, state: Freshness) -> None:
    order = [Freshness.FRESH, Freshness.STALE, Freshness.EXPIRED, Freshness.ROOT_EXPIRED]
    assert at(NOW + days * DAY) is state
    if days:
        assert at(NOW + days * DAY - 1) is order[order.index(state) - 1]


def test_the_snapshot_makes_stale_as_the_timestamp_does() -> None:
    expires = {**EXPIRES, "timestamp": NOW + 100 * DAY}
    assert freshness(expires, ASSIGNED, NOW + 60 * DAY, NO_FLOOR, clock_sure=True) is Freshness.STALE


def test_the_assignment_makes_expired_as_the_policy_does() -> None:
    assert at(NOW + DAY, assigned=NOW + DAY) is Freshness.EXPIRED
    expires = {**EXPIRES, "timestamp": NOW + 300 * DAY, "snapshot": NOW + 300 * DAY}
    assert (
        freshness(expires, NOW + 400 * DAY, NOW + 180 * DAY, NO_FLOOR, clock_sure=True) is Freshness.EXPIRED
    )


def test_without_a_set_or_without_an_assignment_there_is_no_policy() -> None:
    assert freshness(None, ASSIGNED, NOW, NO_FLOOR, clock_sure=True) is Freshness.NO_POLICY
    assert at(NOW, assigned=None) is Freshness.NO_POLICY


def test_a_roster_that_ran_out_leaves_the_state_as_it_is() -> None:
    expires = {**EXPIRES, "esco1": NOW - 1}
    assert freshness(expires, ASSIGNED, NOW, NO_FLOOR, clock_sure=True) is Freshness.FRESH
    assert not roster_in_date(expires, "esco1", NOW)


def test_a_roster_counts_up_to_its_end_and_an_unknown_one_never() -> None:
    assert roster_in_date(EXPIRES, "esco1", NOW + 90 * DAY - 1)
    assert not roster_in_date(EXPIRES, "esco1", NOW + 90 * DAY)
    assert not roster_in_date(EXPIRES, "stranger", 0)


def test_a_clock_behind_the_floor_is_unsure_beyond_the_margin() -> None:
    assert at(NOW, Floor(NOW + BEHIND_MS)) is Freshness.FRESH
    assert at(NOW, Floor(NOW + BEHIND_MS + 1)) is Freshness.CLOCK_UNSURE


def test_what_has_run_out_by_the_floor_has_run_out_whatever_the_clock_shows() -> None:
    assert at(NOW - 400 * DAY, Floor(NOW + 44 * DAY)) is Freshness.EXPIRED
    assert at(0, Floor(NOW + 44 * DAY), sure=False) is Freshness.EXPIRED


def test_a_clock_that_nothing_keeps_right_is_unsure() -> None:
    assert at(NOW, sure=False) is Freshness.CLOCK_UNSURE


def test_every_state_has_its_row_and_only_fresh_allows_everything() -> None:
    assert set(ALLOWED) == set(Freshness)
    full = {state for state, row in ALLOWED.items() if row.control is Control.FULL}
    assert full == {Freshness.FRESH}
    assert {state for state, row in ALLOWED.items() if row.control is Control.GRID_CRITICAL} == {
        Freshness.STALE
    }
    assert ALLOWED[Freshness.NO_POLICY].running is Running.DEFAULT
    closed = {state for state, row in ALLOWED.items() if row.forwarding is Forwarding.OWNERS}
    assert closed == {Freshness.EXPIRED, Freshness.ROOT_EXPIRED, Freshness.NO_POLICY}


RANK = {Control.FULL: 2, Control.GRID_CRITICAL: 1, Control.CANCEL: 0}


@given(
    st.integers(0, NOW + 900 * DAY),
    st.integers(0, NOW + 900 * DAY),
    st.integers(0, 400 * DAY),
    st.booleans(),
)
def test_a_later_floor_never_allows_more(clock: int, floor: int, more: int, sure: bool) -> None:
    before = ALLOWED[at(clock, Floor(floor), sure=sure)]
    after = ALLOWED[at(clock, Floor(floor + more), sure=sure)]
    assert RANK[after.control] <= RANK[before.control]


@given(st.integers(0, NOW + 900 * DAY), st.integers(0, 400 * DAY), st.booleans())
def test_a_clock_set_back_never_allows_more(clock: int, back: int, sure: bool) -> None:
    floor = Floor(min(clock, NOW))
    honest = ALLOWED[at(clock, floor, sure=sure)]
    fooled = ALLOWED[at(max(0, clock - back), floor, sure=sure)]
    if clock <= NOW + BEHIND_MS:  # beyond it only the time since the last signed word can be gained
        assert RANK[fooled.control] <= RANK[honest.control]


def test_grace_and_margin_are_as_documented() -> None:
    assert GRACE_MS == 30 * DAY
    assert BEHIND_MS == 5 * 60_000
    assert NO_FLOOR.at_ms == 0


def test_a_floor_counts_as_long_as_one_of_its_keys_does() -> None:
    floor = Floor(NOW, frozenset({"a", "b"}))
    assert floor.under({"b", "c"}) is floor
    assert floor.under({"c"}) == NO_FLOOR
    assert NO_FLOOR.under({"c"}) == NO_FLOOR
