"""The worker of a line, in virtual time: its grid, its failures, its patience."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import pytest

from agent.config import parse_config
from agent.learned import shown
from agent.lineworker import LineWorker
from agent.sense import Later, Ticket
from agent.site import PollGroup, build_site
from core.codec import row_bytes
from core.errors import LinkDown, NoAnswer, Refused
from core.records import Row
from drivers.modbus.learned import Learned
from drivers.modbus.plan import Request
from drivers.types import load_type
from tests.support.virtual_time import NOON, VirtualClock, VirtualTimeLoop, run_virtually

CONFIG = """
[gateway]
id = "gw-0001"
data_dir = "var"
[[line]]
name = "lan"
url = "modbus+tcp://127.0.0.1"
retries = {retries}
timeout = "1s"
[[device]]
name = "relay-a"
type = "generic-load-relay"
line = "lan"
unit_id = 1
every = "10s"
owner = "dso.example"
[[device]]
name = "relay-b"
type = "generic-load-relay"
line = "lan"
unit_id = 2
every = "10s"
owner = "dso.example"
"""


def groups_of(retries: int = 1) -> tuple[PollGroup, ...]:
    return build_site(
        parse_config(CONFIG.format(retries=retries), Path("/etc/gateway.toml")), load_type
    ).groups


@dataclass
class Sink:
    """Keeps rows as the store would, and can be full."""

    rows: list[Row] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)
    full: bool = False
    judgements: list[tuple[int, Later]] = field(default_factory=list)

    def append_judgement(self, grp: int, later: Later, at_ms: int) -> bool:
        self.judgements.append((grp, later))
        return True

    def append_row(
        self,
        grp: int,
        tick: int,
        points: int,
        body: bytes,
        sampled: float,
        reason: str,
        ticket: Ticket | None = None,
    ) -> bool:
        if self.full:
            return False
        self.rows.append(msgspec.json.decode(row_bytes(1, body), type=Row))
        self.reasons.append(reason)
        return True

    def ticks(self, group: int) -> list[float]:
        """Seconds after noon of the rows of a group."""
        return [(row.tick - NOON) / 1000 for row in self.rows if row.group == group]


Answer = Callable[[int, Request], Awaitable[bytes]]


class ScriptedLink:
    """A line whose devices answer as the test says, in virtual time."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.connected = False
        self.down = False
        self.asked: list[tuple[float, int]] = []

    async def connect(self) -> None:
        if self.down:
            raise LinkDown("nobody there")
        self.connected = True

    async def close(self) -> None:
        self.connected = False

    async def read(
        self, unit_id: int, request: Request, timeout_s: float = 1.0, pause_s: float = 0.0
    ) -> bytes:
        self.asked.append((asyncio.get_running_loop().time(), unit_id))
        return await self.answer(unit_id, request)


async def prompt(unit_id: int, request: Request) -> bytes:
    await asyncio.sleep(0.005)
    return bytes(request.size)


def silent(*units: int) -> Answer:
    async def answer(unit_id: int, request: Request) -> bytes:
        if unit_id in units:
            await asyncio.sleep(1.0)
            raise NoAnswer(f"unit {unit_id} is silent")
        return await prompt(unit_id, request)

    return answer


@dataclass
class Bench:
    """A worker with everything around it."""

    clock: VirtualClock
    link: ScriptedLink
    sink: Sink
    worker: LineWorker
    alarms: list[tuple[str, bool, str]]


def bench(
    clock: VirtualClock, answer: Answer, retries: int = 1, ticks: dict[int, int] | None = None
) -> Bench:
    link, sink = ScriptedLink(answer), Sink()
    alarms: list[tuple[str, bool, str]] = []
    worker = LineWorker(
        "lan",
        link,
        groups_of(retries),
        retries,
        clock,
        sink,
        ticks or {},
        lambda code, raised, text, device: alarms.append((code, raised, device)),
    )
    return Bench(clock, link, sink, worker, alarms)


async def for_seconds(worker: LineWorker, seconds: float) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(seconds):
            await worker.run()


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
        b = bench(clock, prompt, ticks={1: NOON + 20_000})
        await for_seconds(b.worker, 35)
        marks = {(row.tick - NOON) // 1000: row.quality for row in b.sink.rows if row.group == 1}
        assert marks == {10: {"*": ["clock-back"]}, 20: {"*": ["clock-back"]}, 30: {}}

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
