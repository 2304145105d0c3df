"""`portico simulate` before it opens a port: which file is meant, and what is printed."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli.main import entry
from core.errors import ConfigError
from simulator.cli import found, totals_in_words
from simulator.scenario import SCENARIOS


def test_a_shipped_scenario_is_found_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert found(Path("street")) == found(Path("street.toml")) == SCENARIOS / "street.toml"


def test_a_file_goes_before_a_shipped_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("street").touch()
    assert found(Path("street")) == Path("street")


@pytest.mark.parametrize("name", ["village", "elsewhere/street.toml"])
def test_an_unknown_scenario_names_those_that_there_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        ConfigError, match=f"no scenario {name}: give a file, or one of fleet, household, lines, street"
    ):
        found(Path(name))


def test_statistics_are_one_line() -> None:
    assert totals_in_words({"ok": 3, "exception 2": 1, "points": 90}) == (
        "requests: exception 2 1, ok 3; points inside them: 90"
    )
    assert totals_in_words({}) == "requests: none; points inside them: 0"


def test_the_help_ends_with_an_example() -> None:
    shown = CliRunner().invoke(entry(["simulate"]), ["simulate", "--help"])
    assert shown.exit_code == 0
    assert "Example: portico simulate -s " in shown.output
