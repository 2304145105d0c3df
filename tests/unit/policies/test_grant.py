"""What a row, a head and a key may say at most and at least, and what they mean where they say nothing."""

import pytest
from pydantic import ValidationError

from policies.grant import DAY_S, EVERY_DAY, GRID_CRITICAL, LONGEST_CONTROL_S, Grant
from policies.policy import Calendar, DeviceLimits, PolicyHead
from tests.unit.policies.made import CHARGER, GRANT, HEAD, LIMITING, RELAY, Table

PLAIN: Table = {
    "id": "g",
    "from": "esco1",
    "may": ["shed"],
    "to": {"kinds": ["water-heater"]},
    "purpose": ["peak"],
    "valid": {"until": "2027-04-01T00:00:00Z"},
    "duration": {"max": "2h"},
}
URGENT: Table = {"max": "1h"}


def taken(change: Table) -> bool:
    """Tell whether a row with this is taken."""
    try:
        Grant.model_validate(GRANT | change)
    except ValidationError:
        return False
    return True


@pytest.mark.parametrize(
    ("key", "inside", "outside"),
    [
        ("revision", [1, 2**40], [0, -1]),
        ("budget.count_day", [1, 100_000], [0, 100_001]),
        ("budget.total_day", ["1min", "366d"], ["59s", "367d"]),
        ("randomise.start", ["0s", "1h"], ["3601s"]),
        ("randomise.end", ["0s", "1h"], ["3601s"]),
        ("priority.level", [0, 255], [-1, 256]),
        ("comm_loss_after", ["1min", "7d"], ["59s", "604801s"]),
        ("agreement", ["", "x" * 120], ["x" * 121]),
        ("may", [["shed"]], [[]]),
    ],
)
def test_a_number_is_taken_up_to_its_bounds(key: str, inside: list[object], outside: list[object]) -> None:
    table, _, member = key.partition(".")

    def change(value: object) -> Table:
        return {table: {member: value} if member else value}

    assert [value for value in inside if not taken(change(value))] == []
    assert [value for value in outside if taken(change(value))] == []


@pytest.mark.parametrize(("signatures", "is_taken"), [(1, False), (2, True), (5, True), (6, False)])
def test_an_emergency_asks_for_two_to_five_signatures(signatures: int, is_taken: bool) -> None:
    assert taken({"emergency": URGENT | {"signatures": signatures}}) is is_taken


def test_a_row_that_says_little_means_the_least() -> None:
    grant = Grant.model_validate(PLAIN | {"emergency": URGENT, "windows": [{}]})
    assert grant.revision == 1
    assert (grant.priority.level, grant.priority.preempts) == (100, False)
    assert (grant.randomise.start_s, grant.randomise.end_s, grant.lead.min_s) == (0, 0, 0)
    assert (grant.comm_loss_after_s, grant.latching, grant.latching_max_s) == (900, False, None)
    assert grant.duration is not None
    assert grant.duration.min_s == 1
    assert grant.emergency is not None
    assert (grant.emergency.signatures, grant.emergency.may_bypass, grant.emergency.required) == (
        2,
        (),
        False,
    )
    assert (grant.windows[0].start_min, grant.windows[0].end_min) == (0, 1440)
    assert grant.windows[0].days == EVERY_DAY


def test_a_profile_that_says_little_is_that_of_an_on_off_point_without_minimum_times() -> None:
    profile = DeviceLimits.model_validate({"type": "relay", "point": "Shed", "verbs": ["shed"]})
    assert (profile.min, profile.max, profile.default) == (0, 1, 0)
    assert (profile.min_on_s, profile.min_off_s, profile.essential) == (0, 0, False)
    with pytest.raises(ValidationError):
        DeviceLimits.model_validate(RELAY | {"verbs": []})


def test_the_head_of_a_policy_has_its_bounds() -> None:
    head = PolicyHead.model_validate(HEAD | {"version": 1})
    assert (head.format, head.clock_tolerance_s) == (1, 5)
    assert PolicyHead.model_validate(HEAD | {"clock_tolerance": "60s"}).clock_tolerance_s == 60
    for change in ({"version": 0}, {"clock_tolerance": "61s"}, {"format": 2}):
        with pytest.raises(ValidationError):
            PolicyHead.model_validate(HEAD | change)


def test_a_day_a_longest_control_and_the_critical_levels_are_what_they_are() -> None:
    assert (DAY_S, LONGEST_CONTROL_S, GRID_CRITICAL) == (86_400, 31 * 86_400, 63)


def test_least_and_most_may_be_the_same_and_not_the_wrong_way_round() -> None:
    assert taken(LIMITING | {"limits": {"min": 8, "max": 8}})
    assert not taken(LIMITING | {"limits": {"min": 9, "max": 8}})
    assert taken({"duration": {"min": "1h", "max": "1h"}})
    assert not taken({"duration": {"min": "61min", "max": "1h"}})


def test_a_row_with_one_verb_that_lasts_needs_a_duration_and_one_that_limits_both_limits() -> None:
    assert not taken(LIMITING | {"duration": None})
    assert taken(LIMITING | {"may": ["set-clock"], "duration": None})
    assert not taken(LIMITING | {"limits": {"min": 6}})
    assert not taken(LIMITING | {"limits": {"max": 16}})


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"min": 8, "max": 8, "default": 8}, None),
        ({"min": 9, "max": 8, "default": 8}, "min is above max"),
        ({"default": 17}, "lies outside"),
        ({"verbs": ["shed", "limit"]}, "an on/off point"),
        ({"verbs": ["shed"], "min": -1, "max": 1, "default": 0}, "an on/off point"),
        ({"verbs": ["shed"], "min": 0, "max": 2, "default": 0}, "an on/off point"),
        ({"verbs": ["shed"], "min": 0, "max": 1, "default": 0}, None),
    ],
)
def test_a_profile_is_in_order(change: Table, fault: str | None) -> None:
    if fault is None:
        DeviceLimits.model_validate(CHARGER | change)
        return
    with pytest.raises(ValidationError, match=fault):
        DeviceLimits.model_validate(CHARGER | change)


def test_a_calendar_holds_its_first_and_its_last_day() -> None:
    day = "2026-12-25"
    Calendar.model_validate({"id": "one", "from": day, "until": day, "holidays": [day]})
    with pytest.raises(ValidationError, match="ends before it begins"):
        Calendar.model_validate({"id": "none", "from": day, "until": "2026-12-24"})
    with pytest.raises(ValidationError, match="lies outside"):
        Calendar.model_validate({"id": "one", "from": day, "until": day, "holidays": ["2026-12-26"]})
