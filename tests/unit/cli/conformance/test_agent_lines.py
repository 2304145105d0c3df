"""Every line about an agent: it holds on evidence of a sound agent, and fails when one thing is changed."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from cli.conformance.agent_evidence import AgentEvidence, Life, Told, header
from cli.conformance.agent_lines import AGENT_LINES
from cli.conformance.lines import Result
from cli.conformance.opened import Kind
from core.manifest import Manifest
from core.records import Alarm, Gap, ManifestRecord, Start
from core.topics import Lane, StreamTopic
from tests.support.agent_evidence import (
    BOOKS,
    DEVICES,
    ENTITY,
    EPOCHS,
    GATEWAY,
    MANIFEST,
    NAME,
    T0,
    evidence,
    with_heard,
    with_records,
    with_row,
    with_state,
    with_stream,
    without,
)

SOUND = evidence()
LINES = {line.id: line for line in AGENT_LINES}
Change = Callable[[AgentEvidence], AgentEvidence]


def messages(kind: Kind) -> list[int]:
    return [one.number for one in SOUND.heard if one.kind is kind]


STREAM, STATE, COPY = messages(Kind.STREAM), messages(Kind.STATE), messages(Kind.MANIFEST)


def on(lane: Lane) -> list[int]:
    return [one.number for one in SOUND.streams if one.where is not None and one.where.lane is lane]


def naming(kind: str) -> Change:
    """The next message names a confirmation that should count for nothing."""
    (told,) = [one for one in SOUND.told if one.kind == kind]
    later = next(number for number in STREAM if number >= told.mark.heard)
    return lambda seen: with_stream(seen, later, books=told.books, n=told.n)


def last_life(**changes: Any) -> Change:
    return lambda seen: replace(seen, lives=(*seen.lives[:-1], replace(seen.lives[-1], **changes)))


def with_points(**changes: Any) -> Change:
    def change(seen: AgentEvidence) -> AgentEvidence:
        groups = tuple(
            msgspec.structs.replace(
                group, points=tuple(msgspec.structs.replace(point, **changes) for point in group.points)
            )
            for group in MANIFEST.groups
        )
        return with_records(seen, ManifestRecord, manifest=Manifest(GATEWAY, groups))

    return change


def same_epoch(seen: AgentEvidence) -> AgentEvidence:
    heard = tuple(
        replace(one, stream=msgspec.structs.replace(header(one), epoch=EPOCHS[0]))
        if one.stream is not None
        else one
        for one in seen.heard
    )
    return replace(seen, heard=heard)


def again(name: str) -> Change:
    """What was withheld never came again, up to the end of that part."""
    (hole,) = [one for one in SOUND.holes if one.name == name]
    numbers = [
        one.number
        for one in SOUND.streams
        if one.number >= hole.since.heard
        and header(one).epoch == hole.epoch
        and header(one).first <= hole.last
        and header(one).last >= hole.first
        and one.number < SOUND.marks["holes-over"].heard
    ]
    return lambda seen: without(seen, *numbers)


def unmarked(*names: str) -> Change:
    return lambda seen: replace(
        seen, marks={name: at for name, at in seen.marks.items() if name not in names}
    )


AFTER_KILL = next(
    one.number
    for one in SOUND.streams
    if one.number > SOUND.lives[2].begun.heard and header(one).epoch == EPOCHS[1]
)
WILL = next(number for number in STATE if number >= SOUND.lives[2].begun.heard - 2)


def after(mark: str) -> list[int]:
    return [number for number in STREAM if number >= SOUND.marks[mark].heard]


def without_rows_between(seen: AgentEvidence, first: int, last: int, group: int = 0) -> AgentEvidence:
    heard = tuple(
        one
        if one.stream is None
        else replace(
            one,
            stream=msgspec.structs.replace(
                one.stream,
                rows=[
                    row
                    for row in one.stream.rows
                    if not T0 + first * 1000 <= row.tick <= T0 + last * 1000 or group not in (0, row.group)
                ],
            ),
        )
        for one in seen.heard
    )
    return replace(seen, heard=heard)


OTHER_TOPIC = {"topic": "portico/v1/gw-0001/notes", "kind": Kind.OTHER, "where": None, "stream": None}
BROKEN: dict[str, Change] = {
    "A-01": lambda seen: without(seen, *STREAM),
    "A-02": lambda seen: with_heard(seen, STREAM[3], signature_fault="it does not hold"),
    "A-03": lambda seen: with_heard(seen, STREAM[3], form_fault="an unknown member"),
    "A-04": lambda seen: with_heard(seen, STREAM[3], **OTHER_TOPIC),
    "A-05": lambda seen: with_heard(seen, STREAM[3], qos=0),
    "A-06": lambda seen: with_heard(seen, STREAM[0], brings_cert=False),
    "A-07": lambda seen: with_heard(seen, STREAM[0], named=((NAME, "f" * 32),)),
    "A-08": lambda seen: with_stream(seen, STREAM[3], manifest="f" * 32),
    "A-09": lambda seen: with_row(seen, "steady", 2, offsets=[1, 2, 3]),
    "A-10": lambda seen: without(seen, *COPY),
    "A-11": lambda seen: with_state(seen, STATE[3], epoch="f" * 16),
    "A-12": lambda seen: without(seen, WILL),
    "A-13": lambda seen: without(seen, STATE[-1]),
    "A-14": last_life(exit_code=1),
    "A-20": same_epoch,
    "A-21": lambda seen: with_state(seen, STATE[3], instance="instance-0"),
    "A-22": lambda seen: with_records(seen, Start, ended="first"),
    "A-23": lambda seen: with_records(seen, Start, before=[]),
    "A-24": lambda seen: without(seen, STREAM[3], *on(Lane.BACKLOG)),
    "A-25": lambda seen: with_stream(seen, on(Lane.BACKLOG)[0], rows=[]),
    "A-26": lambda seen: with_row(seen, "steady", 3, tick=T0 + 2000),
    "A-30": lambda seen: with_records(seen, Gap, first_tick=0, last_tick=0),
    "A-31": lambda seen: with_row(seen, "steady", 2, offsets=[-1]),
    "A-32": lambda seen: with_row(seen, "steady", 3, values=[1, 4182, None, None, None]),
    "A-33": lambda seen: with_row(seen, "steady", 3, values=[2, 4182, None, None, None]),
    "A-34": lambda seen: with_row(seen, "steady", 3, values=[4711, 4182, None, None, None]),
    "A-35": lambda seen: with_row(seen, "late", 6, values=[1 << 30, None, None, None, None]),
    "A-36": lambda seen: with_row(seen, "garbled", 6, values=[1 << 30, None, None, None, None]),
    "A-37": lambda seen: with_row(seen, "silent", 6, values=[None, 3, None, None, None]),
    "A-38": lambda seen: with_row(seen, "refusing", 6, values=[None, 3, None, None, None]),
    "A-39": lambda seen: with_row(seen, "silent", 6, quality={}),
    "A-40": lambda seen: with_row(
        with_row(seen, "steady", 6, values=[None] * 5), "steady", 7, values=[None] * 5
    ),
    "A-41": lambda seen: without_rows_between(seen, 9, 30, DEVICES.index("late") + 1),
    "A-42": lambda seen: with_row(seen, "steady", 2, values=[2, 4182, "9007199254740992", 230.1, "steady"]),
    "A-43": with_points(unit="kW"),
    "A-50": lambda seen: with_stream(seen, STREAM[-1], n=4711),
    "A-51": naming("bare"),
    "A-52": naming("other-key"),
    "A-53": naming("moved"),
    "A-54": naming("unknown-member"),
    "A-55": naming("retained"),
    "A-56": naming("earlier-books"),
    "A-57": again("unconfirmed"),
    "A-58": lambda seen: with_stream(
        seen, on(Lane.BACKLOG)[0], first=SOUND.holes[0].first, last=SOUND.holes[0].last
    ),
    "A-59": lambda seen: replace(
        seen, told=tuple(replace(one, n=41) if one.kind == "growing" else one for one in seen.told)
    ),
    "A-60": lambda seen: without(seen, after("new-books")[0]),
    "A-61": lambda seen: with_heard(seen, after("asked")[0], where=StreamTopic(GATEWAY, ENTITY, Lane.LIVE)),
    "A-62": lambda seen: with_heard(seen, after("asked")[0], names=frozenset()),
    "A-63": lambda seen: replace(seen, heard=tuple(replace(one, brings_cert=False) for one in seen.heard)),
    "A-70": lambda seen: without(seen, after("broker-back")[0]),
    "A-71": lambda seen: without(seen, next(n for n in STATE if n >= SOUND.marks["broker-back"].heard)),
    "A-72": lambda seen: without_rows_between(seen, 15, 16),
    "A-73": lambda seen: without(seen, AFTER_KILL),
    "A-74": lambda seen: with_records(seen, Gap, reason="overrun"),
}


@pytest.mark.parametrize("line", sorted(LINES))
def test_a_line_holds_on_evidence_of_a_sound_agent(line: str) -> None:
    found = LINES[line].judge(SOUND)
    assert found.result is Result.PASSED, found


def test_every_line_is_broken_here() -> None:
    assert set(BROKEN) == set(LINES)


@pytest.mark.parametrize("line", sorted(BROKEN))
def test_a_line_fails_when_one_thing_is_wrong(line: str) -> None:
    found = LINES[line].judge(BROKEN[line](SOUND))
    assert found.result is Result.FAILED, found
    assert found.reason


@pytest.mark.parametrize("line", sorted(LINES))
def test_a_line_never_passes_without_evidence(line: str) -> None:
    nothing = AgentEvidence(gateway=GATEWAY, entity=ENTITY, every_ms=1000, heard=())
    assert LINES[line].judge(nothing).result is not Result.PASSED


def hears(seen: AgentEvidence, *kinds: Kind) -> AgentEvidence:
    """The whole scenario was played, and messages of some kinds alone came."""
    heard = tuple(one for one in seen.heard if one.kind in kinds)
    return replace(seen, heard=heard, holes=(), asked={}, asked_manifest="")


def unacknowledged(seen: AgentEvidence, *kinds: str) -> AgentEvidence:
    """The broker fell before it acknowledged messages of some kinds to us."""
    told = tuple(replace(one, acknowledged=one.kind not in kinds) for one in seen.told)
    return replace(seen, told=told)


def test_a_confirmation_that_came_without_the_brokers_acknowledgement_was_sent_all_the_same() -> None:
    assert LINES["A-50"].judge(unacknowledged(SOUND, "good", "growing")).result is Result.PASSED


def test_nothing_is_held_against_a_gateway_that_does_not_name_what_perhaps_never_came() -> None:
    seen = BROKEN["A-59"](SOUND)
    assert LINES["A-59"].judge(seen).result is Result.FAILED
    assert LINES["A-59"].judge(unacknowledged(seen, "growing")).result is Result.NOT_TESTED


NEVER_CONNECTED = replace(
    hears(SOUND), told=SOUND.told[:1], lives=SOUND.lives[-1:], troubles=(), marks={}, values={}
)
SAYS_NOTHING = hears(SOUND)
SAYS_ONLY_STATES = hears(SOUND, Kind.STATE)
ALLOWED = {
    "never connected": (NEVER_CONNECTED, {"A-14"}),
    "says nothing": (SAYS_NOTHING, {"A-14"}),
    "says only states": (
        SAYS_ONLY_STATES,
        {"A-02", "A-03", "A-04", "A-05", "A-12", "A-13", "A-14", "A-21", "A-71"},
    ),
}
"""What is true of such programs all the same: how they ended, and of their states what was seen of them."""


@pytest.mark.parametrize("program", sorted(ALLOWED))
def test_of_a_silent_program_only_what_was_observed_passes(program: str) -> None:
    seen, allowed = ALLOWED[program]
    assert {one.id for one in AGENT_LINES if one.judge(seen).result is Result.PASSED} == allowed


def test_bad_confirmations_prove_nothing_about_a_program_that_takes_none_at_all() -> None:
    heard = tuple(
        one if one.stream is None else replace(one, stream=msgspec.structs.replace(one.stream, books="", n=0))
        for one in SOUND.heard
    )
    deaf = replace(SOUND, heard=heard)
    for line in ("A-52", "A-53", "A-54", "A-55", "A-56"):
        assert LINES[line].judge(deaf).result is Result.NOT_TESTED, line


def test_bad_confirmations_after_the_last_message_are_not_tested() -> None:
    (told,) = [one for one in SOUND.told if one.kind == "moved"]
    seen = without(SOUND, *(number for number in STREAM if number >= told.mark.heard))
    assert LINES["A-53"].judge(seen).result is Result.NOT_TESTED


def test_nothing_that_came_twice_says_nothing_of_what_comes_again() -> None:
    seen = replace(SOUND, heard=SOUND.heard[: STREAM[3]])
    assert LINES["A-25"].judge(seen).result is Result.NOT_TESTED


@pytest.mark.parametrize(
    ("offset", "result"), [(0, Result.FAILED), (155, Result.PASSED), (900, Result.FAILED)]
)
def test_offset_is_the_time_from_the_tick_to_the_answer(offset: int, result: Result) -> None:
    slow = {count: at + 147 if count == 3 else at for count, at in SOUND.counts["steady"].items()}
    seen = replace(SOUND, counts={**SOUND.counts, "steady": slow})
    row = with_row(seen, "steady", 3, offsets=[offset])
    heard = tuple(replace(one, at_ms=one.at_ms + 1000) for one in row.heard)
    assert LINES["A-31"].judge(replace(row, heard=heard)).result is result


def test_a_program_that_ended_by_itself_is_told_with_its_last_words() -> None:
    died = replace(SOUND, lives=(Life(SOUND.lives[0].begun, SOUND.lives[0].ended, "", 3, "no room"),))
    found = LINES["A-14"].judge(died)
    assert found.result is Result.FAILED
    assert "no room" in found.evidence[0]


def test_an_earlier_confirmation_that_counts_again_fails() -> None:
    (told,) = [one for one in SOUND.told if one.kind == "replayed"]
    later = next(number for number in STREAM if number >= told.mark.heard)
    found = LINES["A-56"].judge(with_stream(SOUND, later, books=BOOKS, n=told.n))
    assert found.result is Result.FAILED


def test_what_came_again_under_its_epoch_with_other_content_after_a_kill_is_lost() -> None:
    rows = [msgspec.structs.replace(row, offsets=[7]) for row in header(SOUND.heard[AFTER_KILL]).rows]
    assert LINES["A-73"].judge(with_stream(SOUND, AFTER_KILL, rows=rows)).result is Result.FAILED


def test_an_alarm_on_lane_live_is_in_the_wrong_place() -> None:
    alarm = Alarm(2, T0, "test", True, "wrong")
    assert LINES["A-04"].judge(with_stream(SOUND, STREAM[3], records=[alarm])).result is Result.FAILED


def test_nothing_is_said_of_bad_confirmations_where_nothing_is_ever_sent_again() -> None:
    assert LINES["A-58"].judge(again("unconfirmed")(SOUND)).result is Result.NOT_TESTED


def test_what_was_told_is_a_noun() -> None:
    assert Told("good", SOUND.told[0].mark, BOOKS, 1).words == ""
