"""Both judges of what comes back, for every function: nothing is let through but a frame that answers.

What answers is said anew by `tests.support.fuzz.answers`, from the specifications.
"""

from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import BadFrame
from drivers.modbus.frames import Exchange
from drivers.modbus.rtu import RtuExchange
from tests.support.fuzz.answers import ERROR, READS, Asked, Framing, checksum

UNIT, NUMBER = 17, 0x4711


@st.composite
def requests(draw: st.DrawFn, framing: Framing) -> tuple[Asked, int]:
    """Return a request, and the bytes of payload that it wants."""
    function = draw(st.sampled_from([1, 2, 3, 4, 5, 6, 15, 16]))
    address = draw(st.integers(0, 0xFF00)).to_bytes(2, "big")
    count = draw(st.integers(1, 60 if function in (1, 2, 15) else 8))
    size = {1: (count + 7) // 8, 2: (count + 7) // 8, 3: 2 * count, 4: 2 * count}.get(function, 0)
    pdu = bytes([function]) + address + count.to_bytes(2, "big")
    if function in (15, 16):
        written = (count + 7) // 8 if function == 15 else 2 * count
        pdu += bytes([written]) + bytes(written)
    body = bytes([UNIT]) + pdu
    if framing is Framing.RTU:
        return Asked(framing, 0, body + checksum(body)), size
    head = NUMBER.to_bytes(2, "big") + b"\0\0" + len(body).to_bytes(2, "big")
    return Asked(framing, 0, head + body), size


def parts(asked: Asked, size: int) -> st.SearchStrategy[bytes]:
    """Return pieces that come near to an answer."""
    right = asked.framed(asked.right)
    near = [
        right,
        asked.octets,
        asked.framed(asked.right, unit=UNIT + 1),
        asked.framed(bytes([asked.function | ERROR, 2])),
        asked.framed(bytes([asked.function ^ 1]) + asked.right[1:]),
        asked.framed(asked.right, transaction=NUMBER + 1),
        asked.framed(asked.right + b"\0"),
        asked.framed(bytes([asked.function, size]) + b"\xa5" * size),
    ]
    chosen = st.sampled_from(near)
    return st.one_of(
        chosen,
        st.builds(lambda one, at: one[: at % len(one)], chosen, st.integers(0, 300)),
        st.builds(lambda one, at: one[at % len(one) :], chosen, st.integers(0, 300)),
        st.builds(
            lambda one, at, bit: bytes(
                octet ^ (1 << bit if number == at % len(one) else 0) for number, octet in enumerate(one)
            ),
            chosen,
            st.integers(0, 300),
            st.integers(0, 7),
        ),
        st.binary(max_size=20),
    )


def answers(asked: Asked, size: int, pdu: bytes) -> bool:
    """Tell whether a PDU answers a request in all that it shows."""
    if len(pdu) == 2 and pdu[0] == asked.function | ERROR:
        return True
    if asked.function in READS:
        return pdu[:2] == bytes([asked.function, size]) and len(pdu) == 2 + size
    return pdu == asked.pdu[:5]


@settings(max_examples=400)
@given(st.data())
def test_serial_line_lets_nothing_through_but_what_answers(data: st.DataObject) -> None:
    asked, size = data.draw(requests(Framing.RTU))
    exchange, came = RtuExchange(asked.octets, size), b""
    for part in data.draw(st.lists(parts(asked, size), max_size=6)):
        came += part
        try:
            found = exchange.feed(part)
        except BadFrame:
            return
        if found is not None:
            assert asked.framed(found) in came
            assert answers(asked, size, found)
            return


@settings(max_examples=400)
@given(st.data())
def test_modbus_tcp_lets_nothing_through_but_what_answers(data: st.DataObject) -> None:
    asked, size = data.draw(requests(Framing.MBAP))
    exchange, came = Exchange(asked.octets, size), b""
    for part in data.draw(st.lists(parts(asked, size), max_size=6)):
        came += part
        try:
            admitted = exchange.admit(came)
        except BadFrame:
            return
        assert came.startswith(admitted)
        while admitted:
            end = 6 + int.from_bytes(admitted[4:6], "big")
            frame, admitted = admitted[:end], admitted[end:]
            assert len(frame) == end
            if frame[:2] == asked.octets[:2]:
                assert frame[2:4] == b"\0\0"
                assert frame[6] == UNIT
                assert answers(asked, size, frame[7:])
                assert not admitted
                return
