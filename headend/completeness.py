"""Is everything there? Ticks due against rows and gaps, and coverage against what the gateways had.

For each group of points, by its key (device, interval, first point), over all manifests: every instant
of its grid from the first to the last that is known must have a row, or lie in a gap that says why not.
What is neither is *unreported*, and there must be none once all coverage arrived: a collector that comes
late hears the newest first. A group that goes on but ends well before the newest
tick of its gateway is *open*: a silence, or values that stand still, are told in a gap when they end, and
every so often; until then nothing here tells them from a loss, so that they count neither way. For each
epoch, every sequence up to its end (by a later start record) or up to the highest that came must be covered;
what is not is a *hole*: lost, or still on its way.

Not here: whether a value is any good (its quality says that).
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass, field

from core.ranges import Range, RangeSet
from headend.alarms import Code
from headend.ledger import Space, decode_ranges

SHOWN_RANGES = 100
OPEN_AFTER_TICKS = 3
"""So many intervals behind the newest tick of its gateway, and a group is open."""
OPEN_AFTER_MS = 10_000
"""And at least so much: what was polled together arrives together, more or less."""
WAITS_MS = 120_000
"""A gateway that is heard for the first time sends again what was not taken, by default after
30 s (`resend_after`)."""


@dataclass(slots=True)
class GroupTally:
    """The ticks of one group."""

    gateway: str
    device: str
    key: str
    every_ms: int
    first_tick: int
    last_tick: int
    due: int
    with_row: int
    in_gaps: int
    """Ticks without a row that lie in a gap."""
    unreported: int
    reasons: dict[str, int] = field(default_factory=dict)
    """Ticks by the reason of their gap, as the gateway counted them, with those that have a row too."""
    told: dict[str, int] = field(default_factory=dict)
    """Ticks without a row by the reason of the narrowest gap that they lie in; the sum is ``in_gaps``."""
    unknown_extent: int = 0
    """Gaps whose extent the gateway's clock could not tell."""
    unreported_ticks: list[Range] = field(default_factory=list)
    """The first of them: ticks, both included."""
    goes_on: bool = True
    """It is in the manifest that the gateway sends by now."""
    open_since: int | None = None
    """First tick that is not accounted for yet, where the gateway's newest tick is well after it."""

    @property
    def percent(self) -> float:
        """Ticks with a row, of a hundred due."""
        return 100.0 * self.with_row / self.due if self.due else 100.0


@dataclass(slots=True)
class EpochTally:
    """The coverage of one sequence of one epoch for one entity."""

    gateway: str
    epoch: str
    entity: str
    space: Space
    last: int
    """Its end if it was closed, else the highest sequence that came."""
    closed: bool
    covered: int
    lost: int
    """Sequences that are not here and that the gateway's store does not have: they come no more."""
    missing: int
    holes: list[Range] = field(default_factory=list)
    first_seen_ms: int = 0
    """When these books first heard of the epoch."""

    def waits(self, now_ms: int) -> bool:
        """Tell whether what is missing of an epoch that is new here may just not have come yet."""
        return self.missing > 0 and now_ms - self.first_seen_ms < WAITS_MS

    @property
    def whole(self) -> bool:
        """Closed, and everything is there or known to be lost."""
        return self.closed and not self.missing


@dataclass(frozen=True, slots=True)
class Completeness:
    """The result: groups, epochs, and gaps that belong to no known group."""

    groups: list[GroupTally]
    epochs: list[EpochTally]
    unresolved_gaps: int
    conflicts: int
    doubtful: tuple[tuple[str, str], ...] = ()
    """Gateways and alarms that stand, by which rows of one id may be of two boxes, or of two contents."""

    def lacks(self, gateway: str) -> bool:
        """Whether coverage of a gateway is missing, which may bring ticks that nothing tells of yet."""
        return any(epoch.missing for epoch in self.epochs if epoch.gateway == gateway)

    @property
    def empty(self) -> bool:
        """Whether nothing was ever received of what was asked for, so that there is nothing to judge."""
        return not (self.groups or self.epochs or self.unresolved_gaps)

    @property
    def up_to(self) -> int | None:
        """The last tick accounted for in every group that goes on; if none does, in the last one."""
        going_on = [group.last_tick for group in self.groups if group.goes_on]
        return min(going_on, default=max((group.last_tick for group in self.groups), default=None))

    @property
    def holds(self) -> bool:
        """Whether something is there and nothing of it is missing without a reason."""
        return (
            not self.empty
            and not any(group.unreported for group in self.groups)
            and not any(epoch.missing for epoch in self.epochs)
            and not self.unresolved_gaps
        )


