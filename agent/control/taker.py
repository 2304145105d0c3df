"""Taking a command: verify, once and in order, decide, audit, answer.

    Arrival -> envelope -> journal.admit -> facts -> decide -> audit -> Course, or a refusal with its codes

What has no valid signature is counted, and neither journal nor audit nor anybody's outcome tells of it.
Cancelling needs no audit and no fresh policy: only that it is signed by who may.  Relies on
`agent.control.desk`.  Not here: what a control does (`agent.control.course`), starting and stopping
(`agent.control.commander`).
"""

import asyncio
import logging
import random
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from agent.control import gather, journal, wear
from agent.control.actuator import Actuator
from agent.control.clocksetting import ClockSetting
from agent.control.contacts import Contacts
from agent.control.course import Course, Judged
from agent.control.courses import Courses
from agent.control.desk import Desk
from agent.control.fitness import unfit
from agent.control.inbox import Arrival, Inbox
from agent.control.inforce import InForce
from agent.control.life import Control, State
from agent.control.repeats import Repeats
from agent.control.ruling import Present, Ruling, audited, codes_of
from core.errors import AuditUnavailable, StoreError
from policies.assignment import OptOut
from policies.command import Command
from policies.decision import Decision, Plan
from policies.envelope import EnvelopeError, Opened, open_envelope
from policies.facts import Period, Used
from policies.grant import Verb
from policies.roster import Key

log = logging.getLogger(__name__)

TELL_S: Final = 60.0
"""How often the log says that messages without a valid signature come."""
EARLY: Final = "no command of that id came yet: if one of yours does, it is refused"


