"""A steady rate: what goes in, what comes out, and what it costs over one window of time.

A rate is *kept up with* when everything polled arrived, the way from the device to the reader holds no more
at the end of the window than at its beginning, and hardly a tick of the grid was missed; it is *held* when
none was (no Gap record came). `search` looks for the highest rate kept up with, by adding devices on the
shortest grid of 10 ms.
"""

import statistics
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

from bench.chain import POINTS, Chain, ChainPlan, Collected, Site
from bench.counter import Counted
from bench.gauge import Carried, cpu_s, memory_mib, waited_s, written_bytes
from cli.process import wait_until

SETTLE_S: Final = 2.0
"""After the first readings, before a window begins: connections stand, the manifest has gone."""
SHORTEST_MS: Final = 10
"""Shortest interval that a gateway takes."""
MORE_DEVICES: Final = (50, 60, 80, 100, 120, 140, 160, 200)
"""Devices on the shortest grid: 250,000 to 1,000,000 points/s."""
HARDLY: Final = 0.001
"""Share of the ticks that a rate may miss and still count as kept up with, on a machine that is shared."""
FAILURES: Final = 2
"""So many steps not kept up with, one after the other, and the search goes no further."""
CONFIRMATIONS: Final = 2
"""So many of the highest steps are tried for longer; the time of a run is bounded."""
KEEPS_UP: Final = 0.98
"""Our collector keeps up when its books grow at this share of the counter's rate (its figures are old)."""
IN_FLIGHT_S: Final = 0.5
"""The way may hold so much more at the end than at the beginning: messages go ten times a second."""
LATE_S: Final = 0.01
HEARTBEAT_S: Final = 0.005


@dataclass(frozen=True, slots=True)
class Window:
    """One window of a steady rate. Points/s; CPU as a share of one core."""

    seconds: float
    offered: float
    polled: float
    """By the devices' own count."""
    counted: float
    """Arrived at the light counter."""
    collected: float | None
    """Arrived in the books of our collector."""
    missed_ticks: int
    due_ticks: int
    grown_s: float
    """By how much the way from the devices to the readers became longer, in seconds of the rate."""
    doubled: int
    holes: int
    """Answers that never arrived, and sequences that no message covered: must be 0."""
    flagged: int
    cpu: dict[str, float]
    cpu_s_per_100k: float
    wire: float | None
    """Payload bytes of the agent's TLS connection a reading, both directions."""
    wire_with_headers: float | None
    wire_down: float | None
    """Of `wire`, what came down: confirmations and acknowledgements."""
    disk: float
    """Bytes written a reading."""
    pss_mib: float
    own_mib: float
    tick_p50_ms: float
    tick_p99_ms: float
    answer_p50_ms: float
    answer_p99_ms: float
    late: int
    """How often a process that sleeps was woken more than 10 ms late: what the machine itself missed."""
    waited: float
    """Share of the window in which the agent's main thread was ready to run and had no core."""
    polled_rows: int
    rows: int

    @property
    def kept_up(self) -> bool:
        """Tell whether all that was polled arrived, nothing piled up, and hardly a tick was missed."""
        arrived = self.counted > 0 and self.holes == 0 and self.grown_s < IN_FLIGHT_S
        stored = self.collected is None or self.collected >= KEEPS_UP * self.counted
        return arrived and stored and self.missed_ticks <= HARDLY * self.due_ticks

    @property
    def held(self) -> bool:
        """Tell whether the rate was held: it kept up, and not one tick was missed."""
        return self.kept_up and self.missed_ticks == 0


class Lateness:
    """Counts how late a sleeping thread is woken, as a measure of the machine and not of us."""

    def __init__(self) -> None:
        self.late = 0
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "Lateness":
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        before = time.monotonic()
        while not self._stopping.is_set():
            time.sleep(HEARTBEAT_S)
            now = time.monotonic()
            self.late += now - before - HEARTBEAT_S > LATE_S
            before = now


@dataclass(frozen=True, slots=True)
class _Look:
    at: float
    answered: int
    counted: Counted
    collected: Collected
    cpu: dict[str, float]
    waited_s: float
    written: int
    carried: Carried | None


def _look(chain: Chain, *, reset: bool) -> _Look:
    # The device first, the readers after it: what is in between is never counted as lost.
    at = time.monotonic()
    answered = chain.field.answered()
    return _Look(
        at=at,
        answered=answered,
        counted=chain.counter.ask(reset=reset),
        collected=chain.collected(),
        cpu={name: cpu_s(pid) for name, pid in chain.pids().items()},
        waited_s=waited_s(chain.agent.pid),
        written=written_bytes(chain.agent.pid),
        carried=chain.sockets().look(),
    )


def measure(chain: Chain, seconds: float) -> Window:
    """Measure one window of a chain that runs."""
    chain.wait_flowing()
    time.sleep(SETTLE_S)
    first = _look(chain, reset=True)
    with Lateness() as lateness:
        time.sleep(seconds)
    last = _look(chain, reset=False)
    memory = memory_mib(chain.agent.pid)
    return _window(chain, first, last, memory["pss"], memory["own"], lateness.late)


