"""Devices that dial in and behave badly: never a wrong value, and nobody listened to who was not expected."""

import asyncio
import socket
import struct
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from core.errors import BadFrame, ConfigError, FieldError, LinkDown, NoAnswer, Refused
from drivers.modbus.dialin import Callers, DialInLink
from drivers.modbus.lineurl import LineScheme, LinkUrl
from drivers.modbus.links import LineOptions, open_link
from drivers.modbus.plan import Request
from drivers.points import Table

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
async def listening(addresses: frozenset[str] = frozenset({"127.0.0.1"})) -> AsyncIterator[DialInLink]:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    link = DialInLink(LinkUrl("127.0.0.1", port, LineScheme.LISTEN), Callers(addresses=addresses))
    await link.connect()
    try:
        yield link
    finally:
        await link.close()


class Device:
    """Dials in and answers each request as its function says."""

    def __init__(self, link: DialInLink, answer: Answer) -> None:
        self._link = link
        self.answer = answer
        self.ended = asyncio.Event()
        self.asked = asyncio.Event()
        self.writer: asyncio.StreamWriter | None = None

    async def __aenter__(self) -> "Device":
        before = dict(self._link._connections)
        reader, self.writer = await asyncio.open_connection("127.0.0.1", self._link.url.port)
        self._task = asyncio.create_task(self._serve(reader, self.writer), name="device")
        end = time.monotonic() + LONG_S
        while self._link._connections == before and not self.ended.is_set():
            assert time.monotonic() < end
            await asyncio.sleep(0.001)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        assert self.writer is not None
        self.writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while request := await reader.read(256):
                self.asked.set()
                writer.write(self.answer(request))
        except ConnectionError:
            pass
        self.ended.set()


async def test_device_that_dialled_in_is_read_and_its_refusals_keep_the_connection() -> None:
    async with listening() as link, Device(link, right) as device:
        assert await link.read(5, TWO, LONG_S) == b"\0\x64\0\x65"
        device.answer = refusing
        with pytest.raises(Refused, match="function 3 on 100 to 101"):
            await link.read(5, TWO, LONG_S)
        device.answer = right
        assert await link.read(5, TWO, LONG_S) == b"\0\x64\0\x65"


WRONG: dict[str, Answer] = {
    "another unit": lambda request: right(request)[:6] + b"\x09" + right(request)[7:],
    "another function": lambda request: right(request)[:7] + b"\x04" + right(request)[8:],
    "another length": lambda request: right(request)[:5] + b"\x05" + right(request)[6:8] + b"\x02\0\0",
    "transaction 0": lambda request: b"\0\0" + right(request)[2:],
    "text": lambda request: b"REGISTER 4711 my-dtu\r\n",
}


@pytest.mark.parametrize("case", sorted(WRONG))
async def test_wrong_answer_ends_the_connection_and_the_line_goes_on(case: str) -> None:
    async with listening() as link, Device(link, WRONG[case]) as device:
        with pytest.raises(BadFrame):
            await link.read(5, TWO, LONG_S)
        await asyncio.wait_for(device.ended.wait(), LONG_S)
        assert link.connected
        async with Device(link, right):
            assert await link.read(5, TWO, LONG_S) == b"\0\x64\0\x65"


async def test_missing_answer_ends_the_connection_so_that_a_late_one_comes_to_nothing() -> None:
    async with listening() as link, Device(link, silent) as device:
        with pytest.raises(NoAnswer, match="gave no answer within"):
            await link.read(5, TWO, SHORT_S)
        await asyncio.wait_for(device.ended.wait(), LONG_S)
        with pytest.raises(LinkDown, match="has not dialled in"):
            await link.read(5, TWO, SHORT_S)


async def test_what_is_sent_unasked_is_no_answer() -> None:
    async with listening() as link, Device(link, right) as device:
        assert device.writer is not None
        request = b"\0\1\0\0\0\6\5\3\0\x09\0\2"
        device.writer.write(right(request))
        await device.writer.drain()
        await asyncio.sleep(0)
        for _ in range(2):
            try:
                assert await link.read(5, TWO, LONG_S) == b"\0\x64\0\x65"
            except FieldError:
                break


async def test_device_that_dials_again_takes_the_place_of_its_old_connection() -> None:
    async with listening() as link, Device(link, silent) as old, asyncio.TaskGroup() as group:
        task = group.create_task(replaced(link), name="read")
        await old.asked.wait()
        async with Device(link, right):
            await task
            assert await link.read(5, TWO, LONG_S) == b"\0\x64\0\x65"


async def replaced(link: DialInLink) -> None:
    with pytest.raises(NoAnswer, match="replaced by a newer one"):
        await link.read(5, TWO, LONG_S)


async def test_stranger_is_closed_and_counted() -> None:
    async with listening(frozenset({"192.0.2.7"})) as link, Device(link, right) as stranger:
        assert stranger.ended.is_set()
        assert link.refused == 1
        with pytest.raises(LinkDown, match="has not dialled in"):
            await link.read(5, TWO, SHORT_S)


async def test_port_that_is_taken_is_told() -> None:
    async with listening() as link:
        other = DialInLink(link.url, Callers(addresses=frozenset({"127.0.0.1"})))
        with pytest.raises(LinkDown, match="is it an address of this box, and the port free"):
            await other.connect()


async def test_closed_link_is_down() -> None:
    async with listening() as link:
        await link.close()
        assert not link.connected
        with pytest.raises(LinkDown, match="it is closed"):
            await link.read(5, TWO, SHORT_S)


def test_line_that_expects_nobody_is_refused() -> None:
    url = LinkUrl("127.0.0.1", 5502, LineScheme.LISTEN)
    with pytest.raises(ConfigError, match="expects nobody"):
        open_link(url)
    assert isinstance(open_link(url, LineOptions(callers=Callers(addresses=frozenset({"::1"})))), DialInLink)
    with pytest.raises(ConfigError, match="needs certificates"):
        open_link(LinkUrl("h", 802, LineScheme.TLS))
