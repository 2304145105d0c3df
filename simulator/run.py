"""A plant that runs: lines open, time goes on, faults come and go by script, the log is written.

Relies on asyncio and on wall and monotonic clocks, which nothing below this module reads on its own
(but for the time stamps of requests). Not here: arguments, printing, signals, several processes
(`simulator.crew`).
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Final

import msgspec

from core.errors import ConfigError, PorticoError
from drivers.types import DeviceType, load_type
from simulator.ctl import Desk, Wrong, parsed, refusal
from simulator.ctlsocket import CtlServer
from simulator.device import describe_points
from simulator.lines import Line, Site, make_credentials, open_line
from simulator.log import PlantLog
from simulator.parts import FaultPart, Scenario
from simulator.plant import Plant
from simulator.trouble import Place, Troubles

TICK_S: Final = 0.1
"""How often the plant lives on; registers are encoded at most that often."""
FLUSH_S: Final = 1.0
OWN_TYPES: Final = Path(__file__).parent / "types"
LOG_NAME: Final = "plant.jsonl"


class Address(msgspec.Struct, frozen=True):
    """Where a device can be reached, as the ready line tells it."""

    premises: str
    device: str
    type: str
    line: str
    kind: str
    """Of the line."""
    url: str
    """The line's address as a gateway's configuration writes it."""
    host: str
    port: int
    """0 for a serial line."""
    path: str
    """Of a serial line: where a client opens it."""
    unit_id: int
    counter: bool
    """Whether it counts the reads it answers."""
    tls: dict[str, str]
    """Files that a gateway needs to speak with it."""


class Running(msgspec.Struct, frozen=True):
    """A plant whose lines are open, as the ready line tells it."""

    scenario: str
    seed: int
    simulated: str
    """Simulated time at the start, ISO 8601 with the offset of local time."""
    speed: float
    log: str
    ctl: str
    """Directory of the control socket; empty: none."""
    devices: tuple[Address, ...]
    workers: int = 1


class Ended(msgspec.Struct, frozen=True):
    """What a plant did in its life."""

    totals: dict[str, int]
    """Requests by outcome, and `points`."""
    refused_connections: int
    disorder: dict[str, dict[str, int]]
    """By serial line: what clients did wrong there."""


class PlantJournal:
    """Writes what devices report at once into the plant's log, stamped with the wall clock."""

    def __init__(self, log: PlantLog) -> None:
        self._log = log

    def counted(self, device: str, point: str, count: int) -> None:
        self._log.counted(device, point, count, now_ms())

    def written(self, device: str, point: str, value: Decimal, cause: str) -> None:
        self._log.event("write", now_ms(), device=device, point=point, value=float(value), cause=cause)

    def took_effect(self, device: str, point: str, value: Decimal, cause: str) -> None:
        self._log.event("effect", now_ms(), device=device, point=point, value=float(value), cause=cause)


def now_ms() -> int:
    """Return wall-clock time in milliseconds since 1970."""
    return time.time_ns() // 1_000_000


def load_types(scenario: Scenario, extra: Sequence[Path] = ()) -> dict[str, DeviceType]:
    """Return the types that a scenario names. ConfigError with every one that cannot be loaded."""
    found: dict[str, DeviceType] = {}
    faults: list[str] = []
    for name in sorted({device.type for part in scenario.premises for device in part.device}):
        try:
            found[name] = load_type(name, (*extra, OWN_TYPES))
        except ConfigError as error:
            faults += error.faults or (str(error),)
    if faults:
        raise ConfigError(f"scenario {scenario.name} needs device types that cannot be used.", tuple(faults))
    return found


def open_log(log_dir: Path) -> PlantLog:
    """Open the log, or go on with that of an earlier life. ConfigError when that is not possible."""
    try:
        return PlantLog(log_dir / LOG_NAME)
    except OSError as error:
        raise ConfigError(f"the log {log_dir / LOG_NAME} cannot be written: {error.strerror}.") from error


async def run(
    scenario: Scenario,
    log_dir: Path,
    *,
    types: Sequence[Path] = (),
    host: str = "127.0.0.1",
    ready: Callable[[Running], None],
    stop: asyncio.Event,
) -> Ended:
    """Serve a scenario until `stop` is set; call `ready` once every line is open.

    The log is `plant.jsonl` in `log_dir`; an earlier life's log is continued, and so are its counters.
    """
    loaded = load_types(scenario, types)
    with open_log(log_dir) as log:
        async with (
            opened(scenario, log_dir, log, types=loaded, host=host) as served,
            CtlServer(log_dir, served.answer) as ctl,
        ):
            told = msgspec.structs.replace(served.running, ctl=str(ctl.path.parent.resolve()))
            write_start(log, told, loaded)
            await served.live(partial(ready, told), stop)
        ended = served.ended()
        write_stop(log, ended)
    return ended


