"""The controls of a rig behind a real broker: commands in by MQTT, outcomes out on the control lane.

What an agent's connection does, as little as commands need: subscribed with Retain As Published, each
outcome a signed message.  Confirmations are not waited for.
"""

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.subscribeoptions import SubscribeOptions

from certs.authority import DevAuthority
from certs.broker import write_broker_config
from certs.contexts import client_context
from certs.signing import SigningKey
from core.topics import Lane, command_filter
from simulator.broker import Mosquitto, free_port
from tests.support.controlrig import GATEWAY, Rig
from tests.support.gateway_double import GatewayDouble

ENTITIES = ("esco1", "esco2")
DEADLINE_S = 15.0


class Site:
    """A broker with mutual TLS, and certificates for one gateway and two entities."""

    def __init__(self, directory: Path) -> None:
        self.authority = DevAuthority.create(directory / "certs")
        self.authority.issue_all(gateways=[GATEWAY], entities=ENTITIES, hosts=["127.0.0.1"])
        self.certs = self.authority.directory
        self.port = free_port()
        self.broker = Mosquitto(
            write_broker_config(
                directory / "broker",
                port=self.port,
                ca=self.certs / "ca.pem",
                cert=self.certs / "broker.pem",
                key=self.certs / "broker.key",
                gateways=[GATEWAY],
                entities=ENTITIES,
            )
        )

    @property
    def url(self) -> str:
        """The broker's address."""
        return f"mqtts://127.0.0.1:{self.port}"

    def connection(self, entity: str) -> list[str]:
        """Return the options by which an entity reaches the broker."""
        certs = self.certs
        return [
            "--broker", self.url, "--ca", str(certs / "ca.pem"), "--cert", str(certs / f"{entity}.pem"),
            "--key-tls", str(certs / f"{entity}.key"),
        ]  # fmt: skip


@contextlib.asynccontextmanager
async def uplink(site: Site, rig: Rig, *, cert: bool = True) -> AsyncIterator[mqtt.Client]:
    """Connect a rig; ``cert``: its messages bring its certificate along."""
    loop = asyncio.get_running_loop()
    up = threading.Event()
    client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=GATEWAY, protocol=mqtt.MQTTv5)
    client.tls_set_context(
        client_context(site.certs / "ca.pem", site.certs / f"{GATEWAY}.pem", site.certs / f"{GATEWAY}.key")
    )
    client.on_connect = lambda *_: client.subscribe(
        [(command_filter(GATEWAY), SubscribeOptions(qos=1, retainAsPublished=True))]
    )
    client.on_subscribe = lambda *_: up.set()
    client.on_message = lambda _client, _userdata, message: loop.call_soon_threadsafe(
        rig.commander.taker.inbox.heard, message.topic, bytes(message.payload), message.retain
    )
    client.connect("127.0.0.1", site.port)
    client.loop_start()
    assert await asyncio.to_thread(up.wait, DEADLINE_S)
    telling = asyncio.create_task(_tell(site, rig, client, cert))
    try:
        yield client
    finally:
        telling.cancel()
        client.disconnect()
        client.loop_stop()


async def _tell(site: Site, rig: Rig, client: mqtt.Client, cert: bool) -> None:
    key = SigningKey.load(site.certs / f"{GATEWAY}.sign.key", site.certs / f"{GATEWAY}.sign.pem")
    epoch = f"{rig.store.control.epoch.epoch}"
    told = 0
    while True:
        outcomes = await rig.told()
        for one in outcomes[told:]:
            double = GatewayDouble(key, GATEWAY, one.entity, epoch=epoch)
            client.publish(*double.sealed(one.seq, one.seq, None, [one], lane=Lane.CONTROL, cert=cert), qos=1)
        told = len(outcomes)
        await asyncio.sleep(0.02)
