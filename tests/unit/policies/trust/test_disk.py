"""What lies on a gateway's disk is believed as little as the network: each link of the chain, broken alone.

At a start nobody but `verify_set` looks at it: python-tuf's client does not run.  The attacker here writes
the disk, and has those keys that the test names; everything that is not the point of a test is in order.
"""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import (
    DelegatedRole,
    Delegations,
    Metadata,
    MetaFile,
    Root,
    Snapshot,
    Targets,
    Timestamp,
)

from policies.trust.bounds import ISSUED, POLICY_PATH
from policies.trust.ceremony import rotate
from policies.trust.instants import as_datetime, instant_text
from policies.trust.publishing import verify_files
from policies.trust.refusals import PolicyRefused, Why
from policies.trust.repository import COMPACT
from policies.trust.verified import document_file, verify_set
from tests.support.policy_world import DAY, ESCO, World, pair

Files = dict[str, bytes]
Signed = Metadata[Snapshot] | Metadata[Targets] | Metadata[Timestamp]


@dataclasses.dataclass
class Disk:
    """A set as it lies on a gateway, and the keys of those who signed it."""

    world: World
    files: Files

    def signers(self, role: str) -> list[CryptoSigner]:
        """Return who signs a role."""
        keys = self.world.keys
        of = {
            "root": keys.root[:2],
            "targets": keys.targets[:2],
            "snapshot": [keys.snapshot],
            "timestamp": [keys.timestamp],
            **{entity: [key] for entity, key in keys.entities.items()},
        }
        return [one.signer for one in of[role]]

    def read(self, name: str, most: int) -> bytes | None:
        """Read a file."""
        return self.files.get(name)

    def prove(self) -> None:
        """Verify the set."""
        verify_set(self.read, self.world.built_in)

    def why(self) -> Why:
        """Return why the set is refused."""
        with pytest.raises(PolicyRefused) as caught:
            self.prove()
        return caught.value.why

    def put(self, role: str, metadata: Signed, signers: list[CryptoSigner] | None = None) -> None:
        """Write a role's file, signed by its own keys or by others."""
        metadata.signatures.clear()
        for signer in self.signers(role) if signers is None else signers:
            metadata.sign(signer, append=True)
        self.files[f"{role}.json"] = metadata.to_bytes(COMPACT)

    def timestamp(self) -> Metadata[Timestamp]:
        return Metadata[Timestamp].from_bytes(self.files["timestamp.json"])

    def snapshot(self) -> Metadata[Snapshot]:
        return Metadata[Snapshot].from_bytes(self.files["snapshot.json"])

    def targets(self, role: str = "targets") -> Metadata[Targets]:
        return Metadata[Targets].from_bytes(self.files[f"{role}.json"])

    def link(self, *roles: str) -> None:
        """Let snapshot and timestamp name what lies there, signed as they should be."""
        snapshot = self.snapshot()
        for role in roles:
            raw = self.files[f"{role}.json"]
            version = Metadata.from_bytes(raw).signed.version
            snapshot.signed.meta[f"{role}.json"] = MetaFile.from_data(version, raw, ["sha256"])
        self.put("snapshot", snapshot)
        self.link_snapshot()

    def link_snapshot(self) -> None:
        """Let the timestamp name the snapshot that lies there."""
        raw = self.files["snapshot.json"]
        timestamp = self.timestamp()
        version = Metadata.from_bytes(raw).signed.version
        timestamp.signed.snapshot_meta = MetaFile.from_data(version, raw, ["sha256"])
        self.put("timestamp", timestamp)


@pytest.fixture
def disk(tmp_path: Path) -> Disk:
    world = World(tmp_path)
    world.refresh()
    folder = (tmp_path / "gateway" / "current").resolve()
    files = {
        path.relative_to(folder / "metadata").as_posix(): path.read_bytes()
        for path in (folder / "metadata").rglob("*.json")
        if not path.is_symlink()
    }
    files |= {f"targets/{path.name}": path.read_bytes() for path in (folder / "targets").iterdir()}
    disk = Disk(world, files)
    disk.prove()
    return disk


def test_what_is_linked_and_signed_anew_is_proved(disk: Disk) -> None:
    """The tools of this page do what they say: without an attack nothing is refused."""
    disk.put(ESCO, disk.targets(ESCO))
    disk.put("targets", disk.targets())
    disk.link("targets", ESCO)
    disk.prove()


@pytest.mark.parametrize("role", ["timestamp", "snapshot", "targets", ESCO])
def test_a_role_signed_by_somebody_else_is_refused(disk: Disk, role: str) -> None:
    metadata = Metadata.from_bytes(disk.files[f"{role}.json"])
    disk.put(role, metadata, [pair("mallory").signer])
    if role in ("targets", ESCO):
        disk.link(role)
    elif role == "snapshot":
        disk.link_snapshot()
    assert disk.why() is Why.UNSIGNED


