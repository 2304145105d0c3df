"""Register sense: counters, jumps, frozen registers, and what each is called."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.sense import GroupSense, PointSense, Recalled, Ticket
from core.quality import is_reason
from drivers.points import PointType, SenseSpec

T0 = 1_795_348_800_000


def spec(**keys: object) -> SenseSpec:
    return SenseSpec.model_validate(keys, strict=False)


def run(sense: PointSense, *values: int, every_s: int = 10) -> list[str | None]:
    return [sense.judge(T0 + index * every_s * 1000, value) for index, value in enumerate(values)]


def test_a_growing_counter_is_good() -> None:
    assert run(PointSense(spec(), 0, True), 100, 100, 101, 250) == [None] * 4


def test_a_counter_that_reaches_its_modulus_rolls_over() -> None:
    sense = PointSense(spec(modulus=10000), 0, True)
    assert run(sense, 9990, 9998, 4, 12) == [None, None, "rollover", None]


def test_a_rollover_must_fit_the_greatest_rate() -> None:
    sense = PointSense(spec(modulus=10000, max_rate="1"), 0, True)
    assert run(sense, 9990, 4) == [None, "reset"]  # 14 in 10 s is too much; 4 from zero is possible
    sense = PointSense(spec(modulus=10000, max_rate="2"), 0, True)
    assert run(sense, 9990, 4) == [None, "rollover"]


def test_a_counter_that_begins_again_near_zero_was_reset() -> None:
    assert run(PointSense(spec(), 0, True), 73333, 73340, 2, 9) == [None, None, "reset", None]


def test_one_value_that_went_back_is_doubtful_and_the_next_good_one_is_not() -> None:
    assert run(PointSense(spec(), 0, True), 1000, 1001, 700, 1002) == [None, None, "decreased", None]


def test_a_counter_that_stays_lower_is_a_replaced_one_after_three_values() -> None:
    reasons = run(PointSense(spec(), 0, True), 1000, 700, 701, 702, 703)
    assert reasons == [None, "decreased", "decreased", "reset", None]


def test_a_jump_faster_than_the_rate_is_kept_with_its_reason() -> None:
    sense = PointSense(spec(max_rate="5"), -1, False)
    # steps of 0.1: 5 a second are 500 steps in 10 s
    assert run(sense, 2300, 2799, 2801, 9000, 2310) == [None, None, None, "rate", None]


def test_a_new_level_is_accepted_after_three_values_that_agree() -> None:
    sense = PointSense(spec(max_rate="1"), 0, False)
    assert run(sense, 0, 500, 501, 502, 503) == [None, "rate", "rate", "rate", None]


def test_a_longer_lapse_allows_a_larger_change() -> None:
    sense = PointSense(spec(max_rate="1"), 0, False)
    assert run(sense, 0, 3000, every_s=3600) == [None, None]


def test_a_substituted_value_is_named_and_no_ground_for_comparison() -> None:
    sense = PointSense(spec(max_rate="1", substituted=["0"]), 0, False)
    assert run(sense, 230, 0, 231) == [None, "substituted", None]


def test_a_tick_lived_twice_is_not_compared_with_the_future() -> None:
    sense = PointSense(spec(max_rate="1"), 0, True)
    assert sense.judge(T0 + 50_000, 900) is None
    assert sense.judge(T0, 100) is None
    assert sense.judge(T0 + 10_000, 105) is None


def test_values_that_are_no_steps_are_not_judged() -> None:
    sense = PointSense(spec(max_rate="1"), 0, False)
    assert [sense.judge(T0, value) for value in (None, "12", 1.5, True)] == [None] * 4


def meter(**sense: object) -> PointType:
    return PointType.model_validate(
        {
            "name": "W",
            "quantity": "W",
            "unit": "W",
            "table": "input",
            "address": 0,
            "type": "int32",
            "sense": sense,
        },
        strict=False,
    )


def test_a_frozen_register_is_judged_back_to_the_row_in_which_it_froze() -> None:
    sense = GroupSense([meter(frozen="30s")], [0])
    tickets, found, qualities = [], [], []
    for index, value in enumerate([5, *[7] * 7, 8]):
        ticket = Ticket(index + 100)
        tickets.append(ticket)
        quality: dict[str, list[str]] = {}
        found += sense.judge(T0 + index * 10_000, [value], quality, ticket)
        qualities.append(quality)
    assert [(later.reason, later.since.seq, later.rule) for later in found] == [
        ("frozen", 101, "frozen 30 s")
    ]
    assert qualities == [{}] * 6 + [{"0": ["frozen"]}] * 2 + [{}]


def frozen_ticks(values: list[int], every_s: int, frozen: str) -> list[int]:
    """Return which of some values are found frozen."""
    sense = GroupSense([meter(frozen=frozen)], [0])
    found = []
    for index, value in enumerate(values):
        quality: dict[str, list[str]] = {}
        sense.judge(T0 + index * every_s * 1000, [value], quality, Ticket())
        if quality:
            found.append(index)
    return found


def test_a_value_polled_seldom_is_not_frozen_because_it_was_the_same_twice() -> None:
    assert frozen_ticks([231] * 4 + [232], 3600, "1h") == []
    assert frozen_ticks([231] * 6, 3600, "1h") == [5]


def test_zero_is_rest_and_never_frozen() -> None:
    assert frozen_ticks([0] * 50, 600, "1h") == []
    assert frozen_ticks([0, *[1] * 8], 600, "1h") == [7, 8]


def test_a_register_that_moves_in_large_steps_or_seldom_is_not_faster_than_its_rate() -> None:
    # A counter of 0.1 kWh at 80 kW, polled every second: it stands, then moves by a whole step.
    def judged(**keys: object) -> list[str | None]:
        whole = {"max_rate": "0.023", **keys}
        return run(PointSense(spec(**whole), -2, True, grain=10), 100, 100, 110, 110, 120, every_s=1)

    assert judged() == [None] * 5
    # A meter that brings it up to date every 10 s only: 0.4 kWh at once, after nothing.
    slow = [100, *[100] * 9, 122, *[122] * 9, 144]
    seldom = PointSense(spec(max_rate="0.023", refresh="10s"), -2, True)
    assert run(seldom, *slow, every_s=1) == [None] * len(slow)
    assert "rate" in run(PointSense(spec(max_rate="0.023"), -2, True), *slow, every_s=1)


def test_a_counter_beyond_a_wrong_modulus_does_not_roll_over() -> None:
    sense = PointSense(spec(modulus=1000, max_rate="1"), 0, True)
    assert run(sense, 5000, 4990) == [None, "decreased"]


def test_a_freeze_is_judged_from_the_first_row_that_is_there() -> None:
    sense = GroupSense([meter(frozen="30s")], [0])
    rows = [Ticket(100 + index, lost=index < 3) for index in range(6)]
    found = [one for i, row in enumerate(rows) for one in sense.judge(T0 + i * 10_000, [7], {}, row)]
    assert [later.since.seq for later in found] == [103]


def test_a_judgement_that_could_not_be_written_down_is_told_again_while_it_holds() -> None:
    sense = GroupSense([meter(frozen="30s")], [0])
    told = []
    for index, value in enumerate([7, 7, 7, 7, 7, 7, 7, 8, 8]):
        later = sense.judge(T0 + index * 10_000, [value], {}, Ticket(100 + index))
        told.append([one.since.seq for one in later])
        for one in later[: index < 6]:
            sense.tell_again(one)
    assert told == [[], [], [], [], [], [100], [100], [], []]


def test_a_value_with_a_reason_already_is_no_ground_for_comparison() -> None:
    sense = GroupSense([meter(max_rate="1")], [0])
    sense.judge(T0, [100], {}, Ticket())
    bad = {"0": ["out-of-range"]}
    sense.judge(T0 + 10_000, [99_999], bad, Ticket())
    good: dict[str, list[str]] = {}
    sense.judge(T0 + 20_000, [105], good, Ticket())
    assert bad == {"0": ["out-of-range"]}
    assert good == {}


def recalled(value: int | None, sure: bool = True, **keys: object) -> PointSense:
    """A counter that an earlier life left at a value."""
    sense = PointSense(spec(**keys), 0, True)
    if value is not None:
        sense.recall(T0, value, Ticket(7, epoch="e"), False, sure)
    return sense


def before(value: int, row: Ticket, frozen: bool = False) -> Recalled:
    return Recalled(T0, (value,), row, frozenset({0} if frozen else ()), True)


def test_a_row_of_an_earlier_life_is_the_ground_for_the_first_comparison() -> None:
    sense = GroupSense([meter(max_rate="1")], [0])
    sense.remember(before(100, Ticket(7, epoch="e")))
    quality: dict[str, list[str]] = {}
    sense.judge(T0 + 10_000, [500], quality, Ticket())
    assert quality == {"0": ["rate"]}


def test_what_happened_between_two_lives_is_judged_by_the_first_value_of_the_second() -> None:
    later = T0 + 600_000
    assert recalled(73_333).judge(later, 2) == "reset"
    assert recalled(73_333).judge(later, 70_000) == "decreased"
    assert recalled(9_990, modulus=10_000).judge(later, 4) == "rollover"
    assert recalled(100, max_rate=1).judge(later, 700) is None  # 600 in ten minutes are possible
    assert recalled(100, max_rate=1).judge(later, 702) == "rate"
    assert recalled(None).judge(later, 2) is None


def test_a_clock_in_doubt_says_nothing_of_the_time_between_two_lives() -> None:
    # By the clock ten seconds passed; it may have been hours.
    at = T0 + 10_000
    assert recalled(100, max_rate=1).judge(at, 5000, sure=False) is None
    assert recalled(100, max_rate=1, sure=False).judge(at, 5000) is None
    assert recalled(100, max_rate=1, sure=False).judge(at, 1, sure=True) == "reset"
    assert recalled(1000, max_rate=1).judge(at, 900, sure=False) == "decreased"
    sense = recalled(100, max_rate=1)
    assert [sense.judge(at, 5000, sure=False), sense.judge(at + 10_000, 9000, sure=False)] == [None, "rate"]


def test_a_clock_that_went_back_between_two_lives_makes_no_ground() -> None:
    assert recalled(100, max_rate=1).judge(T0, 2) is None
    assert recalled(100, max_rate=1).judge(T0 - 3_600_000, 999_999) is None


def test_a_register_that_froze_before_a_restart_is_judged_back_to_the_earlier_life() -> None:
    sense = GroupSense([meter(frozen="30s")], [0])
    sense.remember(before(7, Ticket(41, epoch="e")))
    found = []
    for seconds in range(3600, 3660, 10):  # an hour without power does not count
        found.append(sense.judge(T0 + seconds * 1000, [7], {}, Ticket(seconds)))
    assert [len(one) for one in found] == [0, 0, 0, 0, 0, 1]
    assert [(one.since.seq, one.since.epoch) for one in found[5]] == [(41, "e")]


def test_a_register_known_to_be_frozen_stays_so_after_a_restart_and_is_not_told_again() -> None:
    sense = GroupSense([meter(frozen="30s")], [0])
    sense.remember(before(7, Ticket(41, epoch="e"), frozen=True))
    quality: dict[str, list[str]] = {}
    assert sense.judge(T0 + 5000, [7], quality, Ticket()) == []
    assert quality == {"0": ["frozen"]}
    quality = {}
    assert sense.judge(T0 + 15_000, [8], quality, Ticket()) == []
    assert quality == {}


def test_a_freeze_behind_a_row_that_cannot_be_named_is_told_of_this_life_alone() -> None:
    sense = GroupSense([meter(frozen="30s")], [0])
    sense.remember(before(7, Ticket()))
    [later] = [one for s in range(10, 80, 10) for one in sense.judge(T0 + s * 1000, [7], {}, Ticket(s))]
    assert (later.since.seq, later.since.epoch) == (10, "")


def test_sense_belongs_to_numbers_and_fits_the_steps() -> None:
    from drivers.points import point_faults

    assert point_faults(meter(max_rate="0.5", frozen="1h")) == []
    assert point_faults(meter(modulus=100)) == [
        'sense: "modulus" is for counters: it needs cumulative = true'
    ]
    assert "whole number of steps" in point_faults(meter(substituted=["0.5"]))[0]


@given(
    st.lists(st.integers(-(10**9), 10**9), min_size=1, max_size=40),
    st.sampled_from([None, Decimal("0.1"), Decimal(1000)]),
    st.sampled_from([None, 1000, 2**32]),
    st.booleans(),
)
def test_every_reason_is_of_the_closed_list_and_a_steady_value_ends_every_doubt(
    values: list[int], rate: Decimal | None, modulus: int | None, cumulative: bool
) -> None:
    sense = PointSense(spec(max_rate=rate, modulus=modulus), 0, cumulative)
    reasons = run(sense, *values, *[values[-1]] * 4)
    assert all(reason is None or is_reason(reason) for reason in reasons)
    assert reasons[-1] is None


@pytest.mark.parametrize("cumulative", [True, False])
def test_a_counter_or_value_that_never_breaks_its_rate_is_never_doubted(cumulative: bool) -> None:
    sense = PointSense(spec(max_rate="2"), 0, cumulative)
    assert run(sense, *range(0, 400, 20)) == [None] * 20
