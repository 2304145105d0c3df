"""The collector with a real mosquitto: mutual TLS, access rules, sharing, kill -9, small queues."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from certs.authority import DevAuthority
from certs.broker import write_broker_config
from certs.contexts import client_context
from certs.signing import TrustedSigners
from core.codec import decode_ask, decode_confirmation, unseal
from core.ranges import RangeSet
from core.records import Alarm, Ask, Confirmation
from core.topics import Lane, ask_topic, confirm_topic
from simulator.broker import Mosquitto, free_port
from tests.support.gateway_double import ENTITY, GatewayDouble, Keys

DEADLINE_S = 30.0
GATEWAY = "gw-0001"


def until(condition: Callable[[], bool], what: str, deadline_s: float = DEADLINE_S) -> None:
    """Wait for a condition; fail with its name when it does not come true in time."""
    end = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < end, f"not in time: {what}"
        time.sleep(0.02)


class Uplink:
    """The network side of a gateway double: publishes, and verifies what the collector answers."""

    def __init__(self, site: "Site", gateway: str = GATEWAY) -> None:
        pair = site.authority.issue_client(gateway)
        self.confirmations: list[Confirmation] = []
        self.asks: list[Ask] = []
        self._gateway = gateway
        self._trusted = TrustedSigners(site.authority.ca_path)
        now = datetime.now(UTC)
        key = site.keys.collector()
        self._trusted.admit(key.certificate_der, subject=ENTITY, role="collector", at=now)
        self._up = threading.Event()
        self._client = mqtt.Client(
            CallbackAPIVersion.VERSION2, client_id=gateway, protocol=mqtt.MQTTv5, userdata=None
        )
        self._client.tls_set_context(client_context(site.authority.ca_path, pair.cert_path, pair.key_path))
        self._client.max_inflight_messages_set(20)
        self._client.on_connect = lambda *_: self._subscribe()
        self._client.on_subscribe = lambda *_: self._up.set()
        self._client.on_message = self._heard
        self._client.reconnect_delay_set(1, 1)
        self._client.connect("127.0.0.1", site.port)
        self._client.loop_start()
        assert self._up.wait(DEADLINE_S)

    def send(self, *messages: tuple[str, bytes]) -> None:
        """Publish and wait until the broker has them."""
        sent = [self._client.publish(topic, payload, qos=1) for topic, payload in messages]
        for one in sent:
            one.wait_for_publish(DEADLINE_S)

    def held(self, epoch: str) -> RangeSet:
        """What the confirmations so far say of an epoch's data."""
        found = RangeSet()
        for one in list(self.confirmations):
            for first, last in one.held.get(epoch, []):
                found.add(first, last)
        return found

    def close(self) -> None:
        """Leave."""
        self._client.disconnect()
        self._client.loop_stop()

    def _subscribe(self) -> None:
        self._client.subscribe(
            [(confirm_topic(self._gateway, ENTITY), 1), (ask_topic(self._gateway, ENTITY), 1)]
        )

    def _heard(self, client: mqtt.Client, userdata: object, message: mqtt.MQTTMessage) -> None:
        verify = self._trusted.verifier(ENTITY, "collector", datetime.now(UTC))
        body = unseal(message.topic, bytes(message.payload), verify)
        assert not message.retain
        if message.topic == confirm_topic(self._gateway, ENTITY):
            self.confirmations.append(decode_confirmation(body))
        else:
            self.asks.append(decode_ask(body))


