"""A gateway for tests of the collector alone: it builds and seals messages from `core`.

It is no agent: it has no store, no schedule and no devices, and sends exactly what a test tells it to.
"""

import base64
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from certs.authority import DevAuthority
from certs.signing import SigningKey
from core.codec import encode_plain, encode_record, encode_stream, row_body, row_bytes, seal
from core.ids import new_epoch
from core.manifest import Group, Manifest, Point, Value, ValueKind
from core.ownership import Ownership
from core.records import ManifestRecord, Record, Start, State, StreamMessage
from core.topics import Lane, StreamTopic, state_topic

ENTITY = "dso.example"
EVERY_MS = 1000
T0 = 1_790_000_000_000
"""A tick: 2026-09-21, a multiple of the interval."""


def owned(*owners: str, begin: int | None = None, end: int | None = None) -> Ownership:
    """Ownership of everything by the first of `owners`, of the data by all of them."""
    return Ownership(owners[0], tuple(owners), owners[0], owners[0], valid_from_ms=begin, valid_to_ms=end)


def group(
    number: int = 1,
    device: str = "meter",
    points: int = 3,
    *,
    every_ms: int = EVERY_MS,
    owners: tuple[Ownership, ...] | None = None,
    usage_point: str = "",
) -> Group:
    """A group of integer points in tenths, `p0` to `p<n-1>`."""
    return Group(
        group=number,
        device=device,
        device_type="test-type",
        every_ms=every_ms,
        points=tuple(
            Point(name=f"p{index}", quantity="W", unit="W", kind=ValueKind.INTEGER, exp=-1)
            for index in range(points)
        ),
        owners=owners or (owned(ENTITY),),
        usage_point=usage_point,
    )


@dataclass
class GatewayDouble:
    """One life of a gateway: an epoch and a manifest."""

    key: SigningKey
    gateway: str = "gw-0001"
    entity: str = ENTITY
    groups: tuple[Group, ...] = field(default_factory=lambda: (group(),))
    epoch: str = field(default_factory=new_epoch)
    books: str = ""
    n: int = 0
    within: int = 0

    @property
    def manifest(self) -> Manifest:
        """What the gateway tells the entity."""
        return Manifest(gateway=self.gateway, groups=self.groups)

    def topic(self, lane: Lane = Lane.LIVE) -> str:
        """The stream topic of a lane."""
        return str(StreamTopic(self.gateway, self.entity, lane))

    def start(self, at: int = T0, ended: str = "first", **more: object) -> Start:
        """The start record, sequence 1."""
        return Start(seq=1, at=at, ended=ended, boot="boot", clock="synchronised", software="test", **more)  # type: ignore[arg-type]

    def manifest_record(self, seq: int = 2) -> ManifestRecord:
        """The manifest as a record."""
        return ManifestRecord(seq, self.manifest.hash(), self.manifest)

    def row(self, seq: int, tick: int, values: list[Value] | None = None, number: int = 1) -> bytes:
        """A row of a group; its values follow from its sequence."""
        size = len(self.groups[0].points)
        made: list[Value] = [seq * 10 + index for index in range(size)]
        content = made if values is None else values
        return row_bytes(seq, row_body(tick, number, [5], content, {}))

    def rows(self, first: int, last: int, t0: int = T0) -> list[bytes]:
        """Rows first..last of group 1; sequence 3 has the tick `t0`."""
        return [self.row(seq, t0 + (seq - 3) * EVERY_MS) for seq in range(first, last + 1)]

    def body(
        self,
        first: int,
        last: int,
        rows: list[bytes] | None = None,
        records: list[Record] | None = None,
        *,
        cert: bool = False,
        **header: object,
    ) -> bytes:
        """The body of a message that covers first..last."""
        fields: dict[str, object] = {
            "v": 1,
            "gateway": self.gateway,
            "epoch": self.epoch,
            "first": first,
            "last": last,
            "manifest": self.manifest.hash() if rows else "",
            "sent": time.time_ns() // 1_000_000,
            "books": self.books,
            "n": self.n,
            "within": self.within,
            "cert": base64.b64encode(self.key.certificate_der).decode() if cert else "",
        }
        message = StreamMessage(**{**fields, **header})  # type: ignore[arg-type]
        return encode_stream(message, rows or [], [encode_record(one) for one in records or []])

    def sealed(
        self,
        first: int,
        last: int,
        rows: list[bytes] | None = None,
        records: list[Record] | None = None,
        *,
        lane: Lane = Lane.LIVE,
        cert: bool = False,
        **header: object,
    ) -> tuple[str, bytes]:
        """A message as it goes to the broker: topic and payload."""
        topic = self.topic(lane)
        return topic, seal(topic, self.body(first, last, rows, records, cert=cert, **header), self.key)

    def state(self, *, cert: bool = True) -> tuple[str, bytes]:
        """The retained state, which brings the certificate."""
        topic, der = state_topic(self.gateway), base64.b64encode(self.key.certificate_der).decode()
        found = State(v=1, gateway=self.gateway, online=True, x={"cert": der} if cert else {})
        return topic, seal(topic, encode_plain(found), self.key)

    def hello(self, last: int = 5, **more: object) -> tuple[str, bytes]:
        """The first message of the epoch: start, manifest, and rows 3..last."""
        records: list[Record] = [self.start(**more), self.manifest_record()]  # type: ignore[arg-type]
        return self.sealed(1, last, self.rows(3, last), records, cert=True)

    def more(self, first: int, last: int, *, cert: bool = False, **header: object) -> tuple[str, bytes]:
        """A later message of rows first..last."""
        return self.sealed(first, last, self.rows(first, last), cert=cert, **header)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Keys:
    """A development authority, with signing keys of gateways and of a collector."""

    authority: DevAuthority
    at: datetime | None = None

    @classmethod
    def create(cls, directory: Path, at_ms: int | None = None) -> "Keys":
        """Make them in a directory, valid at an instant or now."""
        at = None if at_ms is None else datetime.fromtimestamp(at_ms / 1000, UTC)
        return cls(DevAuthority.create(directory, now=at), at)

    @property
    def ca(self) -> Path:
        """The bundle that trusts them."""
        return self.authority.ca_path

    def stream(self, gateway: str = "gw-0001", *, force: bool = False) -> SigningKey:
        """The signing key of a gateway."""
        issued = self.authority.issue_signer(gateway, role="stream", now=self.at, force=force)
        return SigningKey.load(issued.key_path, issued.cert_path)

    def collector(self, entity: str = ENTITY) -> SigningKey:
        """The signing key of an entity's collectors."""
        issued = self.authority.issue_signer(entity, role="collector", now=self.at)
        return SigningKey.load(issued.key_path, issued.cert_path)
