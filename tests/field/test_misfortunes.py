"""What goes wrong in the field, with real parts: each has a one-sentence error and loses nothing."""

import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from certs.authority import DevAuthority
from certs.contexts import client_context
from certs.signing import SigningKey
from cli.process import Process, portico, wait_until
from cli.stand import CollectorPlan, GatewayPlan, RoutePlan, Stand, StandPlan
from core.codec import encode_plain, seal
from core.records import Ask, Confirmation
from core.topics import Lane, StreamTopic, ask_topic, confirm_topic
from tests.support.balance import books_rows, missing, one, store_rows, wait_balanced, wait_rows

GATEWAY, ENTITY = "gw-0001", "dso.example"
FAST = GatewayPlan(every="200ms", routes=(RoutePlan(keys={"resend_after": "2s"}),))


@pytest.fixture
def stand(tmp_path: Path) -> Iterator[Stand]:
    """Everything laid out; the test starts what it wants, and all is ended behind it."""
    laid = Stand(tmp_path, StandPlan(gateways=(FAST,)))
    try:
        yield laid
    finally:
        laid.kill()


def alarms(stand: Stand) -> dict[str, str]:
    """Return the alarms that the agent shows now, text by code."""
    shown = stand.agent.status().get("alarms", [])
    assert isinstance(shown, list)
    return {alarm["code"]: alarm["text"] for alarm in shown}


def wait_alarm(stand: Stand, code: str) -> str:
    wait_until(lambda: code in alarms(stand), 20, lambda: f"no alarm {code}: {stand.agent.tail()}", 0.2)
    return alarms(stand)[code]


class Person:
    """A client with somebody's certificate, who publishes what the test wants."""

    def __init__(self, stand: Stand, identity: str, client_id: str = "") -> None:
        certs = stand.authority.directory
        self.client = paho.Client(
            CallbackAPIVersion.VERSION2, client_id=client_id or f"{identity}-person", protocol=paho.MQTTv5
        )
        context = client_context(certs / "ca.pem", certs / f"{identity}.pem", certs / f"{identity}.key")
        self.client.tls_set_context(context)
        self.client.connect("127.0.0.1", stand.broker_port)
        self.client.loop_start()

    def say(self, topic: str, payload: bytes, retain: bool = False) -> None:
        self.client.publish(topic, payload, qos=1, retain=retain).wait_for_publish(10)

    def __enter__(self) -> "Person":
        return self

    def __exit__(self, *exc: object) -> None:
        self.client.disconnect()
        self.client.loop_stop()


def routes(stand: Stand) -> dict[str, object]:
    """Return the state of the route as of now: the status file is written every 2 s."""
    now = time.time() * 1000
    wait_until(
        lambda: int(str(stand.agent.status().get("at_ms", 0))) > now, 10, lambda: "no fresh status", 0.1
    )
    found = stand.agent.status()["routes"]
    assert isinstance(found, dict)
    route = found["dso"]
    assert isinstance(route, dict)
    return route


def test_an_unreachable_broker_is_an_alarm_and_everything_arrives_when_it_is_back(stand: Stand) -> None:
    stand.start()
    wait_balanced(stand, more_than=8)
    stand.broker.stop()
    before = len(store_rows(stand.agent.store_path))
    text = wait_alarm(stand, "broker-unreachable")
    assert text.startswith(f"broker 127.0.0.1:{stand.broker_port} ")
    wait_rows(stand, before + 20)
    assert missing(stand)
    stand.broker.start()
    wait_balanced(stand, more_than=before + 20)
    wait_until(lambda: "broker-unreachable" not in alarms(stand), 20, lambda: "the alarm does not end")


