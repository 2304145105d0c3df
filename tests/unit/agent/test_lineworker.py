"""The worker of a line, in virtual time: its grid, its failures, its patience."""

import asyncio
import itertools
from collections.abc import Callable

import pytest

from agent.groupmemory import LeftOut
from agent.learned import shown
from agent.site import PollGroup
from core.errors import BadFrame, LinkDown, NoAnswer, Refused
from drivers.modbus.learned import Learned
from drivers.modbus.plan import Request
from tests.support.linebench import Answer, ScriptedLink, bench, for_seconds, groups_of, prompt, silent
from tests.support.virtual_time import NOON, VirtualClock, VirtualTimeLoop, run_virtually


def test_rows_lie_on_the_wall_clock_grid_with_the_offset_of_each_answer() -> None:
    async def main(loop: VirtualTimeLoop, clock: VirtualClock) -> None:
        clock.offset_ms += 3000  # begins at 12:00:03: the first tick is 12:00:10
        clock.now_ms()
        clock.steps = 0
        b = bench(clock, prompt)
        await for_seconds(b.worker, 30)
        assert b.sink.ticks(1) == [10.0, 20.0, 30.0]
        row = b.sink.rows[0]
        assert row.offsets == sorted(row.offsets)
        assert row.offsets[0] == 5
        assert len(row.values) == len(groups_of()[0].points)
        assert row.quality == {}

    run_virtually(main)


def test_every_point_has_a_sample_with_its_reason_when_a_device_is_silent() -> None:
    async def main(loop: VirtualTimeLoop, clock: VirtualClock) -> None:
        b = bench(clock, silent(1))
        await for_seconds(b.worker, 40)
        [row] = [row for row in b.sink.rows if row.group == 1]
        assert b.sink.ticks(1) == [10.0]
        assert b.sink.ticks(2) == [10.0, 20.0, 30.0]
        assert set(row.values) == {None}
        assert row.quality == {"*": ["timeout"]}
        assert ("device-silent", True, "relay-a") in b.alarms
        assert b.worker.counts.left_out == 2

    run_virtually(main)


def test_the_store_knows_at_every_tick_how_far_a_silence_reaches_that_has_no_row_yet() -> None:
    async def main(loop: VirtualTimeLoop, clock: VirtualClock) -> None:
        b = bench(clock, silent(1))
        await for_seconds(b.worker, 420)
        assert b.sink.ticks(1) == [10.0]
        assert b.sink.open == {1: LeftOut(NOON + 10_000, NOON + 410_000, "no-answer")}

    run_virtually(main)


def test_silence_is_one_record_over_its_span_told_every_quarter_of_an_hour() -> None:
    async def main(loop: VirtualTimeLoop, clock: VirtualClock) -> None:
        b = bench(clock, silent(1))
        await for_seconds(b.worker, 3600)
        assert b.sink.ticks(1) == [10.0, 910.0, 1810.0, 2710.0]
        reasons = [r for row, r in zip(b.sink.rows, b.sink.reasons, strict=True) if row.group == 1]
        assert reasons == ["overrun", "no-answer", "no-answer", "no-answer"]
        b.link.answer = prompt
        await for_seconds(b.worker, 400)
        back = next(
            reason
            for row, reason in zip(b.sink.rows, b.sink.reasons, strict=True)
            if row.group == 1 and row.quality == {}
        )
        assert back == "no-answer"

    run_virtually(main)


def test_a_silent_device_costs_the_others_its_retry_budget_once_and_then_one_probe_at_growing_pauses() -> (
    None
):
    async def main(loop: VirtualTimeLoop, clock: VirtualClock) -> None:
        b = bench(clock, silent(1), retries=2)
        await for_seconds(b.worker, 3600)
        first = next(row for row in b.sink.rows if row.group == 2)
        assert 3000 <= first.offsets[0] <= 3100  # three tries of one request, not of every request
        late = [row for row in b.sink.rows if row.group == 2 and row.tick > NOON + 600_000]
        assert sum(row.offsets[0] > 900 for row in late) <= len(late) // 10
        tries = [at for at, unit in b.link.asked if unit == 1]
        assert len(tries) < 30
        assert len(b.sink.ticks(2)) == 359

    run_virtually(main)


