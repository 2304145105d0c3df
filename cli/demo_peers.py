"""Whoever sends commands in the demo without being asked: other companies, and those who only heard one.

Each has a certificate that the broker lets in; what it sends is for the gateway to judge.  The `Tap` stands
for a broker that is not trusted: it keeps the bytes of every command that passes, and could send them again.

Relies on paho-mqtt and on `simulator.peers.esco` for the bytes.  Not here: what is sent, and when
(`cli.demo_control`).
"""

import threading
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from certs.contexts import client_context
from core.topics import command_filter, command_parts
from simulator.peers.esco import send

RECONNECT_S: Final = (1, 2)
KEPT: Final = 32
"""Commands that a tap keeps."""


class Sender:
    """One connection with one certificate; a context manager. What is sent while it is down goes later."""

    def __init__(self, name: str, certificate: str, host: str, port: int, certs: Path) -> None:
        """Prepare; `certs` is a development authority's directory. Raises ConfigError."""
        self._address = (host, port)
        self._client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=name, protocol=mqtt.MQTTv5)
        self._client.tls_set_context(
            client_context(certs / "ca.pem", certs / f"{certificate}.pem", certs / f"{certificate}.key")
        )
        self._client.reconnect_delay_set(*RECONNECT_S)

    def send(self, topic: str, envelope: bytes) -> None:
        """Publish a command, or what looks like one."""
        send(self._client, topic, envelope)

    def __enter__(self) -> Self:
        self._client.connect_async(*self._address, keepalive=10)
        self._client.loop_start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.disconnect()
        self._client.loop_stop()


class Tap(Sender):
    """Sees every command to a gateway, as its broker does."""

    def __init__(self, gateway: str, host: str, port: int, certs: Path) -> None:
        super().__init__(f"{gateway}-tap", gateway, host, port, certs)
        self._gateway = gateway
        self._heard: list[tuple[str, bytes]] = []
        self._lock = threading.Lock()
        self._client.on_connect = self._connected
        self._client.on_message = self._keep

    def heard(self, entity: str) -> list[bytes]:
        """Return what passed as a command of an entity, the oldest first."""
        with self._lock:
            return [payload for one, payload in self._heard if one == entity]

    def _connected(
        self,
        client: mqtt.Client,
        userdata: object,
        flags: mqtt.ConnectFlags,
        reason: ReasonCode,
        properties: Properties | None,
    ) -> None:
        if not reason.is_failure:
            client.subscribe(command_filter(self._gateway), options=SubscribeOptions(qos=1))

    def _keep(self, client: mqtt.Client, userdata: object, message: mqtt.MQTTMessage) -> None:
        parts = command_parts(message.topic, self._gateway)
        with self._lock:
            if parts is not None and len(self._heard) < KEPT:
                self._heard.append((parts[0], bytes(message.payload)))
