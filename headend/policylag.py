"""Which gateways hold an older policy or assignment than was published: a broker may keep one back.

What was published is read from the folder that `portico policy publish` writes, never from a broker; what
is held is what gateways say in their states.  A gateway has a bound of time to follow, counted from when the
file was written.

Not here: publishing (`policies.trust.publishing`), and where the alarm is kept (`headend.alarms`).
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from core.errors import ConfigError
from headend.instants import instant
from policies.trust.publishing import published_versions
from policies.trust.spool import Place

log = logging.getLogger(__name__)

CODE: Final = "policy-lag"
LOOK_MS: Final = 60_000
_STATES: Final = (
    "SELECT gateway, json_extract(state, '$.x.policy.snapshot'), json_extract(state, '$.assignment'), "
    "last_seen_ms FROM gateway WHERE state IS NOT NULL"
)


@dataclass(frozen=True, slots=True)
class Published:
    """What every gateway should hold, and since when."""

    snapshot: int
    snapshot_ms: int
    assignments: Mapping[str, tuple[int, int]]
    """By gateway: number, and when it was written."""


@dataclass(frozen=True, slots=True)
class HeldBy:
    """What a gateway says that it holds; zero where it says nothing."""

    gateway: str
    snapshot: int
    assignment: int
    heard_ms: int


def lagging(
    published: Published, held: Iterable[HeldBy], now_ms: int, bound_ms: int
) -> Iterator[tuple[str, str]]:
    """Yield gateways that are behind for longer than a bound, each with a sentence.

    One that says nothing of a policy and has no assignment takes no part.
    """
    for one in held:
        number, since_ms = published.assignments.get(one.gateway, (0, 0))
        if not one.snapshot and not number:
            continue
        behind = []
        if one.snapshot < published.snapshot and now_ms - published.snapshot_ms > bound_ms:
            behind.append(
                f"holds snapshot {one.snapshot or 'none'}, {published.snapshot} was published "
                f"{instant(published.snapshot_ms)}"
            )
        if one.assignment < number and now_ms - since_ms > bound_ms:
            behind.append(
                f"holds assignment {one.assignment or 'none'}, {number} was published {instant(since_ms)}"
            )
        if behind:
            heard = f"last heard {instant(one.heard_ms)}: is something kept back?"
            yield one.gateway, f"{one.gateway} {' and '.join(behind)}; {heard}"


class PolicyLag:
    """Looks into the published folder and the books once a minute.  One owner."""

    def __init__(self, folder: Path, bound_ms: int) -> None:
        self._folder: Final = folder
        self._bound_ms: Final = bound_ms
        self._next_ms = 0
        self._unread = ""

    def look(self, connection: sqlite3.Connection, now_ms: int) -> list[tuple[str, str]]:
        """Return who lags; nothing between two looks, and while the folder cannot be read (which is told)."""
        if self._next_ms - LOOK_MS <= now_ms < self._next_ms:
            return []
        self._next_ms = now_ms + LOOK_MS
        try:
            published = self._published()
        except ConfigError as error:
            if str(error) != self._unread:
                log.error("who lags behind the policy is not known: %s", error)
            self._unread = str(error)
            return []
        self._unread = ""
        try:
            rows = connection.execute(_STATES).fetchall()
        except sqlite3.Error as error:  # whoever writes next tells what is wrong with the books
            log.debug("the states cannot be read: %s", error)
            return []
        held = (
            HeldBy(gateway, _count(snapshot), _count(assignment), heard)
            for gateway, snapshot, assignment, heard in rows
        )
        return list(lagging(published, held, now_ms, self._bound_ms))

    def _published(self) -> Published:
        versions, sequences = published_versions(self._folder)
        return Published(
            versions.snapshot,
            _written_ms(self._folder / Place.BUNDLE.value),
            {
                gateway: (number, _written_ms(self._folder / "assign" / f"{gateway}.json"))
                for gateway, number in sequences.items()
            },
        )


def _count(value: object) -> int:
    if isinstance(value, int):
        return value
    return int(value) if isinstance(value, str) and value.isascii() and value.isdigit() else 0


def _written_ms(path: Path) -> int:
    try:
        return round(path.stat().st_mtime * 1000)
    except OSError as error:
        raise ConfigError(f"{path} cannot be looked at: {error.strerror}") from error
