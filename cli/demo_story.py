"""The demo's story: a site for two owners, and what happens to it, when.

Pure plans and words; `cli.demo` makes them happen.
"""

from dataclasses import dataclass
from enum import Enum
from typing import Final

from cli.stand import CollectorPlan, GatewayPlan, RoutePlan, StandPlan

DSO: Final = "dso.example"
CUSTOMER: Final = "customer.example"
GATEWAY: Final = "gw-0001"
EVERY_S: Final = 2
"""Interval of polling; ticks are multiples of it."""
SPEED: Final = 10.0
"""Simulated seconds a second, so that values move; quicker, counters would gain more than meters of their
type can, and readings be marked for it."""
_JOINT: Final = f'["{DSO}", "{CUSTOMER}"]'


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


def site() -> StandPlan:
    """Return the site: a household of two owners, one gateway, one broker, a collector for each owner."""
    return StandPlan(
        scenario="household",
        speed=SPEED,
        gateways=(
            GatewayPlan(
                id=GATEWAY,
                every=f"{EVERY_S}s",
                owner=DSO,
                # What waits unconfirmed is sent again soon, or a short demo would end before.
                routes=(
                    RoutePlan(DSO, keys={"resend_after": "5s"}),
                    RoutePlan(CUSTOMER, keys={"resend_after": "5s"}),
                ),
                device_keys={
                    "sub-meter": {"owner": CUSTOMER},
                    "heater-relay": {"data_owners": [DSO, CUSTOMER]},
                },
                device_tables={
                    # Power quality belongs to the distribution company and to the customer.
                    "main-meter": "[[device.override]]\n"
                    'points = ["PhVphA", "PhVphB", "PhVphC", "Hz"]\n'
                    f"data_owners = {_JOINT}\n"
                    'purpose = "power quality"\n',
                },
            ),
        ),
        collectors=(CollectorPlan(DSO), CollectorPlan(CUSTOMER)),
    )


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
