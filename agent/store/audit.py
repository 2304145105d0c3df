"""The audit file: what the gateway did and when, append only.

Written by the control writer's thread.  What cannot be written waits, bounded; the
file has room of its own for when the disk is full.  Not here yet: the chain of
hashes that makes it tamper-evident.
"""

import contextlib
import json
import sqlite3
from collections import deque
from pathlib import Path
from typing import Final

from agent.store.connection import connect, translated
from agent.store.room import INSIDE_CHECKPOINT, keep_room_inside
from agent.store.schema import migrate
from core.errors import StoreError

MAX_WAITING: Final = 1000


class AuditFile:
    """Owned by one thread after it was opened."""

    def __init__(self, path: Path) -> None:
        """Open or create; raises StoreError."""
        self.path = path
        self.refused = 0
        """Entries lost because too many waited for the disk."""
        self._waiting: deque[tuple[int, str, str]] = deque()
        try:
            self._db = connect(path, checkpoint=INSIDE_CHECKPOINT)
            try:
                migrate(self._db, "audit", path)
                self._db.execute("SELECT max(id) FROM event").fetchone()
                keep_room_inside(self._db, path)
            except (StoreError, sqlite3.Error):
                self._db.close()
                raise
        except sqlite3.Error as error:
            raise translated(error, path) from error

    def append(self, at_ms: int, kind: str, body: dict[str, object]) -> None:
        """Write an entry, and those that wait before it."""
        if len(self._waiting) >= MAX_WAITING:
            self.refused += 1
            return
        self._waiting.append((at_ms, kind, json.dumps(body)))
        self.retry()

    def retry(self) -> None:
        """Write what waits, as far as the disk allows."""
        with contextlib.suppress(sqlite3.Error):
            while self._waiting:
                self._db.execute("INSERT INTO event (at_ms, kind, body) VALUES (?, ?, ?)", self._waiting[0])
                self._waiting.popleft()

    @property
    def waiting(self) -> int:
        """How many entries wait for the disk."""
        return len(self._waiting)

    def close(self) -> None:
        """Close the file."""
        self._db.close()
