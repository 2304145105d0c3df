"""`portico headend intervals`: what registers counted, for bills.

Relies on `headend.intervals`; here are only arguments, their help and what is printed.
"""

from __future__ import annotations

import csv
import json
import sys
from typing import Annotated, Final

import typer

from core.errors import ConfigError
from core.intervals import LENGTHS, Interval
from core.registers import Scale
from headend.cli_options import DEFAULT_CONFIG, BooksFile, Config, Json, books_path, now_ms
from headend.instants import instant, parse_instant
from headend.intervals import billing_intervals
from headend.readings import Selection
from headend.schema import open_reader, translated
from headend.shown import value_text

app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False)

COLUMNS: Final = ("start", "end", "amount", "unit", "quality", "reasons", "samples")


@app.command(
    "intervals",
    epilog="Example: portico headend intervals --usage-point UP-4711 --point TotWhImp --every 15min --csv",
)
def list_intervals(
    point: Annotated[str, typer.Option(help="A register that only grows.")],
    config: Config = DEFAULT_CONFIG,
    books: BooksFile = None,
    usage_point: Annotated[str, typer.Option(help="At this usage point, over all its meters.")] = "",
    device: Annotated[str, typer.Option(help="Of this device.")] = "",
    gateway: Annotated[str, typer.Option(help="Of this gateway.")] = "",
    every: Annotated[str, typer.Option(help="5min, 15min, 30min or 60min.")] = "15min",
    begin: Annotated[
        str | None, typer.Option("--from", help="First instant: 2026-11-22T10:00Z or -2h.")
    ] = None,
    end: Annotated[str | None, typer.Option("--to", help="End, not included.")] = None,
    tolerance: Annotated[
        int | None, typer.Option(min=0, help="Seconds by which an edge value may be late; else one poll.")
    ] = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="Write CSV.")] = False,
    as_json: Json = False,
) -> None:
    """Billing intervals: amounts exact, aligned to the clock (UTC), by the quality that counts now."""
    at = now_ms()
    length = LENGTHS.get(every)
    if length is None:
        raise ConfigError(f"--every {every!r} is no length of intervals: give one of {', '.join(LENGTHS)}")
    selection = Selection(
        from_ms=None if begin is None else parse_instant(begin, at, "--from"),
        to_ms=None if end is None else parse_instant(end, at, "--to"),
        usage_point=usage_point,
        device=device,
        gateway=gateway,
        point=point,
    )
    path = books_path(config, books)
    connection = open_reader(path)
    writer = csv.writer(sys.stdout, lineterminator="\r\n") if as_csv and not as_json else None
    with translated(path):
        found = billing_intervals(
            connection, selection, length, None if tolerance is None else tolerance * 1000
        )
        if writer is not None:
            writer.writerow(COLUMNS)
        for one in found.intervals:
            fields = as_fields(one, found.scale)
            if as_json:
                typer.echo(json.dumps(fields))
            elif writer is not None:
                fields["reasons"] = " ".join(one.reasons)
                writer.writerow("" if value is None else value for value in fields.values())
            else:
                amount = f"{fields['amount'] or '-':>14} {found.scale.unit}"
                line = f"{fields['start']}  {amount}  {fields['quality']}  {' '.join(one.reasons)}"
                typer.echo(line.rstrip())
    connection.close()


def as_fields(one: Interval, scale: Scale) -> dict[str, object]:
    """Return an interval by the names of :data:`COLUMNS`; amounts as text, so that no reader rounds them."""
    amount = scale.amount(one.steps)
    return {
        "start": instant(one.start_ms),
        "end": instant(one.end_ms),
        "amount": None if amount is None else value_text(amount),
        "unit": scale.unit,
        "quality": one.completeness.value,
        "reasons": list(one.reasons),
        "samples": one.good,
    }
