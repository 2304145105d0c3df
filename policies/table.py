"""Rows of policy as the two tables of IECSA C-2.2: policies, and the constraints on them.

The first has from actor, modality, verb, to actor; the second constraint, type, description, applies to.
Pure: words from nouns.  Not here: how a terminal draws them (`policies.cli`).
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from policies.forms import clock_text, duration_text, instant_text, month_day_text, number_text
from policies.grant import (
    EVERY_DAY,
    Budget,
    Emergency,
    Grant,
    Lead,
    Priority,
    Randomise,
    Validity,
    Values,
    Window,
)
from policies.policy import DeviceLimits, Policy


class TableRow(NamedTuple):
    """One row, each cell as text; constraints one by one."""

    grant: str
    from_actor: str
    modality: str
    verb: str
    to_actor: str
    constraints: tuple[str, ...]

    def as_json(self) -> dict[str, object]:
        """Return it under the names of the table's columns."""
        return {
            "grant": self.grant,
            "from_actor": self.from_actor,
            "modality": self.modality,
            "verb": self.verb,
            "to_actor": self.to_actor,
            "constraints": list(self.constraints),
        }


class ConstraintRow(NamedTuple):
    """One constraint, named after its grant, or after the device type that bears no more."""

    constraint: str
    type: str
    description: str
    applies_to: str


def row_of(grant: Grant) -> TableRow:
    """Return a grant as a row."""
    return TableRow(
        grant=_named(grant),
        from_actor=_from(grant),
        modality=grant.modality.value,
        verb=" or ".join(grant.verbs),
        to_actor=_to(grant),
        constraints=tuple(text for _, text in _constraints(grant)),
    )


def constraint_rows(policy: Policy) -> Iterator[ConstraintRow]:
    """Yield every constraint of a policy with its type: those of its rows, then those of the devices."""
    for grant in policy.grants:
        applies_to = f"{_from(grant)}: {' or '.join(grant.verbs)} {_to(grant)}"
        for type_, text in _constraints(grant):
            yield ConstraintRow(_named(grant), type_, text, applies_to)
    for limits in policy.limits:
        kind = f"{limits.kind} behind " if limits.kind else ""
        applies_to = f"anybody: {' or '.join(limits.verbs)} {limits.point} of {kind}{limits.type}"
        yield ConstraintRow(limits.type, "device", _borne(limits), applies_to)


def _named(grant: Grant) -> str:
    return grant.id if grant.revision == 1 else f"{grant.id} (revision {grant.revision})"


def _borne(limits: DeviceLimits) -> str:
    words = [
        f"bears {number_text(limits.min)} to {number_text(limits.max)}",
        f"{number_text(limits.default)} without control",
        {
            "timer": "falls back by its own timer",
            "watchdog": "falls back when nobody speaks to it",
            "none": "stays as it is by itself",
        }[limits.hold],
    ]
    if limits.min_on_s:
        words.append(f"on for {duration_text(limits.min_on_s)} at least")
    if limits.min_off_s:
        words.append(f"off for {duration_text(limits.min_off_s)} at least")
    if limits.essential:
        words.append("essential")
    return ", ".join(words)


def _from(grant: Grant) -> str:
    who = "any entity" if grant.entity == "*" else grant.entity
    by = [*(grant.by.applications or ()), *(grant.by.individuals or ())]
    return f"{who} by {', '.join(by)}" if by else who


def _to(grant: Grant) -> str:
    to = grant.to
    parts = [
        ", ".join(to.kinds or ()),
        f"points {', '.join(to.points)}" if to.points else "",
        f"devices {', '.join(to.devices)}" if to.devices else "",
        f"of {', '.join(to.owners)}" if to.owners else "",
        f"at {', '.join(to.gateways)}" if to.gateways else "",
        f"in {', '.join(to.groups)}" if to.groups else "",
    ]
    return " ".join(part for part in parts if part) or "any device"


def _constraints(grant: Grant) -> Iterator[tuple[str, str]]:
    """Yield type and text of each constraint."""
    if grant.purpose:
        yield "purpose", f"for {' or '.join(grant.purpose)}"
    yield from _typed("value", _values(grant.limits))
    yield from _typed("time window", map(window_text, grant.windows))
    if grant.duration is not None:
        least = f"{duration_text(grant.duration.min_s)} to " if grant.duration.min_s > 1 else "at most "
        yield "duration", f"lasting {least}{duration_text(grant.duration.max_s)}"
    yield from _typed("budget", _budget(grant.budget))
    if grant.permits:
        yield from _terms(grant)
    if grant.valid != Validity():
        yield "validity", validity_text(grant.valid)
    if grant.agreement:
        yield "agreement", f"agreement: {grant.agreement}"


