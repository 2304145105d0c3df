"""Names and sizes of everything that may arrive, in one place: what is not named or too large is refused.

The names of a repository follow TUF with consistent snapshots (TUF specification 1.0.34, section 6.2).
Pure; relies on nothing but the grammar of names.
"""

import re
from typing import Final

from core.ids import NAME_PATTERN, name_fault

ROOT: Final = "root"
TARGETS: Final = "targets"
SNAPSHOT: Final = "snapshot"
TIMESTAMP: Final = "timestamp"
POLICY_FOLDER: Final = "policy/"
TOP_ROLES: Final = (ROOT, TARGETS, SNAPSHOT, TIMESTAMP)

POLICY_PATH: Final = "policy/policy.json"
"""What is possible at most: the utility's document, signed by its threshold."""
ASSIGNMENT_KEYS_PATH: Final = "policy/assignment-keys.json"
CONSENT_KEYS_PATH: Final = "policy/consent-keys.json"
ISSUED: Final = "x-portico-issued"
"""Member of the timestamp's signed part: when the policy service signed it."""

LONGEST_BUNDLE: Final = (4 << 20) - 4096
"""Bytes; with topic and header it still fits a broker's packet of 4 MiB."""
LONGEST_TIMESTAMP: Final = 4096
LONGEST_ASSIGNMENT: Final = 64 << 10
LONGEST_ROOT: Final = 64 << 10
LONGEST_SNAPSHOT: Final = 256 << 10
LONGEST_ROLE: Final = 1 << 20
LONGEST_DOCUMENT: Final = 4 << 20
"""One document after decompression, as the language takes it; 5,000 grants take about half of it."""
LONGEST_TOTAL: Final = 16 << 20
"""All that a bundle holds, after decompression."""
MOST_FILES: Final = 1024
MOST_ENTITIES: Final = 256
MOST_DOCUMENTS: Final = 512
MOST_ROTATIONS: Final = 256
"""Root versions between the one built in and the newest: yearly ceremonies for longer than a box lasts."""

_METADATA = re.compile(rf"metadata/(timestamp|[1-9][0-9]{{0,9}}\.{NAME_PATTERN})\.json", re.ASCII)
_DOCUMENT = re.compile(
    rf"targets/(policy|entities/{NAME_PATTERN})/[0-9a-f]{{64}}\.[a-z0-9-]{{1,40}}\.json", re.ASCII
)
_BASE = re.compile(r"[a-z0-9-]{1,40}\.json", re.ASCII)
_ROOT_FILE = re.compile(r"([1-9][0-9]{0,9})\.root\.json", re.ASCII)


def is_repository_name(name: str) -> bool:
    """Tell whether a file of that name may be part of what arrives."""
    return _METADATA.fullmatch(name) is not None or _DOCUMENT.fullmatch(name) is not None


def longest(name: str) -> int:
    """Return how many bytes a file of that name may have."""
    if name.startswith("targets/"):
        return LONGEST_DOCUMENT
    if name == "metadata/timestamp.json":
        return LONGEST_TIMESTAMP
    if name.endswith(".root.json"):
        return LONGEST_ROOT
    return LONGEST_SNAPSHOT if name.endswith(".snapshot.json") else LONGEST_ROLE


def root_version_of(name: str) -> int | None:
    """Return the version in the name of a root file, None for another file."""
    found = _ROOT_FILE.fullmatch(name)
    return int(found[1]) if found else None


def entity_fault(entity: str) -> str | None:
    """Return what is wrong with the id of an entity that is to have a role of its own, or None."""
    if entity in TOP_ROLES:
        return "is the name of a role of the repository"
    if root_version_of(f"{entity}.json") is not None:
        return "looks like the file of a root"
    return name_fault(entity)


def is_in(path: str, folder: str) -> bool:
    """Tell whether a document's path lies in a folder itself: what is elsewhere is never looked at."""
    return path.startswith(folder) and _BASE.fullmatch(path[len(folder) :]) is not None


def entity_folder(entity: str) -> str:
    """Return the one folder in which an entity's own documents lie."""
    return f"entities/{entity}/"


def roster_path(entity: str) -> str:
    """Return the path of an entity's roster."""
    return entity_folder(entity) + "roster.json"


def agreed_path(entity: str) -> str:
    """Return the path of an entity's list of the grants that it agreed to."""
    return entity_folder(entity) + "agreed.json"
