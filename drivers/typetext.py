"""A device type as the text of its file, so that what was discovered or imported can be reviewed.

The inverse of reading (``drivers.types``): the text read back gives an equal type.  It is written from
the fields of the nouns themselves, so a key that a later version adds is written without a change here.
Only what differs from a default is written; comments of a file that was read before are not known here.

Pure, save for :func:`save_type`.  Deliberately not here: what a type means, and point tables
(``drivers.pointtable``).
"""

import json
import os
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from decimal import Decimal
from enum import Enum
from pathlib import Path

from pydantic import BaseModel

from core.errors import ConfigError
from drivers.points import PointType
from drivers.types import DeviceType

QUOTED = frozenset({"scale", "offset", "resolution"})
"""Decimals that are written in quotes, by custom: others are plain numbers."""
DURATIONS = frozenset({"every", "frozen", "max_offset", "refresh"})
"""Milliseconds that are written with their unit."""
COMMON = ("table", "type", "byte_order", "word_order")
"""Keys of points that go to ``[defaults]`` when most points have the same."""
SECTIONS = {"blocks": "block", "points": "point"}
"""Fields of a type whose sections are called otherwise in the file."""
WIDTH = 110


def type_text(
    kind: DeviceType, heading: Sequence[str] = (), notes: Mapping[str, Sequence[str]] | None = None
) -> str:
    """Return the text of a type's file.

    ``heading`` are lines of comment at its top; ``notes`` are lines of comment before the point of a name.
    """
    lines = [_comment(line) for line in heading]
    lines += ["", "[type]"] if lines else ["[type]"]
    nested: list[tuple[str, object]] = []
    for name, value in fields(kind):
        if isinstance(value, BaseModel) or (isinstance(value, tuple) and value):
            nested.append((name, value))
        elif not isinstance(value, tuple):
            lines.append(f"{name} = {toml(name, value)}")
    for name, value in nested:
        if isinstance(value, BaseModel):
            body = [f"{key} = {toml(key, inner)}" for key, inner in spoken(value)]
            lines += ["", f"[{name}]", *body] if body else []
        elif name != "points" and isinstance(value, tuple):
            for one in value:
                lines += ["", f"[[{SECTIONS.get(name, name)}]]"]
                lines += [f"{key} = {toml(key, inner)}" for key, inner in spoken(one)]
    common = _common(kind.points)
    if common:
        lines += ["", "[defaults]", *(f"{key} = {toml(key, value)}" for key, value in common.items())]
    for point in kind.points:
        lines += ["", *(_comment(line) for line in (notes or {}).get(point.name, ()))]
        lines += _point(point, common)
    return "\n".join(lines) + "\n"


def save_type(
    path: Path,
    kind: DeviceType,
    heading: Sequence[str] = (),
    notes: Mapping[str, Sequence[str]] | None = None,
    replace: bool = False,
) -> bool:
    """Write a type's file whole or not at all; tell whether a folder was made for it.

    ``ConfigError`` when there is one already, or it cannot be.
    """
    if path.suffix != ".toml" or path.stem != kind.name:
        raise ConfigError(f"{path}: the file of the type {kind.name!r} is called {kind.name}.toml")
    if path.exists() and not replace:
        raise ConfigError(f"{path} is there already; give another name, or --force to write over it")
    fresh = not path.parent.exists()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(prefix=f".{path.stem}-", dir=path.parent)
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(type_text(kind, heading, notes))
            Path(name).chmod(0o644)
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror or error}") from error
    return fresh


def fields(noun: BaseModel) -> Iterator[tuple[str, object]]:
    """Yield the keys of a noun as its file calls them, and their values."""
    for name, field in type(noun).model_fields.items():
        yield field.alias or name, getattr(noun, name)


def spoken(noun: BaseModel) -> Iterator[tuple[str, object]]:
    """Yield the keys that a file has to name: without a default, or other than it."""
    for (key, value), field in zip(fields(noun), type(noun).model_fields.values(), strict=True):
        if field.is_required() or value != field.default:
            yield key, value


def duration(ms: int) -> str:
    """Return milliseconds as a duration of the file, in its largest whole unit."""
    for unit, size in (("h", 3_600_000), ("min", 60_000), ("s", 1000)):
        if ms % size == 0:
            return f"{ms // size}{unit}"
    return f"{ms}ms"


def decimal(number: Decimal) -> str:
    """Return a decimal in digits, without an exponent and without needless zeros."""
    text = format(number, "f")
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return text if text not in ("-0", "") else "0"


def marker(value: object) -> str:
    """Return a register content as it is best compared with a manual: hexadecimal from two digits on."""
    return f"0x{value:X}" if isinstance(value, int) and value > 9 else str(value)


def toml(key: str, value: object) -> str:
    """Return a value as TOML writes it."""
    match value:
        case bool():
            return str(value).lower()
        case Enum():
            return toml(key, value.value)
        case int() if key in DURATIONS:
            return json.dumps(duration(value))
        case int():
            return str(value)
        case Decimal():
            return json.dumps(decimal(value)) if key in QUOTED else decimal(value)
        case date():
            return value.isoformat()
        case str():
            return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007F")
        case BaseModel():
            return f"{{ {', '.join(f'{inner} = {toml(inner, one)}' for inner, one in spoken(value))} }}"
        case tuple():
            parts = [marker(one) if isinstance(one, int) else toml(key, one) for one in value]
            flat = f"[{', '.join(parts)}]"
            return (
                flat if len(flat) <= WIDTH - 20 else "[\n" + "".join(f"    {part},\n" for part in parts) + "]"
            )
    raise TypeError(f"{key} = {value!r} has no form in a device type's file")


def _point(point: PointType, common: Mapping[str, object]) -> Iterator[str]:
    yield "[[point]]"
    inner: list[tuple[str, BaseModel]] = []
    required = {key for key, field in PointType.model_fields.items() if field.is_required()}
    for (key, value), field in zip(fields(point), PointType.model_fields.values(), strict=True):
        if key in common:
            if value != common[key]:
                yield f"{key} = {toml(key, value)}"
        elif key == "quantity" and value == point.name:
            continue
        elif isinstance(value, BaseModel):
            inner.append((key, value))
        elif key in required or value != field.default:
            yield f"{key} = {toml(key, value)}"
    for key, noun in inner:
        yield ""
        yield f"[point.{key}]"
        for name, value in spoken(noun):
            yield f"{name} = {toml(name, value)}"


def _common(points: Sequence[PointType]) -> dict[str, object]:
    """Return what most points have, for the keys that a file may state once."""
    return {key: Counter(getattr(point, key) for point in points).most_common(1)[0][0] for key in COMMON}


def _comment(line: str) -> str:
    clean = "".join(character if character.isprintable() else "?" for character in line)
    return f"# {clean}".rstrip()
