"""The lines themselves: their ids, and the page that describes them."""

import re
from pathlib import Path
from typing import Any

import pytest

from cli.conformance import agent_lines, headend_lines
from cli.conformance.agent_lines import AGENT_LINES
from cli.conformance.headend_lines import HEADEND_LINES
from cli.conformance.lines import Line
from tests.field.test_conformance import AGENTS, HEADENDS

PAGE = Path(__file__).parents[4] / "docs" / "conformance.md"
EVERY: dict[str, tuple[Line[Any], ...]] = {"agent": AGENT_LINES, "headend": HEADEND_LINES}


def rows(lines: tuple[Line[Any], ...]) -> str:
    told = [f"| {one.id} | {one.sentence} | {one.source} |" for one in lines]
    return "\n".join(["| line | what must hold | from |", "|---|---|---|", *told])


@pytest.mark.parametrize("part", sorted(EVERY))
def test_the_page_has_every_line_word_for_word(part: str) -> None:
    found = re.search(rf"<!-- lines: {part} -->\n(.*?)<!-- end -->", PAGE.read_text(), re.DOTALL)
    assert found is not None
    assert found[1].strip() == rows(EVERY[part])


@pytest.mark.parametrize("part", sorted(EVERY))
def test_ids_are_unique_and_ascending(part: str) -> None:
    ids = [one.id for one in EVERY[part]]
    assert ids == sorted(set(ids))


def test_every_step_of_a_line_is_played_somewhere() -> None:
    assert {step for one in AGENT_LINES for step in one.steps} == set(agent_lines.STEPS)
    steps = {step for one in HEADEND_LINES for step in one.steps}
    assert steps == {*headend_lines.STEPS, headend_lines.BOOKS}


def test_the_page_names_every_broken_program_with_the_lines_that_it_fails() -> None:
    page = PAGE.read_text()
    found = {
        defect: set(re.findall(r"[AH]-[0-9]{2}", fails.partition(";")[0]))
        for defect, fails in re.findall(r"^\| .*--defect ([a-z-]+)` \|[^|]*\|([^|]*)\|$", page, re.MULTILINE)
    }
    assert found == {**AGENTS, **HEADENDS}
