"""One message judged: is it what it claims, from whom it claims, whole, and for us?

Bytes and a topic go in, a verdict comes out: :class:`Accepted` or :class:`Refused`. Every rule about
what a collector takes stands here, and a message is taken whole or not at all. Nothing is decompressed
or parsed before the signature holds, save for one thing: when the key is not known, the certificate
that the message may carry is looked for in the first bytes, judged by the authorities, and then the
signature is judged by it.

Relies on a :class:`Library` for manifests and certificates seen earlier. Not here: storing, confirming,
counting, asking.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final, Protocol

import msgspec

from certs.signing import BadSignature, Signer, TrustedSigners
from core.checkpoint import Checkpoint
from core.codec import (
    carried_certificate,
    decode_audit_head,
    decode_state,
    decode_stream,
    manifest_names,
    unseal,
)
from core.errors import TrustError, WireError
from core.ids import is_epoch
from core.manifest import Manifest, manifest_fault
from core.quality import reason_fault
from core.records import (
    Alarm,
    AuditHead,
    Extension,
    Gap,
    ManifestRecord,
    Outcome,
    QualityRecord,
    Record,
    Start,
    State,
    StreamMessage,
)
from core.topics import Lane, StreamTopic
from headend.known import KnownManifest
from headend.ledger import Space

MANIFESTS_IN_MEMORY: Final = 4096


class Refusal(StrEnum):
    """Why a message was refused: counted, and an alarm, under this name."""

    TOPIC = "wrong-topic"
    UNKNOWN_GATEWAY = "unknown-gateway"
    UNKNOWN_KEY = "unknown-key"
    UNTRUSTED = "untrusted-certificate"
    BAD_SIGNATURE = "bad-signature"
    GARBAGE = "garbage"
    OTHER_GATEWAY = "other-gateway"
    LANE = "wrong-lane"
    MANIFEST_MISSING = "manifest-missing"
    BAD_MANIFEST = "bad-manifest"
    BAD_ROW = "bad-row"
    BAD_RECORD = "bad-record"


TOPIC_SHOWN: Final = 200
"""Characters of a topic that are shown: it is a stranger's text, up to 64 KiB of it."""
Row = tuple[int, int, int, str]
"""Sequence, group number, tick, body as it is stored."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """A message that holds; everything in it fits."""

    topic: StreamTopic
    message: StreamMessage
    space: Space
    rows: list[Row]
    readings: dict[int, int]
    """Points by group number: how many readings a row of the group is."""
    known: KnownManifest | None
    """The manifest of rows, gaps and quality records; None when the header names none."""
    brought: tuple[KnownManifest, ...]
    """Manifests that the message carries."""
    signer: Signer | None
    """The signer, when its certificate came with this message."""


@dataclass(frozen=True, slots=True)
class Refused:
    """A message that was not taken, and what to do about it."""

    reason: Refusal
    gateway: str
    """By the topic; empty when there is none."""
    text: str
    authenticated: bool = False
    """The signature held: the fault is the gateway's, not a stranger's."""
    ask_manifest: str = ""
    ask_cert: bool = False

    def on(self, topic: str) -> str:
        """Return the text for people; what nobody signed for is known by its topic alone."""
        if self.authenticated or self.reason in (Refusal.TOPIC, Refusal.UNKNOWN_KEY):
            return self.text
        return f"{self.text[:TOPIC_SHOWN]} (on topic {topic[:TOPIC_SHOWN]!r})"


Verdict = Accepted | Refused


class Library(Protocol):
    """What was seen earlier, and by other collectors of the same books."""

    def manifest(self, digest: str, entity: str) -> KnownManifest | None: ...
    def certificates(self, kid: bytes, subject: str) -> list[bytes]: ...


class Intake:
    """The judge of one entity's messages. One owner: not to be shared between threads."""

    def __init__(
        self,
        entity: str,
        trusted: TrustedSigners,
        library: Library,
        gateways: frozenset[str] | None = None,
    ) -> None:
        """`gateways`: take messages of these alone; None: of every one that an authority certified."""
        self._entity: Final = entity
        self._trusted: Final = trusted
        self._library: Final = library
        self._gateways: Final = gateways
        self._manifests: OrderedDict[str, KnownManifest] = OrderedDict()
        self._fresh: dict[tuple[str, bytes], Signer] = {}

    def judge(self, topic: str, payload: bytes, now_ms: int) -> Verdict:
        """Return whether a message is taken; it came at `now_ms` (UTC)."""
        where = StreamTopic.parse(topic)
        if where is None or where.entity != self._entity:
            return Refused(Refusal.TOPIC, "", f"topic {topic[:TOPIC_SHOWN]!r} is no stream to {self._entity}")
        if self._gateways is not None and where.gateway not in self._gateways:
            return Refused(
                Refusal.UNKNOWN_GATEWAY,
                where.gateway,
                f"gateway {where.gateway} is not in the list of gateways: add it, or find out who sends",
            )
        opened = self._open(where.gateway, topic, payload, now_ms)
        if isinstance(opened, Refused):
            return opened
        # Kept until a message of the stream brings it into the books: a state is not written there.
        signer = self._fresh.pop((where.gateway, payload[4:12]), None)
        try:
            message = decode_stream(opened)
        except WireError as error:
            return Refused(Refusal.GARBAGE, where.gateway, str(error), authenticated=True)
        return self._content(where, message, opened, signer)

    def judge_state(self, gateway: str, topic: str, payload: bytes, now_ms: int) -> State | Refused:
        """Return the state that a gateway signed; it is told on its topic, retained, and as its will."""
        opened = self._open(gateway, topic, payload, now_ms)
        if isinstance(opened, Refused):
            return opened
        try:
            state = decode_state(opened)
        except WireError as error:
            return Refused(Refusal.GARBAGE, gateway, str(error), authenticated=True)
        if state.gateway != gateway:
            text = f"the state is {state.gateway}'s, the topic {gateway}'s"
            return Refused(Refusal.OTHER_GATEWAY, gateway, text, authenticated=True)
        return state

    def judge_audit_head(
        self, gateway: str, topic: str, payload: bytes, now_ms: int
    ) -> tuple[AuditHead, Checkpoint] | Refused:
        """Return the head of its audit log that a gateway signed."""
        opened = self._open(gateway, topic, payload, now_ms)
        if isinstance(opened, Refused):
            return opened
        try:
            head = decode_audit_head(opened)
            found = Checkpoint.parse(head.note)
        except WireError as error:
            return Refused(Refusal.GARBAGE, gateway, str(error), authenticated=True)
        if head.gateway != gateway or found.origin != topic:
            text = f"the audit head is of {found.origin}, the topic is {topic}"
            return Refused(Refusal.OTHER_GATEWAY, gateway, text, authenticated=True)
        return head, found

    def _open(self, gateway: str, topic: str, payload: bytes, now_ms: int) -> bytes | Refused:
        """Return the body when the signature holds; a certificate that came along is kept."""
        at = datetime.fromtimestamp(now_ms / 1000, UTC)
        verify = self._trusted.verifier(gateway, "stream", at)
        try:
            return unseal(topic, payload, verify)
        except WireError as error:
            return Refused(Refusal.GARBAGE, gateway, str(error))
        except BadSignature as error:
            return Refused(Refusal.BAD_SIGNATURE, gateway, str(error))
        except TrustError:
            pass  # the certificate may have come along, or be known to the books
        carried = carried_certificate(payload)
        held = self._library.certificates(payload[4:12], gateway)
        fault: TrustError | None = None
        for der in [*held, *([carried] if carried is not None and carried not in held else [])]:
            try:
                admitted = self._trusted.admit(der, subject=gateway, role="stream", at=at)
            except TrustError as error:
                fault = error
                continue
            if der not in held:
                self._fresh[gateway, admitted.kid] = admitted
        if carried is None and not held:
            text = (
                f"key {payload[4:12].hex()} of {gateway} is not known here: the collector asks it by itself"
            )
            return Refused(Refusal.UNKNOWN_KEY, gateway, f"{text} for its certificate", ask_cert=True)
        try:
            return unseal(topic, payload, verify)
        except WireError as error:
            return Refused(Refusal.GARBAGE, gateway, str(error))
        except BadSignature as error:
            return Refused(Refusal.BAD_SIGNATURE, gateway, str(error))
        except TrustError as error:
            text = str(fault or error)
            return Refused(Refusal.UNTRUSTED, gateway, text, ask_cert=carried is None)

    def _content(
        self, where: StreamTopic, message: StreamMessage, body: bytes, signer: Signer | None
    ) -> Verdict:
        """Judge what a signed message says."""

        def refused(reason: Refusal, text: str, ask_manifest: str = "") -> Refused:
            return Refused(reason, where.gateway, text, authenticated=True, ask_manifest=ask_manifest)

        if message.gateway != where.gateway:
            return refused(
                Refusal.OTHER_GATEWAY, f"the header names {message.gateway}, the topic {where.gateway}"
            )
        control = where.lane is Lane.CONTROL
        space = Space.CONTROL if control else Space.DATA
        if control and message.rows:
            return refused(Refusal.LANE, "rows do not belong on the control lane")
        brought: list[KnownManifest] = []
        brings = bool(message.manifests) or any(isinstance(one, ManifestRecord) for one in message.records)
        names, loose = manifest_names(body) if brings else ([], [])
        for record in message.records:
            # An extension may be of either sequence; it is kept as it is.
            if not isinstance(record, Extension) and isinstance(record, Alarm | Outcome) is not control:
                return refused(Refusal.LANE, f"sequence {record.seq}: no record for lane {where.lane.value}")
            fault = record_fault(record)
            if fault is not None:
                return refused(Refusal.BAD_RECORD, f"sequence {record.seq}: {fault}")
            if isinstance(record, ManifestRecord):
                if names[len(brought)] != record.hash:
                    return refused(Refusal.BAD_MANIFEST, "a manifest's name is not the hash of its content")
                brought.append(KnownManifest(record.hash, record.manifest, self._entity))
        brought += [
            KnownManifest(name, one, self._entity) for name, one in zip(loose, message.manifests, strict=True)
        ]
        for manifest in brought:
            fault = _brought_fault(manifest.manifest, where.gateway, self._entity)
            if fault is not None:
                return refused(Refusal.BAD_MANIFEST, f"manifest {manifest.hash}: {fault}")
        for manifest in brought:
            self._remember(manifest)
        known = self._known(message.manifest) if message.manifest else None
        # A gap or judgement that names no manifest is of the one last told in its epoch.
        if known is None and not (message.manifest and _needs_manifest(message)):
            return Accepted(where, message, space, [], {}, None, tuple(brought), signer)
        if known is None:
            return refused(
                Refusal.MANIFEST_MISSING,
                f"manifest {message.manifest} of {where.gateway} has not arrived yet; it is asked for",
                message.manifest,
            )
        if known.manifest.gateway != where.gateway:
            return refused(Refusal.BAD_MANIFEST, f"manifest {known.hash} is another gateway's")
        judged = self._rows(message, known)
        if isinstance(judged, str):
            return refused(Refusal.BAD_ROW, judged)
        rows, readings = judged
        return Accepted(where, message, space, rows, readings, known, tuple(brought), signer)

    def _rows(self, message: StreamMessage, known: KnownManifest) -> tuple[list[Row], dict[int, int]] | str:
        """Return the rows as they are stored, or what is wrong with one of them."""
        entity, groups = self._entity, known.groups
        rows: list[Row] = []
        readings: dict[int, int] = {}
        for row in message.rows:
            group = groups.get(row.group)
            if group is None:
                return f"sequence {row.seq}: group {row.group} is not in manifest {known.hash}"
            fault = group.fault(row, entity)
            if fault is not None:
                return fault
            content = (row.offsets, row.values, row.quality) if row.quality else (row.offsets, row.values)
            rows.append((row.seq, row.group, row.tick, _encode(content).decode()))
            readings[row.group] = len(row.values)
        return rows, readings

    def _known(self, digest: str) -> KnownManifest | None:
        known = self._manifests.get(digest)
        if known is not None:
            self._manifests.move_to_end(digest)
            return known
        known = self._library.manifest(digest, self._entity)
        if known is not None:
            self._remember(known)
        return known

    def _remember(self, known: KnownManifest) -> None:
        if known.hash in self._manifests:
            return
        self._manifests[known.hash] = known
        if len(self._manifests) > MANIFESTS_IN_MEMORY:
            self._manifests.popitem(last=False)


