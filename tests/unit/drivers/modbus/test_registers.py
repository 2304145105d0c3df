"""One point's registers as a value and back: every kind, every order, exactly."""

import math
import struct
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from core.manifest import Value, shown
from drivers.modbus.registers import decode_point, encode, in_order, registers, rounded, shortest32
from drivers.points import PointType
from tests.support.points import point


def float32(amount: Decimal) -> float:
    """Return the float32 nearest to a decimal."""
    nearest: float = struct.unpack(">f", struct.pack(">f", float(amount)))[0]
    return nearest


float32s = st.floats(width=32, allow_nan=False, allow_infinity=False)
float64s = st.floats(allow_nan=False, allow_infinity=False)


def decoded(chunk: str | bytes, **fields: Any) -> tuple[Value, str | None]:
    """Decode bytes, or their hexadecimal digits."""
    raw = bytes.fromhex(chunk) if isinstance(chunk, str) else chunk
    return decode_point(point(**fields), raw)


@pytest.mark.parametrize(
    ("fields", "chunk", "value"),
    [
        ({"type": "bool", "table": "coil"}, "01", True),
        ({"type": "bool", "table": "discrete"}, "00", False),
        ({"type": "bit", "bit": 0}, "0001", True),
        ({"type": "bit", "bit": 15}, "7fff", False),
        ({"type": "bit", "bit": 8, "byte_order": "little"}, "0001", True),
        ({"type": "int16"}, "8001", -32767),
        ({"type": "uint16"}, "8001", 32769),
        ({"type": "int16", "byte_order": "little"}, "feff", -2),
        ({"type": "int32"}, "fffe1dc0", -123456),
        ({"type": "int32", "word_order": "little"}, "1dc0fffe", -123456),
        ({"type": "int32", "byte_order": "little"}, "feffc01d", -123456),
        ({"type": "int32", "byte_order": "little", "word_order": "little"}, "c01dfeff", -123456),
        ({"type": "uint32"}, "fffe1dc0", 4294843840),
        ({"type": "uint64"}, "0020000000000000", 2**53),
        ({"type": "uint64"}, "0020000000000001", "9007199254740993"),
        ({"type": "uint64"}, "ff" * 8, "18446744073709551615"),
        ({"type": "int64"}, "8000000000000000", "-9223372036854775808"),
        ({"type": "int64", "word_order": "little"}, "0001000000000000", 1),
        ({"type": "float32", "resolution": "0.1"}, "4366199a", 2301),
        ({"type": "float32"}, "4366199a", 230.1),
        ({"type": "float32", "word_order": "little"}, "199a4366", 230.1),
        ({"type": "float32", "byte_order": "little"}, "66439a19", 230.1),
        ({"type": "float32", "byte_order": "little", "word_order": "little"}, "9a196643", 230.1),
        ({"type": "float32", "scale": 1000, "resolution": 1}, "3f9d70a4", 1230),
        ({"type": "float64"}, struct.pack(">d", 123456.789).hex(), 123456.789),
        ({"type": "float64", "resolution": "0.01"}, struct.pack(">d", 123456.789).hex(), 12345679),
        ({"type": "string", "length": 4}, b"PORTICO\0".hex(), "PORTICO"),
        ({"type": "string", "length": 4}, b"AB  \0XYZ".hex(), "AB"),
        ({"type": "string", "length": 2}, "00000000", ""),
        ({"type": "string", "length": 2, "byte_order": "little"}, b"OPTR".hex(), "PORT"),
        ({"type": "string", "length": 2, "word_order": "little"}, b"PORT".hex(), "PORT"),
        ({"type": "string", "length": 2}, "c3a92020", "é"),
        ({"type": "int16", "scale": "0.1", "offset": "-40"}, "01f4", 100),
        ({"type": "uint16", "scale": "0.005"}, "0003", 15),
        ({"type": "uint16", "scale": "20"}, "0003", 6),
    ],
)
def test_registers_become_the_value(fields: dict[str, Any], chunk: str, value: Value) -> None:
    found, reason = decoded(chunk, **fields)
    assert (found, reason) == (value, None)
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("fields", "chunk", "reason"),
    [
        ({"type": "int16", "not_available": [0x8000]}, "8000", "not-available"),
        ({"type": "int16", "not_available": [-32768]}, "8000", "not-available"),
        (
            {"type": "uint32", "not_available": [0xFFFFFFFF], "word_order": "little"},
            "ffffffff",
            "not-available",
        ),
        ({"type": "uint32", "not_available": [1], "word_order": "little"}, "00010000", "not-available"),
        ({"type": "float32", "not_available": ["nan"]}, "7fc00000", "not-available"),
        ({"type": "float32", "not_available": ["nan"]}, "ffc00001", "not-available"),
        ({"type": "float32", "not_available": [0x7FC00000]}, "7fc00000", "not-available"),
        ({"type": "float32", "not_available": [0xFF7FFFFF], "resolution": 1}, "ff7fffff", "not-available"),
        ({"type": "float32"}, "7fc00000", "undecodable"),
        ({"type": "float32", "not_available": [0x7FC00000]}, "7fc00001", "undecodable"),
        ({"type": "float32", "not_available": ["nan"]}, "7f800000", "undecodable"),
        ({"type": "float64"}, "fff0000000000000", "undecodable"),
        ({"type": "float32", "resolution": "0.1"}, "7f7fffff", "undecodable"),
        ({"type": "string", "length": 1}, "ff41", "undecodable"),
        ({"type": "string", "length": 1}, "0141", "undecodable"),
        ({"type": "uint64", "scale": "2.5"}, "ff" * 8, "undecodable"),
    ],
)
def test_no_value_is_better_than_a_wrong_one(fields: dict[str, Any], chunk: str, reason: str) -> None:
    assert decoded(chunk, **fields) == (None, reason)


