"""Two devices with one unit id on a serial line: what nobody asked for is counted, late answers are not."""

import contextlib

from core.errors import FieldError
from drivers.modbus.rtulink import RtuLink
from tests.support.ptyline import Reply, honest, right
from tests.support.rtulined import LONG_S, ONE, SHORT_S, TWO, lined, once

POLLS = 6


def twins(request: bytes) -> list[Reply]:
    """Two devices answer as unit 1, one after the other."""
    return [(0, right(request)), (0.02, right(request))] if request[0] == 1 else honest(request)


async def polled(link: RtuLink) -> None:
    """Read twice from unit 1 and once from unit 2, whatever becomes of it."""
    for unit_id, request in ((1, ONE), (1, TWO), (2, ONE)):
        with contextlib.suppress(FieldError):
            await link.read(unit_id, request, SHORT_S, 0.04)


async def test_each_poll_of_two_devices_with_one_unit_id_brings_frames_that_nobody_asked_for() -> None:
    async with lined(twins) as (link, _):
        counts = []
        for _ in range(POLLS):
            await polled(link)
            counts.append(link.surplus(1))
        assert counts == sorted(set(counts))
        assert link.surplus(2) == 0


async def test_answers_of_two_devices_in_one_chunk_are_counted_too() -> None:
    def at_once(request: bytes) -> list[Reply]:
        return [(0, right(request) * 2)] if request[0] == 1 else honest(request)

    async with lined(at_once) as (link, _):
        for _ in range(POLLS):
            await polled(link)
        assert link.surplus(1) >= POLLS


async def test_a_device_that_answers_once_or_late_is_no_two_devices() -> None:
    async with lined(once(lambda request: [(SHORT_S * 1.5, right(request))])) as (link, _):
        for _ in range(POLLS):
            await polled(link)
        assert await link.read(1, ONE, LONG_S)
        assert (link.surplus(1), link.surplus(2)) == (0, 0)
