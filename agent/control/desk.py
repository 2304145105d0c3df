"""What every control needs of the gateway: the journal, the audit, outcomes, alarms, clock, and the lanes.

One place through which a step is taken: it is written down, then told.  Relies on the store.  Not here:
deciding (`agent.control.taker`) and the course of a control (`agent.control.course`).
"""

import logging
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import NamedTuple, TypeVar

from agent.clock import Clock
from agent.commandlane import CommandLane
from agent.control import journal, wear
from agent.control.life import Control, State
from agent.store.store import Store
from core.errors import StoreError
from core.records import Outcome
from policies.command import Command
from policies.forms import number_text

log = logging.getLogger(__name__)
T = TypeVar("T")
ChangedAt = Callable[[str, str], int]


class Armed(NamedTuple):
    """A hold that was begun."""

    seconds: float
    at: float
    """Monotonic."""


@dataclass(frozen=True, slots=True)
class Step:
    """What a control comes to next."""

    control: Control
    state: State
    why: str = ""
    text: str = ""
    shown: Decimal | None = None
    writes: Sequence[str] = ()
    """The registers that are going to be written by it, counted in the same transaction."""
    watchdog: tuple[str, int | None] | None = None
    """The register of a watchdog that it is going to set, and what that holds, if known."""


class Desk:
    """The gateway as controls see it."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        lanes: Mapping[str, CommandLane],
        on_alarm: Callable[[str, bool, str, str], None],
        published: Callable[[], None],
    ) -> None:
        """Prepare.

        Args:
            store: journal, audit and outcomes.
            clock: wall and monotonic time.
            lanes: by the name of the line.
            on_alarm: (code, raised, sentence, device).
            published: called when something was audited that should be published soon.
        """
        self.clock = clock
        self.lanes = lanes
        self.alarm = on_alarm
        self.changed: dict[tuple[str, str], int] = {}
        """When the gateway last wrote to a (device, point)."""
        self.armed: dict[tuple[str, str], Armed] = {}
        """What the hold register of a device was set to last, by device and register; points share some."""
        self._store = store
        self._published = published

    async def call(self, job: Callable[[sqlite3.Connection], T]) -> T:
        """Run a job on the journal: it is on the disk when this returns."""
        return await self._store.call(self._store.control, lambda file: job(file.db))

    async def steps(self, *wanted: Step) -> list[Control]:
        """Take the next steps of controls, all or none: written down first, then told."""
        now = self.clock.now_ms()

        def job(db: sqlite3.Connection) -> list[Control]:
            for one in wanted:
                wear.count(db, one.control.device, one.writes, now)
                if one.watchdog is not None:
                    journal.note_watchdog(db, one.control, *one.watchdog)
            return [journal.step(db, one.control, one.state, now, one.why) for one in wanted]

        after = await self.call(job)
        for control, one in zip(after, wanted, strict=True):
            if one.state in (State.DISPATCHED, State.RESTORING):
                self.changed[control.device, control.point] = now
            reasons = [one.why] if one.why else []
            self.tell(
                control.entity,
                control.id,
                one.state,
                control.device,
                control.point,
                reasons,
                one.text,
                one.shown,
            )
            body = {"command": control.id, "entity": control.entity, "state": one.state.value, "why": one.why}
            self.note("control", dict(body))
        return after

    async def step(
        self,
        control: Control,
        state: State,
        why: str = "",
        text: str = "",
        shown: Decimal | None = None,
    ) -> Control:
        """Take the next step of one control."""
        [after] = await self.steps(Step(control, state, why, text, shown))
        return after

    async def answer(
        self, command: Command, state: State, code: str = "", text: str = "", writes: Sequence[str] = ()
    ) -> None:
        """Tell a step of a command that is no control, and has none: written down first.

        ``writes`` are the registers that are going to be written, counted in the same transaction.
        """
        now, entity = self.clock.now_ms(), command.issuer.entity

        def note(db: sqlite3.Connection) -> None:
            wear.count(db, command.device, writes, now)
            journal.note_answer(db, entity, command.id, state, code, now)

        await self.call(note)
        self.tell(entity, command.id, state, command.device, command.point, [code] if code else [], text)
        audited = {"command": command.id, "entity": entity, "state": state.value, "why": code}
        self.note("control", {**audited, "text": text} if text else {**audited})

    async def has_room(self, device: str, registers: Sequence[str], most: int) -> bool:
        """Tell whether none of some registers was written ``most`` times today."""
        now = self.clock.now_ms()
        return await self.call(lambda db: wear.used(db, device, registers, now) < most)

    async def take_room(self, device: str, registers: Sequence[str], most: int) -> bool:
        """Count a write of some registers before it is made; False: it must not be."""
        now = self.clock.now_ms()
        try:
            return await self.call(lambda db: wear.take(db, device, registers, most, now))
        except StoreError as error:
            log.error("a write of %s could not be counted, so it is not made: %s", device, error)
            return False

    async def counted(self, device: str, registers: Sequence[str], point: str = "") -> None:
        """Count what was written to put a device back, and when; what cannot be counted delays nothing."""
        now = self.clock.now_ms()
        if point:
            self.changed[device, point] = now

        def note(db: sqlite3.Connection) -> None:
            wear.count(db, device, registers, now)
            if point:
                journal.note_change(db, device, point, now)

        try:
            await self.call(note)
        except StoreError as error:
            log.warning("a write of %s could not be counted: %s", device, error)

    def tell(
        self,
        entity: str,
        command: str,
        state: State,
        device: str,
        point: str,
        reasons: Sequence[str] = (),
        text: str = "",
        shown: Decimal | None = None,
        **more: int | str,
    ) -> None:
        """Say on the control lane what became of a command."""
        at = self.clock.now_ms()
        value = None if shown is None else number_text(shown)
        log.info("command %s of %s: %s %s", command, entity, state.value, " ".join(reasons))
        told = self._store.append_control(
            at,
            lambda seq: Outcome(
                seq=seq,
                at=at,
                command=command,
                entity=entity,
                state=state.value,
                device=device,
                point=point,
                value=value,
                reasons=list(reasons),
                text=text,
                x=dict(more),
            ),
        )
        if not told:
            log.error("the outcome of command %s could not be kept: %s", command, state.value)

    def note(self, kind: str, body: dict[str, object]) -> None:
        """Append to the audit; what cannot be written now waits."""
        self._store.audit(kind, body, self.clock.now_ms())
        self._published()

    async def noted(self, kind: str, body: dict[str, object]) -> None:
        """Append to the audit, or raise `AuditUnavailable`: what it tells must then not be done."""
        await self._store.audited(kind, body, self.clock.now_ms())
        self._published()
