"""A message of a gateway as its reader sees it: who signed it, what it says, what is wrong with it.

Signatures are judged by the authority of the run alone, at the instant of arrival. The names of manifests are
taken over their bytes as they stand in the message, not over what our own encoder would write.

Relies on `core.codec` and `certs.signing`. Pure but for the certificates that a :class:`Opener` remembers.
"""

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Final

from certs.signing import TrustedSigners
from cli.conformance.peer import Arrival
from core.codec import carried_certificate, decode_state, decode_stream, manifest_names, unseal
from core.errors import TrustError, UnknownKey, WireError
from core.manifest import Manifest, decode_manifest, manifest_name
from core.records import ManifestRecord, State, StreamMessage
from core.topics import ROOT, Lane, StreamTopic, manifest_topic, state_topic


class Kind(StrEnum):
    """What a topic of a gateway carries."""

    STREAM = "stream"
    STATE = "state"
    MANIFEST = "manifest"
    OTHER = "other"


@dataclass(frozen=True)
class Heard:
    """One message of the gateway, in the order of arrival."""

    number: int
    at_ms: int
    topic: str
    kind: Kind
    qos: int
    retained: bool
    unused: tuple[str, ...] = ()
    size: int = 0
    signature_fault: str = ""
    """Why the signature does not hold; empty: it holds."""
    form_fault: str = ""
    """Why the body is none of version 1; empty: it is."""
    where: StreamTopic | None = None
    stream: StreamMessage | None = None
    state: State | None = None
    manifest: Manifest | None = None
    brings_cert: bool = False
    named: tuple[tuple[str, str], ...] = ()
    """Manifest records: the name they bear, and the name of their bytes."""
    names: frozenset[str] = field(default=frozenset())
    """Manifests in the member `manifests`, by the name of their bytes."""

    @property
    def good(self) -> bool:
        """Whether a reader may act on it."""
        return not self.signature_fault and not self.form_fault

    @property
    def is_data(self) -> bool:
        """Whether it is of the data sequence: lanes live and backlog."""
        return self.where is not None and self.where.lane is not Lane.CONTROL

    def __str__(self) -> str:
        where = self.topic.removeprefix(f"{ROOT}/")
        if self.stream is None:
            return f"message {self.number} on {where}"
        one = self.stream
        return f"message {self.number} on {where}, {one.epoch}/{one.first}..{one.last}"


class Opener:
    """Opens the messages of one gateway to one entity."""

    def __init__(self, gateway: str, entity: str, ca: Path) -> None:
        self._gateway: Final = gateway
        self._entity: Final = entity
        self._trusted: Final = TrustedSigners(ca)
        self.admitted = 0
        """How many certificates were taken: what could not be verified before may be by now."""

    def open(self, number: int, arrival: Arrival) -> Heard:
        """Return a message as it is seen by what is known now."""
        where = StreamTopic.parse(arrival.topic)
        kind = self._kind(arrival.topic, where)
        plain = Heard(
            number,
            arrival.at_ms,
            arrival.topic,
            kind,
            arrival.qos,
            arrival.retained,
            arrival.unused,
            len(arrival.payload),
            where=where,
        )
        at = datetime.fromtimestamp(arrival.at_ms / 1000, UTC)
        try:
            body = self._body(arrival, at)
        except TrustError as error:
            return replace(plain, signature_fault=str(error))
        except WireError as error:
            return replace(plain, form_fault=str(error))
        try:
            return _decoded(plain, body)
        except WireError as error:
            return replace(plain, form_fault=str(error))

    def _kind(self, topic: str, where: StreamTopic | None) -> Kind:
        if where is not None and (where.gateway, where.entity) == (self._gateway, self._entity):
            return Kind.STREAM
        if topic == state_topic(self._gateway):
            return Kind.STATE
        if topic == manifest_topic(self._gateway, self._entity):
            return Kind.MANIFEST
        return Kind.OTHER

    def _body(self, arrival: Arrival, at: datetime) -> bytes:
        verify = self._trusted.verifier(self._gateway, "stream", at)
        try:
            return unseal(arrival.topic, arrival.payload, verify)
        except UnknownKey:
            der = carried_certificate(arrival.payload)
            if der is None:
                raise
        self._trusted.admit(der, subject=self._gateway, role="stream", at=at)
        body = unseal(arrival.topic, arrival.payload, verify)
        self.admitted += 1
        return body


def _decoded(heard: Heard, body: bytes) -> Heard:
    match heard.kind:
        case Kind.STREAM:
            stream = decode_stream(body)
            by_bytes, loose = manifest_names(body)
            records = (one for one in stream.records if isinstance(one, ManifestRecord))
            named = tuple((one.hash, name) for one, name in zip(records, by_bytes, strict=True))
            names = frozenset(loose)
            return replace(heard, stream=stream, brings_cert=bool(stream.cert), named=named, names=names)
        case Kind.STATE:
            return replace(heard, state=decode_state(body))
        case Kind.MANIFEST:
            return replace(heard, manifest=decode_manifest(body), names=frozenset({manifest_name(body)}))
        case Kind.OTHER:
            return heard
