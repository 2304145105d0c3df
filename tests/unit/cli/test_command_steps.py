"""A command built from what a person types, and followed by what is told of it."""

import json
import time
from datetime import UTC, datetime

import pytest

from agent.control.life import FOLLOWS, State
from cli.command_steps import (
    ANSWER_MARGIN_MS,
    END_MARGIN_MS,
    OTHER_CODES,
    Asked,
    Ending,
    Progress,
    as_json,
    build_command,
    explained,
    new_id,
    start_ms,
)
from cli.command_view import SAYS
from core.errors import ConfigError
from core.ids import name_fault
from core.records import Outcome
from headend.cli_outcomes import COLOURS
from policies.command import Issuer
from policies.grant import Verb
from policies.reasons import reasons

NOW = 1_790_000_000_123
WHO = Issuer(entity="esco1", application="dr-hub", individual="op-17")
SHED = Asked("gw-0001", "wh-01", "LoadShed", "shed", value="1", duration="30min", purpose="peak")


def told(seq: int, state: str, *why: str, command: str = "c-1", entity: str = "esco1", **x: int) -> Outcome:
    return Outcome(
        seq=seq, at=NOW + seq, command=command, state=state, reasons=list(why), entity=entity, x=dict(x)
    )


def followed(*outcomes: Outcome) -> Progress:
    progress = Progress("c-1", "esco1")
    for one in outcomes:
        progress = progress.follow("e", one)
    return progress


def changed(**keys: str | None) -> Asked:
    fields = {"gateway": "gw-0001", "device": "wh-01", "point": "LoadShed", "verb": "shed"}
    return Asked(**{**fields, "value": "1", "duration": "30min", **keys})  # type: ignore[arg-type]


def test_a_command_says_all_that_was_asked_and_expires_after_a_minute() -> None:
    command = build_command(SHED, WHO, NOW, "c-1")
    assert (command.issuer, command.gateway, command.device, command.point) == (
        WHO, "gw-0001", "wh-01", "LoadShed",
    )  # fmt: skip
    assert (command.verb, str(command.value), command.duration_s) == (Verb.SHED, "1", 1800)
    assert (command.issued_ms, command.expires_ms, command.start_ms) == (NOW, NOW + 60_000, None)
    assert command.emergency is False


