"""What a device was found to refuse, and the plan that does without.

A type's file says what the maker says; the device at hand may have other firmware, or a serial server
in front of it.  What is learned of it is of two kinds, both true of what was seen, whatever the
reason: a *refusal* (every read that covers these addresses is refused) and the *largest* read of a
table that it accepts.  :class:`Search` finds them: it halves a refused read, one more read at a time.
Reads begin and end at points only, so that no value is ever split and nothing forbidden is touched.

Pure.  Relies on ``drivers.modbus.plan``.  Deliberately not here: when a read counts as refused, and
when the device is asked (``agent.learned``).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from drivers.modbus.plan import Request, in_order, outermost, plan
from drivers.points import PointType, Table
from drivers.types import Block, Limits


@dataclass(frozen=True, slots=True)
class Refusal:
    """Every read that covers all of these addresses, first and last included, is refused."""

    table: Table
    first: int
    last: int
    reason: str
    """As readings get it: ``exception-2``, ``exception-3`` or ``timeout``."""


@dataclass(frozen=True, slots=True)
class Largest:
    """The longest read of a table that is accepted, in registers or bits."""

    table: Table
    count: int


@dataclass(frozen=True, slots=True)
class Learned:
    """All that was learned of one device."""

    refused: tuple[Refusal, ...] = ()
    largest: tuple[Largest, ...] = ()
    """At most one a table."""

    def __bool__(self) -> bool:
        return bool(self.refused or self.largest)

    def most(self, table: Table, limits: Limits) -> int:
        """Return the longest read of a table, as far as known."""
        return min([limits.span(table), *(one.count for one in self.largest if one.table is table)])

    def allows(self, request: Request) -> bool:
        """Tell whether nothing that was learned speaks against a read."""
        table, first, last = request.table, request.address, request.end - 1
        return not any(
            one.table is table and first <= one.first and one.last <= last for one in self.refused
        ) and all(one.table is not table or request.count <= one.count for one in self.largest)

    def refusal(self, request: Request) -> Refusal | None:
        """Return the refusal of exactly this read, None when there is none."""
        where = (request.table, request.address, request.end - 1)
        return next((one for one in self.refused if (one.table, one.first, one.last) == where), None)

    def plus(self, found: Refusal | Largest) -> "Learned":
        """Return what is known with one thing more."""
        if isinstance(found, Largest):
            others = tuple(one for one in self.largest if one.table is not found.table)
            return replace(self, largest=(*others, found))
        where = (found.table, found.first, found.last)
        return replace(
            self,
            refused=(
                *(one for one in self.refused if (one.table, one.first, one.last) != where),
                found,
            ),
        )

    def without(self, refusal: Refusal) -> "Learned":
        """Return what is known without one refusal: the device answered after all."""
        return replace(self, refused=tuple(one for one in self.refused if one != refusal))


NOTHING = Learned()


def learned_plan(
    points: Sequence[PointType], limits: Limits, blocks: Sequence[Block] = (), learned: Learned = NOTHING
) -> tuple[Request, ...]:
    """Return the requests for some points, by the type's limits and by what was learned.

    A point that is refused by itself, or is wider than the largest read, gets a request of its own
    and spoils no neighbour.  ``ConfigError`` as :func:`plan`.
    """
    requests = plan(points, limits, blocks)
    if not learned:
        return requests
    alone: dict[tuple[Table, int, int], list[int]] = {}
    company: dict[Table, list[int]] = {}
    for index, point in enumerate(points):
        if learned.allows(Request(point.table, point.address, point.width, ())):
            company.setdefault(point.table, []).append(index)
        else:
            alone.setdefault((point.table, point.address, point.width), []).append(index)
    found = [Request(*where, tuple(indexes)) for where, indexes in alone.items()]
    for table, indexes in company.items():
        found += _company(points, indexes, table, limits, blocks, learned)
    return in_order(found)


def _company(
    points: Sequence[PointType],
    indexes: Sequence[int],
    table: Table,
    limits: Limits,
    blocks: Sequence[Block],
    learned: Learned,
) -> Iterable[Request]:
    most = learned.most(table, limits)
    requests = plan(
        [points[index] for index in indexes],
        limits.model_copy(update={"max_bits" if table.is_bits else "max_registers": most}),
        [block for block in blocks if learned.allows(Request(block.table, block.address, block.count, ()))],
        [(one.table, one.first, one.last) for one in learned.refused],
    )
    for request in requests:
        yield replace(request, points=tuple(indexes[index] for index in request.points))


@dataclass(frozen=True, slots=True)
class Search:
    """What in one refused read the device refuses.

    The read is a row of spans, one a point that lies inside no other.  Halving finds the longest
    beginning that is accepted; then the span after it is read alone, then with the span before it.
    """

    request: Request
    spans: tuple[tuple[int, int], ...]
    """(start, end) of the points, in order."""
    reason: str
    """Of the latest refusal."""
    refused: int
    """The first so many spans together are refused; one more than there are: the read as it stands."""
    accepted: int = 0
    """The first so many spans together are accepted."""
    alone: bool | None = None
    """Whether the first span that is too much is accepted alone; None: not asked yet."""
    pair: bool | None = None
    """Whether it is accepted with the span before it."""

    @classmethod
    def of(cls, request: Request, points: Sequence[PointType], reason: str) -> "Search":
        """Begin with a read that was refused; ``points`` are those that were planned."""
        members = (points[index] for index in request.points)
        spans = tuple(outermost((point.address, point.end) for point in members))
        exact = spans[0][0] == request.address and spans[-1][1] == request.end
        return cls(request, spans, reason, refused=len(spans) if exact else len(spans) + 1)

    def step(self, longest: int) -> Request | Refusal | Largest:
        """Return the read to ask next, or what was found.

        ``longest`` is the longest read of the table that the device is known to have answered: what
        is not longer was not refused for its length.
        """
        if self.refused - self.accepted > 1:
            return self._read(0, (self.accepted + self.refused) // 2)
        at = self.accepted
        if at == len(self.spans):
            return self._refusal(self.request.address, self.request.end)
        if at == 0 or self.alone is False:
            return self._refusal(*self.spans[at])
        if self.alone is None:
            return self._read(at, at + 1)
        pair = self._read(at - 1, at + 1)
        if at > 1 and self.pair is None:
            return pair
        if at > 1 and self.pair:
            beginning, more = self._read(0, at), self._read(0, at + 1)
            if more.count > longest:
                return Largest(self.request.table, beginning.count)
            return self._refusal(more.address, more.end)
        end, start = self.spans[at - 1][1], self.spans[at][0]
        if pair.count > longest or start < end:
            return self._refusal(pair.address, pair.end)
        return self._refusal(end, start) if start > end else self._refusal(end - 1, start + 1)

    def told(self, accepted: bool, reason: str = "") -> "Search":
        """Return the search with the answer to its latest read."""
        told = self if accepted else replace(self, reason=reason or self.reason)
        if self.refused - self.accepted > 1:
            middle = (self.accepted + self.refused) // 2
            return replace(told, accepted=middle) if accepted else replace(told, refused=middle)
        return replace(told, alone=accepted) if self.alone is None else replace(told, pair=accepted)

    def _read(self, first: int, behind: int) -> Request:
        start, end = self.spans[first][0], self.spans[behind - 1][1]
        return Request(self.request.table, start, end - start, ())

    def _refusal(self, start: int, end: int) -> Refusal:
        return Refusal(self.request.table, start, end - 1, self.reason)
