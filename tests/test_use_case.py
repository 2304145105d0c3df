"""Holds docs/use-case-c-2.2.md to what it says of itself: tests exist, names are introduced, tables printed.

Whether a named test really shows its step is deliberately not here: only a reader can tell.
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from cli.main import main
from tests.support.namedtests import NAMED, faults_in_test

ROOT: Final = Path(__file__).resolve().parents[1]
DOCUMENT: Final = ROOT / "docs" / "use-case-c-2.2.md"
POLICY: Final = ROOT / "policies" / "examples" / "policy.toml"

STEPS: Final = (
    "#",
    "event",
    "primary actor",
    "activity",
    "what happens",
    "from",
    "to",
    "information",
    "shown by",
)
ACTORS: Final = ("actor", "type", "description")
OBJECTS: Final = ("object", "description")
POLICIES: Final = ("policy", "from actor", "may", "shall not", "shall", "verb", "to actor")
CONSTRAINTS: Final = ("constraint", "type", "description", "applies to")
MARK: Final = "×"
NOT_SHOWN: Final = "not shown: "

_NUMBER: Final = re.compile(r"[1-9]\d*(?:\.[1-9]\d*[A-Z]?)*\.[1-9]\d*")
_SEQUENCE: Final = re.compile(r"#### Sequence (\d+): \S.*")


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a table, and the sequence under whose heading it stands."""

    sequence: str
    cells: tuple[str, ...]


def rows_under(text: str, header: tuple[str, ...]) -> list[Row]:
    """Return the rows of every table with this header."""
    rows: list[Row] = []
    sequence, inside = "", False
    for line in text.splitlines():
        if found := _SEQUENCE.fullmatch(line):
            sequence = found[1]
        if not line.startswith("|"):
            inside = False
            continue
        cells = tuple(cell.strip() for cell in line.strip().removeprefix("|").removesuffix("|").split("|"))
        if cells == header:
            inside = True
        elif inside and not set("".join(cells)) <= {"-"}:
            rows.append(Row(sequence, cells))
    return rows


def faults_in(text: str, root: Path = ROOT) -> list[str]:
    """What is wrong with the steps, as sentences."""
    steps = rows_under(text, STEPS)
    actors = {row.cells[0] for row in rows_under(text, ACTORS)}
    objects = {row.cells[0] for row in rows_under(text, OBJECTS)}
    faults = [] if steps else ["there are no steps"]
    before: dict[str, tuple[int, ...]] = {}
    for row in steps:
        if len(row.cells) != len(STEPS):
            faults.append(f"a step has {len(row.cells)} cells: {row.cells[0]}")
            continue
        number, _, actor, activity, happens, sender, receiver, information, shown = row.cells
        faults += [f"step {number}: {fault}" for fault in _faults_in_number(number, row.sequence, before)]
        faults += [
            f"step {number}: {name} is no actor of section 1.5"
            for name in (actor, *_names(sender), *_names(receiver))
            if name not in actors
        ]
        faults += [
            f"step {number}: {name} is no object of section 1.6"
            for name in _names(information)
            if name not in objects
        ]
        if not (activity and happens):
            faults.append(f"step {number}: says not what is done")
        faults += [f"step {number}: {fault}" for fault in _faults_in_shown(shown, root)]
    return faults


def _names(cell: str) -> list[str]:
    return cell.split(", ") if cell else []


def _faults_in_number(number: str, sequence: str, before: dict[str, tuple[int, ...]]) -> list[str]:
    """Dewey numbers with letters for what runs at the same time, ascending within each letter."""
    if not _NUMBER.fullmatch(number):
        return ["is no number of the template"]
    if number.partition(".")[0] != sequence:
        return [f"stands under sequence {sequence}"]
    value = tuple(int(part) for part in re.findall(r"\d+", number))
    key = "".join([sequence, *re.findall("[A-Z]", number)])
    if value <= before.get(key, ()):
        return ["does not ascend"]
    before[key] = value
    return []


