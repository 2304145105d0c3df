"""What an entity sees: the rows of its own terms, and nothing that tells of another's."""

import json
from typing import Final

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.store.recordfile import Stored
from agent.uplink.view import EntityView, Part
from core.codec import encode_record, row_body
from core.manifest import Group, Manifest, Point, ValueKind
from core.ownership import Ownership
from core.records import (
    Alarm,
    Before,
    Clock,
    Extension,
    Gap,
    ManifestRecord,
    Outcome,
    QualityRecord,
    Record,
    Row,
    Start,
)

EVERY: Final = 10
MOVED: Final = 1000
"""The tenant of the flat changes at this instant."""
POINT: Final = (Point("v", "PhVphA", "V", ValueKind.INTEGER, -1),)


def owned(*owners: str, since: int | None = None, until: int | None = None) -> Ownership:
    return Ownership("dso", owners, "dso", "dso", valid_from_ms=since, valid_to_ms=until)


def group(number: int, device: str, *terms: Ownership, points: tuple[Point, ...] = POINT) -> Group:
    return Group(number, device, "made-up", EVERY, points, terms)


MANIFEST: Final = Manifest(
    "gw-0001",
    (
        group(1, "feeder", owned("dso")),
        group(2, "joint", owned("dso", "esco")),
        group(3, "flat", owned("anna", until=MOVED), owned("ben", since=MOVED)),
        group(4, "charger", owned("esco")),
        group(
            5,
            "returner",
            owned("anna", until=500),
            owned("ben", since=500, until=MOVED),
            owned("anna", since=MOVED),
        ),
    ),
)
ENTITIES: Final = ["dso", "esco", "anna", "ben", "stranger"]
VIEWS: Final = {entity: EntityView(MANIFEST, entity) for entity in ENTITIES}
BASE: Final = 100


def stored_row(id_: int, grp: int, tick: int) -> Stored:
    return Stored(id_, grp, tick, row_body(tick, grp, [3], [2300 + id_], {}))


def stored(record: Record) -> Stored:
    return Stored(BASE + 1, 0, 0, encode_record(record))


def told(entity: str, record: Record) -> Record | None:
    """Return what an entity is told of a record, which is then in the message as bytes."""
    part = VIEWS[entity].part([stored(record)], BASE, 1000)
    assert part.last == BASE + 1
    assert part.empty is not bool(part.records)
    return msgspec.json.decode(part.records[0], type=Record) if part.records else None


def rows(part: Part) -> list[Row]:
    return [msgspec.json.decode(row, type=Row) for row in part.rows]


def owns(entity: str, grp: int, tick: int) -> bool:
    terms = MANIFEST.group_by_number()[grp].owners
    return any(entity in term.data_owners and term.holds_at(tick) for term in terms)


places = st.lists(
    st.tuples(st.integers(1, 5), st.integers(0, 200).map(lambda n: n * EVERY)), min_size=1, max_size=30
)


@given(places, st.sampled_from(ENTITIES), st.integers(1, 400))
def test_message_holds_exactly_what_the_entity_owns_of_what_it_covers(
    some: list[tuple[int, int]], entity: str, limit: int
) -> None:
    records = [stored_row(BASE + 1 + n, grp, tick) for n, (grp, tick) in enumerate(some)]
    part = VIEWS[entity].part(records, BASE, limit)
    covered = records[: part.last - BASE]
    assert covered, "a message covers at least one record"
    assert [(row.seq, row.group, row.tick) for row in rows(part)] == [
        (one.id - BASE, one.grp, one.tick) for one in covered if owns(entity, one.grp, one.tick)
    ]
    assert [row.values for row in rows(part)] == [
        [2300 + one.id] for one in covered if owns(entity, one.grp, one.tick)
    ]
    assert part.size == sum(len(row) + 1 for row in part.rows)
    # The limit is reached by the last row, if at all: the rest waits for the next message.
    assert part.size - (len(part.rows[-1]) + 1 if part.rows else 0) < limit
    assert part.last == records[-1].id or part.size >= limit


@given(places, st.integers(1, 400))
def test_messages_that_follow_each_other_cover_everything_once(
    some: list[tuple[int, int]], limit: int
) -> None:
    records = [stored_row(BASE + 1 + n, grp, tick) for n, (grp, tick) in enumerate(some)]
    view, left, seen = VIEWS["dso"], records, []
    while left:
        part = view.part(left, BASE, limit)
        seen += rows(part)
        left = [one for one in left if one.id > part.last]
    assert seen == rows(view.part(records, BASE, 1 << 30))


def test_joint_owners_each_see_a_row() -> None:
    row = [stored_row(BASE + 1, 2, 50)]
    assert {entity: len(VIEWS[entity].part(row, BASE, 9).rows) for entity in ENTITIES} == {
        "dso": 1,
        "esco": 1,
        "anna": 0,
        "ben": 0,
        "stranger": 0,
    }


def test_stranger_sees_no_group_and_an_empty_manifest() -> None:
    assert VIEWS["stranger"].manifest.groups == ()
    part = VIEWS["stranger"].part([stored_row(BASE + 1, 1, 10)], BASE, 9)
    assert part.empty
    assert part.last == BASE + 1


