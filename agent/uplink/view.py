"""What one entity may see of the stored records, and how they are written for it.

What an entity sees of a reading is judged by the ownership at the reading's time
(its tick), as the manifest in force for the row has it; of a gap it sees the ticks of
its own terms, of an alarm about a device what lies in them.  Pure.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import assert_never

import msgspec

from agent.store.recordfile import Stored
from core.codec import encode_record, row_bytes
from core.manifest import Manifest
from core.ownership import Ownership, owners_at
from core.records import (
    Alarm,
    Clock,
    Extension,
    Gap,
    ManifestRecord,
    Outcome,
    QualityRecord,
    Record,
    Start,
)

_decode = msgspec.json.Decoder(Record).decode


@dataclass(frozen=True, slots=True)
class Part:
    """Records of one message for one entity, already written as bytes."""

    rows: list[bytes]
    records: list[bytes]
    size: int
    """Bytes of rows and records."""
    last: int
    """Last id that the part covers."""
    has_start: bool

    @property
    def empty(self) -> bool:
        """Tell whether the entity sees nothing of what is covered."""
        return not self.rows and not self.records


class EntityView:
    """One manifest as one entity sees it."""

    def __init__(self, manifest: Manifest, entity: str) -> None:
        self.entity = entity
        self.manifest = manifest.view(entity)
        self.hash = self.manifest.hash()
        self._numbers = {group.key: group.group for group in self.manifest.groups}
        self._every = {group.group: group.every_ms for group in self.manifest.groups}
        self._terms: dict[int, tuple[Ownership, ...] | None] = {}
        """None: always; else judged by the tick."""
        self._groups: dict[str, list[int]] = {}
        """Numbers by device."""
        for group in self.manifest.groups:  # of their owners, only the terms of the entity
            always = len(group.owners) == 1 and _unbounded(group.owners[0])
            self._terms[group.group] = None if always else group.owners
            self._groups.setdefault(group.device, []).append(group.group)

    def sees(self, grp: int, tick: int) -> bool:
        """Tell whether the entity owns the data of a group at a tick."""
        if grp not in self._terms:
            return False
        terms = self._terms[grp]
        return terms is None or self.entity in owners_at(terms, tick)

    def part(self, stored: Sequence[Stored], base: int, limit: int) -> Part:
        """Write what the entity sees of some records, until ``limit`` bytes are reached.

        Always covers at least one record; the rest is for the next message.
        """
        rows: list[bytes] = []
        records: list[bytes] = []
        size = 0
        last = stored[0].id - 1
        has_start = False
        terms = self._terms
        for record in stored:
            grp = record.grp
            if grp > 0:
                if grp in terms and (terms[grp] is None or self.sees(grp, record.tick)):
                    row = row_bytes(record.id - base, record.body)
                    rows.append(row)
                    size += len(row) + 1
            else:
                other = self._other(record, record.id - base)
                if other is not None:
                    body = encode_record(other)
                    records.append(body)
                    size += len(body) + 1
                    has_start = has_start or isinstance(other, Start)
            last = record.id
            if size >= limit:
                break
        return Part(rows, records, size, last, has_start)

    def _other(self, stored: Stored, seq: int) -> Record | None:
        if stored.grp == -1:
            return ManifestRecord(seq, self.hash, self.manifest)
        record: Record = _decode(stored.body)
        match record:
            case Start():
                number = self._numbers.get
                own = {key: tick for key, tick in record.ticks.items() if self.sees(number(key, 0), tick)}
                return msgspec.structs.replace(record, ticks=own)
            case Gap(group=0):
                return record
            case Gap():
                return self._gap(record)
            case QualityRecord():
                return record if record.group in self._terms else None
            case Clock():
                return record
            case Alarm():
                groups = self._groups.get(record.device, ())
                seen = not record.device or any(self.sees(group, record.at) for group in groups)
                return record if seen else None
            case Outcome():
                groups = self._groups.get(record.device, ())
                issued = record.entity == self.entity
                return record if issued or any(self.sees(group, record.at) for group in groups) else None
            case ManifestRecord() | Extension():
                return None  # a manifest lies apart; whose the others are, the version that writes them says
            case _:
                assert_never(record)

    def _gap(self, gap: Gap) -> Gap | None:
        """Return the part of a gap that lies in the entity's own terms, None when there is none."""
        if gap.group not in self._terms:
            return None
        terms = self._terms[gap.group]
        if terms is None:
            return gap
        every = self._every[gap.group]
        first, last, ticks = gap.last_tick, gap.first_tick, 0
        for term in terms:
            begin, end = gap.first_tick, gap.last_tick
            if term.valid_from_ms is not None and term.valid_from_ms > begin:
                begin -= (begin - term.valid_from_ms) // every * every  # the first tick at or after it
            if term.valid_to_ms is not None and term.valid_to_ms <= end:
                end -= ((end - term.valid_to_ms) // every + 1) * every  # the last tick before it
            if begin <= end:
                first, last = min(first, begin), max(last, end)
                ticks += (end - begin) // every + 1
        if not ticks:
            return None
        return msgspec.structs.replace(gap, first_tick=first, last_tick=last, ticks=min(ticks, gap.ticks))


def _unbounded(term: Ownership) -> bool:
    return term.valid_from_ms is None and term.valid_to_ms is None
