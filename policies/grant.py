"""A row of policy: from whom, may or shall or shall not, which verb, to what, under which constraints.

The keys of a row are those of the table in IECSA C-2.2, section 1.8: *From Actor · May | Shall | Shall Not ·
Verb · To Actor*, and then the constraints.  A row means the same in the file that a person writes and in the
JSON that is signed.  What each key does is told in ``docs/policy.md``.

Relies on `policies.forms`.  Not here: judging a command (`policies.decide`), and what a row says of other
parts of the policy (`policies.policy`).
"""

from decimal import Decimal
from enum import Enum
from typing import Annotated, Final, Literal, Self

from pydantic import Field, model_validator

from policies.forms import ClockTime, Instant, Name, Names, Noun, Number, Numbers, Season, Span, ZoneName

DAY_S: Final = 86_400
LONGEST_CONTROL_S: Final = 31 * DAY_S
GRID_CRITICAL: Final = 63
"""Levels up to this one are used on stale policies too (IEEE 2030.5 leaves 3 to 64 of primacy reserved)."""


class Verb(Enum):
    """What a command does to a point."""

    SHED = "shed"
    """Take a load away, or give it back: an on/off point, 0 or 1."""
    SWITCH = "switch"
    """Any other on/off point, 0 or 1."""
    LIMIT = "limit"
    """Write one limit value."""
    SET_CLOCK = "set-clock"
    """Set the device's clock to the gateway's."""
    CANCEL = "cancel"
    """End a control.  A right by rule, never by grant."""

    @property
    def is_control(self) -> bool:
        """Whether it holds a value for a time and restores afterwards."""
        return self in _CONTROLS

    @property
    def is_on_off(self) -> bool:
        """Whether its value is 0 or 1."""
        return self is Verb.SHED or self is Verb.SWITCH


_CONTROLS = frozenset((Verb.SHED, Verb.SWITCH, Verb.LIMIT))


class Modality(Enum):
    """How a row speaks."""

    MAY = "may"
    SHALL = "shall"
    SHALL_NOT = "shall not"


GrantVerb = Literal["shed", "switch", "limit", "set-clock"]
Weekday = Literal["mo", "tu", "we", "th", "fr", "sa", "su", "holiday"]
EVERY_DAY: Final[tuple[Weekday, ...]] = ("mo", "tu", "we", "th", "fr", "sa", "su", "holiday")
Bypassable = Literal["window", "budget", "lead-time"]
Verbs = Annotated[tuple[GrantVerb, ...], Field(strict=False, min_length=1)]
Purpose = Names


class By(Noun):
    """Who of the entity: empty lists mean every one."""

    applications: Names | None = None
    individuals: Names | None = None


class Target(Noun):
    """To what: every list that is given must name it; at least one must be given, save in *shall not*."""

    kinds: Names | None = None
    """Kinds of devices, such as ``water-heater``, as the gateway's assignment names them."""
    groups: Names | None = None
    """Groups in which the assignment puts the gateway: a feeder, a class of customers, a programme."""
    gateways: Names | None = None
    devices: Names | None = None
    points: Names | None = None
    owners: Names | None = None
    """Owners of the device, over the whole control."""


class Values(Noun):
    """Which values.  In *shall not*: the values that are denied."""

    min: Number | None = None
    max: Number | None = None
    values: Numbers | None = None
    step: Number | None = None
    """Largest change from the present value."""

    @model_validator(mode="after")
    def _order(self) -> Self:
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError("min is above max: nothing would be allowed")
        if self.step is not None and self.step <= 0:
            raise ValueError("step must be above 0")
        return self

    def hold(self, value: Decimal) -> bool:
        """Tell whether a value lies within; the step is another matter."""
        return (
            (self.min is None or value >= self.min)
            and (self.max is None or value <= self.max)
            and (self.values is None or value in self.values)
        )


