"""The typed records of the stream, the confirmation and the question back.

Everything that a gateway tells an entity is one of these records; their order is
their sequence within an epoch.  Rows are by far the most frequent and are written
as arrays; the others are rare and are written as objects with a ``type``.

Sequences: ``start, manifest, row, gap, quality, clock`` share the *data* sequence
(lanes ``live`` and ``backlog``), ``outcome`` and ``alarm`` have the *control*
sequence (lane ``control``).  Both begin at 1 in each epoch.

Every integer has its bounds in its type, so that the decoder and the JSON Schema
say the same and no number is too large for a database.  Growth within version 1 has
two places: the member ``x`` of every object, and the record :class:`Extension`.
"""

from typing import Annotated

import msgspec
from msgspec import Meta

from core.ids import EPOCH_PATTERN, HASH_PATTERN
from core.manifest import EXACT, Extra, Manifest, Value

Sequence = Annotated[int, Meta(ge=1, le=EXACT)]
Instant = Annotated[int, Meta(ge=0, le=EXACT)]
"""UTC, ms since 1970, leap seconds not counted."""
Count = Annotated[int, Meta(ge=0, le=EXACT)]
Span = Annotated[int, Meta(ge=-EXACT, le=EXACT)]
"""A difference of two instants, ms."""
Epoch = Annotated[str, Meta(pattern=EPOCH_PATTERN, max_length=16)]
Hash = Annotated[str, Meta(pattern=HASH_PATTERN, max_length=32)]
Ranges = list[tuple[Sequence, Sequence]]
"""Sequences from-to, both included, ascending, not overlapping."""


