"""`portico command send | cancel | watch | status`: one command, followed from received to restored.

Exit code 0 when it ended as wanted (restored, left to the device's timer, done), 1 when it was refused,
failed or ended otherwise, 2 for wrong use.  Relies on the modules beside it.  Not here: deciding; that is
the gateway's, and `portico policy explain` asks the same question beforehand.
"""

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Final

import typer

from certs.signing import TrustedSigners
from cli.command_beat import beat
from cli.command_books import steps_in
from cli.command_operator import ENVIRONMENT, Given, Operator, load_operator, signing_key
from cli.command_steps import Asked, Ending, Progress, build_command, new_id
from cli.command_view import View, view_for
from cli.command_wire import Certificates, Wire
from core.errors import ConfigError
from core.records import Outcome
from core.topics import command_topic
from policies.command import Command
from policies.envelope import PrivateKey, sign_command
from policies.forms import parse_duration
from policies.grant import Verb
from policies.reading import canonical
from policies.trust_options import PassPhrase, phrase_in

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Send signed commands to gateways and follow them.",
)
app.command(epilog="Example: portico command beat --as esco1/dr-hub/hub-1 --segment main")(beat)
LOOK_S: Final = 0.5
BOOKS_S: Final = 2.0
"""How often the books are looked into beside what the broker brings."""

Config = Annotated[
    Path | None,
    typer.Option("--config", "-c", envvar=ENVIRONMENT, help="Operator file; operator.toml if it is here."),
]
Gateway = Annotated[str, typer.Option(help="Gateway that the device is behind.")]
Device = Annotated[str, typer.Option(help="Device, as the gateway names it.")]
Point = Annotated[str, typer.Option(help="Point of the device.")]
Who = Annotated[str | None, typer.Option("--as", metavar="E/A/I", help="Entity, application and individual.")]
Key = Annotated[Path | None, typer.Option(help="Key that signs: PEM, Ed25519 or P-256.")]
KeyId = Annotated[str | None, typer.Option(help="Its id in the roster; the file's name without it.")]
Broker = Annotated[str | None, typer.Option(metavar="URL", help="mqtts://host:8883")]
Ca = Annotated[Path | None, typer.Option(metavar="FILE", help="Authority of the broker.")]
Cert = Annotated[Path | None, typer.Option(metavar="FILE", help="The entity's certificate at the broker.")]
KeyTls = Annotated[Path | None, typer.Option(metavar="FILE", help="The certificate's key.")]
Trust = Annotated[
    list[Path] | None, typer.Option(metavar="FILE", help="Authority of gateways' keys; --ca without it.")
]
Folder = Annotated[Path | None, typer.Option(metavar="DIR", help="Folder with <gateway>.sign.pem.")]
BooksFile = Annotated[Path | None, typer.Option(metavar="FILE", help="Books of the entity's collector.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON object a step, for programs.")]
Expires = Annotated[str, typer.Option(help="How long a gateway may take it.")]
Dry = Annotated[bool, typer.Option("--dry-run", help="Print the command that would be signed; send nothing.")]
NoWait = Annotated[bool, typer.Option("--no-wait", help="Leave when the broker has it.")]