@pytest.mark.parametrize("wrong", ["other-authority", "expired"])
def test_a_wrong_certificate_stops_the_uplink_with_a_sentence_and_never_the_polls(
    stand: Stand, tmp_path: Path, wrong: str
) -> None:
    certs = stand.authority.directory
    good = {name: (certs / name).read_bytes() for name in (f"{GATEWAY}.pem", f"{GATEWAY}.key")}
    if wrong == "other-authority":
        other = DevAuthority.create(tmp_path / "other")
        other.issue_client(GATEWAY)
    else:
        other = stand.authority
        other.issue_client(GATEWAY, days=0, force=True)
    for name in good:
        (certs / name).write_bytes((other.directory / name).read_bytes())
    stand.start()
    wait_rows(stand, 20)
    text = wait_alarm(stand, "broker-unreachable")
    assert "\n" not in text
    assert "certificate" in text or "TLS" in text or "refuses" in text or "gone" in text
    assert books_rows(stand.collector.books_path) == {}
    for name, content in good.items():  # the operator puts the right one in place; nobody restarts
        (certs / name).write_bytes(content)
    wait_balanced(stand, more_than=20, timeout_s=60)


def test_two_gateways_with_one_id_are_an_alarm_and_the_rows_of_both_are_kept(tmp_path: Path) -> None:
    twin = GatewayPlan(every="200ms", routes=FAST.routes, data_dir=tmp_path / "twin")
    plan = StandPlan(gateways=(FAST,))
    with Stand(tmp_path, plan) as stand:
        wait_balanced(stand, more_than=8)
        copied = tmp_path / "twin.toml"
        text = stand.agent.config_path.read_text().replace(
            json.dumps(str(stand.agent.data_dir)), json.dumps(str(twin.data_dir))
        )
        copied.write_text(text)
        with Process(
            "the twin",
            portico("agent", "run", "-c", str(copied)),
            tmp_path / "twin.log",
            ready=lambda process: " ready" in process.said(),
        ) as second:
            assert twin.data_dir is not None
            twins = twin.data_dir / "readings.db"
            wait_until(
                lambda: bool(store_rows(twins)), 10, lambda: f"the twin polls nothing: {second.tail()}"
            )
            wait_until(
                lambda: "identity-in-use" in alarms(stand) or "two gateways with one id" in second.said(),
                30,
                lambda: f"nobody noticed: {stand.agent.tail()} / {second.tail()}",
                0.2,
            )
        wait_balanced(stand, more_than=20, timeout_s=60)
        # what the twin did not deliver while it lived stays in its store; nothing of it is in doubt
        both = set(books_rows(stand.collector.books_path))
        assert set(store_rows(stand.agent.store_path)) <= both
        assert one(stand.collector.books_path, "SELECT count(*) FROM conflict") == [(0,)]


def test_forged_and_replayed_confirmations_free_nothing(stand: Stand, tmp_path: Path) -> None:
    stand.start()
    wait_balanced(stand, more_than=8)
    stand.collector.stop()
    before = len(store_rows(stand.agent.store_path))
    epoch = next(iter(store_rows(stand.agent.store_path)))[0]
    everything = {epoch: [(1, 1_000_000)]}
    ignored = int(str(routes(stand)["ignored"]))
    books, n = str(routes(stand)["books"]), int(str(routes(stand)["n"]))
    topic = confirm_topic(GATEWAY, ENTITY)
    stranger = DevAuthority.create(tmp_path / "stranger")
    stranger.issue_signer(ENTITY, role="collector")
    forged_key = SigningKey.load(
        stranger.directory / f"{ENTITY}.sign.key", stranger.directory / f"{ENTITY}.sign.pem"
    )
    certs = stand.authority.directory
    true_key = SigningKey.load(certs / f"{ENTITY}.sign.key", certs / f"{ENTITY}.sign.pem")
    gateway_key = SigningKey.load(certs / f"{GATEWAY}.sign.key", certs / f"{GATEWAY}.sign.pem")

    def confirmation(number: int, books_id: str = books) -> bytes:
        return encode_plain(Confirmation(v=1, books=books_id, n=number, held=everything))

    older = f"{int(books.partition('-')[0]) - 1:013d}-00000000"
    elsewhere = seal(confirm_topic("gw-0002", ENTITY), confirmation(n + 5), true_key)
    with Person(stand, ENTITY) as person:
        person.say(topic, b"garbage")
        person.say(topic, b"P1ej" + os.urandom(300))
        person.say(topic, seal(topic, confirmation(n + 1), forged_key))
        person.say(topic, seal(topic, confirmation(n + 1), gateway_key))
        person.say(topic, seal(topic, confirmation(n), true_key))
        person.say(topic, seal(topic, confirmation(n + 9, older), true_key))
        person.say(topic, elsewhere)
        person.say(topic, seal(topic, b"{}", true_key))
        person.say(ask_topic(GATEWAY, ENTITY), os.urandom(50))
        wait_until(
            lambda: int(str(routes(stand)["ignored"])) >= ignored + 9,
            20,
            lambda: f"not all were heard: {routes(stand)}",
        )
    wait_rows(stand, before + 10)
    assert int(str(routes(stand)["n"])) == n
    stand.collector.start()
    wait_balanced(stand, more_than=before + 10)