def test_a_device_that_answers_again_is_read_whole_and_the_alarm_ends() -> None:
    async def main(loop: VirtualTimeLoop, clock: VirtualClock) -> None:
        b = bench(clock, silent(1))
        await for_seconds(b.worker, 25)
        b.link.answer = prompt
        await for_seconds(b.worker, 120)
        assert b.alarms == [("device-silent", True, "relay-a"), ("device-silent", False, "relay-a")]
        last = [row for row in b.sink.rows if row.group == 1][-1]
        assert last.quality == {}

    run_virtually(main)


def test_a_refusal_is_an_answer_and_no_silence() -> None:
    async def refuse(unit_id: int, request: Request) -> bytes:
        raise Refused(2, "illegal data address")

    async def main(loop: VirtualTimeLoop, clock: VirtualClock) -> None:
        b = bench(clock, refuse)
        await for_seconds(b.worker, 15)
        assert b.sink.rows[0].quality == {"*": ["exception-2"]}
        assert b.alarms == []
        requests = len(groups_of()[0].requests)
        assert len(b.link.asked) == 2 * requests  # no refusal is asked again

    run_virtually(main)


def refusing(unit_id: int, codes: list[int]) -> Answer:
    """Answers of two devices of which one answers each request with the next of the exceptions."""
    turn = itertools.cycle(codes)

    async def answer(unit: int, request: Request) -> bytes:
        if unit == unit_id:
            raise Refused(next(turn), "no")
        return await prompt(unit, request)

    return answer


@pytest.mark.parametrize("codes", [[11], [10], [10, 11]])
def test_a_device_in_whose_place_a_gateway_answers_is_told_as_silent_until_it_answers_itself(
    codes: list[int],
) -> None:
    async def main(loop: VirtualTimeLoop, clock: VirtualClock) -> None:
        b = bench(clock, refusing(1, codes))
        await for_seconds(b.worker, 25)
        assert b.alarms == []  # twice may be a device that starts up
        await for_seconds(b.worker, 60)
        assert b.alarms == [("device-silent", True, "relay-a")]
        assert list(b.worker.counts.silent) == ["relay-a"]
        b.link.answer = prompt
        await for_seconds(b.worker, 20)
        assert b.alarms[1:] == [("device-silent", False, "relay-a")]
        assert not b.worker.counts.silent

    run_virtually(main)


def test_a_device_that_refuses_all_that_it_is_asked_is_told_once_and_its_end() -> None:
    async def main(loop: VirtualTimeLoop, clock: VirtualClock) -> None:
        b = bench(clock, refusing(1, [2]))
        await for_seconds(b.worker, 25)
        assert b.alarms == []
        await for_seconds(b.worker, 600)
        assert b.alarms == [("device-refuses", True, "relay-a")]
        assert not b.worker.counts.silent
        b.link.answer = prompt
        await for_seconds(b.worker, 4000)  # what was learned meanwhile is asked again at its time
        assert b.alarms[1:] == [("device-refuses", False, "relay-a")]

    run_virtually(main)


def test_a_device_that_was_silent_stays_so_while_a_gateway_answers_in_its_place() -> None:
    async def main(loop: VirtualTimeLoop, clock: VirtualClock) -> None:
        b = bench(clock, silent(1))
        await for_seconds(b.worker, 25)
        b.link.answer = refusing(1, [11])
        await for_seconds(b.worker, 300)
        assert b.alarms == [("device-silent", True, "relay-a")]

    run_virtually(main)


def test_a_line_that_is_down_gives_rows_without_values_and_is_dialled_at_growing_pauses() -> None:
    async def main(loop: VirtualTimeLoop, clock: VirtualClock) -> None:
        b = bench(clock, prompt)
        b.link.down = True
        await for_seconds(b.worker, 60)
        assert b.sink.ticks(1) == [10.0]
        assert all(row.quality == {"*": ["line-down"]} for row in b.sink.rows)
        b.link.down = False
        await for_seconds(b.worker, 120)
        assert b.sink.rows[-1].quality == {}
        assert b.alarms == [("line-down", True, "lan"), ("line-down", False, "lan")]

    run_virtually(main)


