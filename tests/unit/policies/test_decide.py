"""Each condition of a grant: met, not met, unknown; and what no grant can set aside."""

from dataclasses import replace
from decimal import Decimal

import pytest
from pydantic import ValidationError

from policies.assignment import OptOut
from policies.decide import decide
from policies.decision import Decision
from policies.facts import (
    UNKNOWN,
    ClockState,
    Contact,
    Facts,
    Freshness,
    Period,
    Running,
    Signed,
    Time,
    TypeLimits,
    Used,
)
from policies.policy import Entity
from policies.rulebook import Rulebook
from tests.unit.policies.made import (
    CHARGER,
    DAY,
    FACTS,
    GRANT,
    HEATER,
    LIMITING,
    MIN,
    NOW_MS,
    RELAY,
    ROSTERS,
    H,
    S,
    Table,
    ask,
    assignment,
    at,
    book,
    codes_of,
    command,
    facts,
    limiting,
    moment,
    policy,
    roster,
)


def unknown_codes(decision: Decision) -> set[str]:
    """Return the codes of what is not met because nobody knows."""
    unmet = [*decision.findings, *(one for judged in decision.grants for one in judged.unmet)]
    assert not decision.allowed
    return {one.code for one in unmet if one.unknown}


def test_the_plain_command_is_allowed_with_a_plan() -> None:
    decision = ask()
    assert decision.allowed
    assert decision.codes == ()
    plan = decision.plan
    assert plan is not None
    assert (plan.grant, plan.begin_ms, plan.latest_end_ms) == ("g", NOW_MS, NOW_MS + H)
    assert (plan.value, plan.restore_to, plan.hold, plan.ends) == (1, 0, "timer", ())


# --- facts: what a fact of another kind refuses, and that an unknown one refuses too ---

BY_FACT: list[tuple[str, dict[str, object], str]] = [
    ("gateway", {"gateway": "gw-0002"}, "wrong-gateway"),
    ("freshness", {"freshness": Freshness.EXPIRED}, "policy-expired"),
    ("freshness", {"freshness": Freshness.ROOT_EXPIRED}, "policy-expired"),
    ("freshness", {"freshness": Freshness.NO_POLICY}, "no-policy"),
    ("freshness", {"freshness": Freshness.STALE}, "policy-stale"),
    ("time", {"time": Time(NOW_MS, 20, ClockState.UNSURE)}, "clock-unsure"),
    ("time", {"time": Time(NOW_MS, 5001, ClockState.SYNCHRONISED)}, "clock-unsure"),
    ("received_ms", {"received_ms": NOW_MS + 2 * MIN}, "command-expired"),
    ("keys", {"keys": frozenset({"k-op-18"})}, "not-signed"),
    ("keys", {"keys": frozenset({"k-op-99"})}, "not-signed"),
    ("signed", {"signed": {}}, "not-agreed"),
    ("signed", {"signed": {"g": Signed(2, True, True)}}, "not-agreed"),
    ("signed", {"signed": {"g": Signed(1, False, True)}}, "not-agreed"),
    ("signed", {"signed": {"g": Signed(1, True, False)}}, "not-agreed"),
    ("signed", {"signed": {"g": Signed(1, True, UNKNOWN)}}, "not-agreed"),
    ("opt_outs", {"opt_outs": (OptOut(device="wh-01"),)}, "opted-out"),
    ("opt_outs", {"opt_outs": (OptOut(),)}, "opted-out"),
    ("running", {"running": (Running("x", "esco2", NOW_MS, NOW_MS + H, 100, "always", True),)}, "busy"),
    ("contact", {"contact": Contact.LOST}, "no-contact"),
    ("locked_out", {"locked_out": True}, "locked-out"),
    ("type_limits", {"type_limits": TypeLimits(Decimal(0), Decimal(0), 0, 0, False)}, "value-range"),
]


@pytest.mark.parametrize(("name", "changed", "code"), BY_FACT)
def test_a_fact_that_stands_against_it_refuses(name: str, changed: dict[str, object], code: str) -> None:
    assert codes_of(ask(known=facts(**changed))) >= {code}


NEEDED = {
    "gateway": {"wrong-gateway", "no-assignment"},
    "time": {"clock-unsure", "too-late", "window"},
    "received_ms": {"command-expired", "lead-time"},
    "freshness": {"policy-expired", "policy-stale"},
    "keys": {"not-signed", "roster-ended"},
    "signed": {"not-agreed"},
    "opt_outs": {"opted-out"},
    "running": {"busy"},
    "contact": {"no-contact"},
    "locked_out": {"locked-out"},
    "type_limits": {"value-range"},
    "used": {"budget"},
    "present": {"step", "restore-unknown", "too-soon"},
    "unchanged_since_ms": {"too-soon"},
}
DEMANDING: Table = GRANT | {
    "windows": [{"start": "06:00", "end": "22:00"}],
    "budget": {"count_day": 2},
    "limits": {"step": 1},
    "restore": "previous",
}
CAREFUL: Table = RELAY | {"min_on": "5min", "min_off": "5min"}


