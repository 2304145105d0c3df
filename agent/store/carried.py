"""What a salvage carries over of a control file beside its records: the journal of controls, and some notes.

These rows have no checksums of their own.  So the journal counts as lost unless every row of it was read,
from pages that SQLite finds in order and under a log that was whole; what could be read goes along all the
same: controls to be put back, commands that are known, what is used up.  A note in the file says that it was
lost, until whoever controls has dealt with it.  Not here: what that means (`agent.control.commander`).
"""

import contextlib
import sqlite3
from collections.abc import Callable, Mapping
from decimal import Decimal, InvalidOperation
from typing import Final

from agent.control.life import State

LOST: Final = "control-lost"
"""Note: the journal of controls, or a part of it, was lost, and nobody has dealt with that yet."""
CARRIED_NOTES: Final = ("control-born", "policy", "learned")
"""When the journal began; what the keeper of the policy knows; what was learned of the devices."""
CARRIED_PREFIX: Final = "was-"
"""Of the notes by which `agent.changes` knows what changed."""
OTHERS: Final = frozenset({"record", "epoch", "manifest", "manifest_span", "route", "meta", "room"})
"""Tables that are no part of the journal."""
MOST_ROWS: Final = 200_000
"""Of one table: in damaged pages there is no telling how often SQLite goes round."""

Row = Mapping[str, object]


def journal_tables(db: sqlite3.Connection) -> list[str]:
    """Return the tables of the journal that a file has."""
    found = db.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name").fetchall()
    return [str(name) for (name,) in found if name not in OTHERS and not str(name).startswith("sqlite_")]


def mark_lost(db: sqlite3.Connection) -> None:
    """Note that the journal was lost."""
    db.execute("INSERT OR REPLACE INTO meta VALUES (?, '1')", (LOST,))


def unmark_lost(db: sqlite3.Connection) -> None:
    """Note that it was not, or that the loss was dealt with."""
    db.execute("DELETE FROM meta WHERE key = ?", (LOST,))


def carry(old: sqlite3.Connection, fresh: sqlite3.Connection) -> bool:
    """Copy what can be read; return whether that is all there was."""
    whole = _carry_notes(old, fresh)
    for table in journal_tables(fresh):
        whole = _carry_table(old, fresh, table) and whole
    return whole


def _carry_notes(old: sqlite3.Connection, fresh: sqlite3.Connection) -> bool:
    try:
        found = old.execute("SELECT key, value FROM meta").fetchmany(MOST_ROWS)
        whole = _in_order(old, "meta")
    except (sqlite3.DatabaseError, UnicodeDecodeError):
        return False
    for key, value in found:
        if key in CARRIED_NOTES or str(key).startswith(CARRIED_PREFIX):
            with contextlib.suppress(sqlite3.IntegrityError):  # of another type: damaged
                fresh.execute("INSERT OR IGNORE INTO meta VALUES (?, ?)", (key, value))
    return whole and LOST not in {key for key, _ in found}


def _carry_table(old: sqlite3.Connection, fresh: sqlite3.Connection, table: str) -> bool:
    try:
        keys, columns = _columns(fresh, table)
        there = set(_columns(old, table)[1])
    except (sqlite3.DatabaseError, UnicodeDecodeError):
        return False
    columns = [column for column in columns if column in there]  # an older file has fewer
    if not columns:
        return False
    marks = ",".join("?" * len(columns))
    into = f"INSERT OR IGNORE INTO {table} ({','.join(columns)}) VALUES ({marks})"
    whole = True
    for order in ("", " DESC"):  # from both ends towards the damage
        by = ",".join(f"{key}{order}" for key in keys)
        try:
            for number, row in enumerate(
                old.execute(f"SELECT {','.join(columns)} FROM {table} ORDER BY {by}")
            ):
                if number >= MOST_ROWS:
                    return False
                whole = _carry_row(fresh, into, table, dict(zip(columns, row, strict=True))) and whole
            return _in_order(old, table) and whole
        except (sqlite3.DatabaseError, UnicodeDecodeError):
            whole = False
    return False


def _carry_row(fresh: sqlite3.Connection, into: str, table: str, row: Row) -> bool:
    if not _SOUND.get(table, _counted)(row):
        return False
    try:
        return fresh.execute(into, tuple(row.values())).rowcount == 1  # else its key came twice
    except sqlite3.IntegrityError:  # of another type: damaged
        return False


def _columns(db: sqlite3.Connection, table: str) -> tuple[list[str], list[str]]:
    """Return the columns of the key in their order, and all of them."""
    found = db.execute(f"PRAGMA table_info({table})").fetchall()
    keys = [(place, str(name)) for _, name, _, _, _, place in found if place]
    return [name for _, name in sorted(keys)], [str(row[1]) for row in found]


def _in_order(db: sqlite3.Connection, table: str) -> bool:
    return db.execute(f"PRAGMA integrity_check({table})").fetchall() == [("ok",)]


def _counted(row: Row) -> bool:
    """Instants and counts are never below zero."""
    return all(value >= 0 for value in row.values() if isinstance(value, int))


def _command(row: Row) -> bool:
    return _counted(row) and row["state"] in _STATES


def _control(row: Row) -> bool:
    ends = row["end_ms"], row["begin_ms"]
    return (
        _command(row)
        and _number(row["value"])
        and (row["restore_to"] is None or _number(row["restore_to"]))
        and isinstance(ends[0], int)
        and isinstance(ends[1], int)
        and ends[0] >= ends[1]
    )


def _number(text: object) -> bool:
    try:
        return Decimal(str(text)).is_finite()
    except InvalidOperation:
        return False


_STATES: Final = frozenset(state.value for state in State)
_SOUND: Final[Mapping[str, Callable[[Row], bool]]] = {"command": _command, "control": _control}
