"""The device types that we ship: planned within their limits, sourced, documented, and true to recordings.

The recordings and worked examples are facts from the sources that each names: register contents by
address on the wire, in hexadecimal, and what the device's makers or owners say they mean.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from itertools import combinations
from pathlib import Path

import pytest

from drivers.modbus.plan import plan
from drivers.modbus.registers import NOT_AVAILABLE, decode_point, encode
from drivers.types import DeviceType, PointType, RegisterType, Table, known_types, load_type

SHIPPED = known_types()
ROOT = Path(__file__).parents[3]
BITS = (RegisterType.BIT, RegisterType.BOOL)
PLACE = re.compile(r"[\w.-]+/[\w.-]+: .|[\w-]+\.(com|de|ls|ru)\b|drivers/types/|^public repository, ")
"""A repository and a file in it, a site, a file of our own, or a file whose repository is not known."""
ENERGIES = {"Wh", "kWh", "varh", "kvarh", "VAh", "kVAh", "m3"}
NOT_GROWING = ("Net", "Session", "VAhPowerOn")


def writable(device: DeviceType) -> Iterator[PointType]:
    """Yield the points that can be written."""
    return (point for point in device.points if point.write is not None)


def words(registers: list[int]) -> bytes:
    """Return registers as they go over the wire."""
    return b"".join(register.to_bytes(2, "big") for register in registers)


def unconfirmed(device: DeviceType) -> list[str]:
    """Return the names of the points that no source confirmed."""
    return [
        point.name
        for point in device.points
        if not (device.source.verified if point.verified is None else point.verified)
    ]


@pytest.mark.parametrize("name", SHIPPED)
def test_every_type_is_planned_within_what_its_device_bears(name: str) -> None:
    device = load_type(name)
    chosen = [point for point in device.points if point.default]
    assert chosen, "nothing is read by default"
    for request in (
        *plan(chosen, device.limits, device.blocks),
        *plan(device.told, device.limits, device.blocks),
    ):
        assert request.count <= device.limits.span(request.table)
        assert request.end <= 0x10000


@pytest.mark.parametrize("name", SHIPPED)
def test_no_two_points_lie_in_the_same_registers_unless_both_are_bits(name: str) -> None:
    for one, other in combinations(load_type(name).points, 2):
        apart = one.table is not other.table or one.end <= other.address or other.end <= one.address
        bits = one.type in BITS and other.type in BITS and one.bit != other.bit
        assert apart or bits, f"{one.name} and {other.name}"


@pytest.mark.parametrize("name", SHIPPED)
def test_every_source_says_what_was_read_where_and_when(name: str) -> None:
    source = load_type(name).source
    assert source.title
    assert source.read.year >= 2026
    for place in (source.where, *source.also):
        assert PLACE.search(place), f"{place!r} names neither a repository and a file nor a site"


@pytest.mark.parametrize("name", SHIPPED)
def test_every_energy_grows_and_every_float_has_a_resolution(name: str) -> None:
    for point in load_type(name).points:
        if point.unit in ENERGIES and not point.name.startswith(NOT_GROWING[:2]):
            assert point.cumulative, point.name
        if point.type.is_float:
            assert point.resolution is not None, point.name


@pytest.mark.parametrize("name", SHIPPED)
def test_every_order_within_its_limits_can_be_written_and_comes_back_as_sent(name: str) -> None:
    for point in writable(load_type(name)):
        write = point.write
        assert write is not None
        for value in (write.min, write.default, write.max):
            sent = encode(point, value)
            chunk = bytes(sent) if point.type is RegisterType.BOOL else words(sent)
            back, reason = decode_point(point, chunk)
            assert reason is None, f"{point.name}: {value} is {reason}"
            assert isinstance(back, int), point.name
            assert Decimal(int(back)).scaleb(point.steps.exp) == value


@pytest.mark.parametrize("name", SHIPPED)
def test_a_hold_is_armed_by_something_that_can_be_written(name: str) -> None:
    for point in writable(load_type(name)):
        write = point.write
        assert write is not None
        armed = [part for part in (write.hold_register, write.on_for) if part is not None]
        assert len(armed) == (write.hold != "none"), point.name


@pytest.mark.parametrize("name", SHIPPED)
def test_only_what_falls_back_by_itself_may_be_ordered_without_somebody_who_restores_it(name: str) -> None:
    """A control never relies on the gateway alone: every shipped type with orders has a hold for them."""
    for point in writable(load_type(name)):
        assert point.write is not None
        assert point.write.hold != "none", point.name


@pytest.mark.parametrize("name", SHIPPED)
def test_every_order_that_can_be_read_back_names_its_feedback(name: str) -> None:
    for point in writable(load_type(name)):
        assert point.write is not None
        assert bool(point.write.feedback) == point.readable, point.name


def rows(path: Path) -> dict[str, str]:
    """Return the rows of the table of types in a document, by type."""
    table = path.read_text().partition("\n| type |")[2].partition("\n\n")[0]
    found = re.findall(r"^\| \[?`?([a-z0-9-]+)`?(?:\]\([a-z0-9-]+\.toml\))? \|(.*)$", table, re.M)
    return dict(found)


def test_both_documents_have_a_row_for_every_type_and_for_no_other() -> None:
    assert sorted(rows(ROOT / "docs" / "devices.md")) == SHIPPED
    assert sorted(rows(ROOT / "drivers" / "types" / "README.md")) == SHIPPED


@pytest.mark.parametrize("name", SHIPPED)
def test_the_documented_numbers_of_points_and_requests_are_those_planned(name: str) -> None:
    device = load_type(name)
    chosen = [point for point in device.points if point.default]
    points = f"{len(device.points)} ({len(chosen)})"
    requests = [len(plan(some, device.limits, device.blocks)) for some in (device.told, chosen)]
    assert f"| {points} | {requests[0]} ({requests[1]}) |" in rows(ROOT / "docs" / "devices.md")[name]
    assert f"| {points} |" in rows(ROOT / "drivers" / "types" / "README.md")[name]


@pytest.mark.parametrize("name", SHIPPED)
def test_the_documentation_names_every_point_that_no_source_confirmed(name: str) -> None:
    """In the words of `portico types list`: yes, in part, no."""
    device = load_type(name)
    for document in (ROOT / "docs" / "devices.md", ROOT / "drivers" / "types" / "README.md"):
        confirmed = rows(document)[name].rpartition("| ")[2].removesuffix(" |")
        missing = sorted(unconfirmed(device))
        if not missing or len(missing) == len(device.points):
            assert confirmed == ("no" if missing else "yes")
        else:
            assert confirmed.startswith("in part: not ")
            assert sorted(re.findall(r"`(\w+)`", confirmed)) == missing


@dataclass(frozen=True, slots=True)
class Recording:
    """Register contents by first address, of one table, and what they mean; None: the device has no value."""

    type: str
    origin: str
    registers: dict[int, str]
    means: dict[str, str | None]


RECORDINGS = [
    Recording(
        "eastron-sdm120",
        "maker's protocol description V2.5, page 4, the answer to Volts 1",
        {0x0000: "4366 3334"},
        {"PhVphA": "230.2"},
    ),
    Recording(
        "eastron-sdm230",
        "comment on a real answer in arendst/Tasmota: xnrg_21_sdm230.ino",
        {0x0000: "4366 3334"},
        {"PhVphA": "230.2"},
    ),
    Recording(
        "schneider-iem3255",
        "recording of a real iEM3255 in SolarNetwork/solarnetwork-node: test-pm3200-data-01.txt",
        {
            49: "6945 4d33 3235 3520" + 16 * " 2020",
            2999: "4026 86f2 4067 32fb 40e6 43d1",
            3027: "436f 4a85 4370 f186 4375 9346",
            3053: "3f1a 1b51 3f01 7fc3 bfdb 7e8e bf1b 6208",
            3067: "bf79 3ef9",
            3075: "3f91 561b",
            3083: "bf03 b774",
            3109: "4248 4329",
            3203: "0000 0000 04f0 8803 0000 0000 000f ea9c",
            3517: "0000 0000 01cf f111 0000 0000 0251 40be 0000 0000 00f2 66c9",
        },
        {
            "Md": "iEM3255",
            "AphA": "2.602",
            "PhVphA": "239.3",
            "PhVphB": "240.9",
            "PhVphC": "245.6",
            "WphC": "-1.7148",
            "W": "-0.6070",
            "VAR": "-0.9736",
            "VA": "1.1354",
            "PF4Q": "-0.515",
            "Hz": "50.07",
            "TotWhImp": "82872323",
            "TotWhExp": "1043100",
            "TotWhImpPhA": "30404881",
            "TotWhImpPhB": "38879422",
            "TotWhImpPhC": "15886025",
        },
    ),
    Recording(
        "schneider-pm5000",
        "recording of a real PM5330 in SolarNetwork/solarnetwork-node: PM5100DataTests.java",
        {
            29: "506f 7765 7220 4d65 7465 7220" + 14 * " 0000",
            49: "504d 3533 3330" + 17 * " 0000",
            89: "3ba9",
            129: "055d b7c3",
            2999: "42db 6b85 42d8 570a 42dc 6b85 8000 8000",
            3009: "42db 6a20",
            3025: "43f7 3e11 438e 86af 438e f30f 438e ced0",
            3053: "41f5 8370 41fb 2e41 41fd aef4 42bb 9829",
            3067: "bfba 7921",
            3075: "42bb f20f",
            3083: "3f80 3d3a",
            3109: "4270 070c",
            3203: "0000 0000 046e 73ea 0000 0000 0001 6481",
        },
        {
            "Nam": "Power Meter",
            "Md": "PM5330",
            "ProductId": "15273",
            "AphA": "109.71",
            "AphN": None,
            "AphAvg": "109.707",
            "PPV": "494.5",
            "PhVphA": "285.1",
            "PhVphB": "285.9",
            "PhVphC": "285.6",
            "WphA": "30.6892",
            "W": "93.7972",
            "VAR": "-1.4568",
            "VA": "93.9728",
            "PF4Q": "1.002",
            "Hz": "60.01",
            "TotWhImp": "74347498",
            "TotWhExp": "91265",
        },
    ),
    Recording(
        "carlo-gavazzi-em24",
        "recording of a PowerRouter's line with two EM24-DIN, read with function 03",
        {
            0x00: "08e1 0000 08f2 0000 08b7 0000",
            0x0C: "01c9 0000 0233 0000 04d5 0000 0142 0000 0485 0000",
            0x16: "0a37 0000 040e 0000 0507 0000 0ac4 0000",
            0x46: "2e7b 0001 bb15 0000 a30f 0000",
        },
        {
            "PhVphA": "227.3",
            "PhVphB": "229.0",
            "PhVphC": "223.1",
            "AphA": "0.457",
            "AphC": "1.237",
            "WphA": "32.2",
            "WphC": "261.5",
            "VAphA": "103.8",  # 227.3 V times 0.457 A is 103.9 VA
            "VAphB": "128.7",  # 229.0 V times 0.563 A is 128.9 VA
            "VAphC": "275.6",  # 223.1 V times 1.237 A is 276.0 VA
            "TotWhImpPhA": "7743.5",
            "TotWhImpPhB": "4789.3",
            "TotWhImpPhC": "4174.3",
        },
    ),
    Recording(
        "carlo-gavazzi-em24",
        "the second meter of the same recording: a current without direction, a power with a sign",
        {0x0C: "0000 0000 0029 0000 0042 0000 0000 0000 ffe1 ffff", 0x16: "fff9 ffff"},
        {"AphB": "0.041", "WphB": "-3.1", "WphC": "-0.7"},
    ),
    Recording(
        "carlo-gavazzi-em340",
        "maker's protocol description, page 8: overflow, with the word order of the wire",
        {0x28: "ffff 7fff"},
        {"W": None},
    ),
    Recording(
        "finder-7m38",
        "maker's protocol document, pages 20 and 22: examples of T_float and T3",
        {462: "075b cd15", 2500: "42f6 e666"},
        {"TotWhImp": "12345678.9", "PhVphA": "123.4"},
    ),
    Recording(
        "abb-b23",
        "values that openWB/core: b23.py and volkszaehler/mbmd: abb.go take as none",
        {0x5004: "ffff ffff ffff ffff", 0x5B02: "ffff ffff", 0x5B1E: "7fff ffff", 0x5B2C: "ffff"},
        {"TotWhExp": None, "PhVphB": None, "VARphA": None, "Hz": None},
    ),
    Recording(
        "keba-p40",
        "maker's programmer's guide V1.02, pages 9 to 19: its examples",
        {
            1008: "0000 0285 0000 03f3",
            1014: "0119 04d6",
            1016: "0040 4657",
            1020: "0001 8165",
            1036: "0000 94d5",
            1046: "0000 03a0",
            1502: "0000 00a5",
            1600: "0000 1770 0000 000b",
        },
        {
            "AphA": "645",
            "AphB": "1011",
            "SN": "18416854",
            "Product": "4212311",
            "W": "98661",
            "TotWhImp": "3810.1",
            "PF": "92.8",
            "SessionWh": "16.5",
            "AFailsafe": "6000",
            "FailsafeS": "11",
        },
    ),
    Recording(
        "heidelberg-energy-control",
        "maker's register table, version 20.10.2020: the column of examples",
        {4: "0100", 6: "0001", 9: "ff6f", 10: "00ee", 14: "03e8", 15: "0001 0000", 17: "0000 03e8"},
        {
            "Layout": "256",
            "AphA": "0.1",
            "TmpCab": "-14.5",
            "PhVphA": "238",
            "VA": "1000",
            "VAhPowerOn": "65536",
            "TotVAh": "1000",
        },
    ),
    Recording(
        "heidelberg-energy-control",
        "the same table, holding registers: the columns of examples and defaults",
        {257: "3a98", 261: "0064", 262: "003c"},
        {"WatchdogMs": "15000", "ALimit": "10", "AFailsafe": "6"},
    ),
]


def register_bytes(recording: Recording, point: PointType) -> bytes:
    """Return what a point's registers hold in a recording."""
    for first, text in recording.registers.items():
        body = bytes.fromhex(text)
        if first <= point.address and point.end <= first + len(body) // 2:
            return body[2 * (point.address - first) : 2 * (point.end - first)]
    raise AssertionError(f"{point.name} is not in the recording")


