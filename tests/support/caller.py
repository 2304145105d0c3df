"""A link on which devices dial in, and a device that dials and answers as a function says."""

import asyncio
import ssl
import struct
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from types import MappingProxyType

from drivers.modbus.dialin import Callers, DialInLink
from drivers.modbus.lineurl import LineScheme, LinkUrl
from drivers.modbus.plan import Request
from drivers.points import Table
from simulator.broker import free_port

SHORT_S = 0.05
LONG_S = 20.0
TWO = Request(Table.HOLDING, 100, 2, ())
Answer = Callable[[bytes], bytes]


def right(request: bytes) -> bytes:
    address, count = struct.unpack_from(">HH", request, 8)
    pdu = bytes([request[7], 2 * count]) + struct.pack(f">{count}H", *range(address, address + count))
    return request[:4] + (len(pdu) + 1).to_bytes(2, "big") + request[6:7] + pdu


def refusing(request: bytes) -> bytes:
    return request[:4] + b"\0\3" + request[6:7] + bytes([request[7] | 0x80, 2])


def silent(request: bytes) -> bytes:
    return b""


@asynccontextmanager
async def listening(
    addresses: frozenset[str] = frozenset({"127.0.0.1"}), frames: Mapping[int, bytes] = MappingProxyType({})
) -> AsyncIterator[DialInLink]:
    link = DialInLink(LinkUrl("127.0.0.1", free_port(), LineScheme.LISTEN), Callers({}, addresses, frames))
    await link.connect()
    try:
        yield link
    finally:
        await link.close()


class Device:
    """Dials in and answers each request as its function says."""

    def __init__(
        self,
        link: DialInLink,
        answer: Answer,
        hello: tuple[bytes, ...] = (),
        context: ssl.SSLContext | None = None,
    ) -> None:
        self._link = link
        self._context = context
        self._hello = hello
        self.answer = answer
        self.ended = asyncio.Event()
        self.asked = asyncio.Event()
        self.writer: asyncio.StreamWriter | None = None

    async def __aenter__(self) -> "Device":
        before = dict(self._link._connections)
        reader, self.writer = await asyncio.open_connection(
            "127.0.0.1", self._link.url.port, ssl=self._context
        )
        self._task = asyncio.create_task(self._serve(reader, self.writer), name="device")
        for part in self._hello:
            self.writer.write(part)
            await asyncio.sleep(0.01)
        end = time.monotonic() + LONG_S
        while self._link._connections == before and not self.ended.is_set():
            assert time.monotonic() < end
            await asyncio.sleep(0.001)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        assert self.writer is not None
        self.writer.close()

    async def until_ended(self) -> None:
        await asyncio.wait_for(self.ended.wait(), LONG_S)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while request := await reader.read(256):
                self.asked.set()
                writer.write(self.answer(request))
        except ConnectionError:
            pass
        self.ended.set()
