"""Our RTU link on a line whose devices answer by a script, and the requests that its tests make.

Relies on `tests.support.ptyline`.
"""

import asyncio
import itertools
import struct
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from drivers.modbus.lineurl import LineScheme, LinkUrl
from drivers.modbus.plan import Request
from drivers.modbus.rtulink import RtuLink
from drivers.modbus.wires import SerialSettings, SerialWire
from drivers.points import Table
from tests.support.ptyline import PtyLine, Script, honest

FAST = SerialSettings(115200)
SHORT_S = 0.05
"""A deadline that tests wait for, and twice or four times of it."""
LONG_S = 20.0
"""A deadline that no test waits for."""
TWO = Request(Table.HOLDING, 100, 2, ())
ONE = Request(Table.HOLDING, 7, 1, ())
LATER = Request(Table.HOLDING, 200, 2, ())


def payload(request: Request) -> bytes:
    return struct.pack(f">{request.count}H", *range(request.address, request.address + request.count))


@asynccontextmanager
async def lined(
    script: Script = honest, echo: bool = False, settings: SerialSettings = FAST
) -> AsyncIterator[tuple[RtuLink, PtyLine]]:
    with PtyLine(script) as line:
        url = LinkUrl("", 0, LineScheme.RTU, line.path)
        link = RtuLink(url, SerialWire(url, settings), settings, echo)
        await link.connect()
        link._fresh = False  # nobody asked before; the test of that asks for it
        try:
            yield link, line
        finally:
            await link.close()


def once(bad: Script, after: Script = honest) -> Script:
    """Answer the first request for two registers by one script and every other by another."""
    scripts = itertools.chain([bad], itertools.repeat(after))
    return lambda request: honest(request) if request[5] == 1 else next(scripts)(request)


async def made_known(link: RtuLink) -> None:
    """Let a device answer something of a length that nothing else here has."""
    assert await link.read(1, ONE, LONG_S) == payload(ONE)


async def until(done: Callable[[], bool], deadline_s: float = 10.0) -> None:
    end = time.monotonic() + deadline_s
    while not done():
        assert time.monotonic() < end
        await asyncio.sleep(0.001)
