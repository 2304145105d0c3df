"""One connection to one broker: paho-mqtt behind an asyncio face.

paho runs its own network thread; everything it tells is handed to the event loop.
Connecting, and connecting again with growing pauses, is done here and not by
paho, so that the agent knows the state and never blocks.  A publish that the
broker refuses shows only as the reason code of ``on_publish``: it is passed on.

Source: MQTT 5.0 (OASIS); reason codes §2.4.
"""

import asyncio
import logging
import random
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from core.codec import MAX_SEALED
from core.errors import ConfigError, TrustError, Unreachable

log = logging.getLogger(__name__)

CONNECT_TIMEOUT_S: Final = 10.0
SESSION_EXPIRY_S: Final = 7 * 86400
TOPIC_BYTES: Final = 1024
"""Beside a message of the longest kind a packet holds its topic and little else; longer ones stay outside."""
FIRST_PAUSE_S: Final = 0.5
LONGEST_PAUSE_S: Final = 60.0
AS_PUBLISHED: Final = SubscribeOptions(qos=1, retainAsPublished=True)
"""So that what is published just now shows whether it is to be retained: commands must not be."""
TAKEN_OVER: Final = 0x8E
"""Reason code: another client connected with our id."""
UNSPECIFIED: Final = 0x80
"""What paho says when the connection broke without a reason code, as mosquitto 2.0 does on a takeover."""
NOT_ALIVE: Final = 0x8D
"""Reason code: nothing was heard for longer than the keep alive."""
STABLE_S: Final = 10.0
"""A connection that lasted so long was a good one: the next pause is a short one again."""
BRIEF_ALARM: Final = 3
SUBSCRIBED: Final = frozenset({0, 1, 2})


class Listener(Protocol):
    """What uses a connection; every call comes in the event loop."""

    def up(self, session_present: bool) -> None: ...
    def down(self) -> None: ...
    def heard(self, topic: str, payload: bytes, retained: bool) -> None: ...


@dataclass(frozen=True, slots=True)
class BrokerOptions:
    """Where and how to connect."""

    host: str
    port: int
    client_id: str
    context: Callable[[], ssl.SSLContext] | None
    """Made anew for each connection: a renewed certificate is taken up, an expired one is told."""
    cert: Path | None = None
    """What the context shows to the broker, for sentences."""
    keepalive_s: int = 30
    window: int = 50
    """Messages in flight; more than 100 makes paho slow (reference figures: half at 1000)."""
    subscriptions: tuple[str, ...] = ()
    will: Callable[[], tuple[str, bytes]] | None = None
    """Makes topic and payload that the broker publishes, retained, when we vanish."""
    greeting: Callable[[], tuple[str, bytes]] | None = None
    """Makes the retained message published at each connection."""


@dataclass(slots=True)
class BrokerCounts:
    """What the connection did."""

    connects: int = 0
    published: int = 0
    acknowledged: int = 0
    refused: int = 0
    bytes_out: int = 0
    last_error: str = ""


@dataclass(slots=True)
class _Up:
    session_present: bool = False
    failure: str = ""
    done: asyncio.Event = field(default_factory=asyncio.Event)