@pytest.mark.parametrize(
    ("fields", "chunk", "value", "reason"),
    [
        ({"type": "int16", "low": 0, "high": 10}, "000a", 10, None),
        ({"type": "int16", "low": 0, "high": 10}, "000b", 11, "out-of-range"),
        ({"type": "int16", "low": 0, "high": 10}, "ffff", -1, "out-of-range"),
        ({"type": "int16", "scale": "0.1", "high": "0.95"}, "0009", 9, None),
        ({"type": "int16", "scale": "0.1", "high": "0.95"}, "000a", 10, "out-of-range"),
        ({"type": "float32", "resolution": "0.1", "high": 230}, "4366199a", 2301, "out-of-range"),
        ({"type": "float32", "high": 230}, "4366199a", 230.1, "out-of-range"),
        ({"type": "float32", "low": 230}, "4366199a", 230.1, None),
        ({"type": "uint64", "high": 5}, "ff" * 8, "18446744073709551615", "out-of-range"),
    ],
)
def test_implausible_value_is_kept_and_named(
    fields: dict[str, Any], chunk: str, value: Value, reason: str | None
) -> None:
    assert decoded(chunk, **fields) == (value, reason)


def test_zero_has_no_sign() -> None:
    for fields in ({"type": "float32"}, {"type": "float64"}):
        size = 4 if fields["type"] == "float32" else 8
        value, _ = decoded(b"\x80".ljust(size, b"\0"), **fields)
        assert isinstance(value, float)
        assert math.copysign(1, value) == 1


orders = st.sampled_from(["big", "little"])
scales = st.sampled_from(["1", "0.01", "0.5", "2.5", "0.005", "20", "-1", "1000", "3"])


@given(
    st.integers(-(2**63), 2**63 - 1), orders, orders, scales, st.sampled_from(["0", "-40", "0.125", "300"])
)
def test_integer_stands_for_register_times_scale_plus_offset(
    raw: int, bytes_first: str, words_first: str, scale: str, offset: str
) -> None:
    made = point(type="int64", scale=scale, offset=offset, byte_order=bytes_first, word_order=words_first)
    value, reason = decode_point(made, in_order(made, raw.to_bytes(8, "big", signed=True)))
    if reason is None:
        amount = shown(made.core_point(0), value)
        assert isinstance(amount, Decimal)
        assert Fraction(amount) == raw * Fraction(scale) + Fraction(offset)
    else:
        assert abs(raw * Fraction(scale) + Fraction(offset)) / Fraction(10) ** made.steps.exp >= 10**19


@given(float64s | float32s, st.integers(-12, 15))
@example(0.25, 1)  # half way: to the even one
@example(0.75, 1)
@example(-2.5, 0)
@example(5e-324, 9)
@example(25.0, -1)
def test_float_is_rounded_once_half_to_even(number: float, shift: int) -> None:
    steps = rounded(number, shift)
    exact = Fraction(number) * Fraction(10) ** shift
    assert abs(steps - exact) <= Fraction(1, 2)
    if abs(steps - exact) == Fraction(1, 2):
        assert steps % 2 == 0


def shorter_one(number: float, digits: int) -> list[float]:
    """Return the decimals near a float32 that have fewer digits and still read back to it."""
    same = struct.pack(">f", number)
    found: list[float] = []
    for fewer in range(1, digits):
        grid = Decimal(number).adjusted() - fewer + 1
        base = int(Decimal(number).scaleb(-grid).to_integral_value())
        near = [float(Decimal(count).scaleb(grid)) for count in range(base - 2, base + 3)]
        found += [one for one in near if abs(one) < 3.4028235e38 and struct.pack(">f", one) == same]
    return found