def test_a_device_slower_than_its_interval_skips_ticks_and_never_moves_a_value_to_another_tick() -> None:
    async def slow(unit_id: int, request: Request) -> bytes:
        await asyncio.sleep(7.0)
        return bytes(request.size)

    async def main(loop: VirtualTimeLoop, clock: VirtualClock) -> None:
        b = bench(clock, slow)
        await for_seconds(b.worker, 200)
        for group in (1, 2):
            ticks = b.sink.ticks(group)
            assert ticks == sorted(set(ticks))
            assert all(tick % 10 == 0 for tick in ticks)
        assert set(b.sink.reasons) == {"overrun"}
        assert b.worker.counts.overruns > 0
        # requests that would begin after the interval are left out, with the reason
        assert any("skipped" in reasons for row in b.sink.rows for reasons in row.quality.values())

    run_virtually(main)


def test_a_row_that_the_store_refuses_is_counted_and_polling_goes_on() -> None:
    async def main(loop: VirtualTimeLoop, clock: VirtualClock) -> None:
        b = bench(clock, prompt)
        b.sink.full = True
        await for_seconds(b.worker, 25)
        b.sink.full = False
        await for_seconds(b.worker, 10)
        assert b.worker.counts.refused_rows == 4
        assert b.sink.ticks(1) == [30]

    run_virtually(main)


def test_cancelling_the_worker_in_the_middle_of_a_request_closes_the_line() -> None:
    async def never(unit_id: int, request: Request) -> bytes:
        await asyncio.Event().wait()
        raise AssertionError

    async def main(loop: VirtualTimeLoop, clock: VirtualClock) -> None:
        b = bench(clock, never)
        await for_seconds(b.worker, 15)
        assert not b.link.connected
        assert b.sink.rows == []

    run_virtually(main)


def test_a_silent_range_is_found_and_costs_other_devices_no_more_than_its_retry_budget() -> None:
    async def main(loop: VirtualTimeLoop, clock: VirtualClock) -> None:
        [first, *_] = groups_of()[0].requests

        async def answer(unit_id: int, request: Request) -> bytes:
            if unit_id == 1 and request.table is first.table and request.address == first.address:
                await asyncio.sleep(1.0)
                raise NoAnswer("no answer to this range")
            return await prompt(unit_id, request)

        b = bench(clock, answer)
        await for_seconds(b.worker, 300)
        learning = b.worker.learning["relay-a"]
        assert shown(learning.learned).holes == (f"{first.table.value} {first.address} (timeout)",)
        # The first row had no answer yet from the device; from then on only what is silent is missing.
        rows = [row for row in b.sink.rows if row.group == 1]
        assert rows[-1].quality.keys() == {str(index) for index in first.points}
        assert sum(None not in row.values[len(first.points) :] for row in rows) >= len(rows) - 2
        assert b.sink.ticks(2) == [10.0 * number for number in range(1, 30)]
        late = [row.offsets[0] for row in b.sink.rows if row.group == 2]
        assert max(late) <= 2000 + 100
        assert sum(offset > 100 for offset in late[15:]) <= 3

    run_virtually(main)


def test_a_changed_plan_that_cannot_be_kept_yet_does_not_come_into_force() -> None:
    async def main(loop: VirtualTimeLoop, clock: VirtualClock) -> None:
        async def answer(unit_id: int, request: Request) -> bytes:
            if unit_id == 1 and request.count > 1:
                raise Refused(2, "too long")
            return await prompt(unit_id, request)

        b = bench(clock, answer)
        room = False
        kept: list[int] = []

        def adopt(device: str, learned: Learned, groups: tuple[PollGroup, ...]) -> bool:
            kept.append(len(groups[0].requests))
            return room

        b.worker._adopt_plan = adopt
        await for_seconds(b.worker, 200)
        planned = len(groups_of()[0].requests)
        assert kept
        assert all(len(row.offsets) == planned for row in b.sink.rows)
        room = True
        await for_seconds(b.worker, 30)
        assert len([row for row in b.sink.rows if row.group == 1][-1].offsets) == kept[-1] > planned

    run_virtually(main)


WAITS_S = 2.0
"""What a bad frame costs a serial line: the deadline, and the silence after it."""


def babbling(*units: int, reads: Callable[[Request], bool] = lambda request: True) -> Answer:
    async def answer(unit_id: int, request: Request) -> bytes:
        if unit_id in units and reads(request):
            await asyncio.sleep(WAITS_S)
            raise BadFrame(f"unit {unit_id} babbles")
        return await prompt(unit_id, request)

    return answer


