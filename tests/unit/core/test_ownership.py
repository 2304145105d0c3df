"""Ownership over time: who owns a reading at its instant, and that two are never valid at once."""

from hypothesis import given
from hypothesis import strategies as st

from core.ownership import Ownership, overlap_fault, owners_at, term_at
from tests.unit.core.wire_made import NOW_MS, ownerships

bounds = st.none() | st.integers(0, 50)


def term(begin: int | None, end: int | None, *owners: str) -> Ownership:
    return Ownership("owner", owners or ("dso",), "dso", "dso", valid_from_ms=begin, valid_to_ms=end)


def instants_of(one: Ownership) -> set[int]:
    return {at for at in range(-1, 52) if one.holds_at(at)}


def test_a_term_holds_from_its_first_instant_until_just_before_its_end() -> None:
    assert instants_of(term(10, 12)) == {10, 11}
    assert instants_of(term(None, 1)) == {-1, 0}
    assert instants_of(term(50, None)) == {50, 51}


@given(ownerships(), st.integers(NOW_MS - 2 * 10**6, NOW_MS + 2 * 10**6))
def test_terms_that_follow_each_other_leave_one_owner_at_each_instant(
    terms: tuple[Ownership, ...], at: int
) -> None:
    assert overlap_fault(terms) is None
    found = term_at(terms, at)
    assert found is not None
    assert owners_at(terms, at) == found.data_owners
    assert [one for one in terms if one.holds_at(at)] == [found]


@given(st.lists(st.tuples(bounds, bounds), max_size=4))
def test_terms_are_refused_exactly_when_one_is_empty_or_two_hold_at_once(
    spans: list[tuple[int | None, int | None]],
) -> None:
    terms = tuple(term(begin, end) for begin, end in spans)
    instants = [instants_of(one) for one in terms]
    empty = any(b is not None and e is not None and e <= b for b, e in spans)
    overlap = any(one & two for place, one in enumerate(instants) for two in instants[place + 1 :])
    assert (overlap_fault(terms) is not None) is (empty or overlap)


def test_fault_says_which_of_the_two_it_is() -> None:
    assert overlap_fault((term(5, 5),)) == "an ownership ends before it begins"
    assert overlap_fault((term(5, 8), term(None, 6))) == "two ownerships are valid at the same time"
    assert overlap_fault(()) is None


def test_nobody_owns_what_lies_between_two_terms() -> None:
    terms = (term(0, 10, "a", "b"), term(20, None, "c"))
    assert [owners_at(terms, at) for at in (-1, 0, 9, 10, 19, 20)] == [
        (),
        ("a", "b"),
        ("a", "b"),
        (),
        (),
        ("c",),
    ]
    assert term_at(terms, 15) is None