@dataclass
class Site:
    """A broker, an authority, a head-end's files, and the collectors that run."""

    directory: Path
    max_queued_messages: int = 10_000
    share: str = ""
    port: int = field(default_factory=free_port)
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.authority = DevAuthority.create(self.directory / "ca")
        self.keys = Keys(self.authority)
        server = self.authority.issue_server(["127.0.0.1"])
        self.client = self.authority.issue_client(ENTITY)
        self.keys.collector()
        self.broker = Mosquitto(
            write_broker_config(
                self.directory / "broker",
                port=self.port,
                ca=self.authority.ca_path,
                cert=server.cert_path,
                key=server.key_path,
                entities=[ENTITY],
                max_queued_messages=self.max_queued_messages,
            )
        )
        ca = self.authority.directory
        self.config = self.directory / "headend.toml"
        self.config.write_text(
            f'[headend]\nentity = "{ENTITY}"\nbooks = "books.db"\n'
            f'[[broker]]\nurl = "mqtts://127.0.0.1:{self.port}"\n'
            f'ca = "{ca}/ca.pem"\ncert = "{ca}/{ENTITY}.pem"\nkey = "{ca}/{ENTITY}.key"\n'
            + (f'share = "{self.share}"\n' if self.share else "")
            + f'[signing]\ncert = "{ca}/{ENTITY}.sign.pem"\nkey = "{ca}/{ENTITY}.sign.key"\n'
            f'trust = ["{ca}/ca.pem"]\n'
        )
        self.books = self.directory / "books.db"
        self.broker.start()

    def collect(self, name: str = "a") -> None:
        """Start a collector and wait until it is subscribed."""
        log = (self.directory / f"{name}.log").open("ab")
        before = self._log(name).count("connected, session")
        self.running[name] = subprocess.Popen(
            [
                sys.executable,
                "-c",
                "from cli.main import main; main()",
                "headend",
                "run",
                "-c",
                str(self.config),
                "--name",
                name,
            ],
            stdout=log,
            stderr=log,
            env={**os.environ, "PYTHONPATH": "."},
        )
        log.close()
        until(
            lambda: self._log(name).count("connected, session") > before or self._ended(name),
            f"collector {name} connects",
        )
        assert not self._ended(name), self._log(name)

    def kill9(self, name: str = "a") -> None:
        """Kill a collector."""
        process = self.running.pop(name)
        process.kill()
        process.wait(DEADLINE_S)

    def terminate(self, name: str = "a") -> int:
        """End a collector in order; return its exit code."""
        process = self.running.pop(name)
        process.send_signal(signal.SIGTERM)
        return process.wait(DEADLINE_S)

    def close(self) -> None:
        """End everything."""
        for name in list(self.running):
            self.terminate(name)
        self.broker.stop()

    def query(self, sql: str) -> list[tuple[object, ...]]:
        """Look into the books."""
        with sqlite3.connect(self.books) as connection:
            found: list[tuple[object, ...]] = connection.execute(sql).fetchall()
        connection.close()
        return found

    def rows(self) -> int:
        """Rows in the books."""
        number = self.query("SELECT count(*) FROM row")[0][0]
        assert isinstance(number, int)
        return number

    def portico(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a command of the head-end."""
        return subprocess.run(
            [
                sys.executable,
                "-c",
                "from cli.main import main; main()",
                "headend",
                *arguments,
                "-c",
                str(self.config),
            ],
            capture_output=True,
            text=True,
            timeout=DEADLINE_S,
            check=False,
            env={**os.environ, "PYTHONPATH": "."},
        )

    def _log(self, name: str) -> str:
        path = self.directory / f"{name}.log"
        return path.read_text() if path.exists() else ""

    def _ended(self, name: str) -> bool:
        return self.running[name].poll() is not None


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path)
    yield made
    made.close()


def test_reading_is_in_the_books_and_confirmed(site: Site) -> None:
    site.collect()
    double = GatewayDouble(site.keys.stream())
    uplink = Uplink(site)
    uplink.send(double.hello(last=5))
    until(lambda: uplink.held(double.epoch).covers(1, 5), "the confirmation")
    assert uplink.confirmations[0].cert
    listed = site.portico("readings", "--json")
    assert listed.returncode == 0, listed.stderr
    values = [json.loads(line)["value"] for line in listed.stdout.splitlines()]
    assert values == ["3.0", "3.1", "3.2", "4.0", "4.1", "4.2", "5.0", "5.1", "5.2"]
    uplink.close()
    assert site.terminate() == 0
