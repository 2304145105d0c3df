"""Policy, rosters and assignment together, arranged so that a decision finds what concerns it.

Everything here is verified and fresh as far as the facts of a decision say; a rulebook only looks things up.
Rows that permit are found by entity, verb and kind of device, the strongest and most particular first; an
index never changes an answer, it only leaves out what does not speak of the command.

Relies on the documents' nouns.  Not here: judging (`policies.decide`).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from zoneinfo import ZoneInfo

from policies.assignment import Assignment, Consent, Device, Selection
from policies.forms import zone_of
from policies.grant import ANY_ENTITY, Budget, Grant, Window
from policies.policy import DeviceLimits, Policy
from policies.roster import Individual, Key, Roster
from policies.when import ZonedWindow

_NO_ROWS: Final[tuple["Row", ...]] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Row:
    """A grant with its windows in their zones, and what the assignment makes of it."""

    grant: Grant
    windows: tuple[ZonedWindow, ...]
    selection: Selection | None
    """None: it does not count at this gateway.  Rows with *shall not* count everywhere."""
    consents: tuple[Consent, ...]
    """Those to this revision."""
    has_budget: bool

    @property
    def rank(self) -> tuple[int, int, str]:
        """Place among rows that permit the same: level, then the most particular, then the id."""
        to = self.grant.to
        particular = (8 if to.devices else 0) + (4 if to.points else 0) + (2 if to.gateways else 0)
        return self.grant.priority.level, -particular - (1 if to.kinds or to.groups else 0), self.grant.id


@dataclass(frozen=True, slots=True)
class Holder:
    """A key with whose it is and the roster that says so."""

    key: Key
    individual: Individual
    roster: Roster


class Rulebook:
    """What is in force at one gateway."""

    def __init__(self, policy: Policy, rosters: Iterable[Roster] = (), assignment: Assignment | None = None):
        """Arrange verified documents; of two rosters of one entity the later counts."""
        self.policy: Final = policy
        self.assignment: Final = assignment
        self.rosters: Final = {roster.roster.entity: roster for roster in rosters}
        self.utility: Final = policy.policy.utility
        self.zone: Final[ZoneInfo] = zone_of(policy.policy.zone)
        self.tolerance_ms: Final = policy.policy.clock_tolerance_s * 1000
        self.applications: Final = {
            entity.id: frozenset(one.id for one in entity.applications) for entity in policy.entities
        }
        self.groups: Final = frozenset(assignment.assignment.groups if assignment else ())
        self.devices: Final = {device.id: device for device in (assignment.devices if assignment else ())}
        self._holders = {entity: _holders(roster) for entity, roster in self.rosters.items()}
        self._limits = {(one.type, one.kind, one.point): one for one in policy.limits}
        rows = _rows(policy, assignment)
        self.permits: Final = tuple(
            sorted((row for row in rows if row.grant.permits), key=lambda row: row.rank)
        )
        self._permits = _by_kind(self.permits)
        self._denials = _by_verb(row for row in rows if not row.grant.permits)

    def limits(self, device: Device, point: str) -> DeviceLimits | None:
        """Return the signed profile of a point, the narrower where there are two."""
        narrow = self._limits.get((device.type, device.kind, point))
        return narrow or self._limits.get((device.type, None, point))

    def candidates(self, entity: str, verb: str, kind: str | None) -> Sequence[Row]:
        """Return the rows that may permit a verb to an entity at a kind of device, in their order."""
        kinds = self._permits.get((entity, verb))
        if kinds is None:
            return _NO_ROWS
        return kinds.get(kind) or kinds.get(None) or _NO_ROWS

    def denials(self, entity: str, verb: str) -> Sequence[Row]:
        """Return the rows with *shall not* that may speak of an entity and a verb."""
        return self._denials.get((entity, verb), _NO_ROWS) + self._denials.get((ANY_ENTITY, verb), _NO_ROWS)

    def holders(self, entity: str) -> Mapping[str, Holder]:
        """Return the keys of an entity's roster by their ids; none where there is no roster."""
        return self._holders.get(entity, {})


def _rows(policy: Policy, assignment: Assignment | None) -> list[Row]:
    selections = {one.grant: one for one in (assignment.selections if assignment else ())}
    consents: dict[tuple[str, int], list[Consent]] = {}
    for one in assignment.consents if assignment else ():
        consents.setdefault((one.grant, one.revision), []).append(one)
    zoned: dict[tuple[Window, ...], tuple[ZonedWindow, ...]] = {}
    found = []
    for grant in policy.grants:
        windows = zoned.get(grant.windows)
        if windows is None:
            windows = zoned[grant.windows] = tuple(
                ZonedWindow.of(one, policy.policy.zone, policy.calendars) for one in grant.windows
            )
        agreed = tuple(consents.get((grant.id, grant.revision), ()))
        found.append(Row(grant, windows, selections.get(grant.id), agreed, grant.budget != Budget()))
    return found


def _holders(roster: Roster) -> dict[str, Holder]:
    individuals = {one.id: one for one in roster.individuals}
    return {
        key.id: Holder(key, individuals[key.individual], roster)
        for key in roster.keys
        if key.individual in individuals
    }


def _by_kind(rows: Sequence[Row]) -> dict[tuple[str, str], dict[str | None, tuple[Row, ...]]]:
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        for verb in dict.fromkeys(row.grant.verbs):
            groups.setdefault((row.grant.entity, verb), []).append(row)
    found: dict[tuple[str, str], dict[str | None, tuple[Row, ...]]] = {}
    for key, group in groups.items():
        kinds: set[str | None] = {None}
        kinds.update(kind for row in group for kind in row.grant.to.kinds or ())
        found[key] = {
            kind: tuple(row for row in group if row.grant.to.kinds is None or kind in row.grant.to.kinds)
            for kind in kinds
        }
    return found


def _by_verb(rows: Iterable[Row]) -> dict[tuple[str, str], tuple[Row, ...]]:
    found: dict[tuple[str, str], tuple[Row, ...]] = {}
    for row in rows:
        for verb in dict.fromkeys(row.grant.verbs):
            key = (row.grant.entity, verb)
            found[key] = (*found.get(key, ()), row)
    return found
