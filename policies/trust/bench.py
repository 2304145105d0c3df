"""How long a gateway takes to believe a policy: ``python -m policies.trust.bench`` (entities, grants).

Makes a utility with all its keys in a folder that is thrown away, publishes, and lets a gateway take it:
the first time, with one row, with one roster changed, with a new timestamp alone, and from its disk as at a
start; then it arranges the rulebook.  Prints bytes and the least of some repetitions, by the wall and by the
process's own CPU time; and by how much a process grows that loads what is held and arranges it.
"""

import argparse
import gc
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from policies.trust.bundle import unpack
from policies.trust.ceremony import FirstKeys, add_entity, assign, begin, put_part, set_roster
from policies.trust.contents import Table
from policies.trust.folder import Memory, PolicyFolder
from policies.trust.held import Held
from policies.trust.inforce import Readings
from policies.trust.keys import Algorithm, KeyPair, generate
from policies.trust.publishing import Publication, publish
from policies.trust.repository import Repository

NOW_MS = 1_795_348_800_000
"""2026-11-22T12:00:00Z."""
GATEWAY = "gw-0001"
KINDS = ("water-heater", "ev-charger", "heat-pump", "battery")
OPERATORS = 10
_TIMESTAMP = "metadata/timestamp.json"


class Bench:
    """A utility with many entities, and one gateway."""

    def __init__(self, folder: Path, entities: int, grants: int) -> None:
        self.now_ms = NOW_MS
        self.people = OPERATORS
        names = ("root-1", "root-2", "root-3", "targets-1", "targets-2", "targets-3")
        self.keys = {one: generate(one, Algorithm.P256) for one in names}
        self.online = [generate(one, Algorithm.ED25519) for one in ("snapshot", "timestamp")]
        enrolment = generate("assignment", Algorithm.ED25519)
        publics = [pair.public for pair in self.keys.values()]
        first = FirstKeys(
            publics[:3], publics[3:], self.online[0].public, self.online[1].public, enrolment.public
        )
        self.repository: Repository = begin(folder / "utility", "dso.example", "Europe/Berlin", first, NOW_MS)
        self._entities: list[KeyPair] = []
        known = [
            {"id": f"e{number}", "kind": "esco", "application": [{"id": "hub"}]} for number in range(entities)
        ]
        put_part(self.repository, "entities", {"entity": known}, (), NOW_MS)
        for number in range(entities):
            pair = generate(f"e{number}-1", Algorithm.P256)
            self._entities.append(pair)
            add_entity(self.repository, f"e{number}", "esco", [pair.public], 1, NOW_MS)
        self.rows = [row(number, entities) for number in range(grants)]
        for number in range(entities):
            set_roster(self.repository, f"e{number}", roster(f"e{number}"), NOW_MS)
        put_part(self.repository, "all", self._part(), (), NOW_MS)
        self.published = self.publish()
        assign(self.repository, GATEWAY, {"assignment": {"groups": ["feeder-7"]}}, enrolment, (), NOW_MS)
        self.built_in = self.repository.raw("root", 1)
        self.readings = Readings()
        self.root_path = folder / "root.json"
        self.base = folder / "gateway"
        self.gateway = PolicyFolder(self.base, self.built_in, GATEWAY, self.readings.check)

    def publish(self) -> Publication:
        """Let everybody sign, and publish."""
        for pair in (*self.keys.values(), *self._entities):
            self.repository.sign(pair)
        self.now_ms += 60_000
        return publish(self.repository, self.online, self.now_ms)

    def change(self) -> Publication:
        """Change one row."""
        first = self.rows[0]
        revision = first["revision"]
        assert isinstance(revision, int)
        self.rows[0] = {**first, "revision": revision + 1}
        put_part(self.repository, "all", self._part(), (), self.now_ms)
        return self.publish()

    def change_roster(self) -> Publication:
        """Change one roster: somebody of the first entity leaves."""
        self.people -= 1
        set_roster(self.repository, "e0", roster("e0", self.people), self.now_ms)
        return self.publish()

    def take(self, made: Publication) -> Held:
        """Let the gateway take what was published."""
        files = {**unpack(made.bundle), _TIMESTAMP: made.timestamp}
        return self.gateway.refresh(files, Memory(), self.now_ms)

    def load(self) -> Held | None:
        """Start the gateway again."""
        return PolicyFolder(self.base, self.built_in, GATEWAY).load(Memory())

    def _part(self) -> Table:
        limits = [{"type": "relay", "point": "Shed", "verbs": ["shed"], "hold": "timer"}]
        return {"limits": limits, "grant": list(self.rows)}


