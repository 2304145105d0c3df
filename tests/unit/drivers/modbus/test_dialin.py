"""Devices that dial in and behave badly: never a wrong value, and nobody listened to who was not expected."""

import asyncio
import time

import pytest

from core.errors import BadFrame, ConfigError, FieldError, LinkDown, NoAnswer, Refused
from drivers.modbus import dialin
from drivers.modbus.dialin import Callers, DialInLink
from drivers.modbus.lineurl import LineScheme, LinkUrl
from drivers.modbus.links import LineOptions, open_link
from tests.support.caller import LONG_S, SHORT_S, TWO, Answer, Device, listening, refusing, right, silent


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
        await device.until_ended()
        assert link.connected
        async with Device(link, right):
            assert await link.read(5, TWO, LONG_S) == b"\0\x64\0\x65"


async def test_missing_answer_ends_the_connection_so_that_a_late_one_comes_to_nothing() -> None:
    async with listening() as link, Device(link, silent) as device:
        with pytest.raises(NoAnswer, match="gave no answer within"):
            await link.read(5, TWO, SHORT_S)
        await device.until_ended()
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


FRAMES = {5: b"METER-5", 6: b"METER-5", 7: b"METER-7"}
"""Two devices behind one caller, and one behind another."""


def numbered(number: int) -> Answer:
    """Answer with a number in each register."""

    def answer(request: bytes) -> bytes:
        return right(request)[:9] + number.to_bytes(2, "big") * 2

    return answer


async def test_callers_are_told_apart_by_their_first_frame() -> None:
    async with (
        listening(frames=FRAMES) as link,
        Device(link, numbered(5), (b"METER-5",)),
        Device(link, numbered(7), (b"MET", b"ER-7")),
    ):
        for unit, number in ((5, 5), (7, 7), (6, 5)):
            assert await link.read(unit, TWO, LONG_S) == number.to_bytes(2, "big") * 2
        with pytest.raises(LinkDown, match="unit 8 has not dialled in"):
            await link.read(8, TWO, LONG_S)
        async with Device(link, numbered(9), (b"METER-7",)):  # dials again
            assert await link.read(7, TWO, LONG_S) == b"\0\x09" * 2
            assert await link.read(5, TWO, LONG_S) == b"\0\x05" * 2
        assert link.refused == 0


@pytest.mark.parametrize(
    "said", [(b"METER-6",), (b"METER-5\r\n",), (b"METER-5", b"\n"), (b"METER-5METER-7",), (b"x" * 5000,)]
)
async def test_caller_that_says_something_else_first_is_closed_and_counted(said: tuple[bytes, ...]) -> None:
    async with listening(frames=FRAMES) as link, Device(link, right, said) as stranger:
        await stranger.until_ended()
        assert link.refused == 1
        assert link._unnamed == set()
        for unit in FRAMES:
            with pytest.raises(LinkDown, match="has not dialled in"):
                await link.read(unit, TWO, SHORT_S)


@pytest.mark.parametrize("said", [(), (b"METER",)])
async def test_caller_that_says_nothing_first_is_closed_at_the_deadline(
    said: tuple[bytes, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dialin, "FIRST_FRAME_S", SHORT_S)
    async with listening(frames=FRAMES) as link, Device(link, right, said) as stranger:
        await stranger.until_ended()
        assert link.refused == 1


async def test_caller_is_asked_nothing_before_its_first_frame_is_whole() -> None:
    async with listening(frames=FRAMES) as link:
        reader, writer = await asyncio.open_connection("127.0.0.1", link.url.port)
        writer.write(b"METER-")
        with pytest.raises(LinkDown, match="has not dialled in"):
            await link.read(5, TWO, SHORT_S)
        writer.write(b"5")
        end = time.monotonic() + LONG_S
        while not link._connections:
            assert time.monotonic() < end
            await asyncio.sleep(0.001)
        asking = asyncio.create_task(link.read(5, TWO, LONG_S), name="ask")
        writer.write(right(await reader.readexactly(12)))
        assert await asking == b"\0\x64\0\x65"
        writer.close()


async def test_first_frame_from_an_address_that_is_not_trusted_is_not_listened_to() -> None:
    async with (
        listening(frozenset({"192.0.2.7"}), FRAMES) as link,
        Device(link, right, (b"METER-5",)) as stranger,
    ):
        await stranger.until_ended()
        assert link.refused == 1


async def test_those_who_say_nothing_yet_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dialin, "MOST_CONNECTIONS", 2)
    async with listening(frames=FRAMES) as link:
        waiting = [await asyncio.open_connection("127.0.0.1", link.url.port) for _ in range(3)]
        assert await waiting[2][0].read() == b""
        assert (len(link._unnamed), link.refused) == (2, 1)
        for _, writer in waiting:
            writer.close()


def test_line_that_expects_nobody_is_refused() -> None:
    url = LinkUrl("127.0.0.1", 5502, LineScheme.LISTEN)
    with pytest.raises(ConfigError, match="expects nobody"):
        open_link(url)
    assert isinstance(open_link(url, LineOptions(callers=Callers(addresses=frozenset({"::1"})))), DialInLink)
    with pytest.raises(ConfigError, match="needs certificates"):
        open_link(LinkUrl("h", 802, LineScheme.TLS))
