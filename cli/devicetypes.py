"""`portico types`: which device types there are, what one says, and their points to and from a spreadsheet.

Relies on `drivers`. Not here: talking to a device (`cli.probe`), and the format (`docs/devices.md`).
"""

import codecs
import json
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from cli.typewords import order_lines, sense_lines
from core.errors import ConfigError
from drivers.modbus.plan import plan
from drivers.points import PointType
from drivers.pointtable import csv_text, read_csv
from drivers.types import DeviceType, Source, faults_of, known_types, load_type
from drivers.typetext import decimal, save_type

app = typer.Typer()

Types = Annotated[
    list[Path] | None,
    typer.Option("--types", help="Further directory of device types, looked into first; may be repeated."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
TypeName = Annotated[str, typer.Argument(metavar="TYPE", help="Name of a type, or a file NAME.toml.")]
MAX_BYTES = 4_000_000
"""Largest point table that is read."""


def find_type(name: str, extra: Sequence[Path] = ()) -> DeviceType:
    """Return a type by its name, or by the path of its file."""
    path = Path(name)
    if path.suffix != ".toml":
        return load_type(name, extra)
    if not path.is_file():
        raise ConfigError(f"there is no file {path}")
    return load_type(path.stem, [path.parent])


def unverified(kind: DeviceType) -> list[str]:
    """Return the names of the points that no source confirmed."""
    return [point.name for point in kind.points if not is_verified(kind, point)]


def is_verified(kind: DeviceType, point: PointType) -> bool:
    """Tell whether a source confirmed a point."""
    return kind.source.verified if point.verified is None else point.verified


@app.command("list", epilog="Example: portico types list --json")
def list_types(types: Types = None, as_json: AsJson = False) -> None:
    """List all device types."""
    kinds = [load_type(name, types or ()) for name in known_types(types or ())]
    if as_json:
        typer.echo(json.dumps([_summary(kind) for kind in kinds], indent=2))
        return
    shown = Table(box=None)
    for heading in ("type", "device", "kind", "points", "by default", "confirmed"):
        right = heading in ("points", "by default")
        shown.add_column(heading, justify="right" if right else "left", no_wrap=heading != "device")
    for kind in kinds:
        missing = unverified(kind)
        confirmed = "yes" if not missing else "no" if len(missing) == len(kind.points) else "in part"
        polled = sum(point.default for point in kind.points)
        device = escape(f"{kind.manufacturer} {kind.model}")
        shown.add_row(kind.name, device, kind.kind, str(len(kind.points)), str(polled), confirmed)
    wide_console().print(shown)


def wide_console() -> Console:
    """Return a console for tables, which are not squeezed into 80 columns where there is no terminal."""
    return Console(width=None if sys.stdout.isatty() else 160)


@app.command("show", epilog="Example: portico types show eastron-sdm630")
def show_type(name: TypeName, types: Types = None, as_json: AsJson = False) -> None:
    """Show one device type: its source, and each point with its registers."""
    kind = find_type(name, types or ())
    if as_json:
        whole = kind.model_dump(mode="json", by_alias=True, exclude_none=True)
        typer.echo(json.dumps(whole, indent=2, ensure_ascii=False))
        return
    console = wide_console()
    console.print(f"[bold]{escape(kind.name)}[/]: {escape(kind.manufacturer)} {escape(kind.model)}")
    console.print(escape(kind.description))
    console.print(f"source: {escape(source_in_words(kind.source))}")
    polled = [point for point in kind.points if point.default]
    requests = len(plan(polled or kind.told, kind.limits, kind.blocks))
    console.print(f"read by default: {len(polled)} of {len(kind.points)} points in {requests} requests")
    console.print(point_table(kind))
    for heading, lines in (("orders", list(order_lines(kind))), ("over time", list(sense_lines(kind)))):
        if lines:
            console.print(f"[bold]{heading}[/]")
        for line in lines:
            console.print(f"  {escape(line)}", soft_wrap=True, highlight=False)
    missing = unverified(kind)
    if missing:
        console.print(f"? no source confirmed: {escape(', '.join(missing))}", style="yellow", soft_wrap=True)


def source_in_words(source: Source) -> str:
    """Return what a type's source is, on one line."""
    edition = f", {source.edition}" if source.edition else ""
    doubt = "" if source.verified else "; NOT CONFIRMED by any source"
    return f"{source.title}{edition}; {source.where}; read {source.read.isoformat()}{doubt}"


def point_table(kind: DeviceType) -> Table:
    """Return the points of a type for people."""
    shown = Table(box=None)
    for heading in ("point", "unit", "table", "address", "type", "scale", "range", "default", "write"):
        right = heading == "address"
        shown.add_column(heading, justify="right" if right else "left", overflow="fold", no_wrap=right)
    for point in kind.points:
        ends = [decimal(end) if end is not None else "" for end in (point.low, point.high)]
        write = point.write
        scale = point.resolution if point.resolution is not None else point.scale
        shown.add_row(
            escape(point.name) + ("" if is_verified(kind, point) else " ?"),
            escape(point.unit),
            point.table.value,
            str(point.address),
            point.type.value + (f" {point.bit}" if point.bit is not None else ""),
            "" if scale == 1 else decimal(scale),
            " to ".join(ends) if any(ends) else "",
            "yes" if point.default else "" if point.readable else "never",
            write.limits if write else "",
        )
    return shown


def _summary(kind: DeviceType) -> dict[str, object]:
    return {
        "name": kind.name,
        "manufacturer": kind.manufacturer,
        "model": kind.model,
        "kind": kind.kind,
        "points": len(kind.points),
        "default": sum(point.default for point in kind.points),
        "unverified": unverified(kind),
        "source": kind.source.where,
    }


@app.command("export", epilog="Example: portico types export eastron-sdm630 -o points.csv")
def export_points(
    name: TypeName,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File to write; without it, standard output.")
    ] = None,
    separator: Annotated[
        str, typer.Option("--separator", help="comma, semicolon (with decimal commas) or tab.")
    ] = "comma",
    every_column: Annotated[
        bool, typer.Option("--all-columns", help="Also the columns that no point uses.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Write over a file that is there.")] = False,
    types: Types = None,
) -> None:
    """Write the points of a type as a CSV table, one row a point. The table holds no comments."""
    sign = {"comma": ",", "semicolon": ";", "tab": "\t"}.get(separator)
    if sign is None:
        raise ConfigError(f"--separator is comma, semicolon or tab, not {separator!r}")
    text = csv_text(find_type(name, types or ()).points, sign, every_column)
    if output is None:
        sys.stdout.write(text.replace("\r\n", "\n"))
        return
    if output.exists() and not force:
        raise ConfigError(f"{output} is there already; give another name, or --force to write over it")
    try:
        # The mark tells spreadsheets that the file is UTF-8.
        output.write_text(text, "utf-8-sig", newline="")
    except OSError as error:
        raise ConfigError(f"{output} cannot be written: {error.strerror or error}") from error
    typer.echo(f"{output}: {text.count(chr(10)) - 1} points")


@app.command("import", epilog="Example: portico types import points.csv -o types/my-meter.toml --kind meter")
def import_points(
    table: Annotated[Path, typer.Argument(metavar="TABLE", help="CSV table of points.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="File to write, NAME.toml.")],
    like: Annotated[
        str | None, typer.Option("--like", help="Type whose description, limits and blocks hold here too.")
    ] = None,
    manufacturer: Annotated[str | None, typer.Option(help="Who makes the device.")] = None,
    model: Annotated[str | None, typer.Option(help="Which one it is.")] = None,
    kind: Annotated[
        str | None, typer.Option(help="meter, relay, inverter, battery, charger or counter.")
    ] = None,
    source: Annotated[
        str | None, typer.Option("--source", help="Title of the document from which the table was made.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Write over a file that is there.")] = False,
    types: Types = None,
) -> None:
    """Make a device type from a CSV table of points: not confirmed until somebody says so in the file."""
    points = read_csv(_text(table), str(table))
    base = find_type(like, types or ()) if like is not None else None
    given = {"manufacturer": manufacturer, "model": model, "kind": kind}
    today = datetime.now(UTC).date()
    fresh = Source(title=source or f"point table {table.name}", where=table.name, read=today, verified=False)
    made = assembled(output.stem, points, base, given, fresh)
    faults = faults_of(made)
    if faults:
        raise ConfigError(
            f"{table}: its points make no device type:", tuple(f"{table}: {fault}" for fault in faults)
        )
    if save_type(output, made, [f"Made from the point table {table.name}."], replace=force):
        typer.echo(folder_made(output))
    typer.echo(f"{output}: {len(points)} points" + ("" if made.source.verified else ", not confirmed"))


def folder_made(path: Path) -> str:
    """Return what is told of a folder that was made for a type, in case its name was a slip."""
    return f"the folder {path.parent} was not there and was made"


def assembled(
    name: str,
    points: tuple[PointType, ...],
    base: DeviceType | None,
    given: dict[str, str | None],
    source: Source,
) -> DeviceType:
    """Return a type of these points; where ``base`` has the very same ones, its source holds for it too."""
    if base is not None and base.points == points:
        source = base.source
    said = {key: value for key, value in given.items() if value is not None}
    if base is not None:
        whole = {key: getattr(base, key) for key in DeviceType.model_fields}
    else:
        whole = {
            "manufacturer": "unknown",
            "model": name,
            "description": source.title,
            "kind": "meter",
        }
    whole |= {**said, "name": name, "source": source, "points": points}
    try:
        return DeviceType.model_validate(whole)
    except ValidationError as error:
        raise ConfigError(
            f"--{error.errors()[0]['loc'][0]}: is not possible",
            tuple(f"--{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()),
        ) from error


def _text(table: Path) -> str:
    try:
        body = table.read_bytes()
    except OSError as error:
        raise ConfigError(f"{table} cannot be read: {error.strerror or error}") from error
    if len(body) > MAX_BYTES:
        raise ConfigError(f"{table} has {len(body)} bytes; is it a point table?")
    # What a spreadsheet calls "Unicode text" is UTF-16 with a mark; without one it is mostly zero bytes.
    marked = body.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    for encoding in ("utf-16",) if marked else ("utf-8-sig", "cp1252"):
        try:
            text = body.decode(encoding)
        except UnicodeDecodeError:
            continue
        if "\0" not in text:
            return text
    raise ConfigError(f"{table} is no text; save it as CSV in UTF-8")
