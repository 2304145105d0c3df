"""Is a store whole: what SQLite says, and what must hold of its contents.

Every record is what was written and in its place; sequences follow each other, and
where they do not, a record tells why; every row fits its manifest; every tick
between two rows of a group lies in a Gap; what a route is said to hold is possible.

Relies on :mod:`agent.store.look`.  Faults are sentences; this only finds them.
"""

import contextlib
import json
import sqlite3
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import msgspec

from agent.schedule import missed
from agent.store.connection import NOT_SALVAGED
from agent.store.logrepair import cut_log
from agent.store.look import CHUNK, Look, read_only
from agent.store.opening import AUDIT, CONTROL
from agent.store.recordfile import HEAD, Epoch, Stored, intact
from agent.store.room import ASIDE
from core.codec import row_bytes, row_fault
from core.manifest import Group
from core.ranges import RangeSet
from core.records import Gap, Record, Row, Start

MAX_FAULTS: Final = 1000
"""Faults remembered; beyond, they are only counted."""
_row = msgspec.json.Decoder(Row).decode
_record = msgspec.json.Decoder(Record).decode


@dataclass(slots=True)
class Verdict:
    """What was looked at, and what is wrong with it."""

    records: int = 0
    rows: int = 0
    gap_ticks: int = 0
    fault_count: int = 0
    faults: list[str] = field(default_factory=list)
    lost: dict[str, RangeSet] = field(default_factory=dict)
    """By epoch, sequences that were not there any more when a damaged file was salvaged."""

    @property
    def ok(self) -> bool:
        """Tell whether nothing is wrong."""
        return not self.fault_count

    def sentences(self) -> Iterator[str]:
        """Yield what a person should know, the conclusion last."""
        yield from self.faults
        if self.fault_count > len(self.faults):
            yield f"and {self.fault_count - len(self.faults)} more"
        for epoch, lost in self.lost.items():
            ranges = ", ".join(f"{first}..{last}" for first, last in lost)
            yield f"epoch {epoch}: sequences {ranges} were not there when a damaged file was salvaged"
        many = sum(lost.count() for lost in self.lost.values())
        well = f"no faults, {many} sequences told as lost" if many else "all is well"
        counted = f"{self.records} records, {self.rows} rows, {self.gap_ticks} ticks in gaps"
        yield f"{counted}: {well if self.ok else f'{self.fault_count} faults'}"

    def add(self, sentence: str) -> None:
        """Note one fault."""
        self.fault_count += 1
        if len(self.faults) < MAX_FAULTS:
            self.faults.append(sentence)


def verify(look: Look) -> Verdict:
    """Return the verdict on a directory; reads everything in it once."""
    verdict = Verdict()
    for path in (look.path, look.directory / CONTROL, look.directory / AUDIT):
        if path.exists():
            for sentence in _integrity(path):
                verdict.add(sentence)
            # The log of an agent that runs changes while it is read.
            if not look.agent_runs() and (cut := cut_log(path)) is not None:
                verdict.add(f"{cut}; the next start sets {path.name} aside {_then(path)}")
    low, top = look.edges()
    _Walk(look, verdict, low, top).all()
    _routes(look, verdict, top)
    return verdict


def _then(path: Path) -> str:
    if path.name == NOT_SALVAGED:
        return f"as {path.name}.damaged-N and begins a new one, nothing of it is salvaged"
    return f"as {path.name}{ASIDE}<time> and salvages every record whose checksum holds"


def _integrity(path: Path) -> Iterator[str]:
    try:
        with contextlib.closing(read_only(path)) as db:
            for (line,) in db.execute("PRAGMA integrity_check(20)").fetchall():
                if line != "ok":
                    yield f"{path.name}: {' '.join(line.split())}"
    except sqlite3.Error as error:
        yield f"{path.name} cannot be read: {error}"


def _routes(look: Look, verdict: Verdict, top: int) -> None:
    for name, entity, n, held, crc in look.db.execute(
        "SELECT name, entity, n, held, crc FROM route"
    ).fetchall():
        if zlib.crc32(held.encode()) != crc:
            verdict.add(f"route {name}: what its books hold was changed by the disk")
            continue
        before = 0
        for first, last in json.loads(held):
            if not before < first <= last <= top:
                verdict.add(
                    f"route {name} of {entity}: its books are said to hold {first}..{last}, after {before} "
                    f"and up to {top} was possible"
                )
            before = last
        if n < 0:
            verdict.add(f"route {name} of {entity}: confirmation number {n} is negative")


