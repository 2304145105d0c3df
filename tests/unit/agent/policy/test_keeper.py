"""The keeper: what comes is taken or told, what is held outlasts everything, and time is judged."""

import asyncio
import contextlib
import json
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from itertools import pairwise
from pathlib import Path

import pytest

from agent.clock import Clock
from agent.policy.keeper import ALARMS, KeeperOptions, PolicyKeeper, built_in_root
from agent.policy.note import decode, encode
from agent.policy.post import Post, policy_topics
from agent.policy.told import with_policy
from core.codec import decode_state, encode_plain
from core.errors import ConfigError
from core.records import State
from core.topics import assign_topic, policy_bundle_topic, policy_timestamp_topic
from policies.trust.bounds import LONGEST_BUNDLE
from policies.trust.ceremony import renew
from policies.trust.floor import Floor
from policies.trust.folder import Memory
from policies.trust.freshness import Freshness
from policies.trust.publishing import Publication, write_publication
from policies.trust.spool import Place
from tests.support.policy_world import DAY, ESCO, GATEWAY, World, grant

BUNDLE, TIMESTAMP = policy_bundle_topic("main"), policy_timestamp_topic("main")
DEADLINE_S = 20.0


class TurnedClock(Clock):
    """A clock that a test turns; its state is what the test says."""

    def __init__(self, world: World) -> None:
        super().__init__(trusted=True)
        self.world = world
        self.sure = True

    def now_ms(self) -> int:
        return self.world.now_ms

    def state(self) -> str:
        return "synchronised" if self.sure else "unsure"


class Told:
    """Everything that a keeper tells."""

    def __init__(self) -> None:
        self.alarms: dict[str, str] = {}
        self.audited: list[tuple[str, dict[str, object]]] = []
        self.note = ""
        self.changes = 0

    def remember(self, note: str) -> None:
        self.note = note

    def audit(self, kind: str, body: dict[str, object]) -> None:
        self.audited.append((kind, body))

    def alarm(self, code: str, raised: bool, text: str) -> None:
        if raised:
            self.alarms.setdefault(code, text)
        else:
            self.alarms.pop(code, None)

    def changed(self) -> None:
        self.changes += 1


