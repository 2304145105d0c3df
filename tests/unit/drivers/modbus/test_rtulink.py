"""The RTU link on a pseudo-terminal against devices that behave badly: never a wrong value."""

import asyncio
import itertools
import random
import time
from collections.abc import Callable

import pytest

from core.errors import BadFrame, FieldError, LinkDown, NoAnswer, Refused
from drivers.modbus.lineurl import LineScheme, LinkUrl
from drivers.modbus.link import ControlLink
from drivers.modbus.plan import Request
from drivers.modbus.rtu import framed
from drivers.modbus.rtulink import RtuLink
from drivers.modbus.wires import SerialSettings, SerialWire
from drivers.points import Table
from tests.support.ptyline import Reply, right, silent
from tests.support.rtulined import (
    FAST,
    LATER,
    LONG_S,
    SHORT_S,
    TWO,
    lined,
    made_known,
    once,
    payload,
)


@pytest.mark.parametrize(
    ("request_", "octets"),
    [
        (Request(Table.COIL, 0, 10, ()), "5501"),
        (Request(Table.DISCRETE, 1, 8, ()), "aa"),
        (Request(Table.HOLDING, 100, 2, ()), "00640065"),
        (Request(Table.INPUT, 65535, 1, ()), "ffff"),
    ],
)
async def test_read_returns_the_bytes_of_the_answer(request_: Request, octets: str) -> None:
    async with lined() as (link, line):
        assert (await link.read(17, request_, LONG_S)).hex() == octets
        assert line.asked_for == [(17, request_.table.read_function)]


@pytest.mark.parametrize("request_", [Request(Table.HOLDING, 0, 125, ()), Request(Table.COIL, 0, 2000, ())])
async def test_largest_reads_are_read_whole(request_: Request) -> None:
    async with lined() as (link, _):
        assert len(await link.read(1, request_, LONG_S)) == request_.size


async def test_writes_send_one_frame_each_and_return_on_the_confirmation() -> None:
    async with lined() as (link, line):
        control: ControlLink = link
        await control.read(1, TWO, LONG_S)
        await control.write_coil(1, 5, True, LONG_S)
        await control.write_register(1, 6, 4711, LONG_S)
        await control.write_coils(1, 16, [True, False, True], LONG_S)
        await control.write_registers(1, 20, [1, 65535], LONG_S)
        await control.write_timed_coil(1, 0, 0x0200, 7, LONG_S)
        assert [request[1:-2].hex() for request in line.requests[1:]] == [
            "050005ff00",
            "0600061267",
            "0f001000030105",
            "10001400020400" + "01ffff",
            "0502000007",
        ]
        assert line.requests[-1].hex() == "010502000007" + "8db0"  # as a maker's page has it


async def test_exception_response_is_a_refusal() -> None:
    async with lined(lambda request: [(0, framed(request[0], b"\x83\x02"))]) as (link, _):
        with pytest.raises(Refused, match="function 3 on 100 to 101: it has no such address") as error:
            await link.read(1, TWO, LONG_S)
        assert error.value.code == 2


async def test_answer_in_pieces_is_read() -> None:
    def pieces(request: bytes) -> list[Reply]:
        return [(0.001, bytes([octet])) for octet in right(request)]

    async with lined(pieces) as (link, _):
        for _ in range(3):
            assert await link.read(1, TWO, LONG_S) == payload(TWO)


async def test_answer_that_begins_in_time_may_take_the_time_of_its_characters() -> None:
    def slow(request: bytes) -> list[Reply]:
        answer = right(request)
        return [(SHORT_S * 0.7, answer[:3]), (SHORT_S * 0.7, answer[3:])]

    async with lined(slow, settings=SerialSettings(1200)) as (link, _):
        assert await link.read(1, TWO, SHORT_S) == payload(TWO)


async def test_line_that_was_just_opened_is_listened_to_first() -> None:
    async with lined() as (link, line):
        link._fresh = True
        opened = time.monotonic()
        line.say(right(framed(1, b"\x03\x00\x09\x00\x02")))  # asked by a program that died
        assert await link.read(1, TWO, SHORT_S) == payload(TWO)
        assert time.monotonic() - opened >= SHORT_S * 0.9


