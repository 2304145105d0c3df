"""The quick judgement of a row says what the rule of the wire says."""

from hypothesis import given
from hypothesis import strategies as st

from core.codec import row_fault
from core.manifest import Group, Point, ValueKind
from core.records import Row
from headend.known import KnownGroup
from tests.support.gateway_double import ENTITY, owned

values = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=5), st.integers().map(str),
)  # fmt: skip
kinds = st.lists(st.sampled_from(ValueKind), min_size=1, max_size=4)


@given(
    kinds,
    st.lists(values, max_size=5),
    st.lists(st.integers(0, 9), max_size=2),
    st.integers(0, 5000),
    st.dictionaries(
        st.sampled_from(["0", "3", "*", "x"]), st.lists(st.sampled_from(["timeout", "odd"])), max_size=2
    ),
)
def test_quick_judgement_agrees_with_the_rule(
    kind: list[ValueKind],
    content: list[int | float | str | bool | None],
    offsets: list[int],
    tick: int,
    quality: dict[str, list[str]],
) -> None:
    points = tuple(Point(f"p{n}", "W", "W", one) for n, one in enumerate(kind))
    group = Group(1, "meter", "t", 1000, points, (owned(ENTITY),), requests=1, phase_ms=500)
    row = Row(7, 1, tick, offsets, content, quality)
    expected = row_fault(row, group)
    found = KnownGroup(group, ENTITY).fault(row, ENTITY)
    assert (found is None) == (expected is None)
