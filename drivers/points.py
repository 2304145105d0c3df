"""Points of a device type: where a value lies in a device and what its registers mean.

A point says how its registers become a value, exactly: an integer register with a decimal scale
becomes an integer number of steps of a power of ten, a float is rounded once to its resolution.
:class:`Steps` is that rule in integers.  Numbers are ``Decimal``, never ``float``.

Relies on ``drivers.nouns`` for words and on ``drivers.sections`` for the sections of a point; what two
fields say against each other is :func:`point_faults`.  Deliberately not here: decoding
(``drivers.modbus.values``), files (``drivers.types``).
"""

from datetime import datetime
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from functools import cached_property
from typing import Annotated, Literal, NamedTuple

from pydantic import Field, Strict

from core.ids import name_fault
from core.manifest import Point, ValueKind
from drivers.nouns import (
    Address,
    Duration,
    Noun,
    Number,
    Order,
    RegisterType,
    Table,
    TableName,
    duration_ms,
)
from drivers.sections import (
    ClockSpec,
    HoldIf,
    HoldRegister,
    LockedIf,
    SenseSpec,
    TimedCoil,
    WriteSpec,
    write_section_faults,
)

__all__ = [
    "Address",
    "ClockSpec",
    "HoldIf",
    "HoldRegister",
    "LockedIf",
    "Noun",
    "Number",
    "Order",
    "PointType",
    "RegisterType",
    "SenseSpec",
    "Steps",
    "Table",
    "TableName",
    "TimedCoil",
    "WriteSpec",
    "duration_ms",
    "is_power_of_ten",
    "last_digit",
    "point_faults",
]


class Steps(NamedTuple):
    """A number as integer steps: ``value = (raw * mult + add) * 10**exp``."""

    mult: int
    add: int
    exp: int