async def test_silence_between_frames_is_kept() -> None:
    settings = SerialSettings(1200)  # t3.5 is 29 ms
    async with lined(settings=settings) as (link, line):
        for _ in range(3):
            await link.read(1, TWO, LONG_S)
        for before, after in itertools.pairwise(line.times):
            assert after - before >= settings.silence_s - 0.002


async def test_silence_that_a_device_wants_is_kept_before_and_after_it() -> None:
    async with lined() as (link, line):
        await link.read(1, TWO, LONG_S)
        await link.read(2, TWO, LONG_S, pause_s=0.03)
        await link.read(1, TWO, LONG_S)
        assert line.times[1] - line.times[0] >= 0.028
        assert line.times[2] - line.times[1] >= 0.028


@pytest.mark.parametrize(
    ("baud", "parity", "stop_bits", "silence_ms"),
    [(9600, "none", 1, 3.646), (9600, "even", 1, 4.010), (19200, "none", 2, 2.005), (38400, "none", 1, 1.75)],
)
def test_silence_is_three_and_a_half_characters_and_fixed_above_19200(
    baud: int, parity: str, stop_bits: int, silence_ms: float
) -> None:
    settings = SerialSettings(baud, parity, stop_bits)  # type: ignore[arg-type]
    assert settings.silence_s * 1000 == pytest.approx(silence_ms, abs=0.001)


BAD: dict[str, Callable[[bytes], bytes]] = {
    "half a frame": lambda request: right(request)[:-3],
    "one byte": lambda request: right(request)[:1],
    "wrong checksum": lambda request: right(request)[:-1] + bytes([right(request)[-1] ^ 1]),
    "a bit turned": lambda request: bytes([*right(request)[:4], right(request)[4] ^ 4, *right(request)[5:]]),
    "another unit": lambda request: framed(9, right(request)[1:-2]),
    "another function": lambda request: framed(request[0], b"\x04" + right(request)[2:-2]),
    "fewer registers": lambda request: framed(request[0], b"\x03\x02\0\0"),
    "more registers": lambda request: framed(request[0], b"\x03\x06" + bytes(6)),
    "byte count that lies": lambda request: framed(request[0], b"\x03\x06" + bytes(4)),
    "text": lambda request: b"Welcome to BusyBox\r\n",
    "noise": lambda request: random.Random(7).randbytes(60),
    "flood": lambda request: b"\x55" * 2000,
    "two answers": lambda request: right(request) * 2,
    "answer with a tail": lambda request: right(request) + b"\x55\xaa",
    "exception of another function": lambda request: framed(request[0], b"\x84\x02"),
    "the request again": lambda request: request,
}


@pytest.mark.parametrize("case", sorted(BAD))
async def test_wrong_answer_is_a_bad_frame_and_the_line_recovers(case: str) -> None:
    async with lined(once(lambda request: [(0, BAD[case](request))])) as (link, line):
        await made_known(link)
        with pytest.raises(BadFrame):
            await link.read(1, TWO, SHORT_S)
        assert link.connected
        assert await link.read(1, LATER, LONG_S) == payload(LATER)
        assert line.counts == [1, 2, 1, 2]  # the device owed an answer: first one of another length


async def test_silence_is_no_answer_and_the_line_stays_open() -> None:
    async with lined(once(silent)) as (link, _):
        with pytest.raises(NoAnswer, match=r"unit 1 at modbus\+rtu:///dev/\S+ gave no answer within 0.05 s"):
            await link.read(1, TWO, SHORT_S)
        assert link.connected
        assert await link.read(1, LATER, SHORT_S) == payload(LATER)


async def test_line_that_is_never_silent_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("drivers.modbus.rtulink.LONGEST_BABBLE_S", 0.1)
    async with lined(once(lambda request: [(0.01, b"U") for _ in range(200)])) as (link, _):
        with pytest.raises(FieldError):
            await link.read(1, TWO, SHORT_S)
        with pytest.raises(BadFrame, match="never silent"):
            await link.read(1, TWO, SHORT_S)


