"""A plant that runs: ports open, time goes on, faults come and go by script, the log is written.

Relies on asyncio and on wall and monotonic clocks, which nothing below this module reads on its own
(but for the time stamps of requests). Not here: arguments, printing, signals.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Final

from core.errors import ConfigError, PorticoError
from drivers.types import DeviceType, load_type
from simulator.device import describe_points
from simulator.log import PlantLog
from simulator.plant import Plant
from simulator.scenario import FaultPart, Scenario
from simulator.server import Port

TICK_S: Final = 0.1
"""How often the plant lives on; registers are encoded at most that often."""
FLUSH_S: Final = 1.0
OWN_TYPES: Final = Path(__file__).parent / "types"
LOG_NAME: Final = "plant.jsonl"


@dataclass(frozen=True, slots=True)
class Address:
    """Where a device can be reached."""

    premises: str
    device: str
    device_type: str
    line: str
    host: str
    port: int
    unit_id: int
    counter: bool
    """Whether it counts the reads it answers."""

    @property
    def url(self) -> str:
        """The line's address as a gateway's configuration writes it."""
        return f"modbus+tcp://{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Running:
    """A plant whose ports are open."""

    plant: Plant
    log: PlantLog
    addresses: tuple[Address, ...]


class PlantJournal:
    """Writes what devices report at once into the plant's log, stamped with the wall clock."""

    def __init__(self, log: PlantLog) -> None:
        self._log = log

    def counted(self, device: str, point: str, count: int) -> None:
        self._log.counted(device, point, count, now_ms())

    def written(self, device: str, point: str, value: Decimal, cause: str) -> None:
        self._log.event("write", now_ms(), device=device, point=point, value=float(value), cause=cause)


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


async def run(
    scenario: Scenario,
    log_dir: Path,
    *,
    types: Sequence[Path] = (),
    host: str = "127.0.0.1",
    ready: Callable[[Running], None],
    stop: asyncio.Event,
) -> Running:
    """Serve a scenario until `stop` is set; call `ready` once every port is open.

    The log is `plant.jsonl` in `log_dir`; an earlier life's log is continued, and so are its counters.
    """
    loaded = load_types(scenario, types)
    try:
        log = PlantLog(log_dir / LOG_NAME)
    except OSError as error:
        raise ConfigError(f"the log {log_dir / LOG_NAME} cannot be written: {error.strerror}.") from error
    with log:
        plant = Plant(
            scenario,
            loaded,
            now=datetime.now().astimezone(),
            journal=PlantJournal(log),
            clock=time.monotonic,
            counts=log.last_counts,
        )
        async with AsyncExitStack() as opened:
            addresses: list[Address] = []
            ports: list[Port] = []
            for listener in plant.listeners:
                port = Port(host, listener.port, listener.devices, log)
                await port.open()
                opened.push_async_callback(port.close)
                ports.append(port)
                addresses += [
                    Address(
                        listener.premises,
                        device.name,
                        device.type.name,
                        listener.line,
                        host,
                        port.number,
                        unit_id,
                        bool(device.counts),
                    )
                    for unit_id, device in sorted(listener.devices.items())
                ]
            running = Running(plant, log, tuple(addresses))
            _write_start(running)
            with Script(scenario.fault, running):
                await _live(running, ready, stop)
        log.flush()
        log.event(
            "stop",
            now_ms(),
            totals=dict(log.totals),
            refused_connections=sum(port.refused_connections for port in ports),
        )
    return running


async def _live(running: Running, ready: Callable[[Running], None], stop: asyncio.Event) -> None:
    """Let time go on until `stop` is set, or until the log fails."""
    try:
        async with asyncio.TaskGroup() as tasks:
            ticking = tasks.create_task(_tick(running, time.monotonic()), name="plant")
            ready(running)
            await stop.wait()
            ticking.cancel()
    except* PorticoError as failed:
        # One task, one failure: whoever started the plant wants to hear that one.
        raise failed.exceptions[0] from None


async def _tick(running: Running, started_s: float) -> None:
    flushed_s = started_s
    while True:
        now_s = time.monotonic()
        owed = running.plant.advance(now_s - started_s)
        running.plant.settle()
        if now_s - flushed_s >= FLUSH_S:
            running.log.flush()
            flushed_s = now_s
        # With much time to live through, requests are still answered in between.
        await asyncio.sleep(0 if owed else TICK_S)


def _write_start(running: Running) -> None:
    plant = running.plant
    used = {device.type.name: device.type for device in plant.devices}
    running.log.event(
        "start",
        now_ms(),
        v=1,
        scenario=plant.scenario.name,
        seed=plant.scenario.seed,
        speed=plant.scenario.speed,
        simulated=plant.start.isoformat(),
        devices=[
            {
                "device": one.device,
                "type": one.device_type,
                "port": one.port,
                "unit_id": one.unit_id,
                "counter": one.counter,
            }
            for one in running.addresses
        ],
        types={name: describe_points(one) for name, one in used.items()},
    )


class Script:
    """Faults that come and go by the clock while the block lasts."""

    def __init__(self, faults: Sequence[FaultPart], running: Running) -> None:
        self._faults = faults
        self._log = running.log
        self._devices = {device.name: device for device in running.plant.devices}
        self._timers: list[asyncio.TimerHandle] = []

    def __enter__(self) -> None:
        loop = asyncio.get_running_loop()
        for part in self._faults:
            self._timers.append(loop.call_later(part.at, self._begin, part))
            if part.lasts is not None:
                self._timers.append(loop.call_later(part.at + part.lasts, self._end, part))

    def __exit__(self, *_: object) -> None:
        for timer in self._timers:
            timer.cancel()

    def _begin(self, part: FaultPart) -> None:
        self._devices[part.device].condition.begin(part.fault())
        self._log.event("fault", now_ms(), device=part.device, fault=part.kind, began=True)

    def _end(self, part: FaultPart) -> None:
        self._devices[part.device].condition.end(part.fault())
        self._log.event("fault", now_ms(), device=part.device, fault=part.kind, began=False)
