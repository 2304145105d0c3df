"""The simplest judge of all: which rows of a store are in the books, by brute force, for tests."""

import contextlib
import sqlite3
from pathlib import Path

from cli.process import wait_until
from cli.stand import Stand

Identity = tuple[str, int]
"""Epoch and sequence of a row."""


def store_rows(path: Path) -> dict[Identity, tuple[int, int]]:
    """Return group and tick of every row in a store, by identity."""
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
        epochs = db.execute("SELECT base, epoch FROM epoch ORDER BY base DESC").fetchall()
        rows = db.execute("SELECT id, grp, tick FROM record WHERE grp > 0").fetchall()
    found = {}
    for id_, grp, tick in rows:
        base, epoch = next(one for one in epochs if one[0] < id_)
        found[epoch, id_ - base] = (grp, tick)
    return found


def books_rows(path: Path) -> dict[Identity, int]:
    """Return the tick of every row in some books, by identity."""
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
        rows = db.execute("SELECT epoch, seq, tick FROM row JOIN epoch ON epoch.no = row.epoch_no").fetchall()
    return {(epoch, seq): tick for epoch, seq, tick in rows}


def one(path: Path, query: str) -> list[tuple[object, ...]]:
    """Return the answer to a question to a database."""
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
        return db.execute(query).fetchall()


def missing(stand: Stand) -> set[Identity]:
    """Return the rows that are in the first gateway's store and not in the first collector's books."""
    return set(store_rows(stand.agent.store_path)) - set(books_rows(stand.collector.books_path))


def wait_balanced(stand: Stand, more_than: int = 0, timeout_s: float = 40.0) -> int:
    """Wait until the books hold every row of the store, and more than so many; return how many."""

    def balanced() -> bool:
        return len(books_rows(stand.collector.books_path)) > more_than and not missing(stand)

    wait_until(balanced, timeout_s, lambda: f"not in the books after {timeout_s:g} s: {missing(stand)}", 0.1)
    return len(books_rows(stand.collector.books_path))


def wait_rows(stand: Stand, more_than: int, timeout_s: float = 20.0) -> None:
    """Wait until the store holds more than so many rows."""
    wait_until(
        lambda: stand.agent.store_path.exists() and len(store_rows(stand.agent.store_path)) > more_than,
        timeout_s,
        lambda: f"the store does not grow beyond {more_than} rows: {stand.agent.tail()}",
        0.1,
    )