class Broker:
    """One connection; :meth:`run` keeps it up until cancelled."""

    def __init__(self, options: BrokerOptions, on_alarm: Callable[[str, bool, str], None]) -> None:
        self.options = options
        self.counts = BrokerCounts()
        self.connected = False
        self.listeners: list[Listener] = []
        self._on_alarm = on_alarm
        self._on_ack: dict[int, Callable[[int], None]] = {}
        self._loop = asyncio.get_running_loop()
        self._up = _Up()
        self._lost = asyncio.Event()
        self._brief = 0
        self._more: frozenset[str] = frozenset()
        self._client: paho.Client | None = None

    @property
    def name(self) -> str:
        """Return the address for sentences."""
        return f"{self.options.host}:{self.options.port}"

    def _new_client(self) -> paho.Client:
        client = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id=self.options.client_id,
            protocol=paho.MQTTv5,
            reconnect_on_failure=False,
        )
        if self.options.context is not None:
            client.tls_set_context(self.options.context())
        client.connect_timeout = CONNECT_TIMEOUT_S
        client.max_inflight_messages_set(self.options.window)
        client.max_queued_messages_set(0)  # our own window is the bound
        if self.options.will is not None:
            topic, payload = self.options.will()
            client.will_set(topic, payload, qos=1, retain=True)
        client.on_socket_open = _no_delay
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_publish = self._on_publish
        client.on_message = self._on_message
        client.on_subscribe = self._on_subscribe
        return client

    async def run(self) -> None:
        """Connect, stay connected, connect again; never returns."""
        pause = FIRST_PAUSE_S
        announced = False
        while True:
            try:
                await self._connect()
            except Unreachable as error:
                self.counts.last_error = str(error)
                if not announced:
                    log.warning("%s", error)
                    self._on_alarm("broker-unreachable", True, str(error))
                    announced = True
                await asyncio.sleep(pause * random.uniform(0.5, 1.0))
                pause = min(pause * 2, LONGEST_PAUSE_S)
                continue
            if announced:
                log.warning("broker %s is back", self.name)
                self._on_alarm("broker-unreachable", False, f"broker {self.name} is back")
            announced = False
            begun = self._loop.time()
            try:
                await self._lost.wait()
            finally:
                await self._went_down()
            if self._loop.time() - begun >= STABLE_S:
                pause, self._brief = FIRST_PAUSE_S, 0
                self._on_alarm("broker-unstable", False, f"the connection to broker {self.name} lasts again")
                continue
            # Connected and thrown out at once: by a twin with our id, or by a broker in trouble.
            self._brief += 1
            if self._brief == BRIEF_ALARM:
                text = (
                    f"broker {self.name} ends the connection of {self.options.client_id} again and again "
                    f"({self.counts.last_error}): look for another box with this id, or into the broker's log"
                )
                log.error("%s", text)
                self._on_alarm("broker-unstable", True, text)
            if self._brief > 1:
                await asyncio.sleep(pause * random.uniform(0.5, 1.0))
                pause = min(pause * 2, LONGEST_PAUSE_S)

    async def _connect(self) -> None:
        self._up = _Up()
        self._lost.clear()
        try:
            self._client = self._new_client()
            await asyncio.to_thread(self._dial, self._client)
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                await self._up.done.wait()
        except TimeoutError as error:
            await asyncio.to_thread(self._hang_up)
            raise Unreachable(f"broker {self.name} took the connection but did not answer") from error
        except (TrustError, ConfigError) as error:
            raise Unreachable(f"broker {self.name} is not dialled: {error}") from error
        except (OSError, ssl.SSLError, ValueError) as error:
            await asyncio.to_thread(self._hang_up)
            raise Unreachable(f"broker {self.name} cannot be reached: {_reason(error)}") from error
        if self._up.failure:
            await asyncio.to_thread(self._hang_up)
            raise Unreachable(self._up.failure)
        self.connected = True
        self.counts.connects += 1
        # Before the greeting: what is retained of our own state tells whether a twin was here.
        self._subscribe(self._more.union(self.options.subscriptions))
        if self.options.greeting is not None:
            topic, payload = self.options.greeting()
            self._client.publish(topic, payload, qos=1, retain=True)
        for listener in self.listeners:
            listener.up(self._up.session_present)

    def _dial(self, client: paho.Client) -> None:
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.SessionExpiryInterval = SESSION_EXPIRY_S
        properties.MaximumPacketSize = MAX_SEALED + TOPIC_BYTES
        client.connect(
            self.options.host,
            self.options.port,
            keepalive=self.options.keepalive_s,
            clean_start=False,
            properties=properties,
        )
        client.loop_start()

    def _hang_up(self) -> None:
        if self._client is not None:
            self._client.disconnect()
            self._client.loop_stop()
            self._client = None

    async def _went_down(self) -> None:
        self.connected = False
        self._on_ack.clear()
        for listener in self.listeners:
            listener.down()
        await asyncio.to_thread(self._hang_up)

    async def farewell(self, topic: str, payload: bytes, within_s: float = 2.0) -> None:
        """Publish a last retained message and disconnect in order (the will is then not sent)."""
        if self.connected:
            done = asyncio.Event()
            self.publish(topic, payload, lambda _: done.set(), retain=True)
            try:
                async with asyncio.timeout(within_s):
                    await done.wait()
            except TimeoutError:
                log.debug("no acknowledgement of the farewell")

    def publish(
        self, topic: str, payload: bytes, on_ack: Callable[[int], None], retain: bool = False
    ) -> None:
        """Hand a message to the network thread; ``on_ack`` gets the reason code later, in the loop.

        When the connection is lost first, ``on_ack`` is never called: listeners hear :meth:`down`.
        """
        if self._client is None:
            return
        sent = self._client.publish(topic, payload, qos=1, retain=retain)
        self.counts.published += 1
        self.counts.bytes_out += len(payload)
        self._on_ack[sent.mid] = on_ack  # its acknowledgement comes through the loop: never earlier

    def listen(self, topics: frozenset[str]) -> None:
        """Subscribe to these beside those of the options, and to none that an earlier call named."""
        gone, new = self._more - topics, topics - self._more
        self._more = topics
        if self.connected:
            self._subscribe(new)
            if gone and self._client is not None:
                self._client.unsubscribe(sorted(gone))

    def _subscribe(self, topics: frozenset[str]) -> None:
        if topics and self._client is not None:
            self._client.subscribe([(topic, AS_PUBLISHED) for topic in sorted(topics)])

    # --- from paho's thread

    def _post(self, call: Callable[..., None], *args: object) -> None:
        try:
            self._loop.call_soon_threadsafe(call, *args)
        except RuntimeError:
            log.debug("the event loop is closed")

    def _on_connect(self, client: paho.Client, data: Any, flags: Any, reason: ReasonCode, props: Any) -> None:
        refusal = f"broker {self.name} refuses {self.options.client_id}: {reason}; see its log"
        self._post(self._greeted, bool(flags.session_present), refusal if reason.is_failure else "")

    def _greeted(self, session_present: bool, failure: str) -> None:
        self._up.session_present = session_present
        self._up.failure = failure
        self._up.done.set()

    def _on_disconnect(
        self, client: paho.Client, data: Any, flags: Any, reason: ReasonCode, props: Any
    ) -> None:
        self._post(self._disconnected, reason.value, str(reason))

    def _disconnected(self, code: int, text: str) -> None:
        if not self._up.done.is_set():
            # MQTT has no word for it: TLS 1.3 lets us speak before the broker has judged our certificate.
            text = unanswered(self.name, self.options.cert)
            self._up.failure = text
            self._up.done.set()
        elif self.connected:
            text = gone(self.name, self.options.client_id, code, text)
        self.counts.last_error = text
        if code == TAKEN_OVER:
            log.error("%s", text)
            self._on_alarm("identity-in-use", True, text)
        elif self.connected:
            log.warning("%s", text)
        self._lost.set()

    def _on_publish(self, client: paho.Client, data: Any, mid: int, reason: ReasonCode, props: Any) -> None:
        self._post(self._published, mid, reason.value if reason.is_failure else 0)

    def _published(self, mid: int, code: int) -> None:
        if code:
            self.counts.refused += 1
        else:
            self.counts.acknowledged += 1
        on_ack = self._on_ack.pop(mid, None)
        if on_ack is not None:
            on_ack(code)

    def _on_message(self, client: paho.Client, data: Any, message: paho.MQTTMessage) -> None:
        self._post(self._heard, message.topic, bytes(message.payload), message.retain)

    def _heard(self, topic: str, payload: bytes, retained: bool) -> None:
        for listener in self.listeners:
            listener.heard(topic, payload, retained)

    def _on_subscribe(self, client: paho.Client, data: Any, mid: int, reasons: Any, props: Any) -> None:
        refused = [str(reason) for reason in reasons if reason.value not in SUBSCRIBED]
        if refused:
            self._post(
                self._on_alarm,
                "subscription-refused",
                True,
                f"broker {self.name} refused a subscription of {self.options.client_id}: {refused[0]}",
            )


