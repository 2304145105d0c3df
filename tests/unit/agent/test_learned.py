"""Learning ends, finds what can be read, and loses nobody's neighbour."""

import itertools
from collections.abc import Callable, Set
from dataclasses import dataclass, field
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from agent.config import parse_config
from agent.learned import FIRST_PAUSE_S, LONGEST_PAUSE_S, Learning, shown
from agent.site import PollGroup, build_site
from drivers.modbus.learned import Largest, Learned, Refusal, learned_plan
from drivers.modbus.plan import Request
from drivers.points import PointType, Table
from drivers.types import Block, Limits, Range
from tests.unit.agent.test_site import type_of

EVERY_S = 10.0
CONFIG = """
[gateway]
id = "gw-0001"
data_dir = "var"
[[line]]
name = "lan"
url = "modbus+tcp://127.0.0.1"
[[device]]
name = "meter"
type = "generic-load-relay"
line = "lan"
unit_id = 1
every = "10s"
owner = "dso.example"
"""
WIDTHS = {1: "uint16", 2: "uint32", 4: "uint64"}


def points_at(*places: tuple[int, int]) -> list[PointType]:
    """Holding points of (address, width)."""
    return [
        PointType.model_validate(
            {
                "name": f"P{index}",
                "quantity": "W",
                "unit": "W",
                "table": Table.HOLDING,
                "address": address,
                "type": WIDTHS[width],
            },
            strict=False,
        )
        for index, (address, width) in enumerate(places)
    ]


def groups_of(
    points: list[PointType],
    limits: Limits | None = None,
    learned: Learned | None = None,
    blocks: tuple[Block, ...] = (),
) -> tuple[PollGroup, ...]:
    kind = type_of(*points, limits=limits, blocks=blocks)
    config = parse_config(CONFIG, Path("/etc/gateway.toml"))
    return build_site(config, lambda name: kind, {"meter": learned or Learned()}).groups


Answer = Callable[[Request], bytes | str]


@dataclass
class Polled:
    """A device polled as the worker of a line does it, without the waiting."""

    groups: tuple[PollGroup, ...]
    answer: Answer
    learned: Learned = field(default_factory=Learned)
    now: float = 0.0
    asked: list[Request] = field(default_factory=list)
    last: dict[int, dict[str, bytes | str]] = field(default_factory=dict)
    """Of the latest poll of each group: what each point got."""
    plans: int = 0
    most_asked: int = 0

    def __post_init__(self) -> None:
        self.learning = Learning(self.groups, self.learned, self.now)

    def poll(self) -> None:
        self.now += EVERY_S
        for at, group in enumerate(self.groups):
            self._poll(group)
            if self.learning.ready(self.now):
                self.groups = tuple(one.planned(self.learning.learned) for one in self.groups)
                self.learning.adopted(self.groups, self.now)
                self.plans += 1
            assert self.groups[at].group.group == group.group.group

    def _poll(self, group: PollGroup) -> None:
        learning = self.learning
        calm = learning.calm(group)
        learning.begin(group, self.now)
        if calm:  # then the worker asks nothing of all this
            assert learning.order(group) == list(range(len(group.requests)))
            assert not any(learning.instead(one) or learning.once(one) for one in group.requests)
            assert learning.probe(group) is None
        got: dict[int, bytes | str] = {}
        asked: dict[int, bytes | str] = {}
        before = len(self.asked)
        for index in learning.order(group):
            request = group.requests[index]
            instead = learning.instead(request)
            got[index] = instead if instead is not None else self._ask(request)
            if instead is None:
                asked[index] = got[index]
        probe = learning.probe(group)
        if probe is not None:
            learning.told(group, self._ask(probe), self.now)
        self.most_asked = max(self.most_asked, len(self.asked) - before - len(group.requests))
        learning.note(group, asked, self.now)
        self.last[group.group.group] = {
            group.points[point].name: got[index]
            for index, request in enumerate(group.requests)
            for point in request.points
        }

    def _ask(self, request: Request) -> bytes | str:
        self.asked.append(request)
        return self.answer(request)

    def polls(self, count: int) -> None:
        for _ in range(count):
            self.poll()

    def readable(self) -> set[str]:
        return {
            name for points in self.last.values() for name, got in points.items() if isinstance(got, bytes)
        }


