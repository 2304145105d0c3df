"""Point tables as CSV: the points of a device type in a spreadsheet and back, nothing lost.

One header row, one row a point, one column a key; a key inside another has a dot in its column
(``write.min``, ``write.hold_register.address``).  An empty cell says nothing, so the default holds.
The columns come from the fields of a point themselves: a key that a later version adds is a column.

Reading takes what spreadsheets make of a table: a byte order mark, ``;`` or tab as separator (then
also a decimal comma), ``TRUE``, hexadecimal addresses, empty rows, columns in any order.  Every fault
names its row, as the spreadsheet counts, and its column.

Pure.  Deliberately not here: what belongs to the type and not to a point (source, limits, blocks),
which a table does not hold, and files.
"""

import csv
import difflib
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from enum import Enum
from types import UnionType
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from core.errors import ConfigError
from drivers.points import PointType, point_faults
from drivers.typetext import DURATIONS, decimal, duration, fields, marker, toml

MAX_ROWS = 10_000
"""Rows of a table that are read; a device has fewer points."""
SEPARATORS = ",;\t"


class _Column(NamedTuple):
    """One key of a point: its path, and how its cell is read."""

    path: tuple[str, ...]
    form: Literal["truth", "whole", "markers", "numbers", "words", "text"]
    choices: tuple[str, ...] = ()
    """For a text, or words, of a closed list."""

    @property
    def name(self) -> str:
        return ".".join(self.path)


def csv_text(points: Sequence[PointType], separator: str = ",", every_column: bool = False) -> str:
    """Return a table of points; columns that no point uses are left out unless ``every_column``.

    With the separator ``;`` decimals have a comma.
    """
    rows = [dict(_cells(point)) for point in points]
    always = {"name", "quantity", "unit", "table", "address", "type"}
    columns = [
        column.name
        for column in COLUMNS
        if every_column or column.name in always or any(column.name in row for row in rows)
    ]
    out = io.StringIO()
    writer = csv.writer(out, delimiter=separator, lineterminator="\r\n")
    writer.writerow(columns)
    comma = separator == ";"  # such a table is for a spreadsheet that takes 1.5 for the first of May
    writer.writerows([_local(row.get(column, ""), comma) for column in columns] for row in rows)
    return out.getvalue()


def read_csv(text: str, place: str) -> tuple[PointType, ...]:
    """Return the points of a table; ``ConfigError`` with every fault, each with its row and column.

    ``place`` is what the table is called in faults, for example its file name.
    """
    rows = _rows(text, place)
    number, heads = next(rows, (0, []))
    if not any(heads):
        raise ConfigError(
            f"{place}: is empty; its first row names the columns, for example name,unit,address"
        )
    separator = _separator(text)
    faults: list[str] = []
    columns = list(_heading(heads, number, faults))
    points: list[PointType] = []
    seen: dict[str, int] = {}
    for number, cells in rows:
        if not any(cells):
            continue
        point = _point(columns, cells, number, separator != ",", faults)
        if point is not None:
            if point.name in seen:
                faults.append(
                    f"row {number}, column name: row {seen[point.name]} has the name {point.name!r}"
                )
            seen.setdefault(point.name, number)
            points.append(point)
    if not points and not faults:
        faults.append("it has no point: below the row of columns comes one row for each")
    if faults:
        more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
        raise ConfigError(f"{place}: {faults[0]}{more}", tuple(f"{place}: {fault}" for fault in faults))
    return tuple(points)


def _cells(point: PointType) -> Iterator[tuple[str, str]]:
    """Yield the cells of a point that are not empty; what is at its default is left empty."""
    for path, value, field in _leaves(point):
        if value is not None and (field.is_required() or value != field.default):
            yield ".".join(path), _cell(path[-1], value)


def _local(cell: str, comma: bool) -> str:
    numbers = re.fullmatch(r"-?\d+(\.\d+)?( -?\d+(\.\d+)?)*", cell)
    return cell.replace(".", ",") if comma and numbers else cell


