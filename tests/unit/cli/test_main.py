"""The entry `portico`: it lists everything, imports only what is typed, and maps errors to exit codes."""

import errno
import os
import shlex
import subprocess
import sys
import types

import pytest
import typer

from cli import main as entry_point
from cli.main import COMMANDS, Command, load, main
from core.errors import ConfigError, PorticoError


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as left:
        main(arguments)
    code = left.value.code
    assert isinstance(code, int | None)
    return code or 0


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """Put a module `toy_commands` behind `portico toy`; tests hang their commands on it."""
    module = types.ModuleType("toy_commands")
    monkeypatch.setitem(sys.modules, "toy_commands", module)
    row = Command("toy_commands:app", "Play.", "portico toy --hard")
    monkeypatch.setattr(entry_point, "COMMANDS", {**COMMANDS, "toy": row})
    return module


def raising(error: Exception) -> typer.Typer:
    app = typer.Typer()

    @app.command()
    def play() -> None:
        raise error

    return app


def test_help_lists_every_command_with_its_summary(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--help") == 0
    words = capsys.readouterr().out.split()
    for name, command in COMMANDS.items():
        assert name in words
        assert command.summary.split()[0] in words


def test_help_imports_no_package_but_core_and_cli() -> None:
    program = (
        "import sys, cli.main\n"
        "try: cli.main.main(['--help'])\n"
        "except SystemExit: pass\n"
        "print(*sorted({m.partition('.')[0] for m in sys.modules}), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    loaded = set(done.stderr.split())
    assert {"cli", "core"} <= loaded
    assert not loaded & {"agent", "headend", "simulator", "certs", "drivers", "pymodbus", "paho", "pydantic"}


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_row_of_the_table_names_a_command_that_exists(name: str) -> None:
    assert load(COMMANDS[name].target) is not None


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_ends_its_help_with_an_example(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(name, "--help") == 0
    words = " ".join(capsys.readouterr().out.split())
    assert words.endswith(f"Example: {COMMANDS[name].example}")


def test_version_is_the_one_of_the_package(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--version") == 0
    assert capsys.readouterr().out.startswith("portico 0.")


def test_failure_of_the_world_is_one_sentence_and_exit_code_1(
    toy: types.ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    toy.__dict__["app"] = raising(PorticoError("The meter is asleep: wake it."))
    assert run("toy", "play") == 1
    assert capsys.readouterr().err == "error: The meter is asleep: wake it.\n"


def test_wrong_configuration_is_exit_code_2_with_every_fault(
    toy: types.ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    toy.__dict__["app"] = raising(ConfigError("Two faults in toy.toml.", ("line 1: odd", "line 2: even")))
    assert run("toy", "play") == 2
    assert capsys.readouterr().err == "error: Two faults in toy.toml.\n  line 1: odd\n  line 2: even\n"


def test_function_serves_as_a_command_with_its_options(
    toy: types.ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    def app(hard: bool = False) -> None:
        typer.echo(f"hard={hard}")

    toy.__dict__["app"] = app
    assert run("toy", "--hard") == 0
    assert capsys.readouterr().out == "hard=True\n"


def test_bug_of_ours_is_not_dressed_as_an_error_of_the_world(toy: types.ModuleType) -> None:
    toy.__dict__["app"] = raising(KeyError("bug"))
    with pytest.raises(KeyError):
        main(["toy", "play"])


def test_unknown_command_is_wrong_use(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("nonsense") == 2
    assert "nonsense" in capsys.readouterr().err


def test_target_that_is_no_command_is_refused(toy: types.ModuleType) -> None:
    toy.__dict__["app"] = 7
    with pytest.raises(TypeError, match="toy_commands:app"):
        load("toy_commands:app")


TALKING = (
    "import sys, types, typer, cli.main as entry\n"
    "module = types.ModuleType('talking')\n"
    "def app(lines: int) -> None:\n"
    "    for number in range(lines): sys.stdout.write(f'line {number}\\n')\n"
    "module.app = app\n"
    "sys.modules['talking'] = module\n"
    "entry.COMMANDS['talk'] = entry.Command('talking:app', 'Talk.', 'portico talk')\n"
    "entry.main()"
)


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("lines", ["1", "100000"])
def test_output_into_a_full_device_is_one_sentence(lines: str, unbuffered: str) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-c", TALKING, "talk", lines],
            stdout=full,
            stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
            text=True,
            check=False,
        )
    assert (done.returncode, done.stderr) == (
        1,
        "error: the output cannot be written: No space left on device\n",
    )


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("lines", ["1", "100000"])
def test_output_into_a_pipe_that_nobody_reads_ends_quietly(lines: str, unbuffered: str) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(
            [sys.executable, "-c", TALKING, "talk", lines],
            stdout=writer,
            stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
            text=True,
            check=False,
        )
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (1, "")


def test_output_that_was_closed_before_the_start_goes_nowhere() -> None:
    command = f"{shlex.quote(sys.executable)} -c {shlex.quote(TALKING)} talk 3 <&- >&-"
    done = subprocess.run(["bash", "-c", command], stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_file_that_cannot_be_made_is_not_taken_for_the_output(toy: types.ModuleType) -> None:
    toy.__dict__["app"] = raising(OSError(errno.ENOSPC, "No space left on device", "/var/books.db"))
    with pytest.raises(OSError, match="No space left"):
        main(["toy", "play"])
