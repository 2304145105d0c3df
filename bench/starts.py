"""How long a start takes: from the start of the agent's process to its READY, with a warm cache.

The agent says READY to the service manager (sd_notify) when its store is open and its workers run. The
chain's field and broker stand already, nobody reads: what is measured is the agent alone.
"""

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.chain import Chain, ChainPlan, Site

STARTS: Final = 7


@dataclass(frozen=True, slots=True)
class Starts:
    """Seconds to READY of each start."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """The figure."""
        return statistics.median(self.seconds)


def measure_starts(
    site: Site, store: Path | None, number: int, name: str, say: Callable[[str], None]
) -> Starts:
    """Start the agent again and again on the same store, each time after an orderly stop."""
    plan = ChainPlan(1000, counter=False, broker=False, store=store)
    with Chain(site, plan) as chain:
        chain.agent.stop()  # the first start made or migrated the store and warmed the cache
        seconds = []
        for _ in range(number):
            chain.start_agent()
            seconds.append(chain.start_s)
            chain.agent.stop()
    say(f"{name}: {', '.join(f'{one:.2f}' for one in seconds)} s")
    return Starts(tuple(seconds))