@pytest.mark.parametrize("entity", ENTITIES)
def test_manifest_is_told_as_the_entity_may_see_it(entity: str) -> None:
    part = VIEWS[entity].part([Stored(BASE + 2, -1, 0, MANIFEST.hash().encode())], BASE, 1000)
    record = msgspec.json.decode(part.records[0], type=Record)
    assert isinstance(record, ManifestRecord)
    assert record.manifest == MANIFEST.view(entity)
    assert record.hash == VIEWS[entity].hash == record.manifest.hash()
    others = {name for name in ENTITIES if name != entity}
    own = {one for term in record.manifest.groups for one in term.entities()}
    for other in others - own:
        assert (
            json.dumps(other) not in part.records[0].decode() or other == "dso"
        )  # dso is steward everywhere


def test_start_record_tells_of_groups_only_the_ticks_of_the_entitys_terms() -> None:
    ticks = {one.key: 900 for one in MANIFEST.groups} | {"gone/10/v": 900}
    start = Start(1, 950, "crash", "b", "synchronised", "1", [Before("0" * 16, 7)], ticks)
    seen: dict[str, list[str]] = {}
    for entity in ENTITIES:
        record = told(entity, start)
        assert isinstance(record, Start)
        assert record.before == start.before
        seen[entity] = sorted(key.partition("/")[0] for key in record.ticks)
    assert seen == {
        "dso": ["feeder", "joint"],
        "esco": ["charger", "joint"],
        "anna": ["flat"],
        "ben": ["returner"],
        "stranger": [],
    }
    assert VIEWS["dso"].part([stored(start)], BASE, 9).has_start
    assert not VIEWS["dso"].part([stored_row(BASE + 1, 1, 10)], BASE, 9).has_start


def gap(grp: int, first: int, last: int) -> Gap:
    return Gap(1, grp, first, last, (last - first) // EVERY + 1, "crashed")


@given(
    st.integers(1, 5),
    st.integers(0, 150).map(lambda n: n * EVERY),
    st.integers(0, 150),
    st.sampled_from(ENTITIES),
)
def test_gap_is_told_by_the_ticks_that_the_entity_owns(grp: int, first: int, more: int, entity: str) -> None:
    whole = gap(grp, first, first + more * EVERY)
    own = [tick for tick in range(first, whole.last_tick + 1, EVERY) if owns(entity, grp, tick)]
    record = told(entity, whole)
    if not own:
        assert record is None
    else:
        assert isinstance(record, Gap)
        assert (record.first_tick, record.last_tick, record.ticks) == (own[0], own[-1], len(own))
        assert record.reason == whole.reason


def test_gap_around_the_whole_stay_of_an_owner_is_told() -> None:
    record = told("ben", gap(5, 0, 1500))
    assert isinstance(record, Gap)
    assert (record.first_tick, record.last_tick, record.ticks) == (500, 990, 50)


def test_gap_of_fewer_ticks_than_its_grid_is_not_made_larger() -> None:
    dropped = msgspec.structs.replace(gap(3, 0, 1500), ticks=3, reason="quota")
    record = told("anna", dropped)
    assert isinstance(record, Gap)
    assert record.ticks == 3


@pytest.mark.parametrize("entity", ENTITIES)
def test_everybody_is_told_of_dropped_sequences_and_of_the_clock(entity: str) -> None:
    lost = Gap(1, 0, 0, 0, 0, "quota", False, "0" * 16, [(1, 50)])
    clock = Clock(1, 5, "b", "unsure", -3000)
    assert told(entity, lost) == lost
    assert told(entity, clock) == clock


def test_judgement_of_a_group_is_told_to_its_owners() -> None:
    judged = QualityRecord(1, 5, "0" * 16, 1, 9, 2, ["stale"], "frozen")
    assert [entity for entity in ENTITIES if told(entity, judged)] == ["dso", "esco"]


@pytest.mark.parametrize(
    ("device", "at", "told_to"),
    [
        ("feeder", 5, ["dso"]),
        ("joint", 5, ["dso", "esco"]),
        ("flat", MOVED - 1, ["anna"]),
        ("flat", MOVED, ["ben"]),
        ("unknown", 5, []),
        ("", 5, ENTITIES),
    ],
)
def test_alarm_about_a_device_is_told_to_its_owners_of_that_instant(
    device: str, at: int, told_to: list[str]
) -> None:
    alarm = Alarm(1, at, "device-silent", True, "gives no answer", device)
    assert [entity for entity in ENTITIES if told(entity, alarm)] == told_to


@pytest.mark.parametrize(
    ("device", "at", "told_to"),
    [("flat", MOVED, ["ben", "esco"]), ("unknown", 5, ["esco"]), ("", 5, ["esco"])],
)
def test_outcome_of_a_command_is_told_to_its_issuer_and_to_the_owners_of_that_instant(
    device: str, at: int, told_to: list[str]
) -> None:
    outcome = Outcome(1, at, "c-1", "confirmed", device, entity="esco")
    assert sorted(entity for entity in {*ENTITIES, "esco"} if told(entity, outcome)) == told_to


def test_records_whose_owner_this_version_cannot_tell_are_told_to_nobody() -> None:
    record = Extension(1, 5, "later", {"feeder": 1})
    assert [told(entity, record) for entity in ENTITIES] == [None] * len(ENTITIES)


def test_sequence_in_a_message_counts_from_the_base_of_its_epoch() -> None:
    part = VIEWS["dso"].part([stored_row(BASE + 7, 1, 10), stored(Clock(1, 5, "b", "unsure"))], BASE, 1000)
    assert rows(part)[0].seq == 7
    assert json.loads(part.records[0])["seq"] == 1