def test_a_cancellation_names_what_it_ends_and_needs_no_value() -> None:
    asked = Asked("gw-0001", "wh-01", "LoadShed", "cancel", cancels="c-0")
    assert build_command(asked, WHO, NOW, "c-1").cancels == "c-0"


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"value": None}, "needs --value"),
        ({"duration": None}, "needs --for"),
        ({"verb": "explode"}, "shed, switch, limit"),
        ({"duration": "30"}, "is no duration"),
        ({"device": "a/b"}, "may hold letters"),
        ({"expires": "2d"}, "--expires is between"),
        ({"expires": "soon"}, "--expires"),
        ({"at": "25:00"}, "no time of day"),
        ({"at": "tomorrow"}, "or 17:00"),
        ({"at": "2026-11-22T17:00:00"}, "or 17:00"),
    ],
)
def test_what_is_typed_wrong_is_said_before_anything_is_signed(
    keys: dict[str, str | None], said: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        build_command(changed(**keys), WHO, NOW, "c-1")
    assert said in " ".join((str(caught.value), *caught.value.faults))


def test_ids_are_names_that_sort_by_time_and_are_never_the_same() -> None:
    ids = [new_id(NOW + step) for step in (0, 1, 999, 86_400_000)]
    assert ids == sorted(ids)
    assert [name_fault(one) for one in ids] == [None] * 4
    assert new_id(NOW) != new_id(NOW)


@pytest.mark.parametrize("zone", ["UTC", "America/New_York", "Asia/Kolkata"])
def test_a_time_of_day_is_the_next_one_by_the_clock_on_the_wall(
    monkeypatch: pytest.MonkeyPatch, zone: str
) -> None:
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        here = datetime.fromtimestamp(NOW / 1000).astimezone()
        for clock in ("00:00", "06:30", "17:00", "23:59"):
            at = start_ms(clock, NOW)
            assert 0 <= at - NOW < 25 * 3_600_000
            assert f"{datetime.fromtimestamp(at / 1000).astimezone():%H:%M}" == clock
        assert here.tzinfo is not None
    finally:
        monkeypatch.undo()
        time.tzset()


def test_an_instant_with_its_offset_is_taken_as_it_is() -> None:
    want = int(datetime(2026, 11, 22, 16, 0, tzinfo=UTC).timestamp() * 1000)
    assert start_ms("2026-11-22T17:00:00+01:00", NOW) == want


def test_a_control_that_was_put_back_ended_as_wanted() -> None:
    progress = followed(
        told(1, "accepted", begin=NOW, end=NOW + 9), told(2, "dispatched"), told(3, "confirmed"),
        told(4, "restoring", "ended"),
    )  # fmt: skip
    assert progress.ending is None
    assert (progress.begin_ms, progress.end_ms) == (NOW, NOW + 9)
    assert progress.follow("e", told(5, "restored")).ending is Ending.AS_WANTED


@pytest.mark.parametrize(
    ("state", "ending"),
    [
        ("left", Ending.AS_WANTED),
        ("done", Ending.AS_WANTED),
        ("refused", Ending.OTHERWISE),
        ("cancelled", Ending.OTHERWISE),
        ("superseded", Ending.OTHERWISE),
        ("unverified", None),
    ],
)
def test_each_ending_has_its_side(state: str, ending: Ending | None) -> None:
    assert followed(told(1, state)).ending is ending


def test_a_control_that_failed_is_not_as_wanted_also_when_it_was_put_back() -> None:
    progress = followed(told(1, "accepted"), told(2, "dispatched"), told(3, "failed", "not-obeyed"))
    assert progress.ending is None
    assert progress.follow("e", told(4, "restored")).ending is Ending.OTHERWISE


def test_a_step_that_comes_twice_counts_once_and_others_steps_not_at_all() -> None:
    progress = followed(told(1, "accepted"))
    assert progress.follow("e", told(1, "accepted")) is progress
    assert progress.follow("e", told(2, "restored", command="c-2")) is progress
    assert progress.follow("e", told(2, "restored", entity="esco2")) is progress
    assert len(progress.follow("f", told(1, "dispatched")).steps) == 2


def test_a_replayed_message_that_is_refused_does_not_end_what_runs() -> None:
    progress = followed(told(1, "accepted"), told(2, "refused", "retained"))
    assert (progress.state, progress.ending, len(progress.steps)) == ("accepted", None, 2)


def test_no_word_is_waited_for_longer_than_the_command_or_its_control_can_last() -> None:
    assert Progress("c-1", "esco1").deadline_ms(NOW) == NOW + ANSWER_MARGIN_MS
    assert Progress("c-1", "esco1").deadline_ms(None) is None
    assert followed(told(1, "accepted", begin=NOW, end=NOW + 5)).deadline_ms(NOW) == NOW + 5 + END_MARGIN_MS


def test_every_state_of_a_gateway_has_its_words_and_its_colour() -> None:
    assert {state.value for state in State} == set(SAYS) == set(COLOURS)
    for state in FOLLOWS:
        assert SAYS[state.value]


def test_a_reason_comes_with_its_sentence_and_the_codes_of_two_standards() -> None:
    window = reasons()["window"]
    step = as_json("gw-0001", told(1, "refused", "window", "not-obeyed", "strange"))
    assert json.loads(json.dumps(step))["reasons"] == [
        {"code": "window", "text": window.text, "addcause": window.addcause, "response": window.response},
        {"code": "not-obeyed", "text": OTHER_CODES["not-obeyed"], "addcause": None, "response": None},
        {"code": "strange", "text": "", "addcause": None, "response": None},
    ]


def test_no_code_is_explained_in_two_places() -> None:
    assert set(OTHER_CODES).isdisjoint(reasons())
    assert explained("ended")["text"] == "Its time was over."
