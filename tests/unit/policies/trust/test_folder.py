"""The folder of a gateway: each step of taking a policy by itself, and what stays when one of them fails.

What an attacker tries is in test_attacks; here a check that stands twice is shown without its twin.
"""

import errno
import os
import stat
from pathlib import Path

import pytest

from core.errors import StoreError, StoreFull
from policies.trust import folder as module
from policies.trust.ceremony import renew
from policies.trust.folder import Memory, PolicyFolder
from policies.trust.generations import CURRENT, Generations
from policies.trust.held import Held
from policies.trust.refusals import PolicyRefused, Why
from tests.support.policy_world import AGGREGATOR, ESCO, GATEWAY, T0, World, grant, grant_ids

TIMESTAMP_FILE = "metadata/timestamp.json"
REFRESH = ["staged", "updated", "filled", "verified"]
COMMIT = ["flushed", "named", "linked", "swapped", "pruned"]


@pytest.fixture
def world(tmp_path: Path) -> World:
    """A gateway that holds a policy with grant g-wh and an assignment."""
    world = World(tmp_path)
    world.refresh()
    world.give(world.assign().raw)
    return world


def current(world: World) -> Path:
    """Return the generation in force."""
    return (world.folder / "gateway" / CURRENT).resolve()


def refuses_all(found: Held) -> None:
    """Refuse whatever is signed."""
    raise PolicyRefused(Why.MALFORMED, "this software cannot read it")


def test_what_is_signed_and_cannot_be_used_is_not_put_in_force(world: World) -> None:
    strict = PolicyFolder(world.folder / "gateway", world.built_in, GATEWAY, refuses_all)
    before, assigned = current(world), world.assign().raw
    with pytest.raises(PolicyRefused, match="cannot read"):
        strict.refresh(world.change(grant("g-wh"), grant("g-2")), world.memory, world.now_ms)
    with pytest.raises(PolicyRefused, match="cannot read"):
        strict.assign(assigned, world.memory, world.now_ms)
    assert current(world) == before
    assert grant_ids(world.load()) == ["g-wh"]


def test_an_assignment_before_the_policy_is_told_to_be_early(world: World) -> None:
    with pytest.raises(PolicyRefused) as caught:
        world.new_gateway("fresh").assign(world.assign().raw, Memory(), world.now_ms)
    assert caught.value.why is Why.INCOMPLETE


def test_an_older_assignment_is_refused_by_the_one_on_the_disk_when_the_memory_was_lost(world: World) -> None:
    older = world.assign().raw
    newer = world.assign().raw
    world.give(newer)
    with pytest.raises(PolicyRefused) as caught:
        world.gateway.assign(older, Memory(), world.now_ms)
    assert caught.value.why is Why.ROLLBACK


def test_an_older_assignment_that_is_put_back_on_the_disk_does_not_count(world: World) -> None:
    older = world.assign().raw
    newer = world.give(world.assign().raw)
    assert newer.assignment is not None
    (current(world) / "assignment.json").write_bytes(older)
    found = world.gateway.load(world.memory)
    assert found is not None
    assert found.assignment is None
    assert "is older than" in found.refused


def test_the_same_assignment_again_writes_nothing(world: World) -> None:
    raw = world.assign().raw
    world.give(raw)
    before = current(world)
    world.give(raw)
    assert current(world) == before


def test_a_new_gateway_takes_a_policy_with_an_entity_whose_roster_has_run_out(world: World) -> None:
    world.tick(days=80)
    renew(world.repository, ["targets", AGGREGATOR], world.now_ms)
    world.sign_all()
    world.refresh()
    world.tick(days=12)
    files = world.change(grant("g-other", AGGREGATOR), name="aggr")
    found = world.new_gateway("fresh").refresh(files, Memory(), world.now_ms)
    assert found.verified.expires_ms[ESCO] < world.now_ms
    assert found.roster(ESCO) is not None


def test_a_timestamp_alone_renews_what_is_held(world: World) -> None:
    world.tick(minutes=60)
    made = world.publish()
    found = world.refresh({TIMESTAMP_FILE: made.timestamp})
    assert found.verified.issued_ms == world.now_ms > T0
    assert grant_ids(world.load()) == ["g-wh"]


