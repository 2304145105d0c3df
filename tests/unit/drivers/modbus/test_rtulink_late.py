"""The RTU link and answers that are owed: none that comes late is taken for another."""

import asyncio
import contextlib
import itertools
import struct
import time

import pytest

from core.errors import BadFrame, NoAnswer, Refused
from drivers.modbus.pdu import read_pdu
from drivers.modbus.plan import Request
from drivers.modbus.rtu import framed
from drivers.modbus.rtulink import RtuLink
from drivers.points import Table
from tests.support.ptyline import Reply, Script, honest, right, silent
from tests.support.rtulined import (
    LATER,
    LONG_S,
    ONE,
    SHORT_S,
    TWO,
    lined,
    made_known,
    once,
    payload,
    until,
)


@pytest.mark.parametrize("late", [1.1, 1.5, 1.9, 2.5, 3.5])
async def test_late_answer_is_never_taken_for_the_next(late: float) -> None:
    """Same unit, function and length: only the registers tell, and only the test knows which."""
    async with lined(once(lambda request: [(SHORT_S * late, right(request))])) as (link, _):
        with pytest.raises(NoAnswer):
            await link.read(1, TWO, SHORT_S)
        await answered_right(link)


@pytest.mark.parametrize("late", [1.1, 2.0, 2.2, 2.7, 3.1])
async def test_device_that_is_always_late_is_never_believed(late: float) -> None:
    def always(request: bytes) -> list[Reply]:
        return [(SHORT_S * late, right(request))]

    async with lined(always) as (link, _):
        for request in (TWO, LATER, TWO, LATER, TWO):
            try:
                assert await link.read(1, request, SHORT_S) == payload(request)
            except (NoAnswer, BadFrame):
                pass


@pytest.mark.parametrize("late", [1.1, 1.9, 2.2, 2.7, 3.1, 4.2, 6.0, 9.0])
async def test_late_answer_of_a_device_that_knows_another_length_is_never_believed(late: float) -> None:
    async with lined(once(lambda request: [(SHORT_S * late, right(request))])) as (link, _):
        await made_known(link)
        with pytest.raises(NoAnswer):
            await link.read(1, TWO, SHORT_S)
        await answered_right(link)


async def answered_right(link: RtuLink) -> None:
    """Ask by turns until the device is back; a value is right or there is none."""
    answered = 0
    for request in itertools.islice(itertools.cycle((LATER, TWO)), 12):
        try:
            assert await link.read(1, request, SHORT_S) == payload(request)
            answered += 1
        except (NoAnswer, BadFrame):
            pass
    assert answered >= 8


async def test_second_answer_that_follows_makes_the_next_one_doubtful() -> None:
    twice = once(lambda request: [(0, right(request)), (0.03, right(request))])
    async with lined(twice) as (link, line):
        await made_known(link)
        assert await link.read(1, TWO, LONG_S) == payload(TWO)
        await until(lambda: link._unasked != b"")
        assert await link.read(1, LATER, LONG_S) == payload(LATER)
        assert line.counts == [1, 2, 1, 2]


async def test_request_of_another_length_than_the_one_owed_needs_no_other() -> None:
    async with lined(once(silent)) as (link, line):
        with pytest.raises(NoAnswer):
            await link.read(1, TWO, SHORT_S)
        assert await link.read(1, ONE, LONG_S) == payload(ONE)
        assert await link.read(1, TWO, LONG_S) == payload(TWO)
        assert line.counts == [2, 1, 2]


async def test_device_that_is_asked_for_one_length_only_is_asked_for_half_of_it_first() -> None:
    ten = Request(Table.INPUT, 30, 10, ())
    async with lined(once(silent)) as (link, line):
        with pytest.raises(NoAnswer):
            await link.read(1, ten, SHORT_S)
        assert await link.read(1, ten, LONG_S) == payload(ten)
        assert line.counts == [10, 4, 10]


async def test_device_that_refuses_half_of_a_range_is_believed_when_no_second_answer_follows() -> None:
    ten = Request(Table.INPUT, 30, 10, ())

    def whole(request: bytes) -> list[Reply]:
        return [(0, right(request) if request[5] == 10 else framed(request[0], b"\x84\x03"))]

    async with lined(once(silent, whole)) as (link, line):
        with pytest.raises(NoAnswer):
            await link.read(1, ten, SHORT_S)
        assert await link.read(1, ten, SHORT_S) == payload(ten)
        assert await link.read(1, ten, SHORT_S) == payload(ten)
        assert line.counts == [10, 4, 10, 10]


