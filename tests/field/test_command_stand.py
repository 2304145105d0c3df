"""A command through a whole Portico: a signed policy, an agent, a broker, collectors, and two people.

The operator sends with `portico command`, the customer says no with `portico optout`; the peer of another
program sends what nobody ought to.
"""

import base64
import json
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from paho.mqtt.enums import CallbackAPIVersion
from typer.testing import CliRunner

from certs.contexts import client_context
from certs.pem import key_pem, write_atomically
from cli.plans import CollectorPlan, GatewayPlan, RoutePlan, StandPlan
from cli.policy import app
from cli.process import portico, wait_until
from cli.stand import HOST, Stand
from simulator.peers.esco import Esco, send

pytestmark = [pytest.mark.field, pytest.mark.timeout(180)]

UTILITY, GATEWAY, DEVICE, POINT = "dso.example", "gw-0001", "heater-relay", "LoadShed"
PATIENCE_S = 60.0
KEY = ed25519.Ed25519PrivateKey.generate()
PEER = Esco("esco1", "hub", "op-17", "k1", KEY)
END = f"{datetime.now(UTC) + timedelta(days=30):%Y-%m-%dT%H:%M:%SZ}"
BEGIN = f"{datetime.now(UTC) - timedelta(days=1):%Y-%m-%dT%H:%M:%SZ}"
PART = f"""
[[entity]]
id = "dso.example"
kind = "utility"
application = [{{ id = "control-room" }}]

[[entity]]
id = "esco1"
kind = "esco"
application = [{{ id = "hub" }}]

[[limits]]
type = "generic-load-relay"
point = "LoadShed"
verbs = ["shed"]
hold = "timer"

[[grant]]
id = "shed"
from = "esco1"
may = ["shed"]
to = {{ kinds = ["water-heater"] }}
purpose = ["peak"]
valid = {{ until = {END} }}
duration = {{ max = "1h" }}
"""
ASSIGNMENT = """
[[device]]
id = "heater-relay"
type = "generic-load-relay"
kind = "water-heater"
ownership = [{ owners = ["dso.example"] }]

[[select]]
grant = "shed"
"""


def roster(entity: str, public: str) -> str:
    return (
        f'[roster]\nentity = "{entity}"\n[[individual]]\nid = "op-17"\nroles = ["operator"]\n'
        f'[[key]]\nid = "k1"\nindividual = "op-17"\napplications = ["hub"]\nalgorithm = "Ed25519"\n'
        f'public = "{public}"\nvalid = {{ from = {BEGIN}, until = {END} }}\n'
    )


def typed(*arguments: str | Path) -> None:
    result = CliRunner().invoke(app, [*map(str, arguments), "--json"])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.stdout


def lay_policy(directory: Path) -> Path:
    """Keep, sign and publish a policy into a folder; return its base."""
    base = directory / "policy"
    typed("init", base, "--utility", UTILITY, "--zone", "UTC")
    for entity in (UTILITY, "esco1"):
        typed("add-entity", base, entity)
    (directory / "part.toml").write_text(PART)
    typed("grant", base, directory / "part.toml", "--name", "test")
    der = KEY.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    (directory / "roster.toml").write_text(roster("esco1", base64.b64encode(der).decode()))
    typed("add-entity", base, "esco1", "--roster", directory / "roster.toml")
    names = ("targets-1", "targets-2", f"{UTILITY}-1", "esco1-1")
    keys = [part for name in names for part in ("--key", base / "keys" / f"{name}.key")]
    typed("sign", base, *keys)
    typed("publish", base)
    (directory / "assignment.toml").write_text(ASSIGNMENT)
    typed("assign", base, GATEWAY, directory / "assignment.toml")
    typed("publish", base)
    return base


