"""Rows of policy as the table of IECSA C-2.2: from actor, modality, verb, to actor, constraint.

Pure: words from nouns.  Not here: how a terminal draws them (`policies.cli`).
"""

from collections.abc import Iterator
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


def row_of(grant: Grant) -> TableRow:
    """Return a grant as a row."""
    return TableRow(
        grant=grant.id if grant.revision == 1 else f"{grant.id} (revision {grant.revision})",
        from_actor=_from(grant),
        modality=grant.modality.value,
        verb=" or ".join(grant.verbs),
        to_actor=_to(grant),
        constraints=tuple(_constraints(grant)),
    )


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


def _constraints(grant: Grant) -> Iterator[str]:
    if grant.purpose:
        yield f"for {' or '.join(grant.purpose)}"
    yield from _values(grant.limits)
    for window in grant.windows:
        yield window_text(window)
    if grant.duration is not None:
        least = f"{duration_text(grant.duration.min_s)} to " if grant.duration.min_s > 1 else "at most "
        yield f"lasting {least}{duration_text(grant.duration.max_s)}"
    yield from _budget(grant.budget)
    if grant.permits:
        yield from _terms(grant)
    if grant.valid != Validity():
        yield validity_text(grant.valid)
    if grant.agreement:
        yield f"agreement: {grant.agreement}"


def _terms(grant: Grant) -> Iterator[str]:
    if grant.lead != Lead():
        yield f"announced {duration_text(grant.lead.min_s)} to {duration_text(grant.lead.max_s)} ahead"
    if grant.randomise != Randomise():
        yield (
            f"start up to {duration_text(grant.randomise.start_s)} later at random, "
            f"end up to {duration_text(grant.randomise.end_s)}"
        )
    yield {
        "any_time": "customer may opt out at any time",
        "before_start": "customer may opt out before the start",
        "none": "mandatory: no opt-out",
    }[grant.opt_out]
    yield _priority(grant.priority)
    if grant.on_comm_loss == "restore":
        yield f"restores {duration_text(grant.comm_loss_after_s)} after the last contact"
    else:
        yield "without contact it goes on to its end"
    if grant.restore == "previous":
        yield "restores the previous value"
    if grant.latching_max_s is not None:
        yield f"also where the device has no hold: at most {duration_text(grant.latching_max_s)}"
    if grant.emergency is not None:
        yield _emergency(grant.emergency)


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
