"""`portico headend completeness`, `verify`, `gateways`, `alarms`: what the books say of themselves."""

from __future__ import annotations

import dataclasses
import json
import time
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from core.errors import ConfigError
from headend.cli_options import DEFAULT_CONFIG, BooksFile, Config, Json, books_path, console
from headend.completeness import Completeness, completeness
from headend.instants import instant
from headend.schema import open_reader, translated
from headend.verify import verify

app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False)


@app.command("completeness", epilog="Example: portico headend completeness --gateway gw-0001 --json")
def judge_completeness(
    config: Config = DEFAULT_CONFIG,
    books: BooksFile = None,
    gateway: Annotated[str, typer.Option(help="Of this gateway.")] = "",
    device: Annotated[str, typer.Option(help="Ticks of this device.")] = "",
    as_json: Json = False,
) -> None:
    """Compare ticks due with rows and gaps, and coverage with what the gateways had.

    Exit code 1 when a tick is neither a row nor in a gap, when coverage is missing, and when the books
    hold nothing yet of what is asked for. A group that is open (not told of yet, as a silence is within
    15 minutes) changes nothing about it: what is said holds up to the instant that is named.
    """
    path = books_path(config, books)
    connection = open_reader(path)
    with translated(path):
        found = completeness(connection, gateway, device)
    connection.close()
    now_ms = time.time_ns() // 1_000_000
    if as_json:
        groups = [{**dataclasses.asdict(one), "percent": round(one.percent, 3)} for one in found.groups]
        epochs = [
            {
                **dataclasses.asdict(one),
                "space": one.space.value,
                "whole": one.whole,
                "waiting": one.waits(now_ms),
            }
            for one in found.epochs
        ]
        typer.echo(
            json.dumps(
                {
                    "holds": None if found.empty else found.holds,
                    "complete_up_to": found.up_to if found.holds else None,
                    "groups": groups,
                    "epochs": epochs,
                    "unresolved_gaps": found.unresolved_gaps,
                    "conflicts": found.conflicts,
                    "alarms": [{"gateway": of, "code": code} for of, code in found.doubtful],
                }
            )
        )
    else:
        _show(found, console(), now_ms)
    if not found.holds:
        raise typer.Exit(1)


def _show(found: Completeness, console: Console, now_ms: int) -> None:
    if found.empty:
        console.print("the books hold nothing of this yet: nothing can be said", style="bold")
        return
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in ("gateway", "group"):
        table.add_column(name, overflow="fold")
    for name in ("due", "rows", "in gaps", "unreported", "%"):
        table.add_column(name, justify="right", overflow="fold")
    table.add_column("from", overflow="fold")
    table.add_column("to", overflow="fold")
    table.add_column("gaps", overflow="fold")
    for one in found.groups:
        reasons = " ".join(f"{reason} {ticks}" for reason, ticks in sorted(one.told.items()))
        table.add_row(
            one.gateway,
            one.key,
            str(one.due),
            str(one.with_row),
            str(one.in_gaps),
            str(one.unreported),
            f"{one.percent:.2f}",
            instant(one.first_tick),
            instant(one.last_tick),
            reasons,
        )
    console.print(table)
    for group in found.groups:
        said = "unreported"
        if group.unreported and found.lacks(group.gateway):
            said = "not told yet"
            console.print(
                f"{group.unreported} ticks of {group.gateway} {group.key} not told yet: sequences have not "
                "arrived that may bring them"
            )
        for first, last in group.unreported_ticks[:5]:
            console.print(f"{said}: {group.gateway} {group.key} {instant(first)} to {instant(last)}")
    for epoch in found.epochs:
        if epoch.missing:
            ranges = ", ".join(f"{first}..{last}" for first, last in epoch.holes[:5])
            many = f"{epoch.missing} of {epoch.last} {epoch.space.value} sequences"
            whose = f"{epoch.gateway} {epoch.epoch} ({ranges})"
            if epoch.waits(now_ms):
                console.print(
                    f"still waiting for {many} of {whose}: this start of it is new here, and it sends again "
                    "by itself what was not taken"
                )
            else:
                console.print(f"not arrived: {many} of {whose}")
    lost = sum(epoch.lost for epoch in found.epochs)
    if lost:
        console.print(f"lost by the gateways themselves, with a gap: {lost} sequences")
    if found.unresolved_gaps:
        console.print(f"{found.unresolved_gaps} gaps wait for the manifest that names their group")
    if found.conflicts:
        console.print(f"{found.conflicts} sequences came with two contents: see the table conflict")
    for gateway, code in found.doubtful:
        console.print(
            f"alarm {code} of {gateway} stands, the count may be doubtful: see `portico headend alarms`"
        )
    for group in found.groups:
        over = sum(group.reasons.values()) - group.in_gaps
        if over > 0:
            whole = " ".join(f"{reason} {ticks}" for reason, ticks in sorted(group.reasons.items()))
            console.print(
                f"gaps of {group.gateway} {group.key} name {over} ticks more ({whole} in all): these have "
                "a row all the same, or lie in another gap too"
            )
    for group in found.groups:
        if group.open_since is not None:
            console.print(
                f"open since {instant(group.open_since)}: {group.gateway} {group.key} has no row and no gap "
                "yet; a silence is told within 15 min, values that stand still at their heartbeat"
            )
    if not found.holds:
        said = "not complete"
    elif found.up_to is None:
        said = "complete: no ticks yet"
    else:
        said = f"complete up to {instant(found.up_to)}"
    console.print(said, style="bold")


