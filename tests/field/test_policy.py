"""A policy on its way: typed, published to a real mosquitto, taken by an agent; and kill -9 between."""

import json
import multiprocessing
import os
import signal
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli.plans import GatewayPlan, StandPlan
from cli.policy import app
from cli.stand import Stand
from core.errors import Rejected
from policies.trust.folder import Memory, PolicyFolder
from policies.trust.inforce import Readings
from tests.support.policy_world import GATEWAY, World, grant, grant_ids

pytestmark = pytest.mark.field

DEADLINE_S = 60.0
SERVICE = "policy.example"
EXAMPLES = Path("policies/examples")
STEPS = ("staged", "updated", "filled", "verified", "flushed", "named", "linked", "swapped", "pruned")


def wait_for(condition: Callable[[], bool], what: str) -> None:
    """Wait for a condition, or fail with what it was."""
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def typed(*arguments: str | Path) -> dict[str, object]:
    """Type a `portico policy` command and return what it says."""
    result = CliRunner().invoke(app, [*map(str, arguments), "--json"])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    found: dict[str, object] = json.loads(result.stdout)
    return found


class Site:
    """A whole Portico, and the utility's folder with a policy in force."""

    def __init__(self, directory: Path) -> None:
        self.base = directory / "policy"
        typed("init", self.base, "--utility", "dso.example", "--zone", "America/New_York")
        for entity in ("dso.example", "esco1", "aggr1"):
            typed("add-entity", self.base, entity)
        typed("grant", self.base, EXAMPLES / "policy.toml", "--name", "example")
        for entity, file in (("dso.example", "dso"), ("esco1", "esco1"), ("aggr1", "aggr1")):
            typed("add-entity", self.base, entity, "--roster", EXAMPLES / f"roster-{file}.toml")
        self.sign("targets-1", "targets-2", "dso.example-1", "esco1-1", "aggr1-1")
        typed("publish", self.base)
        typed("assign", self.base, "gw-0001", EXAMPLES / "assignment-gw-0001.toml")
        policy = f'[policy]\nroot = "{self.base / "root.json"}"\n'
        self.stand = Stand(
            directory / "stand", StandPlan(gateways=(GatewayPlan(tables=policy),), policy_service=SERVICE)
        )
        self.url = f"mqtts://127.0.0.1:{self.stand.broker_port}"

    def sign(self, *names: str) -> None:
        """Sign with some of the keys."""
        keys = [part for name in names for part in ("--key", self.base / "keys" / f"{name}.key")]
        typed("sign", self.base, *keys)

    def publish(self, identity: str = SERVICE) -> dict[str, object]:
        """Publish to the broker, with somebody's certificate."""
        certs = self.stand.authority.directory
        identify = ("--ca", certs / "ca.pem", "--cert", certs / f"{identity}.pem")
        key = ("--cert-key", certs / f"{identity}.key")
        return typed("publish", self.base, "--broker", self.url, *identify, *key)

    def held(self) -> dict[str, object]:
        """Return what the agent's status says of the policy."""
        found = self.stand.agent.status().get("policy")
        return found if isinstance(found, dict) else {}


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def test_a_policy_that_is_published_is_held_by_the_agent_and_outlasts_the_broker(site: Site) -> None:
    with site.stand as stand:
        wait_for(lambda: site.held().get("freshness") == "no_policy", "the agent says that it has no policy")
        published = site.publish()
        wait_for(lambda: site.held().get("freshness") == "fresh", "the agent holds the policy")
        held = site.held()
        assert (held["version"], held["snapshot"], held["assignment"]) == (
            published["policy"],
            published["snapshot"],
            1,
        )
        assert "1 of 3 messages" in str(site.publish()["did"])  # the timestamp: nothing else is new
        typed("assign", site.base, "gw-0001", "--again")
        assert "2 of 3 messages" in str(site.publish()["did"])
        wait_for(lambda: site.held().get("assignment") == 2, "the second assignment comes")
        stand.broker.stop()
        stand.agent.kill9()
        stand.agent.start()
        wait_for(lambda: site.held().get("freshness") == "fresh", "it is there without a broker")
        assert site.held()["assignment"] == 2
        stand.broker.start()
        wait_for(lambda: _state(stand).get("assignment") == "2", "the head-end hears which is held")
        assert _state(stand)["policy"] == "2"
        assert _told(stand)["freshness"] == "fresh"