def test_what_needs_every_fact_is_allowed_when_each_is_known() -> None:
    assert ask(book(DEMANDING, limits=(CAREFUL,))).allowed


@pytest.mark.parametrize("name", sorted(NEEDED))
def test_a_fact_that_is_needed_and_unknown_is_not_met(name: str) -> None:
    assert (
        unknown_codes(ask(book(DEMANDING, limits=(CAREFUL,)), known=facts(**{name: UNKNOWN}))) >= NEEDED[name]
    )


def test_every_fact_is_needed_by_something() -> None:
    assert set(NEEDED) == set(Facts.__slots__)


# --- the command against the grant ---

BY_COMMAND: list[tuple[dict[str, object], str]] = [
    ({"gateway": "gw-0002"}, "wrong-gateway"),
    ({"device": "wh-99"}, "unknown-device"),
    ({"point": "W"}, "no-profile"),
    ({"device": "ev-01", "point": "Limit"}, "no-profile"),
    ({"value": None}, "incomplete"),
    ({"value": 2}, "incomplete"),
    ({"duration": None}, "incomplete"),
    ({"cancels": "c-0"}, "incomplete"),
    ({"cosigners": ["op-18"]}, "incomplete"),
    ({"purpose": "fun"}, "purpose"),
    ({"purpose": None}, "purpose"),
    ({"duration": "7201s"}, "duration"),
    ({"start": "2026-11-24T14:59:54Z"}, "too-late"),
    ({"start": "2026-11-25T15:00:01Z"}, "lead-time"),
    ({"expires": "2026-11-24T14:59:59Z"}, "command-expired"),
    ({"issued": "2026-11-24T15:00:06Z"}, "issued-ahead"),
    ({"emergency": True}, "no-emergency"),
    ({"issuer": {"entity": "esco9", "application": "dr-hub", "individual": "op-17"}}, "unknown-entity"),
    ({"issuer": {"entity": "esco1", "application": "pager", "individual": "op-17"}}, "unknown-application"),
    ({"issuer": {"entity": "esco1", "application": "dr-hub", "individual": "op-55"}}, "unknown-individual"),
    ({"issuer": {"entity": "esco1", "application": "dr-hub", "individual": "op-18"}}, "not-signed"),
    ({"issuer": {"entity": "esco2", "application": "dr-hub", "individual": "op-99"}}, "no-grant"),
]


@pytest.mark.parametrize(("changed", "code"), BY_COMMAND)
def test_a_command_that_does_not_fit_is_refused(changed: dict[str, object], code: str) -> None:
    known = facts(keys=frozenset({"k-op-17", "k-op-99"}))
    decision = ask(asked=command(**changed), known=known)
    assert code in {decision.code, *codes_of(decision)}


def test_another_entity_is_told_that_no_grant_speaks_of_it_and_nothing_else() -> None:
    issuer = {"entity": "esco2", "application": "dr-hub", "individual": "op-99"}
    decision = ask(asked=command(issuer=issuer), known=facts(keys=frozenset({"k-op-99"})))
    assert (decision.code, decision.findings, decision.grants) == ("no-grant", (), ())


BY_GRANT: list[tuple[Table, str]] = [
    ({"by": {"applications": ["portal"]}}, "actor"),
    ({"by": {"individuals": ["op-18"]}}, "actor"),
    ({"to": {"kinds": ["water-heater"], "groups": ["feeder-8"]}}, "target"),
    ({"to": {"gateways": ["gw-0002"]}}, "target"),
    ({"to": {"devices": ["wh-02"]}}, "target"),
    ({"to": {"points": ["Boost"]}}, "target"),
    ({"to": {"owners": ["customer-18"]}}, "target"),
    ({"revision": 2}, "not-agreed"),
    ({"revision": 2}, "no-consent"),
    ({"valid": {"until": "2026-11-24T15:59:59Z"}}, "grant-ended"),
    ({"valid": {"from": "2026-11-24T15:00:01Z", "until": "2027-04-01T00:00:00Z"}}, "grant-ended"),
    ({"limits": {"values": [0]}}, "limit"),
    ({"limits": {"max": 0}}, "limit"),
    ({"limits": {"step": "0.5"}}, "step"),
    ({"duration": {"min": "3601s", "max": "2h"}}, "duration"),
    ({"duration": {"max": "1h"}, "randomise": {"end": "1s"}}, "duration"),
    ({"lead": {"min": "1s"}}, "lead-time"),
    ({"emergency": {"max": "1h", "required": True}}, "emergency-only"),
]


@pytest.mark.parametrize(("changed", "code"), BY_GRANT)
def test_a_grant_that_does_not_fit_refuses(changed: Table, code: str) -> None:
    assert code in codes_of(ask(book(GRANT | changed)))


