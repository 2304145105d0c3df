"""The command line that interferes with a plant: which plant is meant."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from core.errors import PorticoError
from simulator.ctl_cli import app


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize(
    "command", [["list"], ["fault", "meter", "silent"], ["clear"], ["set", "meter", "W", "1"]]
)
def test_log_may_stand_before_or_behind_the_command(tmp_path: Path, command: list[str], before: bool) -> None:
    where = ["--log", str(tmp_path / "plant")]
    done = CliRunner().invoke(app, [*where, *command] if before else [*command, *where])
    assert isinstance(done.exception, PorticoError), done.output
    assert str(tmp_path / "plant") in str(done.exception)


def test_log_behind_the_command_wins(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["--log", "elsewhere", "list", "--log", str(tmp_path / "plant")])
    assert str(tmp_path / "plant") in str(done.exception)
