"""Rows with shall not: they override, and what is not known does not take them back."""

import pytest

from policies.facts import UNKNOWN
from tests.unit.policies.made import (
    DENIAL,
    GRANT,
    HEATER,
    LIMITING,
    Table,
    ask,
    assignment,
    at,
    book,
    command,
    facts,
    limiting,
    moment,
)


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"from": "*"},
        {"by": {"applications": ["dr-hub"]}},
        {"by": {"individuals": ["op-17"]}},
        {"purpose": ["peak", "fun"]},
        {"limits": {"values": [1]}},
        {"limits": {"min": 1}},
        {"to": {"kinds": ["water-heater"]}},
        {"to": {"groups": ["feeder-7"]}},
        {"to": {"gateways": ["gw-0001"]}},
        {"to": {"devices": ["wh-01"]}},
        {"to": {"points": ["Shed"]}},
        {"to": {"owners": ["customer-17"]}},
        {"valid": {"until": "2026-11-24T15:00:00.001Z"}},
        {"valid": {"from": "2026-11-24T15:59:59.999Z"}},
        {"windows": [{"start": "10:59", "end": "12:00"}]},
    ],
)
def test_a_row_with_shall_not_that_speaks_of_it_denies(changed: Table) -> None:
    assert ask(book(GRANT, DENIAL | changed)).code == "denied"


@pytest.mark.parametrize(
    "changed",
    [
        {"from": "esco2"},
        {"shall_not": ["limit", "switch", "set-clock"]},
        {"by": {"applications": ["portal"]}},
        {"by": {"individuals": ["op-18"]}},
        {"purpose": ["fun"]},
        {"limits": {"values": [0]}},
        {"limits": {"max": 0}},
        {"to": {"kinds": ["ev-charger"]}},
        {"to": {"groups": ["feeder-8"]}},
        {"to": {"gateways": ["gw-0002"]}},
        {"to": {"devices": ["wh-02"]}},
        {"to": {"points": ["Limit"]}},
        {"to": {"owners": ["customer-18"]}},
        {"valid": {"until": "2026-11-24T15:00:00Z"}},
        {"valid": {"from": "2026-11-24T16:00:00Z"}},
        {"windows": [{"start": "11:00", "end": "12:00"}]},
    ],
)
def test_a_row_with_shall_not_that_speaks_of_something_else_does_not(changed: Table) -> None:
    assert ask(book(GRANT, DENIAL | changed)).allowed


def test_a_denial_counts_where_the_assignment_does_not_select_it() -> None:
    assert ask(book(GRANT, DENIAL, site=assignment("g"))).code == "denied"


def test_a_denial_counts_when_its_time_is_not_known() -> None:
    window = DENIAL | {"windows": [{"start": "23:00", "end": "24:00"}]}
    found = ask(book(GRANT, window), known=facts(time=UNKNOWN))
    assert "denied" in found.codes
    beyond = DENIAL | {"windows": [{"days": ["holiday"], "calendar": "us"}]}
    later = at("2028-01-03T15:00:00Z")
    late = command(issued="2028-01-03T14:59:00Z", expires="2028-01-03T15:01:00Z")
    assert "denied" in ask(book(GRANT, beyond), late, moment(later)).codes


def test_a_denial_counts_when_the_random_times_reach_into_it() -> None:
    noon = DENIAL | {"windows": [{"start": "11:00", "end": "12:00"}]}
    spread = GRANT | {"randomise": {"start": "1min"}}
    decision = ask(book(spread, noon))
    assert (decision.code, decision.findings) == ("denied", ())
    assert ask(book(GRANT, noon)).allowed


def test_a_denial_by_owner_counts_when_one_of_several_owners_is_named() -> None:
    joint = HEATER | {"ownership": [{"owners": ["customer-17", "customer-18"]}]}
    site = assignment("g", devices=(joint,))
    assert "denied" in ask(book(GRANT, DENIAL | {"to": {"owners": ["customer-18"]}}, site=site)).codes


def test_every_denial_is_told() -> None:
    rules = book(GRANT, DENIAL, DENIAL | {"id": "no-2", "from": "*"})
    findings = ask(rules).findings
    assert [one.code for one in findings] == ["denied", "denied"]
    assert [one.why.split(":")[0] for one in findings] == ["no", "no-2"]


def test_a_limit_can_be_denied_by_its_value() -> None:
    low = DENIAL | {"shall_not": ["limit"], "limits": {"max": 7}}
    assert ask(book(LIMITING, low), limiting(value=7)).code == "denied"
    assert ask(book(LIMITING, low), limiting(value=8)).allowed


def test_a_denial_by_owner_counts_when_the_owner_is_one_for_a_part_of_the_control() -> None:
    half = "2026-11-24T15:30:00Z"
    moved = HEATER | {
        "ownership": [
            {"owners": ["esco1"], "valid": {"until": half}},
            {"owners": ["dso"], "valid": {"from": half}},
        ]
    }
    site = assignment("g", devices=(moved,))
    for owner, code in (("esco1", "denied"), ("dso", "denied"), ("customer-18", "ok")):
        assert ask(book(GRANT, DENIAL | {"to": {"owners": [owner]}}, site=site)).code == code