def test_a_grant_that_names_everything_as_it_is_permits() -> None:
    to = {
        "kinds": ["ev-charger", "water-heater"],
        "groups": ["feeder-7"],
        "gateways": ["gw-0001"],
        "devices": ["wh-01"],
        "points": ["Shed"],
        "owners": ["customer-17", "customer-18"],
    }
    by = {"applications": ["dr-hub"], "individuals": ["op-17"]}
    assert ask(book(GRANT | {"to": to, "by": by, "limits": {"values": [1], "step": 1}})).allowed


def test_conditions_of_two_grants_never_merge() -> None:
    long = GRANT | {"id": "a", "limits": {"values": [0]}}
    right = GRANT | {"id": "b", "duration": {"max": "30min"}}
    decision = ask(book(long, right))
    assert [[one.code for one in judged.unmet] for judged in decision.grants] == [["limit"], ["duration"]]


def test_the_stronger_of_two_grants_is_used_and_then_the_more_particular() -> None:
    def used(first: Table, second: Table) -> str:
        plan = ask(book(first, second)).plan
        assert plan is not None
        return plan.grant

    a, b = GRANT | {"id": "a"}, GRANT | {"id": "b"}
    assert used(a, b) == "a"
    assert used(a | {"priority": {"level": 120}}, b) == "b"
    assert used(a, b | {"to": {"devices": ["wh-01"]}}) == "b"


# --- device, roster, assignment ---


def test_a_viewer_commands_nothing_and_an_engineer_no_load() -> None:
    for name in ("clerk-2", "eng-5"):
        issuer = {"entity": "esco1", "application": "dr-hub", "individual": name}
        known = facts(keys=frozenset({f"k-{name}"}))
        assert ask(asked=command(issuer=issuer), known=known).code == "role"


def test_one_of_several_roles_suffices() -> None:
    people = roster("esco1", "op-17")
    both = people.individuals[0].model_copy(update={"roles": ("viewer", "operator")})
    assert ask(book(rosters=(people.model_copy(update={"individuals": (both,)}),))).allowed


def test_a_key_counts_for_its_own_applications_alone() -> None:
    portal = roster("esco1", "op-17", applications=["portal"])
    assert ask(book(rosters=(portal,))).code == "not-signed"


def test_the_roster_and_the_key_hold_to_the_end_of_the_control() -> None:
    ends = "2026-11-24T15:59:59Z"
    assert "roster-ended" in codes_of(ask(book(rosters=(roster("esco1", "op-17", expires=ends),))))
    short = roster("esco1", "op-17", valid={"until": ends})
    assert "roster-ended" in codes_of(ask(book(rosters=(short,))))
    just = roster("esco1", "op-17", valid={"until": "2026-11-24T16:00:00Z"}, expires="2026-11-24T16:00:00Z")
    assert ask(book(rosters=(just,))).allowed
    for issued_ms, allowed in ((NOW_MS, True), (NOW_MS + 1, False)):
        head = just.roster.model_copy(update={"issued_ms": issued_ms})
        assert ask(book(rosters=(just.model_copy(update={"roster": head}),))).allowed is allowed


def test_without_an_assignment_nothing_is_controlled() -> None:
    decision = ask(Rulebook(policy(), ROSTERS, None))
    assert decision.code == "no-assignment"


@pytest.mark.parametrize(
    "changed",
    [
        {"gateway": "gw-0002"},
        {"policy_version": 4},
        {"expires": "2026-11-24T15:59:59Z"},
        {"issued": "2026-11-24T15:00:01Z"},
    ],
)
def test_an_assignment_that_does_not_fit_counts_for_nothing(changed: Table) -> None:
    assert ask(book(site=assignment("g", **changed))).code == "no-assignment"


@pytest.mark.parametrize(
    ("narrow", "code"),
    [
        ({"devices": ["wh-02"]}, "not-assigned"),
        ({"points": ["Boost"]}, "not-assigned"),
        ({"max": 0}, "limit"),
        ({"min": 2}, "limit"),
        ({"longest": "59min"}, "duration"),
        ({"valid": {"until": "2026-11-24T15:30:00Z"}}, "grant-ended"),
    ],
)
def test_an_assignment_narrows(narrow: Table, code: str) -> None:
    assert code in codes_of(ask(book(site=assignment("g", narrow=narrow))))


def test_a_grant_that_the_assignment_does_not_select_does_not_count() -> None:
    assert codes_of(ask(book(GRANT, site=assignment("other")))) == {"not-assigned", "no-consent"}


def consent(**changes: object) -> Table:
    return {"grant": "g", "revision": 1, "owner": "customer-17", "evidence": "form 1"} | changes


