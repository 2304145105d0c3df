"""Where commands stand, by the outcomes that came, and controls of which nobody knows whether they ended.

A device that has no hold of its own stays as it was ordered when its gateway is gone.  So the head-end looks:
when the end of a control is past, the word that it ended did not come and its gateway is silent, a person
has to know (alarm ``control-unknown-end``).  It is cleared when the end is heard.

:func:`after` and :func:`silent` are pure.  Not here: what a gateway does (its own alarms tell when a device
does not go back), and showing outcomes (`headend.cli_outcomes`).
"""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from core.records import Outcome
from headend.alarms import Code
from headend.books import Books
from headend.instants import instant

ENDED: Final = frozenset({"refused", "restored", "superseded", "cancelled", "done"})
"""States after which nothing more is owed to the device by this command (`docs/control.md`).

Not ``left``: a device's own timer was to end it, and nobody has seen that it did.
"""
PASSING: Final = frozenset({"retained", "id-reused", "out-of-order", "journal-lost"})
"""Codes that refuse one message: the command of that id may have been taken before, and still run."""
MARGIN_MS: Final = 120_000
"""For so long after its end a gateway may be silent about a control."""
LOOK_S: Final = 10.0
NAMED: Final = 5
"""Commands that an alarm names one by one."""


def after(held: str | None, state: str, reasons: Iterable[str]) -> str | None:
    """Return where a command stands after an outcome; None: this one changes nothing."""
    if state == "refused" and held is not None and PASSING.intersection(reasons):
        return None
    if held in ENDED and held != "refused":
        return None
    return state


@dataclass(frozen=True, slots=True)
class Open:
    """A control that began, or will, and of whose end nothing came."""

    gateway: str
    entity: str
    command: str
    device: str
    point: str
    end_ms: int


def past(controls: Iterable[Open], now_ms: int, margin_ms: int = MARGIN_MS) -> list[Open]:
    """Return those whose end, with the margin, is past."""
    return [one for one in controls if one.end_ms + margin_ms <= now_ms]


def silent(
    controls: Iterable[Open], heard_ms: Mapping[str, int], now_ms: int, margin_ms: int = MARGIN_MS
) -> list[Open]:
    """Return those of which nobody knows whether they ended: past their end, and their gateway is silent.

    While a gateway talks, what it does about a control is its own to tell.
    """
    return [
        one for one in past(controls, now_ms, margin_ms) if heard_ms.get(one.gateway, 0) + margin_ms <= now_ms
    ]


def sentence(controls: list[Open]) -> str:
    """Return what a person has to know about controls of one gateway, the longest past first."""
    ordered = sorted(controls, key=lambda one: (one.end_ms, one.command))
    named = [
        f"{one.device} {one.point} (command {one.command} of {one.entity}, end {instant(one.end_ms)})"
        for one in ordered[:NAMED]
    ]
    more = f" and {len(ordered) - NAMED} more" if len(ordered) > NAMED else ""
    return f"silent past the end of a control, find out how the device stands: {'; '.join(named)}{more}"


def enter_outcome(connection: sqlite3.Connection, gateway: str, reader: str, outcome: Outcome) -> None:
    """Note where a command stands, inside the transaction that stores the outcome.

    ``reader`` is the entity on whose stream it came: an outcome that names no entity is of its command.
    """
    key = (gateway, outcome.entity or reader, outcome.command)
    row = connection.execute(
        "SELECT state FROM control WHERE gateway = ? AND entity = ? AND command = ?", key
    ).fetchone()
    state = after(None if row is None else row[0], outcome.state, outcome.reasons)
    if state is None:
        return
    begin, end = (_whole(outcome.x.get(name)) for name in ("begin", "end"))
    connection.execute(
        "INSERT INTO control VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET "
        "state = excluded.state, at_ms = excluded.at_ms, ended = excluded.ended, "
        "begin_ms = coalesce(excluded.begin_ms, begin_ms), end_ms = coalesce(excluded.end_ms, end_ms)",
        (*key, outcome.device, outcome.point, state, outcome.at, begin, end, state in ENDED),
    )


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


class Watch:
    """Looks from time to time.  Owned by the collector's thread."""

    def __init__(self) -> None:
        self._looked_s = float("-inf")

    def due(self, now_s: float) -> bool:
        """Tell whether it is time to look."""
        return now_s - self._looked_s >= LOOK_S

    def look(self, books: Books, now_s: float) -> None:
        """Raise and clear the alarm, inside a transaction of the books."""
        self._looked_s = now_s
        connection, now_ms = books.connection, books.now_ms
        rows = connection.execute(
            "SELECT gateway, entity, command, device, point, end_ms FROM control "
            "WHERE ended = 0 AND end_ms <= ?",
            (now_ms - MARGIN_MS,),
        ).fetchall()
        unended = past([Open(*row) for row in rows], now_ms)
        standing = {
            gateway
            for (gateway,) in connection.execute(
                "SELECT gateway FROM alarm WHERE code = ? AND cleared_ms IS NULL",
                (Code.CONTROL_UNKNOWN_END,),
            )
        }
        for gateway in standing - {one.gateway for one in unended}:
            connection.execute(
                "UPDATE alarm SET cleared_ms = ? WHERE code = ? AND gateway = ?",
                (now_ms, Code.CONTROL_UNKNOWN_END, gateway),
            )
        if not unended:
            return
        heard = dict(connection.execute("SELECT gateway, last_seen_ms FROM gateway").fetchall())
        found: dict[str, list[Open]] = defaultdict(list)
        for one in silent(unended, heard, now_ms):
            found[one.gateway].append(one)
        for gateway, controls in found.items():
            if gateway not in standing:
                books.alarm(Code.CONTROL_UNKNOWN_END, gateway, sentence(controls))
