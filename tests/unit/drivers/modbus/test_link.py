"""The link against servers that answer badly: never a wrong value, always a typed error."""

import asyncio
import gc
import logging
import struct
from collections.abc import Callable

import pytest

from core.errors import BadFrame, FieldError, LinkDown, NoAnswer, Refused, Undecodable
from core.quality import is_reason
from drivers.modbus.link import ControlLink, reason_of
from drivers.modbus.plan import Request
from drivers.points import Table
from tests.support.mbapserver import (
    LONG_S,
    SHORT_S,
    TWO,
    Server,
    framed,
    honest,
    replies,
    right,
    served,
    silent,
)


@pytest.mark.parametrize(
    ("request_", "payload"),
    [
        (Request(Table.COIL, 0, 10, ()), "5501"),
        (Request(Table.DISCRETE, 1, 8, ()), "aa"),
        (Request(Table.HOLDING, 100, 2, ()), "00640065"),
        (Request(Table.INPUT, 65535, 1, ()), "ffff"),
    ],
)
async def test_read_returns_the_bytes_of_the_answer(request_: Request, payload: str) -> None:
    async with served(honest) as (link, server):
        assert (await link.read(17, request_)).hex() == payload
        assert (server.requests[0][6], server.requests[0][7]) == (17, request_.table.read_function)


@pytest.mark.parametrize("request_", [Request(Table.HOLDING, 0, 125, ()), Request(Table.COIL, 0, 2000, ())])
async def test_largest_reads_are_read_whole(request_: Request) -> None:
    async with served(honest) as (link, _):
        assert len(await link.read(1, request_)) == request_.size


async def test_writes_send_one_frame_each_and_return_on_the_echo() -> None:
    async with served(honest) as (link, server):
        control: ControlLink = link
        await control.write_coil(1, 5, True)
        await control.write_coil(1, 5, False)
        await control.write_register(1, 6, 4711)
        await control.write_coils(1, 16, [True, False, True])
        await control.write_registers(1, 20, [1, 65535])
        await control.write_timed_coil(1, 0, 0x0200, 7)
        assert [request[7:].hex() for request in server.requests] == [
            "050005ff00",
            "0500050000",
            "0600061267",
            "0f001000030105",
            "10001400020400" + "01ffff",
            "0502000007",
        ]


async def test_answer_that_comes_byte_by_byte_is_read() -> None:
    async def script(server: Server, request: bytes, writer: asyncio.StreamWriter) -> None:
        for byte in right(request):
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(0)

    async with served(script) as (link, _):
        for _ in range(3):
            assert await link.read(1, TWO) == b"\0\x64\0\x65"


WRONG: dict[str, Callable[[bytes], bytes]] = {
    "text": lambda request: b"HTTP/1.1 400 Bad Request\r\n\r\n",
    "another unit": lambda request: right(request)[:6] + b"\x09" + right(request)[7:],
    "another function": lambda request: framed(request, b"\x04\x04\0\0\0\0"),
    "unknown function": lambda request: framed(request, b"\x63\x04\0\0\0\0"),
    "fewer registers": lambda request: framed(request, b"\x03\x02\0\0"),
    "more registers": lambda request: framed(request, b"\x03\x06\0\0\0\0\0\0"),
    "byte count that lies": lambda request: framed(request, b"\x03\x06\0\0\0\0"),
    "odd byte count": lambda request: framed(request, b"\x03\x03\0\0\0"),
    "transaction 0": lambda request: framed(request, right(request)[7:], 0),
    "another protocol": lambda request: right(request)[:2] + b"\0\1" + right(request)[4:],
    "empty frame": lambda request: request[:2] + b"\0\0\0\0\0\0",
    "longer than any": lambda request: request[:2] + b"\0\0\x01\x00" + request[6:8] + b"\xff" * 100,
    "exception of two bytes": lambda request: framed(request, b"\x83\x02\x02"),
    "exception of another function": lambda request: framed(request, b"\x84\x02"),
}


