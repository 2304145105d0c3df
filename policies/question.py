"""A command with all that is known about it, worked out once: what every condition asks for.

Facts that cannot be used (an instant outside of the calendar, a number that is none) count as unknown here,
so that no condition has to think of them.  Relies on `policies.rulebook` and `policies.facts`.
"""

from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from typing import NamedTuple
from zoneinfo import ZoneInfo

from policies.assignment import Device, Term
from policies.command import Command
from policies.decision import Finding
from policies.facts import UNKNOWN, Facts, Running, Time
from policies.forms import LAST_MS, is_number
from policies.grant import LONGEST_CONTROL_S, Grant, Verb
from policies.policy import DeviceLimits
from policies.rulebook import Holder, Row, Rulebook
from policies.when import Holds, Span, local_time

TOO_LONG_S = LONGEST_CONTROL_S + 1
"""What a longer minimum time of a device type counts as: more than any grant allows, and no overflow."""


class Extent(NamedTuple):
    """How far a control reaches under one grant."""

    span: Span
    """From the earliest begin to the latest end."""
    longest_s: int
    """How long it lasts at most, once it has begun."""


@dataclass(slots=True, eq=False)
class Question:
    """The command, the rulebook, the facts, and what follows from them whatever a grant says."""

    command: Command
    book: Rulebook
    facts: Facts
    now_ms: int | None = field(init=False)
    received_ms: int | None = field(init=False)
    planned_ms: int | None = field(init=False)
    """The start as planned; None when it follows from an instant that nobody knows."""
    device: Device | None = field(init=False)
    profile: DeviceLimits | None = field(init=False)
    verb: str = field(init=False)
    """The verb's name, as rows have it."""
    is_control: bool = field(init=False)
    """Whether the verb holds a value for a time."""
    present: Decimal | None = field(init=False)
    """Value of the point, None when nobody knows it."""
    others: tuple[Running, ...] | None = field(init=False)
    """The controls of the point beside this command's own; None when nobody knows."""
    denied_in: dict[Span | None, tuple[Finding, ...]] = field(init=False, default_factory=dict)
    """What denies the command over a span; this and what follows is remembered, because grants are alike."""
    signs_in: dict[tuple[str, Span], bool] = field(init=False, default_factory=dict)
    covered_by: dict[tuple[int, Span], tuple[Holds, int]] = field(init=False, default_factory=dict)
    """By the identity of windows, which grants with equal ones share."""
    days_of: dict[Span, tuple[tuple[date, str, str | None], ...]] = field(init=False, default_factory=dict)
    _extents: dict[tuple[int, int], Extent] = field(init=False, default_factory=dict)
    _terms: dict[Span, list[Term] | None] = field(init=False, default_factory=dict)
    _owners: dict[Span, list[tuple[str, Span]] | None] = field(init=False, default_factory=dict)
    _local: dict[int, str] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        facts, command = self.facts, self.command
        self.verb = command.verb.value
        running = facts.running
        self.others = (
            None if running is UNKNOWN else tuple(one for one in running if one.command != command.id)
        )
        self.is_control = command.verb.is_control
        self.now_ms = _instant(facts.time.now_ms) if isinstance(facts.time, Time) else None
        self.received_ms = None if facts.received_ms is UNKNOWN else _instant(facts.received_ms)
        self.planned_ms = self.received_ms if command.start_ms is None else command.start_ms
        self.device = self.book.devices.get(command.device)
        self.profile = self.book.limits(self.device, command.point) if self.device else None
        if self.profile is not None and self.verb not in self.profile.verbs:
            self.profile = None
        present = facts.present
        self.present = present if isinstance(present, Decimal) and is_number(present) else None

    @property
    def zone(self) -> ZoneInfo:
        return self.book.zone

    def local(self, instant_ms: int) -> str:
        """Return an instant as people at the gateway read it."""
        text = self._local.get(instant_ms)
        if text is None:
            text = self._local[instant_ms] = local_text(local_time(instant_ms, self.zone))
        return text

    def held_s(self) -> int:
        """Return how long the device stays at the commanded value at least, by profile and type."""
        value, profile, of_type = self.command.value, self.profile, self.facts.type_limits
        if not self.command.verb.is_on_off or value is None or profile is None:
            return 0
        on = value == 1
        seconds = profile.min_on_s if on else profile.min_off_s
        if of_type is UNKNOWN:
            return seconds
        by_type = of_type.min_on_s if on else of_type.min_off_s
        return max(seconds, min(by_type, TOO_LONG_S))

    def extent(self, grant: Grant | None = None) -> Extent | None:
        """Return how far the control reaches under a grant's random times; None when nobody knows.

        The end counts from the planned start, so that a late begin shortens and never prolongs.
        """
        if self.planned_ms is None or self.now_ms is None:
            return None
        random = (grant.randomise.start_s, grant.randomise.end_s) if grant else (0, 0)
        found = self._extents.get(random)
        if found is None:
            found = self._extents[random] = self._extent(self.planned_ms, self.now_ms, *random)
        return found

    def _extent(self, planned_ms: int, now_ms: int, late_s: int, spread_s: int) -> Extent:
        begin_ms = max(planned_ms, now_ms)
        if self.command.verb is Verb.SET_CLOCK:
            return Extent(Span(begin_ms, begin_ms + late_s * 1000 + 1), 0)
        asked_s, held_s = self.command.duration_s or 0, self.held_s()
        end_ms = max(planned_ms + (late_s + asked_s) * 1000, begin_ms + (late_s + held_s) * 1000)
        return Extent(
            Span(begin_ms, max(end_ms + spread_s * 1000, begin_ms + 1)), max(asked_s, held_s) + spread_s
        )

    def holders(self, individual: str) -> list[Holder]:
        """Return the individual's keys that signed the command for its application."""
        keys, issuer = self.facts.keys, self.command.issuer
        if keys is UNKNOWN:
            return []
        known = self.book.holders(issuer.entity)
        found = (known[key] for key in sorted(keys) if key in known)
        return [
            one
            for one in found
            if one.individual.id == individual and issuer.application in one.key.applications
        ]

    def terms(self, span: Span) -> list[Term] | None:
        """Return who owns the device over a span; None when part of it has no owner that is known."""
        if span not in self._terms:
            self._terms[span] = self._terms_in(span)
        return self._terms[span]

    def _terms_in(self, span: Span) -> list[Term] | None:
        if self.device is None:
            return None
        terms = [one for one in self.device.ownership if one.valid.touches(span.begin_ms, span.end_ms)]
        terms.sort(key=lambda term: term.valid.from_ms or 0)
        reached_ms = span.begin_ms
        for term in terms:
            if (term.valid.from_ms or 0) > reached_ms:
                return None
            reached_ms = span.end_ms if term.valid.until_ms is None else term.valid.until_ms
        return terms if reached_ms >= span.end_ms else None

    def owners(self, span: Span) -> list[tuple[str, Span]] | None:
        """Return each owner of the device with the part of a span in which it is; None as for `terms`."""
        if span not in self._owners:
            terms = self.terms(span)
            self._owners[span] = (
                None
                if terms is None
                else [
                    (owner, part) for term in terms for part in (_part(term, span),) for owner in term.owners
                ]
            )
        return self._owners[span]

    def selected(self, row: Row) -> bool:
        """Tell whether the assignment lets a row count for this device and point."""
        one = row.selection
        return (
            one is not None
            and (one.devices is None or self.command.device in one.devices)
            and (one.points is None or self.command.point in one.points)
        )


def local_text(local: datetime) -> str:
    """Return a local time as ``Tue 2026-11-24 17:00 EST``."""
    return (
        local.strftime("%a %Y-%m-%d %H:%M:%S %Z").replace(":00 ", " ", 1)
        if local.second == 0
        else (local.strftime("%a %Y-%m-%d %H:%M:%S %Z"))
    )


def _part(term: Term, span: Span) -> Span:
    from_ms, until_ms = term.valid.from_ms, term.valid.until_ms
    return Span(
        span.begin_ms if from_ms is None else max(span.begin_ms, from_ms),
        span.end_ms if until_ms is None else min(span.end_ms, until_ms),
    )


def _instant(ms: int) -> int | None:
    return ms if 0 <= ms < LAST_MS else None
