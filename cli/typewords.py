"""What a device type says of its orders and of its values over time, in words; guesses are named as such.

Pure.  Relies on `drivers`.  Not here: tables of points (`cli.devicetypes`), reading a device (`cli.probe`).
"""

from collections.abc import Iterator, Mapping
from decimal import Decimal

from drivers.points import HoldRegister, PointType, SenseSpec, WriteSpec
from drivers.types import DeviceType
from drivers.typetext import decimal, duration

FUNCTIONS = {"coil": 5, "register": 6, "registers": 16}


def order_lines(kind: DeviceType) -> Iterator[str]:
    """Yield what can be ordered, within which limits, and what the device does by itself."""
    for point in kind.points:
        write = point.write
        if write is None:
            continue
        unit = f" {point.unit}" if point.unit not in ("", "1") else ""
        step = f" in steps of {decimal(write.step)}" if write.step != 1 else ""
        doubt = "" if (kind.source.verified if point.verified is None else point.verified) else " ?"
        yield f"{point.name}{doubt}: {write.limits}{unit}{step}, by function {FUNCTIONS[write.function]}"
        rest = [f"default {decimal(write.default)}{unit}{_guess(write, 'default')}"]
        rest += [f"feedback {write.feedback}" if write.feedback else "no feedback"]
        for key, words in (("min_on_s", "on for at least"), ("min_off_s", "off for at least")):
            seconds = getattr(write, key)
            if seconds:
                rest.append(f"{words} {seconds} s{_guess(write, key)}")
        rest += ["never shed"] if write.essential else []
        rest += ["only taken, never told"] if not point.readable else []
        yield "  " + ", ".join(rest)
        yield "  " + _hold(write)
        if write.locked_if is not None:
            lock = write.locked_if
            yield f"  locked at the device while {lock.point} is {decimal(lock.value)}"
        if kind.limits.write_pause_ms:
            yield f"  writes at least {duration(kind.limits.write_pause_ms)} apart"
        others = set(write.guessed) - {"default", "min_on_s", "min_off_s"}
        if others:
            yield f"  guessed: {', '.join(sorted(others))}"


_FED = {"contact": "any request", "hold": "writing its register again", "value": "the order again"}


def _guess(section: WriteSpec | SenseSpec, key: str) -> str:
    return " (guessed)" if key in section.guessed else ""


def _hold(write: WriteSpec) -> str:
    if write.hold == "none":
        return "no hold: the device keeps the last order for ever"
    words = f"hold by {write.hold}"
    if write.hold_register is not None:
        words += f", {_register(write.hold_register)}"
    if write.on_for is not None:
        coil = write.on_for
        words += (
            f", up to {decimal(coil.max)} s in the order itself, "
            f"to coil {coil.address} in counts of {decimal(coil.scale)} s"
        )
    if write.refresh is not None:
        words += f", begun anew by {_FED[write.refresh]}"
    if write.hold_if is not None:
        words += f", only while {write.hold_if.point} is {decimal(write.hold_if.value)}"
    return f"{words}; falls back to {write.falls_back_to or 'its default'}"


def _register(hold: HoldRegister) -> str:
    counts = f" in counts of {decimal(hold.scale)} s" if hold.scale != 1 else ""
    shown = f", shown by {hold.shown_by}" if hold.shown_by else ""
    return f"{decimal(hold.min)} to {decimal(hold.max)} s in {hold.table.value} {hold.address}{counts}{shown}"


def sense_lines(kind: DeviceType) -> Iterator[str]:
    """Yield how values behave over time, one line for all points of which the same is said."""
    same: dict[str, list[str]] = {}
    for point in kind.points:
        if point.sense is not None:
            words = sense_words(point.sense, point.unit)
            same.setdefault(words, []).append(point.name)
    for words, names in same.items():
        yield f"{words}: {', '.join(names)}"


def sense_words(sense: SenseSpec, unit: str) -> str:
    """Return what is said of a point over time."""
    parts: list[str] = []
    of = f" {unit}" if unit not in ("", "1") else ""
    for key, words in (("max_rate", "at most {} a second"), ("modulus", "0 again at {}")):
        number: Decimal | None = getattr(sense, key)
        if number is not None:
            parts.append(words.format(decimal(number) + of) + _guess(sense, key))
    if sense.refresh_ms:
        parts.append(f"as old as {duration(sense.refresh_ms)}{_guess(sense, 'refresh')}")
    if sense.frozen_ms is not None:
        parts.append(f"frozen after {duration(sense.frozen_ms)}{_guess(sense, 'frozen')}")
    if sense.substituted:
        values = " or ".join(decimal(value) for value in sense.substituted)
        parts.append(f"{values} stands for no measurement{_guess(sense, 'substituted')}")
    if sense.clock is not None:
        parts.append(f"the device's clock, off by at most {duration(sense.clock.max_offset_ms)}")
    return ", ".join(parts)


def order_points(kind: DeviceType) -> frozenset[str]:
    """Return the points that tell whether the holds of a type are set to work, and to what it falls back."""
    found: set[str] = set()
    for point in kind.points:
        write = point.write
        if write is not None and write.hold != "none":
            found |= {write.falls_back_to, _shown_by(kind, write)}
            found |= {write.hold_if.point} if write.hold_if is not None else set()
    return frozenset(found - {""})


def hold_warnings(kind: DeviceType, values: Mapping[str, Decimal]) -> Iterator[str]:
    """Yield why the device would not fall back by itself, by what its points show."""
    for point in kind.points:
        write = point.write
        if write is None:
            continue
        needs = write.hold_if
        if needs is not None and values.get(needs.point, needs.value) != needs.value:
            yield (
                f"{point.name} does not fall back: {needs.point} is {decimal(values[needs.point])}, "
                f"set it to {decimal(needs.value)} at commissioning"
            )
        shown = _shown_by(kind, write)
        if write.hold == "watchdog" and values.get(shown) == 0:
            yield f"{point.name} does not fall back: its watchdog is switched off, {shown} is 0"


def _shown_by(kind: DeviceType, write: WriteSpec) -> str:
    """Return the point that shows the hold register, empty when none does."""
    hold = write.hold_register
    if hold is None:
        return ""
    if hold.shown_by:
        return hold.shown_by
    return next((one.name for one in kind.told if _is_at(one, hold)), "")


def _is_at(point: PointType, hold: HoldRegister) -> bool:
    return (point.table, point.address) == (hold.table, hold.address)


def guessed_in_orders(kind: DeviceType) -> dict[str, list[str]]:
    """Return by point which keys of its order no source states."""
    return {
        point.name: list(point.write.guessed)
        for point in kind.points
        if point.write is not None and point.write.guessed
    }
