"""Sending a published policy to a broker: retained messages, each acknowledged before it counts as sent.

The bundle goes first and the timestamp after it, so that a gateway that hears both finds them complete.  A
broker's word proves nothing about gateways: what they hold they say themselves (`headend.policylag`).

Not here: what is published (`policies.trust.publishing`).
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from certs.contexts import client_context
from core.errors import Rejected, Unreachable
from core.topics import assign_topic, policy_bundle_topic, policy_timestamp_topic
from headend.config import BrokerSection
from headend.linkfaults import unconnected
from policies.trust.publishing import Publication

LONGEST_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Sending:
    """To which broker, as whom, for which segment of the fleet."""

    broker: BrokerSection
    segment: str
    client_id: str


def messages(publication: Publication, segment: str) -> list[tuple[str, bytes]]:
    """Return the retained messages of a publication, in their order."""
    return [
        (policy_bundle_topic(segment), publication.bundle),
        *((assign_topic(gateway), raw) for gateway, raw in publication.assignments.items()),
        (policy_timestamp_topic(segment), publication.timestamp),
    ]


def send(
    publication: Publication, to: Sending, sent: Mapping[str, str], timeout_s: float = LONGEST_S
) -> dict[str, str]:
    """Send what this broker does not have yet; return what it has after it, for the next time.

    ``sent`` is what was returned before: content by topic.  Raises Unreachable or Rejected.
    """
    broker = to.broker
    client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=to.client_id, protocol=mqtt.MQTTv5)
    client.max_queued_messages_set(0)
    if broker.tls and broker.ca is not None and broker.cert is not None and broker.key is not None:
        client.tls_set_context(client_context(broker.ca, broker.cert, broker.key))
    talk = _Talk(client)
    deadline = time.monotonic() + timeout_s
    try:
        client.connect(broker.host, broker.port, keepalive=broker.keepalive_s, clean_start=True)
    except (OSError, ValueError) as error:
        raise Unreachable(unconnected(broker.url, broker.ca, error)) from error
    client.loop_start()
    try:
        talk.wait(talk.answered, deadline, broker.url, "did not answer")
        if talk.refusal:
            raise Rejected(talk.code, f"broker {broker.url} refuses {to.client_id}: {talk.refusal}")
        has = {}
        for topic, payload in messages(publication, to.segment):
            has[topic] = hashlib.sha256(payload).hexdigest()
            if sent.get(topic) == has[topic]:
                continue
            talk.taken.clear()
            client.publish(topic, payload, qos=1, retain=True)
            talk.wait(talk.taken, deadline, broker.url, f"did not take {topic}")
            if talk.refusal:
                raise Rejected(
                    talk.code,
                    f"broker {broker.url} refuses {topic}: {talk.refusal}; the policy service needs the "
                    "right to write policy/ and <gateway>/assign there",
                )
        return has
    finally:
        client.disconnect()
        client.loop_stop()


class _Talk:
    """What the broker answered, from paho's thread."""

    def __init__(self, client: mqtt.Client) -> None:
        self.answered = threading.Event()
        self.taken = threading.Event()
        self.refusal = ""
        self.code = 0
        self._gone = threading.Event()
        client.on_connect = self._on_connect
        client.on_publish = self._on_publish
        client.on_disconnect = self._on_disconnect

    def wait(self, what: threading.Event, deadline: float, url: str, failure: str) -> None:
        """Wait for an answer; Unreachable when it does not come."""
        while not what.wait(0.1):
            if self._gone.is_set() or time.monotonic() > deadline:
                raise Unreachable(f"broker {url} {failure}: look into its log")

    def _on_connect(
        self, client: mqtt.Client, userdata: Any, flags: mqtt.ConnectFlags, reason: ReasonCode, props: Any
    ) -> None:
        self._note(reason)
        self.answered.set()

    def _on_publish(
        self, client: mqtt.Client, userdata: Any, mid: int, reason: ReasonCode, props: Properties | None
    ) -> None:
        self._note(reason)
        self.taken.set()

    def _on_disconnect(
        self,
        client: mqtt.Client,
        userdata: Any,
        flags: mqtt.DisconnectFlags,
        reason: ReasonCode,
        props: Properties | None,
    ) -> None:
        self._gone.set()

    def _note(self, reason: ReasonCode) -> None:
        if reason.is_failure:
            self.refusal, self.code = str(reason), reason.value


def section(url: str, ca: Path | None, cert: Path | None, key: Path | None) -> BrokerSection:
    """Return a broker as the command line names it."""
    return BrokerSection(url=url, ca=ca, cert=cert, key=key)
