"""The clock floor: it is not earlier than the policy service last said, whatever the clock shows.

Only a verified timestamp raises it (:func:`raised` takes nothing else): no command, no assignment, no roster
and no operator can.  It belongs to the keys of the timestamp: when the root takes all of those away because
they were stolen, what they said of the time goes with them, and a floor that was pushed into the future
falls.

Pure.  Not here: keeping it over restarts (`agent.policy.note`), and reading the clock.
"""

from collections.abc import Set
from dataclasses import dataclass
from typing import Final

from policies.trust.verified import Verified

BEHIND_MS: Final = 300_000
"""A clock further behind the floor than this is wrong; ours: time servers differ by milliseconds."""


@dataclass(frozen=True, slots=True)
class Floor:
    """A lower bound of the present, and who said so."""

    at_ms: int = 0
    keys: frozenset[str] = frozenset()
    """Ids of the timestamp's keys at that time."""

    def under(self, keys: Set[str]) -> "Floor":
        """Return the floor as far as it counts under a root with these keys of the timestamp."""
        return self if not self.keys or self.keys & keys else NO_FLOOR

    def guarded_ms(self, clock_ms: int) -> int:
        """Return the instant by which everything is judged."""
        return max(clock_ms, self.at_ms)

    def is_behind(self, clock_ms: int) -> bool:
        """Tell whether a clock is behind what is certain."""
        return clock_ms < self.at_ms - BEHIND_MS


NO_FLOOR: Final = Floor()


def raised(floor: Floor, verified: Verified) -> Floor:
    """Return the floor after a verified set; the same or higher, unless its keys were taken away."""
    counts = floor.under(verified.timestamp_keys)
    return Floor(max(counts.at_ms, verified.issued_ms), verified.timestamp_keys)
