"""`portico headend`: collect, list readings, judge completeness, and correct what the books know.

Relies on the modules beside it; here are only arguments, their help and what is printed.
"""

from __future__ import annotations

import fcntl
import itertools
import logging
import os
import signal
import sys
import threading
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer

from core.errors import ConfigError
from headend import cli_enter, cli_intervals, cli_judge, cli_outcomes, cli_own
from headend.cli_options import DEFAULT_CONFIG, BooksFile, Config, Json, books_path, console, now_ms
from headend.collector import Collector
from headend.config import HeadendConfig, load
from headend.instants import parse_instant
from headend.readings import Selection, readings
from headend.schema import make_folder, open_reader, translated, unwritable
from headend.shown import write_csv, write_json, write_table

app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False)

for _part in (cli_judge.app, cli_enter.app, cli_intervals.app, cli_outcomes.app):
    app.add_typer(_part)
app.add_typer(
    cli_own.app,
    name="ownership",
    help="Who owned what, as it was told and as it was corrected.",
    epilog="Example: portico headend ownership list",
)


@app.command(epilog="Example: portico headend run -c headend.toml --name a")
def run(
    config: Config = DEFAULT_CONFIG,
    name: Annotated[
        str, typer.Option(help="Name of this collector, unique among those of one entity.")
    ] = "a",
    progress: Annotated[bool, typer.Option(help="Show one live line on the terminal.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log in detail.")] = False,
) -> None:
    """Collect from the brokers into the books, and confirm, until SIGTERM or Ctrl-C."""
    logging.basicConfig(
        level=logging.DEBUG if verbose else logging.INFO,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        stream=sys.stderr,
    )
    settings: HeadendConfig = load(config)
    alone = _alone(settings.headend.books, name)
    collector = Collector(settings, name)

    def end(number: int, frame: FrameType | None) -> None:
        collector.stop()

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
    over = threading.Event()
    line = threading.Thread(target=_progress, args=(collector, over), name="progress", daemon=True)
    if progress:
        line.start()
    try:
        collector.run()
    finally:
        over.set()
        if progress:
            line.join()
        os.close(alone)


def _alone(books: Path, name: str) -> int:
    """Hold a collector's name; ConfigError when another process has it: each would throw the other out."""
    make_folder(books)
    path = books.with_name(f"{books.name}.{name}.lock")
    try:
        handle = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
    except OSError as error:
        raise unwritable(books, error) from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(handle)
        raise ConfigError(
            f"a collector named {name} runs for {books} already: give this one another --name, for example b"
        ) from error
    return handle


def _progress(collector: Collector, over: threading.Event) -> None:
    while not over.wait(1.0):
        print(f"\r\x1b[K{collector.figures.line()}", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)


@app.command("readings", epilog="Example: portico headend readings --device main-meter --from -1h --csv")
def list_readings(
    config: Config = DEFAULT_CONFIG,
    books: BooksFile = None,
    begin: Annotated[str | None, typer.Option("--from", help="First tick: 2026-11-22T10:00Z or -2h.")] = None,
    end: Annotated[str | None, typer.Option("--to", help="End of the ticks, not included.")] = None,
    usage_point: Annotated[str, typer.Option(help="Of this usage point, whatever meter it had.")] = "",
    device: Annotated[str, typer.Option(help="Of this device.")] = "",
    gateway: Annotated[str, typer.Option(help="Of this gateway.")] = "",
    entity: Annotated[str, typer.Option(help="Whose data this entity owned at the tick.")] = "",
    point: Annotated[str, typer.Option(help="Of this point.")] = "",
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many; a table without it: 50.")] = None,
    newest: Annotated[
        bool | None, typer.Option("--newest/--oldest", help="Order; a table begins with the newest.")
    ] = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="Write CSV.")] = False,
    as_json: Json = False,
) -> None:
    """List readings: values exact, quality as it counts now, owners, tick and delay."""
    at = now_ms()
    selection = Selection(
        from_ms=None if begin is None else parse_instant(begin, at, "--from"),
        to_ms=None if end is None else parse_instant(end, at, "--to"),
        usage_point=usage_point,
        device=device,
        gateway=gateway,
        entity=entity,
        point=point,
    )
    table = not (as_csv or as_json)
    path = books_path(config, books)
    connection = open_reader(path)
    with translated(path):
        found = readings(connection, selection, newest_first=table if newest is None else newest)
        some = itertools.islice(found, limit or (50 if table else None))
        if as_json:
            write_json(some, sys.stdout)
        elif as_csv:
            write_csv(some, sys.stdout)
        elif not write_table(some, console()):
            typer.echo("no readings: nothing in the books fits these options", err=True)
    connection.close()
