"""The bell that wakes the workers, in virtual time."""

import asyncio

from agent.bell import LOOK_S, Bell
from tests.support.virtual_time import NOON, VirtualClock, VirtualTimeLoop, run_virtually


def test_all_who_wait_for_one_tick_go_on_before_anything_else_happens() -> None:
    async def main(loop: VirtualTimeLoop, clock: VirtualClock) -> None:
        bell, order = Bell(clock), list[str]()

        async def poll(name: str) -> None:
            await bell.at(NOON + 1000, name)
            order.append(f"{name} asks")
            await asyncio.sleep(0)  # an answer that is there already
            order.append(f"{name} is answered")

        async with asyncio.TaskGroup() as group:
            for name in ("first", "second", "third"):
                group.create_task(poll(name))
                await asyncio.sleep(0.0004)  # they came to wait at different times
        assert order[:3] == ["first asks", "second asks", "third asks"]
        assert loop.now == 1.0

    run_virtually(main)


def test_each_tick_rings_at_its_own_instant_whoever_came_first() -> None:
    async def main(loop: VirtualTimeLoop, clock: VirtualClock) -> None:
        bell, rung = Bell(clock), dict[int, float]()

        async def poll(tick: int) -> None:
            await bell.at(NOON + tick, f"line {tick}")
            rung[tick] = loop.now

        async with asyncio.TaskGroup() as group:
            for tick in (3000, 700, 1500):
                group.create_task(poll(tick))
        assert rung == {700: 0.7, 1500: 1.5, 3000: 3.0}

    run_virtually(main)


def test_a_tick_that_is_over_rings_at_once() -> None:
    async def main(loop: VirtualTimeLoop, clock: VirtualClock) -> None:
        await Bell(clock).at(NOON - 5000, "late")
        assert loop.now < 0.01

    run_virtually(main)


def test_a_step_of_the_wall_clock_wakes_everybody_within_a_second() -> None:
    async def main(loop: VirtualTimeLoop, clock: VirtualClock) -> None:
        bell = Bell(clock)

        async def poll(tick: int) -> float:
            await bell.at(tick, f"line {tick}")
            return loop.now

        async with asyncio.TaskGroup() as group:
            waits = [group.create_task(poll(NOON + ms)) for ms in (60_000, 3_600_000)]
            await asyncio.sleep(0.5)
            clock.offset_ms -= 600_000
        assert all(wait.result() <= 0.5 + LOOK_S for wait in waits)
        assert clock.steps == 1

    run_virtually(main)


def test_who_was_cancelled_keeps_nobody_else_from_waking() -> None:
    async def main(loop: VirtualTimeLoop, clock: VirtualClock) -> None:
        bell = Bell(clock)
        first, second = bell.at(NOON + 1000, "first"), bell.at(NOON + 1000, "second")
        first.cancel()
        await second
        assert first.cancelled()
        assert loop.now == 1.0

    run_virtually(main)


def test_who_comes_back_to_wait_is_remembered_once() -> None:
    async def main(loop: VirtualTimeLoop, clock: VirtualClock) -> None:
        bell = Bell(clock)
        waits = [bell.at(NOON + 1000, "line") for _ in range(1000)]
        await waits[-1]
        assert not any(wait.done() for wait in waits[:-1])

    run_virtually(main)
