"""`portico policy`: print policies as a table, check them, and explain what a command would meet.

Relies on `cli.main` to turn errors of the project's tree into a sentence and an exit code.

Not here: signing, publishing and sending.
"""

import json
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from core.errors import ConfigError
from policies.assignment import Assignment
from policies.decide import decide
from policies.explain import Asked, Put, answer_lines, explained, put, question_text
from policies.facts import FACT_NAMES
from policies.faults import near
from policies.forms import instant_text, parse_instant
from policies.grant import Verb
from policies.policy import Policy
from policies.reading import (
    Document,
    canonical,
    parse_as,
    read_bytes,
    read_document,
    read_rulebook,
    rulebook_of,
    together_faults,
)
from policies.roster import Roster
from policies.rulebook import Rulebook
from policies.stated import Stated, fair_facts, taken_for_granted, with_stated, without
from policies.table import constraint_rows, row_of, validity_text
from policies.trust_kept import is_kept, read_kept

app = typer.Typer(no_args_is_help=True, help="Print policies as a table, check them, explain a decision.")

Files = Annotated[
    list[Path],
    typer.Argument(
        metavar="FILE...", help="A policy, and rosters and an assignment; TOML or canonical JSON."
    ),
]
Kepts = Annotated[
    list[Path],
    typer.Argument(
        metavar="PATH...",
        help="The folder of a policy, or its bundle.zip; or a policy, rosters and an assignment as files.",
    ),
]
Draft = Annotated[
    bool, typer.Option("--draft", help="Of a folder: what is drafted, in place of what is in force.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command("show", epilog="Example: portico policy show policy --gateway gw-0001")
def show(
    files: Kepts,
    constraints: Annotated[
        bool, typer.Option("--constraints", help="Print a policy's constraints instead, each with its type.")
    ] = False,
    gateway: Annotated[
        str | None, typer.Option(help="Of a folder: the assignment of this gateway as well.")
    ] = None,
    draft: Draft = False,
    as_json: AsJson = False,
) -> None:
    """Print each document: a policy as the table from actor, may / shall / shall not, verb, to actor."""
    kept = read_kept(files, gateway, draft=draft)
    documents = [document for _, document in kept.documents]
    if as_json:
        typer.echo(json.dumps([_shown(one) for one in documents], indent=2, ensure_ascii=False))
        return
    console = _console()
    for number, document in enumerate(documents):
        if number:
            console.print()
        if constraints and isinstance(document, Policy):
            _print_constraints(console, document)
        else:
            _print_document(console, document)
    _print_notes(console, kept.notes)


@app.command(
    "check", epilog="Example: portico policy check policy.toml roster-*.toml assignment-gw-0001.toml"
)
def check(files: Files, as_json: AsJson = False) -> None:
    """Check documents, each by itself and all together; every fault is told with its place."""
    faults: list[str] = []
    read: list[tuple[Path, Document]] = []
    for path in files:
        try:
            read.append((path, read_document(path)))
        except ConfigError as error:
            faults += error.faults or (str(error),)
    if len(files) > 1:
        faults += together_faults(read, whole=not faults)
    if as_json:
        typer.echo(json.dumps({"documents": len(files), "faults": faults}, indent=2, ensure_ascii=False))
        if faults:
            raise typer.Exit(2)
        return
    if faults:
        number = "one fault" if len(faults) == 1 else f"{len(faults)} faults"
        raise ConfigError(f"{number} in {len(files)} documents", tuple(faults))
    grants = sum(len(one.grants) for _, one in read if isinstance(one, Policy))
    typer.echo(f"{len(files)} documents, {grants} grants, no fault")


@app.command(
    "explain",
    epilog="Example: portico policy explain policy --gateway gw-0001 "
    '--who esco1/op-17 --verb shed --device wh-01 --at "tomorrow 17:00"',
)
def explain(
    files: Kepts,
    who: Annotated[
        str, typer.Option(help="entity/application/individual; the application when there are more.")
    ],
    verb: Annotated[Verb, typer.Option(help="What is to be done.")],
    device: Annotated[str, typer.Option(help="To which device.")],
    point: Annotated[str | None, typer.Option(help="To which point; when there is more than one.")] = None,
    value: Annotated[
        str | None, typer.Option(help="Which value; for on/off the one that is not default.")
    ] = None,
    at: Annotated[
        str, typer.Option(help='now, 17:00, "tomorrow 17:00" or 2026-11-24T17:00:00-05:00.')
    ] = "now",
    lasting: Annotated[str | None, typer.Option("--for", help="How long, for example 1h.")] = None,
    gateway: Annotated[str | None, typer.Option(help="At which gateway; else the assignment's.")] = None,
    purpose: Annotated[str | None, typer.Option(help="For which purpose; else the first that fits.")] = None,
    emergency: Annotated[bool, typer.Option("--emergency", help="Command in an emergency.")] = False,
    cosigner: Annotated[list[str] | None, typer.Option(help="Signs as well; may be repeated.")] = None,
    cancels: Annotated[str | None, typer.Option(help="With --verb cancel: the command that it ends.")] = None,
    facts: Annotated[
        Path | None, typer.Option(help="What holds at the gateway, TOML or JSON; else fair weather.")
    ] = None,
    unknown: Annotated[
        list[str] | None, typer.Option(metavar="FACT", help="Let a fact be unknown; may be repeated.")
    ] = None,
    now: Annotated[str | None, typer.Option(help="Ask as if it were this instant (RFC 3339).")] = None,
    draft: Draft = False,
    as_json: AsJson = False,
) -> None:
    """Say whether somebody may command something, and for every grant what is met and what is not."""
    kept = None
    if draft or any(map(is_kept, files)):
        kept = read_kept(files, gateway, draft=draft)
    book = read_rulebook(files) if kept is None else rulebook_of(kept.documents)
    now_ms = time.time_ns() // 1_000_000 if now is None else _instant(now)
    question = Asked(
        who=who,
        verb=verb,
        device=device,
        point=point,
        value=value,
        at=at,
        lasting=lasting,
        gateway=gateway,
        purpose=purpose,
        emergency=emergency,
        cosigners=tuple(cosigner or ()),
        cancels=cancels,
    )
    try:
        asked = put(question, book, now_ms)
    except ConfigError as error:
        raise ConfigError(str(error), error.faults + (() if kept is None else kept.notes)) from error
    stated = Stated() if facts is None else parse_as(read_bytes(facts), Stated, facts.name)
    names = tuple(unknown or ())
    for name in names:
        if name not in FACT_NAMES:
            raise ConfigError(f'there is no fact "{name}": {near(name, FACT_NAMES)}')
    fair = fair_facts(asked.command, book, now_ms)
    if kept is not None and kept.signed is not None:
        fair = replace(fair, signed=kept.signed)
    known = without(with_stated(fair, stated), names)
    decision = decide(asked.command, book, known, every_grant=True)
    proved = ("signed",) if kept is not None and kept.signed is not None else ()
    granted = taken_for_granted(stated, (*names, *proved))
    notes = () if kept is None else kept.notes
    if as_json:
        answer_json = {**explained(decision, asked, granted, now_ms), "notes": list(notes)}
        typer.echo(json.dumps(answer_json, indent=2, ensure_ascii=False))
        return
    console = _console()
    answer = "[green]Yes[/]" if decision.allowed else "[red]No[/]"
    sentence = question_text(asked.command, decision.allowed, book.zone, now_ms)
    console.print(f"{answer}: {escape(sentence)}.", soft_wrap=True)
    for mark, text in answer_lines(decision):
        console.print(f"{_MARKS[mark]}{escape(text)}", soft_wrap=True)
    _print_plan(console, decision.plan.as_json() if decision.plan else {}, book)
    _print_given(console, asked, granted)
    _print_notes(console, notes)


_MARKS = {"head": "", "yes": "  [green]✓[/] ", "no": "  [red]✗[/] ", "aside": "  [yellow]![/] "}


def _print_plan(console: Console, plan: dict[str, object], book: Rulebook) -> None:
    if not plan:
        return
    wanted = ("begin", "latest_end", "restore_to", "hold", "on_comm_loss", "ends", "reserve", "bypassed")
    words = [f"{key} {_plain(plan[key])}" for key in wanted if plan[key] not in (None, [], "none")]
    console.print(f"It would be: {escape('; '.join(words))}", soft_wrap=True)


def _plain(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(map(_plain, value))
    if isinstance(value, dict):
        return " ".join(str(one) for one in value.values())
    return str(value)


def _print_given(console: Console, asked: Put, granted: Sequence[str]) -> None:
    if asked.filled_in:
        console.print(f"Filled in: {escape(', '.join(asked.filled_in))}.", style="dim", soft_wrap=True)
    if granted:
        console.print(f"Taken for granted: {escape('; '.join(granted))}.", style="dim", soft_wrap=True)


def _print_notes(console: Console, notes: Sequence[str]) -> None:
    for one in notes:
        console.print(f"Note: {escape(one)}.", style="dim", soft_wrap=True)


def _instant(text: str) -> int:
    try:
        return parse_instant(text)
    except ValueError as error:
        raise ConfigError(f"--now {error}") from error


def _shown(document: Document) -> dict[str, object]:
    plain: dict[str, object] = json.loads(canonical(document))
    if isinstance(document, Policy):
        return {
            "table": [row_of(grant).as_json() for grant in document.grants],
            "constraints": [row._asdict() for row in constraint_rows(document)],
            "document": plain,
        }
    return {"document": plain}


def _print_document(console: Console, document: Document) -> None:
    match document:
        case Policy():
            _print_policy(console, document)
        case Roster():
            _print_roster(console, document)
        case Assignment():
            _print_assignment(console, document)


def _print_policy(console: Console, policy: Policy) -> None:
    head = policy.policy
    console.print(
        f"[bold]{escape(head.id)}[/] version {head.version} of {escape(head.utility)}, {escape(head.zone)}, "
        f"issued {instant_text(head.issued_ms)}, until {instant_text(head.expires_ms)}",
        soft_wrap=True,
    )
    shown = Table(show_lines=True)
    for heading in ("grant", "from actor", "", "verb", "to actor", "constraint"):
        shown.add_column(heading)
    for grant in policy.grants:
        row = row_of(grant)
        cells = (row.grant, row.from_actor, row.modality, row.verb, row.to_actor, "\n".join(row.constraints))
        shown.add_row(*map(escape, cells))
    console.print(shown)


def _print_constraints(console: Console, policy: Policy) -> None:
    shown = Table()
    for heading in ("constraint", "type", "description", "applies to"):
        shown.add_column(heading)
    for row in constraint_rows(policy):
        shown.add_row(*map(escape, row))
    console.print(shown)


def _print_roster(console: Console, roster: Roster) -> None:
    head = roster.roster
    console.print(
        f"[bold]roster of {escape(head.entity)}[/] version {head.version}, "
        f"until {instant_text(head.expires_ms)}",
        soft_wrap=True,
    )
    shown = Table()
    for heading in ("individual", "roles", "key", "applications", "valid"):
        shown.add_column(heading)
    for one in roster.individuals:
        keys = [key for key in roster.keys if key.individual == one.id]
        for key in keys:
            cells = (
                one.id,
                ", ".join(one.roles),
                key.id,
                ", ".join(key.applications),
                validity_text(key.valid),
            )
            shown.add_row(*map(escape, cells))
        if not keys:
            shown.add_row(escape(one.id), ", ".join(one.roles), "none", "", "")
    console.print(shown)


def _print_assignment(console: Console, assignment: Assignment) -> None:
    head = assignment.assignment
    console.print(
        f"[bold]assignment of {escape(head.gateway)}[/] number {head.sequence}, in "
        f"{escape(', '.join(head.groups) or 'no group')}, until {instant_text(head.expires_ms)}",
        soft_wrap=True,
    )
    shown = Table()
    for heading in ("device", "type", "kind", "owners", "valid"):
        shown.add_column(heading)
    for device in assignment.devices:
        for term in device.ownership:
            cells = (device.id, device.type, device.kind, ", ".join(term.owners), validity_text(term.valid))
            shown.add_row(*map(escape, cells))
    console.print(shown)
    shown = Table()
    for heading in ("grant", "narrowed to", "consents"):
        shown.add_column(heading)
    for one in assignment.selections:
        narrow = one.model_dump(mode="json", by_alias=True, exclude={"grant"}, exclude_defaults=True)
        consents = [
            f"{two.owner} to revision {two.revision}: {two.evidence}, {validity_text(two.valid)}"
            for two in assignment.consents
            if two.grant == one.grant
        ]
        words = "; ".join(f"{key} {_plain(value)}" for key, value in narrow.items())
        shown.add_row(escape(one.grant), escape(words), escape("\n".join(consents)))
    console.print(shown)


def _console() -> Console:
    """Return a console that does not cut what goes to a file or a pipe."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=max(console.width, 160))
