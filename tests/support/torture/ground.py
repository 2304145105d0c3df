"""The ground of a torture: one long-lived stand, what can be done to it, and what was seen of it.

Everything runs as processes (`cli.stand`); the gateway's data lie on a file system of their own where that
can be had, its clock and the flushes of its disk can be bent where the libraries for it are there. What a
store held is looked at before it is changed from outside, so that nothing committed is forgotten.

Not here: which misfortunes there are (`tests.support.torture.misfortunes`), what must hold after them
(`tests.torture`).
"""

import random
import shutil
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from cli.evidence import BooksSeen, Identity, read_books
from cli.gathered import Evidence
from cli.plans import BrokerPlan, CollectorPlan, GatewayPlan, RoutePlan, StandPlan
from cli.process import ProcessFailed, wait_until
from cli.stand import CollectorProcess, Stand
from core.ownership import owners_at
from tests.support.cbuild import BuildUnavailable, build
from tests.support.torture.fullable_disk import FullableDisk, why_not

GATEWAY: Final = "gw-0001"
ENTITIES: Final = ("dso.example", "customer.example")
ABSENT: Final = "absent.example"
"""An entity without a collector: what waits for it stays in the store."""
FAKETIME: Final = "*/faketime/libfaketimeMT.so.1"
SLOWSYNC: Final = Path(__file__).resolve().parents[2] / "peers" / "slowsync.c"
START_S: Final = 30.0
SETTLE_S: Final = 40.0
QUICKEST_MS: Final = 200
"""Interval of counter-a."""
BOUND_ALLOWANCE_MS: Final = 1_000
"""For a poll on a busy machine, and a commit under way that takes longer than any before."""
BROKER: Final = BrokerPlan(autosave_s=2)
SMALL_QUEUES: Final = replace(BROKER, max_queued_messages=20, max_inflight_messages=5)
FORGETFUL: Final = replace(BROKER, persistence=False)

SCENARIO: Final = """
name = "torture"
seed = 7

[[premises]]
name = "home"
people = 3
water_heater_w = 2_000

[[premises.line]]
name = "one"

[[premises.line]]
name = "two"

[[premises.device]]
name = "main-meter"
type = "eastron-sdm630"
line = "one"
unit_id = 1

[[premises.device]]
name = "counter-a"
type = "simulator-counter"
line = "one"
unit_id = 2

[[premises.device]]
name = "heater-relay"
type = "generic-load-relay"
line = "two"
unit_id = 1
controls = ["water-heater"]

[[premises.device]]
name = "counter-b"
type = "simulator-counter"
line = "two"
unit_id = 2
"""

JOINT_POINTS: Final = f"""
[[device.override]]
points = ["PhVphA", "PhVphB", "PhVphC"]
data_owners = ["{ENTITIES[0]}", "{ENTITIES[1]}"]
"""


@dataclass(frozen=True, slots=True)
class Means:
    """What this machine offers; a sentence where it does not."""

    disk: str | None
    clock: str | None
    slow: str | None


