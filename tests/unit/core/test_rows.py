"""Rows against their group in the manifest: what fits, what does not, and what a value stands for."""

from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.codec import row_fault
from core.manifest import EXACT, Group, Point, Value, ValueKind, shown
from core.ownership import Ownership
from core.quality import reasons
from core.records import Row
from tests.unit.core.wire_made import groups, rows_of, values

OWNER = Ownership("dso.example", ("dso.example",), "dso.example", "dso.example")
KINDS = [ValueKind.INTEGER, ValueKind.DECIMAL, ValueKind.TEXT, ValueKind.BOOLEAN, ValueKind.BITS]
GROUP = Group(
    group=3,
    device="main-meter",
    device_type="made-up",
    every_ms=10_000,
    points=tuple(Point(kind.value, kind.value, "1", kind) for kind in KINDS),
    owners=(OWNER,),
    requests=2,
    phase_ms=500,
)
GOOD = Row(seq=1, group=3, tick=1_780_000_000_500, offsets=[12, 30], values=[1, 2.5, "x", True, 7])


def changed(**change: Any) -> Row:
    return msgspec.structs.replace(GOOD, **change)


def with_value(index: int, value: Value) -> Row:
    filled = list(GOOD.values)
    filled[index] = value
    return changed(values=filled)


@given(groups().flatmap(lambda group: st.tuples(st.just(group), rows_of(group))))
def test_row_made_for_its_group_fits(made: tuple[Group, Row]) -> None:
    group, row = made
    assert row_fault(row, group) is None


@given(groups(), st.lists(values, max_size=6))
def test_row_of_any_values_has_a_fault_or_none_and_no_exception(group: Group, some: list[Value]) -> None:
    row = Row(1, 1, group.phase_ms, [0] * group.requests, some)
    fault = row_fault(row, group)
    assert fault is None or len(fault) > 10


@pytest.mark.parametrize(
    ("row", "fault"),
    [
        (changed(values=[1]), "1 values for 5 points"),
        (changed(values=[*GOOD.values, 1]), "6 values for 5 points"),
        (changed(offsets=[1]), "1 answer offsets for 2 requests"),
        (changed(tick=GOOD.tick + 1), "is not on the grid of 10000 ms"),
        (changed(tick=GOOD.tick - 500), "is not on the grid of 10000 ms"),
        (with_value(0, 1.0), "point integer has a value of the wrong type"),
        (with_value(0, True), "point integer has a value of the wrong type"),
        (with_value(0, "1"), "point integer has text where an integer belongs"),
        (with_value(0, str(EXACT)), "point integer has text where an integer belongs"),
        (with_value(0, "09007199254740993"), "point integer has text where an integer belongs"),
        (with_value(0, "٩٠٠٧١٩٩٢٥٤٧٤٠٩٩٣"), "point integer has text where an integer belongs"),
        (with_value(0, " 9007199254740993"), "point integer has text where an integer belongs"),
        (with_value(0, "9" * 21), "point integer has text where an integer belongs"),
        (with_value(0, "+9007199254740993"), "point integer has text where an integer belongs"),
        (with_value(1, True), "point decimal has a value of the wrong type"),
        (with_value(1, "2.5"), "point decimal has text where an integer belongs"),
        (with_value(2, 1), "point text has a value of the wrong type"),
        (with_value(3, 1), "point boolean has a value of the wrong type"),
        (with_value(3, "true"), "point boolean has a value of the wrong type"),
        (with_value(4, 1.5), "point bits has a value of the wrong type"),
        (changed(quality={"5": ["timeout"]}), "which is no point of the group"),
        (changed(quality={"-1": ["timeout"]}), "which is no point of the group"),
        (changed(quality={"01": ["timeout"]}), "which is no point of the group"),
        (changed(quality={"²": ["timeout"]}), "which is no point of the group"),
        (changed(quality={"": ["timeout"]}), "which is no point of the group"),
        (changed(quality={"9" * 5000: ["timeout"]}), "which is no point of the group"),
        (changed(quality={"0": []}), "without a reason"),
        (changed(quality={"0": ["Timeout!"]}), "reason 'Timeout!' is not of small letters"),
        (changed(quality={"*": ["timeout", "x" * 33]}), "is not of small letters"),
    ],
    ids=lambda one: one if isinstance(one, str) else "",
)
def test_row_that_does_not_fit_says_why(row: Row, fault: str) -> None:
    assert row_fault(GOOD, GROUP) is None
    found = row_fault(row, GROUP)
    assert found is not None
    assert fault in found


@pytest.mark.parametrize("index", range(5))
def test_every_kind_of_point_may_have_no_value(index: int) -> None:
    assert (
        row_fault(changed(values=with_value(index, None).values, quality={str(index): ["timeout"]}), GROUP)
        is None
    )


def test_reason_that_a_later_version_added_does_not_refuse_the_row() -> None:
    assert "moon-phase" not in reasons()
    assert row_fault(changed(quality={"0": ["moon-phase"], "*": ["clock-unsure"]}), GROUP) is None


def point(kind: ValueKind, exp: int = 0) -> Point:
    return Point("p", "p", "1", kind, exp)


@given(st.integers(-EXACT, EXACT) | st.integers(-(2**63), 2**64 - 1).map(str), st.integers(-18, 18))
def test_integer_steps_are_shown_exactly(value: int | str, exp: int) -> None:
    number = shown(point(ValueKind.INTEGER, exp), value)
    assert isinstance(number, Decimal)
    assert number == Decimal(int(value)) * Decimal((0, (1,), exp))
    assert number.scaleb(-exp) == int(value)


@pytest.mark.parametrize(
    ("value", "exp", "expected"),
    [
        (2301, -1, "230.1"),
        (10, -1, "1.0"),
        (18446744073709551615, -3, "18446744073709551.615"),
        ("18446744073709551615", -9, "18446744073.709551615"),
        ("18446744073709551615", 9, "18446744073709551615E+9"),
        (-1, -9, "-1E-9"),
        (0, 9, "0E+9"),
    ],
)
def test_integer_of_steps_is_the_decimal_that_a_bill_wants(value: Value, exp: int, expected: str) -> None:
    number = shown(point(ValueKind.INTEGER, exp), value)
    assert number == Decimal(expected)
    assert isinstance(number, Decimal)
    assert number.as_tuple().exponent == Decimal(expected).as_tuple().exponent


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_decimal_is_shown_as_the_shortest_that_reads_back(value: float) -> None:
    number = shown(point(ValueKind.DECIMAL), value)
    assert isinstance(number, Decimal)
    assert float(number) == value
    assert str(number) == str(Decimal(repr(value)))


def test_float_with_one_decimal_digit_shows_one() -> None:
    assert shown(point(ValueKind.DECIMAL), 230.1) == Decimal("230.1")
    assert shown(point(ValueKind.DECIMAL), 230) == Decimal(230)


@pytest.mark.parametrize("value", [True, False, None])
def test_truth_and_absence_are_shown_as_they_are(value: Value) -> None:
    assert shown(point(ValueKind.BOOLEAN), value) is value


def test_text_is_shown_as_it_is_and_bits_as_their_number() -> None:
    assert shown(point(ValueKind.TEXT), "0012") == "0012"
    assert shown(point(ValueKind.BITS), str(2**64 - 1)) == Decimal(2**64 - 1)
