"""Readings as samples of a register: steps, which register, how late an edge may be, and the modulus."""

from decimal import Decimal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import ConfigError
from core.intervals import Register, Sample, intervals
from core.manifest import Extra, Group, Point, ValueKind, shown
from core.registers import RegisterReader, Scale, scale_of
from tests.support.gateway_double import owned

ENERGY = Point("TotWhImp", "TotWhImp", "Wh", ValueKind.INTEGER, exp=-1, cumulative=True)
EXTRA: Extra = {
    "transformer_from": [None, 5000],
    "transformer_ct": ["20", "37.5"],
    "transformer_vt": ["1", "1"],
    "transformer_points": {"TotWhImp": "ct"},
    "modulus": {"TotWhImp": "1000"},
}


def group(point: Point = ENERGY, extra: Extra | None = None) -> Group:
    return Group(1, "meter", "type", 1000, (point,), (owned("dso.example"),), x=extra or {})


def test_steps_are_the_finest_of_all_manifests() -> None:
    finer = msgspec.structs.replace(ENERGY, exp=-3)
    scale = scale_of([group(), group(finer)], "TotWhImp")
    assert scale == Scale(-3, "Wh")
    one = RegisterReader("gw", group(), ENERGY, scale).sample(0, shown(ENERGY, 15), ())
    assert one.steps == 1500
    assert scale.amount(one.steps) == Decimal("1.500")
    assert scale.amount(None) is None


@pytest.mark.parametrize(
    ("point", "sentence"),
    [
        (msgspec.structs.replace(ENERGY, unit="kWh"), "is in Wh and in kWh"),
        (msgspec.structs.replace(ENERGY, cumulative=False), "no register that only grows"),
        (msgspec.structs.replace(ENERGY, kind=ValueKind.DECIMAL, exp=0), "not written in whole steps"),
    ],
)
def test_what_is_not_one_register_is_refused(point: Point, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        scale_of([group(), group(point)], "TotWhImp")
    with pytest.raises(ConfigError, match="there is no point"):
        scale_of([group()], "W")


def test_register_is_meter_and_ratio_and_the_modulus_goes_with_the_ratio() -> None:
    reader = RegisterReader("gw", group(extra=EXTRA), ENERGY, Scale(-2, "Wh"))
    before, after = (reader.sample(tick, Decimal(1), ["rate"]) for tick in (4999, 5000))
    assert before.register == Register("gw/meter/type", "20")
    assert after.register == Register("gw/meter/type", "37.5")
    assert (before.modulus, after.modulus) == (2_000_000, 3_750_000)
    assert before.reasons == ("rate",)
    assert before.within_ms == 1000
    failed = RegisterReader("gw", group(), ENERGY, Scale(-1, "Wh"), 7).sample(0, None, ["timeout"])
    assert failed == Sample(0, None, ("timeout",), Register("gw/meter/type", "1"), 7, None)


@given(st.lists(st.integers(0, 3000), min_size=2, max_size=40))
def test_counter_that_rolls_over_behind_transformers_loses_nothing(growth: list[int]) -> None:
    """Register of 1000 Wh in tenths behind 20:1; each step is a minute."""
    extra: Extra = {**EXTRA, "transformer_from": [None], "transformer_ct": ["20"], "transformer_vt": ["1"]}
    reader = RegisterReader("gw", group(extra=extra), ENERGY, Scale(-1, "Wh"), 60_000)
    total, samples = 0, []
    for number, more in enumerate(growth):
        rolled = number > 0 and (total % 10_000) + more >= 10_000
        total += more
        value = shown(ENERGY, total % 10_000 * 20)
        samples.append(reader.sample(number * 60_000, value, ["rollover"] if rolled else []))
    found = list(intervals(samples, 300_000))
    counted = growth[1 : 1 + 5 * len(found)]
    assert sum(one.steps or 0 for one in found) == sum(counted) * 20
    assert {one.completeness.value for one in found} <= {"actual"}
