"""`portico policy publish`: put in force what is signed, into a folder and onto a broker.

Relies on `policies.trust_publish` for the act and on `headend.policysend` for the network.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError

from core.errors import ConfigError
from core.ids import name_fault
from headend.policysend import Sending, section, send
from policies.trust.files import write_whole
from policies.trust.publishing import Publication
from policies.trust_options import AsJson, Base, Keys, PassPhrase
from policies.trust_publish import publish_to

app = typer.Typer()


@app.command(
    "publish",
    epilog="Example: portico policy publish policy --broker mqtts://broker:8883 --ca ca.pem "
    "--cert policy.pem --cert-key policy.key",
)
def publish(
    base: Base,
    to: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Where files are written; DIR/out without it.")
    ] = None,
    key: Keys = None,
    pass_phrase_file: PassPhrase = None,
    broker: Annotated[str | None, typer.Option(metavar="URL", help="Send it to this broker too.")] = None,
    ca: Annotated[Path | None, typer.Option(metavar="FILE", help="Authority of the broker.")] = None,
    cert: Annotated[Path | None, typer.Option(metavar="FILE", help="Certificate to show the broker.")] = None,
    cert_key: Annotated[Path | None, typer.Option(metavar="FILE", help="The certificate's key.")] = None,
    segment: Annotated[str, typer.Option(help="Part of the fleet that it is for.")] = "main",
    client_id: Annotated[str, typer.Option(help="MQTT client id.")] = "policy-service",
    everything: Annotated[
        bool, typer.Option("--all", help="Send also what the broker was sent before: it may have lost it.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Put in force what enough have signed, and let every gateway have it; run it daily."""
    fault = name_fault(segment)
    if fault is not None:
        raise ConfigError(f"segment {segment!r} {fault}")
    sending = None if broker is None else _sending(broker, ca, cert, cert_key, segment, client_id)

    def deliver(publication: Publication) -> str:
        if sending is None:
            return ""
        record = base / "sent.json"
        known = {} if everything else _sent_before(record, sending)
        has = send(publication, sending, known)
        write_whole(record, json.dumps({**_all_sent(record), _place(sending): has}).encode())
        news = sum(known.get(topic) != content for topic, content in has.items())
        return f" and {news} of {len(has)} messages, those that are new, to {sending.broker.url}"

    publish_to(base, to, key or (), pass_phrase_file, deliver, as_json)


def _sending(
    url: str, ca: Path | None, cert: Path | None, key: Path | None, segment: str, client_id: str
) -> Sending:
    try:
        return Sending(section(url, ca, cert, key), segment, client_id)
    except ValidationError as error:
        raise ConfigError(f"--broker {url}: {error.errors()[0]['msg']}") from error


def _place(sending: Sending) -> str:
    return f"{sending.broker.url} {sending.segment}"


def _all_sent(record: Path) -> dict[str, dict[str, str]]:
    """Return what each broker has, as it was told after the last time."""
    if not record.exists():
        return {}
    try:
        found: dict[str, dict[str, str]] = json.loads(record.read_bytes())
    except ValueError:
        return {}
    return found


def _sent_before(record: Path, sending: Sending) -> dict[str, str]:
    return _all_sent(record).get(_place(sending), {})
