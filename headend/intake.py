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

import base64
import re
import zlib
from collections import OrderedDict
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final, Protocol

import msgspec

from certs.signing import BadSignature, Signer, TrustedSigners
from core.codec import HEAD, MAGIC, decode_stream, unseal
from core.errors import TrustError, WireError
from core.ids import is_epoch
from core.manifest import manifest_fault
from core.quality import is_reason
from core.records import Alarm, Gap, ManifestRecord, Outcome, QualityRecord, Record, Start, StreamMessage
from core.topics import Lane, StreamTopic
from headend.known import MAX_TICK, KnownManifest
from headend.ledger import Space

PEEKED_BYTES: Final = 64 << 10
"""How much of an unverified body is looked at for a certificate; the header comes first in it."""
MAX_SEQUENCE: Final = 2**53
MANIFESTS_IN_MEMORY: Final = 4096
_CERT: Final = re.compile(rb'"cert"\s*:\s*"([A-Za-z0-9+/]{100,8000}={0,2})"')
_HASH: Final = re.compile(r"[0-9a-f]{32}")


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
    """The manifest of the rows; None when there are none."""
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
            return Refused(Refusal.TOPIC, "", f"topic {topic[:200]!r} is no stream to {self._entity}")
        if self._gateways is not None and where.gateway not in self._gateways:
            return Refused(
                Refusal.UNKNOWN_GATEWAY,
                where.gateway,
                f"gateway {where.gateway} is not in the list of gateways: add it, or find out who sends",
            )
        opened = self._open(where, topic, payload, datetime.fromtimestamp(now_ms / 1000, UTC))
        if isinstance(opened, Refused):
            return opened
        body, signer = opened
        try:
            message = decode_stream(body)
        except WireError as error:
            return Refused(Refusal.GARBAGE, where.gateway, str(error), authenticated=True)
        return self._content(where, message, signer)

    def _open(
        self, where: StreamTopic, topic: str, payload: bytes, at: datetime
    ) -> tuple[bytes, Signer | None] | Refused:
        """Return the body when the signature holds, with the signer if its certificate came along."""
        verify = self._trusted.verifier(where.gateway, "stream", at)
        key = (where.gateway, payload[4:12])
        try:
            return unseal(topic, payload, verify), self._fresh.pop(key, None)
        except WireError as error:
            return Refused(Refusal.GARBAGE, where.gateway, str(error))
        except BadSignature as error:
            return Refused(Refusal.BAD_SIGNATURE, where.gateway, str(error))
        except TrustError as error:
            unknown = error
        carried = peeked_certificate(payload)
        held = self._library.certificates(payload[4:12], where.gateway)
        fault: TrustError | None = None
        for der in [*held, *([carried] if carried is not None and carried not in held else [])]:
            try:
                admitted = self._trusted.admit(der, subject=where.gateway, role="stream", at=at)
            except TrustError as error:
                fault = error
                continue
            if der not in held:
                self._fresh[where.gateway, admitted.kid] = admitted
        if carried is None and not held:
            return Refused(Refusal.UNKNOWN_KEY, where.gateway, str(unknown), ask_cert=True)
        try:
            return unseal(topic, payload, verify), self._fresh.pop(key, None)
        except WireError as error:
            return Refused(Refusal.GARBAGE, where.gateway, str(error))
        except BadSignature as error:
            return Refused(Refusal.BAD_SIGNATURE, where.gateway, str(error))
        except TrustError as error:
            text = str(fault or error)
            return Refused(Refusal.UNTRUSTED, where.gateway, text, ask_cert=carried is None)

    def _content(self, where: StreamTopic, message: StreamMessage, signer: Signer | None) -> Verdict:
        """Judge what a signed message says."""

        def refused(reason: Refusal, text: str, ask_manifest: str = "") -> Refused:
            return Refused(reason, where.gateway, text, authenticated=True, ask_manifest=ask_manifest)

        if message.gateway != where.gateway:
            return refused(
                Refusal.OTHER_GATEWAY, f"the header names {message.gateway}, the topic {where.gateway}"
            )
        if message.last > MAX_SEQUENCE or message.n < 0:
            return refused(Refusal.GARBAGE, "a sequence or number is beyond what can be")
        control = where.lane is Lane.CONTROL
        space = Space.CONTROL if control else Space.DATA
        if control and message.rows:
            return refused(Refusal.LANE, "rows do not belong on the control lane")
        brought: list[KnownManifest] = []
        for record in message.records:
            if isinstance(record, Alarm | Outcome) is not control:
                return refused(Refusal.LANE, f"sequence {record.seq}: no record for lane {where.lane.value}")
            fault = record_fault(record)
            if fault is not None:
                return refused(Refusal.BAD_RECORD, f"sequence {record.seq}: {fault}")
            if isinstance(record, ManifestRecord):
                fault = _brought_fault(record, where.gateway, self._entity)
                if fault is not None:
                    return refused(Refusal.BAD_MANIFEST, f"sequence {record.seq}: {fault}")
                brought.append(KnownManifest(record.hash, record.manifest, self._entity))
        for manifest in brought:
            self._remember(manifest)
        if not message.rows:
            return Accepted(where, message, space, [], {}, None, tuple(brought), signer)
        known = self._known(message.manifest)
        if known is None:
            if _HASH.fullmatch(message.manifest) is None:
                return refused(Refusal.GARBAGE, "the manifest's name is no hash")
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


