"""One connection to one broker: paho in its thread, and a thread of ours that connects again.

What comes is put into the inbox and acknowledged by hand, after the commit. Reconnecting is ours, with
backoff and jitter. A lost connection is said once, and its return once, with the duration; why there is
none is said once, and again when it changes. Only this module imports paho.

Not here: what the messages mean, and the sentences (`headend.linkfaults`); retained messages are taken
when they come and never relied upon (MQTT 5 §3.3.1.3 gives them to non-shared subscriptions only).
"""

from __future__ import annotations

import logging
import random
import socket
import ssl
import threading
import time
from typing import Final

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from core.codec import MAX_SEALED
from headend.config import BrokerSection
from headend.inbox import Arrival, Inbox
from headend.linkfaults import brief, ended, unanswered, unconnected

log = logging.getLogger(__name__)

FIRST_PAUSE_S: Final = 0.2
LONGEST_PAUSE_S: Final = 30.0
STABLE_S: Final = 5.0
"""A connection that lived so long lets the next pause begin short again."""
CONNECT_TIMEOUT_S: Final = 10.0
INBOX_TIMEOUT_S: Final = 20.0
"""How long the network waits for room; then the message stays unacknowledged."""
OUTGOING: Final = 1000
"""Confirmations that may wait in paho for the broker."""
QUEUE_TOPIC_BYTES: Final = 1024
NOBODY_LISTENS: Final = 0x10
"""Reason code (MQTT 5 §2.4): the broker took the message and knows of no subscriber."""
BRIEF_MANY: Final = 3
"""After so many connections in a row that did not last, they come and go without a word."""


def _of_ours(record: logging.LogRecord) -> bool:
    """Pass what paho says of a callback of ours that failed; its own errors are sentences here."""
    return record.getMessage().startswith("Caught exception") or log.isEnabledFor(logging.DEBUG)


paho_log = logging.getLogger(f"{__name__}.paho")
paho_log.addFilter(_of_ours)


