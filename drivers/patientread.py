"""Reading a device that nobody described yet: in pieces that it accepts, around what it refuses.

What a plan (``drivers.modbus.plan``) knows beforehand is found out here: the largest read the device
takes, the registers it does not have, the requests on which it stays silent.  Everything is bounded: each
read by a deadline, its repetitions, and the requests of one reader together.

Deliberately not here: what the registers mean.
"""

from dataclasses import dataclass, field

from core.errors import FieldError, LinkDown, NoAnswer, Refused
from drivers.modbus.link import TIMEOUT_S, Link
from drivers.modbus.plan import Request
from drivers.modbus.registers import registers
from drivers.points import Table
from drivers.types import MAX_REGISTERS

MAX_REQUESTS = 2000
"""Requests of one reader: a whole map of 65536 registers in the largest reads needs 525."""
MAX_SILENCES = 12
"""Reads without an answer after which the device counts as gone, not as choosy."""
WRONG_PLACE = frozenset({2, 3, 4})
"""Exceptions by which devices say that a range is too long or holds registers they do not have."""


@dataclass
class PatientReader:
    """Reads registers of one unit; keeps what it learnt of the device."""

    link: Link
    unit_id: int
    timeout_s: float = TIMEOUT_S
    pause_s: float = 0.0
    retries: int = 1
    table: Table = Table.HOLDING
    largest: int = MAX_REGISTERS
    """Registers of the largest read that may be tried."""
    requests: int = 0
    """Requests sent so far."""
    refused: set[int] = field(default_factory=set)
    """Addresses that the device refused alone."""
    _silences: int = 0

    async def read(self, address: int, count: int) -> bytes:
        """Return registers read by one request; repeated when there is no answer."""
        for attempt in range(self.retries + 1):
            if not self.link.connected:
                await self.link.connect()
            self._spend()
            try:
                return await self.link.read(
                    self.unit_id, Request(self.table, address, count, ()), self.timeout_s, self.pause_s
                )
            except (Refused, LinkDown):
                raise
            except FieldError:
                if attempt == self.retries:
                    raise
        raise RuntimeError("a read has at least one attempt")

    async def read_all(self, address: int, count: int) -> dict[int, int]:
        """Return registers by address, without those that the device does not give.

        What it refuses is halved until it gives or refuses a single register; so is what it stays silent
        on, as long as that does not happen too often.
        """
        found: dict[int, int] = {}
        waiting = [
            (first, min(self.largest, address + count - first))
            for first in range(address, address + count, self.largest)
        ]
        waiting.reverse()
        sizes: set[int] = set()
        halved: list[range] = []
        while waiting:
            first, size = waiting.pop()
            try:
                payload = await self.read(first, size)
            except (Refused, NoAnswer) as error:
                if isinstance(error, Refused) and error.code not in WRONG_PLACE:
                    raise
                if isinstance(error, NoAnswer):
                    self._silences += 1
                    if self._silences > MAX_SILENCES:
                        raise
                if size == 1:
                    self.refused.add(first)
                    continue
                halved.append(range(first, first + size))
                half = size // 2
                waiting += [(first + half, size - half), (first, half)]
                continue
            sizes.add(size)
            found.update(enumerate(registers(payload), first))
        for run in halved:
            shorter = [size for size in sizes if size < len(run)]
            if shorter and not any(address in run for address in self.refused):
                # It has each of these registers and only refused so many: ask for less from now on.
                self.largest = min(self.largest, max(shorter))
        return found

    def _spend(self) -> None:
        self.requests += 1
        if self.requests > MAX_REQUESTS:
            raise NoAnswer(f"unit {self.unit_id} was asked {MAX_REQUESTS} times, which is enough")
