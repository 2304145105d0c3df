"""RangeSet against a plain set of integers, which it must agree with in everything."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from core.ranges import Range, RangeSet

SMALL = st.integers(0, 60)
spans = st.tuples(SMALL, SMALL).map(lambda pair: (min(pair), max(pair)))
span_lists = st.lists(spans, max_size=12)


def members(ranges: object) -> set[int]:
    assert isinstance(ranges, RangeSet | list)
    return {number for first, last in ranges for number in range(first, last + 1)}


def runs(numbers: set[int]) -> list[Range]:
    """Return the maximal runs of some integers: the one right form."""
    found: list[Range] = []
    for number in sorted(numbers):
        if found and found[-1][1] == number - 1:
            found[-1] = (found[-1][0], number)
        else:
            found.append((number, number))
    return found


class AgainstASet(RuleBasedStateMachine):
    """Any order of changes leaves the runs of the model."""

    def __init__(self) -> None:
        super().__init__()
        self.ranges = RangeSet()
        self.model: set[int] = set()

    @rule(span=spans)
    def add(self, span: Range) -> None:
        self.ranges.add(*span)
        self.model |= members([span])

    @rule(span=spans)
    def remove(self, span: Range) -> None:
        self.ranges.remove(*span)
        self.model -= members([span])

    @rule(others=span_lists)
    def update(self, others: list[Range]) -> None:
        self.ranges.update(RangeSet(others))
        self.model |= members(others)

    @rule()
    def copied(self) -> None:
        before, self.ranges = self.ranges, self.ranges.copy()
        before.add(0, 1000)

    @invariant()
    def holds_the_runs_of_the_model(self) -> None:
        assert list(self.ranges) == runs(self.model)
        assert self.ranges.count() == len(self.model)
        assert len(self.ranges) == len(runs(self.model))
        assert bool(self.ranges) is bool(self.model)


test_any_order_of_changes_agrees_with_a_set = AgainstASet.TestCase


@given(span_lists, spans)
def test_every_question_is_answered_as_a_set_would(held: list[Range], asked: Range) -> None:
    ranges, model = RangeSet(held), members(held)
    inside = members([asked])
    assert ranges.covers(*asked) is (inside <= model)
    assert ranges.overlap(*asked) == [part for part in _cut(runs(model), asked) if part[0] <= part[1]]
    assert ranges.missing(*asked) == runs(inside - model)
    holes = runs(inside - model)
    assert ranges.first_missing(*asked) == (holes[0] if holes else None)
    assert ranges.last_missing(*asked) == (holes[-1] if holes else None)
    for number in (asked[0], asked[1]):
        assert (number in ranges) is (number in model)


def _cut(held: list[Range], asked: Range) -> list[Range]:
    return [(max(first, asked[0]), min(last, asked[1])) for first, last in held]


@given(span_lists, span_lists)
def test_sets_are_equal_when_they_hold_the_same_integers(one: list[Range], two: list[Range]) -> None:
    assert (RangeSet(one) == RangeSet(two)) is (members(one) == members(two))


@given(span_lists, SMALL, SMALL)
def test_an_empty_question_has_no_hole(held: list[Range], first: int, last: int) -> None:
    if first > last:
        assert RangeSet(held).first_missing(first, last) is None
        assert RangeSet(held).last_missing(first, last) is None
        assert RangeSet(held).missing(first, last) == []


@pytest.mark.parametrize("change", [RangeSet.add, RangeSet.remove])
def test_range_that_ends_before_it_begins_is_refused(change: object) -> None:
    assert callable(change)
    with pytest.raises(ValueError, match=r"ends before it begins: 5\.\.4"):
        change(RangeSet(), 5, 4)


def test_a_set_is_neither_equal_to_a_list_nor_hashable() -> None:
    assert RangeSet([(1, 2)]) != [(1, 2)]
    with pytest.raises(TypeError):
        hash(RangeSet())
    assert repr(RangeSet([(1, 2), (3, 3), (5, 9)])) == "RangeSet([(1, 3), (5, 9)])"
