"""Keeping the policy of a gateway: loaded at start, refreshed when something comes, judged every minute.

    message -> post -> spool -> verified copy -> in force -> told: state message, alarms, audit

The work is done in a thread, one piece at a time; the event loop and the polls never wait for it.  What fails
leaves what is held as it is.  Not here: what is verified (`policies.trust`), and deciding by it.
"""

import asyncio
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from agent.clock import Clock
from agent.config_models import DeviceConfig
from agent.policy.claims import differing
from agent.policy.note import encode
from agent.policy.post import Post
from agent.policy.taking import Refusal, Taken, Taking
from core.errors import ConfigError, StoreError
from policies.rulebook import Rulebook
from policies.trust.bounds import LONGEST_ROOT
from policies.trust.floor import Floor
from policies.trust.folder import Memory
from policies.trust.freshness import Freshness
from policies.trust.generations import read_bounded
from policies.trust.held import Held, Versions
from policies.trust.inforce import Readings
from policies.trust.refusals import PolicyRefused
from policies.trust.spool import Place
from policies.trust.verified import root_chain

log = logging.getLogger(__name__)

LOOK_S: Final = 60.0
"""How often freshness is judged, and the folder is looked into."""
SETTLE_S: Final = 0.5
"""What is retained comes as several messages: so long after the first one the rest is waited for."""
LONGEST_PACE_S: Final = 600.0
"""While what comes brings nothing, it is looked at ever more rarely, up to this: a flood of forgeries must
cost neither the processor nor the flash."""
AGAIN_S: Final = 600.0
"""What was refused is tried again after that: clocks are set, and keys become valid."""
ALARMS: Final = {state: f"policy-{state.value.replace('_', '-')}" for state in Freshness}
_SENTENCES: Final = {
    Freshness.STALE: "the policy service was not heard for too long: only grid-critical commands are taken",
    Freshness.CLOCK_UNSURE: "what time it is, is not sure: no command but cancel is taken",
    Freshness.EXPIRED: "the policy or the assignment has run out: no command but cancel is taken",
    Freshness.ROOT_EXPIRED: "the root of the policy has run out: no command but cancel is taken",
    Freshness.NO_POLICY: "there is no policy and assignment that can be verified: no command is taken",
}


class Sink(Protocol):
    """What is told; see ``agent.app.Agent``."""

    def remember(self, note: str) -> None: ...
    def audit(self, kind: str, body: dict[str, object]) -> None: ...
    def alarm(self, code: str, raised: bool, text: str) -> None: ...
    def changed(self) -> None: ...


@dataclass(frozen=True, slots=True)
class KeeperOptions:
    """Which policy, for whom, and where it lies."""

    base: Path
    built_in: bytes
    gateway: str
    folder: Path | None = None
    look_s: float = LOOK_S
    settle_s: float = SETTLE_S


