"""The link against servers that behave badly: never a wrong value, always a typed error, nothing lost."""

import asyncio
import gc
import logging
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from core.errors import BadFrame, FieldError, LinkDown, NoAnswer, Refused, Undecodable
from core.quality import is_reason
from drivers.modbus.lineurl import LinkUrl
from drivers.modbus.link import ControlLink, ModbusTcpLink, reason_of
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


async def test_connection_closed_by_the_device_ends_the_request_at_once() -> None:
    async def hang_up(server: Server, request: bytes, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async with served(hang_up) as (link, server):
        with pytest.raises(LinkDown, match="closed the connection before it answered"):
            await link.read(1, TWO, LONG_S)
        assert not link.connected
        with pytest.raises(LinkDown, match="is not connected"):
            await link.read(1, TWO, LONG_S)
        assert server.connections == 1  # nothing reconnects by itself


async def test_idle_connection_closed_by_the_device_is_noticed_and_left_alone() -> None:
    async def answer_and_leave(server: Server, request: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(right(request))
        writer.close()

    async with served(answer_and_leave) as (link, server):
        assert await link.read(1, TWO, LONG_S) == b"\0\x64\0\x65"
        async with asyncio.timeout(LONG_S):
            while link.connected:  # noqa: ASYNC110  # the link has no event for it: its owner asks
                await asyncio.sleep(0)
        assert "transport reconnect" not in {task.get_name() for task in asyncio.all_tasks()}
        assert server.connections == 1


async def test_deadline_of_an_answered_request_does_not_end_a_later_one() -> None:
    async def first_at_once(server: Server, request: bytes, writer: asyncio.StreamWriter) -> None:
        if len(server.requests) > 1:
            await asyncio.sleep(2 * SHORT_S)  # until the first deadline has passed
        writer.write(right(request))

    async with served(first_at_once) as (link, _):
        await link.read(1, TWO, SHORT_S)
        assert await link.read(1, TWO, LONG_S) == b"\0\x64\0\x65"


async def test_connection_reset_in_the_middle_of_an_answer_is_link_down() -> None:
    async def reset(server: Server, request: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(right(request)[:9])
        await writer.drain()
        raw = writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.close()

    async with served(reset) as (link, _):
        with pytest.raises(LinkDown):
            await link.read(1, TWO, LONG_S)


async def test_cancelling_ends_a_request_at_once_and_its_connection_with_it() -> None:
    async with served(silent) as (link, server), asyncio.TaskGroup() as group:
        task = group.create_task(link.read(1, TWO, LONG_S), name="read")
        await server.asked.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert task.cancelled()
        assert not link.connected


async def test_cancelling_ends_connecting_at_once() -> None:
    with socket.socket() as full:
        # A listener whose queue is full leaves further connections unanswered.
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        port = full.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)):
            link = ModbusTcpLink(LinkUrl("127.0.0.1", port), connect_timeout_s=LONG_S)
            async with asyncio.TaskGroup() as group:
                task = group.create_task(link.connect(), name="connect")
                await asyncio.sleep(0)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
            assert not link.connected


async def test_unanswered_connection_attempt_is_link_down_at_its_deadline() -> None:
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        port = full.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)):
            link = ModbusTcpLink(LinkUrl("127.0.0.1", port), connect_timeout_s=SHORT_S)
            with pytest.raises(LinkDown, match=r"does not answer: no connection within 0\.05 s"):
                await link.connect()
            assert not link.connected


async def test_refused_connection_says_so() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = LinkUrl("127.0.0.1", closed.getsockname()[1])
        with pytest.raises(LinkDown, match="the host is there, but refuses"):
            await ModbusTcpLink(url).connect()


async def test_unknown_host_says_so() -> None:
    link = ModbusTcpLink(LinkUrl("no-such-host.invalid", 502), connect_timeout_s=LONG_S)
    with pytest.raises(LinkDown, match="cannot be reached: the host's name is not known"):
        await link.connect()


async def closed_on_our_side(link: ModbusTcpLink) -> None:
    """Read, and expect that somebody closes the link meanwhile."""
    with pytest.raises(LinkDown, match="closed on our side"):
        await link.read(1, TWO, LONG_S)


async def test_closing_ends_a_request_on_its_way() -> None:
    async with served(silent) as (link, server), asyncio.TaskGroup() as group:
        group.create_task(closed_on_our_side(link), name="read")
        await server.asked.wait()
        await link.close()
        await link.close()


async def test_second_request_before_the_first_ended_is_a_mistake_of_ours() -> None:
    async with served(silent) as (link, server), asyncio.TaskGroup() as group:
        task = group.create_task(closed_on_our_side(link), name="read")
        await server.asked.wait()
        with pytest.raises(RuntimeError, match="owned by one task"):
            await link.read(1, TWO)
        assert not task.done()
        await link.close()


async def test_link_that_was_never_connected_is_down() -> None:
    with pytest.raises(LinkDown, match="is not connected"):
        await ModbusTcpLink(LinkUrl("127.0.0.1", 502)).read(1, TWO)


async def test_silence_that_the_device_wants_is_kept_after_each_answer() -> None:
    pause_s = 0.03
    async with served(honest) as (link, server):
        loop = asyncio.get_running_loop()
        await link.read(1, TWO, pause_s=pause_s)
        answered = loop.time()
        await link.read(2, TWO)  # another device of the line, in no need of silence itself
        assert server.arrived_at[1] - answered >= pause_s - 0.002


async def test_small_frames_are_sent_at_once() -> None:
    async with served(honest) as (link, _):
        assert link._client is not None
        tcp = link._client.ctx.transport.get_extra_info("socket")
        assert tcp.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


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
