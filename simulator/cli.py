"""`portico simulate`: serve a scenario until somebody ends it; `portico simulate ctl`: interfere meanwhile.

Relies on `simulator.run` and `simulator.crew`. Not here: what a scenario is, what a device does, what can be
asked of a plant (`simulator.ctl_cli`).
"""

import asyncio
import json
import os
import signal
import sys
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Annotated, Final

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from core.errors import ConfigError
from simulator import ctl_cli
from simulator.crew import run_crew
from simulator.loop import new_event_loop
from simulator.run import Ended, Running, run
from simulator.scenario import SCENARIOS, Scenario, fleet, load_scenario, with_free_ports, with_port_base

MOST_ROWS: Final = 40
"""Devices of the table for people; the others are told by `portico simulate ctl list`."""
DEVICES_A_WORKER: Final = 50
"""A fleet smaller than that is not worth a process more."""

app = typer.Typer(invoke_without_command=True, rich_markup_mode=None)
app.add_typer(ctl_cli.app, name="ctl")


@app.callback(invoke_without_command=True)
def command(
    context: typer.Context,
    scenario: Annotated[
        Path | None,
        typer.Option(
            "--scenario",
            "-s",
            help="Scenario file, or the name of one that is shipped: household, street, lines, fleet.",
            show_default="household; with --fleet: fleet",
        ),
    ] = None,
    log: Annotated[Path, typer.Option("--log", help="Directory of the plant's own log, plant.jsonl.")] = Path(
        "var/plant"
    ),
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one line of JSON when every line is open.")
    ] = False,
    speed: Annotated[
        float | None, typer.Option("--speed", min=0.001, max=3600, help="Simulated seconds a second.")
    ] = None,
    port_base: Annotated[
        int | None,
        typer.Option("--port-base", min=1, max=65535, help="Number all ports upwards from here."),
    ] = None,
    free_ports: Annotated[
        bool, typer.Option("--free-ports", help="Let the system choose every port.")
    ] = False,
    host: Annotated[str, typer.Option("--host", help="Address to listen on.")] = "127.0.0.1",
    types: Annotated[
        list[Path] | None, typer.Option("--types", help="Further directory of device types; may be repeated.")
    ] = None,
    devices: Annotated[
        int | None,
        typer.Option(
            "--fleet", min=1, max=10_000, help="So many devices: the scenario's premises again and again."
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            "--workers",
            min=1,
            max=64,
            help="Processes to serve them.",
            show_default="1; of a fleet one a processor",
        ),
    ] = None,
    end_with_input: Annotated[
        bool,
        typer.Option("--end-with-input", help="End also when standard input, a pipe, ends: with its parent."),
    ] = False,
    stats: Annotated[
        bool, typer.Option("--stats", help="Print at the end how many requests were answered, and how.")
    ] = False,
) -> None:
    """Serve simulated devices on real lines, from a scenario file, until SIGTERM or Ctrl-C."""
    if context.invoked_subcommand is not None:
        return
    chosen = load_scenario(found(scenario or Path("fleet" if devices else "household")))
    if devices is not None:
        chosen = fleet(chosen, devices)
    if speed is not None:
        chosen = chosen.model_copy(update={"speed": speed})
    if free_ports:
        chosen = with_free_ports(chosen)
    if port_base is not None:
        chosen = with_port_base(chosen, port_base)
    many = workers if workers is not None else default_workers(devices)

    def ready(running: Running) -> None:
        if as_json:
            typer.echo(json.dumps(described(running)))
        else:
            Console().print(table(running))

    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        ended = runner.run(_until_ended(chosen, log, types or [], host, many, end_with_input, ready))
    if stats:
        typer.echo(json.dumps({"stats": ended.totals}) if as_json else totals_in_words(ended.totals))


class _Input(asyncio.Protocol):
    """Standard input, of which only the end matters."""

    def __init__(self, stop: asyncio.Event) -> None:
        self._stop = stop

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop.set()


async def _until_ended(
    scenario: Scenario,
    log: Path,
    types: list[Path],
    host: str,
    workers: int,
    end_with_input: bool,
    ready: Callable[[Running], None],
) -> Ended:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    if end_with_input:
        await loop.connect_read_pipe(lambda: _Input(stop), sys.stdin)
    if workers == 1:
        return await run(scenario, log, types=types, host=host, ready=ready, stop=stop)
    start = scenario.start or datetime.now().astimezone()
    scenario = scenario.model_copy(update={"start": start})
    return await run_crew(scenario, log, workers=workers, types=types, host=host, ready=ready, stop=stop)


def default_workers(devices: int | None) -> int:
    """Return how many processes serve so many devices of a fleet; None: it is none."""
    if devices is None:
        return 1
    return max(1, min(len(os.sched_getaffinity(0)), -(-devices // DEVICES_A_WORKER)))


def found(scenario: Path) -> Path:
    """Return the file that is meant: the path as it is, or a scenario that comes with the simulator."""
    if scenario.exists():
        return scenario
    own = SCENARIOS / f"{scenario.name.removesuffix('.toml')}.toml"
    if own.exists() and scenario.name == str(scenario):
        return own
    names = ", ".join(sorted(path.stem for path in SCENARIOS.glob("*.toml")))
    raise ConfigError(f"there is no scenario {scenario}: give a file, or one of {names}.")


def described(running: Running) -> dict[str, object]:
    """Return what `--json` prints when the plant is ready."""
    told: dict[str, object] = msgspec.to_builtins(running)
    return {"ready": True, **told}


def table(running: Running) -> Table:
    """Return the devices as a table for people."""
    more = len(running.devices) - MOST_ROWS
    rest = f"and {more} more, see portico simulate ctl list. " if more > 0 else ""
    begun = datetime.fromisoformat(running.simulated)
    shown = Table(
        title=f"{running.scenario} at {begun:%Y-%m-%d %H:%M}, {running.speed:g} times as fast",
        title_justify="left",
        caption=f"{rest}Log: {running.log}. End by Ctrl-C.",
        caption_justify="left",
        box=None,
    )
    shown.add_column("device", no_wrap=True)
    shown.add_column("type", no_wrap=True)
    shown.add_column("line", overflow="fold")
    shown.add_column("unit id", no_wrap=True)
    for one in running.devices[:MOST_ROWS]:
        shown.add_row(one.device, one.type, one.url, str(one.unit_id))
    return shown


def totals_in_words(totals: dict[str, int]) -> str:
    """Return the statistics as one line."""
    points = totals.get("points", 0)
    answers = ", ".join(f"{outcome} {n}" for outcome, n in sorted(totals.items()) if outcome != "points")
    return f"requests: {answers or 'none'}; points inside them: {points}"
