"""Device types are found, read, and refused with every fault at its place."""

from decimal import Decimal
from pathlib import Path

import pytest

from core.errors import ConfigError
from core.manifest import Group, Manifest, manifest_fault
from core.ownership import Ownership
from drivers.modbus.plan import plan
from drivers.types import DeviceType, Table, known_types, load_type

EXTRA = (Path(__file__).parents[2] / "support" / "types",)

GOOD = """
[type]
name = "toy"
manufacturer = "M"
model = "T1"
description = "A toy"
kind = "meter"
[source]
title = "Manual"
where = "page 1"
read = 2026-11-22
verified = true
[limits]
max_registers = 10
forbidden = [{ table = "input", first = 20, last = 29 }]
[defaults]
table = "input"
type = "float32"
resolution = "0.1"
unit = "V"
[[block]]
table = "input"
address = 40
count = 4
[[point]]
name = "PhVphA"
address = 0
low = 0.5
every = "60s"
[[point]]
name = "Count"
address = 2
type = "uint32"
unit = "1"
[[point]]
name = "Serial"
address = 10
type = "string"
length = 4
unit = ""
default = false
"""


def written(directory: Path, text: str, name: str = "toy") -> ConfigError:
    """Write a type file and return the error that reading it gives."""
    (directory / f"{name}.toml").write_text(text)
    with pytest.raises(ConfigError) as error:
        load_type(name, [directory])
    return error.value


def test_type_is_read_with_defaults_for_its_points(tmp_path: Path) -> None:
    (tmp_path / "toy.toml").write_text(GOOD)
    toy = load_type("toy", [tmp_path])
    voltage, count, serial = toy.points
    assert (voltage.quantity, voltage.unit, voltage.table) == ("PhVphA", "V", Table.INPUT)
    assert (voltage.resolution, voltage.low) == (Decimal("0.1"), Decimal("0.5"))
    assert voltage.every_ms == 60_000
    assert count.resolution is None  # the default is for floats
    assert not serial.default
    assert toy.limits.max_registers == 10
    assert toy.blocks[0].count == 4
    assert toy.point("Serial") is serial
    with pytest.raises(KeyError):
        toy.point("Nothing")


@pytest.mark.parametrize("name", known_types(EXTRA))
def test_every_type_we_bring_is_read_planned_and_fit_for_a_manifest(name: str) -> None:
    device = load_type(name, EXTRA)
    requests = plan(device.told, device.limits, device.blocks)
    of = {index: number for number, request in enumerate(requests) for index in request.points}
    points = tuple(point.core_point(of[index]) for index, point in enumerate(device.told))
    owner = Ownership("o", ("o",), "o", "o")
    group = Group(1, "d", name, 1000, points, (owner,), requests=len(requests))
    assert manifest_fault(Manifest("gw", (group,))) is None


ORDERED = """
[defaults]
table = "holding"
type = "uint16"
unit = "A"
[[point]]
name = "Order"
address = 0
readable = false
default = false
[point.write]
function = "register"
min = 0
max = 16
default = 16
hold = "watchdog"
hold_register = { table = "holding", address = 9, type = "uint16", max = 600, shown_by = "Hold" }
hold_if = { point = "Armed", value = 1 }
falls_back_to = "Safe"
feedback = "Shown"
locked_if = { point = "Lock", value = 0 }
"""
NAMED = ["feedback", "falls_back_to", "hold_if.point", "locked_if.point", "hold_register.shown_by"]


def ordered(points: str) -> str:
    return GOOD.partition("[defaults]")[0].replace("forbidden", "# forbidden") + ORDERED + points


def told(name: str, address: int) -> str:
    return f'[[point]]\nname = "{name}"\naddress = {address}\n'


def test_points_that_an_order_names_are_there_and_told(tmp_path: Path) -> None:
    every = "".join(told(name, 20 + at) for at, name in enumerate(("Shown", "Safe", "Armed", "Hold", "Lock")))
    (tmp_path / "toy.toml").write_text(ordered(every))
    toy = load_type("toy", [tmp_path])
    assert [point.name for point in toy.told] == ["Shown", "Safe", "Armed", "Hold", "Lock"]
    with pytest.raises(ConfigError, match="point Order is only written"):
        plan(toy.points)
    missing = written(tmp_path, ordered(told("Other", 20)))
    assert [fault.partition("write.")[2].partition(":")[0] for fault in missing.faults] == NAMED
    silent = written(tmp_path, ordered(every).replace('"Shown"', '"Order"'))
    assert "another point: this one is never read" in str(silent)


