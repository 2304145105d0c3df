"""What is held, in the nouns of the policy language: the rulebook and the facts about its signatures.

A policy or assignment that this software cannot read is refused before it is put in force; a roster that it
cannot read leaves its entity without anybody, and the others as they are.  What was read once is not read
again as long as its bytes are the same.

Not here: deciding (`policies.decide`).
"""

import hashlib
from collections.abc import Mapping
from types import MappingProxyType
from typing import TypeVar

from core.errors import ConfigError
from policies import facts
from policies.assignment import Assignment
from policies.grant import ANY_ENTITY
from policies.policy import Policy
from policies.reading import parse_document
from policies.roster import Roster
from policies.rulebook import Rulebook
from policies.trust.bounds import POLICY_PATH
from policies.trust.freshness import Freshness
from policies.trust.held import Held
from policies.trust.refusals import PolicyRefused, Why

_FRESHNESS: Mapping[Freshness, facts.Freshness | facts.Unknown] = MappingProxyType(
    {
        Freshness.FRESH: facts.Freshness.FRESH,
        Freshness.STALE: facts.Freshness.STALE,
        # Whether it is in date is not known then, and what is not known is not met.
        Freshness.CLOCK_UNSURE: facts.UNKNOWN,
        Freshness.EXPIRED: facts.Freshness.EXPIRED,
        Freshness.ROOT_EXPIRED: facts.Freshness.ROOT_EXPIRED,
        Freshness.NO_POLICY: facts.Freshness.NO_POLICY,
    }
)


_Document = Policy | Roster | Assignment
_Kind = TypeVar("_Kind", Policy, Roster, Assignment)


class Readings:
    """Reads documents, and remembers those of the set that is held."""

    def __init__(self) -> None:
        self._known: dict[str, _Document] = {}

    def check(self, held: Held) -> None:
        """Refuse a set whose policy or assignment this software cannot read."""
        self.book(held)

    def book(self, held: Held) -> Rulebook:
        """Return what is in force; :class:`PolicyRefused` when it cannot be read."""
        before, self._known = self._known, {}
        policy = self._read(held.policy, POLICY_PATH, Policy, before)
        if policy is None:
            raise PolicyRefused(Why.INCOMPLETE, f"there is no {POLICY_PATH} in the set")
        rosters = []
        for entity in held.verified.entities:
            try:
                roster = self._read(held.roster(entity), f"the roster of {entity}", Roster, before)
            except PolicyRefused:
                continue
            if roster is not None and roster.roster.entity == entity:
                rosters.append(roster)
        assigned = self._read(held.assigned, "the assignment", Assignment, before)
        return Rulebook(policy, rosters, assigned)

    def _read(
        self, raw: bytes | None, name: str, kind: type[_Kind], before: Mapping[str, _Document]
    ) -> _Kind | None:
        if raw is None:
            return None
        digest = hashlib.sha256(raw).hexdigest()
        found = before.get(digest)
        if found is None:
            try:
                found = parse_document(raw, name)
            except ConfigError as error:
                first = error.faults[0] if error.faults else str(error)
                raise PolicyRefused(Why.MALFORMED, f"{name} cannot be read: {first[:300]}") from error
        if not isinstance(found, kind):
            raise PolicyRefused(Why.MALFORMED, f"{name} is another kind of document")
        self._known[digest] = found
        return found


def signed_facts(held: Held) -> dict[str, facts.Signed]:
    """Return who signed each grant in force, as `policies.decide` asks for it."""
    utility = held.agreement.utility
    return {
        one.id: facts.Signed(
            revision=one.revision,
            utility=utility in one.parties,
            entity=one.entity in one.parties or one.entity in (ANY_ENTITY, utility),
        )
        for one in held.agreement.grants.values()
    }


def freshness_fact(state: Freshness) -> facts.Freshness | facts.Unknown:
    """Return a state as a fact; the doubt about the clock is a fact of its own there."""
    return _FRESHNESS[state]
