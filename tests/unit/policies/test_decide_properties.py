"""What holds for every policy, command and state of knowledge: against an oracle, and by itself."""

from dataclasses import fields, replace
from decimal import Decimal

from hypothesis import event, given, settings
from hypothesis import strategies as st

from policies.command import Command
from policies.decide import decide
from policies.facts import UNKNOWN, ClockState, Facts, Period, Running, Signed, Time, TypeLimits, Used
from policies.grant import Grant
from policies.when import Holds, Span, ZonedWindow, covered
from tests.unit.policies.oracle import Oracle
from tests.unit.policies.worlds import Dice, World, denials, worlds

FACTS = [one.name for one in fields(Facts)]


@given(worlds())
@settings(max_examples=600)
def test_an_independent_judge_comes_to_the_same(world: World) -> None:
    decision = decide(world.command, world.book(), world.facts, every_grant=True)
    verdict = Oracle(*world).verdict()
    event("allowed" if verdict.allowed else "refused")
    if any(not codes for codes in verdict.grants.values()):
        event("a grant permits")
    assert {one.code for one in decision.findings} == verdict.general
    found = {judged.grant: {one.code for one in judged.unmet} for judged in decision.grants}
    assert found == verdict.grants
    assert decision.allowed == verdict.allowed
    assert (decision.plan.grant if decision.plan else None) == verdict.winner


@given(worlds())
@settings(max_examples=200)
def test_the_index_leaves_nothing_out(world: World) -> None:
    book = world.book()
    short, full = (decide(world.command, book, world.facts, every_grant=every) for every in (False, True))
    assert (short.allowed, short.plan, short.findings) == (full.allowed, full.plan, full.findings)
    speaking = [
        judged
        for judged in full.grants
        if not {one.code for one in judged.unmet} & {"actor", "verb", "target"}
    ]
    seen = [judged for judged in short.grants if judged in speaking]
    if not short.allowed:
        assert seen == speaking


@given(worlds(), st.sampled_from(FACTS))
@settings(max_examples=400)
def test_what_a_decision_does_not_want_to_know_does_not_change_it(world: World, name: str) -> None:
    book = world.book()
    without = decide(world.command, book, replace(world.facts, **{name: UNKNOWN}))
    event("wants to know" if without.wants_to_know else "knows enough")
    if not without.wants_to_know:
        assert without == decide(world.command, book, world.facts)


@given(worlds(), st.sampled_from(FACTS))
@settings(max_examples=400)
def test_a_fact_made_unknown_never_turns_a_refusal_into_an_allowance(world: World, name: str) -> None:
    book = world.book()
    if not decide(world.command, book, world.facts).allowed:
        assert not decide(world.command, book, replace(world.facts, **{name: UNKNOWN})).allowed


@given(worlds(), st.integers(0, 2**32 - 1))
@settings(max_examples=300)
def test_a_further_denial_never_allows_more(world: World, seed: int) -> None:
    more = Grant.model_validate(denials(Dice(seed), "further", world.command.issued_ms))
    grants = (*world.policy.grants, more)
    before = decide(world.command, world.book(), world.facts)
    after = decide(
        world.command,
        world._replace(policy=world.policy.model_copy(update={"grants": grants})).book(),
        world.facts,
    )
    assert before.allowed or not after.allowed
    if after.allowed:
        assert after.plan == before.plan


@given(worlds())
@settings(max_examples=400)
def test_no_allowed_control_leaves_its_grant_its_window_or_its_limits(world: World) -> None:
    plan = decide(world.command, world.book(), world.facts).plan
    if plan is None:
        return
    event(f"under {plan.grant}")
    grant = next(one for one in world.policy.grants if one.id == plan.grant)
    assert grant.entity == world.command.issuer.entity
    assert grant.permits
    assert grant.valid.until_ms is not None
    assert plan.latest_end_ms <= grant.valid.until_ms
    if plan.value is not None:
        assert grant.limits.hold(plan.value)
    if grant.windows and "window" not in plan.bypassed:
        zone = world.policy.policy.zone
        zoned = [ZonedWindow.of(one, zone, world.policy.calendars) for one in grant.windows]
        assert covered(zoned, Span(plan.begin_ms, plan.latest_end_ms))[0] is Holds.YES
    assert grant.duration is None or plan.duration_s + plan.random_end_s <= grant.duration.max_s
    assert grant.budget.count_day is None or "budget" in plan.bypassed or plan.reserve


numbers = st.decimals() | st.just(Decimal("sNaN")) | st.just(Decimal("1e999999"))
integers = st.integers() | st.integers(-(10**30), 10**30)
names = st.text(max_size=5) | st.sampled_from(["gw-0001", "wh-01", "esco1", "k-op-17", "a"])
wild_facts = st.builds(
    Facts,
    gateway=names | st.just(UNKNOWN),
    time=st.just(UNKNOWN) | st.builds(Time, integers, integers, st.sampled_from(ClockState)),
    received_ms=integers | st.just(UNKNOWN),
    keys=st.frozensets(names) | st.just(UNKNOWN),
    signed=st.dictionaries(
        names, st.just(UNKNOWN) | st.builds(Signed, integers, st.booleans(), st.booleans())
    ),
    used=st.just(UNKNOWN)
    | st.dictionaries(
        st.builds(Period, names, names, st.just("day"), names), st.builds(Used, integers, integers)
    ),
    running=st.just(UNKNOWN)
    | st.tuples(
        st.builds(Running, names, names, integers, integers, integers, st.just("always"), st.booleans())
    ),
    type_limits=st.just(UNKNOWN) | st.builds(TypeLimits, numbers, numbers, integers, integers, st.booleans()),
    present=st.just(UNKNOWN) | numbers,
    unchanged_since_ms=st.just(UNKNOWN) | integers,
)


@given(worlds(), wild_facts)
@settings(max_examples=400)
def test_there_is_an_answer_to_everything(world: World, wild: Facts) -> None:
    assert decide(world.command, world.book(), wild, every_grant=True).code
    mixed = replace(world.facts, time=wild.time, received_ms=wild.received_ms)
    assert decide(world.command, world.book(), mixed, every_grant=True).code
    known = replace(wild, time=world.facts.time, received_ms=world.facts.received_ms)
    assert decide(world.command, world.book(), known, every_grant=True).code


@given(worlds(), st.sampled_from([None, "x", "y"]), st.sampled_from([None, *FACTS]))
@settings(max_examples=300)
def test_a_cancellation_is_judged_alike_by_both_and_unknown_never_helps(
    world: World, cancels: str | None, unknown: str | None
) -> None:
    changes = {"verb": "cancel", "value": None, "duration": None, "cancels": cancels}
    tables = world.command.model_dump(mode="json", by_alias=True) | changes
    command = Command.model_validate({key: one for key, one in tables.items() if one is not None})
    asked = world._replace(command=command)
    decision = decide(command, asked.book(), asked.facts)
    event("allowed" if decision.allowed else "refused")
    assert set(decision.codes) == Oracle(*asked).cancel()
    if unknown is not None and not decision.allowed:
        assert not decide(command, asked.book(), replace(asked.facts, **{unknown: UNKNOWN})).allowed
