"""A device that nobody described is read in pieces that it accepts, and bounded."""

import asyncio
from typing import Any

import pytest

from core.errors import LinkDown, NoAnswer, Refused
from drivers.patientread import MAX_SILENCES, PatientReader
from tests.support.sunspec import Registers

HELD = {address: address % 0x10000 for address in range(1000, 1300)}


def reading(
    link: Registers, address: int = 1000, count: int = 300, **more: Any
) -> tuple[dict[int, int], PatientReader]:
    reader = PatientReader(link, 1, **more)
    return asyncio.run(reader.read_all(address, count)), reader


def test_map_is_read_in_the_largest_reads() -> None:
    link = Registers(HELD)
    found, _ = reading(link)
    assert found == HELD
    assert [request.count for request in link.asked] == [125, 125, 50]


def test_device_of_small_reads_is_asked_for_less_from_then_on() -> None:
    link = Registers(HELD, largest=40)
    found, reader = reading(link)
    assert found == HELD
    assert 20 <= reader.largest <= 40
    link.asked.clear()
    asyncio.run(reader.read_all(1000, 300))
    assert max(request.count for request in link.asked) == reader.largest


def test_device_that_is_silent_on_long_reads_is_asked_for_less() -> None:
    found, reader = reading(Registers(HELD, silent_beyond=60), retries=0)
    assert found == HELD
    assert 30 <= reader.largest <= 60


def test_holes_are_left_out_and_do_not_shorten_reads() -> None:
    held = {address: value for address, value in HELD.items() if address not in (1010, 1011, 1299)}
    found, reader = reading(Registers(held))
    assert found == held
    assert reader.refused == {1010, 1011, 1299}
    assert reader.largest == 125


def test_hole_does_not_hide_that_reads_have_to_be_small() -> None:
    held = {address: value for address, value in HELD.items() if address != 1003}
    found, reader = reading(Registers(held, largest=40))
    assert found == held
    assert reader.largest <= 40


def test_read_without_an_answer_is_repeated_on_a_new_connection() -> None:
    link = Registers(HELD, silent_first=2)
    found, reader = reading(link, count=10, retries=2)
    assert (len(found), reader.requests) == (10, 3)


def test_device_that_falls_silent_is_left() -> None:
    link = Registers(HELD, silent_first=10_000)
    with pytest.raises(NoAnswer):
        reading(link, retries=0)
    assert len(link.asked) == MAX_SILENCES + 1


def test_other_exceptions_are_not_taken_for_holes() -> None:
    class Busy(Registers):
        async def read(self, *_: Any, **__: Any) -> bytes:
            raise Refused(6, "busy")

    with pytest.raises(Refused):
        reading(Busy(HELD))


def test_line_that_is_down_is_told() -> None:
    class Gone(Registers):
        async def connect(self) -> None:
            raise LinkDown("nobody there")

    with pytest.raises(LinkDown):
        reading(Gone(HELD))
