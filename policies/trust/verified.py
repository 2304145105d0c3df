"""A whole set of policy, verified from the built-in root with python-tuf's stable Metadata API.

Used twice: on what the Updater staged, before it is put in force, and on what lies on the disk at every
start. The disk is believed as little as the network.  Expiry is *recorded* here and judged elsewhere
(`policies.trust.freshness`), so that a gateway without a connection keeps its policy and knows its age.

Pure over a reader of bytes.  Source: TUF specification 1.0.34, section 5.3 to 5.6.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Final, TypeVar

from tuf.api.metadata import DelegatedRole, Metadata, MetaFile, Root, Snapshot, TargetFile, Targets, Timestamp

from policies.trust.bounds import (
    ISSUED,
    LONGEST_DOCUMENT,
    LONGEST_ROLE,
    LONGEST_ROOT,
    LONGEST_SNAPSHOT,
    LONGEST_TIMESTAMP,
    LONGEST_TOTAL,
    MOST_DOCUMENTS,
    MOST_ENTITIES,
    MOST_ROTATIONS,
    POLICY_FOLDER,
    ROOT,
    SNAPSHOT,
    TARGETS,
    TIMESTAMP,
    entity_fault,
    entity_folder,
    is_in,
)
from policies.trust.instants import parse_instant
from policies.trust.refusals import PolicyRefused, Why, translated

SCHEMES: Final = frozenset({"ed25519", "ecdsa-sha2-nistp256"})
"""Ed25519 (RFC 8032) and ECDSA on P-256 with SHA-256 (FIPS 186-5)."""

Reader = Callable[[str, int], bytes | None]
"""Gives a file of a set by its name, None when it is not there; more bytes than asked for are a refusal."""
_Role = TypeVar("_Role", Root, Snapshot, Targets, Timestamp)


@dataclass(frozen=True, slots=True)
class Verified:
    """What was proved: every signature, hash and version of one consistent set."""

    versions: Mapping[str, int]
    """By role: root, timestamp, snapshot, targets, and each entity that has published."""
    expires_ms: Mapping[str, int]
    """By role."""
    issued_ms: int
    """When the policy service signed the timestamp: it is not earlier than that."""
    timestamp_keys: frozenset[str]
    """Ids of the keys that may sign the timestamp."""
    documents: Mapping[str, bytes]
    """By path: the utility's under ``policy/``, an entity's under ``entities/<id>/``."""
    entities: tuple[str, ...]
    """Who has a role of its own, whether it has published or not."""

    @property
    def version(self) -> int:
        """Version of the policy: of what the utility's threshold signed."""
        return self.versions[TARGETS]


def root_chain(read: Reader, built_in: bytes) -> Root:
    """Return the newest root that follows from the one built in, each signed by the one before."""
    with translated("the root that is built in"):
        root = _checked(Metadata[Root].from_bytes(built_in), Root)
        root.signed.verify_delegate(ROOT, root.signed_bytes, root.signatures)
    trusted = root.signed
    for _ in range(MOST_ROTATIONS):
        version = trusted.version + 1
        raw = read(f"root_history/{version}.root.json", LONGEST_ROOT)
        if raw is None:
            break
        with translated(f"root {version}"):
            following = _checked(Metadata[Root].from_bytes(raw), Root)
            trusted.verify_delegate(ROOT, following.signed_bytes, following.signatures)
            following.signed.verify_delegate(ROOT, following.signed_bytes, following.signatures)
        if following.signed.version != version:
            raise PolicyRefused(Why.ROLLBACK, f"root {version} says that it is {following.signed.version}")
        trusted = following.signed
    return trusted


def verify_set(read: Reader, built_in: bytes) -> Verified:
    """Return the set that a reader gives, proved from the built-in root; :class:`PolicyRefused` otherwise."""
    root = root_chain(read, built_in)
    _only_known_schemes(root)
    _, timestamp = _role(read, TIMESTAMP, Timestamp, root, LONGEST_TIMESTAMP)
    raw, snapshot = _role(read, SNAPSHOT, Snapshot, root, LONGEST_SNAPSHOT)
    with translated("the snapshot"):
        timestamp.snapshot_meta.verify_length_and_hashes(raw)
    _same_version(SNAPSHOT, snapshot.version, timestamp.snapshot_meta.version)
    targets = _targets(read, TARGETS, root, snapshot)
    signed: dict[str, Root | Snapshot | Targets | Timestamp] = {
        ROOT: root,
        TIMESTAMP: timestamp,
        SNAPSHOT: snapshot,
        TARGETS: targets,
    }
    documents = _Documents(read)
    documents.take(targets, POLICY_FOLDER, None)
    delegated = _delegated(targets)
    for name, role in delegated.items():
        if f"{name}.json" in snapshot.meta:  # else the entity has not published yet, and has nobody
            own = _targets(read, name, targets, snapshot)
            if own.delegations is not None:
                raise PolicyRefused(Why.OUTSIDE, f"{name} hands on what was handed to it, which it may not")
            documents.take(own, entity_folder(name), role)
            signed[name] = own
    return Verified(
        versions=MappingProxyType({name: one.version for name, one in signed.items()}),
        expires_ms=MappingProxyType({name: _ms(one.expires) for name, one in signed.items()}),
        issued_ms=_issued(timestamp),
        timestamp_keys=frozenset(root.get_delegated_role(TIMESTAMP).keyids),
        documents=MappingProxyType(documents.found),
        entities=tuple(delegated),
    )


