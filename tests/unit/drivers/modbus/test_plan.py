"""The request plan: right always, and never more requests or registers than the best plan has."""

from collections.abc import Iterator, Sequence
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import ConfigError
from drivers.modbus.plan import Request, plan
from drivers.points import PointType, Table
from drivers.types import Block, Limits, Range
from tests.support.points import point


def registers(address: int, width: int = 1, table: str = "holding") -> PointType:
    """Return a point of some width."""
    return point(f"P{address}w{width}", type="string", length=width, address=address, table=table)


def bit(address: int, table: str = "coil") -> PointType:
    return point(f"B{address}", type="bool", table=table, address=address)


def shape(requests: Sequence[Request]) -> list[tuple[str, int, int, tuple[int, ...]]]:
    return [(request.table.value, request.address, request.count, request.points) for request in requests]


def forbid(*ranges: tuple[int, int], table: Table = Table.HOLDING) -> tuple[Range, ...]:
    return tuple(Range(table=table, first=first, last=last) for first, last in ranges)


def test_nothing_asks_for_nothing() -> None:
    assert plan([]) == ()


def test_neighbours_share_a_request() -> None:
    assert shape(plan([registers(0, 2), registers(2, 2)])) == [("holding", 0, 4, (0, 1))]


def test_hole_is_bridged_up_to_the_limit_and_no_further() -> None:
    near, far = registers(17), registers(18)
    assert shape(plan([registers(0), near], Limits(max_hole=16))) == [("holding", 0, 18, (0, 1))]
    assert len(plan([registers(0), far], Limits(max_hole=16))) == 2
    assert len(plan([registers(0), registers(2)], Limits(max_hole=0))) == 2
    assert len(plan([registers(0), registers(1)], Limits(max_hole=0))) == 1


def test_tables_are_never_mixed_and_come_in_order() -> None:
    points = [registers(0), registers(0, table="input"), bit(0, "discrete"), bit(0)]
    assert shape(plan(points)) == [
        ("coil", 0, 1, (3,)),
        ("discrete", 0, 1, (2,)),
        ("input", 0, 1, (1,)),
        ("holding", 0, 1, (0,)),
    ]


def test_bits_of_one_register_share_it() -> None:
    bits = [point(f"B{number}", type="bit", bit=number, address=7) for number in range(16)]
    assert shape(plan(bits)) == [("holding", 7, 1, tuple(range(16)))]


def test_value_is_not_split_at_the_largest_read() -> None:
    points = [registers(0, 124), registers(124, 2)]
    assert shape(plan(points)) == [("holding", 0, 124, (0,)), ("holding", 124, 2, (1,))]


def test_bit_tables_have_a_limit_of_their_own() -> None:
    points = [bit(address) for address in range(30)]
    limits = Limits(max_registers=10, max_bits=20)
    assert [request.count for request in plan(points, limits)] == [20, 10]


def test_forbidden_range_is_not_bridged_whatever_its_width() -> None:
    points = [registers(0), registers(2)]
    assert len(plan(points, Limits(forbidden=forbid((1, 1))))) == 2
    assert len(plan(points, Limits(forbidden=forbid((1, 1), table=Table.INPUT)))) == 1
    assert len(plan(points, Limits(forbidden=forbid((3, 9))))) == 1


@pytest.mark.parametrize(("first", "last"), [(4, 4), (5, 9), (3, 4), (0, 99)])
def test_point_in_a_forbidden_range_is_refused(first: int, last: int) -> None:
    with pytest.raises(ConfigError, match=f"lies in the forbidden range {first} to {last}"):
        plan([registers(4, 2)], Limits(forbidden=forbid((first, last))))


def test_point_wider_than_a_read_is_refused() -> None:
    with pytest.raises(ConfigError, match="needs 11 registers at once, the device reads 10"):
        plan([registers(0, 11)], Limits(max_registers=10))


def test_of_plans_with_as_many_requests_the_one_that_reads_least_is_taken() -> None:
    # From the left and greedy it would be 0..10 and 12: 12 registers in place of 4.
    points = [registers(0), registers(10), registers(12)]
    assert shape(plan(points, Limits(max_registers=11))) == [
        ("holding", 0, 1, (0,)),
        ("holding", 10, 3, (1, 2)),
    ]


def test_wide_point_that_does_not_fit_does_not_hold_back_what_lies_inside_it() -> None:
    points = [registers(0, 2), registers(1, 4), registers(2)]
    assert shape(plan(points, Limits(max_registers=4))) == [
        ("holding", 0, 2, (0,)),
        ("holding", 1, 4, (1, 2)),
    ]


def test_block_by_hand_is_one_request_exactly() -> None:
    block = Block(table=Table.HOLDING, address=0, count=60)
    points = [registers(4), registers(58, 2), registers(59, 2), registers(5, table="input")]
    assert shape(plan(points, Limits(max_hole=0), [block])) == [
        ("input", 5, 1, (3,)),
        ("holding", 0, 60, (0, 1)),
        ("holding", 59, 2, (2,)),
    ]


