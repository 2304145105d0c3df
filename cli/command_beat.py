"""`portico command beat`: the hub of an entity, heard every minute by the gateways of its segments.

A gateway puts a control back when it has heard nothing fresh of its entity for as long as the grant says; a
beat is such a word, beside confirmations and commands.  What cannot be sent now is not sent later: a beat is
worth nothing when it is old.  Runs until it is told to end.  Relies on paho.

Not here: what a beat is (`policies.beat`), and what a gateway makes of it (`agent.control.beats`).
"""

import json
import secrets
import signal
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType, TracebackType
from typing import Annotated, Any, Final, Self

import paho.mqtt.client as mqtt
import typer
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from certs.contexts import client_context
from cli.command_operator import ENVIRONMENT, Given, Operator, load_operator
from core.errors import ConfigError, Rejected, Unreachable
from core.ids import checked_name
from core.topics import beat_topic
from headend.config import BrokerSection
from headend.linkfaults import unconnected
from policies.beat import EVERY_S, FRESH_MS, Beat, sign_beat
from policies.forms import duration_text, instant_text, parse_duration
from policies.jws import PrivateKey
from policies.trust_options import PassPhrase, phrase_in

ANSWER_S: Final = 15.0
NOBODY_LISTENS: Final = 0x10


def beat(
    segment: Annotated[
        list[str] | None, typer.Option(help="Gateways that are meant, as [policy] segment names them; main.")
    ] = None,
    every: Annotated[str, typer.Option(help="How often.")] = duration_text(round(EVERY_S)),
    once: Annotated[bool, typer.Option("--once", help="Beat once and leave.")] = False,
    config: Annotated[
        Path | None, typer.Option("--config", "-c", envvar=ENVIRONMENT, help="Operator file.")
    ] = None,
    who: Annotated[
        str | None, typer.Option("--as", metavar="E/A/I", help="Entity, application and individual.")
    ] = None,
    key: Annotated[
        Path | None, typer.Option(help="Key that signs; one of a viewer is enough, and can command nobody.")
    ] = None,
    key_id: Annotated[str | None, typer.Option(help="Its id in the roster; the file's name.")] = None,
    pass_phrase_file: PassPhrase = None,
    broker: Annotated[str | None, typer.Option(metavar="URL", help="mqtts://host:8883")] = None,
    ca: Annotated[Path | None, typer.Option(metavar="FILE", help="Authority of the broker.")] = None,
    cert: Annotated[Path | None, typer.Option(metavar="FILE", help="The entity's certificate.")] = None,
    key_tls: Annotated[Path | None, typer.Option(metavar="FILE", help="The certificate's key.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a beat, for programs.")] = False,
) -> None:
    """Beat for the entity's hub, every minute, so that its controls go on."""
    operator = load_operator(Given(config, who, key, key_id, broker, ca, cert, key_tls))
    segments = tuple(checked_name(one, "segment") for one in segment or ("main",))
    hub = Hub(operator, phrase_in(pass_phrase_file), segments, as_json=as_json)
    pause_s = _pause_s(every)
    stop = threading.Event()

    def stopping(_number: int, _frame: FrameType | None) -> None:
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stopping)
    with hub:
        due = time.monotonic()
        while True:
            hub.beat()
            if once:
                return
            # By the clock that nobody sets, and never two at once after a pause.
            due = max(due + pause_s, time.monotonic())
            if stop.wait(due - time.monotonic()):
                return


def _pause_s(text: str) -> float:
    try:
        seconds = parse_duration(text)
    except ValueError as error:
        raise ConfigError(f"--every {error}") from None
    if not 1 <= seconds <= FRESH_MS // 1000:
        raise ConfigError(
            f"--every {text}: from 1s to {FRESH_MS // 1000}s; what is rarer keeps no control alive"
        )
    return float(seconds)


