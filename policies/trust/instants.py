"""Instants in signed documents: RFC 3339 text in UTC, whole seconds; in memory milliseconds since 1970."""

import re
from datetime import UTC, datetime
from typing import Final

_FORM: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z", re.ASCII)


def parse_instant(text: object) -> int | None:
    """Return the instant, None for anything that is not written exactly so: ``2026-11-22T10:00:00Z``."""
    if not isinstance(text, str) or _FORM.fullmatch(text) is None:
        return None
    try:
        at = datetime.strptime(text, "%Y-%m-%dT%H:%M:%S%z")
    except ValueError:
        return None
    return round(at.timestamp() * 1000)


def instant_text(at_ms: int) -> str:
    """Return an instant as text; what is below a second is left out."""
    return as_datetime(at_ms).strftime("%Y-%m-%dT%H:%M:%SZ")


def as_datetime(at_ms: int) -> datetime:
    """Return an instant as the libraries want it: UTC, whole seconds."""
    return datetime.fromtimestamp(at_ms // 1000, UTC)
