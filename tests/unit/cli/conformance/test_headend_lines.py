"""Every line about a head-end: it holds on evidence of a sound one, and fails when one thing is changed."""

from collections.abc import Callable
from dataclasses import replace

import msgspec
import pytest

from cli.conformance.headend_book_lines import AFTER_CONFLICT, AFTER_KILL, LAST
from cli.conformance.headend_evidence import Answer, HeadendEvidence, Look
from cli.conformance.headend_lines import HEADEND_LINES
from cli.conformance.lines import Result
from core.records import Ask, Confirmation
from core.topics import Lane
from tests.support.headend_evidence import (
    BAD,
    BOOKS,
    ENTITY,
    FIRST,
    MAIN,
    NEW,
    T0,
    confirming,
    evidence,
    unconfirmed,
    with_answer,
    with_reading,
)

SOUND = evidence()
LINES = {line.id: line for line in HEADEND_LINES}
Change = Callable[[HeadendEvidence], HeadendEvidence]


def confirmation_of(number: int) -> Confirmation:
    told = SOUND.heard[number].confirmation
    assert told is not None
    return told


def taking(label: str) -> Change:
    """A bad message is confirmed."""
    (sent,) = [one for one in SOUND.sent if one.label == label and not one.good]
    return lambda seen: confirming(seen, sent.gateway, sent.epoch, sent.first, sent.last)


def taking_at_once(label: str) -> Change:
    """A bad message is confirmed before the right one came: by the answer before that."""
    (sent,) = [one for one in SOUND.sent if one.label == label and not one.good]
    number = next(
        one.number for one in SOUND.heard if one.number >= sent.mark.heard and one.gateway == sent.gateway
    )
    told = Confirmation(1, BOOKS, 4000, {sent.epoch: [(sent.first, sent.last)]}, cert="x")
    return lambda seen: with_answer(seen, number, confirmation=told, ask=None, sent=sent.number + 1)


def answers(change: Callable[[Answer], Answer]) -> Change:
    return lambda seen: replace(seen, heard=tuple(map(change, seen.heard)))


def without_certificate(answer: Answer) -> Answer:
    told = answer.confirmation
    return answer if told is None else replace(answer, confirmation=msgspec.structs.replace(told, cert=""))


def without_question(answer: Answer) -> Answer:
    told = answer.ask
    if told is None:
        return answer
    return replace(answer, ask=Ask(1, told.books, told.n, text="refused"))


def in_books(books: str) -> Callable[[Answer], Answer]:
    def change(answer: Answer) -> Answer:
        told = answer.confirmation
        return (
            answer
            if told is None
            else replace(answer, confirmation=msgspec.structs.replace(told, books=books))
        )

    return change


def late(answer: Answer) -> Answer:
    return replace(answer, at_ms=answer.at_ms + 20_000)


def with_n(number: int, n: int) -> Change:
    told = msgspec.structs.replace(confirmation_of(number), n=n)
    return lambda seen: with_answer(seen, number, confirmation=told)


def renamed(number: int, books: str) -> Change:
    told = msgspec.structs.replace(confirmation_of(number), books=books)
    return lambda seen: with_answer(seen, number, confirmation=told)


def twice(seen: HeadendEvidence) -> HeadendEvidence:
    readings = seen.looks[LAST].readings
    return replace(seen, looks={**seen.looks, LAST: Look(LAST, (*readings, readings[0]))})


def of_a_refused_one(seen: HeadendEvidence) -> HeadendEvidence:
    readings = seen.looks[LAST].readings
    stranger = replace(readings[0], epoch=f"{101:016x}")
    return replace(seen, looks={**seen.looks, LAST: Look(LAST, (*readings, stranger))})


def shortened(name: str) -> Change:
    return lambda seen: replace(seen, looks={**seen.looks, name: Look(name, seen.looks[name].readings[4:])})


BROKEN: dict[str, Change] = {
    "H-01": lambda seen: unconfirmed(seen, "hello"),
    "H-02": lambda seen: with_answer(seen, 3, signature_fault="it does not hold"),
    "H-03": lambda seen: with_answer(seen, 3, form_fault="an unknown member"),
    "H-04": lambda seen: with_answer(seen, 3, retained=True),
    "H-05": answers(without_certificate),
    "H-06": with_n(3, 1),
    "H-07": renamed(3, "1790000000000-0000000f"),
    "H-10": lambda seen: unconfirmed(seen, "growth"),
    "H-11": answers(late),
    "H-12": lambda seen: confirming(seen, FIRST, "f" * 16, 1, 2),
    "H-13": lambda seen: confirming(seen, FIRST, MAIN, 1, 99),
    "H-14": lambda seen: unconfirmed(seen, "duplicate"),
    "H-15": lambda seen: unconfirmed(seen, "later"),
    "H-16": lambda seen: unconfirmed(seen, "control"),
    "H-17": lambda seen: unconfirmed(seen, "new-epoch"),
    "H-18": lambda seen: unconfirmed(seen, "empty"),
    "H-19": lambda seen: unconfirmed(seen, "growth"),
    "H-20": taking_at_once("bad-signature"),
    "H-21": taking("other-key"),
    "H-22": taking("moved"),
    "H-23": taking("other-header"),
    "H-24": taking("expired"),
    "H-25": taking("unknown-member"),
    "H-26": taking("bomb"),
    "H-27": taking("bad-row"),
    "H-28": taking("not-owned"),
    "H-29": taking("wrong-lane"),
    "H-30": taking("bad-manifest"),
    "H-31": lambda seen: unconfirmed(seen, "again"),
    "H-32": lambda seen: unconfirmed(seen, "reordered"),
    "H-40": answers(without_question),
    "H-41": lambda seen: unconfirmed(seen, "manifest-brought"),
    "H-42": answers(without_question),
    "H-43": lambda seen: unconfirmed(seen, "cert-brought"),
    "H-44": answers(without_certificate),
    "H-50": lambda seen: unconfirmed(seen, "after-kill"),
    "H-51": lambda seen: unconfirmed(seen, "after-outage"),
    "H-52": lambda seen: replace(seen, lives=(*seen.lives[:-1], replace(seen.lives[-1], exit_code=1))),
    "H-53": lambda seen: unconfirmed(seen, "after-stop"),
    "H-54": answers(in_books(BOOKS)),
    "H-60": twice,
    "H-61": lambda seen: with_reading(seen, LAST, 0, value=418.2),
    "H-62": lambda seen: with_reading(seen, LAST, 2, reasons=()),
    "H-63": of_a_refused_one,
    "H-64": lambda seen: with_reading(seen, AFTER_CONFLICT, 0, value="999"),
    "H-65": shortened(AFTER_KILL),
}


