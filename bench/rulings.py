"""What policies cost, each round in a process of its own: decisions (`policies.bench`), and believing what
a utility publishes (`policies.trust.bench`).

Not here: what they measure and how (those modules), and commands (`bench.command`).
"""

import json
import subprocess
import sys
from collections.abc import Callable
from typing import Final

from bench.field import ROOT
from cli.process import ProcessFailed

GRANTS: Final = 1000
ENTITIES: Final = 50
ROWS: Final = 5000
TIMEOUT_S: Final = 300.0

Figures = dict[str, float]


def measure_decisions(decisions: int, number: int, say: Callable[[str], None]) -> list[Figures]:
    """Return the figures of so many rounds with 1,000 grants."""
    found = []
    for _ in range(number):
        found.append(_run("policies.bench", "--grants", str(GRANTS), "--decisions", str(decisions)))
        last = found[-1]
        say(
            f"decisions: p99 {last['allowed_p99_us']:.0f} us allowed, {last['refused_p99_us']:.0f} refused, "
            f"by CPU {last['allowed_cpu_p99_us']:.0f} and {last['refused_cpu_p99_us']:.0f}"
        )
    return found


def measure_refresh(
    entities: int, grants: int, repeat: int, number: int, say: Callable[[str], None]
) -> list[Figures]:
    """Return the figures of so many rounds."""
    found = []
    for _ in range(number):
        sizes = ("--entities", str(entities), "--grants", str(grants), "--repeat", str(repeat))
        found.append(_run("policies.trust.bench", *sizes))
        last = found[-1]
        say(
            f"refresh: {last['first_refresh_ms']:.0f} ms the first time, {last['refresh_one_row_ms']:.0f} ms "
            f"with one row changed, {last['held_mib']:.1f} MiB held"
        )
    return found


def _run(module: str, *arguments: str) -> Figures:
    run = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
    )
    if run.returncode:
        raise ProcessFailed(f"{module} failed: {run.stderr.strip()[-500:]}")
    found: Figures = json.loads(run.stdout.splitlines()[-1])
    return found