@dataclass(frozen=True, slots=True)
class Served:
    """A plant with its lines open and its log at hand."""

    plant: Plant
    log: PlantLog
    lines: tuple[Line, ...]
    running: Running
    troubles: Troubles
    desk: Desk

    async def answer(self, line: bytes) -> bytes:
        """Answer one request to the control socket."""
        try:
            found = self.desk.answer(parsed(line), asyncio.get_running_loop().time())
        except Wrong as wrong:
            found = refusal(str(wrong))
        return msgspec.json.encode(found)

    async def live(self, ready: Callable[[], None], stop: asyncio.Event) -> None:
        """Let time go on until `stop` is set, or until the log fails."""
        try:
            with Script(self.plant.scenario.fault, self.troubles):
                async with asyncio.TaskGroup() as tasks:
                    living = [tasks.create_task(self._tick(time.monotonic()), name="plant")]
                    for line in self.lines:
                        name = f"line {line.listener.premises}/{line.listener.line}"
                        living.append(tasks.create_task(line.live(), name=name))
                    ready()
                    await stop.wait()
                    for task in living:
                        task.cancel()
        except* PorticoError as failed:
            # One task, one failure: whoever started the plant wants to hear that one.
            raise failed.exceptions[0] from None

    async def _tick(self, started_s: float) -> None:
        flushed_s = started_s
        while True:
            now_s = time.monotonic()
            owed = self.plant.advance(now_s - started_s)
            self.plant.settle()
            if now_s - flushed_s >= FLUSH_S:
                self.log.flush()
                flushed_s = now_s
            # With much time to live through, requests are still answered in between.
            await asyncio.sleep(0 if owed else TICK_S)

    def ended(self) -> Ended:
        """Return what the plant did; the log has all of it from now on."""
        self.log.flush()
        return Ended(
            dict(self.log.totals),
            sum(line.refused() for line in self.lines),
            {
                f"{line.listener.premises}/{line.listener.line}": {
                    "early": line.disorder.early,
                    "collisions": line.disorder.collisions,
                    "broken": line.disorder.broken,
                }
                for line in self.lines
                if line.disorder is not None
            },
        )


@asynccontextmanager
async def opened(
    scenario: Scenario, log_dir: Path, log: PlantLog, *, types: Mapping[str, DeviceType], host: str
) -> AsyncIterator[Served]:
    """Build a plant and open its lines; they are closed at the end of the block."""
    plant = Plant(
        scenario,
        types,
        now=datetime.now().astimezone(),
        journal=PlantJournal(log),
        clock=time.monotonic,
        counts=log.last_counts,
    )
    make_credentials(scenario, host, log_dir)
    async with AsyncExitStack() as stack:
        lines: list[Line] = []
        for listener in plant.listeners:
            line = await open_line(listener, Site(host, log_dir, log))
            stack.push_async_callback(line.close)
            lines.append(line)
        devices = tuple(address for line in lines for address in addresses(line))
        running = Running(
            scenario.name,
            scenario.seed,
            plant.start.isoformat(),
            scenario.speed,
            str(log.path.resolve()),
            "",
            devices,
        )
        places = {
            device.name: Place(device, line.cut if len(line.listener.devices) == 1 else None)
            for line in lines
            for device in line.listener.devices.values()
        }
        troubles = Troubles(places, log, now_ms)
        stack.callback(troubles.close)
        desk = Desk(
            {name: place.device for name, place in places.items()},
            {one.device: msgspec.to_builtins(one) for one in devices},
            troubles,
        )
        check_script(scenario, places)
        yield Served(plant, log, tuple(lines), running, troubles, desk)


def addresses(line: Line) -> list[Address]:
    """Return where the devices of a line can be reached."""
    return [
        Address(
            premises=line.listener.premises,
            device=device.name,
            type=device.type.name,
            line=line.listener.line,
            kind=line.listener.part.kind,
            url=line.url,
            host=line.host,
            port=line.port,
            path=line.path,
            unit_id=unit_id,
            counter=bool(device.counts),
            tls=dict(line.files),
        )
        for unit_id, device in sorted(line.listener.devices.items())
    ]


def write_start(log: PlantLog, running: Running, types: Mapping[str, DeviceType]) -> None:
    """Tell in the log that every line is open."""
    log.event(
        "start",
        now_ms(),
        v=1,
        scenario=running.scenario,
        seed=running.seed,
        speed=running.speed,
        simulated=running.simulated,
        devices=[
            {
                "device": one.device,
                "type": one.type,
                "line": f"{one.premises}/{one.line}",
                "kind": one.kind,
                "port": one.port,
                "unit_id": one.unit_id,
                "counter": one.counter,
            }
            for one in running.devices
        ],
        types={name: describe_points(types[name]) for name in sorted({one.type for one in running.devices})},
    )


def write_stop(log: PlantLog, ended: Ended) -> None:
    """Tell in the log that the plant ended in order."""
    log.event(
        "stop",
        now_ms(),
        totals=ended.totals,
        refused_connections=ended.refused_connections,
        disorder=ended.disorder,
    )


def check_script(scenario: Scenario, places: Mapping[str, Place]) -> None:
    """Raise ConfigError when a scripted fault cannot show on its device."""
    faults: list[str] = []
    for number, part in enumerate(scenario.fault):
        try:
            places[part.device].device.check(part.fault())
        except ValueError as error:
            faults.append(f"fault.{number}: {error}")
    if faults:
        raise ConfigError(f"scenario {scenario.name} has faults that cannot be.", tuple(faults))


class Script:
    """Faults that begin by the clock while the block lasts."""

    def __init__(self, faults: Sequence[FaultPart], troubles: Troubles) -> None:
        self._faults = faults
        self._troubles = troubles
        self._timers: list[asyncio.TimerHandle] = []

    def __enter__(self) -> None:
        loop = asyncio.get_running_loop()
        self._timers = [loop.call_later(part.at, self._begin, part) for part in self._faults]

    def __exit__(self, *_: object) -> None:
        for timer in self._timers:
            timer.cancel()

    def _begin(self, part: FaultPart) -> None:
        self._troubles.begin(part.device, part.fault(), cause="script", lasts_s=part.lasts)