@pytest.mark.parametrize("case", sorted(WRONG))
async def test_wrong_answer_is_a_bad_frame_at_once_and_ends_the_connection(case: str) -> None:
    async with served(replies(WRONG[case])) as (link, server):
        with pytest.raises(BadFrame):
            await link.read(1, TWO, LONG_S)
        assert not link.connected
        server.script = honest
        await link.connect()
        assert await link.read(1, TWO) == b"\0\x64\0\x65"


async def test_wrong_echo_of_a_write_is_a_bad_frame() -> None:
    async with served(replies(lambda request: framed(request, b"\x06\x00\x06\x00\x00"))) as (link, _):
        with pytest.raises(BadFrame):
            await link.write_register(1, 6, 4711, LONG_S)


async def test_half_an_answer_is_no_answer() -> None:
    async with served(replies(lambda request: right(request)[:-1])) as (link, _):
        with pytest.raises(NoAnswer, match=r"unit 1 at modbus\+tcp://127.0.0.1:\d+ gave no answer within"):
            await link.read(1, TWO, SHORT_S)
        assert not link.connected


async def test_flood_is_no_answer() -> None:
    async with served(replies(lambda request: b"\0" * 5000)) as (link, _):
        with pytest.raises((NoAnswer, BadFrame, LinkDown)):
            await link.read(1, TWO, SHORT_S)
        assert not link.connected


async def test_answer_to_another_transaction_is_skipped() -> None:
    def doubled(request: bytes) -> bytes:
        return framed(request, b"\x03\x04\xff\xff\xff\xff", 0x7777) + right(request)

    async with served(replies(doubled)) as (link, _):
        for _ in range(3):
            assert await link.read(1, TWO, LONG_S) == b"\0\x64\0\x65"


async def test_answer_to_another_transaction_alone_is_a_bad_frame_at_the_deadline() -> None:
    async with served(replies(lambda request: framed(request, right(request)[7:], 0x7777))) as (link, _):
        with pytest.raises(BadFrame, match="only one to transaction 30583"):
            await link.read(1, TWO, SHORT_S)


async def test_answer_twice_is_not_the_answer_to_the_next_request() -> None:
    def twice(request: bytes) -> bytes:
        return right(request) * 2

    async with served(replies(twice)) as (link, _):
        for address in (100, 200, 300):
            assert await link.read(1, Request(Table.HOLDING, address, 1, ())) == struct.pack(">H", address)


