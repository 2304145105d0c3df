"""Modbus TCP on real sockets: the frame, the connections, and the faults that show on them.

The frame is that of *Modbus Messaging on TCP/IP Implementation Guide V1.0b* §3.1.3, read strictly: a
wrong protocol number or an impossible length closes the connection. A unit id that nobody has is
refused with exception 11, as a gateway does. Requests of one connection may wait in line; the answer
of a slow unit does not hold up the others, unless the line takes one request at a time as gateways to a
serial bus do (`simulator.gate`).

Relies on asyncio, on `simulator.exchange` for what is answered. Not here: registers, time of the plant.
"""

import asyncio
import socket
import ssl
import struct
from collections.abc import Callable, Mapping
from functools import partial
from typing import Final, cast

from core.errors import ConfigError
from simulator import pdu
from simulator.device import Device
from simulator.exchange import Asking, Cut, Result, nobody, refuse, result
from simulator.faults import Fault, FaultKind
from simulator.frames import HEADER, LONGEST, SHORTEST, TcpFraming
from simulator.gate import Gate
from simulator.notes import Notes
from simulator.security import MAY_ALL, Role, role_of

MOST_CONNECTIONS: Final = 64
"""Connections a port; more are closed at once."""
MOST_LATE: Final = 64
"""Answers that may wait for their time on one connection; more requests are refused as busy."""

CLOSE_S: Final = 2.0

FRAMING: Final = TcpFraming()


class Units:
    """What stands behind a line: devices by unit id, and where their requests are noted."""

    def __init__(self, devices: Mapping[int, Device], notes: Notes, gate: Gate | None = None) -> None:
        self.devices: Final = dict(devices)
        self.notes: Final = notes
        self.gate: Final = gate
        self.connections: Final[set[Connection]] = set()
        self.refused_connections = 0
        self.roles: Mapping[str, Role] | None = None
        """What a certificate's role may do; None where there are no certificates, or none is asked for."""

    def cut(self, cut: Cut) -> None:
        """Drop every connection."""
        for connection in list(self.connections):
            connection.drop(cut)


class Port:
    """One listening port."""

    def __init__(self, host: str, wanted: int, units: Units, context: ssl.SSLContext | None = None) -> None:
        """Describe the port; `wanted` 0 lets the system choose one."""
        self.host: Final = host
        self.number = wanted
        self.units: Final = units
        self._context = context
        self._server: asyncio.Server | None = None

    async def open(self) -> None:
        """Listen. ConfigError when the port cannot be had."""
        loop = asyncio.get_running_loop()
        try:
            self._server = await loop.create_server(
                lambda: Connection(self.units), self.host, self.number, backlog=512, ssl=self._context
            )
        except OSError as error:
            raise port_taken(self.host, self.number, error) from error
        self.number = self.units.notes.port = int(self._server.sockets[0].getsockname()[1])

    async def close(self) -> None:
        """Stop listening and drop every connection."""
        if self._server is not None:
            self._server.close()
            self.units.cut(Cut.CLOSE)
            await closed(self._server)


async def closed(server: asyncio.Server) -> None:
    """Wait until a server is closed, but not for who never ends the handshake that he began."""
    try:
        async with asyncio.timeout(CLOSE_S):
            await server.wait_closed()
    except TimeoutError:
        pass


def port_taken(host: str, number: int, error: OSError) -> ConfigError:
    """Return the sentence for a port that cannot be had."""
    return ConfigError(
        f"port {number} of {host} cannot be opened ({error.strerror or error}): "
        "choose another in the scenario or by --port-base."
    )


