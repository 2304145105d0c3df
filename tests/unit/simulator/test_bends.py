"""Values that are not so: which points a fault bends, and where counters go."""

from pathlib import Path

import pytest

from drivers.types import DeviceType, load_type
from simulator.bends import Bend, bend, end_of
from simulator.encoding import Plain, encode
from simulator.faults import Fault, FaultKind
from simulator.run import OWN_TYPES
from tests.unit.simulator.types_made import made

COUNTERS = """
[defaults]
table = "holding"
unit = "kWh"
[[point]]
name = "steps"
type = "uint16"
scale = "0.1"
cumulative = true
address = 0
[[point]]
name = "signed"
type = "int32"
unit = "Wh"
cumulative = true
address = 2
[[point]]
name = "float"
type = "float32"
cumulative = true
address = 4
[[point]]
name = "W"
type = "int32"
unit = "W"
address = 6
[[point]]
name = "text"
type = "string"
unit = ""
length = 2
address = 8
"""
TOLD: dict[str, Plain] = {"steps": 1_234_500.0, "signed": 5000.0, "float": 86_400.0, "W": 70.0, "text": "abc"}
"""In plain units: Wh, W."""


@pytest.fixture
def counters(tmp_path: Path) -> DeviceType:
    return made(tmp_path, COUNTERS)


def bent(device_type: DeviceType, kind: str, *points: str, by: float | None = None) -> Bend:
    return bend(device_type, Fault(FaultKind(kind), points=points, by=by), TOLD, 100.0, frozenset())


def register(device_type: DeviceType, name: str, value: Plain) -> str:
    return encode(device_type.point(name), value).hex()


def test_frozen_values_stay_while_all_others_move_on(counters: DeviceType) -> None:
    frozen = bent(counters, "frozen", "W")
    assert frozen.points == ["W"]
    assert frozen.shown("W", 999.0, 200.0) == 70.0
    assert frozen.shown("float", 999.0, 200.0) == 999.0
    assert bent(counters, "frozen").points == ["W", "float", "signed", "steps", "text"]


def test_a_reset_counter_starts_from_zero_and_goes_on(counters: DeviceType) -> None:
    reset = bent(counters, "counter-reset")
    assert reset.points == ["float", "signed", "steps"]
    assert reset.shown("signed", 5000.0, 100.0) == 0.0
    assert reset.shown("signed", 5012.0, 200.0) == 12.0


def test_a_value_jumps_in_its_own_unit(counters: DeviceType) -> None:
    assert bent(counters, "jump", "steps", by=2.5).shown("steps", 0.0, 100.0) == 2500.0
    assert bent(counters, "jump").points == ["float", "signed", "steps"]


@pytest.mark.parametrize(
    ("name", "gained_wh", "before", "after"),
    [("steps", 20.0, "ffff", "0000"), ("signed", 0.02, "7fffffff", "00000000")],
)
def test_an_integer_counter_stands_before_the_end_of_its_register_and_rolls_over(
    counters: DeviceType, name: str, gained_wh: float, before: str, after: str
) -> None:
    rolled = bent(counters, "rollover", name, by=0.01)
    true = TOLD[name]
    assert isinstance(true, float)
    assert register(counters, name, rolled.shown(name, true, 100.0)) == before
    assert register(counters, name, rolled.shown(name, true + gained_wh, 200.0)) == after


def test_a_float_counter_rolls_over_at_the_next_power_of_ten(counters: DeviceType) -> None:
    rolled = bent(counters, "rollover", "float", by=0.5)
    assert end_of(counters.point("float"), 86_400.0) == 100.0
    assert rolled.shown("float", 86_400.0, 100.0) == pytest.approx(99_500.0)
    assert rolled.shown("float", 87_000.0, 200.0) == pytest.approx(100.0)


def test_a_counter_rolls_over_where_its_type_says(tmp_path: Path) -> None:
    meter = made(tmp_path, COUNTERS.replace("address = 0\n", 'address = 0\nsense = { modulus = "2000" }\n'))
    rolled = bent(meter, "rollover", "steps", by=0.01)
    assert register(meter, "steps", rolled.shown("steps", 1_234_500.0, 100.0)) == f"{19_999:04x}"
    assert register(meter, "steps", rolled.shown("steps", 1_234_560.0, 200.0)) == "0000"


def test_a_clock_is_off_and_drifts() -> None:
    clock = load_type("simulator-clock", [OWN_TYPES])
    fault = Fault(FaultKind.CLOCK_DRIFT, by=3.0, ppm=500.0)
    drifting = bend(clock, fault, {"Clock": 1000.0}, 100.0, frozenset())
    assert drifting.points == ["Clock"]
    assert drifting.shown("Clock", 1000.0, 100.0) == 1003.0
    assert drifting.shown("Clock", 5000.0, 4100.0) == 5005.0


@pytest.mark.parametrize(
    ("kind", "points", "sentence"),
    [
        ("frozen", ("none",), "has no point none"),
        ("jump", ("text",), "text is no number"),
        ("rollover", ("W",), "W is not cumulative"),
        ("clock-drift", (), "has no clock"),
        ("silent", ("W",), "bends no values"),
    ],
)
def test_a_fault_that_cannot_show_is_refused_with_a_sentence(
    counters: DeviceType, kind: str, points: tuple[str, ...], sentence: str
) -> None:
    with pytest.raises(ValueError, match=sentence):
        bent(counters, kind, *points)


@pytest.mark.parametrize("kind", ["frozen", "rollover", "counter-reset", "jump"])
def test_a_count_that_proves_is_never_bent(kind: str) -> None:
    counter = load_type("simulator-counter", [OWN_TYPES])
    for points in ((), ("PollCount",)):
        with pytest.raises(ValueError, match=r"never bent|cannot show on it"):
            bend(counter, Fault(FaultKind(kind), points=points), {"PollCount": 1}, 0.0, frozenset())


def test_points_that_show_an_order_are_bent_only_by_name(counters: DeviceType) -> None:
    ordered = frozenset({"W", "text"})
    assert bend(counters, Fault(FaultKind.FROZEN), TOLD, 0.0, ordered).points == ["float", "signed", "steps"]
    named = Fault(FaultKind.FROZEN, points=("W",))
    assert bend(counters, named, TOLD, 0.0, ordered).points == ["W"]
