"""What the state message tells of the policy held: for people, and for the head-end to see who lags."""

import msgspec

from core.records import State
from policies.trust.freshness import Freshness
from policies.trust.held import Versions


def with_policy(state: State, versions: Versions, freshness: Freshness) -> State:
    """Return a state that names the versions held, and how fresh they are."""
    held: dict[str, object] = {"freshness": freshness.value}
    if versions.policy:
        held |= {
            "root": versions.root,
            "version": versions.policy,
            "snapshot": versions.snapshot,
            "timestamp": versions.timestamp,
        }
    return msgspec.structs.replace(
        state,
        policy=str(versions.policy or ""),
        assignment=str(versions.assignment or ""),
        x={**state.x, "policy": held},
    )
