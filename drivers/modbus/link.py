"""The link to a Modbus TCP server: one request at a time, each with a deadline, answers as bytes.

On pymodbus, which frames, sends and counts transactions; its retries and its reconnecting are off,
so that one request is one frame and the owner of the line decides what comes next.  Every answer is
checked here before it counts (see :mod:`drivers.modbus.frames`), and read answers stay bytes: a
response class that keeps them is registered by ``client.register()``.  After a deadline, a bad frame
or a cancellation the connection is closed: a late answer can then never be taken for the next one.

Used of pymodbus beyond its documented surface, each held by a test: ``client.ctx.call_create`` (to
connect with the reason of a failure), ``client.ctx.response_future`` (to end a request at once when
its connection is lost or its answer is wrong), ``client.ctx.next_tid`` (numbers go on over connections:
a serial server may hand a late answer to the connection after), and a ``timeout`` of None (our own
deadline costs half).

TLS (Modbus/TCP Security) is the same link inside a TLS context that the caller makes.

Deliberately not here: when to ask and when to try again (``agent``), RTU (``drivers.modbus.rtulink``),
certificates (``certs``).
"""

import asyncio
import logging
import secrets
import socket
import ssl
from collections.abc import Callable, Sequence
from typing import Protocol

from pymodbus.client import AsyncModbusTcpClient
from pymodbus.exceptions import ModbusException
from pymodbus.pdu import ModbusPDU
from pymodbus.pdu.bit_message import (
    ReadCoilsRequest,
    ReadDiscreteInputsRequest,
    WriteMultipleCoilsRequest,
    WriteSingleCoilRequest,
)
from pymodbus.pdu.register_message import (
    ReadHoldingRegistersRequest,
    ReadInputRegistersRequest,
    WriteMultipleRegistersRequest,
    WriteSingleRegisterRequest,
)

from core.errors import BadFrame, FieldError, LinkDown, NoAnswer, PorticoError, Refused, Undecodable
from core.quality import exception_reason
from drivers.modbus.frames import ERROR, READ_ANSWERS, Exchange, KeptBytes, TimedCoilRequest
from drivers.modbus.lineurl import LinkUrl
from drivers.modbus.plan import Request

TIMEOUT_S = 1.0
CONNECT_TIMEOUT_S = 3.0
LAST_NUMBER = 65000
"""pymodbus begins again at 1 after this transaction."""

ContextMaker = Callable[[], ssl.SSLContext]
"""Makes a TLS context afresh for each connection, so that renewed certificates are taken up."""

READ_REQUESTS: dict[int, type[ModbusPDU]] = {
    1: ReadCoilsRequest,
    2: ReadDiscreteInputsRequest,
    3: ReadHoldingRegistersRequest,
    4: ReadInputRegistersRequest,
}
"""By function code."""


class Link(Protocol):
    """A line to one or more devices, owned by one task.  Errors are ``FieldError``."""

    @property
    def connected(self) -> bool:
        """Whether a request can be sent; false after a failure that broke the connection."""

    async def connect(self) -> None:
        """Connect, afresh if there is a connection; ``LinkDown`` when that fails."""

    async def close(self) -> None:
        """Close; may be called at any time and again."""

    async def read(
        self, unit_id: int, request: Request, timeout_s: float = TIMEOUT_S, pause_s: float = 0.0
    ) -> bytes:
        """Return the payload of one read, exactly ``request.size`` bytes.

        ``pause_s`` is the silence that the device wants before the request.
        """


class ControlLink(Link, Protocol):
    """A link that also writes; each method returns when the device has confirmed."""

    async def write_coil(
        self, unit_id: int, address: int, on: bool, timeout_s: float = TIMEOUT_S, pause_s: float = 0.0
    ) -> None:
        """Set one coil (function code 5)."""

    async def write_timed_coil(
        self,
        unit_id: int,
        coil: int,
        address: int,
        word: int,
        timeout_s: float = TIMEOUT_S,
        pause_s: float = 0.0,
    ) -> None:
        """Switch ``coil`` for a time, ``word``, by function code 5 to the address that does so."""

    async def write_register(
        self, unit_id: int, address: int, register: int, timeout_s: float = TIMEOUT_S, pause_s: float = 0.0
    ) -> None:
        """Set one register (function code 6)."""

    async def write_coils(
        self,
        unit_id: int,
        address: int,
        states: Sequence[bool],
        timeout_s: float = TIMEOUT_S,
        pause_s: float = 0.0,
    ) -> None:
        """Set coils in a row (function code 15)."""

    async def write_registers(
        self,
        unit_id: int,
        address: int,
        registers: Sequence[int],
        timeout_s: float = TIMEOUT_S,
        pause_s: float = 0.0,
    ) -> None:
        """Set registers in a row (function code 16)."""


def reason_of(error: FieldError) -> str:
    """Return the reason (``core.quality``) that readings get from a failure."""
    match error:
        case LinkDown():
            return "line-down"
        case NoAnswer():
            return "timeout"
        case Refused(code=code):
            return exception_reason(code)
        case Undecodable():
            return "undecodable"
    return "bad-frame"