async def test_what_comes_unasked_between_requests_is_forgotten() -> None:
    writers: list[asyncio.StreamWriter] = []

    async def script(server: Server, request: bytes, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        writer.write(right(request))

    async with served(script) as (link, _):
        await link.read(1, TWO)
        writers[0].write(b"\0\1\0\0\0\x03\1\x63\0")  # what pymodbus cannot decode
        writers[0].write(b"\0\2\0\0\0\x07\1\3\4\xde\xad")  # half of an answer to come
        await writers[0].drain()
        for _ in range(5):  # loopback has the bytes at once, one turn of the loop reads them
            await asyncio.sleep(0)
        assert await link.read(1, TWO, LONG_S) == b"\0\x64\0\x65"


async def test_late_answer_is_never_taken_for_the_next_one() -> None:
    held: list[tuple[asyncio.StreamWriter, bytes]] = []

    async def late(server: Server, request: bytes, writer: asyncio.StreamWriter) -> None:
        # Each answer is sent only when the next request has come, on whatever connection.
        for waiting, answer in held:
            if not waiting.is_closing():
                waiting.write(answer)
        held[:] = [(writer, right(request))]

    async with served(late) as (link, server):
        for address in (100, 200, 300):
            with pytest.raises(NoAnswer):
                await link.read(1, Request(Table.HOLDING, address, 1, ()), SHORT_S)
            assert not link.connected
            await link.connect()
        server.script = honest
        assert await link.read(1, Request(Table.HOLDING, 400, 1, ())) == struct.pack(">H", 400)
        assert server.connections == 4


async def test_silence_is_one_frame_and_one_error() -> None:
    async with served(silent) as (link, server):
        with pytest.raises(NoAnswer):
            await link.read(1, TWO, SHORT_S)
        assert len(server.requests) == 1
        assert server.connections == 1


async def test_exception_response_is_refused_with_its_code_and_keeps_the_connection() -> None:
    async with served(replies(lambda request: framed(request, b"\x83\x02"))) as (link, server):
        for _ in range(2):
            with pytest.raises(
                Refused, match=r"refused function 3 on 100 to 101: .* \(exception 2\)"
            ) as error:
                await link.read(1, TWO, LONG_S)
            assert error.value.code == 2
        assert link.connected
        assert server.connections == 1


async def test_refused_write_is_refused() -> None:
    async with served(replies(lambda request: framed(request, b"\x86\x04"))) as (link, _):
        with pytest.raises(Refused, match="exception 4"):
            await link.write_register(1, 6, 1, LONG_S)


async def test_deadline_of_an_answered_request_does_not_end_a_later_one() -> None:
    async def first_at_once(server: Server, request: bytes, writer: asyncio.StreamWriter) -> None:
        if len(server.requests) > 1:
            await asyncio.sleep(2 * SHORT_S)  # until the first deadline has passed
        writer.write(right(request))

    async with served(first_at_once) as (link, _):
        await link.read(1, TWO, SHORT_S)
        assert await link.read(1, TWO, LONG_S) == b"\0\x64\0\x65"


async def test_silence_that_the_device_wants_is_kept_after_each_answer() -> None:
    pause_s = 0.03
    async with served(honest) as (link, server):
        loop = asyncio.get_running_loop()
        await link.read(1, TWO, pause_s=pause_s)
        answered = loop.time()
        await link.read(2, TWO)  # another device of the line, in no need of silence itself
        assert server.arrived_at[1] - answered >= pause_s - 0.002


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (LinkDown(""), "line-down"),
        (NoAnswer(""), "timeout"),
        (BadFrame(""), "bad-frame"),
        (Undecodable(""), "undecodable"),
        (Refused(2, ""), "exception-2"),
        (Refused(99, ""), "exception-other"),
    ],
)
def test_every_failure_has_its_reason(error: FieldError, reason: str) -> None:
    assert reason_of(error) == reason
    assert is_reason(reason)


async def test_late_answer_that_is_handed_on_to_the_next_connection_is_never_taken() -> None:
    """Serial servers send what comes late to whoever is connected then, with the number it was asked by."""
    held: list[bytes] = []

    async def handing_on(server: Server, request: bytes, writer: asyncio.StreamWriter) -> None:
        if held:
            writer.write(held.pop())
            writer.write(right(request))
        else:
            held.append(right(request))

    async with served(handing_on) as (link, _):
        for round_ in range(3):
            with pytest.raises(NoAnswer):
                await link.read(1, Request(Table.HOLDING, 100, 1, ()), SHORT_S)
            await link.connect()
            address = 200 + round_
            assert await link.read(1, Request(Table.HOLDING, address, 1, ())) == struct.pack(">H", address)
            held.clear()


async def test_failures_leave_nothing_in_the_log_and_no_future_unread(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.DEBUG, logger="asyncio"):
        async with served(replies(WRONG["unknown function"])) as (link, server):
            for script in (replies(WRONG["text"]), silent, honest):
                server.script = script
                await link.connect()
                try:
                    await link.read(1, TWO, SHORT_S)
                except FieldError:
                    pass
            server.script = silent
            with pytest.raises(NoAnswer):
                await link.read(1, TWO, SHORT_S)
            await link.connect()
            await link.close()
        gc.collect()
        await asyncio.sleep(0)
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == []
