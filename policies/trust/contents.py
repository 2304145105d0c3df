"""What people wrote, made into the documents that are signed.

A *part* is a TOML or JSON file with some of the policy's tables: entities, limits, calendars, grants.  All
parts together are the one policy document; version, issue and end are stamped on it from the list that names
it, so that nobody has to count.  A roster is stamped in the same way.  Beyond that nothing of the content is
looked at: its language is validated by whoever knows it.

Pure but for reading the parts.
"""

import json
import tomllib
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, time
from pathlib import Path
from typing import Final

import msgspec
from tuf.api.metadata import Targets

from core.errors import ConfigError
from core.ids import name_fault
from policies.trust.agreement import Agreed, Named, named_grants
from policies.trust.instants import instant_text
from policies.trust.refusals import PolicyRefused

LONGEST_PART: Final = 8 << 20
HEAD: Final = "head"
"""Name of the part that holds the policy's head and the entities."""
Table = dict[str, object]


def read_part(path: Path) -> Table:
    """Return a TOML (or ``.json``) file as the tables of JSON; ConfigError names what is wrong."""
    try:
        with path.open("rb") as file:
            raw = file.read(LONGEST_PART + 1)
        if len(raw) > LONGEST_PART:
            raise ConfigError(f"{path} has more than {LONGEST_PART} bytes: is it really a part of a policy?")
        text = raw.decode()
        if path.suffix == ".json":
            tables = json.loads(text, parse_float=str)
        else:
            tables = tomllib.loads(text, parse_float=str)
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8 text: save it as UTF-8") from error
    except ValueError as error:
        raise ConfigError(f"{path} is not valid: {error}") from error
    found = _plain(tables, path.name)
    if not isinstance(found, dict):
        raise ConfigError(f"{path} holds no tables")
    return found


def _plain(value: object, place: str) -> object:
    """Return what JSON can say of a value of TOML: instants and dates become their text."""
    match value:
        case dict():
            return {str(key): _plain(one, f"{place} {key}") for key, one in value.items()}
        case list():
            return [_plain(one, place) for one in value]
        case datetime():
            if value.utcoffset() is None:
                raise ConfigError(f"{place}: an instant needs an offset, for example 2027-06-01T00:00:00Z")
            return instant_text(round(value.astimezone(UTC).timestamp() * 1000))
        case date():
            return value.isoformat()
        case time():
            return value.strftime("%H:%M")
    return value


def canonical(document: object) -> bytes:
    """Return a document's one form of bytes."""
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def merged(parts: Mapping[str, Table]) -> Table:
    """Return all parts as one document: lists are put one behind the other.

    A part may say more of the head and of entities than the first one did: what it says counts.
    """
    found: Table = {}
    for name in sorted(parts, key=lambda one: (one != HEAD, one)):
        for key, value in parts[name].items():
            present = found.get(key)
            if key == "policy" and isinstance(value, dict) and isinstance(present, dict):
                if value.get("utility", present.get("utility")) != present.get("utility"):
                    theirs, ours = value["utility"], present.get("utility")
                    raise ConfigError(f"part {name} is of the utility {theirs}, this folder of {ours}")
                found[key] = {**present, **value}
            elif isinstance(value, list) and (present is None or isinstance(present, list)):
                before = present or []
                if key == "entity":
                    named = {one.get("id") for one in value if isinstance(one, dict)}
                    first = _list(parts.get(HEAD, {}).get("entity"))
                    before = [one for one in before if one not in first or _id(one) not in named]
                found[key] = [*before, *value]
            elif present is None:
                found[key] = value
            else:
                raise ConfigError(f"part {name} says {key} again: it stands in another part")
    return found


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else []


def _id(table: object) -> object:
    return table.get("id") if isinstance(table, dict) else None


def stamped(document: Table, head: str, role: Targets, now_ms: int) -> Table:
    """Return a document whose head table says version, issue and end as the list that names it."""
    table = document.get(head)
    if not isinstance(table, dict):
        raise ConfigError(f"the document has no table [{head}]")
    stamp = {
        "version": role.version,
        "issued": instant_text(now_ms),
        "expires": instant_text(round(role.expires.timestamp() * 1000)),
    }
    return {**document, head: {"format": 1, **table, **stamp}}


def grants_of(policy: bytes) -> list[tuple[Named, str]]:
    """Return the grants of a policy as one agrees to them; ConfigError when they have no ids."""
    try:
        return named_grants(policy)
    except PolicyRefused as error:
        raise ConfigError(f"the grants cannot be used: {error}; each needs an id of its own") from error


def agreed_document(
    entity: str, named: Sequence[tuple[Named, str]], also: Mapping[str, tuple[str, ...]]
) -> bytes:
    """Return the list of what an entity is to agree to: its own grants, and those that ask it in ``also``."""
    grants = [one for one, of in named if of == entity or entity in also.get(one.id, ())]
    return msgspec.json.encode(Agreed(1, entity, sorted(grants, key=lambda one: one.id)), order="sorted")


def part_name(path: Path, given: str | None) -> str:
    """Return the name under which a part is kept."""
    name = given or path.stem
    fault = name_fault(name)
    if fault is not None:
        raise ConfigError(f"{name!r} {fault}: give another with --name")
    if name == HEAD:
        raise ConfigError(f'"{HEAD}" is the name of the first part: give another with --name')
    return name