def test_a_retained_confirmation_is_ignored_even_when_its_signature_holds(stand: Stand) -> None:
    stand.start()
    wait_balanced(stand, more_than=8)
    stand.collector.stop()
    certs = stand.authority.directory
    true_key = SigningKey.load(certs / f"{ENTITY}.sign.key", certs / f"{ENTITY}.sign.pem")
    epoch = next(iter(store_rows(stand.agent.store_path)))[0]
    books, n = str(routes(stand)["books"]), int(str(routes(stand)["n"]))
    topic = confirm_topic(GATEWAY, ENTITY)
    body = encode_plain(Confirmation(v=1, books=books, n=n + 1, held={epoch: [(1, 1_000_000)]}))
    stand.agent.stop()
    with Person(stand, ENTITY) as person:
        person.say(topic, seal(topic, body, true_key), retain=True)
    rows = len(store_rows(stand.agent.store_path))
    stand.agent.start()
    wait_until(lambda: int(str(routes(stand)["ignored"])) >= 1, 20, lambda: "it was not heard", 0.2)
    wait_rows(stand, rows + 5)
    assert int(str(routes(stand)["n"])) == n
    stand.collector.start()
    wait_balanced(stand, more_than=rows + 5)


def test_garbage_and_forged_messages_on_a_stream_are_counted_and_change_no_books(
    stand: Stand, tmp_path: Path
) -> None:
    stand.start()
    wait_balanced(stand, more_than=8)
    stranger = DevAuthority.create(tmp_path / "stranger")
    stranger.issue_signer(GATEWAY, role="stream")
    key = SigningKey.load(
        stranger.directory / f"{GATEWAY}.sign.key", stranger.directory / f"{GATEWAY}.sign.pem"
    )
    topic = str(StreamTopic(GATEWAY, ENTITY, Lane.LIVE))
    with Person(stand, GATEWAY, client_id=f"{GATEWAY}:attacker") as person:
        for payload in (b"", b"garbage", b"P1ez" + os.urandom(200), os.urandom(70_000)):
            person.say(topic, payload)
        forged = b'{"v":1,"gateway":"gw-0001","epoch":"%s","first":1,"last":9,"manifest":"","sent":1}'
        person.say(topic, seal(topic, forged % (b"0" * 16), key))

    def refused() -> int:
        counted = "SELECT sum(n) FROM counter WHERE name LIKE 'refused%' OR name LIKE 'messages.refused%'"
        return int(str(one(stand.collector.books_path, counted)[0][0] or 0))

    # What is refused is gathered, and written with a later transaction.
    wait_until(lambda: refused() >= 4, 20, lambda: f"{refused()} refused")
    wait_balanced(stand, more_than=20)
    assert one(stand.collector.books_path, "SELECT count(*) FROM epoch WHERE epoch = '0000000000000000'") == [
        (0,)
    ]