@app.command(
    epilog="Example: portico command send --gateway gw-0001 --device wh-01 --point LoadShed --verb shed "
    "--value 1 --for 30min --purpose peak"
)
def send(
    gateway: Gateway,
    device: Device,
    point: Point,
    verb: Annotated[str, typer.Option(help="shed, switch, limit or set-clock.")],
    value: Annotated[str | None, typer.Option(help="Value: 0 or 1, or the limit.")] = None,
    duration: Annotated[str | None, typer.Option("--for", help="How long: 90s, 30min, 2h.")] = None,
    at: Annotated[str | None, typer.Option(help="Begin: 17:00, or 2026-11-22T17:00:00Z; now.")] = None,
    purpose: Annotated[str | None, typer.Option(help="Purpose that the grant names.")] = None,
    emergency: Annotated[bool, typer.Option("--emergency", help="With the signature of a second.")] = False,
    cosign: Annotated[
        list[str] | None,
        typer.Option(metavar="INDIVIDUAL=KEY", help="Another individual who signs, with the key's file."),
    ] = None,
    expires: Expires = "60s",
    config: Config = None,
    who: Who = None,
    key: Key = None,
    key_id: KeyId = None,
    pass_phrase_file: PassPhrase = None,
    broker: Broker = None,
    ca: Ca = None,
    cert: Cert = None,
    key_tls: KeyTls = None,
    trust: Trust = None,
    certificates: Folder = None,
    books: BooksFile = None,
    dry_run: Dry = False,
    no_wait: NoWait = False,
    as_json: Json = False,
) -> None:
    """Send one command, and follow it to its end."""
    operator = load_operator(
        Given(config, who, key, key_id, broker, ca, cert, key_tls, tuple(trust or ()), certificates, books)
    )
    others = [_cosigner(one) for one in cosign or ()]
    if verb == Verb.CANCEL.value:
        raise ConfigError("a control is ended by: portico command cancel ID")
    asked = Asked(
        gateway, device, point, verb, value, duration, at, purpose,
        emergency=emergency, cosigners=tuple(name for name, _ in others), expires=expires,
    )  # fmt: skip
    phrase = phrase_in(pass_phrase_file)
    signers = [(path.stem, signing_key(path, phrase)) for _, path in others]
    _send(operator, asked, phrase, signers, dry_run=dry_run, no_wait=no_wait, as_json=as_json)


@app.command(
    epilog="Example: portico command cancel 20261122T170000123-9f3ac2d1 --gateway gw-0001 --device wh-01 "
    "--point LoadShed"
)
def cancel(
    command: Annotated[str, typer.Argument(metavar="ID", help="The command whose control ends.")],
    gateway: Gateway,
    device: Device,
    point: Point,
    expires: Expires = "60s",
    config: Config = None,
    who: Who = None,
    key: Key = None,
    key_id: KeyId = None,
    pass_phrase_file: PassPhrase = None,
    broker: Broker = None,
    ca: Ca = None,
    cert: Cert = None,
    key_tls: KeyTls = None,
    trust: Trust = None,
    certificates: Folder = None,
    books: BooksFile = None,
    dry_run: Dry = False,
    no_wait: NoWait = False,
    as_json: Json = False,
) -> None:
    """End a control now: by whose command it was, by the device's owners, or by the utility."""
    operator = load_operator(
        Given(config, who, key, key_id, broker, ca, cert, key_tls, tuple(trust or ()), certificates, books)
    )
    asked = Asked(gateway, device, point, Verb.CANCEL.value, cancels=command, expires=expires)
    phrase = phrase_in(pass_phrase_file)
    _send(operator, asked, phrase, [], dry_run=dry_run, no_wait=no_wait, as_json=as_json)


@app.command(epilog="Example: portico command watch 20261122T170000123-9f3ac2d1 --gateway gw-0001")
def watch(
    command: Annotated[str, typer.Argument(metavar="ID", help="The command.")],
    gateway: Gateway,
    config: Config = None,
    who: Annotated[str | None, typer.Option("--as", help="Entity that reads.")] = None,
    broker: Broker = None,
    ca: Ca = None,
    cert: Cert = None,
    key_tls: KeyTls = None,
    trust: Trust = None,
    certificates: Folder = None,
    books: BooksFile = None,
    timeout: Annotated[str | None, typer.Option(help="Leave after this long: 30s, 5min.")] = None,
    as_json: Json = False,
) -> None:
    """Follow a command to its end; what the books have of it comes first."""
    operator = load_operator(
        Given(config, who, None, None, broker, ca, cert, key_tls, tuple(trust or ()), certificates, books)
    )
    longest_s = None if timeout is None else _span_s(timeout, "--timeout")
    with view_for(as_json) as view:
        progress = _from_books(operator, Progress(command, operator.entity), gateway, view)
        if progress.ending is None:
            with _wire(operator, gateway) as wire:
                followed = Followed([progress], gateway, view, operator.books)
                _follow(wire, followed, None, longest_s)
                progress = followed.first
        _leave(progress, view, gateway)


