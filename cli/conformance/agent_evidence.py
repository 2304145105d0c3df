"""What was seen of an agent from outside: its messages, what it was told, what its devices really answered.

Plain nouns, gathered by `agent_run` and judged by `agent_lines`. What lines ask for again and again (rows
with their group, coverage, gaps) is computed here once. Pure.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

from cli.conformance.opened import Heard, Kind
from core.manifest import Group, Manifest
from core.ranges import Range, RangeSet
from core.records import Gap, ManifestRecord, Record, Row, Start, StreamMessage
from core.topics import Lane


class Mark(NamedTuple):
    """An instant of the scenario: the wall clock, and how many messages had come."""

    at_ms: int
    heard: int


@dataclass(frozen=True, slots=True)
class Told:
    """One confirmation or question that was sent to the gateway."""

    kind: str
    """`good`, or what is wrong with it."""
    mark: Mark
    books: str
    n: int
    words: str = ""
    """What was done, for people."""
    acknowledged: bool = True
    """The broker took it for certain; else the gateway may have it, or not."""


@dataclass(frozen=True, slots=True)
class Life:
    """One start of the program."""

    begun: Mark
    ended: Mark | None = None
    how: str = ""
    """`stop` or `kill`; empty: by itself, or not yet."""
    exit_code: int | None = None
    words: str = ""
    """What it said last, when it ended by itself."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """A fault of a device."""

    device: str
    kind: str
    begin_ms: int
    end_ms: int


@dataclass(frozen=True, slots=True)
class Hole:
    """Sequences that were withheld from confirmation."""

    name: str
    epoch: str
    first: int
    last: int
    since: Mark


@dataclass(frozen=True, slots=True)
class RowSeen:
    """A row with what its manifest says of it, as it came first."""

    heard: Heard
    epoch: str
    row: Row
    group: Group

    @property
    def key(self) -> str:
        """The group over renumbering."""
        return self.group.key

    def value_of(self, point: str) -> int | float | str | bool | None:
        """Return the value of a point; KeyError when the group has none of that name."""
        return self.row.values[self.index_of(point)]

    def index_of(self, point: str) -> int:
        """Return the index of a point."""
        for index, one in enumerate(self.group.points):
            if one.name == point:
                return index
        raise KeyError(point)

    def reasons(self, index: int) -> list[str]:
        """Return the reasons of one value."""
        return [*self.row.quality.get("*", []), *self.row.quality.get(str(index), [])]

    def __str__(self) -> str:
        return f"{self.group.device} tick {self.row.tick} ({self.epoch}/{self.row.seq}, {self.heard})"


@dataclass(frozen=True, slots=True)
class GapSeen:
    """A gap of a group."""

    heard: Heard
    epoch: str
    gap: Gap
    group: Group


@dataclass(frozen=True)
class AgentEvidence:
    """Everything seen in one run."""

    gateway: str
    entity: str
    every_ms: int
    heard: tuple[Heard, ...]
    told: tuple[Told, ...] = ()
    lives: tuple[Life, ...] = ()
    troubles: tuple[Trouble, ...] = ()
    holes: tuple[Hole, ...] = ()
    counts: Mapping[str, Mapping[int, int]] = field(default_factory=dict)
    """By device: each count that it gave, and when (ms)."""
    values: Mapping[str, str] = field(default_factory=dict)
    """What points of the device `steady` really show, as decimals in text."""
    marks: Mapping[str, Mark] = field(default_factory=dict)
    asked: Mapping[str, Range] = field(default_factory=dict)
    """By epoch: data sequences that were asked for again."""
    asked_manifest: str = ""
    ready_s: float = 30.0
    resend_s: float = 10.0

    # --- messages

    @cached_property
    def streams(self) -> tuple[Heard, ...]:
        """Messages of the stream that verify and decode."""
        return tuple(one for one in self.heard if one.kind is Kind.STREAM and one.good)

    @cached_property
    def states(self) -> tuple[Heard, ...]:
        """States that verify and decode."""
        return tuple(one for one in self.heard if one.state is not None and one.good)

    @cached_property
    def manifests(self) -> dict[str, Manifest]:
        """Every manifest by its name."""
        found: dict[str, Manifest] = {}
        for one in self.streams:
            stream = header(one)
            for record in stream.records:
                if isinstance(record, ManifestRecord):
                    found.setdefault(record.hash, record.manifest)
            if len(stream.manifests) == 1 and len(one.names) == 1:
                found.setdefault(next(iter(one.names)), stream.manifests[0])
        return found

    def after(self, mark: str, until: str = "") -> tuple[Heard, ...]:
        """Return the messages of the stream that came after a mark, and before another one."""
        begin = self.marks[mark].heard
        end = self.marks[until].heard if until in self.marks else len(self.heard)
        return tuple(one for one in self.streams if begin <= one.number < end)

    # --- records

    @cached_property
    def records(self) -> dict[tuple[str, Lane, int], tuple[Heard, Record]]:
        """Records other than rows as they came first, by epoch, space (a lane of it) and sequence."""
        found: dict[tuple[str, Lane, int], tuple[Heard, Record]] = {}
        for one in self.streams:
            stream = header(one)
            for record in stream.records:
                found.setdefault((stream.epoch, space_of(one), record.seq), (one, record))
        return found

    @cached_property
    def rows(self) -> tuple[RowSeen, ...]:
        """Rows that fit a known manifest, each identity once, as it came first."""
        found: dict[tuple[str, int], RowSeen] = {}
        for one in self.streams:
            stream = header(one)
            manifest = self.manifests.get(stream.manifest)
            groups = manifest.group_by_number() if manifest is not None else {}
            for row in stream.rows:
                group = groups.get(row.group)
                if group is not None and len(row.values) == len(group.points):
                    found.setdefault((stream.epoch, row.seq), RowSeen(one, stream.epoch, row, group))
        return tuple(found.values())

    @cached_property
    def gaps(self) -> tuple[GapSeen, ...]:
        """Gaps with their group."""
        found: list[GapSeen] = []
        for (epoch, _, _), (one, record) in self.records.items():
            if not isinstance(record, Gap) or not record.group:
                continue
            manifest = self.manifests.get(header(one).manifest) or self._manifest_before(epoch, record.seq)
            group = None if manifest is None else manifest.group_by_number().get(record.group)
            if group is not None:
                found.append(GapSeen(one, epoch, record, group))
        return tuple(found)

    def _manifest_before(self, epoch: str, seq: int) -> Manifest | None:
        known = [
            (number, record.manifest)
            for (of, _, number), (_, record) in self.records.items()
            if of == epoch and number < seq and isinstance(record, ManifestRecord)
        ]
        return max(known, key=lambda pair: pair[0])[1] if known else None

    @cached_property
    def starts(self) -> tuple[tuple[Heard, str, Start], ...]:
        """Start records that came, each once, by message and epoch."""
        seen: dict[tuple[str, int], tuple[Heard, str, Start]] = {}
        for one in self.streams:
            stream = header(one)
            for record in stream.records:
                if isinstance(record, Start):
                    seen.setdefault((stream.epoch, record.at), (one, stream.epoch, record))
        return tuple(seen.values())

    def start_of(self, life: int) -> tuple[Heard, str, Start] | None:
        """Return the start record of a life, counted from 0, by the instant that it names."""
        if life >= len(self.lives):
            return None
        begun = self.lives[life].begun
        later = self.lives[life + 1].begun.at_ms if life + 1 < len(self.lives) else 1 << 60
        for one, epoch, start in self.starts:
            if begun.at_ms - 1000 <= start.at < later - 1000 and one.number >= begun.heard:
                return one, epoch, start
        return None

    # --- coverage

    def coverage(
        self, lane: Lane = Lane.LIVE, *, since: int = 0, until: int = 1 << 60
    ) -> dict[str, RangeSet]:
        """Return what the messages from a number to before another cover of a space, by epoch."""
        found: dict[str, RangeSet] = {}
        for one in self.streams:
            if since <= one.number < until and space_of(one) is space(lane):
                stream = header(one)
                found.setdefault(stream.epoch, RangeSet()).add(stream.first, stream.last)
        return found

    def given_up(self, epoch: str) -> RangeSet:
        """Return the data sequences of an epoch that the gateway says it no longer has."""
        gone = RangeSet()
        for _, record in self.records.values():
            if isinstance(record, Gap) and record.epoch == epoch:
                gone.update(RangeSet(record.dropped))
        for _, _, start in self.starts:
            for before in start.before:
                if before.epoch == epoch:
                    gone.update(RangeSet(before.lost))
        for one in self.streams:
            stream = header(one)
            if stream.epoch == epoch and stream.low > 1 and space_of(one) is Lane.LIVE:
                gone.add(1, stream.low - 1)
        return gone

    # --- the field

    def trouble_at(self, device: str, at_ms: int, after_ms: int = 0) -> Trouble | None:
        """Return the fault that a device had at an instant, or had until `after_ms` before."""
        for one in self.troubles:
            if one.device == device and one.begin_ms <= at_ms <= one.end_ms + after_ms:
                return one
        return None

    def counted(self) -> Iterator[tuple[RowSeen, int, str | int | float | bool]]:
        """Yield each row with a count: the row, the index of the point, its value."""
        for one in self.rows:
            if one.group.device in self.counts:
                try:
                    index = one.index_of("PollCount")
                except KeyError:
                    continue
                value = one.row.values[index]
                if value is not None:
                    yield one, index, value


def header(heard: Heard) -> StreamMessage:
    """Return the stream message of one that has been decoded as such."""
    if heard.stream is None:
        raise TypeError(f"{heard} is no message of the stream")
    return heard.stream


def space(lane: Lane) -> Lane:
    """Return the lane that stands for the space of sequences of a lane."""
    return Lane.CONTROL if lane is Lane.CONTROL else Lane.LIVE


def space_of(heard: Heard) -> Lane:
    """Return the lane that stands for the space of a message of the stream."""
    return space(heard.where.lane) if heard.where is not None else Lane.LIVE