@app.command("verify", epilog="Example: portico headend verify --books var/books.db")
def verify_books(config: Config = DEFAULT_CONFIG, books: BooksFile = None, as_json: Json = False) -> None:
    """Check the file, and that ledger and rows agree. Exit code 1 when they do not."""
    path = books_path(config, books)
    connection = open_reader(path)
    with translated(path):
        faults = list(verify(connection))
    connection.close()
    if as_json:
        typer.echo(json.dumps({"ok": not faults, "faults": faults}))
    else:
        for fault in faults:
            typer.echo(fault)
        typer.echo(f"{path}: {'the books are sound' if not faults else 'the books are damaged'}")
    if faults:
        raise typer.Exit(1)


@app.command("gateways", epilog="Example: portico headend gateways --json")
def list_gateways(config: Config = DEFAULT_CONFIG, books: BooksFile = None, as_json: Json = False) -> None:
    """List the gateways that were heard of: when, how many readings, what they claim to be."""
    path = books_path(config, books)
    connection = open_reader(path)
    with translated(path):
        found = connection.execute(
            "SELECT gateway, first_seen_ms, last_seen_ms, state, "
            "(SELECT coalesce(sum(n), 0) FROM counter c WHERE c.gateway = g.gateway "
            "AND name = 'readings.stored'), (SELECT count(*) FROM epoch e WHERE e.gateway = g.gateway) "
            "FROM gateway g ORDER BY gateway"
        ).fetchall()
    connection.close()
    every = [
        {
            "gateway": name,
            "first_seen": instant(first),
            "last_seen": instant(last),
            "readings": readings,
            "epochs": epochs,
            "claims": json.loads(state) if state else None,
        }
        for name, first, last, state, readings, epochs in found
    ]
    if as_json:
        for one in every:
            typer.echo(json.dumps(one))
        return
    table = Table(box=None, header_style="bold", pad_edge=False)
    for title in ("gateway", "last heard of", "first", "readings", "starts", "claims to be", "software"):
        table.add_column(title)
    for one in every:
        claims = one["claims"] or {}
        online = ("on line" if claims["online"] else "off line") if claims else "-"
        table.add_row(
            one["gateway"],
            one["last_seen"],
            one["first_seen"],
            str(one["readings"]),
            str(one["epochs"]),
            online,
            claims.get("software", ""),
        )
    console().print(table)


