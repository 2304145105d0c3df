"""One simulated device behind a unit id: shows the plant's quantities in the registers of its type.

A point is matched to the plant by its `quantity` alone, so a new device type needs no code. Names that
a device knows by itself, whatever the plant: those of its identity, of its controls, and `PollCount`.
A quantity that nobody knows gets `fallback`.

Relies on `simulator.registers` for addresses and `simulator.encoding` for bytes. Not here: sockets.
"""

import math
import zlib
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal, InvalidOperation
from typing import Final, Protocol

from drivers.types import DeviceType, PointType, RegisterType, Table
from simulator import pdu
from simulator.bends import CLOCK, COUNTER, Bend, bend, is_number, modulus_of, number
from simulator.effect import Behaviour
from simulator.encoding import Plain, decode, encode, unit_factor
from simulator.faults import Condition, Fault
from simulator.orders import Journal, Orders
from simulator.pdu import DEVICE_FAILURE, READS, Refusal, Request
from simulator.registers import Registers, extent_of, inside

NEVER: Final = 1 << 30
"""Added to the count in an answer that must not be believed: a count that no proof ever names."""
MOST_REQUESTS_KNOWN: Final = 1000


class Source(Protocol):
    """Where a device's values come from."""

    @property
    def version(self) -> int:
        """Another number whenever `quantities` would tell something else."""
        ...

    def quantities(self) -> Mapping[str, Plain]:
        """Return values by quantity, in plain units."""
        ...

    def elapsed_s(self) -> float:
        """Return simulated seconds since the plant started."""
        ...


