"""What may come back for a Modbus TCP request: every byte of an answer's head is checked.

pymodbus matches transaction and unit id of an answer, but takes transaction 0 and, for unit 0, any
unit; it does not compare an answer's length or byte count with the request, nor the echo of a write;
of bytes that it cannot decode it makes a crash of the connection.  :class:`Exchange` stands before it
and lets through only frames that answer the request (Modbus Messaging on TCP/IP V1.0b §3.1.3, Modbus
Application Protocol V1.1b3 §6, §7).

Pure.  Deliberately not here: sockets and time (``drivers.modbus.link``).
"""

from pymodbus.pdu import ModbusPDU
from pymodbus.pdu.bit_message import WriteSingleCoilRequest

from core.errors import BadFrame

HEAD = 6
"""Bytes before the unit id: transaction, protocol, length."""
LONGEST = 254
"""Unit id and a PDU of 253 bytes."""
_READS = (1, 2, 3, 4)
_SINGLE_WRITES = (5, 6)
ERROR = 0x80
"""Added to the function code in an exception response."""


class KeptBytes(ModbusPDU):
    """An answer to a read that stays bytes: decoding is ours and happens once for a whole group."""

    rtu_byte_count_pos = 2
    payload = b""

    def __init__(self) -> None:
        # The fields of the base are left out on purpose: the framer sets those that are used, and
        # eleven assignments an answer are a tenth of its cost.
        pass

    def decode(self, data: bytes) -> None:
        """Keep what follows the byte count; that was checked by :class:`Exchange`."""
        self.payload = data[1:]

    def __str__(self) -> str:
        return "an answer kept as bytes"  # asked for with every answer, whatever the log level


class CoilsKept(KeptBytes):
    """Answer to function code 1."""

    function_code = 1


class DiscretesKept(KeptBytes):
    """Answer to function code 2."""

    function_code = 2


class HoldingsKept(KeptBytes):
    """Answer to function code 3."""

    function_code = 3


class InputsKept(KeptBytes):
    """Answer to function code 4."""

    function_code = 4


READ_ANSWERS: tuple[type[KeptBytes], ...] = (CoilsKept, DiscretesKept, HoldingsKept, InputsKept)


class TimedCoilRequest(WriteSingleCoilRequest):
    """Function code 5 whose value is a time, as relay boards of some makers take it."""

    word = 0

    def encode(self) -> bytes:
        """Return address and time."""
        return self.address.to_bytes(2, "big") + self.word.to_bytes(2, "big")


class Exchange:
    """One request that was sent, and the judgement of the bytes that come back for it."""

    __slots__ = ("_expected", "_length", "_sent", "_size", "stray")

    def __init__(self, sent: bytes, size: int) -> None:
        """``sent`` is the whole frame of the request, ``size`` the bytes of payload a read wants."""
        self._sent = sent
        self._size = size
        self._expected = b""
        """How a right answer begins, ``_length`` its bytes; made when something comes, not before sending."""
        self._length = 0
        self.stray = 0
        """Transaction of a frame that answered something else, 0 for none: why the deadline passed."""

    def admit(self, received: bytes) -> bytes:
        """Return what may be decoded of all bytes received since the request, ``b""`` to wait for more.

        ``BadFrame`` when they cannot be, or begin, an answer to the request.  Whole frames of another
        transaction are skipped: they answer a request given up elsewhere on the way (a gateway's
        own time-out), and cannot be mistaken for this one.  An answer with something behind it that
        begins no frame may be the head of one that was cut short and the body of another; two bytes
        are left to servers that send the checksum of their serial line along.
        """
        if not self._length:
            self._expect()
        if len(received) == self._length and received.startswith(self._expected):
            return received
        at = 0
        while True:
            frame = received[at:]
            if len(frame) < HEAD + 2:
                return received[:at]
            length = int.from_bytes(frame[4:6], "big")
            if frame[2:4] != b"\0\0" or not 3 <= length <= LONGEST:
                raise BadFrame("what came back is no Modbus TCP")
            if frame[:2] == self._sent[:2]:
                self._check(frame, length)
                end = at + HEAD + length
                if len(received) < end:
                    return received[:at]
                if not _may_begin_frame(received[end:]):
                    raise BadFrame("what came back goes on behind the answer, and not with a frame")
                return received[:end]
            if frame[:2] == b"\0\0":
                raise BadFrame("the answer does not carry the request's transaction number, but 0")
            if len(frame) < HEAD + length:
                return received[:at]
            self.stray = int.from_bytes(frame[:2], "big")
            at += HEAD + length

    def _expect(self) -> None:
        sent, size = self._sent, self._size
        if sent[7] in _READS:
            self._expected = sent[:4] + (3 + size).to_bytes(2, "big") + sent[6:8] + bytes((size,))
            self._length = 9 + size
        else:
            # A single write is echoed whole, of a multiple one address and quantity come back.
            self._expected = sent if sent[7] in _SINGLE_WRITES else sent[:4] + b"\0\x06" + sent[6:12]
            self._length = 12

    def _check(self, frame: bytes, length: int) -> None:
        """Refuse the beginning of a frame of our transaction that does not answer the request."""
        sent = self._sent
        if frame[6] != sent[6]:
            raise BadFrame(f"unit {frame[6]} answered, unit {sent[6]} was asked")
        if frame[7] == sent[7] | ERROR:
            if length != 3:
                raise BadFrame(f"an exception response of {length} bytes, 3 are right")
            return
        if frame[7] != sent[7]:
            raise BadFrame(f"function {frame[7]} was answered, {sent[7]} was asked")
        if HEAD + length != self._length:
            raise BadFrame(f"an answer of {HEAD + length} bytes, {self._length} were asked for")
        if not self._expected.startswith(frame[: len(self._expected)]):
            raise BadFrame("the answer's byte count, or its echo of the write, does not fit the request")


def _may_begin_frame(octets: bytes) -> bool:
    """Tell whether protocol and length, as far as they are there, are such as a frame has."""
    if octets[2:4].strip(b"\0"):
        return False
    return len(octets) < HEAD or 3 <= int.from_bytes(octets[4:6], "big") <= LONGEST
