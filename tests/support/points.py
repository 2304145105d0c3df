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


_AMOUNTS = st.integers(1, 5000).map(lambda thousandths: f"{thousandths / 1000:.3f}")


@st.composite
def counting_points(draw: st.DrawFn, address: st.SearchStrategy[int]) -> PointType:
    """Counters with everything that can be said of how they behave."""
    sense: dict[str, Any] = {
        "max_rate": draw(st.none() | _AMOUNTS),
        "modulus": draw(st.none() | st.sampled_from([1_000_000, "429496729.6", "0.1"])),
        "refresh": draw(st.sampled_from(["200ms", "10s", "1min"])),
        "frozen": draw(st.none() | st.sampled_from(["1h", "90s"])),
        "substituted": draw(st.lists(st.sampled_from([0, "-0.1", "999.9"]), max_size=2)),
        "guessed": draw(st.lists(st.sampled_from(["max_rate", "refresh", "modulus"]), unique=True)),
    }
    return point(
        type="uint32",
        scale="0.1",
        unit="kWh",
        address=draw(address),
        cumulative=True,
        ratio=draw(st.sampled_from([None, "ct", "vt", "ct*vt"])),
        verified=draw(st.none() | st.booleans()),
        sense={key: value for key, value in sense.items() if value is not None},
    )


@st.composite
def ordered_points(draw: st.DrawFn, address: st.SearchStrategy[int]) -> PointType:
    """Points that are written, with a hold of every kind."""
    guessed = draw(st.lists(st.sampled_from(["default", "min_on_s", "hold"]), unique=True))
    common: dict[str, Any] = {
        "guessed": guessed,
        "min_on_s": draw(st.sampled_from([0, 600])),
        "essential": draw(st.booleans()),
    }
    if draw(st.booleans()):
        timed = {"address": draw(address), "scale": draw(st.sampled_from(["0.1", "1"])), "max": 30}
        coil = {"function": "coil", "min": 0, "max": 1, "default": 0, "hold": "timer", "on_for": timed}
        return point(table="coil", type="bool", unit="", address=draw(address), write={**coil, **common})
    order: dict[str, Any] = {
        "function": draw(st.sampled_from(["register", "registers"])),
        "min": 6,
        "max": "16.5",
        "step": "0.5",
        "also": draw(st.sampled_from([[], [0], [0, "-1.5"]])),
        "default": 16,
        **common,
    }
    if draw(st.booleans()):
        order["hold"] = draw(st.sampled_from(["timer", "watchdog"]))
        order["hold_register"] = {
            "table": "holding",
            "address": draw(address),
            "type": "uint16",
            "scale": draw(st.sampled_from(["1", "0.001"])),
            "min": draw(st.sampled_from([1, 5])),
            "max": "65",
        }
    readable = draw(st.booleans())
    return point(
        type="int16", scale="0.1", address=draw(address), readable=readable, default=readable, write=order
    )


@st.composite
def bit_points(draw: st.DrawFn, address: st.SearchStrategy[int]) -> PointType:
    """Points of a table of bits."""
    table = draw(st.sampled_from([Table.COIL, Table.DISCRETE]))
    return point(table=table.value, type="bool", address=draw(address))
