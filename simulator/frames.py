"""What stands around a PDU on a line, and how it is spoiled on purpose: Modbus TCP and Modbus RTU.

*Modbus Messaging on TCP/IP Implementation Guide V1.0b* §3.1.3; *MODBUS over Serial Line V1.02* §2.5.1 and
§6.2.2 (the check). Written apart from the client that Portico uses, as `simulator.pdu` is.

Pure. Not here: sockets, terminals, pace.
"""

import struct
from typing import Final, Protocol

HEADER: Final = struct.Struct(">HHHB")
"""Transaction, protocol, length from the unit id on, unit id."""
SHORTEST: Final = 2
LONGEST: Final = 254
"""Unit id and PDU of a Modbus TCP frame."""
LONGEST_RTU: Final = 256


class Framing(Protocol):
    """How a PDU travels."""

    def wrap(self, tag: int, unit_id: int, found: bytes) -> bytes:
        """Return the frame of an answer; `tag` is what the request carried to be known again."""
        ...

    def spoil(self, frame: bytes, manner: int) -> bytes:
        """Return something that is no answer, instead of the right frame; seven manners by turns."""
        ...

    def misaddress(self, frame: bytes) -> bytes:
        """Return the same answer as if another unit had given it."""
        ...


class TcpFraming:
    """The header of Modbus TCP."""

    def wrap(self, tag: int, unit_id: int, found: bytes) -> bytes:
        return HEADER.pack(tag, 0, len(found) + 1, unit_id) + found

    def spoil(self, frame: bytes, manner: int) -> bytes:
        """Wrong transaction, protocol, unit id, function, a length too short, half a frame, no frame."""
        match manner % 7:
            case 0:
                return bytes((frame[0] ^ 0xA5, frame[1] ^ 0x5A)) + frame[2:]
            case 1:
                return frame[:2] + b"\x4d\x42" + frame[4:]
            case 2:
                return self.misaddress(frame)
            case 3:
                return frame[:7] + bytes((frame[7] ^ 0x10,)) + frame[8:]
            case 4 if len(frame) <= 9:
                return frame[:4] + b"\x00\x02" + frame[6:8]
            case 4:
                return frame[:4] + b"\x00\x03" + frame[6:9]
            case 5:
                return frame[: 7 + (len(frame) - 7) // 2]
            case _:
                return noise(frame)

    def misaddress(self, frame: bytes) -> bytes:
        return frame[:6] + bytes((frame[6] ^ 0x55,)) + frame[7:]


class RtuFraming:
    """Unit id before, cyclic redundancy check behind."""

    def wrap(self, tag: int, unit_id: int, found: bytes) -> bytes:
        return checked(bytes((unit_id,)) + found)

    def spoil(self, frame: bytes, manner: int) -> bytes:
        """Wrong check, unit id, function, byte count too small, too large, half a frame, no frame."""
        body = frame[:-2]
        if len(frame) < 8 and manner % 7 in (3, 4):
            return frame[: 1 if manner % 7 == 3 else 4]  # too short to miscount
        match manner % 7:
            case 0:
                return body + bytes((frame[-2] ^ 0x5A, frame[-1] ^ 0xA5))
            case 1:
                return self.misaddress(frame)
            case 2:
                return checked(body[:1] + bytes((body[1] ^ 0x10,)) + body[2:])
            case 3:
                return checked(body[:2] + bytes(((body[2] - 2) & 0xFF,)) + body[3:-2])
            case 4:
                return checked(body[:2] + bytes(((body[2] + 2) & 0xFF,)) + body[3:])
            case 5:
                return frame[: len(frame) // 2]
            case _:
                return noise(frame)

    def misaddress(self, frame: bytes) -> bytes:
        return checked(bytes((frame[0] ^ 0x55,)) + frame[1:-2])


def noise(frame: bytes) -> bytes:
    """Return bytes that are no frame, as many."""
    return bytes((byte * 73 + 41) & 0xFF for byte in frame)


def crc16(body: bytes) -> int:
    """Return the cyclic redundancy check of Modbus RTU (§6.2.2), to be sent low byte first."""
    crc = 0xFFFF
    for byte in body:
        crc = (crc >> 8) ^ _TABLE[(crc ^ byte) & 0xFF]
    return crc


def _table() -> tuple[int, ...]:
    found: list[int] = []
    for byte in range(256):
        crc = byte
        for _ in range(8):
            crc = (crc >> 1) ^ 0xA001 if crc & 1 else crc >> 1
        found.append(crc)
    return tuple(found)


_TABLE: Final = _table()


def checked(body: bytes) -> bytes:
    """Return an RTU frame: the body with its check."""
    return body + crc16(body).to_bytes(2, "little")


def is_checked(frame: bytes) -> bool:
    """Tell whether the check at the end of an RTU frame is right."""
    return len(frame) >= 4 and crc16(frame[:-2]) == int.from_bytes(frame[-2:], "little")


def request_length(received: bytes | bytearray) -> int | None:
    """Return how long the RTU request that begins here is, 0 while unknown, None when only silence tells."""
    if len(received) < 2:
        return 0
    if 1 <= received[1] <= 6:
        return 8
    if received[1] in (15, 16):
        return 9 + received[6] if len(received) > 6 else 0
    return None
