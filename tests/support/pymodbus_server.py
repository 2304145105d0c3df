"""Serve holding registers by pymodbus's own server, a foreign one, until standard input ends.

    python -m tests.support.pymodbus_server < registers.json

The first line of standard input is JSON, ``{"unit_id": 1, "registers": {"40000": 21365, ...}}``, in one run
without holes; the first line of standard output is ``port N``.
"""

import asyncio
import json
import sys

from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice


async def serve() -> None:
    """Serve until standard input ends."""
    told = json.loads(sys.stdin.readline())
    held = {int(address): int(word) for address, word in told["registers"].items()}
    first = min(held)
    assert sorted(held) == list(range(first, first + len(held)))
    block = SimData(first, values=[held[address] for address in sorted(held)], datatype=DataType.REGISTERS)
    server = ModbusTcpServer(SimDevice(told["unit_id"], simdata=[block]), address=("127.0.0.1", 0))
    await server.serve_forever(background=True)
    transport = server.transport
    assert isinstance(transport, asyncio.Server)
    print(f"port {transport.sockets[0].getsockname()[1]}", flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await server.shutdown()


if __name__ == "__main__":
    asyncio.run(serve())
