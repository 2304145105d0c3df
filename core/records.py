"""The typed records of the stream, the confirmation and the question back.

Everything that a gateway tells an entity is one of these records; their order is
their sequence within an epoch.  Rows are by far the most frequent and are written
as arrays; the others are rare and are written as objects with a ``type``.

Sequences: ``start, manifest, row, gap, quality, clock`` share the *data* sequence
(lanes ``live`` and ``backlog``), ``outcome`` and ``alarm`` have the *control*
sequence (lane ``control``).  Both begin at 1 in each epoch.
"""

import msgspec

from core.manifest import Manifest, Value


class Row(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """The values of one group at one tick, with the instant of each answer."""

    seq: int
    group: int
    tick: int
    """The grid instant at which the group was due: UTC, ms since 1970."""
    offsets: list[int]
    """For each request: ms from the tick to its answer (or to the failure)."""
    values: list[Value]
    """One for each point of the group, in the manifest's order; null where there is none."""
    quality: dict[str, list[str]] = {}
    """Reasons by point index, ``*`` for all points; good needs nothing."""


class Before(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How an earlier epoch stands in the store: it can be closed with this."""

    epoch: str
    last: int
    """Its last data sequence in the store."""
    control_last: int = 0
    lost: list[tuple[int, int]] = []
    """Data sequences that the store no longer has and never will (a damaged file)."""


class Start(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="start", omit_defaults=True):
    """First record of an epoch: what was before, and how it ended."""

    seq: int
    at: int
    """UTC, ms since 1970."""
    ended: str
    """How the epoch before ended: ``first`` (none), ``stop``, ``crash``, ``set-aside``, ``restored``."""
    boot: str
    """Boot id of the machine."""
    clock: str
    """Clock state: ``synchronised``, ``holdover`` or ``unsure``."""
    software: str
    before: list[Before] = []
    """Epochs before this one that are in the store, latest first."""
    ticks: dict[str, int] = {}
    """Last committed tick by group key (``device/interval/first point``)."""


class ManifestRecord(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="manifest", omit_defaults=True
):
    """A manifest, before the first row that needs it."""

    seq: int
    hash: str
    manifest: Manifest


class Gap(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="gap", omit_defaults=True):
    """Ticks of a group without a row, and why, as far as known."""

    seq: int
    group: int
    first_tick: int
    last_tick: int
    ticks: int
    """How many grid instants lie in first_tick..last_tick, both included."""
    reason: str
    """``stopped``, ``crashed``, ``overrun``, ``disk-full``, ``quota``, ``clock-step``, ``store-lost``."""
    unknown_extent: bool = False
    """The clock was unsure at one of the ends."""
    epoch: str = ""
    """For rows dropped after they had a sequence (quota): their epoch and sequences."""
    dropped: list[tuple[int, int]] = []


class QualityRecord(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="quality", omit_defaults=True
):
    """A judgement of the gateway that comes later than the rows it judges."""

    seq: int
    at: int
    epoch: str
    first: int
    last: int
    """Data sequences judged, both included."""
    group: int
    reasons: list[str]
    rule: str
    points: list[int] = []
    """Point indexes; empty: all points of the group."""


class Clock(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="clock", omit_defaults=True):
    """The wall clock was stepped, or its state changed."""

    seq: int
    at: int
    """UTC by the clock after the step, ms since 1970."""
    boot: str
    state: str
    """``synchronised``, ``holdover`` or ``unsure``."""
    step_ms: int = 0
    """New minus old wall clock, at the same monotonic instant; 0: only the state changed."""
    monotonic_ms: int = 0
    """Monotonic clock since boot at the same instant."""


class Alarm(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="alarm", omit_defaults=True):
    """Something that a person should look at, raised or cleared (lane ``control``)."""

    seq: int
    at: int
    code: str
    raised: bool
    text: str
    device: str = ""


class Outcome(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="outcome", omit_defaults=True):
    """What became of a command (lane ``control``); its states are those of the command's life."""

    seq: int
    at: int
    command: str
    state: str
    device: str = ""
    point: str = ""
    value: Value = None
    reasons: list[str] = []
    text: str = ""


Record = Start | ManifestRecord | Gap | QualityRecord | Clock | Alarm | Outcome


class StreamMessage(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One message of a stream.

    ``first..last`` is *coverage*: every record in it that the entity may see is in
    this message.  A sequence that is absent inside the coverage is not for this
    entity; a sequence that no coverage holds is lost or still on its way.
    """

    v: int
    gateway: str
    epoch: str
    first: int
    last: int
    manifest: str
    """Hash of the manifest of the rows; empty when there are none."""
    sent: int
    """When this message was written: UTC, ms since 1970."""
    rows: list[Row] = []
    records: list[Record] = []
    books: str = ""
    """Books id of the last confirmation the gateway took."""
    n: int = 0
    """Its number: books that know a lower one for this gateway went back in time."""
    within: int = 0
    """Seconds within which the gateway would like a confirmation; 0: at once."""
    want: list[str] = []
    """``cert``: the gateway does not know the key of the last confirmation or question."""
    cert: str = ""
    """Base64 of the DER certificate of the signing key, in messages with a start record and on request."""


class Confirmation(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What the books hold of one gateway for one entity.

    Counted by ``n`` in the books, taken in the transaction that stored the rows.
    For the epochs named, the ranges may be a part of what is held (a long list is
    cut), never more than it.
    """

    v: int
    books: str
    n: int
    held: dict[str, list[tuple[int, int]]] = {}
    """Data coverage by epoch."""
    control: dict[str, list[tuple[int, int]]] = {}
    """Control coverage by epoch."""
    cert: str = ""


class Ask(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A question of the collector: send this again."""

    v: int
    books: str
    n: int
    """Counts questions and confirmations together: a lower one than seen is ignored."""
    ranges: dict[str, list[tuple[int, int]]] = {}
    manifests: list[str] = []
    want: list[str] = []
    """``cert``: the certificate of the gateway's signing key."""
    cert: str = ""


class State(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Retained state of a gateway; the will is the same with ``online = false``.

    Unsigned by design when it is the will; a convenience for people and alarms,
    never a reason to drop, confirm or command anything.
    """

    v: int
    gateway: str
    online: bool
    at: int = 0
    epoch: str = ""
    software: str = ""
    clock: str = ""
    instance: str = ""
    """Random at every start: two different ones at a time are two boxes with one id."""
    policy: str = ""
    assignment: str = ""
