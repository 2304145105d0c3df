"""The collector with a real mosquitto: mutual TLS, access rules, sharing, kill -9, small queues."""

import contextlib
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
from core.codec import decode_ask, decode_confirmation, encode_plain, seal, unseal
from core.ranges import RangeSet
from core.records import Ask, Confirmation, State
from core.topics import ask_topic, confirm_topic, state_topic
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
        until(self._client.is_connected, "the uplink is connected")
        sent = [self._client.publish(topic, payload, qos=1) for topic, payload in messages]
        for one in sent:
            one.wait_for_publish(DEADLINE_S)

    def deliver(self, double: GatewayDouble, last: int, size: int = 20) -> None:
        """Send rows up to a sequence, as an agent does: again and again until they are confirmed."""
        end = time.monotonic() + DEADLINE_S
        self.send(double.hello())
        while not self.held(double.epoch).covers(1, last):
            assert time.monotonic() < end, f"not confirmed in time: {self.held(double.epoch)!r}"
            missing = self.held(double.epoch).missing(6, last)
            for begin, stop in missing:
                for first in range(begin, stop + 1, size):
                    self.send(double.more(first, min(stop, first + size - 1)))
            if not self.held(double.epoch).covers(1, 5):
                self.send(double.hello())
            self.settle(double.epoch, last)

    def settle(self, epoch: str, last: int) -> None:
        """Wait a little for confirmations of what was sent."""
        end = time.monotonic() + 1.5
        while time.monotonic() < end and not self.held(epoch).covers(1, last):
            time.sleep(0.02)

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

    def use_books(self, path: Path) -> None:
        """Put the books elsewhere."""
        self.config.write_text(self.config.read_text().replace('"books.db"', f'"{path}"'))
        self.books = path

    def collect(self, name: str = "a", *, connected: bool = True) -> None:
        """Start a collector and wait until it is connected."""
        log = (self.directory / f"{name}.log").open("ab")
        before = self.log(name).count("connected, session")
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
        if not connected:
            return
        until(
            lambda: self.log(name).count("connected, session") > before or self._ended(name),
            f"collector {name} connects",
        )
        assert not self._ended(name), self.log(name)

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
        if not self.books.exists():
            return 0
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

    def log(self, name: str = "a") -> str:
        """What a collector said so far."""
        path = self.directory / f"{name}.log"
        return path.read_text() if path.exists() else ""

    def _ended(self, name: str) -> bool:
        return self.running[name].poll() is not None


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path)
    yield made
    made.close()


@pytest.fixture
def double(site: Site) -> GatewayDouble:
    return GatewayDouble(site.keys.stream())


@pytest.fixture
def uplink(site: Site) -> Iterator[Uplink]:
    made = Uplink(site)
    yield made
    made.close()


def sequences(site: Site) -> list[object]:
    return [seq for (seq,) in site.query("SELECT seq FROM row ORDER BY seq")]


def alarms(site: Site) -> dict[object, object]:
    return dict(site.query("SELECT code, gateway FROM alarm"))  # type: ignore[arg-type]


def test_reading_is_in_the_books_and_confirmed(site: Site, uplink: Uplink, double: GatewayDouble) -> None:
    site.collect()
    uplink.send(double.hello(last=5))
    until(lambda: uplink.held(double.epoch).covers(1, 5), "the confirmation")
    assert uplink.confirmations[0].cert
    listed = site.portico("readings", "--json")
    assert listed.returncode == 0, listed.stderr
    values = [json.loads(line)["value"] for line in listed.stdout.splitlines()]
    assert values == ["3.0", "3.1", "3.2", "4.0", "4.1", "4.2", "5.0", "5.1", "5.2"]
    assert site.portico("completeness").returncode == 0
    assert site.portico("verify").returncode == 0


def test_orderly_end_stores_and_confirms_what_came(site: Site, uplink: Uplink, double: GatewayDouble) -> None:
    site.collect()
    double.within = 600
    uplink.send(double.hello(last=30))
    until(lambda: site.rows() == 28, "the rows")
    assert not uplink.confirmations
    assert site.terminate() == 0
    until(lambda: uplink.held(double.epoch).covers(1, 30), "the confirmation at the end")
    status = json.loads((site.directory / "collector-a.json").read_text())
    assert (status["running"], status["readings"], status["failure"]) == (False, 84, "")