@pytest.mark.parametrize(
    "consents",
    [
        (),
        (consent(owner="customer-18"),),
        (consent(revision=2),),
        (consent(valid={"until": "2026-11-24T15:59:59Z"}),),
        (consent(valid={"from": "2026-11-24T15:00:01Z"}),),
    ],
)
def test_without_the_owners_consent_over_the_whole_control_nothing_is_done(
    consents: tuple[Table, ...],
) -> None:
    assert codes_of(ask(book(site=assignment("g", consents=consents)))) == {"no-consent"}


def test_every_joint_owner_consents_and_a_new_one_too() -> None:
    joint = HEATER | {"ownership": [{"owners": ["customer-17", "customer-18"]}]}
    assert codes_of(ask(book(site=assignment("g", devices=(joint,))))) == {"no-consent"}
    moved = HEATER | {
        "ownership": [
            {"owners": ["customer-17"], "valid": {"until": "2026-11-24T15:30:00Z"}},
            {"owners": ["customer-18"], "valid": {"from": "2026-11-24T15:30:00Z"}},
        ]
    }
    assert codes_of(ask(book(site=assignment("g", devices=(moved,))))) == {"no-consent"}
    both = (consent(), consent(owner="customer-18", valid={"from": "2026-11-24T15:30:00Z"}))
    assert ask(book(site=assignment("g", devices=(moved,), consents=both))).allowed


def test_a_device_without_an_owner_for_part_of_the_control_is_not_controlled() -> None:
    gone = HEATER | {"ownership": [{"owners": ["customer-17"], "valid": {"until": "2026-11-24T15:30:00Z"}}]}
    assert unknown_codes(ask(book(site=assignment("g", devices=(gone,))))) == {"no-consent"}


def test_a_device_of_the_entity_itself_needs_no_consent() -> None:
    own = HEATER | {"ownership": [{"owners": ["esco1", "dso"]}]}
    assert ask(book(site=assignment("g", devices=(own,), consents=()))).allowed


def test_the_signature_of_the_utility_is_that_of_its_own_grants_entity() -> None:
    issuer = {"entity": "dso", "application": "control-room", "individual": "chief"}
    known = facts(keys=frozenset({"k-chief"}), signed={"g": Signed(1, True, False)})
    assert ask(book(GRANT | {"from": "dso"}), command(issuer=issuer), known).allowed


def test_a_device_without_hold_is_controlled_under_a_latching_grant_alone_and_not_for_long() -> None:
    bare = (RELAY | {"hold": "none"},)
    assert codes_of(ask(book(limits=bare))) == {"latching"}
    assert ask(book(GRANT | {"latching": True, "latching_max": "1h"}, limits=bare)).allowed
    short = GRANT | {"latching": True, "latching_max": "59min"}
    assert codes_of(ask(book(short, limits=bare))) == {"latching"}


@pytest.mark.parametrize("by_type", [False, True])
def test_an_essential_device_without_hold_is_never_controlled(by_type: bool) -> None:
    latching = GRANT | {"latching": True, "latching_max": "1h"}
    profile = RELAY | {"hold": "none"} | ({} if by_type else {"essential": True})
    known = facts(type_limits=TypeLimits(Decimal(0), Decimal(1), 0, 0, by_type))
    assert ask(book(latching, limits=(profile,)), known=known).code == "essential"
    assert ask(book(latching, limits=(RELAY | {"essential": True},))).allowed


def test_the_tighter_of_profile_and_device_type_counts() -> None:
    rules, known = book(LIMITING), facts(type_limits=TypeLimits(Decimal(8), Decimal(12), 0, 0, False))
    assert ask(rules, limiting(value=8), known).allowed
    assert ask(rules, limiting(value=7), known).code == "value-range"
    assert ask(rules, limiting(value=13), known).code == "value-range"
    wide = facts(type_limits=TypeLimits(Decimal(0), Decimal(32), 0, 0, False))
    assert ask(rules, limiting(value=17), wide).code == "value-range"


def test_minimum_times_of_the_device_hold_back_the_next_change() -> None:
    profile = RELAY | {"min_on": "5min", "min_off": "10min"}
    for present, wanted, needed_s in ((Decimal(0), 1, 600), (Decimal(1), 0, 300)):
        for held_s, allowed in ((needed_s - 1, False), (needed_s, True)):
            known = facts(present=present, unchanged_since_ms=NOW_MS - held_s * S)
            decision = ask(book(limits=(profile,)), command(value=wanted), known)
            assert decision.allowed is allowed
            assert allowed or decision.code == "too-soon"


def test_minimum_times_of_the_device_type_count_too() -> None:
    known = facts(
        type_limits=TypeLimits(Decimal(0), Decimal(1), 0, 700, False), unchanged_since_ms=NOW_MS - 699 * S
    )
    assert ask(known=known).code == "too-soon"


@pytest.mark.parametrize("min_on_s", [31 * 86_400 + 1, 10**30])
def test_a_minimum_time_beyond_every_control_refuses(min_on_s: int) -> None:
    known = facts(type_limits=TypeLimits(Decimal(0), Decimal(1), min_on_s, 0, False))
    assert codes_of(ask(book(GRANT | {"duration": {"max": "31d"}}), known=known)) >= {"duration"}
    with pytest.raises(ValidationError, match="min_on"):
        book(limits=(RELAY | {"min_on": "32d"},))


