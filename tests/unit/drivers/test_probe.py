"""A device read once: values as the agent would have them, and every failure at its point."""

import asyncio
from datetime import date

import pytest

from core.errors import NoAnswer, Refused
from drivers.modbus.plan import Request
from drivers.points import PointType, Table
from drivers.probe import Probe, probe
from drivers.types import DeviceType, Limits, Source
from tests.support.points import point
from tests.support.sunspec import Registers

TODAY = date(2026, 11, 22)


def kind(*points: PointType, **limits: int) -> DeviceType:
    return DeviceType(
        name="toy",
        manufacturer="M",
        model="1",
        description="",
        kind="meter",
        source=Source(title="T", where="W", read=TODAY, verified=False),
        limits=Limits(**limits),
        points=points,
    )


def probed(link: Registers, toy: DeviceType, retries: int = 1) -> Probe:
    return asyncio.run(probe(link, 1, toy, toy.points, 0.5, retries))


W = point("W", address=0, type="int16", scale="0.1", low=-100, high=100)
HZ = point("Hz", address=1, scale="0.01", not_available=[0xFFFF])
WH = point("TotWhImp", address=2, type="uint32")


def test_values_are_exact_and_carry_their_registers() -> None:
    found = probed(Registers({0: 0xFFF6, 1: 4999, 2: 1, 3: 2}), kind(W, HZ, WH))
    assert [(one.shown, one.reason, one.raw) for one in found.points] == [
        ("-1.0", None, b"\xff\xf6"),
        ("49.99", None, b"\x13\x87"),
        ("65538", None, b"\0\1\0\2"),
    ]
    assert found.complete
    assert [asked.names for asked in found.asked] == [("W", "Hz", "TotWhImp")]


def test_values_out_of_range_are_shown_with_their_reason() -> None:
    found = probed(Registers({0: 20_000, 1: 0xFFFF}), kind(W, HZ))
    assert [(one.shown, one.reason) for one in found.points] == [
        ("2000.0", "out-of-range"),
        ("", "not-available"),
    ]
    assert found.complete


def test_refused_request_is_taken_apart_to_the_point_that_the_device_lacks() -> None:
    found = probed(Registers({0: 1, 2: 0, 3: 5}), kind(W, HZ, WH))
    assert [(one.point.name, one.shown, one.reason) for one in found.points] == [
        ("W", "0.1", None),
        ("Hz", "", "exception-2"),
        ("TotWhImp", "5", None),
    ]
    assert not found.complete
    assert [bool(asked.failure) for asked in found.asked] == [True, False, True, False]


def test_silent_device_is_asked_as_often_as_said_and_no_more() -> None:
    link = Registers({0: 1, 1: 1}, silent_first=100)
    found = probed(link, kind(W, HZ), retries=2)
    assert len(link.asked) == 3
    assert {one.reason for one in found.points} == {"timeout"}
    assert found.asked[0].failure == "no answer"


def test_lost_answer_is_asked_for_again() -> None:
    assert probed(Registers({0: 1, 1: 1}, silent_first=1), kind(W, HZ)).complete


def test_other_requests_are_asked_after_one_failed() -> None:
    class Choosy(Registers):
        async def read(
            self, unit_id: int, request: Request, timeout_s: float = 1.0, pause_s: float = 0.0
        ) -> bytes:
            if request.address == 0:
                raise NoAnswer("no answer")
            return await super().read(unit_id, request, timeout_s, pause_s)

    far = point("Far", address=1000)
    found = probed(Choosy({0: 1, 1000: 7}), kind(W, far))
    assert [(one.shown, one.reason) for one in found.points] == [("", "timeout"), ("7", None)]


def test_bits_are_read_by_their_tables() -> None:
    class Coils(Registers):
        async def read(
            self, unit_id: int, request: Request, timeout_s: float = 1.0, pause_s: float = 0.0
        ) -> bytes:
            if request.table is not Table.COIL:
                raise Refused(1, "no such function")
            return b"\x05"

    coils = [point(f"K{number}", table="coil", type="bool", address=number, unit="") for number in range(3)]
    assert [one.shown for one in probed(Coils({}), kind(*coils)).points] == ["true", "false", "true"]


class Gateway(Registers):
    """A gateway before a unit that is not there, or that answers some registers alone."""

    def __init__(self, code: int, answers: int = -1) -> None:
        super().__init__({answers: 7})
        self.code = code

    async def read(
        self, unit_id: int, request: Request, timeout_s: float = 1.0, pause_s: float = 0.0
    ) -> bytes:
        if request.address not in self.held:
            self.asked.append(request)
            raise Refused(self.code, f"exception {self.code}")
        return await super().read(unit_id, request, timeout_s, pause_s)


@pytest.mark.parametrize("code", [10, 11])
def test_a_unit_that_its_gateway_cannot_reach_is_asked_once(code: int) -> None:
    link = Gateway(code)
    found = probed(link, kind(W, HZ, WH, point("Far", address=1000)), retries=2)
    assert len(link.asked) == 1
    assert {one.reason for one in found.points} == {"exception-other"}
    assert [asked.failure for asked in found.asked] == [f"exception {code}"]
    assert not found.complete


def test_a_unit_that_answered_before_is_asked_on_after_its_gateway_missed_one_answer() -> None:
    link = Gateway(11, answers=0)
    found = probed(link, kind(W, point("Far", address=1000), point("Away", address=1001)))
    assert [(one.point.name, one.reason) for one in found.points] == [
        ("W", None),
        ("Far", "exception-other"),
        ("Away", "exception-other"),
    ]
    assert [request.count for request in link.asked] == [1, 2]
