"""How long what is signed holds, and when it is signed again (security.md 1.5)."""

from typing import Final

from policies.trust.bounds import ROOT, SNAPSHOT, TARGETS, TIMESTAMP

DAY_MS: Final = 86_400_000
LIFE_DAYS: Final = {ROOT: 730, TARGETS: 180, SNAPSHOT: 60, TIMESTAMP: 14}
ENTITY_LIFE_DAYS: Final = 90
ASSIGNMENT_LIFE_DAYS: Final = 60
SNAPSHOT_AGE_DAYS: Final = 7
"""A snapshot older than that is signed again with the next timestamp."""


def life_ms(role: str) -> int:
    """Return how long a role holds from when it is drafted; an unknown one is an entity's."""
    return LIFE_DAYS.get(role, ENTITY_LIFE_DAYS) * DAY_MS


def warn_ms(role: str) -> int:
    """Return how long before its end a role should have been signed again: a third of its life."""
    return life_ms(role) // 3
