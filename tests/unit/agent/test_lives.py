"""Several lives of an agent with a clock that is set: worker and store, in virtual time.

Whatever the clock does, within a life or between two, and however a life ends, no tick is there twice
without a mark, and no tick that was polled once is marked for ever because the clock was ahead once.
"""

import asyncio
import json
import sqlite3
import tempfile
from collections import Counter
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from agent.lineworker import LineWorker
from agent.store.store import Store
from core.codec import row_bytes
from tests.support.linebench import ScriptedLink, for_seconds, prompt, site_of
from tests.support.virtual_time import NOON, VirtualClock, VirtualTimeLoop, run_virtually
from tests.unit.agent.store.store_made import birth, committed, files_of, opened, put_back

HOUR_S = 3600
YEAR_S = 365 * 24 * HOUR_S


@dataclass
class Life:
    """How long an agent runs, and what happens to its clock."""

    seconds: float
    steps: dict[float, int] = field(default_factory=dict)
    """By how many seconds the clock is stepped, by seconds since the begin of the life."""
    before: int = 0
    """By how many seconds it was set while nothing ran before this life."""
    away: float = 5
    """Seconds between the end of the life before and this one."""
    killed: bool = True


def poll(store: Store, life: Life, began_ms: int) -> None:
    """Poll for a life's time, with a clock that goes as it says."""

    async def main(loop: VirtualTimeLoop, clock: VirtualClock) -> None:
        clock.offset_ms = began_ms
        clock.now_ms()
        clock.steps = 0
        for at, by_s in life.steps.items():
            loop.call_at(at, lambda by_s=by_s: setattr(clock, "offset_ms", clock.offset_ms + by_s * 1000))
        link, groups = ScriptedLink(prompt), site_of().groups
        worker = LineWorker("lan", link, groups, 0, clock, store, store.lived, lambda *alarm: None)
        await for_seconds(worker, life.seconds)

    run_virtually(main)


async def live(directory: Path, life: Life, began_ms: int) -> None:
    async with opened(directory, site_of().manifest, born=birth(now_ms=began_ms)) as store:
        await asyncio.to_thread(poll, store, life, began_ms)
        await committed(store)
        files = await files_of(store)
    if life.killed:
        put_back(files)


def lived(directory: Path, *lives: Life) -> list[tuple[int, str]]:
    """Live; return (seconds after noon by the gateway's clock, marks) of each row of the first group."""
    ahead_s, now_s = 0, 0.0
    for life in lives:
        now_s += life.away
        ahead_s += life.before
        asyncio.run(live(directory, life, NOON + round((now_s + ahead_s) * 1000)))
        now_s += life.seconds
        ahead_s += sum(life.steps.values())
    with closing(sqlite3.connect(directory / "readings.db")) as db:
        bodies = db.execute("SELECT body FROM record WHERE grp = 1 ORDER BY id").fetchall()
    rows = [json.loads(row_bytes(1, body)) for (body,) in bodies]
    return [((row[2] - NOON) // 1000, " ".join([*row[5:], {}][0].get("*", []))) for row in rows]


def doubles(rows: list[tuple[int, str]]) -> list[int]:
    """Ticks that are there more than once without a mark."""
    plain = Counter(tick for tick, marks in rows if marks != "clock-back")
    return [tick for tick, many in plain.items() if many > 1]


def test_ticks_that_a_clock_set_back_brings_again_after_a_restart_are_marked(tmp_path: Path) -> None:
    rows = lived(tmp_path, Life(HOUR_S + 60, {HOUR_S: -HOUR_S}), Life(HOUR_S + 100))
    assert doubles(rows) == []
    again = [tick for tick, marks in rows if marks == "clock-back"]
    assert again == [tick for tick in range(10, HOUR_S + 10, 10) if tick != 70]  # then nothing ran
    assert rows[-1] == (HOUR_S + 160, "")


def test_a_clock_that_went_back_while_nothing_ran_brings_no_tick_twice_unmarked(tmp_path: Path) -> None:
    rows = lived(tmp_path, Life(HOUR_S), Life(HOUR_S, before=-HOUR_S // 2), Life(120, before=-HOUR_S // 4))
    assert doubles(rows) == []
    assert rows[-1][1] == "clock-back"


def test_a_clock_that_was_a_year_ahead_over_a_restart_leaves_no_marks_on_the_time_after(
    tmp_path: Path,
) -> None:
    rows = lived(
        tmp_path,
        Life(100, {50: YEAR_S}),
        Life(100),  # still a year ahead
        Life(100, {50: -YEAR_S}),
        Life(100),
        Life(100),
    )
    assert doubles(rows) == []
    true = [(tick, marks) for tick, marks in rows if tick < YEAR_S // 2]
    assert [tick for tick, marks in true if tick > 300 and marks] == []
    assert len(true) > 25


def test_a_clock_that_was_a_year_ahead_and_is_right_after_a_restart_marks_nothing(tmp_path: Path) -> None:
    rows = lived(tmp_path, Life(60), Life(60, before=YEAR_S), Life(60, before=-YEAR_S), Life(60))
    assert [marks for _, marks in rows if marks] == []
    assert doubles(rows) == []


def test_a_clock_that_is_ahead_when_a_gateway_first_runs_marks_nothing_once_it_is_right(
    tmp_path: Path,
) -> None:
    rows = lived(tmp_path, Life(60, before=5 * HOUR_S), Life(60, before=-5 * HOUR_S))
    assert [marks for _, marks in rows if marks] == []


def test_many_restarts_do_not_fill_the_time_between_what_is_and_a_clock_that_was_ahead(
    tmp_path: Path,
) -> None:
    ahead = [Life(20, before=YEAR_S), Life(20, before=-YEAR_S)]
    rows = lived(tmp_path, Life(20), *ahead, *[Life(20, away=100) for _ in range(20)])
    assert [marks for _, marks in rows if marks] == []


steps = st.sampled_from(
    [{}, {}, {33.0: -30}, {61.0: -90}, {33.0: 25}, {12.5: 300, 61.0: -300}, {33.0: YEAR_S}, {33.0: -YEAR_S}]
)
lives = st.lists(
    st.builds(
        Life,
        seconds=st.sampled_from([40, 90, 90]),
        steps=steps,
        before=st.sampled_from([0, 0, -60, 40, YEAR_S, -YEAR_S]),
        away=st.sampled_from([0.5, 7]),
        killed=st.booleans(),
    ),
    min_size=2,
    max_size=5,
)


@settings(max_examples=40)
@given(lives)
def test_whatever_the_clock_does_over_any_lives_no_tick_is_there_twice_unmarked(played: list[Life]) -> None:
    with tempfile.TemporaryDirectory() as name:
        rows = lived(Path(name), Life(30, before=2 * YEAR_S), *played)
    assert doubles(rows) == []
    assert rows


def test_ticks_polled_before_the_readings_were_lost_are_marked_when_they_come_again(tmp_path: Path) -> None:
    before = lived(tmp_path, Life(HOUR_S + 60, {HOUR_S: -HOUR_S}, killed=False))
    for path in tmp_path.glob("readings.db*"):
        path.unlink()
    after = lived(tmp_path, Life(HOUR_S + 100, away=70))
    assert doubles(before + after) == []
    assert [marks for tick, marks in after if tick > HOUR_S + 60] == [""] * 10
