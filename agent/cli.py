"""``portico agent``: run the gateway, check its configuration, ask how it is."""

import json
import time
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Run and look at the gateway agent.")

Config = Annotated[
    Path, typer.Option("--config", "-c", help="The gateway's configuration.", show_default=True)
]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON document instead of text.")]
ENVIRONMENT = {"MALLOC_ARENA_MAX": "1", "PYTHONNODEBUGRANGES": "1"}
"""One arena for all threads, which take turns anyway: each further one keeps memory from the others.  And
tracebacks name lines without columns: that is half a megabyte."""
FORGET_S = 30.0
"""How long a running agent has to take up a request to forget; it looks every few seconds."""


class LogLevel(StrEnum):
    """From how grave on a line is logged."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


Level = Annotated[LogLevel, typer.Option(case_sensitive=False, help="How grave a line must be to be logged.")]


@app.command(epilog="Example: portico agent run -c gateway.toml")
def run(
    config: Config = Path("gateway.toml"),
    log_level: Level = LogLevel.INFO,
) -> None:
    """Poll, store and forward until SIGTERM."""
    from agent.afresh import become

    become("agent", str(config), log_level.upper(), environment=ENVIRONMENT)


@app.command(epilog="Example: portico agent check -c gateway.toml --json")
def check(config: Config = Path("gateway.toml"), as_json: AsJson = False) -> None:
    """Check a configuration and print the plan of requests."""
    from agent.check import run_check

    raise typer.Exit(run_check(config, as_json))


@app.command("status", epilog="Example: portico agent status -c gateway.toml")
def show_status(config: Config = Path("gateway.toml"), as_json: AsJson = False) -> None:
    """Show the state of the running agent."""
    from agent.config import load_config
    from agent.status_view import STALE_S, read, show
    from agent.store.look import agent_runs
    from core.errors import ConfigError, StoreError

    directory = load_config(config).gateway.data_dir
    path = directory / "status.json"
    runs = agent_runs(directory)
    try:
        raw = path.read_bytes()
    except OSError as error:
        if runs:
            raise StoreError(
                f"the agent runs, and there is no status at {path}: it has just started, or it could not "
                f"write (is the disk full? see `df {directory}` and the log)"
            ) from error
        raise ConfigError(
            f"no status at {path}: start the agent with `portico agent run -c {config}`"
        ) from error
    state = read(path, raw, runs)
    age_s = max(0.0, time.time() - state.at_ms / 1000)
    if as_json:
        typer.echo(json.dumps({**json.loads(raw), "age_s": round(age_s, 1), "agent_runs": runs}))
    else:
        show(state, age_s, runs)
    if runs and age_s >= STALE_S:
        raise StoreError(
            f"the agent runs, and could not write its status for {age_s:.0f} s: is the disk full? "
            f"see `df {directory}` and the log"
        )
    raise typer.Exit(0 if runs else 1)


@app.command(epilog="Example: portico agent forget main-meter -c gateway.toml")
def forget(
    device: Annotated[str, typer.Argument(help="Name of the device, as in the configuration.")],
    config: Config = Path("gateway.toml"),
) -> None:
    """Forget what was learned of a device: which reads it refuses, and the largest one it accepts."""
    from agent.acts import leave
    from agent.config import load_config
    from agent.learnednote import ask_to_forget
    from agent.store.look import agent_runs
    from core.errors import ConfigError

    loaded = load_config(config)
    names = [one.name for one in loaded.devices]
    if device not in names:
        raise ConfigError(f"there is no device {device!r} in {config}; devices are {', '.join(names)}")
    directory = loaded.gateway.data_dir
    try:
        request = ask_to_forget(directory, device)
        leave(directory, "forget", device=device)
    except OSError as error:
        raise ConfigError(f"{directory} cannot be written: {error.strerror}") from error
    if not agent_runs(directory):
        typer.echo(f"no agent runs: the next start forgets what was learned of {device}")
        return
    deadline = time.monotonic() + FORGET_S
    while request.exists():
        if time.monotonic() > deadline:
            typer.echo(f"the agent has not taken the request within {FORGET_S:.0f} s: see its log", err=True)
            raise typer.Exit(1)
        time.sleep(0.1)
    typer.echo(f"forgotten: {device} is polled by its type alone, and learned again where it refuses")
