"""The last row of each group in which its device said something, as it lies in the store.

Read at the start, one record a group by its id: what the first row of a life is compared with.  Here is
what was written; what of it may be compared with says ``agent.recall``.
"""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from agent.store.recordfile import RecordFile, Stored, intact
from core.codec import row_bytes
from core.manifest import Group, Manifest
from core.records import Row

TRIED: Final = 4
"""Rows of a group that are looked at for values, the latest first."""
_row = msgspec.json.Decoder(Row).decode


@dataclass(frozen=True, slots=True)
class LastRow:
    """One row, with the group as its manifest had it."""

    id: int
    epoch: str
    group: Group
    row: Row


def last_rows(
    file: RecordFile, ids: Mapping[str, Sequence[int]], spans: Sequence[tuple[int, Manifest]]
) -> dict[str, LastRow]:
    """Return by group key the latest of some rows that has a value; none where none of them has.

    ``spans`` are the manifests by the id from which they are in force.
    """
    begins = [begin for begin, _ in spans]
    found: dict[str, LastRow] = {}
    for key, candidates in ids.items():
        for id_ in candidates[:TRIED]:
            at = bisect_right(begins, id_) - 1
            last = _read(file, id_, key, spans[at][1]) if at >= 0 else None
            if last is not None:
                found[key] = last
                break
    return found


def _read(file: RecordFile, id_: int, key: str, manifest: Manifest) -> LastRow | None:
    query = "SELECT id, grp, tick, body, crc FROM record WHERE id = ?"
    stored = file.db.execute(query, (id_,)).fetchone()
    if stored is None or not intact(*stored):
        return None  # what is damaged is found and told by whoever reads all of it
    found = Stored(*stored[:4])
    group = next((one for one in manifest.groups if one.group == found.grp), None)
    epoch = file.epoch_of(id_)
    row = decoded(found, epoch.base)
    if group is None or group.key != key or row is None or len(row.values) != len(group.points):
        return None
    if all(value is None for value in row.values):
        return None
    return LastRow(id_, epoch.epoch, group, row)


def decoded(stored: Stored, base: int) -> Row | None:
    """Return a stored row; None when it is none."""
    try:
        return _row(row_bytes(stored.id - base, stored.body))
    except msgspec.MsgspecError:
        return None
