"""Judgements that come later than the rows they are about, as records: of this life, and of the one before.

A register that froze before a restart is known to be frozen after it: the rows of the earlier life since
which it stands still are judged too, in a record of their own, because a record names rows of one epoch.
"""

from collections.abc import Callable, Iterable
from typing import Final

from agent.sense import Later
from agent.store.lastrows import decoded
from agent.store.recordfile import Epoch, Stored
from core.manifest import Value
from core.records import QualityRecord, Record

LOOK_BACK: Final = 200_000
"""Records looked at for the row since which a value stands still."""
ROWS: Final = (
    "SELECT id, grp, tick, body FROM record WHERE grp = :grp AND id BETWEEN :low AND :high ORDER BY id DESC"
)


def of_this_life(grp: int, later: Later, epoch: str, at_ms: int) -> Callable[[int], Record]:
    """Return what makes the record over the rows of this life, once its sequence is known."""
    since = later.since

    def make(seq: int) -> Record:
        first = max(seq - 1, 1) if since.seq is None else 1 if since.epoch not in ("", epoch) else since.seq
        return _record(seq, at_ms, epoch, (first, max(seq - 1, first)), grp, later)

    return make


def of_earlier_life(
    grp: int, later: Later, at_ms: int, known: Epoch, end: int, rows: Iterable[Stored]
) -> Callable[[int], Record]:
    """Return what makes the record over the rows of an earlier life.

    Args:
        grp: group number, the same in that life.
        later: ``since`` is the last row of the group there.
        at_ms: when it was judged.
        known: that life.
        end: the last id of it.
        rows: of the group, the latest first, beginning with ``since``.
    """
    assert later.since.seq is not None
    since = unchanged_since(rows, known.base, later.point)
    span = (later.since.seq if since is None else since - known.base, end - known.base)
    return lambda seq: _record(seq, at_ms, known.epoch, span, grp, later)


def unchanged_since(rows: Iterable[Stored], base: int, point: int) -> int | None:
    """Return the id of the row since which a point has the value of the first of ``rows``, None for none.

    Rows are of one group, the latest first; those in which the point has no value are passed over.
    """
    found: tuple[int, Value] | None = None
    for stored in rows:
        row = decoded(stored, base)
        if row is None or point >= len(row.values):
            break
        value = row.values[point]
        if value is None:
            continue
        if found is not None and value != found[1]:
            break
        found = (stored.id, value)
    return None if found is None else found[0]


def _record(seq: int, at_ms: int, epoch: str, span: tuple[int, int], grp: int, later: Later) -> QualityRecord:
    return QualityRecord(
        seq=seq,
        at=at_ms,
        epoch=epoch,
        first=span[0],
        last=span[1],
        group=grp,
        reasons=[later.reason],
        rule=later.rule,
        points=[later.point],
    )
