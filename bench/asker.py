"""Asks Modbus TCP servers as fast as one process can, through our link or through stock pymodbus.

    python -m bench.asker ours 100 2.0 PORT...

One connection to each port, one request at a time on each, COUNT holding registers from address 0, without
decoding: the neighbours in C (`bench/tcpmaster.c`) keep their registers to themselves too, save that
libmodbus and pymodbus make numbers of them.  Prints one line of JSON: requests, errors, seconds, CPU seconds.
"""

import argparse
import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from pymodbus.client import AsyncModbusTcpClient
from pymodbus.exceptions import ModbusException

from core.errors import FieldError
from drivers.modbus.lineurl import LinkUrl
from drivers.modbus.links import open_link
from drivers.modbus.plan import Request
from drivers.points import Table

HOST: Final = "127.0.0.1"
UNIT: Final = 1
CLIENTS: Final = ("ours", "pymodbus")

Ask = Callable[[], Awaitable[bool]]
"""Makes one request; false when it failed."""


async def our_client(port: int, count: int) -> Ask:
    """Return what asks through our link."""
    link = open_link(LinkUrl(HOST, port))
    await link.connect()
    request = Request(Table.HOLDING, 0, count, ())

    async def ask() -> bool:
        try:
            await link.read(UNIT, request)
        except FieldError:
            return False
        return True

    return ask


async def pymodbus_client(port: int, count: int) -> Ask:
    """Return what asks through pymodbus as its documentation shows it."""
    client = AsyncModbusTcpClient(HOST, port=port)
    await client.connect()

    async def ask() -> bool:
        try:
            answer = await client.read_holding_registers(0, count=count, device_id=UNIT)
        except ModbusException:
            return False
        return not answer.isError()

    return ask


async def _ask_for(ask: Ask, seconds: float) -> tuple[int, int]:
    requests = errors = 0
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if await ask():
            requests += 1
        else:
            errors += 1
            await asyncio.sleep(0.01)
    return requests, errors


async def _run(client: str, count: int, seconds: float, ports: Sequence[int]) -> None:
    make = our_client if client == "ours" else pymodbus_client
    asks = [await make(port, count) for port in ports]
    await asyncio.gather(*(ask() for ask in asks))
    begun, spent = time.monotonic(), time.process_time()
    done = await asyncio.gather(*(_ask_for(ask, seconds) for ask in asks))
    lasted, cpu_s = time.monotonic() - begun, time.process_time() - spent
    told = {
        "requests": sum(requests for requests, _ in done),
        "errors": sum(errors for _, errors in done),
        "seconds": round(lasted, 6),
        "cpu_s": round(cpu_s, 6),
    }
    print(json.dumps(told), flush=True)


def main() -> None:
    """Ask and print; ours runs on uvloop as the agent does, pymodbus on the loop that comes with Python."""
    parser = argparse.ArgumentParser(prog="python -m bench.asker", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("client", choices=CLIENTS)
    parser.add_argument("count", type=int, help="registers a read")
    parser.add_argument("seconds", type=float)
    parser.add_argument("ports", type=int, nargs="+")
    options = parser.parse_args()
    run = _run(options.client, options.count, options.seconds, options.ports)
    if options.client == "ours":
        try:
            import uvloop
        except ImportError:
            pass
        else:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                return runner.run(run)
    return asyncio.run(run)


if __name__ == "__main__":
    main()