class Ground:
    """A stand under torture. As a context manager everything runs inside the block."""

    def __init__(self, directory: Path, rng: random.Random) -> None:
        self.directory: Final = directory.resolve()
        self.rng: Final = rng
        self.evidence: Final = Evidence()
        self._clock_file: Final = self.directory / "clock"
        self._slow_file: Final = self.directory / "slow"
        self.slowsync, slow = _slowsync()
        self.faketime = next(Path("/usr/lib").glob(FAKETIME), None)
        clock = None if self.faketime else "a clock that jumps needs libfaketime: apt-get install libfaketime"
        self.means: Final = Means(why_not(), clock, slow)
        self.disk: Final = None if self.means.disk else FullableDisk(self.directory / "disk")
        self._set(self._clock_file, "+0")
        self._set(self._slow_file, "0")
        scenario = self.directory / "scenario.toml"
        scenario.write_text(SCENARIO)
        self.stand: Final = Stand(self.directory, _plan(scenario, self.disk))
        self._broker_plan = BROKER
        self.agent: Final = self.stand.agent
        self._env(faked=False)
        self.said: Final[list[str]] = []
        """What happened, for the reader of a failure."""
        self.unexpected: Final[list[str]] = []
        """Programs that ended by themselves, or did not do as told."""

    def __enter__(self) -> "Ground":
        try:
            if self.disk is not None:
                self.disk.mount()
            self.stand.start()
            self.wait_rows(20)
        except BaseException:
            self.destroy()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        self.destroy()

    def destroy(self) -> None:
        """End and unmount everything; the gateway's files are kept beside the mount point."""
        self.stand.kill()
        if self.disk is not None and self.directory.exists():
            kept = self.directory / "disk-kept"
            shutil.copytree(self.disk.path, kept, dirs_exist_ok=True, ignore=shutil.ignore_patterns("some*"))
            self.disk.destroy()

    def note(self, words: str) -> None:
        """Write down what is being done."""
        self.said.append(f"{time.strftime('%H:%M:%S')} {words}")

    # --- time

    def pause(self, low_s: float, high_s: float | None = None) -> None:
        """Let the parts live for a random while: the time itself is the misfortune, or its absence."""
        time.sleep(self.rng.uniform(low_s, high_s or low_s))

    @property
    def clock_is_true(self) -> bool:
        """Whether the gateway's clock is the machine's."""
        return self._clock_file.read_text() == "+0"

    def set_clock(self, offset_s: int) -> None:
        """Put the gateway's clock so many seconds off the true time; the agent must run faked."""
        self.note(f"clock {offset_s:+d} s")
        self._set(self._clock_file, f"{offset_s:+d}")

    def set_slow(self, flush_ms: int) -> None:
        """Let each flush of the gateway's disk take so long."""
        self.note(f"flushes take {flush_ms} ms")
        self._set(self._slow_file, str(flush_ms))

    def _set(self, path: Path, text: str) -> None:
        fresh = path.with_name(path.name + ".new")
        fresh.write_text(text)
        fresh.replace(path)  # whole at any instant: it is read at every look at the clock

    def _env(self, *, faked: bool) -> None:
        preload = [str(one) for one in (self.slowsync, self.faketime if faked else None) if one]
        self.agent.env.clear()
        self.agent.env.update(
            LD_PRELOAD=":".join(preload),
            PORTICO_SLOWSYNC_FILE=str(self._slow_file),
            FAKETIME_TIMESTAMP_FILE=str(self._clock_file),
            FAKETIME_DONT_FAKE_MONOTONIC="1",
            FAKETIME_NO_CACHE="1",
        )

    # --- the gateway

    def kill_agent(self, *, look: bool = True) -> None:
        """Kill the agent (SIGKILL) and look at what its store holds."""
        if not self.agent.running:
            self._ended("the agent", self.agent.exit_code, self.agent.tail())
        self.note("kill -9 agent")
        self.agent.kill9()
        if look:
            self.look()

    def stop_agent(self) -> None:
        """End the agent in order."""
        self.note("stop agent")
        code = self.agent.stop()
        if code:
            self.unexpected.append(f"the agent left an orderly stop with exit {code}: {self.agent.tail()}")
        self.look()

    def kill_agent_by_its_bound(self) -> None:
        """Kill the agent, and hold what that took against the bound that it had measured itself.

        The bound is the longest time from a sample to its commit in this life (status.json); a row is
        sampled by its tick plus the time of the poll, and the last tick is one interval old at most.
        """
        shown = self.agent.status()
        store = shown.get("store")
        bound_ms = float(store["durable_max_ms"]) if isinstance(store, dict) else 0.0
        before = len(self.evidence.rows)
        killed_ms = time.time() * 1000
        self.kill_agent()
        if not bound_ms or shown.get("pid") is None or len(self.evidence.rows) == before:
            return
        newest = max(row.tick for row in self.evidence.rows.values() if row.group.every_ms == QUICKEST_MS)
        age_ms = killed_ms - newest - QUICKEST_MS
        self.note(f"killed with its newest tick {age_ms:.0f} ms too old, measured bound {bound_ms:.0f} ms")
        if age_ms > bound_ms + BOUND_ALLOWANCE_MS:
            self.unexpected.append(f"a kill took {age_ms:.0f} ms, the agent had measured {bound_ms:.0f} ms")

    def end_agent(self) -> None:
        """End the agent in one way or the other."""
        if self.rng.random() < 0.7:
            self.kill_agent()
        else:
            self.stop_agent()

    def start_agent(self, *, faked: bool = False) -> None:
        """Start the agent, which must be ready soon."""
        self.note("start agent" + (" with a clock that can be bent" if faked else ""))
        self._env(faked=faked)
        self.agent.start(timeout_s=START_S)

    def look(self) -> None:
        """Remember what the store holds now."""
        self.evidence.observe(GATEWAY, self.agent.store_path)

    def rows(self) -> int:
        """Return the largest id in the store: how far it has come."""
        uri = f"file:{self.agent.store_path}?mode=ro"
        with closing(sqlite3.connect(uri, uri=True, timeout=10)) as db:
            found = db.execute("SELECT max(id) FROM record").fetchone()[0]
        return int(found or 0)

    def wait_rows(self, more: int, timeout_s: float = 30.0) -> None:
        """Wait until the store has come so many records further."""
        begun = self.rows() if self.agent.store_path.exists() else 0
        wait_until(
            lambda: self.rows() >= begun + more,
            timeout_s,
            lambda: f"the store came from {begun} to {self.rows()} only: {self.agent.tail()}",
            0.1,
        )

    def grows(self, within_s: float) -> bool:
        """Tell whether the store comes any further."""
        begun, deadline = self.rows(), time.monotonic() + within_s
        while time.monotonic() < deadline:
            if self.rows() > begun:
                return True
            time.sleep(0.1)
        return False

    def fold_store(self) -> None:
        """Fold the write-ahead log of the dead agent's store back, so that it has to grow anew."""
        with closing(sqlite3.connect(self.agent.store_path, timeout=10)) as db:
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    @contextmanager
    def pinned(self) -> Iterator[None]:
        """Inside, a route to nobody keeps everything in the store; the agent is restarted at both ends."""
        plain = self.agent.config_path.read_text()
        _, _, route = plain.rpartition("[[route]]")
        route = route.replace(f'"{ENTITIES[1]}"', f'"{ABSENT}"').replace(
            'name = "customer"', 'name = "absent"'
        )
        self.end_agent()
        self.fold_store()
        self.agent.config_path.write_text(f"{plain}\n[[route]]{route}")
        self.start_agent()
        try:
            yield
        finally:
            self.agent.config_path.write_text(plain)
        self.end_agent()
        self.start_agent()

    # --- the other end

    def kill_broker(self) -> None:
        """Kill the broker (SIGKILL)."""
        if not self.stand.broker.running:
            self._ended("the broker", None, self.stand.broker.log_text()[-300:])
        self.note("kill -9 broker")
        self.stand.broker.kill9()

    def stop_broker(self) -> None:
        """End the broker in order."""
        self.note("stop broker")
        self.stand.broker.stop()

    def start_broker(self, plan: BrokerPlan = BROKER, *, forget: bool = False) -> None:
        """Start the broker, with other settings, or without what it had kept."""
        self._broker_plan = plan
        self.stand.reconfigure_broker(plan)
        if forget:
            shutil.rmtree(self.directory / "broker" / "sessions", ignore_errors=True)
            (self.directory / "broker" / "sessions").mkdir()
        self.note("start broker" + (" without its memory" if forget or not plan.persistence else ""))
        self.stand.broker.start()

    def collectors(self) -> list[CollectorProcess]:
        """Return one or all collectors, by chance."""
        every = list(self.stand.collectors)
        return every if self.rng.random() < 0.5 else [self.rng.choice(every)]

    def kill_collector(self, one: CollectorProcess) -> None:
        """Kill a collector (SIGKILL)."""
        if not one.running:
            self._ended(one.name, one.exit_code, one.tail())
        self.note(f"kill -9 {one.name}")
        one.kill9()

    def start_collector(self, one: CollectorProcess) -> None:
        """Start a collector, which must be ready soon."""
        self.note(f"start {one.name}")
        one.start(timeout_s=START_S)

    def books(self) -> list[BooksSeen]:
        """Read the books of every entity."""
        return [read_books(entity, path) for entity, path in self.stand.books().items()]

    # --- back to peace

    def make_peace(self) -> None:
        """Undo every misfortune: room, clock, disk, broker, collectors, agent."""
        if self.disk is not None:
            self.disk.give_room()
        self.set_slow(0)
        for part in (*self.stand.collectors, self.agent, self.stand.broker):
            part.thaw()
        if not self.stand.broker.running:
            self._ended("the broker", None, self.stand.broker.log_text()[-300:])
            self.start_broker()
        elif self._broker_plan != BROKER:
            self.stop_broker()
            self.start_broker()
        for one in self.stand.collectors:
            if not one.running:
                self._ended(one.name, one.exit_code, one.tail())
                self.start_collector(one)
        if not self.agent.running:
            self._ended("the agent", self.agent.exit_code, self.agent.tail())
            self.start_agent()
        elif not self.clock_is_true:
            self.set_clock(0)

    def settle(self, *, running: bool = True) -> float:
        """Look, and wait until the books hold all that was seen; return how long that took, s.

        What does not come is for the judge to tell: the wait just ends.
        """
        begun = time.monotonic()
        if running:
            self.wait_rows(5)
        self.look()
        lacking = {entity: self._due(entity) for entity in ENTITIES}

        def arrived() -> bool:
            for entity, path in self.stand.books().items():
                if lacking[entity]:
                    lacking[entity] -= _identities(path)
            return not any(lacking.values())

        try:
            wait_until(arrived, SETTLE_S, lambda: "", 0.2)
        except ProcessFailed:
            self.note(f"not settled: {sum(map(len, lacking.values()))} rows are not in the books")
        return time.monotonic() - begun

    def _due(self, entity: str) -> set[Identity]:
        seen = self.evidence
        return {
            one
            for one, row in seen.rows.items()
            if one not in seen.taken
            and not seen.is_gone(one)
            and entity in owners_at(row.group.owners, row.tick)
        }

    def _ended(self, name: str, code: int | None, tail: str) -> None:
        self.unexpected.append(f"{name} ended by itself (exit {code}): {tail}")


