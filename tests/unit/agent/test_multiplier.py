"""Transformer ratios: how they are written, exact at every tick, and never applied backwards."""

from decimal import Decimal, localcontext
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.config import parse_config, types_of
from agent.lineworker import LineWorker
from agent.multiplier import Multiplier, parse_ratio
from agent.site import PollGroup, Site, build_site
from core.errors import ConfigError
from core.intervals import Completeness, Register, Sample, intervals
from core.manifest import Value, ValueKind, manifest_fault, shown
from core.transformers import BOTH, Behind, Term
from drivers.modbus.plan import Request
from drivers.points import PointType
from drivers.types import DeviceType, Limits, Source
from drivers.typetext import type_text
from tests.support.linebench import ScriptedLink, Sink, for_seconds
from tests.support.points import point
from tests.support.virtual_time import NOON, VirtualClock, VirtualTimeLoop, run_virtually

RATIOS = st.one_of(
    st.sampled_from(["100/5", "75/5", "1", "20", "0.5", "11000/110", "5/16", "400/0.5", "1.0001"]).map(
        parse_ratio
    ),
    st.builds(Fraction, st.integers(1, 10**6), st.sampled_from([1, 2, 4, 5, 8, 10, 16, 10**4])),
)
POINTS = (
    point("A", type="uint32", scale="0.001", unit="A", ratio="ct"),
    point("PhV", type="int32", scale="0.1", unit="V", ratio="vt"),
    point("TotWhImp", type="uint64", scale="10", unit="Wh", ratio="ct*vt", cumulative=True),
    point("Hz", type="uint16", scale="0.01", unit="Hz"),
    point("On", type="bit", bit=0),
)


