"""One simulated device: the plant in its registers, counters, controls; no code for a new type."""

import struct
from collections.abc import Callable, Mapping
from decimal import Decimal
from pathlib import Path

import pytest

from drivers.modbus.plan import plan
from drivers.modbus.values import GroupDecoder
from drivers.types import DeviceType, known_types, load_type
from simulator.device import NEVER, Device
from simulator.effect import Behaviour
from simulator.encoding import Plain, unit_factor
from simulator.faults import Fault, FaultKind
from simulator.pdu import Request
from simulator.run import OWN_TYPES
from tests.unit.simulator.types_made import made

RELAY = load_type("generic-load-relay")
COUNTER = load_type("simulator-counter", [OWN_TYPES])


class Still:
    """A source that tells what it was given."""

    def __init__(self, told: Mapping[str, Plain]) -> None:
        self.told = dict(told)
        self.version = 1
        self.passed_s = 100.0

    def quantities(self) -> Mapping[str, Plain]:
        return self.told

    def elapsed_s(self) -> float:
        return self.passed_s


class Diary:
    """A journal that keeps what it was told, in order."""

    def __init__(self) -> None:
        self.lines: list[tuple[object, ...]] = []
        self.effects: list[tuple[object, ...]] = []

    def counted(self, device: str, point: str, count: int) -> None:
        self.lines.append(("count", device, point, count))

    def written(self, device: str, point: str, value: Decimal, cause: str) -> None:
        self.lines.append((cause, device, point, int(value)))

    def took_effect(self, device: str, point: str, value: Decimal, cause: str) -> None:
        self.effects.append((cause, device, point, int(value)))


class Bench:
    """A device on a bench, with a clock that is set by hand."""

    def __init__(
        self,
        device_type: DeviceType,
        told: Mapping[str, Plain] | None = None,
        counts: Mapping[str, int] | None = None,
        behaviour: Behaviour = Behaviour(),
    ) -> None:
        self.now_s = 1000.0
        self.source = Still(told or {})
        self.diary = Diary()
        self.shed: list[bool] = []
        clock: Callable[[], float] = lambda: self.now_s  # noqa: E731  # reads better beside what it closes over
        self.device = Device(
            "bench",
            device_type,
            source=self.source,
            journal=self.diary,
            clock=clock,
            counts=counts or {},
            shed=self.shed.append,
            behaviour=behaviour,
        )

    def ask(self, text: str) -> str:
        return self.device.answer(bytes.fromhex(text)).hex()

    def row(self) -> dict[str, object]:
        """Return all points as the agent's own plan and decoder read them."""
        points = self.device.type.told
        requests = plan(points, self.device.type.limits, self.device.type.blocks)
        answers: list[bytes | str] = []
        for one in requests:
            found = self.device.answer(struct.pack(">BHH", one.table.read_function, one.address, one.count))
            assert found[0] < 0x80, found
            answers.append(found[2:])
        values, reasons = GroupDecoder(points, requests).decode(answers)
        assert reasons == {}
        return {point.name: value for point, value in zip(points, values, strict=True)}


@pytest.mark.parametrize("name", ["eastron-sdm630", "schneider-iem3155"])
def test_a_meter_shows_the_plants_quantities_in_its_units_and_steps(name: str) -> None:
    device_type = load_type(name)
    told = {
        point.quantity: (float(point.low) + (0.3 + number / 200) * float(point.high - point.low))
        / unit_factor(point.unit)
        for number, point in enumerate(device_type.points)
        if point.low is not None and point.high is not None
    }
    row = Bench(device_type, told).row()
    compared = 0
    for point in device_type.points:
        value = row[point.name]
        if point.quantity not in told:
            continue
        assert isinstance(value, int)
        meant = told[point.quantity] * unit_factor(point.unit)
        assert float(Decimal(value).scaleb(point.steps.exp)) == pytest.approx(
            meant, abs=0.5001 * 10**point.steps.exp, rel=1e-6
        )
        compared += 1
    assert compared > 25


@pytest.mark.parametrize("name", known_types())
def test_every_shipped_type_is_played_within_its_plausible_ranges_though_nobody_knows_its_quantities(
    name: str,
) -> None:
    row = Bench(load_type(name)).row()  # asks as the agent does, and wants no value out of range
    assert None not in row.values()


ORDERED_IN_MA = """
[[point]]
name = "ALimit"
table = "holding"
type = "uint16"
address = 5004
unit = "mA"
[point.write]
function = "register"
min = 6000
max = 32_000
also = [0]
default = 32_000
"""