def test_killed_collector_loses_nothing(site: Site, uplink: Uplink, double: GatewayDouble) -> None:
    site.collect()
    sender = threading.Thread(target=uplink.deliver, args=(double, 4000))
    sender.start()
    for _ in range(3):
        before = site.rows()
        until(lambda before=before: site.rows() > before or not sender.is_alive(), "some rows")  # type: ignore[misc]
        site.kill9()
        site.collect()
    sender.join(2 * DEADLINE_S)
    assert uplink.held(double.epoch).covers(1, 4000)
    assert sequences(site) == list(range(3, 4001))
    assert site.query("SELECT count(*) FROM conflict") == [(0,)]
    assert site.portico("verify").returncode == 0


def test_two_collectors_share_the_work_and_one_may_be_killed(tmp_path: Path) -> None:
    site = Site(tmp_path, share="collectors")
    try:
        site.collect("a")
        site.collect("b")
        double, uplink = GatewayDouble(site.keys.stream()), Uplink(site)
        uplink.deliver(double, 1000)
        for name in ("a", "b"):
            path = site.directory / f"collector-{name}.json"
            until(lambda path=path: json.loads(path.read_text())["messages"] > 0, f"{name} takes its share")  # type: ignore[misc]
        site.kill9("b")
        uplink.deliver(double, 2000)
        assert sequences(site) == list(range(3, 2001))
        numbers = [one.n for one in uplink.confirmations]
        assert len(set(numbers)) == len(numbers)
        assert len({one.books for one in uplink.confirmations}) == 1
        uplink.close()
    finally:
        site.close()


def test_small_broker_queue_costs_a_resend_and_no_reading(tmp_path: Path) -> None:
    site = Site(tmp_path, max_queued_messages=10)
    try:
        site.collect()
        site.kill9()  # its session stays, and the broker drops what does not fit, after its PUBACK
        double, uplink = GatewayDouble(site.keys.stream()), Uplink(site)
        uplink.send(double.hello(), *(double.more(n, n + 3) for n in range(6, 1206, 4)))
        site.collect()
        until(lambda: site.rows() > 0, "what the broker had kept")
        uplink.deliver(double, 1205)
        assert sequences(site) == list(range(3, 1206))
        uplink.close()
    finally:
        site.close()


def test_broker_that_is_killed_is_found_again(site: Site, uplink: Uplink, double: GatewayDouble) -> None:
    site.collect()
    uplink.deliver(double, 100)
    site.broker.kill9()
    until(lambda: "ended the connection" in site.log(), "the loss is noticed")
    site.broker.start()
    until(lambda: "is back after" in site.log(), "the collector connects again")
    uplink.deliver(double, 300)
    assert sequences(site) == list(range(3, 301))
    assert site.log().count("ended the connection") == 1


def test_garbage_and_forgery_are_counted_and_change_nothing(
    site: Site, uplink: Uplink, double: GatewayDouble
) -> None:
    site.collect()
    topic, payload = double.more(6, 9)
    forged = (topic, payload[:-1] + bytes([payload[-1] ^ 1]))
    uplink.send(
        double.hello(), (topic, b"garbage"), (topic, b""), forged, double.sealed(6, 6, [b"[6,9,0,[],[]]"])
    )
    uplink.send((topic, payload))
    until(lambda: uplink.held(double.epoch).covers(1, 9), "the good ones")
    until(lambda: {"garbage", "bad-signature", "bad-row"} <= alarms(site).keys(), "the alarms")
    assert alarms(site)["bad-signature"] == ""
    assert alarms(site)["bad-row"] == GATEWAY
    assert sequences(site) == list(range(3, 10))
    until(lambda: any("group 9" in one.text for one in uplink.asks), "the gateway is told why")


