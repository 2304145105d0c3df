"""Instants as people type and read them: ISO 8601 with a time zone, or a span back from now."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Final

from core.errors import ConfigError

_SPAN: Final = re.compile(r"-(\d{1,6})(s|min|m|h|d)")
_UNIT_MS: Final = {"s": 1000, "min": 60_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}


def parse_instant(text: str, now_ms: int, what: str) -> int:
    """Return UTC milliseconds since 1970. Raises ConfigError naming `what`.

    `2026-11-22T10:00:00Z`, `2026-11-22T11:00+01:00`, `2026-11-22` (midnight UTC), `-2h` (two hours
    ago; also `s`, `min`, `d`).
    """
    span = _SPAN.fullmatch(text)
    if span is not None:
        return now_ms - int(span[1]) * _UNIT_MS[span[2]]
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigError(
            f"{what} {text!r} is no instant: write 2026-11-22T10:00:00Z, 2026-11-22, "
            "or -30s, -15min, -2h, -7d for so long ago"
        ) from None
    if at.tzinfo is None:
        if len(text) != 10:
            raise ConfigError(f"{what} {text!r} states no time zone: put Z or +01:00 behind it")
        at = at.replace(tzinfo=UTC)
    return int(at.timestamp() * 1000)


def instant(at_ms: int) -> str:
    """Return an instant as ISO 8601 in UTC, with milliseconds where there are some."""
    try:
        at = datetime.fromtimestamp(at_ms // 1000, UTC)
    except (ValueError, OverflowError, OSError):
        return f"{at_ms} ms since 1970"
    milliseconds = f".{at_ms % 1000:03d}" if at_ms % 1000 else ""
    return f"{at:%Y-%m-%dT%H:%M:%S}{milliseconds}Z"