def peeked_certificate(payload: bytes) -> bytes | None:
    """Return the certificate that an unverified message claims to carry, DER, or None.

    The bytes prove nothing: the certificate is judged by the authorities, then the message by it.
    """
    if payload[:2] != MAGIC:
        return None
    body = payload[HEAD : HEAD + PEEKED_BYTES]
    if payload[3:4] == b"z":
        try:
            body = zlib.decompressobj().decompress(body, PEEKED_BYTES)
        except zlib.error:
            return None
    found = _CERT.search(body)
    if found is None:
        return None
    try:
        return base64.b64decode(found[1], validate=True)
    except ValueError:
        return None


def record_fault(record: Record) -> str | None:
    """Return why a record cannot be, or None."""
    match record:
        case Gap():
            if not 0 <= record.first_tick <= record.last_tick <= MAX_TICK:
                return "a gap that ends before it begins"
            if not 0 <= record.ticks <= MAX_SEQUENCE or not 0 <= record.group <= MAX_SEQUENCE:
                return "a gap with an impossible number of ticks or group"
            if record.epoch and not is_epoch(record.epoch):
                return "a gap that names no epoch"
            return _ranges_fault(record.dropped)
        case Start():
            for before in record.before:
                ends = (before.last, before.control_last)
                if not is_epoch(before.epoch) or not all(0 <= end <= MAX_SEQUENCE for end in ends):
                    return "an earlier epoch that cannot be"
                fault = _ranges_fault(before.lost)
                if fault is not None:
                    return fault
            return None if abs(record.at) <= MAX_TICK else "an instant that cannot be"
        case QualityRecord():
            if not 1 <= record.first <= record.last <= MAX_SEQUENCE:
                return "a judgement of no sequences"
            if not 0 < record.group <= MAX_SEQUENCE or not abs(record.at) <= MAX_TICK:
                return "a judgement with an impossible group or instant"
            unknown = [name for name in record.reasons if not is_reason(name)]
            if unknown or not record.reasons:
                return f"reason {unknown[0]!r} is not known" if unknown else "a judgement without a reason"
        case ManifestRecord():
            pass
        case _:
            if not abs(record.at) <= MAX_TICK:
                return "an instant that cannot be"
    return None


def _ranges_fault(ranges: list[tuple[int, int]]) -> str | None:
    if all(1 <= first <= last <= MAX_SEQUENCE for first, last in ranges):
        return None
    return "a range of sequences that cannot be"


def _brought_fault(record: ManifestRecord, gateway: str, entity: str) -> str | None:
    manifest = record.manifest
    if manifest.gateway != gateway:
        return f"the manifest is {manifest.gateway}'s"
    fault = manifest_fault(manifest)
    if fault is not None:
        return fault
    if manifest.hash() != record.hash:
        return "the manifest's name is not the hash of its content"
    for group in manifest.groups:
        if entity not in group.entities():
            return f"group {group.group} is of others: its data never belong to {entity}"
        if group.group > MAX_SEQUENCE or group.every_ms > MAX_TICK:
            return f"group {group.group} has an impossible number or interval"
    return None
