"""Faults that come and go, and which of several shows."""

import pytest

from simulator.faults import Condition, Fault, FaultKind, Kept

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


def test_a_value_that_is_bent_and_an_order_that_is_refused_do_not_spoil_answers() -> None:
    condition = Condition()
    for kind in FaultKind:
        condition.begin(Fault(kind))
        assert condition.now is None or condition.now.kind.spoils
        assert not (kind.spoils and kind.bends)
    assert condition.stuck
    assert condition.refuses == Fault(FaultKind.REFUSED_WRITES)
    for kind in FaultKind:
        condition.end(Fault(kind))
    assert (condition.now, condition.refuses, condition.stuck, condition.all) == (None, None, False, ())


def test_the_answer_of_a_stale_device_is_forgotten_with_the_fault() -> None:
    condition = Condition()
    condition.begin(Fault(FaultKind.STALE))
    condition.kept = Kept(1, 1, b"\x03")
    condition.end(Fault(FaultKind.STALE))
    assert condition.kept is None


@pytest.mark.parametrize(("kind", "wait_s"), [("slow", 0.02), ("late", 0.02), ("silent", 0.0)])
def test_only_slow_and_late_devices_are_waited_for(kind: str, wait_s: float) -> None:
    assert Fault(FaultKind(kind), ms=20).wait_s == wait_s
