"""The verbs of a ``ControlLink`` said in PDUs: what a link on any kind of line needs is one exchange.

Relies on ``drivers.modbus.pdu`` for the bytes.  Deliberately not here: the line (``drivers.modbus.rtulink``,
``drivers.modbus.dialin``); the link over Modbus TCP speaks in requests of pymodbus (``drivers.modbus.link``).
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence

from drivers.modbus import pdu
from drivers.modbus.link import TIMEOUT_S, refusal
from drivers.modbus.plan import Request
from drivers.points import Table


class PduLink(ABC):
    """Reads and writes by exchanges of one PDU for another."""

    @abstractmethod
    async def _ask(self, unit_id: int, wanted: bytes, size: int, timeout_s: float, pause_s: float) -> bytes:
        """Return the PDU that answers a request; of a read it has ``size`` bytes of payload."""

    async def _before_single(
        self, unit_id: int, table: Table, address: int, timeout_s: float, pause_s: float
    ) -> None:
        """Prepare for a write whose confirmation looks like itself; here nothing is needed."""
        return

    async def read(
        self, unit_id: int, request: Request, timeout_s: float = TIMEOUT_S, pause_s: float = 0.0
    ) -> bytes:
        wanted = pdu.read_pdu(request.table.read_function, request.address, request.count)
        answer = await self._ask(unit_id, wanted, request.size, timeout_s, pause_s)
        return answer[2:]

    async def write_coil(
        self, unit_id: int, address: int, on: bool, timeout_s: float = TIMEOUT_S, pause_s: float = 0.0
    ) -> None:
        await self._before_single(unit_id, Table.COIL, address, timeout_s, pause_s)
        await self._ask(unit_id, pdu.coil_pdu(address, on), 0, timeout_s, pause_s)

    async def write_timed_coil(
        self,
        unit_id: int,
        coil: int,
        address: int,
        word: int,
        timeout_s: float = TIMEOUT_S,
        pause_s: float = 0.0,
    ) -> None:
        await self._before_single(unit_id, Table.COIL, coil, timeout_s, pause_s)
        await self._ask(unit_id, pdu.timed_coil_pdu(address, word), 0, timeout_s, pause_s)

    async def write_register(
        self, unit_id: int, address: int, register: int, timeout_s: float = TIMEOUT_S, pause_s: float = 0.0
    ) -> None:
        await self._before_single(unit_id, Table.HOLDING, address, timeout_s, pause_s)
        await self._ask(unit_id, pdu.register_pdu(address, register), 0, timeout_s, pause_s)

    async def write_coils(
        self,
        unit_id: int,
        address: int,
        states: Sequence[bool],
        timeout_s: float = TIMEOUT_S,
        pause_s: float = 0.0,
    ) -> None:
        await self._ask(unit_id, pdu.coils_pdu(address, states), 0, timeout_s, pause_s)

    async def write_registers(
        self,
        unit_id: int,
        address: int,
        registers: Sequence[int],
        timeout_s: float = TIMEOUT_S,
        pause_s: float = 0.0,
    ) -> None:
        await self._ask(unit_id, pdu.registers_pdu(address, registers), 0, timeout_s, pause_s)


def accepted(who: str, wanted: bytes, answer: bytes) -> bytes:
    """Return an answer that is no exception response; ``Refused`` for one that is."""
    if answer[0] & pdu.ERROR:
        raise refusal(who, wanted[0], *pdu.span(wanted), answer[1])
    return answer