@pytest.mark.parametrize("retries", [0, 1, 3])
def test_a_device_with_bad_frames_costs_the_others_two_tries_once_and_then_one_probe(retries: int) -> None:
    async def main(loop: VirtualTimeLoop, clock: VirtualClock) -> None:
        assert len(groups_of()[0].requests) > 2
        b = bench(clock, babbling(1), retries=retries)
        await for_seconds(b.worker, 15)
        [row, other] = b.sink.rows
        assert [at for at, unit in b.link.asked if unit == 1] == [10.0, 10.0 + WAITS_S]
        asked = {reason for reasons in row.quality.values() for reason in reasons}
        assert asked == {"bad-frame", "backoff"}  # what was not asked had no bad frame
        assert set(row.values) == {None}
        assert other.quality == {}
        assert 2000 * WAITS_S <= other.offsets[0] <= 2000 * WAITS_S + 100
        assert b.alarms == [("device-silent", True, "relay-a")]

        await for_seconds(b.worker, 3600 - 15)
        polls: dict[int, int] = {}
        for at, unit in b.link.asked[2:]:
            polls[int(at // 10)] = polls.get(int(at // 10), 0) + (unit == 1)
        assert max(polls.values()) == 1
        spent_s = sum(polls.values()) * WAITS_S
        assert spent_s < 3600 * 0.02
        assert len(b.sink.ticks(2)) == 359

    run_virtually(main)


def test_reads_that_get_bad_frames_are_asked_last_and_in_turn_so_that_none_costs_the_rest() -> None:
    async def main(loop: VirtualTimeLoop, clock: VirtualClock) -> None:
        requests = groups_of()[0].requests
        spoiled = requests[0]
        b = bench(clock, babbling(1, reads=lambda request: request == spoiled), retries=1)
        await for_seconds(b.worker, 100)
        # The first poll begins with it and ends with it; the probe after that with another one.
        assert b.alarms == [("device-silent", True, "relay-a"), ("device-silent", False, "relay-a")]
        rows = [row for row in b.sink.rows if row.group == 1 and row.tick >= NOON + 30_000]
        assert len(rows) == 7
        bad = {str(index) for index in spoiled.points}
        assert all(row.quality.keys() == bad for row in rows)
        assert {tuple(row.quality[key]) for row in rows for key in bad} == {("bad-frame",)}

        # All but one: the poll ends with the second, and each has its turn.
        good = requests[-1]
        b = bench(clock, babbling(1, reads=lambda request: request != good), retries=0)
        await for_seconds(b.worker, 100)
        tried = [request for unit, request in b.link.reads if unit == 1 and request != good]
        assert set(tried) == set(requests) - {good}

    run_virtually(main)


def test_a_device_that_has_not_dialled_in_is_stored_as_such_at_once_and_read_as_soon_as_it_is_back() -> None:
    async def away(unit_id: int, request: Request) -> bytes:
        raise LinkDown(f"unit {unit_id} has not dialled in")

    async def main(loop: VirtualTimeLoop, clock: VirtualClock) -> None:
        b = bench(clock, away, retries=3)
        b.link.connected = True
        await for_seconds(b.worker, 3605)
        assert b.sink.ticks(1)[0] == 10.0
        for row in b.sink.rows:
            assert row.quality == {"*": ["line-down"]}
        assert {at % 10 for at, _ in b.link.asked} == {0.0}  # nobody waited for anybody
        assert len(b.link.asked) == 2 * 360  # one question a tick each: none is left alone for it
        assert b.alarms == [("device-silent", True, "relay-a"), ("device-silent", True, "relay-b")]
        b.link.answer = prompt
        await for_seconds(b.worker, 10)
        assert [row.quality for row in b.sink.rows[-2:]] == [{}, {}]
        assert b.alarms[2:] == [("device-silent", False, "relay-a"), ("device-silent", False, "relay-b")]

    run_virtually(main)


class Doubled(ScriptedLink):
    """A serial line on which a second device answers as unit 1."""

    def surplus(self, unit_id: int) -> int:
        return sum(unit == 1 for _, unit in self.asked) if unit_id == 1 else 0


def test_two_devices_with_one_unit_id_are_told_once_with_the_frames_that_nobody_asked_for() -> None:
    async def main(loop: VirtualTimeLoop, clock: VirtualClock) -> None:
        b = bench(clock, prompt)
        b.worker._link = Doubled(prompt)
        await for_seconds(b.worker, 200)
        assert b.alarms == [("answered-twice", True, "relay-a")]
        assert b.worker.twice.frames.keys() == {1}

    run_virtually(main)
