"""Requests a second of our link, beside libmodbus in C and stock pymodbus, on 1 and on 50 connections.

All ask the same fast server (`bench/fastserver.c`) in the same run, in interleaved rounds, each a process of
its own: libmodbus with a thread for each connection (`bench/tcpmaster.c`), ours and pymodbus in one event
loop (`bench.asker`).  On one connection the figure is that of a round trip, two wake-ups across cores; on
many it is that of the CPU, so the CPU time a request stands beside it.
"""

import json
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from bench.field import ROOT, Field, compiled
from cli.process import ProcessFailed

CONNECTIONS: Final = (1, 50)
COUNTS: Final = (10, 100)
"""Registers a read."""
LIBMODBUS: Final = "libmodbus"
CLIENTS: Final = (LIBMODBUS, "ours", "pymodbus")


@dataclass(slots=True)
class Asked:
    """One client on so many connections, one figure a round."""

    client: str
    connections: int
    count: int
    per_s: list[float] = field(default_factory=list)
    cpu_us: list[float] = field(default_factory=list)
    """CPU time a request, user and system, of the client alone."""
    errors: int = 0

    @property
    def rate(self) -> float:
        """Median of the requests a second."""
        return statistics.median(self.per_s)


def measure_requests(directory: Path, seconds: float, number: int, say: Callable[[str], None]) -> list[Asked]:
    """Measure every client once a round."""
    master = compiled(ROOT / "bench" / "tcpmaster.c", "modbus", "pthread")
    found = [
        Asked(client, connections, count)
        for connections in CONNECTIONS
        for count in COUNTS
        for client in CLIENTS
    ]
    directory.mkdir(parents=True, exist_ok=True)
    field_ = Field(directory, max(CONNECTIONS), units=0)
    field_.start()
    try:
        for turn in range(number):
            for one in found:
                _ask(master, one, seconds, field_.ports[: one.connections])
                say(f"round {turn + 1}: {told(one)}")
    finally:
        field_.process.kill9()
    return found


def ratio(found: Sequence[Asked], connections: int, count: int) -> float | None:
    """Return our rate by that of libmodbus: the median of the rounds' own ratios."""
    rates = {one.client: one.per_s for one in found if (one.connections, one.count) == (connections, count)}
    if not rates:
        return None
    return statistics.median(
        ours / theirs for ours, theirs in zip(rates["ours"], rates[LIBMODBUS], strict=True)
    )


def _ask(master: Path, one: Asked, seconds: float, ports: list[int]) -> None:
    what = [str(one.count), str(seconds), *map(str, ports)]
    program = [str(master)] if one.client == LIBMODBUS else [sys.executable, "-m", "bench.asker", one.client]
    run = subprocess.run(
        [*program, *what], capture_output=True, text=True, cwd=ROOT, timeout=seconds + 60, check=False
    )
    if run.returncode:
        raise ProcessFailed(f"{one.client} ended: {run.stderr.strip()[-500:]}")
    asked = json.loads(run.stdout)
    one.per_s.append(asked["requests"] / asked["seconds"])
    one.cpu_us.append(asked["cpu_s"] / max(asked["requests"], 1) * 1e6)
    one.errors += asked["errors"]


def told(one: Asked) -> str:
    """Return the last round of a client as one line."""
    return (
        f"{one.client}, {one.connections} connections, {one.count} registers: "
        f"{one.per_s[-1]:,.0f} requests/s, {one.cpu_us[-1]:.0f} us of CPU each"
        + (f", {one.errors} ERRORS" if one.errors else "")
    )
