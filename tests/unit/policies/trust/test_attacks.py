"""Every attack on the way of a policy to a gateway, by its name: what is tried, and that it gains nothing.

The attacker owns the network, the broker and the disk of what arrives; which keys were stolen is said in each
test.  After each refused attack the policy held before is still there, proved again from the disk.
"""

import contextlib
import io
import json
import shutil
import zipfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from securesystemslib.signer import CryptoSigner
from tuf.api.exceptions import DownloadLengthMismatchError
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

from policies.trust.assignment import seal_assignment
from policies.trust.bounds import (
    ISSUED,
    LONGEST_ASSIGNMENT,
    LONGEST_BUNDLE,
    LONGEST_DOCUMENT,
    LONGEST_TIMESTAMP,
    MOST_FILES,
    POLICY_PATH,
)
from policies.trust.bundle import pack, unpack
from policies.trust.ceremony import (
    assign,
    renew,
    rotate,
    rotate_assignment,
    set_roster,
)
from policies.trust.fetching import MemoryFetcher
from policies.trust.floor import Floor
from policies.trust.folder import PolicyFolder
from policies.trust.freshness import Freshness
from policies.trust.instants import as_datetime, instant_text
from policies.trust.refusals import PolicyRefused, Why
from policies.trust.repository import COMPACT
from policies.trust.spool import Place, Spool
from tests.support.policy_world import (
    AGGREGATOR,
    DAY,
    ESCO,
    GATEWAY,
    T0,
    World,
    assignment,
    grant,
    grant_ids,
    pair,
    roster,
)

TIMESTAMP_FILE = "metadata/timestamp.json"
Files = dict[str, bytes]


@pytest.fixture
def world(tmp_path: Path) -> World:
    """A gateway that holds a policy with grant g-wh and an assignment."""
    world = World(tmp_path)
    world.refresh()
    world.give(world.assign().raw)
    return world


def refused(world: World, files: Files, *reasons: Why) -> None:
    """Offer a set, see it refused for one of these reasons, and that what was held stays as it was."""
    before = world.load()
    with pytest.raises(PolicyRefused) as caught:
        world.refresh(files)
    assert caught.value.why in reasons
    assert world.load() == before


def refused_assignment(world: World, raw: bytes, reason: Why) -> None:
    """Offer an assignment, see it refused, and that what was held stays as it was."""
    before = world.load()
    with pytest.raises(PolicyRefused) as caught:
        world.give(raw)
    assert caught.value.why is reason
    assert world.load() == before


def signed(metadata: Metadata[Root | Snapshot | Targets | Timestamp], *signers: CryptoSigner) -> bytes:  # type: ignore[type-var]
    """Return metadata as an attacker signs it with what keys there are."""
    metadata.signatures.clear()
    for signer in signers:
        metadata.sign(signer, append=True)
    return metadata.to_bytes(COMPACT)


def evil(world: World) -> tuple[int, Files]:
    """Return the next version of the targets, unsigned, with a policy that grants the attacker everything."""
    files = world.files()
    number = world.repository.versions("targets")[-1]
    draft = Metadata[Targets].from_bytes(files[f"metadata/{number}.targets.json"])
    draft.signed.version = number + 1
    world.repository.put(draft.signed, POLICY_PATH, b'{"policy":{"utility":"evil"},"grant":[]}')
    path = draft.signed.targets[POLICY_PATH].get_prefixed_paths()[0]
    files[f"targets/{path}"] = (world.repository.base / "targets" / path).read_bytes()
    files[f"metadata/{number + 1}.targets.json"] = draft.to_bytes(COMPACT)
    return number + 1, files


def with_online_keys(world: World, files: Files, **versions: int) -> Files:
    """Return a set as somebody publishes it who has the keys of snapshot and timestamp."""
    published = world.repository.snapshot()
    present = world.repository.timestamp()
    assert published is not None
    assert present is not None
    snapshot, timestamp = published.signed, present.signed
    snapshot.version += 1
    for role, version in versions.items():
        raw = files.get(f"metadata/{version}.{role}.json")
        snapshot.meta[f"{role}.json"] = (
            MetaFile(version) if raw is None else MetaFile.from_data(version, raw, ["sha256"])
        )
    raw = signed(Metadata(snapshot), world.keys.snapshot.signer)
    timestamp.version += 1
    timestamp.snapshot_meta = MetaFile.from_data(snapshot.version, raw, ["sha256"])
    timestamp.unrecognized_fields[ISSUED] = instant_text(world.now_ms)
    return {
        **files,
        f"metadata/{snapshot.version}.snapshot.json": raw,
        TIMESTAMP_FILE: signed(Metadata(timestamp), world.keys.timestamp.signer),
    }


