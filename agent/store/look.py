"""Looking into a store from outside, also while the agent runs: short reads, nothing changed.

Relies on :mod:`agent.store.recordfile` for reading records with their checksums.
Not here: what is printed (``agent.store_cli``), judging (``agent.store.verify``).
"""

import contextlib
import fcntl
import os
import sqlite3
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Final

import msgspec

from agent.store.connection import connect, file_bytes, translated, wal_of
from agent.store.opening import AUDIT, CONTROL, READINGS
from agent.store.recordfile import Epoch, RouteState, Stored, read_epochs, read_records, read_routes
from agent.store.room import ASIDE
from core.codec import row_bytes
from core.errors import ConfigError, StoreCorrupt, WireError
from core.manifest import Group, Manifest, decode_manifest, shown
from core.ownership import owners_at
from core.records import Row

CHUNK: Final = 1000
"""Records a read: each is a transaction of its own, so that the log can be folded back in between."""
_row = msgspec.json.Decoder(Row)


@dataclass(frozen=True, slots=True)
class Seen:
    """One value as a person reads it."""

    device: str
    point: str
    unit: str
    value: Decimal | str | bool | None
    quality: tuple[str, ...]
    """Reasons; empty is good."""
    answered_ms: int
    """When the answer came, UTC, ms since 1970."""


@dataclass(frozen=True, slots=True)
class SeenRow:
    """One row with its meaning."""

    epoch: str
    sequence: int
    group: Group
    tick: int
    owners: tuple[str, ...]
    values: tuple[Seen, ...]


@dataclass(frozen=True, slots=True)
class GroupCount:
    """How much of a group there is."""

    key: str
    device: str
    every_ms: int
    rows: int
    first_tick: int
    last_tick: int


