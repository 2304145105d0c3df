"""From bytes to documents and back: TOML that people write, canonical JSON that is signed.

A file is a policy, a roster or an assignment, told by its first table.  Reading is strict and tells all
faults at once, each with its place; nothing comes out of a file with a fault.  The canonical form is JSON
with sorted keys, without spaces, every key written out also where it has its default, numbers as text: the
same document has the same bytes.

Relies on `tomllib`, `json` and pydantic.  Not here: signatures over those bytes.
"""

import json
import tomllib
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Final, Never, TypeVar

from pydantic import BaseModel, ValidationError

from core.errors import ConfigError
from policies.assignment import Assignment, assignment_faults
from policies.command import Command
from policies.faults import form_faults, near
from policies.policy import Policy, policy_faults
from policies.roster import Roster, roster_faults
from policies.rulebook import Rulebook

LONGEST_FILE: Final = 4 * 1024 * 1024
"""Bytes of one document: some ten thousand grants."""
Document = Policy | Roster | Assignment
_Model = TypeVar("_Model", bound=BaseModel)
KINDS: Final[dict[str, type[Policy] | type[Roster] | type[Assignment]]] = {
    "policy": Policy,
    "roster": Roster,
    "assignment": Assignment,
}
"""Which document it is, by the table that says whose it is."""