async def test_echoing_adapter_is_found_before_a_single_write_is_believed() -> None:
    async with lined(lambda request: [(0, request)]) as (link, line):
        with pytest.raises(BadFrame):
            await link.write_register(1, 6, 4711, SHORT_S)
        assert all(function != 6 for _, function in line.asked_for)


async def test_echo_that_is_announced_is_taken_away() -> None:
    async with lined(lambda request: [(0, request), (0.001, right(request))], echo=True) as (link, _):
        assert await link.read(1, TWO, LONG_S) == payload(TWO)
        await link.write_register(1, 6, 4711, LONG_S)


async def test_announced_echo_alone_is_no_answer_and_confirms_no_write() -> None:
    async with lined(lambda request: [(0, request)], echo=True) as (link, _):
        with pytest.raises(NoAnswer):
            await link.read(1, TWO, SHORT_S)
        with pytest.raises(NoAnswer):
            await link.write_register(2, 6, 4711, SHORT_S)


async def test_second_request_before_the_first_ended_is_a_mistake_of_ours() -> None:
    async with lined(silent) as (link, line), asyncio.TaskGroup() as group:
        task = group.create_task(link.read(1, TWO, LONG_S), name="read")
        await line.asked.wait()
        with pytest.raises(RuntimeError, match="owned by one task"):
            await link.read(1, TWO)
        task.cancel()


async def test_adapter_that_is_unplugged_is_link_down_and_told() -> None:
    async with lined(silent) as (link, line), asyncio.TaskGroup() as group:
        task = group.create_task(failure(link), name="read")
        await line.asked.wait()
        line.hang_up()
        assert "unplugged" in await task
        assert not link.connected
        with pytest.raises(LinkDown, match="is not connected"):
            await link.read(1, TWO, SHORT_S)
        with pytest.raises(LinkDown, match="is the adapter plugged in"):
            await link.connect()


async def failure(link: RtuLink) -> str:
    with pytest.raises(LinkDown) as error:
        await link.read(1, TWO, LONG_S)
    return str(error.value)


async def test_port_that_another_program_has_is_told() -> None:
    async with lined() as (link, _):
        other = RtuLink(link.url, SerialWire(link.url, FAST), FAST)
        with pytest.raises(LinkDown, match="another program has it open"):
            await other.connect()


async def test_file_that_is_no_port_is_told() -> None:
    url = LinkUrl("", 0, LineScheme.RTU, "/dev/null")
    with pytest.raises(LinkDown, match="no serial port"):
        await RtuLink(url, SerialWire(url, FAST), FAST).connect()


async def test_closing_ends_a_request_on_its_way() -> None:
    async with lined(silent) as (link, line), asyncio.TaskGroup() as group:
        task = group.create_task(failure(link), name="read")
        await line.asked.wait()
        await link.close()
        await link.close()
        assert "closed on our side" in await task


@pytest.mark.parametrize("seed", range(5))
async def test_random_misbehaviour_never_makes_a_wrong_value(seed: int) -> None:
    """Faults of the list, lateness of up to five deadlines, each device answering in its order."""
    chance = random.Random(seed)
    deadline_s = SHORT_S / 5
    free_at: dict[int, float] = {}

    def misbehave(request: bytes) -> list[Reply]:
        fault = chance.choice([*["none"] * 30, *["silent"] * 3, *["late"] * 8, *BAD])
        if fault == "silent":
            return []
        if fault == "fewer registers" and request[5] == 1:
            fault = "none"  # that would be a right answer with a wrong value, which no rule can see
        worst = 5.0 if fault == "late" else 0.2
        now = time.monotonic()
        at = max(now + chance.random() * worst * deadline_s, free_at.get(request[0], 0.0))
        free_at[request[0]] = at
        return [(at - now, BAD[fault](request) if fault in BAD else right(request))]

    answered = 0
    async with lined(misbehave) as (link, _):
        for number in range(60):
            request = Request(Table.HOLDING, 2 * number, chance.choice([1, 2, 2, 2]), ())
            try:
                assert await link.read(1 + number % 3, request, deadline_s) == payload(request)
                answered += 1
            except (NoAnswer, BadFrame):
                pass
    assert answered >= 5
