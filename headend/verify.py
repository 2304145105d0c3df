"""Are the books sound? SQLite's own check, and whether ledger, rows, groups and records agree.

What it finds is data, not an exception: a line for each fault.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator

from headend.ledger import Space, decode_ranges

SHOWN = 20


def verify(connection: sqlite3.Connection) -> Iterator[str]:
    """Yield what is wrong, one sentence each."""
    for (line,) in connection.execute(f"PRAGMA integrity_check({SHOWN})").fetchall():
        if line != "ok":
            yield f"SQLite: {line}"
    yield from _ledger(connection)
    yield from _references(connection)


def _ledger(connection: sqlite3.Connection) -> Iterator[str]:
    """What is stored must be covered: a confirmation and a later arrival are judged by the ledger."""
    for no, gateway, epoch in connection.execute("SELECT no, gateway, epoch FROM epoch").fetchall():
        for space in Space:
            covered = [
                (entity, text)
                for entity, text in connection.execute(
                    "SELECT entity, ranges FROM coverage WHERE epoch_no=? AND space=?", (no, space.value)
                )
            ]
            merged = decode_ranges("[]")
            for entity, text in covered:
                fault = _ranges_fault(text)
                if fault:
                    yield f"epoch {epoch} of {gateway}, {entity}, {space.value}: the ledger {fault}"
                else:
                    merged.update(decode_ranges(text))
            tables = ("row", "record") if space is Space.DATA else ("record",)
            for table in tables:
                where = "" if table == "row" else f"AND space = '{space.value}'"
                stored = connection.execute(
                    f"SELECT count(*) FROM {table} WHERE epoch_no=? {where}", (no,)
                ).fetchone()[0]
                within = sum(
                    connection.execute(
                        f"SELECT count(*) FROM {table} WHERE epoch_no=? {where} AND seq BETWEEN ? AND ?",
                        (no, first, last),
                    ).fetchone()[0]
                    for first, last in merged
                )
                if stored != within:
                    yield (
                        f"epoch {epoch} of {gateway}: {stored - within} of {stored} in table {table} lie "
                        f"outside the {space.value} coverage"
                    )


def _ranges_fault(text: str) -> str:
    before = -1
    try:
        for first, last in json.loads(text):
            if not before + 1 < first <= last or first < 1:
                return "has ranges that overlap, touch or are out of order"
            before = last
    except (ValueError, TypeError):
        return "cannot be read"
    return ""


def _references(connection: sqlite3.Connection) -> Iterator[str]:
    checks = {
        "rows of no known group": "SELECT count(*) FROM (SELECT DISTINCT grp_no FROM row) "
        "WHERE grp_no NOT IN (SELECT no FROM grp)",
        "rows of no known epoch": "SELECT count(*) FROM (SELECT DISTINCT epoch_no FROM row) "
        "WHERE epoch_no NOT IN (SELECT no FROM epoch)",
        "sequences that are a row and a record": "SELECT count(*) FROM record JOIN row "
        "ON row.epoch_no = record.epoch_no AND row.seq = record.seq WHERE record.space = 'data'",
        "groups of no known manifest": "SELECT count(*) FROM grp WHERE manifest NOT IN "
        "(SELECT hash FROM manifest)",
        "confirmations given beyond the count of the books": "SELECT count(*) FROM given "
        "WHERE n > (SELECT n FROM books)",
    }
    for what, query in checks.items():
        number = connection.execute(query).fetchone()[0]
        if number:
            yield f"{number} {what}"