def gone(broker: str, client_id: str, code: int, said: str) -> str:
    """Say how a connection that stood ended: by reason code (MQTT 5 §2.4), or without one."""
    if code == TAKEN_OVER:
        return (
            f"another client connected to broker {broker} as {client_id}: "
            "two gateways with one id, or a copied box"
        )
    if code == UNSPECIFIED:
        return (
            f"the connection to broker {broker} broke without a word: the network, or the broker stopped, or "
            f"another box connected there as {client_id}; trying again"
        )
    if code == NOT_ALIVE:
        return f"broker {broker} was silent for longer than keepalive: look at the network; trying again"
    return f"broker {broker} ended the connection ({said}): its log says why; trying again"


def unanswered(broker: str, cert: Path | None) -> str:
    """Say what a broker probably means that closes a connection before it answers."""
    if cert is None:
        causes = "it probably speaks no MQTT 5 here, wants TLS (mqtts://), or refuses this address"
    else:
        causes = (
            f"it probably does not trust the authority of {cert}, or holds that certificate for ended, "
            "revoked or of another role; check cert in the route, and the broker's clock and authorities"
        )
    return f"broker {broker} closed the connection before it answered: {causes}; its log says which"


def _no_delay(client: paho.Client, data: Any, sock: Any) -> None:
    # Without it a message above 16 kB over TLS waits for the delayed ACK: 23 messages/s instead of 5,200.
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _reason(error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        mend = "the host in url" if "mismatch" in error.verify_message else "ca"
        return f"its certificate is not trusted ({error.verify_message}); check {mend} in the route"
    if isinstance(error, ssl.SSLError):
        return f"TLS failed ({error.reason}); check cert, key and ca in the route"
    if isinstance(error, socket.gaierror):
        return "its name is not known; check url in the route"
    return str(error.strerror if isinstance(error, OSError) and error.strerror else error)