class Look:
    """A directory seen read-only; use as a context manager."""

    def __init__(self, directory: Path) -> None:
        """Open; raises ConfigError when the directory is no store, StoreError when it cannot be read."""
        self.directory = directory
        self.path = directory / READINGS
        if not self.path.is_file():
            raise ConfigError(
                f"{directory} is no store: there is no {READINGS} in it; give the data_dir of a gateway"
            )
        with self.reading():
            self.db = read_only(self.path)
        with self.reading():
            self._meanings()

    def __enter__(self) -> "Look":
        return self

    def __exit__(self, *exc: object) -> None:
        self.db.close()

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        """Turn SQLite's errors into ours."""
        try:
            yield
        except sqlite3.Error as error:
            raise translated(error, self.path) from error

    def _meanings(self) -> None:
        self._newest = self._newest_now()
        self.epochs = read_epochs(self.db)
        self.spans: list[tuple[int, str]] = self.db.execute(
            "SELECT from_id, hash FROM manifest_span ORDER BY from_id"
        ).fetchall()
        self.manifests: dict[str, Manifest] = {}
        for hash_, body in self.db.execute("SELECT hash, body FROM manifest").fetchall():
            try:
                manifest = decode_manifest(body)
            except WireError as error:
                raise StoreCorrupt(f"{self.path}: manifest {hash_}: {error}") from error
            self.manifests[hash_] = manifest
        self._groups = {hash_: found.group_by_number() for hash_, found in self.manifests.items()}
        self._begins = [begin for begin, _ in self.spans]
        self._bases = [epoch.base for epoch in self.epochs]

    def _newest_now(self) -> tuple[int | None, int | None]:
        found: tuple[int | None, int | None] = self.db.execute(
            "SELECT (SELECT max(base) FROM epoch), (SELECT max(from_id) FROM manifest_span)"
        ).fetchone()
        return found

    def edges(self) -> tuple[int, int]:
        """Return the smallest and the largest id; (1, 0) when there is none.

        What records up to the largest mean is known after it: while we look the agent may be started
        again, and it may learn another plan in the middle of an epoch.
        """
        with self.reading():
            low = self.db.execute("SELECT min(id) FROM record").fetchone()[0]
            top = self.db.execute("SELECT max(id) FROM record").fetchone()[0]
            if self._newest_now() != self._newest:
                self._meanings()
        return low or 1, top or 0

    def records(self, first: int, last: int) -> Iterator[Stored]:
        """Yield the records with ids in first..last, a short read at a time."""
        while first <= last:
            with self.reading():
                found = read_records(self.db, first, last, CHUNK)
            yield from found
            if len(found) < CHUNK:
                return
            first = found[-1].id + 1

    def epoch_of(self, id_: int) -> Epoch | None:
        """Return the epoch of an id that lies within the edges."""
        at = bisect_right(self._bases, id_ - 1) - 1
        return self.epochs[at] if at >= 0 else None

    def group_of(self, id_: int, grp: int) -> Group | None:
        """Return what a group number means at an id."""
        at = bisect_right(self._begins, id_) - 1
        return self._groups.get(self.spans[at][1], {}).get(grp) if at >= 0 else None

    def gateway_of(self, id_: int) -> str:
        """Return whose row an id is; empty when its manifest is missing."""
        at = bisect_right(self._begins, id_) - 1
        manifest = self.manifests.get(self.spans[at][1]) if at >= 0 else None
        return "" if manifest is None else manifest.gateway

    def row(self, stored: Stored) -> SeenRow:
        """Return a row with its meaning; raises StoreCorrupt when it has none."""
        epoch, group = self.epoch_of(stored.id), self.group_of(stored.id, stored.grp)
        if epoch is None or group is None:
            raise StoreCorrupt(
                f"{self.path}: nobody knows what row {stored.id} means: its manifest is missing"
            )
        try:
            row = _row.decode(row_bytes(stored.id - epoch.base, stored.body))
        except msgspec.MsgspecError as error:
            raise StoreCorrupt(f"{self.path}: row {stored.id} cannot be read: {error}") from error
        if len(row.values) != len(group.points):
            raise StoreCorrupt(f"{self.path}: row {stored.id} does not fit its manifest")
        for_all = tuple(row.quality.get("*", ()))
        values = tuple(
            Seen(
                group.device,
                point.name,
                point.unit,
                shown(point, value),
                (*for_all, *row.quality.get(str(index), ())),
                row.tick + (row.offsets[point.request] if point.request < len(row.offsets) else 0),
            )
            for index, (point, value) in enumerate(zip(group.points, row.values, strict=True))
        )
        owners = owners_at(group.owners, row.tick)
        return SeenRow(epoch.epoch, row.seq, group, row.tick, owners, values)

    def routes(self) -> dict[str, RouteState]:
        """Return what is remembered of each route."""
        with self.reading():
            return read_routes(self.db)

    def counts(self) -> tuple[list[GroupCount], int]:
        """Return how much of each group there is, and how many other records (a look at everything)."""
        low, top = self.edges()
        found: dict[str, GroupCount] = {}
        others = 0
        query = (
            "SELECT grp, count(*), min(tick), max(tick), min(id) FROM record "
            "WHERE id BETWEEN ? AND ? GROUP BY grp"
        )
        bounds = sorted({low, *(begin for begin in self._begins if low < begin <= top), top + 1})
        for begin, end in pairwise(bounds):
            for first in range(begin, end, 50 * CHUNK):
                with self.reading():
                    counted = self.db.execute(query, (first, min(first + 50 * CHUNK, end) - 1)).fetchall()
                for grp, rows, earliest, latest, at in counted:
                    group = self.group_of(at, grp) if grp > 0 else None
                    if group is None:
                        others += rows
                        continue
                    known = found.get(group.key)
                    if known is not None:
                        rows, earliest, latest = (
                            rows + known.rows,
                            min(earliest, known.first_tick),
                            max(latest, known.last_tick),
                        )
                    found[group.key] = GroupCount(
                        group.key, group.device, group.every_ms, rows, earliest, latest
                    )
        return sorted(found.values(), key=lambda one: one.key), others

    def sizes(self) -> dict[str, int]:
        """Return bytes by part of the store."""
        return {
            "readings": file_bytes(self.path),
            "readings_log": file_bytes(wal_of(self.path)),
            "control": file_bytes(self.directory / CONTROL) + file_bytes(wal_of(self.directory / CONTROL)),
            "audit": file_bytes(self.directory / AUDIT) + file_bytes(wal_of(self.directory / AUDIT)),
            "reserve": file_bytes(self.directory / "readings.reserve"),
            "set_aside": sum(file_bytes(part) for part in self.directory.iterdir() if ASIDE in part.name),
        }

    def agent_runs(self) -> bool:
        """Tell whether an agent uses the directory now."""
        return agent_runs(self.directory)


def agent_runs(directory: Path) -> bool:
    """Tell whether an agent holds the lock of a data_dir now."""
    try:
        handle = os.open(directory / "lock", os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(handle)
    return False


def read_only(path: Path) -> sqlite3.Connection:
    """Open a file for looking; one that nobody uses may lie where we cannot write."""
    try:
        return connect(path, readonly=True)
    except sqlite3.OperationalError:
        if wal_of(path).exists():
            raise
        return sqlite3.connect(f"{path.absolute().as_uri()}?immutable=1", uri=True, isolation_level=None)