class Told:
    """What a run of `portico command --json` said."""

    def __init__(self, done: "subprocess.CompletedProcess[bytes]") -> None:
        self.code = done.returncode
        self.steps: list[dict[str, Any]] = [json.loads(line) for line in done.stdout.splitlines()]
        self.states = [one["state"] for one in self.steps if "state" in one]
        self.beats = [(one["taken"], one["heard"]) for one in self.steps if "heard" in one]
        self.codes = [reason["code"] for one in self.steps for reason in one.get("reasons", [])]
        self.err = done.stderr.decode()


class Operator:
    """Somebody at esco1 with the operator's file."""

    def __init__(self, stand: Stand, directory: Path) -> None:
        self.stand = stand
        self.directory = directory
        certs = stand.authority.directory
        write_atomically(directory / "op.key", key_pem(KEY), 0o600)
        (directory / "operator.toml").write_text(
            '[operator]\nentity = "esco1"\napplication = "hub"\nindividual = "op-17"\nkey = "op.key"\n'
            f'key_id = "k1"\n[broker]\nurl = "mqtts://{HOST}:{stand.broker_port}"\nca = "{certs}/ca.pem"\n'
            f'cert = "{certs}/esco1.pem"\nkey = "{certs}/esco1.key"\n'
            f'[gateways]\nbooks = "{stand.books()["esco1"]}"\n'
        )

    def types(self, *arguments: str) -> Told:
        return Told(
            subprocess.run(
                portico("command", *arguments, "--json"), capture_output=True, cwd=self.directory, timeout=120
            )
        )

    def shed(self, seconds: str, purpose: str = "peak", *more: str) -> Told:
        place = ("--gateway", GATEWAY, "--device", DEVICE, "--point", POINT)
        return self.types(
            "send", *place, "--verb", "shed", "--value", "1", "--for", seconds, "--purpose", purpose, *more
        )


@pytest.fixture
def operator(tmp_path: Path) -> Iterator[Operator]:
    base = lay_policy(tmp_path)
    stick = f'[policy]\nroot = "{base / "root.json"}"\nfolder = "{base / "out"}"\n'
    plan = StandPlan(
        gateways=(GatewayPlan(routes=(RoutePlan(), RoutePlan("esco1")), tables=stick),),
        collectors=(CollectorPlan(), CollectorPlan("esco1")),
    )
    with Stand(tmp_path / "stand", plan) as stand:

        def fresh() -> bool:
            held = stand.agent.status().get("policy")
            return isinstance(held, dict) and held["freshness"] == "fresh" and held["assignment"] == 1

        wait_until(fresh, PATIENCE_S, lambda: f"the policy is not held: {stand.agent.tail()}")
        yield Operator(stand, tmp_path)


def outcomes(operator: Operator, command: str) -> list[str]:
    done = subprocess.run(
        portico("headend", "outcomes", "--books", str(operator.stand.books()["esco1"]), "--command", command,
                "--json"),
        capture_output=True, check=True,
    )  # fmt: skip
    return [json.loads(line)["state"] for line in done.stdout.splitlines()]


def test_a_shed_is_obeyed_and_put_back_and_every_step_is_in_the_books(operator: Operator) -> None:
    told = operator.shed("3s")
    assert told.states == ["sent", "accepted", "dispatched", "confirmed", "restoring", "restored"], told.err
    assert told.code == 0
    id_ = told.steps[0]["command"]
    wait_until(
        lambda: outcomes(operator, id_) == told.states[1:], PATIENCE_S, lambda: str(outcomes(operator, id_))
    )
    again = operator.types("status", id_, "--gateway", GATEWAY)
    assert (again.code, again.states) == (0, told.states[1:])


def test_an_operator_without_books_or_certificates_knows_a_gateway_by_its_state(operator: Operator) -> None:
    config = operator.directory / "operator.toml"
    config.write_text(config.read_text().partition("[gateways]")[0])
    told = operator.shed("1s")
    assert (told.code, told.states[-1]) == (0, "restored"), told.err


def test_refusals_come_with_their_reasons(operator: Operator) -> None:
    told = operator.shed("2h", "fun")
    assert (told.code, told.states) == (1, ["sent", "refused"])
    assert {"purpose", "duration"} <= set(told.codes)


