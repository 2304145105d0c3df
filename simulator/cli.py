"""`portico simulate`: serve a scenario until somebody ends it.

Relies on `simulator.run`. Not here: what a scenario is, what a device does.
"""

import asyncio
import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from core.errors import ConfigError
from simulator.run import Running, run
from simulator.scenario import SCENARIOS, Scenario, load_scenario


def new_event_loop() -> asyncio.AbstractEventLoop:
    """Return uvloop's event loop where there is one; the standard loop does the same at half the speed."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


def command(
    scenario: Annotated[
        Path,
        typer.Option(
            "--scenario",
            "-s",
            help="Scenario file, or the name of one that is shipped: household, street.",
        ),
    ] = Path("household"),
    log: Annotated[Path, typer.Option("--log", help="Directory of the plant's own log, plant.jsonl.")] = Path(
        "var/plant"
    ),
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one line of JSON when every port is open.")
    ] = False,
    speed: Annotated[
        float | None, typer.Option("--speed", min=0.001, max=3600, help="Simulated seconds a second.")
    ] = None,
    port_base: Annotated[
        int | None,
        typer.Option("--port-base", min=1, max=65535, help="Number all ports upwards from here."),
    ] = None,
    host: Annotated[str, typer.Option("--host", help="Address to listen on.")] = "127.0.0.1",
    types: Annotated[
        list[Path] | None, typer.Option("--types", help="Further directory of device types; may be repeated.")
    ] = None,
    stats: Annotated[
        bool, typer.Option("--stats", help="Print at the end how many requests were answered, and how.")
    ] = False,
) -> None:
    """Serve simulated devices on real sockets, from a scenario file, until SIGTERM or Ctrl-C."""
    chosen = load_scenario(found(scenario))
    if speed is not None:
        chosen = chosen.model_copy(update={"speed": speed})
    if port_base is not None:
        chosen = chosen.with_port_base(port_base)

    def ready(running: Running) -> None:
        if as_json:
            typer.echo(json.dumps(described(running)))
        else:
            Console().print(table(chosen, running))

    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        ended = runner.run(_until_signal(chosen, log, types or [], host, ready))
    if stats:
        totals = dict(ended.log.totals)
        typer.echo(json.dumps({"stats": totals}) if as_json else totals_in_words(totals))


async def _until_signal(
    scenario: Scenario, log: Path, types: list[Path], host: str, ready: Callable[[Running], None]
) -> Running:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    return await run(scenario, log, types=types, host=host, ready=ready, stop=stop)


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
    return {
        "ready": True,
        "scenario": running.plant.scenario.name,
        "simulated": running.plant.start.isoformat(),
        "speed": running.plant.scenario.speed,
        "log": str(running.log.path.resolve()),
        "devices": [
            {
                "premises": one.premises,
                "device": one.device,
                "type": one.device_type,
                "line": one.line,
                "url": one.url,
                "host": one.host,
                "port": one.port,
                "unit_id": one.unit_id,
                "counter": one.counter,
            }
            for one in running.addresses
        ],
    }


def table(scenario: Scenario, running: Running) -> Table:
    """Return the devices as a table for people."""
    shown = Table(
        title=f"{scenario.name} at {running.plant.start:%Y-%m-%d %H:%M}, {scenario.speed:g} times as fast",
        title_justify="left",
        caption=f"Log: {running.log.path}. End by Ctrl-C.",
        caption_justify="left",
        box=None,
    )
    for heading in ("device", "type", "line", "unit id"):
        shown.add_column(heading, no_wrap=True)
    for one in running.addresses:
        shown.add_row(one.device, one.device_type, one.url, str(one.unit_id))
    return shown


def totals_in_words(totals: dict[str, int]) -> str:
    """Return the statistics as one line."""
    points = totals.get("points", 0)
    answers = ", ".join(f"{outcome} {n}" for outcome, n in sorted(totals.items()) if outcome != "points")
    return f"requests: {answers or 'none'}; points inside them: {points}"