def test_markers_may_be_given_for_each_register_type(tmp_path: Path) -> None:
    by_type = "[defaults.not_available]\nuint16 = [0xFFFF]\nint32 = [0x7FFF_FFFF]\n"
    points = (
        told("A", 0)
        + told("B", 1)
        + 'type = "int32"\n'
        + told("C", 3)
        + 'type = "uint32"\n'
        + told("D", 5)
        + "not_available = []\n"
        + told("E", 6).replace("address", 'type = "bit"\nbit = 1\nunit = ""\naddress')
    )
    start = GOOD.partition("[[block]]")[0].replace('type = "float32"', 'type = "uint16"')
    (tmp_path / "toy.toml").write_text(start + by_type + points)
    toy = load_type("toy", [tmp_path])
    assert [point.not_available for point in toy.points] == [(0xFFFF,), (0x7FFF_FFFF,), (), (), ()]
    wrong = written(tmp_path, start + by_type.replace("int32", "int33") + points)
    assert "defaults.not_available: 'int33' is no register type of a number" in str(wrong)


def test_known_types_are_those_of_all_directories() -> None:
    assert {"eastron-sdm630", "modbus-peer"} <= set(known_types(EXTRA))
    assert "modbus-peer" not in known_types()


def test_extra_directory_comes_before_our_own(tmp_path: Path) -> None:
    (tmp_path / "eastron-sdm630.toml").write_text(GOOD.replace('"toy"', '"eastron-sdm630"'))
    assert load_type("eastron-sdm630", [tmp_path]).model == "T1"
    assert load_type("eastron-sdm630").model != "T1"


def test_unknown_type_is_refused_with_the_nearest() -> None:
    with pytest.raises(ConfigError) as error:
        load_type("eastron-sdm63")
    assert str(error.value).startswith(
        "device type 'eastron-sdm63' is not known; did you mean eastron-sdm630"
    )


def test_unknown_type_with_none_near_is_refused_with_all_known() -> None:
    with pytest.raises(ConfigError, match=r"known are: abb-b21, .*generic-load-relay"):
        load_type("xyzzy-9000")


@pytest.mark.parametrize("name", ["../types/eastron-sdm630", "", "a/b", "."])
def test_name_that_is_a_path_is_not_a_type(name: str) -> None:
    with pytest.raises(ConfigError, match="is not known"):
        load_type(name, EXTRA)


def test_all_faults_of_a_file_come_at_once_each_with_its_place(tmp_path: Path) -> None:
    text = (
        GOOD.replace('kind = "meter"', 'kind = "toaster"\ncolour = "red"')
        .replace("max_registers = 10", "max_registers = 126")
        .replace("address = 2\n", "address = 2\nscales = 1\n")
        .replace("address = 10\n", "address = 65535\n")
        .replace("low = 0.5", 'low = "x"')
    )
    error = written(tmp_path, text)
    place = f"{tmp_path}/toy.toml: "
    assert [fault.removeprefix(place) for fault in error.faults] == [
        "point[0] PhVphA: low: is a number such as 230 or 0.1, not 'x'",
        "point[1] Count: scales: this key is not known",
        "point[2] Serial: it ends at address 65538, the last one is 65535",
        (
            "type.kind: input should be 'meter', 'relay', 'inverter', 'battery', 'charger' or 'counter', "
            "not 'toaster'"
        ),
        "limits.max_registers: input should be less than or equal to 125, not 126",
        "type.colour: this key is not known",
    ]
    assert str(error) == f"{error.faults[0]} (and 5 more)"


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("[source]", "[sauce]", "[sauce] is not known, sections are"),
        ('unit = "V"', 'unit = "V"\nname = "x"', "defaults: 'name' has no default"),
        ('name = "toy"', 'name = "boy"', "type.name: is 'boy', the file is called 'toy'"),
        ('name = "Count"', 'name = "PhVphA"', "point[1] PhVphA: point[0] has this name"),
        ("address = 2\n", "address = 19\n", "point[1] Count: it lies in the forbidden range 20 to 29"),
        ("length = 4", "length = 11", "point[2] Serial: it needs 11 registers, the device reads 10"),
        ("count = 4", "count = 11", "block[0]: a read of 11 from 40 is beyond the limits"),
        ("count = 4", "count = 0", "block[0].count: input should be greater than or equal to 1, not 0"),
        ("address = 40", "address = 27", "block[0]: it reads the forbidden range 20 to 29"),
        ("first = 20", "first = 30", "limits.forbidden[0]: first 30 is above last 29"),
        ('every = "60s"', 'every = "1d"', "point[0] PhVphA: every: '1d' is no duration"),
        ("verified = true", 'verified = "yes"', "source.verified: input should be a valid boolean"),
        ("read = 2026-11-22", "", "source.read: is missing"),
        ("low = 0.5", "low = inf", "point[0] PhVphA: low: "),
    ],
)
def test_fault_is_named_with_its_place(tmp_path: Path, old: str, new: str, fault: str) -> None:
    assert old in GOOD
    error = written(tmp_path, GOOD.replace(old, new, 1))
    place = f"{tmp_path}/toy.toml: "
    assert any(found.startswith(place + fault) for found in error.faults), error.faults


