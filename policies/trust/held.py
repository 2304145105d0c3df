"""What a gateway holds: the verified set, who agreed to what in it, and the assignment that counts."""

from dataclasses import dataclass

import msgspec

from policies.trust.agreement import Agreement, agreement, assignment_in_force
from policies.trust.assignment import Assignment
from policies.trust.bounds import POLICY_PATH, ROOT, SNAPSHOT, TARGETS, TIMESTAMP, roster_path
from policies.trust.floor import Floor
from policies.trust.freshness import Freshness, freshness
from policies.trust.verified import Verified


@dataclass(frozen=True, slots=True)
class Held:
    """All of it, proved; how fresh it is depends on the instant that is asked for."""

    verified: Verified
    agreement: Agreement
    assignment: Assignment | None
    assigned: bytes | None
    """The assignment's document with the consents that are proved; None without an assignment that counts."""
    refused: str = ""
    """Why what lies there as the assignment does not count, as a sentence."""

    @property
    def policy(self) -> bytes | None:
        """The utility's document."""
        return self.verified.documents.get(POLICY_PATH)

    def roster(self, entity: str) -> bytes | None:
        """Return the roster that an entity signed."""
        return self.verified.documents.get(roster_path(entity))

    def freshness(self, clock_ms: int, floor: Floor, *, clock_sure: bool) -> Freshness:
        """Return how fresh it is at an instant."""
        until = None if self.assignment is None else self.assignment.expires_ms
        return freshness(self.verified.expires_ms, until, clock_ms, floor, clock_sure=clock_sure)

    @property
    def versions(self) -> "Versions":
        """What the state message tells of it."""
        of = self.verified.versions
        sequence = 0 if self.assignment is None else self.assignment.sequence
        return Versions(of[ROOT], of[TARGETS], of[SNAPSHOT], of[TIMESTAMP], sequence)


class Versions(msgspec.Struct, frozen=True):
    """Which versions somebody holds, or has published."""

    root: int = 0
    policy: int = 0
    snapshot: int = 0
    timestamp: int = 0
    assignment: int = 0


def held(verified: Verified, assignment: Assignment | None, refused: str = "") -> Held:
    """Put together what is held."""
    facts = agreement(verified)
    if assignment is None:
        return Held(verified, facts, None, None, refused)
    return Held(verified, facts, assignment, assignment_in_force(assignment, verified, facts), refused)
