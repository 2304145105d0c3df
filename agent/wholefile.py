"""A file that a person asked for by name: it gets its name when it is whole, and nothing else loses its own.

Written under a name of its own in the same directory, which is made new and never followed.
Not here: what is written, and what the store writes for itself.
"""

import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from core.errors import ConfigError, StoreError


@contextmanager
def whole_file(path: Path) -> Iterator[TextIO]:
    """Give a stream whose text becomes the file when the block ends well; else nothing is left.

    :class:`ConfigError` when the path is anything but a regular file or free; :class:`StoreError` when
    it cannot be written.
    """
    mode = _mode_of(path)
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
        try:
            with open(handle, "w", encoding="utf-8", newline="") as stream:
                if mode is not None:
                    os.fchmod(handle, mode)
                yield stream
            fresh.replace(path)
        finally:
            fresh.unlink(missing_ok=True)
    except OSError as error:
        raise StoreError(f"{path} cannot be written: {error.strerror}") from error


def _mode_of(path: Path) -> int | None:
    """Return the permissions of the file that is there, None when there is none."""
    try:
        found = path.lstat().st_mode
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StoreError(f"{path} cannot be written: {error.strerror}") from error
    if stat.S_ISREG(found):
        return stat.S_IMODE(found)
    kind = "a directory" if stat.S_ISDIR(found) else "a link" if stat.S_ISLNK(found) else "a device or pipe"
    raise ConfigError(
        f"{path} is {kind} and would be replaced: give the name of a new or an ordinary file, "
        "or - for standard output"
    )