def device(holes: Set[int] = frozenset(), largest: int = 125, says: str = "exception-2") -> Answer:
    """A device that refuses what touches a hole and what is too long."""

    def answer(request: Request) -> bytes | str:
        if request.count > largest or holes & set(range(request.address, request.end)):
            return says
        return bytes(request.size)

    return answer


def enough_polls(points: int) -> int:
    """A bound: each thing found costs a halving, and there are at most two a point, and the length."""
    return (2 * points + 1) * (points.bit_length() + 5) + 10


@st.composite
def maps(draw: st.DrawFn) -> list[tuple[int, int]]:
    """Points one behind the other, some with addresses between them that nobody needs."""
    places, at = [], draw(st.integers(0, 5))
    for _ in range(draw(st.integers(1, 24))):
        at += draw(st.sampled_from([0, 0, 0, 1, 3]))
        width = draw(st.sampled_from([1, 2, 4]))
        places.append((at, width))
        at += width
    return places


@given(maps(), st.data())
@settings(max_examples=300, deadline=None)
def test_learning_ends_with_every_readable_point_read_and_no_neighbour_lost(
    places: list[tuple[int, int]], data: st.DataObject
) -> None:
    end = places[-1][0] + places[-1][1]
    holes = data.draw(st.sets(st.integers(0, end - 1), max_size=6))
    largest = data.draw(st.integers(4, 40))
    says = data.draw(st.sampled_from(["exception-2", "exception-3"]))
    points = points_at(*places)
    polled = Polled(groups_of(points), device(holes, largest, says))
    polled.polls(enough_polls(len(points)))
    assert not polled.learning.searching
    good = {p.name for p in points if not holes & set(range(p.address, p.end))}
    # A refused point is asked now and then, everything else is answered at every poll.
    assert polled.readable() == good
    assert {got for name, got in polled.last[1].items() if name not in good} <= {says}
    assert polled.most_asked <= 1
    before = polled.plans
    polled.polls(20)
    assert polled.plans == before
    assert polled.readable() == good


@given(maps(), st.data())
@settings(max_examples=150, deadline=None)
def test_nothing_forbidden_and_no_part_of_a_value_is_ever_asked(
    places: list[tuple[int, int]], data: st.DataObject
) -> None:
    points = points_at(*places)
    taken = {address for point in points for address in range(point.address, point.end)}
    bars = [address for address in range(points[-1].end) if address not in taken and data.draw(st.booleans())]
    limits = Limits(forbidden=tuple(Range(table=Table.HOLDING, first=one, last=one) for one in bars))
    holes = data.draw(st.sets(st.sampled_from(sorted(taken)), max_size=4))
    polled = Polled(groups_of(points, limits), device(holes, data.draw(st.integers(4, 30))))
    polled.polls(enough_polls(len(points)))
    begins, ends = {point.address for point in points}, {point.end for point in points}
    for request in polled.asked:
        assert not set(bars) & set(range(request.address, request.end))
        assert request.address in begins
        assert request.end in ends


@given(maps(), st.integers(4, 40), st.data())
@settings(max_examples=150, deadline=None)
def test_what_was_learned_plans_the_same_at_the_next_start(
    places: list[tuple[int, int]], largest: int, data: st.DataObject
) -> None:
    end = places[-1][0] + places[-1][1]
    holes = data.draw(st.sets(st.integers(0, end - 1), max_size=4))
    points = points_at(*places)
    first = Polled(groups_of(points), device(holes, largest))
    first.polls(enough_polls(len(points)))
    learned = first.learning.learned
    second = Polled(groups_of(points, learned=learned), device(holes, largest), learned)
    assert [group.requests for group in second.groups] == [group.requests for group in first.groups]
    second.polls(3)
    assert second.plans == 0
    assert second.readable() == first.readable()
    refused = {name for name in second.last[1] if name not in second.readable()}
    assert all(second.last[1][name] == "exception-2" for name in refused)


