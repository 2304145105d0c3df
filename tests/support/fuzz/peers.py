"""Devices on every kind of line that do what a script says, byte for byte, and remember what they did.

They run in the event loop of the link that asks them, on real sockets and a real pseudo-terminal; time is
the loop's.  Deliberately not here: what is answered (`tests.support.fuzz.mutations`).
"""

import asyncio
import contextlib
import os
import socket
import ssl
import tty
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from certs.authority import DevAuthority
from certs.contexts import client_context, server_context
from drivers.modbus.dialin import Callers, DialInLink
from drivers.modbus.lineurl import LineScheme, LinkUrl
from drivers.modbus.link import ControlLink, ModbusTcpLink
from drivers.modbus.rtulink import RtuLink, Timer
from drivers.modbus.wires import SerialSettings, SerialWire, TcpWire
from simulator.broker import free_port
from tests.support.fuzz.answers import Asked, Framing, request_length
from tests.support.fuzz.mutations import Step

KINDS: Final = ("tcp", "rtu", "rtu-tcp", "tls", "dial-in", "dial-in-tls")
HOST: Final = "127.0.0.1"
SERIAL: Final = SerialSettings(115_200)
REDIAL_S: Final = 0.05
ORDER_S: Final = 1e-6
CALLER: Final = "meter-7"

Play = Callable[[Asked], list[Step]]


@dataclass(frozen=True)
class Event:
    """Something that went over a connection."""

    at: float
    """In virtual time."""
    connection: int
    octets: bytes
    asked: Asked | None = None
    """The request that arrived; None: these bytes were sent."""


class Contexts:
    """TLS contexts of both sides, made once."""

    def __init__(self, folder: Path) -> None:
        authority = DevAuthority.create(folder)
        authority.issue_server([HOST], name="server")
        authority.issue_client(CALLER)
        ca = folder / "ca.pem"
        self.server: Final = server_context(ca, folder / "server.pem", folder / "server.key")
        self.client: Final = client_context(ca, folder / f"{CALLER}.pem", folder / f"{CALLER}.key")


class Wire(Protocol):
    """One connection as the peer has it."""

    def send(self, octets: bytes, beneath: bool) -> bytes:
        """Send; return what was taken."""

    def end(self, how: str) -> None:
        """Close or reset."""


class Peer:
    """A device, and the connections on which it is asked."""

    def __init__(self, framing: Framing, play: Play) -> None:
        self.framing: Final = framing
        self.play = play
        self.events: list[Event] = []
        self.requests: list[Asked] = []
        self.sent: Callable[[], None] = lambda: None
        """Called after each sending."""
        self._loop = asyncio.get_running_loop()
        self._wires: dict[int, Wire] = {}
        self._made = 0
        self._free_at = 0.0
        self._kept: list[bytes] = []
        """What waits for the next connection."""
        self._timers: list[asyncio.TimerHandle] = []

    def connected(self, wire: Wire) -> int:
        """Take a connection; return its number."""
        self._made += 1
        self._wires[self._made] = wire
        kept, self._kept = self._kept, []
        for octets in kept:
            self._send(self._made, octets)
        return self._made

    def lost(self, number: int) -> None:
        """Forget a connection."""
        self._wires.pop(number, None)

    def received(self, number: int, held: bytes) -> bytes:
        """Answer the whole requests in what came; return the rest."""
        while True:
            length = request_length(self.framing, held)
            if length is None or len(held) < length:
                return held
            asked = Asked(self.framing, len(self.requests), held[:length])
            held = held[length:]
            self.requests.append(asked)
            self.events.append(Event(self._loop.time(), number, asked.octets, asked))
            self._schedule(number, self.play(asked))

    def say(self, octets: bytes) -> None:
        """Send bytes that nobody asked for, on the connection there is."""
        if self._wires:
            self._send(max(self._wires), octets)

    def stop(self) -> None:
        """Do nothing more."""
        for timer in self._timers:
            timer.cancel()
        for wire in list(self._wires.values()):
            wire.end("close")

    def _schedule(self, number: int, steps: list[Step]) -> None:
        now = self._loop.time()
        at = max(now, self._free_at)
        for step in steps:
            at += step.after_s + ORDER_S  # of timers of one instant any may be first
            if step.busy:
                self._free_at = at
            if at <= now + ORDER_S * (len(steps) + 1):
                self._do(number, step)
            else:
                self._timers.append(self._loop.call_at(at, self._do, number, step))

    def _do(self, number: int, step: Step) -> None:
        if step.handed_on:
            others = [one for one in self._wires if one != number]
            if others:
                self._send(max(others), step.octets)
            else:
                self._kept.append(step.octets)
        elif number in self._wires:
            if step.octets:
                self._send(number, step.octets, step.beneath)
            if step.end:
                self._wires[number].end(step.end)

    def _send(self, number: int, octets: bytes, beneath: bool = False) -> None:
        taken = self._wires[number].send(octets, beneath)
        if not beneath:
            self.events.append(Event(self._loop.time(), number, taken))
        self.sent()


