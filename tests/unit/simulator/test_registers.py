"""Which addresses a simulated device answers, and with which exception it refuses the others."""

from pathlib import Path

import pytest

from drivers.modbus.plan import plan
from drivers.types import Table, load_type
from simulator.pdu import ILLEGAL_ADDRESS, ILLEGAL_VALUE, Refusal, Request
from simulator.registers import Extent, Registers, inside, legal
from simulator.run import OWN_TYPES
from tests.unit.simulator.types_made import made

TYPES = ("eastron-sdm630", "schneider-iem3155", "generic-load-relay", "simulator-counter")

HOLES = """
[limits]
max_registers = 20
max_bits = 12
max_hole = 4
forbidden = [{ table = "holding", first = 12, last = 13 }]
[defaults]
table = "holding"
type = "uint16"
unit = "1"
[[block]]
table = "input"
address = 100
count = 8
[[point]]
name = "A"
address = 0
type = "uint32"
[[point]]
name = "B"
address = 6
[[point]]
name = "C"
address = 14
"""


def with_holes(directory: Path) -> Registers:
    return Registers(made(directory, HOLES))


def refusal(registers: Registers, table: Table, address: int, count: int) -> int:
    try:
        registers.check(table, address, count)
    except Refusal as refused:
        return refused.code
    return 0


@pytest.mark.parametrize(
    ("table", "address", "count", "code"),
    [
        (Table.HOLDING, 0, 7, 0),
        (Table.HOLDING, 2, 4, 0),
        (Table.HOLDING, 0, 8, ILLEGAL_ADDRESS),
        (Table.HOLDING, 6, 2, ILLEGAL_ADDRESS),
        (Table.HOLDING, 12, 1, ILLEGAL_ADDRESS),
        (Table.HOLDING, 13, 2, ILLEGAL_ADDRESS),
        (Table.HOLDING, 14, 1, 0),
        (Table.HOLDING, 15, 1, ILLEGAL_ADDRESS),
        (Table.HOLDING, 0, 21, ILLEGAL_VALUE),
        (Table.INPUT, 100, 8, 0),
        (Table.INPUT, 100, 9, ILLEGAL_ADDRESS),
        (Table.INPUT, 0, 1, ILLEGAL_ADDRESS),
        (Table.COIL, 0, 13, ILLEGAL_VALUE),
        (Table.COIL, 0, 1, ILLEGAL_ADDRESS),
    ],
    ids=str,
)
def test_a_read_is_refused_by_the_rule_that_it_breaks(
    tmp_path: Path, table: Table, address: int, count: int, code: int
) -> None:
    assert refusal(with_holes(tmp_path), table, address, count) == code


@pytest.mark.parametrize("name", TYPES)
def test_every_request_that_is_planned_for_a_type_is_answered(name: str) -> None:
    device_type = load_type(name, [OWN_TYPES])
    registers = Registers(device_type)
    requests = plan(device_type.points, device_type.limits, device_type.blocks)
    assert requests
    assert [refusal(registers, one.table, one.address, one.count) for one in requests] == [0] * len(requests)


def test_a_forbidden_range_cuts_what_would_be_bridged(tmp_path: Path) -> None:
    text = """
[limits]
forbidden = [{ table = "input", first = 3, last = 3 }]
[defaults]
table = "input"
type = "uint16"
unit = "1"
[[point]]
name = "A"
address = 0
[[point]]
name = "B"
address = 6
"""
    assert legal(made(tmp_path, text)) == [Extent(Table.INPUT, 0, 3), Extent(Table.INPUT, 4, 7)]


def test_what_is_written_is_read_and_holes_are_zero(tmp_path: Path) -> None:
    registers = with_holes(tmp_path)
    registers.write(Table.HOLDING, 6, b"\x12\x34")
    assert registers.read(Table.HOLDING, 4, 3) == b"\0\0\0\0\x12\x34"


def test_only_points_wholly_inside_a_request_count(tmp_path: Path) -> None:
    device_type = made(tmp_path, HOLES)
    found = inside(device_type, Table.HOLDING, Request(3, 1, 14))
    assert [point.name for point in found] == ["B", "C"]
    assert inside(device_type, Table.INPUT, Request(4, 1, 14)) == []