class Link:
    """A connection of a collector to a broker, over its many lives."""

    def __init__(
        self,
        number: int,
        broker: BrokerSection,
        client_id: str,
        filters: list[str],
        context: ssl.SSLContext | None,
        inbox: Inbox,
    ) -> None:
        self.number: Final = number
        self.url: Final = broker.url
        self.delivered = 0
        """Publications that the broker took."""
        self.unheard = 0
        """Those of them that nobody subscribes to, as the broker said."""
        self.rejected = 0
        """Publications that the broker refused."""
        self.overflowed = 0
        """Messages that found no room in the inbox."""
        self.failure = ""
        """Why there is no connection, as a sentence; empty while there is one."""
        self.connects = 0
        self._broker: Final = broker
        self._filters: Final = filters
        self._inbox: Final = inbox
        self._generation = 0
        self._refused = False
        self._lost_s = 0.0
        self._said = ""
        """Why there is no connection, as it was logged last."""
        self._brief = 0
        self._session = ""
        """Of a connection that was taken, until its subscriptions are."""
        """Connections in a row that did not last."""
        self._client_id: Final = client_id
        self._answered = threading.Event()
        self._connected = threading.Event()
        self._over = threading.Event()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        client = mqtt.Client(
            CallbackAPIVersion.VERSION2,
            client_id=client_id,
            protocol=mqtt.MQTTv5,
            manual_ack=True,
            reconnect_on_failure=False,
        )
        client.connect_timeout = CONNECT_TIMEOUT_S
        # A callback that failed would end paho's thread, and the link would hang without a word.
        client.suppress_exceptions = True
        client.enable_logger(paho_log)
        client.max_inflight_messages_set(100)
        client.max_queued_messages_set(OUTGOING)
        if context is not None:
            client.tls_set_context(context)
        client.on_socket_open = self._on_socket_open
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_subscribe = self._on_subscribe
        client.on_message = self._on_message
        client.on_publish = self._on_publish
        self._client: Final = client

    @property
    def connected(self) -> bool:
        """Whether the broker has taken the connection."""
        return self._connected.is_set()

    def start(self) -> None:
        """Begin to connect; returns at once."""
        self._thread = threading.Thread(target=self._run, name=f"link {self.url}", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Disconnect in order; the broker keeps the session. Waits for the threads."""
        self._stopping.set()
        self._over.set()
        if self._thread is not None:
            self._thread.join(CONNECT_TIMEOUT_S + 5.0)

    def wait_connected(self, timeout_s: float) -> bool:
        """Return whether the connection stood in time."""
        return self._connected.wait(timeout_s)

    def acknowledge(self, arrival: Arrival) -> None:
        """Tell the broker that a message is safe; nothing when its connection is gone."""
        if arrival.qos and arrival.generation == self._generation and self.connected:
            self._client.ack(arrival.mid, arrival.qos)

    def publish(self, topic: str, payload: bytes) -> bool:
        """Hand a message (QoS 1, not retained) to the connection; False when it cannot go now."""
        if not self.connected:
            return False
        return self._client.publish(topic, payload, qos=1).rc == MQTTErrorCode.MQTT_ERR_SUCCESS

    def _run(self) -> None:
        pause_s = FIRST_PAUSE_S
        while not self._stopping.is_set():
            stood_s = self._one_life()
            if stood_s >= STABLE_S:
                pause_s = FIRST_PAUSE_S
            elif stood_s and not self._stopping.is_set():
                self._brief += 1
                if self._brief == BRIEF_MANY:
                    log.error("%s", brief(self.url, self._client_id))
            self._stopping.wait(pause_s * random.uniform(0.5, 1.0))
            pause_s = min(pause_s * 2, LONGEST_PAUSE_S)

    def _one_life(self) -> float:
        """Connect and stay until the connection ends; return how long it stood."""
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.SessionExpiryInterval = self._broker.expiry_s
        properties.ReceiveMaximum = self._broker.window
        properties.MaximumPacketSize = MAX_SEALED + QUEUE_TOPIC_BYTES
        self._answered.clear()
        self._over.clear()
        self._refused = True
        try:
            self._client.connect(
                self._broker.host,
                self._broker.port,
                keepalive=self._broker.keepalive_s,
                clean_start=False,
                properties=properties,
            )
        except (OSError, ValueError) as error:
            self._failed(unconnected(self.url, self._broker.ca, error))
            return 0.0
        self._client.loop_start()
        if not self._answered.wait(CONNECT_TIMEOUT_S):
            self._failed(f"broker {self.url} took the connection and says nothing: is it an MQTT 5 broker?")
            self._over.set()
        began_s = time.monotonic()
        while not self._over.wait(0.5) and not self._stopping.is_set():
            if time.monotonic() - began_s >= STABLE_S and not self._refused:
                self._lasts()
        stood = not self._refused
        self._connected.clear()
        self._client.disconnect()
        self._client.loop_stop()
        return time.monotonic() - began_s if stood else 0.0

    def _lasts(self) -> None:
        """The connection has proved good: what ends it is news again."""
        if self._brief >= BRIEF_MANY:
            log.warning("the connection to broker %s lasts again", self.url)
        self._said, self._brief = "", 0

    def _failed(self, sentence: str) -> None:
        if sentence != self._said:
            log.warning("%s", sentence)
            self._said = sentence
        if not self.failure:
            self._lost_s = time.monotonic()
        self.failure = sentence

    def _on_socket_open(self, client: mqtt.Client, userdata: object, sock: mqtt.SocketLike) -> None:
        # Without it a payload of 17 kB and more, one at a time, goes at 23 messages a second.
        if isinstance(sock, socket.socket):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def _on_connect(
        self,
        client: mqtt.Client,
        userdata: object,
        flags: mqtt.ConnectFlags,
        reason: ReasonCode,
        properties: Properties | None,
    ) -> None:
        if reason.is_failure:
            self._failed(f"broker {self.url} refuses the connection: {reason}; check certificate and rules")
            self._over.set()
            self._answered.set()
            return
        self._generation += 1
        self.connects += 1
        options = SubscribeOptions(qos=1, retainAsPublished=True)
        if self._filters:
            client.subscribe([(one, options) for one in self._filters])
        if self._brief >= BRIEF_MANY:
            log.debug("broker %s: connected once more", self.url)
        elif self.failure:
            self._said = ""
            log.warning("broker %s is back after %.1f s", self.url, time.monotonic() - self._lost_s)
        else:
            self._session = "kept" if flags.session_present else "new"
        self.failure = ""
        self._refused = False
        self._connected.set()
        self._answered.set()
        self._inbox.wake()

    def _on_disconnect(
        self,
        client: mqtt.Client,
        userdata: object,
        flags: mqtt.DisconnectFlags,
        reason: ReasonCode,
        properties: Properties | None,
    ) -> None:
        self._connected.clear()
        if not self._stopping.is_set() and not self.failure:
            if self._answered.is_set():
                self._failed(ended(self.url, self._client_id, reason.value, str(reason)))
            else:
                self._failed(unanswered(self.url, self._broker.cert))
        self._over.set()
        self._answered.set()

    def _on_subscribe(
        self,
        client: mqtt.Client,
        userdata: object,
        mid: int,
        reasons: list[ReasonCode],
        properties: Properties | None,
    ) -> None:
        if self._session:  # told now: what is published from here on comes
            log.info("broker %s: connected, session %s", self.url, self._session)
            self._session = ""
        for one, reason in zip(self._filters, reasons, strict=False):
            if reason.is_failure:
                log.error("broker %s refuses the subscription %s: %s; check its rules", self.url, one, reason)

    def _on_message(self, client: mqtt.Client, userdata: object, message: mqtt.MQTTMessage) -> None:
        try:
            topic = message.topic
        except UnicodeDecodeError:
            topic = ""
        payload = bytes(message.payload)
        arrival = Arrival(self.number, self._generation, message.mid, message.qos, topic, payload)
        if not self._inbox.put(arrival, INBOX_TIMEOUT_S if message.qos else 0.0):
            # Not acknowledged: the broker gives it again after the next connection, or the gateway does.
            self.overflowed += 1

    def _on_publish(
        self,
        client: mqtt.Client,
        userdata: object,
        mid: int,
        reason: ReasonCode,
        properties: Properties | None,
    ) -> None:
        # That nobody listens is no failure: the gateway sends again, and hears then.
        if reason.is_failure:
            if not self.rejected:
                log.error("broker %s refuses a confirmation: %s; check its rules", self.url, reason)
            self.rejected += 1
        else:
            self.unheard += reason.value == NOBODY_LISTENS
            self.delivered += 1