def _typed(type_: str, texts: Iterable[str]) -> Iterator[tuple[str, str]]:
    return ((type_, text) for text in texts)


def _terms(grant: Grant) -> Iterator[tuple[str, str]]:
    if grant.lead != Lead():
        ahead = f"{duration_text(grant.lead.min_s)} to {duration_text(grant.lead.max_s)}"
        yield "lead time", f"announced {ahead} ahead"
    if grant.randomise != Randomise():
        start, end = duration_text(grant.randomise.start_s), duration_text(grant.randomise.end_s)
        yield "random times", f"start up to {start} later at random, end up to {end}"
    yield (
        "opt-out",
        {
            "any_time": "customer may opt out at any time",
            "before_start": "customer may opt out before the start",
            "none": "mandatory: no opt-out",
        }[grant.opt_out],
    )
    yield "priority", _priority(grant.priority)
    if grant.on_comm_loss == "restore":
        yield "lost contact", f"restores {duration_text(grant.comm_loss_after_s)} after the last contact"
    else:
        yield "lost contact", "without contact it goes on to its end"
    if grant.restore == "previous":
        yield "restore", "restores the previous value"
    if grant.latching_max_s is not None:
        yield "hold", f"also where the device has no hold: at most {duration_text(grant.latching_max_s)}"
    if grant.emergency is not None:
        yield "emergency", _emergency(grant.emergency)


def _values(limits: Values) -> Iterator[str]:
    if limits.values is not None:
        yield f"value {' or '.join(map(number_text, limits.values))}"
    if limits.min is not None and limits.max is not None:
        yield f"value {number_text(limits.min)} to {number_text(limits.max)}"
    elif limits.min is not None:
        yield f"value {number_text(limits.min)} or more"
    elif limits.max is not None:
        yield f"value {number_text(limits.max)} or less"
    if limits.step is not None:
        yield f"in steps of at most {number_text(limits.step)}"


def window_text(window: Window) -> str:
    """Return a window in words: ``mo tu we 06:00-22:00, 10-01 to 04-30``."""
    days = "" if set(window.days) == set(EVERY_DAY) else f"{' '.join(window.days)} "
    words = [f"{days}{clock_text(window.start_min)}-{clock_text(window.end_min)}"]
    if window.season is not None:
        words.append(f"{month_day_text(window.season[0])} to {month_day_text(window.season[1])}")
    if window.zone is not None:
        words.append(window.zone)
    if window.calendar is not None:
        words.append(f"holidays of {window.calendar}")
    return ", ".join(words)


def validity_text(valid: Validity) -> str:
    """Return a validity in words."""
    begins = f"from {instant_text(valid.from_ms)}" if valid.from_ms is not None else ""
    ends = f"until {instant_text(valid.until_ms)}" if valid.until_ms is not None else ""
    return f"{begins} {ends}".strip() or "always"


def _budget(budget: Budget) -> Iterator[str]:
    for unit in ("day", "week", "season"):
        count: int | None = getattr(budget, f"count_{unit}")
        total_s: int | None = getattr(budget, f"total_{unit}_s")
        if count is not None:
            yield f"{count} a {unit}"
        if total_s is not None:
            yield f"{duration_text(total_s)} a {unit}"
    if budget.season is not None:
        yield f"season {month_day_text(budget.season[0])} to {month_day_text(budget.season[1])}"


def _priority(priority: Priority) -> str:
    words = [f"level {priority.level}"]
    if priority.preempts:
        words.append("takes over from weaker ones")
    if priority.preemptible != "always":
        words.append(
            "never gives way" if priority.preemptible == "never" else "gives way before it has started"
        )
    return ", ".join(words)


def _emergency(clause: Emergency) -> str:
    aside = f", setting aside {' and '.join(clause.may_bypass)}" if clause.may_bypass else ""
    only = "only in an emergency" if clause.required else "in an emergency"
    return f"{only}: {clause.signatures} individuals sign, at most {duration_text(clause.max_s)}{aside}"
