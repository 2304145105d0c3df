"""What somebody who asks for an explanation says of the facts; the rest is taken for granted, and told so.

`portico policy explain` stands at a desk and not at the gateway: it cannot know what runs there.  It asks
`policies.decide` with fair facts (clock right, policy fresh, nothing spent, nobody opted out, everything
signed), with what was stated in their place, and with what was declared unknown left unknown.

Relies on `policies.facts`.  Not here: gathering facts at a gateway.
"""

from dataclasses import replace
from typing import Annotated, Final, Literal

from pydantic import Field

from policies.assignment import OptOut
from policies.command import Command
from policies.facts import (
    FACT_NAMES,
    UNKNOWN,
    ClockState,
    Contact,
    Facts,
    Freshness,
    Period,
    Running,
    Signed,
    Time,
    TypeLimits,
    Used,
)
from policies.forms import Instant, Name, Noun, Number, Span
from policies.rulebook import Rulebook

_Several = Field(strict=False)
LONG_AGO_MS: Final = 30 * 86_400_000


class UsedBudget(Noun):
    """What is spent of a budget."""

    grant: Name
    device: Name
    unit: Literal["day", "week", "season"]
    first: str
    controls: Annotated[int, Field(ge=0)] = 0
    total_s: Annotated[Span, Field(alias="total")] = 0


class RunningControl(Noun):
    """A control that has the point."""

    command: Name
    entity: Name
    begin_ms: Annotated[Instant, Field(alias="begin")]
    end_ms: Annotated[Instant, Field(alias="end")]
    level: int = 100
    preemptible: Literal["never", "before_start", "always"] = "always"
    started: bool = True


class Stated(Noun):
    """Facts as a file for ``--facts`` states them; what is left out is taken for granted."""

    freshness: Annotated[Freshness | None, Field(strict=False)] = None
    clock: Annotated[ClockState | None, Field(strict=False)] = None
    clock_error_ms: int | None = None
    contact: Annotated[Contact | None, Field(strict=False)] = None
    locked_out: bool | None = None
    present: Number | None = None
    unchanged_since_ms: Annotated[Instant | None, Field(alias="unchanged_since")] = None
    keys: Annotated[tuple[Name, ...] | None, _Several] = None
    unsigned: Annotated[tuple[Name, ...], _Several] = ()
    """Grants that not everybody has signed."""
    opt_outs: Annotated[tuple[OptOut, ...], Field(strict=False, alias="opt_out")] = ()
    used: Annotated[tuple[UsedBudget, ...], _Several] = ()
    running: Annotated[tuple[RunningControl, ...], _Several] = ()


GRANTED: Final = {
    "gateway": "the command reaches the gateway that it names",
    "time": "its clock is synchronised",
    "received_ms": "the command comes at once",
    "freshness": "policy, rosters and assignment are fresh",
    "keys": "whoever is named has signed, with each key of theirs",
    "signed": "the utility and the entity have signed every grant",
    "opt_outs": "nobody has opted out at the gateway",
    "used": "no budget is used",
    "running": "nothing runs at the point",
    "contact": "the entity's hub is in contact",
    "locked_out": "the local lock-out is off",
    "type_limits": "the device type bears what the policy's limits say",
    "present": "the point has its default value",
    "unchanged_since_ms": "and has had it for long",
}
"""What is taken for granted of each fact that nobody states."""


def fair_facts(command: Command, book: Rulebook, now_ms: int) -> Facts:
    """Return facts under which nothing but command and policy decides."""
    issuer = command.issuer
    people = {issuer.individual, *command.cosigners}
    device = book.devices.get(command.device)
    profile = book.limits(device, command.point) if device is not None else None
    return Facts(
        gateway=command.gateway,
        time=Time(now_ms, 0, ClockState.SYNCHRONISED),
        received_ms=now_ms,
        freshness=Freshness.FRESH,
        keys=frozenset(
            one.key.id for one in book.holders(issuer.entity).values() if one.individual.id in people
        ),
        signed={row.grant.id: Signed(row.grant.revision, True, True) for row in book.permits},
        opt_outs=(),
        used={},
        running=(),
        contact=Contact.FRESH,
        locked_out=False,
        type_limits=UNKNOWN
        if profile is None
        else TypeLimits(profile.min, profile.max, profile.min_on_s, profile.min_off_s, profile.essential),
        present=UNKNOWN if profile is None else profile.default,
        unchanged_since_ms=max(0, now_ms - LONG_AGO_MS),
    )


def with_stated(facts: Facts, stated: Stated) -> Facts:
    """Return facts with those that somebody stated in their place."""
    time = facts.time
    if isinstance(time, Time):
        error_ms = time.error_ms if stated.clock_error_ms is None else stated.clock_error_ms
        time = Time(time.now_ms, error_ms, stated.clock or time.state)
    signed = facts.signed
    if signed is not UNKNOWN:
        signed = {name: one for name, one in signed.items() if name not in stated.unsigned}
    return replace(
        facts,
        time=time,
        freshness=stated.freshness or facts.freshness,
        keys=facts.keys if stated.keys is None else frozenset(stated.keys),
        signed=signed,
        opt_outs=stated.opt_outs,
        used={
            Period(one.grant, one.device, one.unit, one.first): Used(one.controls, one.total_s)
            for one in stated.used
        },
        running=tuple(
            Running(
                one.command, one.entity, one.begin_ms, one.end_ms, one.level, one.preemptible, one.started
            )
            for one in stated.running
        ),
        contact=stated.contact or facts.contact,
        locked_out=facts.locked_out if stated.locked_out is None else stated.locked_out,
        present=facts.present if stated.present is None else stated.present,
        unchanged_since_ms=facts.unchanged_since_ms
        if stated.unchanged_since_ms is None
        else stated.unchanged_since_ms,
    )


_SAID_BY = {
    "clock": "time",
    "clock_error_ms": "time",
    "unsigned": "signed",
}


def without(facts: Facts, unknown: tuple[str, ...]) -> Facts:
    """Return facts of which some are not known; ``KeyError`` names one that there is not."""
    for name in unknown:
        if name not in FACT_NAMES:
            raise KeyError(name)
    return replace(facts, **dict.fromkeys(unknown, UNKNOWN))


def taken_for_granted(stated: Stated, unknown: tuple[str, ...]) -> list[str]:
    """Return in words what nobody stated."""
    said = {_SAID_BY.get(name, name) for name in stated.model_fields_set} | set(unknown)
    return [words for name, words in GRANTED.items() if name not in said]
