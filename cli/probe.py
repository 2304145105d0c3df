"""`portico probe`: what is on a line, what a device says, and what it is, before anything is configured.

Reads only, never writes.  Relies on `drivers` for the asking and on `cli.probe_view` for the look.
Not here: configuration and polling (`agent`), device types as such (`cli.devicetypes`).
"""

import asyncio
import json
import re
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, cast

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from certs.contexts import client_context
from cli import probe_view as view
from cli.devicetypes import Types, find_type, folder_made, wide_console
from cli.typewords import order_points
from core.errors import ConfigError, NoAnswer
from core.ids import name_fault
from drivers.linescan import UNIT_IDS, Unit, ignores_unit_ids, scan
from drivers.modbus.lineurl import LinkUrl
from drivers.modbus.link import Link
from drivers.modbus.links import LineOptions, open_link
from drivers.modbus.wires import SerialSettings
from drivers.patientread import PatientReader
from drivers.points import PointType, duration_ms
from drivers.probe import probe, with_scales
from drivers.recognition import Guess, Witness, recognise
from drivers.sunspec.devicetype import Described, describe
from drivers.sunspec.discovery import BASES, Discovery, discover
from drivers.types import DeviceType, known_types, load_type
from drivers.typetext import save_type

T = TypeVar("T")
SCAN_TIMEOUT = "300ms"
BAUDS = range(300, 1_000_001)


@dataclass(frozen=True, slots=True)
class _Asked:
    """What every way of probing needs."""

    link: Link
    url: str
    unit_id: int
    timeout_s: float | None
    """None: as the type, or the way of asking, has it."""
    retries: int
    types: Sequence[Path]
    as_json: bool


