"""What a row of an earlier life says to this one: exactly what registers showed, or nothing."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.multiplier import Multiplier
from agent.recall import recall, recalled
from agent.sense import Recalled
from agent.site import PollGroup, _core_points
from agent.store.lastrows import LastRow
from core.manifest import Group, Value
from core.records import Row
from core.transformers import Term, described
from drivers.modbus.plan import plan
from drivers.modbus.values import GroupDecoder
from drivers.points import PointType
from drivers.types import Limits
from tests.support.gateway_double import ENTITY, T0, owned
from tests.support.points import point

EPOCH = "5f0c9ae1b2d34477"
ENERGY = point("TotWhImp", type="uint32", unit="kWh", scale="0.01", cumulative=True, ratio="ct*vt")
VOLTS = point("PhVphA", address=4, unit="V", scale="0.1")
HUNDRED = Term(None, Fraction(20), Fraction(5))


def polled(
    *points: PointType, terms: tuple[Term, ...] = (), number: int = 1, device_type: str = "meter"
) -> PollGroup:
    """A group as the agent polls it."""
    limits = Limits()
    requests = plan(points, limits)
    behind = {one.name: one.ratio for one in points if one.ratio is not None}
    multiplier = Multiplier(points, terms) if behind and terms else None
    group = Group(
        group=number,
        device="meter",
        device_type=device_type,
        every_ms=1000,
        points=_core_points(points, requests, multiplier),
        owners=(owned(ENTITY),),
        requests=len(requests),
        x=described(terms, behind, {}),
    )
    return PollGroup(
        group,
        "line",
        1,
        requests,
        points,
        GroupDecoder(points, requests),
        limits,
        1.0,
        0.0,
        None,
        (),
        multiplier,
    )


def left(group: PollGroup, values: list[Value], tick: int = T0, **quality: list[str]) -> LastRow:
    """The last row that a life left: of values that registers showed."""
    reasons = {"*" if key == "all" else key.removeprefix("p"): one for key, one in quality.items()}
    primary = values if group.multiplier is None else group.multiplier.primary(tick, values, reasons)
    return LastRow(99, EPOCH, group.group, Row(9, group.group.group, tick, [5], list(primary), reasons))


def test_values_and_the_row_they_were_in_are_recalled() -> None:
    group = polled(ENERGY, VOLTS)
    found = recall(group, left(group, [12345, 2301]))
    assert (found.tick, found.values, found.sure, found.frozen) == (T0, (12345, 2301), True, frozenset())
    assert (found.row.seq, found.row.epoch) == (9, EPOCH)


@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from(["20", "1.5", "0.25", "100"]),
    st.sampled_from(["1", "8.3333", "200"]),
    st.sampled_from([None, ("40", "1"), ("1.25", "5")]),
)
def test_a_ratio_is_taken_out_again_exactly(
    shown: int, ct: str, vt: str, then: tuple[str, str] | None
) -> None:
    before = (Term(None, Fraction(ct), Fraction(vt)),)
    now = before if then is None else (*before, Term(T0 + 1, Fraction(then[0]), Fraction(then[1])))
    found = recall(polled(ENERGY, terms=now), left(polled(ENERGY, terms=before), [shown]))
    assert found.values in ((shown,), (None,))
    assert found.values == (shown,) or shown > 2**20  # longer than a row can hold: nothing to recall


def test_the_ratio_is_that_of_the_rows_own_tick() -> None:
    terms = (Term(T0 - 10, Fraction(20), Fraction(1)), Term(T0 + 10, Fraction(40), Fraction(1)))
    group = polled(ENERGY, terms=terms)
    for tick in (T0 - 11, T0, T0 + 10):
        assert recall(group, left(group, [777], tick)).values == (777,)


def test_a_value_that_is_not_whole_in_the_steps_of_today_is_not_recalled() -> None:
    coarser = point("TotWhImp", type="uint32", unit="kWh", scale="0.1", cumulative=True, ratio="ct*vt")
    assert recall(polled(coarser), left(polled(ENERGY), [120])).values == (12,)
    assert recall(polled(coarser), left(polled(ENERGY), [123])).values == (None,)


@pytest.mark.parametrize(
    "changes", [{"unit": "MWh"}, {"quantity": "TotWhExp"}, {"cumulative": False}, {"name": "TotWhExp"}]
)
def test_a_point_that_is_another_now_recalls_nothing(changes: dict[str, object]) -> None:
    before = polled(ENERGY.model_copy(update=changes), VOLTS)
    assert recall(polled(ENERGY, VOLTS), left(before, [120, 2300])).values == (None, 2300)


def test_a_device_of_another_type_recalls_nothing() -> None:
    assert recall(polled(ENERGY), left(polled(ENERGY, device_type="other"), [120])).values == (None,)


def test_a_row_behind_a_ratio_of_which_today_knows_nothing_recalls_nothing() -> None:
    plain = ENERGY.model_copy(update={"ratio": None})
    assert recall(polled(plain), left(polled(ENERGY, terms=(HUNDRED,)), [120])).values == (None,)


@pytest.mark.parametrize(
    "reason", ["rate", "decreased", "substituted", "out-of-range", "not-available", "unheard-of"]
)
def test_a_doubtful_value_is_no_ground(reason: str) -> None:
    group = polled(ENERGY, VOLTS)
    assert recall(group, left(group, [120, 2300], p0=[reason])).values == (None, 2300)


def test_reset_and_frozen_values_are_what_the_register_showed_and_a_doubtful_clock_is_told() -> None:
    group = polled(ENERGY, VOLTS)
    found = recall(group, left(group, [120, 2300], p0=["reset"], p1=["frozen"], all=["clock-unsure"]))
    assert found.values == (120, 2300)
    assert (found.frozen, found.sure) == (frozenset({1}), False)


def test_a_row_whose_points_had_other_places_is_not_named_in_judgements() -> None:
    found = recall(polled(ENERGY, VOLTS), left(polled(VOLTS, ENERGY), [2300, 120]))
    assert found.values == (120, 2300)
    assert (found.row.seq, found.row.epoch) == (None, "")
    renumbered = recall(polled(ENERGY, number=2), left(polled(ENERGY), [120]))
    assert renumbered.row.seq is None


def test_groups_without_a_row_recall_nothing() -> None:
    one, two = polled(ENERGY), polled(VOLTS, number=2)
    found = recalled((one, two), {1: left(one, [5])})
    assert list(found) == [1]
    assert isinstance(found[1], Recalled)
