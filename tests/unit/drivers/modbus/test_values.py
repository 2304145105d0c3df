"""A row is decoded fast, and as the reference does it, whatever the registers hold."""

import struct
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.quality import is_reason
from drivers.modbus.lanes import CODES, EXACT_SHIFT, surely_good
from drivers.modbus.plan import Request, plan
from drivers.modbus.registers import shortest32
from drivers.modbus.values import GroupDecoder, reference_row
from drivers.points import PointType, RegisterType
from drivers.types import Limits
from tests.support.points import bit_points, point, register_points

REASONS = ["timeout", "exception-2", "line-down"]

# Registers that mean something special in one type or another, beside arbitrary ones.
WORDS = [0, 1, 0x7FFF, 0x8000, 0xFFFF, 0x7FC0, 0xFFC0, 0x7F80, 0xFF80, 0x7F7F, 0xFF7F, 0x4366, 0x199A, 0x3F80]
words = st.sampled_from(WORDS) | st.integers(0, 0xFFFF)


@st.composite
def payloads(draw: st.DrawFn, request: Request) -> bytes:
    if request.table.is_bits:
        return draw(st.binary(min_size=request.size, max_size=request.size))
    kept = draw(st.lists(words, min_size=request.count, max_size=request.count))
    return struct.pack(f">{request.count}H", *kept)


@st.composite
def polls(draw: st.DrawFn) -> tuple[list[PointType], tuple[Request, ...], list[bytes | str]]:
    """Points of any mix, their requests, and an answer or a failure for each."""
    points = draw(
        st.lists(
            register_points(st.integers(0, 60)) | bit_points(st.integers(0, 40)), min_size=1, max_size=12
        )
    )
    limits = Limits(max_registers=draw(st.integers(8, 40)), max_hole=draw(st.integers(0, 16)))
    requests = plan(points, limits)
    answers: list[bytes | str] = []
    for request in requests:
        failed = draw(st.integers(0, 7)) == 0
        answers.append(draw(st.sampled_from(REASONS)) if failed else draw(payloads(request)))
    return points, requests, answers


def exactly(row: tuple[list[Any], dict[str, list[str]]]) -> tuple[list[str], dict[str, list[str]]]:
    """Return a row so that True, 1 and 1.0 differ."""
    return [repr(value) for value in row[0]], row[1]


@settings(max_examples=300)
@given(polls())
def test_fast_row_is_the_reference_row(
    poll: tuple[list[PointType], tuple[Request, ...], list[bytes | str]],
) -> None:
    points, requests, answers = poll
    row = GroupDecoder(points, requests).decode(answers)
    assert exactly(row) == exactly(reference_row(points, requests, answers))
    assert all(is_reason(name) for names in row[1].values() for name in names)


single = st.builds(lambda word: struct.pack(">I", word), st.integers(0, 0xFFFFFFFF))
half_way = st.builds(
    lambda steps, power: struct.pack(">f", (2 * steps + 1) * 10.0**power / 2),
    st.integers(-(10**5), 10**5),
    st.integers(-6, 3),
)


@settings(max_examples=300)
@given(st.lists(single | half_way, min_size=4, max_size=4), st.integers(-9, 3), st.integers(-3, 9))
def test_float32_in_double_arithmetic_rounds_as_decimals_do(
    chunks: list[bytes], resolution: int, scale: int
) -> None:
    points = [
        point(
            f"P{number}", type="float32", address=2 * number, resolution=f"1e{resolution}", scale=f"1e{scale}"
        )
        for number in range(4)
    ]
    requests = plan(points)
    answers = [b"".join(chunks)]
    row = GroupDecoder(points, requests).decode(answers)
    assert exactly(row) == exactly(reference_row(points, requests, answers))


def test_float32_is_not_multiplied_by_a_power_below_one() -> None:
    # 0.00001 is no double: a product with it is rounded before round() sees it, 6.5 would become 7.
    assert round(650_000 * 10.0**-5) == 7
    points = [point(type="float32", resolution="1e5")]
    assert GroupDecoder(points, plan(points)).decode([struct.pack(">f", 650_000)]) == ([6], {})


def test_finite_marker_of_a_float_without_resolution_is_seen() -> None:
    points = [point(type="float32", not_available=[0xFF7FFFFF]), point(type="float64", address=2)]
    row = GroupDecoder(points, plan(points)).decode([bytes.fromhex("ff7fffff" + "8000000000000000")])
    assert exactly(row) == (["None", "0.0"], {"0": ["not-available"]})


def test_every_power_of_two_is_written_as_the_reference_does() -> None:
    points = [point(type="float32")]
    decoder = GroupDecoder(points, plan(points))
    for power in range(-149, 128):
        number = 2.0**power
        assert decoder.decode([struct.pack(">f", number)]) == ([shortest32(number)], {})


def test_every_float32_times_the_largest_power_is_exact_in_a_double() -> None:
    largest = (2**24 - 1) * 5**EXACT_SHIFT
    assert largest.bit_length() <= 53
    assert ((2**24 - 1) * 5 ** (EXACT_SHIFT + 1)).bit_length() > 53


def decode(points: Sequence[PointType], *answers: bytes | str) -> tuple[list[Any], dict[str, list[str]]]:
    return GroupDecoder(points, plan(points)).decode(answers)


