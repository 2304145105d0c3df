"""Putting drafts in force: those signed by enough become versions, then a snapshot, then a timestamp.

Run daily: without anything new it renews the timestamp, which tells gateways that they hold the newest and
what time it is.  What a gateway would refuse is not published: the whole set is verified first as a gateway
does. A publication is written timestamp last, so that one that is interrupted is repeated and nothing is
lost.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tuf.api.exceptions import UnsignedMetadataError
from tuf.api.metadata import Metadata, MetaFile, Root, Snapshot, Targets, Timestamp

from core.errors import ConfigError
from policies.trust.assignment import read_unverified
from policies.trust.bounds import (
    ASSIGNMENT_KEYS_PATH,
    ISSUED,
    LONGEST_ASSIGNMENT,
    POLICY_FOLDER,
    ROOT,
    SNAPSHOT,
    TARGETS,
    TIMESTAMP,
    entity_folder,
    is_in,
)
from policies.trust.bundle import pack
from policies.trust.dsse import keys_in
from policies.trust.files import write_whole
from policies.trust.generations import read_bounded
from policies.trust.held import Versions
from policies.trust.instants import as_datetime, instant_text, parse_instant
from policies.trust.keys import KeyPair
from policies.trust.refusals import PolicyRefused
from policies.trust.repository import COMPACT, Repository, Standing
from policies.trust.settings import ASSIGNMENT_LIFE_DAYS, DAY_MS, SNAPSHOT_AGE_DAYS, life_ms
from policies.trust.spool import Place
from policies.trust.verified import Verified, verify_set

_TIMESTAMP_FILE: Final = "metadata/timestamp.json"


@dataclass(frozen=True, slots=True)
class Publication:
    """What gateways are to get."""

    bundle: bytes
    timestamp: bytes
    assignments: Mapping[str, bytes]
    """By gateway."""
    versions: Versions
    promoted: tuple[str, ...]
    """Roles of which a draft was put in force."""
    waiting: tuple[Standing, ...]
    """Drafts that lack signatures."""


def publish(repository: Repository, online: Iterable[KeyPair], now_ms: int) -> Publication:
    """Put in force what is signed, renew snapshot and timestamp; ConfigError tells what is in the way."""
    pairs = list(online)
    promoted = _promote(repository)
    root, targets = repository.root(), repository.targets()
    if root is None or targets is None:
        waiting = tuple(filter(None, (repository.standing(role) for role in repository.drafts())))
        names = " and ".join(f"{one.role} ({one.missing} more)" for one in waiting)
        raise ConfigError(f"nothing can be published before enough have signed: {names or 'nothing drafted'}")
    snapshot = _snapshot(repository, root.signed, pairs, now_ms)
    timestamp = _timestamp(repository, root.signed, snapshot, pairs, now_ms)
    files = _files(repository, snapshot, timestamp)
    bundle = _packed({**files, _TIMESTAMP_FILE: _first_timestamp(repository, root, snapshot, timestamp)})
    found = verify_files(files, repository.raw(ROOT, repository.versions(ROOT)[0]))
    metadata = repository.base / "metadata"
    write_whole(metadata / f"{snapshot.signed.version}.snapshot.json", snapshot.to_bytes(COMPACT))
    write_whole(metadata / "timestamp.json", files[_TIMESTAMP_FILE])
    assignments = assignments_in(repository)
    of = found.versions
    return Publication(
        bundle=bundle,
        timestamp=files[_TIMESTAMP_FILE],
        assignments=assignments,
        versions=Versions(of[ROOT], of[TARGETS], of[SNAPSHOT], of[TIMESTAMP]),
        promoted=tuple(promoted),
        waiting=tuple(filter(None, (repository.standing(role) for role in repository.drafts()))),
    )


def write_publication(publication: Publication, folder: Path) -> list[Path]:
    """Write what is published as files that a gateway takes from a folder or a stick; return them."""
    written = {
        folder / Place.BUNDLE.value: publication.bundle,
        **{folder / "assign" / f"{gateway}.json": raw for gateway, raw in publication.assignments.items()},
        folder / Place.TIMESTAMP.value: publication.timestamp,
    }
    for path, content in written.items():
        if not path.exists() or path.read_bytes() != content:
            write_whole(path, content)
    return list(written)


def published_versions(folder: Path) -> tuple[Versions, dict[str, int]]:
    """Return the versions in a published folder and the number of each gateway's assignment.

    For those who published it themselves: nothing is verified here.
    """
    try:
        signed = json.loads((folder / Place.TIMESTAMP.value).read_bytes())["signed"]
        snapshot = int(signed["meta"]["snapshot.json"]["version"])
        timestamp = int(signed["version"])
        sequences = {
            path.stem: read_unverified(path.read_bytes()).sequence
            for path in (folder / "assign").glob("*.json")
        }
    except (OSError, ValueError, KeyError, TypeError, PolicyRefused) as error:
        raise ConfigError(f"{folder} is no folder that portico policy publish wrote: {error}") from error
    return Versions(snapshot=snapshot, timestamp=timestamp), sequences


def verify_published(repository: Repository) -> Verified | None:
    """Verify what is in force in a folder as a gateway does; None before the first publication."""
    root, snapshot, timestamp = repository.root(), repository.snapshot(), repository.timestamp()
    if root is None or snapshot is None or timestamp is None:
        return None
    first = repository.raw(ROOT, repository.versions(ROOT)[0])
    return verify_files(_files(repository, snapshot, timestamp), first)


def verify_files(files: Mapping[str, bytes], built_in: bytes) -> Verified:
    """Verify a set as it is delivered, from a root, without keeping anything."""
    names = {_plain(name): name for name in files}

    def read(name: str, most: int) -> bytes | None:
        return files.get(names.get(name, ""))

    return verify_set(read, built_in)


def assignments_in(repository: Repository) -> dict[str, bytes]:
    """Return the newest assignment of each gateway."""
    found = {}
    for path in sorted((repository.base / "assign").glob("*.json")):
        raw = read_bounded(path, LONGEST_ASSIGNMENT)
        if raw is not None:
            found[path.stem] = raw
    return found


def assignments_to_renew(repository: Repository, now_ms: int) -> tuple[str, ...]:
    """Return the gateways whose assignment is void, or runs out within a third of its life."""
    targets = repository.targets()
    if targets is None or ASSIGNMENT_KEYS_PATH not in targets.signed.targets:
        return ()
    content = repository.content(ASSIGNMENT_KEYS_PATH, targets.signed.targets[ASSIGNMENT_KEYS_PATH])
    listed = set(keys_in(content, "the assignment keys"))
    soon_ms = now_ms + ASSIGNMENT_LIFE_DAYS * DAY_MS // 3
    made = ((gateway, read_unverified(raw)) for gateway, raw in assignments_in(repository).items())
    return tuple(gateway for gateway, one in made if not one.keys & listed or one.expires_ms < soon_ms)


def _plain(name: str) -> str:
    """Return how a set on the disk of a gateway calls a file that was delivered."""
    folder, _, base = name.partition("/")
    if folder == "targets":
        return "targets/" + base.rpartition("/")[2].partition(".")[0]
    if base == "timestamp.json":
        return base
    version, _, rest = base.partition(".")
    return f"root_history/{version}.root.json" if rest == "root.json" else rest


def _first_timestamp(
    repository: Repository, root: Metadata[Root], snapshot: Metadata[Snapshot], timestamp: Metadata[Timestamp]
) -> bytes:
    """Return the first timestamp of this snapshot: so a bundle stays the same until something changed in it.

    The newest one travels by itself, in half a kilobyte a day.
    """
    name = f"{root.signed.version}-{snapshot.signed.version}.timestamp.json"
    path = repository.base / "first" / name
    if not path.exists():
        write_whole(path, timestamp.to_bytes(COMPACT))
    return path.read_bytes()


def _packed(files: Mapping[str, bytes]) -> bytes:
    try:
        return pack(files)
    except ValueError as error:
        raise ConfigError(f"the policy cannot be delivered: {error}") from error


def _promote(repository: Repository) -> list[str]:
    """Make versions of the drafts that enough have signed; a root first, entities last."""
    promoted = []
    for role in repository.drafts():
        standing = repository.standing(role)
        if standing is None or not standing.complete:
            continue
        draft: Metadata[Root] | Metadata[Targets] | None
        if role == ROOT:
            draft = repository.draft_root()
        else:
            draft = repository.draft_targets(role)
            if draft is None or not _counts_now(repository, role, draft):
                continue
        if draft is None:
            continue
        path = repository.base / "metadata" / f"{draft.signed.version}.{role}.json"
        write_whole(path, draft.to_bytes(COMPACT))
        (repository.base / "draft" / f"{role}.json").unlink()
        promoted.append(role)
    return promoted


def _counts_now(repository: Repository, role: str, draft: Metadata[Targets]) -> bool:
    """Tell whether a draft is signed for what is in force by now, and not only for another draft."""
    delegator = repository.root() if role == TARGETS else repository.targets()
    if delegator is None:
        return False
    try:
        delegator.signed.verify_delegate(role, draft.signed_bytes, draft.signatures)
    except (UnsignedMetadataError, ValueError):
        return False
    return True


def _snapshot(repository: Repository, root: Root, pairs: list[KeyPair], now_ms: int) -> Metadata[Snapshot]:
    """Return the snapshot of what is in force: the published one while nothing changed and it is young."""
    published = repository.snapshot()
    listed: dict[str, MetaFile] = {} if published is None else dict(published.signed.meta)
    for role in (TARGETS, *repository.entities()):
        versions = repository.versions(role)
        if versions:
            raw = repository.raw(role, versions[-1])
            listed[f"{role}.json"] = MetaFile.from_data(versions[-1], raw, ["sha256"])
    if published is not None and published.signed.meta == listed and _is_young(published, root, now_ms):
        return published
    version = 1 if published is None else published.signed.version + 1
    expires = as_datetime(now_ms + life_ms(SNAPSHOT))
    fresh = Metadata(Snapshot(version=version, expires=expires, meta=listed))
    _sign_online(fresh, SNAPSHOT, root, pairs)
    return fresh


def _is_young(published: Metadata[Snapshot], root: Root, now_ms: int) -> bool:
    try:
        root.verify_delegate(SNAPSHOT, published.signed_bytes, published.signatures)
    except UnsignedMetadataError:
        return False  # its key was changed
    born_ms = round(published.signed.expires.timestamp() * 1000) - life_ms(SNAPSHOT)
    return now_ms < born_ms + SNAPSHOT_AGE_DAYS * DAY_MS


def _timestamp(
    repository: Repository, root: Root, snapshot: Metadata[Snapshot], pairs: list[KeyPair], now_ms: int
) -> Metadata[Timestamp]:
    published = repository.timestamp()
    before = 0
    if published is not None:
        before = parse_instant(published.signed.unrecognized_fields.get(ISSUED)) or 0
        if now_ms < before // 1000 * 1000:
            raise ConfigError(
                f"this machine's clock is behind the last publication, {instant_text(before)}: set it right "
                "first, because gateways take the time from it"
            )
    fresh = Metadata(
        Timestamp(
            version=1 if published is None else published.signed.version + 1,
            expires=as_datetime(now_ms + life_ms(TIMESTAMP)),
            snapshot_meta=MetaFile.from_data(snapshot.signed.version, snapshot.to_bytes(COMPACT), ["sha256"]),
            unrecognized_fields={ISSUED: instant_text(now_ms)},
        )
    )
    _sign_online(fresh, TIMESTAMP, root, pairs)
    return fresh


def _sign_online(
    metadata: Metadata[Snapshot] | Metadata[Timestamp], role: str, root: Root, pairs: list[KeyPair]
) -> None:
    wanted = root.get_delegated_role(role)
    for pair in pairs:
        if pair.public.keyid in wanted.keyids:
            metadata.sign(pair.signer, append=True)
    if len(metadata.signatures) < wanted.threshold:
        raise ConfigError(f"the {role} key is not here: give it with --key, for example keys/{role}.key")


def _files(
    repository: Repository, snapshot: Metadata[Snapshot], timestamp: Metadata[Timestamp]
) -> dict[str, bytes]:
    """Return all that a gateway needs, also one that slept through every change of the root."""
    files = {
        f"metadata/{version}.root.json": repository.raw(ROOT, version)
        for version in repository.versions(ROOT)
    }
    for role in (TARGETS, *repository.entities()):
        published = repository.targets(role)
        if published is None:
            continue
        version = published.signed.version
        files[f"metadata/{version}.{role}.json"] = repository.raw(role, version)
        folder = POLICY_FOLDER if role == TARGETS else entity_folder(role)
        for path, target in published.signed.targets.items():
            if is_in(path, folder):
                files[f"targets/{target.get_prefixed_paths()[0]}"] = repository.content(path, target)
    files[f"metadata/{snapshot.signed.version}.snapshot.json"] = snapshot.to_bytes(COMPACT)
    files[_TIMESTAMP_FILE] = timestamp.to_bytes(COMPACT)
    return files