class _Documents:
    """Collects documents where they have a place, within bounds."""

    def __init__(self, read: Reader) -> None:
        self.found: dict[str, bytes] = {}
        self._read = read
        self._left = LONGEST_TOTAL

    def take(self, targets: Targets, folder: str, role: DelegatedRole | None) -> None:
        for path, target in targets.targets.items():
            if not is_in(path, folder) or (role is not None and not role.is_delegated_path(path)):
                continue  # an entity may list what it likes: outside of its folder it is never looked at
            if len(self.found) >= MOST_DOCUMENTS:
                raise PolicyRefused(Why.TOO_LARGE, f"more than {MOST_DOCUMENTS} documents")
            name = document_file(path, target)
            content = self._read(name, min(LONGEST_DOCUMENT, self._left))
            if content is None:
                raise PolicyRefused(Why.INCOMPLETE, f"{path} is not there")
            with translated(path):
                target.verify_length_and_hashes(content)
            self._left -= len(content)
            self.found[path] = content


def document_file(path: str, target: TargetFile) -> str:
    """Return under which name a document lies in a set: its content names it, so that it never changes."""
    digest = target.hashes.get("sha256")
    if digest is None or len(digest) != 64 or not set(digest) <= set("0123456789abcdef"):
        raise PolicyRefused(Why.MALFORMED, f"{path} has no SHA-256")
    return f"targets/{digest}"


def _delegated(targets: Targets) -> dict[str, DelegatedRole]:
    """Return the entities' roles; each has its own folder, alone and to the end."""
    if targets.delegations is None:
        return {}
    roles = targets.delegations.roles
    if roles is None:
        raise PolicyRefused(Why.MALFORMED, "the policy hands on by hash bins, which are not used here")
    if len(roles) > MOST_ENTITIES:
        raise PolicyRefused(Why.TOO_LARGE, f"more than {MOST_ENTITIES} entities")
    for name, role in roles.items():
        fault = entity_fault(name)
        if fault is not None:
            raise PolicyRefused(Why.OUTSIDE, f"the entity {name[:80]!r} {fault}")
        if not role.terminating or role.paths != [entity_folder(name) + "*"]:
            raise PolicyRefused(Why.OUTSIDE, f"{name} was handed more than its own folder")
    _only_known_schemes(targets)
    return dict(roles)


def _targets(read: Reader, name: str, delegator: Root | Targets, snapshot: Snapshot) -> Targets:
    raw, signed = _role(read, name, Targets, delegator, LONGEST_ROLE)
    listed: MetaFile | None = snapshot.meta.get(f"{name}.json")
    if listed is None:
        raise PolicyRefused(Why.INCOMPLETE, f"the snapshot does not name {name}")
    with translated(name):
        listed.verify_length_and_hashes(raw)
    _same_version(name, signed.version, listed.version)
    return signed


def _role(
    read: Reader, name: str, kind: type[_Role], delegator: Root | Targets, most: int
) -> tuple[bytes, _Role]:
    raw = read(f"{name}.json", most)
    if raw is None:
        raise PolicyRefused(Why.INCOMPLETE, f"{name} is not there")
    with translated(name):
        found: Metadata[_Role] = _checked(Metadata.from_bytes(raw), kind)
        delegator.verify_delegate(name, found.signed_bytes, found.signatures)
    return raw, found.signed


def _checked(found: Metadata[_Role], kind: type[_Role]) -> Metadata[_Role]:
    if not isinstance(found.signed, kind):
        raise PolicyRefused(Why.MALFORMED, f"it is of the type {found.signed.type}, not {kind.type}")
    return found


def _same_version(name: str, found: int, listed: int) -> None:
    if found != listed:
        raise PolicyRefused(Why.ROLLBACK, f"{name} has version {found}, {listed} is the one that counts")


def _only_known_schemes(delegator: Root | Targets) -> None:
    keys = delegator.keys if isinstance(delegator, Root) else {}
    if isinstance(delegator, Targets) and delegator.delegations is not None:
        keys = delegator.delegations.keys
    strange = sorted({key.scheme for key in keys.values()} - SCHEMES)
    if strange:
        raise PolicyRefused(Why.UNSIGNED, f"keys of the scheme {strange[0][:40]!r} are not used here")


def _issued(timestamp: Timestamp) -> int:
    issued = parse_instant(timestamp.unrecognized_fields.get(ISSUED))
    if issued is None:
        raise PolicyRefused(Why.MALFORMED, "the timestamp does not say when it was signed")
    if issued >= _ms(timestamp.expires):
        raise PolicyRefused(Why.MALFORMED, "the timestamp was signed after its end")
    return issued


def _ms(at: datetime) -> int:
    return round(at.timestamp() * 1000)
