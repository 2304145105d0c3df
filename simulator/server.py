"""Modbus TCP on real sockets: the frame, the connections, and the faults that show on them.

The frame is that of *Modbus Messaging on TCP/IP Implementation Guide V1.0b* §3.1.3, read strictly: a
wrong protocol number or an impossible length closes the connection. A unit id that nobody has is
refused with exception 11, as a gateway does. Requests of one connection may wait in line; the answer
of a slow unit does not hold up the others.

Relies on asyncio. Not here: registers (`simulator.device`), time of the plant.
"""

import asyncio
import socket
import struct
import time
from collections.abc import Mapping
from functools import partial
from typing import Final, cast

from core.errors import ConfigError
from simulator import pdu
from simulator.device import Device
from simulator.faults import FaultKind
from simulator.log import Asked, PlantLog

MOST_CONNECTIONS: Final = 64
"""Connections a port; more are closed at once."""
MOST_LATE: Final = 64
"""Answers that may wait for their time on one connection; more requests are refused as busy."""

_HEADER: Final = struct.Struct(">HHHB")
_SHORTEST: Final = 2
_LONGEST: Final = 254


class Port:
    """One listening port with the devices behind it, by unit id."""

    def __init__(self, host: str, wanted: int, devices: Mapping[int, Device], log: PlantLog) -> None:
        """Describe the port; `wanted` 0 lets the system choose one."""
        self.host: Final = host
        self.number = wanted
        self.devices: Final = dict(devices)
        self.log: Final = log
        self.connections: Final[set[Connection]] = set()
        self.refused_connections = 0
        self._server: asyncio.Server | None = None

    async def open(self) -> None:
        """Listen. ConfigError when the port cannot be had."""
        loop = asyncio.get_running_loop()
        try:
            self._server = await loop.create_server(
                lambda: Connection(self), self.host, self.number, backlog=MOST_CONNECTIONS
            )
        except OSError as error:
            raise ConfigError(
                f"port {self.number} of {self.host} cannot be opened ({error.strerror or error}): "
                "choose another in the scenario or by --port-base."
            ) from error
        self.number = int(self._server.sockets[0].getsockname()[1])

    async def close(self) -> None:
        """Stop listening and drop every connection."""
        if self._server is not None:
            self._server.close()
            for connection in list(self.connections):
                connection.drop()
            await self._server.wait_closed()


class Connection(asyncio.Protocol):
    """One client's connection: owns its buffer and its late answers."""

    def __init__(self, port: Port) -> None:
        self._port = port
        self._received = bytearray()
        self._late = 0
        self._paused = False
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        if len(self._port.connections) >= MOST_CONNECTIONS:
            self._port.refused_connections += 1
            self.drop()
            return
        self._port.connections.add(self)
        sock = transport.get_extra_info("socket")
        if sock is not None:
            # A client that vanished without a word must not hold its place for ever.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)

    def connection_lost(self, exc: Exception | None) -> None:
        self._port.connections.discard(self)
        self._transport = None

    def pause_writing(self) -> None:
        self._paused = True
        if self._transport is not None:
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        self._paused = False
        if self._transport is not None:
            self._transport.resume_reading()
            self._take()

    def drop(self) -> None:
        """Close at once, without what still waits to be sent."""
        if self._transport is not None:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        self._received += data
        self._take()

    def _take(self) -> None:
        """Answer every whole frame received, as long as the client also reads."""
        received, at = self._received, 0
        while not self._paused and self._transport is not None and len(received) - at >= _HEADER.size:
            transaction, protocol, length, unit_id = _HEADER.unpack_from(received, at)
            if protocol != 0 or not _SHORTEST <= length <= _LONGEST:
                self.drop()
                received.clear()
                return
            end = at + 6 + length
            if len(received) < end:
                break
            self._serve(transaction, unit_id, bytes(received[at + _HEADER.size : end]))
            at = end
        del received[:at]

    def _serve(self, transaction: int, unit_id: int, request: bytes) -> None:
        device = self._port.devices.get(unit_id)
        if device is None:
            self._send(transaction, unit_id, pdu.exception(request[0], pdu.TARGET_FAILED))
            self._note(None, unit_id, request, f"exception {pdu.TARGET_FAILED}")
            return
        fault = device.condition.now
        if fault is None:
            self._answer(device, transaction, unit_id, request)
            return
        match fault.kind:
            case FaultKind.SILENT:
                self._note(device, unit_id, request, "silent")
            case FaultKind.EXCEPTION:
                self._note(device, unit_id, request, f"exception {fault.code}")
                self._send(transaction, unit_id, pdu.exception(request[0], fault.code))
            case FaultKind.CLOSE:
                self._note(device, unit_id, request, "close")
                self.drop()
            case FaultKind.GARBAGE:
                self._note(device, unit_id, request, "garbage")
                right = frame(transaction, unit_id, device.pretend(request))
                if self._transport is not None:
                    self._transport.write(device.condition.spoil(right))
            case FaultKind.SLOW if self._late < MOST_LATE:
                self._late += 1
                asyncio.get_running_loop().call_later(
                    fault.ms / 1000, partial(self._answer_late, device, transaction, unit_id, request)
                )
            case FaultKind.SLOW:
                self._note(device, unit_id, request, f"exception {pdu.DEVICE_BUSY}")
                self._send(transaction, unit_id, pdu.exception(request[0], pdu.DEVICE_BUSY))

    def _answer_late(self, device: Device, transaction: int, unit_id: int, request: bytes) -> None:
        self._late -= 1
        if self._transport is None or self._transport.is_closing():
            # The client has given up and gone: nothing is answered, so nothing is counted either.
            self._note(device, unit_id, request, "silent")
        else:
            self._answer(device, transaction, unit_id, request, "late")

    def _answer(
        self, device: Device, transaction: int, unit_id: int, request: bytes, outcome: str = "ok"
    ) -> None:
        found = device.answer(request)
        self._note(device, unit_id, request, outcome if found[0] < 0x80 else f"exception {found[1]}")
        self._send(transaction, unit_id, found)

    def _note(self, device: Device | None, unit_id: int, request: bytes, outcome: str) -> None:
        asked = pdu.describe(request)
        name, points = ("", 0) if device is None else (device.name, device.points_inside(asked))
        self._port.log.asked(
            Asked(
                self._port.number, unit_id, name, asked.function, asked.address, asked.count, points, outcome
            ),
            time.time_ns() // 1_000_000,
        )

    def _send(self, transaction: int, unit_id: int, found: bytes) -> None:
        if self._transport is not None:
            self._transport.write(frame(transaction, unit_id, found))


def frame(transaction: int, unit_id: int, found: bytes) -> bytes:
    """Return an answer with its header."""
    return _HEADER.pack(transaction, 0, len(found) + 1, unit_id) + found