@app.command(epilog="Example: portico command status 20261122T170000123-9f3ac2d1 --gateway gw-0001")
def status(
    command: Annotated[str, typer.Argument(metavar="ID", help="The command.")],
    gateway: Gateway,
    config: Config = None,
    who: Annotated[str | None, typer.Option("--as", help="Entity that reads.")] = None,
    broker: Broker = None,
    ca: Ca = None,
    cert: Cert = None,
    key_tls: KeyTls = None,
    trust: Trust = None,
    certificates: Folder = None,
    books: BooksFile = None,
    seconds: Annotated[float, typer.Option(min=0.1, help="Without books: watch for so long.")] = 5.0,
    as_json: Json = False,
) -> None:
    """Say where a command stands: by the books, else by what is told of it just now."""
    operator = load_operator(
        Given(config, who, None, None, broker, ca, cert, key_tls, tuple(trust or ()), certificates, books)
    )
    with view_for(as_json) as view:
        progress = _from_books(operator, Progress(command, operator.entity), gateway, view)
        if operator.books is None:
            with _wire(operator, gateway) as wire:
                followed = Followed([progress], gateway, view, operator.books)
                _follow(wire, followed, None, seconds)
                progress = followed.first
        if not progress.steps:
            where = "the books" if operator.books is not None else f"{seconds:g} s of watching"
            raise ConfigError(f"nothing of command {command} of {operator.entity} in {where}")
        if progress.ending is None:
            view.say(f"it goes on: {progress.state}")
            return
        _leave(progress, view, gateway)


class Followed:
    """Commands that are followed together: a cancellation, and the control that it ends."""

    def __init__(
        self, every: Sequence[Progress], gateway: str, view: View, books: Path | None = None
    ) -> None:
        self._every = list(every)
        self._gateway = gateway
        self._books = books
        self._looked = time.monotonic()
        self.view = view

    @property
    def first(self) -> Progress:
        """The one that was sent."""
        return self._every[0]

    @property
    def last(self) -> Progress:
        """The one that is waited for."""
        return self._every[-1]

    def take(self, wire: Wire, timeout_s: float) -> None:
        """Wait for news and show what is ours."""
        for epoch, outcome in wire.outcomes(timeout_s):
            for number in range(len(self._every)):
                self._note(number, epoch, outcome)
        if self._books is not None and time.monotonic() - self._looked > BOOKS_S:
            self._look(self._books)

    def _look(self, books: Path) -> None:
        """Take from the books what a broker that was away did not bring."""
        self._looked = time.monotonic()
        for number, progress in enumerate(self._every):
            for epoch, outcome in steps_in(books, self._gateway, progress.command, progress.entity):
                self._note(number, epoch, outcome)

    def _note(self, number: int, epoch: str, outcome: Outcome) -> None:
        new = self._every[number].follow(epoch, outcome)
        if new is not self._every[number]:
            self._every[number] = new
            self.view.step(self._gateway, outcome)

    @property
    def idle(self) -> bool:
        """Whether there was nothing to cancel: of that nothing is told."""
        return any("nothing-runs" in one.reasons for one in self.first.steps)

    @property
    def over(self) -> bool:
        """Whether nothing more is to come."""
        first = self.first
        if first.ending is Ending.OTHERWISE:
            return True
        return first.ending is not None and (self.idle or all(one.ending is not None for one in self._every))


