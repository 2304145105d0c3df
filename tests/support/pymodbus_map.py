"""Serve four tables that hold what they are told by pymodbus's own server, a foreign one, over TCP.

    python -m tests.support.pymodbus_map

It speaks as ``tests/peers/map_peer.c`` does: ``port N`` first, then ``hold``, ``tell`` and ``sync`` on
standard input until that ends.  Unit 1.
"""

import asyncio
import sys

from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

UNIT_ID = 1
SIZE = 65536
FUNCTIONS = {"coil": 1, "discrete": 2, "holding": 3, "input": 4}
"""By which function pymodbus knows a table."""


def blocks() -> tuple[list[SimData], list[SimData], list[SimData], list[SimData]]:
    bits, words = [False] * SIZE, [0] * SIZE
    return (
        [SimData(0, values=list(bits), datatype=DataType.BITS)],
        [SimData(0, values=list(bits), datatype=DataType.BITS)],
        [SimData(0, values=list(words), datatype=DataType.REGISTERS)],
        [SimData(0, values=list(words), datatype=DataType.REGISTERS)],
    )


async def obey(server: ModbusTcpServer, line: str) -> None:
    verb, *rest = line.split()
    if verb == "sync":
        print("ok", flush=True)
        return
    table, place, *words = rest
    function, address = FUNCTIONS[table], int(place)
    if verb == "hold":
        values = [int(word, 16) for word in words]
        held = values if function > 2 else [bool(value) for value in values]
        assert await server.context.async_setValues(UNIT_ID, function, address, held) is None
    else:
        told = await server.context.async_getValues(UNIT_ID, function, address, int(words[0]))
        assert isinstance(told, list)
        print(*(f"{int(value):x}" for value in told), flush=True)


async def serve() -> None:
    """Serve until standard input ends."""
    server = ModbusTcpServer(SimDevice(UNIT_ID, simdata=blocks()), address=("127.0.0.1", 0))
    await server.serve_forever(background=True)
    transport = server.transport
    assert isinstance(transport, asyncio.Server)
    print(f"port {transport.sockets[0].getsockname()[1]}", flush=True)
    while line := await asyncio.to_thread(sys.stdin.readline):
        await obey(server, line)
    await server.shutdown()


if __name__ == "__main__":
    asyncio.run(serve())