def test_an_ask_sends_an_older_range_again_and_the_books_refuse_it_as_known(stand: Stand) -> None:
    stand.start()
    wait_balanced(stand, more_than=20)
    messages = int(str(routes(stand)["messages"]))
    certs = stand.authority.directory
    key = SigningKey.load(certs / f"{ENTITY}.sign.key", certs / f"{ENTITY}.sign.pem")
    epoch = next(iter(store_rows(stand.agent.store_path)))[0]
    topic = ask_topic(GATEWAY, ENTITY)
    question = Ask(
        v=1,
        books=str(routes(stand)["books"]),
        n=int(str(routes(stand)["n"])) + 1000,
        ranges={epoch: [(3, 12)]},
    )
    with Person(stand, ENTITY) as person:
        person.say(topic, seal(topic, encode_plain(question), key))

    def again() -> bool:
        found = one(stand.collector.books_path, "SELECT sum(n) FROM counter WHERE name LIKE '%redelivered%'")
        return int(str(found[0][0] or 0)) > 0

    wait_until(again, 20, lambda: f"nothing came again: {routes(stand)}", 0.2)
    assert int(str(routes(stand)["messages"])) >= messages
    assert one(stand.collector.books_path, "SELECT count(*) FROM conflict") == [(0,)]


def test_a_broker_that_refuses_a_publish_is_an_alarm_and_the_rows_arrive_when_it_no_longer_does(
    stand: Stand, tmp_path: Path
) -> None:
    stand.start()
    wait_balanced(stand, more_than=8)
    rules = next((tmp_path / "broker").glob("*acl*"))
    good = rules.read_text()
    without = "\n".join(line for line in good.splitlines() if "stream" not in line)
    assert without != good
    stand.broker.stop()
    rules.write_text(without)
    stand.broker.start()
    text = wait_alarm(stand, "publish-refused")
    assert "0x87" in text
    before = len(store_rows(stand.agent.store_path))
    wait_rows(stand, before + 10)
    stand.broker.stop()
    rules.write_text(good)
    stand.broker.start()
    wait_balanced(stand, more_than=before + 10, timeout_s=60)


def test_owners_see_their_own_points_only_and_joint_owners_each(tmp_path: Path) -> None:
    customer = "customer.example"
    joint = (
        '[[device.override]]\npoints = ["PhVphA", "PhVphB", "PhVphC"]\n'
        f'data_owners = ["{ENTITY}", "{customer}"]\n'
    )
    gateway = GatewayPlan(
        every="200ms",
        routes=(FAST.routes[0], RoutePlan(entity=customer, keys={"resend_after": "2s"})),
        device_tables={"main-meter": joint},
        devices=("main-meter",),
    )
    plan = StandPlan(gateways=(gateway,), collectors=(CollectorPlan(), CollectorPlan(entity=customer)))
    with Stand(tmp_path, plan) as stand:
        mine, theirs = stand.collectors
        wait_balanced(stand, more_than=20)
        wait_until(
            lambda: len(books_rows(theirs.books_path)) > 10, 20, lambda: f"nothing for {customer}", 0.2
        )
        names = (
            "SELECT DISTINCT json_extract(p.value, '$.name') FROM grp, json_each(grp.body, '$.points') AS p"
        )
        seen = {str(name) for (name,) in one(theirs.books_path, names)}
        assert seen == {"PhVphA", "PhVphB", "PhVphC"}
        assert seen < {str(name) for (name,) in one(mine.books_path, names)}
        holes: Callable[[Path], list[tuple[object, ...]]] = lambda path: one(  # noqa: E731
            path, "SELECT ranges FROM coverage WHERE space = 'data'"
        )
        assert all(len(json.loads(str(ranges))) == 1 for (ranges,) in holes(theirs.books_path))
