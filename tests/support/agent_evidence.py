"""Evidence of an agent that keeps every line, made up message by message: three lives of five devices.

A test changes one thing in it and asks that one line fails. Nothing runs and nothing is signed: the messages
are nouns of `core`, as a reader has them after it opened them.
"""

from dataclasses import dataclass, field, replace
from typing import Any

import msgspec

from cli.conformance.agent_evidence import AgentEvidence, Hole, Life, Mark, Told, Trouble
from cli.conformance.opened import Heard, Kind
from core.manifest import Group, Manifest, Point, ValueKind
from core.ownership import Ownership
from core.ranges import Range
from core.records import Alarm, Before, Gap, ManifestRecord, Record, Row, Start, State, StreamMessage
from core.topics import Lane, StreamTopic, manifest_topic, state_topic

GATEWAY, ENTITY = "gw-0001", "dso.example"
EVERY = 1000
T0 = 1_790_000_000_000
EPOCHS = ("0" * 15 + "1", "0" * 15 + "2", "0" * 15 + "3")
BOOKS, EARLIER, LATER = "1790000000000-00000001", "1780000000000-00000001", "1790000000001-00000001"
DEVICES = ("steady", "silent", "refusing", "late", "garbled")
FAILS = {
    "silent": ("silent", "timeout"),
    "refusing": ("exception", "exception-4"),
    "late": ("late", "timeout"),
    "garbled": ("garbage", "bad-frame"),
}
FAILING = range(5, 9)
VALUES = {"W": "418.2", "Serial": "9007199254740994", "PhVphA": "230.1"}
OWNER = Ownership(ENTITY, (ENTITY,), ENTITY, ENTITY)


def group(number: int, device: str) -> Group:
    points = (
        Point("PollCount", "PollCount", "1", ValueKind.INTEGER, cumulative=True),
        Point("W", "W", "W", ValueKind.INTEGER, exp=-1),
        Point("Serial", "Serial", "1", ValueKind.INTEGER),
        Point("PhVphA", "PhVphA", "V", ValueKind.DECIMAL),
        Point("Nam", "Nam", "", ValueKind.TEXT),
    )
    return Group(number, device, "conformance-meter", EVERY, points, (OWNER,))


MANIFEST = Manifest(GATEWAY, tuple(group(n, device) for n, device in enumerate(DEVICES, 1)))
NAME = MANIFEST.hash()


