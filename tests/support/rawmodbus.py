"""A Modbus TCP client of a few lines, for tests that must not depend on our own client or a library's.

Relies on blocking sockets with a deadline. Not here: anything a real client needs beyond asking.
"""

import socket
import struct
from types import TracebackType

DEADLINE_S = 5.0
HEADER = struct.Struct(">HHHB")  # transaction, protocol, length from the unit id on, unit id


def frame(pdu: bytes, *, transaction: int = 1, unit_id: int = 1) -> bytes:
    return HEADER.pack(transaction, 0, len(pdu) + 1, unit_id) + pdu


class RawModbus:
    """One connection to a server on loopback."""

    def __init__(self, port: int) -> None:
        self.port = port
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=DEADLINE_S)

    def __enter__(self) -> "RawModbus":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    def send(self, frames: bytes) -> None:
        self._socket.sendall(frames)

    def receive(self) -> tuple[int, bytes]:
        """Return transaction and PDU of the next answer; EOFError when the server hung up."""
        transaction, _, length, _ = HEADER.unpack(self._exactly(HEADER.size))
        return transaction, self._exactly(length - 1)

    def ask(self, pdu: bytes, *, unit_id: int = 1) -> bytes:
        self.send(frame(pdu, unit_id=unit_id))
        return self.receive()[1]

    def read(self, function: int, address: int, count: int, *, unit_id: int = 1) -> bytes:
        """Return the bytes of the registers or bits; AssertionError when the server refuses."""
        answer = self.ask(struct.pack(">BHH", function, address, count), unit_id=unit_id)
        assert answer[0] == function, f"exception {answer[1]}"
        assert answer[1] == len(answer) - 2
        return answer[2:]

    def exception(self, pdu: bytes, *, unit_id: int = 1) -> int:
        """Return the exception code that answers `pdu`, 0 for none."""
        answer = self.ask(pdu, unit_id=unit_id)
        return answer[1] if answer[0] == pdu[0] | 0x80 else 0

    def _exactly(self, size: int) -> bytes:
        received = bytearray()
        while len(received) < size:
            chunk = self._socket.recv(size - len(received))
            if not chunk:
                raise EOFError(f"the server hung up after {len(received)} of {size} bytes")
            received += chunk
        return bytes(received)
