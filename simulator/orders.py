"""The writable points of a device: which writes it takes, and what the orders do.

Relies on `simulator.control` for what a device does by itself with an order, on `simulator.effect` for
what comes of it. Not here: reading, sockets.
"""

import math
import struct
from collections.abc import Callable
from decimal import Decimal
from functools import partial
from typing import Final, Protocol

from drivers.types import DeviceType, HoldRegister, PointType, Table, WriteSpec
from simulator.control import Control, Hold
from simulator.effect import Behaviour, Effect
from simulator.encoding import Plain, decode, unit_factor
from simulator.faults import Condition
from simulator.pdu import ILLEGAL_ADDRESS, ILLEGAL_VALUE, Refusal
from simulator.registers import extent_of

HOLD: Final = "/hold"
"""Ends the name under which the log tells that a hold register was written."""


class Journal(Protocol):
    """What a device reports at once."""

    def counted(self, device: str, point: str, count: int) -> None: ...

    def written(self, device: str, point: str, value: Decimal, cause: str) -> None: ...

    def took_effect(self, device: str, point: str, value: Decimal, cause: str) -> None: ...


class Orders:
    """Every writable point of one device."""

    def __init__(
        self,
        device: str,
        device_type: DeviceType,
        *,
        behaviour: Behaviour,
        condition: Condition,
        journal: Journal,
        shed: Callable[[bool], None],
        water_c: Callable[[], float | None],
    ) -> None:
        """Build them, with every value at its default.

        `shed` is called when the first effect leaves, or the last returns to, its default; `water_c`
        tells the temperature that a thermostat goes by.
        """
        self._device: Final = device
        self._type: Final = device_type
        self._behaviour: Final = behaviour
        self._condition: Final = condition
        self._journal: Final = journal
        self._shed: Final = shed
        self._water_c: Final = water_c
        writable = [(point, point.write) for point in device_type.points if point.write is not None]
        # As delivered nothing is let through in the fail-safe state, what a hold needs is set, no lock is on.
        self._set: dict[str, Decimal] = {write.falls_back_to: Decimal(0) for _, write in writable}
        self._set.pop("", None)
        self._set |= {write.hold_if.point: write.hold_if.value for _, write in writable if write.hold_if}
        locks = [write.locked_if for _, write in writable if write.locked_if is not None]
        self._set |= {lock.point: Decimal(lock.value == 0) for lock in locks}
        self._controls = {
            point.name: Control(
                default=write.default,
                hold=Hold(write.hold),
                fall_back_to=partial(self._safe_value, point.name, write),
                fed_by=write.fed_by,
            )
            for point, write in writable
        }
        self._effects = {point.name: Effect(write.default, behaviour) for point, write in writable}
        self._factors = {point.name: Decimal(str(unit_factor(point.unit))) for point, _ in writable}
        # A point that is its own feedback shows the order: such a device has no other.
        self._feedback = {
            write.feedback: point.name
            for point, write in writable
            if write.feedback and write.feedback not in self._controls
        }
        self._holds = {
            point.name: writable_point.name
            for point in device_type.points
            for writable_point, hold in writable_with_hold(device_type)
            if (hold.table, hold.address) == (point.table, point.address) or hold.shown_by == point.name
        }
        self._was_shed = False

    @property
    def any(self) -> bool:
        """Whether the device has a writable point at all."""
        return bool(self._controls)

    @property
    def points(self) -> frozenset[str]:
        """Points whose value follows from orders or commissioning: orders, feedback, hold registers."""
        return frozenset({*self._controls, *self._feedback, *self._holds, *self._set})

    def feed(self, now_s: float) -> None:
        """Note that a request reached the device: one that comes too late for a hold does not lengthen it."""
        if self._controls:
            self.settle(now_s)
        for control in self._controls.values():
            control.feed(now_s)

    def settle(self, now_s: float) -> None:
        """Let holds run out and orders come into effect whose time has come."""
        for name, control in self._controls.items():
            if control.settle(now_s):
                self._journal.written(self._device, name, control.value, "hold")
        self._follow(now_s)

    def lose(self, now_s: float) -> None:
        """Be without power: effects end; orders are forgotten unless the device keeps them."""
        for name, control in self._controls.items():
            if not self._behaviour.keeps and control.lose(now_s):
                self._journal.written(self._device, name, control.value, "power-cut")
        for name, effect in self._effects.items():
            if effect.lose(now_s):
                self._journal.took_effect(self._device, name, effect.value, "power-cut")
        self._tell_shed()

    def shown(self, name: str, now_s: float) -> Plain | None:
        """Return what a point shows, None when it has nothing to do with orders."""
        if name in self._controls:
            return self._controls[name].value / self._factors[name]
        if name in self._feedback:
            order = self._feedback[name]
            return self._effects[order].value / self._factors[order]
        if name in self._holds:
            held = self._type.point(self._holds[name])
            assert held.write is not None
            assert held.write.hold_register is not None
            return self._counts(held, held.write.hold_register, now_s) * self._type.point(name).scale
        return self._set.get(name)

    def cycles(self) -> int:
        """Return how often effects left their default."""
        return sum(effect.cycles for effect in self._effects.values())

    def away_s(self, now_s: float) -> float:
        """Return for how long, in all, effects differed from their default."""
        return sum(effect.away_s(now_s) for effect in self._effects.values())

    def hold_registers(self, now_s: float) -> list[tuple[HoldRegister, bytes]]:
        """Return every hold register with what it shows."""
        found: list[tuple[HoldRegister, bytes]] = []
        for point, hold in writable_with_hold(self._type):
            found.append((hold, self._counts(point, hold, now_s).to_bytes(2 * hold.width, "big")))
        return found

    def _counts(self, point: PointType, hold: HoldRegister, now_s: float) -> int:
        """Return what the hold register of a point shows: seconds as it counts them, rounded up."""
        seconds = min(self._controls[point.name].hold_s(now_s), float(hold.max))
        return math.ceil(seconds / float(hold.scale))

    def _safe_value(self, name: str, write: WriteSpec) -> Decimal:
        """Return what a point falls back to; what it is, where the hold is not set to work."""
        if write.hold_if is not None and self._set[write.hold_if.point] != write.hold_if.value:
            return self._controls[name].value
        return self._set.get(write.falls_back_to, write.default)

    def write(self, table: Table, address: int, body: bytes, function: int, now_s: float) -> None:
        """Apply a write: all of it lies in writable places and is allowed, or nothing happens."""
        refused = self._condition.refuses
        code = refused.code if refused is not None else self._behaviour.refuses
        width = 1 if table.is_bits else 2
        at, end = address, address + len(body) // width
        acts: list[tuple[int, str, Decimal]] = []
        while at < end:
            acts_here, taken = self._act(table, at, body[(at - address) * width :], function)
            acts.append(acts_here)
            at += taken
        if code:
            raise Refusal(code)
        # A hold that comes with its order is set before the order counts.
        for _, name, value in sorted(acts):
            self._apply(name, value, "write", now_s)

    def write_timed(self, address: int, word: int, now_s: float) -> None:
        """Switch a coil for a time."""
        refused = self._condition.refuses
        code = refused.code if refused is not None else self._behaviour.refuses
        for point in self._type.points:
            coil = None if point.write is None else point.write.on_for
            if coil is not None and coil.address == address:
                seconds = word * coil.scale
                if code or seconds > coil.max:
                    raise Refusal(code or ILLEGAL_VALUE)
                self._journal.written(self._device, point.name + HOLD, seconds, "write")
                self._journal.written(self._device, point.name, Decimal(1), "write")
                self._controls[point.name].write_for(Decimal(1), float(seconds), now_s)
                self._follow(now_s)
                return
        raise Refusal(ILLEGAL_VALUE)

    def order(self, name: str, value: Decimal, now_s: float) -> None:
        """Give an order at the device itself, by hand. ValueError with a sentence when it cannot be."""
        if name in self._holds:
            self._apply(self._holds[name] + HOLD, value, "hand", now_s)
            return
        if name in self._set:
            self._set[name] = value
            self._journal.written(self._device, name, value, "hand")
            return
        point = self._type.point(name)
        assert point.write is not None
        if not allowed(point, value):
            raise ValueError(f"{name} takes {point.write.limits} in steps of {point.write.step}, not {value}")
        self._apply(name, value, "hand", now_s)

    def takes(self, name: str) -> bool:
        """Tell whether a point is one that can be ordered."""
        return name in self._controls or name in self._holds or name in self._set

    def _apply(self, name: str, value: Decimal, cause: str, now_s: float) -> None:
        control = self._controls[name.removesuffix(HOLD)]
        self._journal.written(self._device, name, value, cause)
        if name.endswith(HOLD):
            control.write_hold(float(value), now_s)
        else:
            control.write(value, now_s)
        self._follow(now_s)

    def _follow(self, now_s: float) -> None:
        if not self._controls or (self._condition.now is not None and self._condition.now.kind.is_dark):
            return
        water_c = self._water_c() if self._behaviour.warm_c is not None else None
        for name, control in self._controls.items():
            effect = self._effects[name]
            cause = effect.follow(
                control.value, control.changed_s, now_s, stuck=self._condition.stuck, water_c=water_c
            )
            if cause is not None:
                self._journal.took_effect(self._device, name, effect.value, cause.value)
        self._tell_shed()

    def _tell_shed(self) -> None:
        active = any(effect.active for effect in self._effects.values())
        if active != self._was_shed:
            self._was_shed = active
            self._shed(active)

    def _act(self, table: Table, at: int, body: bytes, function: int) -> tuple[tuple[int, str, Decimal], int]:
        """Return what writing at an address means, (order, name, value), and how many addresses it takes."""
        for point in self._type.points:
            if point.write is None:
                continue
            extent, hold = extent_of(point), point.write.hold_register
            if extent.table is table and extent.first == at:
                size = extent.end - extent.first
                return (1, point.name, self._decoded(point, body, size, function)), size
            if hold is not None and hold.table is table and hold.address == at:
                wanted = 2 * hold.width
                seconds = int.from_bytes(body[:wanted], "big") * hold.scale
                if len(body) < wanted:
                    raise Refusal(ILLEGAL_ADDRESS)
                if seconds > hold.max or 0 < seconds < hold.min:
                    raise Refusal(ILLEGAL_VALUE)
                return (0, point.name + HOLD, seconds), hold.width
        raise Refusal(ILLEGAL_ADDRESS)

    def _decoded(self, point: PointType, body: bytes, size: int, function: int) -> Decimal:
        """Return the value that a write gives to a point, or refuse it."""
        assert point.write is not None
        if point.table.is_bits:
            value = Decimal(body[0])
        else:
            if len(body) < 2 * size or (function == 6 and point.write.function == "registers"):
                raise Refusal(ILLEGAL_ADDRESS)
            try:
                value = decode(point, body[: 2 * size])
            except (ValueError, struct.error) as error:
                raise Refusal(ILLEGAL_VALUE) from error
        if not allowed(point, value):
            raise Refusal(ILLEGAL_VALUE)
        return value


def allowed(point: PointType, value: Decimal) -> bool:
    """Tell whether a value is within a writable point's limits and on one of its steps."""
    assert point.write is not None
    spec = point.write
    return value in spec.also or (spec.min <= value <= spec.max and not (value - spec.min) % spec.step)


def writable_with_hold(device_type: DeviceType) -> list[tuple[PointType, HoldRegister]]:
    """Return the writable points that have a hold register, each with it."""
    return [
        (point, point.write.hold_register)
        for point in device_type.points
        if point.write is not None and point.write.hold_register is not None
    ]
