"""A Modbus TCP server that answers each request as a script says, and our link to it.

Relies on the running event loop.  Not here: TLS, and other kinds of lines (`tests.support.ptyline`).
"""

import asyncio
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from drivers.modbus.lineurl import LinkUrl
from drivers.modbus.link import ModbusTcpLink
from drivers.modbus.plan import Request
from drivers.points import Table

LONG_S = 30.0
"""A deadline that no test waits for."""
SHORT_S = 0.05
"""A deadline that a test waits for."""
TWO = Request(Table.HOLDING, 100, 2, ())

Script = Callable[["Server", bytes, asyncio.StreamWriter], Awaitable[None]]


class Server:
    """A Modbus TCP server that answers each request as its script says."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.requests: list[bytes] = []
        self.arrived_at: list[float] = []
        self.connections = 0
        self.asked = asyncio.Event()
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                head = await reader.readexactly(6)
                request = head + await reader.readexactly(int.from_bytes(head[4:6], "big"))
                self.requests.append(request)
                self.arrived_at.append(asyncio.get_running_loop().time())
                self.asked.set()
                await self.script(self, request, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def served(script: Script) -> AsyncIterator[tuple[ModbusTcpLink, Server]]:
    server = Server(script)
    listener = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    server.port = listener.sockets[0].getsockname()[1]
    link = ModbusTcpLink(LinkUrl("127.0.0.1", server.port))
    await link.connect()
    try:
        yield link, server
    finally:
        await link.close()
        listener.close()
        await listener.wait_closed()


def framed(request: bytes, pdu: bytes, transaction: int | None = None) -> bytes:
    head = request[:2] if transaction is None else transaction.to_bytes(2, "big")
    return head + b"\0\0" + (len(pdu) + 1).to_bytes(2, "big") + request[6:7] + pdu


def right(request: bytes) -> bytes:
    """Return the right answer: registers hold their address, bits are set where it is even."""
    function, address, count = struct.unpack_from(">BHH", request, 7)
    if function in (1, 2):
        bits = sum(1 << number for number in range(count) if (address + number) % 2 == 0)
        payload = bits.to_bytes((count + 7) // 8, "little")
    elif function in (3, 4):
        payload = struct.pack(f">{count}H", *range(address, address + count))
    else:
        return framed(request, request[7:12])
    return framed(request, bytes([function, len(payload)]) + payload)


async def honest(server: Server, request: bytes, writer: asyncio.StreamWriter) -> None:
    writer.write(right(request))


async def silent(server: Server, request: bytes, writer: asyncio.StreamWriter) -> None:
    pass


def replies(make: Callable[[bytes], bytes]) -> Script:
    async def script(server: Server, request: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(make(request))

    return script
