"""Device types: what is known of a make of device, read from TOML files.

A type is data with the source it was read from (``drivers/types/<name>.toml``); a new one needs no
code.  Files in extra directories come first, so that a site can bring or correct a type.  All faults
of a file are reported at once, each with its place.

Deliberately not here: what a point means (``drivers.points``), how points are read
(``drivers.modbus.plan``), and the operator's own configuration (``agent``).
"""

import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date
from decimal import Decimal
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, Strict, ValidationError
from pydantic_core import ErrorDetails

from core.errors import ConfigError
from core.ids import name_fault
from drivers.hints import Hint, hint_faults
from drivers.points import (
    Address,
    HoldRegister,
    Noun,
    PointType,
    RegisterType,
    Steps,
    Table,
    TableName,
    TimedCoil,
    WriteSpec,
    duration_ms,
    point_faults,
)

__all__ = [
    "Block",
    "DeviceType",
    "Hint",
    "HoldRegister",
    "Limits",
    "PointType",
    "Range",
    "RegisterType",
    "Source",
    "Steps",
    "Table",
    "TimedCoil",
    "WriteSpec",
    "duration_ms",
    "faults_of",
    "known_types",
    "load_type",
]

MAX_REGISTERS = 125
"""Registers in one read (Modbus Application Protocol V1.1b3 §6.3)."""
MAX_BITS = 2000
"""Bits in one read (Modbus Application Protocol V1.1b3 §6.1)."""


class Source(Noun):
    """The source that was really read."""

    title: str
    edition: str = ""
    where: str
    also: Annotated[tuple[str, ...], Strict(False)] = ()
    """Further sources in which the same was found."""
    read: date
    verified: bool
    """False: no source confirmed it."""


class Range(Noun):
    """Addresses of one table, first and last included."""

    table: TableName
    first: Address
    last: Address


class Limits(Noun):
    """What the device bears."""

    max_registers: Annotated[int, Field(ge=1, le=MAX_REGISTERS)] = MAX_REGISTERS
    max_bits: Annotated[int, Field(ge=1, le=MAX_BITS)] = MAX_BITS
    max_hole: Annotated[int, Field(ge=0, le=MAX_BITS)] = 16
    """Most addresses in a row that are read although no point needs them."""
    forbidden: Annotated[tuple[Range, ...], Strict(False)] = ()
    """Never part of a read."""
    timeout_ms: Annotated[int, Field(ge=1, le=600_000)] = 1000
    pause_ms: Annotated[int, Field(ge=0, le=60_000)] = 0
    """Silence wanted between requests."""
    write_pause_ms: Annotated[int, Field(ge=0, le=600_000)] = 0
    """Silence wanted between two writes, where that is longer."""

    def span(self, table: Table) -> int:
        """Return the largest count of one read of a table."""
        return self.max_bits if table.is_bits else self.max_registers


class Block(Noun):
    """A request made by hand: this exactly, in place of planning, for the points inside."""

    table: TableName
    address: Address
    count: Annotated[int, Field(ge=1, le=MAX_BITS)]


class DeviceType(Noun):
    """Everything that is known of one make of device."""

    name: str
    manufacturer: str
    model: str
    description: str
    kind: Literal["meter", "relay", "inverter", "battery", "charger", "counter"]
    source: Source
    limits: Limits = Limits()
    blocks: tuple[Block, ...] = ()
    recognise: tuple[Hint, ...] = ()
    points: tuple[PointType, ...]

    @property
    def told(self) -> tuple[PointType, ...]:
        """The points that the device tells: all but those that are only written."""
        return tuple(point for point in self.points if point.readable)

    def point(self, name: str) -> PointType:
        """Return a point by name; ``KeyError`` when the type has none of that name."""
        for point in self.points:
            if point.name == name:
                return point
        raise KeyError(name)


def known_types(extra: Sequence[Path] = ()) -> list[str]:
    """Return the names of all types, sorted."""
    return sorted({path.stem for directory in _directories(extra) for path in directory.glob("*.toml")})


