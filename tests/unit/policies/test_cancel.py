"""Cancel: a right by rule, in every state, of whose control or device it is and of the utility."""

from dataclasses import replace

import pytest

from policies.command import Command
from policies.facts import UNKNOWN, ClockState, Facts, Freshness, Running, Time
from policies.forms import instant_text
from tests.unit.policies.made import (
    CAR,
    DENIAL,
    GRANT,
    HEATER,
    NOW_MS,
    H,
    Table,
    ask,
    assignment,
    book,
    command,
    facts,
    roster,
)

WHO = {
    "esco1": ("dr-hub", "op-17"),
    "esco2": ("dr-hub", "op-99"),
    "dso": ("control-room", "chief"),
    "customer-17": ("app", "anna"),
}
KEYS = frozenset({"k-op-17", "k-op-99", "k-chief", "k-anna"})
MINE = Running("c-0", "esco1", NOW_MS - H, NOW_MS + H, 100, "never", True)
RUNNING = facts(keys=KEYS, running=(MINE,))


def cancel(entity: str = "esco1", **changes: object) -> Command:
    application, individual = WHO[entity]
    tables: Table = {
        "issuer": {"entity": entity, "application": application, "individual": individual},
        "verb": "cancel",
        "value": None,
        "duration": None,
        "purpose": None,
        "cancels": "c-0",
    }
    return command(**(tables | changes))


@pytest.mark.parametrize(
    ("entity", "allowed"), [("esco1", True), ("dso", True), ("customer-17", True), ("esco2", False)]
)
def test_whoever_has_the_control_or_the_device_may_cancel_and_the_utility(entity: str, allowed: bool) -> None:
    decision = ask(asked=cancel(entity), known=RUNNING)
    assert decision.allowed is allowed
    assert allowed or decision.codes == ("not-yours",)
    assert decision.plan is None


STATES = [
    *({"freshness": one} for one in (*Freshness, UNKNOWN)),
    {"time": Time(NOW_MS, 10**9, ClockState.UNSURE)},
    {"time": UNKNOWN},
    {"received_ms": UNKNOWN},
    {"contact": UNKNOWN, "used": UNKNOWN, "signed": UNKNOWN, "opt_outs": UNKNOWN, "type_limits": UNKNOWN},
    {"locked_out": True},
]


@pytest.mark.parametrize("state", STATES)
def test_a_control_is_cancelled_in_every_state(state: dict[str, object]) -> None:
    assert ask(asked=cancel(), known=replace(RUNNING, **state)).allowed
    assert ask(asked=cancel("dso"), known=replace(RUNNING, **state)).allowed


def test_a_control_is_cancelled_after_its_grant_and_its_roster_have_ended_and_against_any_row() -> None:
    over = GRANT | {"valid": {"until": "2026-11-24T15:00:00Z"}}
    ended = (
        roster("esco1", "op-17", expires="2026-11-02T00:00:00Z", valid={"until": "2026-11-02T00:00:00Z"}),
    )
    rules = book(over, DENIAL | {"from": "*"}, rosters=ended, site=assignment("other"))
    assert ask(rules, cancel(expires="2026-11-24T14:59:59Z"), RUNNING).allowed


def test_what_runs_must_be_known_to_cancel_as_its_entity() -> None:
    unknown = replace(RUNNING, running=UNKNOWN)
    assert [(one.code, one.unknown) for one in ask(asked=cancel(), known=unknown).findings] == [
        ("not-yours", True)
    ]
    nothing = ask(asked=cancel(), known=replace(RUNNING, running=()))
    assert [(one.code, one.unknown) for one in nothing.findings] == [("not-yours", False)]
    assert ask(asked=cancel("customer-17"), known=unknown).allowed
    assert ask(asked=cancel("dso"), known=unknown).allowed


def test_a_control_of_the_same_entity_by_another_name_is_not_the_one() -> None:
    assert ask(asked=cancel(cancels="c-7"), known=RUNNING).codes == ("not-yours",)


def test_a_former_owner_and_the_owner_of_another_device_cancel_nothing() -> None:
    sold = HEATER | {"ownership": [{"owners": ["customer-17"], "valid": {"until": "2026-11-24T15:00:00Z"}}]}
    for site in (assignment("g", devices=(sold,)), assignment("g", devices=(CAR,))):
        assert ask(book(site=site), cancel("customer-17"), RUNNING).codes == ("not-yours",)


@pytest.mark.parametrize(
    ("changes", "known", "code"),
    [
        ({"gateway": "gw-0002"}, RUNNING, "wrong-gateway"),
        ({"cancels": None}, RUNNING, "incomplete"),
        ({"value": 0}, RUNNING, "incomplete"),
        ({"duration": "1h"}, RUNNING, "incomplete"),
        ({}, replace(RUNNING, keys=UNKNOWN), "not-signed"),
        ({}, replace(RUNNING, keys=frozenset({"k-op-99"})), "not-signed"),
        (
            {"issuer": {"entity": "esco1", "application": "dr-hub", "individual": "clerk-2"}},
            replace(RUNNING, keys=frozenset({"k-clerk-2"})),
            "role",
        ),
        (
            {"issuer": {"entity": "esco1", "application": "pager", "individual": "op-17"}},
            RUNNING,
            "unknown-application",
        ),
    ],
)
def test_address_shape_and_signature_must_be_right(changes: Table, known: Facts, code: str) -> None:
    assert code in ask(asked=cancel(**changes), known=known).codes


def test_an_owner_cancels_up_to_the_last_instant_of_its_term() -> None:
    until = NOW_MS + 1
    own = HEATER | {"ownership": [{"owners": ["customer-17"], "valid": {"until": instant_text(until)}}]}
    site = assignment("g", devices=(own,))
    assert ask(book(site=site), cancel("customer-17"), RUNNING).allowed
    later = replace(RUNNING, time=Time(until, 20, ClockState.SYNCHRONISED))
    assert ask(book(site=site), cancel("customer-17"), later).codes == ("not-yours",)