def _leaves(noun: BaseModel) -> Iterator[tuple[tuple[str, ...], object, FieldInfo]]:
    for (key, value), field in zip(fields(noun), type(noun).model_fields.values(), strict=True):
        if isinstance(value, BaseModel):
            yield from (((key, *path), inner, place) for path, inner, place in _leaves(value))
        else:
            yield (key,), value, field


def _cell(key: str, value: object) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case Enum():
            return str(value.value)
        case Decimal():
            return decimal(value)
        case int() if key in DURATIONS:
            return duration(value)
        case int() | str():
            return str(value)
        case tuple():
            return " ".join(decimal(one) if isinstance(one, Decimal) else marker(one) for one in value)
    raise TypeError(f"{key} = {toml(key, value)} has no form in a table")


def _columns(noun: type[BaseModel], before: tuple[str, ...] = ()) -> Iterator[_Column]:
    """Yield the columns of a noun, those of the nouns inside it too."""
    for name, field in noun.model_fields.items():
        path = (*before, field.alias or name)
        kinds = list(_kinds(field.annotation))
        inner = [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)]
        if inner:
            yield from _columns(inner[0], path)
        elif path[-1] in DURATIONS:
            yield _Column(path, "text")
        elif bool in kinds:
            yield _Column(path, "truth")
        elif get_origin(kinds[0]) is tuple:
            yield _several(path, list(_kinds(get_args(kinds[0])[0])))
        elif int in kinds:
            yield _Column(path, "whole")
        else:
            yield _Column(path, "text", tuple(_choices(kinds)))


def _several(path: tuple[str, ...], kinds: Sequence[Any]) -> _Column:
    """Return the column of a key with several values."""
    if int in kinds:
        return _Column(path, "markers")
    return _Column(path, "numbers") if Decimal in kinds else _Column(path, "words", tuple(_choices(kinds)))


def _kinds(annotation: Any) -> Iterator[Any]:
    """Yield what an annotation allows, without None and without what only constrains it."""
    origin = get_origin(annotation)
    if origin is Annotated:
        yield from _kinds(get_args(annotation)[0])
    elif origin in (UnionType, Union):
        for part in get_args(annotation):
            yield from _kinds(part)
    elif annotation is not type(None):
        yield annotation


def _choices(kinds: Sequence[Any]) -> Iterator[str]:
    for kind in kinds:
        if get_origin(kind) is Literal:
            yield from (str(one) for one in get_args(kind))
        elif isinstance(kind, type) and issubclass(kind, Enum):
            yield from (str(one.value) for one in kind)


COLUMNS = tuple(_columns(PointType))
"""Every column that a table can have, in the order in which it is written."""
_BY_NAME = {column.name: column for column in COLUMNS}


def _separator(text: str) -> str:
    """Return what separates the cells of the first row: of the possible ones the most frequent."""
    first = text.lstrip("\ufeff\r\n").partition("\n")[0]
    return max(SEPARATORS, key=first.count)


