"""What the broker really lets through: real mosquitto, real MQTT 5 clients, real certificates.

A rule is proved by what arrives and by the broker's reason codes, never by the text of the rules. The
absence of a message is proved by a later one on the same path: MQTT keeps the order per publisher.
"""

import socket
import ssl
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Self

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from certs.authority import DevAuthority, Issued
from certs.broker import write_broker_config
from certs.contexts import client_context
from simulator.broker import Mosquitto, free_port

NOT_AUTHORIZED = 0x87
ACCEPTED = (0x00, 0x10)  # the second: nobody has subscribed
CONNACK = b"\x20"
DEADLINE_S = 10.0
ROOT = "portico/v1"


def wait_for(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not happen in {DEADLINE_S} s"
        time.sleep(0.005)


class Client:
    """One MQTT 5 connection that records what it receives and what the broker says to it."""

    def __init__(
        self, broker: Mosquitto, context: ssl.SSLContext, client_id: str, *, will: str | None, lasting: bool
    ) -> None:
        self.received: list[tuple[str, bytes]] = []
        self.connected: list[ReasonCode] = []
        self.session_present = False
        self.subscribed: dict[int, int] = {}
        self.published: dict[int, int] = {}
        self._broker, self._lasting = broker, lasting
        self._paho = mqtt.Client(CallbackAPIVersion.VERSION2, client_id, protocol=mqtt.MQTTv5)
        self._paho.tls_set_context(context)
        if will is not None:
            self._paho.will_set(will, b"gone", qos=1)
        self._paho.on_message = self._on_message
        self._paho.on_connect = self._on_connect
        self._paho.on_subscribe = self._on_subscribe
        self._paho.on_publish = self._on_publish

    def __enter__(self) -> Self:
        session = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        session.SessionExpiryInterval = 60 if self._lasting else 0
        self._paho.connect(
            "127.0.0.1", self._broker.port, keepalive=30, clean_start=not self._lasting, properties=session
        )
        self._paho.loop_start()
        wait_for(lambda: bool(self.connected), "CONNACK")
        assert not self.connected[0].is_failure
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._paho.disconnect()
        self._paho.loop_stop()

    def _on_connect(
        self,
        _c: mqtt.Client,
        _u: object,
        flags: mqtt.ConnectFlags,
        code: ReasonCode,
        _p: Properties | None,
    ) -> None:
        self.session_present = flags.session_present
        self.connected.append(code)

    def _on_message(self, _c: mqtt.Client, _u: object, message: mqtt.MQTTMessage) -> None:
        self.received.append((message.topic, bytes(message.payload)))

    def _on_subscribe(
        self, _c: mqtt.Client, _u: object, mid: int, codes: list[ReasonCode], _p: Properties | None
    ) -> None:
        self.subscribed[mid] = codes[0].value

    def _on_publish(
        self, _c: mqtt.Client, _u: object, mid: int, code: ReasonCode, _p: Properties | None
    ) -> None:
        self.published[mid] = code.value

    def subscribe(self, topic: str) -> None:
        error, mid = self._paho.subscribe(topic, options=SubscribeOptions(qos=1))
        assert error is MQTTErrorCode.MQTT_ERR_SUCCESS
        assert mid is not None
        wait_for(lambda: mid in self.subscribed, f"SUBACK for {topic}")

    def publish(self, topic: str, payload: bytes = b"x", *, retain: bool = False) -> int:
        """Publish at QoS 1; return the reason code of the broker's acknowledgement."""
        sent = self._paho.publish(topic, payload, qos=1, retain=retain)
        wait_for(lambda: sent.mid in self.published, f"PUBACK for {topic}")
        return self.published[sent.mid]

    def vanish(self) -> None:
        """Close the socket without a DISCONNECT, as a power cut would: the will speaks."""
        open_socket = self._paho.socket()
        assert open_socket is not None
        self._paho.loop_stop()
        open_socket.close()

    def topics(self) -> set[str]:
        return {topic for topic, _ in self.received}


class Site:
    """A broker with two gateways and two entities, and their connections."""

    def __init__(self, directory: Path, authority: DevAuthority, gateways: list[str] | None) -> None:
        self.authority = authority
        server = authority.issue_server(["127.0.0.1"])
        self.broker = Mosquitto(
            write_broker_config(
                directory,
                port=free_port(),
                ca=authority.ca_path,
                cert=server.cert_path,
                key=server.key_path,
                gateways=gateways,
                entities=["dso.example", "esco.example"],
            )
        )

    def connect(
        self,
        identity: str,
        client_id: str | None = None,
        *,
        will: str | None = None,
        lasting: bool = False,
    ) -> Client:
        pair = self.authority.issue_client(identity)
        context = client_context(self.authority.ca_path, pair.cert_path, pair.key_path)
        return Client(self.broker, context, client_id or identity, will=will, lasting=lasting)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> DevAuthority:
    return DevAuthority.create(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module", params=["named", "patterns"])
def site(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, authority: DevAuthority
) -> Iterator[Site]:
    """Both forms of the access rules keep the same promises."""
    gateways = ["gw-0001", "gw-0002"] if request.param == "named" else None
    made = Site(tmp_path_factory.mktemp("broker"), authority, gateways)
    with made.broker:
        yield made


def test_gateway_writes_its_own_branch_and_its_entity_receives(site: Site) -> None:
    with site.connect("gw-0001") as gateway, site.connect("dso.example") as dso:
        dso.subscribe(f"{ROOT}/+/stream/dso.example/#")
        dso.subscribe(f"{ROOT}/+/state")
        dso.subscribe(f"{ROOT}/+/manifest/dso.example")
        tails = ("stream/dso.example/live", "state", "manifest/dso.example")
        own = [f"{ROOT}/gw-0001/{tail}" for tail in tails]
        for topic in own:
            assert gateway.publish(topic) == 0
        wait_for(lambda: set(own) <= dso.topics(), "delivery to the entity")
        assert gateway.publish(f"{ROOT}/gw-0001/evt/audit") in ACCEPTED


@pytest.mark.parametrize(
    "topic",
    [
        "gw-0002/state",
        "gw-0002/stream/dso.example/live",
        "gw-0002/manifest/dso.example",
        "gw-0002/evt/audit",
        "gw-0001/confirm/dso.example",
        "gw-0001/ask/dso.example",
        "gw-0001/cmd/dso.example/relay",
        "gw-0001/assign",
        "grp/north/cmd/dso.example",
        "beat/north/dso.example",
        "policy/north/bundle",
    ],
)
def test_gateway_writes_nowhere_else(site: Site, topic: str) -> None:
    with site.connect("gw-0001") as gateway, site.connect("dso.example") as dso:
        dso.subscribe(f"{ROOT}/#")
        assert gateway.publish(f"{ROOT}/{topic}", b"forged") == NOT_AUTHORIZED
        assert gateway.publish(f"{ROOT}/gw-0001/stream/dso.example/live", b"after") == 0
        wait_for(lambda: (f"{ROOT}/gw-0001/stream/dso.example/live", b"after") in dso.received, "the marker")
        assert b"forged" not in [payload for _, payload in dso.received]


def test_entity_reads_its_own_stream_alone_whatever_it_subscribes(site: Site) -> None:
    filters = ["#", f"{ROOT}/#", f"{ROOT}/+/stream/dso.example/#", f"$share/thieves/{ROOT}/+/stream/+/+"]
    with site.connect("gw-0001") as gateway, site.connect("esco.example") as esco:
        for topic in filters:
            esco.subscribe(topic)
        assert gateway.publish(f"{ROOT}/gw-0001/stream/dso.example/live", b"secret") in ACCEPTED
        assert gateway.publish(f"{ROOT}/gw-0001/manifest/dso.example", b"secret", retain=True) in ACCEPTED
        assert gateway.publish(f"{ROOT}/gw-0001/stream/esco.example/live", b"own") == 0
        wait_for(lambda: (f"{ROOT}/gw-0001/stream/esco.example/live", b"own") in esco.received, "the marker")
        assert b"secret" not in [payload for _, payload in esco.received]
        gateway.publish(f"{ROOT}/gw-0001/manifest/dso.example", b"", retain=True)


def test_retained_manifest_of_another_entity_is_not_given_to_a_later_subscriber(site: Site) -> None:
    with site.connect("gw-0001") as gateway, site.connect("esco.example") as esco:
        for entity, payload in (("dso.example", b"secret"), ("esco.example", b"own")):
            gateway.publish(f"{ROOT}/gw-0001/manifest/{entity}", payload, retain=True)
        esco.subscribe(f"{ROOT}/+/manifest/#")
        wait_for(
            lambda: (f"{ROOT}/gw-0001/manifest/esco.example", b"own") in esco.received, "its own manifest"
        )
        assert esco.publish(f"{ROOT}/gw-0001/confirm/esco.example") in ACCEPTED
        assert b"secret" not in [payload for _, payload in esco.received]
        for entity in ("dso.example", "esco.example"):
            gateway.publish(f"{ROOT}/gw-0001/manifest/{entity}", b"", retain=True)


def test_entity_confirms_asks_and_commands_in_its_own_name(site: Site) -> None:
    own = [f"{ROOT}/gw-0001/{tail}/dso.example" for tail in ("confirm", "ask")]
    own += [f"{ROOT}/gw-0001/cmd/dso.example/relay", f"{ROOT}/grp/north/cmd/dso.example"]
    own += [f"{ROOT}/beat/north/dso.example"]
    with site.connect("gw-0001") as gateway, site.connect("dso.example") as dso:
        for tail in ("gw-0001/confirm/#", "gw-0001/ask/#", "gw-0001/cmd/#", "grp/+/cmd/#", "beat/#"):
            gateway.subscribe(f"{ROOT}/{tail}")
        for topic in own:
            assert dso.publish(topic) == 0
        wait_for(lambda: gateway.topics() == set(own), "delivery to the gateway")


@pytest.mark.parametrize(
    "topic",
    [
        "gw-0001/confirm/dso.example",
        "gw-0001/ask/dso.example",
        "gw-0001/cmd/dso.example/relay",
        "grp/north/cmd/dso.example",
        "beat/north/dso.example",
        "gw-0001/stream/esco.example/live",
        "gw-0001/stream/dso.example/live",
        "gw-0001/state",
        "gw-0001/manifest/esco.example",
        "gw-0001/assign",
        "gw-0001/evt/audit",
        "policy/north/bundle",
        "gw-0001/cmd/esco.example/relay/deeper",
    ],
)
def test_entity_writes_in_no_other_name(site: Site, topic: str) -> None:
    with site.connect("esco.example") as esco, site.connect("gw-0001") as gateway:
        gateway.subscribe(f"{ROOT}/#")
        assert esco.publish(f"{ROOT}/{topic}", b"forged") == NOT_AUTHORIZED
        assert esco.publish(f"{ROOT}/gw-0001/confirm/esco.example", b"after") == 0
        wait_for(lambda: (f"{ROOT}/gw-0001/confirm/esco.example", b"after") in gateway.received, "the marker")
        assert b"forged" not in [payload for _, payload in gateway.received]


def test_gateway_reads_neither_another_gateways_orders_nor_its_stream(site: Site) -> None:
    with (
        site.connect("gw-0001") as one,
        site.connect("gw-0002") as two,
        site.connect("dso.example") as dso,
    ):
        two.subscribe("#")
        assert one.publish(f"{ROOT}/gw-0001/stream/dso.example/live", b"secret") in ACCEPTED
        for tail in ("confirm/dso.example", "ask/dso.example", "cmd/dso.example/relay"):
            assert dso.publish(f"{ROOT}/gw-0001/{tail}", b"secret") in ACCEPTED
        assert dso.publish(f"{ROOT}/gw-0002/confirm/dso.example", b"own") == 0
        wait_for(lambda: (f"{ROOT}/gw-0002/confirm/dso.example", b"own") in two.received, "the marker")
        assert two.topics() == {f"{ROOT}/gw-0002/confirm/dso.example"}


def test_will_with_another_gateways_name_is_not_published(site: Site) -> None:
    with site.connect("dso.example") as dso:
        dso.subscribe(f"{ROOT}/+/state")
        for named in ("gw-0002", "gw-0001"):
            with site.connect("gw-0001", will=f"{ROOT}/{named}/state") as gateway:
                gateway.vanish()
        wait_for(lambda: (f"{ROOT}/gw-0001/state", b"gone") in dso.received, "the will")
        assert f"{ROOT}/gw-0002/state" not in dso.topics()


def test_session_taken_over_by_client_id_gives_nothing_to_read(site: Site) -> None:
    """The broker cannot bind client ids to names (`certs.broker`); what was queued is judged again."""
    with site.connect("dso.example") as dso:
        with site.connect("gw-0001", "target", lasting=True) as gateway:
            gateway.subscribe(f"{ROOT}/gw-0001/confirm/#")
        assert dso.publish(f"{ROOT}/gw-0001/confirm/dso.example", b"secret") == 0
        with site.connect("gw-0002", "target", lasting=True) as thief:
            assert thief.session_present
            thief.subscribe(f"{ROOT}/gw-0002/confirm/#")
            dso.publish(f"{ROOT}/gw-0001/confirm/dso.example", b"secret")
            dso.publish(f"{ROOT}/gw-0002/confirm/dso.example", b"own")
            wait_for(lambda: (f"{ROOT}/gw-0002/confirm/dso.example", b"own") in thief.received, "the marker")
            assert thief.topics() == {f"{ROOT}/gw-0002/confirm/dso.example"}
        with site.connect("gw-0002", "target"):
            pass  # a clean start ends the session for the tests that follow


def test_several_collectors_of_one_entity_share_its_stream(site: Site) -> None:
    shared = f"$share/collectors/{ROOT}/+/stream/dso.example/+"
    with (
        site.connect("gw-0001") as gateway,
        site.connect("dso.example", "dso.example:1") as first,
        site.connect("dso.example", "dso.example:2") as second,
    ):
        first.subscribe(shared)
        second.subscribe(shared)
        for number in range(20):
            assert gateway.publish(f"{ROOT}/gw-0001/stream/dso.example/live", str(number).encode()) == 0
        wait_for(lambda: len(first.received) + len(second.received) == 20, "20 messages")
        assert first.received
        assert second.received


def answer(broker: Mosquitto, context: ssl.SSLContext, host: str = "127.0.0.1") -> bytes:
    """What the broker sends to a CONNECT; empty when it ends the connection first.

    Under TLS 1.3 a client learns only on reading that its certificate was refused.
    """
    # CONNECT, 17 bytes: MQTT 5, clean start, keep alive 30 s, no properties, client id "test".
    connect = b"\x10\x11\x00\x04MQTT\x05\x02\x00\x1e\x00\x00\x04test"
    try:
        with (
            socket.create_connection(("127.0.0.1", broker.port), timeout=DEADLINE_S) as plain,
            context.wrap_socket(plain, server_hostname=host) as tls,
        ):
            tls.sendall(connect)
            return tls.recv(64)
    except ssl.SSLCertVerificationError:
        raise
    except (ssl.SSLError, ConnectionError):
        return b""


def context_of(site: Site, issued: Issued) -> ssl.SSLContext:
    """A context that looks at nothing first: the broker is to refuse, not our own check of the files."""
    context = ssl.create_default_context(cafile=str(site.authority.ca_path))
    context.load_cert_chain(issued.cert_path, issued.key_path)
    return context


def test_broker_takes_certificates_of_its_own_authority_while_they_are_valid(
    site: Site, tmp_path: Path
) -> None:
    other = DevAuthority.create(tmp_path / "other")
    past = datetime.now(UTC) - timedelta(days=40)
    expired = site.authority.issue_client("gw-0009", now=past, days=30)
    bare = ssl.create_default_context(cafile=str(site.authority.ca_path))
    good = site.authority.issue_client("gw-0001")
    signer = site.authority.issue_signer("gw-0001", role="stream")
    assert answer(site.broker, context_of(site, good))[:1] == CONNACK
    assert answer(site.broker, context_of(site, other.issue_client("gw-0001"))) == b""
    assert answer(site.broker, context_of(site, expired)) == b""
    assert answer(site.broker, context_of(site, signer)) == b""
    assert answer(site.broker, bare) == b""


def test_broker_by_another_host_name_is_refused_by_the_client(site: Site) -> None:
    pair = site.authority.issue_client("gw-0001")
    context = client_context(site.authority.ca_path, pair.cert_path, pair.key_path)
    assert answer(site.broker, context)[:1] == CONNACK
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        answer(site.broker, context, host="localhost")


def test_broker_of_another_authority_is_refused_by_the_client(site: Site, tmp_path: Path) -> None:
    other = DevAuthority.create(tmp_path / "other")
    pair = other.issue_client("gw-0001")
    context = client_context(other.ca_path, pair.cert_path, pair.key_path)
    with pytest.raises(ssl.SSLCertVerificationError):
        answer(site.broker, context)