# --- rollback, freeze, mix-and-match, fast-forward


def test_rollback_to_an_older_policy_is_refused(world: World) -> None:
    old = world.files()
    world.refresh(world.change(grant("g-wh"), grant("g-2")))
    refused(world, old, Why.ROLLBACK)
    assert grant_ids(world.load()) == ["g-wh", "g-2"]


def test_rollback_is_refused_also_when_the_folder_was_lost(world: World) -> None:
    old = world.files()
    world.tick(days=1)
    world.refresh(world.change(grant("g-wh"), grant("g-2")))
    world.gateway = world.new_gateway("emptied")
    with pytest.raises(PolicyRefused, match="older than one that was held") as caught:
        world.refresh(old)
    assert caught.value.why is Why.ROLLBACK


def test_rollback_of_the_disk_to_the_generation_before_is_refused(world: World) -> None:
    world.tick(days=1)
    world.refresh(world.change(grant("g-wh"), grant("g-2")))
    folder = world.folder / "gateway"
    others = [one for one in folder.glob("gen-*") if one.name != (folder / "current").readlink().name]
    (folder / "current").unlink()
    (folder / "current").symlink_to(others[0].name)
    # The generation put in its place is older than the signed time; the newer one is found beside it.
    assert grant_ids(world.load()) == ["g-wh", "g-2"]


def test_freeze_is_known_when_the_timestamp_runs_out(world: World) -> None:
    frozen = world.files()
    world.refresh(frozen)
    world.tick(days=14)
    refused(world, frozen, Why.EXPIRED)
    assert world.freshness() is Freshness.STALE
    world.tick(days=30)
    assert world.freshness() is Freshness.EXPIRED


def test_mix_and_match_of_versions_is_refused(world: World) -> None:
    first = world.files()
    old = first[f"metadata/{world.repository.versions('targets')[-1]}.targets.json"]
    second = world.change(grant("g-wh"), grant("g-2"))
    second[f"metadata/{world.repository.versions('targets')[-1]}.targets.json"] = old
    refused(world, second, Why.ROLLBACK, Why.ALTERED, Why.TOO_LARGE)


def test_mix_and_match_of_a_roster_with_another_snapshot_is_refused(world: World) -> None:
    first = world.files()
    number = world.repository.versions(ESCO)[-1]
    set_roster(world.repository, ESCO, roster(ESCO, "bob"), world.now_ms)
    world.sign_all()
    second = world.files()
    second[f"metadata/{number + 1}.{ESCO}.json"] = first[f"metadata/{number}.{ESCO}.json"]
    refused(world, second, Why.ROLLBACK, Why.ALTERED, Why.TOO_LARGE)


def test_two_rosters_of_one_version_are_told_apart_by_the_snapshot(world: World) -> None:
    files = world.files()
    number = world.repository.versions(ESCO)[-1]
    other = Metadata[Targets].from_bytes(files[f"metadata/{number}.{ESCO}.json"])
    world.repository.put(other.signed, f"entities/{ESCO}/roster.json", b'{"roster":{}}')
    files[f"metadata/{number}.{ESCO}.json"] = signed(other, world.keys.entities[ESCO].signer)
    world.gateway = world.new_gateway("new")
    with pytest.raises(PolicyRefused) as caught:
        world.refresh(files)
    assert caught.value.why in (Why.ALTERED, Why.TOO_LARGE)


def test_fast_forward_by_a_stolen_timestamp_key_ends_with_its_rotation(world: World) -> None:
    present = world.repository.timestamp()
    assert present is not None
    present.signed.version = 2**31
    files = world.files()
    files[TIMESTAMP_FILE] = signed(present, world.keys.timestamp.signer)
    world.refresh(files)
    assert world.load() is not None
    refused(world, world.files(), Why.ROLLBACK)  # the true one cannot catch up
    world.keys.timestamp = pair("timestamp-2")
    rotate(world.repository, "timestamp", [world.keys.timestamp.public], 1, world.now_ms)
    world.sign_all()
    assert world.refresh().versions.timestamp < 100


def test_fast_forward_by_a_stolen_snapshot_key_ends_with_its_rotation(world: World) -> None:
    files = with_online_keys(world, world.files(), targets=2**31)
    refused(world, files, Why.INCOMPLETE)  # nobody can sign targets of that version
    world.keys.snapshot, world.keys.timestamp = pair("snapshot-2"), pair("timestamp-2")
    for role, key in (("snapshot", world.keys.snapshot), ("timestamp", world.keys.timestamp)):
        rotate(world.repository, role, [key.public], 1, world.now_ms)
    world.sign_all()
    assert world.refresh(world.change(grant("g-2"))).versions.root == 2