def _faults_in_shown(shown: str, root: Path) -> list[str]:
    if shown.startswith(NOT_SHOWN) and len(shown) > len(NOT_SHOWN):
        return []
    named = NAMED.findall(shown)
    if not named or NAMED.sub("", shown).strip(" ,"):
        return [f"name tests as `path::name`, or write '{NOT_SHOWN}the reason', not {shown!r}"]
    return [fault for path, name in named for fault in faults_in_test(path, name, root)]


def printed(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    with pytest.raises(SystemExit):
        main(["policy", "show", str(POLICY), "--json"])
    found: dict[str, Any] = json.loads(capsys.readouterr().out)[0]
    return found


def test_each_step_names_its_actors_its_information_and_tests_that_exist() -> None:
    assert faults_in(DOCUMENT.read_text("utf-8")) == []


def test_the_policy_table_is_what_the_program_prints(capsys: pytest.CaptureFixture[str]) -> None:
    expected = []
    for row in printed(capsys)["table"]:
        marks = [MARK if row["modality"] == which else "" for which in ("may", "shall not", "shall")]
        expected.append((row["grant"], row["from_actor"], *marks, row["verb"], row["to_actor"]))
    shown = [row.cells for row in rows_under(DOCUMENT.read_text("utf-8"), POLICIES)]
    assert shown == expected


def test_the_constraint_table_is_what_the_program_prints(capsys: pytest.CaptureFixture[str]) -> None:
    expected = [tuple(row[key] for key in ROW_KEYS) for row in printed(capsys)["constraints"]]
    assert [row.cells for row in rows_under(DOCUMENT.read_text("utf-8"), CONSTRAINTS)] == expected


ROW_KEYS: Final = ("constraint", "type", "description", "applies_to")


# The check is worth what it refuses.

SOUND: Final = (
    "| actor | type | description |\n|---|---|---|\n| gateway | device | reads |\n\n"
    "| object | description |\n|---|---|\n| reading | a value |\n\n"
    f"#### Sequence 1: it works\n\n| {' | '.join(STEPS)} |\n|{'---|' * len(STEPS)}\n"
)
TEST: Final = "`tests/test_it.py::test_fact`"


def a_step(
    number: str = "1.1", actor: str = "gateway", information: str = "reading", shown: str = TEST
) -> str:
    return f"| {number} | due | {actor} | poll | it reads | gateway | | {information} | {shown} |\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_it.py").write_text("def test_fact(): ...\n")
    return tmp_path


@pytest.mark.parametrize(
    "steps",
    [
        a_step(),
        a_step() + a_step("1.2A.1") + a_step("1.2B.1") + a_step("1.2A.2") + a_step("1.3") + a_step("1.3.1"),
        a_step(shown="not shown: comes later"),
        a_step(information=""),
    ],
)
def test_sound_steps_have_no_fault(steps: str, root: Path) -> None:
    assert faults_in(SOUND + steps, root) == []


@pytest.mark.parametrize(
    ("steps", "complaint"),
    [
        ("", "no steps"),
        (a_step("1"), "no number"),
        (a_step("1.A"), "no number"),
        (a_step("1.2A"), "no number"),
        (a_step("1.2A.2") + a_step("1.2A.1"), "does not ascend"),
        (a_step("2.1"), "stands under sequence 1"),
        (a_step("1.2") + a_step("1.2"), "does not ascend"),
        (a_step("1.2") + a_step("1.1"), "does not ascend"),
        (a_step(actor="owl"), "owl is no actor"),
        (a_step(information="reading, song"), "song is no object"),
        (a_step(shown=""), "name tests"),
        (a_step(shown="not shown: "), "name tests"),
        (a_step(shown="by hand"), "name tests"),
        (a_step(shown="`tests/test_it.py::test_fiction`"), "defines no test"),
        (a_step(shown="`tests/test_gone.py::test_fact`"), "does not exist"),
    ],
)
def test_a_step_without_its_evidence_is_refused(steps: str, complaint: str, root: Path) -> None:
    assert [fault for fault in faults_in(SOUND + steps, root) if complaint in fault]
