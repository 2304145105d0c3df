"""What a group tells of transformers and moduli, written and read back."""

from decimal import Decimal
from fractions import Fraction

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.manifest import Extra, Group, Manifest, Point, ValueKind, decode_manifest
from core.transformers import BOTH, Behind, Term, decimals, described, term_at, text_of
from tests.support.gateway_double import owned

TERMS = (
    Term(None, Fraction(20), Fraction(1)),
    Term(1000, Fraction(75, 2), Fraction(110)),
)


def group(extra: Extra) -> Group:
    points = (
        Point("TotWhImp", "TotWhImp", "Wh", ValueKind.INTEGER, exp=-1, cumulative=True),
        Point("Hz", "Hz", "Hz", ValueKind.INTEGER, exp=-2),
    )
    return Group(1, "meter", "t", 1000, points, (owned("dso.example"),), x=extra)


def behind(extra: Extra, point: int = 0) -> Behind:
    found = group(extra)
    return Behind(found, found.points[point])


def test_term_holds_from_its_instant_on() -> None:
    assert [term_at(TERMS, tick).ct for tick in (0, 999, 1000)] == [20, 20, Fraction(75, 2)]
    assert term_at(TERMS[1:], 999).ratio(BOTH) == 1


def test_what_a_group_tells_is_read_back_through_a_manifest() -> None:
    extra = described(TERMS, {"TotWhImp": BOTH}, {"TotWhImp": Decimal(1000)})
    manifest = decode_manifest(Manifest("gw-0001", (group(extra),)).encode())
    found = Behind(manifest.groups[0], manifest.groups[0].points[0])
    assert [found.ratio_at(tick) for tick in (0, 999, 1000)] == [20, 20, Fraction(75, 2) * 110]
    assert [found.modulus_at(tick) for tick in (0, 1000)] == [200_000, 41_250_000]
    other = Behind(manifest.groups[0], manifest.groups[0].points[1])
    assert other.ratio_at(1000) == 1
    assert other.modulus_at(0) is None


def test_group_without_transformers_tells_nothing() -> None:
    assert described((), {}, {}) == described(TERMS, {}, {}) == described((), {"W": "ct"}, {}) == {}
    assert b'"x"' not in msgspec.json.encode(group({}))


@pytest.mark.parametrize(
    "extra",
    [
        {"transformer_points": "ct"},
        {"transformer_points": {"TotWhImp": 3}},
        {"transformer_points": {"TotWhImp": "ct"}, "transformer_from": [None]},
        {
            "transformer_points": {"TotWhImp": "ct"},
            "transformer_from": [None],
            "transformer_ct": ["1e999999999"],
            "transformer_vt": ["1"],
        },
        {"modulus": {"TotWhImp": "-5"}},
        {"modulus": {"TotWhImp": "0"}},
        {"modulus": {"TotWhImp": "0.01"}},
        {"modulus": ["1"]},
    ],
)
def test_what_makes_no_sense_counts_as_not_said(extra: Extra) -> None:
    found = behind(extra)
    assert found.ratio_at(0) == 1
    assert found.modulus_at(0) is None


@given(st.integers(1, 10**10), st.integers(0, 8))
def test_finite_decimals_are_written_exactly(digits: int, places: int) -> None:
    ratio = Fraction(digits, 10**places)
    assert Fraction(text_of(ratio)) == ratio
    assert "e" not in text_of(ratio).lower()


def test_fraction_without_end_is_no_decimal() -> None:
    assert decimals(Fraction(100, 3)) is None
    with pytest.raises(ValueError, match="no finite decimal"):
        text_of(Fraction(100, 3))