class Device:
    """One unit; answers requests and falls back by itself."""

    def __init__(
        self,
        name: str,
        device_type: DeviceType,
        *,
        source: Source,
        journal: Journal,
        clock: Callable[[], float],
        counts: Mapping[str, int],
        shed: Callable[[bool], None],
        behaviour: Behaviour = Behaviour(),
    ) -> None:
        """Build the device.

        `clock` gives seconds that never go back; `counts` are those of its counters in an earlier life;
        `shed` is called when the first of its controls leaves, or the last returns to, its default.
        """
        self.name: Final = name
        self.type: Final = device_type
        self.condition: Final = Condition()
        self._source = source
        self._journal = journal
        self._clock = clock
        self._registers = Registers(device_type)
        self._encoded: int | None = None
        self._known: dict[Request, int] = {}
        self.counts: Final = {
            point.name: counts.get(point.name, 0) for point in device_type.points if point.quantity == COUNTER
        }
        self._orders = Orders(
            name,
            device_type,
            behaviour=behaviour,
            condition=self.condition,
            journal=journal,
            shed=shed,
            water_c=self._water_c,
        )
        self._bends: dict[object, Bend] = {}
        self._moduli = {
            point.name: float(modulus) / unit_factor(point.unit)
            for point in device_type.points
            if (modulus := modulus_of(point)) is not None
        }
        self._powers = {point.scale_by: point.steps.exp for point in device_type.points if point.scale_by}
        self._moves = any(point.quantity == CLOCK for point in device_type.points)
        self._clock_off_s = {
            point.name: 0.0
            for point in device_type.points
            if point.sense is not None and point.sense.clock is not None and point.sense.clock.set
        }
        """By how much each clock that can be set was set, so far."""
        self._takes_writes: Final = bool(self._clock_off_s) or any(
            point.write is not None for point in device_type.points
        )
        self._vain = False

    def answer(self, request: bytes) -> bytes:
        """Return the answer to a request; a read of a counter counts."""
        self._orders.feed(self._clock())
        return pdu.answer(self, request)

    def answer_in_vain(self, request: bytes) -> bytes:
        """Return the answer to a request whose answer must not be believed; writes are done all the same.

        Nothing counts, and a counter shows a count that it never gives, so that whoever stores it is caught.
        """
        self._vain, self._encoded = True, None
        try:
            return self.answer(request)
        finally:
            self._vain, self._encoded = False, None

    def pretend(self, request: bytes) -> bytes:
        """Return what the answer would be, without writing or counting anything."""
        if request[0] not in READS or len(request) != 5:
            return pdu.exception(request[0], DEVICE_FAILURE)
        asked = pdu.describe(request)
        size = (asked.count + 7) // 8 if asked.function <= 2 else 2 * asked.count
        return bytes((asked.function, size & 0xFF)) + zlib.crc32(request).to_bytes(4, "big") * (size // 4 + 1)

    def points_inside(self, request: Request) -> int:
        """Return how many points that are polled by default lie wholly inside a read request."""
        found = self._known.get(request)
        if found is None:
            table = READS.get(request.function)
            points = [] if table is None else inside(self.type, table, request)
            found = sum(point.default for point in points)
            if len(self._known) >= MOST_REQUESTS_KNOWN:
                self._known.clear()
            self._known[request] = found
        return found

    def settle(self) -> None:
        """Let holds run out, and orders come into effect, whose time has come."""
        self._orders.settle(self._clock())

    def check(self, fault: Fault) -> None:
        """ValueError with a sentence when a fault cannot show on this device."""
        if fault.kind.bends:
            bend(self.type, fault, self.values(), self._clock(), self._orders.points)
        elif fault.points:
            raise ValueError(f"{fault.kind.value} shows on the whole device, so it names no points")
        elif fault.kind.disobeys and not self._takes_writes:
            raise ValueError(f"a {self.type.name} takes no writes, so {fault.kind.value} cannot show on it")

    def begin(self, key: object, fault: Fault) -> list[str]:
        """Let a fault begin; return the points that it bends. ValueError with a sentence when it cannot.

        `key` is what `end` is called with.
        """
        now_s = self._clock()
        self.check(fault)
        if fault.kind.bends:
            self._bends[key] = bend(self.type, fault, self.values(), now_s, self._orders.points)
            self._encoded = None
        self.condition.begin(fault)
        if fault.kind.is_dark:
            self._orders.lose(now_s)
        return self._bends[key].points if fault.kind.bends else []

    def end(self, key: object, fault: Fault) -> None:
        """Let a fault end."""
        self.condition.end(fault)
        self._bends.pop(key, None)
        self._encoded = None
        self.settle()

    def set(self, key: object, name: str, text: str) -> bool:
        """Set a point by hand; return whether that stays until `release`, for an order is only given.

        A cumulative value goes on from there, any other stays. ValueError with a sentence when the point
        cannot show such a value.
        """
        try:
            point = self.type.point(name)
        except KeyError:
            raise ValueError(f"a {self.type.name} has no point {name}") from None
        if point.quantity == COUNTER:
            raise ValueError(f"{name} counts answered reads for proofs, so its value is never set")
        value = parsed(point, text)
        self._encoded = None
        if self._orders.takes(name) and not isinstance(value, str):
            self._orders.order(name, Decimal(value), self._clock())
            return False
        if not is_number(point) or isinstance(value, str):
            self._bends[key] = Bend(fixed={name: value})
            return True
        plain = float(value) / unit_factor(point.unit)
        now_s = self._clock()
        if point.cumulative:
            self._bends[key] = Bend(added={name: plain - number(self.values()[name])}, began_s=now_s)
        else:
            self._bends[key] = Bend(fixed={name: plain})
        return True

    def release(self, key: object) -> None:
        """Let a value set by hand go back to what it is."""
        self._bends.pop(key, None)
        self._encoded = None

    def read_bits(self, table: Table, address: int, count: int) -> bytes:
        self._registers.check(table, address, count)
        self._refresh()
        bits = self._registers.read(table, address, count)
        packed = bytearray((count + 7) // 8)
        for at, bit in enumerate(bits):
            packed[at >> 3] |= bit << (at & 7)
        return bytes(packed)

    def read_registers(self, table: Table, address: int, count: int) -> bytes:
        self._registers.check(table, address, count)
        if self.counts and not self._vain:
            self._count(table, address, count)
        self._refresh()
        return self._registers.read(table, address, count)

    def write_bits(self, function: int, address: int, bits: tuple[bool, ...]) -> None:
        self._orders.write(Table.COIL, address, bytes(bits), function, self._clock())

    def write_registers(self, function: int, address: int, registers: bytes) -> None:
        clock = self._clock_at(address, registers, function)
        if clock is None:
            self._orders.write(Table.HOLDING, address, registers, function, self._clock())
            return
        if self.condition.refuses is not None:
            raise Refusal(self.condition.refuses.code)
        written = decode(clock, registers)
        self._clock_off_s[clock.name] += float(written) - number(self.values()[clock.name])
        self._encoded = None
        self._journal.written(self.name, clock.name, written, "write")

    def _clock_at(self, address: int, registers: bytes, function: int) -> PointType | None:
        """Return the clock that a write sets, None when it is none."""
        for name in self._clock_off_s:
            point = self.type.point(name)
            assert point.sense is not None
            assert point.sense.clock is not None
            fits = function == 16 or point.sense.clock.set == "register"
            if point.address == address and len(registers) == 2 * point.width and fits:
                return point
        return None

    def write_timed_bit(self, address: int, word: int) -> None:
        self._orders.write_timed(address, word, self._clock())

    def values(self) -> dict[str, Plain]:
        """Return what each point shows now, by point name and before scale."""
        now_s = self._clock()
        plant = self._source.quantities()
        found = {point.name: self._value(point, plant, now_s) for point in self.type.points}
        for name, end in self._moduli.items():
            found[name] = number(found[name]) % end
        for one in self._bends.values():
            for name in one.points:
                found[name] = one.shown(name, found[name], now_s)
        for name, off_s in self._clock_off_s.items():
            found[name] = number(found[name]) + off_s
        return found

    def _value(self, point: PointType, plant: Mapping[str, Plain], now_s: float) -> Plain:
        if point.name in self.counts:
            return self.counts[point.name] + NEVER * self._vain
        if point.name in self._powers:
            return self._powers[point.name]  # the power of ten by which the others are encoded
        if self._orders.any:
            order = self._orders.shown(point.name, now_s)
            if order is not None:
                return order
            if point.quantity == "Cycles":
                return self._orders.cycles()
            if point.quantity == "ShedSeconds":
                return int(self._orders.away_s(now_s))
        known = plant.get(point.quantity)
        if known is None:
            known = self._identity(point)
        if known is None or isinstance(known, str) != (point.type is RegisterType.STRING):
            return fallback(point, self._source.elapsed_s())
        return known

    def _identity(self, point: PointType) -> Plain | None:
        """Return what a device knows of itself, by SunSpec's names (model 1)."""
        match point.quantity:
            case "Mn":
                return self.type.manufacturer
            case "Md":
                return self.type.model
            case "Nam":
                return self.name
            case "Vr":
                return "1.0" if point.type is RegisterType.STRING else 10_001
            case "SN":
                serial = zlib.crc32(self.name.encode()) % 100_000_000
                return str(serial) if point.type is RegisterType.STRING else serial
        return None

    def _refresh(self) -> None:
        """Encode every point anew if the plant has moved on since."""
        if self._orders.any:
            self.settle()
        elif self._encoded == self._source.version and not self._moves:
            return
        self._encoded = self._source.version
        shown = self.values()
        packed: dict[tuple[Table, int], int] = {}
        for point in self.type.points:
            extent, value = extent_of(point), shown[point.name]
            if extent.table.is_bits:
                self._registers.write(extent.table, extent.first, bytes((bool(value),)))
            elif point.bit is not None:
                # Several points may be bits of one register.
                place = (extent.table, extent.first)
                packed[place] = packed.get(place, 0) | bool(value) << point.bit
                self._registers.write(extent.table, extent.first, packed[place].to_bytes(2, "big"))
            else:
                self._registers.write(extent.table, extent.first, encode(point, value))
        # Hold registers need not be points of their own.
        for hold, body in self._orders.hold_registers(self._clock()):
            self._registers.write(hold.table, hold.address, body)

    def _water_c(self) -> float | None:
        found = self._source.quantities().get("TmpWater")
        return None if found is None else number(found)

    def _count(self, table: Table, address: int, count: int) -> None:
        for point in self.type.points:
            extent = extent_of(point)
            touched = extent.table is table and address < extent.end and extent.first < address + count
            if point.name in self.counts and touched:
                self.counts[point.name] += 1
                self._journal.counted(self.name, point.name, self.counts[point.name])
                self._encoded = None


def parsed(point: PointType, text: str) -> Plain:
    """Return the value that a text names for a point, in its own unit. ValueError when it names none."""
    if point.type is RegisterType.STRING:
        return text
    if not is_number(point):
        found = {"0": False, "1": True, "false": False, "true": True}.get(text.lower())
        if found is None:
            raise ValueError(f"{point.name} is 0 or 1, not {text!r}")
        return found
    try:
        value = Decimal(text)
    except InvalidOperation:
        value = Decimal("nan")
    if not value.is_finite():
        raise ValueError(f"{point.name} is a number, not {text!r}")
    return value


def fallback(point: PointType, elapsed_s: float) -> Plain:
    """Return the value of a quantity that nobody knows; the same for the same point and time.

    Texts show the point's name, truths and bits are off, cumulative numbers count the simulated seconds
    from a start of their own, other numbers sway by one part in a hundred, within ten minutes, around the
    middle of their plausible range (without a range: around a number between 10 and 110).
    """
    own = zlib.crc32(f"{point.name}/{point.quantity}".encode())
    if point.type is RegisterType.STRING:
        return point.name
    if point.type in (RegisterType.BOOL, RegisterType.BIT):
        return False
    if point.cumulative:
        return own % 10_000 + int(elapsed_s)
    if point.low is not None and point.high is not None:
        low, high = float(point.low), float(point.high)
        factor = unit_factor(point.unit)
        middle, sway = (low + high) / 2 / factor, (high - low) / 200 / factor
    else:
        middle = 10 + own % 1000 / 10
        sway = middle / 100
    return middle + sway * math.sin(2 * math.pi * (elapsed_s / 600 + own % 100 / 100))


def describe_points(device_type: DeviceType) -> Sequence[dict[str, object]]:
    """Return the points of a type as the log's start line shows them."""
    return [
        {
            "name": point.name,
            "table": extent_of(point).table.value,
            "address": point.address,
            "registers": point.width,
            "default": point.default,
        }
        for point in device_type.points
    ]
