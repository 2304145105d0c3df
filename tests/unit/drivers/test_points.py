"""What a point says: exact steps, durations, and faults of fields against each other."""

from decimal import Decimal
from typing import Any

import pytest
from pydantic import ValidationError

from core.manifest import Point, ValueKind
from drivers.points import PointType, Steps, Table, duration_ms, is_power_of_ten, last_digit, point_faults
from tests.support.points import point


@pytest.mark.parametrize(
    ("scale", "offset", "steps"),
    [
        ("1", "0", (1, 0, 0)),
        ("0.01", "0", (1, 0, -2)),
        ("0.010", "0", (1, 0, -2)),
        ("1000", "0", (1, 0, 3)),
        ("0.5", "0", (5, 0, -1)),
        ("2.5", "0", (25, 0, -1)),
        ("0.005", "0", (5, 0, -3)),
        ("20", "0", (2, 0, 1)),
        ("0.1", "-40", (1, -400, -1)),
        ("10", "0.25", (1000, 25, -2)),
        ("-1", "0", (-1, 0, 0)),
        ("100", "1000", (1, 10, 2)),
    ],
)
def test_integer_register_becomes_whole_steps_of_a_power_of_ten(
    scale: str, offset: str, steps: tuple[int, int, int]
) -> None:
    found = point(type="int16", scale=scale, offset=offset).steps
    assert found == Steps(*steps)
    assert Decimal(found.mult).scaleb(found.exp) == Decimal(scale)
    assert Decimal(found.add).scaleb(found.exp) == Decimal(offset)


def test_core_point_carries_kind_exponent_and_request() -> None:
    made = point("W", type="float32", resolution="0.1", unit="W", quantity="PowerW")
    assert made.core_point(3) == Point("W", "PowerW", "W", ValueKind.INTEGER, exp=-1, request=3)
    energy = point("TotWh", type="uint64", scale="10", unit="Wh", cumulative=True)
    assert energy.core_point(0) == Point(
        "TotWh", "TotWh", "Wh", ValueKind.INTEGER, exp=1, request=0, cumulative=True
    )


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        ({"type": "float32"}, ValueKind.DECIMAL),
        ({"type": "float64"}, ValueKind.DECIMAL),
        ({"type": "float64", "resolution": "1"}, ValueKind.INTEGER),
        ({"type": "bit", "bit": 0}, ValueKind.BOOLEAN),
        ({"type": "bool", "table": "coil"}, ValueKind.BOOLEAN),
        ({"type": "string", "length": 4}, ValueKind.TEXT),
        ({"type": "uint64"}, ValueKind.INTEGER),
    ],
)
def test_kind_follows_the_type(fields: dict[str, Any], kind: ValueKind) -> None:
    made = point(**fields)
    assert made.kind is kind
    assert made.core_point(0).exp == 0


