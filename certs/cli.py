"""`portico certs`: make development identities and a broker for them, and show what a certificate says.

Relies on `cli.main` to turn errors of the project's tree into a sentence and an exit code.

Not here: enrolment at a site's own authority.
"""

from __future__ import annotations

import json
import shlex
import shutil
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal

import typer
from cryptography import x509
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from certs.authority import DEFAULT_DAYS, DevAuthority, Issued
from certs.broker import write_broker_config
from certs.pem import read_certificates
from certs.profile import UNREADABLE, Description, describe
from core.errors import ConfigError

WARN_DAYS = 30

app = typer.Typer(
    no_args_is_help=True, help="Development identities, a broker for them, and a look at any certificate."
)


@app.command(
    "dev",
    epilog="Example: portico certs dev var/certs --gateway gw-0001 --entity dso.example --broker 127.0.0.1",
)
def dev(
    directory: Annotated[
        Path, typer.Argument(metavar="DIR", help="Where keys and certificates are written.")
    ],
    gateway: Annotated[list[str] | None, typer.Option(help="Id of a gateway; may be repeated.")] = None,
    entity: Annotated[list[str] | None, typer.Option(help="Id of an entity; may be repeated.")] = None,
    broker: Annotated[
        list[str] | None, typer.Option(help="Host name or address of the broker; may be repeated.")
    ] = None,
    days: Annotated[int, typer.Option(min=1, max=3650, help="Validity of what is issued.")] = DEFAULT_DAYS,
    force: Annotated[
        bool, typer.Option("--force", help="Issue again what is still good; the authority stays.")
    ] = False,
    setting: Annotated[
        Literal["development", "production"],
        typer.Option(envvar="PORTICO_SETTING", case_sensitive=False, help="Production refuses this command."),
    ] = "development",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object on one line.")] = False,
) -> None:
    """Make an authority for development, and certificates and keys for a broker, gateways and entities.

    What is there and still good is kept, so the command can be repeated, and identities added.
    """
    if setting == "production":
        raise ConfigError(
            "portico certs dev makes keys for development and this setting is production: "
            "let the site's own authority issue the certificates (certs/README.md)"
        )
    made = not (directory / "ca.pem").exists()
    authority = DevAuthority.create(directory)
    issued = authority.issue_all(
        gateways=gateway or (), entities=entity or (), hosts=broker or (), days=days, force=force
    )
    if as_json:
        typer.echo(
            json.dumps({"ca": str(authority.ca_path), "issued": [_issued_json(one) for one in issued]})
        )
        return
    table = Table(title=f"Development identities in {escape(str(directory))}")
    for heading in ("identity", "for", "certificate, key", "valid until", ""):
        table.add_column(heading, overflow="fold")
    until = f"{authority.certificate.not_valid_after_utc:%Y-%m-%d}"
    table.add_row("", "authority", "ca.pem, .key", until, "written" if made else "kept")
    for one in issued:
        table.add_row(
            one.subject,
            one.kind,
            f"{one.cert_path.name}, .key",
            f"{one.not_after:%Y-%m-%d}",
            "written" if one.written else "kept",
        )
    Console().print(table)


@app.command(
    "broker",
    epilog="Example: portico certs broker var/broker --certs var/certs --gateway gw-0001 --entity "
    "dso.example",
)
def broker_files(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Where the broker's files are written.")],
    certs: Annotated[
        Path, typer.Option("--certs", metavar="DIR", help="What `portico certs dev --broker` wrote.")
    ],
    gateway: Annotated[
        list[str] | None,
        typer.Option(help="Id of a gateway; may be repeated. Without any: whoever has a certificate."),
    ] = None,
    entity: Annotated[list[str] | None, typer.Option(help="Id of an entity; may be repeated.")] = None,
    policy_service: Annotated[
        str | None, typer.Option(help="Id of who publishes policies; its certificate is like an entity's.")
    ] = None,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port on 127.0.0.1.")] = 8883,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object on one line.")] = False,
) -> None:
    """Write a mosquitto configuration with Portico's access rules, and print how to start the broker.

    What was written before is replaced; the broker's sessions stay.
    """
    for path in (certs / "ca.pem", certs / "broker.pem", certs / "broker.key"):
        if not path.is_file():
            raise ConfigError(
                f"{path} does not exist: write it with portico certs dev {certs} --broker 127.0.0.1"
            )
    path = write_broker_config(
        directory,
        port=port,
        ca=certs / "ca.pem",
        cert=certs / "broker.pem",
        key=certs / "broker.key",
        gateways=gateway or None,
        entities=entity or (),
        policy_service=policy_service,
    )
    # Debian keeps mosquitto in sbin, which is not on everybody's PATH.
    program = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/local/sbin:/usr/sbin")
    start = [program or "mosquitto", "-c", str(path)]
    if as_json:
        typer.echo(json.dumps({"config": str(path), "acl": str(path.with_name("acl")), "start": start}))
    else:
        typer.echo(f"{path} and its access rules are written; start the broker with\n{shlex.join(start)}")
    if program is None:
        typer.echo("mosquitto is not installed: run apt-get install mosquitto", err=True)


@app.command("show", epilog="Example: portico certs show var/certs/*.pem")
def show(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="PEM files with certificates.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object on one line.")] = False,
) -> None:
    """Show whom certificates name, what they are for, how long they last, fingerprint and key id."""
    now = datetime.now(UTC)
    found = [(path, _described(one, path, now)) for path in files for one in read_certificates(path)]
    if as_json:
        typer.echo(json.dumps({"certificates": [_description_json(path, one) for path, one in found]}))
        return
    console = Console()
    for path, one in found:
        table = Table(title=escape(str(path)), title_justify="left", show_header=False)
        for name, value in _rows(one):
            table.add_row(name, value)
        console.print(table)


def _described(certificate: x509.Certificate, path: Path, at: datetime) -> Description:
    try:
        return describe(certificate, at)
    except UNREADABLE as error:
        raise ConfigError(
            f"certificate {path} is damaged or of a kind that is unknown here: {error}"
        ) from error


def _rows(one: Description) -> list[tuple[str, str]]:
    colour = "red" if one.days_left < 0 else "yellow" if one.days_left < WARN_DAYS else "green"
    left = f"{one.days_left} days left" if one.days_left >= 0 else f"not valid for {-one.days_left} days"
    rows = [
        ("subject", escape(one.subject)),
        ("for", one.kind),
        ("issuer", f"{escape(one.issuer)}{' [red](development)[/red]' if one.development else ''}"),
        ("valid", f"{one.not_before:%Y-%m-%d} to {one.not_after:%Y-%m-%d}, [{colour}]{left}[/{colour}]"),
        ("SHA-256", one.fingerprint),
        ("key id", one.kid),
    ]
    return [*rows[:2], ("names", escape(", ".join(one.names))), *rows[2:]] if one.names else rows


def _issued_json(one: Issued) -> dict[str, str | bool]:
    return {
        "subject": one.subject,
        "role": one.kind,
        "cert": str(one.cert_path),
        "key": str(one.key_path),
        "not_after": one.not_after.isoformat(),
        "written": one.written,
    }


def _description_json(path: Path, one: Description) -> dict[str, object]:
    fields = asdict(one)
    return {
        "file": str(path),
        "role": fields.pop("kind"),
        **fields,
        "not_before": one.not_before.isoformat(),
        "not_after": one.not_after.isoformat(),
    }