def canonical(document: BaseModel) -> bytes:
    """Return the bytes that are signed."""
    plain = document.model_dump(mode="json", by_alias=True, exclude_none=True)
    return json.dumps(plain, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def read_document(path: Path) -> Document:
    """Return the document in a file, or :class:`ConfigError` with every fault found."""
    return parse_document(read_bytes(path), path.name)


def parse_document(raw: bytes, name: str) -> Document:
    """Return the document in some bytes; ``name`` says in faults where they stand."""
    tables = _tables(raw, name)
    kinds = [kind for kind in KINDS if kind in tables]
    if len(kinds) != 1:
        raise ConfigError(
            f"{name} must begin with exactly one of [policy], [roster] and [assignment], "
            f"{'it has ' + ' and '.join(kinds) if kinds else 'and has none of them'}"
            + ("" if kinds else _IN_FOLDER)
        )
    document = _parse(tables, KINDS[kinds[0]], name)
    if faults := _inner_faults(document):
        raise _faulty(name, faults)
    return document


def _inner_faults(document: Document) -> list[str]:
    match document:
        case Policy():
            return policy_faults(document)
        case Roster():
            return roster_faults(document)
        case Assignment():
            return assignment_faults(document)


def parse_command(raw: bytes, name: str = "command") -> Command:
    """Return the command in some bytes of JSON."""
    return _parse(_json(raw, name), Command, name)


def parse_as(raw: bytes, model: type[_Model], name: str) -> _Model:
    """Return another noun of ours that is written in TOML or JSON."""
    return _parse(_tables(raw, name), model, name)


def read_bytes(path: Path) -> bytes:
    """Return what is in a file, as long as it is not longer than a document may be."""
    try:
        with path.open("rb") as file:
            raw = file.read(LONGEST_FILE + 1)
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from error
    return raw


def read_rulebook(paths: Sequence[Path]) -> Rulebook:
    """Return what some files say together: one policy, at most one assignment, a roster an entity."""
    documents: list[tuple[Path, Document]] = []
    faults: list[str] = []
    for path in paths:
        try:
            documents.append((path, read_document(path)))
        except ConfigError as error:
            faults += error.faults or (str(error),)
    return rulebook_of(documents, faults)


def rulebook_of(documents: Sequence[tuple[Path, Document]], before: Sequence[str] = ()) -> Rulebook:
    """Return what documents say together; ``before``: faults of those that could not be read."""
    faults = list(before)
    faults += together_faults(documents, whole=not faults)
    policies = [one for _, one in documents if isinstance(one, Policy)]
    if faults or not policies:
        raise ConfigError(_summary("the documents", faults), tuple(faults))
    rosters = [one for _, one in documents if isinstance(one, Roster)]
    assignments = [one for _, one in documents if isinstance(one, Assignment)]
    return Rulebook(policies[0], rosters, next(iter(assignments), None))


def together_faults(documents: Sequence[tuple[Path, Document]], *, whole: bool = True) -> list[str]:
    """Return what documents say against each other; ``whole``: none of them was left out."""
    faults: list[str] = []
    policies = [(path, one) for path, one in documents if isinstance(one, Policy)]
    rosters = [(path, one) for path, one in documents if isinstance(one, Roster)]
    assignments = [(path, one) for path, one in documents if isinstance(one, Assignment)]
    if whole and len(policies) != 1:
        faults.append(f"exactly one file with [policy] is needed, there are {len(policies)}")
    if len(assignments) > 1:
        faults.append(f"at most one file with [assignment] can count, there are {len(assignments)}")
    named: dict[str, Path] = {}
    for path, roster in rosters:
        entity = roster.roster.entity
        if named.setdefault(entity, path) is not path:
            faults.append(f'{path.name}: roster entity: "{entity}" has its roster in {named[entity].name}')
    if len(policies) != 1:
        return faults
    policy = policies[0][1]
    applications = {one.id: {app.id for app in one.applications} for one in policy.entities}
    for path, roster in rosters:
        entity = roster.roster.entity
        if entity not in applications:
            faults.append(f'{path.name}: roster entity: "{entity}" is no [[entity]] of the policy')
            continue
        faults += [
            f'{path.name}: key[{number}] "{key.id}" applications: "{name}" is no application of {entity}: '
            f"it has {', '.join(sorted(applications[entity])) or _NO_APPLICATION}"
            for number, key in enumerate(roster.keys, start=1)
            for name in key.applications
            if name not in applications[entity]
        ]
    grants = {grant.id: grant for grant in policy.grants}
    for path, assignment in assignments:
        for table, ids in (
            ("select", [one.grant for one in assignment.selections]),
            ("consent", [one.grant for one in assignment.consents]),
        ):
            faults += [
                f'{path.name}: {table}[{number}] grant: "{name}" is no [[grant]] of the policy: '
                f"{near(name, grants)}"
                for number, name in enumerate(ids, start=1)
                if name not in grants
            ]
    return faults


_NO_APPLICATION: Final = "none yet, name them in the policy first (add-entity --application)"
_IN_FOLDER: Final = "; a part of a policy is read from its folder, once portico policy grant put it there"


def _tables(raw: bytes, name: str) -> dict[str, object]:
    if len(raw) > LONGEST_FILE:
        raise ConfigError(f"{name} has more than {LONGEST_FILE} bytes: is it really a policy document?")
    if raw.lstrip()[:1] == b"{":
        return _json(raw, name)
    try:
        return tomllib.loads(raw.decode(), parse_float=_exact)
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise ConfigError(f"{name} is not UTF-8 text (line {line}): save it as UTF-8") from error
    except (tomllib.TOMLDecodeError, ValueError, RecursionError) as error:
        raise ConfigError(f"{name} is not valid TOML: {error}") from error


def _json(raw: bytes, name: str) -> dict[str, object]:
    """Return the object in JSON text; a name given twice is a fault, because readers differ on it."""
    if len(raw) > LONGEST_FILE:
        raise ConfigError(f"{name} has more than {LONGEST_FILE} bytes")
    try:
        found: object = json.loads(
            raw.decode(), object_pairs_hook=_once, parse_float=_exact, parse_constant=_no_constant
        )
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{name} is not valid JSON: {error}") from error
    if not isinstance(found, dict):
        raise ConfigError(f"{name} is JSON, but no object")
    return found


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f'"{twice[:60]}" stands twice in one object')
    return found


def _exact(text: str) -> Decimal | float:
    """Return a number exactly; inf and nan stay floats, which every field refuses."""
    number = Decimal(text)
    return number if number.is_finite() else float(text)


def _no_constant(text: str) -> Never:
    raise ValueError(f"{text} is no number")


def _parse(tables: dict[str, object], model: type[_Model], name: str) -> _Model:
    try:
        return model.model_validate(tables)
    except ValidationError as error:
        raise _faulty(name, list(form_faults(error, model, tables))) from error


def _faulty(name: str, faults: list[str]) -> ConfigError:
    told = tuple(f"{name}: {fault}" for fault in faults)
    return ConfigError(_summary(name, told), told)


def _summary(name: str, faults: Sequence[str]) -> str:
    number = "one fault" if len(faults) == 1 else f"{len(faults)} faults"
    return f"{name}: {number}"
