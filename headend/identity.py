"""Which books these are, how far they have counted, and whether they went back in time.

Books that were put back to an older state would confirm less than they once did, while the gateways
rely on what they were told. Three signs betray them: a mark beside the file that names a later state; a
gateway whose last confirmation bears a number that these books never gave it; a gateway that names a
later books id. Then the books take a new id, which makes every gateway send again what it still holds.

So that numbers given before and after a restore cannot be mistaken for each other, counting begins anew
at the clock's milliseconds with each opening of the file, and the latest numbers given to each gateway
are kept.

Everything here runs inside a transaction of :class:`headend.books.Books`. One owner.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from bisect import bisect_left
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from core.ids import books_born_ms, new_books_id
from core.records import StreamMessage

HISTORY: Final = 256
"""Numbers kept for each gateway: with five confirmations a second, a minute."""
REMEMBERED: Final = 10_000
AHEAD_MS: Final = 24 * 3_600_000
"""A books id born further ahead of our clock than this is no state of these books."""
MARK_BYTES: Final = 64


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a gateway's header says about these books."""

    text: str
    later_id: str
    later_n: int
    credible: bool
    """False: the id lies in the future, so a clock is wrong, and nothing follows from it."""


class Identity:
    """The id and the count of one file of books."""

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self.books_id = ""
        self.n = 0
        self._connection: Final = connection
        self._mark: Final = path.with_name(f"{path.name}.mark")
        self._written = 0
        self._marked = 0
        self._given: dict[tuple[str, str], list[int]] = {}

    def read(self) -> None:
        """Read id and count: another process may have changed them."""
        self._given.clear()
        self.books_id, self.n = self._connection.execute("SELECT id, n FROM books").fetchone()
        self._written = self.n

    def begin(self, now_ms: int) -> str:
        """Open a life of these books; return how they were found to be an older state, or nothing."""
        found = self._later_mark()
        if found is not None:
            later_id, later_n = found
            text = f"beside the books lies the mark of a later state ({later_id}, {later_n})"
            self.renew(now_ms, later_id, later_n, text)
        else:
            text = ""
        self.n = max(self.n, now_ms)
        return text

    def next_n(self, gateway: str, entity: str) -> int:
        """Return the number of the next confirmation or question to a gateway, and remember it."""
        self.n += 1
        given = self._given_to(gateway, entity)
        given.append(self.n)
        self._connection.execute(
            "INSERT INTO given (gateway, entity, n) VALUES (?, ?, ?)", (gateway, entity, self.n)
        )
        if len(given) > HISTORY:
            self._connection.execute(
                "DELETE FROM given WHERE gateway=? AND entity=? AND n=?", (gateway, entity, given.pop(0))
            )
        return self.n

    def evidence(self, message: StreamMessage, entity: str, now_ms: int) -> Evidence | None:
        """Return what proves that the gateway has heard of a later state of these books, if it has."""
        gateway = message.gateway
        if not message.books or not message.n:
            return None
        if message.books == self.books_id:
            given = self._given_to(gateway, entity)
            at = bisect_left(given, message.n)
            if (at < len(given) and given[at] == message.n) or (given and at == 0):
                return None  # given, or so long ago that it is not remembered
            text = f"{gateway} holds confirmation {message.n} of books that never gave it"
            return Evidence(text, message.books, message.n, credible=True)
        born = books_born_ms(message.books)
        if born <= books_born_ms(self.books_id):
            return None
        if born > now_ms + AHEAD_MS:
            text = f"{gateway} names books {message.books}, born in the future: check the clocks"
            return Evidence(text, message.books, message.n, credible=False)
        text = f"{gateway} holds a confirmation of later books {message.books}"
        return Evidence(text, message.books, message.n, credible=True)

    def renew(self, now_ms: int, later_id: str, later_n: int, reason: str) -> None:
        """Take a new id, born after every one that was heard of."""
        born = max(now_ms, books_born_ms(self.books_id) + 1, books_born_ms(later_id) + 1)
        self._connection.execute(
            "INSERT INTO books_past (id, until_ms, reason) VALUES (?, ?, ?)",
            (self.books_id, now_ms, reason),
        )
        self.books_id = new_books_id(born)
        self.n = max(self.n, later_n)
        self._given.clear()
        self._connection.execute("DELETE FROM given")
        self._connection.execute("UPDATE books SET id=?", (self.books_id,))

    def save(self) -> None:
        """Write the count, before the transaction commits."""
        if self.n != self._written:
            self._connection.execute("UPDATE books SET n=?", (self.n,))
            self._written = self.n
        if len(self._given) > REMEMBERED:
            self._given.clear()

    def committed(self) -> None:
        """Leave the mark: what was counted is durable. A mark that lags proves nothing, and harms nothing."""
        if self.n == self._marked:
            return
        line = f"{self.books_id} {self.n}".ljust(MARK_BYTES - 1) + "\n"
        with contextlib.suppress(OSError):
            file = os.open(self._mark, os.O_WRONLY | os.O_CREAT, 0o644)
            try:
                os.pwrite(file, line.encode(), 0)
            finally:
                os.close(file)
            self._marked = self.n

    def forget(self) -> None:
        """Drop what is in memory."""
        self._given.clear()
        self.books_id = ""

    def _given_to(self, gateway: str, entity: str) -> list[int]:
        given = self._given.get((gateway, entity))
        if given is None:
            given = self._given[gateway, entity] = [
                n
                for (n,) in self._connection.execute(
                    "SELECT n FROM given WHERE gateway=? AND entity=? ORDER BY n", (gateway, entity)
                )
            ]
        return given

    def _later_mark(self) -> tuple[str, int] | None:
        try:
            later_id, n = self._mark.read_bytes()[:MARK_BYTES].decode("ascii").split()
            born, later_n = books_born_ms(later_id), int(n)
        except (OSError, ValueError):
            return None
        if later_id == self.books_id:
            return (later_id, later_n) if later_n > self.n else None
        return (later_id, later_n) if born > books_born_ms(self.books_id) else None
