"""The program under test: its command line, and that nothing of it outlives its end."""

import os
import sys
from pathlib import Path

import pytest

from cli.conformance.program import Program, command_line
from cli.process import wait_until
from core.errors import ConfigError

PLACES = {"site": Path("/x/site.json"), "data": Path("/x/data")}


def test_names_in_braces_become_paths_and_other_braces_stay() -> None:
    found = command_line("""cat --site={site} '{data}/a b' {{other}} {{site}} ${X} '{"a": {}}'""", (), PLACES)
    assert found == ["cat", "--site=/x/site.json", "/x/data/a b", "{other}", "{site}", "${X}", '{"a": {}}']


def test_misspelt_name_in_braces_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"\{sitee\}, which is none of \{site\}, \{data\}"):
        command_line("cat {sitee}", (), PLACES)


def test_without_a_command_our_own_is_run() -> None:
    assert command_line(None, ("agent", "run", "{site}"), PLACES)[-3:] == ["agent", "run", "/x/site.json"]


@pytest.mark.parametrize("text", ["", "  ", "unclosed 'quote", "no-such-program-anywhere {site}"])
def test_unusable_command_is_a_mistake_of_the_user(text: str) -> None:
    with pytest.raises(ConfigError, match="--command"):
        command_line(text, (), PLACES)


CHILD = "import time; time.sleep(600)"
PARENT = (
    "import subprocess, sys, time\n"
    f"child = subprocess.Popen([sys.executable, '-c', {CHILD!r}])\n"
    "print(child.pid, flush=True)\n"
    "time.sleep(600)\n"
)


def alive(pid: int) -> bool:
    """Whether a process runs; one that ended and waits for its parent does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.skipif(not os.path.isdir("/proc"), reason="looks into /proc")
@pytest.mark.parametrize("end", ["kill9", "stop"])
def test_what_a_program_started_ends_with_it(tmp_path: Path, end: str) -> None:
    program = Program("a wrapper", [sys.executable, "-c", PARENT], tmp_path / "log")
    program.start()
    wait_until(lambda: program.said().strip().isdigit(), 20, lambda: "it said nothing")
    child = int(program.said())
    assert alive(child)
    getattr(program, end)()
    wait_until(lambda: not alive(child), 10, lambda: "the child lives on")
    assert not program.running


def test_a_program_that_ended_by_itself_may_be_killed_as_often_as_one_likes(tmp_path: Path) -> None:
    program = Program("short", [sys.executable, "-c", "pass"], tmp_path / "log")
    program.start(wait=False)
    program.wait_end()
    program.kill9()
    program.kill9()
    assert program.exit_code == 0
