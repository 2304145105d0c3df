"""What must outlast the policy's folder, as a note in the control file: the clock floor, the last assignment.

Losing it loses no safety that the folder does not give back: what is held says both again.  Losing the folder
loses none because of it.  Not here: what raises the floor (`policies.trust.floor`).
"""

import logging
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Final

import msgspec

from agent.store.look import read_only
from agent.store.opening import CONTROL
from core.errors import StoreError
from policies.trust.assignment import Last
from policies.trust.floor import Floor
from policies.trust.folder import Memory

log = logging.getLogger(__name__)

KEY: Final = "policy"
"""Of the note in the control file's table ``meta``."""


class _Last(msgspec.Struct, frozen=True):
    sequence: int
    digest: str
    key: str


class _Note(msgspec.Struct, frozen=True):
    floor_ms: int
    keys: list[str]
    last: _Last | None = None


def encode(memory: Memory) -> str:
    """Return the note."""
    last = None if memory.last is None else _Last(memory.last.sequence, memory.last.digest, memory.last.key)
    return msgspec.json.encode(_Note(memory.floor.at_ms, sorted(memory.floor.keys), last)).decode()


def decode(note: str) -> Memory:
    """Return what a note says; nothing when it cannot be read."""
    try:
        found = msgspec.json.decode(note, type=_Note)
    except (msgspec.MsgspecError, ValueError):
        log.warning("what was remembered of the policy cannot be read: the policy that is held says it again")
        return Memory()
    last = None if found.last is None else Last(found.last.sequence, found.last.digest, found.last.key)
    return Memory(Floor(found.floor_ms, frozenset(found.keys)), last)


def read_note(directory: Path) -> Memory:
    """Return what the control file remembers; nothing when there is none, or when it cannot be read."""
    path = directory / CONTROL
    if not path.exists():
        return Memory()
    try:
        with closing(read_only(path)) as db:
            row = db.execute("SELECT value FROM meta WHERE key = ?", (KEY,)).fetchone()
    except (sqlite3.Error, StoreError, OSError) as error:
        log.warning("what was remembered of the policy cannot be read: %s", error)
        return Memory()
    return Memory() if row is None else decode(str(row[0]))
