"""Budgets: what counts where, what is left, and what is to be reserved."""

import pytest

from policies.decision import Plan, Reservation
from policies.facts import UNKNOWN, Period, Used
from tests.unit.policies.made import GRANT, RELAY, Table, ask, at, book, codes_of, command, facts, moment

DAY = Period("g", "wh-01", "day", "2026-11-24")
WEEK = Period("g", "wh-01", "week", "2026-11-23")
WINTER = Period("g", "wh-01", "season", "2026-10-01")
SEASON = {"season": ["10-01", "04-30"]}


def plan_of(budget: Table, used: object = None, **changes: object) -> Plan | None:
    known = facts(used={} if used is None else used)
    return ask(book(GRANT | {"budget": budget} | changes), known=known).plan


@pytest.mark.parametrize(
    ("budget", "period"),
    [
        ({"count_day": 2}, DAY),
        ({"total_day": "150min"}, DAY),
        ({"count_week": 2}, WEEK),
        ({"total_week": "150min"}, WEEK),
        ({"count_season": 2} | SEASON, WINTER),
        ({"total_season": "150min"} | SEASON, WINTER),
    ],
)
def test_the_last_that_fits_is_allowed_and_the_next_is_not(budget: Table, period: Period) -> None:
    almost, full = Used(1, 5400), Used(2, 5401)
    assert plan_of(budget, {period: almost}) is not None
    assert codes_of(ask(book(GRANT | {"budget": budget}), known=facts(used={period: full}))) == {"budget"}
    other = {one: full for one in (DAY, WEEK, WINTER) if one != period}
    assert plan_of(budget, other) is not None


@pytest.mark.parametrize("used", [UNKNOWN, {DAY: UNKNOWN}])
def test_a_budget_of_which_nobody_knows_what_is_used_is_used_up(used: object) -> None:
    assert plan_of({"count_day": 9}, used) is None
    assert plan_of({"count_week": 9}, {DAY: UNKNOWN}) is not None


def test_what_is_reserved_is_once_and_the_longest_in_each_period() -> None:
    plan = plan_of(
        {"count_day": 2, "total_week": "10h"} | {"count_season": 9} | SEASON, randomise={"end": "5min"}
    )
    assert plan is not None
    assert set(plan.reserve) == {Reservation(one, 1, 3900) for one in (DAY, WEEK, WINTER)}
    assert plan_of({}).reserve == ()  # type: ignore[union-attr]


def test_a_minimum_time_of_the_device_is_reserved_too() -> None:
    rules = book(GRANT | {"budget": {"count_day": 2}}, limits=(RELAY | {"min_on": "90min"},))
    plan = ask(rules).plan
    assert plan is not None
    assert plan.reserve == (Reservation(DAY, 1, 5400),)


def test_a_control_over_midnight_counts_whole_on_both_days() -> None:
    evening = at("2026-11-30T04:30:00Z")  # Sunday, 23:30 in New York
    rules = book(GRANT | {"budget": {"count_day": 1, "count_week": 1}})
    asked = command(issued="2026-11-30T04:29:00Z", expires="2026-11-30T04:31:00Z")
    plan = ask(rules, asked, moment(evening)).plan
    assert plan is not None
    assert [(one.period.unit, one.period.first, one.seconds) for one in plan.reserve] == [
        ("day", "2026-11-29", 3600),
        ("week", "2026-11-23", 3600),
        ("day", "2026-11-30", 3600),
        ("week", "2026-11-30", 3600),
    ]
    for period in (one.period for one in plan.reserve):
        full = moment(evening, used={period: Used(1, 0)})
        assert codes_of(ask(rules, asked, full)) == {"budget"}


def test_a_control_that_ends_at_midnight_does_not_count_on_the_next_day() -> None:
    evening = at("2026-11-25T04:00:00Z")
    asked = command(issued="2026-11-25T03:59:00Z", expires="2026-11-25T04:01:00Z")
    plan = ask(book(GRANT | {"budget": {"count_day": 1}}), asked, moment(evening)).plan
    assert plan is not None
    assert [one.period.first for one in plan.reserve] == ["2026-11-24"]


def test_outside_of_its_season_a_budget_has_nothing() -> None:
    summer = {"count_season": 9, "season": ["06-01", "11-23"]}
    assert codes_of(ask(book(GRANT | {"budget": summer}))) == {"budget"}
    ends = {"count_season": 9, "season": ["06-01", "11-24"]}
    assert plan_of(ends) is not None
    late = at("2026-11-25T04:30:00Z")
    asked = command(issued="2026-11-25T04:29:00Z", expires="2026-11-25T04:31:00Z")
    assert codes_of(ask(book(GRANT | {"budget": ends}), asked, moment(late))) == {"budget"}


def test_a_budget_is_used_by_what_was_longer_than_asked_too() -> None:
    assert plan_of({"total_day": "1h"}, {DAY: Used(0, 0)}) is not None
    assert plan_of({"total_day": "1h"}, {DAY: Used(0, 1)}) is None
    assert plan_of({"total_day": "1h"}, randomise={"end": "1s"}) is None


def test_a_budget_that_is_too_small_tells_what_is_used() -> None:
    rules = book(GRANT | {"budget": {"total_day": "30min"}})
    (judged,) = ask(rules).grants
    assert judged.unmet[0].why == "the day from 2026-11-24 allows 30min, 0s of it used"
