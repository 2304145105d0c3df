"""``portico store``: look into a gateway's store, also while its agent runs.

Relies on :mod:`agent.store.look` and :mod:`agent.store.verify`; here are only
arguments, their help and what is printed.
"""

import csv
import json
import re
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Final, TextIO

import typer
from rich.console import Console

from agent.folding import folding
from agent.store.look import Look, Seen, SeenRow
from agent.store.recordfile import Stored
from agent.store.registers import RegisterLook
from agent.store.verify import verify as judge
from agent.wholefile import whole_file
from core.errors import ConfigError
from core.intervals import LENGTHS, Interval, intervals, last_needed
from core.ranges import RangeSet
from core.registers import Scale

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Look into the gateway's store.",
)

Directory = Annotated[Path, typer.Argument(metavar="DIR", help="The gateway's data_dir.")]
AsJson = Annotated[bool, typer.Option("--json", help="JSON for programs.")]
Device = Annotated[str, typer.Option(help="Only this device.")]
FOLLOW_S: Final = 0.5
WIDE: Final = 200
"""Columns where nobody watches, so that nothing is cut in a file or a pipe."""
COLUMNS: Final = (
    "time",
    "device",
    "point",
    "value",
    "unit",
    "quality",
    "owners",
    "answered",
    "epoch",
    "sequence",
)


@app.command(epilog="Example: portico store stats var/gw-0001")
def stats(directory: Directory, as_json: AsJson = False) -> None:
    """How much there is, of which groups, what each route still waits for, how much room it takes."""
    with Look(directory) as look:
        low, top = look.edges()
        groups, others = look.counts()
        routes = [
            {
                "name": route.name,
                "entity": route.entity,
                "books": route.books,
                "n": route.n,
                "unconfirmed": sum(b - a + 1 for a, b in RangeSet(route.held).missing(low, top))
                if top
                else 0,
            }
            for route in look.routes().values()
        ]
        found = {
            "directory": str(directory),
            "agent_runs": look.agent_runs(),
            "gateways": sorted({manifest.gateway for manifest in look.manifests.values()}),
            "epochs": len(look.epochs),
            "epoch": look.epochs[-1].epoch if look.epochs else None,
            "rows": sum(group.rows for group in groups),
            "other_records": others,
            "ids": [low, top],
            "groups": [
                {
                    "group": group.key,
                    "device": group.device,
                    "every_ms": group.every_ms,
                    "rows": group.rows,
                    "first": instant(group.first_tick),
                    "last": instant(group.last_tick),
                }
                for group in groups
            ],
            "routes": routes,
            "bytes": look.sizes(),
        }
    if as_json:
        typer.echo(json.dumps(found))
    else:
        _show_stats(found)


def _show_stats(found: dict[str, object]) -> None:
    console = _console()
    gateways, runs = found["gateways"], found["agent_runs"]
    assert isinstance(gateways, list)
    console.print(
        f"{', '.join(gateways) or 'no gateway yet'} in {found['directory']}: {found['rows']} rows and "
        f"{found['other_records']} other records of {found['epochs']} epochs; "
        f"an agent {'is running' if runs else 'does not run'} here",
        soft_wrap=True,
    )
    table = folding("group", "device", "every ms", "rows", "first", "last")
    groups = found["groups"]
    assert isinstance(groups, list)
    for group in groups:
        table.add_row(*(str(value) for value in group.values()))
    console.print(table)
    routes = found["routes"]
    assert isinstance(routes, list)
    if routes:
        table = folding("route", "entity", "books", "confirmation", "unconfirmed records")
        for route in routes:
            table.add_row(*(str(value) for value in route.values()))
        console.print(table)
    sizes = found["bytes"]
    assert isinstance(sizes, dict)
    table = folding("part", "bytes")
    for part, size in sizes.items():
        table.add_row(part.replace("_", " "), f"{size:,}")
    console.print(table)


@app.command(epilog="Example: portico store tail var/gw-0001 -n 5 --device main-meter --follow")
def tail(
    directory: Directory,
    number: Annotated[int, typer.Option("-n", min=1, max=100_000, help="How many rows.")] = 10,
    device: Device = "",
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until Ctrl-C.")] = False,
    as_json: AsJson = False,
) -> None:
    """The latest rows, one a line, values as they are meant."""
    with _until_interrupted(), Look(directory) as look:
        _, top = look.edges()
        for row in _latest(look, top, number, device):
            _print_row(row, as_json)
        while follow:
            time.sleep(FOLLOW_S)
            _, now = look.edges()
            for row in _rows(look, top + 1, now, device):
                _print_row(row, as_json)
            top = max(top, now)


def _latest(look: Look, top: int, number: int, device: str) -> list[SeenRow]:
    """Return the latest rows, looking back in growing steps."""
    found: list[SeenRow] = []
    low, _ = look.edges()
    end, step = top, max(number * 4, 100)
    while end >= low and len(found) < number:
        begin = max(low, end - step + 1)
        found = [*_rows(look, begin, end, device), *found]
        end, step = begin - 1, min(step * 2, 10_000)
    return found[-number:]