def test_nobody_but_the_policy_service_may_publish(site: Site) -> None:
    with site.stand, pytest.raises(Rejected, match="needs the right"):
        site.publish("dso.example")


def _state(stand: Stand) -> dict[str, object]:
    """Return what the head-end's books say that the gateway said of itself."""
    with closing(sqlite3.connect(stand.collector.books_path)) as books:
        row = books.execute("SELECT state FROM gateway WHERE gateway = ?", (GATEWAY,)).fetchone()
    return {} if row is None or row[0] is None else dict(json.loads(row[0]))


def _told(stand: Stand) -> dict[str, object]:
    found = _state(stand)["x"]
    assert isinstance(found, dict)
    return dict(found["policy"])


# --- kill -9 at every step between staging and swap


def _refreshing(folder: Path, world: World, files: dict[str, bytes], step: str) -> None:
    """Refresh in a process of its own that dies at a step."""

    def die(done: str) -> None:
        if done == step:
            os.kill(os.getpid(), signal.SIGKILL)

    gateway = PolicyFolder(folder, world.built_in, GATEWAY, Readings().check, die)
    gateway.refresh(files, world.memory, world.now_ms)


def _assigning(folder: Path, world: World, raw: bytes, step: str) -> None:
    def die(done: str) -> None:
        if done == step:
            os.kill(os.getpid(), signal.SIGKILL)

    PolicyFolder(folder, world.built_in, GATEWAY, Readings().check, die).assign(
        raw, world.memory, world.now_ms
    )


@pytest.mark.parametrize("step", STEPS)
def test_killed_at_a_step_of_a_refresh_the_old_or_the_new_is_whole(tmp_path: Path, step: str) -> None:
    world = World(tmp_path)
    world.refresh()
    world.give(world.assign().raw)
    before = world.load()
    files = world.change(grant("g-wh"), grant("g-2"))
    folder = tmp_path / "gateway"
    process = multiprocessing.get_context("fork").Process(
        target=_refreshing, args=(folder, world, files, step)
    )
    process.start()
    process.join(DEADLINE_S)
    assert process.exitcode == -signal.SIGKILL
    found = PolicyFolder(folder, world.built_in, GATEWAY, Readings().check).load(Memory())
    swapped = STEPS.index(step) >= STEPS.index("swapped")
    assert grant_ids(found) == (["g-wh", "g-2"] if swapped else ["g-wh"])
    assert found is not None
    assert found.assignment is not None
    if not swapped:
        assert found == before
    again = PolicyFolder(folder, world.built_in, GATEWAY, Readings().check)
    assert grant_ids(again.refresh(files, world.memory, world.now_ms)) == ["g-wh", "g-2"]
    assert sorted(path.name.partition("-")[0] for path in folder.iterdir()) == ["current", "gen", "gen"]


@pytest.mark.parametrize("step", [one for one in STEPS if one not in ("staged", "updated", "filled")])
def test_killed_at_a_step_of_an_assignment_the_old_or_the_new_is_whole(tmp_path: Path, step: str) -> None:
    world = World(tmp_path)
    world.refresh()
    world.give(world.assign().raw)
    second = world.assign().raw
    folder = tmp_path / "gateway"
    process = multiprocessing.get_context("fork").Process(
        target=_assigning, args=(folder, world, second, step)
    )
    process.start()
    process.join(DEADLINE_S)
    assert process.exitcode == -signal.SIGKILL
    found = world.load()
    assert found is not None
    assert found.versions.assignment == (2 if STEPS.index(step) >= STEPS.index("swapped") else 1)
    assert world.give(second).versions.assignment == 2