def _window(chain: Chain, first: _Look, last: _Look, pss: float, own: float, late: int) -> Window:
    plan, seconds = chain.plan, last.at - first.at
    polled = last.answered - first.answered
    before, after = first.counted, last.counted
    rows = after.rows - before.rows
    readings = max(rows * POINTS, 1)
    cpu = {name: (last.cpu[name] - spent) / seconds for name, spent in first.cpu.items()}
    due = round(seconds * 1000 / plan.every_ms) * plan.devices
    gaps = sum(after.gaps.values()) - sum(before.gaps.values())
    carried = (last.carried, first.carried)
    wire = headers = down = None
    if carried[0] is not None and carried[1] is not None:
        wire = (carried[0].payload - carried[1].payload) / readings
        headers = (carried[0].with_headers - carried[1].with_headers) / readings
        down = (carried[0].received - carried[1].received) / readings
    return Window(
        seconds=seconds,
        offered=plan.offered,
        polled=polled * POINTS / seconds,
        counted=rows * POINTS / max(after.last_at - before.last_at, 0.001),
        collected=_collected(first.collected, last.collected) if plan.collector else None,
        missed_ticks=gaps,
        due_ticks=due,
        grown_s=(polled - rows) * POINTS / plan.offered,
        doubled=after.doubled_rows - before.doubled_rows,
        holes=after.uncovered + after.counter_holes,
        flagged=after.flagged_rows - before.flagged_rows,
        cpu=cpu,
        cpu_s_per_100k=(last.cpu["agent"] - first.cpu["agent"]) / readings * 1e5,
        wire=wire,
        wire_with_headers=headers,
        wire_down=down,
        disk=(last.written - first.written) / readings,
        pss_mib=pss,
        own_mib=own,
        tick_p50_ms=percentile(after.tick_ms, 0.5),
        tick_p99_ms=percentile(after.tick_ms, 0.99),
        answer_p50_ms=percentile(after.answer_ms, 0.5),
        answer_p99_ms=percentile(after.answer_ms, 0.99),
        late=late,
        waited=(last.waited_s - first.waited_s) / seconds,
        polled_rows=polled,
        rows=rows,
    )


def _collected(first: Collected, last: Collected) -> float:
    """Return the points/s into the books, by the collector's own clock: its figures are a second old."""
    return (last.rows - first.rows) * POINTS / max(last.at - first.at, 0.001)


def percentile(histogram: dict[int, int], share: float) -> float:
    """Return the smallest key at or below which ``share`` of the counts lie; 0 for none."""
    wanted, seen = share * sum(histogram.values()), 0
    for key in sorted(histogram):
        seen += histogram[key]
        if seen >= wanted:
            return float(key)
    return 0.0


def median(values: Iterable[float | None]) -> float | None:
    """Return the median of what is known, None when nothing is."""
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None


@dataclass(slots=True)
class Setting:
    """One chain measured in every round."""

    name: str
    plan: ChainPlan
    seconds: float
    windows: list[Window] = field(default_factory=list)

    @property
    def held(self) -> int:
        """In how many rounds the rate was held."""
        return sum(one.held for one in self.windows)


def rounds(site: Site, settings: list[Setting], number: int, say: Callable[[str], None]) -> None:
    """Measure every setting once a round, so that a slow minute of the machine meets all of them."""
    for turn in range(number):
        for setting in settings:
            with Chain(site, setting.plan) as chain:
                window = measure(chain, setting.seconds)
            setting.windows.append(window)
            say(f"round {turn + 1}: {setting.name}: {told(window)}")


@dataclass(frozen=True, slots=True)
class Highest:
    """The highest rate that was kept up with, and what happened above it."""

    window: Window | None
    above: Window | None
    in_books: bool | None
    """With the collector: every row committed was in the books after the end."""


def search(
    site: Site,
    name: str,
    start: tuple[int, ...],
    collector: bool,
    step_s: float,
    confirm_s: float,
    say: Callable[[str], None],
) -> Highest:
    """Return the highest rate kept up with: in steps upwards, then for `confirm_s` from the top down."""
    passed: list[int] = []
    above: Window | None = None
    failed = 0
    for devices in start:
        window, _ = _once(site, devices, collector, step_s)
        say(f"{name}: {devices} devices: {told(window)}")
        if window.kept_up:
            passed.append(devices)
            failed = 0
        else:
            above = window if failed == 0 else above
            failed += 1
        if failed == FAILURES:
            break
    for devices in passed[: -1 - CONFIRMATIONS : -1]:
        window, whole = _once(site, devices, collector, confirm_s)
        say(f"{name}: {devices} devices for {confirm_s:g} s: {told(window)}")
        if window.kept_up:
            return Highest(window, above, whole)
        above = window
    return Highest(None, above, None)


def _once(site: Site, devices: int, collector: bool, seconds: float) -> tuple[Window, bool | None]:
    plan = ChainPlan(SHORTEST_MS, devices=devices, counter=True, collector=collector)
    with Chain(site, plan) as chain:
        window = measure(chain, seconds)
        if not collector:
            return window, None
        chain.agent.stop()
        rows = chain.rows_committed()
        wait_until(lambda: chain.in_books() >= rows, 10.0, lambda: "rows are missing in the books", 0.2)
        return window, chain.in_books() == rows


def told(window: Window) -> str:
    """Return a window as one line."""
    readers = f"{window.counted:,.0f}"
    if window.collected is not None:
        readers += f" counted, {window.collected:,.0f} in the books"
    return (
        f"{window.polled:,.0f} polled, {readers} points/s, {window.missed_ticks} of {window.due_ticks} ticks "
        f"missed, agent {window.cpu['agent']:.0%} of a core, p99 {window.tick_p99_ms:.0f} ms, "
        f"waited {window.waited:.1%} for a core"
        + ("  HELD" if window.held else "" if window.kept_up else "  NOT KEPT UP")
    )