def test_a_minimum_time_longer_than_the_control_delays_its_end_and_so_counts() -> None:
    profile = (RELAY | {"min_on": "90min"},)
    plan = ask(book(limits=profile)).plan
    assert plan is not None
    assert plan.latest_end_ms == NOW_MS + 90 * MIN
    window = {"windows": [{"start": "06:00", "end": "11:15"}]}
    assert ask(book(GRANT | window)).allowed
    assert codes_of(ask(book(GRANT | window, limits=profile))) == {"window"}
    assert codes_of(ask(book(GRANT | {"duration": {"max": "1h"}}, limits=profile))) == {"duration"}


# --- other controls, opt-out, stale policy ---


def running(entity: str = "esco2", **changes: object) -> Running:
    plain = Running("x", entity, NOW_MS - MIN, NOW_MS + MIN, 100, "always", True)
    return replace(plain, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("other", "allowed"),
    [
        (running(), True),
        (running(level=50), False),
        (running(level=49), False),
        (running(preemptible="never"), False),
        (running(preemptible="before_start"), False),
        (running(preemptible="before_start", started=False), True),
        (running(level=0, preemptible="never", entity="esco1"), True),
        (running(level=0, begin_ms=NOW_MS + H), True),
        (running(level=0, begin_ms=NOW_MS + H - 1), False),
        (running(level=0, begin_ms=NOW_MS - H, end_ms=NOW_MS), True),
        (running(level=0, command="c-1"), True),
    ],
)
def test_a_stronger_grant_that_preempts_takes_the_point_from_one_that_gives_way(
    other: Running, allowed: bool
) -> None:
    strong = GRANT | {"priority": {"level": 50, "preempts": True}}
    decision = ask(book(strong), known=facts(running=(other,)))
    assert decision.allowed is allowed
    assert allowed or codes_of(decision) == {"busy"}


def test_a_plan_names_the_controls_that_it_ends() -> None:
    strong = GRANT | {"priority": {"level": 50, "preempts": True}}
    later = running(command="later", begin_ms=NOW_MS + H, end_ms=NOW_MS + 3 * H)
    before = running(command="before", begin_ms=NOW_MS - H, end_ms=NOW_MS)
    plan = ask(book(strong), known=facts(running=(running(), later, before))).plan
    assert plan is not None
    assert plan.ends == ("x",)


def test_a_grant_without_notice_takes_what_is_to_be_done_at_once() -> None:
    rules = book(GRANT | {"lead": {"max": "0s"}})
    assert ask(rules).allowed
    assert codes_of(ask(rules, command(start="2026-11-24T15:00:00.001Z"))) == {"lead-time"}


def test_without_preempts_level_takes_nothing() -> None:
    assert codes_of(ask(book(GRANT | {"priority": {"level": 1}}), known=facts(running=(running(),)))) == {
        "busy"
    }


@pytest.mark.parametrize(
    "opt_out",
    [
        {"device": "wh-02"},
        {"entity": "esco2"},
        {"grant": "other"},
        {"valid": {"until": "2026-11-24T15:00:00Z"}},
        {"valid": {"from": "2026-11-24T16:00:00Z"}},
    ],
)
def test_an_opt_out_of_something_else_does_not_count(opt_out: Table) -> None:
    assert ask(known=facts(opt_outs=(OptOut.model_validate(opt_out),))).allowed


@pytest.mark.parametrize("opt_out", [{}, {"entity": "esco1"}, {"valid": {"from": "2026-11-24T15:59:59Z"}}])
def test_an_opt_out_in_the_assignment_counts_as_well(opt_out: Table) -> None:
    assert codes_of(ask(book(site=assignment("g", opt_outs=(opt_out,))))) == {"opted-out"}


def test_a_mandatory_grant_leaves_no_opt_out_and_the_local_lock_out_still_wins() -> None:
    rules = book(GRANT | {"opt_out": "none"})
    assert ask(rules, known=facts(opt_outs=(OptOut(),))).allowed
    assert ask(rules, known=facts(opt_outs=UNKNOWN)).allowed
    assert ask(rules, known=facts(locked_out=True)).code == "locked-out"


def test_on_a_stale_policy_only_grid_critical_grants_and_emergencies_count() -> None:
    stale = facts(freshness=Freshness.STALE)
    assert ask(book(GRANT | {"priority": {"level": 63}}), known=stale).allowed
    assert codes_of(ask(book(GRANT | {"priority": {"level": 64}}), known=stale)) == {"policy-stale"}


def test_a_grant_that_holds_to_the_end_needs_no_contact() -> None:
    assert ask(book(GRANT | {"on_comm_loss": "hold_to_end"}), known=facts(contact=Contact.LOST)).allowed


