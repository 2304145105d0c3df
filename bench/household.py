"""What one household costs on the network: 60 points every 10 s, by how long messages are collected.

Three gateways at one plant (a main meter of 54 points and a relay of 6, both every 10 s), one for each
batching: 1 s, 10 s and 60 s. Our collector reads and confirms. The bytes are those that the kernel counted
on each gateway's TLS connection, in whole minutes beside the other measurements, because minutes cannot be
hurried. Connecting, start record and manifest are not in it; keep-alive and confirmations are.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from bench.gauge import Carried, Sockets
from cli.stand import GatewayPlan, RoutePlan, Stand, StandPlan

BATCHES_S: Final = (1, 10, 60)
DEVICES: Final = ("main-meter", "heater-relay")
EVERY_S: Final = 10
AFTER_S: Final = 5.0
"""A look is taken so long after the full minute, when its message has been sent and acknowledged."""
MONTH_S: Final = 86400 * 30.4375
CONFIRMED_MINUTES: Final = 5
"""By default a route wants its confirmation after five batches: whole multiples of it are a fair sample."""


@dataclass(frozen=True, slots=True)
class Household:
    """One batching."""

    batch_s: int
    minutes: int
    readings: int
    sent: int
    received: int
    segments: int
    with_headers: int

    @property
    def wire(self) -> float:
        """Payload bytes at the socket a reading, both directions."""
        return (self.sent + self.received) / self.readings

    @property
    def monthly_mb(self) -> float:
        """Megabytes a month with the headers of TCP and IP, both directions."""
        return self.with_headers / (60 * self.minutes) * MONTH_S / 1e6


class Households:
    """Runs in the background of other measurements; as a context manager."""

    def __init__(self, directory: Path) -> None:
        gateways = tuple(
            GatewayPlan(
                id=f"gw-every-{batch}s",
                routes=(RoutePlan(keys={"every": f"{batch}s"}),),
                every=f"{EVERY_S}s",
                devices=DEVICES,
            )
            for batch in BATCHES_S
        )
        self._stand: Final = Stand(directory, StandPlan(gateways=gateways))
        self._looks: list[tuple[int, list[Carried | None]]] = []
        self._points = 0
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._look_each_minute, name="household", daemon=True)

    def __enter__(self) -> Self:
        self._stand.start()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ending.set()
        self._thread.join(15)
        self._stand.__exit__(kind, error, trace)

    @property
    def minutes(self) -> int:
        """Whole minutes seen so far."""
        return max(0, len(self._looks) - 1)

    def wait_minutes(self, minutes: int, say: Callable[[str], None]) -> None:
        """Wait until so many whole minutes were seen."""
        deadline = time.monotonic() + 60 * (minutes + 2)
        while self.minutes < minutes and time.monotonic() < deadline:
            say(f"household: {self.minutes} of {minutes} minutes")
            self._ending.wait(20)

    def results(self) -> list[Household]:
        """Return what was seen, over as many multiples of five minutes as there were, else over all."""
        minutes = self.minutes - self.minutes % CONFIRMED_MINUTES or self.minutes
        if not minutes:
            return []
        first, last = self._looks[-1 - minutes][1], self._looks[-1][1]
        readings = self._points * minutes * 60 // EVERY_S
        return [
            Household(
                batch_s=batch,
                minutes=minutes,
                readings=readings,
                sent=end.sent - begin.sent,
                received=end.received - begin.received,
                segments=end.segments - begin.segments,
                with_headers=end.with_headers - begin.with_headers,
            )
            for batch, begin, end in zip(BATCHES_S, first, last, strict=True)
            if begin is not None and end is not None
        ]

    def _look_each_minute(self) -> None:
        while not self._ending.wait(60 - (time.time() - AFTER_S) % 60):
            minute = int(time.time() // 60)
            port = self._stand.broker_port
            self._looks.append((minute, [Sockets(one.pid, port).look() for one in self._stand.agents]))
            store = self._stand.agent.status().get("store")
            if isinstance(store, dict) and store.get("rows"):
                # every tick brings one row a device, so this is the points of all devices
                self._points = round(len(DEVICES) * store["readings"] / store["rows"])
