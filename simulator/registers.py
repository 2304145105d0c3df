"""The registers of one device: which addresses there are, and the bytes that they hold now.

Legal are the registers of every point, those of hold registers and manual blocks, and the holes
between them that a client of this type may bridge; forbidden ranges never are. Holes read as zero.

Relies on a device type. Not here: where values come from, what a write does.
"""

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from drivers.types import DeviceType, PointType, Table
from simulator.pdu import ILLEGAL_ADDRESS, ILLEGAL_VALUE, Refusal, Request


@dataclass(frozen=True, slots=True)
class Extent:
    """A run of addresses of one table: from `first`, up to but without `end`."""

    table: Table
    first: int
    end: int


class Span:
    """Legal addresses without a break, and what they hold: two bytes a register, one a bit."""

    def __init__(self, extent: Extent) -> None:
        self.extent: Final = extent
        self.width: Final = 1 if extent.table.is_bits else 2
        self.body: Final = bytearray(self.width * (extent.end - extent.first))


class Registers:
    """All four tables of one device."""

    def __init__(self, device_type: DeviceType) -> None:
        self._spans: Final = {
            table: [Span(extent) for extent in legal(device_type) if extent.table is table] for table in Table
        }
        self._firsts: Final = {
            table: [span.extent.first for span in spans] for table, spans in self._spans.items()
        }
        self._limits: Final = device_type.limits
        self._never_told: Final = [extent_of(point) for point in device_type.points if not point.readable]

    def check(self, table: Table, address: int, count: int) -> None:
        """Refuse a read that the device does not answer: too long, or not wholly legal."""
        if count > (self._limits.span(table)):
            raise Refusal(ILLEGAL_VALUE)
        for extent in self._never_told:
            if extent.table is table and extent.first < address + count and address < extent.end:
                raise Refusal(ILLEGAL_ADDRESS)
        self._find(table, address, count)

    def read(self, table: Table, address: int, count: int) -> bytes:
        """Return registers big-endian; of bits one byte each. Refuses what is not wholly legal."""
        span = self._find(table, address, count)
        at = (address - span.extent.first) * span.width
        return bytes(span.body[at : at + count * span.width])

    def write(self, table: Table, address: int, body: bytes) -> None:
        """Put bytes, as `read` returns them, into legal addresses."""
        span = self._find(table, address, len(body) // (1 if table.is_bits else 2))
        at = (address - span.extent.first) * span.width
        span.body[at : at + len(body)] = body

    def extents(self) -> list[Extent]:
        """Return every legal run of addresses, in order."""
        return [span.extent for spans in self._spans.values() for span in spans]

    def _find(self, table: Table, address: int, count: int) -> Span:
        at = bisect_right(self._firsts[table], address) - 1
        if at >= 0:
            span = self._spans[table][at]
            if address + count <= span.extent.end:
                return span
        raise Refusal(ILLEGAL_ADDRESS)


def extent_of(point: PointType) -> Extent:
    """Return the addresses of a point."""
    return Extent(point.table, point.address, point.end)


def legal(device_type: DeviceType) -> list[Extent]:
    """Return the legal runs of addresses of a type, by table and address."""
    declared = [extent_of(point) for point in device_type.points]
    for point in device_type.points:
        if point.write is not None and point.write.hold_register is not None:
            hold = point.write.hold_register
            declared.append(Extent(hold.table, hold.address, hold.address + hold.width))
    declared += [
        Extent(block.table, block.address, block.address + block.count) for block in device_type.blocks
    ]
    forbidden = [Extent(part.table, part.first, part.last + 1) for part in device_type.limits.forbidden]
    found: list[Extent] = []
    for table in Table:
        runs = joined([extent for extent in declared if extent.table is table], device_type.limits.max_hole)
        found += without(runs, [extent for extent in forbidden if extent.table is table])
    return found


def joined(extents: Iterable[Extent], hole: int) -> list[Extent]:
    """Return extents of one table in order, those that touch or leave at most `hole` between them as one."""
    found: list[Extent] = []
    for extent in sorted(extents, key=lambda one: one.first):
        if found and extent.first - found[-1].end <= hole:
            last = found.pop()
            found.append(Extent(last.table, last.first, max(last.end, extent.end)))
        else:
            found.append(extent)
    return found


def without(extents: Sequence[Extent], forbidden: Sequence[Extent]) -> list[Extent]:
    """Return what is left of extents of one table when forbidden ones are taken out."""
    found = list(extents)
    for hole in forbidden:
        cut: list[Extent] = []
        for extent in found:
            if hole.end <= extent.first or extent.end <= hole.first:
                cut.append(extent)
                continue
            if extent.first < hole.first:
                cut.append(Extent(extent.table, extent.first, hole.first))
            if hole.end < extent.end:
                cut.append(Extent(extent.table, hole.end, extent.end))
        found = cut
    return found


def inside(device_type: DeviceType, table: Table, request: Request) -> list[PointType]:
    """Return the points of a type that lie wholly inside a read request."""
    return [
        point
        for point in device_type.points
        if (extent := extent_of(point)).table is table
        and request.address <= extent.first
        and extent.end <= request.address + request.count
    ]
