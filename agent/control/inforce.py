"""What a gateway's policy is just now, as far as a decision needs it."""

from collections.abc import Mapping
from typing import Protocol

from policies.facts import Freshness, Signed, Unknown
from policies.rulebook import Rulebook


class InForce(Protocol):
    """Verified documents and how fresh they are; whoever keeps them answers for both."""

    async def looked_for(self) -> None:
        """Return when the documents of the last run were looked for: before, there seem to be none."""

    @property
    def rulebook(self) -> Rulebook | None:
        """Policy, rosters and assignment, verified; None: there is none, and nothing is controlled."""

    @property
    def freshness(self) -> Freshness | Unknown:
        """How fresh the documents are, by the guarded clock."""

    @property
    def signed(self) -> Mapping[str, Signed]:
        """Who signed which revision of each grant."""

    @property
    def versions(self) -> Mapping[str, int | str]:
        """Versions held, for outcomes and the audit."""
