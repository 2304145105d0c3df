"""A gateway's controls on real parts: a simulated relay on a real socket, its line's lane, a real store.

What is left out is polling: the lane of the line is served by nothing but a loop, so that a test sees the
acts of a control alone.  The policy is verified by nobody: who signs is another test's.
"""

import asyncio
import base64
import contextlib
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from agent.alarms import Alarms
from agent.clock import Clock
from agent.commandlane import CommandLane
from agent.config import parse_config, types_of
from agent.control.actuator import actuators
from agent.control.clocksetting import clocks
from agent.control.commander import Commander
from agent.control.desk import Desk, Step
from agent.control.life import Control, State
from agent.control.optouts import OptOuts
from agent.store.birth import Birth
from agent.store.store import Store, StoreOptions
from core.manifest import Manifest
from core.records import Outcome, Record
from core.topics import command_topic
from drivers.modbus.lineurl import LinkUrl
from drivers.modbus.links import open_link
from policies.assignment import Assignment
from policies.command import Command, Issuer
from policies.envelope import sign_command
from policies.facts import Freshness, Signed
from policies.forms import instant_text
from policies.grant import Verb
from policies.policy import Policy
from policies.roster import Roster
from policies.rulebook import Rulebook
from simulator.pytest_plugin import Premises

GATEWAY = "gw-0001"
DEVICE, POINT = "heater-relay", "LoadShed"
KEY = ed25519.Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
OTHER_KEY = ed25519.Ed25519PrivateKey.from_private_bytes(bytes(range(1, 33)))
HOUR_MS = 3_600_000


def now_ms() -> int:
    """Return the present instant."""
    return int(datetime.now(UTC).timestamp() * 1000)


