"""How often each register of a device was written today: flash and contacts wear out, and nobody sees it.

By register and not by point, because points share some (one time-out for all relays of a board).  A day is
one of UTC.  One row a register in ``control.db``; a clock that is set back gives no new day.  Every function
runs in the control writer's thread.  Not here: how often a type allows it, and what is refused.
"""

import sqlite3
from collections.abc import Sequence
from typing import Final

DAY_MS: Final = 86_400_000


def day(at_ms: int) -> int:
    """Return the day of an instant, UTC, since 1970."""
    return at_ms // DAY_MS


def used(db: sqlite3.Connection, device: str, registers: Sequence[str], now_ms: int) -> int:
    """Return how often the one of some registers that was written most was written today."""
    marks = ",".join("?" * len(registers))
    row = db.execute(
        f"SELECT max(writes) FROM wear WHERE device = ? AND day >= ? AND register IN ({marks})",
        (device, day(now_ms), *registers),
    ).fetchone()
    return int(row[0] or 0)


def count(db: sqlite3.Connection, device: str, registers: Sequence[str], now_ms: int) -> None:
    """Count one write of each of some registers."""
    db.executemany(
        "INSERT INTO wear VALUES (?, ?, ?, 1) ON CONFLICT DO UPDATE SET "
        "writes = CASE WHEN excluded.day > day THEN 1 ELSE writes + 1 END, day = max(day, excluded.day)",
        [(device, register, day(now_ms)) for register in registers],
    )


def take(db: sqlite3.Connection, device: str, registers: Sequence[str], most: int, now_ms: int) -> bool:
    """Count one write of each of some registers where none was written ``most`` times; tell whether."""
    if used(db, device, registers, now_ms) >= most:
        return False
    count(db, device, registers, now_ms)
    return True
