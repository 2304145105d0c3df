"""The demo's story: what happens to the site, when, and what the figures at the end mean.

Pure plans and words; `cli.demo` makes them happen.  Not here: the site (`cli.demo_site`), commands
(`cli.demo_control`).
"""

from dataclasses import dataclass
from enum import Enum
from typing import Final

from cli.demo_evidence import Refusal
from cli.demo_site import EVERY_S


class Act(Enum):
    """What is done to the site."""

    STOP_BROKER = "stop the broker"
    START_BROKER = "start the broker"
    KILL_AGENT = "kill the agent"
    START_AGENT = "start the agent"


@dataclass(frozen=True, slots=True)
class Scene:
    """One act at its time."""

    at_s: float
    act: Act
    words: str


def scenes(seconds: float) -> tuple[Scene, ...]:
    """Return what happens in a story of so many seconds: an outage of the broker, then a kill -9.

    The agent stays away for more than one interval, so at least one tick is missed whenever it dies.
    """
    outage_s = min(8.0, max(3.0, seconds / 8))
    down_s = EVERY_S + 1.0
    outage_at, kill_at = seconds * 0.2, seconds * 0.6
    return (
        Scene(
            outage_at,
            Act.STOP_BROKER,
            f"the broker is stopped for {outage_s:.0f} s: readings wait in the store",
        ),
        Scene(outage_at + outage_s, Act.START_BROKER, "the broker is back: what waited is sent"),
        Scene(
            kill_at,
            Act.KILL_AGENT,
            "the agent is killed with -9, just after it polled: what it polled is not yet in its store",
        ),
        Scene(
            kill_at + down_s,
            Act.START_AGENT,
            "the agent is started again: a new epoch, and the ticks between lie in Gaps",
        ),
    )


MEANINGS: Final[dict[str, str]] = {
    "polled": "sampled, as the simulated devices counted",
    "committed": "durable in the gateway's store",
    "delivered": "given by the broker to each owner",
    "confirmed": "in signed confirmations of every owner",
    "lost": "committed, not in every owner's books",
    "duplicates": "in the books more than once",
    "redelivered": "arrived again and refused as known",
    "gaps": "in Gap records: nobody polled, and why",
    "unreported_gaps": "due with neither a row nor a Gap",
    "changed": "in the books otherwise than in the store",
    "undue": "in the books of somebody not their owner",
    "counts_unproved": "of the counter device, not accounted for",
}
"""The summary's keys, and what each means."""

COUNTED: Final[dict[str, str]] = {"gaps": "ticks", "unreported_gaps": "ticks", "counts_unproved": "answers"}
"""What a key of the summary counts where it is not readings."""

REFUSED_BY: Final[dict[Refusal, str]] = {
    Refusal.OTHER_ENTITY: "another company's operator, rightly signed",
    Refusal.WINDOW: "the right one, for some hours later",
    Refusal.REPLAY: "somebody who heard the right one's bytes",
    Refusal.FORGED: "somebody who has the company's certificate alone",
    Refusal.OPT_OUT: "the right one, after portico optout",
}
"""Who sent what was refused."""
