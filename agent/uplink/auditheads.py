"""Publishing the head of the audit log, so that nobody can cut or rewrite it later unseen.

A head goes out, retained, at every connection, every quarter of an hour if the log grew, and when
somebody says :meth:`AuditHeads.soon`.  Relies on `agent.store.audit` for the proofs that it continues
those before.  Not here: what is written into the log.
"""

import asyncio
import base64
import logging
from collections.abc import Callable, Sequence
from typing import Final

from agent.store.store import Store
from agent.uplink.broker import Broker
from certs.note import note_by
from certs.signing import SigningKey
from core.checkpoint import Checkpoint
from core.codec import encode_plain, seal
from core.records import AuditHead, AuditProof
from core.topics import audit_topic

log = logging.getLogger(__name__)

EVERY_S: Final = 900.0
TOGETHER_S: Final = 1.0
"""Entries of so long go out under one head."""


class AuditHeads:
    """Signs and publishes heads; listens to connections that come up."""

    def __init__(
        self,
        gateway: str,
        store: Store,
        key: SigningKey,
        brokers: Sequence[Broker],
        now_ms: Callable[[], int],
    ) -> None:
        self._gateway = gateway
        self._topic = audit_topic(gateway)
        self._store = store
        self._key = key
        self._brokers = brokers
        self._now_ms = now_ms
        self._wanted = asyncio.Event()
        self._size = -1
        self._last = b""
        for broker in brokers:
            broker.listeners.append(self)

    def soon(self) -> None:
        """Publish a head without waiting for the hour: something was written that matters."""
        self._wanted.set()

    async def run(self) -> None:
        """Publish for ever."""
        while True:
            try:
                async with asyncio.timeout(EVERY_S):
                    await self._wanted.wait()
                await asyncio.sleep(TOGETHER_S)
            except TimeoutError:
                pass
            self._wanted.clear()
            await self.publish()

    async def publish(self) -> None:
        """Sign and publish the head as it is now, to every broker that is connected."""
        head = await self._store.audit_head()
        if head.size != self._size:
            at_ms = self._now_ms()
            note = note_by(self._key, Checkpoint(self._topic, head.size, head.root).text(), self._topic)
            self._store.note_audit_head(head.size, at_ms, note)
            proofs = [
                AuditProof(size, [base64.b64encode(one).decode() for one in path])
                for size, path in head.proofs
            ]
            body = encode_plain(AuditHead(1, self._gateway, note, at_ms, proofs))
            self._last, self._size = seal(self._topic, body, self._key), head.size
        for broker in self._brokers:
            if broker.connected:
                broker.publish(self._topic, self._last, _told, retain=True)

    def up(self, session_present: bool) -> None:
        """A connection is there: what is retained at that broker may be old."""
        self.soon()

    def down(self) -> None:
        """Nothing to do."""

    def heard(self, topic: str, payload: bytes, retained: bool) -> None:
        """Nothing to do."""


def _told(code: int) -> None:
    if code:
        log.warning("the broker refused the head of the audit log (reason %d): see its access rules", code)
