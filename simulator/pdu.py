"""The server's side of the Modbus application protocol: a request in bytes, an answer in bytes.

Function codes 1 to 6, 15 and 16 of the Modbus Application Protocol V1.1b3. Written apart from the
client that Portico uses, so that the two do not share their misreadings.

Relies on a unit that knows its registers. Not here: frames, sockets, faults.
"""

import struct
from dataclasses import dataclass
from typing import Final, Protocol

from drivers.types import Table

ILLEGAL_FUNCTION: Final = 1
ILLEGAL_ADDRESS: Final = 2
ILLEGAL_VALUE: Final = 3
DEVICE_FAILURE: Final = 4
DEVICE_BUSY: Final = 6
TARGET_FAILED: Final = 11

MOST_BITS_READ: Final = 2000
MOST_REGISTERS_READ: Final = 125
MOST_BITS_WRITTEN: Final = 1968
MOST_REGISTERS_WRITTEN: Final = 123

_READ: Final = struct.Struct(">BHH")
_WRITE_MANY: Final = struct.Struct(">BHHB")


READS: Final = {1: Table.COIL, 2: Table.DISCRETE, 3: Table.HOLDING, 4: Table.INPUT}
WRITES: Final = frozenset({5, 6, 15, 16})


class Refusal(Exception):
    """The unit refuses a request; `code` is the exception code (§7)."""

    def __init__(self, code: int) -> None:
        super().__init__(f"exception {code}")
        self.code = code


class Unit(Protocol):
    """What answers behind one unit id. Every act may raise Refusal."""

    def read_bits(self, table: Table, address: int, count: int) -> bytes:
        """Return bits packed as the answer wants them, the first in the lowest bit of the first byte."""
        ...

    def read_registers(self, table: Table, address: int, count: int) -> bytes:
        """Return registers, big-endian."""
        ...

    def write_bits(self, function: int, address: int, bits: tuple[bool, ...]) -> None:
        """Set coils, all or none."""
        ...

    def write_timed_bit(self, address: int, word: int) -> None:
        """Switch a coil for a time, by function 5 with a value that is neither on nor off."""
        ...

    def write_registers(self, function: int, address: int, registers: bytes) -> None:
        """Set holding registers, all or none."""
        ...


@dataclass(frozen=True, slots=True)
class Request:
    """What the log tells of a request: function, first address and count (0 where it has none)."""

    function: int
    address: int
    count: int


def describe(pdu: bytes) -> Request:
    """Return what a request asks for, as far as its bytes say so."""
    function = pdu[0]
    if len(pdu) < 5 or (function not in READS and function not in WRITES):
        return Request(function, 0, 0)
    _, address, count = _READ.unpack_from(pdu)
    return Request(function, address, 1 if function in (5, 6) else count)


def answer(unit: Unit, pdu: bytes) -> bytes:
    """Return the answer to a request, normal or exception."""
    try:
        return _normal(unit, pdu)
    except Refusal as refusal:
        return exception(pdu[0], refusal.code)


def exception(function: int, code: int) -> bytes:
    """Return the answer that refuses a request."""
    return bytes((function | 0x80, code))


def _normal(unit: Unit, pdu: bytes) -> bytes:
    function = pdu[0]
    if function in READS:
        if len(pdu) != _READ.size:
            raise Refusal(ILLEGAL_VALUE)
        _, address, count = _READ.unpack(pdu)
        most = MOST_BITS_READ if function <= 2 else MOST_REGISTERS_READ
        _within(address, count, most)
        table = READS[function]
        found = (
            unit.read_bits(table, address, count)
            if function <= 2
            else unit.read_registers(table, address, count)
        )
        return bytes((function, len(found))) + found
    if function not in WRITES:
        raise Refusal(ILLEGAL_FUNCTION)
    if len(pdu) < _READ.size:
        raise Refusal(ILLEGAL_VALUE)
    _, address, second = _READ.unpack_from(pdu)
    if function == 5:
        if len(pdu) != _READ.size:
            raise Refusal(ILLEGAL_VALUE)
        if second in (0x0000, 0xFF00):
            unit.write_bits(function, address, (second == 0xFF00,))
        else:
            unit.write_timed_bit(address, second)
    elif function == 6:
        if len(pdu) != _READ.size:
            raise Refusal(ILLEGAL_VALUE)
        unit.write_registers(function, address, pdu[3:5])
    else:
        _many(unit, pdu)
    return pdu[:5]


def _many(unit: Unit, pdu: bytes) -> None:
    if len(pdu) < _WRITE_MANY.size:
        raise Refusal(ILLEGAL_VALUE)
    function, address, count, size = _WRITE_MANY.unpack_from(pdu)
    body = pdu[_WRITE_MANY.size :]
    wanted = (count + 7) // 8 if function == 15 else 2 * count
    if size != wanted or len(body) != wanted:
        raise Refusal(ILLEGAL_VALUE)
    _within(address, count, MOST_BITS_WRITTEN if function == 15 else MOST_REGISTERS_WRITTEN)
    if function == 15:
        unit.write_bits(function, address, tuple(bool(body[at >> 3] >> (at & 7) & 1) for at in range(count)))
    else:
        unit.write_registers(function, address, body)


def _within(address: int, count: int, most: int) -> None:
    """Refuse a wrong count before a wrong address, in the order of the flow charts of §6."""
    if not 1 <= count <= most:
        raise Refusal(ILLEGAL_VALUE)
    if address + count > 0x10000:
        raise Refusal(ILLEGAL_ADDRESS)