@pytest.mark.parametrize(
    ("text", "ratio"),
    [
        ("100/5", 20),
        ("20", 20),
        (20, 20),
        ("75 / 5", 15),
        ("12.5", Fraction(25, 2)),
        ("5/16", Fraction(5, 16)),
    ],
)
def test_ratio_is_two_rated_values_or_a_number(text: object, ratio: Fraction) -> None:
    assert parse_ratio(text) == ratio


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("100/3", "no decimal of at most 4 places"),
        ("1/32", "no decimal of at most 4 places"),
        ("100:5", "must be a ratio in quotes"),
        ("-20", "must be a ratio in quotes"),
        ("1e3", "must be a ratio in quotes"),
        ("", "must be a ratio in quotes"),
        (20.0, "must be a ratio in quotes"),
        (True, "must be a ratio in quotes"),
        (None, "must be a ratio in quotes"),
        ("٢٠", "must be a ratio in quotes"),
        ("0/5", "has a zero in it"),
        ("5/0", "has a zero in it"),
        ("2000001/2", "no decimal of|more than"),
    ],
)
def test_what_is_no_exact_ratio_is_refused(text: object, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        parse_ratio(text)


@st.composite
def _terms(draw: st.DrawFn) -> list[Term]:
    begins = sorted(draw(st.sets(st.integers(1, 1000), max_size=4)))
    first = draw(st.sampled_from([None, 0]))
    return [Term(begin, draw(RATIOS), draw(RATIOS)) for begin in [first, *begins]]


@given(
    _terms(),
    st.integers(-5, 1005),
    st.lists(st.none() | st.integers(-(2**31), 2**31 - 1), min_size=4, max_size=4),
)
def test_primary_value_is_the_secondary_one_times_the_ratio_of_its_tick_exactly(
    terms: list[Term], tick: int, raw: list[int | None]
) -> None:
    multiplier = Multiplier(POINTS, terms)
    secondary = [one.core_point(0) for one in POINTS]
    primary = [multiplier.point(index, one) for index, one in enumerate(secondary)]
    values: list[Value] = [*raw, True]
    quality: dict[str, list[str]] = {}
    found = multiplier.primary(tick, values, quality)
    holding = [term for term in terms if term.from_ms is None or term.from_ms <= tick]
    with localcontext(prec=100):
        for index, point_type in enumerate(POINTS):
            before, after = shown(secondary[index], values[index]), shown(primary[index], found[index])
            if not isinstance(before, Decimal) or not holding or point_type.ratio is None:
                assert after == before
                continue
            ratio = holding[-1].ratio(point_type.ratio)
            if after is None:
                assert quality[str(index)] == ["undecodable"]
                assert abs(Fraction(before) * ratio) >= 10 ** (19 + primary[index].exp)
                continue
            assert after == before * Decimal(ratio.numerator) / Decimal(ratio.denominator)
            assert isinstance(after, Decimal)
            assert Fraction(after) == Fraction(before) * ratio
    assert found[3:] == values[3:]


def test_value_beyond_what_every_reader_holds_is_text_and_one_beyond_a_row_is_left_out() -> None:
    energy = (point("Wh", type="uint64", scale="1", unit="Wh", ratio="ct*vt"),)
    multiplier = Multiplier(energy, [Term(None, Fraction(10**6), Fraction(10**4))])
    quality: dict[str, list[str]] = {}
    assert multiplier.primary(0, [10**7], quality) == [str(10**17)]
    assert multiplier.primary(0, [str(10**9)], quality) == [str(10**19)]
    assert quality == {}
    assert multiplier.primary(0, [str(10**19)], quality) == [None]
    assert quality == {"0": ["undecodable"]}


# From the file to the rows

KIND = DeviceType(
    name="ct-meter",
    manufacturer="Portico",
    model="Made up",
    description="For this test",
    kind="meter",
    source=Source.model_validate(
        {"title": "none", "where": "here", "read": "2026-11-22", "verified": True}, strict=False
    ),
    limits=Limits(),
    points=(
        PointType.model_validate(
            {
                **point("TotWhImp", type="uint32", unit="Wh", ratio="ct", cumulative=True).model_dump(
                    exclude_unset=True, by_alias=True
                ),
                "high": 3000,
                "sense": {"modulus": 4000},
            }
        ),
        point("Hz", type="uint16", address=2, unit="Hz", scale="0.01"),
    ),
)
PLAIN = KIND.model_copy(update={"name": "plain", "points": (KIND.points[1],)})
CONFIG = """
[gateway]
id = "gw-0001"
data_dir = "var"
[[line]]
name = "lan"
url = "modbus+tcp://127.0.0.1"
[[device]]
name = "meter"
type = "TYPE"
line = "lan"
unit_id = 1
every = "10s"
owner = "dso.example"
"""
FIRST = '[[device.transformer]]\nct = "100/5"\n'
SECOND = '[[device.transformer]]\nfrom = 2026-11-22T12:00:30Z\nct = "75/2"\n'


def site_of(text: str, folder: Path, extra: str = "") -> Site:
    for kind in (KIND, PLAIN):
        (folder / f"{kind.name}.toml").write_text(type_text(kind))
    whole = CONFIG.replace("TYPE", extra or KIND.name).replace(
        "[gateway]", f'[gateway]\ntypes = ["{folder}"]'
    )
    config = parse_config(whole + text, Path("/etc/gateway.toml"))
    return build_site(config, types_of(config.gateway))


def test_manifest_has_the_terms_and_an_exponent_in_which_all_are_whole(
    tmp_path: Path,
) -> None:
    site = site_of(FIRST + SECOND, tmp_path)
    (group,) = site.manifest.groups
    assert manifest_fault(site.manifest) is None
    assert group.x == {
        "transformer_from": [None, NOON + 30_000],
        "transformer_ct": ["20", "37.5"],
        "transformer_vt": ["1", "1"],
        "transformer_points": {"TotWhImp": "ct"},
        "modulus": {"TotWhImp": "4000"},
    }
    assert [one.exp for one in group.points] == [-1, -2]
    assert site.groups[0].exps == [0, -2]
    behind = Behind(group, group.points[0])
    assert [behind.ratio_at(NOON + ms) for ms in (29_999, 30_000)] == [20, Fraction(75, 2)]
    assert behind.modulus_at(NOON) == 800_000


def test_group_without_ratio_pays_nothing_and_tells_nothing(tmp_path: Path) -> None:
    (poll,) = site_of("", tmp_path, "plain").groups
    assert poll.multiplier is None
    assert poll.group.x == {}
    (poll,) = site_of("", tmp_path).groups
    assert poll.multiplier is None, (
        "registers behind transformers that nobody described are taken as they are"
    )


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        (FIRST + FIRST, ["transformer[2] from: is missing: only the first"]),
        (SECOND + SECOND, ["transformer[2] from: is not after 2026-11-22T12:00:30+00:00"]),
        ('[[device.transformer]]\nct = "100/3"\n', ["transformer[1] ct: ", "no decimal"]),
        ("[[device.transformer]]\nfrom = 2026-11-22T12:00:30Z\n", ["transformer[1]: gives no ratio"]),
        (
            '[[device.transformer]]\nfrom = 2026-11-22T12:00:30\nct = "2"\n',
            ["transformer[1] from: needs an offset"],
        ),
        ('[[device.transformer]]\nform = 2026-11-22T12:00:30Z\nct = "2"\n', ['did you mean "from"?']),
    ],
)
def test_fault_in_the_terms_is_told_with_its_place(tmp_path: Path, text: str, sentences: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        site_of(text, tmp_path)
    (fault,) = caught.value.faults
    assert fault.startswith('gateway.toml: device[1] "meter" transformer')
    for sentence in sentences:
        assert sentence in fault


def test_transformers_of_a_type_with_primary_values_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        site_of(FIRST, tmp_path, "plain")
    (fault,) = caught.value.faults
    assert "transformer: no point of plain stands behind transformers" in fault


def rows_of(group: PollGroup, registers: list[int], seconds: float) -> Sink:
    """The rows of a meter whose register shows one number after the other, from noon on."""
    sink = Sink()
    shows = iter(registers)

    async def answer(unit_id: int, request: Request) -> bytes:
        return next(shows).to_bytes(4, "big") + (5000).to_bytes(2, "big")

    async def main(loop: VirtualTimeLoop, clock: VirtualClock) -> None:
        worker = LineWorker(
            "lan", ScriptedLink(answer), (group,), 0, clock, sink, {}, lambda code, raised, text, device: None
        )
        await for_seconds(worker, seconds)

    run_virtually(main)
    return sink


def test_change_of_ratio_leaves_the_rows_before_it_alone_and_is_not_counted_over(
    tmp_path: Path,
) -> None:
    (poll,) = site_of(FIRST + SECOND, tmp_path).groups
    sink = rows_of(poll, [100, 101, 102, 104, 3001, 3002], 60)
    point_ = poll.group.points[0]
    found = {row.tick: shown(point_, row.values[0]) for row in sink.rows}
    assert found == {
        NOON + 10_000: 2000,
        NOON + 20_000: 2020,
        NOON + 30_000: Decimal("3825.0"),
        NOON + 40_000: Decimal("3900.0"),
        NOON + 50_000: Decimal("112537.5"),
    }
    # The range is judged by what the register shows: 3001 is above, 3825.0 Wh is not.
    assert [row.quality for row in sink.rows[:4]] == [{}] * 4
    assert "out-of-range" in str(sink.rows[4].quality)
    behind = Behind(poll.group, point_)
    samples = [
        Sample(
            row.tick,
            int(str(row.values[0])),
            (),
            Register("meter", str(behind.ratio_at(row.tick))),
            10_000,
        )
        for row in sink.rows[:4]
    ]
    (one,) = intervals(samples, 300_000, NOON, NOON + 300_000)
    assert (one.steps, one.completeness) == (200 + 750, Completeness.PARTIAL)
    assert "transformer-change" in one.reasons


def test_change_of_ratio_is_reported_also_when_the_register_stands_still(
    tmp_path: Path,
) -> None:
    changes = 'report = "changes"\nheartbeat = "1h"\ndeadband = { TotWhImp = "75" }\n'
    (poll,) = site_of(changes + FIRST + SECOND, tmp_path).groups
    assert poll.by_exception is not None
    assert list(poll.by_exception.deadbands) == [Decimal(2), Decimal(0)]
    sink = rows_of(poll, [100, 101, 101, 101, 104, 104], 60)
    assert [(row.tick - NOON) // 1000 for row in sink.rows] == [10, 30, 50]


def test_ratio_is_for_what_is_measured_in_whole_steps() -> None:
    from drivers.points import point_faults

    assert point("W", type="int32", ratio="ct*vt").kind is ValueKind.INTEGER
    assert point("W", type="int32", ratio=BOTH) == point("W", type="int32", ratio="ct*vt")
    (fault,) = point_faults(PointType.model_validate({**_fields(), "type": "float32"}))
    assert '"ratio" belongs to integers' in fault


def _fields() -> dict[str, object]:
    return point("W", type="int32", unit="W", ratio="ct").model_dump(exclude_unset=True, by_alias=True)
