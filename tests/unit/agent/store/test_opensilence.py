"""A silence, or a value that stands still, that has no row yet when a life ends: the next one tells why."""

import json
from pathlib import Path

import pytest

from agent.groupmemory import LeftOut
from agent.store.heartbeat import read_beat
from tests.support.gateway_double import T0
from tests.unit.agent.store.store_made import (
    EVERY_MS,
    Contents,
    add,
    beaten,
    birth,
    committed,
    contents,
    files_of,
    opened,
    put_back,
)


def at(number: int) -> int:
    """The instant of a tick."""
    return T0 + number * EVERY_MS


def told(found: Contents) -> list[tuple[object, object, object, object]]:
    return [(gap["first_tick"], gap["last_tick"], gap["ticks"], gap["reason"]) for gap in found.gaps(1)]


@pytest.mark.parametrize("why", ["no-answer", "unchanged"])
@pytest.mark.parametrize(("killed", "reason"), [(False, "stopped"), (True, "crashed")])
async def test_ticks_left_out_up_to_the_end_of_a_life_lie_in_a_gap_of_their_own(
    tmp_path: Path, killed: bool, reason: str, why: str
) -> None:
    async with opened(tmp_path) as store:
        add(store, 1, at(0))
        await committed(store)
        store.left_out(1, LeftOut(at(0), at(420), why))
        await beaten(store)
        files = await files_of(store)
    if killed:
        put_back(files)
    async with opened(tmp_path, born=birth(now_ms=at(425))) as store:
        assert store.data.writer.ticks[1] == at(420)
        add(store, 1, at(426))
        await committed(store)
    found = contents(tmp_path)
    assert told(found) == [(at(1), at(420), 420, why), (at(421), at(425), 5, reason)]
    assert found.starts()[-1]["ticks"]["meter-1/1000/p0"] == at(0)


async def test_the_end_of_a_life_in_order_tells_of_what_was_left_out_after_the_last_heartbeat(
    tmp_path: Path,
) -> None:
    async with opened(tmp_path) as store:
        add(store, 1, at(0))
        await committed(store)
        await beaten(store)
        store.left_out(1, LeftOut(at(0), at(9), "no-answer"))
    async with opened(tmp_path, born=birth(now_ms=at(12))):
        pass
    assert told(contents(tmp_path)) == [(at(1), at(9), 9, "no-answer")]


async def test_a_third_life_tells_nothing_of_the_silence_again(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        add(store, 1, at(0))
        await committed(store)
        store.left_out(1, LeftOut(at(0), at(9), "no-answer"))
    for _ in range(2):
        async with opened(tmp_path, born=birth(now_ms=at(12))) as store:
            assert store.data.writer.ticks[1] == at(9)
    assert told(contents(tmp_path)) == [(at(1), at(9), 9, "no-answer")]


async def test_a_silence_that_a_row_ended_is_told_with_that_row_alone(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        add(store, 1, at(0))
        await committed(store)
        store.left_out(1, LeftOut(at(0), at(9), "no-answer"))
        await beaten(store)
        add(store, 1, at(10), "no-answer")
        await committed(store)
        await beaten(store)
        files = await files_of(store)
    put_back(files)
    async with opened(tmp_path, born=birth(now_ms=at(12))):
        pass
    assert told(contents(tmp_path)) == [(at(1), at(9), 9, "no-answer")]


async def test_a_row_that_a_crash_took_is_never_told_as_a_silence(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        add(store, 1, at(0))
        await committed(store)
        add(store, 1, at(3))
        store.left_out(1, LeftOut(at(3), at(9), "unchanged"))
        await beaten(store)
        files = await files_of(store)
    put_back(files)
    async with opened(tmp_path, born=birth(now_ms=at(12))) as store:
        add(store, 1, at(13))
        await committed(store)
    assert told(contents(tmp_path)) == [(at(1), at(12), 12, "crashed")]


def test_what_could_not_be_written_goes_before_what_was_left_out() -> None:
    note = {
        "left_out": {"no-answer": {"a": 50, "b": 70}, "none-of-ours": {"c": 9}},
        "unwritten": {"a": 60},
        "why": "disk-full",
    }
    assert read_beat(json.loads(json.dumps(note))).polled == {"a": (60, "disk-full"), "b": (70, "no-answer")}


@pytest.mark.parametrize("left_out", [3, ["no-answer"], {"no-answer": 7}, {"no-answer": {"a": "x"}}])
def test_a_damaged_note_of_what_was_left_out_says_nothing(left_out: object) -> None:
    assert read_beat({"left_out": left_out}).polled == {}
