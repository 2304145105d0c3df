"""What is written of a poll and what is left out on purpose: exception reports, silence, clocks."""

from decimal import Decimal

from agent.groupmemory import ByException, GroupMemory
from agent.lived import Lived
from core.manifest import Value
from drivers.points import PointType

T0 = 1_795_348_800_000
EVERY = 10_000


def point(name: str, address: int, **keys: object) -> PointType:
    return PointType.model_validate(
        {"name": name, "quantity": name, "unit": "V", "table": "input", "address": address}
        | {"type": "uint16", "scale": "0.1"}
        | keys,
        strict=False,
    )


POINTS = (point("PhVphA", 0), point("Hz", 1))


def memory(heartbeat_ms: int = 60_000, bands: tuple[str, str] = ("0.5", "0"), **first: object) -> GroupMemory:
    report = ByException(heartbeat_ms, tuple(map(Decimal, bands)))
    return GroupMemory(POINTS, (-1, -1), EVERY, Lived(), 0, report)


def play(
    memory: GroupMemory, polls: list[tuple[list[Value], dict[str, list[str]]]], missing: tuple[int, ...] = ()
) -> list[tuple[int, str]]:
    """Return (number of poll, reason for what is missing before) of each row written."""
    rows = []
    for index, (values, quality) in enumerate(polls):
        if index in missing:
            continue
        judged = memory.judge(T0 + index * EVERY, 0, values, dict(quality), unsure=False)
        if judged.write:
            memory.written(T0 + index * EVERY, 0, values, judged.silent)
            rows.append((index, judged.reason))
        else:
            memory.left_out(T0 + index * EVERY, judged.silent)
    return rows


def good(*volts: int) -> list[tuple[list[Value], dict[str, list[str]]]]:
    return [([v, 500], {}) for v in volts]


def test_only_changes_beyond_the_deadband_are_written_and_the_gap_says_unchanged() -> None:
    # steps of 0.1 V, deadband 0.5 V: 5 steps are within, 6 are not; compared with the last row written
    assert play(memory(), good(2300, 2305, 2295, 2306, 2310, 2300)) == [
        (0, "overrun"),
        (3, "unchanged"),
        (5, "unchanged"),
    ]


def test_a_heartbeat_is_written_although_nothing_changed() -> None:
    assert [index for index, _ in play(memory(), good(*[2300] * 14))] == [0, 6, 12]


def test_a_reading_that_becomes_doubtful_or_good_again_is_written() -> None:
    polls = good(2300, 2300, 2300, 2300)
    polls[1] = polls[2] = ([2300, 500], {"0": ["out-of-range"]})
    assert [index for index, _ in play(memory(), polls)] == [0, 1, 3]


def test_ticks_that_were_really_missed_are_never_called_unchanged() -> None:
    assert play(memory(), good(*[2300] * 4, 2400), missing=(2,)) == [(0, "overrun"), (4, "overrun")]


def test_a_value_that_comes_or_goes_is_a_change() -> None:
    polls = good(2300, 2300, 2300)
    polls[1] = ([None, 500], {"0": ["not-available"]})
    assert [index for index, _ in play(memory(), polls)] == [0, 1, 2]


def test_the_end_of_silence_is_written_and_names_the_span() -> None:
    quiet: tuple[list[Value], dict[str, list[str]]] = ([None, None], {"*": ["timeout"]})
    back_off: tuple[list[Value], dict[str, list[str]]] = ([None, None], {"*": ["backoff"]})
    polls = [*good(2300), quiet, back_off, quiet, *good(2300)]
    whole = GroupMemory(POINTS, (-1, -1), EVERY, Lived(), 0)
    assert play(whole, polls) == [(0, "overrun"), (1, "overrun"), (4, "no-answer")]


def test_a_refusal_is_an_answer_and_written_at_each_tick() -> None:
    refused: tuple[list[Value], dict[str, list[str]]] = ([None, None], {"*": ["exception-2"]})
    whole = GroupMemory(POINTS, (-1, -1), EVERY, Lived(), 0)
    assert len(play(whole, [refused] * 3)) == 3


def test_an_unsure_clock_marks_the_row_and_is_no_reason_to_write_one() -> None:
    remembered = memory()
    first = remembered.judge(T0, 0, [2300, 500], {}, unsure=True)
    assert first.quality == {"*": ["clock-unsure"]}
    remembered.written(T0, 0, [2300, 500], silent=False)
    assert not remembered.judge(T0 + EVERY, 0, [2300, 500], {}, unsure=True).write


def test_a_step_of_the_clock_is_always_written() -> None:
    remembered = memory()
    remembered.judge(T0, 0, [2300, 500], {}, unsure=False)
    remembered.written(T0, 0, [2300, 500], silent=False)
    stepped = remembered.judge(T0 + EVERY, 1, [2300, 500], {}, unsure=False)
    assert stepped.write
    assert stepped.reason == "clock-step"


def freezing(sequence: list[int]) -> list[tuple[int, list[int | None]]]:
    """Return (poll, polls since which a freeze is judged) of each row that says so; polls are 10 s apart."""
    points = (point("PhVphA", 0, sense={"frozen": "30s"}),)
    whole = GroupMemory(points, (-1,), EVERY, Lived(), 0, ByException(600_000, (Decimal("0.5"),)))
    told = []
    for index, volts in enumerate(sequence):
        tick = T0 + index * EVERY
        judged = whole.judge(tick, 0, [volts], {}, unsure=False)
        if judged.write:
            judged.row.seq = index
            whole.written(tick, 0, [volts], judged.silent)
        else:
            whole.left_out(tick, judged.silent)
        if judged.later:
            told.append((index, [one.since.seq for one in judged.later]))
    return told


def test_a_freeze_is_judged_since_its_first_row_also_where_rows_are_left_out() -> None:
    assert freezing([2300] * 8) == [(5, [0])]


def test_a_freeze_that_began_in_a_row_that_was_left_out_is_judged_since_the_row_that_tells_it() -> None:
    assert freezing([2300, *[2301] * 7]) == [(6, [6])]


def test_a_judgement_whose_row_was_refused_is_told_with_the_next_row() -> None:
    points = (point("PhVphA", 0, sense={"frozen": "30s"}),)
    whole = GroupMemory(points, (-1,), EVERY, Lived(), 0)
    found = []
    for index in range(8):
        judged = whole.judge(T0 + index * EVERY, 0, [2300], {}, unsure=False)
        judged.row.seq = index
        if index in (0, 5):
            whole.refused(judged)
        else:
            whole.written(T0 + index * EVERY, 0, [2300], judged.silent)
            found += [(index, one.since.seq) for one in judged.later]
    assert found == [(6, 1)]