def test_an_order_in_thousandths_is_shown_as_it_was_sent(tmp_path: Path) -> None:
    charger = Bench(made(tmp_path, ORDERED_IN_MA))
    assert charger.ask("03 138c 0001") == "03027d00"  # 32000 mA: nobody controls it
    assert charger.ask("06 138c 1770") == "06138c1770"
    assert charger.ask("03 138c 0001") == "03021770"
    assert charger.ask("06 138c 0000") == "06138c0000"
    assert charger.ask("06 138c 0bb8") == "8603"  # 3 A: between off and 6 A nothing is allowed


def test_what_is_only_written_is_refused_to_readers_and_shown_where_it_is_told() -> None:
    charger = Bench(load_type("keba-p40"))
    assert charger.ask("03 138c 0001") == "8302"
    assert charger.ask("06 139a 0004") == "8603"  # a time-out is 5 to 600 s
    assert charger.ask("06 139a 000b") == "06139a000b"
    assert charger.ask("03 0642 0002") == "03040000000b"
    assert charger.row()["FailsafeS"] == 11


def test_watchdog_in_milliseconds_falls_back_to_the_fail_safe_current() -> None:
    wallbox = Bench(load_type("heidelberg-energy-control"))
    assert wallbox.ask("06 0101 3a98") == "0601013a98"  # 15000 ms
    assert wallbox.ask("06 0105 0064") == "0601050064"
    assert wallbox.row()["WatchdogMs"] == 15_000
    wallbox.now_s += 15
    assert wallbox.row()["ALimit"] == 0  # as delivered the fail-safe current is 0
    wallbox.device.set("hand", "AFailsafe", "6")
    wallbox.ask("06 0105 0064")
    wallbox.now_s += 15
    assert wallbox.row()["ALimit"] == 60


def test_relay_on_for_a_time_goes_off_by_itself() -> None:
    board = Bench(load_type("waveshare-rtu-relay-d"))
    assert board.ask("05 0201 0008") == "0502010008"  # the page: relay 1 flash on, 800 ms
    assert board.ask("01 0000 0008") == "010102"
    board.now_s += 0.79
    assert board.ask("01 0000 0008") == "010102"
    board.now_s += 0.01
    assert board.ask("01 0000 0008") == "010100"
    assert board.ask("05 0208 0008") == "8503"
    assert board.ask("05 0201 8000") == "8503"


def test_relay_falls_back_only_where_it_was_told_to() -> None:
    module = Bench(load_type("wirenboard-wb-mr6c"))
    module.device.set("hand", "FallsK2", "0")
    for order in ("06 0008 000a", "05 0000 ff00", "05 0001 ff00"):
        module.ask(order)
    module.now_s += 10
    assert module.ask("01 0000 0002") == "010102"


def test_a_new_type_needs_no_code(tmp_path: Path) -> None:
    device_type = made(
        tmp_path,
        """
[defaults]
table = "input"
[[point]]
name = "power"
quantity = "W"
type = "int32"
unit = "W"
scale = "0.1"
word_order = "little"
address = 40
[[point]]
name = "maker"
quantity = "Mn"
type = "string"
unit = ""
length = 4
address = 0
[[point]]
name = "alarm"
type = "bit"
unit = ""
bit = 3
address = 50
[[point]]
name = "fault"
type = "bit"
unit = ""
bit = 0
address = 50
[[point]]
name = "mystery"
type = "uint16"
unit = "1"
low = 100
high = 300
address = 60
[[point]]
name = "door"
table = "discrete"
type = "bool"
unit = ""
address = 9
""",
    )
    bench = Bench(device_type, {"W": -1234.56, "alarm": True, "door": True})
    row = bench.row()
    mystery = row.pop("mystery")
    assert row == {"power": -12346, "maker": "Nobody", "alarm": True, "fault": False, "door": True}
    assert isinstance(mystery, int)
    assert 199 <= mystery <= 201
    assert bench.ask("04 0032 0001") == "04020008"


def test_what_nobody_knows_follows_from_its_name_and_simulated_time(tmp_path: Path) -> None:
    text = """
[defaults]
table = "input"
type = "float32"
unit = "1"
[[point]]
name = "one"
address = 0
[[point]]
name = "two"
address = 2
[[point]]
name = "sum"
type = "uint32"
cumulative = true
address = 4
[[point]]
name = "text"
type = "string"
unit = ""
length = 2
address = 6
"""
    device_type = made(tmp_path, text)
    first, again = Bench(device_type), Bench(device_type)
    assert first.row() == again.row()
    before = first.row()
    first.source.passed_s += 60
    first.source.version += 1
    after = first.row()
    assert before["text"] == after["text"] == "text"
    assert before["one"] not in (before["two"], after["one"])
    assert isinstance(before["sum"], int)
    assert after["sum"] == before["sum"] + 60


