"""How long a command takes to the wire: from just before it is published to its write at the device.

Every part is real and a process of its own: an operator who signs and publishes over mutual TLS, mosquitto,
the agent with a verified policy, a relay in C that tells when a write reached it (`bench.relay`).  Ten days
of readings wait in the store all the time, because nobody confirms.  One relay is on a line of its own that
hardly anything is asked on, the other on a line at 9600 baud of which polls take nearly all the time.

Timed are, by one clock: from before PUBLISH to the first byte of the first request of the command (the
device's own hold), to that of the value, and from a cancellation to the write that puts back.  Publishing
and the broker are part of it, so what the agent itself takes is less.  The outcomes in the agent's store
say where the time went.  Not here: how the figures are told (`bench.controlreport`).
"""

import base64
import contextlib
import json
import random
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import paho.mqtt.client as mqtt
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from paho.mqtt.enums import CallbackAPIVersion

from bench import relay
from bench.chain import ENTITY, GATEWAY, HOST, Site, rows_in
from bench.field import ROOT, TYPE, Field
from bench.relay import Relay, Written
from certs.broker import write_broker_config
from certs.contexts import client_context
from cli.process import Process, ProcessFailed, portico, wait_until
from core.errors import ConfigError
from core.topics import command_topic
from policies.command import Command
from policies.envelope import sign_command
from policies.forms import instant_text
from simulator.broker import Mosquitto, free_port

DAYS: Final = 10
EVERY_MS: Final = 10_000
READINGS: Final = DAYS * 86_400_000 // EVERY_MS * 50
"""One meter of 50 points, every 10 s, for ten days."""
BUSY_EVERY_MS: Final = 300
"""A little more than one poll of the busy line takes (`busy_share`)."""
PATIENCE_S: Final = 30.0
POINT: Final = "LoadShed"
_PART: Final = """
[[entity]]
id = "{entity}"
kind = "utility"
application = [{{ id = "control-room" }}]
[[limits]]
type = "{type}"
point = "LoadShed"
verbs = ["shed"]
hold = "timer"
[[grant]]
id = "shed"
from = "{entity}"
may = ["shed"]
to = {{ kinds = ["water-heater"] }}
purpose = ["peak"]
valid = {{ until = {end} }}
duration = {{ max = "1h" }}
"""
_ROSTER: Final = """
[roster]
entity = "{entity}"
[[individual]]
id = "op-17"
roles = ["operator"]
[[key]]
id = "k1"
individual = "op-17"
applications = ["control-room"]
algorithm = "Ed25519"
public = "{public}"
valid = {{ from = {begin}, until = {end} }}
"""


@dataclass(slots=True)
class Times:
    """What was measured of one line, ms."""

    first: list[float] = field(default_factory=list)
    """To the first byte of the first write: the device's own hold."""
    value: list[float] = field(default_factory=list)
    """To the first byte of the value."""
    back: list[float] = field(default_factory=list)
    """From a cancellation to the first byte of the write that puts back."""
    accepted: list[float] = field(default_factory=list)
    """To *accepted*, as the agent noted it; whole ms."""
    dispatched: list[float] = field(default_factory=list)
    """To *dispatched*; whole ms."""


@dataclass(frozen=True, slots=True)
class Commands:
    """Both lines, and what stood beside them."""

    waiting: int
    """Readings that wait."""
    idle: Times
    busy: Times
    transaction_ms: float
    """The longest request of a poll of the busy line, by the arithmetic."""
    busy_share: float
    """How much of the line's time its polls want."""


def measure_commands(site: Site, idle: int, busy: int, readings: int, say: Callable[[str], None]) -> Commands:
    """Send so many commands to each line."""
    relay.write_type(site.types)
    times_s = relay.poll_times_s(site.types)
    with _Stand(site, readings, say) as stand:
        return Commands(
            waiting=rows_in(stand.data_dir) * 50,
            idle=stand.command("idle", stand.idle, idle, 0.3),
            busy=stand.command("busy", stand.busy, busy, 2 * max(times_s)),
            transaction_ms=max(times_s) * 1000,
            busy_share=sum(times_s) * 1000 / BUSY_EVERY_MS,
        )


