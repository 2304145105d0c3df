"""Reasons and codes: a closed list in a data file, a rank that is total, and room for what comes later."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.quality import (
    GOOD_CODE,
    code_of,
    exception_reason,
    is_reason,
    reason_fault,
    reason_of,
    reasons,
    worst,
)
from core.quality_doc import table
from tests.unit.core.wire_made import reason_names

DOCUMENT = Path(__file__).parents[3] / "docs" / "quality.md"


def test_every_reason_has_a_wellformed_name_and_code() -> None:
    assert len(reasons()) >= 18
    for name, reason in reasons().items():
        assert reason.name == name
        assert reason_fault(name) is None
        assert re.fullmatch(r"[0-9]+\.[0-9]+\.[0-9]+", reason.code)
        assert reason.code != GOOD_CODE
        assert reason.text


def test_reasons_that_carry_no_value_are_worse_than_those_that_do() -> None:
    with_value = [reason.rank for reason in reasons().values() if reason.carries_value]
    without = [reason.rank for reason in reasons().values() if not reason.carries_value]
    assert max(with_value) < min(without)


@given(st.lists(reason_names, max_size=4), st.randoms())
def test_worst_of_some_reasons_has_the_highest_rank_in_any_order(names: list[str], random: object) -> None:
    found = worst(names)
    if not names:
        assert found is None
        assert code_of(names) == GOOD_CODE
    else:
        assert found is not None
        assert found.rank == max(reasons()[name].rank for name in names)
        assert found.name in names
        assert code_of(names) == found.code


@pytest.mark.parametrize("code", range(256))
def test_every_modbus_exception_has_a_reason(code: int) -> None:
    assert is_reason(exception_reason(code))


@given(st.from_regex(r"\A[a-z][a-z0-9-]{0,31}\Z"))
def test_reason_of_a_later_version_is_kept_and_not_good(name: str) -> None:
    assert reason_fault(name) is None
    assert reason_of(name).name == name
    assert code_of([name]) != GOOD_CODE
    if not is_reason(name):
        assert reason_of(name).guessed


@pytest.mark.parametrize("bad", ["", "Timeout", "a b", "-a", "1a", "a\n", "ä", "x" * 33, "a.b", '"'])
def test_what_cannot_be_a_reason_is_refused(bad: str) -> None:
    fault = reason_fault(bad)
    assert fault is not None
    assert "small letters" in fault
    assert not is_reason(bad)


def test_document_shows_the_list_as_it_is() -> None:
    assert table() in DOCUMENT.read_text("utf-8"), "run python -m core.quality_doc and put its table there"
