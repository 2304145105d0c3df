"""Options that several commands of `portico headend` share."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console

from headend.config import load

Config = Annotated[
    Path, typer.Option("--config", "-c", help="Configuration of the head-end.", envvar="PORTICO_HEADEND")
]
BooksFile = Annotated[
    Path | None, typer.Option("--books", help="The books themselves, in place of a configuration.")
]
Json = Annotated[bool, typer.Option("--json", help="Write JSON for programs.")]
DEFAULT_CONFIG: Final = Path("headend.toml")
PIPE_COLUMNS: Final = 240


def now_ms() -> int:
    """The wall clock: UTC, ms since 1970."""
    return time.time_ns() // 1_000_000


def books_path(config: Path, books: Path | None) -> Path:
    """Return where the books lie, by option or configuration."""
    return books if books is not None else load(config).headend.books


def console() -> Console:
    """A console for tables; wide where nobody watches, so that nothing is cut in a file or a pipe."""
    return Console() if Console().is_terminal else Console(width=PIPE_COLUMNS)
