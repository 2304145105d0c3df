"""What a judge has seen over a run: rows leave a store, and stores and books are put back.

:class:`Evidence` gathers every look at a store, and what the gateways say of themselves wherever it was
found. It knows the order in which the gateways wrote, by which rows are put in sequence. Imports nothing
of `agent` or `headend`. Not here: reading files (`cli.evidence`), judging (`cli.judge`).
"""

from collections.abc import Iterable, Iterator
from pathlib import Path

from cli.evidence import GapRecord, Identity, Row, SeriesKey, StoreSeen, Told, read_store
from core.manifest import Group
from core.ranges import RangeSet

DAY_MS = 86_400_000
UNDER_WAY = 100
"""Records that may stand between a clock record and a row whose poll was under way when a line noticed."""


class Evidence:
    """Everything seen of the stores, over all looks. Mutable; one owner."""

    def __init__(self) -> None:
        self.rows: dict[Identity, Row] = {}
        """Every row that was seen committed."""
        self.taken: set[Identity] = set()
        """Rows that somebody took out of a store by hand."""
        self.gaps: dict[Identity, GapRecord] = {}
        self.steps: set[Identity] = set()
        self.starts: dict[tuple[str, str], int] = {}
        """Instant of each start record, by the gateway's clock."""
        self.gone: dict[tuple[str, str], RangeSet] = {}
        """Sequences that a gateway says it no longer has, by (gateway, epoch)."""
        self.held: dict[str, dict[tuple[str, str], RangeSet]] = {}
        """Confirmed: by entity, by (gateway, epoch)."""
        self._epochs: dict[str, list[str]] = {}

    def observe(self, gateway: str, readings: Path) -> StoreSeen:
        """Look at a store's readings file, whether its agent runs or not. Raises NoEvidence."""
        seen = read_store(gateway, readings)
        self.see(seen)
        return seen

    def put_back(self, gateway: str, readings: Path) -> None:
        """Look at a store after an older copy was put in its place, before its agent starts.

        What was seen before and is no longer there was taken by hand: when it is not in the books
        either, it has to lie in a Gap, and is not counted as lost.
        """
        left = {row.id for row in self.observe(gateway, readings).rows}
        self.taken |= {one for one in self.rows if one.gateway == gateway and one not in left}

    def see(self, seen: StoreSeen) -> None:
        """Add what a store shows."""
        known = self._epochs.setdefault(seen.gateway, [])
        known.extend(epoch for epoch in seen.epochs if epoch not in known)
        for row in seen.rows:
            self.rows.setdefault(row.id, row)
        self.hear(seen.told)
        for entity, by_epoch in seen.held.items():
            held = self.held.setdefault(entity, {})
            for epoch, ranges in by_epoch.items():
                held.setdefault((seen.gateway, epoch), RangeSet()).update(ranges)

    def hear(self, told: Told) -> None:
        """Add what a gateway says of itself, in its store or in the books."""
        self.gaps.update({gap.id: gap for gap in told.gaps})
        self.steps |= told.steps
        self.starts.update(told.starts)
        for key, ranges in told.gone.items():
            self.gone.setdefault(key, RangeSet()).update(ranges)

    def is_gone(self, one: Identity) -> bool:
        """Tell whether the gateway said that it no longer has a row."""
        return one.seq in self.gone.get((one.gateway, one.epoch), ())

    def is_held(self, entity: str, one: Identity) -> bool:
        """Tell whether a route of the gateway remembers a row as confirmed by an entity."""
        return one.seq in self.held.get(entity, {}).get((one.gateway, one.epoch), ())

    def epochs(self, gateway: str) -> list[str]:
        """Return the epochs that were seen in the stores of a gateway, in the order of their beginning."""
        return self._epochs.get(gateway, [])

    def order(self, rows: Iterable[Row]) -> "Order":
        """Return the order in which rows of these epochs were written."""
        every = {gateway: list(epochs) for gateway, epochs in self._epochs.items()}
        known = {(row.id.gateway, row.id.epoch) for row in rows}
        # An epoch that only the books know goes where its start record puts it.
        for gateway, epoch in sorted(known, key=lambda key: self.starts.get(key, 0)):
            epochs = every.setdefault(gateway, [])
            if epoch not in epochs:
                at = self.starts.get((gateway, epoch), 0)
                later = (n for n, one in enumerate(epochs) if self.starts.get((gateway, one), 0) > at)
                epochs.insert(next(later, len(epochs)), epoch)
        return Order(every, self.steps, self.starts)

    def clock_is_one(self, gateway: str) -> bool:
        """Tell whether a gateway's clock was never stepped, so that others' instants mean its ticks."""
        if any(step.gateway == gateway for step in self.steps):
            return False
        keys = [(gateway, epoch) for epoch in self.epochs(gateway)]
        starts = [self.starts[key] for key in keys if key in self.starts]
        return starts == sorted(starts) and max(starts, default=0) - min(starts, default=0) < DAY_MS


class Order:
    """The order in which the gateways wrote."""

    def __init__(
        self, epochs: dict[str, list[str]], steps: set[Identity], starts: dict[tuple[str, str], int]
    ) -> None:
        self._at = {
            (gateway, epoch): number for gateway, each in epochs.items() for number, epoch in enumerate(each)
        }
        self._steps = [
            (step.gateway, (self._at.get((step.gateway, step.epoch), -1), step.seq)) for step in steps
        ]
        self._starts = starts

    def place(self, one: Identity) -> tuple[int, int]:
        """Return a key that sorts rows of one gateway as they were written."""
        return self._at[one.gateway, one.epoch], one.seq

    def streams(self, rows: Iterable[Row]) -> Iterator[tuple[SeriesKey, list[Row]]]:
        """Yield the rows of each group as they were written."""
        by_series: dict[SeriesKey, list[Row]] = {}
        for row in rows:
            by_series.setdefault(row.series, []).append(row)
        for key, found in sorted(by_series.items()):
            yield key, sorted(found, key=lambda row: self.place(row.id))

    def clock_went_back(self, before: Row, row: Row) -> bool:
        """Tell whether the gateway said that its clock was stepped between two rows of a group."""
        (epoch, seq), high = self.place(before.id), self.place(row.id)
        low = epoch, seq - UNDER_WAY
        if any(gateway == row.id.gateway and low < at < high for gateway, at in self._steps):
            return True
        # Across a restart the start record tells the time at which the later life began.
        started = self._starts.get((row.id.gateway, row.id.epoch))
        return before.id.epoch != row.id.epoch and started is not None and started <= before.tick


def tick_number(group: Group, at_ms: int) -> int:
    """Return the number of the tick at or before an instant: ticks of a group are counted from 1970."""
    return (at_ms - group.phase_ms) // group.every_ms


def covered_ticks(gaps: Iterable[GapRecord]) -> dict[SeriesKey, RangeSet]:
    """Return the ticks that lie in Gaps, by number."""
    covered: dict[SeriesKey, RangeSet] = {}
    for gap in gaps:
        first, last = tick_number(gap.group, gap.first), tick_number(gap.group, gap.last)
        if first <= last:
            covered.setdefault(gap.series, RangeSet()).add(first, last)
    return covered
