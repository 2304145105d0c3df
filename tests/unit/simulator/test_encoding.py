"""Registers of the simulator read back, by the agent's own decoding, as what the plant meant."""

import struct
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.modbus.registers import decode_point
from drivers.points import PointType, RegisterType
from simulator.encoding import decode, encode, unit_factor

INTEGERS = [kind for kind in RegisterType if kind.is_integer]
ORDERS = st.sampled_from(["big", "little"])


def point(kind: RegisterType, **more: object) -> PointType:
    fields = {"name": "P", "quantity": "P", "unit": "1", "table": "holding", "address": 0, "type": kind.value}
    return PointType.model_validate(fields | more)


def shown(one: PointType, body: bytes) -> Decimal:
    value, reason = decode_point(one, body)
    assert reason is None
    assert isinstance(value, int | str)
    return Decimal(value).scaleb(one.steps.exp)


@given(
    st.sampled_from(INTEGERS),
    st.sampled_from(["1", "0.1", "0.01", "0.005", "2.5", "10"]),
    st.sampled_from(["0", "-40", "12.5"]),
    ORDERS,
    ORDERS,
    st.data(),
)
def test_an_integer_reads_back_within_half_a_step(
    kind: RegisterType, scale: str, offset: str, bytes_in: str, words_in: str, data: st.DataObject
) -> None:
    one = point(kind, scale=scale, offset=offset, byte_order=bytes_in, word_order=words_in)
    low = -(1 << min(kind.bits, 48) - 1) if kind.is_signed else 0
    steps = data.draw(st.integers(low, low + (1 << min(kind.bits, 48)) - 1))
    off = data.draw(st.decimals("-0.49", "0.49", places=3))
    meant = (steps + off) * Decimal(scale) + Decimal(offset)
    body = encode(one, meant)
    assert shown(one, body) == steps * Decimal(scale) + Decimal(offset)
    assert decode(one, body) == shown(one, body)


@given(st.sampled_from(["float32", "float64"]), ORDERS, ORDERS, st.floats(-1e30, 1e30))
def test_a_float_reads_back_as_the_float_of_its_size(
    kind: str, bytes_in: str, words_in: str, meant: float
) -> None:
    one = point(RegisterType(kind), byte_order=bytes_in, word_order=words_in)
    value, reason = decode_point(one, encode(one, meant))
    assert reason is None
    assert isinstance(value, float)
    code = ">f" if kind == "float32" else ">d"
    # Compared as floats of that size; the agent tells the shortest decimal and keeps no sign of zero.
    assert struct.unpack(code, struct.pack(code, value)) == struct.unpack(code, struct.pack(code, meant))


@given(ORDERS, ORDERS, st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=10))
def test_a_text_reads_back_cut_to_its_registers(bytes_in: str, words_in: str, meant: str) -> None:
    one = point(RegisterType.STRING, length=4, unit="", byte_order=bytes_in, word_order=words_in)
    assert decode_point(one, encode(one, meant)) == (meant[:8], None)


def test_a_cumulative_register_rolls_over_and_another_stays_at_its_end() -> None:
    energy = point(RegisterType.UINT16, cumulative=True)
    power = point(RegisterType.INT16)
    assert encode(energy, 65_536 + 7) == b"\x00\x07"
    assert encode(power, 40_000) == b"\x7f\xff"
    assert encode(power, -40_000) == b"\x80\x00"
    assert encode(point(RegisterType.INT16, cumulative=True), 32_768) == b"\x00\x00"


@pytest.mark.parametrize(
    ("unit", "factor"),
    [("kWh", 0.001), ("Wh", 1), ("kvarh", 0.001), ("mA", 1000), ("MW", 1e-6), ("m", 1), ("min", 1), ("%", 1)],
)
def test_the_prefix_of_a_unit_scales_and_what_only_looks_like_one_does_not(unit: str, factor: float) -> None:
    assert unit_factor(unit) == factor


def test_a_scaled_float_reads_back_in_its_unit() -> None:
    one = point(RegisterType.FLOAT32, scale="0.1", resolution="0.1", unit="kW")
    assert shown(one, encode(one, 12_345.0)) == Decimal("12.3")


def test_a_written_float_that_is_no_number_is_refused() -> None:
    with pytest.raises(ValueError, match="nan is no number"):
        decode(point(RegisterType.FLOAT32), struct.pack(">f", float("nan")))
