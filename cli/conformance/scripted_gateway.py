"""A gateway that is scripted: it builds and seals messages from `core`, right ones and wrong ones.

It has no store, no schedule and no devices: what a message holds follows from its sequences alone, so that a
judge knows what must be in the books. Pure but for keys and the clock.
"""

import base64
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Final

import msgspec

from certs.signing import SigningKey
from core.codec import encode_record, encode_stream, row_body, row_bytes, seal
from core.ids import new_epoch
from core.manifest import Group, Manifest, Point, Value, ValueKind, manifest_name
from core.ownership import Ownership
from core.records import ManifestRecord, Record, Start, StreamMessage
from core.topics import Lane, StreamTopic

EVERY_MS: Final = 1000
LENT: Final = 2
"""Number of the group whose data are the entity's for a time only."""
UNKNOWN_REASON: Final = "later-invented"
ROOM: Final = 200
"""Sequences that an epoch may have here: the ticks of the next one begin behind them."""

NOTHING: Final[Mapping[str, object]] = {}

Quality = dict[str, list[str]]


@dataclass(frozen=True, slots=True)
class Wanted:
    """One reading that must be in the books."""

    gateway: str
    epoch: str
    seq: int
    index: int
    tick: int
    value: Decimal | str | bool | None
    reasons: tuple[str, ...] = ()


@dataclass
class ScriptedGateway:
    """One life of a gateway: an epoch, whose sequences from 3 on are rows."""

    key: SigningKey
    gateway: str
    entity: str
    t0: int
    """Tick of sequence 0 of this epoch: a multiple of the interval."""
    lent_until: int
    """Instant at which the entity's ownership of the second group ended."""
    epoch: str = field(default_factory=new_epoch)
    reordered: bool = False
    """Writes its manifests with members in another order than our own encoder."""

    @property
    def manifest(self) -> Manifest:
        """What the entity may see of its groups."""
        own = (self.entity,)
        always = Ownership(self.entity, own, self.entity, self.entity)
        lent = Ownership(self.entity, own, self.entity, self.entity, valid_to_ms=self.lent_until)
        return Manifest(
            self.gateway, (self._group(1, "meter", always), self._group(LENT, "lent-meter", lent))
        )

    def _group(self, number: int, device: str, owner: Ownership) -> Group:
        points = (
            Point("PollCount", "PollCount", "1", ValueKind.INTEGER, cumulative=True),
            Point("W", "W", "W", ValueKind.INTEGER, exp=-1),
            Point("Serial", "Serial", "1", ValueKind.INTEGER, request=1),
            Point("PhVphA", "PhVphA", "V", ValueKind.DECIMAL, request=1),
            Point("Nam", "Nam", "", ValueKind.TEXT, request=1),
            Point("On", "On", "", ValueKind.BOOLEAN, request=1),
        )
        return Group(number, device, "conformance-meter", EVERY_MS, points, (owner,), requests=2)

    @property
    def manifest_bytes(self) -> bytes:
        """The manifest as it is written."""
        if not self.reordered:
            return self.manifest.encode()
        plain = msgspec.to_builtins(self.manifest)
        return msgspec.json.encode(dict(reversed(plain.items())))

    @property
    def manifest_name(self) -> str:
        """Its name."""
        return manifest_name(self.manifest_bytes)

    # --- records

    def tick(self, seq: int) -> int:
        """Return the tick of a row."""
        return self.t0 + seq * EVERY_MS

    def values(self, seq: int) -> tuple[list[Value], Quality]:
        """Return values and quality of a row: each fifth has no answer, each seventh a new reason."""
        if seq % 5 == 0:
            return [None] * 6, {"*": ["timeout"]}
        quality: Quality = {"1": [UNKNOWN_REASON]} if seq % 7 == 0 else {}
        return [seq, seq * 10 + 2, str(9007199254740993 + seq), 230.1, f"no {seq}", seq % 2 == 0], quality

    def row(self, seq: int, group: int = 1, tick: int | None = None) -> bytes:
        """Return a row."""
        values, quality = self.values(seq)
        at = self.tick(seq) if tick is None else tick
        return row_bytes(seq, row_body(at, group, [5, 31], values, quality))

    def rows(self, first: int, last: int) -> list[bytes]:
        """Return rows of the first group."""
        return [self.row(seq) for seq in range(first, last + 1)]

    def wanted(self, first: int, last: int) -> list[Wanted]:
        """Return what must be in the books of rows first..last."""
        found = []
        for seq in range(first, last + 1):
            values, quality = self.values(seq)
            shown: list[Decimal | str | bool | None] = [None] * len(values)
            if values[0] is not None:
                shown = [Decimal(seq), Decimal(seq * 10 + 2) / 10, Decimal(9007199254740993 + seq)]
                shown += [Decimal("230.1"), f"no {seq}", seq % 2 == 0]
            for index, value in enumerate(shown):
                reasons = (*quality.get("*", []), *quality.get(str(index), []))
                found.append(Wanted(self.gateway, self.epoch, seq, index, self.tick(seq), value, reasons))
        return found

    def start(self, ended: str = "first", before: Sequence[msgspec.Struct] = ()) -> Start:
        """Return the start record, sequence 1."""
        return Start(
            seq=1,
            at=self.tick(1),
            ended=ended,
            boot="boot",
            clock="synchronised",
            software="conformance",
            before=list(before),  # type: ignore[arg-type]
        )

    def introduction(self, ended: str = "first", before: Sequence[msgspec.Struct] = ()) -> list[bytes]:
        """Return start and manifest, sequences 1 and 2."""
        manifest = b'{"type":"manifest","seq":2,"hash":"%s","manifest":%s}' % (
            self.manifest_name.encode(),
            self.manifest_bytes,
        )
        return [encode_record(self.start(ended, before)), manifest]

    # --- messages

    def body(
        self,
        first: int,
        last: int,
        rows: list[bytes] | None = None,
        records: Sequence[bytes | Record] = (),
        *,
        cert: bool = False,
        manifests: bool = False,
        header: Mapping[str, object] = NOTHING,
    ) -> bytes:
        """Return the body of a message that covers first..last; where nothing is named, rows first..last."""
        made = self.rows(first, last) if rows is None else rows
        told = [one if isinstance(one, bytes) else encode_record(one) for one in records]
        fields: dict[str, object] = {
            "v": 1,
            "gateway": self.gateway,
            "epoch": self.epoch,
            "first": first,
            "last": last,
            "manifest": self.manifest_name if made else "",
            "sent": time.time_ns() // 1_000_000,
            "within": 1,
            "cert": base64.b64encode(self.key.certificate_der).decode() if cert else "",
        }
        body = encode_stream(StreamMessage(**{**fields, **header}), made, told)  # type: ignore[arg-type]
        if manifests:
            body = b'{"manifests":[%s],%s' % (self.manifest_bytes, body[1:])
        return body

    def topic(self, lane: Lane = Lane.LIVE) -> str:
        """Return the topic of a lane."""
        return str(StreamTopic(self.gateway, self.entity, lane))

    def sealed(self, body: bytes, lane: Lane = Lane.LIVE, key: SigningKey | None = None) -> bytes:
        """Return the message for a lane's topic."""
        return seal(self.topic(lane), body, key or self.key)


def manifest_record_with(name: str, gateway: ScriptedGateway) -> ManifestRecord:
    """Return a manifest record that bears another name than its content has."""
    return ManifestRecord(2, name, gateway.manifest)
