"""`portico agent`: what its commands refuse, and what the status says when there is none."""

import fcntl
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from agent.cli import app
from core.errors import ConfigError, StoreError


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "gateway.toml"
    path.write_text('[gateway]\nid = "gw-0001"\ndata_dir = "var"\n')
    (tmp_path / "var").mkdir()
    return path


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(one) for one in arguments])


@contextmanager
def an_agent_holding(data_dir: Path) -> Iterator[None]:
    handle = os.open(data_dir / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def write_status(data_dir: Path, at_ms: int) -> None:
    store = dict.fromkeys(("readings", "rows", "bytes", "durable_p99_ms", "durable_max_ms", "gap_ticks"), 0)
    state = {"gateway": "gw-0001", "software": "portico", "at_ms": at_ms, "uptime_s": 1.0, "store": store}
    empty = {"lines": {}, "brokers": {}, "routes": {}, "alarms": [], "clock_synchronised": True}
    (data_dir / "status.json").write_text(json.dumps({**state, **empty}))


def test_log_level_that_does_not_exist_is_wrong_use(config: Path) -> None:
    result = run("run", "-c", config, "--log-level", "loud")
    assert result.exit_code == 2
    assert "'loud' is not one of" in result.output


def portico(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from cli.main import main; main()", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60, check=False)


def test_log_level_may_be_in_capitals_and_a_fault_of_the_configuration_is_told(
    tmp_path: Path,
) -> None:
    ran = portico(tmp_path, "agent", "run", "-c", "none.toml", "--log-level", "INFO")
    assert ran.returncode == 2
    assert ran.stderr.startswith("error: none.toml cannot be read")
    assert len(ran.stderr.splitlines()) == 1


def test_modules_are_never_taken_from_the_folder_in_which_somebody_stands(tmp_path: Path) -> None:
    for name in ("agent.py", "core.py", "logging.py"):
        (tmp_path / name).write_text("raise SystemExit(77)\n")
    script = Path(sys.executable).with_name("portico")
    ran = subprocess.run(
        [script, "agent", "run", "-c", "none.toml"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (ran.returncode, ran.stderr.partition(" cannot")[0]) == (2, "error: none.toml")


def test_status_without_an_agent_says_how_to_start_it(config: Path) -> None:
    error = run("status", "-c", config).exception
    assert isinstance(error, ConfigError)
    assert "start the agent with" in str(error)


def test_status_that_a_running_agent_never_wrote_is_told_as_that(config: Path) -> None:
    with an_agent_holding(config.parent / "var"):
        error = run("status", "-c", config).exception
    assert isinstance(error, StoreError)
    assert "the agent runs" in str(error)
    assert "is the disk full?" in str(error)


def test_old_status_of_a_running_agent_is_told_as_that(config: Path) -> None:
    write_status(config.parent / "var", 0)
    with an_agent_holding(config.parent / "var"):
        error = run("status", "-c", config).exception
        found = run("status", "-c", config, "--json")
    assert isinstance(error, StoreError)
    assert "could not write its status" in str(error)
    assert json.loads(found.stdout.splitlines()[0])["agent_runs"] is True


@pytest.mark.parametrize("age_s", [3, 3600])
def test_status_of_an_agent_that_ended_says_that_it_does_not_run(config: Path, age_s: int) -> None:
    write_status(config.parent / "var", (int(time.time()) - age_s) * 1000)
    result = run("status", "-c", config)
    assert (result.exit_code, isinstance(result.exception, SystemExit)) == (1, True)
    said = " ".join(result.output.split())
    assert "not running (stopped, killed or crashed; last sign of life" in said
    assert "running for" not in said


def test_fresh_status_of_a_running_agent_says_for_how_long(config: Path) -> None:
    write_status(config.parent / "var", time.time_ns() // 1_000_000)
    with an_agent_holding(config.parent / "var"):
        result = run("status", "-c", config)
    assert result.exit_code == 0
    assert "running for 1 s" in result.output


@pytest.mark.parametrize("raw", [b"", b"x", b"[]", b"{}", b"null", b"\xff\xfe", b'{"gateway": "\xff"}'])
@pytest.mark.parametrize("more", [(), ("--json",)])
def test_status_that_is_none_is_told_with_what_to_do(config: Path, raw: bytes, more: tuple[str, ...]) -> None:
    path = config.parent / "var" / "status.json"
    path.write_bytes(raw)
    error = run("status", "-c", config, *more).exception
    assert isinstance(error, StoreError)
    assert str(path) in str(error)
    assert "no agent runs: start it" in str(error)
    with an_agent_holding(path.parent):
        assert "ask again" in str(run("status", "-c", config, *more).exception)


def test_names_are_folded_and_never_cut_in_a_narrow_terminal(config: Path) -> None:
    write_status(config.parent / "var", time.time_ns() // 1_000_000)
    path = config.parent / "var" / "status.json"
    names = ("waiting_records", "unconfirmed_bytes", "messages", "confirmations", "resent", "refused")
    route = {"entity": "distribution.example", **dict.fromkeys(names, 1_234_567)}
    path.write_text(json.dumps({**json.loads(path.read_text()), "routes": {"the-dso-route": route}}))
    result = CliRunner().invoke(app, ["status", "-c", str(config)], env={"COLUMNS": "80"})
    assert "1234" in result.output
    assert "\u2026" not in result.output
