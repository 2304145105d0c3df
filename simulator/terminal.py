"""A pseudo-terminal in place of a serial port: the simulator holds one end, a client opens the other.

The client's end has a name that stays: a link in the log's directory, which is put back when the port
is pulled out and plugged in again, as by-id names of USB adapters are.

Relies on Linux pseudo-terminals and an event loop's readers. Not here: frames and pace (`simulator.bus`).
"""

import asyncio
import errno
import os
import tty
from pathlib import Path
from typing import Final

from core.errors import ConfigError
from simulator.bus import Bus, Ear
from simulator.exchange import Cut

AWAY_S: Final = 0.5
"""How long a port that is pulled out stays away."""
MOST_BYTES: Final = 4096


class Terminal:
    """One serial port with its bus."""

    def __init__(self, link: Path, bus: Bus) -> None:
        self.link: Final = link
        self.bus: Final = bus
        self.path = ""
        """The terminal that the link leads to now."""
        self._master: int | None = None
        self._slave: int | None = None
        self._ear = Ear(self)
        self._back: asyncio.TimerHandle | None = None

    async def open(self) -> None:
        """Open the terminal and link to it. ConfigError when that is not possible."""
        try:
            self._plug_in()
        except OSError as error:
            raise ConfigError(
                f"the serial line {self.link} cannot be opened ({error.strerror or error}): pseudo-terminals "
                "need /dev/pts and a directory for the log that can be written."
            ) from error

    async def close(self) -> None:
        """Close the terminal and take the link away."""
        if self._back is not None:
            self._back.cancel()
        self.bus.close()
        self._pull_out()

    def send(self, part: bytes) -> None:
        """Put bytes on the line; what nobody reads is lost, as on a wire."""
        if self._master is None:
            return
        try:
            os.write(self._master, part)
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.EIO):
                raise

    def cut(self, cut: Cut) -> None:
        """Pull the port out, and plug it in again a moment later."""
        if self._master is not None:
            self._pull_out()
            self._back = asyncio.get_running_loop().call_later(AWAY_S, self._plug_in)

    def _plug_in(self) -> None:
        self._back = None
        self._master, self._slave = os.openpty()
        # Before any client comes, so that nothing is echoed; the client's own settings follow.
        tty.setraw(self._slave)
        os.set_blocking(self._master, False)
        self.path = os.ttyname(self._slave)
        self.link.parent.mkdir(parents=True, exist_ok=True)
        fresh = self.link.with_name(self.link.name + ".new")
        fresh.unlink(missing_ok=True)
        fresh.symlink_to(self.path)
        fresh.replace(self.link)
        asyncio.get_running_loop().add_reader(self._master, self._readable)

    def _pull_out(self) -> None:
        if self._master is None or self._slave is None:
            return
        asyncio.get_running_loop().remove_reader(self._master)
        self.bus.forget(self._ear)
        self._ear = Ear(self)
        self.link.unlink(missing_ok=True)
        os.close(self._slave)
        os.close(self._master)
        self._master = self._slave = None

    def _readable(self) -> None:
        if self._master is None:
            return
        try:
            part = os.read(self._master, MOST_BYTES)
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.EIO):
                raise
            return
        self.bus.hear(self._ear, part)