def test_fast_forward_of_the_signed_time_ends_with_the_rotation_of_its_key(world: World) -> None:
    present = world.repository.timestamp()
    assert present is not None
    far = world.now_ms + 3650 * DAY
    present.signed.version += 1
    present.signed.expires = as_datetime(far + 14 * DAY)
    present.signed.unrecognized_fields[ISSUED] = instant_text(far)
    files = world.files()
    present.signed.version += 1
    world.refresh({**files, TIMESTAMP_FILE: signed(present, world.keys.timestamp.signer)})
    assert world.memory.floor.at_ms == far
    assert world.freshness() is Freshness.ROOT_EXPIRED  # closed, as long as the stolen key is believed
    world.keys.timestamp = pair("timestamp-2")
    rotate(world.repository, "timestamp", [world.keys.timestamp.public], 1, world.now_ms)
    world.sign_all()
    world.refresh()
    assert world.memory.floor.at_ms == world.now_ms
    assert world.freshness() is Freshness.FRESH


def test_fast_forward_of_an_assignments_number_ends_with_its_key(world: World) -> None:
    path = world.repository.base / "assign" / f"{GATEWAY}.json"
    head = {
        "gateway": GATEWAY,
        "sequence": 2**50,
        "policy_version": 1,
        "issued": instant_text(world.now_ms),
        "expires": instant_text(world.now_ms + 60 * DAY),
    }
    world.give(seal_assignment(json.dumps({"assignment": head}).encode(), world.keys.assignment.signer))
    refused_assignment(world, world.assign().raw, Why.ROLLBACK)
    world.keys.assignment = pair("assignment-2")
    rotate_assignment(world.repository, [world.keys.assignment.public], world.now_ms)
    world.sign_all()
    assert world.refresh().assignment is None
    found = world.give(world.assign().raw)
    assert found.assignment is not None
    assert found.assignment.sequence < 10
    assert path.exists()


# --- stolen keys


def test_stolen_online_keys_cannot_change_the_policy(world: World) -> None:
    number, files = evil(world)
    draft = Metadata[Targets].from_bytes(files[f"metadata/{number}.targets.json"])
    online = (world.keys.snapshot.signer, world.keys.timestamp.signer, world.keys.assignment.signer)
    files[f"metadata/{number}.targets.json"] = signed(draft, *online)
    refused(world, with_online_keys(world, files, targets=number), Why.UNSIGNED)


def test_stolen_online_keys_cannot_take_an_entity_away_from_who_knows_it(world: World) -> None:
    files = world.files()
    published = world.repository.snapshot()
    present = world.repository.timestamp()
    assert published is not None
    assert present is not None
    del published.signed.meta[f"{ESCO}.json"]
    published.signed.version += 1
    raw = signed(published, world.keys.snapshot.signer)
    present.signed.version += 1
    present.signed.snapshot_meta = MetaFile.from_data(published.signed.version, raw, ["sha256"])
    files[f"metadata/{published.signed.version}.snapshot.json"] = raw
    files[TIMESTAMP_FILE] = signed(present, world.keys.timestamp.signer)
    refused(world, files, Why.MALFORMED)


def test_stolen_targets_key_below_the_threshold_is_refused(world: World) -> None:
    number, files = evil(world)
    draft = Metadata[Targets].from_bytes(files[f"metadata/{number}.targets.json"])
    files[f"metadata/{number}.targets.json"] = signed(draft, world.keys.targets[0].signer)
    refused(world, with_online_keys(world, files, targets=number), Why.UNSIGNED)


def test_stolen_targets_key_signing_twice_is_one_signature(world: World) -> None:
    number, files = evil(world)
    draft = Metadata[Targets].from_bytes(files[f"metadata/{number}.targets.json"])
    document = json.loads(signed(draft, world.keys.targets[0].signer))
    document["signatures"] *= 2
    files[f"metadata/{number}.targets.json"] = json.dumps(document).encode()
    refused(world, with_online_keys(world, files, targets=number), Why.UNSIGNED, Why.MALFORMED)


def test_stolen_targets_keys_cannot_forge_an_entitys_roster(world: World) -> None:
    set_roster(world.repository, ESCO, roster(ESCO, "mallory"), world.now_ms)
    draft = world.repository.draft_targets(ESCO)
    assert draft is not None
    number, files = draft.signed.version, world.files()
    files[f"metadata/{number}.{ESCO}.json"] = signed(draft, *(one.signer for one in world.keys.targets))
    refused(world, with_online_keys(world, files, **{ESCO: number}), Why.UNSIGNED)


