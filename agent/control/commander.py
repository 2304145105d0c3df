"""The commander put together: what runs is looked at first, commands are taken, and all of it is put back.

Before the first poll: a control that ran when the agent ended goes on only if its end lies ahead by a
synchronised clock and its value reads back; every other one is put back at once: its end is past and was
drawn, or nothing is held there any more, or nobody can tell how long the device has held it already.
An orderly stop puts back all but those that the device's own timer ends.

Not here: deciding (`agent.control.taker`), the course of one control (`agent.control.course`).
"""

import asyncio
import contextlib
import logging
import random
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from typing import Final

from agent.control import journal
from agent.control.actuator import Actuator
from agent.control.beats import Beats
from agent.control.clocksetting import ClockSetting, SettableClock
from agent.control.course import Course
from agent.control.courses import Courses
from agent.control.desk import Desk
from agent.control.inforce import InForce
from agent.control.life import Control, State
from agent.control.optouts import OptOuts
from agent.control.ruling import default_of
from agent.control.taker import Taker
from policies.assignment import OptOut
from policies.beat import listened_to
from policies.facts import Freshness

log = logging.getLogger(__name__)

LOOK_S: Final = 0.5
"""How often opt-outs, lost contact and the loss of the policy are looked at."""
STOP_S: Final = 20.0
"""How long an orderly stop waits for controls to be put back."""
RUNNING: Final = (State.CONFIRMED, State.UNVERIFIED)


