"""Frames of both kinds: built, checked, and spoiled in every manner."""

import struct

import pytest

from simulator.frames import (
    RtuFraming,
    TcpFraming,
    checked,
    crc16,
    is_checked,
    request_length,
)

MANNERS = 7


@pytest.mark.parametrize("registers", [1, 2, 80, 125])
def test_no_manner_of_garbage_is_an_answer_on_tcp(registers: int) -> None:
    body = struct.pack(">BB", 3, 2 * registers) + bytes(range(2 * registers))
    right = TcpFraming().wrap(0x1234, 7, body)
    manners = [TcpFraming().spoil(right, number) for number in range(2 * MANNERS)]
    assert len(set(manners)) == MANNERS
    assert manners[:MANNERS] == manners[MANNERS:]
    for spoiled in manners:
        transaction, protocol, length, unit_id, function, size = struct.unpack_from(">HHHBBB", spoiled)
        assert (transaction, protocol, length, unit_id, function, size, len(spoiled)) != (
            0x1234,
            0,
            len(body) + 1,
            7,
            3,
            2 * registers,
            len(right),
        )


@pytest.mark.parametrize("registers", [1, 2, 80, 125])
def test_no_manner_of_garbage_is_an_answer_on_a_serial_line(registers: int) -> None:
    body = struct.pack(">BB", 3, 2 * registers) + bytes(range(2 * registers))
    right = RtuFraming().wrap(0, 7, body)
    manners = [RtuFraming().spoil(right, number) for number in range(MANNERS)]
    assert len(set(manners)) == MANNERS
    for spoiled in manners:
        assert not (
            is_checked(spoiled) and len(spoiled) == len(right) and spoiled[:3] == bytes((7, 3, 2 * registers))
        )


@pytest.mark.parametrize("framing", [TcpFraming(), RtuFraming()], ids=["tcp", "rtu"])
def test_a_refusal_too_can_be_spoiled_in_every_manner(framing: TcpFraming | RtuFraming) -> None:
    right = framing.wrap(1, 7, b"\x83\x02")
    assert right not in [framing.spoil(right, number) for number in range(MANNERS)]


@pytest.mark.parametrize("framing", [TcpFraming(), RtuFraming()], ids=["tcp", "rtu"])
def test_a_misaddressed_answer_differs_in_the_unit_id_alone(framing: TcpFraming | RtuFraming) -> None:
    body = b"\x03\x02\x00\x2a"
    assert framing.misaddress(framing.wrap(5, 7, body)) == framing.wrap(5, 7 ^ 0x55, body)


@pytest.mark.parametrize(
    ("frame", "crc"),
    # The first is the example of MODBUS over Serial Line V1.02 Appendix B; the others are Waveshare's.
    [("0207", 0x1241), ("0105 0000 ff00", 0x3A8C), ("0103 4000 0001", 0xCA91)],
)
def test_the_check_is_that_of_the_specification(frame: str, crc: int) -> None:
    assert crc16(bytes.fromhex(frame)) == crc
    assert is_checked(checked(bytes.fromhex(frame)))


@pytest.mark.parametrize("at", range(6))
def test_a_changed_byte_is_found(at: int) -> None:
    frame = bytearray(checked(bytes.fromhex("01 03 00 01")))
    frame[at] ^= 1
    assert not is_checked(bytes(frame))


@pytest.mark.parametrize(
    ("begin", "length"),
    [
        ("01", 0),
        ("01 03", 8),
        ("01 06", 8),
        ("01 10 0000 0002", 0),
        ("01 10 0000 0002 04", 13),
        ("01 0f 0000 000a 02", 11),
        ("01 2b", None),
    ],
)
def test_the_length_of_a_request_is_known_from_its_beginning(begin: str, length: int | None) -> None:
    assert request_length(bytes.fromhex(begin)) == length
