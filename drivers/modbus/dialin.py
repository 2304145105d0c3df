"""Devices that dial in: this box listens at one address, they connect, and then they are asked as usual.

A connection counts only when its device is known.  With TLS that is the common name of its certificate,
which must be expected on this line, and the device is asked nothing but its own unit.  Without TLS it is the
address that it comes from, which must be trusted by name, and there is one device or converter a line, or
several that name themselves by their first frame (``drivers.modbus.firstframe``).  With TLS a first frame may
be asked for as well; it must be that of the device in the certificate.  Whoever else connects, or says
something else or nothing first, is closed and counted.  A device that dials again takes the place of its
earlier connection, which a router in between may long have forgotten.

Answers are checked as on the other lines (``drivers.modbus.frames``); the connection ends with the first
one that is wrong or missing.  Deliberately not here: RTU frames on such connections.
"""

import asyncio
import logging
import secrets
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Final, cast

from core.errors import BadFrame, LinkDown, NoAnswer, PorticoError
from drivers.modbus.firstframe import FirstFrame, shown
from drivers.modbus.frames import HEAD, Exchange
from drivers.modbus.lineurl import LinkUrl
from drivers.modbus.link import ContextMaker, no_delay
from drivers.modbus.pdulink import PduLink, accepted

log = logging.getLogger(__name__)

MOST_CONNECTIONS: Final = 64
HANDSHAKE_S: Final = 10.0
FIRST_FRAME_S: Final = 10.0
"""Until the whole first frame is there; modems send it at once, over slow networks."""
QUIET_S: Final = 0.2
"""Silence behind a first frame: then it is whole, and no longer one that begins alike."""
NOBODY: Final = "\0"
"""Has no connection: no certificate and no first frame bears this name."""
MOST_BYTES: Final = 1024
"""Of one answer; the longest is 260."""


@dataclass(frozen=True, slots=True)
class Callers:
    """Who may dial in on a line: by certificate, or by address."""

    units: Mapping[str, int] = field(default_factory=dict)
    """Unit id by common name; used with TLS."""
    addresses: frozenset[str] = frozenset()
    """Addresses of the devices or converters; used without TLS."""
    first_frames: Mapping[int, bytes] = field(default_factory=dict)
    """What the caller behind a unit id says first; several behind one caller have the same."""