def _send(
    operator: Operator,
    asked: Asked,
    phrase: bytes | None,
    cosigners: Sequence[tuple[str, PrivateKey]],
    *,
    dry_run: bool,
    no_wait: bool,
    as_json: bool,
) -> None:
    now = _now_ms()
    command = build_command(asked, operator.issuer, now, new_id(now))
    if dry_run:
        _show_dry(command, as_json)
        return
    raw = sign_command(command, [operator.key(phrase), *cosigners])
    topic = command_topic(command.gateway, command.issuer.entity, command.device)
    entity = command.issuer.entity
    every = [Progress(command.id, entity)]
    if command.cancels is not None:
        every.append(Progress(command.cancels, entity))
    with view_for(as_json) as view, _wire(operator, command.gateway) as wire:
        wire.publish(topic, raw, (command.expires_ms - _now_ms()) // 1000)
        view.sent(command.id, command.gateway)
        if no_wait:
            return
        followed = Followed(every, command.gateway, view, operator.books)
        try:
            _follow(wire, followed, command.expires_ms, None)
        except KeyboardInterrupt:
            view.say(
                f"it goes on without us: portico command watch {command.id} --gateway {command.gateway} "
                "shows it, portico command cancel ends it"
            )
            raise typer.Exit(1) from None
        first = followed.first
        alone = first.ending is not Ending.AS_WANTED or followed.idle
        _leave(first if alone else followed.last, view, command.gateway)


def _follow(wire: Wire, followed: Followed, expires_ms: int | None, longest_s: float | None) -> None:
    """Take what is told until it is over, or until no word can be expected any more."""
    began = time.monotonic()
    while not followed.over:
        now = _now_ms()
        followed.view.tick(now)
        deadlines = [followed.first.deadline_ms(expires_ms)]
        if followed.first.ending is not None:
            deadlines = [followed.last.deadline_ms(None if expires_ms is None else expires_ms + 60_000)]
        if deadlines[0] is not None and now > deadlines[0]:
            return
        if longest_s is not None and time.monotonic() - began > longest_s:
            return
        followed.take(wire, LOOK_S)


def _leave(progress: Progress, view: View, gateway: str) -> None:
    """Say how it ended, and leave with the exit code that says it too."""
    match progress.ending:
        case Ending.AS_WANTED:
            view.say("ended as wanted")
        case Ending.OTHERWISE:
            put_back = "failed and put back" if progress.state != "done" else "failed"
            view.say(f"not as wanted: {put_back if progress.failed else progress.state}")
            raise typer.Exit(1)
        case None if progress.steps:
            view.say(
                f"no word of its end from {gateway}, the last was {progress.state}: look at portico headend "
                "outcomes and alarms, and at the device"
            )
            raise typer.Exit(1)
        case None:
            view.say(f"no word from {gateway}: it did not get the command, or nobody it believes signed it")
            raise typer.Exit(1)


def _wire(operator: Operator, gateway: str) -> Wire:
    certificates = Certificates(operator.certificates, operator.books)
    return Wire(operator.broker, operator.entity, gateway, TrustedSigners(operator.trust), certificates)


def _from_books(operator: Operator, progress: Progress, gateway: str, view: View) -> Progress:
    if operator.books is None:
        return progress
    for epoch, outcome in steps_in(operator.books, gateway, progress.command, progress.entity):
        new = progress.follow(epoch, outcome)
        if new is not progress:
            view.step(gateway, outcome)
        progress = new
    return progress


def _show_dry(command: Command, as_json: bool) -> None:
    signed = canonical(command).decode()
    if as_json:
        typer.echo(signed)
        return
    for name, value in json.loads(signed).items():
        typer.echo(f"{name:10}  {'/'.join(value.values()) if isinstance(value, dict) else value}")
    topic = command_topic(command.gateway, command.issuer.entity, command.device)
    typer.echo(f"{'topic':10}  {topic}\nwhat is signed:\n{signed}")


def _cosigner(text: str) -> tuple[str, Path]:
    name, separator, path = text.partition("=")
    if not separator or not name or not path:
        raise ConfigError(f"--cosign {text!r} is not INDIVIDUAL=KEY, for example op-18=op-18.key")
    return name, Path(path)


def _span_s(text: str, what: str) -> float:
    try:
        return float(parse_duration(text))
    except ValueError as error:
        raise ConfigError(f"{what} {error}") from None


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
