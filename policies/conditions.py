"""What one grant asks of a command: each condition by itself, and all of them of this one grant.

A condition answers with nothing when it is met, else with the finding that tells why not.  `CONDITIONS` is
the whole list in the order in which people read it; the first three say whether the grant speaks of the
command at all, and where one of them fails the rest says nothing.

Relies on `policies.question`.  Not here: budgets (`policies.budgets`), and which grant wins.
"""

from collections.abc import Callable
from itertools import compress
from operator import not_
from typing import Final

from policies.assignment import OptOut
from policies.budgets import budget_finding
from policies.decision import Finding
from policies.facts import UNKNOWN, Contact, Freshness
from policies.forms import duration_text
from policies.general import denial_findings, may_sign
from policies.grant import GRID_CRITICAL, Verb
from policies.question import Extent, Question
from policies.rulebook import Row
from policies.when import Holds, Span, covered

Condition = Callable[[Question, Row, Extent | None], Finding | None]
_NO_TIME: Final = "when the control would be, is not known"


def actor(q: Question, row: Row, extent: Extent | None) -> Finding | None:
    """The row names the entity, and where it names them the application and the individual."""
    issuer, grant = q.command.issuer, row.grant
    if grant.entity != issuer.entity:
        return Finding("actor", f"it is for {grant.entity}, not for {issuer.entity}")
    if grant.by.applications is not None and issuer.application not in grant.by.applications:
        return Finding("actor", f"it is not for the application {issuer.application}")
    if grant.by.individuals is not None and issuer.individual not in grant.by.individuals:
        return Finding("actor", f"it is not for {issuer.individual}")
    return None


def verb(q: Question, row: Row, extent: Extent | None) -> Finding | None:
    """The row names the verb."""
    wanted = q.verb
    return None if wanted in row.grant.verbs else Finding("verb", f"it does not name {wanted}")


def target(q: Question, row: Row, extent: Extent | None) -> Finding | None:
    """Every list of the row's target names the device."""
    command, to = q.command, row.grant.to
    kind = q.device.kind if q.device is not None else None
    if to.kinds is not None and kind not in to.kinds:
        return Finding("target", f"it is for {' and '.join(to.kinds)}", unknown=kind is None)
    if to.devices is not None and command.device not in to.devices:
        return Finding("target", f"it does not name the device {command.device}")
    if to.points is not None and command.point not in to.points:
        return Finding("target", f"it does not name the point {command.point}")
    if to.gateways is not None and command.gateway not in to.gateways:
        return Finding("target", f"it does not name the gateway {command.gateway}")
    if to.groups is not None and q.book.groups.isdisjoint(to.groups):
        return Finding("target", f"the gateway is not in {' or '.join(to.groups)}")
    if to.owners is not None:
        terms = q.terms(extent.span) if extent else None
        if terms is None:
            return Finding("target", "who owns the device then is not known", unknown=True)
        if not all(set(term.owners) <= set(to.owners) for term in terms):
            return Finding("target", f"it is for devices of {' and '.join(to.owners)}")
    return None


def denied(q: Question, row: Row, extent: Extent | None) -> Finding | None:
    """No row with *shall not* speaks of the control as long as this grant lets it be."""
    found = denial_findings(q, extent.span if extent else None)
    return found[0] if found else None


def assigned(q: Question, row: Row, extent: Extent | None) -> Finding | None:
    """The gateway's assignment selects the grant for the device and the point."""
    if q.selected(row):
        return None
    where = "this gateway" if row.selection is None else f"{q.command.device} {q.command.point}"
    return Finding("not-assigned", f"the assignment does not select it for {where}")


def agreed(q: Question, row: Row, extent: Extent | None) -> Finding | None:
    """The utility and the entity have signed this revision."""
    grant, signed = row.grant, q.facts.signed
    one = UNKNOWN if signed is UNKNOWN else signed.get(grant.id)
    if one is UNKNOWN:
        return Finding("not-agreed", "who signed it is not known", unknown=True)
    if one is None or one.revision != grant.revision:
        return Finding("not-agreed", f"revision {grant.revision} is signed by nobody")
    if one.utility is True and one.entity is True:
        return None
    parties = [("the utility", one.utility)]
    if grant.entity != q.book.utility:
        parties.append((grant.entity, one.entity))
    missing = [name for name, has_signed in parties if has_signed is not True]
    if not missing:
        return None
    unknown = all(has_signed is not False for _, has_signed in parties)
    return Finding(
        "not-agreed", f"revision {grant.revision} is not signed by {' or '.join(missing)}", unknown
    )


