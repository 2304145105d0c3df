"""The customer's no, given at the box: ``portico optout`` writes it, the agent looks at it twice a second.

A file in ``data_dir``, one JSON object a line; what cannot be read counts as a no to everything, because a
doubt about the customer's will is not decided against them.  Not here: opt-outs that the assignment carries.
"""

import json
import logging
from pathlib import Path
from typing import Final

from agent.wholefile import whole_file
from core.errors import ConfigError
from core.ids import name_fault
from policies.assignment import OptOut

log = logging.getLogger(__name__)

FILE: Final = "optouts.json"
LONGEST: Final = 64 << 10
EVERYTHING: Final = (OptOut(),)


class OptOuts:
    """What the file says now."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / FILE
        self._seen: tuple[int, int, int] | None = None
        self._found: tuple[OptOut, ...] = ()

    def now(self) -> tuple[OptOut, ...]:
        """Return the opt-outs; the file is read again only when it changed."""
        try:
            status = self._path.stat()
        except FileNotFoundError:
            self._seen, self._found = None, ()
            return self._found
        except OSError:
            return EVERYTHING
        seen = (status.st_mtime_ns, status.st_size, status.st_ino)
        if seen != self._seen:
            self._found = _read(self._path)
            self._seen = seen
        return self._found


def _read(path: Path) -> tuple[OptOut, ...]:
    try:
        raw = path.read_bytes()
        if len(raw) > LONGEST:
            raise ValueError("too long")
        found = json.loads(raw)
        return tuple(OptOut.model_validate(one) for one in found["opt_outs"])
    except (OSError, ValueError, TypeError, KeyError) as error:
        log.error("%s is not readable (%s): nothing is controlled until it is", path, type(error).__name__)
        return EVERYTHING


def write(directory: Path, devices: list[str]) -> None:
    """Write which devices are not to be controlled; ``*`` stands for all, an empty list for none."""
    for name in devices:
        if name != "*" and name_fault(name):
            raise ConfigError(f"{name!r} {name_fault(name)}")
    path = directory / FILE
    if not devices:
        path.unlink(missing_ok=True)
        return
    found = [{} if name == "*" else {"device": name} for name in devices]
    with whole_file(path) as file:
        json.dump({"opt_outs": found}, file)


def devices(directory: Path) -> list[str]:
    """Return what :func:`write` wrote."""
    return [one.device or "*" for one in OptOuts(directory).now()]
