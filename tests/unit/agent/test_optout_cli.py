"""`portico optout`: who says no at the box is understood, by people and by the running agent."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from agent.control.optouts import FILE, OptOuts
from cli.main import entry
from core.errors import ConfigError
from policies.assignment import OptOut


def portico(*arguments: str) -> Result:
    command = ["optout", *arguments]
    return CliRunner().invoke(entry(command), command)


def now(directory: Path) -> tuple[OptOut, ...]:
    return OptOuts(directory).now()


def test_a_no_to_one_device_is_added_to_those_that_stand(tmp_path: Path) -> None:
    where = ("--data-dir", str(tmp_path))
    assert portico(*where, "--device", "wh-01").exit_code == 0
    out = portico(*where, "--device", "wh-02", "--device", "wh-01").stdout
    assert now(tmp_path) == (OptOut(device="wh-01"), OptOut(device="wh-02"))
    assert "Not controlled from outside: wh-01, wh-02" in out
    assert "mandatory" in out


def test_a_no_is_taken_back_for_one_device_or_for_all(tmp_path: Path) -> None:
    where = ("--data-dir", str(tmp_path))
    portico(*where, "--device", "wh-01", "--device", "wh-02")
    portico(*where, "--clear", "--device", "wh-01")
    assert now(tmp_path) == (OptOut(device="wh-02"),)
    assert "Every device may be controlled" in portico(*where, "--clear").stdout
    assert now(tmp_path) == ()
    assert not (tmp_path / FILE).exists()


def test_a_no_to_everything_names_no_device_and_outlives_taking_one_back(tmp_path: Path) -> None:
    where = ("--data-dir", str(tmp_path))
    assert "No device behind this gateway" in portico(*where, "--all").stdout
    assert now(tmp_path) == (OptOut(),)
    assert "stands all the same" in portico(*where, "--clear", "--device", "wh-01").stdout
    assert now(tmp_path) == (OptOut(),)


def test_looking_changes_nothing(tmp_path: Path) -> None:
    where = ("--data-dir", str(tmp_path))
    portico(*where, "--device", "wh-01")
    before = (tmp_path / FILE).stat().st_mtime_ns
    assert json.loads(portico(*where, "--show", "--json").stdout) == {"all": False, "devices": ["wh-01"]}
    assert "wh-01" in portico(*where).stdout
    assert (tmp_path / FILE).stat().st_mtime_ns == before


def test_a_file_that_nobody_can_read_is_shown_as_a_no_to_everything(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text("{")
    assert json.loads(portico("--data-dir", str(tmp_path), "--json").stdout) == {"all": True, "devices": []}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--all", "--clear"), "one thing at a time"),
        (("--all", "--device", "wh-01"), "one thing at a time"),
        (("--show", "--clear"), "one thing at a time"),
        (("--device", "a/b"), "may hold letters"),
    ],
)
def test_wrong_use_changes_nothing_and_says_what_to_do(
    tmp_path: Path, arguments: tuple[str, ...], said: str
) -> None:
    error = portico("--data-dir", str(tmp_path), *arguments).exception
    assert isinstance(error, ConfigError)
    assert said in str(error)
    assert list(tmp_path.iterdir()) == []


def test_a_device_that_the_gateway_does_not_have_is_a_slip_of_the_pen(tmp_path: Path) -> None:
    config = tmp_path / "gateway.toml"
    config.write_text(
        '[gateway]\nid = "gw-0001"\ndata_dir = "."\n[[line]]\nname = "lan"\nurl = "modbus+tcp://127.0.0.1:1"\n'
        '[[device]]\nname = "wh-01"\ntype = "generic-load-relay"\nline = "lan"\nunit_id = 1\nevery = "1s"\n'
        'owner = "dso"\n'
    )
    error = portico("-c", str(config), "--device", "wh-10").exception
    assert isinstance(error, ConfigError)
    assert "it has wh-01" in str(error)
    assert portico("-c", str(config), "--device", "wh-01").exit_code == 0
    assert now(tmp_path) == (OptOut(device="wh-01"),)
    assert isinstance(portico("--data-dir", str(tmp_path / "none")).exception, ConfigError)
