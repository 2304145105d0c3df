"""What must be met whatever a grant says: address, shape, time, issuer, device, and rows with *shall not*.

Each rule yields what is not met; nothing here permits anything.  Relies on `policies.question`.
"""

from collections.abc import Iterator

from policies.decision import Finding
from policies.facts import UNKNOWN, ClockState, Freshness, Time
from policies.grant import Verb
from policies.question import Question
from policies.rulebook import Row
from policies.when import Span, touched

_VERBS_OF_ROLE = {
    "operator": frozenset((Verb.SHED, Verb.SWITCH, Verb.LIMIT, Verb.CANCEL)),
    "engineer": frozenset((Verb.SET_CLOCK, Verb.CANCEL)),
    "viewer": frozenset[Verb](),
}


def general_findings(q: Question) -> Iterator[Finding]:
    """Yield what a command other than *cancel* does not meet."""
    yield from address_findings(q)
    yield from shape_findings(q)
    yield from _freshness(q)
    yield from _time(q)
    yield from issuer_findings(q)
    yield from _device(q)
    extent = q.extent()
    yield from denial_findings(q, extent.span if extent else None)


def address_findings(q: Question) -> Iterator[Finding]:
    """Yield when the command is not for this gateway."""
    here = q.facts.gateway
    if here is UNKNOWN:
        yield Finding("wrong-gateway", "which gateway this is, is not known", unknown=True)
    elif q.command.gateway != here:
        yield Finding("wrong-gateway", f"the command is for {q.command.gateway}, this is {here}")


def shape_findings(q: Question) -> Iterator[Finding]:
    """Yield what the verb needs and the command lacks, or has and must not."""
    command = q.command
    verb = command.verb
    wrong: list[str] = []
    if verb.is_control:
        if command.duration_s is None:
            wrong.append(f"{verb.value} needs a duration")
        if command.value is None:
            wrong.append(f"{verb.value} needs a value")
        elif verb.is_on_off and command.value not in (0, 1):
            wrong.append(f"the value of {verb.value} is 0 or 1, not {command.value}")
    elif command.value is not None or command.duration_s is not None:
        wrong.append(f"{verb.value} takes neither value nor duration")
    if (command.cancels is None) == (verb is Verb.CANCEL):
        wrong.append("cancel names the command that it ends, and no other verb does")
    if command.cosigners and not command.emergency:
        wrong.append("cosigners belong to an emergency")
    if command.expires_ms <= command.issued_ms:
        wrong.append("it expires before it was issued")
    for sentence in wrong:
        yield Finding("incomplete", sentence)


def _freshness(q: Question) -> Iterator[Finding]:
    match q.facts.freshness:
        case Freshness.FRESH | Freshness.STALE:
            return
        case Freshness.NO_POLICY:
            yield Finding("no-policy", "the gateway holds no policy that it could verify")
        case Freshness.EXPIRED:
            yield Finding("policy-expired", "the policy, a roster or the assignment is out of date")
        case Freshness.ROOT_EXPIRED:
            yield Finding("policy-expired", "the root of trust is out of date")
        case _:
            yield Finding("policy-expired", "how fresh the policy is, is not known", unknown=True)


def _time(q: Question) -> Iterator[Finding]:
    time, command = q.facts.time, q.command
    tolerance_ms = q.book.tolerance_ms
    if not isinstance(time, Time) or q.now_ms is None:
        yield Finding("clock-unsure", "what time it is, is not known", unknown=True)
    elif time.state is ClockState.UNSURE:
        yield Finding("clock-unsure", "the clock is not synchronised")
    elif not 0 <= time.error_ms <= tolerance_ms:
        yield Finding(
            "clock-unsure", f"the clock may be {time.error_ms} ms out, {tolerance_ms} ms are tolerated"
        )
    if q.received_ms is None:
        yield Finding("command-expired", "when the command came is not known", unknown=True)
    else:
        if q.received_ms > command.expires_ms:
            yield Finding("command-expired", f"it expired {q.local(command.expires_ms)}")
        if command.issued_ms > q.received_ms + tolerance_ms:
            yield Finding("issued-ahead", f"it was issued {q.local(command.issued_ms)}, after it came")
    if q.planned_ms is None or q.now_ms is None or q.received_ms is None:
        yield Finding("too-late", "whether its start is past is not known", unknown=True)
    elif q.planned_ms + tolerance_ms < q.received_ms:
        yield Finding("too-late", f"it came after its start, {q.local(q.planned_ms)}")
    elif command.duration_s is not None and q.now_ms >= q.planned_ms + command.duration_s * 1000:
        yield Finding("too-late", "its end is past")


def issuer_findings(q: Question) -> Iterator[Finding]:
    """Yield when entity, application or individual is not known, has not signed, or has not the role."""
    issuer = q.command.issuer
    applications = q.book.applications.get(issuer.entity)
    if applications is None:
        yield Finding("unknown-entity", f"the policy names no entity {issuer.entity}")
    elif issuer.application not in applications:
        yield Finding(
            "unknown-application", f"the policy names no application {issuer.application} of {issuer.entity}"
        )
    roster = q.book.rosters.get(issuer.entity)
    individual = (
        next((one for one in roster.individuals if one.id == issuer.individual), None) if roster else None
    )
    if individual is None:
        missing = "there is no roster" if roster is None else f"the roster names no {issuer.individual}"
        yield Finding("unknown-individual", f"{missing} of {issuer.entity}")
        return
    if not any(q.command.verb in _VERBS_OF_ROLE[role] for role in individual.roles):
        roles = " and ".join(individual.roles)
        yield Finding(
            "role", f"{issuer.individual} is {roles}, which does not include {q.command.verb.value}"
        )
    if q.facts.keys is UNKNOWN:
        yield Finding("not-signed", "who signed the command is not known", unknown=True)
    elif not q.holders(issuer.individual):
        yield Finding(
            "not-signed", f"no signature is of a key of {issuer.individual} for {issuer.application}"
        )