def test_what_is_held_is_copied_where_the_file_system_has_no_second_names(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(*given: object) -> None:
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    monkeypatch.setattr(os, "link", none)
    world.tick(minutes=60)
    made = world.publish()
    assert world.refresh({TIMESTAMP_FILE: made.timestamp}).verified.issued_ms == world.now_ms
    assert grant_ids(world.load()) == ["g-wh"]


def test_a_document_that_just_fits_is_taken_and_one_byte_more_is_not(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = world.files()
    longest = max(len(content) for name, content in files.items() if name.startswith("targets/"))
    monkeypatch.setattr(module, "LONGEST_DOCUMENT", longest)
    assert grant_ids(world.new_gateway("a").refresh(files, Memory(), world.now_ms)) == ["g-wh"]
    monkeypatch.setattr(module, "LONGEST_DOCUMENT", longest - 1)
    with pytest.raises(PolicyRefused) as caught:
        world.new_gateway("b").refresh(files, Memory(), world.now_ms)
    assert caught.value.why is Why.INCOMPLETE


def test_documents_that_belong_to_the_policy_no_more_do_not_pile_up(world: World) -> None:
    for number in range(4):
        world.refresh(world.change(grant("g-wh"), grant(f"g-{number}")))
    found = world.load()
    assert found is not None
    assert len(list((current(world) / "targets").iterdir())) == len(found.verified.documents)


def test_a_damaged_document_is_not_written_over_where_another_generation_may_share_it(world: World) -> None:
    files = world.files()
    victim = max((current(world) / "targets").iterdir(), key=lambda one: one.stat().st_size)
    damaged = bytes(len(victim.read_bytes()))
    victim.write_bytes(damaged)
    shared = world.folder / "shared"
    os.link(victim, shared)
    world.refresh(files)
    assert shared.read_bytes() == damaged
    assert (current(world) / "targets" / victim.name).read_bytes() != damaged


def test_metadata_of_a_damaged_generation_still_forbids_to_go_back(world: World) -> None:
    """The newest of two generations counts, also when both have lost a document and nothing is remembered."""
    first = world.files()
    world.tick(minutes=1)
    second = world.change(grant("g-wh"), grant("g-2"))
    world.refresh(second)
    for generation in (world.folder / "gateway").glob("gen-*"):
        for document in (generation / "targets").iterdir():
            document.unlink()
    assert world.gateway.load(Memory()) is None
    with pytest.raises(PolicyRefused) as caught:
        world.gateway.refresh(first, Memory(), world.now_ms)
    assert caught.value.why is Why.ROLLBACK
    assert grant_ids(world.gateway.refresh(second, Memory(), world.now_ms)) == ["g-wh", "g-2"]


@pytest.mark.parametrize(("number", "kind"), [(errno.ENOSPC, StoreFull), (errno.EIO, StoreError)])
def test_a_disk_that_fails_is_told_as_what_it_is(
    world: World, monkeypatch: pytest.MonkeyPatch, number: int, kind: type[StoreError]
) -> None:
    def fails(*given: object) -> None:
        raise OSError(number, os.strerror(number))

    files = world.change(grant("g-wh"), grant("g-2"))
    monkeypatch.setattr(Path, "write_bytes", fails)
    with pytest.raises(StoreError) as caught:
        world.refresh(files)
    assert type(caught.value) is kind


# --- the steps, and what is on the disk before the next


def test_a_policy_and_an_assignment_go_through_their_steps_in_order(world: World) -> None:
    seen: list[str] = []
    folder = PolicyFolder(world.folder / "other", world.built_in, GATEWAY, at_step=seen.append)
    folder.refresh(world.files(), Memory(), world.now_ms)
    assert seen == REFRESH + COMMIT
    seen.clear()
    folder.assign(world.assign().raw, Memory(), world.now_ms)
    assert seen == ["verified", *COMMIT]


def test_everything_is_on_the_disk_before_it_is_named_and_each_name_before_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    flush = os.fsync

    def fsync(handle: int) -> None:
        said.append(Path(os.readlink(f"/proc/self/fd/{handle}")).relative_to(tmp_path.resolve()).as_posix())
        flush(handle)

    generations = Generations(tmp_path / "base", said.append)
    stage = generations.stage()
    (stage / "targets" / "a").write_bytes(b"a")
    (stage / "metadata" / "timestamp.json").write_bytes(b"{}")
    (stage / "metadata" / "root.json").symlink_to("nowhere")
    monkeypatch.setattr(os, "fsync", fsync)
    generations.commit()
    flushed, named = said.index("flushed"), said.index("named")
    assert set(said[:flushed]) == {
        "base/stage",
        "base/stage/metadata",
        "base/stage/metadata/root_history",
        "base/stage/metadata/timestamp.json",
        "base/stage/targets",
        "base/stage/targets/a",
    }
    assert said[flushed + 1 : named] == ["base"]
    assert said[named + 1 :] == ["linked", "base", "swapped", "pruned"]


def test_what_the_end_of_a_process_left_behind_is_taken_away_at_the_start(tmp_path: Path) -> None:
    base = tmp_path / "deep" / "base"
    generations = Generations(base)
    for number in (1, 2, 10):
        (generations.stage() / "targets" / str(number)).write_bytes(b"")
        (base / "stage").rename(base / f"gen-{number}")
    (base / CURRENT).symlink_to("gen-2")
    (base / "current.new").symlink_to("gen-10")
    generations.stage()
    again = Generations(base)
    assert {path.name for path in base.iterdir()} == {CURRENT, "gen-2", "gen-10"}
    assert [path.name for path in again.newest_first()] == ["gen-2", "gen-10"]


def test_a_stage_is_empty_whatever_was_left_in_it(tmp_path: Path) -> None:
    generations = Generations(tmp_path)
    (generations.stage() / "targets" / "old").write_bytes(b"")
    assert list((generations.stage() / "targets").iterdir()) == []


def test_nobody_else_reads_the_folder(tmp_path: Path) -> None:
    base = tmp_path / "base"
    stage = Generations(base).stage()
    assert stat.S_IMODE(base.stat().st_mode) == 0o700
    assert stat.S_IMODE((stage / "targets").stat().st_mode) == 0o700
    assert stat.S_IMODE((stage / "metadata" / "root_history").stat().st_mode) == 0o700


def test_generations_are_counted_as_numbers_and_two_are_kept(tmp_path: Path) -> None:
    generations = Generations(tmp_path)
    for _ in range(11):
        generations.stage()
        generations.commit()
    assert [path.name for path in generations.newest_first()] == ["gen-11", "gen-10"]
    assert sorted(path.name for path in tmp_path.iterdir()) == [CURRENT, "gen-10", "gen-11"]


def test_a_link_to_nowhere_is_no_generation(tmp_path: Path) -> None:
    generations = Generations(tmp_path)
    generations.stage()
    generations.commit()
    (tmp_path / CURRENT).unlink()
    (tmp_path / CURRENT).symlink_to("gen-7")
    (tmp_path / "gen-8").write_bytes(b"a file")
    assert [path.name for path in generations.newest_first()] == ["gen-1"]


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StoreError, match="cannot be made"):
        Generations(tmp_path / "file")


def test_what_cannot_be_taken_away_does_not_keep_a_policy_from_being_put_in_force(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    generations = Generations(tmp_path)
    for _ in range(2):
        generations.stage()
        generations.commit()

    def fails(*given: object, **more: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    generations.stage()
    with monkeypatch.context() as patch:
        patch.setattr(os, "rmdir", fails)
        generations.commit()
        generations.discard()
    assert [path.name for path in generations.newest_first()] == ["gen-3", "gen-2", "gen-1"]


def test_no_file_is_left_open(tmp_path: Path) -> None:
    generations = Generations(tmp_path)
    (generations.stage() / "targets" / "a").write_bytes(b"a")
    before = len(list(Path("/proc/self/fd").iterdir()))
    generations.commit()
    assert len(list(Path("/proc/self/fd").iterdir())) == before
