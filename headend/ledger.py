"""What the books hold of each epoch, as ranges: the ledger that the confirmations are read from.

A sequence is *covered* once a message whose coverage includes it was stored, whether or not it brought
content for this entity. The ledger is read and advanced inside the transaction that stores the rows;
between transactions its copies in memory are good only while no other process has written (the owner
calls :meth:`forget` when `PRAGMA data_version` says that one has).

Not here: the judgement of what arrives (`headend.intake`), the confirmations (`headend.confirm`).
"""

from __future__ import annotations

import json
import sqlite3
from enum import StrEnum
from typing import Final

from core.ranges import Range, RangeSet

CACHED: Final = 20_000
"""Range sets kept in memory; with more, all are read again."""


class Space(StrEnum):
    """The two sequences of an epoch."""

    DATA = "data"
    CONTROL = "control"


_Key = tuple[int, str, str]


class Ledger:
    """The coverage table, within the transactions of one connection."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._held: dict[_Key, RangeSet] = {}
        self._changed: set[_Key] = set()

    def forget(self) -> None:
        """Drop what is in memory: another process wrote, or the transaction was rolled back."""
        self._held.clear()
        self._changed.clear()

    def held(self, epoch_no: int, entity: str, space: Space) -> RangeSet:
        """Return what is covered; the caller must not change it."""
        key = (epoch_no, entity, space.value)
        known = self._held.get(key)
        if known is None:
            found = self._connection.execute(
                "SELECT ranges FROM coverage WHERE epoch_no=? AND entity=? AND space=?", key
            ).fetchone()
            known = RangeSet() if found is None else decode_ranges(found[0])
            if len(self._held) >= CACHED and not self._changed:
                self._held.clear()
            self._held[key] = known
        return known

    def add(self, epoch_no: int, entity: str, space: Space, first: int, last: int) -> None:
        """Cover first..last; written with :meth:`save`."""
        self.held(epoch_no, entity, space).add(first, last)
        self._changed.add((epoch_no, entity, space.value))

    def save(self) -> None:
        """Write what changed, before the transaction commits."""
        self._connection.executemany(
            "INSERT INTO coverage (epoch_no, entity, space, ranges) VALUES (?, ?, ?, ?) "
            "ON CONFLICT DO UPDATE SET ranges = excluded.ranges",
            [(*key, encode_ranges(self._held[key])) for key in self._changed],
        )
        self._changed.clear()


def encode_ranges(ranges: RangeSet | list[Range]) -> str:
    """Return ranges as they stand in the books: ``[[first,last],...]``."""
    return json.dumps([list(pair) for pair in ranges], separators=(",", ":"))


def decode_ranges(text: str) -> RangeSet:
    """Return the ranges of a column of the books."""
    return RangeSet((first, last) for first, last in json.loads(text))