# --- emergencies ---

URGENT: Table = GRANT | {
    "windows": [{"start": "16:00", "end": "21:00"}],
    "budget": {"count_day": 1},
    "emergency": {"max": "1h", "may_bypass": ["window", "budget"]},
}
SPENT = {Period("g", "wh-01", "day", "2026-11-24"): Used(1, 60)}
TWO = frozenset({"k-op-17", "k-op-18"})


def urgent(**changes: object) -> dict[str, object]:
    return {"emergency": True, "cosigners": ["op-18"]} | changes


def test_two_individuals_set_aside_what_the_grant_lets_them() -> None:
    decision = ask(book(URGENT), command(**urgent()), facts(keys=TWO, used=SPENT))
    assert decision.allowed
    assert decision.plan is not None
    assert decision.plan.bypassed == ("window", "budget")


@pytest.mark.parametrize(
    ("keys", "changes", "code"),
    [
        (frozenset({"k-op-17"}), {}, "two-signatures"),
        (TWO, {"cosigners": ["op-17"]}, "two-signatures"),
        (TWO, {"cosigners": None}, "two-signatures"),
        (frozenset({"k-op-17", "k-clerk-2"}), {"cosigners": ["clerk-2"]}, "two-signatures"),
        (frozenset({"k-op-17", "k-op-99"}), {"cosigners": ["op-99"]}, "two-signatures"),
        (TWO, {"duration": "3601s"}, "no-emergency"),
        (TWO, {"emergency": False, "cosigners": None}, "window"),
    ],
)
def test_less_than_that_sets_nothing_aside(keys: frozenset[str], changes: Table, code: str) -> None:
    decision = ask(book(URGENT), command(**urgent(**changes)), facts(keys=keys, used=SPENT))
    assert codes_of(decision) >= {code, "window", "budget"}


def test_an_emergency_sets_aside_nothing_that_the_grant_does_not_name() -> None:
    known = facts(keys=TWO, opt_outs=(OptOut(),), used={})
    assert codes_of(ask(book(URGENT), command(**urgent(value=0)), known)) == {"opted-out"}
    denial = {"id": "no", "from": "*", "shall_not": ["shed"], "to": {}}
    assert ask(book(URGENT, denial), command(**urgent()), facts(keys=TWO)).code == "denied"


def test_two_keys_of_one_individual_are_one_signature() -> None:
    both = roster("esco1", "op-17", "op-18")
    keys = [*both.keys, both.keys[0].model_copy(update={"id": "k-second"})]
    rules = book(URGENT, rosters=(both.model_copy(update={"keys": tuple(keys)}),))
    known = facts(keys=frozenset({"k-op-17", "k-second"}))
    assert "two-signatures" in codes_of(ask(rules, command(**urgent()), known))


# --- restore, clocks of devices ---


def test_what_was_before_is_restored_where_the_grant_says_so() -> None:
    rules = book(LIMITING | {"restore": "previous"})
    cases = [(Decimal(12), (), 12), (Decimal(99), (), 16), (Decimal(12), (running("esco1"),), 16)]
    for present, others, restored in cases:
        plan = ask(rules, limiting(), facts(present=present, running=others)).plan
        assert plan is not None
        assert plan.restore_to == restored
    plan = ask(book(LIMITING), limiting(), facts(present=Decimal(12))).plan
    assert plan is not None
    assert plan.restore_to == 16


def test_an_engineer_sets_a_devices_clock_under_a_grant() -> None:
    issuer = {"entity": "esco1", "application": "dr-hub", "individual": "eng-5"}
    asked = limiting(issuer=issuer, verb="set-clock", value=None, duration=None)
    known = facts(keys=frozenset({"k-eng-5"}), type_limits=UNKNOWN, contact=UNKNOWN, present=UNKNOWN)
    plan = ask(book(LIMITING), asked, known).plan
    assert plan is not None
    assert (plan.duration_s, plan.random_end_s, plan.restore_to, plan.value) == (0, 0, None, None)
    assert plan.hold == "none"
    counted = ask(book(LIMITING | {"budget": {"count_day": 1}}), asked, known).plan
    assert counted is not None
    assert [(one.count, one.seconds) for one in counted.reserve] == [(1, 0)]
    timed = limiting(issuer=issuer, verb="set-clock", value=None)
    assert ask(book(LIMITING), timed, known).code == "incomplete"
    stale = replace(known, freshness=Freshness.STALE)
    level = LIMITING | {"priority": {"level": 1}}
    assert codes_of(ask(book(level), asked, stale)) == {"policy-stale"}


