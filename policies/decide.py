"""May this command be carried out?  Pure, total, default deny, deny overrides, every reason listed.

One single grant must satisfy everything: conditions never merge across grants.  What a condition needs and
nobody knows is not met.  *cancel* is a right by rule: of whoever's control it is, of the device's owners and
of the utility, in every state of freshness and clock.

Relies on `policies.general` and `policies.conditions` for the single rules.  Not here: verifying who signed,
replay and order of commands, and carrying anything out.
"""

from collections.abc import Iterable, Sequence
from decimal import Decimal

from policies.budgets import reservations
from policies.command import Command
from policies.conditions import findings
from policies.decision import ALLOWED, Decision, Finding, Judged, Plan
from policies.facts import UNKNOWN, Facts
from policies.general import (
    address_findings,
    general_findings,
    issuer_findings,
    shape_findings,
)
from policies.grant import Verb
from policies.question import Extent, Question
from policies.rulebook import Row, Rulebook

_DENIED_FIRST = "denied"
_NOT_SPEAKING = frozenset(("actor", "verb", "target"))
"""Where one of these is not met nothing else is judged, so that the first finding tells."""
_BYPASS = {"window", "budget", "lead-time"}


def decide(command: Command, policy: Rulebook, facts: Facts, *, every_grant: bool = False) -> Decision:
    """Return the answer to a command.

    ``every_grant``: judge every row that permits anything, also those that cannot speak of the command, and
    go on after one that permits it; the answer is the same, there is only more of it to show.
    """
    q = Question(command, policy, facts)
    if command.verb is Verb.CANCEL:
        return _cancel(q)
    general = tuple(general_findings(q))
    rows: Sequence[Row] = policy.permits
    if not every_grant:
        kind = q.device.kind if q.device is not None else None
        rows = policy.candidates(command.issuer.entity, command.verb.value, kind)
    judged: list[Judged] = []
    winner: tuple[Row, Extent, Judged] | None = None
    for row in rows:
        extent = q.extent(row.grant)
        one = _judge(q, row, extent)
        judged.append(one)
        if winner is None and extent is not None and not one.unmet and not general:
            winner = row, extent, one
            if not every_grant:
                break
    if winner is None:
        return Decision(_first_code(general, judged), general, tuple(judged))
    row, extent, one = winner
    return Decision(ALLOWED, (), tuple(judged), _plan(q, row, extent, one))


def _judge(q: Question, row: Row, extent: Extent | None) -> Judged:
    met, unmet = findings(q, row, extent)
    clause = row.grant.emergency
    if not unmet or not q.command.emergency or clause is None:
        return Judged(row.grant.id, met, unmet)
    codes = {one.code for one in unmet}
    if codes & (_NOT_SPEAKING | {"no-emergency", "two-signatures"}):
        return Judged(row.grant.id, met, unmet)
    aside = _BYPASS & set(clause.may_bypass)
    return Judged(
        row.grant.id,
        met,
        tuple(one for one in unmet if one.code not in aside),
        tuple(one for one in unmet if one.code in aside),
    )


def _first_code(general: Iterable[Finding], judged: Sequence[Judged]) -> str:
    """Return the code of the reason to name first: a general one, a denial, then the nearest grant's."""
    first = next(iter(general), None)
    if first is not None:
        return first.code
    speaking = [one for one in judged if not (one.unmet and one.unmet[0].code in _NOT_SPEAKING)]
    if any(two.code == _DENIED_FIRST for one in speaking for two in one.unmet):
        return _DENIED_FIRST
    nearest = min(speaking, key=lambda one: len(one.unmet), default=None)
    return nearest.unmet[0].code if nearest is not None and nearest.unmet else "no-grant"


def _plan(q: Question, row: Row, extent: Extent, judged: Judged) -> Plan:
    command, grant, profile = q.command, row.grant, q.profile
    is_control = command.verb.is_control
    running = q.others or ()
    overlapping = tuple(
        one.command
        for one in running
        if one.begin_ms < extent.span.end_ms and extent.span.begin_ms < one.end_ms
    )
    return Plan(
        grant=grant.id,
        revision=grant.revision,
        begin_ms=extent.span.begin_ms,
        random_start_s=grant.randomise.start_s,
        duration_s=command.duration_s or 0,
        random_end_s=grant.randomise.end_s if is_control else 0,
        latest_end_ms=extent.span.end_ms,
        value=command.value,
        restore_to=_restore_to(q, row, bool(running)) if is_control else None,
        hold=profile.hold if profile is not None and is_control else "none",
        on_comm_loss=grant.on_comm_loss,
        comm_loss_after_s=grant.comm_loss_after_s,
        opt_out=grant.opt_out,
        level=grant.priority.level,
        preemptible=grant.priority.preemptible,
        ends=overlapping,
        reserve=reservations(q, row, extent),
        bypassed=tuple(dict.fromkeys(one.code for one in judged.bypassed)),
        least_s=q.held_s(),
    )


def _restore_to(q: Question, row: Row, anything_runs: bool) -> Decimal | None:
    """Return the value after the control: the profile's default, or what was before where the grant says so.

    A value that is itself a control's, or that the profile does not allow, is not restored.
    """
    profile = q.profile
    if profile is None:
        return None
    before = q.present
    if row.grant.restore == "default" or anything_runs or before is None:
        return profile.default
    return before if profile.min <= before <= profile.max else profile.default


def _cancel(q: Question) -> Decision:
    """Judge a cancellation: address, shape and issuer, and then whose control or device it is."""
    unmet = [*address_findings(q), *shape_findings(q), *issuer_findings(q)]
    entity = q.command.issuer.entity
    if entity != q.book.utility and not _owns(q, entity):
        running = q.facts.running
        mine = running is not UNKNOWN and any(
            one.command == q.command.cancels and one.entity == entity for one in running
        )
        if not mine:
            unknown = running is UNKNOWN
            why = "what runs there is not known" if unknown else f"{entity} has no such control there"
            unmet.append(Finding("not-yours", f"{why}, and {q.command.device} is not its own", unknown))
    return Decision(unmet[0].code if unmet else ALLOWED, tuple(unmet))


def _owns(q: Question, entity: str) -> bool:
    """Tell whether an entity is an owner of the device now; of an unsure now nobody is."""
    if q.device is None or q.now_ms is None:
        return False
    return any(
        entity in term.owners and term.valid.holds(q.now_ms, q.now_ms + 1) for term in q.device.ownership
    )
