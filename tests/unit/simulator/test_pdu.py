"""The server's side of the protocol, byte by byte, against a unit that remembers what it was asked."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.types import Table
from simulator.pdu import Refusal, Request, answer, describe


class Memory:
    """A unit with 1,000 registers and as many bits in every table; address 666 is illegal."""

    def __init__(self) -> None:
        self.registers = {table: bytearray(2000) for table in Table}
        self.bits = {table: [False] * 1000 for table in Table}

    def read_bits(self, table: Table, address: int, count: int) -> bytes:
        self._legal(address, count)
        found = self.bits[table][address : address + count]
        packed = sum(bit << at for at, bit in enumerate(found))
        return packed.to_bytes((count + 7) // 8, "little")

    def read_registers(self, table: Table, address: int, count: int) -> bytes:
        self._legal(address, count)
        return bytes(self.registers[table][2 * address : 2 * (address + count)])

    def write_bits(self, function: int, address: int, bits: tuple[bool, ...]) -> None:
        self._legal(address, len(bits))
        self.bits[Table.COIL][address : address + len(bits)] = bits

    def write_timed_bit(self, address: int, word: int) -> None:
        raise Refusal(3)

    def write_registers(self, function: int, address: int, registers: bytes) -> None:
        self._legal(address, len(registers) // 2)
        self.registers[Table.HOLDING][2 * address : 2 * address + len(registers)] = registers

    def _legal(self, address: int, count: int) -> None:
        if address + count > 1000 or address <= 666 < address + count:
            raise Refusal(2)


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        # Reads: the examples' shapes of the Modbus Application Protocol V1.1b3, sections 6.1 to 6.4.
        ("03 0002 0002", "03 04 0004 0005"),
        ("04 0002 0001", "04 02 0004"),
        ("01 0000 000a", "01 02 2902"),
        ("02 0000 0003", "02 01 01"),
        # Writes are echoed as sections 6.5, 6.6, 6.11 and 6.12 say.
        ("05 0005 ff00", "05 0005 ff00"),
        ("05 0000 0000", "05 0000 0000"),
        ("06 0001 beef", "06 0001 beef"),
        ("0f 0010 0003 01 05", "0f 0010 0003"),
        ("10 0010 0002 04 0001 0002", "10 0010 0002"),
        # Unknown functions, among them 43 and 0.
        ("2b 0e 01 00", "ab 01"),
        ("00", "80 01"),
        # Counts out of range come before addresses out of range.
        ("03 0000 0000", "83 03"),
        ("03 0000 007e", "83 03"),
        ("03 ffff 007e", "83 03"),
        ("01 0000 07d1", "81 03"),
        ("03 ffff 0002", "83 02"),
        ("03 029a 0001", "83 02"),
        # Bodies that are too short, too long, or lie about themselves.
        ("03 0000", "83 03"),
        ("03 0000 0001 00", "83 03"),
        ("05 0000 0001", "85 03"),
        ("05 0000 ff00 00", "85 03"),
        ("06 0000", "86 03"),
        ("06 0000 0001 00", "86 03"),
        ("0f 0010 0009 01 05", "8f 03"),
        ("10 0010 0002 04 0001", "90 03"),
        ("10 0010 0002 02 0001", "90 03"),
        ("10 0010 0000 00", "90 03"),
        ("10 0010", "90 03"),
    ],
)
def test_a_request_has_exactly_this_answer(request_: str, expected: str) -> None:
    unit = Memory()
    unit.registers[Table.HOLDING][4:8] = unit.registers[Table.INPUT][4:8] = b"\0\4\0\5"
    for at in (0, 3, 5, 9):
        unit.bits[Table.COIL][at] = True
    unit.bits[Table.DISCRETE][0] = True
    assert answer(unit, bytes.fromhex(request_)) == bytes.fromhex(expected)


def test_bits_are_written_from_the_lowest_of_the_first_byte() -> None:
    unit = Memory()
    answer(unit, bytes.fromhex("0f 0010 000a 02 05 02"))
    assert [at for at, bit in enumerate(unit.bits[Table.COIL]) if bit] == [16, 18, 25]


@given(st.binary(min_size=1, max_size=253))
def test_any_bytes_have_an_answer_that_fits_into_a_frame(request: bytes) -> None:
    found = answer(Memory(), request)
    assert 2 <= len(found) <= 253
    assert found[0] & 0x7F == request[0] & 0x7F


@given(st.sampled_from([1, 2, 3, 4]), st.integers(0, 0xFFFF), st.integers(0, 0xFFFF))
def test_a_read_is_described_by_its_address_and_count(function: int, address: int, count: int) -> None:
    pdu = struct.pack(">BHH", function, address, count)
    assert describe(pdu) == Request(function, address, count)


def test_a_single_write_counts_one_and_what_is_no_request_nothing() -> None:
    assert describe(bytes.fromhex("06 0007 1234")) == Request(6, 7, 1)
    assert describe(bytes.fromhex("2b 0e 01 00 00 00")) == Request(0x2B, 0, 0)
    assert describe(b"\x03") == Request(3, 0, 0)
