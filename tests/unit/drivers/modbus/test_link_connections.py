"""Connections of the link that fail, end or are ended: always a typed error, nothing lost, nothing left."""

import asyncio
import socket
import struct

import pytest

from core.errors import LinkDown
from drivers.modbus.lineurl import LinkUrl
from drivers.modbus.link import ModbusTcpLink
from tests.support.mbapserver import (
    LONG_S,
    SHORT_S,
    TWO,
    Server,
    honest,
    right,
    served,
    silent,
)


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


async def test_small_frames_are_sent_at_once() -> None:
    async with served(honest) as (link, _):
        assert link._client is not None
        tcp = link._client.ctx.transport.get_extra_info("socket")
        assert tcp.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
