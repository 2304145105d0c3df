"""`portico headend usage-point`, `quality`, `ask`: what people enter and ask."""

from __future__ import annotations

import getpass
import json
import logging
from enum import StrEnum
from typing import Annotated

import typer
from rich.table import Table

from core.errors import ConfigError
from core.ids import is_epoch, name_fault
from core.quality import Precedence
from headend.asking import Wanted, ask_again, doubts
from headend.books import Books
from headend.cli_options import DEFAULT_CONFIG, BooksFile, Config, Json, books_path, console, now_ms
from headend.config import load
from headend.instants import instant, parse_instant
from headend.judgement import Judgement, append_judgement
from headend.schema import open_reader, translated
from headend.terms import UsagePointTerm, add_usage_point, usage_point_terms

app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False)
usage_points = typer.Typer(rich_markup_mode=None, no_args_is_help=True)
quality = typer.Typer(rich_markup_mode=None, no_args_is_help=True)
app.add_typer(
    usage_points,
    name="usage-point",
    help="Which meter stood at which usage point, and when.",
    epilog="Example: portico headend usage-point list",
)
app.add_typer(
    quality,
    name="quality",
    help="The quality journal.",
    epilog="Example: portico headend quality list --device main-meter",
)


class Role(StrEnum):
    """In which role a judgement is made."""

    HEADEND = "headend"
    STEWARD = "steward"
    VALIDATOR = "validator"


_PRECEDENCE = {
    Role.HEADEND: Precedence.HEADEND,
    Role.STEWARD: Precedence.STEWARD,
    Role.VALIDATOR: Precedence.VALIDATOR,
}


@usage_points.command(
    "add",
    epilog="Example: portico headend usage-point add up-17 --gateway gw-0001 --device main-meter "
    "--from 2026-11-22T10:00Z",
)
def add(
    usage_point: Annotated[str, typer.Argument(help="The place where energy is metered.")],
    gateway: Annotated[str, typer.Option(help="Gateway.")],
    device: Annotated[str, typer.Option(help="Device of the gateway.")],
    begin: Annotated[str | None, typer.Option("--from", help="Since when; absent: since ever.")] = None,
    end: Annotated[str | None, typer.Option("--to", help="Until when, not included; absent: open.")] = None,
    config: Config = DEFAULT_CONFIG,
    books: BooksFile = None,
) -> None:
    """Say that a device measured a usage point for a time. What was known before stays on record."""
    for text, what in ((usage_point, "usage point"), (gateway, "gateway"), (device, "device")):
        fault = name_fault(text)
        if fault:
            raise ConfigError(f"{what} {text!r} {fault}")
    at = now_ms()
    from_ms = None if begin is None else parse_instant(begin, at, "--from")
    to_ms = None if end is None else parse_instant(end, at, "--to")
    if from_ms is not None and to_ms is not None and to_ms <= from_ms:
        raise ConfigError("the term ends before it begins: --to is the first instant after it")
    path = books_path(config, books)
    open_reader(path).close()
    written = Books(path, at)
    try:
        with written.transaction(at):
            term = UsagePointTerm(usage_point, gateway, device, from_ms, to_ms, at, "person")
            add_usage_point(written.connection, term)
    finally:
        written.close()
    typer.echo(f"{gateway}/{device} measures {usage_point} {_span(from_ms, to_ms)}")


@usage_points.command("list", epilog="Example: portico headend usage-point list --json")
def list_terms(config: Config = DEFAULT_CONFIG, books: BooksFile = None, as_json: Json = False) -> None:
    """List the terms, the latest known first: it counts where several hold."""
    path = books_path(config, books)
    connection = open_reader(path)
    with translated(path):
        terms = usage_point_terms(connection)
    connection.close()
    if as_json:
        for term in terms:
            one = {
                "usage_point": term.usage_point,
                "gateway": term.gateway,
                "device": term.device,
                "from": None if term.valid_from_ms is None else instant(term.valid_from_ms),
                "to": None if term.valid_to_ms is None else instant(term.valid_to_ms),
                "known": instant(term.known_ms),
                "source": term.source,
            }
            typer.echo(json.dumps(one))
        return
    table = Table(box=None, header_style="bold", pad_edge=False)
    for title in ("usage point", "gateway", "device", "when", "known since", "by"):
        table.add_column(title)
    for term in terms:
        span = _span(term.valid_from_ms, term.valid_to_ms)
        table.add_row(term.usage_point, term.gateway, term.device, span, instant(term.known_ms), term.source)
    console().print(table)