def completeness(connection: sqlite3.Connection, gateway: str = "", device: str = "") -> Completeness:
    """Judge what the books hold; of one gateway, of one device, or all."""
    keys: dict[tuple[str, str], list[tuple[int, str, int, int]]] = {}
    for no, owner, key, name, every_ms, phase_ms in connection.execute(
        "SELECT no, gateway, key, device, every_ms, phase_ms FROM grp "
        "WHERE (?1 = '' OR gateway = ?1) AND (?2 = '' OR device = ?2) ORDER BY gateway, device, key, no",
        (gateway, device),
    ):
        keys.setdefault((owner, key), []).append((no, name, every_ms, phase_ms))
    groups = [
        tally
        for (owner, key), numbers in keys.items()
        if (tally := _group(connection, owner, key, numbers)) is not None
    ]
    _open(connection, groups)
    unresolved = connection.execute(
        "SELECT count(*) FROM gap JOIN epoch ON epoch.no = gap.epoch_no "
        "WHERE grp_no IS NULL AND (?1 = '' OR gateway = ?1)",
        (gateway,),
    ).fetchone()[0]
    conflicts = connection.execute(
        "SELECT count(*) FROM conflict JOIN epoch ON epoch.no = conflict.epoch_no "
        "WHERE (?1 = '' OR gateway = ?1)",
        (gateway,),
    ).fetchone()[0]
    # Coverage is of whole gateways: of a device that nobody knows it would say that all is there.
    epochs = [] if device and not groups else _epochs(connection, gateway)
    doubtful = connection.execute(
        "SELECT gateway, code FROM alarm WHERE cleared_ms IS NULL AND code IN (?2, ?3, ?4) "
        "AND (?1 = '' OR gateway = ?1) ORDER BY gateway, code",
        (gateway, Code.TWO_GATEWAYS.value, Code.STORE_RESTORED.value, Code.CONFLICT.value),
    ).fetchall()
    return Completeness(groups, epochs, unresolved, conflicts, tuple(doubtful))