@pytest.mark.parametrize(
    ("fields", "width"),
    [
        ({"type": "bool", "table": "discrete"}, 1),
        ({"type": "bit", "bit": 15}, 1),
        ({"type": "int16"}, 1),
        ({"type": "uint32"}, 2),
        ({"type": "float64"}, 4),
        ({"type": "string", "length": 9}, 9),
    ],
)
def test_width_is_in_addresses(fields: dict[str, Any], width: int) -> None:
    made = point(**fields, address=7)
    assert (made.width, made.end) == (width, 7 + width)


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"name": "a b"}, "its name may hold letters"),
        ({"type": "bool"}, 'for coils and discrete inputs; in "holding" use "bit"'),
        ({"table": "coil"}, 'its points have type "bool"'),
        ({"type": "bit"}, '"bit" belongs to type "bit"'),
        ({"bit": 1}, '"bit" belongs to type "bit"'),
        ({"type": "string"}, '"length" (in registers)'),
        ({"length": 1}, '"length" (in registers)'),
        ({"type": "uint64", "address": 65533}, "it ends at address 65536"),
        ({"type": "bit", "bit": 1, "scale": "2", "low": 0}, '"low", "scale" belong to numbers'),
        ({"type": "string", "length": 1, "not_available": [0]}, '"not_available" belong to numbers'),
        ({"scale": 0}, '"scale" is 0'),
        ({"type": "float32", "offset": 1}, '"offset" is for integer registers'),
        ({"type": "float32", "scale": 10}, 'a "scale" only together with a "resolution"'),
        ({"type": "float32", "scale": 2, "resolution": 1}, "power of ten, 2 is none"),
        ({"type": "float32", "resolution": "0.5"}, "power of ten such as"),
        ({"type": "float32", "resolution": "1e-10"}, "10^-9 to 10^9 are possible"),
        ({"resolution": "0.1"}, '"resolution" is for floats'),
        ({"scale": "1e-10"}, "its steps are 10^-10"),
        ({"not_available": ["nan"]}, 'an integer is never "nan"'),
        ({"not_available": [0x10000]}, '"not_available" 0x10000 does not fit into uint16'),
        ({"not_available": [-0x8001]}, '"not_available" -0x8001 does not fit into uint16'),
        ({"low": 2, "high": 1}, '"low" 2 is above "high" 1'),
    ],
)
def test_contradiction_between_fields_is_a_fault(fields: dict[str, Any], sentence: str) -> None:
    whole = {
        "name": "P",
        "quantity": "P",
        "unit": "1",
        "table": "holding",
        "address": 0,
        "type": "uint16",
        **fields,
    }
    faults = point_faults(PointType.model_validate(whole))
    assert len(faults) == 1
    assert sentence in faults[0]


ON_FOR = {"address": 512, "scale": "0.1", "max": 10}
WRITE = {"function": "register", "min": 0, "max": 10, "default": 0}
HOLD = {"table": "holding", "address": 1, "type": "uint16", "max": 600}
ARMED = {"hold": "watchdog"}


@pytest.mark.parametrize(
    ("fields", "write", "sentence"),
    [
        ({"table": "input"}, {}, 'function "register" writes a number of one register of table "holding"'),
        ({"type": "uint32"}, {}, 'function "register" writes a number of one register'),
        ({"type": "bit", "bit": 0}, {}, 'function "register" writes'),
        ({}, {"function": "coil", "max": 1}, 'function "coil" writes a point of table "coil"'),
        ({"table": "coil", "type": "bool"}, {"function": "coil"}, "a coil is 0 or 1"),
        ({}, {"default": 11}, '"default" 11 is not one of 0 to 10'),
        ({}, {"step": 0}, '"step" is above 0'),
        ({}, {"hold": "timer"}, 'a hold by timer needs "hold_register"'),
        ({}, {"hold_register": HOLD}, '"hold_register" and "on_for" need "hold"'),
        ({}, {"min": 11, "default": 11}, '"min" 11 is above "max" 10'),
        ({}, {"step": 3, "default": 4}, '"default" 4 is not one of 0 to 10 in steps of 3'),
        ({}, {"also": [5]}, '"also" 5 lies within 0 to 10 already'),
        ({}, {"falls_back_to": "Q"}, '"falls_back_to" and "hold_if" need a "hold"'),
        ({}, {"hold_if": {"point": "Q", "value": 1}}, '"falls_back_to" and "hold_if" need a "hold"'),
        ({}, {"hold": "timer", "hold_register": HOLD, "refresh": "contact"}, "a timer runs out whoever asks"),
        ({}, {**ARMED, "refresh": "hold"}, 'refresh "hold" needs the "hold_register"'),
        ({}, {**ARMED, "refresh": "value"}, 'refresh "value" needs the "hold_register"'),
        ({}, {"hold": "timer", "on_for": ON_FOR}, '"on_for" is for coils'),
        ({}, {**ARMED, "hold_register": {**HOLD, "table": "input"}}, "is an unsigned integer of table"),
        ({}, {**ARMED, "hold_register": {**HOLD, "type": "int16"}}, "is an unsigned integer of table"),
        ({}, {**ARMED, "hold_register": {**HOLD, "min": 700}}, '"min" 700 is above "max" 600'),
        ({}, {**ARMED, "hold_register": {**HOLD, "max": 70_000}}, '"max" 70000 s does not fit into uint16'),
        ({}, {**ARMED, "hold_register": {**HOLD, "scale": "0.7"}}, "are whole counts of 0.7 s"),
        ({}, {**ARMED, "hold_register": {**HOLD, "type": "uint32"}}, 'needs "registers"'),
        ({"readable": False, "default": False}, {"feedback": "P"}, '"feedback" is another point'),
        ({"readable": False}, {}, '"readable" is false for what is only written'),
    ],
)
def test_contradiction_in_a_write_is_a_fault(
    fields: dict[str, Any], write: dict[str, Any], sentence: str
) -> None:
    whole = {
        "name": "P",
        "quantity": "P",
        "unit": "1",
        "table": "holding",
        "address": 0,
        "type": "uint16",
        **fields,
    }
    faults = point_faults(PointType.model_validate({**whole, "write": {**WRITE, **write}}))
    assert len(faults) == 1
    assert sentence in faults[0]


