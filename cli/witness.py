"""An independent second reader: what the broker passes on to an entity, beside its collector.

It connects as the entity does (TLS, client certificate, QoS 1, a session of its own that outlives
outages), decodes each message with `core.codec` and keeps the identities of the rows, nothing else. So it
can say which rows the broker acknowledged *and* passed on. What a broker acknowledged and then forgot
(mosquitto killed without its persistence) it does not see until the gateway sends again.

Signatures are not checked: it counts, and nothing is done with what it counts. Bounded by the rows of a
run. Relies on paho-mqtt. Not here: confirmations, books.
"""

import threading
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
from cli.evidence import Identity
from core.codec import decode_stream, unseal
from core.errors import WireError
from core.topics import Lane, StreamTopic, stream_filter

SESSION_S: Final = 3600
RECONNECT_S: Final = (1, 2)
JOIN_S: Final = 5.0


class Witness:
    """Listens for one entity inside its block, over any number of lives of the broker."""

    def __init__(self, entity: str, host: str, port: int, certs: Path) -> None:
        """Prepare; `certs` is a development authority's directory. Raises ConfigError."""
        self.entity: Final = entity
        self.messages = 0
        self.bytes = 0
        self.undecodable = 0
        """Messages that are none of ours."""
        self._rows: set[Identity] = set()
        self._lock = threading.Lock()
        self._subscribed = threading.Event()
        self._address = (host, port)
        self._client = mqtt.Client(
            CallbackAPIVersion.VERSION2,
            client_id=f"{entity}-witness",
            protocol=mqtt.MQTTv5,
        )
        self._client.tls_set_context(
            client_context(certs / "ca.pem", certs / f"{entity}.pem", certs / f"{entity}.key")
        )
        self._client.reconnect_delay_set(*RECONNECT_S)
        self._client.on_connect = self._connected
        self._client.on_subscribe = self._told
        self._client.on_message = self._heard

    def rows(self) -> frozenset[Identity]:
        """Return the rows that were passed on so far, each once."""
        with self._lock:
            return frozenset(self._rows)

    def wait_subscribed(self, timeout_s: float = 10.0) -> bool:
        """Wait until the broker has taken the subscription."""
        return self._subscribed.wait(timeout_s)

    def __enter__(self) -> Self:
        session = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        session.SessionExpiryInterval = SESSION_S
        self._client.connect_async(*self._address, keepalive=10, clean_start=False, properties=session)
        self._client.loop_start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def _connected(
        self,
        client: mqtt.Client,
        userdata: object,
        flags: mqtt.ConnectFlags,
        reason: ReasonCode,
        properties: Properties | None,
    ) -> None:
        if not reason.is_failure:
            client.subscribe(stream_filter(self.entity), options=SubscribeOptions(qos=1))

    def _told(
        self,
        client: mqtt.Client,
        userdata: object,
        mid: int,
        reasons: list[ReasonCode],
        properties: Properties | None,
    ) -> None:
        if not any(reason.is_failure for reason in reasons):
            self._subscribed.set()

    def _heard(self, client: mqtt.Client, userdata: object, message: mqtt.MQTTMessage) -> None:
        topic = StreamTopic.parse(message.topic)
        if topic is None or topic.lane is Lane.CONTROL:
            return
        try:
            header = decode_stream(unseal(message.topic, bytes(message.payload), lambda *_: None))
        except WireError:
            self.undecodable += 1
            return
        rows = [Identity(header.gateway, header.epoch, row.seq) for row in header.rows]
        with self._lock:
            self.messages += 1
            self.bytes += len(message.payload)
            self._rows.update(rows)
