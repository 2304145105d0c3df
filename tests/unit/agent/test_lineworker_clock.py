"""The worker of a line when the wall clock is stepped, in virtual time."""

import asyncio

import pytest

from agent.lived import Lived
from drivers.modbus.plan import Request
from tests.support.linebench import bench, for_seconds, prompt
from tests.support.virtual_time import NOON, VirtualClock, VirtualTimeLoop, run_virtually


@pytest.mark.parametrize("step_s", [3600, 365 * 86400])
def test_a_clock_set_forward_goes_on_at_the_new_time_and_marks_the_first_row(step_s: int) -> None:
    async def main(loop: VirtualTimeLoop, clock: VirtualClock) -> None:
        b = bench(clock, prompt)
        steps: list[int] = []
        clock.on_step = steps.append
        loop.call_at(35.0, lambda: setattr(clock, "offset_ms", clock.offset_ms + step_s * 1000))
        await for_seconds(b.worker, 60)
        assert steps == [step_s * 1000]
        ticks = b.sink.ticks(1)
        assert ticks == [10, 20, 30, 40 + step_s, 50 + step_s]
        marked = [row for row in b.sink.rows if row.group == 1 and row.quality]
        assert [(row.tick - NOON) / 1000 for row in marked] == [40 + step_s]
        assert marked[0].quality == {"*": ["clock-forward"]}
        assert b.sink.reasons.count("clock-step") == 2  # one row of each group explains what is missing

    run_virtually(main)


def test_a_clock_set_back_polls_the_ticks_again_and_marks_them() -> None:
    async def main(loop: VirtualTimeLoop, clock: VirtualClock) -> None:
        b = bench(clock, prompt)
        loop.call_at(45.0, lambda: setattr(clock, "offset_ms", clock.offset_ms - 30_000))
        await for_seconds(b.worker, 100)
        assert b.sink.ticks(1) == [10, 20, 30, 40, 20, 30, 40, 50, 60]
        marks = [row.quality.get("*", []) for row in b.sink.rows if row.group == 1]
        assert marks == [[], [], [], [], ["clock-back"], ["clock-back"], ["clock-back"], [], []]

    run_virtually(main)


def test_a_clock_that_was_ahead_for_a_while_leaves_no_marks_on_time_that_was_not_lived() -> None:
    async def main(loop: VirtualTimeLoop, clock: VirtualClock) -> None:
        b = bench(clock, prompt)
        year_ms = 365 * 86_400_000
        loop.call_at(25.0, lambda: setattr(clock, "offset_ms", clock.offset_ms + year_ms))
        loop.call_at(45.0, lambda: setattr(clock, "offset_ms", clock.offset_ms - year_ms))
        await for_seconds(b.worker, 85)
        rows = [row for row in b.sink.rows if row.group == 1]
        assert [(row.tick - NOON) // 1000 % 31_536_000 for row in rows] == [10, 20, 30, 40, 50, 60, 70, 80]
        marks = [row.quality.get("*", []) for row in rows]
        assert marks == [[], [], ["clock-forward"], [], ["clock-back"], [], [], []]

    run_virtually(main)


def test_a_step_noticed_by_another_line_while_a_poll_is_under_way_comes_after_its_tick() -> None:
    async def slow(unit_id: int, request: Request) -> bytes:
        await asyncio.sleep(0.4)
        return bytes(request.size)

    async def main(loop: VirtualTimeLoop, clock: VirtualClock) -> None:
        b = bench(clock, slow)

        def step() -> None:
            clock.offset_ms += 3_600_000
            clock.now_ms()  # the other line looks

        loop.call_at(20.2, step)
        await for_seconds(b.worker, 35)
        marks = {(row.tick - NOON) // 1000: row.quality for row in b.sink.rows if row.group == 1}
        assert marks == {10: {}, 20: {}, 3630: {"*": ["clock-forward"]}}
        assert b.sink.reasons[-2:] == ["clock-step", "clock-step"]

    run_virtually(main)


def test_a_tick_before_the_last_of_an_earlier_life_is_marked_as_lived_twice() -> None:
    async def main(loop: VirtualTimeLoop, clock: VirtualClock) -> None:
        b = bench(clock, prompt, lived={1: Lived(((0, NOON + 20_000),), NOON + 20_000)})
        await for_seconds(b.worker, 35)
        marks = {(row.tick - NOON) // 1000: row.quality for row in b.sink.rows if row.group == 1}
        assert marks == {10: {"*": ["clock-back"]}, 20: {"*": ["clock-back"]}, 30: {}}

    run_virtually(main)