def consented(q: Question, row: Row, extent: Extent | None) -> Finding | None:
    """Every owner that is neither the utility nor the entity has consented, for as long as it owns."""
    owners = q.owners(extent.span) if extent else None
    if owners is None:
        return Finding("no-consent", "who owns the device then is not known", unknown=True)
    for owner, part in owners:
        if owner == q.book.utility or owner == row.grant.entity:
            continue
        for one in row.consents:
            if one.owner == owner and one.valid.holds(part.begin_ms, part.end_ms):
                break
        else:
            return Finding("no-consent", f"{owner} has not consented to revision {row.grant.revision}")
    return None


def valid(q: Question, row: Row, extent: Extent | None) -> Finding | None:
    """Grant and selection hold from start to end."""
    if extent is None:
        return Finding("grant-ended", _NO_TIME, unknown=True)
    for one in (row.grant.valid, row.selection.valid if row.selection else None):
        if one is not None and not one.holds(extent.span.begin_ms, extent.span.end_ms):
            if one.until_ms is not None and extent.span.end_ms > one.until_ms:
                return Finding("grant-ended", f"it holds until {q.local(one.until_ms)}")
            return Finding("grant-ended", f"it holds from {q.local(one.from_ms or 0)}")
    return None


def roster(q: Question, row: Row, extent: Extent | None) -> Finding | None:
    """The roster and the individual's key hold from start to end."""
    if extent is None:
        return Finding("roster-ended", _NO_TIME, unknown=True)
    individual = q.command.issuer.individual
    if q.facts.keys is UNKNOWN:
        return Finding("roster-ended", f"with which key {individual} signed is not known", unknown=True)
    if _signs(q, individual, extent.span):
        return None
    return Finding("roster-ended", f"no key of {individual} that signed holds from start to end")


def _signs(q: Question, individual: str, span: Span) -> bool:
    known = q.signs_in.get((individual, span))
    if known is None:
        known = q.signs_in[individual, span] = _has_signed(q, individual, span)
    return known


def _has_signed(q: Question, individual: str, span: Span) -> bool:
    return any(
        one.roster.roster.issued_ms <= span.begin_ms
        and span.end_ms <= one.roster.roster.expires_ms
        and one.key.valid.holds(span.begin_ms, span.end_ms)
        and may_sign(q, one.individual.roles)
        for one in q.holders(individual)
    )


def purpose(q: Question, row: Row, extent: Extent | None) -> Finding | None:
    """The command's purpose is one of the grant's."""
    wanted, given = row.grant.purpose, q.command.purpose
    if wanted is None or given in wanted:
        return None
    return Finding("purpose", f"it is for {' and '.join(wanted)}, not for {given or 'no purpose at all'}")


def limit(q: Question, row: Row, extent: Extent | None) -> Finding | None:
    """The value lies within the grant's limits and the selection's."""
    value, limits, one = q.command.value, row.grant.limits, row.selection
    if value is None:
        return None
    if limits.values is not None and value not in limits.values:
        return Finding("limit", f"{value} is none of {', '.join(map(str, limits.values))}")
    for low, high in ((limits.min, limits.max), (one.min, one.max) if one else (None, None)):
        if low is not None and value < low:
            return Finding("limit", f"{value} is below {low}")
        if high is not None and value > high:
            return Finding("limit", f"{value} is above {high}")
    return None


def step(q: Question, row: Row, extent: Extent | None) -> Finding | None:
    """The value is no further from the present one than the grant's step."""
    value, most = q.command.value, row.grant.limits.step
    if most is None or value is None:
        return None
    if q.present is None:
        return Finding("step", "the present value is not known", unknown=True)
    if abs(value - q.present) > most:
        return Finding("step", f"from {q.present} to {value} is more than {most}")
    return None


