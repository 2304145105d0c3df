"""What a set must be beside well signed: in its bounds, in its places, handed on as it should be."""

from collections.abc import Callable
from pathlib import Path

import pytest
from tuf.api.metadata import DelegatedRole, Delegations, SuccinctRoles, TargetFile, Targets

from policies.trust import verified as module
from policies.trust.bounds import (
    ASSIGNMENT_KEYS_PATH,
    POLICY_PATH,
    entity_fault,
    is_in,
    is_repository_name,
    longest,
    root_version_of,
)
from policies.trust.bundle import LONGEST_TOTAL, pack
from policies.trust.ceremony import add_entity
from policies.trust.generations import read_bounded
from policies.trust.publishing import verify_files
from policies.trust.refusals import PolicyRefused, Why
from policies.trust.verified import Verified, document_file
from tests.support.policy_world import ESCO, World, pair


def proved(world: World) -> Verified:
    """Verify what is published, as it is."""
    return verify_files(world.files(), world.built_in)


def signed_targets(world: World, change: Callable[[Targets], object]) -> None:
    """Change the utility's list in a way that no command would, signed by all."""
    targets = world.repository.edit_targets("targets", world.now_ms)
    change(targets.signed)
    world.repository.save("targets", targets)
    world.sign_all()


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_what_is_published_is_proved_with_all_its_parts(world: World) -> None:
    found = proved(world)
    assert set(found.versions) == {"root", "timestamp", "snapshot", "targets", "esco1", "aggr1"}
    assert found.entities == ("esco1", "aggr1")
    assert found.version == 1
    assert set(found.documents) == {
        POLICY_PATH,
        ASSIGNMENT_KEYS_PATH,
        "entities/esco1/roster.json",
        "entities/esco1/agreed.json",
        "entities/aggr1/roster.json",
        "entities/aggr1/agreed.json",
    }
    assert found.issued_ms == world.now_ms
    assert found.timestamp_keys == {world.keys.timestamp.public.keyid}


@pytest.mark.parametrize(
    ("paths", "terminating"),
    [
        (["entities/esco1/*", "policy/*"], True),
        (["entities/*/*"], True),
        (["*"], True),
        (["entities/aggr1/*"], True),
        (["entities/esco1/*"], False),
    ],
)
def test_an_entity_to_whom_more_is_handed_than_its_folder_refuses_the_set(
    world: World, paths: list[str], terminating: bool
) -> None:
    def hand(targets: Targets) -> None:
        assert targets.delegations is not None
        assert targets.delegations.roles is not None
        keyids = targets.delegations.roles[ESCO].keyids
        targets.delegations.roles[ESCO] = DelegatedRole(ESCO, keyids, 1, terminating, paths)

    signed_targets(world, hand)
    with pytest.raises(PolicyRefused, match="more than its own folder") as caught:
        world.publish()
    assert caught.value.why is Why.OUTSIDE


def test_hash_bins_are_not_used(world: World) -> None:
    key = pair("bin").public

    def hand(targets: Targets) -> None:
        bins = SuccinctRoles([key.keyid], 1, 2, "bin")
        targets.delegations = Delegations({key.keyid: key}, None, bins)

    signed_targets(world, hand)
    with pytest.raises(PolicyRefused, match="hash bins"):
        world.publish()


