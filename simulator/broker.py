"""The broker as a counterpart: a mosquitto process that demo, torture and tests start, kill and restart.

Relies on Debian's mosquitto and on a configuration file that names a listener and a log file
(`certs.broker` writes one). Only the process started here is ever signalled, by its own id.

Not here: the configuration itself, clients.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import IO, Final, Self

from core.errors import ConfigError, PorticoError

START_TIMEOUT_S: Final = 10.0
STOP_TIMEOUT_S: Final = 10.0
LOWEST_PORT: Final = 12_000
CLIENT_PORTS: Final = 32_768
PORTS_TRIED: Final = 100
HOST: Final = "127.0.0.1"
PORTS_SETTING: Final = "PORTICO_PORTS"
"""Environment variable, as in 12000-16999: a part of the ports for each of those that run side by side."""
_POLL_S: Final = 0.02
_LOG_TAIL_BYTES: Final = 8192


class BrokerFailed(PorticoError):
    """mosquitto did not start, or did not stop, in time."""


def find_mosquitto() -> str:
    """Path of the mosquitto binary; /usr/sbin is often missing in a user's PATH. Raises ConfigError."""
    path = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"))
    found = shutil.which("mosquitto", path=path)
    if found is None:
        raise ConfigError("mosquitto is not installed: run apt-get install mosquitto")
    return found


def free_port() -> int:
    """A TCP port of the loopback interface that nobody listens on at this moment.

    Below those that the system gives to clients: one of theirs would else be taken by somebody's connection
    before its server binds it, or while its server is away. Where all of these are taken, one of theirs.
    Two that choose at the same time may choose the same: PORTS_SETTING gives each ports of its own.
    """
    try:
        return free_ports(1)
    except BrokerFailed:
        with socket.create_server((HOST, 0)) as probe:
            found: int = probe.getsockname()[1]
            return found


def free_ports(count: int) -> int:
    """Return the first of `count` such ports in a row. Raises BrokerFailed where there are none."""
    ports = free_range()
    begins = ports[: max(len(ports) - count + 1, 0)]
    for first in random.sample(begins, min(PORTS_TRIED, len(begins))):
        if all(_is_free(port) for port in range(first, first + count)):
            return first
    raise BrokerFailed(f"no {count} ports of {HOST} in a row are free: end what holds so many")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
        return True


def free_range() -> range:
    """Return the ports that `free_port` chooses from. Raises ConfigError where the setting is none."""
    setting = os.environ.get(PORTS_SETTING)
    if setting is None:
        return range(LOWEST_PORT, _first_of_clients())
    first, _, last = setting.partition("-")
    if not (first.isdecimal() and last.isdecimal() and 1024 <= int(first) <= int(last) <= 65_535):
        raise ConfigError(f"{PORTS_SETTING}={setting} names no ports: write FIRST-LAST, as in 12000-16999")
    return range(int(first), int(last) + 1)


def _first_of_clients() -> int:
    """The first port that the system gives to a client, on Linux; elsewhere that of most Linux systems."""
    try:
        first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    except (OSError, ValueError):
        return CLIENT_PORTS
    return max(first, LOWEST_PORT + PORTS_TRIED)


