"""Points for tests of the drivers: one by keywords, and hypothesis strategies for arbitrary ones."""

from typing import Any

from hypothesis import strategies as st

from drivers.points import PointType, RegisterType, Table, point_faults


def point(name: str = "P", **fields: Any) -> PointType:
    """Return a point that has no faults; what is not said is a holding register of uint16 at 0."""
    whole = {
        "name": name,
        "quantity": name,
        "unit": "1",
        "table": "holding",
        "address": 0,
        "type": "uint16",
        **fields,
    }
    made = PointType.model_validate(whole)
    assert point_faults(made) == []
    return made


def marker_values(kind: RegisterType) -> st.SearchStrategy[int]:
    edge = [0, 1, 1 << (kind.bits - 1), (1 << kind.bits) - 1]
    return st.sampled_from(edge) | st.integers(0, (1 << kind.bits) - 1)


_NUMBERS = [kind for kind in RegisterType if kind.is_integer or kind.is_float]
_BOUNDS = st.none() | st.integers(-3000, 3000) | st.sampled_from(["0.05", "-12.345", "1e6"])
_POWERS = [f"1e{power}" for power in range(-6, 4)]


@st.composite
def register_points(draw: st.DrawFn, address: st.SearchStrategy[int]) -> PointType:
    """Points of any kind in the holding registers."""
    kind = draw(st.sampled_from([RegisterType.BIT, RegisterType.STRING, *_NUMBERS, *_NUMBERS]))
    order = st.sampled_from(["big", "little"])
    fields: dict[str, Any] = {
        "type": kind.value,
        "address": draw(address),
        "byte_order": draw(order),
        "word_order": draw(order),
    }
    if kind is RegisterType.BIT:
        return point(**fields, bit=draw(st.integers(0, 15)))
    if kind is RegisterType.STRING:
        return point(**fields, length=draw(st.integers(1, 6)))
    if kind.is_float:
        resolution = draw(st.none() | st.sampled_from(_POWERS))
        fields["resolution"] = resolution
        if resolution is not None:
            fields["scale"] = draw(st.sampled_from(["1", "1000", "0.01"]))
    else:
        fields["scale"] = draw(st.sampled_from(["1", "0.01", "100", "0.5", "2.5", "-1", "0.005", "20"]))
        fields["offset"] = draw(st.sampled_from(["0", "0", "-40", "0.125", "300"]))
    low, high = draw(_BOUNDS), draw(_BOUNDS)
    if low is None or high is None or float(low) <= float(high):
        fields |= {"low": low, "high": high}
    marks: list[int | str] = list(draw(st.lists(marker_values(kind), max_size=3)))
    if kind.is_float and draw(st.booleans()):
        marks.append("nan")
    return point(**fields, not_available=marks)


@st.composite
def bit_points(draw: st.DrawFn, address: st.SearchStrategy[int]) -> PointType:
    """Points of a table of bits."""
    table = draw(st.sampled_from([Table.COIL, Table.DISCRETE]))
    return point(table=table.value, type="bool", address=draw(address))