class Row(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """The values of one group at one tick, with the instant of each answer."""

    seq: Sequence
    group: Count
    tick: Instant
    """The grid instant at which the group was due: UTC, ms since 1970."""
    offsets: list[Span]
    """For each request: ms from the tick to its answer (or to the failure)."""
    values: list[Value]
    """One for each point of the group, in the manifest's order; null where there is none."""
    quality: dict[str, list[str]] = {}
    """Reasons by point index, ``*`` for all points; good needs nothing."""


class Before(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How an earlier epoch stands in the store: it can be closed with this."""

    epoch: Epoch
    last: Count
    """Its last data sequence in the store."""
    control_last: Count = 0
    lost: Ranges = []
    """Data sequences that the store no longer has and never will (a damaged file)."""


class Start(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="start", omit_defaults=True):
    """First record of an epoch: what was before, and how it ended."""

    seq: Sequence
    at: Instant
    ended: str
    """How the epoch before ended: ``first`` (none), ``stop``, ``crash``, ``set-aside``, ``restored``."""
    boot: str
    """Boot id of the machine."""
    clock: str
    """Clock state: ``synchronised``, ``holdover`` or ``unsure``."""
    software: str
    before: list[Before] = []
    """Epochs before this one that are in the store, latest first."""
    ticks: dict[str, Instant] = {}
    """Last committed tick by group key (``device/interval/first point``); for a group that had no row yet,
    the tick at which it was begun."""
    x: Extra = {}


class ManifestRecord(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="manifest", omit_defaults=True
):
    """A manifest, before the first row that needs it."""

    seq: Sequence
    hash: Hash
    manifest: Manifest
    x: Extra = {}


class Gap(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="gap", omit_defaults=True):
    """Ticks of a group without a row, and why, as far as known."""

    seq: Sequence
    group: Count
    """Number in the manifest in force; 0 for ``dropped`` alone."""
    first_tick: Instant
    last_tick: Instant
    ticks: Count
    """How many instants of the group's grid in first_tick..last_tick, both included, have no row."""
    reason: str
    """``stopped``, ``crashed``, ``overrun``, ``disk-full``, ``quota``, ``clock-step``, ``store-lost``,
    ``no-answer``, ``unchanged``."""
    unknown_extent: bool = False
    """The clock was unsure at one of the ends."""
    epoch: str = ""
    """For rows dropped after they had a sequence (quota): their epoch and sequences."""
    dropped: Ranges = []
    x: Extra = {}


class QualityRecord(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="quality", omit_defaults=True
):
    """A judgement of the gateway that comes later than the rows it judges."""

    seq: Sequence
    at: Instant
    epoch: Epoch
    first: Sequence
    last: Sequence
    """Data sequences judged, both included."""
    group: Count
    """Number in the manifest of the rows judged."""
    reasons: list[str]
    rule: str
    points: list[Count] = []
    """Point indexes; empty: all points of the group."""
    x: Extra = {}


class Clock(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="clock", omit_defaults=True):
    """The wall clock was stepped, or its state changed."""

    seq: Sequence
    at: Instant
    """UTC by the clock after the step, ms since 1970."""
    boot: str
    state: str
    """``synchronised``, ``holdover`` or ``unsure``."""
    step_ms: Span = 0
    """New minus old wall clock, at the same monotonic instant; 0: only the state changed."""
    monotonic_ms: Count = 0
    """Monotonic clock since boot at the same instant."""
    x: Extra = {}


class Alarm(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="alarm", omit_defaults=True):
    """Something that a person should look at, raised or cleared (lane ``control``)."""

    seq: Sequence
    at: Instant
    code: str
    raised: bool
    text: str
    device: str = ""
    x: Extra = {}


class Outcome(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="outcome", omit_defaults=True):
    """What became of a command (lane ``control``): one record a step, by its issuer's id."""

    seq: Sequence
    at: Instant
    command: str
    state: str
    device: str = ""
    point: str = ""
    value: Value = None
    reasons: list[str] = []
    text: str = ""
    entity: str = ""
    """Whose command it is."""
    x: Extra = {}


class Extension(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="x", omit_defaults=True):
    """A record of a kind that version 1.0 did not know, in either sequence.

    A reader that does not know ``name`` keeps it as it is and counts it as held.
    """

    seq: Sequence
    at: Instant
    name: str
    body: Extra = {}


Record = Start | ManifestRecord | Gap | QualityRecord | Clock | Alarm | Outcome | Extension


class StreamMessage(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One message of a stream.

    ``first..last`` is *coverage*: every record in it that the entity may see is in
    this message.  A sequence that is absent inside the coverage is not for this
    entity; a sequence that no coverage holds is lost or still on its way.
    """

    v: int
    gateway: str
    epoch: str
    first: Sequence
    last: Sequence
    manifest: str
    """Hash of the manifest of the rows, gaps and quality records; empty when there are none."""
    sent: Instant
    """When this message was written."""
    rows: list[Row] = []
    records: list[Record] = []
    books: str = ""
    """Books id of the last confirmation the gateway took."""
    n: Count = 0
    """Its number: books that know a lower one for this gateway went back in time."""
    within: Count = 0
    """Seconds within which the gateway would like a confirmation; 0: at once."""
    want: list[str] = []
    """``cert``: the gateway does not know the key of the last confirmation or question."""
    cert: str = ""
    """Base64 of the DER certificate of the signing key, in messages with a start record and on request."""
    low: Sequence = 1
    """Lowest sequence of this epoch that is still in the gateway's store: what lies below comes no more."""
    manifests: list[Manifest] = []
    """Manifests that were asked for by hash; they have no sequence here, their hash names them."""
    x: Extra = {}


class Confirmation(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What the books hold of one gateway for one entity.

    Counted by ``n`` in the books, taken in the transaction that stored the rows.
    For the epochs named, the ranges may be a part of what is held (a long list is
    cut), never more than it.
    """

    v: int
    books: str
    n: Count
    held: dict[str, Ranges] = {}
    """Data coverage by epoch."""
    control: dict[str, Ranges] = {}
    """Control coverage by epoch."""
    cert: str = ""
    at: Instant = 0
    """When the collector wrote it; 0: it does not say."""
    x: Extra = {}


class Ask(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A question of the collector: send this again."""

    v: int
    books: str
    n: Count
    """Counts questions and confirmations together: a lower one than seen is ignored."""
    ranges: dict[str, Ranges] = {}
    """Data sequences by epoch, to be sent again."""
    manifests: list[str] = []
    """Hashes of manifests that the collector lacks."""
    want: list[str] = []
    """``cert``: the certificate of the gateway's signing key."""
    cert: str = ""
    control: dict[str, Ranges] = {}
    """Control sequences by epoch, to be sent again."""
    at: Instant = 0
    """When the collector wrote it; 0: it does not say."""
    text: str = ""
    """For the gateway's operator: what was refused, and why."""
    x: Extra = {}


class State(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Retained state of a gateway; the will is the same with ``online = false``.

    Unsigned by design when it is the will; a convenience for people and alarms,
    never a reason to drop, confirm or command anything.
    """

    v: int
    gateway: str
    online: bool
    at: Instant = 0
    epoch: str = ""
    software: str = ""
    clock: str = ""
    instance: str = ""
    """Random at every start: two different ones at a time are two boxes with one id."""
    policy: str = ""
    assignment: str = ""
    x: Extra = {}


class AuditProof(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """That the log of a head continues the log of an earlier size (RFC 9162 2.1.4)."""

    size: Count
    path: list[str] = []
    """Hashes, base64."""


class AuditHead(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The head of a gateway's audit log; who keeps heads notices a log that was cut or rewritten."""

    v: int
    gateway: str
    note: str
    """C2SP checkpoint: origin, size, root and the signature of the gateway's key."""
    at: Instant = 0
    proofs: list[AuditProof] = []
    """From heads published before, the latest first."""
    x: Extra = {}
