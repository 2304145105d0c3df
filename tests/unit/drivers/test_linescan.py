"""Which unit ids of a line answer, and when that means little."""

import asyncio

from core.errors import BadFrame, LinkDown, NoAnswer, Refused
from drivers.linescan import Unit, ignores_unit_ids, scan
from drivers.modbus.plan import Request
from drivers.points import Table

SILENT = NoAnswer("no answer")


class Line:
    """A line on which each unit answers holding and input register 0 in its own way."""

    def __init__(self, units: dict[int, dict[Table, bytes | Exception]]) -> None:
        self.units = units
        self.asked: list[tuple[int, Table]] = []
        self.connected = False

    async def connect(self) -> None:
        self.connected = True

    async def close(self) -> None:
        self.connected = False

    async def read(
        self, unit_id: int, request: Request, timeout_s: float = 1.0, pause_s: float = 0.0
    ) -> bytes:
        assert self.connected
        self.asked.append((unit_id, request.table))
        answer = self.units.get(unit_id, {}).get(request.table, SILENT)
        if isinstance(answer, bytes):
            return answer
        if isinstance(answer, NoAnswer | LinkDown):
            self.connected = False
        raise answer


def test_answers_and_exceptions_count_and_silence_does_not() -> None:
    line = Line({2: {Table.HOLDING: b"\x12\x34"}, 5: {Table.HOLDING: Refused(2, "no such address")}})
    found = asyncio.run(scan(line, range(1, 8)))
    assert found == (Unit(2, "holding register 0 says 1234"), Unit(5, "exception 2"))


def test_gateway_that_says_that_nobody_is_there_is_believed() -> None:
    line = Line({unit: {Table.HOLDING: Refused(11, "target did not answer")} for unit in range(1, 8)})
    assert asyncio.run(scan(line, range(1, 8))) == ()
    assert len(line.asked) == 7


def test_device_that_only_has_inputs_is_found_by_the_repetition() -> None:
    line = Line({3: {Table.INPUT: b"\0\1"}})
    assert asyncio.run(scan(line, [3])) == (Unit(3, "input register 0 says 0001"),)
    assert asyncio.run(scan(Line(line.units), [3], retries=0)) == ()


def test_garbled_answer_is_told() -> None:
    (unit,) = asyncio.run(scan(Line({1: {Table.HOLDING: BadFrame("wrong checksum")}}), [1]))
    assert "two devices of one id" in unit.answer


def test_gateway_that_hangs_up_on_a_strange_unit_does_not_end_the_scan() -> None:
    line = Line({1: {Table.HOLDING: LinkDown("closed"), Table.INPUT: LinkDown("closed")}})
    line.units[2] = {Table.HOLDING: b"\0\0"}
    assert [unit.unit_id for unit in asyncio.run(scan(line, [1, 2]))] == [2]


def test_progress_is_told_after_each_unit() -> None:
    told: list[tuple[int, bool]] = []
    line = Line({2: {Table.HOLDING: b"\0\0"}})
    asyncio.run(
        scan(line, [1, 2, 3], progress=lambda unit_id, unit: told.append((unit_id, unit is not None)))
    )
    assert told == [(1, False), (2, True), (3, False)]


def test_device_that_answers_under_every_id_is_suspected() -> None:
    alike = [Unit(unit_id, "exception 2") for unit_id in range(1, 9)]
    assert ignores_unit_ids(alike, range(1, 9))
    assert not ignores_unit_ids(alike, range(1, 10))
    assert not ignores_unit_ids(alike[:3], range(1, 4))
    different = [Unit(unit_id, f"holding register 0 says {unit_id:04x}") for unit_id in range(1, 33)]
    assert ignores_unit_ids(different, range(1, 33))
    assert not ignores_unit_ids(different[:8], range(1, 9))