async def test_late_refusal_is_not_taken_for_that_of_the_next_request() -> None:
    """Somebody may remember a refused range: the right one must be it."""
    late = once(lambda request: [(SHORT_S * 2.5, framed(request[0], b"\x83\x02"))])
    async with lined(late) as (link, _):
        with pytest.raises(NoAnswer):
            await link.read(1, TWO, SHORT_S)
        for _ in range(3):
            with contextlib.suppress(NoAnswer, BadFrame):
                assert await link.read(1, Request(Table.HOLDING, 50, 3, ()), SHORT_S)


async def test_dead_device_costs_one_request_a_try_and_others_are_asked_nothing_more() -> None:
    async with lined(lambda request: [] if request[0] == 9 else honest(request)) as (link, line):
        for _ in range(3):
            with pytest.raises(NoAnswer):
                await link.read(9, TWO, SHORT_S)
            assert await link.read(1, LATER, LONG_S) == payload(LATER)
        assert line.asked_for == [(9, 3), (1, 3)] * 3


async def test_late_answer_of_one_device_is_not_taken_for_another() -> None:
    async with lined(once(lambda request: [(SHORT_S * 2.2, right(request))])) as (link, _):
        with pytest.raises(NoAnswer):
            await link.read(1, TWO, SHORT_S)
        for _ in range(4):
            assert await link.read(2, LATER, LONG_S) == payload(LATER)


async def test_nothing_is_sent_for_a_deadline_after_no_answer() -> None:
    async with lined(once(silent)) as (link, line):
        with pytest.raises(NoAnswer):
            await link.read(1, TWO, SHORT_S)
        gave_up = time.monotonic()
        await link.read(2, TWO, LONG_S)
        assert time.monotonic() - gave_up >= SHORT_S * 0.95
        assert line.asked_for == [(1, 3), (2, 3)]


@pytest.mark.parametrize(("late", "counts"), [(0.5, [1, 2, 2]), (9.0, [1, 2, 1, 2])])
async def test_cancelled_request_owes_its_answer_until_that_has_come(late: float, counts: list[int]) -> None:
    async with lined(once(lambda request: [(SHORT_S * late, right(request))])) as (link, line):
        await made_known(link)
        line.asked.clear()
        async with asyncio.TaskGroup() as group:
            task = group.create_task(link.read(1, TWO, SHORT_S), name="read")
            await line.asked.wait()
            task.cancel()
        assert task.cancelled()
        assert await link.read(1, LATER, LONG_S) == payload(LATER)
        assert line.counts == counts


def behind() -> Script:
    """Answer each request with the answer to the request before, the first not at all."""
    before: list[bytes] = []

    def answer(request: bytes) -> list[Reply]:
        before.append(request)
        return [(0, right(before[-2]))] if len(before) > 1 else []

    return answer


TEN = Request(Table.HOLDING, 30, 10, ())
OTHER_TEN = Request(Table.HOLDING, 60, 10, ())
BITS = Request(Table.COIL, 0, 16, ())
OTHER_BITS = Request(Table.COIL, 1, 16, ())


@pytest.mark.parametrize(
    "asked",
    [(TWO, TWO, LATER), (ONE, TWO, LATER), (TEN, TEN, OTHER_TEN, ONE, ONE), (BITS, OTHER_BITS)],
    ids=["one pair", "two lengths", "ten", "bits"],
)
async def test_device_that_is_always_one_request_behind_is_never_believed(asked: tuple[Request, ...]) -> None:
    async with lined(behind()) as (link, line):
        for request in itertools.islice(itertools.cycle(asked), 20):
            with pytest.raises((NoAnswer, BadFrame)):
                await link.read(1, request, SHORT_S)
        line.script = honest
        for request in asked:
            with contextlib.suppress(NoAnswer, BadFrame):
                await link.read(1, request, SHORT_S)
        for request in asked:
            assert len(await link.read(1, request, SHORT_S)) == request.size


async def test_device_that_falls_behind_without_a_sign_is_doubted_by_another_length() -> None:
    async with lined() as (link, line):
        for request in (TWO, LATER, ONE):
            assert await link.read(1, request, SHORT_S) == payload(request)
        line.script = behind()
        line.script(line.requests[-1])
        for request in itertools.islice(itertools.cycle((TWO, LATER, ONE)), 9):
            with pytest.raises(BadFrame):
                await link.read(1, request, SHORT_S)