class PolicyKeeper:
    """Holds the policy of one gateway; :meth:`run` keeps it, until cancelled."""

    def __init__(
        self, options: KeeperOptions, memory: Memory, clock: Clock, post: Post | None, sink: Sink
    ) -> None:
        self.held: Held | None = None
        """What is proved; None until it is loaded, and when there is nothing."""
        self.book: Rulebook | None = None
        """The same in the nouns of the policy language."""
        self.freshness = Freshness.NO_POLICY
        self.loaded: Final = asyncio.Event()
        """Set when the last good policy was looked for."""
        self.refused: tuple[Refusal, ...] = ()
        self._memory = memory
        self._noted = memory
        self._options: Final = options
        self._clock: Final = clock
        self.post: Final = post
        self._sink: Final = sink
        self._readings: Final = Readings()
        self._told: tuple[Versions, Freshness] | None = None
        self._failing = ""
        self._again_s = 0.0
        self._due = False
        """There is something that was not looked at yet."""
        self._pace_s = options.settle_s
        """How long after a look the next one is."""
        self._ripe_s = 0.0

    @property
    def floor(self) -> Floor:
        """It is not earlier than that."""
        return self._memory.floor

    @property
    def versions(self) -> Versions:
        """Versions held; zeros where there is nothing."""
        return Versions() if self.held is None else self.held.versions

    def claims_that_differ(self, devices: Iterable[DeviceConfig]) -> dict[str, str]:
        """Return, by device, where gateway.toml claims other owners than the assignment; none without one."""
        assignment = None if self.book is None else self.book.assignment
        return {} if assignment is None else differing(devices, assignment, self._clock.now_ms())

    async def run(self) -> None:
        """Load, then take what comes and judge how fresh it is, for ever."""
        taking = await self._begin()
        while True:
            if not self._due or self._failing:
                await self._wait()
            waiting = self._arrived()
            try:
                self._due |= await asyncio.to_thread(taking.keep, waiting)
                waiting = {}
                if self._due or (self.refused and self._clock.mono() >= self._again_s):
                    await self._look(taking)
                self._well()
            except StoreError as error:
                self._fails(str(error))
                if self.post is not None:
                    self.post.give_back(waiting)
            self._judge()

    async def _begin(self) -> Taking:
        options = self._options
        while True:
            try:
                taking = await asyncio.to_thread(
                    Taking,
                    options.base,
                    options.built_in,
                    options.gateway,
                    options.folder,
                    self._readings,
                )
                self._took(await asyncio.to_thread(taking.load, self._memory))
            except StoreError as error:
                self._fails(str(error))
                self.loaded.set()
                await asyncio.sleep(options.look_s)
                continue
            self._well()
            self._judge()
            self.loaded.set()
            self._due = True  # what lies in the spool was perhaps not taken before the end of the last run
            return taking

    async def _look(self, taking: Taking) -> None:
        self._again_s = self._clock.mono() + AGAIN_S
        before = self.versions
        self._took(await asyncio.to_thread(taking.look, self._memory, self._clock.now_ms()))
        self._due = False
        gained = self.versions != before
        self._pace_s = self._options.settle_s if gained else min(self._pace_s * 2, LONGEST_PACE_S)
        self._ripe_s = self._clock.mono() + self._pace_s

    async def _wait(self) -> None:
        """Wait for news, and a moment more for what belongs to them; at most until the next look."""
        longest = self._options.look_s
        if self.post is None:
            await asyncio.sleep(longest)
            return
        if not self.post.news.is_set():
            try:
                async with asyncio.timeout(longest):
                    await self.post.news.wait()
            except TimeoutError:
                return
            self._ripe_s = max(self._ripe_s, self._clock.mono() + self._options.settle_s)
        await asyncio.sleep(min(longest, max(0.0, self._ripe_s - self._clock.mono())))

    def _arrived(self) -> dict[Place, bytes]:
        """Return what came, once enough time went by since the first of it."""
        if self.post is None or (self.post.news.is_set() and self._clock.mono() < self._ripe_s):
            return {}
        return self.post.take()

    def _took(self, taken: Taken) -> None:
        """Hold what was taken, and remember what must outlast it."""
        try:
            self.book = None if taken.held is None else self._readings.book(taken.held)
            self.held = taken.held
        except PolicyRefused as error:
            # Signed and in force, and written for other software: nobody may command by it.
            self.held, self.book = None, None
            log.error("the policy that is held cannot be read: %s", error)
        self._memory = taken.memory
        if self._memory != self._noted:
            self._noted = self._memory
            self._sink.remember(encode(self._memory))
        self._refuse(taken.refused)

    def _refuse(self, refused: tuple[Refusal, ...]) -> None:
        """Tell what was refused: once, not at each look."""
        for what, code in (("policy", "policy-refused"), ("assignment", "assignment-refused")):
            of = tuple(one for one in refused if one.what == what)
            before = tuple(one for one in self.refused if one.what == what)
            if of and of != before:
                for one in of:
                    log.warning("a %s from %s was refused (%s): %s", what, one.source, one.why, one.text)
                    body: dict[str, object] = {
                        "what": what,
                        "source": one.source,
                        "why": one.why,
                        "text": one.text,
                    }
                    self._sink.audit("policy-refused", body)
                self._sink.alarm(code, True, f"{what} refused ({of[0].why}): {of[0].text}")
            elif before and not of:
                self._sink.alarm(code, False, f"what is on offer as {what} is taken again")
        self.refused = refused

    def _judge(self) -> None:
        """Judge how fresh it is now, and tell when something changed."""
        now_ms = self._clock.now_ms()
        state = Freshness.NO_POLICY
        if self.held is not None:
            sure = self._clock.state() != "unsure"
            state = self.held.freshness(now_ms, self._memory.floor, clock_sure=sure)
        before, self.freshness = self.freshness, state
        told = (self.versions, state)
        if told == self._told:
            return
        self._told = told
        for one in Freshness:
            if one is not state and one is not Freshness.FRESH:
                self._sink.alarm(ALARMS[one], False, f"the policy is {state.value.replace('_', ' ')}")
        if state is not Freshness.FRESH:
            self._sink.alarm(ALARMS[state], True, _SENTENCES[state])
        log.log(
            logging.INFO if state is Freshness.FRESH else logging.WARNING,
            "policy %d, snapshot %d, assignment %d: %s (before: %s)",
            self.versions.policy,
            self.versions.snapshot,
            self.versions.assignment,
            state.value,
            before.value,
        )
        versions = self.versions
        self._sink.audit(
            "policy",
            {
                "root": versions.root,
                "version": versions.policy,
                "snapshot": versions.snapshot,
                "timestamp": versions.timestamp,
                "assignment": versions.assignment,
                "freshness": state.value,
            },
        )
        self._sink.changed()

    def _fails(self, text: str) -> None:
        if text != self._failing:
            self._failing = text
            log.error("%s", text)
            self._sink.alarm("policy-unkept", True, text)

    def _well(self) -> None:
        if self._failing:
            self._failing = ""
            self._sink.alarm("policy-unkept", False, "the policy's folder can be used again")


def built_in_root(path: Path) -> bytes:
    """Return the root that came with the box; ConfigError when it is none that can be begun from."""
    try:
        raw = read_bounded(path, LONGEST_ROOT)
        if raw is None:
            raise ConfigError(f"{path} is not there: put the root.json of the policy there, or correct root")
        root_chain(lambda name, most: None, raw)
    except PolicyRefused as error:
        raise ConfigError(f"{path} is no root.json of a policy: {error}") from error
    return raw