def command(
    url: Annotated[str, typer.Argument(metavar="URL", help="Line, such as modbus+tcp://192.168.1.20.")],
    unit: Annotated[int, typer.Option("--unit", "-u", min=0, max=255, help="Unit id of the device.")] = 1,
    type_name: Annotated[
        str | None,
        typer.Option("--type", "-t", help="Device type, or a file NAME.toml; without it, types are guessed."),
    ] = None,
    points: Annotated[
        list[str] | None, typer.Option("--point", "-p", help="Only this point; may be repeated.")
    ] = None,
    every_point: Annotated[
        bool, typer.Option("--all", help="Also the points that are not read by default.")
    ] = False,
    raw: Annotated[bool, typer.Option("--raw", help="Show the registers in hexadecimal.")] = False,
    scan_line: Annotated[
        bool, typer.Option("--scan", help="Find the unit ids that answer, and what they may be.")
    ] = False,
    units: Annotated[
        str, typer.Option("--units", help="Unit ids to scan, such as 1-32 or 1,5,100-110.")
    ] = "1-247",
    sunspec: Annotated[
        bool, typer.Option("--sunspec", help="Discover the SunSpec models of the device.")
    ] = False,
    base: Annotated[
        int | None, typer.Option("--base", min=0, max=65533, help="Register of SunSpec's marker, if unusual.")
    ] = None,
    write: Annotated[
        Path | None, typer.Option("--write", help="With --sunspec: file NAME.toml for the device type.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Write over a file that is there.")] = False,
    timeout: Annotated[
        str | None, typer.Option("--timeout", help="Wait for an answer, such as 500ms or 2s.")
    ] = None,
    retries: Annotated[
        int, typer.Option("--retries", min=0, max=10, help="Repetitions when no answer comes.")
    ] = 1,
    types: Types = None,
    baud: Annotated[int, typer.Option("--baud", help="Of a serial line.")] = 9600,
    parity: Annotated[str, typer.Option("--parity", help="Of a serial line: none, even or odd.")] = "none",
    stop_bits: Annotated[int, typer.Option("--stop-bits", min=1, max=2, help="Of a serial line.")] = 1,
    echo: Annotated[bool, typer.Option("--echo", help="The adapter returns what is sent.")] = False,
    ca: Annotated[Path | None, typer.Option("--ca", help="For TLS: certificate of the authority.")] = None,
    cert: Annotated[Path | None, typer.Option("--cert", help="For TLS: our certificate.")] = None,
    key: Annotated[Path | None, typer.Option("--key", help="For TLS: our key.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Read a device once, find out what it is, or find the devices of a line. Nothing is written to them.

    Exit code: 0 when everything asked for was answered, 1 when not, 2 for wrong use.
    """
    wanted = [
        name for name, on in (("--type", type_name), ("--scan", scan_line), ("--sunspec", sunspec)) if on
    ]
    if len(wanted) > 1:
        raise ConfigError(f"{' and '.join(wanted)} do not go together: ask for one of them")
    if write is not None:
        check_target(write, sunspec, force)
    if (points or every_point) and type_name is None:
        raise ConfigError("--point and --all need --type: points belong to a device type")
    chosen = parsed_units(units)
    options = LineOptions(
        serial=_serial(baud, parity, stop_bits),
        echo=echo,
        tls=partial(client_context, ca, cert, key) if ca and cert and key else None,
    )
    link = open_link(LinkUrl.parse(url), options)
    asked = _Asked(link, url, unit, _seconds(timeout), retries, types or (), as_json)
    if type_name is not None:
        work = read_once(asked, find_type(type_name, types or ()), points or [], every_point, raw)
    elif scan_line:
        work = find_units(asked, chosen)
    elif sunspec:
        work = discover_sunspec(asked, BASES if base is None else (base,), write, force)
    else:
        work = guess_type(asked)
    raise typer.Exit(asyncio.run(_closing(link, work)))


async def _closing(link: Link, work: Coroutine[Any, Any, T]) -> T:
    try:
        return await work
    finally:
        await link.close()


async def read_once(
    asked: _Asked, kind: DeviceType, names: Sequence[str], every_point: bool, raw: bool
) -> int:
    """Read a device as a type says, and show it; return the exit code."""
    points = chosen_points(kind, names, every_point)
    found = await probe(asked.link, asked.unit_id, kind, points, asked.timeout_s, asked.retries)
    if asked.as_json:
        _print_json(view.probe_as_json(asked.url, asked.unit_id, kind, found))
    else:
        view.print_probe(wide_console(), kind, found, raw)
    return 0 if found.complete else 1


async def find_units(asked: _Asked, units: Sequence[int]) -> int:
    """Find the units of a line and what they may be, and show them; return the exit code."""
    kinds = _kinds(asked.types)
    timeout_s = asked.timeout_s or duration_ms(SCAN_TIMEOUT) / 1000
    errors = Console(stderr=True)
    with Progress(
        TextColumn("unit ids"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[found]} found"),
        console=errors,
        transient=True,
        disable=not errors.is_terminal,
    ) as shown:
        task = shown.add_task("scan", total=len(units), found=0)
        count = 0

        def step(_: int, unit: Unit | None) -> None:
            nonlocal count
            count += unit is not None
            shown.update(task, advance=1, found=count)

        found = await scan(asked.link, units, timeout_s, asked.retries, step)
    alone = ignores_unit_ids(found, units)
    guesses: dict[int, tuple[Guess, ...]] = {}
    for unit in found[:1] if alone else found:
        guesses[unit.unit_id] = await recognise(
            Witness(asked.link, unit.unit_id, max(timeout_s, 1.0) if asked.timeout_s is None else timeout_s),
            kinds,
        )
    if asked.as_json:
        _print_json(view.scan_as_json(asked.url, units, found, guesses, alone))
    else:
        view.print_scan(wide_console(), asked.url, units, found, guesses, alone)
    return 0 if found else 1


async def guess_type(asked: _Asked) -> int:
    """Find out which types a device may be, and show them; return the exit code."""
    witness = Witness(asked.link, asked.unit_id, asked.timeout_s or 1.0)
    guesses = await recognise(witness, _kinds(asked.types))
    if not witness.answered:
        raise NoAnswer(
            f"unit {asked.unit_id} at {asked.url} answers nothing: is the unit id right? try --scan"
        )
    if asked.as_json:
        _print_json({"url": asked.url, "unit_id": asked.unit_id, "types": view.guesses_as_json(guesses)})
    else:
        view.print_guesses(wide_console(), asked.url, asked.unit_id, guesses)
    return 0 if guesses else 1


async def discover_sunspec(asked: _Asked, bases: Sequence[int], write: Path | None, force: bool) -> int:
    """Discover a device's SunSpec models, show them, and write a device type; return the exit code."""
    reader = PatientReader(asked.link, asked.unit_id, asked.timeout_s or 1.0, retries=asked.retries)
    found = await discover(reader, bases)
    made = describe(found, write.stem if write is not None else "sunspec", datetime.now(UTC).date())
    fresh = write is not None and save_type(write, made.type, made.heading, made.notes, force)
    _show_sunspec(asked, found, made, write)
    if write is not None and fresh and not asked.as_json:
        typer.echo(folder_made(write))
    return 0


def _show_sunspec(asked: _Asked, found: Discovery, made: Described, write: Path | None) -> None:
    if asked.as_json:
        _print_json(view.sunspec_as_json(asked.url, asked.unit_id, found, made, write))
    else:
        view.print_sunspec(wide_console(), found, made, write)


def chosen_points(kind: DeviceType, names: Sequence[str], every_point: bool) -> list[PointType]:
    """Return the points that are to be read."""
    if names:
        known = {point.name for point in kind.points}
        missing = [name for name in names if name not in known]
        if missing:
            raise ConfigError(
                f"{kind.name} has no point {', '.join(missing)}; portico types show {kind.name} lists them"
            )
        written = [name for name in names if not kind.point(name).readable]
        if written:
            raise ConfigError(
                f"{kind.name} only takes {', '.join(written)} and never tells it: nothing to read"
            )
        return with_scales(kind, [point for point in kind.points if point.name in names])
    wanted = order_points(kind)
    return with_scales(
        kind,
        [point for point in kind.told if point.default or every_point or point.name in wanted] or kind.told,
    )


def check_target(write: Path, sunspec: bool, force: bool) -> None:
    """Refuse a file that could not become the device type, before anything is asked."""
    if not sunspec:
        raise ConfigError("--write goes with --sunspec: there is nothing else to write")
    fault = "" if write.suffix == ".toml" else "does not end in .toml"
    fault = fault or name_fault(write.stem) or ""
    if fault:
        raise ConfigError(f"--write: the name of {write} {fault}; write for example types/site-inverter.toml")
    if write.exists() and not force:
        raise ConfigError(f"{write} is there already; give another name, or --force to write over it")


def parsed_units(text: str) -> list[int]:
    """Return unit ids in a text such as ``1-32`` or ``1,5,100-110``; ``ConfigError`` for anything else."""
    found: set[int] = set()
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d{1,3})(?:\s*-\s*(\d{1,3}))?\s*", part)
        first = int(match[1]) if match else 0
        last = int(match[2]) if match and match[2] else first
        if not match or first not in UNIT_IDS or last not in UNIT_IDS or first > last:
            raise ConfigError(f"--units {text!r}: write unit ids from 1 to 247 such as 1-32 or 1,5,100-110")
        found.update(range(first, last + 1))
    return sorted(found)


def _kinds(extra: Sequence[Path]) -> list[DeviceType]:
    return [load_type(name, extra) for name in known_types(extra)]


def _serial(baud: int, parity: str, stop_bits: int) -> SerialSettings:
    if parity not in ("none", "even", "odd"):
        raise ConfigError(f"--parity is none, even or odd, not {parity!r}")
    if baud not in BAUDS:
        raise ConfigError(f"--baud is {BAUDS[0]} to {BAUDS[-1]}, not {baud}")
    sort = cast("Literal['none', 'even', 'odd']", parity)
    return SerialSettings(baud, sort, 2 if stop_bits == 2 else 1)


def _seconds(text: str | None) -> float | None:
    if text is None:
        return None
    try:
        return duration_ms(text) / 1000
    except ValueError as error:
        raise ConfigError(f"--timeout: {error}") from error


def _print_json(whole: object) -> None:
    typer.echo(json.dumps(whole, ensure_ascii=False))
