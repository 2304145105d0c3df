"""The tool that changes the rules one thing at a time: what it changes, what it leaves, and a sample.

The whole run is `make mutants`; docs/policy.md has its figures.
"""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.mutants import DECIDE, ROOT, TRUST
from tests.support.mutation.changes import Change, changed_code, changes_of
from tests.support.mutation.known import Equivalent, no_longer, read_known

SAMPLE = 12
SEED = 1


def whats(source: str) -> list[str]:
    """Return what may be changed in some lines."""
    return [change.what for change in changes_of("made.py", source)]


@pytest.mark.parametrize(
    ("line", "changed"),
    [
        ("x = a < b", ["a < b -> a <= b", "a < b -> a >= b"]),
        ("x = a is None", ["a is None -> a is not None"]),
        ("x = a and b", ["a and b -> a or b"]),
        ("x = not a", ["not a -> not not a"]),
        ("x = b if a else c", ["b if a else c -> b if not a else c"]),
        ("if a: pass", ["a -> not a"]),
        ("x = [a for a in b if a]", ["a -> not a"]),
        ("x = a + 7", ["a + 7 -> a - 7", "7 -> 8"]),
        ("x -= a", ["x -= a -> x += a"]),
        ("x = min(a)", ["min(a) -> max(a)"]),
        ("x = any(a)", ["any(a) -> all(a)"]),
        ("x = True", ["True -> False"]),
        ("a(b)", ["a(b) -> left out"]),
        ("raise a", ["raise a -> left out"]),
        ("def f():\n    yield a", ["yield a -> left out"]),
        ("class A:\n    a: Annotated[int, Meta(ge=1)]", ["1 -> 2"]),
        ("x = 1, 1", ["1 -> 2", "1 -> 2 (2)"]),
    ],
)
def test_one_thing_is_changed_at_a_time(line: str, changed: list[str]) -> None:
    assert whats(line) == changed


@pytest.mark.parametrize(
    "line",
    [
        '"""Text 1."""',
        "_log.info('done %d', a + 1)",
        "x = f'{a + 1} of {not b}'",
        "x = f'{a}' if b else 'nothing at all'",
        "x: tuple[int, ...] | None",
        "def f(a: int | None) -> int | None: ...",
        "class A(Struct, frozen=True): __slots__ = ()",
        "@dataclass(frozen=True)\nclass A: pass",
        "def __str__(self):\n    return a + 1",
        "assert a < b",
        "x = zip(a, b, strict=True)",
        "class A:\n    a: int = field(init=False)",
    ],
)
def test_what_people_read_and_what_no_run_asks_is_left_alone(line: str) -> None:
    assert whats(line) == []


def test_a_change_is_the_one_that_it_says() -> None:
    source = "def f(a, b):\n    return a < b, a < b\n"
    found = {}
    for change in changes_of("made.py", source):
        names: dict[str, object] = {}
        exec(changed_code(change, source, "made.py"), names)  # noqa: S102
        found[change.what] = names["f"](1, 1), names["f"](0, 1)  # type: ignore[operator]
    assert found == {
        "a < b -> a <= b": ((True, False), (True, True)),
        "a < b -> a >= b": ((True, False), (False, True)),
        "a < b -> a <= b (2)": ((False, True), (True, True)),
        "a < b -> a >= b (2)": ((False, True), (True, False)),
    }


def test_an_entry_that_no_longer_applies_is_told() -> None:
    (change,) = changes_of("made.py", "x = not a")
    entry = Equivalent(*change.key, why="as ever")
    elsewhere = Equivalent("made.py", "", "x = not b", "not b -> not not b", "gone")
    assert no_longer([entry], [change], set()) == []
    assert "a test sees it" in no_longer([entry], [change], {change.key})[0]
    assert "not there any more" in no_longer([elsewhere], [change], set())[0]


def test_an_entry_without_a_reason_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "list.toml"
    path.write_text(
        '[[equivalent]]\nmodule = "a"\nwithin = ""\nline = "x"\nchange = "y"\nwhy = " "\n', "utf-8"
    )
    with pytest.raises(ValueError, match="entry 1"):
        read_known(path)


def test_every_change_that_is_explained_is_one_that_can_be_made() -> None:
    changes: list[Change] = []
    for path in [*TRUST, *DECIDE]:
        changes += changes_of(path, (ROOT / path).read_text("utf-8"))
    assert no_longer(read_known(), changes, set()) == []


@pytest.mark.timeout(600)
def test_a_sample_of_changes_is_seen_by_the_tests() -> None:
    command = [sys.executable, "-m", "tests.mutants", "--sample", str(SAMPLE), "--seed", str(SEED), "--quiet"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