def row(number: int, entities: int) -> Table:
    """Return a grant of the usual length."""
    return {
        "id": f"g-{number:05d}",
        "revision": 1,
        "from": f"e{number % entities}",
        "may": ["shed"],
        "to": {"kinds": [KINDS[number % len(KINDS)]], "groups": [f"feeder-{number % 97}"]},
        "purpose": ["peak"],
        "valid": {"from": "2026-11-01T00:00:00Z", "until": "2027-06-01T00:00:00Z"},
        "limits": {"values": [0, 1]},
        "windows": [
            {
                "days": ["mo", "tu", "we", "th", "fr"],
                "start": "06:00",
                "end": "22:00",
                "season": ["10-01", "04-30"],
            }
        ],
        "duration": {"min": "5min", "max": "2h"},
        "budget": {"count_day": 2, "total_week": "10h"},
        "priority": {"level": 64 + number % 128},
        "agreement": f"Demand response agreement 2026-{number:05d}",
    }


def roster(entity: str, operators: int = OPERATORS) -> Table:
    """Return some people with their keys."""
    people = [f"op-{number}" for number in range(operators)]
    return {
        "roster": {"entity": entity},
        "individual": [{"id": one, "roles": ["operator"]} for one in people],
        "key": [
            {
                "id": f"k-{one}",
                "individual": one,
                "applications": ["hub"],
                "algorithm": "Ed25519",
                "public": "MCowBQYDK2VwAyEAUCd1ZhSGMoDRXGroRZQyPXo/eE24Heh+BKbJNVrbnyI=",
                "valid": {"until": "2027-06-01T00:00:00Z"},
            }
            for one in people
        ],
    }


def timed(act: Callable[[], object]) -> tuple[float, float]:
    """Return how long something takes, ms by the wall and of CPU."""
    wall, cpu = time.perf_counter(), time.process_time()
    act()
    return (time.perf_counter() - wall) * 1000, (time.process_time() - cpu) * 1000


def measured(entities: int, grants: int, repeat: int) -> dict[str, float | int]:
    """Return all figures; times in milliseconds."""
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), entities, grants)
        made = bench.published
        found: dict[str, float | int] = {
            "entities": entities,
            "grants": grants,
            "bundle_bytes": len(made.bundle),
            "unpacked_bytes": sum(map(len, unpack(made.bundle).values())),
            "timestamp_bytes": len(made.timestamp),
        }

        def note(name: str, runs: list[tuple[float, float]]) -> None:
            found[f"{name}_ms"] = round(min(wall for wall, _ in runs), 1)
            found[f"{name}_cpu_ms"] = round(min(cpu for _, cpu in runs), 1)

        note("first_refresh", [timed(lambda: bench.take(made))])
        changes = [bench.change() for _ in range(repeat)]
        note("refresh_one_row", [timed(lambda one=one: bench.take(one)) for one in changes])  # type: ignore[misc]
        rosters = [bench.change_roster() for _ in range(repeat)]
        note("refresh_one_roster", [timed(lambda one=one: bench.take(one)) for one in rosters])  # type: ignore[misc]
        days = [bench.publish() for _ in range(repeat)]
        note("refresh_timestamp", [timed(lambda one=one: bench.take(one)) for one in days])  # type: ignore[misc]
        note("load_at_start", [timed(bench.load) for _ in range(repeat)])
        held = bench.load()
        assert held is not None
        note("arrange_rulebook", [timed(lambda: Readings().book(held)) for _ in range(repeat)])
        note("publish", [timed(bench.publish) for _ in range(repeat)])
        found["agreed"] = sum(len(one.parties) == 2 for one in held.agreement.grants.values())
        found["peak_rss_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        bench.root_path.write_bytes(bench.built_in)
        command = [sys.executable, "-m", "policies.trust.bench", "--load", folder]
        loaded = subprocess.run(command, capture_output=True, check=True, text=True, timeout=120)
        found["held_mib"] = json.loads(loaded.stdout)["held_mib"]
        return found


def grown(folder: Path) -> float:
    """Return by how many MiB this process grows by loading what a gateway holds, once it is collected."""
    gateway = PolicyFolder(folder / "gateway", (folder / "root.json").read_bytes(), GATEWAY)
    gc.collect()
    before = _resident()
    held = gateway.load(Memory())
    book = None if held is None else Readings().book(held)
    if book is None:
        raise RuntimeError("what the bench published is not held")
    gc.collect()
    return (_resident() - before) / 2**20


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def main(argv: Sequence[str] | None = None) -> None:
    """Print one JSON object."""
    parser = argparse.ArgumentParser(
        prog="python -m policies.trust.bench", description="How long a gateway takes to believe a policy."
    )
    parser.add_argument("--entities", type=int, default=50)
    parser.add_argument("--grants", type=int, default=5000)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--load", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.load is not None:
        print(json.dumps({"held_mib": round(grown(options.load), 1)}))
        return
    print(json.dumps(measured(options.entities, options.grants, options.repeat)))


if __name__ == "__main__":
    main()
