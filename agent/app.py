"""The agent put together: the parts of one running gateway, and what they tell each other.

Not here: what is started and stopped in which order (`agent.serving`).
"""

import asyncio
import base64
import contextlib
import logging
import secrets
import ssl
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from importlib import metadata
from typing import TYPE_CHECKING, Final

from agent import acts, status
from agent.alarms import Alarms, Shared
from agent.bell import Bell
from agent.changes import Changes, ConnectionKeys, configuration, own_keys
from agent.clock import Clock, boot_id
from agent.config import Connection, connections, types_of
from agent.config_models import Config, Scheme
from agent.learnednote import (
    KEY,
    Known,
    encode,
    forgotten,
    read_note,
    to_forget,
    types_by_device,
)
from agent.linelink import line_link
from agent.lineworker import LineWorker
from agent.notify import WATCHDOG, Notifier
from agent.notify import status as systemd_status
from agent.recall import recalled
from agent.site import PollGroup, Site, build_site
from agent.store.room import Floor
from agent.store.store import Birth, Store, StoreOptions
from agent.uplink.auditheads import AuditHeads
from agent.uplink.broker import Broker, BrokerOptions
from agent.uplink.route import Route
from agent.uplink.sender import RouteOptions
from agent.uplink.twin import TwinWatch
from certs.contexts import client_context, refuse_development_authority
from certs.signing import SigningKey, TrustedSigners
from core.codec import encode_plain, seal
from core.records import Clock as ClockRecord
from core.records import State
from core.topics import ask_topic, confirm_topic, state_topic
from drivers.modbus.learned import Learned

if TYPE_CHECKING:
    from agent.governance import Governance
    from agent.policy.ownership import Owners

log = logging.getLogger(__name__)

STATUS_S: Final = 2.0
LEAP_MS: Final = 3_600_000
"""After a step forward of more than this the store ages nothing for as long as it keeps."""
DRAIN_S: Final = 2.0
"""After SIGTERM, how long the routes may still send what was committed and wait for its confirmation."""


def software() -> str:
    """Return name and version of this software."""
    try:
        return f"portico {metadata.version('portico-gateway')}"
    except metadata.PackageNotFoundError:
        return "portico (from source)"


