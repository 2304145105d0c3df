"""Reading an audit file and judging it, also while the agent writes: entries, verification, proofs.

Trusts nothing in the file but the bytes of its entries: hashes are computed anew.  What shows that a
log was rewritten from its beginning is a head that was published before; :func:`continues` compares.
"""

import base64
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from agent.store.auditentry import NOTHING_BEFORE, Chain, canonical, chained
from agent.store.connection import connect, translated
from agent.store.schema import version_of
from core.checkpoint import Checkpoint
from core.errors import ConfigError, StoreCorrupt, StoreError
from core.merkle import Peaks, Tree, included


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry, as it was written."""

    number: int
    at_ms: int
    kind: str
    body: str
    leaf: bytes

    @property
    def encoded(self) -> bytes:
        """The bytes that are hashed, after the leaf before."""
        return canonical(self.number, self.at_ms, self.kind, self.body)


@dataclass(frozen=True, slots=True)
class Proof:
    """That an entry is in a log whose head somebody holds; can be checked with nothing else."""

    entry: bytes
    before: bytes
    """Leaf of the entry before, which the hash covers."""
    number: int
    size: int
    path: tuple[bytes, ...]

    def holds(self, checkpoint: Checkpoint) -> bool:
        """Tell whether the entry is in the log of a checkpoint."""
        leaf = chained(Chain(Peaks(), self.before), self.entry).last
        return checkpoint.size == self.size and included(
            leaf, self.number - 1, self.size, self.path, checkpoint.root
        )


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is wrong with a log; nothing, if ``faults`` is empty."""

    entries: int
    size: int
    dropped: int
    root: bytes
    faults: tuple[str, ...]


class AuditLook:
    """An audit file, read only.  Use as a context manager."""

    def __init__(self, path: Path) -> None:
        """Open; `ConfigError` when there is none."""
        self.path = path
        if not path.exists():
            raise ConfigError(f"there is no {path}: give the data_dir of a gateway")
        try:
            self._db = connect(path, readonly=True)
            if version_of(self._db, "audit", path) < 2:
                self._db.close()
                raise StoreError(f"{path} was written before the audit had hashes: start the agent once")
        except sqlite3.Error as error:
            raise translated(error, path) from error

    def __enter__(self) -> "AuditLook":
        return self

    def __exit__(self, *exc: object) -> None:
        self._db.close()

    def entries(self, after: int = 0) -> Iterator[Entry]:
        """Yield the entries behind a number, in order."""
        rows = self._db.execute(
            "SELECT id, at_ms, kind, body, leaf FROM event WHERE id > ? ORDER BY id", (after,)
        )
        for row in rows:
            yield Entry(*row)

    def last(self, count: int) -> list[Entry]:
        """Return the last entries, oldest first."""
        top = self._db.execute("SELECT coalesce(max(id), 0) FROM event").fetchone()[0]
        return list(self.entries(top - count))

    def heads(self) -> list[tuple[int, int, str]]:
        """Return (size, at_ms, note) of the heads that were signed, oldest first."""
        return self._db.execute("SELECT size, at_ms, note FROM head ORDER BY size").fetchall()

    def verify(self) -> Verdict:
        """Judge the whole log by itself: every hash, the chain, the tree, the signed heads' roots."""
        chain, last, dropped = self._kept()
        faults: list[str] = []
        found = dropped
        entries = 0
        notes = {size: note for size, _, note in self.heads()}
        for entry in self.entries():
            if entry.number != found.peaks.size + 1:
                faults.append(f"entries {found.peaks.size + 1} to {entry.number - 1} are missing")
                break
            found = chained(found, entry.encoded)
            entries += 1
            if found.last != entry.leaf:
                faults.append(f"entry {entry.number} is not what was written")
                break
            note = notes.pop(entry.number, None)
            if note is not None and Checkpoint.parse(note).root != found.peaks.root:
                faults.append(f"the head signed at {entry.number} is of another log")
        if not faults and (found.peaks != chain or found.last != last):
            faults.append(f"the tree is of {chain.size} entries, the log has {found.peaks.size}")
        beyond = [size for size in notes if size > max(found.peaks.size, dropped.peaks.size)]
        if not faults and beyond:
            faults.append(f"a head of {max(beyond)} entries was signed, the log has {found.peaks.size}")
        return Verdict(entries, found.peaks.size, dropped.peaks.size, found.peaks.root, tuple(faults))

    def continues(self, checkpoint: Checkpoint) -> str | None:
        """Return why the log does not continue one whose head somebody holds; None when it does."""
        chain, _, dropped = self._kept()
        if checkpoint.size > chain.size:
            return f"the log was cut: it has {chain.size} entries, {checkpoint.size} were published"
        if checkpoint.size < dropped.peaks.size:
            return f"entries up to {dropped.peaks.size} were dropped by age: take a later head"
        if self._tree(dropped).root(checkpoint.size) != checkpoint.root:
            return f"the log was rewritten: its first {checkpoint.size} entries are not those published"
        return None

    def prove(self, number: int) -> Proof:
        """Return the proof that an entry is in the log as it is now; `ConfigError` when it is not there."""
        chain, _, dropped = self._kept()
        rows = {entry.number: entry for entry in self.entries(number - 2) if entry.number <= number}
        if number not in rows:
            raise ConfigError(
                f"there is no entry {number}: the log holds {dropped.peaks.size + 1} to {chain.size}"
            )
        before = rows[number - 1].leaf if number - 1 in rows else dropped.last
        path = self._tree(dropped).inclusion(number - 1, chain.size)
        return Proof(rows[number].encoded, before, number, chain.size, tuple(path))

    def checkpoint(self, origin: str) -> Checkpoint:
        """Return the log's present head, unsigned."""
        chain, _, _ = self._kept()
        return Checkpoint(origin, chain.size, chain.root)

    def _tree(self, dropped: Chain) -> Tree:
        return Tree(self._leaves, dropped.peaks)

    def _leaves(self, begin: int, end: int) -> list[bytes]:
        rows = self._db.execute("SELECT leaf FROM event WHERE id > ? AND id <= ? ORDER BY id", (begin, end))
        return [leaf for (leaf,) in rows]

    def _kept(self) -> tuple[Peaks, bytes, Chain]:
        row = self._db.execute(
            "SELECT size, peaks, last, dropped, dropped_peaks, dropped_last FROM tree"
        ).fetchone()
        if row is None:
            return Peaks(), NOTHING_BEFORE, Chain(Peaks(), NOTHING_BEFORE)
        try:
            return Peaks.decode(row[0], row[1]), row[2], Chain(Peaks.decode(row[3], row[4]), row[5])
        except ValueError as error:
            raise StoreCorrupt(f"{self.path} holds a tree that is none: {error}") from error


def proof_as_json(proof: Proof) -> dict[str, object]:
    """Return a proof for a file."""
    return {
        "entry": proof.entry.decode(),
        "before": base64.b64encode(proof.before).decode(),
        "number": proof.number,
        "size": proof.size,
        "path": [base64.b64encode(one).decode() for one in proof.path],
    }


def proof_from_json(found: object) -> Proof:
    """Read what :func:`proof_as_json` wrote; `ConfigError` for anything else."""
    try:
        if not isinstance(found, dict):
            raise TypeError
        return Proof(
            str(found["entry"]).encode(),
            base64.b64decode(found["before"], validate=True),
            int(found["number"]),
            int(found["size"]),
            tuple(base64.b64decode(one, validate=True) for one in found["path"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError("that is no proof as `portico audit prove --json` writes it") from error
