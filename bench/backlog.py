"""What a backlog costs: 5 million readings wait in the store, and devices go on being polled.

Two ratios, each of medians over interleaved rounds, and both of the whole agent (every part a process of
its own, mutual TLS, FULL), not of SQLite alone:

* *insert*: rows committed a second while the backlog drains, by rows committed a second of an empty store
  that drains nothing; both at 250,000 points/s polled. The time is that of the draining itself, from the
  first message that arrives to the last row that waited. Counted are the rows due in that time and committed
  at most 0.25 s after it.
* *drain*: readings a second of the backlog lane, from its first row to its last, with 5 million waiting,
  by the same with a small backlog waiting; both at 2,500 points/s polled.

The backlog is made once by `bench.fill` and copied for each run.
"""

import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from bench.chain import POINTS, ROOT, Chain, ChainPlan, Site, rows_in
from bench.counter import Counted
from cli.process import ProcessFailed, wait_until

FAST_MS: Final = 10
SLOW_MS: Final = 1000
SMALL: Final = 1_000_000
"""Readings of the small backlog: enough to be timed (0.2 s), a fifth of the large one."""
FILL_TIMEOUT_S: Final = 120.0
DRAIN_TIMEOUT_S: Final = 60.0
SHORTEST_S: Final = 1.0
IN_TIME_S: Final = 0.25
"""A row counts as inserted when it was committed so long after its time: commits come ten times a second."""


@dataclass(slots=True)
class Backlog:
    """Rates in readings/s, one a round."""

    waiting: int
    insert_empty: list[float] = field(default_factory=list)
    insert_draining: list[float] = field(default_factory=list)
    missed_empty: list[float] = field(default_factory=list)
    """Share of the ticks."""
    missed_draining: list[float] = field(default_factory=list)
    drained_beside: list[float] = field(default_factory=list)
    """How fast the backlog went while 250,000 points/s were polled."""
    drain_small: list[float] = field(default_factory=list)
    drain_large: list[float] = field(default_factory=list)

    @property
    def insert_ratio(self) -> float:
        """Insert rate while draining by that of the empty store."""
        return statistics.median(self.insert_draining) / statistics.median(self.insert_empty)

    @property
    def drain_ratio(self) -> float:
        """Drain rate of the large backlog by that of the small one."""
        return statistics.median(self.drain_large) / statistics.median(self.drain_small)


@dataclass(frozen=True, slots=True)
class Stores:
    """Stores with readings that wait, by the interval of their groups."""

    fast: Path
    slow: Path
    small: Path


def prepare(site: Site, readings: int, say: Callable[[str], None]) -> Stores:
    """Fill the stores to begin with."""
    begun = time.monotonic()
    stores = Stores(
        fast=_filled(site, "fast", FAST_MS, readings),
        slow=_filled(site, "slow", SLOW_MS, readings),
        small=_filled(site, "small", SLOW_MS, min(SMALL, readings // 2)),
    )
    size = sum(path.stat().st_size for path in stores.slow.iterdir())
    say(f"backlog: {readings:,} readings in {size / 1e6:.0f} MB, made in {time.monotonic() - begun:.0f} s")
    return stores


def _filled(site: Site, name: str, every_ms: int, readings: int) -> Path:
    store = site.directory / f"backlog-{name}"
    shutil.rmtree(store, ignore_errors=True)
    with Chain(site, ChainPlan(every_ms, counter=False, broker=False)) as chain:
        chain.agent.stop()
        command = [
            sys.executable,
            "-m",
            "bench.fill",
            "-c",
            str(chain.config_path),
            "--readings",
            str(readings),
        ]
        run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=FILL_TIMEOUT_S)
        if run.returncode:
            raise ProcessFailed(f"the store could not be filled: {run.stderr.strip()[-500:]}")
        shutil.copytree(chain.data_dir, store)
    return store


def measure_backlog(
    site: Site, stores: Stores, readings: int, number: int, seconds: float, say: Callable[[str], None]
) -> Backlog:
    """Measure both ratios, `number` rounds, interleaved."""
    found = Backlog(readings)
    for turn in range(number):
        rate, missed, _ = _inserting(site, None, seconds)
        found.insert_empty.append(rate)
        found.missed_empty.append(missed)
        rate, missed, drained = _inserting(site, stores.fast, seconds)
        found.insert_draining.append(rate)
        found.missed_draining.append(missed)
        found.drained_beside.append(drained)
        found.drain_small.append(_draining(site, stores.small))
        found.drain_large.append(_draining(site, stores.slow))
        say(
            f"backlog round {turn + 1}: inserts {found.insert_empty[-1]:,.0f} empty, "
            f"{found.insert_draining[-1]:,.0f} readings/s while {drained:,.0f}/s drain "
            f"({missed:.1%} of the ticks missed); a backlog of {readings:,} readings drains at "
            f"{found.drain_large[-1]:,.0f}/s, a small one at {found.drain_small[-1]:,.0f}/s"
        )
    return found


def _inserting(site: Site, store: Path | None, seconds: float) -> tuple[float, float, float]:
    """Return readings/s committed, the share of ticks missed, and readings/s drained.

    With a store: from the first arrival until all that waited is drained, else for so many seconds.
    """
    with Chain(site, ChainPlan(FAST_MS, store=store)) as chain:
        wait_until(lambda: chain.counter.ask().rows > 0, 20.0, lambda: "nothing arrived", 0.01)
        polled, began_ms = chain.field.answered(), _now_ms()
        if store is None:
            time.sleep(seconds)
        else:
            _wait_drained(chain, rows_in(store))
            time.sleep(max(0.0, SHORTEST_S - (_now_ms() - began_ms) / 1000))
        ended_ms = _now_ms()
        met = (chain.field.answered() - polled) * POINTS / chain.plan.offered * 1000 / (ended_ms - began_ms)
        time.sleep(IN_TIME_S)
        rows = chain.rows_due_in(began_ms, ended_ms)
        after = chain.counter.ask()
    per_s = rows * POINTS * 1000 / (ended_ms - began_ms)
    return per_s, max(0.0, 1 - met), _drained_per_s(after)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _draining(site: Site, store: Path) -> float:
    """Return readings/s of the backlog lane from the first to the last, while hardly anything is polled."""
    with Chain(site, ChainPlan(SLOW_MS, store=store)) as chain:
        _wait_drained(chain, rows_in(store))
        return _drained_per_s(chain.counter.ask())


def _wait_drained(chain: Chain, rows: int) -> None:
    wait_until(
        lambda: chain.counter.ask().backlog_rows >= rows,
        DRAIN_TIMEOUT_S,
        lambda: f"{chain.counter.ask().backlog_rows} of {rows} rows drained in {DRAIN_TIMEOUT_S:g} s",
        0.05,
    )


def _drained_per_s(counted: Counted) -> float:
    return counted.backlog_points / max(counted.backlog_to - counted.backlog_from, 0.001)