def test_unknown_key_and_missing_manifest_are_asked_for(
    site: Site, uplink: Uplink, double: GatewayDouble
) -> None:
    site.collect()
    uplink.send(double.more(6, 9))
    until(lambda: any("cert" in one.want for one in uplink.asks), "the question for the certificate")
    uplink.send(double.more(6, 9, cert=True))
    wanted = double.manifest.hash()
    until(lambda: any(wanted in one.manifests for one in uplink.asks), "the question for the manifest")
    assert site.rows() == 0
    assert not uplink.confirmations
    uplink.send(double.more(6, 9, manifests=[double.manifest]))
    until(lambda: uplink.held(double.epoch).covers(6, 9), "the confirmation")
    assert site.log().count("INFO headend.collector: a message was refused") == 2
    assert " WARNING " not in site.log()
    until(lambda: {"unknown-key", "manifest-missing"} <= set(alarms(site)), "what was refused is counted")


def test_books_put_back_are_noticed_and_filled_again(
    site: Site, uplink: Uplink, double: GatewayDouble
) -> None:
    site.collect()
    uplink.deliver(double, 50)
    site.terminate()
    copy = site.books.read_bytes()
    site.collect()
    uplink.deliver(double, 200)
    site.terminate()
    first = uplink.confirmations[-1]
    for name in ("books.db-wal", "books.db-shm"):
        (site.directory / name).unlink(missing_ok=True)
    site.books.write_bytes(copy)
    site.collect()
    double.books, double.n = first.books, first.n
    uplink.send(double.more(201, 204))
    until(lambda: uplink.confirmations[-1].books > first.books, "a new books id")
    # It says at once what the copy still holds, and no more.
    until(lambda: double.epoch in uplink.confirmations[-1].held, "what they hold")
    assert uplink.confirmations[-1].held[double.epoch] == [(1, 50), (201, 204)]
    uplink.confirmations.clear()
    uplink.deliver(double, 204)
    assert sequences(site) == list(range(3, 205))
    assert "books-restored" in alarms(site)


def test_two_boxes_with_one_id_in_turn_are_an_alarm(
    site: Site, uplink: Uplink, double: GatewayDouble
) -> None:
    site.collect()
    uplink.send(double.hello())
    topic = state_topic(GATEWAY)
    for instance in ("one", "two", "one"):
        state = State(v=1, gateway=GATEWAY, online=True, at=1, instance=instance, software="test 1")
        uplink.send((topic, seal(topic, encode_plain(state), double.key)))
    until(lambda: alarms(site).get("two-gateways-one-id") == GATEWAY, "the alarm")
    until(lambda: "test 1" in site.portico("gateways").stdout, "the state")


def test_person_can_ask_for_a_range(site: Site, uplink: Uplink, double: GatewayDouble) -> None:
    site.collect()
    uplink.deliver(double, 20)
    asked = site.portico("ask", GATEWAY, "--epoch", double.epoch, "--first", "5", "--last", "9")
    assert asked.returncode == 0, asked.stderr
    until(lambda: any(one.ranges == {double.epoch: [(5, 9)]} for one in uplink.asks), "the question")
    assert asked.stdout.splitlines()[1:] == [
        "the books hold 5..9 already: what comes again is counted as redelivered"
    ]
    assert not asked.stderr
    unknown = site.portico("ask", GATEWAY, "--epoch", "ab" * 8, "--first", "5", "--last", "9")
    assert unknown.returncode == 0, unknown.stderr
    assert "only if its store has it" in unknown.stdout
    assert uplink.asks[-1].n > uplink.confirmations[-1].n


def test_gateway_that_cannot_be_asked_is_told_in_one_sentence(
    site: Site, uplink: Uplink, double: GatewayDouble
) -> None:
    site.collect()
    uplink.deliver(double, 20)
    what = ("--epoch", double.epoch, "--first", "21", "--last", "29")
    stranger = site.portico("ask", "gw-0002", *what)
    assert (stranger.returncode, stranger.stdout) == (1, "")
    assert "the books know no gateway gw-0002; did you mean gw-0001?" in stranger.stderr
    uplink.close()
    gone = site.portico("ask", GATEWAY, *what)
    assert (gone.returncode, gone.stdout) == (1, "")
    assert f"nobody heard the question ({GATEWAY}: send {double.epoch} 21..29 again)" in gone.stderr
    site.broker.stop()
    absent = site.portico("ask", GATEWAY, *what)
    assert (absent.returncode, absent.stdout) == (1, "")
    for told in (stranger, gone, absent):
        (line,) = told.stderr.splitlines()
        assert line.startswith("error: ")


