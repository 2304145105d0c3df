"""What carries RTU frames: a serial port of this box, or the TCP port of a serial server.

Both are file descriptors that never block, so that the owner of a line can empty them at the very moment
before it sends.  Relies on pyserial for the settings of a port.  Deliberately not here: frames and silence
(``drivers.modbus.rtulink``); direction pins of RS-485 drivers (the kernel's, or the adapter's own).
"""

import asyncio
import contextlib
import errno
import socket
import termios
from dataclasses import dataclass
from typing import Final, Literal, Protocol

import serial

from core.errors import LinkDown
from drivers.modbus.lineurl import LinkUrl
from drivers.modbus.link import why

Parity = Literal["none", "even", "odd"]
CHUNK: Final = 4096
GIVEN_UP_MS: Final = 10_000
"""A serial server that acknowledges nothing for so long is gone."""
_PARITIES: Final[dict[Parity, str]] = {
    "none": serial.PARITY_NONE,
    "even": serial.PARITY_EVEN,
    "odd": serial.PARITY_ODD,
}
FAST_BAUD: Final = 19200
FAST_SILENCE_S: Final = 0.00175
"""Above 19,200 baud the silence is fixed (Modbus over Serial Line V1.02 §2.5.1.1)."""


@dataclass(frozen=True, slots=True)
class SerialSettings:
    """How characters are written on a serial line; each has 8 bits, as RTU wants."""

    baud: int = 9600
    parity: Parity = "none"
    stop_bits: Literal[1, 2] = 1

    @property
    def character_s(self) -> float:
        """Time of one character: start bit, 8 bits, parity, stop bits."""
        return (9 + (self.parity != "none") + self.stop_bits) / self.baud

    @property
    def silence_s(self) -> float:
        """Silence that ends a frame, t3.5."""
        return FAST_SILENCE_S if self.baud > FAST_BAUD else 3.5 * self.character_s


class Wire(Protocol):
    """Carries bytes to and from a line."""

    async def open(self) -> None:
        """Open; ``LinkDown`` when that fails."""

    def fileno(self) -> int:
        """Return the descriptor that becomes readable."""

    def read(self) -> bytes:
        """Return what has come, ``b""`` when nothing has; ``LinkDown`` when the wire is gone."""

    def write(self, frame: bytes) -> None:
        """Send a whole frame; ``LinkDown`` when the wire is gone or takes no more."""

    def close(self) -> None:
        """Close; may be called again."""


class SerialWire:
    """A serial port, held exclusively."""

    def __init__(self, url: LinkUrl, settings: SerialSettings) -> None:
        self._url = url
        self._settings = settings
        self._port: serial.Serial | None = None

    async def open(self) -> None:
        settings = self._settings
        try:
            port = serial.Serial(
                self._url.path,
                baudrate=settings.baud,
                bytesize=serial.EIGHTBITS,
                parity=_PARITIES[settings.parity],
                stopbits=settings.stop_bits,
                timeout=0,
                write_timeout=0,
                exclusive=True,
            )
        except (serial.SerialException, termios.error, OSError, ValueError) as error:
            raise LinkDown(f"{self._url} cannot be opened: {_why_not(error)}") from error
        with contextlib.suppress(ValueError, NotImplementedError):  # a port that has no such mode
            port.set_low_latency_mode(True)
        self._port = port

    def fileno(self) -> int:
        assert self._port is not None
        return self._port.fileno()

    def read(self) -> bytes:
        assert self._port is not None
        try:
            return bytes(self._port.read(CHUNK))
        except (serial.SerialException, OSError) as error:
            raise LinkDown(f"{self._url} is gone: was the adapter unplugged?") from error

    def write(self, frame: bytes) -> None:
        assert self._port is not None
        try:
            taken = self._port.write(frame)
        except (serial.SerialException, OSError) as error:
            raise LinkDown(f"{self._url} is gone: was the adapter unplugged?") from error
        if taken != len(frame):
            raise LinkDown(f"{self._url} does not send: {taken} of {len(frame)} bytes were taken")

    def close(self) -> None:
        port, self._port = self._port, None
        if port is not None:
            with contextlib.suppress(serial.SerialException, termios.error, OSError):
                port.close()


class TcpWire:
    """The TCP port of a serial server."""

    def __init__(self, url: LinkUrl, connect_timeout_s: float) -> None:
        self._url = url
        self._connect_timeout_s = connect_timeout_s
        self._socket: socket.socket | None = None

    async def open(self) -> None:
        url = self._url
        try:
            async with asyncio.timeout(self._connect_timeout_s):
                self._socket = await self._connected()
        except TimeoutError as error:
            raise LinkDown(
                f"{url} does not answer: no connection within {self._connect_timeout_s:g} s; "
                "is the serial server on, and the address right?"
            ) from error
        except OSError as error:
            raise LinkDown(f"{url} cannot be reached: {why(error)}") from error

    async def _connected(self) -> socket.socket:
        """Return a connection to the first address of the host that takes one."""
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(self._url.host, self._url.port, type=socket.SOCK_STREAM)
        failure: OSError | None = None
        for family, kind, protocol, _, address in found:
            one = socket.socket(family, kind, protocol)
            try:
                one.setblocking(False)
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, GIVEN_UP_MS)
                await loop.sock_connect(one, address)
            except OSError as error:
                one.close()
                failure = error
            except BaseException:
                one.close()
                raise
            else:
                return one
        raise failure or OSError(errno.EHOSTUNREACH, "it has no address")

    def fileno(self) -> int:
        assert self._socket is not None
        return self._socket.fileno()

    def read(self) -> bytes:
        assert self._socket is not None
        try:
            chunk = self._socket.recv(CHUNK)
        except (BlockingIOError, InterruptedError):
            return b""
        except OSError as error:
            raise LinkDown(f"{self._url} is gone: {why(error)}") from error
        if not chunk:
            raise LinkDown(f"{self._url} closed the connection")
        return chunk

    def write(self, frame: bytes) -> None:
        assert self._socket is not None
        try:
            taken = self._socket.send(frame)
        except (BlockingIOError, InterruptedError):
            taken = 0
        except OSError as error:
            raise LinkDown(f"{self._url} is gone: {why(error)}") from error
        if taken != len(frame):
            raise LinkDown(f"{self._url} takes no more bytes: the network is stuck")

    def close(self) -> None:
        one, self._socket = self._socket, None
        if one is not None:
            one.close()


def _why_not(error: Exception) -> str:
    """Return what keeps a port from being opened, as half a sentence."""
    cause = error.__context__
    match getattr(error, "errno", None) or (cause.args[0] if cause is not None and cause.args else None):
        case errno.ENOENT | errno.ENODEV | errno.ENXIO:
            return "there is no such device; is the adapter plugged in?"
        case errno.EACCES | errno.EPERM:
            return "this user may not; is it in the group dialout?"
        case errno.EAGAIN | errno.EBUSY:
            return "another program has it open"
        case errno.ENOTTY | errno.EINVAL:
            return "it is no serial port, or knows no such settings"
    return str(error)
