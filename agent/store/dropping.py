"""Dropping rows that some route still waits for, with Gaps in their place.

What leaves the store unconfirmed is told twice: by sequences (a Gap with
``group = 0`` and ``dropped`` ranges, so that the other end stops waiting for them)
and by ticks of each group.  Gaps that are dropped themselves, because they were
never confirmed either, are told again with their own reason.
"""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import msgspec

from agent.store.recordfile import HEAD, RecordFile
from agent.store.room import DELETE_STEP
from core.codec import encode_record
from core.manifest import Group, Manifest
from core.ranges import RangeSet
from core.records import Gap, Record

QUOTA: Final = "quota"
ROWS_A_GROUP: Final = 10
"""Records of a step for each group: with fewer, the Gaps would take the room that the rows gave."""
MAX_STEP: Final = 20_000
WORTH_IT: Final = 4
_decode = msgspec.json.Decoder(Record).decode


class Terms:
    """Which manifest was in force for which ids, and what its group numbers mean now."""

    def __init__(self, spans: Sequence[tuple[int, Manifest]], current: Manifest) -> None:
        self._begins = [begin for begin, _ in spans]
        self._manifests = [manifest for _, manifest in spans]
        self._current = {group.key: group for group in current.groups}
        self._now: dict[int, dict[int, Group]] = {}
        self.groups = len(current.groups)

    def add(self, from_id: int, manifest: Manifest) -> None:
        """Take a manifest that is in force from an id on; groups keep their numbers and keys in it."""
        self._manifests.append(manifest)  # first: whoever looks meanwhile, in another thread, finds it
        self._begins.append(from_id)

    def manifest_at(self, id_: int) -> Manifest:
        """Return the manifest in force at an id."""
        return self._manifests[max(bisect_right(self._begins, id_) - 1, 0)]

    def group_now(self, id_: int, grp: int) -> Group | None:
        """Return the present group for a group number at an id; None when it is no longer polled."""
        manifest = self.manifest_at(id_)
        known = self._now.get(id(manifest))
        if known is None:
            now = {group.group: self._current.get(group.key) for group in manifest.groups}
            known = self._now[id(manifest)] = {number: group for number, group in now.items() if group}
        return known.get(grp)


@dataclass(slots=True)
class Told:
    """What has to be told of the records that go."""

    sequences: dict[str, RangeSet] = field(default_factory=dict)
    """By epoch."""
    ticks: dict[tuple[int, int, str, bool], RangeSet] = field(default_factory=dict)
    """Grid numbers by (group number, phase, reason, unknown extent)."""
    every: dict[int, int] = field(default_factory=dict)

    def add_sequences(self, epoch: str, first: int, last: int) -> None:
        """Note sequences that go."""
        self.sequences.setdefault(epoch, RangeSet()).add(first, last)

    def add_ticks(self, group: Group, first: int, last: int, reason: str, unknown: bool = False) -> None:
        """Note ticks that go."""
        every = self.every[group.group] = group.every_ms
        runs = self.ticks.setdefault((group.group, first % every, reason, unknown), RangeSet())
        runs.add(first // every, last // every)

    def gaps(self, seq: int) -> list[Gap]:
        """Return the Gap records, numbered from ``seq``."""
        found: list[Gap] = []
        for epoch, sequences in self.sequences.items():
            if sequences:
                found.append(Gap(seq + len(found), 0, 0, 0, 0, QUOTA, epoch=epoch, dropped=list(sequences)))
        for (number, phase, reason, unknown), runs in self.ticks.items():
            every = self.every[number]
            for first, last in runs:
                begin, end, many = first * every + phase, last * every + phase, last - first + 1
                found.append(Gap(seq + len(found), number, begin, end, many, reason, unknown))
        return found


def drop_unconfirmed(file: RecordFile, below: int, terms: Terms) -> int:
    """Delete the oldest records although a route waits for them, and put Gaps in their place.

    In the caller's transaction.  At most :data:`DELETE_STEP` records; ids >= ``below`` and the newest
    stay.  Returns how many went.
    """
    step = max(DELETE_STEP, min(ROWS_A_GROUP * terms.groups, MAX_STEP))
    query = "SELECT id, grp, tick, body FROM record WHERE id >= ? AND id < ? ORDER BY id LIMIT ?"
    first = file.loose
    rows = file.db.execute(query, (first, min(below, file.top), step)).fetchall()
    if not rows:
        return 0
    told = _told(file, rows, terms, keep_reasons=True)
    if len(told.gaps(0)) * WORTH_IT > len(rows):
        # A Gap for nearly every row: what happened in between all became "quota".
        told = _told(file, rows, terms, keep_reasons=False)
        if len(told.gaps(0)) * 2 > len(rows):
            return 0  # nothing would be gained: what is left is told already
    gone = file.delete_below(rows[-1][0] + 1, step)
    _keep_head(file, told)
    next_id = file.top + 1
    gaps = told.gaps(next_id - file.epochs[-1].base)
    file.insert([(next_id + at, 0, gap.last_tick, encode_record(gap)) for at, gap in enumerate(gaps)])
    return gone


def _told(
    file: RecordFile, rows: list[tuple[int, int, int, bytes]], terms: Terms, *, keep_reasons: bool
) -> Told:
    told = Told()
    _tell_sequences(file, file.loose, rows[-1][0], told)
    for id_, grp, tick, body in rows:
        if grp > 0:
            group = terms.group_now(id_, grp)
            if group is not None:
                told.add_ticks(group, tick, tick, QUOTA)
        elif grp == 0:
            _tell_again(id_, body, terms, told, keep_reasons)
    return told


def _tell_sequences(file: RecordFile, first: int, last: int, told: Told) -> None:
    """Note every sequence from the first to the last, holes included: they will not come either."""
    for known, end in file.epoch_spans():
        begin, upto = max(first, known.base + 1), min(last, end)
        if begin <= upto:
            told.add_sequences(known.epoch, begin - known.base, upto - known.base)


def _keep_head(file: RecordFile, told: Told) -> None:
    """Take out the head of an epoch that stays with its rows."""
    known = file.epoch_of(file.low)
    if file.low < file.loose and known.epoch in told.sequences:
        told.sequences[known.epoch].remove(file.low - known.base, file.low - known.base + HEAD - 1)


def _tell_again(id_: int, body: bytes, terms: Terms, told: Told, keep_reasons: bool) -> None:
    record: Record = _decode(body)
    if not isinstance(record, Gap):
        return
    for first, last in record.dropped:
        told.add_sequences(record.epoch, first, last)
    group = terms.group_now(id_, record.group) if record.group else None
    if group is not None:
        reason, unknown = (record.reason, record.unknown_extent) if keep_reasons else (QUOTA, False)
        told.add_ticks(group, record.first_tick, record.last_tick, reason, unknown)