@pytest.mark.parametrize("line", sorted(LINES))
def test_a_line_holds_on_evidence_of_a_sound_head_end(line: str) -> None:
    found = LINES[line].judge(SOUND)
    assert found.result is Result.PASSED, found


def test_every_line_is_broken_here() -> None:
    assert set(BROKEN) == set(LINES)


@pytest.mark.parametrize("line", sorted(BROKEN))
def test_a_line_fails_when_one_thing_is_wrong(line: str) -> None:
    found = LINES[line].judge(BROKEN[line](SOUND))
    assert found.result is Result.FAILED, found
    assert found.evidence or line == "H-01"


@pytest.mark.parametrize("line", sorted(LINES))
def test_a_line_never_passes_without_evidence(line: str) -> None:
    nothing = HeadendEvidence(entity=ENTITY, sent=(), heard=())
    assert LINES[line].judge(nothing).result is not Result.PASSED


SILENT = replace(
    SOUND,
    heard=(),
    sent=tuple(replace(one, mark=one.mark._replace(heard=0)) for one in SOUND.sent),
    looks={name: Look(name) for name in SOUND.looks},
    wanted={LAST: (), AFTER_KILL: (), AFTER_CONFLICT: SOUND.wanted[AFTER_CONFLICT]},
)
ONE_ANSWER = replace(SOUND, heard=SOUND.heard[:1], looks=SILENT.looks, wanted=SILENT.wanted)
ALLOWED = {
    "never connected": (SILENT, {"H-52"}),
    "confirms once and falls silent": (
        ONE_ANSWER,
        {"H-01", "H-02", "H-03", "H-04", "H-05", "H-12", "H-13", "H-52"},
    ),
}
"""What is true of such programs all the same: how they ended, and of the one answer what was seen of it."""


@pytest.mark.parametrize("program", sorted(ALLOWED))
def test_of_a_silent_program_only_what_was_observed_passes(program: str) -> None:
    seen, allowed = ALLOWED[program]
    assert {one.id for one in HEADEND_LINES if one.judge(seen).result is Result.PASSED} == allowed


@pytest.mark.parametrize("label", BAD)
def test_what_is_bad_is_known_whichever_sequence_it_is_confirmed_in(label: str) -> None:
    (sent,) = [one for one in SOUND.sent if one.label == label]
    told = Confirmation(1, BOOKS, 4000, control={sent.epoch: [(4, 4)]}, cert="x")
    number = next(one.number for one in SOUND.heard if one.number >= sent.mark.heard)
    seen = with_answer(SOUND, number, confirmation=told, gateway=FIRST, sent=sent.number + 1)
    failed = [one.id for one in HEADEND_LINES if one.judge(seen).result is Result.FAILED]
    assert any("H-20" <= one <= "H-30" for one in failed)


def test_a_hole_is_not_held_against_a_bad_message_nor_the_other_way() -> None:
    assert LINES["H-13"].judge(taking("moved")(SOUND)).result is Result.PASSED
    seen = confirming(SOUND, FIRST, MAIN, 1, 99)
    assert LINES["H-22"].judge(seen).result is Result.PASSED


def test_missing_reading_after_a_kill_is_told_by_its_own_line_only() -> None:
    seen = shortened(AFTER_KILL)(SOUND)
    assert LINES["H-60"].judge(seen).result is Result.PASSED


def test_books_that_cannot_be_read_fail_the_line_that_reads_them() -> None:
    seen = replace(SOUND, looks={**SOUND.looks, LAST: Look(LAST, fault="exit 1: no such table")})
    found = LINES["H-60"].judge(seen)
    assert found.result is Result.FAILED
    assert "no such table" in found.reason


def test_later_confirmation_does_not_make_up_for_one_before_the_message() -> None:
    sent = next(one for one in SOUND.sent if one.label == "duplicate")
    before = [one for one in SOUND.heard if one.number < sent.mark.heard]
    assert replace(SOUND, heard=tuple(before)).confirmed(sent) is None
    assert SOUND.confirmed(sent) is not None


def test_a_time_is_judged_from_the_message_on() -> None:
    assert SOUND.sent[0].mark.at_ms == T0
    assert SOUND.sent[0].space is Lane.LIVE
    assert {one.epoch for one in SOUND.sent} >= {MAIN, NEW}