class ModbusTcpLink:
    """A :class:`ControlLink` over Modbus TCP."""

    def __init__(
        self,
        url: LinkUrl,
        connect_timeout_s: float = CONNECT_TIMEOUT_S,
        tls: ContextMaker | None = None,
        server_name: str | None = None,
    ) -> None:
        """With ``tls`` the connection is inside TLS; ``server_name`` is what the certificate must bear, if
        that is not the host.
        """
        self.url = url
        self._tls = tls
        self._server_name = server_name or url.host
        self._connect_timeout_s = connect_timeout_s
        self._client: AsyncModbusTcpClient | None = None
        self._number = secrets.randbelow(LAST_NUMBER)
        """Transaction of the request sent last, on whatever connection."""
        self._busy = False
        self._size = 0
        self._exchange: Exchange | None = None
        """The request on its way; None between requests."""
        self._quiet_since = 0.0
        self._pause_s = 0.0
        """Silence wanted by the device spoken to last."""

    @property
    def connected(self) -> bool:
        return self._client is not None and self._client.connected

    async def connect(self) -> None:
        self._drop()
        _quieten_pymodbus()
        context = self._context()
        # A new client for each connection: no byte and no number of an earlier one can come along.
        client = AsyncModbusTcpClient(
            self.url.host,
            port=self.url.port,
            timeout=None,  # type: ignore[arg-type]  # pymodbus hands it to wait_for; the deadline is ours
            retries=0,
            reconnect_delay=0,
            trace_packet=self._packet,
            trace_connect=self._connection,
        )
        for answer in READ_ANSWERS:
            client.register(answer)
        try:
            async with asyncio.timeout(self._connect_timeout_s):
                transport = await self._opened(client, context)
        except TimeoutError as error:
            client.close()
            raise LinkDown(
                f"{self.url} does not answer: no connection within {self._connect_timeout_s:g} s; "
                "is the device on, and the address right?"
            ) from error
        except OSError as error:
            client.close()
            raise LinkDown(f"{self.url} cannot be reached: {why(error)}") from error
        except BaseException:
            client.close()
            raise
        no_delay(transport)
        client.ctx.next_tid = self._number
        self._client = client

    def _context(self) -> ssl.SSLContext | None:
        try:
            return None if self._tls is None else self._tls()
        except PorticoError as error:
            raise LinkDown(f"{self.url} cannot be reached: {error}") from error

    async def _opened(
        self, client: AsyncModbusTcpClient, context: ssl.SSLContext | None
    ) -> asyncio.BaseTransport:
        transport: asyncio.BaseTransport
        if context is None:
            transport, _ = await client.ctx.call_create()
        else:
            transport, _ = await asyncio.get_running_loop().create_connection(
                client.ctx.handle_new_connection,
                self.url.host,
                self.url.port,
                ssl=context,
                server_hostname=self._server_name,
            )
        return transport

    async def close(self) -> None:
        self._drop()

    async def read(
        self, unit_id: int, request: Request, timeout_s: float = TIMEOUT_S, pause_s: float = 0.0
    ) -> bytes:
        pdu = READ_REQUESTS[request.table.read_function](
            address=request.address, count=request.count, dev_id=unit_id
        )
        answer = await self._ask(pdu, request.size, timeout_s, pause_s)
        assert isinstance(answer, KeptBytes)
        return answer.payload

    async def write_coil(
        self, unit_id: int, address: int, on: bool, timeout_s: float = TIMEOUT_S, pause_s: float = 0.0
    ) -> None:
        await self._ask(
            WriteSingleCoilRequest(address=address, bits=[on], dev_id=unit_id), 0, timeout_s, pause_s
        )

    async def write_timed_coil(
        self,
        unit_id: int,
        coil: int,
        address: int,
        word: int,
        timeout_s: float = TIMEOUT_S,
        pause_s: float = 0.0,
    ) -> None:
        pdu = TimedCoilRequest(address=address, dev_id=unit_id)
        pdu.word = word
        await self._ask(pdu, 0, timeout_s, pause_s)

    async def write_register(
        self, unit_id: int, address: int, register: int, timeout_s: float = TIMEOUT_S, pause_s: float = 0.0
    ) -> None:
        pdu = WriteSingleRegisterRequest(address=address, registers=[register], dev_id=unit_id)
        await self._ask(pdu, 0, timeout_s, pause_s)

    async def write_coils(
        self,
        unit_id: int,
        address: int,
        states: Sequence[bool],
        timeout_s: float = TIMEOUT_S,
        pause_s: float = 0.0,
    ) -> None:
        pdu = WriteMultipleCoilsRequest(address=address, bits=list(states), dev_id=unit_id)
        await self._ask(pdu, 0, timeout_s, pause_s)

    async def write_registers(
        self,
        unit_id: int,
        address: int,
        registers: Sequence[int],
        timeout_s: float = TIMEOUT_S,
        pause_s: float = 0.0,
    ) -> None:
        pdu = WriteMultipleRegistersRequest(address=address, registers=list(registers), dev_id=unit_id)
        await self._ask(pdu, 0, timeout_s, pause_s)

    async def _ask(self, pdu: ModbusPDU, size: int, timeout_s: float, pause_s: float) -> ModbusPDU:
        """Send one request and return its answer; close the connection unless that answers it."""
        if self._busy:
            raise RuntimeError("a link is owned by one task: a second request began before the first ended")
        loop = asyncio.get_running_loop()
        self._busy = True
        try:
            if pause_s or self._pause_s:
                await self._silence(loop, max(pause_s, self._pause_s))
            client = self._client
            if client is None or not client.connected:
                raise LinkDown(f"{self.url} is not connected")
            self._size = size
            deadline = loop.call_later(timeout_s, self._expire, client, pdu.dev_id, timeout_s)
            try:
                answer: ModbusPDU = await client.execute(False, pdu)
            finally:
                deadline.cancel()
        except ModbusException as error:
            self._drop()
            raise BadFrame(f"{self._unit(pdu)}: {error}") from error
        except BaseException:
            self._drop()
            raise
        finally:
            self._busy = False
            self._exchange = None
            if pause_s or self._pause_s:
                self._pause_s = pause_s
                self._quiet_since = loop.time()
        if answer.function_code & ERROR:
            raise refusal(self._unit(pdu), pdu.function_code, pdu.address, pdu.count, answer.exception_code)
        return answer

    def _packet(self, sending: bool, packet: bytes) -> bytes:
        """Stand between pymodbus and the socket: note what is sent, admit what comes back."""
        if sending:
            self._exchange = Exchange(packet, self._size)
            return packet
        exchange = self._exchange
        if exchange is None:
            return b""  # nobody asked; pymodbus forgets it with the next request
        try:
            return exchange.admit(packet)
        except BadFrame as error:
            if self._client is not None:
                _end(self._client, BadFrame(f"{self.url}: {error}"))
            return b""

    def _connection(self, made: bool) -> None:
        """End a request on its way when the other side closes the connection."""
        if not made and self._exchange is not None and self._client is not None:
            _end(self._client, LinkDown(f"{self.url} closed the connection before it answered"))

    def _expire(self, client: AsyncModbusTcpClient, unit_id: int, timeout_s: float) -> None:
        what = f"unit {unit_id} at {self.url} gave no answer within {timeout_s:g} s"
        if self._exchange is not None and self._exchange.stray:
            _end(client, BadFrame(f"{what}, only one to transaction {self._exchange.stray}"))
        else:
            _end(client, NoAnswer(what))

    def _unit(self, pdu: ModbusPDU) -> str:
        return f"unit {pdu.dev_id} at {self.url}"

    async def _silence(self, loop: asyncio.AbstractEventLoop, pause_s: float) -> None:
        left = self._quiet_since + pause_s - loop.time()
        if left > 0:
            await asyncio.sleep(left)

    def _drop(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            self._number = client.ctx.next_tid
            if self._exchange is not None:
                _end(client, LinkDown(f"the connection to {self.url} was closed on our side"))
            client.close()


def _end(client: AsyncModbusTcpClient, error: FieldError) -> None:
    """End the request that waits on a connection, if one does."""
    waiting = client.ctx.response_future
    if not waiting.done():
        waiting.set_exception(error)


def refusal(who: str, function: int, address: int, count: int, code: int) -> Refused:
    """Return the error for an exception response."""
    what = f"function {function} on {address} to {address + max(count, 1) - 1}"
    return Refused(code, f"{who} refused {what}: {EXCEPTIONS.get(code, 'unknown reason')} (exception {code})")


EXCEPTIONS = {
    1: "it does not know the function",
    2: "it has no such address",
    3: "it does not take that value or that many",
    4: "the device failed",
    5: "accepted, takes long",
    6: "busy",
    8: "memory parity error",
    10: "the gateway has no path to the device",
    11: "the device behind the gateway does not answer",
}
"""Modbus Application Protocol V1.1b3 §7."""


def why(error: OSError) -> str:
    """Return what a failure to connect means, as half a sentence."""
    match error:
        case ssl.SSLCertVerificationError():
            return f"its certificate does not hold ({error.verify_message})"
        case ssl.SSLError():
            return f"TLS fails ({error.reason}); does it speak TLS there, and take our certificate?"
        case socket.gaierror():
            return "the host's name is not known"
        case ConnectionRefusedError():
            return "the host is there, but refuses; is the port right, and Modbus TCP switched on?"
    return (error.strerror or str(error)).lower()


def no_delay(transport: asyncio.BaseTransport) -> None:
    """Send small frames at once (Nagle's algorithm waits for more)."""
    transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _quieten_pymodbus() -> None:
    """Silence pymodbus's own log unless somebody set its level: what it says, our errors say once."""
    log = logging.getLogger("pymodbus.logging")
    if log.level == logging.NOTSET:
        log.setLevel(logging.CRITICAL)
