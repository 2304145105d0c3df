"""The books of the thin collector: one SQLite file, rows and ledger in one transaction.

Not here: what is taken (`collector`), ownership over time, judgements, several collectors.
"""

import json
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from core.ids import books_born_ms, new_books_id
from core.manifest import Group, Manifest, decode_manifest, shown
from core.quality import code_of
from core.ranges import RangeSet
from core.records import Record, Row

SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS row (
    gateway TEXT, epoch TEXT, seq INTEGER, manifest TEXT, body BLOB);
CREATE INDEX IF NOT EXISTS row_by_identity ON row (gateway, epoch, seq);
CREATE TABLE IF NOT EXISTS record (
    gateway TEXT, epoch TEXT, space TEXT, seq INTEGER, body BLOB, PRIMARY KEY (gateway, epoch, space, seq));
CREATE TABLE IF NOT EXISTS conflict (gateway TEXT, epoch TEXT, space TEXT, seq INTEGER, body BLOB);
CREATE TABLE IF NOT EXISTS ledger (
    gateway TEXT, epoch TEXT, space TEXT, ranges TEXT NOT NULL, PRIMARY KEY (gateway, epoch, space));
CREATE TABLE IF NOT EXISTS manifest (name TEXT PRIMARY KEY, body BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS certificate (gateway TEXT, der BLOB, PRIMARY KEY (gateway, der));
CREATE TABLE IF NOT EXISTS count (gateway TEXT PRIMARY KEY, n INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS id (books TEXT NOT NULL);
"""

_encode = msgspec.json.Encoder().encode
_row = msgspec.json.Decoder(Row)


class CollectorBooks:
    """Everything that must outlive the program. One owner."""

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        where = f"file:{path}?mode=ro" if read_only else f"file:{path}"
        self._db = sqlite3.connect(where, uri=True, isolation_level=None, timeout=10)
        self.began_s: float | None = None
        """When the transaction under way began."""
        if read_only:
            return
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")
        self._db.executescript(SCHEMA)
        if not self._db.execute("SELECT 1 FROM id").fetchone():
            self._db.execute("INSERT INTO id VALUES (?)", (new_books_id(_now_ms()),))

    def close(self) -> None:
        """Close them."""
        self._db.close()

    def begin(self) -> None:
        """Begin a transaction, unless one is under way."""
        if self.began_s is None:
            self._db.execute("BEGIN IMMEDIATE")
            self.began_s = time.monotonic()

    def commit(self) -> None:
        """Make it durable."""
        if self.began_s is not None:
            self._db.execute("COMMIT")
            self.began_s = None

    # --- what comes

    def add_row(self, gateway: str, epoch: str, manifest: str, row: Row, *, careless: bool = False) -> None:
        """Enter a row; a known one is left, other content is kept beside it. `careless` enters it again."""
        body = _encode(row)
        there = self._db.execute(
            "SELECT body FROM row WHERE gateway = ? AND epoch = ? AND seq = ?", (gateway, epoch, row.seq)
        ).fetchone()
        if there is not None and there[0] != body:
            self._conflict(gateway, epoch, "data", row.seq, body)
        elif there is None or careless:
            self._db.execute(
                "INSERT INTO row VALUES (?, ?, ?, ?, ?)", (gateway, epoch, row.seq, manifest, body)
            )

    def add_record(self, gateway: str, epoch: str, space: str, record: Record) -> None:
        """Enter another record."""
        body = _encode(record)
        identity = (gateway, epoch, space, record.seq)
        there = self._db.execute(
            "SELECT body FROM record WHERE gateway = ? AND epoch = ? AND space = ? AND seq = ?", identity
        ).fetchone()
        if there is None:
            self._db.execute("INSERT INTO record VALUES (?, ?, ?, ?, ?)", (*identity, body))
        elif there[0] != body:
            self._conflict(gateway, epoch, space, record.seq, body)

    def _conflict(self, gateway: str, epoch: str, space: str, seq: int, body: bytes) -> None:
        self._db.execute("INSERT INTO conflict VALUES (?, ?, ?, ?, ?)", (gateway, epoch, space, seq, body))

    def cover(self, gateway: str, epoch: str, space: str, first: int, last: int) -> None:
        """Note that a range is held."""
        held = self.held(gateway, epoch, space)
        held.add(first, last)
        self._db.execute(
            "INSERT OR REPLACE INTO ledger VALUES (?, ?, ?, ?)",
            (gateway, epoch, space, json.dumps(list(held))),
        )

    def add_manifest(self, name: str, manifest: Manifest) -> None:
        """Keep a manifest under its name."""
        self._db.execute("INSERT OR IGNORE INTO manifest VALUES (?, ?)", (name, manifest.encode()))

    def add_certificate(self, gateway: str, der: bytes) -> None:
        """Keep a gateway's certificate."""
        self._db.execute("INSERT OR IGNORE INTO certificate VALUES (?, ?)", (gateway, der))

    # --- what is known

    def held(self, gateway: str, epoch: str, space: str) -> RangeSet:
        """Return what is held of an epoch."""
        found = self._db.execute(
            "SELECT ranges FROM ledger WHERE gateway = ? AND epoch = ? AND space = ?", (gateway, epoch, space)
        ).fetchone()
        return RangeSet() if found is None else RangeSet((a, b) for a, b in json.loads(found[0]))

    def epochs(self, gateway: str) -> list[str]:
        """Return the epochs of a gateway of which something is held."""
        found = self._db.execute("SELECT DISTINCT epoch FROM ledger WHERE gateway = ?", (gateway,))
        return [epoch for (epoch,) in found]

    def manifest(self, name: str) -> Manifest | None:
        """Return a manifest by its name."""
        found = self._db.execute("SELECT body FROM manifest WHERE name = ?", (name,)).fetchone()
        return None if found is None else decode_manifest(found[0])

    def certificates(self) -> list[tuple[str, bytes]]:
        """Return every certificate with its gateway."""
        return list(self._db.execute("SELECT gateway, der FROM certificate"))

    # --- the count of the books

    @property
    def books(self) -> str:
        """Id of these books."""
        return str(self._db.execute("SELECT books FROM id").fetchone()[0])

    def renew(self, named: str) -> None:
        """Take a new id, later than one that was named."""
        born = max(_now_ms(), books_born_ms(named) + 1)
        self._db.execute("UPDATE id SET books = ?", (new_books_id(born),))

    def n(self, gateway: str) -> int:
        """Return the last number given to a gateway."""
        found = self._db.execute("SELECT n FROM count WHERE gateway = ?", (gateway,)).fetchone()
        return 0 if found is None else int(found[0])

    def next_n(self, gateway: str) -> int:
        """Return the next number: never one that was given, also when a count is lost."""
        n = max(self.n(gateway) + 1, _now_ms())
        self._db.execute("INSERT OR REPLACE INTO count VALUES (?, ?)", (gateway, n))
        return n

    # --- for people and judges

    def readings(self) -> Iterator[dict[str, object]]:
        """Yield every reading."""
        groups: dict[str, dict[int, Group]] = {}
        for gateway, epoch, name, body in self._db.execute("SELECT gateway, epoch, manifest, body FROM row"):
            if name not in groups:
                manifest = self.manifest(name)
                groups[name] = {} if manifest is None else manifest.group_by_number()
            row = _row.decode(body)
            for index, point in enumerate(groups[name][row.group].points):
                value = shown(point, row.values[index])
                reasons = [*row.quality.get("*", []), *row.quality.get(str(index), [])]
                yield {
                    "gateway": gateway,
                    "epoch": epoch,
                    "seq": row.seq,
                    "index": index,
                    "tick": row.tick,
                    "device": groups[name][row.group].device,
                    "point": point.name,
                    "value": value if value is None or isinstance(value, str | bool) else format(value, "f"),
                    "reasons": reasons,
                    "quality": code_of(reasons),
                }


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
