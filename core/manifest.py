"""Points, groups and manifests: what the numbers in a row mean.

A *group* is the points of one device that are read together, at one interval,
with one history of owners.  A *manifest* lists groups; it is immutable, known by
the hash of its bytes, lies in the store, and travels in the stream before the
first row that needs it.  Each entity gets the manifest of the groups whose data
it owns at some time; group numbers are those of the gateway.
"""

import hashlib
from decimal import Decimal
from enum import Enum
from typing import Annotated

import msgspec
from msgspec import Meta

from core.errors import WireError
from core.ownership import Ownership

EXACT = 2**53
"""Largest magnitude that every JSON reader holds exactly (RFC 8259 §6)."""

Value = Annotated[int, Meta(ge=-EXACT, le=EXACT)] | float | str | bool | None
"""A value as it stands in a row: see :class:`ValueKind`."""

Extra = dict[str, Value | list[Value] | dict[str, Value]]
"""The place to grow: a reader keeps what it does not know here, and it never changes what the rest means."""


class ValueKind(Enum):
    """How the value of a point is written down (exactly, always).

    ``integer``: a number of steps of ``10**exp`` (beyond 2**53 as a string of digits);
    ``decimal``: the shortest decimal that reads back to the same float;
    ``text``: a string; ``boolean``: true or false; ``bits``: an unsigned integer whose bits have meanings.
    """

    INTEGER = "integer"
    DECIMAL = "decimal"
    TEXT = "text"
    BOOLEAN = "boolean"
    BITS = "bits"


class Point(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One thing measured or set, as a reader of rows needs to know it."""

    name: str
    """Unique within the device."""
    quantity: str
    """SunSpec name where there is one (``PhVphA``, ``W``, ``TotWhImp``), else the type's own."""
    unit: str
    """SI symbol (``V``, ``A``, ``W``, ``Wh``, ``Hz``), ``1`` for a pure number, empty for text and truths."""
    kind: ValueKind
    exp: Annotated[int, Meta(ge=-18, le=18)] = 0
    """Power of ten of one step of an ``integer`` value, -18 to 18."""
    request: Annotated[int, Meta(ge=0, le=EXACT)] = 0
    """Index into the answer offsets of a row: which request brought this point."""
    cumulative: bool = False
    """A register that only grows (energy, volume, pulses), save for rollover and reset."""


class Group(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Points of one device with one interval and one history of owners."""

    group: Annotated[int, Meta(ge=1, le=EXACT)]
    """Number within the gateway's manifest, from 1."""
    device: str
    device_type: str
    every_ms: Annotated[int, Meta(ge=1, le=EXACT)]
    """Interval of the poll grid, aligned to the Unix epoch: a tick is a multiple of it, plus the phase."""
    points: tuple[Point, ...]
    owners: tuple[Ownership, ...]
    """Ownership over time; no two valid at once."""
    requests: Annotated[int, Meta(ge=1, le=EXACT)] = 1
    """How many answer offsets a row has."""
    phase_ms: Annotated[int, Meta(ge=0, le=EXACT)] = 0
    usage_point: str = ""
    """Identifier of the place where energy is metered, when the gateway was told."""
    x: Extra = {}

    @property
    def key(self) -> str:
        """Name of the group that survives renumbering: device, interval, first point."""
        return f"{self.device}/{self.every_ms}/{self.points[0].name}"

    def entities(self) -> frozenset[str]:
        """Return every entity that owns the data at some time."""
        return frozenset(entity for term in self.owners for entity in term.data_owners)


def manifest_name(body: "bytes | msgspec.Raw") -> str:
    """Return the name of a manifest by its bytes: 128 bits of their SHA-256, in hexadecimal."""
    return hashlib.sha256(body).hexdigest()[:32]


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The groups of one gateway, or those of them that one entity may see."""

    gateway: str
    groups: tuple[Group, ...]
    v: int = 1
    x: Extra = {}

    def encode(self) -> bytes:
        """Return the bytes whose hash names this manifest (fields in declared order, defaults left out)."""
        return msgspec.json.encode(self)

    def hash(self) -> str:
        """Return the name of this manifest: 128 bits of the SHA-256 of its bytes, in hexadecimal."""
        return manifest_name(self.encode())

    def view(self, entity: str) -> "Manifest":
        """Return the part that an entity may see: groups whose data it owns at some time.

        The entity sees of the ownership history only the terms in which it owns the data, and nothing
        of ``x`` of the whole manifest, whose meaning a later version knows.
        """
        return Manifest(
            gateway=self.gateway,
            groups=tuple(
                msgspec.structs.replace(
                    group, owners=tuple(term for term in group.owners if entity in term.data_owners)
                )
                for group in self.groups
                if entity in group.entities()
            ),
            v=self.v,
        )

    def group_by_number(self) -> dict[int, Group]:
        """Return the groups by their number."""
        return {group.group: group for group in self.groups}


_decode = msgspec.json.Decoder(Manifest).decode


def decode_manifest(body: bytes | memoryview) -> Manifest:
    """Return the manifest in some bytes; :class:`WireError` when they are none."""
    try:
        manifest = _decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise WireError(f"not a manifest: {error}") from error
    fault = manifest_fault(manifest)
    if fault is not None:
        raise WireError(f"not a usable manifest: {fault}")
    return manifest


def manifest_fault(manifest: Manifest) -> str | None:
    """Return what contradicts itself in a manifest, or None."""
    if manifest.v != 1:
        return f"version {manifest.v} is not known, 1 is"
    seen: set[int] = set()
    for group in manifest.groups:
        if group.group < 1 or group.group in seen:
            return f"group number {group.group} is used twice or is not positive"
        seen.add(group.group)
        if not group.points:
            return f"group {group.group} has no points"
        if group.every_ms < 1 or not 0 <= group.phase_ms < group.every_ms or group.requests < 1:
            return f"group {group.group} has an impossible interval, phase or number of requests"
        if len({point.name for point in group.points}) != len(group.points):
            return f"group {group.group} names a point twice"
        for point in group.points:
            if not -18 <= point.exp <= 18 or not 0 <= point.request < group.requests:
                return f"point {point.name} of group {group.group} has an impossible exponent or request"
    return None


def shown(point: Point, value: Value) -> Decimal | str | bool | None:
    """Return a value of a row as the number, text or truth it stands for; never by binary floats."""
    if value is None or isinstance(value, bool):
        return value
    match point.kind:
        case ValueKind.TEXT:
            return str(value)
        case ValueKind.DECIMAL:
            return Decimal(repr(value)) if isinstance(value, float) else Decimal(value)
        case _:
            return Decimal(value).scaleb(point.exp) if point.exp else Decimal(value)
