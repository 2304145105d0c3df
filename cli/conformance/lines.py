"""The lines of a conformance report: a sentence that must hold, and what evidence says of it.

A line has an id that never changes meaning, so that a test of an integrator can name it. Judging is pure:
evidence in, :class:`Found` out. A line whose steps were not played, or whose evidence is missing, is *not
tested*, and that never counts as passed.

Not here: which lines there are (`agent_lines`, `headend_lines`), how they are shown (`report`).
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Generic, TypeVar

from core.errors import ConfigError

MOST_EVIDENCE: Final = 5
"""Pieces of evidence shown for a line; the number of all is told."""

E = TypeVar("E")


class Result(StrEnum):
    """What became of a line."""

    PASSED = "passed"
    FAILED = "failed"
    NOT_TESTED = "not tested"


@dataclass(frozen=True, slots=True)
class Found:
    """What evidence says of one line."""

    result: Result
    reason: str
    """One sentence; of what held also how much of it was seen."""
    evidence: tuple[str, ...] = ()
    """Which message, which tick: the first few."""


def passed(reason: str) -> Found:
    """It held."""
    return Found(Result.PASSED, reason)


def untested(reason: str) -> Found:
    """Nothing was there to judge."""
    return Found(Result.NOT_TESTED, reason)


def failed(reason: str, evidence: Iterable[str] = ()) -> Found:
    """It did not hold."""
    every = list(evidence)
    shown = tuple(every[:MOST_EVIDENCE])
    if len(every) > MOST_EVIDENCE:
        shown += (f"and {len(every) - MOST_EVIDENCE} more",)
    return Found(Result.FAILED, reason, shown)


def judged(faults: Sequence[str], seen: int, what: str, wrong: str) -> Found:
    """Return the usual judgement: faults fail, nothing seen is not tested, else it passed.

    Args:
        faults: evidence of what does not hold.
        seen: how many things were looked at.
        what: their name, after a number: "messages".
        wrong: what the faults show, after a number: "messages are not signed".
    """
    if faults:
        return failed(f"{len(faults)} {wrong}", faults)
    if not seen:
        return untested(f"no {what} came to judge")
    return passed(f"{seen} {what}")


@dataclass(frozen=True)
class Line(Generic[E]):
    """One sentence that must hold."""

    id: str
    sentence: str
    source: str
    """Section of docs/wire.md, or the document, that it is derived from."""
    judge: Callable[[E], Found]
    steps: frozenset[str] = frozenset()
    """Parts of the scenario without which there is no evidence."""


@dataclass(frozen=True, slots=True)
class Judged:
    """A line with what was found."""

    id: str
    sentence: str
    source: str
    found: Found


def judge(lines: Sequence[Line[E]], evidence: E, missing: dict[str, str]) -> list[Judged]:
    """Judge lines by evidence; `missing` says of steps that were not played why."""
    report = []
    for line in lines:
        lacking = sorted(line.steps & missing.keys())
        found = untested(missing[lacking[0]]) if lacking else line.judge(evidence)
        report.append(Judged(line.id, line.sentence, line.source, found))
    return report


def chosen(lines: Sequence[Line[E]], only: Sequence[str]) -> list[Line[E]]:
    """Return the lines that are asked for, all without a word; ConfigError for one that is not there."""
    wanted = [name.strip().upper() for text in only for name in text.split(",") if name.strip()]
    known = {line.id for line in lines}
    for name in wanted:
        if name not in known:
            raise ConfigError(f"there is no line {name}: --list shows all")
    return [line for line in lines if not wanted or line.id in wanted]