def _group(
    connection: sqlite3.Connection, gateway: str, key: str, numbers: list[tuple[int, str, int, int]]
) -> GroupTally | None:
    """Tally one group: its ticks as numbers on its grid."""
    _, device, every_ms, phase_ms = numbers[0]
    rows, gaps = RangeSet(), RangeSet()
    reasons: dict[str, int] = {}
    spans: list[tuple[int, int, str]] = []
    unknown_extent = 0
    connection.execute("BEGIN")  # rows and gaps of one instant; short, so that the WAL can be written back
    try:
        for no, _, every, phase in numbers:
            for first, last in _islands(connection, no, every):
                rows.add((first - phase) // every, (last - phase) // every)
            for first, last, ticks, reason, unknown in connection.execute(
                "SELECT first_tick, last_tick, ticks, reason, unknown_extent FROM gap WHERE grp_no=?", (no,)
            ):
                # Both ends are included, and are rounded inwards to the grid.
                begin, end = -((phase - first) // every), (last - phase) // every
                if begin <= end:
                    gaps.add(begin, end)
                    spans.append((begin, end, reason))
                reasons[reason] = reasons.get(reason, 0) + ticks
                unknown_extent += unknown
    finally:
        connection.execute("COMMIT")
    known = rows.copy()
    known.update(gaps)
    if not known:
        return None
    every_tick = list(known)
    first, last = every_tick[0][0], every_tick[-1][1]
    due = last - first + 1
    missing = known.missing(first, last)
    return GroupTally(
        gateway=gateway,
        device=device,
        key=key,
        every_ms=every_ms,
        first_tick=first * every_ms + phase_ms,
        last_tick=last * every_ms + phase_ms,
        due=due,
        with_row=rows.count(),
        in_gaps=known.count() - rows.count(),
        unreported=due - known.count(),
        reasons=reasons,
        told=_told(rows, spans),
        unknown_extent=unknown_extent,
        unreported_ticks=[
            (begin * every_ms + phase_ms, end * every_ms + phase_ms) for begin, end in missing[:SHOWN_RANGES]
        ],
    )


def _told(rows: RangeSet, spans: list[tuple[int, int, str]]) -> dict[str, int]:
    """Return the ticks without a row by reason: each once, by the narrowest of the gaps over it."""
    told: dict[str, int] = {}
    known = rows.copy()
    for begin, end, reason in sorted(spans, key=lambda span: span[1] - span[0]):
        many = _count(known.missing(begin, end))
        if many:
            told[reason] = told.get(reason, 0) + many
            known.add(begin, end)
    return told


def _open(connection: sqlite3.Connection, groups: list[GroupTally]) -> None:
    """Note which groups go on, and which of them are not accounted for up to now."""
    for gateway in dict.fromkeys(group.gateway for group in groups):
        newest, keys = _newest(connection, gateway)
        for group in groups:
            if group.gateway != gateway:
                continue
            group.goes_on = group.key in keys
            if group.goes_on and newest - group.last_tick > max(
                OPEN_AFTER_TICKS * group.every_ms, OPEN_AFTER_MS
            ):
                group.open_since = group.last_tick + group.every_ms


def _newest(connection: sqlite3.Connection, gateway: str) -> tuple[int, set[str]]:
    """Return the newest tick of a gateway, of any group, and the keys of the groups that go on.

    Those are in a manifest to which rows of the newest start belong: each group has one of it soon.
    """
    found = connection.execute(
        "SELECT grp.manifest, grp.key, row.tick, "
        "(SELECT max(last_tick) FROM gap WHERE grp_no = grp.no), row.epoch_no = (SELECT no FROM epoch "
        "WHERE gateway = ?1 ORDER BY coalesce(started_ms, first_seen_ms) DESC, no DESC LIMIT 1) "
        "FROM grp LEFT JOIN row ON (row.epoch_no, row.seq) = (SELECT epoch_no, seq FROM row AS last "
        "WHERE last.grp_no = grp.no ORDER BY tick DESC LIMIT 1) WHERE grp.gateway = ?1",
        (gateway,),
    ).fetchall()
    in_force = {manifest for manifest, *_, newest_start in found if newest_start}
    ticks = [tick for _, _, *both, _ in found for tick in both if tick is not None]
    return max(ticks, default=0), {key for manifest, key, *_ in found if manifest in in_force}


def _islands(connection: sqlite3.Connection, grp_no: int, every_ms: int) -> list[Range]:
    """Return the runs of ticks without a step of more than one interval; SQLite walks the index."""
    found = connection.execute(
        "SELECT tick, before FROM (SELECT tick, lag(tick) OVER (ORDER BY tick) AS before "
        "FROM row WHERE grp_no = ?1) WHERE before IS NULL OR tick - before > ?2",
        (grp_no, every_ms),
    ).fetchall()
    if not found:
        return []
    end = connection.execute("SELECT max(tick) FROM row WHERE grp_no=?", (grp_no,)).fetchone()[0]
    begins = [tick for tick, _ in found]
    ends = [before for _, before in found[1:]] + [end]
    return list(zip(begins, ends, strict=True))


def _epochs(connection: sqlite3.Connection, gateway: str) -> list[EpochTally]:
    tallies: list[EpochTally] = []
    entities = [name for (name,) in connection.execute("SELECT DISTINCT entity FROM coverage")]
    for no, owner, epoch, closed_last, control_last, lost_text, low, first_seen_ms in connection.execute(
        "SELECT no, gateway, epoch, closed_last, control_last, lost, low, first_seen_ms FROM epoch "
        "WHERE (?1 = '' OR gateway = ?1) ORDER BY gateway, no",
        (gateway,),
    ).fetchall():
        for entity in entities:
            for space, closed in ((Space.DATA, closed_last), (Space.CONTROL, control_last)):
                found = connection.execute(
                    "SELECT ranges FROM coverage WHERE epoch_no=? AND entity=? AND space=?",
                    (no, entity, space.value),
                ).fetchone()
                held = RangeSet() if found is None else decode_ranges(found[0])
                lost = decode_ranges(lost_text) if space is Space.DATA else RangeSet()
                last = max([end for _, end in held], default=0) if closed is None else closed
                if not last:
                    continue
                if space is Space.DATA and low > 1:
                    lost.add(1, low - 1)
                known = held.copy()
                known.update(lost)
                holes = known.missing(1, last)
                tallies.append(
                    EpochTally(
                        gateway=owner,
                        epoch=epoch,
                        entity=entity,
                        space=space,
                        last=last,
                        closed=closed is not None,
                        covered=_count(held.overlap(1, last)),
                        lost=_count(known.overlap(1, last)) - _count(held.overlap(1, last)),
                        missing=_count(holes),
                        holes=holes[:SHOWN_RANGES],
                        first_seen_ms=first_seen_ms,
                    )
                )
    return tallies


def _count(ranges: list[Range]) -> int:
    return sum(last - first + 1 for first, last in ranges)
