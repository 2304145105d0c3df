"""A file of the utility's folder: written whole or not at all."""

import os
import secrets
from pathlib import Path

from core.errors import ConfigError


def write_whole(path: Path, content: bytes, mode: int = 0o644) -> None:
    """Write a file under its name when it is whole; ConfigError when it cannot be written."""
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            fresh.replace(path)
        finally:
            fresh.unlink(missing_ok=True)
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}") from error
