"""A broker that does not trust us, or we not it: what the agent and the collector say, and how often."""

import asyncio
import contextlib
import gc
import logging
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.uplink.broker import Broker, BrokerOptions
from certs.authority import DevAuthority
from certs.broker import write_broker_config
from certs.contexts import client_context
from cli.process import wait_until
from headend.config import BrokerSection
from headend.inbox import Inbox
from headend.link import BRIEF_MANY, Link
from simulator.broker import Mosquitto, free_port

DEADLINE_S = 20.0
# paho makes a new pair of sockets with each connection and leaves the old one to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture(autouse=True)
def collected() -> Iterator[None]:
    """Collect here what paho left, while it is known whose it is."""
    yield
    gc.collect()


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    authority = DevAuthority.create(tmp_path / "ca")
    server = authority.issue_server(["127.0.0.1"])
    config = write_broker_config(
        tmp_path / "broker",
        port=free_port(),
        ca=authority.ca_path,
        cert=server.cert_path,
        key=server.key_path,
    )
    with Mosquitto(config) as running:
        yield running


@pytest.fixture
def stranger(tmp_path: Path) -> tuple[Path, Path]:
    """A certificate and its key from an authority that the broker does not know."""
    pair = DevAuthority.create(tmp_path / "other").issue_client("gw-0001")
    return pair.cert_path, pair.key_path


def judged(sentence: str, cert: Path) -> bool:
    return (
        "closed the connection before it answered: it probably does not trust the authority of" in sentence
        and str(cert) in sentence
        and "its log says which" in sentence
        and "Unspecified" not in sentence
    )


def context(tmp_path: Path, pair: tuple[Path, Path]) -> ssl.SSLContext:
    return client_context(tmp_path / "ca" / "ca.pem", *pair)


async def test_the_agent_names_what_the_broker_probably_refuses(
    broker: Mosquitto, stranger: tuple[Path, Path], tmp_path: Path
) -> None:
    told: asyncio.Queue[tuple[str, str]] = asyncio.Queue(10)
    options = BrokerOptions(
        broker.host, broker.port, "gw-0001", lambda: context(tmp_path, stranger), cert=stranger[0]
    )
    link = Broker(options, lambda code, raised, text: told.put_nowait((code, text)))
    async with asyncio.timeout(DEADLINE_S), asyncio.TaskGroup() as group:
        running = group.create_task(link.run(), name="broker")
        code, sentence = await told.get()
        running.cancel()
    assert code == "broker-unreachable"
    assert judged(sentence, stranger[0]), sentence
    assert judged(link.counts.last_error, stranger[0])


def test_the_collector_names_what_the_broker_probably_refuses(
    broker: Mosquitto, stranger: tuple[Path, Path], tmp_path: Path
) -> None:
    cert, key = stranger
    ca = tmp_path / "ca" / "ca.pem"
    section = BrokerSection(url=f"mqtts://{broker.host}:{broker.port}", ca=ca, cert=cert, key=key)
    link = Link(0, section, "dso.example-collector-a", [], context(tmp_path, stranger), Inbox())
    link.start()
    try:
        wait_until(lambda: bool(link.failure), DEADLINE_S, lambda: "the link says nothing")
        assert judged(link.failure, stranger[0]), link.failure
    finally:
        link.stop()


@contextlib.contextmanager
def linked(
    url: str, ca: Path, pair: tuple[Path, Path], client_id: str = "dso.example-collector-a"
) -> Iterator[Link]:
    section = BrokerSection(url=url, ca=ca, cert=pair[0], key=pair[1])
    link = Link(0, section, client_id, [], client_context(ca, *pair), Inbox())
    link.start()
    try:
        yield link
    finally:
        link.stop()


@pytest.fixture
def known(broker: Mosquitto, tmp_path: Path) -> tuple[Path, Path]:
    """A certificate and its key that the broker trusts."""
    pair = DevAuthority.open(tmp_path / "ca").issue_client("dso.example")
    return pair.cert_path, pair.key_path


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [
        record.getMessage()
        for record in caplog.records
        if record.levelno >= logging.WARNING and record.name.startswith("headend")
    ]


def test_refused_certificate_is_one_sentence_however_often_it_is_tried(
    broker: Mosquitto, stranger: tuple[Path, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with linked(f"mqtts://{broker.host}:{broker.port}", tmp_path / "ca" / "ca.pem", stranger):
        wait_until(
            lambda: broker.log_text().count("certificate verify failed") >= 3, DEADLINE_S, broker.log_text
        )
    (sentence,) = said(caplog)
    assert judged(sentence, stranger[0]), sentence


def test_broker_of_an_authority_that_is_not_in_ca_says_what_to_do(
    broker: Mosquitto, known: tuple[Path, Path], stranger: tuple[Path, Path], tmp_path: Path
) -> None:
    ca = tmp_path / "other" / "ca.pem"
    with linked(f"mqtts://{broker.host}:{broker.port}", ca, known) as link:
        wait_until(lambda: bool(link.failure), DEADLINE_S, lambda: "the link says nothing")
        assert f"put the authority that issued it into {ca}" in link.failure
    with linked(f"mqtts://localhost:{broker.port}", tmp_path / "ca" / "ca.pem", known) as link:
        wait_until(lambda: bool(link.failure), DEADLINE_S, lambda: "the link says nothing")
        assert "correct the host in url" in link.failure


def test_two_collectors_of_one_name_are_told_apart_once_and_then_tried_without_a_word(
    broker: Mosquitto, known: tuple[Path, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ca, url = tmp_path / "ca" / "ca.pem", f"mqtts://{broker.host}:{broker.port}"
    with linked(url, ca, known) as one, linked(url, ca, known) as two:
        wait_until(lambda: one.connects >= 6 and two.connects >= 6, DEADLINE_S, lambda: "they live in peace")
    sentences = said(caplog)
    assert sum("ended the connection" in one for one in sentences) <= 2 * BRIEF_MANY
    assert sum("another collector with this --name" in one for one in sentences) == 2
    again = max(at for at, one in enumerate(sentences) if "again and again" in one)
    assert sentences[again + 1 :] == []


@pytest.mark.parametrize("end", ["killed", "taken over"])
async def test_the_agent_says_in_words_of_its_own_how_a_connection_ended(
    broker: Mosquitto, tmp_path: Path, caplog: pytest.LogCaptureFixture, end: str
) -> None:
    pair = DevAuthority.open(tmp_path / "ca").issue_client("gw-0001")
    own = (pair.cert_path, pair.key_path)
    options = BrokerOptions(broker.host, broker.port, "gw-0001", lambda: context(tmp_path, own), cert=own[0])
    first, second = (Broker(options, lambda code, raised, text: None) for _ in range(2))

    def said() -> list[str]:
        return [record.getMessage() for record in caplog.records if record.name == "agent.uplink.broker"]

    async with asyncio.timeout(DEADLINE_S), asyncio.TaskGroup() as group:
        running = [group.create_task(first.run(), name="first")]
        await asyncio.to_thread(wait_until, lambda: first.connected, DEADLINE_S, lambda: "no connection")
        if end == "killed":
            await asyncio.to_thread(broker.kill9)
        else:
            running.append(group.create_task(second.run(), name="second"))
        await asyncio.to_thread(wait_until, lambda: bool(said()), DEADLINE_S, lambda: "nothing is said")
        for one in running:
            one.cancel()
    assert "Unspecified" not in said()[0]
    assert "another box connected there as gw-0001" in said()[0] or "two gateways with one id" in said()[0]
