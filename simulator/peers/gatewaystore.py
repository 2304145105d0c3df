"""The store of the thin gateway: one SQLite file, every record durable before it is sent.

Epochs, records by (epoch, sequence), what the books hold, the last confirmation, the last tick of each group.
One owner. Not here: pruning, quotas, damaged files.
"""

import json
import sqlite3
from pathlib import Path
from typing import Final

from core.ranges import RangeSet

MOST_NOTED: Final = 100
SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS epoch (no INTEGER PRIMARY KEY, name TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS record (
    epoch TEXT, seq INTEGER, is_row INTEGER, body BLOB, PRIMARY KEY (epoch, seq)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS note (name TEXT PRIMARY KEY, body TEXT NOT NULL) WITHOUT ROWID;
"""


class GatewayStore:
    """Everything that must outlive the program."""

    def __init__(self, path: Path) -> None:
        self._db = sqlite3.connect(path, isolation_level=None)
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")
        self._db.executescript(SCHEMA)

    def close(self) -> None:
        """Close it."""
        self._db.close()

    def epochs(self) -> list[str]:
        """Return the epochs, oldest first."""
        return [name for (name,) in self._db.execute("SELECT name FROM epoch ORDER BY no")]

    def begin(self, epoch: str) -> None:
        """Enter a new epoch."""
        self._db.execute("INSERT INTO epoch (name) VALUES (?)", (epoch,))

    def last(self, epoch: str) -> int:
        """Return the last sequence of an epoch, 0 for none."""
        found = self._db.execute("SELECT max(seq) FROM record WHERE epoch = ?", (epoch,)).fetchone()[0]
        return int(found or 0)

    def append(self, epoch: str, records: list[tuple[int, bool, bytes]], ticks: dict[str, int]) -> None:
        """Commit records (sequence, whether it is a row, body) with the last ticks, at once."""
        self._db.execute("BEGIN IMMEDIATE")
        self._db.executemany(
            "INSERT OR REPLACE INTO record VALUES (?, ?, ?, ?)", [(epoch, *one) for one in records]
        )
        self._write("ticks", ticks)
        self._db.execute("COMMIT")

    def between(self, epoch: str, first: int, last: int) -> list[tuple[int, bool, bytes]]:
        """Return the records first..last of an epoch."""
        found = self._db.execute(
            "SELECT seq, is_row, body FROM record WHERE epoch = ? AND seq BETWEEN ? AND ? ORDER BY seq",
            (epoch, first, last),
        )
        return [(seq, bool(is_row), body) for seq, is_row, body in found]

    # --- notes

    def ticks(self) -> dict[str, int]:
        """Return the last tick of each group."""
        return dict(self._read("ticks", {}))

    def held(self) -> dict[str, RangeSet]:
        """Return what the books hold, by epoch."""
        return {epoch: RangeSet(map(tuple, ranges)) for epoch, ranges in self._read("held", {}).items()}

    def taken(self) -> tuple[str, int]:
        """Return books and n of the last confirmation taken."""
        books, n = self._read("taken", ["", 0])
        return str(books), int(n)

    def take(self, books: str, n: int, held: dict[str, RangeSet]) -> None:
        """Commit a confirmation."""
        self._db.execute("BEGIN IMMEDIATE")
        self._write("taken", [books, n])
        self._write("held", {epoch: list(ranges) for epoch, ranges in held.items()})
        self._db.execute("COMMIT")

    def acknowledged(self) -> list[tuple[str, int, int]]:
        """Return what was noted as acknowledged."""
        return [tuple(one) for one in self._read("acknowledged", [])]

    def acknowledge(self, epoch: str, first: int, last: int) -> None:
        """Note that the broker acknowledged a message."""
        self._write("acknowledged", [*self.acknowledged()[-MOST_NOTED:], (epoch, first, last)])

    def stopped(self) -> bool:
        """Tell whether the life before ended in order, and forget it."""
        found = bool(self._read("stopped", False))
        self._write("stopped", False)
        return found

    def note_stop(self) -> None:
        """Note that this life ends in order."""
        self._write("stopped", True)

    def _read(self, name: str, default):  # type: ignore[no-untyped-def]
        found = self._db.execute("SELECT body FROM note WHERE name = ?", (name,)).fetchone()
        return default if found is None else json.loads(found[0])

    def _write(self, name: str, body: object) -> None:
        self._db.execute("INSERT OR REPLACE INTO note VALUES (?, ?)", (name, json.dumps(body)))
