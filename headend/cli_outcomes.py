"""`portico headend outcomes`: what became of commands, step by step, as the gateways told it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from headend.cli_options import DEFAULT_CONFIG, BooksFile, Config, Json, books_path, console
from headend.instants import instant
from headend.schema import open_reader, translated

app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False)

COLUMNS: Final = (
    "gateway", "epoch", "seq", "at_ms", "command", "entity", "state", "device", "point", "value", "reasons",
    "text", "begin_ms", "end_ms", "grant", "received_ms",
)  # fmt: skip
COLOURS: Final = {
    "accepted": "cyan",
    "dispatched": "cyan",
    "confirmed": "green",
    "restored": "green",
    "done": "green",
    "left": "green",
    "unverified": "yellow",
    "restoring": "yellow",
    "superseded": "yellow",
    "cancelled": "yellow",
    "refused": "red",
    "failed": "red",
}


@app.command("outcomes", epilog="Example: portico headend outcomes --device wh-01")
def list_outcomes(
    config: Config = DEFAULT_CONFIG,
    books: BooksFile = None,
    gateway: Annotated[str, typer.Option(help="Of this gateway.")] = "",
    device: Annotated[str, typer.Option(help="Of commands to this device.")] = "",
    command: Annotated[str, typer.Option(help="Of this command, by its id.")] = "",
    entity: Annotated[str, typer.Option(help="Of commands of this entity.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=1_000_000, help="The last so many.")] = 1000,
    as_json: Json = False,
) -> None:
    """List what became of commands: one line a step, the oldest first, with the reasons."""
    path = books_path(config, books)
    connection = open_reader(path)
    wanted = {"gateway": gateway, "device": device, "command": command, "entity": entity}
    chosen = {name: value for name, value in wanted.items() if value}
    where = " AND ".join(f"{name} = :{name}" for name in chosen) or "1"
    names = ", ".join(f'"{name}"' for name in COLUMNS)
    with translated(path):
        rows = connection.execute(
            f"SELECT {names} FROM outcome WHERE {where} ORDER BY at_ms DESC, seq DESC LIMIT :limit",
            {**chosen, "limit": limit},
        ).fetchall()
    connection.close()
    found = [dict(zip(COLUMNS, row, strict=True)) for row in reversed(rows)]
    if as_json:
        for one in found:
            typer.echo(json.dumps(_plain(one)))
    elif found:
        _show(found, console())
    else:
        typer.echo("no outcomes: nothing in the books fits these options", err=True)


def _plain(one: dict[str, object]) -> dict[str, object]:
    begin, end = one["begin_ms"], one["end_ms"]
    return {
        "gateway": one["gateway"],
        "at": instant(int(str(one["at_ms"]))),
        "command": one["command"],
        "entity": one["entity"],
        "state": one["state"],
        "device": one["device"],
        "point": one["point"],
        "value": one["value"],
        "reasons": json.loads(str(one["reasons"])),
        "text": one["text"],
        "begin": None if begin is None else instant(int(str(begin))),
        "end": None if end is None else instant(int(str(end))),
        "grant": one["grant"],
        "received": instant(int(str(one["received_ms"]))),
        "epoch": one["epoch"],
        "seq": one["seq"],
    }


def _show(found: Sequence[dict[str, object]], console: Console) -> None:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for title in ("at", "gateway", "entity", "command", "device", "point", "state", "shows", "why"):
        table.add_column(title, no_wrap=title in ("at", "state", "command"))
    for one in found:
        state = str(one["state"])
        why = [" ".join(json.loads(str(one["reasons"]))), str(one["text"])]
        if one["end_ms"] is not None:
            why.append(f"until {instant(int(str(one['end_ms'])))} under grant {one['grant']}")
        table.add_row(
            instant(int(str(one["at_ms"]))),
            *(escape(str(one[name])) for name in ("gateway", "entity", "command", "device", "point")),
            f"[{COLOURS[state]}]{state}[/]" if state in COLOURS else escape(state),
            "" if one["value"] is None else escape(str(one["value"])),
            escape("; ".join(part for part in why if part)),
        )
    console.print(table)