def text(ms: int) -> str:
    """Return an instant as a document has it."""
    return instant_text(ms // 1000 * 1000)


def public(key: ed25519.Ed25519PrivateKey) -> str:
    """Return a public key as a roster has it."""
    der = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return base64.b64encode(der).decode()


@dataclass(frozen=True)
class Controlled:
    """A point that a test controls, and what the policy says of it."""

    device: str = DEVICE
    type: str = "generic-load-relay"
    point: str = POINT
    verb: str = "shed"
    limits: Mapping[str, object] = field(default_factory=lambda: {"hold": "timer"})
    """Of the profile."""
    grant: Mapping[str, object] = field(default_factory=dict)


RELAY = Controlled()
CHARGER = "charger"
LIMIT = Controlled(
    CHARGER,
    "heidelberg-energy-control",
    "ALimit",
    "limit",
    {"hold": "watchdog", "min": 0, "max": 16, "default": 16},
    {"limits": {"min": 0, "max": 16}},
)
WALLBOX = """
name = "charger"
[[premises]]
name = "home"
[[premises.device]]
name = "charger"
type = "heidelberg-energy-control"
"""
"""A home with a charger, whose limit is controlled."""


def rulebook(
    what: Controlled = RELAY,
    also: Mapping[str, Any] | None = None,
    opt_outs: Sequence[Mapping[str, Any]] = (),
    **grant: Any,
) -> Rulebook:
    """Return a policy in which esco1 may control a point, changed by keys; ``also``: a second grant.

    ``opt_outs``: of the assignment.
    """
    begin, end = text(now_ms() - 24 * HOUR_MS), text(now_ms() + 24 * HOUR_MS)
    head = {"id": "test", "version": 1, "utility": "dso", "zone": "UTC", "issued": begin, "expires": end}
    entities = [{"id": "dso", "kind": "utility", "application": [{"id": "hub"}]}]
    entities += [{"id": one, "kind": "esco", "application": [{"id": "hub"}]} for one in ("esco1", "esco2")]
    permits = {
        "id": "shed",
        "from": "esco1",
        "may": [what.verb],
        "to": {"kinds": ["water-heater"]},
        "purpose": ["peak"],
        "valid": {"until": end},
        "duration": {"max": "1h"},
        **what.grant,
        **grant,
    }
    limits = {"type": what.type, "point": what.point, "verbs": [what.verb], **what.limits}
    grants = [permits] if also is None else [permits, {**permits, **also}]
    policy = Policy.model_validate({"policy": head, "entity": entities, "limits": [limits], "grant": grants})
    device = {
        "id": what.device,
        "type": what.type,
        "kind": "water-heater",
        "ownership": [{"owners": ["esco1"]}],
    }
    assigned = {"gateway": GATEWAY, "sequence": 1, "policy_version": 1, "issued": begin, "expires": end}
    consents = [
        {"grant": one["id"], "revision": 1, "owner": "esco1", "evidence": "signed on paper"}
        for one in grants
        if one["from"] != "esco1"
    ]
    assignment = Assignment.model_validate(
        {
            "assignment": assigned,
            "device": [device],
            "select": [{"grant": one["id"]} for one in grants],
            "consent": consents,
            "opt_out": [dict(one) for one in opt_outs],
        }
    )
    rosters = [_roster("esco1", KEY, begin, end), _roster("esco2", OTHER_KEY, begin, end)]
    return Rulebook(policy, rosters, assignment)


def _roster(entity: str, key: ed25519.Ed25519PrivateKey, begin: str, end: str) -> Roster:
    return Roster.model_validate(
        {
            "roster": {"entity": entity, "version": 1, "issued": begin, "expires": end},
            "individual": [{"id": "op-17", "roles": ["operator", "engineer"]}],
            "key": [
                {
                    "id": "k1",
                    "individual": "op-17",
                    "applications": ["hub"],
                    "algorithm": "Ed25519",
                    "public": public(key),
                    "valid": {"from": begin, "until": end},
                }
            ],
        }
    )


@dataclass
class Documents:
    """What is in force, as a test wants it."""

    rulebook: Rulebook | None = field(default_factory=rulebook)
    freshness: Freshness = Freshness.FRESH
    signed: Mapping[str, Signed] = field(
        default_factory=lambda: {one: Signed(1, True, True) for one in ("shed", "shed-2")}
    )
    versions: Mapping[str, int | str] = field(default_factory=lambda: {"policy": 1})
    found: asyncio.Event | None = None
    """Set when the documents were looked for; None: they were."""

    async def looked_for(self) -> None:
        """Wait as long as a test wants."""
        if self.found is not None:
            await self.found.wait()


def command(**changed: Any) -> Command:
    """Return a shed for a minute, changed by a test."""
    now = now_ms()
    found: dict[str, Any] = {
        "id": "c-1",
        "issuer": Issuer(entity="esco1", application="hub", individual="op-17"),
        "gateway": GATEWAY,
        "device": DEVICE,
        "point": POINT,
        "verb": Verb.SHED,
        "value": "1",
        "duration": "60s",
        "issued": instant_text(now),
        "expires": instant_text(now + 60_000),
        "purpose": "peak",
        **changed,
    }
    plain = {key: value for key, value in found.items() if value is not None}
    plain["verb"] = plain["verb"].value
    plain["issuer"] = plain["issuer"].model_dump()
    return Command.model_validate(plain)


def signed(one: Command, key: ed25519.Ed25519PrivateKey = KEY) -> bytes:
    """Return a command in its envelope."""
    return sign_command(one, [("k1", key)])


@dataclass
class Rig:
    """A running commander and what it told."""

    home: Premises
    store: Store
    commander: Commander
    lane: CommandLane
    alarms: dict[tuple[str, str], str]
    device: str = DEVICE

    def send(
        self,
        one: Command | bytes,
        *,
        entity: str = "esco1",
        device: str = "",
        retained: bool = False,
        key: ed25519.Ed25519PrivateKey = KEY,
    ) -> None:
        """Let a message come as the broker brings it."""
        device = device or self.device
        raw = one if isinstance(one, bytes) else signed(one, key)
        self.commander.taker.inbox.heard(command_topic(GATEWAY, entity, device), raw, retained)

    async def outcomes(self, id_: str = "c-1") -> list[Outcome]:
        """Return what was told of a command so far."""
        return [one for one in await self.told() if one.command == id_]

    async def told(self) -> list[Outcome]:
        """Return all outcomes so far."""
        lane = self.store.control
        records = await self.store.read(lane, lane.epoch.base + 1, lane.top, 1000)
        found = [msgspec.json.decode(one.body, type=Record) for one in records if one.grp == 0]
        return [one for one in found if isinstance(one, Outcome)]

    async def states(self, id_: str = "c-1") -> list[str]:
        """Return the states of a command so far."""
        return [one.state for one in await self.outcomes(id_)]

    async def told_so_often(self, count: int, id_: str = "c-1") -> None:
        """Wait until so many outcomes of a command were told."""
        await _within(30, lambda: self._has(count, id_))

    async def _has(self, count: int, id_: str) -> bool:
        return len(await self.states(id_)) >= count

    async def until(self, state: str, id_: str = "c-1", seconds: float = 30) -> Outcome:
        """Return the outcome with which a command came to a state."""
        found: list[Outcome] = []

        async def there() -> bool:
            found.extend(one for one in await self.outcomes(id_) if one.state == state)
            return bool(found)

        await _within(seconds, there)
        return found[0]

    async def taken(self) -> None:
        """Wait until the messages sent so far have been taken from the inbox."""

        async def empty() -> bool:
            return not self.commander.taker.inbox.waiting

        await _within(30, empty)

    async def until_shed(self) -> None:
        """Wait until a control of the relay is confirmed, whosever it is."""
        await self.until_told("confirmed")

    async def until_told(self, state: str) -> None:
        """Wait until some command came to a state."""

        async def there() -> bool:
            return any(one.state == state for one in await self.told())

        await _within(30, there)

    def shed(self) -> bool:
        """Return what the relay itself shows."""
        return bool(self.home.values(DEVICE)["LoadState"])


async def _within(seconds: float, holds: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(seconds):
        while not await holds():  # noqa: ASYNC110  # what is waited for lies in files
            await asyncio.sleep(0.02)


@contextlib.asynccontextmanager
async def rig(
    home: Premises,
    directory: Path,
    documents: Documents | None = None,
    *,
    clock: Clock | None = None,
    orderly: bool = True,
    desk_type: type[Desk] = Desk,
    device: str = DEVICE,
    types: Path | None = None,
    rng: random.Random | None = None,
) -> AsyncIterator[Rig]:
    """Run the controls of one gateway; not ``orderly``: it is gone at the end as with kill -9."""
    url, at = home.url(device), home.devices[device]
    folders = "" if types is None else f'types = ["{types}"]\n'
    toml = (
        f'[gateway]\nid = "{GATEWAY}"\ndata_dir = "."\n{folders}'
        f'[[line]]\nname = "lan"\nurl = "{url}"\ntimeout = "300ms"\n'
        f'[[device]]\nname = "{device}"\ntype = "{at.type}"\nline = "lan"\nunit_id = {at.unit_id}\n'
        'every = "1s"\nowner = "dso"\n'
    )
    config = parse_config(toml, directory / "gateway.toml")
    clock = clock or Clock(trusted=True)
    birth = Birth(clock.now_ms(), "boot", "synchronised", "test")
    store = Store.open(StoreOptions(directory), birth, Manifest(GATEWAY, ()))
    lane, link = CommandLane(), open_link(LinkUrl.parse(url))
    told: dict[tuple[str, str], str] = {}
    alarms = Alarms(store, clock.now_ms)

    def alarm(code: str, raised: bool, sentence: str, device: str = "") -> None:
        alarms.tell(code, raised, sentence, device)
        if raised:
            told[code, device] = sentence
        else:
            told.pop((code, device), None)

    desk = desk_type(store, clock, {"lan": lane}, alarm, lambda: None)
    known = types_of(config.gateway)
    controllable = list(actuators(config, known))
    commander = Commander(
        GATEWAY,
        documents or Documents(),
        desk,
        controllable,
        OptOuts(directory),
        journal_lost=store.control_lost,
        clocks=list(clocks(config, known, controllable)),
        rng=rng,
    )

    async def connect() -> None:
        if not link.connected:
            await link.connect()

    async def serve() -> None:
        loop = asyncio.get_running_loop()
        while True:
            await lane.give_turns(link, connect)
            await lane.pause(loop.create_future())

    async with store, commander.running(), asyncio.TaskGroup() as group:
        serving = group.create_task(serve())
        try:
            yield Rig(home, store, commander, lane, told, device)
            if orderly:
                await commander.stop()
        finally:
            serving.cancel()
            await asyncio.gather(serving, return_exceptions=True)
            await link.close()


def crashing(at: State, *, written: bool) -> tuple[type[Desk], asyncio.Event]:
    """Return a desk at which everything stands still at a step, before or after it is written down."""
    there = asyncio.Event()

    class Crashing(Desk):
        async def steps(self, *wanted: Step) -> list[Control]:
            if all(one.state is not at for one in wanted):
                return await super().steps(*wanted)
            if written:
                await super().steps(*wanted)
            there.set()
            await asyncio.Event().wait()
            raise AssertionError("nobody comes here")

    return Crashing, there
