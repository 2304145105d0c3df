"""What a refusal says: the sentence fits the case, and tells *not known* from *not so*."""

from decimal import Decimal

import pytest

from policies.decision import Finding
from policies.facts import UNKNOWN, Running, Signed, Used
from tests.unit.policies.made import (
    GRANT,
    LIMITING,
    NOW_MS,
    RELAY,
    S,
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
from tests.unit.policies.test_budgets import DAY


def unmet(decision: object) -> list[Finding]:
    """Return what is not met, general and by grant."""
    findings = getattr(decision, "findings", ())
    return [*findings, *(one for judged in getattr(decision, "grants", ()) for one in judged.unmet)]


@pytest.mark.parametrize(
    ("changed", "code", "sentence"),
    [
        (
            {"valid": {"until": "2026-11-24T15:30:00Z"}},
            "grant-ended",
            "it holds until Tue 2026-11-24 10:30 EST",
        ),
        (
            {"valid": {"from": "2026-11-24T15:00:01Z", "until": "2027-01-01T00:00:00Z"}},
            "grant-ended",
            "it holds from Tue 2026-11-24 10:00:01 EST",
        ),
        ({"limits": {"min": 2}}, "limit", "1 is below 2"),
        ({"limits": {"max": 0}}, "limit", "1 is above 0"),
        ({"limits": {"values": [0, 5]}}, "limit", "1 is none of 0, 5"),
        ({"limits": {"step": "0.5"}}, "step", "from 0 to 1 is more than 0.5"),
        ({"duration": {"min": "2h", "max": "3h"}}, "duration", "1h is below 2h"),
        ({"duration": {"max": "59min"}}, "duration", "it could last 1h, 59min is the most"),
        ({"lead": {"min": "5min"}}, "lead-time", "it came 0 s before its start, 5min is the least"),
        ({"purpose": ["fun", "profit"]}, "purpose", "it is for fun and profit, not for peak"),
        (
            {"windows": [{"start": "10:00", "end": "10:30"}]},
            "window",
            "Tue 2026-11-24 10:30 EST lies outside of its windows",
        ),
        ({"to": {"groups": ["f-1", "f-2"]}}, "target", "the gateway is not in f-1 or f-2"),
        ({"to": {"owners": ["a", "b"]}}, "target", "it is for devices of a and b"),
        ({"revision": 2}, "not-agreed", "revision 2 is signed by nobody"),
        ({"revision": 2}, "no-consent", "customer-17 has not consented to revision 2"),
        ({"emergency": {"max": "1h", "required": True}}, "emergency-only", "it is for emergencies alone"),
    ],
)
def test_a_sentence_tells_the_very_case(changed: Table, code: str, sentence: str) -> None:
    assert Finding(code, sentence) in unmet(ask(book(GRANT | changed)))


@pytest.mark.parametrize(
    ("signed", "finding"),
    [
        ({"g": UNKNOWN}, Finding("not-agreed", "who signed it is not known", unknown=True)),
        (
            {"g": Signed(1, UNKNOWN, True)},
            Finding("not-agreed", "revision 1 is not signed by the utility", unknown=True),
        ),
        (
            {"g": Signed(1, UNKNOWN, False)},
            Finding("not-agreed", "revision 1 is not signed by the utility or esco1"),
        ),
        ({"g": Signed(1, True, False)}, Finding("not-agreed", "revision 1 is not signed by esco1")),
    ],
)
def test_who_has_not_signed_is_told(signed: object, finding: Finding) -> None:
    assert unmet(ask(known=facts(signed=signed))) == [finding]


def test_unknown_is_told_from_not_so() -> None:
    beyond = at("2028-01-04T15:00:00Z")
    row = GRANT | {
        "windows": [{"days": ["tu"], "calendar": "us"}],
        "valid": {"until": "2029-01-01T00:00:00Z"},
    }
    late = command(issued="2028-01-04T14:59:00Z", expires="2028-01-04T15:01:00Z")
    found = {one.code: one.unknown for one in unmet(ask(book(row), late, moment(beyond)))}
    assert found["window"] is True
    assert found["roster-ended"] is False
    bare = (RELAY | {"hold": "none"},)
    latching = GRANT | {"latching": True, "latching_max": "30min"}
    for known, unknown in ((facts(), False), (facts(time=UNKNOWN), True)):
        findings = {one.code: one.unknown for one in unmet(ask(book(latching, limits=bare), known=known))}
        assert findings["latching"] is unknown
    other = (Running("x", "esco2", NOW_MS, NOW_MS + S, 100, "always", True),)
    for known, unknown in ((facts(running=other), False), (facts(running=other, time=UNKNOWN), True)):
        assert {one.code: one.unknown for one in unmet(ask(known=known))}["busy"] is unknown
    urgent = GRANT | {"emergency": {"max": "30min"}}
    for known, unknown in ((facts(), False), (facts(time=UNKNOWN), True)):
        asked = command(emergency=True, cosigners=["op-18"])
        findings = {one.code: one.unknown for one in unmet(ask(book(urgent), asked, known))}
        assert findings["no-emergency"] is unknown
        assert findings["two-signatures"] is unknown


def test_a_spent_budget_is_told_before_one_that_nobody_knows() -> None:
    row = GRANT | {"budget": {"count_day": 1, "total_week": "10h"}}
    spent = facts(used={DAY: Used(1, 3600), DAY._replace(unit="week", first="2026-11-23"): UNKNOWN})
    assert unmet(ask(book(row), known=spent)) == [
        Finding("budget", "the day from 2026-11-24 allows 1, 1 of it used")
    ]
    total = GRANT | {"budget": {"total_day": "90min"}}
    assert unmet(ask(book(total), known=facts(used={DAY: Used(1, 3600)}))) == [
        Finding("budget", "the day from 2026-11-24 allows 90min, 1h of it used")
    ]


def test_the_first_code_is_that_of_the_grant_that_comes_nearest() -> None:
    far = GRANT | {"id": "a", "purpose": ["fun"], "duration": {"max": "1min"}}
    near = GRANT | {"id": "b", "limits": {"max": 0}}
    for rows in ((far, near), (near, far | {"id": "c"})):
        assert ask(book(*rows)).code == "limit"
    other = GRANT | {"id": "a", "to": {"devices": ["wh-02"]}}
    assert ask(book(other, near)).code == "limit"
    assert ask(book(other)).code == "no-grant"


def test_what_was_before_is_restored_up_to_the_edges_of_the_limits() -> None:
    rules = book(LIMITING | {"restore": "previous"})
    for present in (6, 16):
        plan = ask(rules, limiting(), facts(present=Decimal(present))).plan
        assert plan is not None
        assert plan.restore_to == present


def test_an_assignment_counts_from_its_issue_on() -> None:
    issued = "2026-11-24T15:00:00Z"
    assert ask(book(site=assignment("g", issued=issued))).allowed
    assert ask(book(site=assignment("g", issued=issued, expires="2026-11-24T16:00:00Z"))).allowed


def test_a_minimum_time_of_a_second_counts() -> None:
    for key, present in (("min_on", Decimal(1)), ("min_off", Decimal(0))):
        rules = book(limits=(RELAY | {key: "1s"},))
        asked = command(value=0 if present else 1)
        assert ask(rules, asked, facts(present=present, unchanged_since_ms=NOW_MS - S)).allowed
        refused = ask(rules, asked, facts(present=present, unchanged_since_ms=NOW_MS - S + 1))
        assert refused.code == "too-soon"
        assert "1 s are its minimum" in refused.findings[0].why


def test_a_clock_is_set_to_the_millisecond_after_its_random_start() -> None:
    issuer = {"entity": "esco1", "application": "dr-hub", "individual": "eng-5"}
    asked = limiting(issuer=issuer, verb="set-clock", value=None, duration=None)
    known = facts(keys=frozenset({"k-eng-5"}))
    for until, allowed in (("15:05:00.001Z", True), ("15:05:00Z", False)):
        row = LIMITING | {"valid": {"until": f"2026-11-24T{until}"}, "randomise": {"start": "5min"}}
        assert ask(book(row), asked, known).allowed is allowed