_encode = msgspec.json.Encoder().encode


def _needs_manifest(message: StreamMessage) -> bool:
    """Tell whether something in a message has a meaning by its manifest alone."""
    return bool(message.rows) or any(
        isinstance(one, QualityRecord) or (isinstance(one, Gap) and one.group > 0) for one in message.records
    )


def record_fault(record: Record) -> str | None:
    """Return why a record contradicts itself, or None; its numbers have their bounds from the codec."""
    match record:
        case Gap():
            if record.first_tick > record.last_tick:
                return "a gap that ends before it begins"
            if record.epoch and not is_epoch(record.epoch):
                return "a gap that names no epoch"
            return _ranges_fault(record.dropped)
        case Start():
            faults = (_ranges_fault(before.lost) for before in record.before)
            return next((fault for fault in faults if fault is not None), None)
        case QualityRecord():
            if record.first > record.last:
                return "a judgement of no sequences"
            if not record.reasons:
                return "a judgement without a reason"
            return next((fault for fault in map(reason_fault, record.reasons) if fault is not None), None)
        case _:
            return None


def _ranges_fault(ranges: list[tuple[int, int]]) -> str | None:
    before = 0
    for first, last in ranges:
        if not before < first <= last:
            return "ranges of sequences that are not ascending"
        before = last
    return None


def _brought_fault(manifest: Manifest, gateway: str, entity: str) -> str | None:
    if manifest.gateway != gateway:
        return f"it is {manifest.gateway}'s"
    fault = manifest_fault(manifest)
    if fault is not None:
        return fault
    for group in manifest.groups:
        if entity not in group.entities():
            return f"group {group.group} is of others: its data never belong to {entity}"
    return None
