"""One MQTT client of ours beside the program under test: it hears everything, and says what it is told.

It connects with a certificate of the authority of the run, at QoS 1 and with *Retain As Published*, so that
each message shows how it was published. It keeps its session over outages of the broker.

Relies on paho-mqtt, whose thread calls `heard`. Not here: what messages mean.
"""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from certs.contexts import client_context
from core.errors import PorticoError

SESSION_S: Final = 3600
RECONNECT_S: Final = (1, 1)
CONNECT_S: Final = 15.0
PUBLISH_S: Final = 10.0
UNUSED: Final = ("UserProperty", "ContentType", "MessageExpiryInterval")
"""Properties of a publication that the wire does not use (docs/wire.md, Transport)."""


class PeerFailed(PorticoError):
    """Our own client beside the program under test got no connection."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """One message as it came."""

    at_ms: int
    topic: str
    payload: bytes
    qos: int
    retained: bool
    """It was published as retained."""
    unused: tuple[str, ...]
    """Properties that it should not have."""


class Peer:
    """A client inside its block."""

    def __init__(
        self,
        identity: str,
        name: str,
        address: tuple[str, int],
        certs: Path,
        filters: Sequence[str],
        heard: Callable[[Arrival], None],
    ) -> None:
        """Prepare; `certs` is a development authority's directory, `heard` is called in paho's thread."""
        self.identity: Final = identity
        self._address: Final = address
        self._filters: Final = list(filters)
        self._heard: Final = heard
        self._ready = threading.Event()
        self._client = mqtt.Client(
            CallbackAPIVersion.VERSION2, client_id=f"{identity}-{name}", protocol=mqtt.MQTTv5
        )
        self._client.tls_set_context(
            client_context(certs / "ca.pem", certs / f"{identity}.pem", certs / f"{identity}.key")
        )
        self._client.reconnect_delay_set(*RECONNECT_S)
        self._client.on_connect = self._connected
        self._client.on_disconnect = self._lost
        self._client.on_subscribe = self._subscribed
        self._client.on_message = self._message

    @property
    def ready(self) -> bool:
        """Whether it is connected and its subscriptions are taken."""
        return self._ready.is_set()

    def __enter__(self) -> Self:
        session = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        session.SessionExpiryInterval = SESSION_S
        self._client.connect_async(*self._address, keepalive=10, clean_start=False, properties=session)
        self._client.loop_start()
        if not self._ready.wait(CONNECT_S):
            self.__exit__(None, None, None)
            raise PeerFailed(
                f"our own client {self.identity} got no connection to the broker in {CONNECT_S:g} s"
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> bool:
        """Publish at QoS 1 and wait for the broker; False when it did not say in time that it took it.

        It may have taken it all the same, or take it after the next connection.
        """
        sent = self._client.publish(topic, payload, qos=1, retain=retain)
        deadline = time.monotonic() + PUBLISH_S
        while sent.rc == mqtt.MQTT_ERR_SUCCESS and not sent.is_published():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.005)
        return sent.rc == mqtt.MQTT_ERR_SUCCESS

    def _connected(
        self,
        client: mqtt.Client,
        userdata: object,
        flags: mqtt.ConnectFlags,
        reason: ReasonCode,
        properties: Properties | None,
    ) -> None:
        if reason.is_failure:
            return
        if not self._filters:
            self._ready.set()
            return
        options = SubscribeOptions(qos=1, retainAsPublished=True)
        client.subscribe([(one, options) for one in self._filters])

    def _lost(
        self,
        client: mqtt.Client,
        userdata: object,
        flags: mqtt.DisconnectFlags,
        reason: ReasonCode,
        properties: Properties | None,
    ) -> None:
        self._ready.clear()

    def _subscribed(
        self,
        client: mqtt.Client,
        userdata: object,
        mid: int,
        reasons: list[ReasonCode],
        properties: Properties | None,
    ) -> None:
        if not any(reason.is_failure for reason in reasons):
            self._ready.set()

    def _message(self, client: mqtt.Client, userdata: object, message: mqtt.MQTTMessage) -> None:
        unused = tuple(name for name in UNUSED if hasattr(message.properties, name))
        try:
            topic = message.topic
        except UnicodeDecodeError:
            topic = ""
        self._heard(
            Arrival(
                time.time_ns() // 1_000_000,
                topic,
                bytes(message.payload),
                message.qos,
                bool(message.retain),
                unused,
            )
        )
