"""The program under test: any command line, over several lives, or one that a person starts by hand.

A foreign program may be a script that starts others, so it has a process group of its own and signals go to
the whole group. It knows where everything is from a file that its command line names.

Relies on `cli.process`. Not here: what it is told (`agent_ground`, `headend_ground`).
"""

import contextlib
import os
import re
import shlex
import shutil
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from cli.process import Process, portico
from core.errors import ConfigError

STOP_TIMEOUT_S: Final = 20.0
PLACE: Final = re.compile(r"\{\{([A-Za-z_]+)\}\}|(?<!\$)\{([A-Za-z_]+)\}")
"""A name in braces; twice in braces it is the program's own, and with a dollar before it a shell's."""


class Program(Process):
    """The program under test."""

    _ended = 0
    """Leader of the group that was killed last: its number may be somebody else's by now."""

    def kill9(self) -> None:
        """Kill it and all that it started."""
        self._signal_group(signal.SIGKILL)
        super().kill9()

    def stop(self, *, timeout_s: float = STOP_TIMEOUT_S) -> int:
        """End it in order; what it leaves behind is killed. ProcessFailed when it does not end in time."""
        try:
            return super().stop(timeout_s=timeout_s)
        finally:
            self._signal_group(signal.SIGKILL)

    def _signal_group(self, number: signal.Signals) -> None:
        """Signal the group that it leads; it may be gone already."""
        if self._process is not None and self._process.pid != self._ended:
            self._ended = self._process.pid
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, number)


def command_line(text: str | None, default: Sequence[str], places: Mapping[str, Path]) -> list[str]:
    """Return what is run: the words of a command line, with `{config}` and the like replaced by paths.

    Without a text our own program is run. Raises ConfigError for one that is not usable, or that names in
    braces what is none of the places.
    """
    if text is None:
        return portico(*(_filled(word, places) for word in default))
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise ConfigError(f"--command is no command line: {error}") from error
    if not words:
        raise ConfigError("--command is empty: name the program, or leave the option out")
    if shutil.which(words[0]) is None:
        raise ConfigError(f"--command names {words[0]}, which is no program here: give its path")
    return [_filled(word, places) for word in words]


def _filled(word: str, places: Mapping[str, Path]) -> str:
    # Not str.format: braces around anything but a name belong to the command.
    def path_of(found: re.Match[str]) -> str:
        if found[1] is not None:
            return f"{{{found[1]}}}"
        if found[2] not in places:
            known = ", ".join(f"{{{name}}}" for name in places)
            raise ConfigError(
                f"the command names {found[0]}, which is none of {known}: "
                f"write {{{found[0]}}} when the program itself is to see it"
            )
        return str(places[found[2]])

    return PLACE.sub(path_of, word)