def may_sign(q: Question, roles: tuple[str, ...]) -> bool:
    """Tell whether somebody with these roles may sign for the command's verb."""
    return any(q.command.verb in _VERBS_OF_ROLE[role] for role in roles)


def _device(q: Question) -> Iterator[Finding]:
    command, assignment = q.command, q.book.assignment
    if assignment is None:
        yield Finding("no-assignment", "the gateway has no assignment")
        return
    head = assignment.assignment
    if head.gateway != q.facts.gateway:
        yield Finding("no-assignment", f"the assignment is for {head.gateway}", q.facts.gateway is UNKNOWN)
    if head.policy_version > q.book.policy.policy.version:
        yield Finding("no-assignment", f"the assignment needs version {head.policy_version} of the policy")
    extent = q.extent()
    if extent is None or not (
        head.issued_ms <= extent.span.begin_ms and extent.span.end_ms <= head.expires_ms
    ):
        ends = f"the assignment holds until {q.local(head.expires_ms)}"
        yield Finding("no-assignment", ends, unknown=extent is None)
    if q.device is None:
        yield Finding("unknown-device", f"the assignment names no device {command.device}")
        return
    yield from _bounds(q)
    match q.facts.locked_out:
        case True:
            yield Finding("locked-out", f"the local lock-out of {command.device} is on")
        case False:
            pass
        case _:
            yield Finding("locked-out", "whether the local lock-out is on, is not known", unknown=True)


def _bounds(q: Question) -> Iterator[Finding]:
    command, profile, of_type = q.command, q.profile, q.facts.type_limits
    if profile is None:
        device = q.device
        kind = f"{device.type} ({device.kind})" if device else command.device
        yield Finding(
            "no-profile", f"there are no limits for {command.verb.value} at {command.point} of {kind}"
        )
        return
    if not command.verb.is_control:
        return
    if of_type is UNKNOWN or not (of_type.min.is_finite() and of_type.max.is_finite()):
        yield Finding("value-range", "what the device's type bears is not known", unknown=True)
    elif command.value is not None:
        low, high = max(profile.min, of_type.min), min(profile.max, of_type.max)
        if not low <= command.value <= high:
            yield Finding("value-range", f"{command.value} lies outside of {low} to {high}")
    essential = profile.essential or (of_type is not UNKNOWN and of_type.essential)
    if essential and profile.hold == "none":
        yield Finding("essential", f"{command.device} is essential and has no hold of its own")
    if command.verb.is_on_off and command.value is not None:
        yield from _minimum_times(q)


def _minimum_times(q: Question) -> Iterator[Finding]:
    profile, of_type = q.profile, q.facts.type_limits
    if profile is None or of_type is UNKNOWN:
        return
    min_on_s = max(profile.min_on_s, of_type.min_on_s)
    min_off_s = max(profile.min_off_s, of_type.min_off_s)
    if q.present == q.command.value or (min_on_s <= 0 and min_off_s <= 0):
        return
    since, planned_ms = q.facts.unchanged_since_ms, q.planned_ms
    if q.present is None or since is UNKNOWN or planned_ms is None or q.now_ms is None:
        yield Finding("too-soon", "since when the device is as it is, is not known", unknown=True)
        return
    needed_s = min_on_s if q.present != 0 else min_off_s
    held_s = (max(planned_ms, q.now_ms) - since) // 1000
    if held_s < needed_s:
        yield Finding("too-soon", f"it would have been {held_s} s as it is, {needed_s} s are its minimum")


def denial_findings(q: Question, span: Span | None) -> tuple[Finding, ...]:
    """Return a finding for each row with *shall not* that speaks, or may speak, of a span."""
    found = q.denied_in.get(span)
    if found is None:
        rows = q.book.denials(q.command.issuer.entity, q.command.verb.value)
        found = tuple(_denial(row) for row in rows if _denies(q, row, span))
        q.denied_in[span] = found
    return found


def _denial(row: Row) -> Finding:
    grant = row.grant
    return Finding("denied", f"{grant.id}: {grant.entity} shall not {' or '.join(grant.verbs)}")


def _denies(q: Question, row: Row, span: Span | None) -> bool:
    """Tell whether a denial speaks of the command; what is not known does not take it back."""
    grant, command = row.grant, q.command
    issuer, to = command.issuer, row.grant.to
    if grant.by.applications is not None and issuer.application not in grant.by.applications:
        return False
    if grant.by.individuals is not None and issuer.individual not in grant.by.individuals:
        return False
    if grant.purpose is not None and command.purpose is not None and command.purpose not in grant.purpose:
        return False
    if command.value is not None and not grant.limits.hold(command.value):
        return False
    if to.devices is not None and command.device not in to.devices:
        return False
    if to.points is not None and command.point not in to.points:
        return False
    if to.gateways is not None and command.gateway not in to.gateways:
        return False
    if q.book.assignment is not None and to.groups is not None and q.book.groups.isdisjoint(to.groups):
        return False
    if q.device is not None and to.kinds is not None and q.device.kind not in to.kinds:
        return False
    if span is None:
        return True
    if to.owners is not None:
        terms = q.terms(span)
        if terms is not None and all(set(term.owners).isdisjoint(to.owners) for term in terms):
            return False
    if not grant.valid.touches(span.begin_ms, span.end_ms):
        return False
    return not row.windows or touched(row.windows, span)
