"""A policy as it is kept, read for those who look at it: the folder of `portico policy init`, or a bundle.

What is in force is verified as a gateway does it, and the assignment counts as it would there: with a key
that the policy lists, for this version, and with those consents alone that are proved.  A draft is read as it
is written, and nothing is known of its signatures.

Relies on `policies.trust` and `policies.reading`.  Not here: printing and explaining (`policies.cli`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from core.errors import ConfigError
from policies.facts import Signed
from policies.reading import Document, parse_document, read_bytes, read_document
from policies.trust.assignment import open_assignment, read_unverified
from policies.trust.bounds import (
    ASSIGNMENT_KEYS_PATH,
    LONGEST_ASSIGNMENT,
    LONGEST_BUNDLE,
    LONGEST_ROOT,
    POLICY_PATH,
    roster_path,
)
from policies.trust.bundle import unpack
from policies.trust.dsse import keys_in
from policies.trust.generations import read_bounded
from policies.trust.held import held
from policies.trust.inforce import signed_facts
from policies.trust.publishing import assignments_in, verify_files, verify_published
from policies.trust.refusals import PolicyRefused
from policies.trust.repository import Repository
from policies.trust.verified import Verified


@dataclass(frozen=True, slots=True)
class Kept:
    """Documents that count together, and what is known of them."""

    documents: Sequence[tuple[Path, Document]]
    signed: Mapping[str, Signed] | None = None
    """Who signed each grant; None where nothing is verified."""
    notes: tuple[str, ...] = ()
    """Which state it is, and what of it does not count."""


def is_kept(path: Path) -> bool:
    """Tell whether this is a folder or a bundle, and not one document."""
    return path.is_dir() or path.suffix == ".zip"


def root_beside(bundle: Path) -> Path:
    """Return the root that lies beside a bundle, or beside its folder, where `publish` puts it."""
    beside = bundle.with_name("root.json")
    above = bundle.absolute().parent.parent / "root.json"
    return above if not beside.exists() and above.exists() else beside


def read_kept(paths: Sequence[Path], gateway: str | None, *, draft: bool) -> Kept:
    """Return what files, a folder or a bundle say; :class:`ConfigError` tells what cannot be read."""
    sets = [path for path in paths if is_kept(path)]
    if not sets:
        if draft:
            raise ConfigError("--draft is for the folder of a policy: name the one that init made")
        return Kept([(path, _read_one(path)) for path in paths])
    if len(paths) > 1:
        raise ConfigError(f"{sets[0]} is a whole policy: give it alone, with --gateway for an assignment")
    path = sets[0]
    if not path.is_dir():
        if draft:
            raise ConfigError(f"{path} is published: --draft is for the folder of a policy")
        raw = _bytes(path, LONGEST_BUNDLE)
        verified = verify_files(unpack(raw), _bytes(root_beside(path), LONGEST_ROOT))
        beside = {
            one.stem: _bytes(one, LONGEST_ASSIGNMENT)
            for one in sorted((path.absolute().parent / "assign").glob("*.json"))
        }
        return _in_force(path, verified, beside, gateway, ())
    repository = Repository(path)
    found = None if draft else verify_published(repository)
    if found is None:
        return _drafted(repository, gateway)
    waits = repository.drafts()
    drafts = (f"drafts of {', '.join(waits)} wait for signatures: --draft looks at them",) if waits else ()
    return _in_force(path, found, assignments_in(repository), gateway, drafts)


def _read_one(path: Path) -> Document:
    """Return the document in a file; of an assignment as it is sent, what it carries."""
    raw = read_bytes(path)
    if raw.lstrip()[:1] == b"{":
        try:
            return parse_document(read_unverified(raw).document, path.name)
        except PolicyRefused:
            pass  # a plain document, whose faults are told as such
    return read_document(path)


def _in_force(
    path: Path,
    verified: Verified,
    assignments: Mapping[str, bytes],
    gateway: str | None,
    notes: tuple[str, ...],
) -> Kept:
    notes = (f"version {verified.version} of the policy as it is published", *notes)
    name, raw, said = _chosen(assignments, gateway)
    notes += said
    assignment = None
    if raw is not None:
        keys = keys_in(verified.documents.get(ASSIGNMENT_KEYS_PATH), "the assignment keys")
        try:
            assignment = open_assignment(raw, keys, name, verified.version)
        except PolicyRefused as error:
            notes += (f"the assignment of {name} does not count: {error}",)
    whole = held(verified, assignment)
    documents = [(path / POLICY_PATH, parse_document(whole.policy or b"", POLICY_PATH))]
    for entity in verified.entities:
        roster = whole.roster(entity)
        if roster is None:
            continue
        try:
            documents.append((path / roster_path(entity), parse_document(roster, roster_path(entity))))
        except ConfigError as error:
            notes += (f"the roster of {entity} counts for nothing: {error}",)
    if whole.assigned is not None:
        documents.append((path / "assign" / name, parse_document(whole.assigned, f"assignment of {name}")))
    return Kept(documents, signed_facts(whole), notes)


def _drafted(repository: Repository, gateway: str | None) -> Kept:
    path = repository.base
    name, raw, said = _chosen(assignments_in(repository), gateway)
    documents = [(path / POLICY_PATH, parse_document(repository.document(POLICY_PATH) or b"", POLICY_PATH))]
    for entity in repository.entities():
        where = roster_path(entity)
        roster = repository.document(where, entity)
        if roster is not None:
            documents.append((path / where, parse_document(roster, where)))
    if raw is not None:
        document = read_unverified(raw).document
        documents.append((path / "assign" / name, parse_document(document, f"assignment of {name}")))
    notes = ("the policy as it is drafted: its signatures, and those of consents, are taken for granted",)
    return Kept(documents, None, (*notes, *said))


def _chosen(
    assignments: Mapping[str, bytes], gateway: str | None
) -> tuple[str, bytes | None, tuple[str, ...]]:
    """Return the gateway, its assignment, and what is to be said of the choice."""
    if gateway is None and len(assignments) == 1:
        gateway = next(iter(assignments))
    if gateway is None:
        some = ", ".join(sorted(assignments)[:10]) or "none yet: portico policy assign makes one"
        return "", None, (f"no assignment is looked at; there are {some}",)
    raw = assignments.get(gateway)
    return gateway, raw, () if raw is not None else (f"{gateway} has no assignment here",)


def _bytes(path: Path, most: int) -> bytes:
    raw = read_bounded(path, most)
    if raw is None:
        raise ConfigError(f"{path} is not there")
    return raw