class _Walk:
    """Once through all records, in the order of their ids."""

    def __init__(self, look: Look, verdict: Verdict, low: int, top: int) -> None:
        self._look = look
        self._verdict = verdict
        self._low, self._top = low, top
        self._holes: list[tuple[int, int]] = []
        """Ids that are not there, after the first records of the file."""
        self._explained: dict[str, RangeSet] = {}
        """Sequences that a record tells to be gone, by epoch."""
        self._ticks: dict[str, tuple[int, int]] = {}
        """(id, tick) of the last row or Gap by group key."""
        self._broken = 0
        """Id behind the last hole: ticks are not expected to follow across it."""

    def all(self) -> None:
        before = self._low - 1
        for stored in self._records():
            if stored.id != before + 1:
                # What was confirmed and deleted leaves a hole behind the head of the oldest epoch.
                if before >= self._low + HEAD:
                    self._holes.append((before + 1, stored.id - 1))
                self._broken = stored.id
            before = stored.id
            self._verdict.records += 1
            epoch = self._look.epoch_of(stored.id)
            if epoch is None:
                self._verdict.add(f"record {stored.id} belongs to no epoch")
            elif stored.grp > 0:
                self._row(stored, epoch)
            elif stored.grp == 0:
                self._other(stored, epoch)
            else:
                self._manifest(stored)
        self._judge_holes()

    def _records(self) -> Iterator[Stored]:
        """Yield what is whole; what is not is a fault."""
        first = self._low
        query = "SELECT id, grp, tick, body, crc FROM record WHERE id >= ? AND id <= ? ORDER BY id LIMIT ?"
        while first <= self._top:
            try:
                found = self._look.db.execute(query, (first, self._top, CHUNK)).fetchall()
            except sqlite3.DatabaseError as error:
                self._verdict.add(f"records from {first} on cannot be read: {error}")
                return
            for id_, grp, tick, body, crc in found:
                if intact(id_, grp, tick, body, crc):
                    yield Stored(id_, grp, tick, body)
                else:
                    self._verdict.add(f"record {id_} is not what was written: the disk changed it")
            if len(found) < CHUNK:
                return
            first = found[-1][0] + 1

    def _row(self, stored: Stored, epoch: Epoch) -> None:
        self._verdict.rows += 1
        group = self._look.group_of(stored.id, stored.grp)
        if group is None:
            self._verdict.add(f"row {stored.id} is of group {stored.grp}, which its manifest does not have")
            return
        try:
            row = _row(row_bytes(stored.id - epoch.base, stored.body))
        except msgspec.MsgspecError as error:
            self._verdict.add(f"row {stored.id} cannot be read: {error}")
            return
        fault = row_fault(row, group)
        if fault is not None:
            self._verdict.add(f"row {stored.id} of {group.device} does not fit its manifest: {fault}")
        if (row.group, row.tick) != (stored.grp, stored.tick):
            self._verdict.add(f"row {stored.id} is filed under another group or tick than it has")
        self._follows(stored.id, group, row.tick, row.tick, f"row {stored.id}")

    def _follows(self, id_: int, group: Group, first: int, last: int, what: str) -> None:
        at, known = self._ticks.get(group.key, (0, first))
        hole = missed(known, first, group.every_ms)
        if hole is not None and at >= self._broken:
            self._verdict.add(
                f"{what} of {group.device}: {hole[2]} ticks before it, from {hole[0]} on, "
                "are no row and lie in no gap"
            )
        self._ticks[group.key] = (id_, last)

    def _other(self, stored: Stored, epoch: Epoch) -> None:
        try:
            record: Record = _record(stored.body)
        except msgspec.MsgspecError as error:
            self._verdict.add(f"record {stored.id} cannot be read: {error}")
            return
        if record.seq != stored.id - epoch.base:
            self._verdict.add(
                f"record {stored.id} says it has sequence {record.seq}, in its epoch it is "
                f"{stored.id - epoch.base}"
            )
        match record:
            case Start():
                for before in record.before:
                    self._explain(before.epoch, before.lost)
                    for first, last in before.lost:
                        self._verdict.lost.setdefault(before.epoch, RangeSet()).add(first, last)
            case Gap(group=0):
                self._explain(record.epoch, record.dropped)
            case Gap():
                self._verdict.gap_ticks += record.ticks
                self._gap(stored, record)
            case _:
                pass

    def _gap(self, stored: Stored, gap: Gap) -> None:
        group = self._look.group_of(stored.id, gap.group)
        if group is None:
            self._verdict.add(f"gap {stored.id} is of group {gap.group}, which its manifest does not have")
            return
        if gap.ticks != (gap.last_tick - gap.first_tick) // group.every_ms + 1:
            self._verdict.add(
                f"gap {stored.id} of {group.device} counts {gap.ticks} ticks, its ends say otherwise"
            )
        known = self._ticks.get(group.key)
        told_later = gap.reason in ("quota", "store-lost") or gap.unknown_extent
        if not told_later or (known is not None and known[1] < gap.first_tick):
            self._follows(stored.id, group, gap.first_tick, gap.last_tick, f"gap {stored.id}")

    def _explain(self, epoch: str, ranges: list[tuple[int, int]]) -> None:
        told = self._explained.setdefault(epoch, RangeSet())
        for first, last in ranges:
            told.add(first, last)

    def _manifest(self, stored: Stored) -> None:
        if stored.body.decode("ascii", "replace") not in self._look.manifests:
            self._verdict.add(f"manifest record {stored.id} names a manifest that is not in the store")

    def _judge_holes(self) -> None:
        low, _ = self._look.edges()
        loose = self._look.db.execute("SELECT min(id) FROM record WHERE id >= ?", (low + HEAD,)).fetchone()[0]
        for first, last in self._holes:
            if loose is None or last < loose:
                continue  # the agent deleted on while we looked
            for epoch, end in self._spans():
                begin, until = max(first, epoch.base + 1), min(last, end)
                if begin > until:
                    continue
                told = self._explained.get(epoch.epoch, RangeSet())
                for one, other in told.missing(begin - epoch.base, until - epoch.base):
                    self._verdict.add(
                        f"sequences {one}..{other} of epoch {epoch.epoch} are missing and no record tells why"
                    )

    def _spans(self) -> Iterator[tuple[Epoch, int]]:
        epochs = self._look.epochs
        for index, epoch in enumerate(epochs):
            yield epoch, epochs[index + 1].base if index + 1 < len(epochs) else self._top
