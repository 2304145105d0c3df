"""The spool: what arrived and nobody believes yet, a fixed number of files of bounded size.

MQTT, a folder and a USB stick all fill it the same way, each as a *source* of its own, and none can fill more
than its three places.  A newer message replaces an older one; the same again costs no write.

Not here: judging any of it (`policies.trust.folder`).
"""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Final

from core.errors import StoreError
from core.ids import checked_name
from policies.trust.bounds import LONGEST_ASSIGNMENT, LONGEST_BUNDLE, LONGEST_TIMESTAMP
from policies.trust.bundle import unpack
from policies.trust.generations import read_bounded
from policies.trust.refusals import PolicyRefused, Why


class Place(Enum):
    """What a source may leave; the value is the file's name in the spool and in a published folder."""

    BUNDLE = "bundle.zip"
    TIMESTAMP = "timestamp.json"
    ASSIGNMENT = "assignment.json"


LONGEST: Final[Mapping[Place, int]] = {
    Place.BUNDLE: LONGEST_BUNDLE,
    Place.TIMESTAMP: LONGEST_TIMESTAMP,
    Place.ASSIGNMENT: LONGEST_ASSIGNMENT,
}
MOST_SOURCES: Final = 4
_TIMESTAMP_FILE: Final = "metadata/timestamp.json"


@dataclass(frozen=True, slots=True)
class Offer:
    """What one source offers: sets, the likelier first; one of them is enough."""

    source: str
    sets: tuple[Mapping[str, bytes], ...]
    unread: PolicyRefused | None
    """Why its bundle is none."""


class Spool:
    """A folder of untrusted files.  One owner; blocking."""

    def __init__(self, base: Path, sources: tuple[str, ...]) -> None:
        """``sources``: the names of those who may fill it; what others left is taken away."""
        if len(sources) > MOST_SOURCES:
            raise ValueError(f"a spool has at most {MOST_SOURCES} sources")
        self._base: Final = base
        self._sources: Final = tuple(checked_name(source, "source") for source in sources)
        self._seen: dict[tuple[str, Place], bytes] = {}
        known = {_name(source, place) for source in sources for place in Place}
        try:
            base.mkdir(parents=True, exist_ok=True, mode=0o700)
            for path in base.iterdir():
                if path.name not in known:
                    path.unlink()
        except OSError as error:
            raise StoreError(f"the spool {base} cannot be used: {error.strerror}") from error

    def put(self, source: str, place: Place, content: bytes) -> bool:
        """Keep what a source says; return whether it is news.  PolicyRefused when it is too large."""
        if source not in self._sources:
            raise ValueError(f"{source} is no source of this spool")
        if len(content) > LONGEST[place]:
            raise PolicyRefused(
                Why.TOO_LARGE, f"a {place.value} of {len(content)} bytes, at most {LONGEST[place]} are kept"
            )
        digest = hashlib.sha256(content).digest()
        if self._seen.get((source, place)) == digest:
            return False
        path = self._base / _name(source, place)
        if read_bounded(path, LONGEST[place]) != content:
            self._write(path, content)
        self._seen[source, place] = digest
        return True

    def get(self, source: str, place: Place) -> bytes | None:
        """Return what a source said last."""
        return read_bounded(self._base / _name(source, place), LONGEST[place])

    def offers(self) -> Iterator[Offer]:
        """Yield what each source offers."""
        for source in self._sources:
            bundle, timestamp = self.get(source, Place.BUNDLE), self.get(source, Place.TIMESTAMP)
            files: Mapping[str, bytes] = {}
            unread = None
            if bundle is not None:
                try:
                    files = unpack(bundle)
                except PolicyRefused as refused:
                    unread = refused
            sets = [files] if files else []
            if timestamp is not None and files.get(_TIMESTAMP_FILE) != timestamp:
                # Which of the two is newer is their own claim: it says in which order they are tried.
                newer = _claimed(timestamp) >= _claimed(files.get(_TIMESTAMP_FILE, b""))
                sets.insert(0 if newer else 1, {**files, _TIMESTAMP_FILE: timestamp})
            if sets or unread is not None:
                yield Offer(source, tuple(sets), unread)

    def assignments(self) -> Iterator[tuple[str, bytes]]:
        """Yield the assignments on offer, each with its source."""
        for source in self._sources:
            found = self.get(source, Place.ASSIGNMENT)
            if found is not None:
                yield source, found

    def _write(self, path: Path, content: bytes) -> None:
        fresh = path.with_suffix(".part")
        try:
            with fresh.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            fresh.replace(path)
        except OSError as error:
            raise StoreError(f"the spool {self._base} cannot be written: {error.strerror}") from error


def _claimed(timestamp: bytes) -> int:
    """Return the version that a timestamp says it has, -1 when it says none."""
    try:
        version = json.loads(timestamp)["signed"]["version"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return -1
    return version if isinstance(version, int) else -1


def _name(source: str, place: Place) -> str:
    return f"{source}.{place.value}"
