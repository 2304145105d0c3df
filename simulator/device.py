"""One simulated device behind a unit id: shows the plant's quantities in the registers of its type.

A point is matched to the plant by its `quantity` alone, so a new device type needs no code. Names that
a device knows by itself, whatever the plant: those of its identity, of its controls, and `PollCount`.
A quantity that nobody knows gets `fallback`.

Relies on `simulator.registers` for addresses and `simulator.encoding` for bytes. Not here: sockets.
"""

import math
import struct
import zlib
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Final, Protocol

from drivers.types import DeviceType, HoldRegister, PointType, RegisterType, Table
from simulator import pdu
from simulator.control import Control, Hold
from simulator.encoding import Plain, decode, encode, unit_factor
from simulator.faults import Condition
from simulator.pdu import DEVICE_FAILURE, ILLEGAL_ADDRESS, ILLEGAL_VALUE, READS, Refusal, Request
from simulator.registers import Registers, extent_of, hold_width, inside

COUNTER: Final = "PollCount"
"""The quantity that counts answered reads which touch it."""
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


class Journal(Protocol):
    """What a device reports at once."""

    def counted(self, device: str, point: str, count: int) -> None: ...

    def written(self, device: str, point: str, value: Decimal, cause: str) -> None: ...


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
        self._shed = shed
        self._registers = Registers(device_type)
        self._encoded: int | None = None
        self._known: dict[Request, int] = {}
        self.counts: Final = {
            point.name: counts.get(point.name, 0) for point in device_type.points if point.quantity == COUNTER
        }
        self._controls = {
            point.name: Control(default=point.write.default, hold=Hold(point.write.hold))
            for point in device_type.points
            if point.write is not None
        }
        orders = {
            point.name: (self._controls[point.name], Decimal(str(unit_factor(point.unit))))
            for point in device_type.points
            if point.write is not None
        }
        self._shows = {
            point.write.feedback: orders[point.name]
            for point in device_type.points
            if point.write is not None and point.write.feedback
        } | orders
        self._holds = {
            point.name: self._controls[writable.name]
            for point in device_type.points
            for writable, hold in writable_with_hold(device_type)
            if (hold.table, hold.address) == (point.table, point.address)
        }

    def answer(self, request: bytes) -> bytes:
        """Return the answer to a request; a read of a counter counts."""
        now_s = self._clock()
        for control in self._controls.values():
            control.feed(now_s)
        return pdu.answer(self, request)

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
        """Let holds run out whose time has come."""
        now_s = self._clock()
        for name, control in self._controls.items():
            if control.settle(now_s):
                self._after_change(name, "hold")

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
        if self.counts:
            self._count(table, address, count)
        self._refresh()
        return self._registers.read(table, address, count)

    def write_bits(self, function: int, address: int, bits: tuple[bool, ...]) -> None:
        self._write(Table.COIL, address, bytes(bits), function)

    def write_registers(self, function: int, address: int, registers: bytes) -> None:
        self._write(Table.HOLDING, address, registers, function)

    def values(self) -> dict[str, Plain]:
        """Return what each point shows now, by point name and before scale."""
        now_s = self._clock()
        plant = self._source.quantities()
        return {point.name: self._value(point, plant, now_s) for point in self.type.points}

    def _value(self, point: PointType, plant: Mapping[str, Plain], now_s: float) -> Plain:
        if point.name in self._shows:
            control, factor = self._shows[point.name]
            return control.value / factor
        if point.name in self.counts:
            return self.counts[point.name]
        if point.name in self._holds:
            return math.ceil(self._holds[point.name].hold_s(now_s))
        if self._controls:
            if point.quantity == "Cycles":
                return sum(control.cycles for control in self._controls.values())
            if point.quantity == "ShedSeconds":
                return int(sum(control.away_s(now_s) for control in self._controls.values()))
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
        if self._controls:
            self.settle()
        elif self._encoded == self._source.version:
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
        self._show_hold_registers()

    def _show_hold_registers(self) -> None:
        """Encode hold registers that are no point of their own."""
        for point, hold in writable_with_hold(self.type):
            seconds = math.ceil(self._controls[point.name].hold_s(self._clock()))
            body = min(seconds, int(hold.max)).to_bytes(2 * hold_width(hold), "big")
            self._registers.write(hold.table, hold.address, body)

    def _count(self, table: Table, address: int, count: int) -> None:
        for point in self.type.points:
            extent = extent_of(point)
            touched = extent.table is table and address < extent.end and extent.first < address + count
            if point.name in self.counts and touched:
                self.counts[point.name] += 1
                self._journal.counted(self.name, point.name, self.counts[point.name])
                self._encoded = None

    def _write(self, table: Table, address: int, body: bytes, function: int) -> None:
        """Apply a write: all of it lies in writable places and is allowed, or nothing happens."""
        width = 1 if table.is_bits else 2
        at, end = address, address + len(body) // width
        acts: list[tuple[int, str, Decimal]] = []
        while at < end:
            acts_here, taken = self._act(table, at, body[(at - address) * width :], function)
            acts.append(acts_here)
            at += taken
        now_s = self._clock()
        # A hold that comes with its order is set before the order counts.
        for _, name, value in sorted(acts):
            control = self._controls[name.removesuffix("/hold")]
            if name.endswith("/hold"):
                control.write_hold(float(value), now_s)
                self._journal.written(self.name, name, value, "write")
            else:
                control.write(value, now_s)
                self._after_change(name, "write", value)

    def _act(self, table: Table, at: int, body: bytes, function: int) -> tuple[tuple[int, str, Decimal], int]:
        """Return what writing at an address means, (order, name, value), and how many addresses it takes."""
        for point in self.type.points:
            if point.write is None:
                continue
            extent, hold = extent_of(point), point.write.hold_register
            if extent.table is table and extent.first == at:
                size = extent.end - extent.first
                return (1, point.name, self._allowed(point, body, size, function)), size
            if hold is not None and hold.table is table and hold.address == at:
                wanted = 2 * hold_width(hold)
                seconds = int.from_bytes(body[:wanted], "big")
                if len(body) < wanted:
                    raise Refusal(ILLEGAL_ADDRESS)
                if seconds > hold.max:
                    raise Refusal(ILLEGAL_VALUE)
                return (0, f"{point.name}/hold", Decimal(seconds)), hold_width(hold)
        raise Refusal(ILLEGAL_ADDRESS)

    def _allowed(self, point: PointType, body: bytes, size: int, function: int) -> Decimal:
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
        low, high, step = point.write.min, point.write.max, point.write.step
        if not low <= value <= high or (step and (value - low) % step):
            raise Refusal(ILLEGAL_VALUE)
        return value

    def _after_change(self, name: str, cause: str, value: Decimal | None = None) -> None:
        control = self._controls[name]
        self._journal.written(self.name, name, control.value if value is None else value, cause)
        self._shed(any(one.active for one in self._controls.values()))


def writable_with_hold(device_type: DeviceType) -> list[tuple[PointType, HoldRegister]]:
    """Return the writable points that have a hold register, each with it."""
    return [
        (point, point.write.hold_register)
        for point in device_type.points
        if point.write is not None and point.write.hold_register is not None
    ]


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
