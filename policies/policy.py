"""The utility's document: who the entities are, what devices bear, which days are holidays, and the rows.

It says what is possible at most.  Who an entity's individuals are, the entity says (`policies.roster`); what
holds at one gateway, the assignment says (`policies.assignment`) and can only select and narrow.

Relies on `policies.grant`.  Not here: signatures and freshness, and looking things up fast
(`policies.rulebook`).
"""

from datetime import date
from decimal import Decimal
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from policies.forms import Day, Instant, Name, Noun, Number, Span, ZoneName
from policies.grant import ANY_ENTITY, LONGEST_CONTROL_S, Grant, GrantVerb, Verb

_Several = Field(strict=False)


class Application(Noun):
    """A system of an entity that issues commands."""

    id: Name
    name: str = ""


class Entity(Noun):
    """A business entity: utility, service company, aggregator, system operator, customer, ..."""

    id: Name
    name: str = ""
    kind: Name
    """What it is in the business; free, so that a new kind needs no new code."""
    applications: Annotated[tuple[Application, ...], Field(strict=False, alias="application")] = ()


class Calendar(Noun):
    """Holidays, for the dates that the list covers; of a date outside nobody knows whether it is one."""

    id: Name
    first: Annotated[Day, Field(alias="from")]
    last: Annotated[Day, Field(alias="until")]
    """Included."""
    holidays: Annotated[tuple[Day, ...], _Several] = ()

    @model_validator(mode="after")
    def _within(self) -> Self:
        if self.first > self.last:
            raise ValueError("ends before it begins")
        outside = [day for day in self.holidays if not self.first <= day <= self.last]
        if outside:
            raise ValueError(f"{outside[0]} lies outside of {self.first} to {self.last}")
        return self

    def is_holiday(self, day: date) -> bool | None:
        """Tell whether a date is a holiday; None when the list does not cover it."""
        return day in self.holidays if self.first <= day <= self.last else None


class DeviceLimits(Noun):
    """What a controllable point bears, whoever asks: the signed profile.  No profile, no control.

    It holds for one device type, for all kinds of devices behind it or for one kind; the narrower row wins.
    """

    type: Name
    """Name of the device type, such as ``generic-load-relay``."""
    kind: Name | None = None
    point: Name
    verbs: Annotated[tuple[GrantVerb, ...], Field(strict=False, min_length=1)]
    min: Number = Decimal(0)
    max: Number = Decimal(1)
    default: Number = Decimal(0)
    """The value without control; what a control restores to."""
    hold: Literal["timer", "watchdog", "none"] = "none"
    """What the device does by itself when nobody speaks to it any more."""
    min_on_s: Annotated[Span, Field(alias="min_on", le=LONGEST_CONTROL_S)] = 0
    """How long an on/off point stays at 1 at least."""
    min_off_s: Annotated[Span, Field(alias="min_off", le=LONGEST_CONTROL_S)] = 0
    essential: bool = False
    """Must not stay away: never controlled where the device has no hold of its own."""

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if self.min > self.max:
            raise ValueError("min is above max: nothing would be allowed")
        if not self.min <= self.default <= self.max:
            raise ValueError(f"default {self.default} lies outside of {self.min} to {self.max}")
        if any(Verb(verb).is_on_off for verb in self.verbs) and (self.min < 0 or self.max > 1):
            raise ValueError("an on/off point has values 0 and 1: min is 0 and max is 1")
        return self


class PolicyHead(Noun):
    """``[policy]``: which policy, whose, and since when."""

    format: Literal[1] = 1
    id: Name
    version: Annotated[int, Field(ge=1)]
    utility: Name
    """The entity that may permit, and cancel, everything that is permitted here."""
    zone: ZoneName
    """Where no window says otherwise, and for the days of budgets."""
    issued_ms: Annotated[Instant, Field(alias="issued")]
    expires_ms: Annotated[Instant, Field(alias="expires")]
    clock_tolerance_s: Annotated[Span, Field(alias="clock_tolerance", le=60)] = 5
    """So far a clock may be out and still judge windows; the same for the clocks of those who command."""


class Policy(Noun):
    """The whole document."""

    policy: PolicyHead
    entities: Annotated[tuple[Entity, ...], Field(strict=False, alias="entity")]
    calendars: Annotated[tuple[Calendar, ...], Field(strict=False, alias="calendar")] = ()
    limits: Annotated[tuple[DeviceLimits, ...], _Several] = ()
    grants: Annotated[tuple[Grant, ...], Field(strict=False, alias="grant")] = ()


def policy_faults(policy: Policy) -> list[str]:
    """Return what the parts of a policy say against each other, each with its place."""
    head = policy.policy
    entities = {entity.id: entity for entity in policy.entities}
    faults = [*_twice(policy)]
    if head.utility not in entities:
        faults.append(f'policy utility: "{head.utility}" is no [[entity]] of this policy')
    if head.expires_ms <= head.issued_ms:
        faults.append("policy expires: ends before it was issued")
    for number, grant in enumerate(policy.grants, start=1):
        place = f'grant[{number}] "{grant.id}"'
        entity = entities.get(grant.entity)
        if entity is None and grant.entity != ANY_ENTITY:
            faults.append(f'{place} from: "{grant.entity}" is no [[entity]] of this policy')
        if entity is not None:
            known = {application.id for application in entity.applications}
            faults += [
                f'{place} by applications: "{name}" is no application of {entity.id}'
                for name in grant.by.applications or ()
                if name not in known
            ]
        calendars = {calendar.id for calendar in policy.calendars}
        faults += [
            f'{place} windows[{position}] calendar: "{window.calendar}" is no [[calendar]] of this policy'
            for position, window in enumerate(grant.windows, start=1)
            if window.calendar is not None and window.calendar not in calendars
        ]
    return faults


def _twice(policy: Policy) -> list[str]:
    keys = [
        *(("entity", number, one.id) for number, one in enumerate(policy.entities, 1)),
        *(("calendar", number, one.id) for number, one in enumerate(policy.calendars, 1)),
        *(("grant", number, one.id) for number, one in enumerate(policy.grants, 1)),
        *(
            ("limits", number, f"{one.type} {one.kind or 'of any kind'} {one.point}")
            for number, one in enumerate(policy.limits, 1)
        ),
    ]
    return twice_faults(keys)


def twice_faults(keys: list[tuple[str, int, str]]) -> list[str]:
    """Return a fault for every key (table, number, name) whose table has the same name before it."""
    seen: dict[tuple[str, str], int] = {}
    faults = []
    for table, number, name in keys:
        first = seen.setdefault((table, name), number)
        if first != number:
            faults.append(f'{table}[{number}]: "{name}" is {table}[{first}] already')
    return faults
