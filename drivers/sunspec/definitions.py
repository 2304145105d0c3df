"""SunSpec's model definitions: what lies in which register of a model, as data with its source.

One file a model (``models/<id>.toml``), the facts of the official definition; ``names.toml`` names the
models that have no file here.  ``controls.toml`` is ours: which points are orders, within which limits.

Pure, save that files are read once.  Deliberately not here: devices.
"""

import tomllib
from collections.abc import Iterator
from datetime import date
from decimal import Decimal
from functools import cache
from importlib import resources
from typing import Literal, NamedTuple

import msgspec

HEADER = 2
"""Registers before the points of every model: its id, and how many registers follow."""
END = 0xFFFF
"""The id that ends the chain of models."""


class PointKind(NamedTuple):
    """What a SunSpec type is in registers, and which content says that the point is not implemented.

    Markers: SunSpec Alliance's own client, sunspec/pysunspec2: sunspec2/mb.py (commit f2ece9a, read
    2026-11-22).
    """

    register: str
    """The register type of a device type's file."""
    marker: int | None = None
    """Content of a point that is not implemented, unsigned; None where the type says it otherwise."""
    accumulates: bool = False


KINDS = {
    "int16": PointKind("int16", 0x8000),
    "uint16": PointKind("uint16", 0xFFFF),
    "count": PointKind("uint16", 0xFFFF),
    "acc16": PointKind("uint16", 0, accumulates=True),
    "enum16": PointKind("uint16", 0xFFFF),
    "bitfield16": PointKind("uint16", 0xFFFF),
    "int32": PointKind("int32", 0x8000_0000),
    "uint32": PointKind("uint32", 0xFFFF_FFFF),
    "acc32": PointKind("uint32", 0, accumulates=True),
    "enum32": PointKind("uint32", 0xFFFF_FFFF),
    "bitfield32": PointKind("uint32", 0xFFFF_FFFF),
    "int64": PointKind("int64", 0x8000_0000_0000_0000),
    "uint64": PointKind("uint64", 0xFFFF_FFFF_FFFF_FFFF),
    "acc64": PointKind("uint64", 0, accumulates=True),
    "float32": PointKind("float32"),
    "float64": PointKind("float64"),
    "string": PointKind("string"),
    "sunssf": PointKind("int16", 0x8000),
    "pad": PointKind("uint16", 0x8000),
}
"""By SunSpec type."""


class PointDefinition(NamedTuple):
    """One point of a model."""

    name: str
    kind: str
    """SunSpec type."""
    offset: int
    """Registers from the model's first point, or from the beginning of its repeat."""
    length: int
    unit: str
    """As SunSpec writes it."""
    scale_factor: str
    """The point of the model whose content is the power of ten; empty for none."""
    mandatory: bool
    writable: bool
    static: bool
    """Never changes while the device runs."""

    @property
    def end(self) -> int:
        """First offset behind it."""
        return self.offset + self.length


class Repeat(NamedTuple):
    """Points that follow a model's own several times."""

    name: str
    counter: str
    """The point that says how often; empty where only the length does."""
    length: int
    points: tuple[PointDefinition, ...]


class ModelDefinition(NamedTuple):
    """One model."""

    id: int
    name: str
    label: str
    length: int
    """Registers of its own points, behind id and length."""
    kind: Literal["inverter", "meter", "battery", ""]
    """What a device that has it is; empty where it does not tell."""
    measures: bool
    """Whether it shows what changes by itself, and not settings or ratings."""
    points: tuple[PointDefinition, ...]
    repeat: Repeat | None
    where: str
    """Repository, file and commit that were read."""
    read: date

    def fits(self, length: int) -> bool:
        """Tell whether a device may state this length for the model."""
        beyond = length - self.length
        if self.repeat is not None:
            return beyond >= 0 and beyond % self.repeat.length == 0
        pads = sum(point.length for point in self.points if point.kind == "pad")
        return -pads <= beyond <= 0


class Control(msgspec.Struct, frozen=True):
    """A point that is an order, and what becomes of it (``controls.toml``)."""

    model: int
    point: str
    min: Decimal
    max: Decimal
    default: Decimal
    timer: str = ""
    """The point that says after how many seconds the device goes back by itself."""


class _Model(msgspec.Struct, forbid_unknown_fields=True):
    id: int
    name: str
    label: str
    length: int
    points: list[tuple[str, str, int, str, str, str]]
    kind: Literal["inverter", "meter", "battery", ""] = ""
    measures: bool = False


class _Repeat(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    count: str
    length: int
    points: list[tuple[str, str, int, str, str, str]]


class _Source(msgspec.Struct, forbid_unknown_fields=True):
    where: str
    commit: str
    read: date


class _File(msgspec.Struct, forbid_unknown_fields=True):
    model: _Model
    source: _Source
    repeat: _Repeat | None = None


class _Names(msgspec.Struct, forbid_unknown_fields=True):
    names: dict[str, str]
    source: _Source


class _Controls(msgspec.Struct, forbid_unknown_fields=True):
    control: list[Control]


def defined_models() -> list[int]:
    """Return the ids of all models whose points are known, in order."""
    folder = resources.files(__package__).joinpath("models")
    return sorted(int(file.name.removesuffix(".toml")) for file in folder.iterdir() if "toml" in file.name)


@cache
def definition(model: int) -> ModelDefinition | None:
    """Return a model's definition; None for one whose points are not known here."""
    file = resources.files(__package__).joinpath("models", f"{model}.toml")
    if not file.is_file():
        return None
    found = msgspec.convert(tomllib.loads(file.read_text("utf-8")), _File)
    repeat = found.repeat
    return ModelDefinition(
        id=found.model.id,
        name=found.model.name,
        label=found.model.label,
        length=found.model.length,
        kind=found.model.kind,
        measures=found.model.measures,
        points=tuple(_points(found.model.points)),
        repeat=Repeat(repeat.name, repeat.count, repeat.length, tuple(_points(repeat.points)))
        if repeat
        else None,
        where=f"{found.source.where} (commit {found.source.commit[:7]})",
        read=found.source.read,
    )


def _points(rows: list[tuple[str, str, int, str, str, str]]) -> Iterator[PointDefinition]:
    offset = 0
    for name, kind, length, unit, scale_factor, flags in rows:
        flag = set(flags)
        yield PointDefinition(
            name, kind, offset, length, unit, scale_factor, "M" in flag, "W" in flag, "S" in flag
        )
        offset += length


@cache
def model_names() -> dict[int, str]:
    """Return the names of all official models by id."""
    text = resources.files(__package__).joinpath("names.toml").read_text("utf-8")
    found = msgspec.convert(tomllib.loads(text), _Names)
    return {int(model): name for model, name in found.names.items()}


@cache
def controls() -> dict[tuple[int, str], Control]:
    """Return the orders by model and point."""
    text = resources.files(__package__).joinpath("controls.toml").read_text("utf-8")
    found = msgspec.convert(tomllib.loads(text, parse_float=Decimal), _Controls)
    return {(control.model, control.point): control for control in found.control}
