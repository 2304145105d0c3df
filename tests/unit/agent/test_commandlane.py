"""Commands on a polled line: before polls, between retries, in order, bounded, and each has an end."""

import asyncio

import pytest

from agent.commandlane import CommandLane
from core.errors import LinkDown, NoAnswer
from drivers.modbus.link import ControlLink
from drivers.modbus.plan import Request
from tests.support.linebench import Bench, bench, for_seconds, groups_of, prompt, silent
from tests.support.virtual_time import VirtualClock, VirtualTimeLoop, run_virtually


def write(unit_id: int = 9) -> "Write":
    return Write(unit_id)


class Write:
    """An act that sets one coil."""

    def __init__(self, unit_id: int) -> None:
        self.unit_id = unit_id

    async def __call__(self, link: ControlLink) -> int:
        await link.write_coil(self.unit_id, 0, True)
        return self.unit_id


async def at(loop: VirtualTimeLoop, second: float, b: Bench, unit_id: int = 9) -> int:
    await asyncio.sleep(second - loop.now)
    return await b.worker.commands.take(write(unit_id))


def test_command_does_not_wait_for_the_next_tick_and_connects_the_line() -> None:
    async def main(loop: VirtualTimeLoop, clock: VirtualClock) -> None:
        b = bench(clock, prompt)
        async with asyncio.TaskGroup() as group:
            sent = group.create_task(at(loop, 3.0, b), name="command")
            await for_seconds(b.worker, 5)
        assert sent.result() == 9
        assert b.link.written == [(3.0, 9)]

    run_virtually(main)


def test_command_goes_before_the_next_request_of_a_poll_and_before_a_retry() -> None:
    async def main(loop: VirtualTimeLoop, clock: VirtualClock) -> None:
        async def slow(unit_id: int, request: Request) -> bytes:
            await asyncio.sleep(1.0)
            if unit_id == 2:
                raise NoAnswer("silent")
            return bytes(request.size)

        b = bench(clock, slow, retries=1)
        async with asyncio.TaskGroup() as group:
            group.create_task(at(loop, 10.5, b), name="between requests")
            requests = len(groups_of()[0].requests)
            group.create_task(at(loop, 10.5 + requests, b), name="between tries")
            await for_seconds(b.worker, 19)
        assert b.link.written == [(11.0, 9), (11.0 + requests, 9)]
        tries = [second for second, unit in b.link.asked if unit == 2]
        assert tries == [10.0 + requests, 11.0 + requests]

    run_virtually(main)


def test_command_waits_for_one_request_of_a_silent_device_and_not_for_its_retries() -> None:
    async def main(loop: VirtualTimeLoop, clock: VirtualClock) -> None:
        b = bench(clock, silent(1, 2), retries=3)
        async with asyncio.TaskGroup() as group:
            group.create_task(at(loop, 10.1, b), name="command")
            await for_seconds(b.worker, 19)
        [(written, _)] = b.link.written
        assert written - 10.1 <= 1.0

    run_virtually(main)


def test_commands_keep_their_order_and_one_given_up_before_its_turn_is_never_written() -> None:
    async def main(loop: VirtualTimeLoop, clock: VirtualClock) -> None:
        b = bench(clock, prompt)
        commands = b.worker.commands
        tasks = [asyncio.create_task(commands.take(write(unit)), name=f"{unit}") for unit in (5, 6, 7)]
        await asyncio.sleep(0)
        tasks[1].cancel()
        await for_seconds(b.worker, 1)
        assert [unit for _, unit in b.link.written] == [5, 7]

    run_virtually(main)


def test_failure_of_a_command_is_told_to_who_sent_it_and_polling_goes_on() -> None:
    async def main(loop: VirtualTimeLoop, clock: VirtualClock) -> None:
        async def silence(link: ControlLink) -> None:
            raise NoAnswer("nothing came")

        async def fault(link: ControlLink) -> None:
            raise ZeroDivisionError

        b = bench(clock, prompt)
        one = asyncio.create_task(b.worker.commands.take(silence), name="silence")
        two = asyncio.create_task(b.worker.commands.take(fault), name="fault")
        await for_seconds(b.worker, 15)
        with pytest.raises(NoAnswer):
            await one
        with pytest.raises(ZeroDivisionError):
            await two
        assert b.sink.ticks(1) == [10.0]

    run_virtually(main)


def test_command_on_a_line_that_is_down_fails_at_once() -> None:
    async def main(loop: VirtualTimeLoop, clock: VirtualClock) -> None:
        b = bench(clock, prompt)
        b.link.down = True
        task = asyncio.create_task(b.worker.commands.take(write()), name="command")
        await for_seconds(b.worker, 1)
        with pytest.raises(LinkDown, match="nobody there"):
            await task

    run_virtually(main)


def test_full_lane_refuses_at_once_and_counts() -> None:
    async def main(loop: VirtualTimeLoop, clock: VirtualClock) -> None:
        lane = CommandLane(room=2)
        tasks = [asyncio.create_task(lane.take(write()), name="waits") for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(LinkDown, match="2 commands wait"):
            await lane.take(write())
        assert lane.refused == 1
        lane.close()
        for task in tasks:
            with pytest.raises(LinkDown, match="not polled any more"):
                await task
        with pytest.raises(LinkDown, match="not polled any more"):
            await lane.take(write())

    run_virtually(main)


def test_command_in_the_middle_of_which_the_worker_ends_has_an_end_too() -> None:
    async def main(loop: VirtualTimeLoop, clock: VirtualClock) -> None:
        async def for_ever(link: ControlLink) -> None:
            await asyncio.sleep(1e6)

        b = bench(clock, prompt)
        under_way = asyncio.create_task(b.worker.commands.take(for_ever), name="under way")
        waits = asyncio.create_task(b.worker.commands.take(write()), name="waits")
        await for_seconds(b.worker, 5)
        with pytest.raises(LinkDown, match="in the middle"):
            await under_way
        with pytest.raises(LinkDown, match="not polled any more"):
            await waits
        assert b.link.written == []

    run_virtually(main)