def test_a_devices_clock_is_set_inside_of_the_windows_alone_random_start_and_all() -> None:
    issuer = {"entity": "esco1", "application": "dr-hub", "individual": "eng-5"}
    asked = limiting(issuer=issuer, verb="set-clock", value=None, duration=None)
    known = facts(keys=frozenset({"k-eng-5"}))
    for start, end, random, allowed in (
        ("10:00", "11:00", "0s", True),
        ("09:00", "10:00", "0s", False),
        ("10:01", "11:00", "0s", False),
        ("10:00", "10:05", "299s", True),
        ("10:00", "10:05", "300s", False),
    ):
        row = LIMITING | {"windows": [{"start": start, "end": end}], "randomise": {"start": random}}
        assert ask(book(row), asked, known).allowed is allowed


# --- a control that is asked for ahead is judged again when it starts ---


def test_a_planned_control_is_judged_again_at_its_start_by_when_it_came() -> None:
    planned = command(start="2026-11-24T22:00:00Z")
    rules = book(GRANT | {"lead": {"min": "1h"}})
    assert ask(rules, planned).allowed
    begin = at("2026-11-24T22:00:00Z")
    again = replace(moment(begin), received_ms=NOW_MS)
    assert ask(rules, planned, again).allowed
    late = replace(moment(begin + 10 * MIN), received_ms=NOW_MS)
    plan = ask(rules, planned, late).plan
    assert plan is not None
    assert (plan.begin_ms, plan.latest_end_ms) == (begin + 10 * MIN, begin + H)
    over = replace(moment(begin + H), received_ms=NOW_MS)
    assert ask(rules, planned, over).code == "too-late"


def test_a_new_kind_of_entity_and_programme_needs_no_new_code() -> None:
    plain = policy(GRANT | {"from": "well-field", "purpose": ["aquifer-recharge"], "to": {"kinds": ["pump"]}})
    entity = Entity.model_validate(
        {"id": "well-field", "kind": "water-cooperative", "application": [{"id": "dr-hub"}]}
    )
    people = roster("esco1", "op-17")
    theirs = people.model_copy(update={"roster": people.roster.model_copy(update={"entity": "well-field"})})
    rules = Rulebook(
        plain.model_copy(
            update={
                "entities": (*plain.entities, entity),
                "limits": (plain.limits[0].model_copy(update={"kind": "pump"}),),
            }
        ),
        [theirs],
        assignment("g", devices=(HEATER | {"kind": "pump"},)),
    )
    issuer = {"entity": "well-field", "application": "dr-hub", "individual": "op-17"}
    assert ask(rules, command(issuer=issuer, purpose="aquifer-recharge")).allowed


def test_all_reasons_are_told_at_once() -> None:
    known = facts(opt_outs=(OptOut(),), contact=Contact.LOST, signed={})
    wanted = {"opted-out", "no-contact", "not-agreed", "purpose", "duration"}
    assert codes_of(ask(asked=command(duration="3h", purpose="fun"), known=known)) == wanted


def test_the_clock_of_who_commands_may_be_ahead_by_the_tolerance() -> None:
    assert ask(asked=command(issued="2026-11-24T15:00:05Z")).allowed
    assert ask(asked=command(issued="2026-11-24T15:00:05.001Z")).code == "issued-ahead"
    assert ask(asked=command(start="2026-11-24T14:59:55Z")).allowed
    assert ask(asked=command(start="2026-11-24T14:59:54.999Z")).code == "too-late"
    assert ask(asked=command(expires="2026-11-24T15:00:00Z")).allowed
    assert ask(asked=command(expires="2026-11-24T14:59:59.999Z")).code == "command-expired"


@pytest.mark.parametrize("error_ms", [0, 5000])
def test_a_clock_counts_up_to_its_tolerance(error_ms: int) -> None:
    assert ask(known=facts(time=Time(NOW_MS, error_ms, ClockState.HOLDOVER))).allowed


def test_facts_of_no_use_are_as_good_as_unknown() -> None:
    strange = [
        {"time": Time(-1, 0, ClockState.SYNCHRONISED)},
        {"time": Time(NOW_MS, -1, ClockState.SYNCHRONISED)},
        {"time": Time(10**20, 0, ClockState.SYNCHRONISED)},
        {"received_ms": -(10**20)},
        {"type_limits": TypeLimits(Decimal("NaN"), Decimal(1), 0, 0, False)},
        {"type_limits": TypeLimits(Decimal(0), Decimal("sNaN"), 0, 0, False)},
    ]
    for changed in strange:
        assert not ask(known=facts(**changed)).allowed
    for present in (Decimal("NaN"), Decimal("sNaN"), Decimal("Infinity"), Decimal("1e400"), Decimal("1e-9")):
        rules = book(GRANT | {"limits": {"step": 1}})
        assert unknown_codes(ask(rules, known=facts(present=present))) == {"step"}


def test_limits_of_a_kind_win_over_those_of_the_type_alone() -> None:
    loose = CHARGER | {"min": 0, "max": 32, "default": 32}
    tight = CHARGER | {"kind": "ev-charger", "max": 8, "default": 8}
    rules = book(LIMITING, limits=(loose, tight))
    assert ask(rules, limiting(value=8)).allowed
    assert ask(rules, limiting(value=10)).code == "value-range"


