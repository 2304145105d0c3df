"""The sections of a point: how it is written (``[point.write]``), how it behaves in time (``[point.sense]``).

What no source states is a guess, and is named as one in the section itself (``guessed``).  Relies on
``drivers.nouns``.  Not here: what a section says against its point (``drivers.points``), and what is made of
it: requests that write (``drivers.modbus.writes``), judgements (the agent).
"""

from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Context, Decimal
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, Strict

from drivers.nouns import Address, Duration, Noun, Number, RegisterType, Table, TableName

_WIDE = Context(prec=60)
"""Digits enough for the largest number over the smallest step."""
WRITES_A_DAY = 100
"""Ours, where a type does not say: 100,000 switchings, or writes of an EEPROM's cell, last three years so."""
LONGEST_ON_FOR = 0x7FFF
"""Counts of a time that function 5 carries in its value: more is none that any source knows."""


class HoldRegister(Noun):
    """The register that arms a device's own timer or watchdog.

    Seconds are its content times ``scale``; a content of 0 switches the hold off.
    """

    table: TableName
    address: Address
    type: Annotated[RegisterType, Strict(False)]
    scale: Annotated[Number, Field(gt=0)] = Decimal(1)
    """Seconds a count."""
    min: Annotated[Number, Field(gt=0)] = Decimal(1)
    """Shortest hold that the device takes, in seconds."""
    max: Annotated[Number, Field(gt=0)]
    """Longest, in seconds."""
    default: Annotated[Number, Field(ge=0)] | None = None
    """What a watchdog is set to without control, in seconds, where nobody knows what it was; 0: off."""
    function: Literal["register", "registers"] = "register"
    """Function code 6 or 16, which may be another one than that of the order."""
    shown_by: str = ""
    """The point that shows it, where it cannot be read itself or stands elsewhere."""

    @property
    def width(self) -> int:
        """Registers that it takes."""
        return max(1, self.type.bits // 16)


class TimedCoil(Noun):
    """A coil that switches for a time by itself: function 5, whose value is the time."""

    address: Address
    scale: Annotated[Number, Field(gt=0)]
    """Seconds a count."""
    max: Annotated[Number, Field(gt=0)]
    """Longest time, in seconds."""


class HoldIf(Noun):
    """What has to be set in the device, so that its hold works."""

    point: str
    value: Number


class LockedIf(Noun):
    """What shows that somebody has locked control out at the device itself."""

    point: str
    value: Number
    """What it shows while it is locked."""


class WriteSpec(Noun):
    """How a point is written, within which limits, and what the device does when we fall silent."""

    function: Literal["coil", "register", "registers"]
    """Function code 5, 6 or 16."""
    min: Number
    max: Number
    step: Number = Decimal(1)
    also: Annotated[tuple[Number, ...], Strict(False)] = ()
    """Single values outside of min to max that the device takes too, as a charger its 0."""
    default: Number
    """The value that means "no control"."""
    hold: Literal["timer", "watchdog", "none"] = "none"
    hold_register: HoldRegister | None = None
    on_for: TimedCoil | None = None
    """For coils with ``hold = "timer"``: what switches on for a time."""
    refresh: Literal["contact", "hold", "value"] | None = None
    """What begins the hold anew while a control runs: any request, its register, or the order with it.

    Without it any request does for a watchdog, and nothing for a timer.
    """
    hold_if: HoldIf | None = None
    """The hold works only while this point shows this value, which is set at commissioning."""
    falls_back_to: str = ""
    """The point that says what the device falls back to; without it, to ``default``."""
    feedback: str = ""
    """The point that shows the effect."""
    locked_if: LockedIf | None = None
    """A lock at the device, such as its key switch: while it shows so, nothing is ordered."""
    min_on_s: Annotated[int, Field(ge=0)] = 0
    min_off_s: Annotated[int, Field(ge=0)] = 0
    writes_a_day: Annotated[int, Field(ge=1, le=1_000_000)] = WRITES_A_DAY
    """So often a day each register of an order is written; putting back counts, and is never refused."""
    essential: bool = False
    guessed: Annotated[
        tuple[Literal["min", "max", "step", "default", "hold", "min_on_s", "min_off_s"], ...], Strict(False)
    ] = ()
    """Keys that no source states: they are Portico's or its integrator's choice."""

    def allows(self, value: Decimal) -> bool:
        """Tell whether the device takes a value."""
        if value in self.also:
            return True
        steps = _WIDE.remainder(_WIDE.subtract(value, self.min), self.step)
        return self.min <= value <= self.max and steps == 0

    @property
    def fed_by(self) -> Literal["contact", "hold", "value"] | None:
        """What begins the hold anew; None where nothing is known to."""
        return self.refresh or ("contact" if self.hold == "watchdog" else None)

    @property
    def limits(self) -> str:
        """The values that the device takes, in words."""
        single = "".join(f"{value.normalize():f} or " for value in self.also)
        return f"{single}{self.min.normalize():f} to {self.max.normalize():f}"


def _day(raw: object) -> object:
    return raw.isoformat() if isinstance(raw, date) else raw


class ClockSpec(Noun):
    """The point is the device's own clock: it counts seconds since a day began in UTC."""

    since: Annotated[str, BeforeValidator(_day), Field(pattern=r"^\d{4}-\d{2}-\d{2}$")]
    """The day whose beginning is zero, for example ``"2000-01-01"``."""
    max_offset_ms: Annotated[Duration, Field(alias="max_offset", gt=0)]
    """Further off than this, in either way, is wrong."""
    max_ppm: Annotated[Number, Field(gt=0)] | None = None
    """So many millionths fast or slow are an alarm."""
    set: Literal["register", "registers"] | None = None
    """By which function it is set, 6 or 16, where writing it does that."""

    @property
    def since_ms(self) -> int:
        """The instant of its zero, UTC, ms since 1970."""
        return int(datetime.fromisoformat(self.since).replace(tzinfo=UTC).timestamp()) * 1000


class SenseSpec(Noun):
    """How the values of a point behave over time (``[point.sense]``); numbers are in the point's unit."""

    max_rate: Annotated[Number, Field(gt=0)] | None = None
    """Greatest plausible change a second."""
    refresh_ms: Annotated[Duration, Field(alias="refresh")] = 0
    """The device brings the register up to date so seldom: a change may be that much older than its poll."""
    modulus: Annotated[Number, Field(gt=0)] | None = None
    """A counter begins again at zero when it reaches this."""
    frozen_ms: Annotated[Duration | None, Field(alias="frozen")] = None
    """Unchanged for so long is suspicious; zero never is."""
    substituted: Annotated[tuple[Number, ...], Strict(False)] = ()
    """Values that the device gives in place of a measured one."""
    clock: ClockSpec | None = None
    """The point is the device's own clock, and is compared with the gateway's."""
    guessed: Annotated[
        tuple[Literal["max_rate", "refresh", "modulus", "frozen", "substituted"], ...], Strict(False)
    ] = ()
    """Keys that no source states."""

    @property
    def known_modulus(self) -> Decimal | None:
        """The modulus where a source states it: only then is what was counted over it exact."""
        return None if "modulus" in self.guessed else self.modulus


def hold_register_faults(hold: HoldRegister) -> Iterator[str]:
    """Yield what the keys of a hold register say against each other."""
    if hold.table is not Table.HOLDING or not hold.type.is_integer or hold.type.is_signed:
        yield 'hold_register: is an unsigned integer of table "holding"'
        return
    if hold.min > hold.max:
        yield f'hold_register: "min" {hold.min} is above "max" {hold.max}'
    if hold.min % hold.scale or hold.max % hold.scale:
        yield f'hold_register: "min" and "max" are whole counts of {hold.scale} s'
    elif hold.max / hold.scale >= 1 << hold.type.bits:
        yield f'hold_register: "max" {hold.max} s does not fit into {hold.type.value}'
    if hold.default is not None and (hold.default % hold.scale or hold.default > hold.max):
        yield f'hold_register: "default" is a whole count of {hold.scale} s, at most "max"'
    if hold.function == "register" and hold.width > 1:
        yield 'hold_register: function "register" writes one register, this needs "registers"'


def write_section_faults(write: WriteSpec) -> Iterator[str]:
    """Yield what the keys of a section say against each other."""
    if write.step <= 0:
        yield '"step" is above 0'
        return
    if write.min > write.max:
        yield f'"min" {write.min} is above "max" {write.max}'
    elif not write.allows(write.default):
        yield f'"default" {write.default} is not one of {write.limits} in steps of {write.step}'
    yield from (
        f'"also" {value} lies within {write.min} to {write.max} already'
        for value in write.also
        if write.min <= value <= write.max
    )
    if write.hold == "none":
        if write.hold_register is not None or write.on_for is not None:
            yield '"hold_register" and "on_for" need "hold" to be timer or watchdog'
        if write.falls_back_to or write.hold_if is not None:
            yield '"falls_back_to" and "hold_if" need a "hold": a device without one never falls back'
    if write.refresh == "contact" and write.hold != "watchdog":
        yield 'refresh "contact" is for a watchdog: a timer runs out whoever asks'
    if write.refresh in ("hold", "value") and write.hold_register is None:
        yield f'refresh "{write.refresh}" needs the "hold_register" that is written again'
    if write.hold == "timer" and (write.hold_register is None) == (write.on_for is None):
        yield 'a hold by timer needs "hold_register", the register that arms it, or "on_for", one of the two'
    if write.hold == "watchdog" and write.on_for is not None:
        yield '"on_for" is a timer'
    if write.hold_register is not None:
        yield from hold_register_faults(write.hold_register)
    if write.on_for is not None:
        yield from _timed_coil_faults(write, write.on_for)


def _timed_coil_faults(write: WriteSpec, coil: TimedCoil) -> Iterator[str]:
    if write.function != "coil" or write.default != 0:
        yield '"on_for" is for coils whose "default" is 0'
    if coil.max % coil.scale or coil.max / coil.scale > LONGEST_ON_FOR:
        yield f'on_for: "max" is a whole count of {coil.scale} s, at most {LONGEST_ON_FOR} of them'