def _identities(books: Path) -> set[Identity]:
    with closing(sqlite3.connect(f"file:{books}?mode=ro", uri=True, timeout=10)) as db:
        found = db.execute("SELECT gateway, epoch, seq FROM row JOIN epoch ON epoch.no = row.epoch_no")
        return {Identity(*one) for one in found}


def _slowsync() -> tuple[Path | None, str | None]:
    try:
        return build(SLOWSYNC, shared=True), None
    except BuildUnavailable as error:
        return None, str(error)


def _plan(scenario: Path, disk: FullableDisk | None) -> StandPlan:
    keys = {"resend_after": "2s"}
    gateway = GatewayPlan(
        id=GATEWAY,
        routes=tuple(RoutePlan(entity=entity, keys=keys) for entity in ENTITIES),
        every="1s",
        keys={"reserve": "128KiB"},
        device_keys={
            "counter-a": {"every": "200ms"},
            "counter-b": {"every": "500ms", "data_owners": list(ENTITIES)},
        },
        device_tables={"main-meter": JOINT_POINTS},
        data_dir=disk.path / GATEWAY if disk is not None else None,
    )
    return StandPlan(
        scenario=str(scenario),
        gateways=(gateway,),
        collectors=tuple(CollectorPlan(entity=entity) for entity in ENTITIES),
        broker=BROKER,
        entities=(ABSENT,),
    )