def test_registers_are_encoded_anew_only_when_the_plant_has_moved_on() -> None:
    bench = Bench(load_type("eastron-sdm630"), {"PhVphA": 230.0})
    before = bench.ask("04 0000 0002")
    bench.source.told["PhVphA"] = 231.0
    assert bench.ask("04 0000 0002") == before
    bench.source.version += 1
    assert bench.ask("04 0000 0002") != before


def test_a_counter_counts_before_it_answers_and_goes_on_from_an_earlier_life() -> None:
    bench = Bench(COUNTER, counts={"PollCount": 41})
    assert bench.ask("03 0000 0002") == "03040000002a"
    assert bench.ask("03 0000 0002") == "03040000002b"
    assert bench.diary.lines == [("count", "bench", "PollCount", 42), ("count", "bench", "PollCount", 43)]


@pytest.mark.parametrize(
    "request_", ["04 0000 0002", "03 0002 0001", "03 0000 0003", "03 0000 0000", "06 0000 0001"]
)
def test_what_is_refused_does_not_count(request_: str) -> None:
    bench = Bench(COUNTER)
    assert int(bench.ask(request_)[:2], 16) & 0x80
    assert bench.diary.lines == []
    assert bench.ask("03 0000 0002") == "030400000001"


def test_what_is_only_pretended_neither_counts_nor_writes() -> None:
    for bench, request in ((Bench(COUNTER), "03 0000 0002"), (Bench(RELAY), "05 0000 ff00")):
        bench.device.pretend(bytes.fromhex(request))
        assert bench.diary.lines == []


def test_a_relay_sheds_shows_it_and_falls_back_by_its_own_timer() -> None:
    bench = Bench(RELAY, {"W": 1980.0})
    assert bench.ask("06 0000 001e") == "060000001e"
    assert bench.ask("05 0000 ff00") == "050000ff00"
    bench.now_s += 9.5
    shed = {"LoadShed": True, "LoadState": True, "HoldSeconds": 21, "W": 1980, "Cycles": 1, "ShedSeconds": 9}
    assert bench.row() == shed
    bench.now_s += 21
    back = {
        "LoadShed": False,
        "LoadState": False,
        "HoldSeconds": 0,
        "W": 1980,
        "Cycles": 1,
        "ShedSeconds": 30,
    }
    assert bench.row() == back
    assert bench.shed == [True, False]
    assert bench.diary.lines == [
        ("write", "bench", "LoadShed/hold", 30),
        ("write", "bench", "LoadShed", 1),
        ("hold", "bench", "LoadShed", 0),
    ]


def test_a_hold_runs_out_also_when_nobody_asks() -> None:
    bench = Bench(RELAY)
    bench.ask("06 0000 0005")
    bench.ask("05 0000 ff00")
    bench.now_s += 5
    bench.device.settle()
    assert bench.shed == [True, False]


CHARGER = """
[defaults]
table = "holding"
type = "uint16"
unit = "A"
[[point]]
name = "Limit"
address = 10
type = "float32"
[point.write]
function = "registers"
min = 6
max = 32
step = 2
default = 32
hold = "watchdog"
hold_register = { table = "holding", address = 12, type = "uint16", max = 600 }
[[point]]
name = "Phases"
address = 20
[point.write]
function = "register"
min = 1
max = 3
step = 2
default = 3
"""


def floats(value: float) -> str:
    return struct.pack(">f", value).hex()


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        (f"10 000a 0002 04 {floats(16)}", 0),
        (f"10 000a 0003 06 {floats(16)} 003c", 0),
        ("06 000c 0258", 0),
        ("06 0014 0001", 0),
        ("10 0014 0001 02 0003", 0),
        ("06 000c 0259", 3),
        (f"10 000a 0002 04 {floats(34)}", 3),
        (f"10 000a 0002 04 {floats(17)}", 3),
        (f"10 000a 0002 04 {floats(float('nan'))}", 3),
        ("06 0014 0002", 3),
        ("06 000a 4180", 2),
        ("10 000a 0001 02 4180", 2),
        ("06 000b 0000", 2),
        ("06 0063 0000", 2),
        ("05 0000 ff00", 2),
    ],
    ids=str,
)
def test_a_write_is_allowed_or_refused_by_the_types_limits(tmp_path: Path, request_: str, code: int) -> None:
    found = Bench(made(tmp_path, CHARGER)).ask(request_)
    assert (int(found[2:4], 16) if int(found[:2], 16) & 0x80 else 0) == code