def test_write_with_a_timer_and_its_register_has_no_fault() -> None:
    made = point(write={**WRITE, "hold": "timer", "hold_register": HOLD})
    assert made.write is not None
    assert made.write.hold_register is not None
    assert made.write.hold_register.max == 600


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"default": 1}, '"on_for" is for coils whose "default" is 0'),
        ({"hold": "watchdog"}, '"on_for" is a timer'),
        ({"hold_register": HOLD}, "one of the two"),
        ({"on_for": {**ON_FOR, "max": 3277}}, "at most 32767 of them"),
        ({"on_for": {**ON_FOR, "max": "0.15"}}, "a whole count of 0.1 s"),
    ],
)
def test_contradiction_in_a_timed_output_is_a_fault(fields: dict[str, Any], sentence: str) -> None:
    write = {
        "function": "coil",
        "min": 0,
        "max": 1,
        "default": 0,
        "hold": "timer",
        "on_for": ON_FOR,
        **fields,
    }
    whole = {"name": "K", "quantity": "K", "unit": "", "table": "coil", "address": 0, "type": "bool"}
    faults = point_faults(PointType.model_validate({**whole, "write": write}))
    assert len(faults) == 1
    assert sentence in faults[0]


@pytest.mark.parametrize("fields", [{"scale": 0.1}, {"scale": True}, {"scale": "a"}, {"low": "1_0"}])
def test_binary_float_and_text_are_no_exact_number(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        point(**fields)


@pytest.mark.parametrize("fields", [{"address": -1}, {"address": 65536}, {"address": "7"}, {"colour": 1}])
def test_wrong_shape_and_unknown_key_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        point(**fields)


@pytest.mark.parametrize(
    ("text", "ms"), [("500ms", 500), ("10s", 10_000), ("15min", 900_000), ("1h", 3_600_000)]
)
def test_duration_is_read(text: str, ms: int) -> None:
    assert duration_ms(text) == ms
    assert point(every=text).every_ms == ms


@pytest.mark.parametrize("text", ["", "10", "s", "0s", "-1s", "1.5s", "10 s", "1d", "١s"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no duration"):
        duration_ms(text)


def test_markers_are_unsigned_numbers_of_the_width() -> None:
    assert point(type="int16", not_available=[-32768, 0x8000, -1]).markers == {0x8000, 0xFFFF}
    mixed = point(type="float32", not_available=["nan", 0xFFC00000])
    assert mixed.markers == {0xFFC00000}
    assert mixed.nan_is_marker


def test_plausible_range_is_rounded_inwards_to_steps() -> None:
    assert point(type="int16", scale="0.1", low="0.05", high="9.99").step_bounds == (1, 99)
    assert point(type="int16", scale="10", low="-15", high="15").step_bounds == (-1, 1)
    assert point(type="int16").step_bounds == (None, None)


def test_last_digit_and_powers_of_ten() -> None:
    assert [last_digit(Decimal(text)) for text in ("0", "1", "100", "0.010", "25")] == [0, 0, 2, -2, 0]
    assert is_power_of_ten(Decimal("0.001"))
    assert not is_power_of_ten(Decimal("-1"))
    assert not is_power_of_ten(Decimal(0))


def test_table_knows_its_function_code() -> None:
    assert {table.value: table.read_function for table in Table} == {
        "coil": 1,
        "discrete": 2,
        "holding": 3,
        "input": 4,
    }