def _rows(look: Look, first: int, last: int, device: str) -> Iterator[SeenRow]:
    for stored in look.records(first, last):
        if _may_be(look, stored, device):
            yield look.row(stored)


def _may_be(look: Look, stored: Stored, device: str) -> bool:
    if stored.grp <= 0:
        return False
    group = look.group_of(stored.id, stored.grp) if device else None
    return not device or (group is not None and group.device == device)


def _print_row(row: SeenRow, as_json: bool) -> None:
    if as_json:
        typer.echo(
            json.dumps(
                {
                    "time": instant(row.tick),
                    "device": row.group.device,
                    "epoch": row.epoch,
                    "sequence": row.sequence,
                    "owners": row.owners,
                    "values": {seen.point: plain(seen.value) for seen in row.values},
                    "quality": {seen.point: seen.quality for seen in row.values if seen.quality},
                }
            )
        )
        return
    values = "  ".join(f"{seen.point} {text(seen)}" for seen in row.values)
    typer.echo(f"{instant(row.tick)}  {row.group.device}  #{row.sequence}  {values}")


@app.command(epilog="Example: portico store export var/gw-0001 --from -2h --device main-meter -o day.csv")
def export(
    directory: Directory,
    begin: Annotated[str, typer.Option("--from", help="First instant: 2026-11-22T10:00:00Z, or -2h.")] = "",
    end: Annotated[str, typer.Option("--to", help="End, exclusive: as --from.")] = "",
    device: Device = "",
    as_csv: Annotated[bool, typer.Option("--csv", help="CSV, a line a reading (the default).")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="A JSON object a line, a line a reading.")] = False,
    out: Annotated[Path | None, typer.Option("-o", help="Write into this file; - is stdout.")] = None,
) -> None:
    """Every reading of a time, values exact; a little at a time, so that the agent is not held up."""
    if as_csv and as_json:
        raise ConfigError("--csv and --json exclude each other: give one of them")
    now = time.time_ns() // 1_000_000
    first = parse_instant(begin, now, "--from") if begin else -(1 << 62)
    last = parse_instant(end, now, "--to") if end else 1 << 62
    with _until_interrupted(), Look(directory) as look:
        if device and all(
            group.device != device for manifest in look.manifests.values() for group in manifest.groups
        ):
            raise ConfigError(
                f"no device {device!r} in {directory}: `portico store stats {directory}` lists them"
            )
        with _opened(out) as stream:
            write = JsonLines(stream) if as_json else CsvLines(stream)
            for stored in look.records(*look.edges()):
                if first <= stored.tick < last and _may_be(look, stored, device):
                    row = look.row(stored)
                    for seen in row.values:
                        write.reading(row, seen)


class CsvLines:
    """Writes readings as CSV (RFC 4180)."""

    def __init__(self, stream: TextIO) -> None:
        self._writer = csv.writer(stream)
        self._writer.writerow(COLUMNS)

    def reading(self, row: SeenRow, seen: Seen) -> None:
        value = "" if seen.value is None else plain(seen.value)
        found = {**_fields(row, seen), "value": value}
        self._writer.writerow(
            " ".join(one) if isinstance(one, list) else one for one in (found[name] for name in COLUMNS)
        )


class JsonLines:
    """Writes readings as JSON, one a line."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def reading(self, row: SeenRow, seen: Seen) -> None:
        self._stream.write(json.dumps(_fields(row, seen)) + "\n")


def _fields(row: SeenRow, seen: Seen) -> dict[str, object]:
    return {
        "time": instant(row.tick),
        "device": seen.device,
        "point": seen.point,
        "value": plain(seen.value),
        "unit": seen.unit,
        "quality": list(seen.quality),
        "owners": list(row.owners),
        "answered": instant(seen.answered_ms),
        "epoch": row.epoch,
        "sequence": row.sequence,
    }


@app.command(
    "intervals",
    epilog="Example: portico store intervals var/gw-0001 --device main-meter --point TotWhImp --every 15min",
)
def list_intervals(
    directory: Directory,
    device: Annotated[str, typer.Option(help="The device.")],
    point: Annotated[str, typer.Option(help="A register of it that only grows.")],
    every: Annotated[str, typer.Option(help="5min, 15min, 30min or 60min.")] = "15min",
    begin: Annotated[str, typer.Option("--from", help="First instant: 2026-11-22T10:00:00Z, or -2h.")] = "",
    end: Annotated[str, typer.Option("--to", help="End, exclusive: as --from.")] = "",
    tolerance: Annotated[
        int | None, typer.Option(min=0, help="Seconds by which an edge value may be late; else one poll.")
    ] = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="CSV.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="A JSON object a line.")] = False,
) -> None:
    """What a register counted in each interval of the clock (UTC): for views, bills are the head-end's."""
    if as_csv and as_json:
        raise ConfigError("--csv and --json exclude each other: give one of them")
    length = LENGTHS.get(every)
    if length is None:
        raise ConfigError(f"--every {every!r} is no length of intervals: give one of {', '.join(LENGTHS)}")
    now = time.time_ns() // 1_000_000
    first = parse_instant(begin, now, "--from") if begin else None
    last = parse_instant(end, now, "--to") if end else None
    with _until_interrupted(), Look(directory) as look:
        register = RegisterLook(look, device, point, None if tolerance is None else tolerance * 1000)
        samples = register.samples(
            -(1 << 62) if first is None else first, 1 << 62 if last is None else last_needed(length, last)
        )
        writer = csv.writer(sys.stdout) if as_csv else None
        if writer is not None:
            writer.writerow(INTERVAL_COLUMNS)
        for one in intervals(samples, length, first, last):
            found = _interval_fields(one, device, point, register.scale)
            if as_json:
                typer.echo(json.dumps(found))
            elif writer is not None:
                found["reasons"] = " ".join(one.reasons)
                writer.writerow("" if value is None else value for value in found.values())
            else:
                amount = f"{found['amount'] or '-':>14} {register.scale.unit}"
                typer.echo(
                    f"{found['start']}  {amount}  {found['quality']}  {' '.join(one.reasons)}".rstrip()
                )