@quality.command(
    "add",
    epilog="Example: portico headend quality add --gateway gw-0001 --device main-meter --from -2h --to -1h "
    "--as validator --entity dso.example --reason out-of-range --rule VEE-12",
)
def append(
    gateway: Annotated[str, typer.Option(help="Gateway.")],
    device: Annotated[str, typer.Option(help="Device of the gateway.")],
    begin: Annotated[str, typer.Option("--from", help="First tick judged.")],
    end: Annotated[str, typer.Option("--to", help="End of the ticks judged, not included.")],
    role: Annotated[Role, typer.Option("--as", help="In which role.")],
    rule: Annotated[str, typer.Option(help="By which rule, or why.")],
    point: Annotated[str, typer.Option(help="One point; absent: all of the device.")] = "",
    reason: Annotated[str, typer.Option(help="A reason of the closed list; its code counts.")] = "",
    code: Annotated[str, typer.Option(help="IEC 61968-9 code in place of a reason: 1.0.0 is valid.")] = "",
    entity: Annotated[str, typer.Option(help="Who judges; absent: the entity of this head-end.")] = "",
    who: Annotated[str, typer.Option(help="The person; absent: the account of this terminal.")] = "",
    config: Config = DEFAULT_CONFIG,
) -> None:
    """Append a judgement. Nothing is overwritten: who comes first, and is latest, counts."""
    at = now_ms()
    settings = load(config)
    judgement = Judgement(
        gateway=gateway,
        device=device,
        point=point,
        from_ms=parse_instant(begin, at, "--from"),
        to_ms=parse_instant(end, at, "--to"),
        code=code,
        reason=reason,
        rule=rule,
        entity=entity or settings.headend.entity,
        who=who or getpass.getuser(),
        precedence=_PRECEDENCE[role],
    )
    open_reader(settings.headend.books).close()
    books = Books(settings.headend.books, at)
    try:
        with books.transaction(at):
            entry = append_judgement(books, judgement, settings.headend.entity)
    finally:
        books.close()
    typer.echo(f"{gateway}/{device} {point or 'all points'}: {entry.code} by {entry.entity} as {role.value}")


@quality.command("list", epilog="Example: portico headend quality list --device main-meter --json")
def list_entries(
    config: Config = DEFAULT_CONFIG,
    books: BooksFile = None,
    gateway: Annotated[str, typer.Option(help="Of this gateway.")] = "",
    device: Annotated[str, typer.Option(help="Of this device.")] = "",
) -> None:
    """List the journal, one JSON object a line, in the order in which it was written."""
    path = books_path(config, books)
    connection = open_reader(path)
    with translated(path):
        cursor = connection.execute(
            "SELECT * FROM quality_entry WHERE (?1 = '' OR gateway = ?1) AND (?2 = '' OR device = ?2) "
            "ORDER BY id",
            (gateway, device),
        )
        names = [column[0] for column in cursor.description]
        every = cursor.fetchall()
    connection.close()
    for one in every:
        typer.echo(json.dumps(dict(zip(names, one, strict=True))))


@app.command(epilog="Example: portico headend ask gw-0001 --epoch 00c0ffee00c0ffee --first 100 --last 199")
def ask(
    gateway: Annotated[str, typer.Argument(help="Gateway to ask.")],
    epoch: Annotated[str, typer.Option(help="Epoch, 16 hexadecimal digits.")],
    first: Annotated[int, typer.Option(min=1, help="First sequence wanted.")],
    last: Annotated[int, typer.Option(min=1, help="Last sequence wanted.")],
    config: Config = DEFAULT_CONFIG,
) -> None:
    """Ask a gateway, signed, to send sequences again that the books lack.

    Exit code 1 when nobody can answer, by what the books or the broker know; what is doubtful is said.
    """
    logging.getLogger("headend").addHandler(logging.NullHandler())  # what matters is told here
    fault = name_fault(gateway)
    if fault:
        raise ConfigError(f"gateway {gateway!r} {fault}")
    if not is_epoch(epoch):
        raise ConfigError(f"epoch {epoch!r} is not 16 hexadecimal digits: see portico headend completeness")
    if last < first:
        raise ConfigError(f"the range {first}..{last} ends before it begins")
    settings, wanted = load(config), Wanted(gateway, epoch, first, last)
    listed = settings.headend.gateways
    if listed is not None and gateway not in listed:
        raise ConfigError(
            f"not asked ({wanted}): {gateway} is not in gateways of {config}, its answer is refused"
        )
    connection = open_reader(settings.headend.books)
    with translated(settings.headend.books):
        told = doubts(connection, wanted, settings.headend.entity, now_ms())
    connection.close()
    asked = ask_again(settings, wanted, now_ms())
    typer.echo(f"question {asked.n} to {wanted}")
    for sentence in (*told, *asked.doubts):
        typer.echo(sentence)


def _span(from_ms: int | None, to_ms: int | None) -> str:
    begin = "since ever" if from_ms is None else f"from {instant(from_ms)}"
    return begin if to_ms is None else f"{begin} to {instant(to_ms)}"