def duration(q: Question, row: Row, extent: Extent | None) -> Finding | None:
    """The control lasts neither shorter nor longer than the grant allows."""
    allowed, asked_s = row.grant.duration, q.command.duration_s
    if not q.is_control or asked_s is None:
        return None
    if allowed is None:
        return Finding("duration", "it allows no control that lasts")
    if asked_s < allowed.min_s:
        return Finding("duration", f"{duration_text(asked_s)} is below {duration_text(allowed.min_s)}")
    if extent is None:
        return Finding("duration", _NO_TIME, unknown=True)
    most_s = allowed.max_s
    if row.selection is not None and row.selection.max_s is not None:
        most_s = min(most_s, row.selection.max_s)
    if extent.longest_s > most_s:
        return Finding(
            "duration",
            f"it could last {duration_text(extent.longest_s)}, {duration_text(most_s)} is the most",
        )
    return None


def latching(q: Question, row: Row, extent: Extent | None) -> Finding | None:
    """A device without a hold of its own is controlled under a grant for such, and not for longer."""
    if not q.is_control or q.profile is None or q.profile.hold != "none":
        return None
    most_s = row.grant.latching_max_s
    if not row.grant.latching or most_s is None:
        return Finding("latching", f"{q.command.device} has no hold of its own, and it is not latching")
    if extent is None or extent.longest_s > most_s:
        return Finding(
            "latching", f"without a hold {duration_text(most_s)} is the most", unknown=extent is None
        )
    return None


def window(q: Question, row: Row, extent: Extent | None) -> Finding | None:
    """Every instant from the earliest start to the latest end lies in one of the grant's windows."""
    if not row.windows:
        return None
    if extent is None:
        return Finding("window", _NO_TIME, unknown=True)
    key = (id(row.windows), extent.span)
    known = q.covered_by.get(key)
    if known is None:
        known = q.covered_by[key] = covered(row.windows, extent.span)
    holds, first_ms = known
    match holds:
        case Holds.YES:
            return None
        case Holds.UNKNOWN:
            return Finding("window", f"whether {q.local(first_ms)} is a holiday is not known", unknown=True)
        case Holds.NO:
            return Finding("window", f"{q.local(first_ms)} lies outside of its windows")


def budget(q: Question, row: Row, extent: Extent | None) -> Finding | None:
    """The budgets of every period that the control touches have room for it."""
    return budget_finding(q, row, extent)


def lead_time(q: Question, row: Row, extent: Extent | None) -> Finding | None:
    """The command came neither too short nor too long before its start."""
    if q.planned_ms is None or q.received_ms is None:
        return Finding("lead-time", _NO_TIME, unknown=True)
    lead = row.grant.lead
    ahead_s = max(0, q.planned_ms - q.received_ms) / 1000
    if ahead_s < lead.min_s:
        return Finding(
            "lead-time", f"it came {ahead_s:.0f} s before its start, {duration_text(lead.min_s)} is the least"
        )
    if ahead_s > lead.max_s:
        return Finding(
            "lead-time", f"it came {ahead_s:.0f} s before its start, {duration_text(lead.max_s)} is the most"
        )
    return None


def opt_out(q: Question, row: Row, extent: Extent | None) -> Finding | None:
    """The customer has not opted out, unless the grant leaves no such choice."""
    if row.grant.opt_out == "none":
        return None
    if extent is None:
        return Finding("opted-out", _NO_TIME, unknown=True)
    assignment, local = q.book.assignment, q.facts.opt_outs
    known = (*(assignment.opt_outs if assignment else ()), *(() if local is UNKNOWN else local))
    for one in known:
        if _speaks(one, q, row) and one.valid.touches(extent.span.begin_ms, extent.span.end_ms):
            return Finding("opted-out", f"the customer has opted out {_of(one)}")
    if local is UNKNOWN:
        return Finding("opted-out", "whether the customer has opted out is not known", unknown=True)
    return None


def _speaks(one: OptOut, q: Question, row: Row) -> bool:
    return (
        one.device in (None, q.command.device)
        and one.entity in (None, row.grant.entity)
        and one.grant in (None, row.grant.id)
    )


def _of(one: OptOut) -> str:
    named = [name for name in (one.device, one.entity, one.grant) if name is not None]
    return f"of {', '.join(named)}" if named else "of everything"


def busy(q: Question, row: Row, extent: Extent | None) -> Finding | None:
    """No control of another entity has the point then, or the grant may take it from that one."""
    running = q.others
    if running is None:
        return Finding("busy", "what runs at the point is not known", unknown=True)
    if extent is None:
        return Finding("busy", _NO_TIME, unknown=True) if running else None
    priority = row.grant.priority
    for one in running:
        if one.begin_ms >= extent.span.end_ms or extent.span.begin_ms >= one.end_ms:
            continue
        gives_way = one.preemptible == "always" or (one.preemptible == "before_start" and not one.started)
        if one.entity != q.command.issuer.entity and not (
            priority.preempts and priority.level < one.level and gives_way
        ):
            return Finding("busy", f"{one.entity} has the point by {one.command}, level {one.level}")
    return None


