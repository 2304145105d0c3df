"""An operator at the broker: a command out, and what becomes of it back, beside the entity's collector.

The reader has a client id of its own and a session that ends with it: the collector loses nothing by it.
It confirms nothing and asks nothing, because both are the collector's.  Outcomes count when a gateway's
certified key signed them (`headend.intake`); its certificate comes with its retained state or another
message, from a folder or from books.

Relies on paho.  Not here: what a command is (`cli.command_steps`).
"""

import contextlib
import queue
import secrets
import threading
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import paho.mqtt.client as mqtt
from cryptography.hazmat.primitives.serialization import Encoding
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from certs.contexts import client_context
from certs.pem import read_certificates
from certs.signing import TrustedSigners
from core.errors import Rejected, TrustError, Unreachable
from core.ids import checked_name
from core.records import Outcome
from core.topics import Lane, StreamTopic, state_topic
from headend.config import BrokerSection
from headend.intake import Accepted, Intake, Refusal, Refused
from headend.known import KnownManifest
from headend.linkfaults import unconnected
from headend.schema import open_reader, translated

ANSWER_S: Final = 15.0
STATE_S: Final = 5.0
"""So long after the beginning the gateway's state may bring its certificate; it is retained."""
SESSION_S: Final = 600
"""How long the broker keeps what comes while the connection is away; given up at an orderly end."""
WAITING: Final = 1000
NOBODY_LISTENS: Final = 0x10


class Certificates:
    """Signing certificates of gateways that are known beforehand (`headend.intake.Library`)."""

    def __init__(self, folder: Path | None, books: Path | None) -> None:
        self._folder = folder
        self._books = books

    def manifest(self, digest: str, entity: str) -> KnownManifest | None:
        """Return nothing: outcomes need none."""
        return None

    def certificates(self, kid: bytes, subject: str) -> list[bytes]:
        """Return what is known of a gateway."""
        found = []
        path = None if self._folder is None else self._folder / f"{checked_name(subject, 'gateway')}.sign.pem"
        if path is not None and path.exists():
            found += [one.public_bytes(Encoding.DER) for one in read_certificates(path)]
        if self._books is not None:
            connection = open_reader(self._books)
            with contextlib.closing(connection), translated(self._books):
                rows = connection.execute(
                    "SELECT der FROM certificate WHERE kid = ? AND subject = ? LIMIT 8", (kid.hex(), subject)
                )
                found += [der for (der,) in rows]
        return found


