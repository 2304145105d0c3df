"""A power of ten that the device says itself: each row is scaled by the one that was read with it."""

import struct
from decimal import ROUND_HALF_EVEN, Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import ConfigError
from drivers.modbus.plan import plan
from drivers.modbus.registers import encode
from drivers.modbus.values import GroupDecoder, reference_row
from drivers.points import point_faults
from drivers.types import faults_of, load_type
from tests.support.points import point

W = point("W", type="int16", address=0, scale="0.1", scale_by="SF", not_available=[0x8000])
WH = point("WH", type="uint32", address=1, scale="1", scale_by="SF", not_available=[0])
SF = point("SF", type="int16", address=3, not_available=[0x8000], low=-10, high=10)
HZ = point("Hz", address=4, scale="0.01")
POINTS = (W, WH, SF, HZ)
REQUESTS = plan(POINTS)
DECODER = GroupDecoder(POINTS, REQUESTS)


def answer(w: int, wh: int, sf: int, hz: int = 5000) -> bytes:
    return struct.pack(">hIhH", w, wh, sf, hz)


@given(
    w=st.integers(-0x8000, 0x7FFF),
    wh=st.integers(0, 2**32 - 1),
    sf=st.integers(-12, 12) | st.integers(-0x8000, 0x7FFF),
    hz=st.integers(0, 0xFFFF),
)
def test_value_is_the_register_times_the_power_that_came_with_it(w: int, wh: int, sf: int, hz: int) -> None:
    values, reasons = DECODER.decode([answer(w, wh, sf, hz)])
    assert (values, reasons) == reference_row(POINTS, REQUESTS, [answer(w, wh, sf, hz)])
    for index, (register, absent, exp) in enumerate([(w, -0x8000, -1), (wh, 0, 0)]):
        if register == absent or not -10 <= sf <= 10:
            assert values[index] is None
            assert str(index) in reasons
            continue
        exact = Decimal(register).scaleb(sf - exp)
        steps = int(exact.to_integral_value(ROUND_HALF_EVEN))
        text = str(steps) if len(str(steps)) <= 20 else None
        assert values[index] == (steps if abs(steps) <= 2**53 else text)
    assert values[3] == hz


@pytest.mark.parametrize(
    ("sf", "values"),
    [
        (-1, [-123, 1, -1, 5000]),
        (0, [-1230, 7, 0, 5000]),
        (1, [-12300, 70, 1, 5000]),
        (-2, [-12, 0, -2, 5000]),
    ],
)
def test_same_register_means_another_value_by_another_power(sf: int, values: list[int]) -> None:
    assert DECODER.decode([answer(-123, 7, sf)]) == (values, {})


def test_power_that_the_device_does_not_say_leaves_no_value() -> None:
    assert DECODER.decode([answer(5, 5, -0x8000)]) == (
        [None, None, None, 5000],
        {"0": ["not-available"], "1": ["not-available"], "2": ["not-available"]},
    )


def test_power_that_is_none_leaves_no_value() -> None:
    assert DECODER.decode([answer(5, 5, 77)]) == (
        [None, None, 77, 5000],
        {"0": ["undecodable"], "1": ["undecodable"], "2": ["out-of-range"]},
    )


def test_range_is_judged_after_scaling() -> None:
    bounded = point("W", type="int16", address=0, scale="1", scale_by="SF", low=0, high=100)
    points = (bounded, point("SF", type="int16", address=1))
    decoder = GroupDecoder(points, plan(points))
    assert decoder.decode([struct.pack(">hh", 900, -1)]) == ([90, -1], {})
    assert decoder.decode([struct.pack(">hh", 90, 1)]) == ([900, 1], {"0": ["out-of-range"]})


def test_failed_request_leaves_no_value_of_an_old_power() -> None:
    assert DECODER.decode(["timeout"]) == ([None] * 4, {"*": ["timeout"]})
    far = (W, point("SF", type="int16", address=2000))
    decoder = GroupDecoder(far, plan(far))
    assert decoder.decode([struct.pack(">h", 5), "exception-2"]) == ([None, None], {"*": ["exception-2"]})


def test_point_without_its_power_in_the_group_is_refused() -> None:
    with pytest.raises(ConfigError, match="point W needs SF"):
        GroupDecoder((W,), plan((W,)))


def test_order_is_written_only_while_the_power_is_that_of_its_steps() -> None:
    write = {"function": "registers", "min": 0, "max": 100, "step": "0.1", "default": 100}
    limit = point("Limit", scale="0.1", scale_by="SF", write=write)
    assert encode(limit, Decimal("50.5"), power=-1) == [505]
    for power in (0, None):
        with pytest.raises(ValueError, match="the device counts otherwise now"):
            encode(limit, 50, power)


@pytest.mark.parametrize(
    "keys", [{"type": "float32"}, {"scale": "0.5"}, {"offset": "1"}, {"type": "string", "length": 2}]
)
def test_only_integers_with_plain_steps_are_scaled_so(keys: dict[str, object]) -> None:
    bad = W.model_validate(
        {"name": "W", "quantity": "W", "unit": "W", "table": "holding", "address": 0, "type": "int16"}
        | keys
        | {"scale_by": "SF"}
    )
    assert point_faults(bad)


def test_power_of_a_type_is_a_plain_signed_point_of_it() -> None:
    kind = load_type("abb-b21")
    good = kind.model_copy(update={"points": POINTS})
    assert faults_of(good) == []
    for by in (point("SF", address=3), point("SF", type="int16", address=3, scale="0.1"), HZ):
        (fault, *_) = faults_of(kind.model_copy(update={"points": (W, by)}))
        assert "scale_by: there is no point 'SF' that is a signed integer" in fault