def test_more_entities_than_there_is_room_for_are_refused(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = world.files()
    monkeypatch.setattr(module, "MOST_ENTITIES", 1)
    with pytest.raises(PolicyRefused) as caught:
        verify_files(files, world.built_in)
    assert caught.value.why is Why.TOO_LARGE
    monkeypatch.setattr(module, "MOST_ENTITIES", 2)
    verify_files(files, world.built_in)


def test_more_documents_than_there_is_room_for_are_refused(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = world.files()
    monkeypatch.setattr(module, "MOST_DOCUMENTS", 5)
    with pytest.raises(PolicyRefused, match="more than 5 documents"):
        verify_files(files, world.built_in)
    monkeypatch.setattr(module, "MOST_DOCUMENTS", 6)
    verify_files(files, world.built_in)


def test_documents_share_one_room(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    files = world.files()
    size = sum(map(len, proved(world).documents.values()))
    asked: list[int] = []
    names = {name.rpartition("/")[2].partition(".")[0]: name for name in files}

    def read(name: str, most: int) -> bytes | None:
        asked.append(most)
        if name.startswith("targets/"):
            return files[names[name.rpartition("/")[2]]]
        if name.startswith("root_history/"):
            return None
        role = name.removesuffix(".json")
        found = [one for one in files if one.endswith(f".{role}.json") or one == f"metadata/{name}"]
        return files[max(found)]

    monkeypatch.setattr(module, "LONGEST_TOTAL", size)
    module.verify_set(read, world.built_in)
    assert min(asked) < size // 2  # what was read already is no room any more


def test_a_document_without_sha256_is_refused() -> None:
    target = TargetFile.from_data("policy/x.json", b"x", ["sha512"])
    with pytest.raises(PolicyRefused, match="no SHA-256"):
        document_file("policy/x.json", target)
    for digest in ("", "0" * 63, "G" * 64, "../" + "0" * 61):
        with pytest.raises(PolicyRefused):
            document_file("policy/x.json", TargetFile(1, {"sha256": digest}, "policy/x.json"))


@pytest.mark.parametrize("raw", [b"", b"{}", b"[]", b"\xff", b"[" * 60_000])
def test_a_root_that_is_none_is_refused(world: World, raw: bytes) -> None:
    with pytest.raises(PolicyRefused, match="root that is built in"):
        verify_files(world.files(), raw)


def test_metadata_of_another_type_in_its_place_is_refused(world: World) -> None:
    with pytest.raises(PolicyRefused):
        verify_files(world.files(), world.repository.raw("targets", 1))


def test_an_entity_that_has_not_published_yet_has_nobody(world: World) -> None:
    add_entity(world.repository, "late", "esco", [pair("late-1").public], 1, world.now_ms)
    world.sign_all()
    found = proved(world)
    assert "late" in found.entities
    assert "late" not in found.versions
    assert world.refresh().roster("late") is None


@pytest.mark.parametrize(
    ("path", "folder", "inside"),
    [
        ("policy/policy.json", "policy/", True),
        ("policy/a/b.json", "policy/", False),
        ("policy/.json", "policy/", False),
        ("policy/../x.json", "policy/", False),
        ("policy/X.json", "policy/", False),
        ("policyx/a.json", "policy/", False),
        ("policy/a.json\n", "policy/", False),
        (f"policy/{'a' * 41}.json", "policy/", False),
    ],
)
def test_a_document_lies_in_its_folder_itself_or_nowhere(path: str, folder: str, inside: bool) -> None:
    assert is_in(path, folder) is inside


def test_names_of_entities_that_are_roles_or_files_are_refused() -> None:
    for name in ("root", "targets", "snapshot", "timestamp", "1.root", "", "a/b", "-a", "a" * 65):
        assert entity_fault(name), name
    assert entity_fault("esco.example") is None
    assert entity_fault("root1") is None
    assert root_version_of("2.root.json") == 2
    assert root_version_of("02.root.json") is None
    assert root_version_of("2.1.root.json") is None


def test_sizes_go_by_the_kind_of_file() -> None:
    kinds = [
        "metadata/timestamp.json",
        "metadata/1.root.json",
        "metadata/1.snapshot.json",
        "metadata/1.x.json",
    ]
    sizes = [longest(name) for name in [*kinds, f"targets/policy/{'0' * 64}.policy.json"]]
    assert sizes == sorted(sizes)
    assert len(set(sizes)) == 5
    assert all(is_repository_name(name) for name in kinds)


def test_a_bundle_that_nobody_could_take_is_not_made() -> None:
    big = {f"targets/policy/{number:064x}.policy.json": bytes(LONGEST_TOTAL // 4) for number in range(5)}
    with pytest.raises(ValueError, match="at most"):
        pack(big)
    with pytest.raises(ValueError, match="no file of a bundle"):
        pack({"../x": b""})


def test_a_file_is_read_up_to_its_bound(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"12345")
    assert read_bounded(path, 5) == b"12345"
    assert read_bounded(tmp_path / "none", 5) is None
    assert read_bounded(path / "below", 5) is None
    with pytest.raises(PolicyRefused):
        read_bounded(path, 4)
    with pytest.raises(PolicyRefused):
        read_bounded(tmp_path, 4)