def test_places_count_the_points_of_the_file_also_behind_a_faulty_one(tmp_path: Path) -> None:
    text = GOOD.replace("low = 0.5", 'low = "x"').replace("length = 4", "length = 12")
    text = text.replace("address = 10", "address = 5")
    faults = written(tmp_path, text).faults
    assert [fault.partition("toy.toml: ")[2].partition(":")[0] for fault in faults] == [
        "point[0] PhVphA",
        "point[2] Serial",
    ]


def test_feedback_that_is_no_point_is_a_fault(tmp_path: Path) -> None:
    write = '[point.write]\nfunction = "coil"\nmin = 0\nmax = 1\ndefault = 0\nfeedback = "Nobody"\n'
    switch = f'[[point]]\nname = "Switch"\ntable = "coil"\ntype = "bool"\naddress = 0\nunit = ""\n{write}'
    error = written(tmp_path, GOOD + switch)
    assert error.faults == (
        f"{tmp_path}/toy.toml: point[3] Switch: write.feedback: there is no point 'Nobody'",
    )


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[type", "cannot be read"),
        ("", "it has no [[point]]"),
        ("point = 3", "point: is written as [[point]]"),
        ("type = 3", "type: is a section [type]"),
    ],
)
def test_file_without_sense_is_refused(tmp_path: Path, text: str, sentence: str) -> None:
    error = written(tmp_path, text)
    assert any(sentence in fault for fault in (str(error), *error.faults))


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    (tmp_path / "toy.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="not UTF-8 text"):
        load_type("toy", [tmp_path])


def test_type_is_frozen(tmp_path: Path) -> None:
    (tmp_path / "toy.toml").write_text(GOOD)
    toy: DeviceType = load_type("toy", [tmp_path])
    with pytest.raises(ValueError, match="frozen"):
        toy.points[0].address = 3  # type: ignore[misc]


DOCUMENT = Path(__file__).parents[3] / "docs" / "devices.md"


def documented(containing: str) -> str:
    """Return the block of TOML in the document that holds a text."""
    blocks = DOCUMENT.read_text().split("```toml\n")[1:]
    return next(block.partition("```")[0] for block in blocks if containing in block)


def test_documented_example_is_a_whole_type(tmp_path: Path) -> None:
    (tmp_path / "example-meter.toml").write_text(documented('name = "example-meter"'))
    meter = load_type("example-meter", [tmp_path])
    assert {point.type.value for point in meter.points} >= {"float32", "uint16", "bool", "bit", "string"}


def test_documented_sections_of_a_point_are_read(tmp_path: Path) -> None:
    sense = documented("max_rate")
    counter = '[[point]]\nname = "Wh"\naddress = 6\ntype = "uint32"\nunit = "Wh"\ncumulative = true\n'
    safe = '[[point]]\nname = "AFailsafe"\naddress = 8\nunit = "A"\n'
    order = '[[point]]\nname = "ALimit"\ntable = "holding"\ntype = "uint16"\n'
    order += 'address = 9\nunit = "A"\nscale = "0.1"\n'
    start = GOOD.partition("[[block]]")[0]
    (tmp_path / "toy.toml").write_text(start + counter + sense + safe + order + documented("falls_back_to"))
    toy = load_type("toy", [tmp_path])
    counted, limit = toy.point("Wh").sense, toy.point("ALimit").write
    assert counted is not None
    assert (counted.modulus, counted.refresh_ms, counted.guessed) == (10**8, 10_000, ("refresh", "modulus"))
    assert limit is not None
    assert limit.limits == "0 or 6 to 16"
    assert limit.hold_register is not None
    assert limit.hold_register.max == Decimal("65.535")


def test_file_that_is_not_utf_8_is_told_with_its_line_and_what_to_do(tmp_path: Path) -> None:
    text = GOOD.replace("A toy", "Z\u00e4hler").encode("latin-1")
    (tmp_path / "toy.toml").write_bytes(text)
    with pytest.raises(
        ConfigError, match=r"toy\.toml: is not UTF-8 text \(line 6\): save it as UTF-8"
    ) as raised:
        load_type("toy", (tmp_path,))
    assert raised.value.faults == (str(raised.value),)
