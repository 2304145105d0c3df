"""A fleet behind one gateway: 500 devices polled every second, in three ways of wiring and timing.

Without a phase all are due at the same instant: the case in which requests wait for each other most, with
a line each and with ten on each of 50 lines, where a device also waits for the answers of those before it.
With phases one is due every two milliseconds.

How late a request came is told by the device: the time in its answer (bench/fastserver.c) less the tick of
the row.  So it is seen from outside, with the way of the request and the devices' own queue in it, in whole
milliseconds rounded up.

Relies on the whole chain (`bench.chain`).  Deliberately not here: a line with a baud rate, where a device
waits for those before it as long as their reads take (`bench.serialline`).
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from bench.chain import Chain, ChainPlan, Site
from bench.gauge import cpu_s, memory_mib, waited_s
from bench.steady import SETTLE_S, percentile

DEVICES: Final = 500
EVERY_MS: Final = 1000
PER_LINE: Final = 10
"""Devices on a line that is shared."""


@dataclass(frozen=True, slots=True)
class FleetWindow:
    """One window of a fleet."""

    rows: int
    p50_ms: float
    p99_ms: float
    worst_ms: float
    missed_ticks: int
    doubled: int
    holes: int
    pss_mib: float
    own_mib: float
    cpu: float
    """Share of a core that the agent took."""
    waited: float
    """Share of the window in which its main thread was ready to run and had no core."""


@dataclass(slots=True)
class Fleet:
    """One way of wiring and timing, measured in every round."""

    name: str
    plan: ChainPlan
    windows: list[FleetWindow] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Fleets:
    """The three ways."""

    alone: Fleet
    """A line each, all due at one instant."""
    shared: Fleet
    """Ten on a line, all due at one instant."""
    spread: Fleet
    """A line each, and a phase each."""

    @property
    def all(self) -> Sequence[Fleet]:
        """All of them, as they are told."""
        return (self.alone, self.shared, self.spread)


def measure_fleets(
    site: Site, seconds: float, number: int, say: Callable[[str], None], devices: int = DEVICES
) -> Fleets:
    """Measure each way once a round."""
    lines = devices // PER_LINE
    fleets = Fleets(
        Fleet(f"{devices} lines", ChainPlan(EVERY_MS, devices)),
        Fleet(f"{lines} lines of {PER_LINE}", ChainPlan(EVERY_MS, lines * PER_LINE, per_line=PER_LINE)),
        Fleet(f"{devices} lines, with phases", ChainPlan(EVERY_MS, devices, spread=True)),
    )
    for turn in range(number):
        for fleet in fleets.all:
            with Chain(site, fleet.plan) as chain:
                window = _window(chain, seconds)
            fleet.windows.append(window)
            say(f"round {turn + 1}: {fleet.name}: {told(window)}")
    return fleets


def _window(chain: Chain, seconds: float) -> FleetWindow:
    chain.wait_flowing()
    time.sleep(SETTLE_S)
    pid, begun = chain.agent.pid, time.monotonic()
    before, spent, waited = chain.counter.ask(reset=True), cpu_s(pid), waited_s(pid)
    time.sleep(seconds)
    after, lasted = chain.counter.ask(), time.monotonic() - begun
    memory = memory_mib(pid)
    return FleetWindow(
        rows=after.rows - before.rows,
        p50_ms=percentile(after.start_ms, 0.5),
        p99_ms=percentile(after.start_ms, 0.99),
        worst_ms=max(after.start_ms, default=0),
        missed_ticks=sum(after.gaps.values()) - sum(before.gaps.values()),
        doubled=after.doubled_rows - before.doubled_rows,
        holes=after.uncovered + after.counter_holes,
        pss_mib=memory["pss"],
        own_mib=memory["own"],
        cpu=(cpu_s(pid) - spent) / lasted,
        waited=(waited_s(pid) - waited) / lasted,
    )


def told(window: FleetWindow) -> str:
    """Return a window as one line."""
    return (
        f"{window.rows} rows, {window.missed_ticks} ticks missed, requests {window.p50_ms:.0f} ms (p50), "
        f"{window.p99_ms:.0f} ms (p99), {window.worst_ms:.0f} ms (worst) after the tick, "
        f"agent {window.cpu:.1%} of a core, waited {window.waited:.1%}, {window.pss_mib:.1f} MiB"
    )