class Commander:
    """All controls of one gateway."""

    def __init__(
        self,
        gateway: str,
        in_force: InForce,
        desk: Desk,
        actuators: Sequence[Actuator],
        opt_outs: OptOuts,
        *,
        journal_lost: bool,
        segment: str = "main",
        clocks: Sequence[SettableClock] = (),
        rng: random.Random | None = None,
    ) -> None:
        """Prepare; nothing is read or written before :meth:`running`.

        ``segment``: whose hubs' beats are meant for this gateway.
        """
        self.courses = Courses()
        self._actuators = {(one.device, one.point.name): one for one in actuators}
        self._desk = desk
        self._opt_outs = opt_outs
        self._journal_lost = journal_lost
        self._rng = rng or random.SystemRandom()
        self.taker = Taker(
            gateway,
            in_force,
            desk,
            self._actuators,
            self.courses,
            opt_outs.now,
            self._rng,
            ClockSetting(desk, clocks),
        )
        self._in_force = in_force
        self.beats = Beats(segment, in_force, self.taker.contacts, desk.clock)

    def awaited(self) -> frozenset[str]:
        """Return the entities whose silence ends a control that runs, or one that may: their beats matter."""
        run = {one.entity for one in self.courses.controls if one.on_comm_loss == "restore"}
        return listened_to(self._in_force.rulebook) | run

    def snapshot(self) -> dict[str, object]:
        """Return the state for the status file."""
        return {
            "controls": [
                {
                    "command": one.id,
                    "entity": one.entity,
                    "device": one.device,
                    "point": one.point,
                    "value": str(one.value),
                    "state": one.state.value,
                    "begin_ms": one.begin_ms,
                    "end_ms": one.end_ms,
                }
                for one in self.courses.controls
            ],
            "no_commands": dict(self.taker.counts),
            "dropped": self.taker.inbox.dropped,
            "silent_s": self.taker.contacts.snapshot(),
            "beats": dict(self.beats.counts),
        }

    # --- start

    async def _begin(self) -> None:
        """Look at what ran when the agent ended."""
        clock = self._desk.clock
        now = clock.now_ms()
        await self._desk.call(lambda db: journal.begin(db, now, lost=self._journal_lost))
        for one in await self._desk.call(lambda db: journal.close_unfinished(db, now)):
            if one.state is State.DISPATCHED:
                text = "the agent ended in the middle of it: nobody knows whether it was written"
                self._desk.tell(one.entity, one.id, State.FAILED, one.device, one.point, ["restarted"], text)
        memory = await self._desk.call(journal.remember)
        self.taker.remember(memory)
        self._desk.changed.update(memory.changed)
        for one in memory.recent:
            codes = [one.code] if one.code else []
            self._desk.tell(one.entity, one.id, one.state, one.device, one.point, codes, "told after a start")
        goes_on = clock.state() == "synchronised" and not self._journal_lost
        for control in memory.controls:
            actuator = self._actuators.get((control.device, control.point))
            if actuator is None:
                self._orphan(control)
                continue
            if self._journal_lost:  # what it goes back to is said by nothing that is sure but the profile
                default = default_of(self._in_force.rulebook, actuator)
                control = replace(control, restore_to=default)
            course = Course(control, actuator, self._desk, self.taker.may_begin)
            if not control.started:
                if self._journal_lost or control.begin_ms < now:
                    course.end("journal-lost" if self._journal_lost else "too-late")
                self.courses.start(course, course.run())
            elif goes_on and control.end_ms > now and control.state is not State.RESTORING:
                self.courses.start(course, self._look_first(course))
            else:
                course.end("restarted")
                await course.prepare_to_put_back()
                self.courses.start(course, course.run())
        if self._journal_lost:
            self.courses.spawn("looking after the loss of the journal", self._look_at_everything())
        # Their acts lie in the lanes when the workers begin.
        for _ in range(3):
            await asyncio.sleep(0)

    async def _look_first(self, course: Course) -> None:
        control = course.control
        shown = await course.actuator.show(self._desk.lanes[course.actuator.line])
        if course.actuator.shows(shown, control.value):
            if control.state not in RUNNING:
                state = State.CONFIRMED if course.actuator.proves else State.UNVERIFIED
                course.control = await self._desk.step(control, state, "goes-on", "", shown.value)
            course.go_on()
        else:
            course.end("restarted")
        await course.run()

    def _orphan(self, control: Control) -> None:
        sentence = (
            f"command {control.id} of {control.entity} holds {control.point} of {control.device}, which is "
            "not configured any more: put it back by hand"
        )
        log.error("%s", sentence)
        self._desk.alarm("control-orphaned", True, sentence, control.device)

    async def _look_at_everything(self) -> None:
        """The journal was lost, nobody knows what runs: what is not at its default is told."""
        async with asyncio.TaskGroup() as group:
            for actuator in self._actuators.values():
                group.create_task(self.look_at(actuator), name=f"looking at {actuator.device}")
        await self._desk.call(journal.dealt_with)

    def actuator(self, device: str, point: str) -> Actuator:
        """Return a point that can be controlled."""
        return self._actuators[device, point]

    async def look_at(self, actuator: Actuator) -> None:
        """Tell when a point is not at its value without control."""
        await self._in_force.looked_for()
        for course in self.courses.at(actuator.device, actuator.point.name):
            await course.over.wait()  # it is put back, and says itself where it does not go
        shown = await actuator.present(self._desk.lanes[actuator.line])
        default = default_of(self._in_force.rulebook, actuator)
        if actuator.shows(shown, default):
            return
        found = f"shows {shown.value}" if shown.value is not None else f"cannot be read ({shown.why})"
        sentence = (
            f"the journal of controls was lost, and {actuator.point.name} of {actuator.device} {found}, not "
            f"{default}: find out who ordered it, and put it back"
        )
        log.error("%s", sentence)
        self._desk.alarm("control-unknown", True, sentence, actuator.device)

    # --- running and stopping

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Own what runs; entered before the lines are polled, left when they no longer are."""
        async with self.courses.tasks():
            await self._begin()
            self.courses.spawn("commands", self.taker.run())
            self.courses.spawn("beats", self.beats.run())
            self.courses.spawn("control-watch", self._watch())
            self.courses.spawn("policy-watch", self._watch_policy())
            yield

    async def _watch(self) -> None:
        while True:
            now_ms, opt_outs = self._desk.clock.now_ms(), self._refusals()
            for course in self.courses.all():
                control = course.control
                if control.opt_out != "none" and any(_concerns(one, control, now_ms) for one in opt_outs):
                    if control.opt_out == "any_time" or not control.started:
                        course.end("opted-out")
                elif (
                    control.state in RUNNING
                    and control.on_comm_loss == "restore"
                    and self.taker.contacts.silent_s(control.entity) > control.comm_loss_after_s
                ):
                    # Whoever lost a hub has lost it for all its controls at the same instant.
                    course.end_within("contact-lost", self._rng.uniform(0, control.spread_s))
            await asyncio.sleep(LOOK_S)

    def _refusals(self) -> tuple[OptOut, ...]:
        """Return the customer's noes: those given at the box, and those of the assignment in force."""
        book = self._in_force.rulebook
        assignment = None if book is None else book.assignment
        return (*self._opt_outs.now(), *(assignment.opt_outs if assignment else ()))

    async def _watch_policy(self) -> None:
        """Put back what runs where there is no policy any more: nobody answers for it."""
        await self._in_force.looked_for()
        while True:
            if self._in_force.rulebook is None or self._in_force.freshness is Freshness.NO_POLICY:
                for course in self.courses.all():
                    if course.control.started:  # one that waits is judged when its time has come
                        course.end("no-policy")
            await asyncio.sleep(LOOK_S)

    async def stop(self) -> None:
        """Put back what the device does not end by itself, while the lines are still served.

        The next start goes on with what takes longer.
        """
        self.courses.close()
        waiting = []
        for course in self.courses.all():
            control = course.control
            if control.state in RUNNING and course.ends_by_itself:
                course.leave()
                waiting.append(course)
            elif control.started:
                course.end("stopped")
                waiting.append(course)
        try:
            async with asyncio.timeout(STOP_S):
                for course in waiting:
                    await course.over.wait()
        except TimeoutError:
            log.error("not every control could be put back in time: the next start goes on with it")


def _concerns(one: OptOut, control: Control, now_ms: int) -> bool:
    """Tell whether a no speaks of a control: of what is left of one that waits, of this instant otherwise."""
    end_ms = now_ms + 1 if control.started else max(control.end_ms, now_ms + 1)
    begin_ms = now_ms if control.started else max(control.begin_ms, now_ms)
    return (
        (one.device is None or one.device == control.device)
        and (one.entity is None or one.entity == control.entity)
        and (one.grant is None or one.grant == control.grant)
        and one.valid.touches(begin_ms, end_ms)
    )
