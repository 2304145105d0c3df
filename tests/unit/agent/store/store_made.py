"""Stores for tests: opened in a directory, filled with rows, killed, and read by plain SQLite.

`contents` shares no code with the store beyond the codec: it is the second opinion.
"""

import asyncio
import contextlib
import json
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from agent.store.store import Birth, Store, StoreOptions
from core.codec import row_body
from core.manifest import Manifest
from tests.support.gateway_double import T0, group

EVERY_MS = 1000
LONG_S = 3600.0
"""A commit window in which nothing is committed unless asked for."""
DEADLINE_S = 30.0


def manifest(*numbers: int, every_ms: int = EVERY_MS, points: int = 3) -> Manifest:
    """A manifest of groups with these numbers, one device each."""
    return Manifest(
        "gw-0001",
        tuple(group(number, f"meter-{number}", points, every_ms=every_ms) for number in numbers or (1, 2)),
    )


def birth(clock: str = "synchronised", now_ms: int | None = None) -> Birth:
    """A start just before T0, so that T0 is the first tick due."""
    return Birth(T0 - 1 if now_ms is None else now_ms, "boot-1", clock, "portico test")


@contextlib.asynccontextmanager
async def opened(
    directory: Path,
    groups: Manifest | None = None,
    *,
    window_s: float = LONG_S,
    quota_bytes: int = 1 << 40,
    reserve_bytes: int = 4096,
    keep_s: float = 1e9,
    born: Birth | None = None,
) -> AsyncIterator[Store]:
    """A store for the block, closed in order at its end."""
    options = StoreOptions(directory, window_s, quota_bytes, reserve_bytes, keep_s)
    async with Store.open(options, born or birth(), groups or manifest()) as store:
        yield store


def add(store: Store, grp: int, tick: int, reason: str = "overrun", values: int = 3) -> bool:
    """Append a row whose values tell its tick."""
    body = row_body(tick, grp, [7], [tick % 1_000_003 + at for at in range(values)], {})
    return store.append_row(grp, tick, values, body, time.monotonic(), reason)


async def committed(store: Store) -> int:
    """Commit what waits; return the largest id."""
    store.data.writer.hurry()
    return await store.call(store.data, lambda file: file.top)


async def settled_rows(store: Store) -> None:
    """Commit what waits, and let the housekeeping do what it wants after that."""
    await committed(store)
    for _ in range(20):
        await store.call(store.data, lambda file: None)


async def beaten(store: Store) -> None:
    """Let the heartbeat be noted now."""
    store._housekeeper._next_beat = 0.0
    for _ in range(2):  # the note is made between two jobs
        await store.call(store.data, lambda file: None)
    await store.call(store.control, lambda file: None)


async def until(true: Callable[[], bool], what: str) -> None:
    """Wait until something holds."""
    deadline = time.monotonic() + DEADLINE_S
    while not true():
        assert time.monotonic() < deadline, f"{what}: not within {DEADLINE_S} s"
        await asyncio.sleep(0.005)


async def files_of(store: Store) -> dict[Path, bytes]:
    """Read the files as they are now, from inside the writers, so that no commit is half seen."""
    found: dict[Path, bytes] = {}
    for lane in (store.control, store.data):
        path = lane.file.path
        parts = [path, path.with_name(path.name + "-wal")]
        await store.call(
            lane,
            lambda _, parts=parts: found.update({one: one.read_bytes() for one in parts if one.exists()}),
        )
    return found


def put_back(files: dict[Path, bytes]) -> None:
    """Write files as they were into the same inodes, as if nothing had happened since."""
    for path, content in files.items():
        path.with_name(path.name + "-shm").unlink(missing_ok=True)
        path.write_bytes(content)


@dataclass
class Contents:
    """What a directory's readings hold, by plain SQL."""

    epochs: list[tuple[str, int]] = field(default_factory=list)
    """(epoch, base) in order."""
    rows: list[tuple[int, int, int]] = field(default_factory=list)
    """(id, group, tick) in order."""
    records: list[tuple[int, dict[str, object]]] = field(default_factory=list)
    """(id, record) of all others but manifests."""

    def ticks(self, grp: int) -> list[int]:
        return [tick for _, found, tick in self.rows if found == grp]

    def gaps(self, grp: int | None = None) -> list[dict[str, object]]:
        return [
            record
            for _, record in self.records
            if record["type"] == "gap" and (grp is None or record["group"] == grp)
        ]

    def gap_ticks(self, grp: int) -> list[int]:
        """Every tick that lies in a Gap of a group; twice if it lies in two."""
        return [tick for gap in self.gaps(grp) for tick in _ticks(gap)]

    def starts(self) -> list[dict[str, object]]:
        return [record for _, record in self.records if record["type"] == "start"]


def _ticks(gap: dict[str, object]) -> Iterator[int]:
    first, last, many = gap["first_tick"], gap["last_tick"], gap["ticks"]
    assert isinstance(first, int)
    assert isinstance(last, int)
    found = range(first, last + 1, EVERY_MS)
    assert len(found) == many
    return iter(found)


def contents(directory: Path, name: str = "readings.db") -> Contents:
    found = Contents()
    with contextlib.closing(sqlite3.connect(directory / name)) as db:
        found.epochs = db.execute("SELECT epoch, base FROM epoch ORDER BY base").fetchall()
        for id_, grp, tick, body in db.execute("SELECT id, grp, tick, body FROM record ORDER BY id"):
            if grp > 0:
                found.rows.append((id_, grp, tick))
            elif grp == 0:
                found.records.append((id_, json.loads(body)))
    return found


def at(number: int) -> int:
    """Tick number `number` of a test."""
    return T0 + number * EVERY_MS
