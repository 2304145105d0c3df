"""What the policy keeper holds, as a decision needs it."""

from collections.abc import Mapping

from agent.policy.keeper import PolicyKeeper
from policies.facts import Freshness, Signed, Unknown
from policies.rulebook import Rulebook
from policies.trust.held import Held
from policies.trust.inforce import freshness_fact, signed_facts


class Kept:
    """An `agent.control.inforce.InForce` over the keeper."""

    def __init__(self, keeper: PolicyKeeper) -> None:
        self._keeper = keeper
        self._of: Held | None = None
        self._signed: Mapping[str, Signed] = {}

    async def looked_for(self) -> None:
        """Return when the keeper has proved what lay on the disk, or found nothing."""
        await self._keeper.loaded.wait()

    @property
    def rulebook(self) -> Rulebook | None:
        """Policy, rosters and assignment, verified."""
        return self._keeper.book

    @property
    def freshness(self) -> Freshness | Unknown:
        """How fresh they are; unknown while the clock is not sure."""
        return freshness_fact(self._keeper.freshness)

    @property
    def signed(self) -> Mapping[str, Signed]:
        """Who signed which revision of each grant."""
        held = self._keeper.held
        if held is not self._of:
            self._of, self._signed = held, {} if held is None else signed_facts(held)
        return self._signed

    @property
    def versions(self) -> Mapping[str, int | str]:
        """Versions of policy and assignment."""
        versions = self._keeper.versions
        return {"policy": versions.policy, "assignment": versions.assignment}
