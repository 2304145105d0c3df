"""Modbus RTU clients of a few lines, on a serial port or through a TCP connection, apart from all others.

Relies on `termios` for the port and blocking reads with a deadline. Not here: retries, pace.
"""

import os
import select
import socket
import struct
import time
import tty
from types import TracebackType
from typing import Protocol

DEADLINE_S = 5.0


def crc(body: bytes) -> bytes:
    """The check of MODBUS over Serial Line V1.02 section 6.2.2, bit by bit."""
    found = 0xFFFF
    for byte in body:
        found ^= byte
        for _ in range(8):
            found = found >> 1 ^ 0xA001 if found & 1 else found >> 1
    return found.to_bytes(2, "little")


def frame(pdu: bytes, unit_id: int = 1) -> bytes:
    body = bytes((unit_id,)) + pdu
    return body + crc(body)


class Wire(Protocol):
    """What carries bytes."""

    def fileno(self) -> int: ...

    def put(self, frames: bytes) -> None: ...

    def get(self) -> bytes: ...

    def close(self) -> None: ...


class SerialWire:
    """A serial port, raw."""

    def __init__(self, path: str) -> None:
        self._port = os.open(path, os.O_RDWR | os.O_NOCTTY)
        tty.setraw(self._port)

    def fileno(self) -> int:
        return self._port

    def put(self, frames: bytes) -> None:
        os.write(self._port, frames)

    def get(self) -> bytes:
        return os.read(self._port, 4096)

    def close(self) -> None:
        os.close(self._port)


class TcpWire:
    """A connection to a serial server."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), DEADLINE_S)

    def fileno(self) -> int:
        return self._socket.fileno()

    def put(self, frames: bytes) -> None:
        self._socket.sendall(frames)

    def get(self) -> bytes:
        return self._socket.recv(4096)

    def close(self) -> None:
        self._socket.close()


class RtuClient:
    """One client; what it did not read yet stays, as on a real port."""

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self.stamps: list[float] = []
        """When the pieces of the last answer came."""

    def __enter__(self) -> "RtuClient":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.wire.close()

    def send(self, pdu: bytes, unit_id: int = 1) -> None:
        self.wire.put(frame(pdu, unit_id))

    def receive(self, wanted: int | None = None, *, within_s: float = 0.4) -> bytes:
        """Return what comes: `wanted` bytes, or all until nothing came for `within_s`."""
        received = b""
        self.stamps = []
        deadline = time.monotonic() + DEADLINE_S
        while wanted is None or len(received) < wanted:
            left = within_s if wanted is None else deadline - time.monotonic()
            if left <= 0 or not select.select([self.wire], [], [], left)[0]:
                break
            part = self.wire.get()
            if not part:
                break
            self.stamps.append(time.monotonic())
            received += part
        return received

    def read(self, function: int, address: int, count: int, unit_id: int = 1) -> bytes:
        """Return registers; AssertionError when that is not what comes."""
        self.send(struct.pack(">BHH", function, address, count), unit_id)
        size = 2 * count
        received = self.receive(5 + size)
        assert len(received) == 5 + size, received.hex()
        assert received[-2:] == crc(received[:-2])
        assert received[:3] == bytes((unit_id, function, size)), received.hex()
        return received[3:-2]
