"""RTU frames: what may come back for a request, and that nothing else ever becomes an answer."""

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from core.errors import BadFrame
from drivers.modbus.pdu import coil_pdu, coils_pdu, read_pdu, register_pdu, registers_pdu
from drivers.modbus.rtu import RtuExchange, crc, framed, is_glitch

READ = framed(17, read_pdu(3, 100, 2))
ANSWER = framed(17, b"\x03\x04\x12\x34\x56\x78")


def test_frame_is_the_one_of_the_specification() -> None:
    # Modbus over Serial Line V1.02, appendix B: address 2, function 7 has the checksum 1241 hex, low first.
    assert framed(2, b"\x07") == bytes.fromhex("02074112")


@pytest.mark.parametrize(
    ("pdu", "octets"),
    [
        (coil_pdu(5, True), "050005ff00"),
        (coil_pdu(5, False), "0500050000"),
        (register_pdu(6, 4711), "0600061267"),
        (coils_pdu(16, [True, False, True]), "0f001000030105"),
        (registers_pdu(20, [1, 65535]), "1000140002040001ffff"),
    ],
)
def test_requests_are_written_as_specified(pdu: bytes, octets: str) -> None:
    assert pdu.hex() == octets


@given(st.binary(min_size=1, max_size=254))
def test_checksum_over_a_whole_frame_is_zero(body: bytes) -> None:
    frame = framed(body[0], body[1:])
    assert crc(frame) == 0
    assert crc(frame[:-1] + bytes([frame[-1] ^ 1])) != 0


def test_answer_is_taken_in_one_piece_and_byte_by_byte() -> None:
    assert RtuExchange(READ, 4).feed(ANSWER) == ANSWER[1:-2]
    exchange = RtuExchange(READ, 4)
    pieces = [exchange.feed(bytes([octet])) for octet in ANSWER]
    assert pieces == [None] * (len(ANSWER) - 1) + [ANSWER[1:-2]]


def test_exception_response_is_taken() -> None:
    assert RtuExchange(READ, 4).feed(framed(17, b"\x83\x02")) == b"\x83\x02"


@pytest.mark.parametrize("pdu", [coil_pdu(5, True), register_pdu(6, 4711)], ids=["coil", "register"])
def test_single_write_is_confirmed_by_its_echo(pdu: bytes) -> None:
    sent = framed(1, pdu)
    assert RtuExchange(sent).feed(sent) == pdu


@pytest.mark.parametrize("pdu", [coils_pdu(16, [True] * 9), registers_pdu(20, [1, 2])])
def test_multiple_write_is_confirmed_by_address_and_quantity(pdu: bytes) -> None:
    sent = framed(1, pdu)
    assert RtuExchange(sent).feed(framed(1, pdu[:5])) == pdu[:5]
    with pytest.raises(BadFrame):
        RtuExchange(sent).feed(sent)


def test_bytes_that_a_turning_driver_makes_before_an_answer_are_skipped() -> None:
    assert RtuExchange(READ, 4).feed(b"\x00\xff\x00" + ANSWER) == ANSWER[1:-2]


def test_other_noise_before_an_answer_is_no_answer() -> None:
    assert RtuExchange(READ, 4).feed(b"\x55" + ANSWER) is None


@pytest.mark.parametrize(
    "stray",
    [
        framed(18, b"\x03\x04\x00\x00\x00\x00"),
        framed(17, b"\x03\x06\x00\x00\x00\x00\x00\x00"),
        framed(17, b"\x04\x04\x00\x00\x00\x00"),
        framed(18, b"\x83\x02"),
        framed(17, b"\x84\x02"),
    ],
    ids=["another unit", "another length", "another function", "its exception", "exception of another"],
)
def test_whole_frame_that_answers_something_else_is_skipped(stray: bytes) -> None:
    exchange = RtuExchange(READ, 4)
    assert exchange.feed(stray) is None
    assert exchange.strays == [stray]
    assert exchange.feed(ANSWER) == ANSWER[1:-2]


@pytest.mark.parametrize("broken", range(len(ANSWER)))
def test_damaged_answer_is_never_taken(broken: int) -> None:
    octets = bytearray(ANSWER)
    octets[broken] ^= 0x10
    try:
        assert RtuExchange(READ, 4).feed(bytes(octets)) is None
    except BadFrame:
        pass


