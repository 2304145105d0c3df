"""A utility with its keys, two entities and a gateway, for tests of how policy is signed and believed.

Everything is the product's own code, files and all; only the clock is a number that tests turn.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path

from policies.trust.agreement import Consent, Named, named_grants
from policies.trust.assignment import Assignment
from policies.trust.bounds import POLICY_PATH
from policies.trust.bundle import unpack
from policies.trust.ceremony import FirstKeys, add_entity, assign, begin, put_part, set_roster
from policies.trust.contents import Table
from policies.trust.floor import raised
from policies.trust.folder import Memory, PolicyFolder
from policies.trust.freshness import Freshness
from policies.trust.held import Held
from policies.trust.inforce import Readings
from policies.trust.keys import Algorithm, KeyPair, generate
from policies.trust.publishing import Publication, publish
from policies.trust.repository import Repository

T0 = 1_795_348_800_000
"""2026-11-22T12:00:00Z."""
DAY = 86_400_000
GATEWAY = "gw-0001"
UTILITY = "dso.example"
ESCO = "esco1"
AGGREGATOR = "aggr1"


def pair(holder: str, algorithm: Algorithm = Algorithm.ED25519) -> KeyPair:
    """Return a new key."""
    return generate(holder, algorithm)


def grant(id_: str, entity: str = ESCO, revision: int = 1) -> Table:
    """Return a row that the language would take."""
    return {
        "id": id_,
        "revision": revision,
        "from": entity,
        "may": ["shed"],
        "to": {"kinds": ["water-heater"]},
        "purpose": ["peak"],
        "valid": {"until": "2027-06-01T00:00:00Z"},
        "duration": {"max": "4h"},
    }


def roster(entity: str, *individuals: str) -> Table:
    """Return a roster without keys."""
    return {
        "roster": {"entity": entity},
        "individual": [{"id": one, "roles": ["operator"]} for one in individuals],
        "key": [],
    }


def assignment(*grants: str) -> Table:
    """Return what a gateway is assigned."""
    return {"assignment": {"groups": ["feeder-12"]}, "select": [{"grant": one} for one in grants]}


@dataclass
class Keys:
    """Who holds what; ``root`` and ``targets`` are three each, of both kinds."""

    root: list[KeyPair] = field(
        default_factory=lambda: [pair("root-1"), pair("root-2", Algorithm.P256), pair("root-3")]
    )
    targets: list[KeyPair] = field(
        default_factory=lambda: [
            pair("targets-1"),
            pair("targets-2", Algorithm.P256),
            pair("targets-3"),
        ]
    )
    snapshot: KeyPair = field(default_factory=lambda: pair("snapshot"))
    timestamp: KeyPair = field(default_factory=lambda: pair("timestamp", Algorithm.P256))
    assignment: KeyPair = field(default_factory=lambda: pair("assignment"))
    entities: dict[str, KeyPair] = field(
        default_factory=lambda: {ESCO: pair("esco1-1", Algorithm.P256), AGGREGATOR: pair("aggr1-1")}
    )

    @property
    def online(self) -> list[KeyPair]:
        """The keys that lie on a machine in the network."""
        return [self.snapshot, self.timestamp]


class World:
    """The utility's folder, and one gateway's."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.now_ms = T0
        self.keys = Keys()
        self.repository = begin(
            folder / "utility",
            UTILITY,
            "Europe/Berlin",
            FirstKeys(
                [one.public for one in self.keys.root],
                [one.public for one in self.keys.targets],
                self.keys.snapshot.public,
                self.keys.timestamp.public,
                self.keys.assignment.public,
            ),
            self.now_ms,
        )
        self.sign(*self.keys.root[:2], *self.keys.targets[:2])
        for entity, kind in ((ESCO, "esco"), (AGGREGATOR, "aggregator")):
            add_entity(self.repository, entity, kind, [self.keys.entities[entity].public], 1, T0)
            set_roster(self.repository, entity, roster(entity, "alice"), T0)
        put_part(self.repository, "esco", {"grant": [grant("g-wh")]}, (), T0)
        self.sign_all()
        self.built_in = self.publish() and self.repository.raw("root", 1)
        self.gateway = self.new_gateway("gateway")
        self.memory = Memory()

    def new_gateway(self, name: str) -> PolicyFolder:
        """Return the empty policy folder of a gateway."""
        return PolicyFolder(self.folder / name, self.built_in, GATEWAY, Readings().check)

    def tick(self, days: float = 0, minutes: float = 0) -> None:
        """Let time pass, or go back."""
        self.now_ms += round(days * DAY + minutes * 60_000)

    # --- the utility

    def sign(self, *pairs: KeyPair) -> None:
        """Let some key holders sign all drafts that are theirs."""
        for one in pairs:
            self.repository.sign(one)

    def sign_all(self) -> None:
        """Let enough of everybody sign."""
        self.sign(*self.keys.root[:2], *self.keys.targets[:2], *self.keys.entities.values())

    def publish(self) -> Publication:
        """Publish what is signed."""
        return publish(self.repository, self.keys.online, self.now_ms)

    def files(self) -> dict[str, bytes]:
        """Publish, and return the files as a gateway gets them, the newest timestamp among them."""
        made = self.publish()
        return {**unpack(made.bundle), "metadata/timestamp.json": made.timestamp}

    def change(self, *grants: Table, name: str = "esco") -> dict[str, bytes]:
        """Change a part of the policy, signed by all, published."""
        put_part(self.repository, name, {"grant": list(grants)}, (), self.now_ms)
        self.sign_all()
        return self.files()

    def assign(
        self, document: Table | None = None, *consents: bytes, key: KeyPair | None = None
    ) -> Assignment:
        """Make the next assignment of the gateway."""
        return assign(
            self.repository,
            GATEWAY,
            assignment("g-wh") if document is None else document,
            key or self.keys.assignment,
            consents,
            self.now_ms,
        )

    def named(self, id_: str) -> Named:
        """Return a grant as one agrees to it."""
        policy = self.repository.document(POLICY_PATH)
        assert policy is not None
        return next(named for named, _ in named_grants(policy) if named.id == id_)

    def consent(self, owner: str, id_: str, gateway: str = GATEWAY, evidence: str = "form 4711") -> Consent:
        """Return what an owner would sign."""
        return Consent(1, owner, gateway, [self.named(id_)], evidence, "2026-11-22T12:00:00Z")

    # --- the gateway

    def refresh(self, files: dict[str, bytes] | None = None, clock_ms: int | None = None) -> Held:
        """Offer a set to the gateway, the published one when none is given."""
        clock = self.now_ms if clock_ms is None else clock_ms
        return self.took(self.gateway.refresh(self.files() if files is None else files, self.memory, clock))

    def give(self, raw: bytes) -> Held:
        """Offer an assignment to the gateway."""
        return self.took(self.gateway.assign(raw, self.memory, self.now_ms))

    def load(self) -> Held | None:
        """Start the gateway again."""
        found = PolicyFolder(self.folder / "gateway", self.built_in, GATEWAY).load(self.memory)
        return None if found is None else self.took(found)

    def took(self, found: Held) -> Held:
        """Remember what must outlast the folder, as the agent does."""
        last = self.memory.last if found.assignment is None else found.assignment.last
        self.memory = Memory(raised(self.memory.floor, found.verified), last)
        return found

    def freshness(self, *, clock_sure: bool = True) -> Freshness:
        """Return the state of what lies in the gateway's folder."""
        found = PolicyFolder(self.folder / "gateway", self.built_in, GATEWAY).load(self.memory)
        if found is None:
            return Freshness.NO_POLICY
        return found.freshness(self.now_ms, self.memory.floor, clock_sure=clock_sure)


def grant_ids(found: Held | None) -> list[str]:
    """Return the ids of the grants in the policy that is held."""
    assert found is not None
    assert found.policy is not None
    return [one["id"] for one in json.loads(found.policy)["grant"]]


__all__ = ["Repository", "World"]