class DialInLink(PduLink):
    """A ``ControlLink`` on connections that the devices open."""

    def __init__(self, url: LinkUrl, callers: Callers, tls: ContextMaker | None = None) -> None:
        self.url = url
        self.refused = 0
        """Connections that were closed because nobody expected them."""
        self._callers = callers
        self._tls = tls
        self._server: asyncio.Server | None = None
        self._connections: dict[str, _Caller] = {}
        self._unnamed: set[_Caller] = set()
        """Connections whose first frame is waited for."""
        self._names = {unit_id: name for name, unit_id in callers.units.items()}
        self._busy = False
        self._pause_s = 0.0
        self._quiet_since = 0.0

    @property
    def connected(self) -> bool:
        """Whether devices can dial in; one that has not is ``LinkDown`` for itself alone."""
        return self._server is not None and self._server.is_serving()

    async def connect(self) -> None:
        await self.close()
        loop = asyncio.get_running_loop()
        try:
            self._server = await loop.create_server(
                lambda: _Caller(self),
                self.url.host,
                self.url.port,
                ssl=None if self._tls is None else self._tls(),
                ssl_handshake_timeout=None if self._tls is None else HANDSHAKE_S,
            )
        except PorticoError as error:
            raise LinkDown(f"nobody can dial in at {self.url}: {error}") from error
        except OSError as error:
            raise LinkDown(
                f"nobody can dial in at {self.url} ({(error.strerror or str(error)).lower()}): "
                "is it an address of this box, and the port free?"
            ) from error

    async def close(self) -> None:
        server, self._server = self._server, None
        if server is not None:
            server.close()
        for caller in [*self._connections.values(), *self._unnamed]:
            caller.drop("was closed on our side")
        self._connections.clear()

    async def _ask(self, unit_id: int, wanted: bytes, size: int, timeout_s: float, pause_s: float) -> bytes:
        if self._busy:
            raise RuntimeError("a link is owned by one task: a second request began before the first ended")
        self._busy = True
        loop = asyncio.get_running_loop()
        try:
            left = self._quiet_since + max(pause_s, self._pause_s) - loop.time()
            if left > 0:
                await asyncio.sleep(left)
            if not self.connected:
                raise LinkDown(f"nobody can dial in at {self.url}: it is closed")
            caller = self._connections.get(self._name_of(unit_id))
            if caller is None:
                raise LinkDown(f"unit {unit_id} has not dialled in at {self.url}")
            answer = await caller.ask(unit_id, wanted, size, timeout_s)
        finally:
            self._busy = False
            self._pause_s, self._quiet_since = pause_s, loop.time()
        return accepted(f"unit {unit_id} at {self.url}", wanted, answer)

    def _name_of(self, unit_id: int) -> str:
        """Return whose connection a unit is asked on; all on the one there is, where nobody names himself."""
        if self._tls is not None:
            return self._names.get(unit_id, NOBODY)
        if self._callers.first_frames:
            frame = self._callers.first_frames.get(unit_id)
            return NOBODY if frame is None else shown(frame)
        return ""

    def meet(self, caller: "_Caller", transport: asyncio.Transport) -> frozenset[bytes] | None:
        """Return what a connection must say first, nothing: it has its place.  None: nobody expects it."""
        name = "" if self._tls is None else _common_name(transport)
        known = name in self._callers.units if self._tls is not None else self._is_trusted(transport)
        if not known or len(self._connections) + len(self._unnamed) >= MOST_CONNECTIONS:
            self.refused += 1
            return None
        frames = self._callers.first_frames
        if self._tls is not None:
            unit_id = self._callers.units[name]
            expected = frozenset({frames[unit_id]} if unit_id in frames else ())
        else:
            expected = frozenset(frames.values())
        if expected:
            caller.name = name
            self._unnamed.add(caller)
        else:
            self._admit(caller, name)
        return expected

    def named(self, caller: "_Caller", frame: bytes) -> None:
        """Give a connection that said its first frame its place."""
        self._unnamed.discard(caller)
        self._admit(caller, caller.name or shown(frame))

    def turned_away(self, caller: "_Caller") -> None:
        """Count a connection that said something else first, or nothing."""
        self.refused += 1
        log.info("a caller at %s said no first frame that is expected there", self.url)

    def _admit(self, caller: "_Caller", name: str) -> None:
        before = self._connections.get(name)
        if before is not None:
            before.drop("was replaced by a newer one of the same device")
        else:
            log.info("%s dialled in at %s", name or "a device", self.url)
        self._connections[name] = caller

    def _is_trusted(self, transport: asyncio.Transport) -> bool:
        peer = transport.get_extra_info("peername")
        return bool(peer) and str(peer[0]).removeprefix("::ffff:") in self._callers.addresses

    def forget(self, caller: "_Caller") -> None:
        """Take a connection that ended out of its place."""
        self._unnamed.discard(caller)
        for name, one in list(self._connections.items()):
            if one is caller:
                del self._connections[name]
                log.info("%s hung up at %s", name or "the device", self.url)