def lagging(by: int, plan: tuple[Request, ...], other: str, busy: range = range(0)) -> Script:
    """Answer each request with the answer to the one ``by`` before; ``other``: what is not in the plan."""
    counts = {(request.address, request.count) for request in plan}
    queue: list[bytes] = []
    number = itertools.count()

    def answer(request: bytes) -> list[Reply]:
        found = right(request)
        if struct.unpack_from(">HH", request, 2) not in counts and other != "answered":
            found = framed(request[0], bytes((request[1] | 0x80, 2))) if other == "refused" else b""
        if not found:
            return []
        queue.append(found)
        if next(number) in busy:
            return [(0, framed(request[0], bytes((request[1] | 0x80, 6))))]
        return [(0, queue.pop(0))] if len(queue) > by else []

    return answer


FURTHER = Request(Table.HOLDING, 90, 1, ())
SINGLES = (ONE, Request(Table.HOLDING, 80, 1, ()), FURTHER)
PAIRS = (
    Request(Table.HOLDING, 10, 2, ()),
    Request(Table.HOLDING, 20, 2, ()),
    Request(Table.HOLDING, 30, 2, ()),
)
OCTETS = (Request(Table.COIL, 0, 8, ()), Request(Table.COIL, 65, 8, ()))


@pytest.mark.parametrize("plan", [SINGLES, PAIRS, OCTETS, (ONE,)], ids=["singles", "pairs", "octets", "one"])
@pytest.mark.parametrize(
    ("by", "other"),
    [(1, "answered"), (1, "refused"), (2, "answered"), (2, "refused"), (3, "answered"), (3, "refused")],
)
async def test_device_that_is_behind_is_never_believed_however_far(
    plan: tuple[Request, ...], by: int, other: str
) -> None:
    async with lined(lagging(by, plan, other)) as (link, _):
        await nothing_wrong(link, plan, 24)


@pytest.mark.parametrize("other", ["answered", "refused"])
async def test_device_that_is_behind_and_busy_for_a_while_is_not_believed_after_it(other: str) -> None:
    async with lined(lagging(1, PAIRS, other, range(6, 16))) as (link, _):
        await nothing_wrong(link, PAIRS, 40)


async def nothing_wrong(link: RtuLink, plan: tuple[Request, ...], times: int) -> None:
    for request in itertools.islice(itertools.cycle(plan), times):
        with contextlib.suppress(NoAnswer, BadFrame, Refused):
            found = await link.read(1, request, SHORT_S)
            raise AssertionError(f"believed {found.hex()} for {request}")


@pytest.mark.parametrize("other", ["answered", "refused", "silent"])
@pytest.mark.parametrize("plan", [SINGLES, PAIRS, OCTETS], ids=["singles", "pairs", "octets"])
async def test_honest_device_is_believed_again_after_it_was_silent(
    plan: tuple[Request, ...], other: str
) -> None:
    async with lined(silent) as (link, line):
        for request in (*plan, *plan):
            with pytest.raises(NoAnswer):
                await link.read(1, request, SHORT_S)
        line.script = lagging(0, plan, other)
        for request in itertools.islice(itertools.cycle(plan), 24 if other == "silent" else 3):
            with contextlib.suppress(NoAnswer, BadFrame):
                await link.read(1, request, SHORT_S)
        for request in (*plan, *plan):
            asked = read_pdu(request.table.read_function, request.address, request.count)
            assert await link.read(1, request, SHORT_S) == right(framed(1, asked))[3:-2]


async def test_answer_that_a_gateway_did_not_wait_for_is_not_taken_for_the_next() -> None:
    def gateway(request: bytes) -> list[Reply]:
        gave_up = framed(request[0], bytes((request[1] | 0x80, 11)))
        return [(SHORT_S / 2, gave_up), (SHORT_S * 0.7, right(request))]

    async with lined(once(gateway)) as (link, _):
        await made_known(link)
        with pytest.raises(Refused):
            await link.read(1, TWO, SHORT_S)
        for request in itertools.islice(itertools.cycle((LATER, TWO)), 8):
            with contextlib.suppress(NoAnswer, BadFrame):
                assert await link.read(1, request, SHORT_S) == payload(request)


async def test_dead_device_behind_a_gateway_costs_one_request_a_try() -> None:
    async with lined(lambda request: [(0, framed(request[0], bytes((request[1] | 0x80, 11))))]) as (
        link,
        line,
    ):
        for _ in range(6):
            with pytest.raises(Refused):
                await link.read(1, TWO, SHORT_S)
        assert len(line.requests) == 6
