"""Which requests bring a set of points: the fewest, and of those the ones that read least.

A request covers one table and one run of addresses.  It bridges a hole (addresses that no point of
it needs) up to the device's ``max_hole``, never touches a forbidden address, and never splits a
value.  Blocks made by hand stand in place of planning for the points inside them.

The optimum is exact, not a rule of thumb.  A point inside another one goes with it for free, so only
points that lie inside no other are planned.  Those begin and end in the same order, and whatever a
request spans may as well belong to it; hence some best plan cuts that order into consecutive pieces,
and dynamic programming over the cuts finds it.

Pure.  Deliberately not here: how long a plan takes on a line (`drivers.modbus.bustime`).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from core.errors import ConfigError
from drivers.points import PointType, Table
from drivers.types import Block, Limits

Span = tuple[Table, int, int]
"""Addresses of one table, first and last included."""

_ORDER = {table: number for number, table in enumerate(Table)}


@dataclass(frozen=True, slots=True)
class Request:
    """One read: a table, a run of addresses, and the points in it (indexes into those planned)."""

    table: Table
    address: int
    count: int
    points: tuple[int, ...]

    @property
    def end(self) -> int:
        """First address behind it."""
        return self.address + self.count

    @property
    def size(self) -> int:
        """Bytes of its answer, without byte count: two a register, eight bits to one."""
        return (self.count + 7) // 8 if self.table.is_bits else 2 * self.count


def plan(
    points: Sequence[PointType],
    limits: Limits | None = None,
    blocks: Sequence[Block] = (),
    apart: Sequence[Span] = (),
) -> tuple[Request, ...]:
    """Return the requests for some points, ordered by table and address.

    Each point is in exactly one request.  No read of several points covers the whole of a span in
    ``apart`` (a block may: leave such blocks out).  ``ConfigError`` when a point cannot be read within
    the limits: it is wider than a read, or lies in a forbidden range.
    """
    limits = limits or Limits()
    requests: list[Request] = []
    left: dict[Table, list[int]] = {}
    in_block: dict[Block, list[int]] = {}
    for index, point in enumerate(points):
        _check(point, limits)
        block = next((block for block in blocks if _inside(point, block)), None)
        if block is None:
            left.setdefault(point.table, []).append(index)
        else:
            in_block.setdefault(block, []).append(index)
    for block, members in in_block.items():
        requests.append(Request(block.table, block.address, block.count, tuple(members)))
    for table, indexes in left.items():
        spans = [(first, last) for one, first, last in apart if one is table]
        requests += _planned(points, indexes, table, limits, spans)
    return in_order(requests)


def in_order(requests: Iterable[Request]) -> tuple[Request, ...]:
    """Return requests by table and address, as they are asked."""
    return tuple(
        sorted(requests, key=lambda request: (_ORDER[request.table], request.address, request.count))
    )


def outermost(spans: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return those of some spans (start, end) that lie inside no other, in order."""
    outer: list[tuple[int, int]] = []
    for start, end in sorted(spans, key=lambda span: (span[0], -span[1])):
        if not outer or end > outer[-1][1]:
            outer.append((start, end))
    return outer


def _inside(point: PointType, block: Block) -> bool:
    same = point.table is block.table
    return same and block.address <= point.address and point.end <= block.address + block.count


def _check(point: PointType, limits: Limits) -> None:
    if not point.readable:
        raise ConfigError(
            f"point {point.name} is only written: the device never tells it, so it is not polled"
        )
    if point.width > limits.span(point.table):
        raise ConfigError(
            f"point {point.name} needs {point.width} registers at once, "
            f"the device reads {limits.span(point.table)}"
        )
    for bar in limits.forbidden:
        if bar.table is point.table and bar.first < point.end and point.address <= bar.last:
            raise ConfigError(f"point {point.name} lies in the forbidden range {bar.first} to {bar.last}")


def _planned(
    points: Sequence[PointType],
    indexes: Sequence[int],
    table: Table,
    limits: Limits,
    apart: Sequence[tuple[int, int]],
) -> list[Request]:
    # Of two that begin together the wider comes first, so that the other one is seen to lie inside.
    ordered = sorted(indexes, key=lambda index: (points[index].address, -points[index].end, index))
    spans = outermost((points[index].address, points[index].end) for index in ordered)
    joined = [_bridged(before[1], after[0], table, limits) for before, after in pairwise(spans)]
    requests: list[Request] = []
    members = iter(ordered)
    waiting = next(members, None)
    for first, last in _pieces(spans, joined, limits.span(table), apart):
        start, end = spans[first][0], spans[last][1]
        inside: list[int] = []
        while waiting is not None and points[waiting].end <= end:
            inside.append(waiting)
            waiting = next(members, None)
        requests.append(Request(table, start, end - start, tuple(sorted(inside))))
    return requests


def _bridged(end: int, start: int, table: Table, limits: Limits) -> bool:
    """Tell whether one read may go on over the hole from ``end`` to before ``start``."""
    if start - end > limits.max_hole:
        return False
    return not any(bar.table is table and bar.first < start and end <= bar.last for bar in limits.forbidden)


def _pieces(
    spans: Sequence[tuple[int, int]],
    joined: Sequence[bool],
    most: int,
    apart: Sequence[tuple[int, int]] = (),
) -> list[tuple[int, int]]:
    """Return the best cut into pieces (first and last index): fewest pieces, then fewest addresses.

    Of equal ones the one whose earlier pieces are longer, so that a plan is always the same.
    """
    size = len(spans)
    best: list[tuple[int, int]] = [(0, 0)] * (size + 1)
    cut: list[int] = [0] * size
    for first in range(size - 1, -1, -1):
        found: tuple[int, int] | None = None
        for last in range(first, size):
            width = spans[last][1] - spans[first][0]
            if width > most or (last > first and not joined[last - 1]):
                break
            if last > first and any(spans[first][0] <= low and high < spans[last][1] for low, high in apart):
                break  # whatever is longer covers it too
            count, addresses = best[last + 1]
            candidate = (count + 1, addresses + width)
            if found is None or candidate <= found:
                found, cut[first] = candidate, last
        assert found is not None  # a span alone always fits, checked before
        best[first] = found
    pieces: list[tuple[int, int]] = []
    first = 0
    while first < size:
        pieces.append((first, cut[first]))
        first = cut[first] + 1
    return pieces