def test_stolen_root_key_below_the_threshold_is_refused(world: World) -> None:
    rotate(world.repository, "root", [pair(f"evil-{one}").public for one in range(3)], 2, world.now_ms)
    draft = world.repository.draft_root()
    assert draft is not None
    files = world.files()
    files["metadata/2.root.json"] = signed(draft, world.keys.root[0].signer)
    refused(world, files, Why.UNSIGNED)


def test_a_root_of_somebody_else_is_refused(world: World, tmp_path: Path) -> None:
    other = World(tmp_path / "other")
    refused(world, other.files(), Why.UNSIGNED, Why.ROLLBACK, Why.MALFORMED)


def test_keys_of_another_scheme_are_refused(world: World) -> None:
    rsa = CryptoSigner.generate_rsa()
    rotate(world.repository, "timestamp", [rsa.public_key], 1, world.now_ms)
    world.sign_all()
    present = world.repository.timestamp()
    draft = world.repository.draft_root()
    assert present is not None
    assert draft is not None
    files = world_files_with(world, draft)
    present.signed.version += 10
    files[TIMESTAMP_FILE] = signed(present, rsa)
    refused(world, files, Why.UNSIGNED)


def world_files_with(world: World, root: Metadata[Root]) -> Files:
    """Return the published files and a root that is signed, but not promoted."""
    published = {path.name: path.read_bytes() for path in (world.repository.base / "metadata").iterdir()}
    files = {f"metadata/{name}": raw for name, raw in published.items()}
    for path in (world.repository.base / "targets").rglob("*.json"):
        files[f"targets/{path.relative_to(world.repository.base / 'targets').as_posix()}"] = path.read_bytes()
    return {**files, f"metadata/{root.signed.version}.root.json": root.to_bytes(COMPACT)}


# --- rotation


def test_rotation_that_a_gateway_slept_through_is_followed(world: World) -> None:
    for year in range(4):
        world.tick(days=300)
        fresh = [pair(f"root-{year}-{one}") for one in range(3)]
        old = world.keys.root
        rotate(world.repository, "root", [one.public for one in fresh], 2, world.now_ms)
        world.sign(*old[:2], *fresh[:2])
        world.keys.root = fresh
        renew(world.repository, ["targets", ESCO, AGGREGATOR], world.now_ms)
        world.sign_all()
        world.publish()
    found = world.refresh()
    assert found.versions.root == 5
    assert found.verified.expires_ms["root"] > world.now_ms


def test_rotation_signed_by_the_old_keys_alone_is_not_put_in_force(world: World) -> None:
    fresh = [pair(f"new-{one}") for one in range(3)]
    rotate(world.repository, "root", [one.public for one in fresh], 2, world.now_ms)
    world.sign(*world.keys.root)
    draft = world.repository.draft_root()
    assert draft is not None
    world.publish()
    assert world.repository.versions("root") == [1]
    refused(world, {**world.files(), "metadata/2.root.json": draft.to_bytes(COMPACT)}, Why.UNSIGNED)


def test_policy_signed_by_targets_keys_that_were_taken_away_is_refused(world: World) -> None:
    stolen = world.keys.targets
    world.keys.targets = [pair(f"targets-new-{one}") for one in range(3)]
    rotate(world.repository, "targets", [one.public for one in world.keys.targets], 2, world.now_ms)
    world.sign_all()
    world.refresh()
    number, files = evil(world)
    draft = Metadata[Targets].from_bytes(files[f"metadata/{number}.targets.json"])
    files[f"metadata/{number}.targets.json"] = signed(draft, *(one.signer for one in stolen))
    refused(world, with_online_keys(world, files, targets=number), Why.UNSIGNED)


# --- path escape


def publish_as_entity(world: World, path: str, content: bytes) -> Files:
    """Let the entity's own key sign a document at any path, and publish it by the utility's own keys."""
    role = world.repository.edit_targets(ESCO, world.now_ms)
    world.repository.put(role.signed, path, content)
    world.repository.save(ESCO, role)
    world.sign_all()
    return world.files()


@pytest.mark.parametrize(
    "path",
    [POLICY_PATH, "policy/assignment-keys.json", f"entities/{AGGREGATOR}/roster.json", "roster.json"],
)
def test_what_an_entity_publishes_outside_of_its_folder_is_never_used(world: World, path: str) -> None:
    before = world.load()
    assert before is not None
    found = world.refresh(publish_as_entity(world, path, b'{"evil":true}'))
    assert found.verified.documents == before.verified.documents


