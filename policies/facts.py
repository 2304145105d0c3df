"""What is known at the moment of a decision, each part of it perhaps unknown.

Unknown is a value of its own, so that it cannot be mistaken for *none*: an empty tuple of running controls
says that nothing runs, ``UNKNOWN`` says that nobody knows.  A condition that needs it is not met.

The same facts are gathered when a command is taken and again when its control starts; what this command has
reserved or scheduled itself is left out of them.  Not here: gathering them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum
from typing import Final, Literal, NamedTuple

from policies.assignment import OptOut


class Unknown(Enum):
    """The one value that says that a fact is not known."""

    UNKNOWN = "unknown"


UNKNOWN: Final = Unknown.UNKNOWN


class Freshness(Enum):
    """How fresh the verified policy, rosters and assignment are."""

    FRESH = "fresh"
    STALE = "stale"
    """The service was not heard for longer than it should be; what it signed last is still in date."""
    EXPIRED = "expired"
    ROOT_EXPIRED = "root_expired"
    NO_POLICY = "no_policy"


class ClockState(Enum):
    """What keeps the gateway's clock right."""

    SYNCHRONISED = "synchronised"
    HOLDOVER = "holdover"
    """It was synchronised not long ago."""
    UNSURE = "unsure"


class Contact(Enum):
    """Whether the entity's hub was heard lately: by a fresh beat, confirmation or command."""

    FRESH = "fresh"
    LOST = "lost"


@dataclass(frozen=True, slots=True)
class Time:
    """The present instant and how sure it is."""

    now_ms: int
    error_ms: int
    """The clock is at most so far out."""
    state: ClockState


@dataclass(frozen=True, slots=True)
class Signed:
    """Who has signed one revision of a grant, as verified."""

    revision: int
    utility: bool | Unknown
    """By its threshold of keys."""
    entity: bool | Unknown


@dataclass(frozen=True, slots=True)
class Running:
    """A control of the same point that runs or is scheduled."""

    command: str
    entity: str
    begin_ms: int
    end_ms: int
    level: int
    preemptible: Literal["never", "before_start", "always"]
    started: bool


@dataclass(frozen=True, slots=True)
class TypeLimits:
    """What the device type says that the point bears: unsigned, so that it only narrows."""

    min: Decimal
    max: Decimal
    min_on_s: int
    min_off_s: int
    essential: bool


class Period(NamedTuple):
    """What a budget is counted by: a grant, a device, and a day, a week or a season by its first date."""

    grant: str
    device: str
    unit: Literal["day", "week", "season"]
    first: str
    """The period's first local date, ``2026-11-23``."""


class Used(NamedTuple):
    """What of a budget is spent or reserved."""

    controls: int
    seconds: int


@dataclass(frozen=True, slots=True)
class Facts:
    """All that a decision needs to know beside the command and the policy."""

    gateway: str | Unknown = UNKNOWN
    time: Time | Unknown = UNKNOWN
    received_ms: int | Unknown = UNKNOWN
    """When this gateway took the command; equal to now at the first decision about it."""
    freshness: Freshness | Unknown = UNKNOWN
    keys: frozenset[str] | Unknown = UNKNOWN
    """Ids of the keys with which the command is signed, each signature verified."""
    signed: Mapping[str, Signed | Unknown] | Unknown = UNKNOWN
    """By the id of the grant; who is not in it has not been signed by anybody."""
    opt_outs: tuple[OptOut, ...] | Unknown = UNKNOWN
    """Made at the gateway; those of the assignment come on top."""
    used: Mapping[Period, Used | Unknown] | Unknown = UNKNOWN
    """Budgets; what is not in it is unused."""
    running: tuple[Running, ...] | Unknown = UNKNOWN
    contact: Contact | Unknown = UNKNOWN
    locked_out: bool | Unknown = UNKNOWN
    """The local lock-out at the device or the gateway."""
    type_limits: TypeLimits | Unknown = UNKNOWN
    present: Decimal | Unknown = UNKNOWN
    """Present value of the point."""
    unchanged_since_ms: int | Unknown = UNKNOWN
    """Since when at least the point has its present value."""


NOTHING_KNOWN: Final = Facts()
FACT_NAMES: Final = tuple(Facts.__slots__)
