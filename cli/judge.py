"""The judge of a run: do the books hold what the gateways committed, once, whole and in order?

It decides from outside, by what :mod:`cli.evidence` reads: the gateways' stores, the entities' books and
the plant's own log. It imports nothing of `agent` or `headend`, trusts no key of a table and no figure
that a part tells of itself, save two that lie nowhere else: what a route remembers as confirmed, and what
the collectors counted as redelivered.

All numbers are readings (values or failures), unless the name says ticks, rows or counts. A reading is
*entitled* to each entity that owns its data at its tick and has books here; it is confirmed, delivered
or in the books when that is so for every entity entitled to it, and lost when it is missing for one.

:func:`decide` is pure; :func:`judge` reads. Not here: starting or breaking anything (`cli.stand`).
"""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from cli.evidence import BooksSeen, GapRecord, Identity, PlantSeen, Row, SeriesKey, read_books, read_plant
from cli.gathered import Evidence, covered_ticks, tick_number
from cli.judge_counts import counted_rows, polled, unproved
from core.manifest import Group
from core.ownership import owners_at
from core.ranges import RangeSet

FAULTS_TOLD: Final = 5
"""Examples of one kind of fault that are put into words."""
IN_FLIGHT: Final = 1
"""Answered counts after a counter's last row that an orderly end may take: the poll under way."""
MOST_TICKS: Final = 1_000_000
"""Ticks of one hole that are looked at one by one, where owners change."""


@dataclass(frozen=True, slots=True)
class EntityVerdict:
    """The same for one entity and its books."""

    entity: str
    entitled: int
    in_books: int
    confirmed: int
    lost: int
    duplicates: int
    redelivered: int


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a run. Readings, unless the name says else."""

    polled: int
    """Values or failures sampled, counted by the plant over all lives of the gateways."""
    committed: int
    """Seen durable in a store, over all epochs."""
    delivered: int | None
    """Passed on by the broker to an independent second reader of each entity; None: nobody listened."""
    confirmed: int
    """In a confirmation that the routes remember."""
    lost: int
    """Committed, not in the books, and neither told as gone by the gateway nor taken by hand."""
    duplicates: int
    """In the books more than once: by identity, by tick, or by the count of a counter device."""
    redelivered: int
    """Arrivals that the collectors refused as known."""
    gaps: int
    """Ticks in Gap records, each record once."""
    unreported_gaps: int
    """Ticks due with neither a row nor a Gap, in the stores or in any entity's books."""
    changed: int
    """In the books with another tick, group, value, quality or offset than in the store."""
    disordered_rows: int
    """Rows of the books that are not in order for their points."""
    undue: int
    """In the books of an entity that does not own them."""
    conflicts: int
    """Identities that arrived with other content, by the books' own list."""
    counts_answered: int
    counts_unproved: int
    """Answers of counter devices that are neither in the books nor inside a Gap of their group."""
    counts_invented: int
    """Counts in the books that no device ever gave."""
    gone: int
    """Committed and not in the books, and the gateway told so itself (quota, damaged file)."""
    taken: int
    """Committed and not in the books, because an older copy of the store was put back by hand."""
    unseen: int
    """In the books, and in no store at any moment that the judge looked at."""
    entities: tuple[EntityVerdict, ...]
    faults: tuple[str, ...]
    """What does not hold, in sentences, with examples; empty when it all holds."""

    @property
    def ok(self) -> bool:
        """Whether the promises held."""
        return not self.faults

    def as_dict(self) -> dict[str, object]:
        """Return the verdict as plain values, `ok` included."""
        return {**asdict(self), "ok": self.ok}


def judge(
    stores: Mapping[str, Path],
    books: Mapping[str, Path],
    plant_log: Path | None,
    *,
    evidence: Evidence | None = None,
    delivered: Mapping[str, Collection[Identity]] | None = None,
    in_flight: int = IN_FLIGHT,
) -> Verdict:
    """Read everything as it is now, and judge. Raises NoEvidence when a file cannot be read.

    Args:
        stores: readings.db of each gateway. The agents should have ended: what came into the books after
            the look at the store is counted as unseen.
        books: the books of each entity.
        plant_log: plant.jsonl; written up to a second late, so best after the plant has ended.
        evidence: what was seen of the stores before rows could leave them.
        delivered: rows that an independent reader of each entity got from the broker.
        in_flight: counts after a counter's last row that are not asked for.
    """
    evidence = Evidence() if evidence is None else evidence
    for gateway, path in stores.items():
        evidence.observe(gateway, path)
    seen = [read_books(entity, path) for entity, path in books.items()]
    plant = read_plant(plant_log) if plant_log is not None else PlantSeen((), {}, {})
    return decide(evidence, seen, plant, delivered=delivered, in_flight=in_flight)


def decide(
    evidence: Evidence,
    books: list[BooksSeen],
    plant: PlantSeen,
    *,
    delivered: Mapping[str, Collection[Identity]] | None = None,
    in_flight: int = IN_FLIGHT,
) -> Verdict:
    """Judge what was seen; what the books say of the gateways is added to the evidence."""
    for one in books:
        evidence.hear(one.told)
    return _Court(evidence, books, plant).verdict(delivered, in_flight)