def test_the_plain_facts_know_everything() -> None:
    assert all(getattr(FACTS, name) is not UNKNOWN for name in Facts.__slots__)
    assert FACTS.unchanged_since_ms == NOW_MS - DAY


# --- what is not known, and edges


def findings_of(decision: Decision) -> dict[str, tuple[str, bool]]:
    """Return sentence and doubt of everything that is not met, by code."""
    unmet = [*decision.findings, *(one for judged in decision.grants for one in judged.unmet)]
    return {one.code: (one.why, one.unknown) for one in unmet}


def test_what_hangs_on_the_time_is_not_known_without_it() -> None:
    budget = GRANT | {"budget": {"count_day": 1}, "windows": [{"start": "06:00", "end": "22:00"}]}
    found = findings_of(ask(book(budget), known=facts(time=UNKNOWN)))
    of_time = (
        "no-assignment",
        "no-consent",
        "grant-ended",
        "roster-ended",
        "duration",
        "budget",
        "opted-out",
    )
    assert {code: found[code][1] for code in of_time} == dict.fromkeys(of_time, True)


def test_a_device_that_nobody_knows_may_or_may_not_be_meant() -> None:
    asked = command(device="wh-99")
    found = findings_of(decide(asked, book(), FACTS, every_grant=True))
    assert found["target"][1] is True
    wrong = findings_of(decide(limiting(verb="shed"), book(), FACTS, every_grant=True))
    assert wrong["target"][1] is False


def test_a_grant_for_an_owners_devices_asks_for_that_owner_all_the_time() -> None:
    half = "2026-11-24T15:30:00Z"
    terms = [
        {"owners": ["customer-17"], "valid": {"until": half}},
        {"owners": ["customer-18"], "valid": {"from": half}},
    ]
    rules = book(
        GRANT | {"to": {"owners": ["customer-17"]}},
        site=assignment("g", devices=(HEATER | {"ownership": terms},)),
    )
    assert findings_of(ask(rules))["target"] == ("it is for devices of customer-17", False)
    gone = book(
        GRANT | {"to": {"owners": ["customer-17"]}},
        site=assignment("g", devices=(HEATER | {"ownership": terms[:1]},)),
    )
    assert findings_of(ask(gone))["target"][1] is True


def test_a_grant_that_has_not_begun_is_told_by_its_begin() -> None:
    valid = {"from": "2026-11-24T15:00:01Z", "until": "2026-11-24T16:00:00Z"}
    why, unknown = findings_of(ask(book(GRANT | {"valid": valid})))["grant-ended"]
    assert why.startswith("it holds from")
    assert not unknown


def test_a_time_outside_of_the_calendar_is_not_known() -> None:
    found = findings_of(ask(known=facts(time=Time(-1, 20, ClockState.SYNCHRONISED))))
    assert found["clock-unsure"] == ("what time it is, is not known", True)


def test_a_point_without_limits_is_told_by_the_type_and_kind_of_its_device() -> None:
    found = findings_of(ask(book(limits=(CHARGER,))))
    assert found["no-profile"][0] == "there are no limits for shed at Shed of relay (water-heater)"


def test_the_value_before_is_restored_at_the_edges_of_the_profile_too() -> None:
    profile = CHARGER | {"default": 10}
    rules = book(LIMITING | {"restore": "previous"}, limits=(profile,))
    for present, restored in ((6, 6), (16, 16), (5, 10), (17, 10)):
        plan = ask(rules, limiting(), facts(present=Decimal(present))).plan
        assert plan is not None
        assert plan.restore_to == restored


def test_a_plan_has_the_random_end_of_its_grant() -> None:
    plan = ask(book(GRANT | {"randomise": {"start": "5min", "end": "10min"}})).plan
    assert plan is not None
    assert (plan.random_start_s, plan.random_end_s) == (300, 600)


def test_of_rows_of_one_level_the_more_particular_comes_first() -> None:
    device, point, gateway = {"devices": ["wh-01"]}, {"points": ["Shed"]}, {"gateways": ["gw-0001"]}
    kind, group = {"kinds": ["water-heater"]}, {"groups": ["feeder-7"]}
    order = [
        device | point,
        device,
        point | gateway | kind,
        point | gateway,
        point | kind,
        point,
        gateway | group,
        gateway,
        kind,
        {"owners": ["customer-17"]},
    ]
    names = [f"g-{9 - place}" for place in range(len(order))]  # by their ids they would stand the other way
    rows = [GRANT | {"id": name, "to": to} for name, to in zip(names, order, strict=True)]
    assert [row.grant.id for row in book(*rows).permits] == names
    strong = GRANT | {"id": "g-strong", "to": {"owners": ["customer-17"]}, "priority": {"level": 1}}
    assert book(*rows, strong).permits[0].grant.id == "g-strong"