def _rows(text: str, place: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the rows that are not empty, stripped, with their number as a spreadsheet counts."""
    reader = csv.reader(io.StringIO(text.removeprefix("\ufeff"), newline=""), delimiter=_separator(text))
    number = 0
    while True:
        number += 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise ConfigError(f"{place}: row {number} cannot be read: {error}") from error
        if number > MAX_ROWS:
            raise ConfigError(f"{place}: has more than {MAX_ROWS} rows; is it a point table?")
        if any(cell.strip() for cell in cells):
            yield number, [cell.strip() for cell in cells]


def _heading(heads: Sequence[str], number: int, faults: list[str]) -> Iterator[_Column | None]:
    """Yield the column for each cell of the first row, None for one that is not known."""
    names = [head.lower() for head in heads]
    for position, name in enumerate(names):
        column = _BY_NAME.get(name)
        if column is None and name:
            near = difflib.get_close_matches(name, _BY_NAME, n=1)
            hint = f"did you mean {near[0]}?" if near else f"columns are {', '.join(_BY_NAME)}"
            faults.append(f"row {number}, column {heads[position]}: is not known; {hint}")
        elif column is not None and name in names[:position]:
            faults.append(f"row {number}, column {name}: is there twice")
        yield column
    for column in COLUMNS:
        field = PointType.model_fields.get(column.name)
        if field is not None and field.is_required() and column.name not in {*names, "quantity"}:
            faults.append(f"row {number}: there is no column {column.name!r}, which every point needs")


def _point(
    columns: Sequence[_Column | None],
    cells: Sequence[str],
    number: int,
    comma: bool,
    faults: list[str],
) -> PointType | None:
    before = len(faults)
    whole: dict[str, Any] = {}
    for position, cell in enumerate(cells):
        if position >= len(columns):
            if cell:
                faults.append(f"row {number}: {cell!r} stands behind the last column")
            continue
        column = columns[position]
        if column is None or not cell:
            continue
        try:
            _put(whole, column.path, _value(column, cell, comma))
        except ValueError as error:
            faults.append(f"row {number}, column {column.name}: {error}")
    if len(faults) > before:
        return None
    whole.setdefault("quantity", whole.get("name"))
    if whole.get("type") in ("bool", "bit", "string"):
        whole.setdefault("unit", "")
    try:
        point = PointType.model_validate(whole)
    except ValidationError as error:
        faults += [f"row {number}, {_said(detail)}" for detail in error.errors()]
        return None
    found = point_faults(point)
    faults += [f"row {number}, point {point.name}: {fault}" for fault in found]
    return None if found else point


def _put(whole: dict[str, Any], path: Sequence[str], value: object) -> None:
    for key in path[:-1]:
        whole = whole.setdefault(key, {})
    whole[path[-1]] = value


_WHOLE = re.compile(r"[+-]?(0[xX][0-9A-Fa-f_]+|[0-9][0-9_]*)")
_TRUTHS: Mapping[str, bool] = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


def _value(column: _Column, cell: str, comma: bool) -> object:
    """Return a cell as a type's file would give it; ``ValueError`` says what it should be."""
    match column.form:
        case "truth":
            if cell.lower() not in _TRUTHS:
                raise ValueError(f"is true or false, not {cell!r}")
            return _TRUTHS[cell.lower()]
        case "whole":
            return _integer(cell)
        case "markers":
            return tuple(
                "nan" if one.lower() == "nan" else _integer(one) for one in re.split(r"[\s,;]+", cell)
            )
        case "numbers":
            return tuple(re.sub(r",", ".", one) if comma else one for one in re.split(r"[\s;]+", cell))
        case "words":
            return tuple(one.lower() for one in re.split(r"[\s,;]+", cell))
    if column.choices and cell.lower() in column.choices:
        return cell.lower()
    if column.choices:
        raise ValueError(f"is one of {', '.join(column.choices)}, not {cell!r}")
    return cell.replace(",", ".") if comma and re.fullmatch(r"[+-]?\d*,\d+", cell) else cell


def _integer(cell: str) -> int:
    if _WHOLE.fullmatch(cell) is None:
        raise ValueError(f"is a whole number such as 48 or 0x30, not {cell!r}")
    text = cell.replace("_", "")
    return int(text, 16) if "x" in text.lower() else int(text)


def _said(detail: ErrorDetails) -> str:
    path = ".".join(str(part) for part in detail["loc"] if not str(part).startswith(("decimal", "literal")))
    match detail["type"]:
        case "missing":
            return f"column {path}: is empty, and every point needs it"
        case "is_instance_of":
            return f"column {path}: is a number such as 230 or 0.1, not {detail['input']!r}"
    text = detail["msg"].removeprefix("Value error, ")
    return f"column {path}: {text[:1].lower()}{text[1:]}, not {detail['input']!r}"
