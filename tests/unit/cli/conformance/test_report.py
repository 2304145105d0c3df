"""A report in its three forms, and what a line that was not tested counts for."""

import io
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from rich.console import Console

from cli.conformance.command import check_writable
from cli.conformance.lines import Found, Judged, Line, Result, chosen, failed, judge, judged, passed, untested
from cli.conformance.report import Report, document, junit, show
from core.errors import ConfigError


def report(*found: Found) -> Report:
    lines = tuple(Judged(f"X-{n:02}", f"Sentence {n}.", "row", one) for n, one in enumerate(found, 1))
    return Report("agent", "my-gateway --site site.json", lines, 12.3, ("  0.0 s  it is started",))


MIXED = report(passed("3 messages"), failed("1 is wrong", ["message 7 \x00 <x>"]), untested("not played"))


def test_a_report_is_good_when_nothing_failed_and_something_passed() -> None:
    assert report(passed("1"), untested("no")).ok
    assert not report(passed("1"), failed("1")).ok
    assert not report(untested("no")).ok
    assert not report().ok


def test_json_has_every_line_with_its_reason_and_evidence() -> None:
    told = document(MIXED)
    assert (told["ok"], told["passed"], told["failed"], told["not_tested"]) == (False, 1, 1, 1)
    lines = told["lines"]
    assert isinstance(lines, list)
    assert [one["result"] for one in lines] == ["passed", "failed", "not tested"]
    assert lines[1]["evidence"] == ["message 7 \x00 <x>"]
    assert lines[2]["reason"] == "not played"


def test_junit_counts_failures_and_skips_and_is_xml_whatever_a_program_sent() -> None:
    root = ET.fromstring(junit(MIXED))
    (suite,) = root.findall("testsuite")
    assert {name: suite.get(name) for name in ("tests", "failures", "skipped", "errors")} == {
        "tests": "3",
        "failures": "1",
        "skipped": "1",
        "errors": "0",
    }
    cases = suite.findall("testcase")
    assert [case.get("name") for case in cases] == [
        "X-01 Sentence 1.",
        "X-02 Sentence 2.",
        "X-03 Sentence 3.",
    ]
    failure = cases[1].find("failure")
    assert failure is not None
    assert failure.get("message") == "1 is wrong"
    assert "<x>" in (failure.text or "")
    assert cases[2].find("skipped") is not None
    assert cases[0].find("failure") is None


def test_table_names_what_was_not_tested() -> None:
    console = Console(width=100, record=True, file=io.StringIO())
    show(MIXED, console)
    text = console.export_text()
    assert "1 passed, 1 failed, 1 NOT TESTED (X-03)" in text
    assert "message 7" in text


LINES = [
    Line("X-01", "It is even.", "", lambda number: passed("even") if number % 2 == 0 else failed("odd")),
    Line("X-02", "It is small.", "", lambda number: passed("small"), frozenset({"step"})),
]


def test_a_line_whose_step_was_not_played_is_not_tested() -> None:
    found = judge(LINES, 3, {"step": "it was not wanted"})
    assert [(one.id, one.found.result) for one in found] == [
        ("X-01", Result.FAILED),
        ("X-02", Result.NOT_TESTED),
    ]
    assert found[1].found.reason == "it was not wanted"
    assert judge(LINES, 4, {})[1].found.result is Result.PASSED


def test_lines_are_chosen_by_id_in_any_case() -> None:
    assert [one.id for one in chosen(LINES, ["x-02, X-01"])] == ["X-01", "X-02"]
    assert chosen(LINES, []) == LINES
    with pytest.raises(ConfigError, match="no line X-09"):
        chosen(LINES, ["X-09"])


def test_nothing_seen_is_not_tested_and_never_passed() -> None:
    assert judged([], 0, "rows", "rows are wrong").result is Result.NOT_TESTED
    assert judged([], 2, "rows", "rows are wrong") == passed("2 rows")
    assert judged(["a"], 0, "rows", "rows are wrong") == failed("1 rows are wrong", ["a"])


def test_evidence_is_bounded_and_the_rest_counted() -> None:
    found = failed("many", [str(n) for n in range(100)])
    assert found.evidence == ("0", "1", "2", "3", "4", "and 95 more")


def test_a_place_where_no_report_can_be_written_is_told_before_a_run(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "missing" / "report.xml"):
        with pytest.raises(ConfigError, match="no report can be written"):
            check_writable(path)
    check_writable(tmp_path / "report.xml")
    check_writable(None)