def test_an_entity_cannot_reach_below_its_folder_into_anothers(world: World) -> None:
    path = f"entities/{ESCO}/../{AGGREGATOR}/roster.json"
    found = world.refresh(publish_as_entity(world, path, b'{"evil":true}'))
    assert b"evil" not in b"".join(found.verified.documents.values())
    assert path not in found.verified.documents


def test_an_entity_cannot_hand_on_its_folder(world: World) -> None:
    role = world.repository.edit_targets(ESCO, world.now_ms)
    friend = pair("friend")
    role.signed.delegations = Delegations(
        {friend.public.keyid: friend.public},
        {"friend": DelegatedRole("friend", [friend.public.keyid], 1, False, ["policy/*"])},
    )
    world.repository.save(ESCO, role)
    world.sign_all()
    with pytest.raises(PolicyRefused, match="hands on") as caught:
        world.publish()  # what a gateway would refuse is not published
    assert caught.value.why is Why.OUTSIDE


def zipped(members: dict[str, bytes]) -> bytes:
    """Return an archive as anybody could make it."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return out.getvalue()


@pytest.mark.parametrize(
    "name",
    [
        "../root.json",
        "/etc/passwd",
        "metadata/../../root.json",
        "metadata/1.root.json/../x",
        "metadata\\1.root.json",
        "metadata/",
        "targets/policy/../../x.json",
        "metadata/１.root.json",
    ],
)
def test_path_escape_from_a_bundle_is_refused(name: str) -> None:
    with pytest.raises(PolicyRefused) as caught:
        unpack(zipped({"metadata/timestamp.json": b"{}", name: b"x"}))
    assert caught.value.why is Why.OUTSIDE


def test_a_name_that_goes_on_behind_a_nul_is_refused() -> None:
    blob = zipped({"metadata/1.root.json!.png": b"x"}).replace(b"json!.png", b"json\x00.png")
    with pytest.raises(PolicyRefused) as caught:
        unpack(blob)
    assert caught.value.why is Why.OUTSIDE


def test_a_link_in_a_bundle_is_only_bytes(world: World) -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        entry = zipfile.ZipInfo("metadata/timestamp.json")
        entry.external_attr = 0o120777 << 16  # a symbolic link, says the archive
        archive.writestr(entry, "/etc/passwd")
    assert unpack(out.getvalue()) == {"metadata/timestamp.json": b"/etc/passwd"}


# --- endless data, bombs


def test_endless_data_is_refused_before_it_is_kept(tmp_path: Path) -> None:
    spool = Spool(tmp_path, ("mqtt",))
    for place, longest in (
        (Place.BUNDLE, LONGEST_BUNDLE),
        (Place.TIMESTAMP, LONGEST_TIMESTAMP),
        (Place.ASSIGNMENT, LONGEST_ASSIGNMENT),
    ):
        with pytest.raises(PolicyRefused) as caught:
            spool.put("mqtt", place, bytes(longest + 1))
        assert caught.value.why is Why.TOO_LARGE
    assert list(tmp_path.iterdir()) == []


def test_the_spool_never_grows_beyond_its_places(tmp_path: Path) -> None:
    spool = Spool(tmp_path, ("mqtt", "stick"))
    for number in range(50):
        for source in ("mqtt", "stick"):
            for place in Place:
                spool.put(source, place, str(number).encode())
    assert len(list(tmp_path.iterdir())) == 2 * len(Place)


def test_endless_metadata_is_refused(world: World) -> None:
    files = world.files()
    files[TIMESTAMP_FILE] = files[TIMESTAMP_FILE] + b" " * LONGEST_TIMESTAMP
    refused(world, files, Why.TOO_LARGE)


def test_endless_chunks_are_cut_by_the_library() -> None:
    class Endless(MemoryFetcher):
        def _fetch(self, url: str) -> Iterator[bytes]:
            while True:
                yield bytes(65536)

    with pytest.raises(DownloadLengthMismatchError):
        Endless({}).download_bytes("spool:///metadata/timestamp.json", 1000)


def test_a_decompression_bomb_is_refused() -> None:
    bomb = zipped({f"targets/policy/{'0' * 64}.policy.json": bytes(LONGEST_DOCUMENT + 1)})
    assert len(bomb) < LONGEST_DOCUMENT // 500
    with pytest.raises(PolicyRefused) as caught:
        unpack(bomb)
    assert caught.value.why is Why.TOO_LARGE


def test_many_small_bombs_are_refused_together() -> None:
    members = {f"targets/policy/{one:064x}.policy.json": bytes(LONGEST_DOCUMENT) for one in range(5)}
    with pytest.raises(PolicyRefused) as caught:
        unpack(zipped(members))
    assert caught.value.why is Why.TOO_LARGE


def test_a_bomb_that_lies_about_its_size_is_refused() -> None:
    name = f"targets/policy/{'0' * 64}.policy.json"
    honest = zipped({name: bytes(LONGEST_DOCUMENT + 1)})
    size = (LONGEST_DOCUMENT + 1).to_bytes(4, "little")
    assert honest.count(size) == 2
    with pytest.raises(PolicyRefused):
        unpack(honest.replace(size, (10).to_bytes(4, "little")))


def test_a_bundle_of_a_million_names_is_refused_unread() -> None:
    with pytest.raises(PolicyRefused) as caught:
        unpack(zipped({f"metadata/{one}.root.json": b"" for one in range(1, MOST_FILES + 2)}))
    assert caught.value.why is Why.TOO_LARGE


@pytest.mark.parametrize("name", ["metadata/1.root.json", "metadata/timestamp.json"])
def test_the_same_name_twice_in_a_bundle_is_refused(name: str) -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr(name, b"one")
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr(name, b"other")
    with pytest.raises(PolicyRefused, match="twice"):
        unpack(out.getvalue())


@pytest.mark.parametrize("raw", [b"", b"PK", b"{}", b"\x00" * 100, b"[" * 60000, b"PK\x05\x06" + bytes(18)])
def test_garbage_is_refused_and_harms_nothing(world: World, raw: bytes) -> None:
    with contextlib.suppress(PolicyRefused):
        assert unpack(raw) == {}  # an archive of nothing is one
    for name in (TIMESTAMP_FILE, "metadata/2.root.json"):
        refused(world, {**world.files(), name: raw}, Why.MALFORMED, Why.UNSIGNED, Why.TOO_LARGE)
    with pytest.raises(PolicyRefused):
        world.give(raw)


# --- assignments


def test_withheld_assignment_is_seen_by_the_number_that_is_held(world: World) -> None:
    """The broker keeps back an opt-out: the gateway goes on, and says what it holds; it ends some day."""
    withheld = world.assign({"opt_out": [{"device": "wh-01"}]})
    held = world.load()
    assert held is not None
    assert (held.versions.assignment, withheld.sequence) == (1, 2)
    assert world.publish().assignments[GATEWAY] == withheld.raw
    world.tick(days=45)
    renew(world.repository, [ESCO, AGGREGATOR], world.now_ms)
    world.sign_all()
    world.refresh()
    assert world.freshness() is Freshness.FRESH
    world.tick(days=15)
    world.refresh()
    assert world.freshness() is Freshness.EXPIRED


def test_assignment_of_another_gateway_is_refused(world: World) -> None:
    foreign = assign(world.repository, "gw-0002", assignment("g-wh"), world.keys.assignment, (), world.now_ms)
    refused_assignment(world, foreign.raw, Why.OTHER_GATEWAY)


def test_older_assignment_is_refused(world: World) -> None:
    first = world.assign().raw
    second = world.assign({"opt_out": [{"device": "wh-01"}]}).raw
    world.give(second)
    refused_assignment(world, first, Why.ROLLBACK)


def test_older_assignment_is_refused_also_when_the_folder_was_lost(world: World) -> None:
    first = world.assign().raw
    world.give(world.assign({"opt_out": [{"device": "wh-01"}]}).raw)
    world.gateway = world.new_gateway("emptied")
    world.refresh()
    with pytest.raises(PolicyRefused) as caught:
        world.give(first)
    assert caught.value.why is Why.ROLLBACK


def test_two_assignments_of_one_number_are_refused(world: World) -> None:
    path = world.repository.base / "assign" / f"{GATEWAY}.json"
    before = path.read_bytes()
    world.give(world.assign(assignment("g-wh")).raw)
    path.write_bytes(before)
    refused_assignment(world, world.assign({"assignment": {"groups": ["feeder-13"]}}).raw, Why.ROLLBACK)


def test_assignment_by_a_key_that_is_not_listed_is_refused(world: World) -> None:
    raw = world.assign().raw
    other = pair("other")
    rotate_assignment(world.repository, [other.public, world.keys.assignment.public], world.now_ms)
    forged = world.assign(key=other).raw
    refused_assignment(world, forged, Why.UNSIGNED)  # listed in a draft is not listed
    assert world.give(raw).assignment is not None


def test_assignment_by_a_revoked_key_is_void_and_stays_void_after_a_restart(world: World) -> None:
    raw = world.assign().raw
    world.give(raw)
    fresh = pair("assignment-2")
    rotate_assignment(world.repository, [fresh.public], world.now_ms)
    world.sign_all()
    found = world.refresh()
    assert found.assignment is None
    assert "signed by no key" in found.refused
    refused_assignment(world, raw, Why.UNSIGNED)
    assert world.freshness() is Freshness.NO_POLICY


def test_assignment_for_a_later_policy_is_refused_until_that_is_there(world: World) -> None:
    files = world.change(grant("g-wh"), grant("g-2"))
    raw = world.assign(assignment("g-2")).raw
    refused_assignment(world, raw, Why.NEEDS_NEWER)
    world.refresh(files)
    assert world.give(raw).assignment is not None


def test_expired_assignment_is_refused(world: World) -> None:
    raw = world.assign().raw
    world.tick(days=60)
    refused_assignment(world, raw, Why.EXPIRED)


def test_altered_assignment_is_refused(world: World) -> None:
    message = json.loads(world.assign().raw)
    payload = message["assignment"]["payload"]
    message["assignment"]["payload"] = (
        payload[:-8] + ("AAAA" if payload[-8:-4] != "AAAA" else "BBBB") + payload[-4:]
    )
    refused_assignment(world, json.dumps(message).encode(), Why.UNSIGNED)


def test_an_envelope_of_another_kind_is_no_assignment(world: World) -> None:
    message = json.loads(world.assign().raw)
    message["assignment"]["payloadType"] = "application/vnd.portico.consent+json"
    refused_assignment(world, json.dumps(message).encode(), Why.MALFORMED)


# --- accidents: half a delivery, a restart


def test_half_delivered_update_keeps_the_old_policy_over_a_restart(world: World) -> None:
    held = world.load()
    old, new = world.files(), world.change(grant("g-wh"), grant("g-2"))
    needed = set()
    for number, missing in enumerate(sorted(set(new) - set(old))):
        copy = world.folder / f"copy-{number}"
        shutil.copytree(world.folder / "gateway", copy, symlinks=True)
        rest = {name: content for name, content in new.items() if name != missing}
        with pytest.raises(PolicyRefused) as caught:
            PolicyFolder(copy, world.built_in, GATEWAY).refresh(rest, world.memory, world.now_ms)
        assert caught.value.why is Why.INCOMPLETE
        needed.add(missing.partition(".")[2])
        started = PolicyFolder(copy, world.built_in, GATEWAY)
        assert started.load(world.memory) == held
        found = started.refresh(new, world.memory, world.now_ms)
        assert grant_ids(found) == ["g-wh", "g-2"]
    assert needed == {"targets.json", "snapshot.json", "policy.json", "esco1.json", "agreed.json"}


def test_timestamp_before_its_bundle_keeps_the_old_policy(world: World) -> None:
    old = world.files()
    new = world.change(grant("g-wh"), grant("g-2"))
    refused(world, {**old, TIMESTAMP_FILE: new[TIMESTAMP_FILE]}, Why.INCOMPLETE)
    assert grant_ids(world.refresh(new)) == ["g-wh", "g-2"]


def test_a_document_altered_on_the_way_is_refused(world: World) -> None:
    files = world.change(grant("g-wh"), grant("g-2"))
    for name in [one for one in files if one.endswith(".policy.json")]:
        files[name] = files[name].replace(b"g-2", b"g-3")
    refused(world, files, Why.ALTERED)


@pytest.mark.parametrize(
    "victim",
    [
        "metadata/timestamp.json",
        "metadata/snapshot.json",
        "metadata/targets.json",
        f"metadata/{ESCO}.json",
        "targets",
    ],
)
def test_a_digit_that_flips_on_the_disk_is_noticed_and_healed_from_the_spool(
    world: World, victim: str
) -> None:
    files = world.files()
    held = world.refresh(files)
    folder = (world.folder / "gateway" / "current").resolve()
    path = folder / victim
    if path.is_dir():
        path = max(path.iterdir(), key=lambda one: one.stat().st_size)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))
    for other in (world.folder / "gateway").glob("gen-*"):
        if other != folder:
            for left in other.rglob("*.json"):
                left.unlink()
    assert world.load() is None
    assert world.refresh(files).verified == held.verified
    found = world.load()
    assert found is not None
    assert found.verified == held.verified


# --- time


def test_clock_set_back_does_not_make_an_old_policy_fresh(world: World) -> None:
    world.tick(days=13)
    world.refresh()
    world.tick(days=-60)
    assert world.freshness() is Freshness.CLOCK_UNSURE
    world.tick(days=60 + 14)
    assert world.freshness() is Freshness.STALE


def test_clock_set_back_does_not_let_an_expired_set_in(world: World) -> None:
    frozen = world.files()
    world.tick(days=20)
    world.refresh()
    world.gateway = world.new_gateway("emptied")
    with pytest.raises(PolicyRefused) as caught:
        world.refresh(frozen, clock_ms=T0)
    assert caught.value.why is Why.EXPIRED


def test_clock_set_forward_closes_control_and_leaves_nothing_behind(world: World) -> None:
    files = world.files()
    world.refresh(files)
    world.tick(days=3650)
    assert world.freshness() is Freshness.ROOT_EXPIRED
    with pytest.raises(PolicyRefused):
        world.refresh(files)
    world.tick(days=-3650)
    assert world.freshness() is Freshness.FRESH
    assert world.memory.floor.at_ms == world.now_ms


def test_clock_without_a_source_is_unsure_however_fresh_all_looks(world: World) -> None:
    assert world.freshness(clock_sure=False) is Freshness.CLOCK_UNSURE


def test_the_floor_cannot_be_ratcheted_by_anyone_but_the_policy_service(world: World) -> None:
    """An operator, an entity and the enrolment service each say that it is 2099."""
    before = world.memory.floor
    far = int(datetime(2099, 1, 1, tzinfo=UTC).timestamp() * 1000)
    role = world.repository.edit_targets(ESCO, world.now_ms)
    role.signed.unrecognized_fields[ISSUED] = instant_text(far)
    role.signed.expires = as_datetime(far)
    world.repository.save(ESCO, role)
    document = {"assignment": {"expires": instant_text(far + DAY), "issued": instant_text(far)}}
    world.sign_all()
    world.refresh()
    now, world.now_ms = world.now_ms, far
    raw = world.assign(document).raw
    world.now_ms = now
    world.give(raw)
    assert world.memory.floor == before
    assert Floor.__slots__ == ("at_ms", "keys")


def test_the_floor_does_not_fall_by_an_older_timestamp(world: World) -> None:
    before = world.files()
    world.tick(days=1)
    world.refresh()
    floor = world.memory.floor
    with pytest.raises(PolicyRefused):
        world.refresh(before)
    assert world.memory.floor == floor


def test_a_timestamp_without_a_signed_time_is_refused(world: World) -> None:
    present = world.repository.timestamp()
    assert present is not None
    files = world.files()
    del present.signed.unrecognized_fields[ISSUED]
    present.signed.version += 2
    refused(world, {**files, TIMESTAMP_FILE: signed(present, world.keys.timestamp.signer)}, Why.MALFORMED)


def test_expiry_is_judged_by_the_guarded_clock(world: World) -> None:
    """Holds the one private attribute of python-tuf in use: the system's clock is another one."""
    world.tick(days=300)
    renew(world.repository, ["targets", ESCO, AGGREGATOR], world.now_ms)
    world.sign_all()
    frozen = world.files()
    world.refresh(frozen)
    world.tick(days=20)
    refused(world, frozen, Why.EXPIRED)