@app.command("audit", epilog="Example: portico headend audit --gateway gw-0001 --note > head.txt")
def list_audit_heads(
    config: Config = DEFAULT_CONFIG,
    books: BooksFile = None,
    gateway: Annotated[str, typer.Option(help="Of this gateway.")] = "",
    note: Annotated[bool, typer.Option("--note", help="The last head alone, as it was signed.")] = False,
    as_json: Json = False,
) -> None:
    """List the heads of the gateways' audit logs. Exit code 1 where one was cut or rewritten."""
    path = books_path(config, books)
    connection = open_reader(path)
    with translated(path):
        found = connection.execute(
            "SELECT gateway, size, hex(root), at_ms, received_ms, verdict, note FROM audit_head "
            "WHERE ?1 = '' OR gateway = ?1 ORDER BY gateway, no DESC",
            (gateway,),
        ).fetchall()
    connection.close()
    if note:
        if not gateway or not found:
            raise ConfigError("no head is known: name a --gateway that `portico headend audit` lists")
        typer.echo(found[0][-1], nl=False)
        return
    bad = False
    table = Table(box=None, header_style="bold", pad_edge=False)
    for title in ("gateway", "entries", "signed", "received", "verdict", "root"):
        table.add_column(title, no_wrap=True)
    for name, size, root, at_ms, received_ms, verdict, text in found:
        bad = bad or verdict in ("cut", "rewritten")
        if as_json:
            document = {"gateway": name, "size": size, "root": root.lower(), "at": instant(at_ms)}
            document |= {"received": instant(received_ms), "verdict": verdict, "note": text}
            typer.echo(json.dumps(document))
        table.add_row(name, str(size), instant(at_ms), instant(received_ms), verdict, root.lower()[:16])
    if not as_json:
        console().print(table if found else "no heads of audit logs yet")
    if bad:
        raise typer.Exit(1)


@app.command("alarms", epilog="Example: portico headend alarms --gateway gw-0001")
def list_alarms(
    config: Config = DEFAULT_CONFIG,
    books: BooksFile = None,
    gateway: Annotated[str, typer.Option(help="Of this gateway.")] = "",
    as_json: Json = False,
) -> None:
    """List what the head-end found, and what gateways raised and did not clear."""
    path = books_path(config, books)
    connection = open_reader(path)
    with translated(path):
        own = connection.execute(
            "SELECT 'head-end', code, gateway, text, first_ms, last_ms, count FROM alarm "
            "WHERE (?1 = '' OR gateway = ?1) AND cleared_ms IS NULL ORDER BY last_ms DESC",
            (gateway,),
        ).fetchall()
        theirs = connection.execute(
            "SELECT 'gateway', code, gateway, text, at_ms, at_ms, 1 FROM (SELECT *, row_number() OVER "
            "(PARTITION BY gateway, code, device ORDER BY at_ms DESC, seq DESC) AS place FROM gateway_alarm "
            "WHERE ?1 = '' OR gateway = ?1) WHERE place = 1 AND raised ORDER BY at_ms DESC",
            (gateway,),
        ).fetchall()
    connection.close()
    names = ("raised_by", "code", "gateway", "text", "first", "last", "count")
    every = [
        dict(zip(names, (by, code, of, text, instant(first), instant(last), count), strict=True))
        for by, code, of, text, first, last, count in own + theirs
    ]
    if as_json:
        for one in every:
            typer.echo(json.dumps(one))
        return
    if not every:
        typer.echo("no alarms")
        return
    table = Table(box=None, header_style="bold", pad_edge=False)
    for title in ("last", "times", "raised by", "gateway", "code", "what"):
        table.add_column(title, no_wrap=title in ("last", "code"))
    for one in every:
        table.add_row(
            one["last"], str(one["count"]), one["raised_by"], one["gateway"] or "-", one["code"], one["text"]
        )
    console().print(table)
