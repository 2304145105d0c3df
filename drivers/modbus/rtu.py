"""RTU frames: how a request is written, and what may come back for it.

A frame on a serial line has no length and no number, only a checksum and the silence around it (Modbus
over Serial Line V1.02 §2.5.1).  So :class:`RtuExchange` takes nothing for the answer but the one frame that
fits the request in unit, function, length and checksum.  Whole frames that fit something else, such as a
late answer of another length, are skipped; what is no frame at all never becomes one.

Two traps that other clients fall into are closed here.  An adapter that echoes what is sent makes a frame
with a right checksum: for a single write it *is* the confirmation, and for some reads of coils it has the
length of the answer.  And a frame found somewhere inside noise is not looked for: only bytes 0x00 and 0xFF,
which a turning driver makes, may stand before an answer.

Pure.  Deliberately not here: time and silence (``drivers.modbus.rtulink``).
"""

from typing import Final

from core.errors import BadFrame
from drivers.modbus.pdu import ERROR, READS, SINGLE_WRITES

LONGEST: Final = 256
"""Bytes of a frame (Modbus over Serial Line V1.02 §2.5.1)."""
SHORTEST: Final = 4
_MOST: Final = 4 * LONGEST
"""More than this for one request is a line that is not one."""
_GLITCHES: Final = b"\x00\xff"


def _table() -> tuple[int, ...]:
    table = []
    for byte in range(256):
        value = byte
        for _ in range(8):
            value = value >> 1 ^ 0xA001 if value & 1 else value >> 1
        table.append(value)
    return tuple(table)


_CRC: Final = _table()


def crc(octets: bytes) -> int:
    """Return the checksum of some bytes; over a frame with its checksum it is 0 (§6.2.2)."""
    value = 0xFFFF
    for octet in octets:
        value = value >> 8 ^ _CRC[(value ^ octet) & 0xFF]
    return value


def framed(unit_id: int, pdu: bytes) -> bytes:
    """Return the frame of a PDU: unit id before it, checksum behind it with the low byte first."""
    body = bytes((unit_id,)) + pdu
    return body + crc(body).to_bytes(2, "little")


class RtuExchange:
    """One request that was sent, and the judgement of the bytes that come back for it."""

    __slots__ = ("_echo", "_held", "_prefix", "length", "sent", "strays")

    def __init__(self, sent: bytes, size: int = 0, echo: bool = False) -> None:
        """``sent`` is the whole frame, ``size`` the bytes of payload a read wants; with ``echo`` the
        adapter returns the request before the answer.
        """
        self.sent: Final = sent
        function = sent[1]
        if function in READS:
            self._prefix = sent[:2] + bytes((size,))
            self.length = 5 + size
        elif function in SINGLE_WRITES:
            self._prefix = sent
            self.length = len(sent)
        else:
            self._prefix = sent[:6]  # of a multiple write address and quantity come back
            self.length = 8
        self._held = b""
        self._echo = sent if echo else b""
        self.strays: list[bytes] = []
        """Whole frames that were no answer to this request."""

    @property
    def held(self) -> bytes:
        """What came and was not judged yet, or not taken."""
        return self._held

    @property
    def heard(self) -> bool:
        """Whether anything came back, the echo of an adapter not counted."""
        return bool(self.strays) or bool(self._held and not self._echo)

    def feed(self, chunk: bytes) -> bytes | None:
        """Return the PDU of the answer (or of an exception response) when it is whole, else None.

        ``BadFrame`` when the answer is damaged, or when what comes cannot end well.
        """
        self._held += chunk
        if self._echo and not self._without_echo():
            return None
        while self._held:
            if self._held[0] in _GLITCHES and self._held[0] != self.sent[0]:
                self._held = self._held[1:]
                continue
            if self._is_ours():
                return self._answer(self.length)
            if self._held[:2] == bytes((self.sent[0], self.sent[1] | ERROR)):
                return self._answer(5)
            if len(self._held) < 2 or not self._skipped():
                break
        if len(self._held) > LONGEST or sum(map(len, self.strays)) > _MOST:
            raise BadFrame("more came back than any frame holds, and no answer in it")
        return None

    def _without_echo(self) -> bool:
        """Take the echo away; tell whether it was whole."""
        size = len(self._echo)
        if self._held[:size] != self._echo[: len(self._held)]:
            raise BadFrame(
                "the echo is not what was sent: does the adapter echo, and does nobody else speak?"
            )
        if len(self._held) < size:
            return False
        self._held, self._echo = self._held[size:], b""
        return True

    def _is_ours(self) -> bool:
        size = min(len(self._held), len(self._prefix))
        return size > 1 and self._held[:size] == self._prefix[:size]

    def _answer(self, length: int) -> bytes | None:
        """Return the PDU of the frame that must be the answer, once it is whole."""
        frame = self._held[:length]
        if len(frame) < length:
            return None
        if crc(frame):
            raise BadFrame("the answer's checksum is wrong")
        if len(self._held) > length:
            raise BadFrame("more came back than one answer")
        if frame == self.sent and frame[1] not in SINGLE_WRITES:
            raise BadFrame("what came back is the request: does the adapter echo? Then set echo = true")
        return frame[1:-2]

    def _skipped(self) -> bool:
        """Skip one whole frame of somebody else, if there is one."""
        frame = _first(self._held)
        if frame:
            self.strays.append(frame)
            self._held = self._held[len(frame) :]
        return bool(frame)


def frames(octets: bytes) -> tuple[list[bytes], bytes]:
    """Return the whole frames at the beginning of some bytes, and what is behind them; glitches left out."""
    found: list[bytes] = []
    octets = octets.lstrip(_GLITCHES)
    while frame := _first(octets):
        found.append(frame)
        octets = octets[len(frame) :].lstrip(_GLITCHES)
    return found, octets


def _first(octets: bytes) -> bytes:
    """Return the whole frame that begins here; empty without one."""
    value = 0xFFFF
    for number, octet in enumerate(octets[:LONGEST], start=1):
        value = value >> 8 ^ _CRC[(value ^ octet) & 0xFF]
        if value == 0 and number >= SHORTEST:
            return octets[:number]
    return b""


def is_glitch(octets: bytes) -> bool:
    """Tell whether bytes are such as a driver makes when it turns the line, and nothing more."""
    return not octets.strip(_GLITCHES)
