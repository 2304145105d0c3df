"""Holds docs/requirements.md to its own rules: complete, and no state without evidence that exists.

Relies on the document's form (six columns, one row a requirement) and on the test sources, which are
parsed and never imported. Whether a named test really shows its requirement is deliberately not here:
only a reader can tell.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.namedtests import NAMED, faults_in_test

ROOT = Path(__file__).resolve().parents[1]
DOCUMENT = ROOT / "docs" / "requirements.md"

LAST_NUMBER = {"C": 21, "A": 21, "P": 27, "I": 43, "U": 76}
"""Counted once in the five documents that the table names; a number is never reused, so these only grow."""

HEADER = ("id", "asked", "realised in", "comes with", "state", "test")
STATES = frozenset({"open", "part", "met", "not applicable"})
ISSUES = ("The main job", "The field", "Control", "People and cases", "EDI", "later")
PACKAGES = frozenset({"core", "drivers", "policies", "certs", "agent", "headend", "simulator", "cli", "docs"})

_PACKAGE = re.compile(r"([a-z]+)(?: \([a-z, ]+\))?(?:, |$)")


@dataclass(frozen=True, slots=True)
class Row:
    """One requirement as the table has it; `line` is where, counted from 1."""

    line: int
    id: str
    asked: str
    realised_in: str
    comes_with: str
    state: str
    note: str
    test: str


def rows_of(text: str) -> list[Row]:
    """The rows of every table with our header.

    Raises:
        ValueError: a row of such a table has not six cells; a cell may hold no vertical bar.
    """
    rows: list[Row] = []
    inside = False
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.startswith("|"):
            inside = False
            continue
        cells = tuple(cell.strip() for cell in line.strip().removeprefix("|").removesuffix("|").split("|"))
        if cells == HEADER:
            inside = True
        elif inside and not set("".join(cells)) <= set("-: "):
            if len(cells) != len(HEADER):
                raise ValueError(f"line {number} has {len(cells)} cells instead of {len(HEADER)}: {line}")
            id_, asked, realised_in, comes_with, state, test = cells
            word, _, note = state.partition(":")
            rows.append(
                Row(number, id_, asked, realised_in, comes_with, word.strip(), note.strip(), test.strip())
            )
    return rows


def faults_in_numbering(rows: list[Row]) -> list[str]:
    """Ids that are missing, there twice, or not ours."""
    expected = {f"{letter}-{n:02}" for letter, last in LAST_NUMBER.items() for n in range(1, last + 1)}
    found = Counter(row.id for row in rows)
    return [
        *(f"{id_} is missing" for id_ in sorted(expected - found.keys())),
        *(f"{id_} is no requirement of these documents" for id_ in sorted(found.keys() - expected)),
        *(f"{id_} stands there {times} times" for id_, times in found.items() if times > 1),
    ]


def faults_in_row(row: Row, root: Path) -> list[str]:
    """What is wrong with one row, as sentences that say what to do. Tests are looked for below `root`."""
    at = f"line {row.line}, {row.id}"
    faults = []
    if not row.asked:
        faults.append(f"{at}: says nothing under 'asked'")
    if not _packages_known(row.realised_in):
        faults.append(f"{at}: 'realised in' names {row.realised_in!r}, not packages of this repository")
    if not _issues_known(row.comes_with):
        faults.append(
            f"{at}: 'comes with' is {row.comes_with!r}; write some of {', '.join(ISSUES)}, in this order"
        )
    if row.state not in STATES:
        faults.append(f"{at}: state {row.state!r} is none of {', '.join(sorted(STATES))}")
    if row.state == "not applicable" and not row.note:
        faults.append(f"{at}: write why, as 'not applicable: the reason'")
    if row.state == "part" and not row.note:
        faults.append(f"{at}: write what is missing, as 'part: what is missing'")
    named = NAMED.findall(row.test)
    if NAMED.sub("", row.test).strip(" ,"):
        faults.append(f"{at}: write tests as `path::name`, separated by commas, not {row.test!r}")
    if row.state in {"part", "met"} and not named:
        faults.append(f"{at}: {row.state} needs a test that shows it")
    if row.state in {"open", "not applicable"} and row.test:
        faults.append(f"{at}: {row.state} names a test; make it part or met, or remove the test")
    for path, name in named:
        faults.extend(f"{at}: {fault}" for fault in faults_in_test(path, name, root))
    return faults


def _packages_known(cell: str) -> bool:
    packages = _PACKAGE.findall(cell)
    return bool(packages) and not _PACKAGE.sub("", cell) and PACKAGES.issuperset(packages)


def _issues_known(cell: str) -> bool:
    """Some of the issues, each once, in the order in which they are built."""
    issues = cell.split(", ")
    return issues == [issue for issue in ISSUES if issue in issues]


def test_every_requirement_is_listed_once() -> None:
    assert faults_in_numbering(rows_of(DOCUMENT.read_text(encoding="utf-8"))) == []


def test_every_row_has_a_known_state_and_its_evidence() -> None:
    rows = rows_of(DOCUMENT.read_text(encoding="utf-8"))

    assert rows
    assert [fault for row in rows for fault in faults_in_row(row, ROOT)] == []


# The checks above are worth what they refuse.


def a_row(state: str = "open", test: str = "", **other: str) -> Row:
    cells = {"asked": "It works", "realised in": "core", "comes with": "The main job"} | other
    (row,) = rows_of(
        f"| {' | '.join(HEADER)} |\n|---|---|---|---|---|---|\n"
        f"| P-06 | {cells['asked']} | {cells['realised in']} | {cells['comes with']} | {state} | {test} |\n"
    )
    return row


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A repository with one test module: a function, a coroutine, a method, and a helper."""
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_it.py").write_text(
        "def test_fact(): ...\nasync def test_later(): ...\ndef helper():\n    def test_inner(): ...\n"
        "class TestGroup:\n    def test_member(self): ...\n"
    )
    (tmp_path / "test_outside.py").write_text("def test_fact(): ...\n")
    return tmp_path


