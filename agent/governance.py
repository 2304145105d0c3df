"""Who may command this gateway, and the carrying out: the policy keeper and the commander together.

Imported only where the configuration has ``[policy]``: a gateway that measures alone needs none of it, and
spares ten megabytes.  Relies on `agent.policy` and `agent.control`.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Final

from agent.alarms import Alarms
from agent.clock import Clock
from agent.commandlane import CommandLane
from agent.config import Connection
from agent.config_models import Config
from agent.config_policy import PolicyConfig
from agent.config_rules import Types
from agent.control.actuator import actuators
from agent.control.clocksetting import clocks
from agent.control.commander import Commander
from agent.control.desk import Desk
from agent.control.kept import Kept
from agent.control.optouts import OptOuts
from agent.policy.keeper import KeeperOptions, PolicyKeeper, built_in_root
from agent.policy.note import read_note
from agent.policy.ownership import Owners
from agent.policy.post import Post, policy_topics
from agent.policy.sink import StoreSink
from agent.policy.told import with_policy
from agent.store.store import Store
from agent.uplink.broker import Broker, Listener
from core.records import State
from core.topics import beat_topic, command_filter

LOAD_S: Final = 10.0
"""So long the start waits for what is held to be proved; measuring goes on without it after that."""


class Governance:
    """The policy in force, and what is done by it."""

    def __init__(
        self,
        config: Config,
        policy: PolicyConfig,
        store: Store,
        clock: Clock,
        alarms: Alarms,
        tell_state: Callable[[], None],
        owned: Callable[[Owners], None],
    ) -> None:
        """Build the keeper; the commander follows when the lines are there (:meth:`command`)."""
        gateway = config.gateway
        self._config = config
        self._policy = policy
        self._store = store
        self._clock = clock
        self._alarms = alarms
        self._tell_state = tell_state
        self._owned = owned
        self._opt_outs = OptOuts(config.gateway.data_dir)
        self.commander: Commander | None = None
        self._brokers: Sequence[Broker] = ()
        self.keeper = PolicyKeeper(
            KeeperOptions(gateway.data_dir / "policy", built_in_root(policy.root), gateway.id, policy.folder),
            read_note(gateway.data_dir),
            clock,
            Post(policy_topics(gateway.id, policy.segment)) if config.routes else None,
            StoreSink(store, alarms.tell, clock.now_ms, self._changed),
        )

    def command(
        self,
        types: Types,
        lanes: Mapping[str, CommandLane],
        audited: Callable[[], None],
        brokers: Sequence[Broker],
    ) -> Commander:
        """Build what obeys, on the lanes of the lines by their names; beats come by the brokers."""
        self._brokers = brokers
        controllable = list(actuators(self._config, types))
        self.commander = Commander(
            self._config.gateway.id,
            Kept(self.keeper),
            Desk(self._store, self._clock, lanes, self._alarms.tell, audited),
            controllable,
            self._opt_outs,
            journal_lost=self._store.control_lost,
            clocks=list(clocks(self._config, types, controllable)),
            segment=self._policy.segment,
        )
        return self.commander

    def topics(self, connection: Connection) -> tuple[str, ...]:
        """Return what a connection subscribes to for us."""
        post = self._post_on(connection)
        return (command_filter(self._config.gateway.id), *(post.topics if post is not None else ()))

    def listeners(self, connection: Connection) -> tuple[Listener, ...]:
        """Return who hears a connection."""
        post = self._post_on(connection)
        commands = _Commands(self)
        return (commands,) if post is None else (commands, post)

    def heard_from(self, entity: str, issued_ms: int) -> None:
        """Note a verified word of an entity, and when it was issued; 0, which says nothing, is no contact."""
        if self.commander is not None and issued_ms:
            self.commander.taker.contacts.heard(entity, issued_ms)

    def _listen(self) -> None:
        """Hear the beats of those whose silence would end a control, and of nobody else: bytes cost money."""
        if self.commander is not None:
            segment = self._policy.segment
            topics = frozenset(beat_topic(segment, entity) for entity in self.commander.awaited())
            for broker in self._brokers:
                broker.listen(topics)

    def opted_out(self) -> dict[str, str]:
        """Return the customer's no as it stands on the box, by device; ``*`` is every one."""
        return {one.device or "*": "no" for one in self._opt_outs.now()}

    def _changed(self) -> None:
        """What is held changed: compare what the file claims with it, and tell everybody."""
        differ = self.keeper.claims_that_differ(self._config.devices)
        for device in self._config.devices:
            text = differ.get(device.name, f"gateway.toml and the assignment agree on {device.name}")
            self._alarms.tell("ownership-differs", device.name in differ, text, device.name)
        book = self.keeper.book
        if book is not None and book.assignment is not None:  # else what was decided last goes on
            self._owned(Owners(self._config.devices, book.assignment))
        self._listen()
        self._tell_state()

    def _post_on(self, connection: Connection) -> Post | None:
        """Return what hears the policy on a connection, None on all but the one that brings it."""
        wanted = self._policy.route or self._config.routes[0].name
        return self.keeper.post if wanted in {route.name for route in connection.routes} else None

    def told(self, state: State) -> State:
        """Return a state that names the versions held."""
        return with_policy(state, self.keeper.versions, self.keeper.freshness)

    def snapshot(self) -> dict[str, object]:
        """Return which policy is held, how fresh it is and what runs, for the status file."""
        keeper = self.keeper
        versions = keeper.versions
        return {
            "policy": {
                "freshness": keeper.freshness.value,
                "root": versions.root,
                "version": versions.policy,
                "snapshot": versions.snapshot,
                "timestamp": versions.timestamp,
                "assignment": versions.assignment,
                "expires_ms": {} if keeper.held is None else dict(keeper.held.verified.expires_ms),
                "floor_ms": keeper.floor.at_ms,
                "refused": [
                    {"what": one.what, "why": one.why.value, "text": one.text} for one in keeper.refused
                ],
            },
            "control": None if self.commander is None else self.commander.snapshot(),
        }

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Look at what ran before anything is polled; then take commands, until the block ends.

        Whose the readings are is known before the first one, unless the policy's folder cannot be read.
        """
        assert self.commander is not None
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LOAD_S):
                await self.keeper.loaded.wait()
        async with self.commander.running():
            self._listen()
            yield

    async def stop(self) -> None:
        """Put back what has to be, while the lines are still served."""
        if self.commander is not None:
            await self.commander.stop()


class _Commands:
    """Hands commands and beats to the commander, which is made after the connections."""

    def __init__(self, governance: Governance) -> None:
        self._governance = governance

    def up(self, session_present: bool) -> None:
        """Nothing to do."""

    def down(self) -> None:
        """Nothing to do."""

    def heard(self, topic: str, payload: bytes, retained: bool) -> None:
        """A message came; whoever it is for takes it."""
        if self._governance.commander is not None:
            self._governance.commander.taker.inbox.heard(topic, payload, retained)
            self._governance.commander.beats.heard(topic, payload, retained)