@pytest.mark.parametrize("role", ["timestamp", "snapshot", "targets", ESCO])
def test_a_role_that_is_not_there_is_refused(disk: Disk, role: str) -> None:
    del disk.files[f"{role}.json"]
    assert disk.why() is Why.INCOMPLETE


@pytest.mark.parametrize("role", ["targets", ESCO])
def test_another_content_of_the_same_version_is_refused(disk: Disk, role: str) -> None:
    metadata = disk.targets(role)
    metadata.signed.expires = as_datetime(disk.world.now_ms + 9000 * DAY)
    disk.put(role, metadata)
    assert disk.why() is Why.ALTERED


def test_another_snapshot_of_the_same_version_is_refused(disk: Disk) -> None:
    snapshot = disk.snapshot()
    snapshot.signed.expires = as_datetime(disk.world.now_ms + 9000 * DAY)
    disk.put("snapshot", snapshot)
    assert disk.why() is Why.ALTERED


@pytest.mark.parametrize("role", ["targets", ESCO])
def test_another_version_than_the_snapshot_names_is_refused_also_without_hashes(
    disk: Disk, role: str
) -> None:
    snapshot = disk.snapshot()
    snapshot.signed.meta[f"{role}.json"] = MetaFile(disk.targets(role).signed.version + 1)
    disk.put("snapshot", snapshot)
    disk.link_snapshot()
    assert disk.why() is Why.ROLLBACK


def test_another_snapshot_than_the_timestamp_names_is_refused_also_without_hashes(disk: Disk) -> None:
    timestamp = disk.timestamp()
    timestamp.signed.snapshot_meta = MetaFile(disk.snapshot().signed.version + 1)
    disk.put("timestamp", timestamp)
    assert disk.why() is Why.ROLLBACK


def test_a_snapshot_without_the_policy_is_refused(disk: Disk) -> None:
    snapshot = disk.snapshot()
    del snapshot.signed.meta["targets.json"]
    disk.put("snapshot", snapshot)
    disk.link_snapshot()
    assert disk.why() is Why.INCOMPLETE


def test_a_role_of_another_type_in_its_place_is_refused(disk: Disk) -> None:
    """The holders of the policy's keys sign a snapshot, and somebody puts it where the policy should be."""
    version = disk.targets().signed.version
    disk.put("targets", Metadata(Snapshot(version=version, expires=disk.snapshot().signed.expires)))
    disk.link("targets")
    assert disk.why() is Why.MALFORMED


def test_a_document_that_is_not_there_or_is_another_one_is_refused(disk: Disk) -> None:
    name = document_file(POLICY_PATH, disk.targets().signed.targets[POLICY_PATH])
    whole = disk.files.pop(name)
    assert disk.why() is Why.INCOMPLETE
    disk.files[name] = whole.replace(b"shed", b"shot")
    assert disk.why() is Why.ALTERED
    disk.files[name] = whole
    disk.prove()


# --- the root


def follow(disk: Disk, change: Callable[[Root], object], *signers: CryptoSigner) -> None:
    """Write a second root."""
    root = Metadata[Root].from_bytes(disk.world.built_in)
    root.signed.version = 2
    change(root.signed)
    for signer in signers:
        root.sign(signer, append=signer is not signers[0])
    disk.files["root_history/2.root.json"] = root.to_bytes(COMPACT)


def with_new_keys(fresh: list[CryptoSigner]) -> Callable[[Root], None]:
    """Return what puts other root keys in the place of the old ones."""

    def change(root: Root) -> None:
        for keyid in list(root.roles["root"].keyids):
            root.revoke_key(keyid, "root")
        for signer in fresh:
            root.add_key(signer.public_key, "root")

    return change


def test_a_root_that_old_and_new_keys_signed_follows(disk: Disk) -> None:
    fresh = [pair(f"new-{number}").signer for number in range(3)]
    follow(disk, with_new_keys(fresh), *disk.signers("root"), *fresh[:2])
    assert verify_set(disk.read, disk.world.built_in).versions["root"] == 2


def test_a_root_that_the_old_keys_did_not_sign_is_refused(disk: Disk) -> None:
    fresh = [pair(f"new-{number}").signer for number in range(3)]
    follow(disk, with_new_keys(fresh), *fresh)
    assert disk.why() is Why.UNSIGNED


def test_a_root_that_the_new_keys_did_not_sign_is_refused(disk: Disk) -> None:
    fresh = [pair(f"new-{number}").signer for number in range(3)]
    follow(disk, with_new_keys(fresh), *disk.signers("root"), fresh[0])
    assert disk.why() is Why.UNSIGNED


@pytest.mark.parametrize("version", [1, 3, 2**31])
def test_a_root_in_the_place_of_another_version_is_refused(disk: Disk, version: int) -> None:
    def change(root: Root) -> None:
        root.version = version

    follow(disk, change, *disk.signers("root"))
    assert disk.why() is Why.ROLLBACK


