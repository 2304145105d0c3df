"""Registers of one device by Modbus TCP over a plain socket, for the thin gateway.

*Modbus Messaging on TCP/IP Implementation Guide V1.0b* §3.1.3. One request at a time; an answer is one only
when transaction, protocol, unit, function and length are those of the request. Anything else is thrown away,
and with half a frame the connection. Not here: other functions, other lines.
"""

import socket
import struct
import time
from typing import Final

HEADER: Final = struct.Struct(">HHHB")
READ_HOLDING: Final = 3


class NoAnswer(Exception):
    """There is no value; the argument is the reason (docs/quality.md)."""


class Device:
    """A connection to one device."""

    def __init__(
        self, host: str, port: int, unit_id: int, timeout_s: float, *, trusting: bool = False
    ) -> None:
        """With `trusting` the next answer of the unit is taken for that to the last request: a defect."""
        self._address: Final = (host, port)
        self._unit: Final = unit_id
        self._timeout_s: Final = timeout_s
        self._trusting: Final = trusting
        self._transaction = 0
        self._socket: socket.socket | None = None
        self._buffer = b""

    def read(self, address: int, count: int) -> bytes:
        """Return the bytes of holding registers. Raises NoAnswer."""
        deadline = time.monotonic() + self._timeout_s
        self._transaction = (self._transaction + 1) & 0xFFFF
        pdu = struct.pack(">BHH", READ_HOLDING, address, count)
        try:
            link = self._connected()
            link.sendall(HEADER.pack(self._transaction, 0, len(pdu) + 1, self._unit) + pdu)
            while True:
                transaction, unit, answer = self._frame(link, deadline)
                if unit != self._unit or (transaction != self._transaction and not self._trusting):
                    continue
                if answer[:1] == bytes([READ_HOLDING | 0x80]) and len(answer) == 2:
                    raise NoAnswer(
                        f"exception-{answer[1]}" if answer[1] in (1, 2, 3, 4, 6) else "exception-other"
                    )
                if answer[:2] != bytes([READ_HOLDING, 2 * count]) or len(answer) != 2 + 2 * count:
                    raise NoAnswer("bad-frame")
                return answer[2:]
        except TimeoutError:
            if self._buffer and not self._trusting:
                self.close()  # half a frame: what follows would be read from its middle
            raise NoAnswer("timeout") from None
        except OSError:
            self.close()
            raise NoAnswer("line-down") from None

    def close(self) -> None:
        """Close the connection; the next read makes another."""
        if self._socket is not None:
            self._socket.close()
        self._socket, self._buffer = None, b""

    def _connected(self) -> socket.socket:
        if self._socket is None:
            self._socket = socket.create_connection(self._address, self._timeout_s)
        return self._socket

    def _frame(self, link: socket.socket, deadline: float) -> tuple[int, int, bytes]:
        """Return transaction, unit and PDU of the next frame."""
        self._fill(link, HEADER.size, deadline)
        transaction, protocol, length, unit = HEADER.unpack(self._buffer[: HEADER.size])
        if protocol or not 2 <= length <= 254:
            self.close()
            raise NoAnswer("bad-frame")
        self._fill(link, 6 + length, deadline)
        pdu, self._buffer = self._buffer[HEADER.size : 6 + length], self._buffer[6 + length :]
        return transaction, unit, pdu

    def _fill(self, link: socket.socket, size: int, deadline: float) -> None:
        while len(self._buffer) < size:
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError
            link.settimeout(left)
            part = link.recv(4096)
            if not part:
                raise ConnectionError("closed")
            self._buffer += part


def value_of(point: dict[str, object], registers: bytes) -> int | float | str | None:
    """Return the value of a point from its own registers, as it stands on the wire: exact."""
    match point["type"]:
        case "string":
            return registers.rstrip(b"\0 ").decode("ascii", "replace")
        case "float32":
            return _shortest(registers)
        case kind:
            number = int.from_bytes(registers, "big", signed=str(kind).startswith("int"))
            return number if abs(number) <= 1 << 53 else str(number)


def _shortest(registers: bytes) -> float | None:
    """Return the shortest decimal that reads back to the same float32; None when it is no number."""
    (value,) = struct.unpack(">f", registers)
    if value != value or value in (float("inf"), float("-inf")):
        return None
    return next(
        (
            short
            for digits in range(1, 10)
            if struct.pack(">f", short := float(f"{value:.{digits}g}")) == registers
        ),
        float(value),
    )
