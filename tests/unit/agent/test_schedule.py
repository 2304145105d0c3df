"""The poll grid and the schedule of a line, in virtual time."""

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from agent.schedule import LineSchedule, missed, next_tick, tick_at_or_before, ticks_between


@dataclass(frozen=True)
class Beat:
    every_ms: int
    phase_ms: int = 0
    name: str = ""


instants = st.integers(-(10**13), 10**13)
intervals = st.integers(1, 86_400_000)


@st.composite
def grids(draw: st.DrawFn) -> Beat:
    every = draw(intervals)
    return Beat(every, draw(st.integers(0, every - 1)))


@given(instants, grids())
def test_next_tick_is_on_the_grid_and_strictly_after_by_at_most_an_interval(at: int, grid: Beat) -> None:
    tick = next_tick(at, grid.every_ms, grid.phase_ms)
    assert (tick - grid.phase_ms) % grid.every_ms == 0
    assert at < tick <= at + grid.every_ms


@given(instants, grids())
def test_tick_at_or_before_is_the_latest_that_is_not_after(at: int, grid: Beat) -> None:
    tick = tick_at_or_before(at, grid.every_ms, grid.phase_ms)
    assert tick <= at < tick + grid.every_ms
    assert next_tick(tick - 1, grid.every_ms, grid.phase_ms) == tick
    assert next_tick(tick, grid.every_ms, grid.phase_ms) == tick + grid.every_ms


def test_a_tick_of_ten_seconds_is_at_a_full_ten_seconds_of_the_wall_clock() -> None:
    assert next_tick(1_763_805_603_217, 10_000) == 1_763_805_610_000


@given(instants, grids(), st.integers(1, 1000))
def test_missed_names_each_tick_strictly_between_two(at: int, grid: Beat, steps: int) -> None:
    last = tick_at_or_before(at, grid.every_ms, grid.phase_ms)
    found = missed(last, last + steps * grid.every_ms, grid.every_ms)
    if steps == 1:
        assert found is None
    else:
        first, end, many = found or (0, 0, 0)
        assert (first, end) == (last + grid.every_ms, last + (steps - 1) * grid.every_ms)
        assert many == steps - 1 == ticks_between(first, end, grid.every_ms)


@given(instants, intervals, st.integers(0, 10**9))
def test_nothing_is_missed_when_the_clock_went_back(last: int, every: int, back: int) -> None:
    assert missed(last, last - back, every) is None


def test_ticks_between_counts_none_where_the_last_is_before_the_first() -> None:
    assert ticks_between(20, 10, 10) == 0
    assert ticks_between(10, 10, 10) == 1
    assert ticks_between(10, 40, 10) == 4


@given(
    st.lists(grids(), min_size=1, max_size=6),
    st.integers(0, 10**12),
    st.lists(st.integers(0, 200_000_000), max_size=30),
)
def test_every_tick_is_polled_once_or_skipped_as_late(
    groups: list[Beat], start: int, waits: list[int]
) -> None:
    schedule = LineSchedule(groups, start)
    last = {group: tick_at_or_before(start, group.every_ms, group.phase_ms) for group in groups}
    now = start
    for wait in waits:
        now += wait
        due = schedule.due(now)
        polled = [group for _, group in due]
        assert len(polled) <= len(groups)
        for tick, group in due:
            assert (tick - group.phase_ms) % group.every_ms == 0
            assert tick <= now < tick + group.every_ms, "an old tick is never polled"
        for group in set(groups):
            latest = tick_at_or_before(now, group.every_ms, group.phase_ms)
            ticks = [tick for tick, one in due if one == group]
            # The same grid may be drawn twice: then each of the twins is due.
            twins = groups.count(group)
            assert ticks == ([latest] * twins if latest > last[group] else [])
            last[group] = latest
        upcoming = schedule.next_ms()
        assert upcoming is not None
        assert upcoming == min(next_tick(now, g.every_ms, g.phase_ms) for g in groups)


@given(st.lists(grids(), min_size=1, max_size=5), st.integers(0, 10**12), instants)
def test_after_a_step_in_either_direction_the_grid_continues_after_the_new_now(
    groups: list[Beat], start: int, stepped: int
) -> None:
    schedule = LineSchedule(groups, start)
    schedule.resync(stepped)
    assert schedule.due(stepped) == []
    assert schedule.next_ms() == min(next_tick(stepped, g.every_ms, g.phase_ms) for g in groups)
    longest = max(group.every_ms for group in groups)
    assert len(schedule.due(stepped + longest)) == len(groups), "each group is due within its interval"


def test_after_a_stall_only_the_latest_tick_is_polled() -> None:
    group = Beat(10_000)
    schedule = LineSchedule([group], 5_000)
    assert schedule.due(9_999) == []
    assert schedule.due(10_000) == [(10_000, group)]
    assert schedule.due(47_000) == [(40_000, group)]
    assert schedule.next_ms() == 50_000


def test_the_group_that_waits_longest_is_first() -> None:
    slow, quick = Beat(60_000, name="slow"), Beat(1_000, name="quick")
    schedule = LineSchedule([slow, quick], 58_500)
    assert [(tick, group.name) for tick, group in schedule.due(61_200)] == [
        (61_000, "quick"),  # waiting since 59,000
        (60_000, "slow"),
    ]


def test_groups_of_one_instant_keep_the_order_of_the_file() -> None:
    groups = [Beat(1_000, name=name) for name in "abc"]
    schedule = LineSchedule(groups, 0)
    assert [group.name for _, group in schedule.due(1_000)] == ["a", "b", "c"]
    assert [group.name for _, group in schedule.due(2_000)] == ["a", "b", "c"]


def test_a_line_without_groups_is_never_due() -> None:
    schedule: LineSchedule[Beat] = LineSchedule([], 0)
    assert schedule.next_ms() is None
    assert schedule.due(10**12) == []