def contact(q: Question, row: Row, extent: Extent | None) -> Finding | None:
    """The entity's hub is in contact, where the grant restores when it is not."""
    if row.grant.on_comm_loss != "restore" or not q.is_control or q.facts.contact is Contact.FRESH:
        return None
    if q.facts.contact is UNKNOWN:
        return Finding("no-contact", "whether the entity's hub is in contact is not known", unknown=True)
    return Finding("no-contact", "the entity's hub is not in contact, so that it would restore at once")


def fresh(q: Question, row: Row, extent: Extent | None) -> Finding | None:
    """The policy is fresh, or the grant counts on a stale one too."""
    if q.facts.freshness is Freshness.FRESH:
        return None
    critical = row.grant.priority.level <= GRID_CRITICAL or q.command.emergency
    if q.facts.freshness is Freshness.STALE and critical and q.command.verb is not Verb.SET_CLOCK:
        return None
    unknown = q.facts.freshness is UNKNOWN
    return Finding("policy-stale", f"its level is {row.grant.priority.level}, on a stale policy", unknown)


def emergency(q: Question, row: Row, extent: Extent | None) -> Finding | None:
    """An emergency, and no other command, under a grant that provides for it, and not for longer."""
    clause = row.grant.emergency
    if not q.command.emergency:
        only = clause is not None and clause.required
        return Finding("emergency-only", "it is for emergencies alone") if only else None
    if clause is None:
        return Finding("no-emergency", "it provides for no emergency")
    if extent is None or extent.longest_s > clause.max_s:
        most = f"in an emergency {duration_text(clause.max_s)} is the most"
        return Finding("no-emergency", most, unknown=extent is None)
    return None


def signatures(q: Question, row: Row, extent: Extent | None) -> Finding | None:
    """As many distinct individuals have signed an emergency as the grant asks for."""
    clause = row.grant.emergency
    if not q.command.emergency or clause is None:
        return None
    if extent is None or q.facts.keys is UNKNOWN:
        return Finding("two-signatures", "who signed the command is not known", unknown=True)
    named = {q.command.issuer.individual, *q.command.cosigners}
    signed = [name for name in sorted(named) if _signs(q, name, extent.span)]
    if len(signed) >= clause.signatures:
        return None
    return Finding("two-signatures", f"{len(signed)} of {clause.signatures} individuals have signed")


def restore(q: Question, row: Row, extent: Extent | None) -> Finding | None:
    """What to restore is known."""
    if row.grant.restore != "previous" or not q.is_control or q.present is not None:
        return None
    return Finding("restore-unknown", "the present value is not known", unknown=True)


SPEAKS: Final[tuple[tuple[str, Condition], ...]] = (("actor", actor), ("verb", verb), ("target", target))
"""Whether a row speaks of the command at all."""
CONDITIONS: Final[tuple[tuple[str, Condition], ...]] = (
    ("no denial", denied),
    ("assigned", assigned),
    ("agreed", agreed),
    ("consent", consented),
    ("validity", valid),
    ("roster", roster),
    ("purpose", purpose),
    ("limit", limit),
    ("step", step),
    ("duration", duration),
    ("hold", latching),
    ("window", window),
    ("budget", budget),
    ("lead time", lead_time),
    ("no opt-out", opt_out),
    ("point free", busy),
    ("contact", contact),
    ("freshness", fresh),
    ("emergency", emergency),
    ("signatures", signatures),
    ("restore", restore),
)
"""What a row that speaks of the command asks for."""


_NAMES: Final = tuple(name for name, _ in (*SPEAKS, *CONDITIONS))


def findings(q: Question, row: Row, extent: Extent | None) -> tuple[tuple[str, ...], tuple[Finding, ...]]:
    """Return the names of the conditions that are met, and what is not met.

    Only the first three are judged where one of them is not met.
    """
    found = [condition(q, row, extent) for _, condition in SPEAKS]
    if not any(found):
        found += [condition(q, row, extent) for _, condition in CONDITIONS]
    return tuple(compress(_NAMES, map(not_, found))), tuple(filter(None, found))
