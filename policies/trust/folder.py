"""The policy folder of a gateway: an offer is taken whole after verification, or changes nothing.

*Refreshing* runs python-tuf's Updater on a staging copy, because it writes a timestamp and a snapshot before
it has seen the rest; then the whole set is verified again from the built-in root, and put in force by the
swap of one link.  *Loading* verifies what lies there in the same way, at every start: the disk is not
believed.

Relies on `policies.trust.generations` for the swap.  Not here: where offers come from
(`policies.trust.spool`), when to look (`agent.policy`), and what is kept beside it over restarts (floor and
last assignment are given).
"""

import errno
import logging
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from securesystemslib.signer import Key
from tuf.api.exceptions import ExpiredMetadataError, LengthOrHashMismatchError
from tuf.api.metadata import Metadata, Snapshot, TargetFile, Targets
from tuf.ngclient import Updater, UpdaterConfig

from core.errors import StoreError, StoreFull
from policies.trust.assignment import Assignment, Last, judge_date, judge_succession, open_assignment
from policies.trust.bounds import (
    ASSIGNMENT_KEYS_PATH,
    LONGEST_ASSIGNMENT,
    LONGEST_DOCUMENT,
    LONGEST_ROLE,
    LONGEST_ROOT,
    LONGEST_SNAPSHOT,
    LONGEST_TIMESTAMP,
    MOST_ENTITIES,
    MOST_ROTATIONS,
    POLICY_FOLDER,
    TARGETS,
    TIMESTAMP,
    entity_folder,
    is_in,
    roster_path,
)
from policies.trust.dsse import keys_in
from policies.trust.fetching import SCHEME, MemoryFetcher
from policies.trust.floor import NO_FLOOR, Floor
from policies.trust.generations import Generations, read_bounded
from policies.trust.held import Held, held
from policies.trust.instants import as_datetime
from policies.trust.refusals import PolicyRefused, Why, translated
from policies.trust.verified import Reader, Verified, document_file, root_chain, verify_set

log = logging.getLogger(__name__)

ASSIGNMENT: Final = "assignment.json"
_CONFIG: Final = UpdaterConfig(
    max_root_rotations=MOST_ROTATIONS,
    max_delegations=MOST_ENTITIES,
    root_max_length=LONGEST_ROOT,
    timestamp_max_length=LONGEST_TIMESTAMP,
    snapshot_max_length=LONGEST_SNAPSHOT,
    targets_max_length=LONGEST_ROLE,
)


@dataclass(frozen=True, slots=True)
class Memory:
    """What must outlast the folder, so that its loss does not open the door to older policy."""

    floor: Floor = NO_FLOOR
    last: Last | None = None


