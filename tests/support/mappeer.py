"""Foreign Modbus servers that hold what a test tells them: libmodbus (TCP and RTU) and pymodbus (TCP).

The words are the test's; neither server knows what they mean.  Relies on ``tests/peers/map_peer.c`` and
``tests.support.pymodbus_map``.
"""

import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.support.cbuild import build

ROOT = Path(__file__).parents[2]
PROGRAM = ROOT / "tests" / "peers" / "map_peer.c"


class MapPeer:
    """One foreign server."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process
        self.place = self._line().partition(" ")[2]
        """The port, or the path of the serial device."""

    def hold(self, table: str, address: int, words: Sequence[int]) -> None:
        """Put registers (or bits) from an address on."""
        self._say(f"hold {table} {address} {' '.join(f'{word:x}' for word in words)}")

    def tell(self, table: str, address: int, count: int) -> list[int]:
        """Return registers (or bits) as the server holds them."""
        self._say(f"tell {table} {address} {count}")
        return [int(word, 16) for word in self._line().split()]

    def sync(self) -> None:
        """Wait until everything is held."""
        self._say("sync")
        assert self._line() == "ok"

    def _say(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def _line(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, f"the foreign server ended with {self._process.poll()}"
        return line.strip()


@contextmanager
def libmodbus(*where: str) -> Iterator[MapPeer]:
    """Serve by libmodbus, over TCP or as ``--rtu DEVICE BAUD [UNIT]``; ``BuildUnavailable`` without it."""
    with _running([build(PROGRAM, "modbus"), *(where or ("0",))]) as peer:
        yield peer


@contextmanager
def pymodbus() -> Iterator[MapPeer]:
    """Serve by pymodbus's own server over TCP."""
    with _running([sys.executable, "-m", "tests.support.pymodbus_map"]) as peer:
        yield peer


@contextmanager
def _running(command: Sequence[str | Path]) -> Iterator[MapPeer]:
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as process:
        try:
            yield MapPeer(process)
        finally:
            assert process.stdin is not None
            process.stdin.close()
            try:
                process.wait(10)
            finally:
                process.kill()