def test_a_write_is_applied_wholly_or_not_at_all(tmp_path: Path) -> None:
    bench = Bench(made(tmp_path, CHARGER))
    assert bench.ask(f"10 000a 0003 06 {floats(16)} 0259") == "9003"
    assert bench.diary.lines == []
    assert bench.ask("03 000a 0003") == f"0306{floats(32)}0000"


def test_a_hold_that_comes_with_its_order_is_set_first(tmp_path: Path) -> None:
    bench = Bench(made(tmp_path, CHARGER))
    bench.ask(f"10 000a 0003 06 {floats(16)} 003c")
    bench.now_s += 59
    assert bench.ask("03 000a 0002") == f"0304{floats(16)}"
    bench.now_s += 59
    bench.device.settle()
    assert bench.shed == [True]
    bench.now_s += 1
    bench.device.settle()
    assert bench.shed == [True, False]


def test_points_that_are_not_read_by_default_are_not_counted_as_polled() -> None:
    sdm = Bench(load_type("eastron-sdm630")).device
    by_default = [point for point in sdm.type.points if point.default]
    planned = plan(by_default, sdm.type.limits, sdm.type.blocks)
    counted = sum(
        sdm.points_inside(Request(one.table.read_function, one.address, one.count)) for one in planned
    )
    assert counted == len(by_default) < len(sdm.type.points)
    assert sdm.points_inside(Request(3, 0, 80)) == 0
    assert sdm.points_inside(Request(16, 0, 80)) == 0


def test_an_answer_that_must_not_be_believed_shows_a_count_that_is_never_given() -> None:
    bench = Bench(COUNTER, counts={"PollCount": 41})
    found = bench.device.answer_in_vain(bytes.fromhex("03 0000 0002"))
    assert int.from_bytes(found[2:], "big") == 41 + NEVER
    assert bench.diary.lines == []
    assert bench.ask("03 0000 0002") == "03040000002a"


def test_an_order_whose_answer_must_not_be_believed_is_done_all_the_same() -> None:
    bench = Bench(RELAY)
    bench.ask("06 0000 001e")
    bench.device.answer_in_vain(bytes.fromhex("05 0000 ff00"))
    assert bench.shed == [True]


def test_a_relay_that_lags_shows_its_order_before_its_effect() -> None:
    bench = Bench(RELAY, behaviour=Behaviour(delay_s=5))
    bench.ask("06 0000 001e")
    bench.ask("05 0000 ff00")
    assert (bench.row()["LoadShed"], bench.row()["LoadState"], bench.shed) == (True, False, [])
    bench.now_s += 5
    assert (bench.row()["LoadState"], bench.shed) == (True, [True])
    assert bench.diary.effects == [("order", "bench", "LoadShed", 1)]


def test_a_device_that_refuses_answers_every_write_with_its_exception_and_reads_as_ever() -> None:
    bench = Bench(RELAY, {"W": 5.0}, behaviour=Behaviour(refuses=6))
    assert bench.ask("05 0000 ff00") == "8506"
    assert bench.ask("05 0001 ff00") == "8502"
    assert bench.row()["W"] == 5


def test_a_thermostat_goes_by_the_temperature_of_the_water() -> None:
    bench = Bench(RELAY, {"TmpWater": 40.0}, behaviour=Behaviour(warm_c=45))
    bench.ask("06 0000 ffff")
    bench.ask("05 0000 ff00")
    assert (bench.row()["LoadShed"], bench.row()["LoadState"]) == (True, False)
    bench.source.told["TmpWater"] = 50.0
    bench.now_s += 1
    assert bench.row()["LoadState"] is True


@pytest.mark.parametrize(("keeps", "after"), [(False, False), (True, True)])
def test_a_power_cut_takes_the_order_unless_the_device_keeps_it(keeps: bool, after: bool) -> None:
    bench = Bench(RELAY, behaviour=Behaviour(keeps=keeps))
    bench.ask("06 0000 ffff")
    bench.ask("05 0000 ff00")
    reboot = Fault(FaultKind.REBOOT)
    bench.device.begin(1, reboot)
    assert bench.shed == [True, False]
    bench.now_s += 3
    bench.device.settle()
    assert bench.shed == [True, False]
    bench.device.end(1, reboot)
    assert (bench.row()["LoadShed"], bench.row()["LoadState"]) == (after, after)