@dataclass
class Story:
    """What is heard and told, in order."""

    heard: list[Heard] = field(default_factory=list)
    told: list[Told] = field(default_factory=list)
    counts: dict[str, dict[int, int]] = field(default_factory=lambda: {device: {} for device in DEVICES})
    marks: dict[str, Mark] = field(default_factory=dict)
    lives: list[Life] = field(default_factory=list)
    holes: list[Hole] = field(default_factory=list)
    rows: dict[tuple[str, int], Row] = field(default_factory=dict)
    records: dict[tuple[str, int], Record] = field(default_factory=dict)
    seq: int = 0
    epoch: str = ""
    books: str = ""
    n: int = 0

    def mark(self, at_ms: int, name: str = "") -> Mark:
        found = Mark(at_ms, len(self.heard))
        if name:
            self.marks[name] = found
        return found

    def tell(self, kind: str, at_ms: int, n: int, books: str = BOOKS) -> None:
        self.told.append(Told(kind, self.mark(at_ms), books, n, "for the test"))
        if kind in ("good", "growing"):
            self.books, self.n = books, n

    def add(self, record: Any, row: bool = False) -> None:
        self.seq += 1
        kept = self.rows if row else self.records
        kept[self.epoch, self.seq] = msgspec.structs.replace(record, seq=self.seq)

    def send(
        self, at_ms: int, first: int, last: int, lane: Lane = Lane.LIVE, epoch: str = "", **more: Any
    ) -> Heard:
        of = epoch or self.epoch
        span = range(first, last + 1)
        rows = [self.rows[of, n] for n in span if (of, n) in self.rows and lane is not Lane.CONTROL]
        records = [self.records[of, n] for n in span if (of, n) in self.records and lane is not Lane.CONTROL]
        alarm = more.pop("alarm", None)
        where = StreamTopic(GATEWAY, ENTITY, lane)
        brings = (first == 1 and lane is not Lane.CONTROL) or more.get("cert", False)
        stream = StreamMessage(
            v=1, gateway=GATEWAY, epoch=of, first=first, last=last, manifest=NAME, sent=at_ms, rows=rows,
            records=[alarm] if alarm else records, books=self.books, n=self.n, want=more.get("want", []),
            manifests=[MANIFEST] if more.get("manifests") else [], cert="x" if brings else "",
        )  # fmt: skip
        named = tuple((NAME, NAME) for one in records if isinstance(one, ManifestRecord))
        heard = Heard(
            len(self.heard), at_ms, str(where), Kind.STREAM, 1, False, size=500, where=where, stream=stream,
            brings_cert=brings, named=named, names=frozenset({NAME} if more.get("manifests") else ()),
        )  # fmt: skip
        self.heard.append(heard)
        return heard

    def state(self, at_ms: int, *, online: bool, instance: str) -> None:
        state = State(1, GATEWAY, online, at_ms, self.epoch, "made up", "synchronised", instance)
        self.heard.append(
            Heard(len(self.heard), at_ms, state_topic(GATEWAY), Kind.STATE, 1, True, size=300, state=state)
        )

    def copy(self, at_ms: int) -> None:
        topic = manifest_topic(GATEWAY, ENTITY)
        names = frozenset({NAME})
        self.heard.append(
            Heard(len(self.heard), at_ms, topic, Kind.MANIFEST, 1, True, manifest=MANIFEST, names=names)
        )

    # --- the field

    def begin(self, number: int, ended: str, gap: tuple[int, int, str] | None = None) -> None:
        """Begin a life; `gap` tells its first and last tick, and why."""
        at_ms = T0 + (0 if gap is None else (gap[1]) * EVERY) + 500
        self.lives.append(Life(self.mark(at_ms - 100)))
        before = [Before(self.epoch, self.seq, 1 if number == 1 else 0)] if number else []
        self.epoch, self.seq = EPOCHS[number], 0
        self.add(Start(0, at_ms, ended, "boot", "synchronised", "made up", before))
        self.add(ManifestRecord(0, NAME, MANIFEST))
        if gap is not None:
            first, last = T0 + gap[0] * EVERY, T0 + gap[1] * EVERY
            for one in MANIFEST.groups:
                self.add(Gap(0, one.group, first, last, gap[1] - gap[0] + 1, gap[2]))
        self.state(at_ms, online=True, instance=f"instance-{number}")
        self.copy(at_ms)
        self.send(at_ms + 10, 1, self.seq)

    def tick(self, number: int, *, send: bool = True, **more: Any) -> tuple[int, int]:
        """Poll every device at a tick; return first and last sequence."""
        tick = T0 + number * EVERY
        first = self.seq + 1
        for one in MANIFEST.groups:
            kind, reason = FAILS.get(one.device, ("", ""))
            if kind and number in FAILING and len(self.lives) == 1:
                self.add(Row(0, one.group, tick, [300], [None] * 5, {"*": [reason]}), row=True)
                continue
            count = len(self.counts[one.device]) + 1
            self.counts[one.device][count] = tick + 3
            values = [count, 4182, 9007199254740994, 230.1, one.device]
            values[2] = str(values[2])
            self.add(Row(0, one.group, tick, [5], values), row=True)
        if send:
            self.send(tick + 350, first, self.seq, **more)
        return first, self.seq


