"""The far end of a serial line for tests: a pseudo-terminal, and devices that answer as a script says.

Relies on the running event loop.  Not here: the pace of a baud rate (`bench/rtuline.c` has that).
"""

import asyncio
import os
import struct
import tty
from collections.abc import Callable
from types import TracebackType

from drivers.modbus.rtu import framed

Reply = tuple[float, bytes]
"""Seconds after the request (after the reply before), and the bytes that are sent then."""
Script = Callable[[bytes], list[Reply]]


def right(request: bytes) -> bytes:
    """Return the right answer: registers hold their address, bits are set where it is even."""
    unit_id, function, address, count = struct.unpack_from(">BBHH", request)
    if function in (1, 2):
        bits = sum(1 << number for number in range(count) if (address + number) % 2 == 0)
        payload = bits.to_bytes((count + 7) // 8, "little")
    elif function in (3, 4):
        payload = struct.pack(f">{count}H", *(at % 65536 for at in range(address, address + count)))
    else:
        return framed(unit_id, request[1:6])
    return framed(unit_id, bytes([function, len(payload)]) + payload)


def honest(request: bytes) -> list[Reply]:
    """Answer right and at once."""
    return [(0, right(request))]


def silent(request: bytes) -> list[Reply]:
    """Answer nothing."""
    return []


class PtyLine:
    """A line whose devices answer by a script."""

    def __init__(self, script: Script = honest) -> None:
        self.script = script
        self.requests: list[bytes] = []
        self.times: list[float] = []
        self.asked = asyncio.Event()
        self._master, self._slave = os.openpty()
        tty.setraw(self._slave)
        self.path = os.ttyname(self._slave)
        self._loop = asyncio.get_running_loop()
        self._received = b""
        self._timers: list[asyncio.TimerHandle] = []
        self._open = True

    def __enter__(self) -> "PtyLine":
        self._loop.add_reader(self._master, self._readable)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.hang_up()

    def hang_up(self) -> None:
        """Take the line away, as an adapter that is unplugged."""
        if self._open:
            self._open = False
            self._loop.remove_reader(self._master)
            for timer in self._timers:
                timer.cancel()
            os.close(self._master)
            os.close(self._slave)

    def say(self, octets: bytes) -> None:
        """Send bytes that nobody asked for."""
        os.write(self._master, octets)

    @property
    def asked_for(self) -> list[tuple[int, int]]:
        """Unit and function of every request."""
        return [(request[0], request[1]) for request in self.requests]

    @property
    def counts(self) -> list[int]:
        """How many registers every request was for."""
        return [request[5] for request in self.requests]

    def _readable(self) -> None:
        self._received += os.read(self._master, 1024)
        while len(self._received) >= self._length():
            request, self._received = self._received[: self._length()], self._received[self._length() :]
            self.requests.append(request)
            self.times.append(self._loop.time())
            self.asked.set()
            after = 0.0
            for delay, octets in self.script(request):
                after += delay
                if after:
                    self._timers.append(self._loop.call_later(after, self.say, octets))
                else:
                    self.say(octets)

    def _length(self) -> int:
        if len(self._received) < 8:
            return 8
        return 9 + self._received[6] if self._received[1] in (15, 16) else 8