class PointType(Noun):
    """One point of a device type."""

    name: str
    quantity: str
    unit: str
    """SI symbol, ``1`` for a pure number, empty for text and truths."""
    table: TableName
    address: Address
    type: Annotated[RegisterType, Strict(False)]
    bit: Annotated[int, Field(ge=0, le=15)] | None = None
    length: Annotated[int, Field(ge=1, le=125)] | None = None
    byte_order: Order = "big"
    """Of the bytes within a register."""
    word_order: Order = "big"
    """Of the registers within a number; text is always read in order of address."""
    resolution: Number | None = None
    scale: Number = Decimal(1)
    offset: Number = Decimal(0)
    scale_by: str = ""
    """The point in which the device says the power of ten of this one (SunSpec's scale factors); ``scale``
    is then the step in which the value is stated."""
    not_available: Annotated[tuple[int | Literal["nan"], ...], Strict(False)] = ()
    low: Number | None = None
    high: Number | None = None
    cumulative: bool = False
    ratio: Literal["ct", "vt", "ct*vt"] | None = None
    """Its registers are secondary values: behind current, voltage transformers or both."""
    every_ms: Annotated[Duration | None, Field(alias="every")] = None
    readable: bool = True
    """False: the device only takes it and never tells it."""
    default: bool = True
    """Polled unless the device's own list of points says otherwise."""
    verified: bool | None = None
    """Whether a source confirmed this point; None: as the type's source says."""
    write: WriteSpec | None = None
    sense: SenseSpec | None = None
    """How its values behave over time; counters are watched also without it."""

    @property
    def width(self) -> int:
        """Addresses that it covers: registers, or 1 for a bit of a table of bits."""
        if self.type is RegisterType.STRING:
            return self.length or 1
        return max(1, self.type.bits // 16)

    @property
    def end(self) -> int:
        """First address behind it."""
        return self.address + self.width

    @property
    def kind(self) -> ValueKind:
        """How its value is written down."""
        match self.type:
            case RegisterType.BOOL | RegisterType.BIT:
                return ValueKind.BOOLEAN
            case RegisterType.STRING:
                return ValueKind.TEXT
            case RegisterType.FLOAT32 | RegisterType.FLOAT64 if self.resolution is None:
                return ValueKind.DECIMAL
        return ValueKind.INTEGER

    @cached_property
    def steps(self) -> Steps:
        """How an integer register becomes steps; for a float with a resolution only ``exp`` counts.

        ``exp`` is the last decimal digit of scale and offset together, so that both are whole in it.
        """
        if self.resolution is not None:
            return Steps(1, 0, last_digit(self.resolution))
        exp = min((last_digit(part) for part in (self.scale, self.offset) if part), default=0)
        return Steps(int(self.scale.scaleb(-exp)), int(self.offset.scaleb(-exp)), exp)

    @property
    def grain(self) -> int:
        """Steps by which the value moves when its register moves by one; 1 for a float."""
        return 1 if self.type.is_float else abs(self.steps.mult)

    @cached_property
    def shift(self) -> int:
        """Power of ten from a float register to steps of its resolution (``round(raw * 10**shift)``)."""
        return last_digit(self.scale) - self.steps.exp

    @cached_property
    def step_bounds(self) -> tuple[int | None, int | None]:
        """First and last step of the plausible range; None where there is no bound."""
        low = None if self.low is None else self._step(self.low, ROUND_CEILING)
        return low, None if self.high is None else self._step(self.high, ROUND_FLOOR)

    def _step(self, bound: Decimal, rounding: str) -> int:
        return int(bound.scaleb(-self.steps.exp).to_integral_value(rounding))

    @cached_property
    def markers(self) -> frozenset[int]:
        """The raw values that mean "no value", as unsigned numbers of the type's width."""
        size = 1 << self.type.bits
        return frozenset(marker % size for marker in self.not_available if isinstance(marker, int))

    @property
    def nan_is_marker(self) -> bool:
        """Whether not-a-number is the device's way to say that it has no value."""
        return "nan" in self.not_available

    def core_point(self, request: int) -> Point:
        """Return the point as a reader of rows needs it; ``request`` is the index of its request."""
        return Point(
            name=self.name,
            quantity=self.quantity,
            unit=self.unit,
            kind=self.kind,
            exp=self.steps.exp if self.kind is ValueKind.INTEGER else 0,
            request=request,
            cumulative=self.cumulative,
        )


def last_digit(number: Decimal) -> int:
    """Return the exponent of the last digit that is not zero; 0 for zero."""
    exponent = number.normalize().as_tuple().exponent
    return exponent if isinstance(exponent, int) and number else 0


def is_power_of_ten(number: Decimal) -> bool:
    """Tell whether a number is 10**k for some whole k."""
    return number > 0 and number.normalize().as_tuple().digits == (1,)


def point_faults(point: PointType) -> list[str]:
    """Return what the fields of one point say against each other."""
    faults = [f"its name {fault}" for fault in [name_fault(point.name)] if fault]
    kind = point.type
    if kind is RegisterType.BOOL and not point.table.is_bits:
        faults.append(f'type "bool" is for coils and discrete inputs; in "{point.table.value}" use "bit"')
    if kind is not RegisterType.BOOL and point.table.is_bits:
        faults.append(f'table "{point.table.value}" holds bits: its points have type "bool"')
    if (point.bit is not None) != (kind is RegisterType.BIT):
        faults.append('"bit" belongs to type "bit" and to no other, and that needs it')
    if (point.length is not None) != (kind is RegisterType.STRING):
        faults.append('"length" (in registers) belongs to type "string" and to no other, and that needs it')
    if point.end > 0x10000:
        faults.append(f"it ends at address {point.end - 1}, the last one is 65535")
    if point.kind in (ValueKind.BOOLEAN, ValueKind.TEXT):
        numbers = {"resolution", "scale", "scale_by", "offset", "not_available", "low", "high"}
        numeric = numbers & point.model_fields_set
        if numeric:
            faults.append(f"{_listed(numeric)} belong to numbers, not to type {kind.value!r}")
    else:
        faults += _number_faults(point)
    if point.write is not None:
        faults += _write_faults(point, point.write)
    if not point.readable and (point.write is None or point.default or point.cumulative or point.sense):
        faults.append(
            '"readable" is false for what is only written: such a point has [point.write] and '
            "default = false, and nothing that only a value read has"
        )
    if point.sense is not None:
        faults += _sense_faults(point, point.sense)
    if point.ratio is not None and point.kind is not ValueKind.INTEGER:
        faults.append('"ratio" belongs to integers and to floats with a "resolution", so that it stays exact')
    if point.ratio is not None and point.write is not None:
        faults.append('"ratio" belongs to what is measured: a point with [point.write] has none')
    return faults


def _sense_faults(point: PointType, sense: SenseSpec) -> list[str]:
    if point.kind is not ValueKind.INTEGER:
        return ["sense: belongs to numbers with a resolution or a scale"]
    faults = []
    if sense.modulus is not None and not point.cumulative:
        faults.append('sense: "modulus" is for counters: it needs cumulative = true')
    step = Decimal(1).scaleb(point.steps.exp)
    for name, value in (("modulus", sense.modulus), *(("substituted", one) for one in sense.substituted)):
        if value is not None and value % step:
            faults.append(f'sense: "{name}" {value} is not a whole number of steps of {step}')
    return faults + (_clock_faults(point, sense.clock, step) if sense.clock is not None else [])


def _clock_faults(point: PointType, clock: ClockSpec, step: Decimal) -> list[str]:
    faults = []
    if point.unit != "s" or point.cumulative:
        faults.append('sense: "clock" is for a point in seconds (unit "s") that is no counter')
    try:
        datetime.fromisoformat(clock.since)
    except ValueError:
        faults.append(f'sense: "since" {clock.since} is no day of the calendar')
    if clock.max_offset_ms <= 2000 * step:
        faults.append(f'sense: "max_offset" is to be more than two steps of the clock, {2 * step} s')
    if clock.set is not None:
        fits = point.table is Table.HOLDING and point.type.is_integer and not point.scale_by
        if not fits or (clock.set == "register" and point.width > 1):
            faults.append(f'sense: "set" = "{clock.set}" writes {_WRITES[clock.set][1]}, as an integer')
    return faults


def _listed(names: set[str]) -> str:
    return ", ".join(f'"{name}"' for name in sorted(names))


def _number_faults(point: PointType) -> list[str]:
    faults: list[str] = []
    if point.scale == 0:
        return ['"scale" is 0, which would make every value the same']
    if point.scale_by and (not point.type.is_integer or point.offset or not is_power_of_ten(point.scale)):
        faults.append('"scale_by" is for integers whose "scale" is a power of ten, without "offset"')
    if point.type.is_float:
        if point.offset:
            faults.append('"offset" is for integer registers only')
        if point.resolution is None and point.scale != 1:
            faults.append('a float has a "scale" only together with a "resolution"')
        if not is_power_of_ten(point.scale):
            faults.append(f'the "scale" of a float is a power of ten, {point.scale} is none')
        if point.resolution is not None and not is_power_of_ten(point.resolution):
            faults.append(f'"resolution" is a power of ten such as "0.1", {point.resolution} is none')
    else:
        if point.resolution is not None:
            faults.append('"resolution" is for floats, an integer register has a "scale"')
        if point.nan_is_marker:
            faults.append('an integer is never "nan": give the raw value in "not_available"')
    if not faults and point.kind is ValueKind.INTEGER and not -9 <= point.steps.exp <= 9:
        faults.append(f"its steps are 10^{point.steps.exp}; 10^-9 to 10^9 are possible")
    size = 1 << point.type.bits
    faults += [
        f'"not_available" {marker:#x} does not fit into {point.type.value}'
        for marker in point.not_available
        if isinstance(marker, int) and not -size // 2 <= marker < size
    ]
    if point.low is not None and point.high is not None and point.low > point.high:
        faults.append(f'"low" {point.low} is above "high" {point.high}')
    return faults


_WRITES: dict[str, tuple[Table, str]] = {
    "coil": (Table.COIL, 'a point of table "coil"'),
    "register": (Table.HOLDING, 'a number of one register of table "holding"'),
    "registers": (Table.HOLDING, 'a number of table "holding"'),
}


def _write_faults(point: PointType, write: WriteSpec) -> list[str]:
    faults: list[str] = []
    table, wanted = _WRITES[write.function]
    numeric = point.type.is_integer or point.type.is_float
    fits = point.table is table and (
        point.type is RegisterType.BOOL
        if write.function == "coil"
        else numeric and (write.function == "registers" or point.width == 1)
    )
    if not fits:
        faults.append(f'write: function "{write.function}" writes {wanted}')
    if write.function == "coil" and not {write.min, write.max, *write.also} <= {Decimal(0), Decimal(1)}:
        faults.append("write: a coil is 0 or 1")
    faults += [f"write: {fault}" for fault in write_section_faults(write)]
    if not point.readable and write.feedback == point.name:
        faults.append('write: "feedback" is another point: this one is never read')
    return faults
