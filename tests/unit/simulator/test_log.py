"""The plant's log: nothing lost that was written, nothing read that was not."""

import errno
import json
import os
import resource
from pathlib import Path

import pytest

from simulator.log import Asked, PlantLog, PlantLogFailed, last_counts

ASKED = Asked("home/lan", 5020, 1, "meter", function=4, address=0, count=72, points=30, outcome="ok")


def lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines() if line]


def test_a_count_is_in_the_file_before_anything_is_flushed_or_closed(tmp_path: Path) -> None:
    with PlantLog(tmp_path / "log") as log:
        log.counted("counter", "PollCount", 17, 1234)
        assert lines(log.path) == [
            {"kind": "count", "ms": 1234, "device": "counter", "point": "PollCount", "count": 17}
        ]


def test_equal_requests_become_one_line_with_their_number_and_span(tmp_path: Path) -> None:
    silent = Asked("home/lan", 5020, 1, "meter", 4, 0, 72, 30, "silent")
    with PlantLog(tmp_path / "log") as log:
        for ms in (1000, 1200, 1700):
            log.asked(ASKED, ms)
        log.asked(silent, 1500)
        assert lines(log.path) == []
        log.flush()
        first, second = lines(log.path)
        assert (first["ms"], first["to_ms"], first["n"], first["outcome"]) == (1000, 1700, 3, "ok")
        assert (second["ms"], second["to_ms"], second["n"], second["outcome"]) == (1500, 1500, 1, "silent")
        log.flush()
        assert len(lines(log.path)) == 2
        assert log.totals == {"ok": 3, "silent": 1, "points": 120}


def test_what_was_counted_is_written_at_the_end(tmp_path: Path) -> None:
    with PlantLog(tmp_path / "log") as log:
        log.asked(ASKED, 1000)
    assert [line["n"] for line in lines(tmp_path / "log")] == [1]


def test_a_log_knows_the_last_counts_of_earlier_lives_and_goes_on(tmp_path: Path) -> None:
    with PlantLog(tmp_path / "log") as log:
        assert log.last_counts == {}
        for count in (1, 2, 3):
            log.counted("a", "PollCount", count, count)
        log.counted("b", "PollCount", 9, 4)
    with PlantLog(tmp_path / "log") as log:
        assert log.last_counts == {("a", "PollCount"): 3, ("b", "PollCount"): 9}
        log.counted("a", "PollCount", 4, 5)
    assert len(lines(tmp_path / "log")) == 5


def test_half_a_line_of_a_killed_life_spoils_no_other(tmp_path: Path) -> None:
    with PlantLog(tmp_path / "log") as log:
        log.counted("a", "PollCount", 1, 1)
    with (tmp_path / "log").open("ab") as torn:
        torn.write(b'{"kind":"count","ms":2,"device":"a","po')
    with PlantLog(tmp_path / "log") as log:
        assert log.last_counts == {("a", "PollCount"): 1}
        log.counted("a", "PollCount", 2, 3)
    assert last_counts(tmp_path / "log") == {("a", "PollCount"): 2}


def test_a_full_log_says_so_once_and_takes_only_events(tmp_path: Path) -> None:
    with PlantLog(tmp_path / "log", most_bytes=100) as log:
        for count in range(1, 9):
            log.counted("a", "PollCount", count, count)
        log.asked(ASKED, 9)
        log.flush()
        log.event("stop", 10)
    assert [line["kind"] for line in lines(tmp_path / "log")] == ["count", "count", "full", "stop"]


def test_a_log_that_cannot_be_written_is_an_error_and_goes_on_whole_afterwards(tmp_path: Path) -> None:
    with PlantLog(tmp_path / "log") as log:
        log.counted("a", "PollCount", 1, 1)
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
        try:
            with pytest.raises(PlantLogFailed, match=f"log cannot be written: {os.strerror(errno.EFBIG)}"):
                log.counted("a", "PollCount", 2, 2)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        log.counted("a", "PollCount", 3, 3)
    assert last_counts(tmp_path / "log") == {("a", "PollCount"): 3}
    assert (tmp_path / "log").read_bytes().count(b"\n") == 3
