"""Contact over a real mosquitto: beats alone keep a control, a broker's connection and kept beats do not."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from agent.clock import Clock
from agent.uplink.broker import Broker, BrokerOptions
from certs.contexts import client_context
from core.topics import beat_topic, command_filter, command_topic
from simulator.peers.esco import Esco, send
from simulator.pytest_plugin import Premises, Starter
from tests.support.controlrig import DEVICE, GATEWAY, KEY, Documents, Rig, command, rig, rulebook, signed
from tests.support.controluplink import Site

pytestmark = [pytest.mark.field, pytest.mark.timeout(90)]
HUB = Esco("esco1", "hub", "op-17", "k1", KEY)
LOSS_S = 60
TOPIC = beat_topic("main", "esco1")


class Ahead(Clock):
    """Time that a test lets pass at once, on both clocks."""

    def __init__(self) -> None:
        super().__init__(trusted=True)
        self.ahead_s = 0.0

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000 + round(self.ahead_s * 1000)

    def mono(self) -> float:
        return time.monotonic() + self.ahead_s

    def left_s(self, at_ms: int) -> float:
        return (at_ms - self.now_ms()) / 1000


class Premise:
    """A gateway with a running control, a broker between, and the entity's connection."""

    def __init__(self, gateway: Rig, clock: Ahead, broker: Broker, entity: mqtt.Client) -> None:
        self.gateway = gateway
        self.clock = clock
        self.broker = broker
        self.entity = entity

    def beat(self) -> bytes:
        """Return a beat of now."""
        return HUB.beat("main", datetime.fromtimestamp(self.clock.now_ms() / 1000, UTC))

    @property
    def counts(self) -> dict[str, int]:
        return dict(self.gateway.commander.beats.counts)

    async def hears(self, raw: bytes, why: str, *, retain: bool = False) -> None:
        """Let the broker bring a beat, and wait until the gateway has judged it so."""
        before = self.counts.get(why, 0)
        send(self.entity, TOPIC, raw, expires_s=600, retain=retain)
        await until(lambda: self.counts.get(why, 0) > before)


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not holds():  # noqa: ASYNC110  # the broker's own thread tells nobody
            await asyncio.sleep(0.01)


async def subscribed(gateway: Rig, entity: mqtt.Client) -> None:
    """Wait until what is no beat arrives: then the broker has the gateway's subscriptions."""
    async with asyncio.timeout(20):
        while not gateway.commander.beats.counts:
            send(entity, TOPIC, b"no beat", expires_s=600)
            await asyncio.sleep(0.2)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path)
    made.broker.start()
    yield made
    made.broker.kill9()


@pytest.fixture
async def home(portico_premises: Starter, site: Site, tmp_path: Path) -> AsyncIterator[Premise]:
    """A gateway that obeys esco1 and hears nothing else of it."""
    (tmp_path / "gw").mkdir()
    clock, documents = Ahead(), Documents(rulebook(comm_loss_after=f"{LOSS_S}s"))
    premises: Premises = portico_premises("household")
    certs = site.certs
    entity = mqtt.Client(CallbackAPIVersion.VERSION2, client_id="hub", protocol=mqtt.MQTTv5)
    entity.tls_set_context(client_context(certs / "ca.pem", certs / "esco1.pem", certs / "esco1.key"))
    async with rig(premises, tmp_path / "gw", documents, clock=clock) as gateway:
        options = BrokerOptions(
            "127.0.0.1",
            site.port,
            GATEWAY,
            lambda: client_context(certs / "ca.pem", certs / f"{GATEWAY}.pem", certs / f"{GATEWAY}.key"),
            subscriptions=(command_filter(GATEWAY),),
        )
        broker = Broker(options, lambda code, raised, text: None)
        broker.listeners += [gateway.commander.taker.inbox, gateway.commander.beats]
        running = asyncio.create_task(broker.run())
        entity.connect("127.0.0.1", site.port)
        entity.loop_start()
        try:
            await until(lambda: broker.connected and entity.is_connected())
            broker.listen(frozenset(beat_topic("main", one) for one in gateway.commander.awaited()))
            await subscribed(gateway, entity)
            send(entity, command_topic(GATEWAY, "esco1", DEVICE), signed(command(duration="1h")))
            await gateway.until("confirmed")
            yield Premise(gateway, clock, broker, entity)
        finally:
            entity.disconnect()
            entity.loop_stop()
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


