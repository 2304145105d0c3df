"""One program over several lives: started, ended in order or killed, always by its own process id.

Relies on POSIX signals. What the program prints goes to a log file of its own, appended over its lives,
whose end is quoted in every error. Nothing here waits without a deadline.

Not here: which programs there are and what they are told (`cli.stand`).
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from core.errors import PorticoError

START_TIMEOUT_S: Final = 30.0
STOP_TIMEOUT_S: Final = 20.0
KILL_TIMEOUT_S: Final = 10.0
POLL_S: Final = 0.02
TAIL_BYTES: Final = 4096
SOURCE: Final = Path(__file__).resolve().parent.parent


class ProcessFailed(PorticoError):
    """A program did not start, or did not end, or ended by itself."""


def portico(*arguments: str) -> list[str]:
    """Return the command line of a `portico` command: the installed script, else this interpreter."""
    script = Path(sys.executable).with_name("portico")
    if script.exists():
        return [str(script), *arguments]
    return [sys.executable, "-c", "from cli.main import main; main()", *arguments]


def wait_until(
    condition: Callable[[], bool], timeout_s: float, what: Callable[[], str], poll_s: float = POLL_S
) -> None:
    """Wait for a condition; ProcessFailed with `what()` when the deadline passes."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() >= deadline:
            raise ProcessFailed(what())
        time.sleep(poll_s)


class Process:
    """One program. As a context manager it runs inside the block and is stopped at its end."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        log_path: Path,
        *,
        env: Mapping[str, str] | None = None,
        ready: Callable[["Process"], bool] = lambda process: True,
    ) -> None:
        """Describe a program; :meth:`start` runs it.

        Args:
            name: for errors.
            command: program and arguments.
            log_path: takes stdout and stderr of every life.
            env: added to this process's environment (LD_PRELOAD, FAKETIME and so on).
            ready: asked again and again after the start; it may raise ProcessFailed.
        """
        self.name: Final = name
        self.command: list[str] = list(command)
        self.log_path: Final = log_path
        self.env: dict[str, str] = dict(env or {})
        self.lives = 0
        """How often it was started."""
        self._ready = ready
        self._process: subprocess.Popen[bytes] | None = None
        self._begun_at = 0

    @property
    def pid(self) -> int:
        """Process id while it runs, 0 else."""
        return self._process.pid if self._process is not None and self.running else 0

    @property
    def running(self) -> bool:
        """True while the process lives, frozen or not."""
        return self._process is not None and self._process.poll() is None

    @property
    def exit_code(self) -> int | None:
        """Exit code of the last life (negative: the signal), None while it runs or before the first."""
        return None if self._process is None else self._process.poll()

    def start(self, *, timeout_s: float = START_TIMEOUT_S, wait: bool = True) -> None:
        """Start it and, with `wait`, wait until it is ready. ProcessFailed with the end of the log."""
        if self.running:
            raise ProcessFailed(f"{self.name} runs already")
        self.log_path.parent.mkdir(parents=True, exist_ok=True)
        self._begun_at = self.log_path.stat().st_size if self.log_path.exists() else 0
        try:
            with self.log_path.open("ab") as log:
                self._process = subprocess.Popen(
                    self.command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env={**os.environ, "PYTHONUNBUFFERED": "1", **self.env},
                    cwd=SOURCE if self.command[0] == sys.executable else None,
                    # A session of its own: Ctrl-C in the terminal ends the demo, which then stops its parts.
                    start_new_session=True,
                )
        except OSError as error:
            raise ProcessFailed(f"{self.name} cannot be started: {error.strerror}") from error
        self.lives += 1
        if wait:
            self.wait_ready(timeout_s=timeout_s)

    def wait_ready(self, *, timeout_s: float = START_TIMEOUT_S) -> None:
        """Wait until it is ready; a program that ends instead is an error."""

        def ready_or_over() -> bool:
            return not self.running or self._ready(self)

        wait_until(
            ready_or_over, timeout_s, lambda: f"{self.name} was not ready in {timeout_s:g} s: {self.tail()}"
        )
        if not self.running:
            raise ProcessFailed(f"{self.name} ended at once (exit {self.exit_code}): {self.tail()}")

    def stop(self, *, timeout_s: float = STOP_TIMEOUT_S) -> int:
        """End it in order (SIGTERM) and return its exit code; kills and raises when it does not end."""
        if self._process is None:
            return 0
        if self.running:
            self._process.send_signal(signal.SIGCONT)
            self._process.terminate()
            try:
                self._process.wait(timeout_s)
            except subprocess.TimeoutExpired as error:
                self.kill9()
                raise ProcessFailed(
                    f"{self.name} did not end in {timeout_s:g} s and was killed: {self.tail()}"
                ) from error
        return self._process.wait(KILL_TIMEOUT_S)

    def kill9(self) -> None:
        """Kill it (SIGKILL) and wait for its end. Does nothing when it is not running."""
        if self._process is None:
            return
        if self._process.poll() is None:
            self._process.kill()
        try:
            self._process.wait(KILL_TIMEOUT_S)
        except subprocess.TimeoutExpired as error:
            raise ProcessFailed(f"{self.name} (pid {self._process.pid}) does not die") from error

    def wait_end(self, *, timeout_s: float = STOP_TIMEOUT_S) -> int:
        """Wait until it ends by itself; return the exit code."""
        wait_until(
            lambda: not self.running, timeout_s, lambda: f"{self.name} still runs after {timeout_s:g} s"
        )
        return self.exit_code or 0

    def freeze(self) -> None:
        """Stop it where it stands (SIGSTOP)."""
        if self._process is not None and self.running:
            self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on after `freeze` (SIGCONT)."""
        if self._process is not None and self.running:
            self._process.send_signal(signal.SIGCONT)

    def said(self) -> str:
        """Return what this life has printed, at most its first 64 KiB."""
        if not self.log_path.exists():
            return ""
        with self.log_path.open("rb") as log:
            log.seek(self._begun_at)
            return log.read(64 << 10).decode(errors="replace")

    def tail(self) -> str:
        """Return the last lines of the log as one line, for an error."""
        if not self.log_path.exists():
            return "it said nothing"
        with self.log_path.open("rb") as log:
            log.seek(max(self._begun_at, self.log_path.stat().st_size - TAIL_BYTES))
            lines = log.read(TAIL_BYTES).decode(errors="replace").strip().splitlines()
        return " / ".join(lines[-4:]) or f"it said nothing ({self.log_path})"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