class Taker:
    """Decides the commands of one gateway."""

    def __init__(
        self,
        gateway: str,
        in_force: InForce,
        desk: Desk,
        actuators: Mapping[tuple[str, str], Actuator],
        courses: Courses,
        opt_outs: Callable[[], tuple[OptOut, ...]],
        rng: random.Random,
        setting: ClockSetting,
    ) -> None:
        """Prepare; :meth:`remember` is called before anything is taken."""
        self.inbox = Inbox(gateway)
        self.counts: Counter[str] = Counter()
        """Messages that were no command of anybody, or came again, by code: a number, never one by one."""
        self.memory = journal.Memory((), {}, {}, (), 0)
        self.contacts = Contacts(desk.clock)
        self._ruling = Ruling(gateway, in_force, desk, actuators, courses, opt_outs, self.contacts)
        self._in_force = in_force
        self._desk = desk
        self._actuators = actuators
        self._courses = courses
        self._rng = rng
        self._setting = setting
        self._used: dict[Period, Used] = {}
        self._repeats = Repeats()
        self._deciding = asyncio.Lock()
        """Held from the facts to the reservation: two commands never share one budget or one free point."""
        self._underway: dict[tuple[str, str], str] = {}
        """Commands that are being decided."""
        self._decided = asyncio.Event()
        self._told_at = -TELL_S

    def remember(self, memory: journal.Memory) -> None:
        """Take what the journal holds."""
        self.memory = memory
        self._used = dict(memory.used)

    async def run(self) -> None:
        """Take for ever; what comes before the policy was looked for waits: whose it is cannot be known."""
        await self._in_force.looked_for()
        while True:
            arrival = await self.inbox.next()
            try:
                await self._take(arrival)
            except StoreError as error:
                # Fails closed: what could not be written down was not done, and may be sent again.
                log.error("a command could not be taken: %s", error)
            await asyncio.sleep(0)

    async def _take(self, arrival: Arrival) -> None:
        try:
            opened = open_envelope(arrival.payload, self._key_of)
            if (arrival.entity, arrival.device) != (opened.command.issuer.entity, opened.command.device):
                raise EnvelopeError("malformed", "it came on the topic of another entity or device")
        except EnvelopeError as error:
            self._count(error)
            return
        command = opened.command
        if arrival.retained:
            await self._repeat(command, "retained")
            return
        now = self._desk.clock.now_ms()
        found = await self._desk.call(
            lambda db: journal.admit(db, command, opened.digest, arrival.payload, now, self.memory.born_ms)
        )
        if isinstance(found, journal.Known) or found:
            await self._repeat(command, found)
            return
        self.contacts.heard(command.issuer.entity, command.issued_ms)
        if command.verb is Verb.CANCEL and command.cancels in self._underway.values():
            self._courses.spawn(f"cancelling {command.cancels}", self._cancel_decided(opened, now))
        elif command.verb is Verb.CANCEL:
            await self._cancel(opened, now)
        else:
            way = self._decide(opened, now)
            if self._courses.full:
                way.close()
                await self._refuse(command, ("busy",), admitted=True)
            else:
                self._courses.spawn(f"deciding {command.id}", way)

    async def _repeat(self, command: Command, found: journal.Known | str) -> None:
        """Answer a message that is not taken, unless its entity had many such answers lately."""
        code = "replayed" if isinstance(found, journal.Known) else found
        self.counts[code] += 1
        if not self._repeats.answered(command.issuer.entity, time.monotonic()):
            return
        if isinstance(found, journal.Known):
            codes = [code, *filter(None, [found.code])]
            self._tell(command, found.state, codes, "it came before; this is where it stands")
        else:
            await self._refuse(command, (code,))

    def _key_of(self, entity: str, id_: str) -> Key | None:
        book = self._in_force.rulebook
        holder = None if book is None else book.holders(entity).get(id_)
        return None if holder is None else holder.key

    def _count(self, error: EnvelopeError) -> None:
        self.counts[error.code] += 1
        now = time.monotonic()
        if now - self._told_at >= TELL_S:
            self._told_at = now
            log.warning("messages that are no command of anybody: %s; the last: %s", dict(self.counts), error)

    # --- deciding

    async def _decide(self, opened: Opened, received_ms: int) -> None:
        key = opened.command.issuer.entity, opened.command.id
        self._underway[key] = opened.command.id
        try:
            await self._decide_underway(opened, received_ms)
        finally:
            del self._underway[key]
            self._decided.set()

    async def _decide_underway(self, opened: Opened, received_ms: int) -> None:
        async with self._deciding:
            decision = self._first_decision(opened, received_ms, self._ruling.unseen(opened.command))
            if not decision.wants_to_know:
                await self._carry_out(decision, opened.command)
                return
        present = await self._ruling.present(opened.command)
        async with self._deciding:
            await self._carry_out(self._first_decision(opened, received_ms, present), opened.command)

    async def _carry_out(self, decision: Decision, command: Command) -> None:
        try:
            await self._desk.noted("decision", audited(command, decision, self._in_force.versions))
        except AuditUnavailable as error:
            log.error("%s", error)
            await self._refuse(command, ("audit-unavailable",), admitted=True)
            return
        if not decision.allowed:
            await self._refuse(command, codes_of(decision), admitted=True, audited=True)
        elif decision.plan is not None and self._ruling.silent_too_long(decision.plan, command.issuer.entity):
            await self._refuse(command, ("no-contact",), admitted=True)
        elif decision.plan is not None:
            await self._accept(command, decision.plan)

    def _first_decision(self, opened: Opened, received_ms: int, present: Present) -> Decision:
        used = gather.Budgets(self._used, self.memory.born_ms)
        return self._ruling.of(opened, received_ms, present, self._courses.controls, used)

    async def _accept(self, command: Command, plan: Plan) -> None:
        value = command.value
        if plan.duration_s == 0 or value is None:
            await self._set_clock(command, plan)
            return
        actuator = self._actuators[command.device, command.point]
        now = self._desk.clock.now_ms()
        begin = max(plan.begin_ms, now) + self._rng.randint(0, plan.random_start_s * 1000)
        end = (
            begin + max(plan.duration_s, plan.least_s) * 1000 + self._rng.randint(0, plan.random_end_s * 1000)
        )
        control = Control(
            entity=command.issuer.entity,
            id=command.id,
            device=command.device,
            point=command.point,
            verb=command.verb.value,
            grant=plan.grant,
            revision=plan.revision,
            level=plan.level,
            preemptible=plan.preemptible,
            value=value,
            restore_to=plan.restore_to,
            hold=plan.hold,
            on_comm_loss=plan.on_comm_loss,
            comm_loss_after_s=plan.comm_loss_after_s,
            opt_out=plan.opt_out,
            begin_ms=begin,
            end_ms=min(end, plan.latest_end_ms),
            state=State.ACCEPTED,
            changed_ms=now,
            spread_s=plan.random_end_s,
            least_s=plan.least_s,
        )
        if wear.day(control.begin_ms) == wear.day(now):
            code = await unfit(self._desk, actuator, control, self.memory.born_ms)
            if code:
                await self._refuse(command, (code,), admitted=True)
                return
        if not await self._desk.call(lambda db: journal.accept(db, command, control, plan.reserve)):
            await self._refuse(command, ("out-of-order",), admitted=True)
            return
        for one in plan.reserve:
            before = self._used.get(one.period, Used(0, 0))
            self._used[one.period] = Used(before.controls + one.count, before.seconds + one.seconds)
        more: dict[str, int | str] = {"begin": control.begin_ms, "end": control.end_ms, "grant": plan.grant}
        self._tell(command, State.ACCEPTED, (), "", **more, **self._in_force.versions)
        judged = Judged(ends=self._giving_way(control, plan))
        course = Course(control, actuator, self._desk, self.may_begin, judged)
        self._courses.start(course, course.run())

    def _giving_way(self, control: Control, plan: Plan) -> tuple[Course, ...]:
        """Return who gives way; an id means something within its entity, so the time tells as well."""
        return tuple(
            course
            for course in self._courses.at(control.device, control.point)
            if course.control.id in plan.ends
            and course.control.key != control.key
            and course.control.begin_ms < plan.latest_end_ms
            and plan.begin_ms < course.control.end_ms
        )

    async def _set_clock(self, command: Command, plan: Plan) -> None:
        code = await self._setting.unfit(command, plan.begin_ms, self.memory.born_ms)
        if code:
            await self._refuse(command, (code,), admitted=True)
            return
        if not await self._desk.call(lambda db: journal.in_order(db, command)):
            await self._refuse(command, ("out-of-order",), admitted=True)
            return
        more: dict[str, int | str] = {"grant": plan.grant, **self._in_force.versions}
        self._tell(command, State.ACCEPTED, (), "", **more)
        self._courses.spawn(f"setting the clock of {command.device}", self._setting.carry_out(command))

    async def may_begin(self, control: Control) -> Judged:
        """Judge a control again when its time has come: signatures, policy and facts of that moment."""
        await self._in_force.looked_for()
        raw = await self._desk.call(lambda db: journal.envelope(db, control.key))
        try:
            opened = open_envelope(raw, self._key_of)
        except EnvelopeError as error:
            return Judged((error.code,))
        present = self._ruling.unseen(opened.command)
        decision = self._ruling.of(opened, control.changed_ms, present, self._beside(control), {})
        if decision.wants_to_know:
            present = await self._ruling.present(opened.command)
            decision = self._ruling.of(opened, control.changed_ms, present, self._beside(control), {})
        if not decision.allowed or decision.plan is None:
            await self._desk.noted("decision", audited(opened.command, decision, self._in_force.versions))
            return Judged(codes_of(decision))
        if self._ruling.silent_too_long(decision.plan, control.entity):
            return Judged(("no-contact",))
        actuator = self._actuators[control.device, control.point]
        code = await unfit(self._desk, actuator, control, self.memory.born_ms)
        return Judged((code,) if code else (), self._giving_way(control, decision.plan))

    def _beside(self, control: Control) -> list[Control]:
        """Return the other controls; its own budget is reserved already, and theirs do not take it away."""
        return [one for one in self._courses.controls if one.key != control.key]

    # --- cancelling and refusing

    async def _cancel_decided(self, opened: Opened, received_ms: int) -> None:
        """Cancel what is being decided: once it is, so that it does not begin behind its own cancellation."""
        while opened.command.cancels in self._underway.values():
            self._decided.clear()
            await self._decided.wait()
        await self._cancel(opened, received_ms)

    async def _cancel(self, opened: Opened, received_ms: int) -> None:
        command = opened.command
        if received_ms > command.expires_ms and self._desk.clock.state() != "unsure":
            # It may be one that was sent again after the journal forgot it.
            await self._refuse(command, ("command-expired",), admitted=True)
            return
        decision = self._ruling.of_cancel(opened, received_ms)
        self._desk.note("decision", audited(command, decision, self._in_force.versions))
        if not decision.allowed:
            codes = codes_of(decision)
            early = codes == ("not-yours",) and await self._cancel_unknown(command)
            await self._refuse(command, codes, admitted=True, audited=True, text=EARLY if early else "")
            return
        named = [
            course
            for course in self._courses.at(command.device, command.point)
            if course.control.id == command.cancels
        ]
        own = [course for course in named if course.control.entity == command.issuer.entity]
        # Who has none there was allowed because the device is his, or the policy.
        ended = own or named
        for course in ended:
            course.end("cancelled")
        early = not ended and await self._cancel_unknown(command)
        await self._answer(command, State.DONE, "" if ended else "nothing-runs", text=EARLY if early else "")

    async def _cancel_unknown(self, command: Command) -> bool:
        """Remember a cancellation that overtook its command; an id of the entity itself is meant then."""
        now = self._desk.clock.now_ms()
        return await self._desk.call(lambda db: journal.cancel_unknown(db, command, now))

    async def _refuse(
        self,
        command: Command,
        codes: Sequence[str],
        *,
        admitted: bool = False,
        audited: bool = False,
        text: str = "",
    ) -> None:
        """Answer that it is not done, and why; only what was admitted has an answer in the journal."""
        if not audited:
            self._desk.note(
                "refusal",
                {"command": command.id, "entity": command.issuer.entity, "codes": list(codes)},
            )
        if admitted:
            await self._answer(command, State.REFUSED, *codes, text=text)
        else:
            self._tell(command, State.REFUSED, codes, text)

    async def _answer(self, command: Command, state: State, *codes: str, text: str = "") -> None:
        entity, now = command.issuer.entity, self._desk.clock.now_ms()
        first = codes[0] if codes else ""
        await self._desk.call(lambda db: journal.note_answer(db, entity, command.id, state, first, now))
        self._tell(command, state, [code for code in codes if code], text)

    def _tell(
        self, command: Command, state: State, codes: Sequence[str] = (), text: str = "", **more: int | str
    ) -> None:
        entity = command.issuer.entity
        self._desk.tell(entity, command.id, state, command.device, command.point, codes, text, None, **more)