class _Court:
    """One judgement."""

    def __init__(self, evidence: Evidence, books: list[BooksSeen], plant: PlantSeen) -> None:
        self.seen = evidence
        self.books = books
        self.plant = plant
        self.in_books = {one.entity: {row.id: row for row in one.rows} for one in books}
        self.order = evidence.order(row for one in books for row in one.rows)
        self._faults: Counter[str] = Counter()
        self._examples: dict[str, list[str]] = {}

    def verdict(self, delivered: Mapping[str, Collection[Identity]] | None, in_flight: int) -> Verdict:
        """Return the judgement."""
        entities = tuple(self._entity(one) for one in self.books)
        lost, gone, taken = self._missing()
        unproved_counts, invented = self._counts(in_flight)
        got = None if delivered is None else {one: set(delivered.get(one, ())) for one in self.in_books}
        committed = self.seen.rows.values()
        return Verdict(
            polled=polled(self.plant, list({id(row.group): row.group for row in committed}.values())),
            committed=sum(row.values for row in committed),
            delivered=None if got is None else self._everywhere(got),
            confirmed=sum(
                row.values
                for row in committed
                if (entitled := self._entitled(row))
                and all(self.seen.is_held(one, row.id) for one in entitled)
            ),
            lost=lost,
            duplicates=sum(one.duplicates for one in entities),
            redelivered=sum(one.redelivered for one in self.books),
            gaps=sum(gap.ticks for gap in self.seen.gaps.values()),
            unreported_gaps=self._unreported(),
            changed=self._changed(),
            disordered_rows=sum(self._disordered(one) for one in self.books),
            undue=self._undue(),
            conflicts=self._conflicts(),
            counts_answered=sum(len(counts) for counts in self.plant.counts.values()),
            counts_unproved=unproved_counts,
            counts_invented=invented,
            gone=gone,
            taken=taken,
            unseen=sum(row.values for row in self._rows_there() if row.id not in self.seen.rows),
            entities=entities,
            faults=tuple(
                f"{number} {kind}: {'; '.join(self._examples[kind])}" for kind, number in self._faults.items()
            ),
        )

    def _rows_there(self) -> Iterator[Row]:
        for there in self.in_books.values():
            yield from there.values()

    def _entitled(self, row: Row) -> list[str]:
        return [one for one in owners_at(row.group.owners, row.tick) if one in self.in_books]

    def _everywhere(self, there: Mapping[str, Collection[Identity]]) -> int:
        """Return the committed readings that every entity entitled to them has."""
        return sum(
            row.values
            for row in self.seen.rows.values()
            if (entitled := self._entitled(row)) and all(row.id in there[entity] for entity in entitled)
        )

    def _fault(self, kind: str, example: str, number: int) -> None:
        self._faults[kind] += number
        examples = self._examples.setdefault(kind, [])
        if len(examples) < FAULTS_TOLD:
            examples.append(example)

    # --- lost, changed, undue, doubled

    def _entity(self, books: BooksSeen) -> EntityVerdict:
        entity, there = books.entity, self.in_books[books.entity]
        entitled = [row for row in self.seen.rows.values() if entity in self._entitled(row)]
        lacking = [row for row in entitled if row.id not in there]
        return EntityVerdict(
            entity=entity,
            entitled=sum(row.values for row in entitled),
            in_books=sum(row.values for row in there.values()),
            confirmed=sum(row.values for row in entitled if self.seen.is_held(entity, row.id)),
            lost=sum(
                row.values
                for row in lacking
                if row.id not in self.seen.taken and not self.seen.is_gone(row.id)
            ),
            duplicates=self._duplicates(books),
            redelivered=books.redelivered,
        )

    def _missing(self) -> tuple[int, int, int]:
        lost = gone = taken = 0
        for row in self.seen.rows.values():
            lacking = [one for one in self._entitled(row) if row.id not in self.in_books[one]]
            if not lacking:
                continue
            if self.seen.is_gone(row.id):
                gone += row.values
            elif row.id in self.seen.taken:
                taken += row.values
            else:
                lost += row.values
                where = f"{_words(row)} is not in the books of {lacking[0]}"
                self._fault("readings are lost", where, row.values)
        return lost, gone, taken

    def _changed(self) -> int:
        changed = 0
        for entity, there in self.in_books.items():
            for row in there.values():
                stored = self.seen.rows.get(row.id)
                if stored is None or (stored.digest == row.digest and stored.series == row.series):
                    continue
                changed += row.values
                where = f"{_words(row)} differs in the books of {entity}"
                self._fault("readings are changed", where, row.values)
        return changed

    def _undue(self) -> int:
        undue = 0
        for entity, there in self.in_books.items():
            for row in there.values():
                owned = self.seen.rows.get(row.id, row)
                if entity not in owners_at(owned.group.owners, owned.tick):
                    undue += row.values
                    self._fault(
                        "readings are with others", f"{entity} does not own {_words(row)}", row.values
                    )
        return undue

    def _conflicts(self) -> int:
        number = sum(one.conflicts for one in self.books)
        if number:
            self._fault("identities came with other content", "see the books' table conflict", number)
        return number

    def _duplicates(self, books: BooksSeen) -> int:
        """Count by brute force over the rows: no key of the table is trusted."""
        first: set[Identity] = set()
        extra = 0
        for row in books.rows:
            if row.id in first:
                extra += row.values
                self._fault("readings are doubled", f"{_words(row)} stands more than once", row.values)
            first.add(row.id)
        return extra + sum(row.values for row in self._twice(books))

    def _twice(self, books: BooksSeen) -> Iterator[Row]:
        """Yield rows that say again, under another identity, what a row of the books says."""
        for _, rows in self.order.streams(self.in_books[books.entity].values()):
            counts: set[int] = set()
            ticks: set[int] = set()
            before: Row | None = None
            for row in rows:
                if before is not None and row.tick <= before.tick and self.order.clock_went_back(before, row):
                    ticks.clear()
                if row.tick in ticks or (row.count is not None and row.count in counts):
                    self._fault("readings are doubled", f"{_words(row)} was there already", row.values)
                    yield row
                ticks.add(row.tick)
                if row.count is not None:
                    counts.add(row.count)
                before = row

    def _disordered(self, books: BooksSeen) -> int:
        wrong = 0
        for _, rows in self.order.streams(self.in_books[books.entity].values()):
            before: Row | None = None
            count = -1
            for row in rows:
                back = before is not None and row.tick < before.tick
                if before is not None and back and self.order.clock_went_back(before, row):
                    back = False
                if back or (row.count is not None and row.count < count):
                    wrong += 1
                    self._fault("rows are out of order", f"{_words(row)} comes after a later one", 1)
                count = count if row.count is None else row.count
                before = row
        return wrong

    # --- ticks and counts

    def _unreported(self) -> int:
        """Count ticks due with neither row nor Gap, each once, in the stores and in every entity's books."""
        missing: dict[SeriesKey, RangeSet] = {}
        self._look_for_holes(missing, "", self.seen.rows.values(), self.seen.gaps.values())
        for books in self.books:
            rows = self.in_books[books.entity].values()
            self._look_for_holes(missing, books.entity, rows, books.told.gaps)
        return sum(holes.count() for holes in missing.values())

    def _look_for_holes(
        self,
        missing: dict[SeriesKey, RangeSet],
        entity: str,
        rows: Iterable[Row],
        gaps: Iterable[GapRecord],
    ) -> None:
        there = covered_ticks(gaps)
        for row in rows:
            number = tick_number(row.group, row.tick)
            there.setdefault(row.series, RangeSet()).add(number, number)
        due: dict[SeriesKey, tuple[Group, int, int]] = {}
        for row in self.seen.rows.values():
            if entity and entity not in self._entitled(row):
                continue
            number = tick_number(row.group, row.tick)
            if self.seen.is_gone(row.id):
                there.setdefault(row.series, RangeSet()).add(number, number)
            _, low, high = due.get(row.series, (row.group, number, number))
            due[row.series] = (row.group, min(low, number), max(high, number))
        where = f"the books of {entity}" if entity else "the store"
        for series, (group, low, high) in due.items():
            holes = there.get(series, RangeSet()).missing(low, high)
            for first, last in (part for hole in holes for part in _owned(group, entity, *hole)):
                missing.setdefault(series, RangeSet()).add(first, last)
                tick = first * group.every_ms + group.phase_ms
                self._fault(
                    "ticks have neither row nor Gap",
                    f"{last - first + 1} from {tick} on of {series.gateway} {series.key} in {where}",
                    last - first + 1,
                )

    def _counts(self, in_flight: int) -> tuple[int, int]:
        """Return counts answered and not accounted for, and counts in the books that nobody gave."""
        rows = counted_rows(self.plant, self._rows_there())
        missing = 0
        for one in unproved(self.plant, rows, self.seen, self.order, in_flight):
            missing += one.counts
            where = f"{one.counts} of counts {one.first}..{one.last} of {one.device}"
            self._fault("answered polls are unproved", where, one.counts)
        invented = 0
        for device, found in rows.items():
            for row in found:
                if row.count not in self.plant.counts[device]:
                    invented += 1
                    self._fault("counts are invented", f"{device} never gave the count of {_words(row)}", 1)
        return missing, invented


def _owned(group: Group, entity: str, first: int, last: int) -> Iterator[tuple[int, int]]:
    """Yield the parts of ticks first..last whose data the entity owns; all for ''."""
    always = all(term.valid_from_ms is None and term.valid_to_ms is None for term in group.owners)
    if not entity or always:
        yield first, last
        return
    for number in range(first, min(last, first + MOST_TICKS) + 1):
        if entity in owners_at(group.owners, number * group.every_ms + group.phase_ms):
            yield number, number


def _words(row: Row) -> str:
    return f"{row.id.gateway} {row.series.key} tick {row.tick} ({row.id.epoch}/{row.id.seq})"
