"""Faults that come and go, and garbage that is garbage in every manner."""

import struct

import pytest

from simulator.faults import Condition, Fault, FaultKind

SILENT = Fault(FaultKind.SILENT)
SLOW = Fault(FaultKind.SLOW, ms=20)


def test_of_several_faults_the_one_that_began_last_shows() -> None:
    condition = Condition()
    shown = [condition.now]
    for act in (condition.begin, condition.end):
        for fault in (SILENT, SLOW) if act == condition.begin else (SLOW, SILENT):
            act(fault)
            shown.append(condition.now)
    assert shown == [None, SILENT, SLOW, SILENT, None]


def test_the_end_of_a_fault_that_never_began_changes_nothing() -> None:
    condition = Condition()
    condition.begin(SILENT)
    condition.end(SLOW)
    assert condition.now == SILENT


@pytest.mark.parametrize("registers", [1, 2, 80, 125])
def test_no_manner_of_garbage_is_an_answer_to_the_request(registers: int) -> None:
    body = struct.pack(">BB", 3, 2 * registers) + bytes(range(2 * registers))
    right = struct.pack(">HHHB", 0x1234, 0, len(body) + 1, 7) + body
    condition = Condition()
    manners = [condition.spoil(right) for _ in range(14)]
    assert len(set(manners)) == 7
    assert manners[:7] == manners[7:]
    for spoiled in manners:
        transaction, protocol, length, unit_id, function, size = struct.unpack_from(">HHHBBB", spoiled)
        assert (transaction, protocol, length, unit_id, function, size, len(spoiled)) != (
            0x1234,
            0,
            len(body) + 1,
            7,
            3,
            2 * registers,
            len(right),
        )