# --- one entity's trouble is its own


def test_an_entity_whose_roster_ran_out_harms_nobody_else(world: World) -> None:
    world.tick(days=80)
    renew(world.repository, ["targets", AGGREGATOR], world.now_ms)
    world.sign_all()
    world.refresh()
    world.give(world.assign().raw)
    world.tick(days=12)
    world.refresh(world.change(grant("g-other", AGGREGATOR), name="aggr"))
    found = world.load()
    assert found is not None
    assert found.verified.expires_ms[ESCO] < world.now_ms < found.verified.expires_ms[AGGREGATOR]
    assert world.freshness() is Freshness.FRESH


def test_the_same_bundle_again_changes_nothing_on_the_disk(world: World) -> None:
    files = world.files()
    world.refresh(files)
    names = sorted(path.name for path in (world.folder / "gateway").iterdir())
    world.refresh(files)
    assert sorted(path.name for path in (world.folder / "gateway").iterdir()) == names


def test_a_file_system_without_second_names_is_good_enough(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(*given: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr("os.link", none)
    assert grant_ids(world.refresh(world.change(grant("g-wh"), grant("g-2")))) == ["g-wh", "g-2"]
    assert grant_ids(world.load()) == ["g-wh", "g-2"]


def test_a_bundle_is_the_same_bytes_for_the_same_files(world: World) -> None:
    files = world.files()
    assert pack(files) == pack(dict(reversed(files.items())))
    assert unpack(pack(files)) == files