def test_what_a_peer_publishes_retained_is_refused_live_and_its_copy_is_not_obeyed(
    operator: Operator,
) -> None:
    certs = operator.stand.authority.directory
    up = threading.Event()
    client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id="peer", protocol=mqtt.MQTTv5)
    client.tls_set_context(client_context(certs / "ca.pem", certs / "esco1.pem", certs / "esco1.key"))
    client.on_connect = lambda *_: up.set()
    client.connect(HOST, operator.stand.broker_port)
    client.loop_start()
    try:
        assert up.wait(PATIENCE_S)
        command = PEER.command(
            GATEWAY, DEVICE, POINT, "shed", datetime.now(UTC), value="1", duration="60s", purpose="peak"
        )
        topic = PEER.topic(GATEWAY, DEVICE)
        send(client, topic, PEER.envelope(command), retain=True).wait_for_publish(PATIENCE_S)
        id_ = str(command["id"])
        wait_until(
            lambda: bool(outcomes(operator, id_)), PATIENCE_S, lambda: "no answer to what was retained"
        )
        assert outcomes(operator, id_) == ["refused"]
        send(client, topic, PEER.envelope(command)).wait_for_publish(PATIENCE_S)
        wait_until(
            lambda: "confirmed" in outcomes(operator, id_), PATIENCE_S, lambda: str(outcomes(operator, id_))
        )
    finally:
        client.disconnect()
        client.loop_stop()


def test_the_customer_s_no_ends_it_and_refuses_the_next(operator: Operator) -> None:
    sent = operator.shed("300s", "peak", "--no-wait")
    assert (sent.code, sent.states) == (0, ["sent"])
    id_ = sent.steps[0]["command"]
    wait_until(
        lambda: "confirmed" in outcomes(operator, id_), PATIENCE_S, lambda: str(outcomes(operator, id_))
    )
    config = str(operator.stand.agent.config_path)
    began = time.monotonic()
    subprocess.run(portico("optout", "-c", config, "--device", DEVICE), check=True, capture_output=True)
    watched = operator.types("watch", id_, "--gateway", GATEWAY, "--timeout", "60s")
    assert (watched.code, watched.states[-1]) == (0, "restored"), (watched.states, time.monotonic() - began)
    assert "opted-out" in watched.codes
    assert "opted-out" in operator.shed("3s").codes


def test_a_gateway_that_would_put_a_control_back_hears_the_hub_beat(operator: Operator) -> None:
    def taken() -> int:
        control = operator.stand.agent.status().get("control")
        return int(control["beats"].get("taken", 0)) if isinstance(control, dict) else 0

    once = operator.types("beat", "--once")
    assert (once.code, once.beats) == (0, [(True, True)]), once.err
    elsewhere = operator.types("beat", "--once", "--segment", "north")
    assert (elsewhere.code, elsewhere.beats) == (0, [(True, False)]), elsewhere.err
    wait_until(lambda: taken() == 1, PATIENCE_S, operator.stand.agent.tail)
    hub = subprocess.Popen(portico("command", "beat", "--every", "1s"), cwd=operator.directory)
    try:
        wait_until(lambda: taken() >= 3, PATIENCE_S, operator.stand.agent.tail)
    finally:
        hub.terminate()
    assert hub.wait(PATIENCE_S) == 0


def test_a_broker_that_was_away_at_the_end_hides_no_step_from_who_watches(operator: Operator) -> None:
    with ThreadPoolExecutor(1) as pool:
        sending = pool.submit(operator.shed, "8s")
        status = operator.stand.agent.status
        wait_until(lambda: '"confirmed"' in json.dumps(status()), PATIENCE_S, operator.stand.agent.tail)
        operator.stand.broker.stop()
        wait_until(lambda: '"confirmed"' not in json.dumps(status()), PATIENCE_S, operator.stand.agent.tail)
        operator.stand.broker.start()
        told = sending.result(PATIENCE_S)
    assert (told.code, told.states[-2:]) == (0, ["restoring", "restored"]), told.err
