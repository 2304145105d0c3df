"""The outbox under any order of events: nothing is forgotten, nothing is counted twice."""

from itertools import pairwise

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from agent.uplink.outbox import MAX_PAUSE_S, Flight, Outbox
from core.ranges import Range, RangeSet

WAIT_S = 30.0


def members(ranges: object) -> set[int]:
    assert isinstance(ranges, RangeSet | list)
    return {number for first, last in ranges for number in range(first, last + 1)}


def span(flight: Flight) -> set[int]:
    return set(range(flight.first, flight.last + 1))


def outbox(held: list[Range] | None = None, low: int = 1, top: int = 0, live_from: int = 1) -> Outbox:
    return Outbox(held or [], low, top, live_from, WAIT_S)


class AnyOrder(RuleBasedStateMachine):
    """The ids of one file, each held by the books, on its way, or waiting."""

    def __init__(self) -> None:
        super().__init__()
        self.box = outbox(top=10, live_from=6)
        self.now = 1000.0
        self.held: set[int] = set()
        """What the books confirmed, or what is no longer in the file."""
        self.asked: set[int] = set()
        """Of these, what the other end asked for again and was not sent yet."""
        self.flying: list[Flight] = []
        """On their way, in the order of sending."""
        self.ended: list[Flight] = []
        """Were on their way: the broker may still answer for them."""

    def end(self, flight: Flight) -> None:
        self.flying = [one for one in self.flying if one is not flight]
        self.ended.append(flight)

    def in_file(self) -> set[int]:
        return set(range(self.box.low, self.box.top + 1))

    @rule(more=st.integers(1, 10))
    def commit(self, more: int) -> None:
        self.box.top += more

    @rule(lane=st.sampled_from(["live", "backlog"]), length=st.integers(1, 8), size=st.integers(76, 900))
    def send(self, lane: str, length: int, size: int) -> None:
        waiting = self.box.next_live(self.box.top) if lane == "live" else self.box.next_backlog()
        if waiting is None:
            return
        first, last = waiting[0], min(waiting[1], waiting[0] + length - 1)
        flight = self.box.sent(first, last, size, self.now)
        self.flying.append(flight)
        self.asked -= span(flight)

    @rule(data=st.data())
    def ack(self, data: st.DataObject) -> None:
        known = self.flying + self.ended[-3:]
        if known:
            self.box.acked(data.draw(st.sampled_from(known)))

    @rule(data=st.data())
    def refuse(self, data: st.DataObject) -> None:
        known = self.flying + self.ended[-3:]
        if known:
            flight = data.draw(st.sampled_from(known))
            self.box.refused(flight)
            if any(one is flight for one in self.flying):
                self.end(flight)

    @rule(data=st.data())
    def confirm(self, data: st.DataObject) -> None:
        first = data.draw(st.integers(1, self.box.top))
        ranges = [(first, data.draw(st.integers(first, min(self.box.top, first + 15))))]
        news = self.box.confirmed(ranges, self.now)
        new = members(ranges) - self.held
        assert news is bool(new)
        self.held |= new
        self.asked -= new
        over = [flight for flight in self.flying if span(flight) <= self.held]
        for flight in over:
            self.end(flight)
        for flight in self.flying[:] if news else []:
            if flight.deadline <= self.now and any(flight.sent < one.sent for one in over):
                self.end(flight)

    @rule()
    def connection_lost(self) -> None:
        lost = [flight for flight in self.flying if not flight.acked]
        self.box.disconnected()
        for flight in lost:
            self.end(flight)

    @rule()
    def connection_made(self) -> None:
        self.box.reconnected(self.now, 5.0)
        assert all(flight.deadline <= self.now + 5 for flight in self.flying)

    @rule(after=st.sampled_from([0.0, 1.0, WAIT_S, 2 * WAIT_S, MAX_PAUSE_S]))
    def time_passes(self, after: float) -> None:
        self.now += after

    @rule()
    def probe(self) -> None:
        due = self.box.deadline()
        probed = self.box.probe(self.now)
        assert probed is (due is not None and due <= self.now)
        if probed:
            assert self.flying[0].deadline <= self.now
            self.end(self.flying[0])  # the oldest, and no other

    @rule()
    def books_made_anew(self) -> None:
        self.box.forget()
        self.held.clear()
        self.asked.clear()
        self.ended += self.flying
        self.flying.clear()

    @rule(data=st.data())
    def asked_again(self, data: st.DataObject) -> None:
        first = data.draw(st.integers(1, self.box.top))
        ranges = [(first, data.draw(st.integers(first, min(self.box.top, first + 15))))]
        self.box.again(ranges)
        for flight in self.flying[:]:
            if span(flight) & members(ranges):
                self.end(flight)
        self.asked |= members(ranges) & self.held

    @rule(length=st.integers(1, 5))
    def no_longer_in_the_file(self, length: int) -> None:
        waiting = self.box.next_backlog()
        if waiting is not None:
            first, last = waiting[0], min(waiting[1], waiting[0] + length - 1)
            self.box.skip(first, last)
            self.held |= members([(first, last)])
            self.asked -= members([(first, last)])

    @rule(more=st.integers(0, 5))
    def deleted_below(self, more: int) -> None:
        self.box.low = min(self.box.low + more, self.box.top)

    @rule(data=st.data())
    def live_becomes_backlog(self, data: st.DataObject) -> None:
        before = self.box.live_from
        at = data.draw(st.integers(1, self.box.top + 1))
        self.box.demote(at)
        assert self.box.live_from == max(before, at)

    @invariant()
    def each_id_is_held_or_on_its_way_or_waits(self) -> None:
        flying = set().union(*(span(flight) for flight in self.flying))
        assert members(self.box.held) == self.held
        assert members(self.box.gone) == (self.held | flying) - self.asked
        assert not flying & self.asked
        assert sum(len(span(flight)) for flight in self.flying) == len(flying), "two messages hold one id"

    @invariant()
    def sums_are_those_of_the_messages_on_their_way(self) -> None:
        assert list(self.box.flights.values()) == self.flying
        assert self.box.unconfirmed_bytes == sum(flight.size for flight in self.flying)
        assert self.box.unacked == sum(not flight.acked for flight in self.flying)

    @invariant()
    def what_waits_is_offered_and_nothing_else(self) -> None:
        waiting = self.in_file() - members(self.box.gone)
        assert self.box.waiting() == len(waiting)
        live = {number for number in waiting if number >= self.box.live_from}
        for offered, of in (
            (self.box.next_live(self.box.top), live),
            (self.box.next_backlog(), waiting - live),
        ):
            assert (offered is not None) is bool(of)
            if offered is not None:
                assert offered[0] == min(of)
                assert members([offered]) <= of
                assert offered[1] + 1 not in of

    @invariant()
    def floor_is_the_first_id_that_the_books_do_not_hold(self) -> None:
        lacking = self.in_file() - self.held
        assert self.box.floor() == min(lacking, default=self.box.top + 1)

    @invariant()
    def while_something_is_on_its_way_there_is_an_end_to_waiting(self) -> None:
        deadline = self.box.deadline()
        assert (deadline is None) is (not self.flying)
        assert deadline is None or deadline <= self.now + max(MAX_PAUSE_S, WAIT_S)

    @precondition(lambda self: self.flying)
    @rule()
    def silence_offers_everything_again_in_the_end(self) -> None:
        unconfirmed = self.in_file() - self.held
        for _ in range(len(self.flying)):
            deadline = self.box.deadline()
            assert deadline is not None
            self.now = max(self.now, deadline)
            self.probe()
        assert not self.flying
        assert unconfirmed <= self.in_file() - members(self.box.gone)