class Connection(asyncio.Protocol):
    """One client's connection: owns its buffer and its late answers."""

    def __init__(self, units: Units, *, hello: bytes = b"", fallen: Callable[[], None] | None = None) -> None:
        """For devices that dial in: `hello` is sent at once, `fallen` called when the connection is gone."""
        self._units = units
        self._hello = hello
        self._fallen = fallen
        self._received = bytearray()
        self._late = 0
        self._paused = False
        self._role = MAY_ALL
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        if len(self._units.connections) >= MOST_CONNECTIONS:
            self._units.refused_connections += 1
            self.drop()
            return
        self._units.connections.add(self)
        keep_alive(transport)
        if self._units.roles is not None:
            self._role = role_of(transport, self._units.roles)
        if self._hello:
            self._transport.write(self._hello)

    def connection_lost(self, exc: Exception | None) -> None:
        self._units.connections.discard(self)
        self._transport = None
        if self._fallen is not None:
            self._fallen()

    def pause_writing(self) -> None:
        self._paused = True
        if self._transport is not None:
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        self._paused = False
        if self._transport is not None:
            self._transport.resume_reading()
            self._take()

    @property
    def is_open(self) -> bool:
        """Whether an answer would still reach somebody."""
        return self._transport is not None and not self._transport.is_closing()

    def drop(self, cut: Cut = Cut.CLOSE) -> None:
        """Close at once, without what still waits to be sent."""
        if self._transport is not None:
            if cut is Cut.RESET:
                reset(self._transport)
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        self._received += data
        self._take()

    def _take(self) -> None:
        """Answer every whole frame received, as long as the client also reads."""
        received, at = self._received, 0
        while not self._paused and self._transport is not None and len(received) - at >= HEADER.size:
            transaction, protocol, length, unit_id = HEADER.unpack_from(received, at)
            if protocol != 0 or not SHORTEST <= length <= LONGEST:
                self.drop()
                received.clear()
                return
            end = at + 6 + length
            if len(received) < end:
                break
            self._serve(Asking(transaction, unit_id, bytes(received[at + HEADER.size : end])))
            at = end
        del received[:at]

    def _serve(self, asking: Asking) -> None:
        device = self._units.devices.get(asking.unit_id)
        if not self._role.may(asking.request[0]):
            self._do(device, asking, refuse(FRAMING, asking, pdu.ILLEGAL_FUNCTION))
        elif device is None:
            self._do(None, asking, nobody(FRAMING, asking))
        elif self._units.gate is not None:
            fault = device.condition.now
            turn = self._units.gate.turn(
                fault, partial(self._finish, device, asking), partial(self._give_up, device, asking)
            )
            if not turn:
                self._do(device, asking, refuse(FRAMING, asking, pdu.DEVICE_BUSY))
        else:
            self._answer(device, asking, device.condition.now)

    def _answer(self, device: Device, asking: Asking, fault: Fault | None) -> None:
        if fault is None or not fault.wait_s:
            self._do(device, asking, result(device, FRAMING, asking, fault))
        elif self._late < MOST_LATE:
            self._late += 1
            asyncio.get_running_loop().call_later(
                fault.wait_s, partial(self._answer_late, device, asking, fault)
            )
        else:
            self._do(device, asking, refuse(FRAMING, asking, pdu.DEVICE_BUSY))

    def _answer_late(self, device: Device, asking: Asking, fault: Fault) -> None:
        self._late -= 1
        self._finish(device, asking, fault)

    def _finish(self, device: Device, asking: Asking, fault: Fault | None) -> None:
        if fault is not None and fault.kind is FaultKind.SLOW and not self.is_open:
            # The client has given up and gone: nothing is answered, so nothing is counted either.
            self._units.notes.note(device, asking, "silent")
        else:
            self._do(device, asking, result(device, FRAMING, asking, fault))

    def _give_up(self, device: Device, asking: Asking) -> None:
        """Say for a gateway that the device gave no answer in time."""
        self._do(device, asking, nobody(FRAMING, asking))

    def _do(self, device: Device | None, asking: Asking, found: Result) -> None:
        self._units.notes.note(device, asking, found.outcome)
        if found.cut is not Cut.NO:
            self.drop(found.cut)
        elif found.frame and self._transport is not None:
            self._transport.write(found.frame)


def keep_alive(transport: asyncio.BaseTransport) -> None:
    """Notice a client that vanished without a word: it must not hold its place for ever."""
    sock = transport.get_extra_info("socket")
    if sock is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)


def reset(transport: asyncio.BaseTransport) -> None:
    """Let the close that follows say RST (Linux socket(7): a linger of zero seconds)."""
    sock = transport.get_extra_info("socket")
    if sock is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