def test_more_than_one_answer_at_once_is_refused() -> None:
    with pytest.raises(BadFrame, match="more came back"):
        RtuExchange(READ, 4).feed(ANSWER + ANSWER)


def test_flood_is_refused() -> None:
    with pytest.raises(BadFrame, match="more came back"):
        RtuExchange(READ, 4).feed(b"\x55" * 300)


def test_echo_that_has_the_form_of_an_answer_is_refused() -> None:
    # Coils 768 to 791: the high byte of the address reads as the byte count of the three bytes behind it.
    sent = framed(1, read_pdu(1, 0x0300, 24))
    with pytest.raises(BadFrame, match="set echo = true"):
        RtuExchange(sent, 3).feed(sent)


def test_echo_of_a_read_is_skipped_and_is_no_answer() -> None:
    exchange = RtuExchange(READ, 4)
    assert exchange.feed(READ) is None
    assert exchange.feed(ANSWER) == ANSWER[1:-2]


def test_announced_echo_is_taken_away() -> None:
    exchange = RtuExchange(READ, 4, echo=True)
    assert exchange.feed(READ[:3]) is None
    assert not exchange.heard
    assert exchange.feed(READ[3:] + ANSWER) == ANSWER[1:-2]
    write = framed(1, register_pdu(6, 1))
    exchange = RtuExchange(write, echo=True)
    assert exchange.feed(write) is None  # the adapter alone: nobody has confirmed
    assert exchange.feed(write) == write[1:-2]


def test_announced_echo_that_differs_is_a_collision() -> None:
    with pytest.raises(BadFrame, match="echo"):
        RtuExchange(READ, 4, echo=True).feed(b"\x11\x04")


@pytest.mark.parametrize(("octets", "glitch"), [(b"", True), (b"\0\xff", True), (b"\0\x01", False)])
def test_glitch_is_told_from_a_frame(octets: bytes, glitch: bool) -> None:
    assert is_glitch(octets) is glitch


noise = st.binary(max_size=40)
chunks = st.lists(noise, max_size=6)


@given(chunks)
@example([b"\x11\x03\x04\x12\x34\x56\x78"])
def test_nothing_but_a_frame_with_its_checksum_becomes_an_answer(parts: list[bytes]) -> None:
    octets = b"".join(parts)
    assume(not any(crc(octets[at : at + 9]) == 0 for at in range(len(octets))))
    assume(not any(crc(octets[at : at + 5]) == 0 for at in range(len(octets))))
    exchange = RtuExchange(READ, 4)
    for part in parts:
        try:
            assert exchange.feed(part) is None
        except BadFrame:
            return


@given(
    st.integers(1, 247),
    st.sampled_from([1, 2, 3, 4]),
    st.integers(0, 65535),
    st.binary(min_size=1, max_size=250),
    st.lists(st.binary(min_size=1, max_size=20).map(lambda body: framed(body[0], body[1:])), max_size=3),
    st.data(),
)
def test_right_answer_is_found_behind_whole_frames_of_others_however_it_is_cut(
    unit_id: int, function: int, address: int, payload: bytes, strays: list[bytes], data: st.DataObject
) -> None:
    if function in (3, 4) and len(payload) % 2:
        payload += b"\0"
    if len(payload) > 250:
        payload = payload[:250]
    sent = framed(unit_id, read_pdu(function, address, len(payload) // 2 or 1))
    answer = framed(unit_id, bytes((function, len(payload))) + payload)
    assume(answer != sent)
    strays = [
        stray for stray in strays if len(stray) >= 4 and stray[0] != unit_id and stray[0] not in (0, 255)
    ]
    assume(not any(crc(stray[:size]) == 0 for stray in strays for size in range(4, len(stray))))
    assume(not any(stray[1:2] == b"" for stray in strays))
    exchange = RtuExchange(sent, len(payload))
    stream = b"".join(strays) + answer
    found = None
    while stream:
        size = data.draw(st.integers(1, len(stream)))
        found = exchange.feed(stream[:size])
        stream = stream[size:]
    assert found == answer[1:-2]