class Hub:
    """The connection of one hub; a context manager."""

    def __init__(
        self, operator: Operator, phrase: bytes | None, segments: Sequence[str], *, as_json: bool
    ) -> None:
        self._issuer = operator.issuer
        self._key: tuple[str, PrivateKey] = operator.key(phrase)
        self._broker: BrokerSection = operator.broker
        self._segments = segments
        self._as_json = as_json
        self._said: dict[str, str] = {}
        self._up, self._answered = threading.Event(), threading.Event()
        self._refusal: ReasonCode | None = None
        self._answers: dict[int, ReasonCode] = {}
        self._client = client = mqtt.Client(
            CallbackAPIVersion.VERSION2,
            client_id=f"{self._issuer.entity}-beat-{secrets.token_hex(4)}",
            protocol=mqtt.MQTTv5,
        )
        broker = self._broker
        if broker.tls and broker.ca is not None and broker.cert is not None and broker.key is not None:
            client.tls_set_context(client_context(broker.ca, broker.cert, broker.key))
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_publish = self._on_publish

    def __enter__(self) -> Self:
        broker = self._broker
        try:
            self._client.connect(broker.host, broker.port, keepalive=broker.keepalive_s)
        except (OSError, ValueError) as error:
            raise Unreachable(unconnected(broker.url, broker.ca, error)) from error
        self._client.loop_start()
        if not self._up.wait(ANSWER_S):
            self.__exit__(None, None, None)
            raise Unreachable(f"broker {broker.url} did not answer: check certificate, rules and its log")
        if self._refusal is not None:
            self.__exit__(None, None, None)
            raise Rejected(self._refusal.value, f"broker {broker.url} refuses us: {self._refusal}")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def beat(self) -> None:
        """Send one to each segment, now or never."""
        if not self._up.is_set():
            self._say("", f"the broker {self._broker.url} is away: no beat can be sent")
            return
        for segment in self._segments:
            now_ms = time.time_ns() // 1_000_000
            self._one(segment, now_ms)

    def _one(self, segment: str, now_ms: int) -> None:
        issuer = self._issuer
        topic = beat_topic(segment, issuer.entity)
        said = {"entity": issuer.entity, "application": issuer.application, "segment": segment}
        found = Beat.model_validate({**said, "issued": instant_text(now_ms)})
        properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
        properties.MessageExpiryInterval = FRESH_MS // 1000
        sent = self._client.publish(
            topic, sign_beat(found, *self._key), qos=1, retain=False, properties=properties
        )
        answer = self._answer(sent.mid)
        if answer is None:
            self._say(segment, f"the broker {self._broker.url} did not take a beat")
        elif answer.is_failure:
            raise Rejected(
                answer.value,
                f"broker {self._broker.url} refuses {topic}: {answer}; the certificate's entity must be the "
                "one that beats",
            )
        elif answer.value == NOBODY_LISTENS:
            self._say(segment, f"beating: no gateway of segment {segment} listens to {issuer.entity} now")
        else:
            self._say(segment, f"beating for {issuer.entity} to segment {segment}")
        if self._as_json:
            told = {"topic": topic, "issued": instant_text(now_ms), "taken": answer is not None}
            heard = answer is not None and answer.value != NOBODY_LISTENS
            typer.echo(json.dumps({**told, "heard": heard}))

    def _answer(self, mid: int) -> ReasonCode | None:
        deadline = time.monotonic() + ANSWER_S
        while self._up.is_set() and time.monotonic() < deadline:
            if mid in self._answers:
                return self._answers.pop(mid)
            self._answered.wait(0.5)
            self._answered.clear()
        return self._answers.pop(mid, None)

    def _say(self, of: str, text: str) -> None:
        """Tell people when something changed, once."""
        if self._said.get(of) != text and not self._as_json:
            typer.echo(text)
        self._said = {**self._said, of: text} if of else {of: text}

    # paho's thread

    def _on_connect(
        self, client: mqtt.Client, userdata: Any, flags: mqtt.ConnectFlags, reason: ReasonCode, props: Any
    ) -> None:
        self._refusal = reason if reason.is_failure else None
        self._up.set()

    def _on_disconnect(
        self, client: mqtt.Client, userdata: Any, flags: Any, reason: ReasonCode, props: Any
    ) -> None:
        self._up.clear()
        self._answers.clear()

    def _on_publish(
        self, client: mqtt.Client, userdata: Any, mid: int, reason: ReasonCode, props: Any
    ) -> None:
        self._answers[mid] = reason
        self._answered.set()