class Window(Noun):
    """A time of day on some days: the clock on the wall in its zone reads a time within."""

    days: Annotated[tuple[Weekday, ...], Field(strict=False, min_length=1)] = EVERY_DAY
    """A day that the calendar lists is a ``holiday`` and no weekday."""
    start_min: Annotated[ClockTime, Field(alias="start")] = 0
    end_min: Annotated[ClockTime, Field(alias="end")] = 1440
    """Not included.  Before the start: the window goes over midnight and belongs to the day it began."""
    season: Season | None = None
    zone: ZoneName | None = None
    calendar: Name | None = None

    @model_validator(mode="after")
    def _shape(self) -> Self:
        if self.start_min == self.end_min or self.start_min == 1440:
            raise ValueError('start and end leave nothing between: the whole day is "00:00" to "24:00"')
        if "holiday" in self.days and len(set(self.days)) < len(EVERY_DAY) and self.calendar is None:
            raise ValueError('"holiday" needs a calendar that lists the holidays')
        return self


class Durations(Noun):
    """How long a control may be asked for."""

    min_s: Annotated[Span, Field(alias="min")] = 1
    max_s: Annotated[Span, Field(alias="max", le=LONGEST_CONTROL_S)]
    """The longest that the control can last: duration asked for, and the random end."""

    @model_validator(mode="after")
    def _order(self) -> Self:
        if self.min_s > self.max_s:
            raise ValueError("min is above max: nothing would be allowed")
        return self


Count = Annotated[int, Field(ge=1, le=100_000)]
Total = Annotated[Span, Field(ge=60, le=366 * DAY_S)]


class Budget(Noun):
    """How often and how long altogether, for each device; a control counts in every period it touches."""

    count_day: Count | None = None
    count_week: Count | None = None
    count_season: Count | None = None
    total_day_s: Annotated[Total | None, Field(alias="total_day")] = None
    total_week_s: Annotated[Total | None, Field(alias="total_week")] = None
    total_season_s: Annotated[Total | None, Field(alias="total_season")] = None
    season: Season | None = None

    @model_validator(mode="after")
    def _has_season(self) -> Self:
        seasonal = self.count_season is not None or self.total_season_s is not None
        if seasonal != (self.season is not None):
            raise ValueError(
                'a budget of a season needs season = ["06-01", "09-30"], and that needs such a budget'
            )
        return self


class Lead(Noun):
    """How long before its start a command must, and may, arrive."""

    min_s: Annotated[Span, Field(alias="min")] = 0
    max_s: Annotated[Span, Field(alias="max", le=LONGEST_CONTROL_S)] = DAY_S


class Randomise(Noun):
    """By how much at most the start comes later, and the end later still, drawn at random by the gateway."""

    start_s: Annotated[Span, Field(alias="start", le=3600)] = 0
    end_s: Annotated[Span, Field(alias="end", le=3600)] = 0


class Priority(Noun):
    """Who wins a point, by level: the lower the stronger, as primacy in IEEE 2030.5."""

    level: Annotated[int, Field(ge=0, le=255)] = 100
    preempts: bool = False
    """Takes the point from a running control of a weaker level."""
    preemptible: Literal["never", "before_start", "always"] = "always"
    """When a stronger one may take the point from it."""


class Emergency(Noun):
    """What two or more individuals together may do in an emergency."""

    signatures: Annotated[int, Field(ge=2, le=5)] = 2
    """Distinct individuals, each with a key of its own in the entity's roster."""
    max_s: Annotated[Span, Field(alias="max", le=LONGEST_CONTROL_S)]
    may_bypass: Annotated[tuple[Bypassable, ...], Field(strict=False)] = ()
    required: bool = False
    """The grant is for emergencies alone."""


class Validity(Noun):
    """From when until when; the end is not included."""

    from_ms: Annotated[Instant | None, Field(alias="from")] = None
    until_ms: Annotated[Instant | None, Field(alias="until")] = None

    @model_validator(mode="after")
    def _order(self) -> Self:
        if self.from_ms is not None and self.until_ms is not None and self.from_ms >= self.until_ms:
            raise ValueError("ends before it begins")
        return self

    def holds(self, begin_ms: int, end_ms: int) -> bool:
        """Tell whether the whole of begin..end lies within."""
        return (self.from_ms is None or self.from_ms <= begin_ms) and (
            self.until_ms is None or end_ms <= self.until_ms
        )

    def touches(self, begin_ms: int, end_ms: int) -> bool:
        """Tell whether any instant from begin to before end lies within."""
        return (self.from_ms is None or self.from_ms < end_ms) and (
            self.until_ms is None or begin_ms < self.until_ms
        )


