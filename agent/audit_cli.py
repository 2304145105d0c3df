"""``portico audit``: read a gateway's audit log, judge it, prove one entry of it, hand it on.

Relies on `agent.store.auditlook`.  Works on the files alone, also while the agent runs.
"""

import json
import sys
import time
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.markup import escape

from agent.store.auditlook import AuditLook, Entry, proof_as_json, proof_from_json
from agent.store.opening import AUDIT
from agent.syslog import as_syslog
from certs.note import open_note
from certs.pem import read_certificates
from core.checkpoint import Checkpoint
from core.errors import ConfigError, PorticoError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Read and verify a gateway's audit log.",
)

Directory = Annotated[Path, typer.Argument(metavar="DIR", help="The gateway's data_dir.")]
AsJson = Annotated[bool, typer.Option("--json", help="JSON for programs.")]
Note = Annotated[Path | None, typer.Option("--head", help="A head that was published: a file with its note.")]
Certificate = Annotated[
    Path | None,
    typer.Option("--cert", help="The gateway's signing certificate: judges the head's signature."),
]
FOLLOW_S: Final = 0.5


class Form(StrEnum):
    """How entries are written."""

    JSON = "json"
    SYSLOG = "syslog"


@app.command(epilog="Example: portico audit tail var/gw-0001 --follow")
def tail(
    directory: Directory,
    count: Annotated[int, typer.Option("-n", min=1, max=100_000, help="How many entries.")] = 20,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what comes.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show the last entries."""
    console = Console(highlight=False)
    with AuditLook(directory / AUDIT) as look:
        entries = look.last(count)
        seen = 0
        while True:
            for entry in entries:
                seen = entry.number
                if as_json:
                    typer.echo(json.dumps(_document(entry)))
                else:
                    console.print(_line(entry), soft_wrap=True)
            if not follow:
                return
            try:
                time.sleep(FOLLOW_S)
            except KeyboardInterrupt:
                return
            entries = list(look.entries(seen))


@app.command(epilog="Example: portico audit verify var/gw-0001 --head head.txt --cert gw-0001.sign.pem")
def verify(
    directory: Directory, head: Note = None, cert: Certificate = None, as_json: AsJson = False
) -> None:
    """Judge every entry, and whether the log continues a head that was published before.

    Without --head only this is shown: the log is consistent in itself.  Who owns the box can rewrite
    all of it; a head from the head-end (`portico headend audit`) shows that.
    """
    with AuditLook(directory / AUDIT) as look:
        verdict = look.verify()
        faults = list(verdict.faults)
        published = None
        if head is not None:
            published = _published(head, cert)
            fault = look.continues(published)
            faults += [fault] if fault else []
    if as_json:
        found = {
            "entries": verdict.entries,
            "size": verdict.size,
            "dropped": verdict.dropped,
            "root": verdict.root.hex(),
            "against": None if published is None else published.size,
            "signature": None if head is None else cert is not None,
            "faults": faults,
            "ok": not faults,
        }
        typer.echo(json.dumps(found))
    else:
        typer.echo(f"{verdict.entries} entries, {verdict.size} ever written, root {verdict.root.hex()}")
        if published is not None:
            judged = (
                "its signature holds" if cert is not None else "its signature was not judged: give --cert"
            )
            typer.echo(f"compared with a head of {published.size} entries; {judged}")
        else:
            typer.echo("compared with no published head: a log rewritten as a whole would look like this")
        for fault in faults:
            typer.echo(f"fault: {fault}", err=True)
        typer.echo("not as it was written" if faults else "nothing wrong found")
    raise typer.Exit(1 if faults else 0)


@app.command(epilog="Example: portico audit prove var/gw-0001 17 > proof.json")
def prove(
    directory: Annotated[Path | None, typer.Argument(metavar="DIR", help="The gateway's data_dir.")] = None,
    number: Annotated[int | None, typer.Argument(help="Number of the entry.")] = None,
    check: Annotated[Path | None, typer.Option("--check", help="Judge a proof in a file instead.")] = None,
    head: Note = None,
    cert: Certificate = None,
) -> None:
    """Prove that an entry is in the log without showing the others; or judge such a proof."""
    if check is not None:
        _check(check, head, cert)
    if directory is None or number is None:
        raise typer.BadParameter("give DIR and the number of an entry, or --check FILE --head FILE")
    with AuditLook(directory / AUDIT) as look:
        proof = look.prove(number)
        notes = [note for size, _, note in look.heads() if size == proof.size]
    found = {**proof_as_json(proof), "head": notes[0] if notes else None}
    typer.echo(json.dumps(found, indent=2, ensure_ascii=False))
    if not notes:
        typer.echo(
            f"no head of {proof.size} entries was signed yet: the agent signs one every quarter of an hour; "
            "prove again then",
            err=True,
        )


@app.command(epilog="Example: portico audit export var/gw-0001 --form syslog > audit.log")
def export(
    directory: Directory,
    form: Annotated[Form, typer.Option(help="JSON lines, or syslog as RFC 5424 writes it.")] = Form.JSON,
    after: Annotated[int, typer.Option(min=0, help="Begin behind this number.")] = 0,
    host: Annotated[str, typer.Option(help="Name of the gateway in syslog lines.")] = "",
) -> None:
    """Write all entries, oldest first, to standard output."""
    with AuditLook(directory / AUDIT) as look:
        for entry in look.entries(after):
            if form is Form.JSON:
                sys.stdout.write(json.dumps(_document(entry)) + "\n")
            else:
                sys.stdout.write(as_syslog(entry, host or directory.resolve().name) + "\n")


def _document(entry: Entry) -> dict[str, object]:
    return {
        "number": entry.number,
        "at_ms": entry.at_ms,
        "kind": entry.kind,
        "body": json.loads(entry.body),
        "leaf": entry.leaf.hex(),
    }


def _line(entry: Entry) -> str:
    at = datetime.fromtimestamp(entry.at_ms / 1000, UTC).isoformat(sep=" ", timespec="milliseconds")
    body: dict[str, object] = json.loads(entry.body)
    told = "  ".join(
        f"{name}={value if isinstance(value, str) else json.dumps(value)}" for name, value in body.items()
    )
    when = at.removesuffix("+00:00") + "Z"
    return f"{entry.number:>6}  [dim]{when}[/]  [bold]{escape(entry.kind)}[/]  {escape(told)}"


def _published(head: Path, cert: Path | None) -> Checkpoint:
    try:
        note = head.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{head} cannot be read: {error}") from error
    if note.lstrip().startswith("{"):
        note = _note_in(note, head)
    checkpoint = Checkpoint.parse(note)
    if cert is not None:
        open_note(note, checkpoint.origin, read_certificates(cert, "signing certificate")[0])
    return checkpoint


def _note_in(text: str, path: Path) -> str:
    try:
        found = json.loads(text)
        return str(found.get("note") or found["head"])
    except (ValueError, KeyError, AttributeError) as error:
        raise ConfigError(f"{path} holds no head: a note, or JSON with one under note or head") from error


def _check(path: Path, head: Path | None, cert: Path | None) -> None:
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} cannot be read as JSON: {error}") from error
    proof = proof_from_json(found)
    try:
        checkpoint = _published(head or path, cert)
    except PorticoError as error:
        raise ConfigError(f"there is no head to judge it by ({error}): give one with --head") from error
    holds = proof.holds(checkpoint)
    judged = "whose signature holds" if cert is not None else "whose signature was not judged: give --cert"
    typer.echo(f"entry {proof.number}: {proof.entry.decode()}")
    told = "is" if holds else "is NOT"
    typer.echo(f"it {told} in the log of {checkpoint.origin} at {checkpoint.size} entries, {judged}")
    raise typer.Exit(0 if holds else 1)
