"""What of one lane is held by the other end, what is on its way, what is to be sent next.

Pure: no IO, no clock of its own.  Ids are those of the store's file.  What is held
is a set of ranges, never a cursor.  Flow control is end to end: bytes count as
unconfirmed until a confirmation covers them, whatever the broker acknowledged.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from math import inf
from typing import Final

from core.ranges import Range, RangeSet

MAX_PAUSE_S: Final = 600.0
"""Longest pause before the oldest unconfirmed message is tried again."""


@dataclass(slots=True)
class Flight:
    """One message on its way: published, not confirmed."""

    first: int
    last: int
    size: int
    sent: float
    deadline: float
    acked: bool = False
    """The broker acknowledged it: frees the window, nothing else."""


class Outbox:
    """State of one lane of one route."""

    def __init__(self, held: Iterable[Range], low: int, top: int, live_from: int, wait_s: float) -> None:
        """Begin with what the books held when last heard of.

        Args:
            held: ranges of ids confirmed so far.
            low: smallest id in the file.
            top: largest committed id.
            live_from: ids from here on are live, those before are backlog.
            wait_s: how long to wait for a confirmation before sending again.
        """
        self.held = RangeSet(held)
        self.gone = self.held.copy()
        """Held or on its way."""
        self.flights: dict[int, Flight] = {}
        """By first id, in the order of sending."""
        self.low = low
        self.top = top
        self.live_from = live_from
        self.wait_s = wait_s
        self.unconfirmed_bytes = 0
        self.unacked = 0
        self._pause_s = wait_s
        self._probe_at = -inf
        """Before this instant silence is not answered by a probe."""

    def next_live(self, upto: int) -> Range | None:
        """Return the first live ids that are neither held nor on their way, up to an id."""
        return self.gone.first_missing(max(self.live_from, self.low), min(upto, self.top))

    def next_backlog(self) -> Range | None:
        """Return the oldest ids before the live ones that are neither held nor on their way."""
        return self.gone.first_missing(self.low, min(self.live_from - 1, self.top))

    def waiting(self) -> int:
        """Return how many ids are neither held nor on their way."""
        return sum(b - a + 1 for a, b in self.gone.missing(self.low, self.top)) if self.top >= self.low else 0

    def demote(self, from_id: int) -> None:
        """Call older what waits as live: ids before ``from_id`` become backlog."""
        self.live_from = max(self.live_from, from_id)

    def sent(self, first: int, last: int, size: int, now: float) -> Flight:
        """Note a message on its way."""
        flight = Flight(first, last, size, now, now + self.wait_s)
        self.flights[first] = flight
        self.gone.add(first, last)
        self.unconfirmed_bytes += size
        self.unacked += 1
        return flight

    def acked(self, flight: Flight) -> None:
        """Note that the broker acknowledged a message."""
        if not flight.acked:
            flight.acked = True
            self.unacked -= 1

    def refused(self, flight: Flight) -> None:
        """Note that the broker refused a message, or that it never left: its ids wait again."""
        if self.flights.get(flight.first) is flight:
            self._put_back(flight)
        else:
            self.acked(flight)

    def confirmed(self, ranges: Iterable[Range], now: float) -> bool:
        """Note ranges that the books hold; True when that is news.

        A message whose time is over is put back when one that was sent after it is confirmed: then
        it is lost.  What was sent later may still stand in the broker's queue, and waits for its turn.
        """
        news = False
        for first, last in ranges:
            for new in self.held.missing(first, last):  # what was asked for again is held, and still to go
                news = True
                self.gone.add(*new)
            self.held.add(first, last)
        newest = -inf
        for flight in [f for f in self.flights.values() if self.held.covers(f.first, f.last)]:
            newest = max(newest, flight.sent)
            self._end(flight)
        if news:
            self._pause_s = self.wait_s
            self._probe_at = -inf
            for flight in [f for f in self.flights.values() if f.sent < newest and f.deadline <= now]:
                self._put_back(flight)
        return news

    def skip(self, first: int, last: int) -> None:
        """Give up ids that are no longer in the file: their Gap says so, no coverage ever will."""
        self.held.add(first, last)
        self.gone.add(first, last)

    def forget(self) -> None:
        """Begin anew for new books: nothing is held, nothing on its way."""
        self.held = RangeSet()
        self.gone = RangeSet()
        for flight in self.flights.values():
            flight.acked = True
        self.flights.clear()
        self.unconfirmed_bytes = 0
        self.unacked = 0
        self._pause_s = self.wait_s
        self._probe_at = -inf

    def again(self, ranges: Iterable[Range]) -> None:
        """Send ranges again although they may be held: the other end asked. They go as backlog."""
        for first, last in ranges:
            self.demote(min(last, self.top) + 1)
            for flight in [f for f in self.flights.values() if f.first <= last and first <= f.last]:
                self._put_back(flight)
            self.gone.remove(first, last)

    def probe(self, now: float) -> bool:
        """Put back the oldest message when its time is over and nothing was heard; pauses grow.

        One message, not all: while the other end is away the same bytes must not be paid for
        again and again.  What else is overdue follows when the first confirmation comes.
        """
        at = self.deadline()
        if at is None or at > now:
            return False
        self._put_back(next(iter(self.flights.values())))
        self._pause_s = min(self._pause_s * 2, MAX_PAUSE_S)
        self._probe_at = now + self._pause_s
        return True

    def reconnected(self, now: float, grace_s: float) -> None:
        """After a new connection, wait a short time only: the broker may have lost what it acknowledged."""
        self._pause_s = self.wait_s
        self._probe_at = -inf
        for flight in self.flights.values():
            flight.deadline = min(flight.deadline, now + grace_s)

    def disconnected(self) -> None:
        """The connection is lost: what the broker did not acknowledge waits again."""
        for flight in [f for f in self.flights.values() if not f.acked]:
            self._put_back(flight)

    def deadline(self) -> float | None:
        """Return when :meth:`probe` has something to do."""
        flight = next(iter(self.flights.values()), None)
        return None if flight is None else max(flight.deadline, self._probe_at)

    def floor(self) -> int:
        """Return the id below which everything in the file is confirmed."""
        hole = self.held.first_missing(self.low, self.top)
        return self.top + 1 if hole is None else hole[0]

    def _put_back(self, flight: Flight) -> None:
        self._end(flight)
        self.gone.remove(flight.first, flight.last)
        for first, last in self.held.overlap(flight.first, flight.last):
            self.gone.add(first, last)

    def _end(self, flight: Flight) -> None:
        del self.flights[flight.first]
        self.unconfirmed_bytes -= flight.size
        self.acked(flight)