def test_values_come_in_the_order_of_the_points_not_of_the_registers() -> None:
    points = [point("B", address=1), point("A", address=0), point("C", type="bit", bit=1, address=0)]
    assert decode(points, struct.pack(">2H", 7, 2)) == ([2, 7, True], {})


def test_two_points_may_read_one_register_as_different_types() -> None:
    points = [point("F", type="float32"), point("U", type="uint32"), point("H", type="int16", address=1)]
    assert decode(points, bytes.fromhex("4366199a")) == ([230.1, 0x4366199A, 0x199A], {})


def test_bits_of_coils_are_packed_from_the_least_significant() -> None:
    points = [point(f"C{n}", type="bool", table="coil", address=n) for n in (3, 4, 11, 12)]
    assert decode(points, bytes([0b0000_0001, 0b0000_0001])) == ([True, False, True, False], {})
    assert decode(points, bytes([0b0000_0010, 0b0000_0011])) == ([False, True, True, True], {})


def test_failed_request_leaves_its_points_empty_and_the_others_good() -> None:
    points = [point("A"), point("B", table="input"), point("C", address=1)]
    assert decode(points, "timeout", b"\0\1\0\2") == ([1, None, 2], {"1": ["timeout"]})
    assert decode(points, b"\0\3", "exception-2") == (
        [None, 3, None],
        {"0": ["exception-2"], "2": ["exception-2"]},
    )


def test_reason_of_all_points_is_written_once() -> None:
    points = [point("A"), point("B", table="input")]
    assert decode(points, "line-down", "line-down") == ([None, None], {"*": ["line-down"]})
    assert decode(points, "timeout", "line-down") == (
        [None, None],
        {"0": ["line-down"], "1": ["timeout"]},
    )
    marked = [point("A", not_available=[9]), point("B", address=1, not_available=[9])]
    assert decode(marked, b"\0\x09\0\x09") == ([None, None], {"*": ["not-available"]})


@pytest.mark.parametrize("answer", [b"", b"\0", b"\0\1\0"])
def test_answer_of_wrong_length_is_a_bad_frame_not_a_value(answer: bytes) -> None:
    assert decode([point()], answer) == ([None], {"*": ["bad-frame"]})


def test_missing_answer_is_a_mistake_of_ours() -> None:
    with pytest.raises(ValueError, match="argument"):
        decode([point()])


def test_point_outside_of_its_request_is_a_mistake_of_ours() -> None:
    made = point(type="uint32")
    with pytest.raises(ValueError, match="does not lie in its request"):
        GroupDecoder([made], [Request(made.table, 0, 1, (0,))])
    with pytest.raises(ValueError, match="in no request"):
        GroupDecoder([made], [])


def test_decoder_keeps_nothing_between_rows() -> None:
    points = [point("A", type="float32", resolution="0.1", not_available=["nan"]), point("B", address=2)]
    decoder = GroupDecoder(points, plan(points))
    good, bad = bytes.fromhex("4366199a0001"), bytes.fromhex("7fc000000001")
    for _ in range(2):
        assert decoder.decode([bad]) == ([None, 1], {"0": ["not-available"]})
        assert decoder.decode([good]) == ([2301, 1], {})
        assert decoder.decode(["timeout"]) == ([None, None], {"*": ["timeout"]})


@pytest.mark.parametrize(
    ("fields", "run"),
    [
        ({"type": "int16", "not_available": [0x8000]}, (-32767, 2**53)),
        ({"type": "uint16", "not_available": [0xFFFF], "low": 0}, (0, 65534)),
        ({"type": "uint16", "not_available": [0], "low": 0, "high": 9}, (1, 9)),
        ({"type": "int16", "scale": "2.5", "high": 100}, (-(2**53), 1000)),
        ({"type": "uint16", "low": 5, "high": 5, "not_available": [5]}, (1, 0)),
        ({"type": "uint16", "low": 10, "high": 99, "not_available": [20]}, (21, 99)),
        ({"type": "float32", "resolution": 1, "not_available": [0x447A0000]}, (-(2**53), 999)),
    ],
)
def test_run_of_surely_good_steps_has_no_marker_in_it(fields: dict[str, Any], run: tuple[int, int]) -> None:
    assert surely_good(point(**fields)) == run


@given(register_points(st.just(0)), st.integers(-(2**64), 2**64))
def test_surely_good_means_good(made: PointType, raw: int) -> None:
    if not made.type.is_integer:
        return
    low, high = surely_good(made)
    chunk = (raw % (1 << made.type.bits)).to_bytes(made.type.bits // 8, "big")
    plain = made.model_copy(update={"byte_order": "big", "word_order": "big"})
    values, quality = reference_row([plain], plan([plain]), [chunk])
    mult, add, _ = made.steps
    steps = int.from_bytes(chunk, "big", signed=made.type.is_signed) * mult + add
    if low <= steps <= high:
        assert (values, quality) == ([steps], {})


def test_every_number_has_a_struct_code_of_its_width() -> None:
    assert set(CODES) == set(RegisterType) - {RegisterType.STRING}
    for kind, code in CODES.items():
        if kind.bits:
            assert struct.calcsize(f">{code}") * 8 == kind.bits
