"""What a person did on the box with a command: left in ``data_dir`` for the audit, taken by the agent.

One small file an act, ``act-<instant>-<random>.json``; a running agent takes it within seconds, else the next
start does.  Who may write there could write anything: an entry tells what was said, not what is proved.
Not here: the entry of what changed by it (`agent.changes`).
"""

import contextlib
import getpass
import json
import os
import secrets
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from agent.wholefile import whole_file
from core.errors import StoreError

PREFIX: Final = "act-"
LONGEST: Final = 4096
AT_ONCE: Final = 100
"""More acts than this wait for the next look."""


def leave(directory: Path, act: str, **what: object) -> None:
    """Leave word of an act; what was asked for is done all the same where that cannot be written."""
    at_ms = time.time_ns() // 1_000_000
    said = {"act": act, "by": _who(), "at": at_ms, **what}
    with contextlib.suppress(StoreError), whole_file(_fresh(directory, at_ms)) as file:
        json.dump(said, file)


def _fresh(directory: Path, at_ms: int) -> Path:
    return directory / f"{PREFIX}{at_ms:013}-{secrets.token_hex(4)}.json"


def _who() -> str:
    """Return the user, and on whose behalf."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError):
        user = str(os.getuid())
    behalf = os.environ.get("SUDO_USER")
    return f"{user} (sudo: {behalf})" if behalf else user


async def take(directory: Path, audited: Callable[[str, dict[str, object]], Awaitable[object]]) -> None:
    """Put the acts that were left into the audit, the oldest first; what cannot be written now stays."""
    with contextlib.suppress(OSError, StoreError):
        for path in _left(directory):
            await audited("act", _read(path))
            path.unlink(missing_ok=True)


def _left(directory: Path) -> list[Path]:
    return sorted(directory.glob(f"{PREFIX}*.json"))[:AT_ONCE]


def _read(path: Path) -> dict[str, object]:
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(handle, "rb") as file:
            raw = file.read(LONGEST + 1)
        found = json.loads(raw) if len(raw) <= LONGEST else None
    except (OSError, ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        return {"act": "unreadable", "file": path.name}
    return {what: one if isinstance(one, str | int) else str(one) for what, one in found.items()}
