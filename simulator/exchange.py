"""One request to one device, and what becomes of it under the faults that the device has now.

The same for every kind of line; a line only brings its framing and does what is told here.

Relies on `simulator.device` for the right answer. Not here: sockets, waiting, the log.
"""

from dataclasses import dataclass
from enum import Enum, auto
from typing import Final, assert_never

from simulator import pdu
from simulator.device import Device
from simulator.faults import Fault, FaultKind, Kept
from simulator.frames import Framing


class Cut(Enum):
    """What happens to the connection."""

    NO = auto()
    CLOSE = auto()
    RESET = auto()


@dataclass(frozen=True, slots=True)
class Result:
    """What the client gets."""

    frame: bytes
    """Empty: nothing."""
    outcome: str
    """As the plant's log calls it."""
    cut: Cut = Cut.NO


@dataclass(frozen=True, slots=True)
class Asking:
    """A request with what its answer must carry."""

    tag: int
    """The transaction of Modbus TCP; 0 on a serial line."""
    unit_id: int
    request: bytes
    """The PDU."""


SILENCE: Final = Result(b"", "silent")


def nobody(framing: Framing, asking: Asking) -> Result:
    """Return what a gateway says for a unit id that nobody has."""
    refused = pdu.exception(asking.request[0], pdu.TARGET_FAILED)
    return Result(framing.wrap(asking.tag, asking.unit_id, refused), f"exception {pdu.TARGET_FAILED}")


def refuse(framing: Framing, asking: Asking, code: int) -> Result:
    """Return a refusal that the line itself gives."""
    found = pdu.exception(asking.request[0], code)
    return Result(framing.wrap(asking.tag, asking.unit_id, found), f"exception {code}")


def result(device: Device, framing: Framing, asking: Asking, fault: Fault | None) -> Result:
    """Return what the client gets from a device that has this fault; any wait is over by now."""

    def wrapped(found: bytes) -> bytes:
        return framing.wrap(asking.tag, asking.unit_id, found)

    if fault is None:
        return _right(wrapped(found := device.answer(asking.request)), found, "ok")
    match fault.kind:
        case FaultKind.SLOW:
            return _right(wrapped(found := device.answer(asking.request)), found, "late")
        case FaultKind.LATE:
            return _right(wrapped(found := device.answer_in_vain(asking.request)), found, "too-late")
        case FaultKind.STALE:
            return _stale(device, framing, asking)
        case FaultKind.SILENT | FaultKind.REBOOT:
            return SILENCE
        case FaultKind.EXCEPTION:
            return refuse(framing, asking, fault.code)
        case FaultKind.WRONG_UNIT:
            return Result(framing.misaddress(wrapped(device.answer_in_vain(asking.request))), "wrong-unit")
        case FaultKind.HALF:
            whole = wrapped(device.answer_in_vain(asking.request))
            return Result(whole[: len(whole) // 2], "half")
        case FaultKind.GARBAGE:
            right = wrapped(device.pretend(asking.request))
            return Result(framing.spoil(right, device.condition.manner()), "garbage")
        case FaultKind.CLOSE:
            return Result(b"", "close", Cut.CLOSE)
        case FaultKind.RESET:
            return Result(b"", "reset", Cut.RESET)
        case (
            FaultKind.FROZEN
            | FaultKind.ROLLOVER
            | FaultKind.COUNTER_RESET
            | FaultKind.JUMP
            | FaultKind.CLOCK_DRIFT
            | FaultKind.REFUSED_WRITES
            | FaultKind.IGNORED_WRITES
        ):
            raise RuntimeError(f"{fault.kind.value} does not spoil answers")
        case _ as never:
            assert_never(never)


def _right(frame: bytes, found: bytes, outcome: str) -> Result:
    return Result(frame, outcome if found[0] < 0x80 else f"exception {found[1]}")


def _stale(device: Device, framing: Framing, asking: Asking) -> Result:
    before = device.condition.kept
    device.condition.kept = Kept(asking.tag, asking.unit_id, device.answer_in_vain(asking.request))
    if before is None:
        return SILENCE
    return Result(framing.wrap(before.tag, before.unit_id, before.found), "stale")