class Wire:
    """One connection of one operator; a context manager."""

    def __init__(
        self,
        broker: BrokerSection,
        entity: str,
        gateway: str,
        trusted: TrustedSigners,
        certificates: Certificates,
    ) -> None:
        self._broker = broker
        self._topics = [str(StreamTopic(gateway, entity, Lane.CONTROL)), state_topic(gateway)]
        self._gateway = gateway
        self._intake = Intake(entity, trusted, certificates)
        self._came: queue.Queue[tuple[str, bytes]] = queue.Queue(WAITING)
        self._ready, self._taken = threading.Event(), threading.Event()
        self._unknown: deque[tuple[str, bytes]] = deque(maxlen=WAITING)
        """What cannot be judged yet, for want of the gateway's certificate."""
        self._begun = time.monotonic()
        self.refused = 0
        """Messages that could not be believed."""
        self._refusal: ReasonCode | None = None
        self._answer: ReasonCode | None = None
        self._client = client = mqtt.Client(
            CallbackAPIVersion.VERSION2,
            client_id=f"{entity}-command-{secrets.token_hex(4)}",
            protocol=mqtt.MQTTv5,
        )
        if broker.tls and broker.ca is not None and broker.cert is not None and broker.key is not None:
            client.tls_set_context(client_context(broker.ca, broker.cert, broker.key))
        client.on_connect = self._on_connect
        client.on_subscribe = self._on_subscribe
        client.on_message = self._on_message
        client.on_publish = self._on_publish

    def __enter__(self) -> Self:
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.SessionExpiryInterval = SESSION_S
        broker = self._broker
        try:
            self._client.connect(
                broker.host, broker.port, keepalive=broker.keepalive_s, properties=properties
            )
        except (OSError, ValueError) as error:
            raise Unreachable(unconnected(broker.url, broker.ca, error)) from error
        self._client.loop_start()
        try:
            self._wait(self._ready, "did not answer")
            if self._refusal is not None:
                code = self._refusal
                raise Rejected(code.value, f"broker {broker.url} refuses to let us read: {code}")
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        properties = Properties(PacketTypes.DISCONNECT)  # type: ignore[no-untyped-call]
        properties.SessionExpiryInterval = 0
        self._client.disconnect(properties=properties)
        self._client.loop_stop()

    def publish(self, topic: str, payload: bytes, expires_s: int) -> None:
        """Hand a command to the broker: QoS 1, never retained, gone when nobody may take it any more."""
        properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
        properties.MessageExpiryInterval = max(1, expires_s)
        self._taken.clear()
        self._client.publish(topic, payload, qos=1, retain=False, properties=properties)
        self._wait(self._taken, "did not take the command")
        answer = self._answer
        if answer is None:
            return
        if answer.is_failure:
            raise Rejected(
                answer.value,
                f"broker {self._broker.url} refuses {topic}: {answer}; the certificate's entity must be the "
                "one that commands",
            )
        if answer.value == NOBODY_LISTENS:
            raise Rejected(
                answer.value,
                f"nobody listens on {topic}, so the command is lost: is {self._gateway} on line, and has it "
                "a policy?",
            )

    def outcomes(self, timeout_s: float) -> Iterator[tuple[str, Outcome]]:
        """Yield (epoch, outcome) of what came; waits for something at most so long.

        What cannot be believed is passed over: a broker could bring anything.  Raises TrustError when
        nothing can be judged for want of the gateway's certificate.
        """
        try:
            topic, payload = self._came.get(timeout=max(0.0, timeout_s))
        except queue.Empty:
            if self._unknown and time.monotonic() - self._begun > STATE_S:
                raise TrustError(
                    f"the signing key of {self._gateway} is not known here, so its outcomes cannot be "
                    f"believed: put {self._gateway}.sign.pem into the folder of --certificates, or name the "
                    "collector's --books; what was sent is with the gateway all the same"
                ) from None
            return
        if topic == state_topic(self._gateway):
            # Its certificate is known from here on, if an authority of ours certified it.
            self._intake.judge_state(self._gateway, topic, payload, time.time_ns() // 1_000_000)
            waiting, self._unknown = self._unknown, deque(maxlen=WAITING)
        else:
            waiting = deque([(topic, payload)])
        for one in waiting:
            yield from self._judged(*one)

    def _judged(self, topic: str, payload: bytes) -> Iterator[tuple[str, Outcome]]:
        match self._intake.judge(topic, payload, time.time_ns() // 1_000_000):
            case Accepted(message=message):
                self._unknown.clear()
                yield from ((message.epoch, one) for one in message.records if isinstance(one, Outcome))
            case Refused(reason=Refusal.UNKNOWN_KEY):
                self._unknown.append((topic, payload))
            case Refused():
                self.refused += 1

    def _wait(self, what: threading.Event, failure: str) -> None:
        if not what.wait(ANSWER_S):
            raise Unreachable(f"broker {self._broker.url} {failure}: check certificate, rules and its log")

    # paho's thread

    def _on_connect(
        self, client: mqtt.Client, userdata: Any, flags: mqtt.ConnectFlags, reason: ReasonCode, props: Any
    ) -> None:
        if reason.is_failure:
            self._refusal = reason
            self._ready.set()
            return
        client.subscribe([(topic, 1) for topic in self._topics])

    def _on_subscribe(
        self, client: mqtt.Client, userdata: Any, mid: int, reasons: list[ReasonCode], props: Any
    ) -> None:
        if reasons and reasons[0].is_failure:
            self._refusal = reasons[0]
        self._ready.set()

    def _on_message(self, client: mqtt.Client, userdata: Any, message: mqtt.MQTTMessage) -> None:
        with contextlib.suppress(queue.Full):  # the oldest count: what is new is told by the books too
            self._came.put_nowait((message.topic, bytes(message.payload)))

    def _on_publish(
        self, client: mqtt.Client, userdata: Any, mid: int, reason: ReasonCode, props: Any
    ) -> None:
        self._answer = reason
        self._taken.set()