class _Stand:
    """Broker, relays, agent and operator; as a context manager it runs inside the block."""

    def __init__(self, site: Site, readings: int, say: Callable[[str], None]) -> None:
        self._site = site
        self._readings = readings
        self._say = say
        self._directory = site.fresh()
        self.data_dir: Final = self._directory / "store"
        self._port = free_port()
        self._key = ed25519.Ed25519PrivateKey.generate()
        self._stack = contextlib.ExitStack()
        self._config_path = self._directory / "gateway.toml"
        self._agent = Process(
            "the agent",
            portico("agent", "run", "-c", str(self._config_path), "--log-level", "warning"),
            self._directory / "agent.log",
        )
        self._sent = 0

    def __enter__(self) -> "_Stand":
        with contextlib.ExitStack() as stack:
            stack.callback(shutil.rmtree, self._directory, ignore_errors=True)
            self._start(stack)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _start(self, stack: contextlib.ExitStack) -> None:
        site, certs = self._site, self._site.certs
        broker = Mosquitto(
            write_broker_config(
                self._directory / "broker",
                port=self._port,
                ca=certs / "ca.pem",
                cert=certs / "broker.pem",
                key=certs / "broker.key",
                gateways=[GATEWAY],
                entities=[ENTITY],
            )
        )
        stack.callback(broker.kill9)
        broker.start()
        meter = Field(self._directory, 1)
        stack.callback(meter.process.kill9)
        meter.start()
        self.idle = Relay(self._directory, "idle", "0")
        stack.callback(self.idle.process.kill9)
        self.idle.process.start()
        wires, self.busy = stack.enter_context(relay.line(self._directory))
        policy = _policy(self._directory / "policy", self._key, site.types)
        self._config_path.write_text(self._config(meter.ports[0], self.idle.port, wires, policy))
        self._fill()
        stack.callback(self._agent.kill9)
        self._agent.start()
        wait_until(self._fresh, PATIENCE_S, lambda: f"the policy is not held: {self._agent.tail()}", 0.1)
        self._operator = stack.enter_context(_operator(certs, self._port))

    def _fill(self) -> None:
        begun = time.monotonic()
        command = [sys.executable, "-m", "bench.fill", "-c", str(self._config_path)]
        run = subprocess.run(
            [*command, "--readings", str(self._readings)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=300,
        )
        if run.returncode:
            raise ProcessFailed(f"the store could not be filled: {run.stderr.strip()[-500:]}")
        self._say(f"command: {self._readings:,} readings wait, made in {time.monotonic() - begun:.0f} s")

    def _fresh(self) -> bool:
        try:
            held = json.loads((self.data_dir / "status.json").read_text()).get("policy")
        except (OSError, ValueError):
            return False
        return isinstance(held, dict) and held["freshness"] == "fresh" and held["assignment"] == 1

    # --- commanding

    def command(self, device: str, at: Relay, number: int, spread_s: float) -> Times:
        """Command a device so often, each time at another moment of its line's polls."""
        found = Times()
        for _ in range(number):
            seen = len(at.written())
            id_, sent_ns = self._send(device, {"verb": "shed", "value": "1", "duration": "5min"})
            hold = self._came(id_, at, seen, lambda one: one.function in (6, 16))
            value = self._came(id_, at, seen, lambda one: one.function == 5 and one.value == relay.SHED)
            found.first.append((hold.first_ns - sent_ns) / 1e6)
            found.value.append((value.first_ns - sent_ns) / 1e6)
            self._wait_for(device, ("confirmed",))
            told = self._told(id_)
            found.accepted.append(told["accepted"] - sent_ns / 1e6)
            found.dispatched.append(told["dispatched"] - sent_ns / 1e6)
            time.sleep(random.uniform(0, spread_s))
            seen = len(at.written())
            cancel, sent_ns = self._send(device, {"verb": "cancel", "cancels": id_})
            back = self._came(cancel, at, seen, lambda one: one.function == 5 and one.value == 0)
            found.back.append((back.first_ns - sent_ns) / 1e6)
            self._wait_for(device, ())
            time.sleep(random.uniform(0, spread_s))
        middle = sorted(found.value)[len(found.value) // 2]
        self._say(f"command, {device} line: {number} commands, {middle:.1f} ms to the value in the middle")
        return found

    def _send(self, device: str, asked: dict[str, str]) -> tuple[str, int]:
        self._sent += 1
        now = time.time_ns() // 1_000_000
        command = Command.model_validate(
            {
                "id": f"c-{self._sent:06d}",
                "issuer": {"entity": ENTITY, "application": "control-room", "individual": "op-17"},
                "gateway": GATEWAY,
                "device": device,
                "point": POINT,
                "issued": instant_text(now),
                "expires": instant_text(now + 60_000),
                "purpose": "peak",
                **asked,
            }
        )
        envelope = sign_command(command, [("k1", self._key)])
        topic = command_topic(GATEWAY, ENTITY, device)
        sent_ns = time.time_ns()
        self._operator.publish(topic, envelope, qos=1)
        return command.id, sent_ns

    def _came(self, id_: str, at: Relay, seen: int, which: Callable[[Written], bool]) -> Written:
        found: list[Written] = []

        def there() -> bool:
            found.extend(one for one in at.written()[seen:] if which(one))
            return bool(found)

        wait_until(
            there, PATIENCE_S, lambda: f"no write came: {self._outcomes(id_)}, {self._agent.tail()}", 0.01
        )
        return found[0]

    def _wait_for(self, device: str, states: tuple[str, ...]) -> None:
        """Wait until the controls of a device are in these states."""
        query = "SELECT state FROM control WHERE device = ?"
        wait_until(
            lambda: tuple(one for (one,) in self._ask(query, device)) == states,
            PATIENCE_S,
            lambda: f"the control of {device} is not {states}: {self._agent.tail()}",
            0.01,
        )

    def _told(self, id_: str) -> dict[str, int]:
        """Return when each state of a command was told, ms since 1970; once it is *confirmed*."""
        wait_until(
            lambda: any(one["state"] == "confirmed" for one in self._outcomes(id_)),
            PATIENCE_S,
            lambda: f"not confirmed: {self._outcomes(id_)}, {self._agent.tail()}",
            0.02,
        )
        return {one["state"]: one["at"] for one in self._outcomes(id_)}

    def _outcomes(self, id_: str) -> list[dict[str, Any]]:
        rows = self._ask("SELECT CAST(body AS TEXT) FROM record WHERE grp = 0")
        return [one for (body,) in rows if (one := json.loads(body)).get("command") == id_]

    def _ask(self, query: str, *arguments: str) -> list[tuple[str]]:
        db = sqlite3.connect(f"file:{self.data_dir / 'control.db'}?mode=ro", uri=True, timeout=10)
        try:
            return db.execute(query, arguments).fetchall()
        finally:
            db.close()

    # --- configuration

    def _config(self, meter_port: int, relay_port: int, wires: str, policy: Path) -> str:
        certs, site = self._site.certs, self._site
        text = [
            "[gateway]", f'id = "{GATEWAY}"', f'data_dir = "{self.data_dir}"', 'setting = "development"',
            'clock = "trusted"', f'types = ["{site.types}"]', 'quota = "4GiB"',
            f'signing_cert = "{certs}/{GATEWAY}.sign.pem"', f'signing_key = "{certs}/{GATEWAY}.sign.key"',
            "[policy]", f'root = "{policy}/root.json"', f'folder = "{policy}/out"',
        ]  # fmt: skip
        lines = (
            ("meter", f"modbus+tcp://{HOST}:{meter_port}", TYPE, EVERY_MS),
            ("idle", f"modbus+tcp://{HOST}:{relay_port}", relay.TYPE, EVERY_MS),
            ("busy", f"modbus+rtu://{wires}", relay.TYPE, BUSY_EVERY_MS),
        )
        for name, url, kind, every_ms in lines:
            text += [
                "[[line]]", f'name = "{name}"', f'url = "{url}"',
                *([f"baud = {relay.BAUD}"] if name == "busy" else []),
                "[[device]]", f'name = "{name}"', f'type = "{kind}"', f'line = "{name}"', "unit_id = 1",
                f'every = "{every_ms}ms"', f'owner = "{ENTITY}"',
            ]  # fmt: skip
        text += [
            "[[route]]", 'name = "bench"', f'entity = "{ENTITY}"', f'url = "mqtts://{HOST}:{self._port}"',
            f'ca = "{certs}/ca.pem"', f'cert = "{certs}/{GATEWAY}.pem"', f'key = "{certs}/{GATEWAY}.key"',
        ]  # fmt: skip
        return "\n".join(text) + "\n"


@contextlib.contextmanager
def _operator(certs: Path, port: int) -> Iterator[mqtt.Client]:
    """Yield a connection of the entity."""
    up = threading.Event()
    client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id="operator", protocol=mqtt.MQTTv5)
    client.tls_set_context(client_context(certs / "ca.pem", certs / f"{ENTITY}.pem", certs / f"{ENTITY}.key"))
    client.on_connect = lambda *_: up.set()
    client.connect(HOST, port)
    client.loop_start()
    try:
        if not up.wait(PATIENCE_S):
            raise ConfigError("the operator found no broker")
        yield client
    finally:
        client.disconnect()
        client.loop_stop()


def _policy(base: Path, key: ed25519.Ed25519PrivateKey, types: Path) -> Path:
    """Keep, sign and publish a policy into a folder, as a utility does; return its base."""
    now = datetime.now(UTC)
    begin, end = (f"{now + timedelta(days=days):%Y-%m-%dT%H:%M:%SZ}" for days in (-1, 30))
    der = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    public = base64.b64encode(der).decode()
    rows = [
        f'[[device]]\nid = "{one}"\ntype = "{relay.TYPE}"\nkind = "water-heater"\n'
        f'ownership = [{{ owners = ["{ENTITY}"] }}]\n'
        for one in ("idle", "busy")
    ]
    parts = {
        "part": _PART.format(entity=ENTITY, type=relay.TYPE, end=end),
        "roster": _ROSTER.format(entity=ENTITY, public=public, begin=begin, end=end),
        "assignment": "".join(rows) + '[[select]]\ngrant = "shed"\n',
    }
    _typed("init", str(base), "--utility", ENTITY, "--zone", "UTC")
    files = {name: base.with_name(f"{name}.toml") for name in parts}
    for name, text in parts.items():
        files[name].write_text(text)
    names = ("targets-1", "targets-2", f"{ENTITY}-1")
    keys = [part for name in names for part in ("--key", f"{base}/keys/{name}.key")]
    _typed("add-entity", str(base), ENTITY)
    _typed("grant", str(base), str(files["part"]), "--name", "bench")
    _typed("add-entity", str(base), ENTITY, "--roster", str(files["roster"]))
    _typed("sign", str(base), *keys)
    _typed("publish", str(base))
    _typed("assign", str(base), GATEWAY, str(files["assignment"]))
    _typed("publish", str(base))
    return base


def _typed(*arguments: str) -> None:
    run = subprocess.run(
        portico("policy", *arguments, "--json"), cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    if run.returncode:
        raise ProcessFailed(f"portico policy {arguments[0]}: {(run.stderr or run.stdout).strip()[-500:]}")
