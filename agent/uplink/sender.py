"""Settings and counts of a route, and one lane's file with its outbox."""

from dataclasses import dataclass

from agent.store.store import Lane as FileLane
from agent.uplink.outbox import Outbox


@dataclass(frozen=True, slots=True)
class RouteOptions:
    """Settings of one route, from ``[[route]]``."""

    name: str
    entity: str
    gateway: str
    every_s: float = 0.0
    within_s: int = 1
    resend_after_s: float = 30.0
    unconfirmed_bytes: int = 8 << 20
    window: int = 50
    priority: int = 0
    ask_budget_bytes: int = 64 << 20

    def wish_s(self, unconfirmed_bytes: int) -> int:
        """Return within how many seconds a confirmation is wanted: at once when flow control is near.

        Else a backlog of many megabytes would stand still after each ``unconfirmed``.
        """
        return 0 if 2 * unconfirmed_bytes > self.unconfirmed_bytes else self.within_s


@dataclass(slots=True)
class RouteCounts:
    """What the route did."""

    messages: int = 0
    bytes: int = 0
    rows: int = 0
    acked: int = 0
    refused: int = 0
    confirmations: int = 0
    probes: int = 0
    asked_bytes: int = 0


class Sender:
    """One file of the store on one route: data or control."""

    def __init__(self, lane: FileLane, outbox: Outbox, name: str) -> None:
        self.lane = lane
        self.outbox = outbox
        self.name = name
        """Under which the held ranges are kept in the file."""
        self.empty: tuple[int, int] | None = None
        """Ids scanned that hold nothing for the entity and were not told yet."""
        self.empty_since = 0.0
