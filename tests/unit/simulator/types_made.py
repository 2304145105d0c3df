"""Device types made for tests from a few lines of TOML, by the loader that reads the real ones."""

from pathlib import Path

from drivers.types import DeviceType, load_type

HEAD = """
[type]
name = "made"
manufacturer = "Nobody"
model = "N-1"
description = "made for a test"
kind = "meter"
[source]
title = "none"
where = "none"
read = 2026-11-22
verified = false
"""


def made(directory: Path, text: str) -> DeviceType:
    """Return the type that `text` describes, which begins behind [source]."""
    (directory / "made.toml").write_text(HEAD + text)
    return load_type("made", [directory])