def test_a_read_that_is_too_long_is_learned_as_the_largest() -> None:
    polled = Polled(groups_of(points_at(*((2 * at, 2) for at in range(60)))), device(largest=50))
    polled.polls(40)
    assert polled.learning.learned == Learned((), (Largest(Table.HOLDING, 50),))
    assert [request.count for request in polled.groups[0].requests] == [50, 50, 20]
    assert polled.plans == 1


def test_a_hole_between_points_is_bridged_no_more() -> None:
    points = points_at((0, 2), (2, 2), (4, 2), (8, 2), (10, 2))
    polled = Polled(groups_of(points), device({6, 7}))
    polled.polls(20)
    assert [(one.address, one.count) for one in polled.groups[0].requests] == [(0, 6), (8, 4)]
    assert shown(polled.learning.learned).holes == ("holding 6-7 (exception-2)",)


def test_a_device_that_refuses_to_cross_a_border_is_asked_on_both_sides() -> None:
    def answer(request: Request) -> bytes | str:
        return "exception-2" if request.address < 10 < request.end else bytes(request.size)

    polled = Polled(groups_of(points_at(*((2 * at, 2) for at in range(10)))), answer)
    polled.polls(30)
    assert [(one.address, one.count) for one in polled.groups[0].requests] == [(0, 10), (10, 10)]


def test_a_block_made_by_hand_that_is_refused_is_planned_from_its_points() -> None:
    points = points_at((2, 2), (4, 2))
    block = Block(table=Table.HOLDING, address=0, count=8)
    polled = Polled(groups_of(points, blocks=(block,)), device({0}))
    polled.polls(20)
    assert [(one.address, one.count) for one in polled.groups[0].requests] == [(2, 4)]
    assert polled.readable() == {"P0", "P1"}


def test_a_refused_point_is_asked_at_growing_intervals() -> None:
    polled = Polled(groups_of(points_at((0, 2), (2, 2), (4, 2))), device({2, 3}))
    polled.polls(20)
    polled.asked.clear()
    times: list[float] = []
    for _ in range(2000):
        before = len(polled.asked)
        polled.poll()
        if any((one.address, one.count) == (2, 2) for one in polled.asked[before:]):
            times.append(polled.now)
        assert polled.last[1]["P1"] == "exception-2"
    pauses = [after - one for one, after in itertools.pairwise(times)]
    assert pauses == sorted(pauses)
    assert pauses[0] >= FIRST_PAUSE_S
    assert pauses[-1] >= LONGEST_PAUSE_S
    assert len(times) < 16


def test_points_that_come_back_are_read_together_again() -> None:
    holes = {2, 3, 6, 7}
    polled = Polled(groups_of(points_at(*((2 * at, 2) for at in range(5)))), device(holes))
    polled.polls(40)
    assert len(polled.readable()) == 3
    holes.clear()
    polled.polls(400)
    assert len(polled.readable()) == 5
    assert not polled.learning.learned
    assert len(polled.groups[0].requests) == 1


def test_a_group_that_answers_everything_is_calm_until_something_is_refused() -> None:
    holes: set[int] = set()
    polled = Polled(groups_of(points_at((0, 2), (50, 2))), device(holes))
    polled.polls(2)
    assert polled.learning.calm(polled.groups[0])
    holes.add(0)
    polled.polls(5)
    assert not polled.learning.calm(polled.groups[0])
    polled.learning.forget(polled.now)
    assert not polled.learning.calm(polled.groups[0])