class _Caller(asyncio.Protocol):
    """One connection that a device opened."""

    def __init__(self, link: DialInLink) -> None:
        self.name = ""
        """In its certificate, as long as its first frame is waited for."""
        self._link = link
        self._first: FirstFrame | None = None
        """What it said, as long as it must say something first."""
        self._timer: asyncio.TimerHandle | None = None
        self._transport: asyncio.Transport | None = None
        # Not from 1 on: what a device sent before it was asked cannot bear the number by habit.
        self._number = secrets.randbelow(0xFFFF)
        self._received = b""
        self._exchange: Exchange | None = None
        self._answer: asyncio.Future[bytes] | None = None

    def connection_made(self, made: asyncio.BaseTransport) -> None:
        transport = cast(asyncio.Transport, made)  # uvloop's is one only by its methods
        expected = self._link.meet(self, transport)
        if expected is None:
            transport.abort()
            return
        no_delay(transport)
        self._transport = transport
        if expected:
            self._first = FirstFrame(expected)
            self._wait(FIRST_FRAME_S, self._turn_away)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if self._timer is not None:
            self._timer.cancel()
        self._link.forget(self)
        self._end(LinkDown(f"the device hung up at {self._link.url} before it answered"))

    def _wait(self, seconds: float, then: Callable[[], None]) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(seconds, then)

    def _turn_away(self) -> None:
        self._link.turned_away(self)
        self.drop("was given up")

    def _is_named(self, frame: bytes) -> None:
        self._first = None
        self._link.named(self, frame)

    def data_received(self, data: bytes) -> None:
        if self._first is not None:
            if not self._first.feed(data):
                self._turn_away()
            elif (frame := self._first.whole) is not None:
                self._wait(QUIET_S, partial(self._is_named, frame))
            return
        exchange, answer = self._exchange, self._answer
        if exchange is None or answer is None or answer.done():
            return  # nobody asked
        self._received += data
        try:
            if len(self._received) > MOST_BYTES:
                raise BadFrame("more came back than any answer holds")
            admitted = exchange.admit(self._received)
        except BadFrame as error:
            self._end(BadFrame(f"{self._link.url}: {error}"))
            return
        frame = _frame_of(admitted, self._number)
        if frame is not None:
            answer.set_result(frame[HEAD + 1 :])

    async def ask(self, unit_id: int, pdu: bytes, size: int, timeout_s: float) -> bytes:
        """Send one request and return the PDU that answers it; end the connection unless one does."""
        transport = self._transport
        if transport is None or transport.is_closing():
            raise LinkDown(f"unit {unit_id} has hung up at {self._link.url}")
        self._number = self._number % 0xFFFF + 1
        head = self._number.to_bytes(2, "big") + b"\0\0" + (len(pdu) + 1).to_bytes(2, "big")
        frame = head + bytes((unit_id,)) + pdu
        self._received = b""
        self._exchange = Exchange(frame, size)
        self._answer = asyncio.get_running_loop().create_future()
        try:
            transport.write(frame)
            async with asyncio.timeout(timeout_s):
                return await self._answer
        except TimeoutError as error:
            self.drop("gave no answer")
            raise NoAnswer(
                f"unit {unit_id} at {self._link.url} gave no answer within {timeout_s:g} s"
            ) from error
        except BaseException:
            self.drop("was given up")
            raise
        finally:
            self._exchange = self._answer = None

    def drop(self, why: str) -> None:
        """Close, and forget what waits."""
        transport, self._transport = self._transport, None
        if self._timer is not None:
            self._timer.cancel()
        self._link.forget(self)
        self._end(NoAnswer(f"the connection at {self._link.url} {why}"))
        if transport is not None:
            transport.abort()

    def _end(self, error: Exception) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(error)


def _frame_of(admitted: bytes, number: int) -> bytes | None:
    """Return the whole frame of a transaction among those that may be decoded."""
    at = 0
    while at + HEAD <= len(admitted):
        length = int.from_bytes(admitted[at + 4 : at + 6], "big")
        frame = admitted[at : at + HEAD + length]
        if int.from_bytes(frame[:2], "big") == number and len(frame) == HEAD + length:
            return frame
        at += HEAD + length
    return None


def _common_name(transport: asyncio.Transport) -> str:
    """Return the common name of the certificate on the other side; the context has checked its issuer."""
    tls = transport.get_extra_info("ssl_object")
    certificate = tls.getpeercert() if isinstance(tls, ssl.SSLObject | ssl.SSLSocket) else None
    subject = (certificate or {}).get("subject", ())
    names = [entry[1] for part in subject for entry in part if entry[0] == "commonName"]
    return str(names[0]) if len(names) == 1 else ""