class Box:
    """A gateway's keeper that runs."""

    def __init__(
        self, world: World, base: Path, memory: Memory | None = None, stick: Path | None = None
    ) -> None:
        self.world = world
        self.clock = TurnedClock(world)
        self.told = Told()
        self.post = Post(policy_topics(GATEWAY, "main"))
        options = KeeperOptions(base, world.built_in, GATEWAY, stick, look_s=0.05, settle_s=0.02)
        self.keeper = PolicyKeeper(options, memory or Memory(), self.clock, self.post, self.told)

    def hear(self, topic: str, payload: bytes) -> None:
        """A message comes."""
        self.post.heard(topic, payload, True)

    def hear_all(self) -> None:
        """All that is retained comes, the timestamp first."""
        made = self.world.publish()
        self.hear(TIMESTAMP, made.timestamp)
        self.hear(BUNDLE, made.bundle)
        for gateway, raw in made.assignments.items():
            self.hear(assign_topic(gateway), raw)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait for a condition."""
        async with asyncio.timeout(DEADLINE_S):
            while not condition():  # noqa: ASYNC110  what is waited for is on a disk and in a thread
                await asyncio.sleep(0.01)

    async def fresh(self) -> None:
        """Wait until the policy is fresh."""
        await self.until(lambda: self.keeper.freshness is Freshness.FRESH)


@contextlib.asynccontextmanager
async def running(box: Box) -> AsyncIterator[Box]:
    """Let a keeper run inside the block."""
    async with asyncio.TaskGroup() as group:
        task = group.create_task(box.keeper.run(), name="keeper")
        try:
            await box.until(box.keeper.loaded.is_set)
            yield box
        finally:
            task.cancel()


@pytest.fixture
def world(tmp_path: Path) -> World:
    """A utility with an assignment for the gateway."""
    world = World(tmp_path)
    world.assign()
    return world


async def test_what_is_retained_is_taken_whatever_comes_first(world: World, tmp_path: Path) -> None:
    async with running(Box(world, tmp_path / "box")) as box:
        assert box.keeper.freshness is Freshness.NO_POLICY
        assert ALARMS[Freshness.NO_POLICY] in box.told.alarms
        box.hear_all()
        await box.fresh()
        assert box.told.alarms == {}
        assert box.keeper.versions.assignment == 1
        assert box.keeper.book is not None
        assert [row.grant.id for row in box.keeper.book.permits] == ["g-wh"]


async def test_it_is_there_after_a_restart_without_a_connection(world: World, tmp_path: Path) -> None:
    async with running(Box(world, tmp_path / "box")) as box:
        box.hear_all()
        await box.fresh()
        note = box.told.note
    world.tick(days=13)
    async with running(Box(world, tmp_path / "box", decode(note))) as again:
        assert again.keeper.freshness is Freshness.FRESH
        assert again.keeper.versions == box.keeper.versions
        world.tick(days=1)
        await again.until(lambda: again.keeper.freshness is Freshness.STALE)
        assert list(again.told.alarms) == [ALARMS[Freshness.STALE]]
        world.tick(days=30)
        await again.until(lambda: again.keeper.freshness is Freshness.EXPIRED)
        assert list(again.told.alarms) == [ALARMS[Freshness.EXPIRED]]


async def test_a_stick_brings_it_where_there_is_no_network(world: World, tmp_path: Path) -> None:
    stick = tmp_path / "stick"
    async with running(Box(world, tmp_path / "box", stick=stick)) as box:
        write_publication(world.publish(), stick)
        await box.fresh()
        shutil.rmtree(stick)
        write_publication(_changed(world), stick)
        await box.until(lambda: box.keeper.versions.policy == 2)


def _changed(world: World) -> Publication:
    world.change(grant("g-wh"), grant("g-2"))
    return world.publish()


async def test_a_stick_that_is_left_behind_is_no_alarm(world: World, tmp_path: Path) -> None:
    stick = tmp_path / "stick"
    write_publication(world.publish(), stick)
    async with running(Box(world, tmp_path / "box", stick=stick)) as box:
        await box.fresh()
        world.tick(days=1)
        world.change(grant("g-wh"), grant("g-2"))
        box.hear_all()
        await box.until(lambda: box.keeper.versions.policy == 2)
        await box.fresh()
        assert "policy-refused" not in box.told.alarms


async def test_a_refused_policy_is_an_alarm_once_and_in_the_audit_with_its_reason(
    world: World, tmp_path: Path
) -> None:
    async with running(Box(world, tmp_path / "box")) as box:
        old = world.publish()
        world.tick(days=1)
        box.hear_all()
        await box.fresh()
        box.hear(BUNDLE, old.bundle)
        box.hear(TIMESTAMP, old.timestamp)
        await box.until(lambda: "policy-refused" in box.told.alarms)
        assert "rollback" in box.told.alarms["policy-refused"]
        refused = [body for kind, body in box.told.audited if kind == "policy-refused"]
        assert [(one["what"], one["why"], one["source"]) for one in refused] == [
            ("policy", "rollback", "mqtt")
        ]
        assert box.keeper.freshness is Freshness.FRESH
        box.hear_all()
        await box.until(lambda: "policy-refused" not in box.told.alarms)


async def test_a_refused_assignment_is_an_alarm_of_its_own(world: World, tmp_path: Path) -> None:
    async with running(Box(world, tmp_path / "box")) as box:
        first = world.publish().assignments[GATEWAY]
        world.assign({"opt_out": [{"device": "wh-01"}]})
        box.hear_all()
        await box.until(lambda: box.keeper.versions.assignment == 2)
        box.hear(assign_topic(GATEWAY), first)
        await box.until(lambda: "assignment-refused" in box.told.alarms)
        assert "policy-refused" not in box.told.alarms
        assert box.keeper.versions.assignment == 2


async def test_garbage_and_oversize_change_nothing(world: World, tmp_path: Path) -> None:
    async with running(Box(world, tmp_path / "box")) as box:
        box.hear_all()
        await box.fresh()
        box.hear(BUNDLE, bytes(LONGEST_BUNDLE + 1))
        assert box.post.too_long == 1
        assert not box.post.news.is_set()
        box.hear(BUNDLE, b"garbage")
        box.hear(assign_topic(GATEWAY), b"[" * 1000)
        await box.until(lambda: {"assignment-refused"} <= set(box.told.alarms))
        assert box.keeper.freshness is Freshness.FRESH


async def test_a_flood_of_forgeries_is_looked_at_ever_more_rarely(world: World, tmp_path: Path) -> None:
    async with running(Box(world, tmp_path / "box")) as box:
        box.hear_all()
        await box.fresh()
        looks: list[float] = []
        loop = asyncio.get_running_loop()
        take = box.post.take

        def noted() -> dict[Place, bytes]:
            waiting = take()
            if waiting:
                looks.append(loop.time())
            return waiting

        box.post.take = noted  # type: ignore[method-assign]
        number = 0

        def flooded() -> bool:
            nonlocal number
            number += 1
            box.hear(BUNDLE, b"forged %d" % number)
            return len(looks) >= 6

        await box.until(flooded)
        pauses = [later - earlier for earlier, later in pairwise(looks)]
        # A slow machine makes pauses longer, never shorter.
        assert all(pause >= 0.02 * 2**times for times, pause in enumerate(pauses))
        assert number > 2 * len(looks)
        assert box.keeper.freshness is Freshness.FRESH


async def test_a_topic_that_is_emptied_takes_nothing_away(world: World, tmp_path: Path) -> None:
    async with running(Box(world, tmp_path / "box")) as box:
        box.hear_all()
        await box.fresh()
        for topic in (BUNDLE, TIMESTAMP, assign_topic(GATEWAY), "portico/v1/other"):
            box.hear(topic, b"")
        assert box.post.take() == {}


async def test_an_unsure_clock_is_told_and_heals(world: World, tmp_path: Path) -> None:
    async with running(Box(world, tmp_path / "box")) as box:
        box.hear_all()
        await box.fresh()
        box.clock.sure = False
        await box.until(lambda: box.keeper.freshness is Freshness.CLOCK_UNSURE)
        box.clock.sure = True
        await box.fresh()
        world.tick(days=-2)
        await box.until(lambda: box.keeper.freshness is Freshness.CLOCK_UNSURE)
        assert box.keeper.floor.at_ms == world.now_ms + 2 * DAY


async def test_the_floor_is_remembered_beside_the_folder(world: World, tmp_path: Path) -> None:
    async with running(Box(world, tmp_path / "box")) as box:
        box.hear_all()
        await box.fresh()
        note = box.told.note
    old = world.publish()
    world.tick(days=1)
    async with running(Box(world, tmp_path / "box", decode(note))) as box:
        box.hear_all()
        await box.until(lambda: box.keeper.floor.at_ms == world.now_ms)
        note = box.told.note
    shutil.rmtree(tmp_path / "box")
    async with running(Box(world, tmp_path / "box", decode(note))) as box:
        box.hear(BUNDLE, old.bundle)
        box.hear(TIMESTAMP, old.timestamp)
        await box.until(lambda: "policy-refused" in box.told.alarms)
        assert box.keeper.freshness is Freshness.NO_POLICY


async def test_each_change_is_in_the_audit_and_told_to_who_hears_the_state(
    world: World, tmp_path: Path
) -> None:
    async with running(Box(world, tmp_path / "box")) as box:
        box.hear_all()
        await box.fresh()
        last = [body for kind, body in box.told.audited if kind == "policy"][-1]
        assert (last["version"], last["assignment"], last["freshness"]) == (1, 1, "fresh")
        changes = box.told.changes
        renew(world.repository, [ESCO], world.now_ms)
        world.sign_all()
        box.hear_all()
        await box.until(lambda: box.keeper.versions.snapshot == 2)
        assert box.told.changes > changes


@pytest.mark.parametrize("broken", ["open", "write_bytes"])
async def test_a_disk_that_fails_is_told_and_nothing_is_lost_by_it(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    async with running(Box(world, tmp_path / "box")) as box:
        box.hear_all()
        await box.fresh()
        world.change(grant("g-wh"), grant("g-2"))
        made = world.publish()
        whole = getattr(Path, broken)

        def full(self: Path, *given: object, **more: object) -> object:
            if tmp_path / "box" in self.parents and given != ("rb",):
                raise OSError(28, "No space left on device")
            return whole(self, *given, **more)

        with monkeypatch.context() as patch:
            patch.setattr(Path, broken, full)
            box.hear(BUNDLE, made.bundle)
            box.hear(TIMESTAMP, made.timestamp)
            await box.until(lambda: "policy-unkept" in box.told.alarms)
            assert box.keeper.freshness is Freshness.FRESH
            assert box.keeper.versions.policy == 1
        await box.until(lambda: box.keeper.versions.policy == 2)  # nobody sends it again
        assert "policy-unkept" not in box.told.alarms


def test_the_note_says_what_it_was_told_and_nonsense_says_nothing() -> None:
    memory = Memory(Floor(7, frozenset({"b", "a"})), None)
    assert decode(encode(memory)) == memory
    assert json.loads(encode(memory))["keys"] == ["a", "b"]
    for note in ("", "[]", '{"floor_ms":"x"}', "{"):
        assert decode(note) == Memory()


def test_the_state_names_the_versions_in_its_place_to_grow(world: World) -> None:
    found = world.refresh()
    state = State(v=1, gateway=GATEWAY, online=True)
    told = decode_state(encode_plain(with_policy(state, found.versions, Freshness.FRESH)))
    assert (told.policy, told.assignment) == ("1", "")
    assert told.x == {
        "policy": {"freshness": "fresh", "root": 1, "version": 1, "snapshot": 1, "timestamp": 2}
    }


@pytest.mark.parametrize("content", [None, b"", b"{}", b'{"signed":{"_type":"targets"}}'])
def test_a_root_that_is_none_is_told_before_anything_starts(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "root.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"root\.json"):
        built_in_root(path)


def test_a_gateway_without_a_policy_does_not_load_what_verifies_one() -> None:
    told = subprocess.run(
        [
            sys.executable,
            "-c",
            "import agent.serving, sys; print('tuf' in sys.modules, 'urllib3' in sys.modules)",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    assert told.stdout.split() == ["False", "False"]
