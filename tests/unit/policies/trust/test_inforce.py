"""What is held in the nouns of the language: whose roster counts, who signed, and what cannot be read."""

import dataclasses
from pathlib import Path

import pytest

from policies import facts
from policies.trust.agreement import Agreement, GrantFact
from policies.trust.bounds import POLICY_PATH, roster_path
from policies.trust.freshness import Freshness
from policies.trust.held import Held
from policies.trust.inforce import Readings, freshness_fact, signed_facts
from policies.trust.refusals import PolicyRefused, Why
from tests.support.policy_world import AGGREGATOR, ESCO, UTILITY, World


@pytest.fixture
def found(tmp_path: Path) -> Held:
    """What a gateway holds with a policy and an assignment."""
    world = World(tmp_path)
    world.refresh()
    return world.give(world.assign().raw)


def with_document(found: Held, path: str, raw: bytes | None) -> Held:
    """Return the same with another document at a path, or without it."""
    left = {one: document for one, document in found.verified.documents.items() if one != path}
    documents = left if raw is None else {**left, path: raw}
    return dataclasses.replace(found, verified=dataclasses.replace(found.verified, documents=documents))


def refused(found: Held) -> tuple[Why, str]:
    """Return why a set cannot be used."""
    with pytest.raises(PolicyRefused) as caught:
        Readings().check(found)
    return caught.value.why, str(caught.value)


def test_policy_rosters_and_assignment_are_in_the_book(found: Held) -> None:
    Readings().check(found)
    book = Readings().book(found)
    assert book.utility == UTILITY
    assert set(book.rosters) == {ESCO, AGGREGATOR}
    assert book.assignment is not None
    assert [row.grant.id for row in book.permits] == ["g-wh"]


def test_without_a_policy_nothing_can_be_used(found: Held) -> None:
    assert refused(with_document(found, POLICY_PATH, None))[0] is Why.INCOMPLETE


def test_a_policy_that_cannot_be_read_is_refused_with_its_first_fault(found: Held) -> None:
    why, sentence = refused(with_document(found, POLICY_PATH, b'{"policy": {"utility": "dso.example"}}'))
    assert why is Why.MALFORMED
    assert sentence.endswith("policy id: is missing")
    assert refused(with_document(found, POLICY_PATH, b"\xff"))[0] is Why.MALFORMED


def test_an_assignment_that_cannot_be_read_is_refused(found: Held) -> None:
    assert refused(dataclasses.replace(found, assigned=b"{}"))[0] is Why.MALFORMED


def test_another_kind_of_document_in_its_place_is_refused(found: Held) -> None:
    roster = found.roster(ESCO)
    assert refused(dataclasses.replace(found, assigned=roster))[1].endswith("is another kind of document")
    assert refused(with_document(found, POLICY_PATH, roster))[0] is Why.MALFORMED


@pytest.mark.parametrize("raw", [b"{}", b"[", None])
def test_a_roster_that_cannot_be_read_leaves_its_entity_without_anybody(
    found: Held, raw: bytes | None
) -> None:
    assert set(Readings().book(with_document(found, roster_path(ESCO), raw)).rosters) == {AGGREGATOR}


def test_a_roster_that_names_another_entity_counts_for_nobody(found: Held) -> None:
    other = found.roster(AGGREGATOR)
    book = Readings().book(with_document(found, roster_path(ESCO), other))
    assert set(book.rosters) == {AGGREGATOR}


def test_what_was_read_once_is_not_read_again_and_forgotten_when_it_is_held_no_more(found: Held) -> None:
    readings = Readings()
    first = readings.book(found)
    assert readings.book(found).policy is first.policy
    without = with_document(found, roster_path(ESCO), None)
    assert readings.book(without).rosters[AGGREGATOR] is first.rosters[AGGREGATOR]
    assert readings.book(found).rosters[ESCO] is not first.rosters[ESCO]


@pytest.mark.parametrize(
    ("entity", "parties", "signed"),
    [
        (ESCO, {UTILITY, ESCO}, (True, True)),
        (ESCO, {UTILITY}, (True, False)),
        (ESCO, {ESCO}, (False, True)),
        (ESCO, {AGGREGATOR}, (False, False)),
        (UTILITY, {UTILITY}, (True, True)),
        ("*", {UTILITY}, (True, True)),
    ],
)
def test_who_signed_a_grant_is_a_fact_each(
    found: Held, entity: str, parties: set[str], signed: tuple[bool, bool]
) -> None:
    grant = GrantFact("g", 3, entity, "0" * 64, frozenset(parties), False)
    known = signed_facts(dataclasses.replace(found, agreement=Agreement(UTILITY, {"g": grant})))
    assert known == {"g": facts.Signed(3, *signed)}


def test_every_state_is_a_fact_and_a_doubt_about_the_clock_is_unknown() -> None:
    assert {state: freshness_fact(state) for state in Freshness} == {
        Freshness.FRESH: facts.Freshness.FRESH,
        Freshness.STALE: facts.Freshness.STALE,
        Freshness.CLOCK_UNSURE: facts.UNKNOWN,
        Freshness.EXPIRED: facts.Freshness.EXPIRED,
        Freshness.ROOT_EXPIRED: facts.Freshness.ROOT_EXPIRED,
        Freshness.NO_POLICY: facts.Freshness.NO_POLICY,
    }
