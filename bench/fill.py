"""Fill a store with readings that wait: through the store's own door, as if they had been polled.

`python -m bench.fill -c gateway.toml --readings 5000000` opens the store that the configuration names and
appends noisy rows of every group, tick by tick on its grid, until so many readings are committed. Their
last tick is the present, so that no gap but that of a short stop follows. Their device counter is 0: no
device answered.
"""

import argparse
import asyncio
import random
import time
from pathlib import Path
from typing import Final

from agent.app import Agent
from agent.config import load_config
from core.codec import row_body

WALK: Final = (-7, -4, -2, -1, 0, 0, 1, 2, 4, 7)
"""Steps of a point between two ticks, in its resolution: restless, as the field of the benchmark is."""
POINTS: Final = 50
VALUES: Final = POINTS + 2
"""With the time and the counter of the device; groups of other devices are left alone."""
FULL: Final = 8000
"""Rows that may wait for the disk; more would be refused."""
COMMIT_TIMEOUT_S: Final = 30.0


async def fill(config_path: Path, readings: int) -> int:
    """Return how many rows were committed."""
    agent = Agent(load_config(config_path))
    groups = [one.group for one in agent.site.groups if len(one.points) == VALUES]
    rounds = -(-readings // (POINTS * len(groups)))
    every = groups[0].every_ms
    first = (time.time_ns() // 1_000_000 // every - rounds) * every
    state = {group.group: [random.randrange(1000, 30000) for _ in range(POINTS)] for group in groups}
    rows = 0
    committed = asyncio.Event()
    async with agent.store as store:
        store.data.listeners.append(lambda _: committed.set())
        for turn in range(rounds):
            tick = first + turn * every
            for group in groups:
                values = [
                    v + d for v, d in zip(state[group.group], random.choices(WALK, k=POINTS), strict=True)
                ]
                state[group.group] = values
                body = row_body(tick, group.group, [3], [*values, tick + 2, 0], {})
                while store.data.writer.waiting_rows >= FULL:
                    committed.clear()
                    await asyncio.wait_for(committed.wait(), COMMIT_TIMEOUT_S)
                if not store.append_row(group.group, tick, len(values) + 2, body, time.monotonic(), ""):
                    raise RuntimeError("the store refused a row")
                rows += 1
            await asyncio.sleep(0)
    return rows


def main() -> None:
    """Fill and print the number of readings."""
    parser = argparse.ArgumentParser(prog="python -m bench.fill", description="Fill a store with readings.")
    parser.add_argument("-c", "--config", type=Path, required=True)
    parser.add_argument("--readings", type=int, required=True)
    options = parser.parse_args()
    print(asyncio.run(fill(options.config, options.readings)) * POINTS)


if __name__ == "__main__":
    main()
