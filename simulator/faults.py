"""What can go wrong with a simulated device on purpose, and what is wrong with it now.

Relies on whoever calls `begin` and `end` at the right time. Not here: the sockets that act on it,
the script that names times (`simulator.scenario`).
"""

from dataclasses import dataclass
from enum import Enum
from itertools import count
from typing import Final

from simulator.pdu import DEVICE_FAILURE


class FaultKind(Enum):
    """How a device fails."""

    SILENT = "silent"
    """No answer; the connection stays."""
    SLOW = "slow"
    """The right answer, `ms` late."""
    EXCEPTION = "exception"
    """Every request is refused with `code`."""
    GARBAGE = "garbage"
    """Something that is no answer to the request, in several manners by turns."""
    CLOSE = "close"
    """The connection is closed instead of an answer."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault of one device."""

    kind: FaultKind
    ms: int = 1000
    code: int = DEVICE_FAILURE


class Condition:
    """The faults that a device has now; the one that began last is the one that shows."""

    def __init__(self) -> None:
        self._faults: list[Fault] = []
        self.now: Fault | None = None
        self._manner: Final = count()

    def begin(self, fault: Fault) -> None:
        self._faults.append(fault)
        self.now = fault

    def end(self, fault: Fault) -> None:
        """End a fault; one that never began is ignored."""
        if fault in self._faults:
            self._faults.remove(fault)
        self.now = self._faults[-1] if self._faults else None

    def spoil(self, frame: bytes) -> bytes:
        """Return something that is no answer, instead of the right frame; the next manner at each call.

        Wrong transaction, wrong protocol, wrong unit id, wrong function, a length that is too short,
        half a frame, and bytes that are no frame at all.
        """
        match next(self._manner) % 7:
            case 0:
                return bytes((frame[0] ^ 0xA5, frame[1] ^ 0x5A)) + frame[2:]
            case 1:
                return frame[:2] + b"\x4d\x42" + frame[4:]
            case 2:
                return frame[:6] + bytes((frame[6] ^ 0x55,)) + frame[7:]
            case 3:
                return frame[:7] + bytes((frame[7] ^ 0x10,)) + frame[8:]
            case 4:
                return frame[:4] + b"\x00\x03" + frame[6:9]
            case 5:
                return frame[: 7 + (len(frame) - 7) // 2]
            case _:
                return bytes((byte * 73 + 41) & 0xFF for byte in frame)
