"""C programs of the tests: a missing library is named, and the slow disk is slow when told to."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.cbuild import BuildFailed, BuildUnavailable, build

SLOWSYNC = Path(__file__).parents[1] / "peers" / "slowsync.c"


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("tests.support.cbuild.CACHE", tmp_path / "cache")
    path = tmp_path / "answer.c"
    path.write_text("int main(void) { return 42; }\n")
    return path


def test_a_program_is_compiled_once_and_again_when_it_changes(source: Path) -> None:
    try:
        first = build(source)
    except BuildUnavailable as error:
        pytest.skip(str(error))
    compiled_ns = first.stat().st_mtime_ns
    assert build(source) == first
    assert first.stat().st_mtime_ns == compiled_ns
    source.write_text("int main(void) { return 43; }\n")
    second = build(source)
    assert [subprocess.run([program], check=False).returncode for program in (first, second)] == [42, 43]


def test_a_missing_library_is_named_with_its_package(source: Path) -> None:
    with pytest.raises(
        BuildUnavailable, match=r"libnonesuch is missing; run apt-get install libnonesuch-dev\."
    ):
        build(source, "nonesuch")


def test_a_missing_compiler_is_named_with_its_package(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source.write_text("/* never compiled before */ int main(void) { return 0; }\n")
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(BuildUnavailable, match=r"gcc is missing; run apt-get install gcc"):
        build(source)


def test_a_source_that_does_not_compile_says_where(source: Path) -> None:
    source.write_text("int main(void) { return unknown; }\n")
    with pytest.raises(BuildFailed, match=r"answer\.c:1:"):
        build(source)


def test_flushes_of_sqlite_wait_for_the_delay_that_the_file_holds(tmp_path: Path) -> None:
    try:
        library = build(SLOWSYNC, shared=True)
    except BuildUnavailable as error:
        pytest.skip(str(error))
    delay = tmp_path / "delay_ms"
    program = (
        "import sqlite3, sys, time\n"
        "connection = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
        "connection.executescript('PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; CREATE TABLE t (a);')\n"
        "connection.execute('INSERT INTO t VALUES (1)')\n"
        "took = []\n"
        "for text in ('60', '', '90', 'nonsense'):\n"
        "    open(sys.argv[2], 'w').write(text)\n"
        "    start = time.monotonic()\n"
        "    connection.execute('INSERT INTO t VALUES (1)')\n"
        "    took.append(time.monotonic() - start)\n"
        "print(*took)\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", program, tmp_path / "a.db", delay],
        env={**os.environ, "LD_PRELOAD": str(library), "PORTICO_SLOWSYNC_FILE": str(delay)},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    took_s = [float(text) for text in run.stdout.split()]
    assert took_s[0] >= 0.060  # a lower bound only: the machine may be slower than the delay
    assert took_s[2] >= 0.090