def evidence() -> AgentEvidence:
    """Return it."""
    story = Story()
    story.tell("retained", T0 - 1000, 9, EARLIER)
    story.begin(0, "first")
    for number in range(1, 4):
        story.tick(number)
    story.tell("bare", T0 + 3500, 1)
    story.tick(4, want=["cert"])
    story.tell("good", T0 + 4500, 2)
    for number in FAILING:
        story.tick(number)
        story.tell("good", T0 + number * EVERY + 500, number)
    asked: dict[str, Range] = {EPOCHS[0]: (2, 5)}
    for name, number in (("unconfirmed", 9), ("forged", 10)):
        first, last = story.tick(number)
        story.holes.append(Hole(name, story.epoch, first, last, story.mark(T0 + number * EVERY + 100, name)))
    for n, kind in enumerate(
        ("bad-signature", "other-key", "own-key", "moved", "version-2", "unknown-member", "garbage"), 20
    ):
        story.tell(kind, T0 + 10_200 + n, n)
    story.tell("earlier-books", T0 + 10_300, 30, EARLIER)
    story.told.append(Told("replayed", story.mark(T0 + 10_310), BOOKS, 2, "it came before"))
    story.tick(11)
    story.send(T0 + 11_500, story.holes[0].first, story.holes[1].last, Lane.BACKLOG)
    story.mark(T0 + 11_600, "holes-over")
    story.mark(T0 + 11_600, "faults-over")
    story.tell("growing", T0 + 11_700, 40)
    story.tick(12)
    story.mark(T0 + 12_200, "new-books")
    story.tell("good", T0 + 12_210, 1, LATER)
    story.send(T0 + 12_300, 1, story.seq, Lane.BACKLOG)
    story.mark(T0 + 12_500, "asked")
    story.tell("good", T0 + 12_510, 2, LATER)
    story.send(T0 + 12_600, 2, 5, Lane.BACKLOG, cert=True, manifests=True)
    story.mark(T0 + 12_900, "broker-away")
    first, _ = story.tick(13, send=False)
    story.tick(14, send=False)
    story.mark(T0 + 14_900, "broker-back")
    story.state(T0 + 15_000, online=True, instance="instance-0")
    story.send(T0 + 15_000, first, story.seq, Lane.BACKLOG)
    story.mark(T0 + 15_100, "twin")
    alarm = Alarm(1, T0 + 15_200, "identity-in-use", True, "another box")
    story.send(T0 + 15_200, 1, 1, Lane.CONTROL, alarm=alarm)
    story.tick(15)
    story.tick(16)
    story.mark(T0 + 16_900, "twin-over")
    story.state(T0 + 17_000, online=False, instance="instance-0")
    story.lives[0] = Life(story.lives[0].begun, story.mark(T0 + 17_100), "stop", 0)

    story.begin(1, "stop", (17, 18, "stopped"))
    for number in (19, 20):
        story.tick(number)
    killed = story.tick(21)
    story.holes.append(Hole("killed", story.epoch, *killed, story.mark(T0 + 21_100)))
    story.lives[1] = Life(story.lives[1].begun, story.mark(T0 + 21_200), "kill")
    story.state(T0 + 21_300, online=False, instance="instance-1")

    story.begin(2, "crash", (22, 23, "crashed"))
    story.send(T0 + 23_600, *killed, Lane.BACKLOG, epoch=EPOCHS[1])
    for number in (24, 25):
        story.tick(number)
    story.state(T0 + 25_300, online=False, instance="instance-2")
    story.lives[2] = Life(story.lives[2].begun, story.mark(T0 + 25_400), "stop", 0)

    begin, end = T0 + FAILING[0] * EVERY - 100, T0 + FAILING[-1] * EVERY + EVERY
    return AgentEvidence(
        gateway=GATEWAY,
        entity=ENTITY,
        every_ms=EVERY,
        heard=tuple(story.heard),
        told=tuple(story.told),
        lives=tuple(story.lives),
        troubles=tuple(Trouble(device, kind, begin, end) for device, (kind, _) in FAILS.items()),
        holes=tuple(story.holes),
        counts=story.counts,
        values=VALUES,
        marks=story.marks,
        asked=asked,
        asked_manifest=NAME,
    )


# --- changing one thing


def with_heard(seen: AgentEvidence, number: int, **changes: Any) -> AgentEvidence:
    """Return the evidence with one message changed."""
    heard = list(seen.heard)
    heard[number] = replace(heard[number], **changes)
    return replace(seen, heard=tuple(heard))


def without(seen: AgentEvidence, *numbers: int) -> AgentEvidence:
    """Return the evidence as if messages had never come; the others keep their numbers."""
    return replace(seen, heard=tuple(one for one in seen.heard if one.number not in numbers))


def with_stream(seen: AgentEvidence, number: int, **changes: Any) -> AgentEvidence:
    """Return the evidence with the body of one message changed."""
    stream = seen.heard[number].stream
    assert stream is not None
    return with_heard(seen, number, stream=msgspec.structs.replace(stream, **changes))


def with_row(seen: AgentEvidence, device: str, at: int, **changes: Any) -> AgentEvidence:
    """Return the evidence with a row changed in every message that has it; `at` is the number of its tick."""
    number = DEVICES.index(device) + 1
    heard = []
    for one in seen.heard:
        if one.stream is not None:
            rows = [
                msgspec.structs.replace(row, **changes)
                if (row.group, row.tick) == (number, T0 + at * EVERY)
                else row
                for row in one.stream.rows
            ]
            one = replace(one, stream=msgspec.structs.replace(one.stream, rows=rows))
        heard.append(one)
    return replace(seen, heard=tuple(heard))


def with_records(seen: AgentEvidence, kind: type, **changes: Any) -> AgentEvidence:
    """Return the evidence with every record of a kind changed."""
    heard = []
    for one in seen.heard:
        if one.stream is not None:
            records = [
                msgspec.structs.replace(record, **changes) if isinstance(record, kind) else record
                for record in one.stream.records
            ]
            one = replace(one, stream=msgspec.structs.replace(one.stream, records=records))
        heard.append(one)
    return replace(seen, heard=tuple(heard))


def with_state(seen: AgentEvidence, number: int, **changes: Any) -> AgentEvidence:
    """Return the evidence with the state of one message changed."""
    state = seen.heard[number].state
    assert state is not None
    return with_heard(seen, number, state=msgspec.structs.replace(state, **changes))