class PolicyFolder:
    """The policy of one gateway on its disk.  One owner; blocking."""

    def __init__(
        self,
        base: Path,
        built_in: bytes,
        gateway: str,
        check: Callable[[Held], object] = lambda found: None,
        at_step: Callable[[str], None] = lambda step: None,
    ) -> None:
        """``built_in``: the root that came with the box, from a place that the network cannot write.

        ``check`` may refuse what is signed and cannot be used, before it is put in force.
        """
        self._generations: Final = Generations(base, at_step)
        self._built_in: Final = built_in
        self._gateway: Final = gateway
        self._check: Final = check

    def load(self, memory: Memory) -> Held | None:
        """Return the last good policy, verified again; None when there is none that may be believed."""
        found = self._sound(memory)
        return None if found is None else found[1]

    def refresh(self, files: Mapping[str, bytes], memory: Memory, clock_ms: int) -> Held:
        """Take an offered set, all or nothing; :class:`PolicyRefused` when it is not to be believed.

        The assignment in force stays when its key still counts.
        """
        with self._staging() as stage:
            before = self._sound(memory)
            self._copy(stage, before)
            floor = self._floor_under(stage, files, memory.floor)
            self._generations.step("staged")
            entities = self._update(stage, files, floor.guarded_ms(clock_ms))
            self._generations.step("updated")
            self._fill(stage, files, entities)
            self._generations.step("filled")
            found = self._loaded(stage, memory)
            self._check(found)
            self._generations.step("verified")
            if before is None or before[1] != found:
                self._generations.commit()
        return found

    def assign(self, raw: bytes, memory: Memory, clock_ms: int) -> Held:
        """Take an offered assignment; :class:`PolicyRefused` when it is not to be believed."""
        with self._staging() as stage:
            before = self._sound(memory)
            if before is None:
                raise PolicyRefused(Why.INCOMPLETE, "an assignment came before the policy that it belongs to")
            self._copy(stage, before)
            present = before[1]
            offered = self._opened(raw, present.verified)
            keys = _keys(present.verified)
            judge_succession(offered, memory.last, keys)
            if present.assignment is not None:
                judge_succession(offered, present.assignment.last, keys)
            judge_date(offered, memory.floor.guarded_ms(clock_ms))
            if present.assignment is not None and present.assignment.raw == raw:
                return present
            found = held(present.verified, offered)
            self._check(found)
            (stage / ASSIGNMENT).write_bytes(raw)
            self._generations.step("verified")
            self._generations.commit()
            return found

    # --- verification

    def _sound(self, memory: Memory) -> tuple[Path, Held] | None:
        """Return the newest generation that may be believed, the one in force first."""
        for folder in self._generations.newest_first():
            try:
                return folder, self._loaded(folder, memory)
            except PolicyRefused as refused:
                log.warning("the policy in %s does not count (%s): %s", folder.name, refused.why, refused)
        return None

    def _loaded(self, folder: Path, memory: Memory) -> Held:
        verified = verify_set(_reader(folder), self._built_in)
        floor = memory.floor.under(verified.timestamp_keys)
        if verified.issued_ms < floor.at_ms:
            raise PolicyRefused(Why.ROLLBACK, "the policy is older than one that was held here")
        raw = read_bounded(folder / ASSIGNMENT, LONGEST_ASSIGNMENT)
        if raw is None:
            return held(verified, None)
        try:
            assignment = self._opened(raw, verified)
            judge_succession(assignment, memory.last, _keys(verified))
        except PolicyRefused as refused:
            return held(verified, None, str(refused))
        return held(verified, assignment)

    def _opened(self, raw: bytes, verified: Verified) -> Assignment:
        return open_assignment(raw, _keys(verified), self._gateway, verified.version)

    def _floor_under(self, stage: Path, files: Mapping[str, bytes], floor: Floor) -> Floor:
        """Return the floor under the newest root that is held or offered.

        Asked before the Updater, which would judge a root that takes a stolen key away by the time that
        this key told.
        """
        local = _reader(stage)

        def read(name: str, most: int) -> bytes | None:
            content = local(name, most)
            if content is None:
                content = files.get(name.replace("root_history/", "metadata/"))
            return content

        return floor.under(frozenset(root_chain(read, self._built_in).get_delegated_role(TIMESTAMP).keyids))

    # --- the steps of a refresh

    def _update(self, stage: Path, files: Mapping[str, bytes], now_ms: int) -> dict[str, Targets]:
        """Let python-tuf take the offer into the stage; return the utility's role and those of entities."""
        metadata = stage / "metadata"
        with translated("the policy on offer"):
            updater = Updater(
                str(metadata),
                SCHEME + "metadata/",
                fetcher=MemoryFetcher(files),
                config=_CONFIG,
                bootstrap=self._built_in,
            )
            # The only private part of the library in use: expiry is judged by our guarded clock and not by
            # the system's.  Held by test_expiry_is_judged_by_the_guarded_clock; tuf is pinned below 8.
            updater._trusted_set.reference_time = as_datetime(now_ms)
            updater.refresh()
            targets = Metadata[Targets].from_file(str(metadata / "targets.json")).signed
            snapshot = Metadata[Snapshot].from_file(str(metadata / "snapshot.json")).signed
            found = {TARGETS: targets}
            roles = targets.delegations.roles if targets.delegations is not None else None
            for entity in roles or {}:
                listed = snapshot.meta.get(f"{entity}.json")
                if listed is None:
                    continue
                try:
                    updater.get_targetinfo(roster_path(entity))
                except ExpiredMetadataError:
                    # One entity's roster has run out: it loses its control, the others keep theirs.
                    raw = files.get(f"metadata/{listed.version}.{entity}.json")
                    if raw is None:
                        raise
                    (metadata / f"{entity}.json").write_bytes(raw)
                own = metadata / f"{entity}.json"
                if own.exists():
                    found[entity] = Metadata[Targets].from_file(str(own)).signed
        return found

    def _fill(self, stage: Path, files: Mapping[str, bytes], roles: Mapping[str, Targets]) -> None:
        """Put the documents of the set into the stage, and take away what belongs to it no more."""
        wanted: set[str] = set()
        for name, role in roles.items():
            folder = POLICY_FOLDER if name == TARGETS else entity_folder(name)
            for path, target in role.targets.items():
                if not is_in(path, folder):
                    continue
                own = document_file(path, target)
                wanted.add(Path(own).name)
                if _is_there(stage / own, target):
                    continue
                digest = Path(own).name
                parent, _, base = path.rpartition("/")
                content = files.get(f"targets/{parent}/{digest}.{base}")
                if content is None or len(content) > LONGEST_DOCUMENT:
                    raise PolicyRefused(Why.INCOMPLETE, f"{path} has not come")
                with translated(path):
                    target.verify_length_and_hashes(content)
                (stage / own).write_bytes(content)
        for left in (stage / "targets").iterdir():
            if left.name not in wanted:
                left.unlink()

    def _copy(self, stage: Path, sound: tuple[Path, Held] | None) -> None:
        """Copy a generation into the stage, a damaged one where there is no other: what is whole in it helps.

        Documents are shared and not copied: they never change.
        """
        folders = [sound[0]] if sound is not None else self._generations.newest_first()[:1]
        for source in folders:
            for path in sorted((source / "metadata").rglob("*.json")):
                if not path.is_symlink():
                    target = stage / "metadata" / path.relative_to(source / "metadata")
                    target.write_bytes(path.read_bytes())
            for path in sorted((source / "targets").iterdir()):
                _share(path, stage / "targets" / path.name)
            if (source / ASSIGNMENT).exists():
                (stage / ASSIGNMENT).write_bytes((source / ASSIGNMENT).read_bytes())

    @contextmanager
    def _staging(self) -> Iterator[Path]:
        try:
            yield self._generations.stage()
        except OSError as error:
            if error.errno == errno.ENOSPC:
                raise StoreFull("no room on the disk for a new policy: the one in force stays") from error
            raise StoreError(f"the folder of the policy cannot be used: {error.strerror}") from error
        finally:
            self._generations.discard()


def _share(path: Path, target: Path) -> None:
    """Give a document a second name; a copy where the file system has none."""
    try:
        os.link(path, target)
    except OSError:
        target.write_bytes(path.read_bytes())


def _is_there(path: Path, target: TargetFile) -> bool:
    """Tell whether a document is there and whole; one that the disk damaged is taken away."""
    content = read_bounded(path, LONGEST_DOCUMENT)
    if content is None:
        return False
    try:
        target.verify_length_and_hashes(content)
    except LengthOrHashMismatchError:
        path.unlink()  # never written over: the generation in force may share it
        return False
    return True


def _reader(folder: Path) -> Reader:
    """Read a generation: documents beside the metadata, and roots by their history."""

    def read(name: str, most: int) -> bytes | None:
        return read_bounded(folder / (name if name.startswith("targets/") else f"metadata/{name}"), most)

    return read


def _keys(verified: Verified) -> dict[str, Key]:
    return keys_in(verified.documents.get(ASSIGNMENT_KEYS_PATH), "the assignment keys")