def test_broker_that_is_not_there_is_one_sentence_and_found_later(site: Site, double: GatewayDouble) -> None:
    site.broker.stop()
    site.collect(connected=False)
    until(lambda: "nothing listens at" in site.log(), "the sentence")
    site.broker.start()
    until(lambda: "is back" in site.log(), "the connection")
    assert site.log().count("nothing listens at") == 1
    uplink = Uplink(site)
    uplink.deliver(double, 20)
    uplink.close()


def test_certificate_of_another_authority_is_a_sentence(site: Site, tmp_path: Path) -> None:
    foreign = DevAuthority.create(tmp_path / "foreign")
    text = site.config.read_text()
    site.config.write_text(text.replace(f'ca = "{site.authority.ca_path}"', f'ca = "{foreign.ca_path}"'))
    site.collect(connected=False)
    until(lambda: "certificate that is not trusted" in site.log(), "the sentence")
    assert site.terminate() == 0


def test_wrong_signing_certificate_ends_at_once_with_a_sentence(site: Site) -> None:
    site.keys.stream()
    text = site.config.read_text()
    site.config.write_text(text.replace(f"{ENTITY}.sign", f"{GATEWAY}.sign"))
    ended = site.portico("run")
    assert ended.returncode == 2
    assert "must be of 'dso.example' in role 'collector'" in ended.stderr


def test_development_authority_is_refused_in_production(site: Site) -> None:
    text = site.config.read_text()
    site.config.write_text(text.replace("[headend]", '[headend]\nsetting = "production"'))
    ended = site.portico("run")
    assert ended.returncode == 1
    assert "development authority" in ended.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system needs root")
def test_full_disk_keeps_everything_waiting_and_loses_nothing(
    site: Site, uplink: Uplink, double: GatewayDouble
) -> None:
    small = site.directory / "small"
    small.mkdir()
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(small)], check=True, timeout=DEADLINE_S
    )
    try:
        site.use_books(small / "books.db")
        site.collect()
        uplink.deliver(double, 100)
        ballast = small / "ballast"
        with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while file.write(bytes(4096)):
                pass
        uplink.send(*(double.more(n, n + 99) for n in range(101, 3101, 100)))
        until(lambda: "make room" in site.log(), "the sentence")
        assert not uplink.held(double.epoch).covers(1, 3100)
        ballast.unlink()
        until(lambda: uplink.held(double.epoch).covers(1, 3100), "all that waited")
        assert sequences(site) == list(range(3, 3101))
        site.terminate()
    finally:
        for name in list(site.running):
            site.kill9(name)
        subprocess.run(["umount", str(small)], check=True, timeout=DEADLINE_S)


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system needs root")
@pytest.mark.parametrize("kib", [8, 16, 64, 128])
def test_books_on_a_disk_without_room_for_them_say_so(site: Site, kib: int) -> None:
    small = site.directory / "small"
    small.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={kib}k", "tmpfs", str(small)]
    subprocess.run(command, check=True, timeout=DEADLINE_S)
    try:
        site.use_books(small / "books.db")
        ended = site.portico("run")
        assert (ended.returncode, ended.stderr.count("Traceback")) == (1, 0)
        assert "error: no room on the disk of the books" in ended.stderr
        subprocess.run(["mount", "-o", "remount,ro", str(small)], check=True, timeout=DEADLINE_S)
        ended = site.portico("run", "--name", "q")
        assert (ended.returncode, ended.stderr.count("Traceback")) == (2, 0)
        assert "its file system is read-only" in ended.stderr
    finally:
        subprocess.run(["umount", str(small)], check=True, timeout=DEADLINE_S)
