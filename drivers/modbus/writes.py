"""Which requests carry out an order: the device's own hold first, then the order, or both in one.

A control never relies on the gateway alone, so an order to a device with a timer of its own is not made
without one.  The order to go back to the default needs no hold.  What a value becomes in registers is
:func:`drivers.modbus.registers.encode`.

Pure, save for :func:`send`.  Deliberately not here: who may order what, reading back, and restoring.
"""

from dataclasses import dataclass
from decimal import ROUND_FLOOR, ROUND_HALF_EVEN, Decimal
from typing import Literal, assert_never

from core.manifest import Value
from drivers.modbus.link import TIMEOUT_S, ControlLink
from drivers.modbus.registers import encode, in_order, registers
from drivers.points import HoldRegister, PointType, TimedCoil, WriteSpec

Kind = Literal["coil", "timed-coil", "register", "registers"]


@dataclass(frozen=True, slots=True)
class Write:
    """One request that writes."""

    kind: Kind
    address: int
    words: tuple[int, ...]
    """Registers in order of address; for a coil 0 or 1, for a timed one the time as the device counts it."""
    coil: int = 0
    """The coil that a timed one switches."""

    @property
    def register(self) -> str:
        """The register, or coil, whose content it changes, as ``holding:5004``."""
        if self.kind == "timed-coil":
            return f"coil:{self.coil}"
        return f"coil:{self.address}" if self.kind == "coil" else f"holding:{self.address}"

    @property
    def function(self) -> int:
        """Its function code."""
        match self.kind:
            case "coil" | "timed-coil":
                return 5
            case "register":
                return 6
            case "registers":
                return 16
        assert_never(self.kind)


def writes_of(
    point: PointType, value: Decimal | int | bool, hold_s: Decimal | int | None = None, power: Value = None
) -> tuple[Write, ...]:
    """Return the requests that set a point, in the order in which they are sent.

    ``hold_s`` is for how long the device shall keep the order by itself: needed where it has a timer, also
    taken where it has a watchdog (which may be set already), and refused where it has nothing.  ``power`` is
    for points with ``scale_by``.  ``ValueError`` says why the order cannot be given.
    """
    write = point.write
    words = tuple(encode(point, value, power))
    assert write is not None  # encode refuses a point without it
    order = Write(write.function, point.address, words)
    if Decimal(value) == write.default:
        return (order,)
    if hold_s is None:
        if write.hold == "timer":
            raise ValueError(
                f"point {point.name} has a timer of its own: say for how many seconds it shall hold"
            )
        return (order,)
    if write.on_for is not None:
        return (_timed(point, write, write.on_for, Decimal(hold_s)),)
    if write.hold_register is None:
        raise ValueError(
            f"point {point.name} has no hold of its own: the device keeps the order until the next"
        )
    return (hold_write(write.hold_register, Decimal(hold_s)), order)


def hold_write(hold: HoldRegister, seconds: Decimal | int) -> Write:
    """Return the request that arms a device's timer or watchdog; parts of a count are left out."""
    wanted = Decimal(seconds)
    if not hold.min <= wanted <= hold.max:
        raise ValueError(f"a hold of {wanted} s is not within {hold.min} to {hold.max} s")
    return hold_count_write(hold, _counts(wanted, hold.scale))


def hold_count_write(hold: HoldRegister, count: int) -> Write:
    """Return the request that sets the register of a hold to a content, as 0, which switches it off."""
    chunk = count.to_bytes(2 * hold.width, "big")
    return Write(hold.function, hold.address, tuple(registers(chunk)))


def clock_write(point: PointType, at_ms: int) -> Write:
    """Return the request that sets a device's clock to an instant, to the nearest of its steps.

    Args:
        point: the clock, of a type that says how it is set (``ClockSpec.set``).
        at_ms: UTC, ms since 1970.  ``ValueError`` when the register cannot hold it.
    """
    assert point.sense is not None
    assert point.sense.clock is not None
    assert point.sense.clock.set is not None
    mult, add, exp = point.steps
    steps = Decimal(at_ms - point.sense.clock.since_ms).scaleb(-3 - exp)
    raw = int(((steps - add) / mult).to_integral_value(ROUND_HALF_EVEN))
    try:
        chunk = raw.to_bytes(2 * point.width, "big", signed=point.type.is_signed)
    except OverflowError as error:
        raise ValueError(f"{point.type.value} of {point.name} does not hold that instant") from error
    return Write(point.sense.clock.set, point.address, tuple(registers(in_order(point, chunk))))


def _timed(point: PointType, write: WriteSpec, coil: TimedCoil, seconds: Decimal) -> Write:
    if not coil.scale <= seconds <= coil.max:
        raise ValueError(f"point {point.name} holds for {coil.scale} to {coil.max} s, not for {seconds}")
    return Write("timed-coil", coil.address, (_counts(seconds, coil.scale),), point.address)


def _counts(seconds: Decimal, scale: Decimal) -> int:
    return int((seconds / scale).to_integral_value(ROUND_FLOOR))


async def send(
    link: ControlLink, unit_id: int, write: Write, timeout_s: float = TIMEOUT_S, pause_s: float = 0.0
) -> None:
    """Send one request; returns when the device has confirmed it."""
    match write.kind:
        case "coil":
            await link.write_coil(unit_id, write.address, bool(write.words[0]), timeout_s, pause_s)
        case "timed-coil":
            await link.write_timed_coil(
                unit_id, write.coil, write.address, write.words[0], timeout_s, pause_s
            )
        case "register":
            await link.write_register(unit_id, write.address, write.words[0], timeout_s, pause_s)
        case "registers":
            await link.write_registers(unit_id, write.address, write.words, timeout_s, pause_s)
        case _:
            assert_never(write.kind)