INTERVAL_COLUMNS: Final = (
    "start",
    "end",
    "device",
    "point",
    "amount",
    "unit",
    "quality",
    "reasons",
    "samples",
)


def _interval_fields(one: Interval, device: str, point: str, scale: Scale) -> dict[str, object]:
    return dict(
        zip(
            INTERVAL_COLUMNS,
            (
                instant(one.start_ms),
                instant(one.end_ms),
                device,
                point,
                plain(scale.amount(one.steps)),
                scale.unit,
                one.completeness.value,
                list(one.reasons),
                one.good,
            ),
            strict=True,
        )
    )


@app.command(epilog="Example: portico store verify var/gw-0001")
def verify(directory: Directory, as_json: AsJson = False) -> None:
    """Check every record and that none is missing without a word; exit 1 with sentences when not.

    On a running agent the log of the store grows while SQLite's own check runs.
    """
    with Look(directory) as look:
        verdict = judge(look)
    if as_json:
        typer.echo(
            json.dumps(
                {
                    "ok": verdict.ok,
                    "records": verdict.records,
                    "rows": verdict.rows,
                    "gap_ticks": verdict.gap_ticks,
                    "fault_count": verdict.fault_count,
                    "faults": verdict.faults,
                    "lost": {epoch: [*found] for epoch, found in verdict.lost.items()},
                }
            )
        )
    else:
        for sentence in verdict.sentences():
            typer.echo(sentence)
    raise typer.Exit(0 if verdict.ok else 1)


def plain(value: Decimal | str | bool | None) -> str | bool | None:
    """Return a value for JSON and CSV: numbers as text, so that no reader rounds them."""
    return f"{value:f}" if isinstance(value, Decimal) else value


def text(seen: Seen) -> str:
    """Return a value with unit and quality for a person."""
    if seen.value is None:
        shown = "-"
    else:
        shown = str(plain(seen.value)) + (f" {seen.unit}" if seen.unit not in ("", "1") else "")
    return f"{shown} [{' '.join(seen.quality)}]" if seen.quality else shown


_SPAN: Final = re.compile(r"-(\d{1,6})(s|min|m|h|d)")
_UNIT_MS: Final = {"s": 1000, "min": 60_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}


def parse_instant(given: str, now_ms: int, what: str) -> int:
    """Return UTC ms since 1970 for an instant of ISO 8601 with its zone, a day, or a span back from now."""
    span = _SPAN.fullmatch(given)
    if span is not None:
        return now_ms - int(span[1]) * _UNIT_MS[span[2]]
    try:
        at = datetime.fromisoformat(given)
    except ValueError:
        raise ConfigError(
            f"{what} {given!r} is no instant: write 2026-11-22T10:00:00Z, 2026-11-22, "
            "or -30s, -15min, -2h, -7d for so long ago"
        ) from None
    if at.tzinfo is None:
        if len(given) != len("2026-11-22"):
            raise ConfigError(f"{what} {given!r} states no time zone: put Z or +01:00 behind it")
        at = at.replace(tzinfo=UTC)
    return int(at.timestamp() * 1000)


def instant(at_ms: int) -> str:
    """Return an instant as ISO 8601 in UTC, with milliseconds where there are some."""
    try:
        at = datetime.fromtimestamp(at_ms // 1000, UTC)
    except (ValueError, OverflowError, OSError):
        return f"{at_ms} ms since 1970"
    return f"{at:%Y-%m-%dT%H:%M:%S}{f'.{at_ms % 1000:03d}' if at_ms % 1000 else ''}Z"


def _console() -> Console:
    return Console() if Console().is_terminal else Console(width=WIDE)


@contextmanager
def _until_interrupted() -> Iterator[None]:
    """End quietly when the person has seen enough; a reader that has is met by `cli.main`."""
    try:
        yield
    except KeyboardInterrupt:
        raise typer.Exit(0) from None


def _opened(out: Path | None) -> AbstractContextManager[TextIO]:
    """Give standard output, or a file that gets its name when it is whole."""
    return nullcontext(sys.stdout) if out is None or out == Path("-") else whole_file(out)