@pytest.mark.parametrize(
    "row",
    [
        a_row(),
        a_row("not applicable: the seed only describes it"),
        a_row("met", "`tests/test_it.py::test_fact`"),
        a_row("part: no commands yet", "`tests/test_it.py::test_fact`, `tests/test_it.py::test_later`"),
        a_row("met", "`tests/test_it.py::TestGroup::test_member`"),
        a_row(**{"realised in": "core, headend (cases, directory)", "comes with": "The main job, Control"}),
    ],
)
def test_a_sound_row_has_no_fault(row: Row, root: Path) -> None:
    assert faults_in_row(row, root) == []


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        (a_row("done"), "state 'done'"),
        (a_row(""), "state ''"),
        (a_row("not applicable"), "write why"),
        (a_row("not applicable:"), "write why"),
        (a_row("part", "`tests/test_it.py::test_fact`"), "what is missing"),
        (a_row("met"), "needs a test"),
        (a_row("part: much"), "needs a test"),
        (a_row("met", "(to be named)"), "needs a test"),
        (a_row("met", "tests/test_it.py::test_fact"), "write tests as"),
        (a_row("open", "`tests/test_it.py::test_fact`"), "open names a test"),
        (a_row("met", "`tests/test_gone.py::test_fact`"), "does not exist"),
        (a_row("met", "`tests/test_it.py::test_fiction`"), "defines no test"),
        (a_row("met", "`tests/test_it.py::helper`"), "defines no test"),
        (a_row("met", "`tests/test_it.py::test_inner`"), "defines no test"),
        (a_row("met", "`tests/test_it.py::test_member`"), "defines no test"),
        (a_row("met", "`tests/test_it.py::TestOther::test_member`"), "defines no test"),
        (a_row("met", "`tests/test_it.py::test_fact`, `tests/test_it.py::test_gone`"), "no test test_gone"),
        (a_row("met", "`tests/../test_outside.py::test_fact`"), "below tests/"),
        (a_row(asked=""), "says nothing"),
        (a_row(**{"realised in": ""}), "not packages"),
        (a_row(**{"realised in": "kernel"}), "not packages"),
        (a_row(**{"realised in": "core and agent"}), "not packages"),
        (a_row(**{"comes with": ""}), "comes with"),
        (a_row(**{"comes with": "soon"}), "comes with"),
        (a_row(**{"comes with": "EDI, Control"}), "in this order"),
    ],
)
def test_a_row_without_its_evidence_is_refused(row: Row, complaint: str, root: Path) -> None:
    assert [fault for fault in faults_in_row(row, root) if complaint in fault and "P-06" in fault]


def test_missing_doubled_and_invented_ids_are_refused() -> None:
    rows = rows_of(DOCUMENT.read_text(encoding="utf-8"))
    first, *rest = rows
    invented = Row(0, "U-77", "", "", "", "", "", "")

    assert faults_in_numbering(rest) == [f"{first.id} is missing"]
    assert faults_in_numbering([*rows, first]) == [f"{first.id} stands there 2 times"]
    assert faults_in_numbering([*rows, invented]) == ["U-77 is no requirement of these documents"]


def test_a_row_with_a_cell_too_few_is_refused() -> None:
    with pytest.raises(ValueError, match="line 3 has 5 cells"):
        rows_of(
            f"| {' | '.join(HEADER)} |\n|---|---|---|---|---|---|\n| P-06 | asked | core | Control | open |\n"
        )