def test_one_refusal_is_no_ground_for_learning() -> None:
    answers = iter(["exception-2"])
    polled = Polled(groups_of(points_at((0, 2), (2, 2))), lambda request: next(answers, bytes(request.size)))
    polled.polls(10)
    assert polled.plans == 0
    assert len(polled.asked) == 10


def test_a_range_that_is_silent_while_others_answer_is_learned() -> None:
    points = points_at((0, 2), (2, 2), (4, 2), (50, 2))
    polled = Polled(groups_of(points), device({2}, says="timeout"))
    polled.polls(60)
    assert polled.readable() == {"P0", "P2", "P3"}
    assert polled.last[1]["P1"] == "timeout"


def test_a_range_that_was_answered_before_is_not_suspected_for_its_silence() -> None:
    holes: set[int] = set()
    polled = Polled(groups_of(points_at((0, 2), (50, 2))), device(holes, says="timeout"))
    polled.polls(3)
    holes.add(0)
    polled.polls(30)
    assert polled.plans == 0
    holes.clear()
    polled.poll()
    assert polled.readable() == {"P0", "P1"}


def test_a_device_of_the_wrong_type_is_planned_anew_a_few_times_only() -> None:
    polled = Polled(groups_of(points_at(*((2 * at, 2) for at in range(40)))), lambda request: "exception-2")
    polled.polls(enough_polls(40))
    assert polled.readable() == set()
    assert not polled.learning.searching
    assert polled.plans == 1
    polled.asked.clear()
    polled.polls(360)
    assert len(polled.asked) < 500


def test_what_one_group_teaches_serves_the_others_of_the_device() -> None:
    points = points_at(*((2 * at, 2) for at in range(60)))
    slow = [point.model_copy(update={"every_ms": 20_000}) for point in points[30:]]
    polled = Polled(groups_of([*points[:30], *slow]), device(largest=20))
    assert len(polled.groups) == 2
    polled.polls(40)
    assert polled.readable() == {point.name for point in points}
    assert all(request.count <= 20 for group in polled.groups for request in group.requests)
    assert [group.group.group for group in polled.groups] == [1, 2]


def test_a_search_that_hears_neither_yes_nor_no_is_given_up_and_everything_asked_again() -> None:
    busy = False

    def answer(request: Request) -> bytes | str:
        if request.count == 8:
            return "exception-2"
        return "exception-6" if busy else bytes(request.size)

    polled = Polled(groups_of(points_at((0, 2), (2, 2), (4, 2), (6, 2))), answer)
    busy = True
    polled.polls(30)
    assert not polled.learning.learned
    busy = False
    polled.polls(60)
    assert len(polled.readable()) == 4


def test_forgetting_leads_back_to_the_plan_of_the_type() -> None:
    points = points_at((0, 2), (2, 2))
    polled = Polled(groups_of(points), device(largest=2))
    polled.polls(20)
    assert len(polled.groups[0].requests) == 2
    polled.answer = device()
    polled.learning.forget(polled.now)
    polled.poll()
    assert [one.count for one in polled.groups[0].requests] == [4]
    assert shown(polled.learning.learned).largest == {}


def test_a_point_wider_than_the_largest_read_keeps_a_request_of_its_own() -> None:
    points = points_at((0, 1), (1, 1), (2, 4))
    learned = Learned((), (Largest(Table.HOLDING, 2),))
    plan = learned_plan(points, Limits(), (), learned)
    assert [(one.address, one.count) for one in plan] == [(0, 2), (2, 4)]


def test_a_refusal_spares_reads_that_cover_only_a_part_of_it() -> None:
    points = points_at((0, 2), (2, 2), (4, 2))
    learned = Learned((Refusal(Table.HOLDING, 1, 2, "exception-2"),))
    plan = learned_plan(points, Limits(), (), learned)
    assert [(one.address, one.count) for one in plan] == [(0, 2), (2, 4)]