def test_a_built_in_root_that_nobody_signed_is_refused(disk: Disk) -> None:
    root = Metadata[Root].from_bytes(disk.world.built_in)
    root.signatures.clear()
    root.sign(disk.signers("root")[0])
    with pytest.raises(PolicyRefused) as caught:
        verify_set(disk.read, root.to_bytes(COMPACT))
    assert caught.value.why is Why.UNSIGNED


def test_the_keys_of_the_newest_root_count_and_not_those_of_the_first(disk: Disk) -> None:
    def change(root: Root) -> None:
        root.revoke_key(disk.world.keys.timestamp.public.keyid, "timestamp")
        root.add_key(pair("timestamp-2").public, "timestamp")

    follow(disk, change, *disk.signers("root"))
    assert disk.why() is Why.UNSIGNED


# --- what else must be in order


@pytest.mark.parametrize("later_s", [0, 1, 86_400])
def test_a_timestamp_signed_at_or_after_its_end_is_refused(disk: Disk, later_s: int) -> None:
    timestamp = disk.timestamp()
    end_ms = round(timestamp.signed.expires.timestamp() * 1000)
    timestamp.signed.unrecognized_fields[ISSUED] = instant_text(end_ms + later_s * 1000)
    disk.put("timestamp", timestamp)
    assert disk.why() is Why.MALFORMED
    timestamp.signed.unrecognized_fields[ISSUED] = instant_text(end_ms - 1000)
    disk.put("timestamp", timestamp)
    disk.prove()


def test_an_entity_with_the_name_of_a_file_is_refused(disk: Disk) -> None:
    targets = disk.targets()
    assert targets.signed.delegations is not None
    assert targets.signed.delegations.roles is not None
    keyids = targets.signed.delegations.roles[ESCO].keyids
    role = DelegatedRole("1.root", keyids, 1, True, ["entities/1.root/*"])
    targets.signed.delegations.roles["1.root"] = role
    disk.put("targets", targets)
    disk.link("targets")
    assert disk.why() is Why.OUTSIDE


def test_an_entity_with_a_key_of_another_scheme_is_refused(disk: Disk) -> None:
    targets = disk.targets()
    targets.signed.add_key(CryptoSigner.generate_rsa().public_key, ESCO)
    disk.put("targets", targets)
    disk.link("targets")
    assert disk.why() is Why.UNSIGNED


def test_a_root_with_a_key_of_another_scheme_is_refused(disk: Disk) -> None:
    def change(root: Root) -> None:
        root.add_key(CryptoSigner.generate_rsa().public_key, "targets")

    follow(disk, change, *disk.signers("root"))
    assert disk.why() is Why.UNSIGNED


def test_a_policy_without_any_entity_is_proved(disk: Disk) -> None:
    targets = disk.targets()
    targets.signed.delegations = None
    disk.put("targets", targets)
    disk.link("targets")
    found = verify_set(disk.read, disk.world.built_in)
    assert found.entities == ()
    assert set(found.documents) == {POLICY_PATH, "policy/assignment-keys.json"}


def test_a_roster_outside_of_the_entitys_folder_is_not_looked_for(disk: Disk) -> None:
    role = disk.targets(ESCO)
    for path in (POLICY_PATH, "entities/aggr1/roster.json", f"entities/{ESCO}/deep/roster.json"):
        role.signed.targets[path] = role.signed.targets[f"entities/{ESCO}/roster.json"]
    before = verify_set(disk.read, disk.world.built_in).documents
    disk.put(ESCO, role)
    disk.link(ESCO)
    assert verify_set(disk.read, disk.world.built_in).documents == before


@pytest.mark.parametrize(
    "path", ["policy.json", "other/policy.json", "policy/deep/policy.json", "../policy.json"]
)
def test_what_the_utility_lists_outside_of_its_folder_is_not_looked_for(disk: Disk, path: str) -> None:
    targets = disk.targets()
    targets.signed.targets[path] = targets.signed.targets[POLICY_PATH]
    before = verify_set(disk.read, disk.world.built_in).documents
    disk.put("targets", targets)
    disk.link("targets")
    assert verify_set(disk.read, disk.world.built_in).documents == before


def test_an_entity_that_hands_on_what_was_handed_to_it_is_refused(disk: Disk) -> None:
    role, friend = disk.targets(ESCO), pair("friend").public
    roles = {"friend": DelegatedRole("friend", [friend.keyid], 1, True, [f"entities/{ESCO}/*"])}
    role.signed.delegations = Delegations({friend.keyid: friend}, roles)
    disk.put(ESCO, role)
    disk.link(ESCO)
    assert disk.why() is Why.OUTSIDE


def test_a_whole_delivery_is_proved_as_the_disk_is(disk: Disk) -> None:
    rotate(disk.world.repository, "timestamp", [pair("t").public], 1, disk.world.now_ms)
    found = verify_files(disk.world.files(), disk.world.built_in)
    assert found.versions == verify_set(disk.read, disk.world.built_in).versions | {"timestamp": 3}
