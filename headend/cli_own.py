"""`portico headend ownership`: who owned what, as it was told and as it was corrected."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from core.errors import ConfigError
from core.ids import checked_name
from headend.books import Books
from headend.cli_options import DEFAULT_CONFIG, BooksFile, Config, books_path, now_ms
from headend.instants import instant, parse_instant
from headend.schema import open_reader, translated
from headend.terms import OwnershipTerm, add_ownership

app = typer.Typer(rich_markup_mode=None, no_args_is_help=True)


@app.command(
    "add",
    epilog="Example: portico headend ownership add --gateway gw-0001 --device main-meter "
    "--owners dso.example,new-tenant --from 2026-11-01T00:00+01:00",
)
def add(
    gateway: Annotated[str, typer.Option(help="Gateway.")],
    device: Annotated[str, typer.Option(help="Device of the gateway.")],
    owners: Annotated[str, typer.Option(help="Data owners, with commas between them.")],
    begin: Annotated[str | None, typer.Option("--from", help="Since when; absent: since ever.")] = None,
    end: Annotated[str | None, typer.Option("--to", help="Until when, not included; absent: open.")] = None,
    device_owner: Annotated[str, typer.Option(help="Owner of the device; absent: the first owner.")] = "",
    steward: Annotated[str, typer.Option(help="Who answers for correctness; absent: the first owner.")] = "",
    validator: Annotated[str, typer.Option(help="Billing validator; absent: the steward.")] = "",
    purpose: Annotated[str, typer.Option(help="What the data may be used for.")] = "",
    config: Config = DEFAULT_CONFIG,
    books: BooksFile = None,
) -> None:
    """Correct the ownership of a device's data for a time; what was known before stays on record."""
    at = now_ms()
    names = tuple(name.strip() for name in owners.split(","))
    try:
        for name in (*names, *(one for one in (device_owner, steward, validator) if one)):
            checked_name(name, "entity")
    except ValueError as error:
        raise ConfigError(str(error)) from error
    from_ms = None if begin is None else parse_instant(begin, at, "--from")
    to_ms = None if end is None else parse_instant(end, at, "--to")
    if from_ms is not None and to_ms is not None and to_ms <= from_ms:
        raise ConfigError("the term ends before it begins: --to is the first instant after it")
    path = books_path(config, books)
    open_reader(path).close()
    written = Books(path, at)
    try:
        with written.transaction(at):
            keys = written.connection.execute(
                "SELECT DISTINCT key FROM grp WHERE gateway=? AND device=?", (gateway, device)
            ).fetchall()
            if not keys:
                raise ConfigError(f"the books know no device {device} of {gateway}: nothing was corrected")
            for (key,) in keys:
                term = OwnershipTerm(
                    grp_key=key,
                    device_owner=device_owner or names[0],
                    data_owners=names,
                    steward=steward or names[0],
                    validator=validator or steward or names[0],
                    purpose=purpose,
                    valid_from_ms=from_ms,
                    valid_to_ms=to_ms,
                    known_ms=at,
                )
                add_ownership(written.connection, gateway, device, term)
    finally:
        written.close()
    typer.echo(f"{gateway}/{device} belongs to {', '.join(names)} in {len(keys)} groups of points")


@app.command("list", epilog="Example: portico headend ownership list --device main-meter")
def list_terms(
    config: Config = DEFAULT_CONFIG,
    books: BooksFile = None,
    gateway: Annotated[str, typer.Option(help="Of this gateway.")] = "",
    device: Annotated[str, typer.Option(help="Of this device.")] = "",
) -> None:
    """List what was told and corrected, one JSON object a line, the latest known first."""
    path = books_path(config, books)
    connection = open_reader(path)
    with translated(path):
        found = connection.execute(
            "SELECT gateway, grp_key, device_owner, data_owners, steward, validator, purpose, "
            "valid_from_ms, valid_to_ms, known_ms, source FROM ownership_term "
            "WHERE (?1 = '' OR gateway = ?1) AND (?2 = '' OR device = ?2) "
            "ORDER BY source = 'person' DESC, known_ms DESC, rowid DESC",
            (gateway, device),
        ).fetchall()
    connection.close()
    for name, key, owner, owners, steward, validator, purpose, begin, end, known, source in found:
        one = {
            "gateway": name,
            "group": key,
            "device_owner": owner,
            "data_owners": json.loads(owners),
            "steward": steward,
            "validator": validator,
            "purpose": purpose,
            "from": None if begin is None else instant(begin),
            "to": None if end is None else instant(end),
            "known": instant(known),
            "source": source,
        }
        typer.echo(json.dumps(one))