class Agent:
    """All parts of one running gateway."""

    def __init__(self, config: Config) -> None:
        """Build everything; raises ConfigError or StoreError.  Call from the event loop."""
        self.config = config
        types = types_of(config.gateway)
        self._types = types_by_device(config, types)
        directory = config.gateway.data_dir
        forget = to_forget(directory)
        self._known = {
            device: known
            for device, known in read_note(directory, self._types).items()
            if device not in forget
        }
        learned = {device: known.learned for device, known in self._known.items()}
        self.site: Site = build_site(config, types, learned)
        self._claimed = self.site
        self._owners: Owners | None = None
        self.clock = Clock(trusted=config.gateway.clock == "trusted")
        self._clock_state = self.clock.state()
        self.instance = secrets.token_hex(4)
        self.started = time.monotonic()
        gateway = config.gateway
        self.key = SigningKey.load(gateway.signing_key, gateway.signing_cert)
        self.store = Store.open(
            StoreOptions(
                directory=gateway.data_dir,
                window_s=gateway.commit_window.s,
                quota_bytes=gateway.quota.octets,
                reserve_bytes=gateway.reserve.octets,
                keep_s=gateway.keep.s,
            ),
            Birth(self.clock.now_ms(), boot_id(), self.clock.state(), software()),
            self.site.manifest,
        )
        self._keep_learned(forget)
        self.changes = Changes(self.store, self.clock.now_ms)
        self.changes.see("configuration", configuration(config, self._types), always=True)
        self._own_keys = own_keys(config, self.key)
        self._connection_keys = ConnectionKeys(connections(config))
        self.alarms = Alarms(self.store, self.clock.now_ms)
        self.store.on_alarm = self.alarms.tell
        self.clock.on_step = self._stepped
        self.brokers: list[Broker] = []
        self.routes: list[Route] = []
        self._route_alarms = Shared(self.alarms.tell)
        self.governance = self._governance()
        for connection in connections(config):
            self._add_connection(connection)
        self._bell = Bell(self.clock)
        self.audit_heads = AuditHeads(gateway.id, self.store, self.key, self.brokers, self.clock.now_ms)
        self.workers = [self._worker(line.name) for line in config.lines]
        if self.governance is not None:
            lanes = {worker.name: worker.commands for worker in self.workers}
            self.governance.command(types, lanes, self.audit_heads.soon, self.brokers)
        self._see_changes()

    def _governance(self) -> "Governance | None":
        """Return who may command, None where the configuration names no policy: nobody is obeyed then."""
        if self.config.policy is None:
            return None
        from agent.governance import Governance  # only here: who measures alone does not pay for it

        return Governance(
            self.config, self.config.policy, self.store, self.clock, self.alarms, self._tell_state, self._own
        )

    def _own(self, owners: "Owners | None" = None) -> None:
        """Put in force whose the readings are, for rows from now on; those before keep their manifest."""
        self._owners = owners or self._owners
        if self._owners is None:
            return
        site = self.site.with_owners(self._owners.decide, self._claimed)
        if site.manifest != self.site.manifest and self.store.change_manifest(
            site.manifest, self.clock.now_ms()
        ):
            log.warning("the owners of readings are those of the assignment from now on")
            self.site = site

    def _tell_state(self) -> None:
        topic = state_topic(self.config.gateway.id)
        for broker in self.brokers:
            if broker.connected:
                broker.publish(topic, self.state(online=True), lambda _: None, retain=True)

    def _add_connection(self, connection: Connection) -> None:
        gateway = self.config.gateway.id
        topic = state_topic(gateway)
        governance = self.governance
        broker = Broker(
            BrokerOptions(
                host=connection.url.host,
                port=connection.url.port,
                client_id=connection.client_id,
                context=_context_maker(self.config, connection),
                cert=connection.cert,
                keepalive_s=max(5, round(connection.keepalive.s)),
                window=max(route.window for route in connection.routes),
                subscriptions=(
                    topic,
                    *_subscriptions(gateway, connection),
                    *(governance.topics(connection) if governance is not None else ()),
                ),
                will=lambda: (topic, self.state(online=False)),
                greeting=lambda: (topic, self.state(online=True)),
            ),
            self.alarms.tell,
        )
        broker.listeners.append(TwinWatch(topic, self.store, self.alarms.tell))
        if governance is not None:
            broker.listeners += governance.listeners(connection)
        self.brokers.append(broker)
        for one in connection.routes:
            assert one.trust is not None
            route = Route(
                RouteOptions(
                    name=one.name,
                    entity=one.entity,
                    gateway=gateway,
                    every_s=one.every.s,
                    within_s=round(one.within.s),
                    resend_after_s=one.resend_after.s,
                    unconfirmed_bytes=one.unconfirmed.octets,
                    window=one.window,
                    priority=one.priority,
                    ask_budget_bytes=one.ask_budget.octets,
                ),
                self.store,
                broker,
                self.key,
                TrustedSigners(one.trust),
                self._route_alarms.of(one.name),
            )
            route.on_floor = self._note_floors
            if governance is not None:
                route.on_word = governance.heard_from
            self.routes.append(route)

    def _worker(self, line: str) -> LineWorker:
        settings = self.config.line(line)
        link = line_link(self.config, settings)
        groups = self.site.on_line(line)
        return LineWorker(
            line,
            link,
            groups,
            settings.retries,
            self.clock,
            self.store,
            self.store.lived,
            self.alarms.tell,
            self._unsure,
            {device: known.learned for device, known in self._known.items()},
            self._adopt,
            self._bell,
            recalled(groups, self.store.last_rows),
        )

    def _see_changes(self) -> None:
        """Tell in the audit what is not as it was when last seen."""
        self.changes.see("keys", {**self._own_keys, **self._connection_keys.now()})
        if self.governance is not None:
            self.changes.see("opt-outs", self.governance.opted_out())

    def _adopt(self, device: str, learned: Learned, groups: tuple[PollGroup, ...]) -> bool:
        """Put the plan of a device in force that fits what was learned of it: rows from now on are of it."""
        site = self.site.with_groups(groups)
        if self._owners is not None:
            site = site.with_owners(self._owners.decide, self._claimed)
        if site.manifest != self.site.manifest:
            if not self.store.change_manifest(site.manifest, self.clock.now_ms()):
                return False
            self.site = site
        if learned:
            self._known[device] = Known(*self._types[device], learned)
        else:
            self._known.pop(device, None)
        self._keep_learned()
        return True

    def _keep_learned(self, asked: Sequence[str] = ()) -> None:
        """Keep what is known; then the requests to forget that led to it are done."""
        note = encode(self._known)
        kept = self.store.control.writer.call(lambda file: file.set_meta(KEY, note))

        def done(future: "Future[None]") -> None:
            if not future.cancelled() and future.exception() is None:
                for device in asked:
                    forgotten(self.config.gateway.data_dir, device)

        kept.add_done_callback(done)

    def _forget(self) -> None:
        """Forget what somebody asked to forget."""
        asked = to_forget(self.config.gateway.data_dir)
        for device in asked:
            log.warning("forgetting what was learned of device %s", device)
            self.store.audit("forgot", {"device": device}, self.clock.now_ms())
            self._known.pop(device, None)
            for worker in self.workers:
                if device in worker.learning:
                    worker.forget(device)
        if asked:
            self._keep_learned(asked)

    def _unsure(self) -> bool:
        return self._clock_state == "unsure"

    def state(self, *, online: bool) -> bytes:
        """Return the sealed message of the retained state, or of the will."""
        state = State(
            v=1,
            gateway=self.config.gateway.id,
            online=online,
            at=time.time_ns() // 1_000_000 if online else 0,
            epoch=self.store.epoch,
            software=software(),
            clock=self.clock.state(),
            instance=self.instance,
            # Who comes later learns by it whose outcomes to believe; the authority says whether.
            x={"cert": base64.b64encode(self.key.certificate_der).decode()},
        )
        if self.governance is not None:
            state = self.governance.told(state)
        return seal(state_topic(self.config.gateway.id), encode_plain(state), self.key)

    def _stepped(self, step_ms: int) -> None:
        at, monotonic_ms, state = (
            time.time_ns() // 1_000_000,
            round(time.monotonic() * 1000),
            self.clock.state(),
        )
        self.store.audit("clock-step", {"step_ms": step_ms, "state": state}, at)
        log.warning("the wall clock was stepped by %+.3f s", step_ms / 1000)
        if step_ms > LEAP_MS:
            self.store.distrust_clock_for(self.config.gateway.keep.s)
        self.store.append_record(
            at, lambda seq: ClockRecord(seq, at, boot_id(), state, step_ms, monotonic_ms)
        )

    def _note_floors(self) -> None:
        self.store.floors = tuple(Floor(route.options.priority, route.floor) for route in self.routes)

    def snapshot(self) -> dict[str, object]:
        """Return the state of the agent for the status file."""
        return status.snapshot(
            self.config.gateway.id,
            software(),
            self.started,
            self.store,
            self.workers,
            self.brokers,
            self.routes,
            self.alarms.raised,
            {} if self.governance is None else self.governance.snapshot(),
        )

    async def report(self, notifier: Notifier) -> None:
        """Write the status file, watch the store's delay, and tell the watchdog, for ever."""
        slow = self.config.gateway.slow_commit.s
        longest = 0.0
        self._write_status()
        while True:
            await asyncio.sleep(min(STATUS_S, (notifier.watchdog_s or 60.0) / 3))
            if self.store.data.writer.crashed is not None:
                raise RuntimeError("the store's writer ended") from self.store.data.writer.crashed
            notifier.tell(WATCHDOG, systemd_status(self._sentence()))
            now_longest = self.store.data.writer.counts.longest_durable_s
            if now_longest > longest:
                longest = now_longest
                if longest > slow:
                    text = (
                        f"a reading waited {longest:.1f} s for the disk, more than slow_commit {slow:.1f} s"
                    )
                    self.alarms.tell("slow-commit", True, text)
            state = self.clock.state()
            if state != self._clock_state:
                self._clock_state = state
                self.store.clock_synchronised = state == "synchronised"
                at, mono = self.clock.now_ms(), round(time.monotonic() * 1000)
                self.store.audit("clock", {"state": state}, at)
                self.store.append_record(
                    at,
                    lambda seq, s=state, a=at, m=mono: ClockRecord(seq, a, boot_id(), s, 0, m),  # type: ignore[misc]
                )
            self._forget()
            self._own()  # again, if there was no room
            self._see_changes()
            await acts.take(self.config.gateway.data_dir, self._audited)
            self._write_status()

    async def _audited(self, kind: str, body: dict[str, object]) -> None:
        await self.store.audited(kind, body, self.clock.now_ms())

    def _write_status(self) -> None:
        with contextlib.suppress(OSError):  # a full disk: the log tells, the status waits
            status.write(self.config.gateway.data_dir, self.snapshot())

    def _sentence(self) -> str:
        writer = self.store.data.writer.counts
        up = sum(broker.connected for broker in self.brokers)
        return (
            f"{writer.rows} rows stored, {up} of {len(self.brokers)} brokers connected, "
            f"{len(self.alarms.raised)} alarms"
        )

    async def drained(self) -> None:
        """Give the routes a moment to send what is committed, and to hear that it arrived."""
        self.store.data.writer.hurry()
        deadline = time.monotonic() + DRAIN_S
        while time.monotonic() < deadline:
            await asyncio.sleep(0.05)
            reachable = [route for route in self.routes if route.connected]
            if not self.store.data.writer.waiting_rows and all(map(_settled, reachable)):
                return


def _settled(route: Route) -> bool:
    """Tell whether a route need not be waited for.

    What is confirmed before the end is not sent again at the next start; a confirmation that may come
    later than the wait is not waited for.
    """
    return route.idle and (route.options.within_s >= DRAIN_S or not route.data.outbox.flights)


def _subscriptions(gateway: str, connection: Connection) -> list[str]:
    entities = [route.entity for route in connection.routes]
    return [of(gateway, entity) for entity in entities for of in (confirm_topic, ask_topic)]


def _context_maker(config: Config, connection: Connection) -> Callable[[], ssl.SSLContext] | None:
    """Return what makes the TLS context at each connection, so that a renewed certificate is taken up."""
    if connection.url.scheme is not Scheme.MQTTS:
        return None
    ca, cert, key = connection.ca, connection.cert, connection.key
    assert ca is not None
    assert cert is not None
    assert key is not None
    refuse_development_authority(ca, config.gateway.setting.value)
    return lambda: client_context(ca, cert, key)
