"""RTU over TCP: a serial server that hands through what it hears, both ways.

Several clients share the one bus behind it; who asks first is answered first, and each hears only its own
answers.

Relies on asyncio and on `simulator.bus`. Not here: frames, pace.
"""

import asyncio
from collections.abc import Callable
from typing import Final, cast

from simulator.bus import Bus, Ear
from simulator.exchange import Cut
from simulator.server import MOST_CONNECTIONS, closed, keep_alive, port_taken, reset


class SerialServer:
    """One listening port before a bus."""

    def __init__(self, host: str, wanted: int, bus: Bus) -> None:
        """Describe it; `wanted` 0 lets the system choose a port."""
        self.host: Final = host
        self.number = wanted
        self.bus: Final = bus
        self.connections: Final[set[RawConnection]] = set()
        self.refused_connections = 0
        self._server: asyncio.Server | None = None

    async def open(self) -> None:
        """Listen. ConfigError when the port cannot be had."""
        loop = asyncio.get_running_loop()
        try:
            self._server = await loop.create_server(
                lambda: RawConnection(self), self.host, self.number, backlog=MOST_CONNECTIONS
            )
        except OSError as error:
            raise port_taken(self.host, self.number, error) from error
        self.number = self.bus.notes.port = int(self._server.sockets[0].getsockname()[1])

    async def close(self) -> None:
        """Stop listening and drop every connection."""
        self.bus.close()
        if self._server is not None:
            self._server.close()
            self.cut(Cut.CLOSE)
            await closed(self._server)

    def cut(self, cut: Cut) -> None:
        """Drop every connection."""
        for connection in list(self.connections):
            connection.cut(cut)


class RawConnection(asyncio.Protocol):
    """One client's connection, carrying RTU frames as they are."""

    def __init__(
        self, server: SerialServer, *, hello: bytes = b"", fallen: Callable[[], None] | None = None
    ) -> None:
        """For devices that dial in: `hello` is sent at once, `fallen` called when the connection is gone."""
        self._server: Final = server
        self._hello: Final = hello
        self._fallen: Final = fallen
        self._ear: Final = Ear(self)
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        if len(self._server.connections) >= MOST_CONNECTIONS:
            self._server.refused_connections += 1
            self.cut(Cut.CLOSE)
            return
        self._server.connections.add(self)
        keep_alive(transport)
        if self._hello:
            self._transport.write(self._hello)

    def connection_lost(self, exc: Exception | None) -> None:
        self._server.bus.forget(self._ear)
        self._server.connections.discard(self)
        self._transport = None
        if self._fallen is not None:
            self._fallen()

    def data_received(self, data: bytes) -> None:
        self._server.bus.hear(self._ear, data)

    def send(self, part: bytes) -> None:
        """Hand an answer through; a client that does not read is dropped, as a small box would."""
        if self._transport is not None:
            self._transport.write(part)
            if self._transport.get_write_buffer_size() > 65_536:
                self.cut(Cut.CLOSE)

    def cut(self, cut: Cut) -> None:
        if self._transport is not None:
            if cut is Cut.RESET:
                reset(self._transport)
            self._transport.abort()