def check_shortest(number: float) -> None:
    short = shortest32(number)
    assert struct.pack(">f", short) == struct.pack(">f", number)
    digits = len(Decimal(repr(short)).normalize().as_tuple().digits)
    assert number == 0 or shorter_one(number, digits) == []


@given(float32s)
@example(9.999999e-39)
@example(3.4028234663852886e38)
@example(16777216.0)
@example(0.0)
def test_shortest_decimal_reads_back_and_no_shorter_one_does(number: float) -> None:
    check_shortest(number)


def test_shortest_decimal_of_every_power_of_two_is_shortest() -> None:
    for power in range(-149, 128):
        check_shortest(2.0**power)
        check_shortest(-(2.0**power))


numeric = st.sampled_from(["int16", "uint16", "int32", "uint32", "int64", "uint64"])
FREE = {"function": "registers", "min": -(10**21), "max": 10**21, "step": "0.0000001", "default": 0}


@given(numeric, orders, orders, scales, st.integers(-(2**63), 2**64 - 1))
@example("int64", "big", "big", "1000", 10**18 + 1)
def test_integer_written_reads_back_the_same(
    kind: str, bytes_first: str, words_first: str, scale: str, raw: int
) -> None:
    made = point(type=kind, byte_order=bytes_first, word_order=words_first, scale=scale, write=FREE)
    amount = raw * made.scale
    try:
        written = encode(made, amount)
    except ValueError:
        bits = made.type.bits
        fits = -(1 << bits - 1) <= raw < 1 << bits - 1 if made.type.is_signed else 0 <= raw < 1 << bits
        assert not fits or abs(amount) > 10**21 or abs(amount.scaleb(-made.steps.exp)) >= 10**19
        return
    assert len(written) == made.width
    value, reason = decode_point(made, struct.pack(f">{made.width}H", *written))
    assert reason is None
    assert shown(made.core_point(0), value) == amount


@given(float32s, orders, orders, st.sampled_from([None, "0.1", "1"]))
def test_float_written_reads_back_the_same_or_is_refused(
    number: float, bytes_first: str, words_first: str, resolution: str | None
) -> None:
    made = point(
        type="float32",
        byte_order=bytes_first,
        word_order=words_first,
        resolution=resolution,
        write=FREE,
    )
    amount = Decimal(repr(shortest32(number)))
    if resolution is not None:
        amount = amount.quantize(Decimal(resolution)) if abs(amount) < 10**12 else Decimal(0)
    assume(abs(amount) < 10**12 and amount % Decimal("0.0000001") == 0)
    if Decimal(float32(amount)).quantize(Decimal(resolution or "1")) != amount and resolution is not None:
        with pytest.raises(ValueError, match="cannot be held by float32"):
            encode(made, amount)
        return
    written = encode(made, amount)
    value, reason = decode_point(made, struct.pack(">2H", *written))
    assert reason is None
    assert shown(made.core_point(0), value) == amount


def limited(**fields: Any) -> PointType:
    write = {"function": "register", "min": -5, "max": "9.5", "step": "0.5", "default": 0}
    return point(**{"type": "int16", "scale": "0.1", "write": write, **fields})


@pytest.mark.parametrize(
    ("made", "value", "sentence"),
    [
        (point(), 1, "is not writable"),
        (limited(), Decimal("9.6"), "is not one of -5 to 9.5"),
        (limited(), -6, "is not one of -5 to 9.5"),
        (limited(), Decimal("NaN"), "is not one of"),
        (limited(), Decimal("0.1"), "is not on a step of 0.5 from -5"),
        (limited(scale="1"), Decimal("0.5"), "is not on a step of 1 of the register"),
        (limited(type="uint16"), -1, "does not fit into uint16"),
        (limited(not_available=[10]), 1, "cannot be held by int16"),
    ],
)
def test_value_that_cannot_be_written_is_refused(
    made: PointType, value: Decimal | int, sentence: str
) -> None:
    with pytest.raises(ValueError, match=sentence):
        encode(made, value)


def test_value_is_written_in_the_orders_of_the_point() -> None:
    wide: dict[str, Any] = {"type": "int32", "write": FREE}
    assert encode(point(**wide), -123456) == [0xFFFE, 0x1DC0]
    assert encode(point(**wide, word_order="little"), -123456) == [0x1DC0, 0xFFFE]
    assert encode(point(**wide, byte_order="little"), -123456) == [0xFEFF, 0xC01D]
    assert list(registers(bytes.fromhex("fffe1dc0"))) == [0xFFFE, 0x1DC0]
    coil = {"function": "coil", "min": 0, "max": 1, "default": 0}
    assert [encode(point(table="coil", type="bool", write=coil), on) for on in (True, False)] == [[1], [0]]