AnyOrder.TestCase.settings = settings(max_examples=150, stateful_step_count=40)
test_any_order_of_events_keeps_the_books_of_the_outbox = AnyOrder.TestCase


def test_what_the_books_held_when_last_heard_of_is_not_offered() -> None:
    box = outbox(held=[(1, 4), (8, 9)], top=12, live_from=11)
    assert box.next_backlog() == (5, 7)
    assert box.next_live(12) == (11, 12)
    assert box.floor() == 5
    assert box.waiting() == 6  # 5-7 and 10-12


def test_live_is_offered_up_to_what_was_released() -> None:
    box = outbox(top=10)
    assert box.next_live(4) == (1, 4)
    box.sent(1, 4, 100, 0.0)
    assert box.next_live(4) is None
    assert box.next_live(10) == (5, 10)


def test_silence_is_probed_with_one_message_and_growing_pauses() -> None:
    box = outbox(top=30)
    for first in (1, 11, 21):
        box.sent(first, first + 9, 100, 0.0)
    probes = []
    now = 0.0
    for _ in range(8):
        deadline = box.deadline()
        assert deadline is not None
        now = max(now, deadline)
        assert box.probe(now)
        waiting = box.next_live(30)
        assert waiting is not None
        assert waiting[1] - waiting[0] == 9  # one message's worth, the others stay on their way
        box.sent(*waiting, 100, now)
        probes.append(now)
    pauses = [after - before for before, after in pairwise(probes)]
    assert pauses == [60.0, 120.0, 240.0, 480.0, 600.0, 600.0, 600.0]


def test_confirmation_of_a_later_message_offers_what_was_lost_before_it_at_once() -> None:
    box = outbox(top=40)
    for at, first in enumerate((1, 11, 21)):
        box.sent(first, first + 9, 100, float(at))
    assert box.probe(1000.0)
    box.sent(1, 10, 100, 1000.0)  # the probe
    assert box.next_live(40) == (31, 40)
    assert box.confirmed([(1, 10)], 1001.0)
    # However long the pauses had become: the broker lost the two that were sent before the probe.
    assert box.next_live(40) == (11, 40)
    assert box.unconfirmed_bytes == 0


def test_what_is_asked_for_again_goes_as_backlog() -> None:
    box = Outbox((), 1, 40, 1, WAIT_S)
    box.sent(1, 40, 100, 0.0)
    box.confirmed([(1, 40)], 0.1)
    box.again([(11, 20)])
    assert box.next_live(40) is None
    assert box.next_backlog() == (11, 20)


def test_what_may_still_stand_in_the_brokers_queue_is_not_sent_twice() -> None:
    box = outbox(top=30)
    for at, first in enumerate((1, 11, 21)):
        box.acked(box.sent(first, first + 9, 100, float(at)))
    assert box.confirmed([(1, 10)], 1000.0)  # a collector is back after a long time and works through
    assert box.next_live(30) is None
    assert box.confirmed([(11, 30)], 1001.0)
    assert not box.flights


def test_answer_of_the_broker_for_a_message_of_forgotten_books_changes_nothing() -> None:
    box = outbox(top=10)
    old = box.sent(1, 10, 100, 0.0)
    box.forget()
    new = box.sent(1, 10, 100, 1.0)
    box.refused(old)
    box.acked(old)
    assert (box.unacked, box.unconfirmed_bytes) == (1, 100)
    assert box.flights == {1: new}


def test_half_confirmed_message_is_sent_again_by_its_other_half_alone() -> None:
    box = outbox(top=10)
    flight = box.sent(1, 10, 100, 0.0)
    box.confirmed([(3, 5)], 1.0)
    assert box.flights == {1: flight}
    box.disconnected()
    assert box.next_live(10) == (1, 2)
    box.sent(1, 2, 50, 2.0)
    assert box.next_live(10) == (6, 10)
