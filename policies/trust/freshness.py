"""How fresh the policy held is, and what that leaves allowed: security.md 1.6 as one table.

Control fails closed, measurement fails open into the store, disclosure to others fails closed.  An entity
whose roster has run out loses its own control and nobody else's.

Pure: verified expiries, the clock and its floor in, a state out.  Not here: what `decide` makes of it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType
from typing import Final

from policies.trust.bounds import ROOT, SNAPSHOT, TARGETS, TIMESTAMP
from policies.trust.floor import Floor

GRACE_MS: Final = 30 * 86_400_000
"""How long the service may be silent after its last word has run out, until the policy counts for expired."""


class Freshness(Enum):
    """The states, from the best to the worst that can be told apart."""

    FRESH = "fresh"
    STALE = "stale"
    """The service was not heard for too long; what it signed otherwise is in date."""
    CLOCK_UNSURE = "clock_unsure"
    EXPIRED = "expired"
    ROOT_EXPIRED = "root_expired"
    NO_POLICY = "no_policy"


class Control(Enum):
    """Which commands may be allowed."""

    FULL = "full"
    GRID_CRITICAL = "grid_critical"
    """Grants of a strong level alone, and emergencies; no new entities, no configuration."""
    CANCEL = "cancel"
    """None but cancel and restore."""


class Running(Enum):
    """What becomes of a control that runs already."""

    TO_ITS_END = "to_its_end"
    DEFAULT = "default"


class Forwarding(Enum):
    """Who may be sent readings; all of them are collected and stored in every state."""

    FULL = "full"
    OWNERS = "owners"
    """The data's owners and the utility; what is for others waits."""
    FLAGGED = "flagged"
    """As full, with the doubt about the clock in the quality."""


@dataclass(frozen=True, slots=True)
class Allowed:
    """One row of the table."""

    control: Control
    running: Running
    forwarding: Forwarding


ALLOWED: Final[Mapping[Freshness, Allowed]] = MappingProxyType(
    {
        Freshness.FRESH: Allowed(Control.FULL, Running.TO_ITS_END, Forwarding.FULL),
        Freshness.STALE: Allowed(Control.GRID_CRITICAL, Running.TO_ITS_END, Forwarding.FULL),
        Freshness.CLOCK_UNSURE: Allowed(Control.CANCEL, Running.TO_ITS_END, Forwarding.FLAGGED),
        Freshness.EXPIRED: Allowed(Control.CANCEL, Running.TO_ITS_END, Forwarding.OWNERS),
        Freshness.ROOT_EXPIRED: Allowed(Control.CANCEL, Running.TO_ITS_END, Forwarding.OWNERS),
        Freshness.NO_POLICY: Allowed(Control.CANCEL, Running.DEFAULT, Forwarding.OWNERS),
    }
)


def freshness(
    expires_ms: Mapping[str, int] | None,
    assignment_expires_ms: int | None,
    clock_ms: int,
    floor: Floor,
    *,
    clock_sure: bool,
) -> Freshness:
    """Return the state of what is held.

    ``expires_ms`` by role, None without a verified set; ``assignment_expires_ms`` None without an assignment
    that counts.  ``clock_sure`` is false when nothing keeps the clock right and nothing has since the start.
    A clock ahead makes things look older than they are, which is the safe side; one that is behind does not
    make them younger, because of the floor.
    """
    if expires_ms is None or assignment_expires_ms is None:
        return Freshness.NO_POLICY
    now = floor.guarded_ms(clock_ms)
    if now >= expires_ms[ROOT]:
        return Freshness.ROOT_EXPIRED
    heard_until = min(expires_ms[TIMESTAMP], expires_ms[SNAPSHOT])
    if now >= min(expires_ms[TARGETS], assignment_expires_ms, heard_until + GRACE_MS):
        return Freshness.EXPIRED
    if not clock_sure or floor.is_behind(clock_ms):
        return Freshness.CLOCK_UNSURE
    return Freshness.STALE if now >= heard_until else Freshness.FRESH


def roster_in_date(expires_ms: Mapping[str, int], entity: str, until_ms: int) -> bool:
    """Tell whether an entity's own role is known and in date up to an instant, such as a control's end."""
    return until_ms < expires_ms.get(entity, 0)