def test_block_without_a_point_is_not_read() -> None:
    block = Block(table=Table.HOLDING, address=100, count=10)
    assert shape(plan([registers(0)], Limits(), [block])) == [("holding", 0, 1, (0,))]


def test_answer_size_is_in_bytes() -> None:
    sizes = [Request(Table.COIL, 0, count, ()).size for count in (1, 8, 9, 2000)]
    assert sizes == [1, 1, 2, 250]
    assert Request(Table.INPUT, 0, 125, ()).size == 250


small_points = st.lists(
    st.tuples(st.integers(0, 24), st.integers(1, 5)).map(lambda pair: registers(*pair)),
    min_size=1,
    max_size=6,
)
small_limits = st.builds(
    Limits,
    max_registers=st.integers(5, 14),
    max_hole=st.integers(0, 6),
    forbidden=st.lists(st.tuples(st.integers(0, 30), st.integers(0, 2)), max_size=2).map(
        lambda bars: forbid(*((first, first + more) for first, more in bars))
    ),
)


def partitions(items: Sequence[int]) -> Iterator[list[list[int]]]:
    """Yield every way to put the items into groups."""
    if not items:
        yield []
        return
    first, *rest = items
    for smaller in partitions(rest):
        yield [[first], *smaller]
        for number, group in enumerate(smaller):
            yield [*smaller[:number], [first, *group], *smaller[number + 1 :]]


def span(points: Sequence[PointType], group: Sequence[int], limits: Limits) -> int | None:
    """Return how many registers one read of a group needs, None when it breaks a rule."""
    wanted = {address for index in group for address in range(points[index].address, points[index].end)}
    first, last = min(wanted), max(wanted)
    if last - first + 1 > limits.max_registers:
        return None
    if any(after - before - 1 > limits.max_hole for before, after in pairwise(sorted(wanted))):
        return None
    if any(bar.first <= last and first <= bar.last for bar in limits.forbidden):
        return None
    return last - first + 1


def best(points: Sequence[PointType], limits: Limits) -> tuple[int, int] | None:
    """Return requests and registers of the best plan, by trying all."""
    found: list[tuple[int, int]] = []
    for groups in partitions(range(len(points))):
        spans = [span(points, group, limits) for group in groups]
        if None not in spans:
            found.append((len(groups), sum(one for one in spans if one is not None)))
    return min(found, default=None)


@settings(max_examples=300)
@given(small_points, small_limits)
def test_no_plan_has_fewer_requests_or_with_as_many_fewer_registers(
    points: list[PointType], limits: Limits
) -> None:
    wanted = best(points, limits)
    if wanted is None:
        with pytest.raises(ConfigError):
            plan(points, limits)
        return
    requests = plan(points, limits)
    assert (len(requests), sum(request.count for request in requests)) == wanted


many_points = st.lists(
    st.one_of(
        st.builds(registers, st.integers(0, 600), st.integers(1, 12), st.sampled_from(["holding", "input"])),
        st.builds(bit, st.integers(0, 4000), st.sampled_from(["coil", "discrete"])),
    ),
    max_size=60,
)
blocks = st.lists(
    st.builds(
        Block,
        table=st.sampled_from([Table.HOLDING, Table.INPUT]),
        address=st.integers(0, 500),
        count=st.integers(1, 60),
    ),
    max_size=2,
)


@given(many_points, st.integers(12, 125), st.integers(1, 2000), st.integers(0, 40), blocks)
def test_every_plan_keeps_the_rules_whatever_the_order_of_the_points(
    points: list[PointType], most: int, bits: int, hole: int, by_hand: list[Block]
) -> None:
    bars = tuple(
        bar
        for bar in forbid((100, 103), (250, 250), (400, 460))
        if not any(p.table is bar.table and p.address <= bar.last and bar.first < p.end for p in points)
    )
    limits = Limits(max_registers=most, max_bits=bits, max_hole=hole, forbidden=bars)
    requests = plan(points, limits, by_hand)
    assert sorted(index for request in requests for index in request.points) == list(range(len(points)))
    whole_blocks = {(block.table, block.address, block.count) for block in by_hand}
    for request in requests:
        covered = {
            address for index in request.points for address in range(points[index].address, points[index].end)
        }
        assert {points[index].table for index in request.points} == {request.table}
        assert covered <= set(range(request.address, request.end))
        if (request.table, request.address, request.count) in whole_blocks:
            continue
        assert request.count <= limits.span(request.table)
        assert (min(covered), max(covered) + 1) == (request.address, request.end)
        assert all(after - before - 1 <= hole for before, after in pairwise(sorted(covered)))
        assert not any(
            bar.table is request.table and bar.first < request.end and request.address <= bar.last
            for bar in bars
        )
    backwards = plan(points[::-1], limits, by_hand)
    assert [(r.table, r.address, r.count) for r in backwards] == [
        (r.table, r.address, r.count) for r in requests
    ]
