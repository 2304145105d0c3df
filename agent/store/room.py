"""Room: quota, reserve and age, in bounded steps between commits.

Over quota goes first what every route has confirmed, then the oldest rows that
the least important route still waits for, with a Gap.  A reserve file is given
back when the disk itself is full, because a full disk refuses even DELETE.  Age
counts only while the clock is synchronised and never takes an unconfirmed row.
"""

import os
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from agent.store.recordfile import RecordFile
from core.codec import encode_record
from core.records import Gap

DELETE_STEP: Final = 2_000
"""Rows deleted in one transaction: short enough that no insert waits noticeably."""


@dataclass(frozen=True, slots=True)
class Floor:
    """How far one route's books hold everything: ids below are confirmed."""

    priority: int
    """Importance of the route; the lowest goes first."""
    below: int


@dataclass(slots=True)
class RoomCounts:
    """What was dropped, and why."""

    pruned: int = 0
    """Confirmed records that made room or grew old."""
    dropped: int = 0
    """Records that some route had not confirmed: each lies in a Gap."""


@dataclass(slots=True)
class Room:
    """Rules and state of the room of one file."""

    quota_bytes: int
    keep_ms: int
    reserve: Path
    reserve_bytes: int
    counts: RoomCounts = field(default_factory=RoomCounts)

    def hold_reserve(self) -> bool:
        """Make sure the reserve file is there and really takes its room; False when the disk has none."""
        if self.reserve.exists() and self.reserve.stat().st_size == self.reserve_bytes:
            return True
        try:
            handle = os.open(self.reserve, os.O_CREAT | os.O_RDWR, 0o600)
            try:
                os.posix_fallocate(handle, 0, max(self.reserve_bytes, 1))
            finally:
                os.close(handle)
        except OSError:
            self.reserve.unlink(missing_ok=True)
            return False
        return True

    def give_reserve_back(self) -> bool:
        """Free the reserve for the work of making room; False when it was given already."""
        if not self.reserve.exists():
            return False
        self.reserve.unlink()
        return True

    def aside_bytes(self) -> int:
        """Return the bytes of files set aside: they count against the quota too."""
        return sum(part.stat().st_size for part in self.reserve.parent.glob("*.aside-*"))


def droppable(floors: Sequence[Floor], low: int) -> tuple[int, bool]:
    """Return (ids below this may go, whether every route has confirmed them).

    Pure: routes are left out one importance at a time, least important first, until something can go.
    """
    levels = sorted({floor.priority for floor in floors})
    for index in range(len(levels) + 1):
        kept = [floor.below for floor in floors if index == 0 or floor.priority > levels[index - 1]]
        below = min(kept, default=low + DELETE_STEP)
        if below > low:
            return below, index == 0
    return low, False


def drop_unconfirmed(file: RecordFile, below: int, current: dict[str, int], manifests: "Keys") -> int:
    """Delete the oldest rows although a route waits for them, and put Gaps in their place.

    Inside the caller's transaction.  ``current`` maps group keys to numbers of the manifest in
    force; rows of a group that is gone are told by their sequences only.
    Returns how many records went.
    """
    last = file.db.execute(
        "SELECT max(id) FROM (SELECT id FROM record WHERE id < ? ORDER BY id LIMIT ?)",
        (min(below, file.top), DELETE_STEP),
    ).fetchone()[0]
    if last is None:
        return 0
    first = file.low
    spans: dict[tuple[str, int], tuple[int, int, int]] = {}
    for id_, grp, tick in file.db.execute(
        "SELECT id, grp, tick FROM record WHERE id <= ? AND grp > 0", (last,)
    ):
        number = current.get(manifests.key(id_, grp))
        if number is not None:
            low, high, count = spans.get((file.epoch_of(id_).epoch, number), (tick, tick, 0))
            spans[(file.epoch_of(id_).epoch, number)] = (min(low, tick), max(high, tick), count + 1)
    spans_before = file.epoch_spans()
    gone = file.delete_below(last + 1, DELETE_STEP + 1)
    rows: list[tuple[int, int, int, bytes]] = []
    base, next_id = file.epochs[-1].base, file.top + 1
    for known, epoch_end in spans_before:
        begin, end = max(first, known.base + 1), min(last, epoch_end)
        if begin <= end:
            lost = Gap(
                seq=next_id - base,
                group=0,
                first_tick=0,
                last_tick=0,
                ticks=0,
                reason="quota",
                epoch=known.epoch,
                dropped=[(begin - known.base, end - known.base)],
            )
            rows.append((next_id, 0, 0, encode_record(lost)))
            next_id += 1
    for (_, number), (low, high, count) in spans.items():
        gap = Gap(
            seq=next_id - base, group=number, first_tick=low, last_tick=high, ticks=count, reason="quota"
        )
        rows.append((next_id, 0, 0, encode_record(gap)))
        next_id += 1
    file.insert(rows)
    return gone


class Keys:
    """Group keys of every manifest in the file, by the id from which it is in force."""

    def __init__(self, spans: Sequence[tuple[int, dict[int, str]]]) -> None:
        self._begins = [begin for begin, _ in spans]
        self._keys = [keys for _, keys in spans]

    def key(self, id_: int, grp: int) -> str:
        """Return the key of a row's group; empty when its manifest is not in the file."""
        at = bisect_right(self._begins, id_) - 1
        return self._keys[at].get(grp, "") if at >= 0 else ""
