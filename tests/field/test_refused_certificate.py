"""A broker that does not trust our certificate: what the agent and the collector say of it."""

import asyncio
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
from headend.link import Link
from simulator.broker import Mosquitto, free_port

DEADLINE_S = 20.0


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