def load_type(name: str, extra: Sequence[Path] = ()) -> DeviceType:
    """Return a device type; ``ConfigError`` with every fault when it is unknown or its file is wrong.

    ``extra`` are directories that are looked into first.
    """
    if name_fault(name) is None:
        for directory in _directories(extra):
            path = directory / f"{name}.toml"
            if path.is_file():
                place = f"drivers/types/{path.name}" if directory == _own() else str(path)
                return _read(path, place)
    known = known_types(extra)
    import difflib  # only where something is misspelt

    near = difflib.get_close_matches(name, known, n=2, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else f"known are: {', '.join(known) or 'none'}"
    raise ConfigError(f"device type {name!r} is not known; {hint}")


def faults_of(kind: DeviceType) -> list[str]:
    """Return what the parts of a type that was not read from a file say against each other."""
    return list(_type_faults(kind, dict(enumerate(kind.points))))


def _own() -> Path:
    return Path(str(resources.files("drivers").joinpath("types")))


def _directories(extra: Sequence[Path]) -> list[Path]:
    return [*extra, _own()]


def _read(path: Path, place: str) -> DeviceType:
    try:
        document = tomllib.loads(path.read_text("utf-8"), parse_float=_decimal)
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        fault = f"{place}: is not UTF-8 text (line {line}): save it as UTF-8"
        raise ConfigError(fault, (fault,)) from error
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{place}: cannot be read: {error}", (f"{place}: {error}",)) from error
    faults: list[str] = []
    found = _device_type(document, path.stem, faults)
    if found is None or faults:
        lines = tuple(f"{place}: {fault}" for fault in faults)
        more = f" (and {len(lines) - 1} more)" if len(lines) > 1 else ""
        raise ConfigError(f"{lines[0]}{more}", lines)
    return found


def _decimal(text: str) -> Decimal | float:
    """Return a TOML float exactly; inf and nan stay floats, which every field refuses."""
    number = Decimal(text)
    return number if number.is_finite() else float(text)


_SECTIONS = {"type", "source", "limits", "defaults", "block", "recognise", "point"}
_DEFAULTS = {"table", "type", "byte_order", "word_order", "unit", "resolution", "scale", "not_available"}


def _device_type(document: dict[str, Any], stem: str, faults: list[str]) -> DeviceType | None:
    """Return the type in a document, adding every fault found; None when it cannot be made."""
    faults += [
        f"[{key}] is not known, sections are {_names(_SECTIONS)}" for key in document.keys() - _SECTIONS
    ]
    head = _section(document, "type", faults)
    defaults = _section(document, "defaults", faults)
    faults += [f"defaults: {key!r} has no default" for key in sorted(defaults.keys() - _DEFAULTS)]
    markers = defaults.get("not_available")
    if isinstance(markers, dict):
        known = {kind.value for kind in RegisterType if kind.bits}
        faults += [
            f"defaults.not_available: {key!r} is no register type of a number"
            for key in sorted(markers.keys() - known)
        ]
    tables = _tables(document, "point", faults)
    if not tables:
        faults.append("it has no [[point]]")
    points: dict[int, PointType] = {}
    for number, table in enumerate(tables):
        point = _point(table, defaults, f"point[{number}]", faults)
        if point is not None:
            points[number] = point
    whole = {
        **head,
        "source": document.get("source", {}),
        "limits": document.get("limits", {}),
        "blocks": tuple(_tables(document, "block", faults)),
        "recognise": tuple(_tables(document, "recognise", faults)),
        "points": tuple(points.values()),
    }
    try:
        found = DeviceType.model_validate(whole)
    except ValidationError as error:
        faults += [
            f"{_place(detail, head.keys())}: {_sentence(detail)}"
            for detail in error.errors()
            if detail["loc"][:1] != ("points",)
        ]
        return None
    if found.name != stem:
        faults.append(f"type.name: is {found.name!r}, the file is called {stem!r}")
    faults += _type_faults(found, points)
    return found


def _section(document: dict[str, Any], name: str, faults: list[str]) -> dict[str, Any]:
    section = document.get(name, {})
    if isinstance(section, dict):
        return section
    faults.append(f"{name}: is a section [{name}]")
    return {}


def _tables(document: dict[str, Any], name: str, faults: list[str]) -> list[dict[str, Any]]:
    tables = document.get(name, [])
    if isinstance(tables, list) and all(isinstance(table, dict) for table in tables):
        return tables
    faults.append(f"{name}: is written as [[{name}]], once for each")
    return []


def _point(
    table: dict[str, Any], defaults: dict[str, Any], place: str, faults: list[str]
) -> PointType | None:
    name = table.get("name")
    place = f"{place} {name}" if isinstance(name, str) else place
    merged = {**_fitting(defaults, table), **table}
    merged.setdefault("quantity", name)
    try:
        point = PointType.model_validate(merged)
    except ValidationError as error:
        faults += [f"{place}: {_inner(detail)}{_sentence(detail)}" for detail in error.errors()]
        return None
    found = point_faults(point)
    faults += [f"{place}: {fault}" for fault in found]
    return None if found else point


def _fitting(defaults: dict[str, Any], table: dict[str, Any]) -> dict[str, Any]:
    """Return the defaults that make sense for a point: a default resolution is for floats, and so on.

    ``not_available`` may be a table of its own, with the markers of each register type.
    """
    kind = str(table.get("type", defaults.get("type")))
    unfit: set[str] = set()
    markers = defaults.get("not_available")
    if isinstance(markers, dict):
        defaults = {**defaults, "not_available": markers.get(kind, [])}
    if kind in ("bool", "bit", "string"):
        unfit = {"resolution", "scale", "not_available", "unit"}
    elif not kind.startswith("float"):
        unfit = {"resolution"}
    return {key: value for key, value in defaults.items() if key in _DEFAULTS and key not in unfit}


def _inner(detail: ErrorDetails) -> str:
    parts = [str(part) for part in detail["loc"] if part not in ("decimal", "int", "literal['nan']")]
    return f"{'.'.join(parts)}: " if parts else ""


def _place(detail: ErrorDetails, head: Iterable[str]) -> str:
    """Return a place as it stands in the file: ``limits.max_hole``, ``block[0].count``, ``type.kind``."""
    loc = list(detail["loc"])
    text = ""
    for part in loc:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += f".{part}" if text else part
    if text.startswith("blocks"):
        return "block" + text.removeprefix("blocks")
    return text if re.match("(source|limits|recognise)", text) else f"type.{text}"


def _sentence(detail: ErrorDetails) -> str:
    match detail["type"]:
        case "extra_forbidden":
            return "this key is not known"
        case "missing":
            return "is missing"
        case "is_instance_of":
            return f"is a number such as 230 or 0.1, not {detail['input']!r}"
    text = detail["msg"].removeprefix("Value error, ")
    return f"{text[:1].lower()}{text[1:]}, not {detail['input']!r}"


def _type_faults(found: DeviceType, points: Mapping[int, PointType]) -> Iterator[str]:
    """Yield what the parts of a type say against each other; points by their number in the file."""
    fault = name_fault(found.name)
    if fault:
        yield f"type.name: {fault}"
    seen: dict[str, int] = {}
    for number, point in points.items():
        place = f"point[{number}] {point.name}"
        if point.name in seen:
            yield f"{place}: point[{seen[point.name]}] has this name"
        seen.setdefault(point.name, number)
        if point.width > found.limits.span(point.table):
            yield f"{place}: it needs {point.width} registers, the device reads {found.limits.max_registers}"
        for bar in found.limits.forbidden:
            if _touch(bar, point.table, point.address, point.end):
                yield f"{place}: it lies in the forbidden range {bar.first} to {bar.last}"
    for number, point in points.items():
        yield from (
            f"point[{number}] {point.name}: {fault}" for fault in _reference_faults(point, seen, points)
        )
        if point.scale_by:
            by = points.get(seen.get(point.scale_by, -1))
            if by is None or not by.type.is_signed or by.scale_by or by.steps != (1, 0, 0):
                yield (
                    f"point[{number}] {point.name}: scale_by: there is no point {point.scale_by!r} "
                    "that is a signed integer without scale"
                )
    for number, bar in enumerate(found.limits.forbidden):
        if bar.first > bar.last:
            yield f"limits.forbidden[{number}]: first {bar.first} is above last {bar.last}"
    for number, block in enumerate(found.blocks):
        if block.count > found.limits.span(block.table) or block.address + block.count > 0x10000:
            yield f"block[{number}]: a read of {block.count} from {block.address} is beyond the limits"
        for bar in found.limits.forbidden:
            if _touch(bar, block.table, block.address, block.address + block.count):
                yield f"block[{number}]: it reads the forbidden range {bar.first} to {bar.last}"
    for number, hint in enumerate(found.recognise):
        yield from (f"recognise[{number}]: {fault}" for fault in hint_faults(hint))
        width = hint.point.width
        if width > found.limits.max_registers:
            yield f"recognise[{number}]: it needs {width} registers, the device reads fewer"
        for bar in found.limits.forbidden:
            if _touch(bar, hint.table, hint.address, hint.address + width):
                yield f"recognise[{number}]: it lies in the forbidden range {bar.first} to {bar.last}"


def _reference_faults(
    point: PointType, seen: Mapping[str, int], points: Mapping[int, PointType]
) -> Iterator[str]:
    """Yield what is wrong with the points that a writable one names."""
    write = point.write
    if write is None:
        return
    named = {"feedback": write.feedback, "falls_back_to": write.falls_back_to}
    if write.hold_if is not None:
        named["hold_if.point"] = write.hold_if.point
    if write.locked_if is not None:
        named["locked_if.point"] = write.locked_if.point
    if write.hold_register is not None:
        named["hold_register.shown_by"] = write.hold_register.shown_by
    for key, name in named.items():
        if not name:
            continue
        if name not in seen:
            yield f"write.{key}: there is no point {name!r}"
        elif not points[seen[name]].readable:
            yield f"write.{key}: the point {name!r} is never read"


def _touch(bar: Range, table: Table, first: int, end: int) -> bool:
    return bar.table is table and bar.first < end and first <= bar.last


def _names(names: Iterable[str]) -> str:
    return ", ".join(f"[{name}]" for name in sorted(names))
