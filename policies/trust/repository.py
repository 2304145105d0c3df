"""The utility's repository: a folder with what is published, and drafts that wait for signatures.

    metadata/   what is published, each version (TUF, consistent snapshots); targets/   the documents
    draft/      one file a role that was changed and is not signed by enough yet
    source/     what people wrote; assign/   the assignment of each gateway; keys/   see README.txt there

A draft is signed by one key holder at a time, on whatever machine: the folder, or the draft alone, is carried
to them.  Relies on python-tuf's stable Metadata API.  Not here: what the documents say
(`policies.trust.contents`), and putting drafts in force (`policies.trust.publishing`).
"""

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from securesystemslib.signer import Key
from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, Root, Snapshot, TargetFile, Targets, Timestamp
from tuf.api.serialization.json import JSONSerializer

from core.errors import ConfigError
from policies.trust.bounds import ROOT, SNAPSHOT, TARGETS, TOP_ROLES
from policies.trust.files import write_whole
from policies.trust.instants import as_datetime
from policies.trust.keys import HOLDER, KeyPair
from policies.trust.settings import life_ms

COMPACT: Final = JSONSerializer(compact=True)
_Signed = TypeVar("_Signed", Root, Snapshot, Targets, Timestamp)


@dataclass(frozen=True, slots=True)
class Standing:
    """How far a role is: who has signed it, and who could."""

    role: str
    version: int
    draft: bool
    expires_ms: int
    signed: tuple[str, ...]
    unsigned: tuple[str, ...]
    missing: int
    """Signatures that are still needed; of a root that changes its own keys, by the old and the new ones."""

    @property
    def complete(self) -> bool:
        """Whether enough have signed."""
        return self.missing == 0


