"""The control socket of a plant that runs: JSON lines on a Unix socket beside its log, for its owner alone.

Bounded: few connections, lines of limited length, and a time-out for who says nothing. Both ends reach the
socket by way of its directory, for a Unix address holds only 108 bytes.

Relies on Linux (`/proc/self/fd`). Not here: what is asked and answered (`simulator.ctl`).
"""

import asyncio
import json
import os
import socket
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from core.errors import ConfigError, PorticoError

NAME: Final = "ctl.sock"
MOST_CONNECTIONS: Final = 8
LONGEST_REQUEST: Final = 65_536
LONGEST_ANSWER: Final = 16 << 20
"""A list of ten thousand devices."""
IDLE_S: Final = 600.0
ANSWER_S: Final = 30.0

Answering = Callable[[bytes], Awaitable[bytes]]


class CtlFailed(PorticoError):
    """The plant did not do what it was asked."""


class NoPlant(ConfigError):
    """Nobody answers at the control socket."""


class CtlServer:
    """Listens while the block lasts."""

    def __init__(self, directory: Path, answer: Answering) -> None:
        self.path: Final = directory / NAME
        self._answer: Final = answer
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    async def __aenter__(self) -> Self:
        """Listen. ConfigError when another plant does so already."""
        with reached(self.path.parent) as directory:
            place = f"{directory}/{NAME}"
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            sock.setblocking(False)
            try:
                if answers(place):
                    raise ConfigError(
                        f"a plant runs already with the log in {self.path.parent}: choose another directory "
                        "by --log, or end it."
                    )
                self.path.unlink(missing_ok=True)
                sock.bind(place)
                self.path.chmod(0o600)
                sock.listen(MOST_CONNECTIONS)
            except OSError as error:
                sock.close()
                raise ConfigError(f"the control socket {self.path} cannot be made: {error}.") from error
            except ConfigError:
                sock.close()
                raise
        self._server = await asyncio.start_unix_server(self._serve, sock=sock, limit=LONGEST_REQUEST)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._server is not None:
            self._server.close()
            for writer in list(self._writers):
                writer.close()
            await self._server.wait_closed()
            self.path.unlink(missing_ok=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._writers) >= MOST_CONNECTIONS:
            writer.close()
            return
        self._writers.add(writer)
        try:
            while True:
                async with asyncio.timeout(IDLE_S):
                    line = await reader.readuntil()
                writer.write(await self._answer(line) + b"\n")
                async with asyncio.timeout(IDLE_S):
                    await writer.drain()
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, TimeoutError, OSError):
            # The client has gone, says nothing, or says too much: nothing is owed to it.
            pass
        finally:
            self._writers.discard(writer)
            writer.close()


class Ctl:
    """A client that blocks; as a context manager it closes at the end."""

    def __init__(self, directory: Path) -> None:
        """Connect to the plant whose log is in a directory. NoPlant when none runs there."""
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(ANSWER_S)
        try:
            with reached(directory) as place:
                self._socket.connect(f"{place}/{NAME}")
        except (OSError, ConfigError) as error:
            self._socket.close()
            raise NoPlant(
                f"no plant runs with its log in {directory}: name its directory by --log, "
                "or start one with portico simulate."
            ) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()

    def ask(self, **request: object) -> dict[str, object]:
        """Ask for something and return the answer. CtlFailed with the plant's sentence when it says no."""
        line = json.dumps({name: value for name, value in request.items() if value is not None})
        received = bytearray()
        try:
            self._socket.sendall(line.encode() + b"\n")
            while not received.endswith(b"\n"):
                part = self._socket.recv(1 << 16)
                if not part or len(received) > LONGEST_ANSWER:
                    raise CtlFailed("the plant ended, or said more than any answer holds.")
                received += part
        except OSError as error:
            raise CtlFailed(f"the plant gave no answer: {error}.") from error
        answer = json.loads(received)
        if not isinstance(answer, dict) or not answer.pop("ok", False):
            said = str(answer.get("error", answer))
            raise CtlFailed(said if said.endswith(("?", ".")) else f"{said}.")
        return answer


@contextmanager
def reached(directory: Path) -> Iterator[str]:
    """Give a short path to a directory while the block lasts. ConfigError when it is not there."""
    try:
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise ConfigError(f"{directory} cannot be opened: {error.strerror}.") from error
    try:
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)


def answers(place: str) -> bool:
    """Tell whether somebody listens at a socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(ANSWER_S)
        try:
            probe.connect(place)
        except OSError:
            return False
        return True