async def test_beats_alone_keep_a_control_for_longer_than_its_entity_may_be_silent(home: Premise) -> None:
    for _ in range(6):
        home.clock.ahead_s += 0.75 * LOSS_S
        await home.hears(home.beat(), "taken")
    last_ms = home.clock.now_ms()
    home.clock.ahead_s += 1.1 * LOSS_S
    ended = await home.gateway.until("restoring")
    assert ended.reasons == ["contact-lost"]
    assert ended.at >= last_ms + LOSS_S * 1000
    await home.gateway.until("restored")
    assert home.gateway.shed() is False


async def test_a_broker_s_connection_is_no_contact(home: Premise) -> None:
    assert home.broker.connected
    home.clock.ahead_s += 1.1 * LOSS_S
    assert (await home.gateway.until("restoring")).reasons == ["contact-lost"]
    await home.gateway.until("restored")
    assert home.broker.connected
    assert home.broker.counts.connects == 1


async def test_a_broker_that_repeats_a_beat_keeps_no_control(home: Premise) -> None:
    raw = home.beat()
    await home.hears(raw, "taken")
    for _ in range(2):
        home.clock.ahead_s += 0.4 * LOSS_S
        await home.hears(raw, "again")
    home.clock.ahead_s += 0.4 * LOSS_S
    await home.hears(raw, "again")
    assert (await home.gateway.until("restoring")).reasons == ["contact-lost"]
    await home.gateway.until("restored")


async def test_a_broker_that_kept_beats_and_gives_them_out_one_by_one_keeps_no_control(home: Premise) -> None:
    await home.hears(home.beat(), "taken")
    home.clock.ahead_s += 0.9 * LOSS_S
    kept = home.beat()
    home.clock.ahead_s += 0.6 * LOSS_S
    assert (await home.gateway.until("restoring")).reasons == ["contact-lost"]
    home.clock.ahead_s += 3 * LOSS_S
    await home.hears(kept, "old")
    await home.gateway.until("restored")


async def test_a_retained_beat_is_none_neither_now_nor_for_who_comes_later(home: Premise) -> None:
    await home.hears(home.beat(), "retained", retain=True)
    home.broker.listen(frozenset())
    home.broker.listen(frozenset({TOPIC}))
    await until(lambda: home.counts["retained"] >= 2)
    assert home.gateway.commander.taker.contacts.silent_s("esco1") < LOSS_S
    home.clock.ahead_s += 1.1 * LOSS_S
    assert (await home.gateway.until("restoring")).reasons == ["contact-lost"]


async def test_a_flood_of_forged_beats_keeps_nothing_and_delays_no_restore(home: Premise) -> None:
    forged = home.beat()[:-8] + b"AAAAAAAA"
    for _ in range(500):
        send(home.entity, TOPIC, forged, expires_s=600)
    await until(lambda: home.counts.get("dropped", 0) > 100)
    home.clock.ahead_s += 1.1 * LOSS_S
    assert (await home.gateway.until("restoring")).reasons == ["contact-lost"]
    await home.gateway.until("restored")
    assert "taken" not in home.counts


async def test_beats_are_heard_again_after_the_broker_was_away(home: Premise, site: Site) -> None:
    site.broker.kill9()
    await until(lambda: not home.broker.connected)
    site.broker.start()
    await until(lambda: home.broker.connected and home.entity.is_connected())
    await home.hears(home.beat(), "taken")