class Repository:
    """One folder; one person at a time works in it."""

    def __init__(self, base: Path) -> None:
        """Open what `portico policy init` made; ConfigError when there is nothing of it."""
        self.base: Final = base
        if not (base / "source").is_dir():
            raise ConfigError(f"{base} is no policy folder: make one with portico policy init {base}")

    # --- reading

    def versions(self, role: str) -> list[int]:
        """Return the published versions of a role, oldest first."""
        found = (path.name.split(".", 1) for path in (self.base / "metadata").glob(f"*.{role}.json"))
        return sorted(int(number) for number, rest in found if rest == f"{role}.json" and number.isdigit())

    def raw(self, role: str, version: int) -> bytes:
        """Return a published file as it is."""
        return (self.base / "metadata" / f"{version}.{role}.json").read_bytes()

    def root(self) -> Metadata[Root] | None:
        """Return the published root."""
        return self._published(ROOT, Root)

    def targets(self, role: str = TARGETS) -> Metadata[Targets] | None:
        """Return the published list of documents of the utility, or of an entity."""
        return self._published(role, Targets)

    def snapshot(self) -> Metadata[Snapshot] | None:
        """Return the published snapshot."""
        return self._published(SNAPSHOT, Snapshot)

    def timestamp(self) -> Metadata[Timestamp] | None:
        """Return the published timestamp."""
        path = self.base / "metadata" / "timestamp.json"
        return _from(path, Timestamp) if path.exists() else None

    def draft_root(self) -> Metadata[Root] | None:
        """Return the root that waits for signatures."""
        return self._draft(ROOT, Root)

    def draft_targets(self, role: str = TARGETS) -> Metadata[Targets] | None:
        """Return a list of documents that waits for signatures."""
        return self._draft(role, Targets)

    def drafts(self) -> list[str]:
        """Return the roles that wait for signatures, in the order in which they are put in force."""
        found = {path.stem for path in (self.base / "draft").glob("*.json")}
        first = [role for role in TOP_ROLES if role in found]
        return first + sorted(found - set(TOP_ROLES))

    def latest_root(self) -> Root:
        """Return the root that counts for what is drafted now."""
        found = self.draft_root() or self.root()
        if found is None:
            raise ConfigError(f"{self.base} has no root: begin again with portico policy init")
        return found.signed

    def latest_targets(self, role: str = TARGETS) -> Targets:
        """Return a list of documents with all that is drafted; an empty one before the first."""
        found = self.draft_targets(role) or self.targets(role)
        return Targets() if found is None else found.signed

    def entities(self) -> list[str]:
        """Return who has, or is about to have, a role of its own."""
        delegations = self.latest_targets().delegations
        return [] if delegations is None or delegations.roles is None else list(delegations.roles)

    def document(self, path: str, role: str = TARGETS) -> bytes | None:
        """Return a document as it is drafted or published."""
        target = self.latest_targets(role).targets.get(path)
        return None if target is None else self.content(path, target)

    def content(self, path: str, target: TargetFile) -> bytes:
        """Return the bytes of a document that a list names."""
        return (self.base / "targets" / target.get_prefixed_paths()[0]).read_bytes()

    # --- drafting

    def edit_root(self, now_ms: int) -> Metadata[Root]:
        """Return a root to change: the draft, or the next version."""
        draft = self.draft_root()
        return draft if draft is not None else self._next(ROOT, self.root(), Metadata(Root()), now_ms)

    def edit_targets(self, role: str, now_ms: int) -> Metadata[Targets]:
        """Return a list of documents to change: the draft, or the next version."""
        draft = self.draft_targets(role)
        if draft is not None:
            draft.signed.expires = as_datetime(now_ms + life_ms(role))
            return draft
        return self._next(role, self.targets(role), Metadata(Targets()), now_ms)

    def put(self, targets: Targets, path: str, content: bytes) -> None:
        """Name a document in a list, and keep its bytes under their hash."""
        target = TargetFile.from_data(path, content, ["sha256"])
        targets.targets[path] = target
        write_whole(self.base / "targets" / target.get_prefixed_paths()[0], content)

    def save(self, role: str, metadata: Metadata[Root] | Metadata[Targets]) -> None:
        """Keep a changed draft: whoever signed an earlier one signs again."""
        metadata.signatures.clear()
        write_whole(self.base / "draft" / f"{role}.json", metadata.to_bytes(COMPACT))

    def _next(
        self, role: str, published: Metadata[_Signed] | None, first: Metadata[_Signed], now_ms: int
    ) -> Metadata[_Signed]:
        draft = copy.deepcopy(published) if published is not None else first
        draft.signed.version = 1 if published is None else published.signed.version + 1
        draft.signed.expires = as_datetime(now_ms + life_ms(role))
        draft.signatures.clear()
        return draft

    # --- signing

    def sign(self, pair: KeyPair) -> list[str]:
        """Sign every draft for which this key counts and which it has not signed yet; return their roles."""
        done = []
        for role in self.drafts():
            metadata = self.draft_root() if role == ROOT else self.draft_targets(role)
            if metadata is None or pair.public.keyid not in self._keyids(role):
                continue
            if pair.public.keyid not in metadata.signatures:
                metadata.sign(pair.signer, append=True)
                write_whole(self.base / "draft" / f"{role}.json", metadata.to_bytes(COMPACT))
                done.append(role)
        return done

    def take_signatures(self, other: Path) -> list[str]:
        """Take over what was signed in a copy of this folder, of the same drafts; return their roles."""
        done = []
        for role in self.drafts():
            path = other / "draft" / f"{role}.json"
            ours = self.draft_root() if role == ROOT else self.draft_targets(role)
            if ours is None or not path.exists():
                continue
            theirs = _from(path, Root) if role == ROOT else _from(path, Targets)
            if theirs.signed_bytes != ours.signed_bytes:
                raise ConfigError(f"{path} is another draft than the one here: it was changed after the copy")
            fresh = {
                keyid: signature
                for keyid, signature in theirs.signatures.items()
                if keyid not in ours.signatures and keyid in self._keyids(role)
            }
            if fresh:
                ours.signatures.update(fresh)
                write_whole(self.base / "draft" / f"{role}.json", ours.to_bytes(COMPACT))
                done.append(role)
        return done

    def standing(self, role: str) -> Standing | None:
        """Return how far a role is, None when it neither is drafted nor was published."""
        if role == ROOT:
            return self._root_standing()
        draft = self.draft_targets(role)
        metadata = draft or self.targets(role)
        if metadata is None:
            return None
        delegator = self.latest_root() if role == TARGETS else self.latest_targets()
        result = delegator.get_verification_result(role, metadata.signed_bytes, metadata.signatures)
        return _standing(role, metadata, draft is not None, result.signed, result.unsigned, result.missing)

    def _root_standing(self) -> Standing | None:
        draft, published = self.draft_root(), self.root()
        metadata = draft or published
        if metadata is None:
            return None
        before = published.signed if draft is not None and published is not None else None
        result = metadata.signed.get_root_verification_result(
            before, metadata.signed_bytes, metadata.signatures
        )
        missing = max(result.first.missing, result.second.missing)
        return _standing(ROOT, metadata, draft is not None, result.signed, result.unsigned, missing)

    def _keyids(self, role: str) -> set[str]:
        if role == ROOT:
            roots = [found.signed for found in (self.draft_root(), self.root()) if found is not None]
            return {keyid for root in roots for keyid in root.roles[ROOT].keyids}
        delegator = self.latest_root() if role == TARGETS else self.latest_targets()
        return set(delegator.get_delegated_role(role).keyids)

    # --- files

    def _published(self, role: str, kind: type[_Signed]) -> Metadata[_Signed] | None:
        versions = self.versions(role)
        if not versions:
            return None
        return _from(self.base / "metadata" / f"{versions[-1]}.{role}.json", kind)

    def _draft(self, role: str, kind: type[_Signed]) -> Metadata[_Signed] | None:
        path = self.base / "draft" / f"{role}.json"
        return _from(path, kind) if path.exists() else None


def holders(keys: dict[str, Key]) -> Iterator[str]:
    """Yield what people call the holders of keys; the beginning of the id where nobody named one."""
    for keyid, key in keys.items():
        named = key.unrecognized_fields.get(HOLDER)
        yield named if isinstance(named, str) else keyid[:12]


def _standing(
    role: str,
    metadata: Metadata[Root] | Metadata[Targets],
    draft: bool,
    signed: dict[str, Key],
    unsigned: dict[str, Key],
    missing: int,
) -> Standing:
    return Standing(
        role=role,
        version=metadata.signed.version,
        draft=draft,
        expires_ms=round(metadata.signed.expires.timestamp() * 1000),
        signed=tuple(sorted(holders(signed))),
        unsigned=tuple(sorted(holders(unsigned))),
        missing=missing,
    )


def _from(path: Path, kind: type[_Signed]) -> Metadata[_Signed]:
    try:
        found = Metadata.from_file(str(path))
    except (RepositoryError, OSError) as error:
        raise ConfigError(f"{path} cannot be used: {error}") from error
    if not isinstance(found.signed, kind):
        raise ConfigError(f"{path} is of another type: {found.signed.type}")
    return found