def test_a_stuck_contactor_takes_the_order_and_stays() -> None:
    bench = Bench(RELAY)
    stuck = Fault(FaultKind.IGNORED_WRITES)
    bench.device.begin(1, stuck)
    bench.ask("06 0000 ffff")
    bench.ask("05 0000 ff00")
    assert (bench.row()["LoadShed"], bench.row()["LoadState"]) == (True, False)
    bench.device.end(1, stuck)
    assert bench.row()["LoadState"] is True


def test_a_scripted_refusal_of_writes_goes_before_the_devices_own() -> None:
    bench = Bench(RELAY, behaviour=Behaviour(refuses=6))
    bench.device.begin(1, Fault(FaultKind.REFUSED_WRITES, code=1))
    assert bench.ask("05 0000 ff00") == "8501"


METER = load_type("eastron-sdm630")


def test_bends_apply_one_after_another_and_end_each_for_itself() -> None:
    bench = Bench(METER, {"PhVphA": 230.0, "TotWhImp": 5_000_000.0})
    frozen, jump = (
        Fault(FaultKind.FROZEN, points=("PhVphA",)),
        Fault(FaultKind.JUMP, points=("PhVphA",), by=5),
    )
    bench.device.begin(1, frozen)
    bench.device.begin(2, jump)
    bench.source.told["PhVphA"] = 231.0
    bench.source.version += 1
    assert bench.row()["PhVphA"] == 2350
    bench.device.end(1, frozen)
    assert bench.row()["PhVphA"] == 2360
    bench.device.end(2, jump)
    assert bench.row()["PhVphA"] == 2310


def test_a_value_set_by_hand_stays_and_a_counter_goes_on_from_it() -> None:
    bench = Bench(METER, {"PhVphA": 230.0, "TotWhImp": 5_000_000.0})
    assert bench.device.set(1, "PhVphA", "253.5")
    assert bench.device.set(2, "TotWhImp", "7.25")
    bench.source.told |= {"PhVphA": 231.0, "TotWhImp": 5_001_000.0}
    bench.source.version += 1
    shown = bench.device.values()
    assert shown["PhVphA"] == 253.5
    assert shown["TotWhImp"] == pytest.approx(8250.0)
    bench.device.release(1)
    assert bench.device.values()["PhVphA"] == 231.0


def test_a_writable_point_is_ordered_by_hand() -> None:
    bench = Bench(RELAY)
    assert not bench.device.set(1, "HoldSeconds", "60")
    assert not bench.device.set(2, "LoadShed", "1")
    assert bench.diary.lines == [("hand", "bench", "LoadShed/hold", 60), ("hand", "bench", "LoadShed", 1)]
    assert bench.shed == [True]
    bench.device.set(3, "LoadState", "0")
    assert bench.row()["LoadState"] is False


@pytest.mark.parametrize(
    ("type_", "point", "text", "sentence"),
    [
        (METER, "none", "1", "has no point none"),
        (METER, "PhVphA", "much", "PhVphA is a number, not 'much'"),
        (METER, "PhVphA", "inf", "PhVphA is a number"),
        (RELAY, "LoadState", "2", "LoadState is 0 or 1, not '2'"),
        (COUNTER, "PollCount", "7", "never set"),
    ],
)
def test_what_a_point_cannot_show_is_refused_with_a_sentence(
    type_: DeviceType, point: str, text: str, sentence: str
) -> None:
    with pytest.raises(ValueError, match=sentence):
        Bench(type_).device.set(1, point, text)


def test_an_order_by_hand_keeps_to_the_types_limits() -> None:
    with pytest.raises(ValueError, match=r"takes .* to 32000 in steps of"):
        Bench(load_type("keba-p40")).device.set(1, "ALimitSet", "1000000")


def test_a_fault_of_the_whole_device_names_no_points() -> None:
    with pytest.raises(ValueError, match="names no points"):
        Bench(METER).device.begin(1, Fault(FaultKind.SILENT, points=("W",)))


def test_a_clock_moves_on_though_the_plant_has_not() -> None:
    bench = Bench(load_type("simulator-clock", [OWN_TYPES]), {"Tms": 1000.0})
    assert bench.ask("03 0000 0002") == "0304000003e8"
    bench.source.told["Tms"] = 1001.0
    assert bench.ask("03 0000 0002") == "0304000003e9"


def test_a_counter_begins_again_where_its_type_says(tmp_path: Path) -> None:
    device_type = made(
        tmp_path,
        """
[[point]]
name = "TotWhImp"
table = "input"
type = "uint32"
unit = "kWh"
cumulative = true
address = 0
sense = { modulus = 1000 }
""",
    )
    assert Bench(device_type, {"TotWhImp": 3_004_000.0}).row() == {"TotWhImp": 4}
