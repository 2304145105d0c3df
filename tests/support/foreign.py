"""Foreign peers for tests of lines: libmodbus servers, a serial line at the pace of a baud rate, pymodbus.

Relies on gcc, libmodbus, socat and mbpoll; what is missing skips a test and is named.
"""

import asyncio
import contextlib
import shutil
import signal
import struct
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

import pytest
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

from core.errors import FieldError
from drivers.modbus.lineurl import LinkUrl
from drivers.modbus.link import ControlLink
from drivers.modbus.links import LineOptions, open_link
from drivers.modbus.plan import Request
from drivers.modbus.wires import SerialSettings
from drivers.points import Table
from tests.support.cbuild import BuildUnavailable, build

ROOT = Path(__file__).parents[2]
PEER = ROOT / "tests" / "peers" / "modbus_peer.c"
RTULINE = ROOT / "bench" / "rtuline.c"
Answer = TypeVar("Answer")
DEADLINE_S = 10.0
SHORT_S = 0.3
FOUR = Request(Table.HOLDING, 100, 4, ())
FLOATS = struct.pack(">4H", 0x4366, 0x199A, 0x199A, 0x4366)
"""230.1 in two word orders, as the peer holds it at 100 and 102."""
PATTERN = Request(Table.HOLDING, 2, 3, ())
PATTERN_OCTETS = struct.pack(">3H", 2 * 257, 3 * 257, 4 * 257)


def program(source: Path, *libs: str) -> Path:
    """Return a compiled program, or skip and say what is missing."""
    try:
        return build(source, *libs)
    except BuildUnavailable as error:
        pytest.skip(str(error))


def tool(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is missing: run apt-get install {name}")
    return found


@contextlib.contextmanager
def running(command: Sequence[str | Path], log: Path) -> Iterator["subprocess.Popen[str]"]:
    """Run a program until the block ends."""
    with (
        log.open("ab") as errors,
        subprocess.Popen(
            list(map(str, command)), stdout=subprocess.PIPE, stderr=errors, text=True
        ) as process,
    ):
        try:
            yield process
        finally:
            process.send_signal(signal.SIGCONT)
            process.terminate()
            process.wait(10)


def said(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


class Bus:
    """A serial line with some stations and what runs on them."""

    def __init__(self, folder: Path, baud: int, stations: int, stack: contextlib.ExitStack) -> None:
        self.baud = baud
        self.folder = folder
        self._stack = stack
        command = [program(RTULINE), str(baud), str(stations), "--turnaround", "3000"]
        line = stack.enter_context(running(command, folder / "line"))
        self.ports = [said(line) for _ in range(stations)]
        self._free = self.ports[1:]

    def peer(self, unit_id: int) -> "subprocess.Popen[str]":
        """Start a libmodbus server on the next station."""
        command = [program(PEER, "modbus"), "--rtu", self._free.pop(0), str(self.baud), str(unit_id)]
        process = self._stack.enter_context(running(command, self.folder / f"peer-{unit_id}"))
        assert said(process).startswith("device ")
        return process

    def asked(self, unit_id: int) -> list[str]:
        """Return every request so far as ``function address count``."""
        return (self.folder / f"peer-{unit_id}").read_text().splitlines()

    @property
    def url(self) -> LinkUrl:
        return LinkUrl.parse(f"modbus+rtu://{self.ports[0]}")


@asynccontextmanager
async def linked(url: LinkUrl, options: LineOptions | None = None) -> AsyncIterator[ControlLink]:
    link = open_link(url, options)
    await link.connect()
    try:
        yield link
    finally:
        await link.close()


def options_of(bus: Bus) -> LineOptions:
    return LineOptions(serial=SerialSettings(bus.baud))


async def eventually(ask: Callable[[], Coroutine[None, None, Answer]]) -> Answer:
    """Ask again until there is an answer."""
    end = time.monotonic() + DEADLINE_S
    while True:
        try:
            return await ask()
        except FieldError:
            if time.monotonic() > end:
                raise
            await asyncio.sleep(0.02)


def held() -> SimDevice:
    """A device of pymodbus's server: holding registers 0 to 9 hold 1000 and more."""
    return SimDevice(1, SimData(0, values=list(range(1000, 1010)), datatype=DataType.UINT16))


@asynccontextmanager
async def serving(server: ModbusTcpServer) -> AsyncIterator[int]:
    await server.serve_forever(background=True)
    try:
        yield server.transport.sockets[0].getsockname()[1]  # type: ignore[attr-defined]
    finally:
        await server.shutdown()


async def until(done: Callable[[], bool]) -> None:
    end = time.monotonic() + DEADLINE_S
    while not done():
        assert time.monotonic() < end
        await asyncio.sleep(0.01)