class TcpEnd(asyncio.Protocol):
    """A connection on which a peer is asked, TLS or not."""

    def __init__(self, peer: Peer, fallen: Callable[[], None] | None = None) -> None:
        self._peer = peer
        self._fallen = fallen
        self._transport: asyncio.Transport | None = None
        self._held = b""
        self._number = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._transport = transport
        self._number = self._peer.connected(self)

    def data_received(self, data: bytes) -> None:
        self._held = self._peer.received(self._number, self._held + data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._peer.lost(self._number)
        if self._fallen is not None:
            self._fallen()

    def send(self, octets: bytes, beneath: bool) -> bytes:
        if self._transport is None or self._transport.is_closing():
            return b""
        if beneath:
            with contextlib.suppress(OSError):
                os.write(self._transport.get_extra_info("socket").fileno(), octets)
        else:
            self._transport.write(octets)
        return octets

    def end(self, how: str) -> None:
        if self._transport is not None:
            if how == "reset":
                self._transport.abort()
            else:
                self._transport.close()


class PtyEnd:
    """The far end of a pseudo-terminal."""

    def __init__(self, peer: Peer) -> None:
        self._peer = peer
        self._loop = asyncio.get_running_loop()
        self._held = b""
        self._master, self._slave = os.openpty()
        tty.setraw(self._slave)
        os.set_blocking(self._master, False)
        self.path: Final = os.ttyname(self._slave)
        self.is_open = True
        self._loop.add_reader(self._master, self._readable)
        self._number = peer.connected(self)

    def _readable(self) -> None:
        with contextlib.suppress(BlockingIOError):
            self._held = self._peer.received(self._number, self._held + os.read(self._master, 4096))

    def send(self, octets: bytes, beneath: bool) -> bytes:
        try:
            return octets[: os.write(self._master, octets)]
        except BlockingIOError:
            return b""

    def end(self, how: str) -> None:
        if self.is_open:
            self.is_open = False
            self._loop.remove_reader(self._master)
            os.close(self._master)
            os.close(self._slave)
            self._peer.lost(self._number)


class Line:
    """A peer on a line of some kind, and our link to it."""

    def __init__(self, kind: str, unit: int, contexts: Contexts, timer: Timer) -> None:
        self.kind: Final = kind
        framing = Framing.RTU if kind.startswith("rtu") else Framing.MBAP
        self.peer: Final = Peer(framing, lambda asked: [])
        self._contexts = contexts
        self._timer = timer
        self._unit = unit
        self._server: asyncio.Server | None = None
        self._loop = asyncio.get_running_loop()
        self._dialling: asyncio.Task[None] | None = None
        self._pty: PtyEnd | None = None
        self.link: ControlLink

    async def __aenter__(self) -> "Line":
        tls = self._contexts.server if self.kind.endswith("tls") else None
        if self.kind == "rtu":
            self.renew()
        elif self.kind.startswith("dial-in"):
            url = LinkUrl(HOST, free_port(), LineScheme.LISTEN)
            callers = Callers({CALLER: self._unit} if tls else {}, frozenset() if tls else frozenset({HOST}))
            self.link = DialInLink(url, callers, (lambda: tls) if tls else None)
            self._dialling = asyncio.create_task(self._dial(url.port), name="dial")
        else:
            self._server = await self._loop.create_server(lambda: TcpEnd(self.peer), HOST, 0, ssl=tls)
            port = self._server.sockets[0].getsockname()[1]
            if self.kind == "rtu-tcp":
                url = LinkUrl(HOST, port, LineScheme.RTU_TCP)
                self.link = RtuLink(url, TcpWire(url, 3.0), timer=self._timer)
            else:
                scheme = LineScheme.TLS if tls else LineScheme.TCP
                context = (lambda: self._contexts.client) if tls else None
                self.link = ModbusTcpLink(LinkUrl(HOST, port, scheme), tls=context)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._dialling is not None:
            self._dialling.cancel()
            await asyncio.wait([self._dialling])
        self.peer.stop()
        await self.link.close()
        if self._server is not None:
            self._server.close()
        await asyncio.sleep(0.01)

    def renew(self) -> None:
        """Plug in another adapter where one was pulled: a new path, and so a new link."""
        self._pty = PtyEnd(self.peer)
        url = LinkUrl("", 0, LineScheme.RTU, self._pty.path)
        self.link = RtuLink(url, SerialWire(url, SERIAL), SERIAL, timer=self._timer)

    @property
    def pulled(self) -> bool:
        """Whether the serial adapter is gone."""
        return self._pty is not None and not self._pty.is_open

    async def _dial(self, port: int) -> None:
        context: ssl.SSLContext | None = self._contexts.client if self.kind.endswith("tls") else None
        while True:
            fallen = asyncio.Event()
            with contextlib.suppress(OSError):
                await self._loop.create_connection(
                    lambda fallen=fallen: TcpEnd(self.peer, fallen.set),  # type: ignore[misc]
                    HOST,
                    port,
                    ssl=context,
                    server_hostname=HOST if context is not None else None,
                )
                await fallen.wait()
            await asyncio.sleep(REDIAL_S)