class Mosquitto:
    """One mosquitto process over several lives. As a context manager it runs inside the block."""

    def __init__(self, config_path: Path, *, binary: str | None = None) -> None:
        """Read listener and log file from the configuration. Raises ConfigError."""
        self.config_path: Final = Path(config_path)
        self._binary = binary or find_mosquitto()
        self.host, self.port, self.log_path = _read_config(self.config_path)
        self._process: subprocess.Popen[bytes] | None = None
        self._stderr: IO[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """Process id while it runs."""
        return self._process.pid if self.running and self._process is not None else None

    @property
    def running(self) -> bool:
        """True while the process lives, frozen or not."""
        return self._process is not None and self._process.poll() is None

    def start(self, *, timeout_s: float = START_TIMEOUT_S) -> None:
        """Start and wait until the listener accepts. Raises BrokerFailed with the end of the log."""
        if self.running:
            raise BrokerFailed(f"mosquitto of {self.config_path} runs already")
        written = self._log_size()
        # A session of its own: a Ctrl-C in the terminal ends the demo, which then stops its broker.
        self._close()
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process; no pipe to fill
        self._process = subprocess.Popen(
            [self._binary, "-c", str(self.config_path)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=self._stderr,
            start_new_session=True,
        )
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                said = self._log_since(written) + self._errors()
                self._close()
                raise BrokerFailed(f"mosquitto ended at once (exit {self._process.returncode}): {_end(said)}")
            if self._listens(written):
                return
            time.sleep(_POLL_S)
        said = self._log_since(written)
        self.kill9()
        raise BrokerFailed(f"mosquitto did not listen on port {self.port} in {timeout_s} s: {_end(said)}")

    def stop(self, *, timeout_s: float = STOP_TIMEOUT_S) -> None:
        """End it in order (SIGTERM), so that it saves its sessions. Does nothing when it is not running."""
        if not self.running or self._process is None:
            return
        self._process.send_signal(signal.SIGCONT)
        self._process.terminate()
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired as error:
            self.kill9()
            raise BrokerFailed(f"mosquitto did not end in {timeout_s} s and was killed") from error
        self._close()

    def kill9(self) -> None:
        """Kill it (SIGKILL) and wait for its end. Does nothing when it is not running."""
        if self._process is None:
            return
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait(STOP_TIMEOUT_S)
        self._close()

    def restart(self, *, timeout_s: float = START_TIMEOUT_S) -> None:
        """Stop in order and start again, with the same configuration."""
        self.stop()
        self.start(timeout_s=timeout_s)

    def freeze(self) -> None:
        """Stop it where it stands (SIGSTOP): connections stay open and nothing is answered."""
        if self.running and self._process is not None:
            self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on after `freeze` (SIGCONT)."""
        if self.running and self._process is not None:
            self._process.send_signal(signal.SIGCONT)

    def log_text(self) -> str:
        """The end of the log, over all lives, for error messages."""
        return self._log_since(max(0, self._log_size() - _LOG_TAIL_BYTES))

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _listens(self, written: int) -> bool:
        """Its log says so after it has bound the port; a connection could be answered by somebody else."""
        if self.log_path is not None:
            return " running" in self._log_since(written)
        try:
            with socket.create_connection((self.host, self.port), timeout=1.0):
                return True
        except OSError:
            return False

    def _log_size(self) -> int:
        return self.log_path.stat().st_size if self.log_path is not None and self.log_path.exists() else 0

    def _log_since(self, offset: int) -> str:
        if self.log_path is None or not self.log_path.exists():
            return ""
        with self.log_path.open("rb") as log:
            log.seek(offset)
            return log.read(_LOG_TAIL_BYTES).decode(errors="replace")

    def _errors(self) -> str:
        if self._stderr is None:
            return ""
        self._stderr.seek(0)
        return self._stderr.read(_LOG_TAIL_BYTES).decode(errors="replace")

    def _close(self) -> None:
        if self._stderr is not None:
            self._stderr.close()
            self._stderr = None


def _read_config(path: Path) -> tuple[str, int, Path | None]:
    """Host and port of the first listener, and the log file if there is one."""
    try:
        lines = [line.split() for line in path.read_text().splitlines() if line and line[0] != "#"]
    except OSError as error:
        raise ConfigError(f"broker configuration {path} cannot be read: {error.strerror}") from error
    listener = next((words for words in lines if words[:1] == ["listener"] and len(words) > 1), None)
    if listener is None:
        raise ConfigError(f"broker configuration {path} names no listener")
    log = next((" ".join(words[2:]) for words in lines if words[:2] == ["log_dest", "file"]), None)
    host = listener[2] if len(listener) > 2 else "127.0.0.1"
    return host, int(listener[1]), Path(log) if log else None


def _end(text: str) -> str:
    return " / ".join(text.strip().splitlines()[-3:]) or "it said nothing"
