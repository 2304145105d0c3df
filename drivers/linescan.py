"""Finding the units of a line: each id is asked for one register, and any answer to it counts.

An exception is an answer too, unless it is the one by which gateways say that nobody is there.  A device
that ignores unit ids answers to all of them; that is told and not taken for 247 devices.

Deliberately not here: what the devices are (``drivers.recognition``).
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from core.errors import BadFrame, LinkDown, NoAnswer, Refused
from drivers.modbus.link import Link
from drivers.modbus.plan import Request
from drivers.points import Table

UNIT_IDS = range(1, 248)
"""Modbus over Serial Line V1.02 §2.2: the ids of devices."""
NOBODY = frozenset({10, 11})
"""Exceptions by which a gateway says that the unit is not reached."""
PROBES = (Request(Table.HOLDING, 0, 1, ()), Request(Table.INPUT, 0, 1, ()))
"""Asked in turn: a repetition asks the other table, for devices that are silent where they have nothing."""
ALIKE_FROM = 4
"""From so many ids on that all answer alike, they are rather one device."""
FULL_FROM = 32
"""And from so many on however they answer: an RS-485 segment bears 32 unit loads (TIA-485)."""


class Unit(NamedTuple):
    """A unit id that answers."""

    unit_id: int
    answer: str
    """How, in words."""


Progress = Callable[[int, Unit | None], None]
"""Called after each unit id, with what was found there."""


async def scan(
    link: Link,
    units: Sequence[int] = UNIT_IDS,
    timeout_s: float = 0.3,
    retries: int = 1,
    progress: Progress | None = None,
) -> tuple[Unit, ...]:
    """Return the units of a line that answer.

    ``LinkDown`` when the line itself cannot be reached.
    """
    found: list[Unit] = []
    for unit_id in units:
        unit = await _ask(link, unit_id, timeout_s, retries)
        if unit is not None:
            found.append(unit)
        if progress is not None:
            progress(unit_id, unit)
    return tuple(found)


def ignores_unit_ids(found: Sequence[Unit], units: Sequence[int]) -> bool:
    """Tell whether rather one device answers under every id that was asked."""
    alike = len({unit.answer for unit in found}) == 1
    return len(found) == len(units) >= (ALIKE_FROM if alike else FULL_FROM)


async def _ask(link: Link, unit_id: int, timeout_s: float, retries: int) -> Unit | None:
    for attempt in range(retries + 1):
        if not link.connected:
            await link.connect()
        probe = PROBES[attempt % len(PROBES)]
        try:
            answer = await link.read(unit_id, probe, timeout_s)
        except Refused as error:
            return None if error.code in NOBODY else Unit(unit_id, f"exception {error.code}")
        except (NoAnswer, LinkDown):
            continue  # some gateways close the connection on a unit that they do not know
        except BadFrame:
            return Unit(unit_id, "a garbled answer: two devices of one id, or a wrong baud rate?")
        return Unit(unit_id, f"{probe.table.value} register 0 says {answer.hex()}")
    return None
