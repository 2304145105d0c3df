"""What a new epoch says about those before it, and what it means when an old one does not obey.

The start record names the epochs in the gateway's store and the last sequence of each: with that an
old epoch can be proved whole. It also betrays a store that went back in time, and two boxes with one
id. In each of these cases everything is kept; a person has to look.

Everything here runs inside a transaction of :class:`headend.books.Books`.
"""

from __future__ import annotations

from core.ranges import RangeSet
from core.records import Start
from headend.alarms import Code
from headend.books import Books, Epoch
from headend.ledger import Space, decode_ranges, encode_ranges


def begin_epoch(books: Books, epoch: Epoch, entity: str, start: Start) -> None:
    """Enter a start record: the epoch's beginning, and the end of those before it."""
    earlier = books.connection.execute(
        "SELECT epoch FROM epoch WHERE gateway=? AND no<>? AND closed_last IS NULL "
        "AND started_ms IS NOT NULL AND started_ms <= ?",
        (epoch.gateway, epoch.no, start.at),
    ).fetchall()
    books.connection.execute(
        "UPDATE epoch SET started_ms=?, ended=?, boot=?, clock=?, software=? WHERE no=?",
        (start.at, start.ended, start.boot, start.clock, start.software, epoch.no),
    )
    for before in start.before:
        if before.epoch == epoch.epoch:
            continue
        old = books.epoch(epoch.gateway, before.epoch)
        _close(books, old, entity, before.last, before.control_last, RangeSet(before.lost), epoch.epoch)
    named = {before.epoch for before in start.before}
    missing = [name for (name,) in earlier if name not in named]
    if missing and start.ended != "set-aside":
        books.alarm(
            Code.STORE_RESTORED,
            epoch.gateway,
            f"epoch {epoch.epoch} of {epoch.gateway} began without knowing epoch {missing[0]}, which was "
            "running: an older copy of its store was put back, its store was lost, or there are two boxes "
            "with its id",
        )


def _close(
    books: Books, old: Epoch, entity: str, last: int, control_last: int, lost: RangeSet, by: str
) -> None:
    for space, end in ((Space.DATA, last), (Space.CONTROL, control_last)):
        held = books.ledger.held(old.no, entity, space)
        if any(top > end for _, top in held):
            books.alarm(
                Code.STORE_RESTORED,
                old.gateway,
                f"epoch {by} of {old.gateway} says that epoch {old.epoch} ended at {space.value} sequence "
                f"{end}, but the books hold more of it: an older copy of its store was put back; all is kept",
            )
    # Several starts name the same epoch; once closed it only ever shrinks by what was lost.
    if old.closed_last is not None:
        last = min(last, old.closed_last)
        control_last = min(control_last, old.control_last or 0)
    books.connection.execute(
        "UPDATE epoch SET closed_last=?, control_last=? WHERE no=?", (last, control_last, old.no)
    )
    old.closed_last, old.control_last = last, control_last
    if lost:
        mark_lost(books, old.gateway, old.epoch, lost)


def mark_lost(books: Books, gateway: str, epoch: str, lost: RangeSet) -> None:
    """Note data sequences that the gateway's store no longer has and will never send."""
    no = books.epoch(gateway, epoch).no
    known = decode_ranges(books.connection.execute("SELECT lost FROM epoch WHERE no=?", (no,)).fetchone()[0])
    known.update(lost)
    books.connection.execute("UPDATE epoch SET lost=? WHERE no=?", (encode_ranges(known), no))


def check_growth(books: Books, epoch: Epoch, space: Space, held: RangeSet, last: int) -> None:
    """Raise an alarm when an epoch grows beyond the end that a later start record gave it."""
    end = epoch.closed_last if space is Space.DATA else epoch.control_last
    if end is None or last <= end or last in held:
        return
    books.alarm(
        Code.TWO_GATEWAYS,
        epoch.gateway,
        f"epoch {epoch.epoch} of {epoch.gateway} ended at {space.value} sequence {end} and goes on to "
        f"{last}: two boxes have its id, or an older copy of its store was put back; all is kept",
    )


def raise_low(books: Books, epoch: Epoch, low: int) -> None:
    """Note that the gateway's store no longer has what lies below a data sequence."""
    books.connection.execute("UPDATE epoch SET low=? WHERE no=?", (low, epoch.no))
    epoch.low = low
