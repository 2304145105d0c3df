"""What the head-end finds that a person should look at: one line a code and gateway, counted.

A flood of forged messages must cost neither a transaction nor a row each: arrivals are gathered in
memory and written with the next transaction. What nobody signed for is put down to no gateway, so that
made-up names on topics cannot fill the table.

Not here: alarms that gateways raise (they are records of their control lane).
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

TEXT_CHARACTERS: Final = 400


class Code(StrEnum):
    """Alarms of the head-end beside those named by `intake.Refusal`."""

    CONFLICT = "conflicting-content"
    TWO_GATEWAYS = "two-gateways-one-id"
    STORE_RESTORED = "store-restored"
    BOOKS_RESTORED = "books-restored"
    BOOKS_AHEAD = "books-id-ahead"
    CLOCK_AHEAD = "impossible-time"
    BROKER_REFUSED = "broker-refused"
    AUDIT_REWRITTEN = "audit-rewritten"
    AUDIT_CUT = "audit-cut"
    AUDIT_UNPROVEN = "audit-unproven"
    CONTROL_UNKNOWN_END = "control-unknown-end"


@dataclass(slots=True)
class _Gathered:
    text: str
    first_ms: int
    last_ms: int
    count: int


class Alarms:
    """Alarms not yet written. One owner."""

    def __init__(self) -> None:
        self._gathered: dict[tuple[str, str], _Gathered] = {}

    def __len__(self) -> int:
        return len(self._gathered)

    def add(self, code: str, gateway: str, text: str, at_ms: int) -> bool:
        """Gather one; True when it is the first of its code and gateway since the last write."""
        known = self._gathered.get((code, gateway))
        if known is None:
            self._gathered[code, gateway] = _Gathered(text[:TEXT_CHARACTERS], at_ms, at_ms, 1)
            return True
        known.text, known.last_ms, known.count = text[:TEXT_CHARACTERS], at_ms, known.count + 1
        return False

    def save(self, connection: sqlite3.Connection) -> None:
        """Write what was gathered, inside a transaction; it stays gathered until :meth:`clear`."""
        connection.executemany(
            "INSERT INTO alarm (code, gateway, text, first_ms, last_ms, count) VALUES (?, ?, ?, ?, ?, ?) "
            "ON CONFLICT DO UPDATE SET text = excluded.text, last_ms = max(last_ms, excluded.last_ms), "
            "count = count + excluded.count, cleared_ms = NULL",
            [
                (code, gateway, one.text, one.first_ms, one.last_ms, one.count)
                for (code, gateway), one in self._gathered.items()
            ],
        )

    def clear(self) -> None:
        """Forget what was gathered: it was committed."""
        self._gathered.clear()