@pytest.mark.parametrize("recording", RECORDINGS, ids=lambda one: f"{one.type}: {one.origin}")
def test_recorded_registers_mean_what_their_source_says(recording: Recording) -> None:
    device = load_type(recording.type)
    for name, meaning in recording.means.items():
        point = device.point(name)
        value, reason = decode_point(point, register_bytes(recording, point))
        if meaning is None:
            assert (value, reason) == (None, NOT_AVAILABLE), name
        elif point.type is RegisterType.STRING:
            assert (value, reason) == (meaning, None), name
        else:
            assert isinstance(value, int), name
            assert (Decimal(value).scaleb(point.steps.exp), reason) == (Decimal(meaning), None), name


def test_relays_of_the_waveshare_board_are_read_as_its_page_shows() -> None:
    """01 01 01 41: "relay 0 and 6 are on, others are off"."""
    device = load_type("waveshare-rtu-relay-d")
    coils = 0x41
    on = [
        point.name
        for point in device.points
        if point.table is Table.COIL
        and decode_point(point, bytes([coils >> point.address & 1])) == (True, None)
    ]
    assert on == ["Relay1", "Relay7"]


def test_charger_of_heidelberg_is_sent_tenths_of_amperes() -> None:
    """The maker's table: 100 is 10 A, 60 is 6 A."""
    limit = load_type("heidelberg-energy-control").point("ALimit")
    assert encode(limit, Decimal(10)) == [0x0064]
    assert encode(limit, Decimal(6)) == [0x003C]
