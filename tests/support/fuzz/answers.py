"""Right answers of a device whose every answer differs, and what makes a frame an answer to a request.

Written from the specifications alone (Modbus Application Protocol V1.1b3 §6 and §7, Modbus Messaging on
TCP/IP V1.0b §3.1.3, Modbus over Serial Line V1.02 §2.5.1): nothing of `drivers` is used, because this is
what its answers are measured by.
"""

import random
from dataclasses import dataclass
from enum import Enum
from typing import Final

ERROR: Final = 0x80
READS: Final = (1, 2, 3, 4)
BITS: Final = (1, 2)


class Framing(Enum):
    """How a PDU is carried."""

    MBAP = "mbap"
    RTU = "rtu"


def checksum(octets: bytes) -> bytes:
    """Return the CRC-16 of some bytes as it is sent, bit by bit as the specification describes it."""
    register = 0xFFFF
    for octet in octets:
        register ^= octet
        for _ in range(8):
            low = register & 1
            register >>= 1
            if low:
                register ^= 0xA001
    return register.to_bytes(2, "little")


@dataclass(frozen=True)
class Asked:
    """One request as it arrived at the peer."""

    framing: Framing
    ordinal: int
    """Of all requests of the peer: it goes into every value."""
    octets: bytes

    @property
    def transaction(self) -> int:
        return int.from_bytes(self.octets[:2], "big") if self.framing is Framing.MBAP else 0

    @property
    def unit(self) -> int:
        return self.octets[6] if self.framing is Framing.MBAP else self.octets[0]

    @property
    def pdu(self) -> bytes:
        return self.octets[7:] if self.framing is Framing.MBAP else self.octets[1:-2]

    @property
    def function(self) -> int:
        return self.pdu[0]

    def framed(self, pdu: bytes, unit: int | None = None, transaction: int | None = None) -> bytes:
        """Return a PDU as a frame that goes back for this request."""
        body = bytes([self.unit if unit is None else unit]) + pdu
        if self.framing is Framing.RTU:
            return body + checksum(body)
        number = self.transaction if transaction is None else transaction
        return number.to_bytes(2, "big") + b"\0\0" + len(body).to_bytes(2, "big") + body

    @property
    def right(self) -> bytes:
        """The PDU that answers rightly."""
        pdu = self.pdu
        if self.function not in READS:
            return pdu[:5]
        payload = truth(self.ordinal, pdu)
        return bytes([self.function, len(payload)]) + payload


def truth(ordinal: int, pdu: bytes) -> bytes:
    """Return what a read gets as the request of a number: the same never comes twice, but for few bits."""
    count = int.from_bytes(pdu[3:5], "big")
    drawn = random.Random(f"{ordinal}/{pdu.hex()}")
    if pdu[0] in BITS:
        return drawn.getrandbits(count).to_bytes((count + 7) // 8, "little")
    return drawn.randbytes(2 * count)


def request_length(framing: Framing, received: bytes) -> int | None:
    """Return how many bytes the first request in what came has; None: not known yet."""
    if framing is Framing.MBAP:
        return None if len(received) < 6 else 6 + int.from_bytes(received[4:6], "big")
    if len(received) < 7:
        return None
    return 9 + received[6] if received[1] in (15, 16) else 8
