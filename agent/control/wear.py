"""How often each register of a device was written today: flash and contacts wear out, and nobody sees it.

By register and not by point, because points share some (one time-out for all relays of a board).  A day is
one of UTC.  One row a register in ``control.db``; a clock that is set back gives no new day.  Every function
runs in the control writer's thread.  Not here: how often a type allows it, and what is refused.
"""

import sqlite3
from collections.abc import Sequence
from typing import Final

DAY_MS: Final = 86_400_000


def used(db: sqlite3.Connection, device: str, registers: Sequence[str], now_ms: int) -> int:
    """Return how often the one of some registers that was written most was written today."""
    marks = ",".join("?" * len(registers))
    row = db.execute(
        f"SELECT max(writes) FROM wear WHERE device = ? AND day >= ? AND register IN ({marks})",
        (device, now_ms // DAY_MS, *registers),
    ).fetchone()
    return int(row[0] or 0)


def count(db: sqlite3.Connection, device: str, registers: Sequence[str], now_ms: int) -> None:
    """Count one write of each of some registers."""
    db.executemany(
        "INSERT INTO wear VALUES (?, ?, ?, 1) ON CONFLICT DO UPDATE SET "
        "writes = CASE WHEN excluded.day > day THEN 1 ELSE writes + 1 END, day = max(day, excluded.day)",
        [(device, register, now_ms // DAY_MS) for register in registers],
    )
