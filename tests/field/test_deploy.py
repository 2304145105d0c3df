"""The systemd units: systemd takes them, they start commands that exist, and Python bears the fence."""

import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
UNITS = sorted((ROOT / "deploy").glob("*.service"))
ANALYZE = shutil.which("systemd-analyze")
needs_systemd = pytest.mark.skipif(ANALYZE is None, reason="systemd-analyze is not installed")
WORST_EXPOSURE = 20
"""Tenths, as `systemd-analyze security --threshold` counts them: 2.0."""


def exec_start(unit: Path) -> list[str]:
    """Return the command line that a unit starts."""
    (line,) = [one for one in unit.read_text("utf-8").splitlines() if one.startswith("ExecStart=")]
    return shlex.split(line.removeprefix("ExecStart="))


def runnable(unit: Path, folder: Path) -> Path:
    """Return a copy of a unit whose program is one that exists here."""
    copy = folder / unit.name
    copy.write_text(unit.read_text("utf-8").replace("/opt/portico/bin/portico", "/bin/true"))
    return copy


def test_there_is_a_unit_for_the_agent_and_one_for_the_headend() -> None:
    assert [unit.name for unit in UNITS] == ["portico-agent.service", "portico-headend.service"]


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_a_unit_starts_a_command_that_takes_its_arguments(unit: Path, tmp_path: Path) -> None:
    program, *arguments = exec_start(unit)
    assert program == "/opt/portico/bin/portico"
    (at,) = [number for number, word in enumerate(arguments) if word.endswith(".toml")]
    arguments[at] = str(tmp_path / "absent.toml")
    ran = subprocess.run(
        [sys.executable, "-c", "from cli.main import main; main()", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    # It came as far as reading its configuration: command and options exist.
    assert ran.returncode == 2
    assert "absent.toml cannot be read" in ran.stderr


@needs_systemd
@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_systemd_finds_no_fault_in_a_unit(unit: Path, tmp_path: Path) -> None:
    ran = subprocess.run(
        [str(ANALYZE), "verify", "--man=no", str(runnable(unit, tmp_path))],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    ours = [line for line in ran.stderr.splitlines() if unit.name in line]
    assert (ran.returncode, ours) == (0, [])


@needs_systemd
@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_a_unit_is_fenced_in(unit: Path, tmp_path: Path) -> None:
    ran = subprocess.run(
        [
            str(ANALYZE),
            "security",
            "--offline=true",
            f"--threshold={WORST_EXPOSURE}",
            "--no-pager",
            str(runnable(unit, tmp_path)),
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout.splitlines()[-1:] or ran.stderr


def test_the_agent_may_ask_for_the_state_of_the_clock() -> None:
    unit = ROOT / "deploy" / "portico-agent.service"
    settings = [line.partition("=") for line in unit.read_text("utf-8").splitlines() if line[:1] != "#"]
    service = {key: value for key, _, value in settings}
    assert "ProtectClock" not in service
    assert "ProcSubset" not in service, "the boot id would be hidden"
    # The last line counts: a later denial would take it away again.
    assert "adjtimex" in service["SystemCallFilter"].split()


IMPORTS = """\
import ctypes, mmap, sys
if ctypes.CDLL(None).prctl(65, 1, 0, 0, 0) != 0:  # PR_SET_MDWE, Linux 6.3
    sys.exit(77)
try:
    mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
except OSError:
    pass
else:
    sys.exit("the fence is not there")
import asyncio, sqlite3, ssl
import uvloop
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
import agent.app, headend.cli
key = Ed25519PrivateKey.generate()
key.public_key().verify(key.sign(b"x"), b"x")
ssl.create_default_context()
sqlite3.connect(":memory:").execute("select 1").fetchone()
async def talk():
    server = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    assert await reader.read() == b""
    writer.close()
    server.close()
with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
    runner.run(talk())
"""


def test_agent_and_headend_need_no_memory_that_is_writable_and_executable() -> None:
    ran = subprocess.run(
        [sys.executable, "-c", IMPORTS], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    if ran.returncode == 77:
        pytest.skip("this kernel has no PR_SET_MDWE")
    assert (ran.returncode, ran.stderr) == (0, "")