ANY_ENTITY: Final = "*"
_OF_PERMISSION = (
    "duration",
    "budget",
    "lead",
    "randomise",
    "priority",
    "opt_out",
    "on_comm_loss",
    "comm_loss_after_s",
    "restore",
    "latching",
    "latching_max_s",
    "emergency",
)


class Grant(Noun):
    """One row.  *May* and *shall* permit; *shall not* denies, whatever else permits."""

    id: Name
    revision: Annotated[int, Field(ge=1)] = 1
    """Goes up with every change; what the parties sign is one revision."""
    entity: Annotated[Name | Literal["*"], Field(alias="from")]
    by: By = By()
    may: Verbs | None = None
    shall: Verbs | None = None
    shall_not: Verbs | None = None
    to: Target
    purpose: Purpose | None = None
    valid: Validity = Validity()
    limits: Values = Values()
    windows: Annotated[tuple[Window, ...], Field(strict=False)] = ()
    duration: Durations | None = None
    budget: Budget = Budget()
    lead: Lead = Lead()
    randomise: Randomise = Randomise()
    priority: Priority = Priority()
    opt_out: Literal["any_time", "before_start", "none"] = "any_time"
    on_comm_loss: Literal["restore", "hold_to_end"] = "restore"
    comm_loss_after_s: Annotated[Span, Field(alias="comm_loss_after", ge=60, le=7 * DAY_S)] = 900
    restore: Literal["default", "previous"] = "default"
    latching: bool = False
    latching_max_s: Annotated[Span | None, Field(alias="latching_max", le=DAY_S)] = None
    emergency: Emergency | None = None
    agreement: Annotated[str, Field(max_length=120)] = ""
    """The contract or tariff behind it, for people."""

    @property
    def modality(self) -> Modality:
        """Whether the row says may, shall or shall not."""
        if self.shall_not is not None:
            return Modality.SHALL_NOT
        return Modality.MAY if self.may is not None else Modality.SHALL

    @property
    def permits(self) -> bool:
        """Whether it is a *may* or a *shall*."""
        return self.shall_not is None

    @property
    def verbs(self) -> tuple[str, ...]:
        """The verbs that the row is about."""
        return self.may or self.shall or self.shall_not or ()

    @model_validator(mode="after")
    def _one_modality(self) -> Self:
        given = [key for key in ("may", "shall", "shall_not") if getattr(self, key) is not None]
        if len(given) != 1:
            raise ValueError('write exactly one of may, shall and shall_not, for example may = ["shed"]')
        faults = list(self._permission_faults() if self.permits else self._denial_faults())
        if faults:
            raise ValueError("; ".join(faults))
        return self

    def _permission_faults(self) -> list[str]:
        faults = []
        if self.entity == ANY_ENTITY:
            faults.append('from = "*" is for shall_not alone: name the entity that is permitted')
        if self.to == Target():
            faults.append('to names nothing: write for example to = { kinds = ["water-heater"] }')
        if self.purpose is None:
            faults.append('purpose is missing: write for example purpose = ["peak"]')
        if self.valid.until_ms is None:
            faults.append("valid has no until: an agreement ends on some day")
        if self.duration is None and any(Verb(verb).is_control for verb in self.verbs):
            faults.append('duration is missing: write for example duration = { max = "4h" }')
        limits = self.limits
        if "limit" in self.verbs and limits.values is None and (limits.min is None or limits.max is None):
            faults.append("limits needs min and max, or values, for the verb limit")
        if self.latching != (self.latching_max_s is not None):
            faults.append('latching = true and latching_max = "30min" belong together')
        return faults

    def _denial_faults(self) -> list[str]:
        given = [key for key in _OF_PERMISSION if getattr(self, key) != Grant.model_fields[key].default]
        faults = [f"{key.removesuffix('_s')} has no meaning in a row with shall_not" for key in given]
        if self.limits.step is not None:
            faults.append("limits step has no meaning in a row with shall_not")
        return faults
