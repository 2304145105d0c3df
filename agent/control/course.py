"""The course of one control: wait, write once, see that it was obeyed, hold, put back until that shows.

The value is written at most once.  Putting it back is repeated with growing pauses, and an alarm, until the
feedback shows it, over any number of restarts.  Time runs on the monotonic clock from the write on.
Relies on `agent.control.actuator` for the acts and on `agent.control.desk` for writing each step down
first.  Not here: whether it may begin (``may_begin``), and who ends it early.
"""

import asyncio
import contextlib
import logging
import math
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from agent.control.actuator import Actuator, LockedOut, Shown
from agent.control.desk import Armed, Desk, Step
from agent.control.handover import Claim, Handover, TakenBack
from agent.control.life import TOUCHED, Control, State
from agent.control.tending import Tending
from agent.control.watchdog import put_back_or_why
from core.errors import FieldError
from drivers.modbus.link import reason_of
from policies.forms import instant_text

log = logging.getLogger(__name__)

SETTLE_S: Final = (0.0, 0.2, 0.3, 0.5, 1.0, 1.5, 1.5)
"""Pauses before each look at the feedback: five seconds in all (a guess; types do not say)."""
FIRST_PAUSE_S: Final = 1.0
LONGEST_PAUSE_S: Final = 60.0
TRIES_BEFORE_ALARM: Final = 3
LOOK_S: Final = 1.0
"""The wall clock is looked at so often while a beginning is waited for: it may be stepped."""
BEYOND_S: Final = 5.0
"""So much longer than a minimum time a hold is kept up by it: we end it, not the device."""
TEND_S: Final = 1.0
"""How often is looked whether something is to be done while a control holds."""


@dataclass(frozen=True, slots=True)
class Judged:
    """Whether a control may begin."""

    codes: tuple[str, ...] = ()
    """Why not."""
    ends: tuple["Course", ...] = ()
    """Those of the point that give way to it."""


MayBegin = Callable[[Control], Awaitable[Judged]]
"""Judges a control again when its time has come."""


class Course:
    """One control on its way."""

    def __init__(
        self,
        control: Control,
        actuator: Actuator,
        desk: Desk,
        may_begin: MayBegin,
        judged: Judged | None = None,
    ) -> None:
        """Take a control as the journal has it; ``judged`` is what was just now decided of its beginning."""
        self.control = control
        self.actuator = actuator
        self._desk = desk
        self._lane = desk.lanes[actuator.line]
        self._may_begin = may_begin
        self._judged = judged
        self._stop = asyncio.Event()
        """It is to end, or to give way."""
        self._claim: Claim | None = None
        self._stays = False
        self._drawn = False
        """Whether an end before its end was drawn."""
        self._why = ""
        self._until = 0.0
        """Monotonic end of the control."""
        self._late = "ended"
        """Why it ends then."""
        self.over = asyncio.Event()

    def end(self, why: str) -> None:
        """End it now; the first reason counts."""
        if not self._why:
            self._why = why
            self._stop.set()
            if self._claim is not None:
                self._claim.turn.set()

    def claim(self, claim: Claim) -> bool:
        """Hear that another control takes over; False when one that does waits already."""
        if self._claim is not None and not self._claim.verdict.done():
            return False
        self._claim = claim
        if self.over.is_set():
            claim.stands(True)
        self._stop.set()
        return True

    def end_within(self, why: str, seconds: float) -> None:
        """End it so much later, but not later than it would have ended; only the first draw counts.

        For what ends many controls at one instant: their loads are not to come back all at once.
        """
        at = self._desk.clock.mono() + seconds
        if seconds <= 0:
            self.end(why)
        elif not self._drawn and at < self._until:
            self._until, self._late = at, why
        self._drawn = True

    async def run(self) -> None:
        """Go on from the state in the journal to the end."""
        try:
            if self.control.state is State.ACCEPTED and not await self._begin():
                return
            if self.control.state in (State.CONFIRMED, State.UNVERIFIED):
                await self._hold()
            if self.control.state in TOUCHED:
                await self._put_back()
        finally:
            self.over.set()
            if self._claim is not None:
                self._claim.stands(True)

    def stay(self) -> None:
        """Begin nothing any more: what waits stands in the journal, and the next start goes on with it."""
        self._stays = True

    @property
    def ends_by_itself(self) -> bool:
        """Whether the installed device ends it without us, where it has to go back to."""
        return self.actuator.ends_by_itself(self._goal)

    def leave(self) -> None:
        """Let the device's own timer end it: the agent stops."""
        self.end("left")

    async def prepare_to_put_back(self) -> None:
        """Write down that it is being put back, so that the act itself is the first thing on its line."""
        if self.control.state is not State.RESTORING:
            await self._restoring(self._why)

    def go_on(self) -> None:
        """Reckon the end after a restart by the wall clock, which must be right."""
        left = (self.control.end_ms - self._desk.clock.now_ms()) / 1000
        self._until = self._desk.clock.mono() + left

    # --- beginning

    async def _begin(self) -> bool:
        clock = self._desk.clock
        while (left := (self.control.begin_ms - clock.now_ms()) / 1000) > 0:
            self._judged = None
            if await self._stopped_within(min(left, LOOK_S)):
                break
        if self._why or self.control.ended:
            if not self.control.ended:
                await self._step(State.CANCELLED, self._why)
            return False
        judged = self._judged or await self._may_begin(self.control)
        if self._stays:
            return False
        codes = judged.codes
        if not codes and self._length_s <= 0:
            codes = ("too-late",)
        if codes:
            await self._step(State.REFUSED, codes[0], ", ".join(codes))
            return False
        handover = Handover(judged.ends)
        try:
            if not await handover.agreed():
                raise TakenBack
            await self._write(handover)
        except TakenBack:
            if not self._stays:
                await self._step(State.REFUSED, "busy", "the control before it is not over")
        finally:
            handover.give_up()
        return self.control.started

    @property
    def _length_s(self) -> float:
        return (self.control.end_ms - self._desk.clock.now_ms()) / 1000

    async def _gave_way(self, seconds: float) -> bool:
        """Stand still for another control; True when it took over, or this one has to end meanwhile."""
        claim = self._claim
        assert claim is not None
        self._stop.clear()
        claim.stands(True)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(seconds, 0)):
                await claim.turn.wait()
        if not claim.verdict.done() and not claim.closing:
            claim.stands(False)
            return bool(self._why)
        after = await claim.verdict
        if after is not None:
            self.control = after
        return after is not None or bool(self._why)

    async def _dispatch(
        self, handover: Handover, registers: Sequence[str], watchdog: tuple[str, int | None] | None
    ) -> None:
        """Write down that it is going to be written, and in the same transaction whom it takes over from."""
        steps = None if self._stays else handover.close()
        if steps is None:
            raise TakenBack
        taken = [Step(control, state, "superseded") for control, state in steps]
        mine = Step(self.control, State.DISPATCHED, writes=registers, watchdog=watchdog)
        *before, self.control = await self._desk.steps(*taken, mine)
        handover.done(before)

    async def _write(self, handover: Handover) -> None:
        control, actuator, length_s = self.control, self.actuator, self._length_s
        try:
            hold_s = actuator.hold_s(max(length_s, control.least_s))
            registers = actuator.registers(control.value, hold_s)
        except ValueError as error:
            await self._step(State.REFUSED, "value-range", str(error))
            return
        now = self._desk.clock.mono()
        self._until = now + length_s

        async def dispatched(before: int | None) -> None:
            place = None if hold_s is None else actuator.watchdog_place
            await self._dispatch(handover, registers, place and (place[1], before))
            if actuator.hold_place is not None and hold_s is not None:
                self._desk.armed[actuator.hold_place] = Armed(float(hold_s), now)

        failed = text = ""
        try:
            await actuator.order(self._lane, control.value, hold_s, dispatched)
        except LockedOut as error:
            await self._step(State.REFUSED, "locked-out", str(error))
            return
        except FieldError as error:
            failed, text = reason_of(error), str(error)
            if not self.control.started:
                await self._step(State.REFUSED, "locked-out", f"its lock could not be read: {text}")
                return
        shown = await self._settled(control.value)
        if actuator.shows(shown, control.value):
            state = State.CONFIRMED if actuator.proves else State.UNVERIFIED
            await self._step(state, "", text, shown.value)
        elif not failed and shown.why == "unreadable":
            await self._step(State.UNVERIFIED, "no-feedback")
        else:
            what = "not-obeyed" if shown.value is not None else "no-answer"
            await self._step(State.FAILED, failed or what, text or shown.why, shown.value)

    async def _settled(self, value: Decimal) -> Shown:
        shown = Shown(None, "unreadable")
        for pause in SETTLE_S:
            await asyncio.sleep(pause)
            shown = await self.actuator.show(self._lane)
            if self.actuator.shows(shown, value) or shown.why == "unreadable":
                break
        return shown

    # --- holding and putting back

    async def _hold(self) -> None:
        mono = self._desk.clock.mono
        tending = Tending(self.actuator, self._desk, self.control.value, self._left)
        while self._until > mono():
            why = await tending.tend()
            if why:
                self.end(why)
            if await self._stopped_within(min(self._until - mono(), TEND_S)):
                return

    def _left(self) -> float:
        """Return for how many seconds the control still lasts; 0 once it is to end."""
        return 0.0 if self._stop.is_set() else self._until - self._desk.clock.mono()

    async def _stopped_within(self, seconds: float) -> bool:
        """Wait; True when it ends before, or another control has taken over."""
        try:
            async with asyncio.timeout(max(seconds, 0)):
                await self._stop.wait()
        except TimeoutError:
            return False
        return bool(self._why) or await self._gave_way(seconds)

    async def _put_back(self) -> None:
        if self._why == "left" and self.control.state is not State.FAILED:
            await self._step(State.LEFT, "left")
            return
        if self.control.state is not State.RESTORING:
            await self._restoring(self._why_it_ends)
        await self._wait_for_minimum()
        pause, tries = FIRST_PAUSE_S, 0
        while not await self._back():
            tries += 1
            if tries == TRIES_BEFORE_ALARM:
                self._alarm(True, f"does not go back to {self._goal}: somebody has to look")
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE_S)
        if tries >= TRIES_BEFORE_ALARM:
            self._alarm(False, f"went back to {self._goal}")

    @property
    def _why_it_ends(self) -> str:
        """The reason why it is put back: what failed, where it failed, else who or what ended it."""
        if self.control.state is State.FAILED and self._why in ("", "left"):
            return self.control.why
        return self._why or self._late

    @property
    def _goal(self) -> Decimal:
        """What it goes back to: what was decided; the type's default where nothing was, or it cannot stay."""
        wanted = self.control.restore_to
        return self.actuator.default if wanted is None or not self.actuator.rests_at(wanted) else wanted

    def _least_left_s(self) -> float:
        """Return for how long the device has to stay as it is, by profile and type; 0 when it need not."""
        control, limits = self.control, self.actuator.limits
        least = max(control.least_s, limits.min_on_s if control.value else limits.min_off_s)
        since = control.written_ms or self._desk.changed.get((control.device, control.point), 0)
        left = since / 1000 + least - self._desk.clock.now_ms() / 1000
        return left if 0 < left <= least else 0.0

    async def _restoring(self, why: str) -> None:
        """Write down that it is being put back, and tell at once by what that is delayed."""
        left, text = self._least_left_s(), ""
        if left:
            until = self._desk.clock.now_ms() + math.ceil(left) * 1000
            text = f"delayed by the minimum time until {instant_text(until // 1000 * 1000)}"
        await self._step(State.RESTORING, why, text)

    async def _wait_for_minimum(self) -> None:
        """Minimum on and off times delay putting back and never cancel it; the hold is kept up meanwhile."""
        mono = self._desk.clock.mono
        ends = mono() + self._least_left_s()
        tending = Tending(self.actuator, self._desk, self.control.value, lambda: ends - mono() + BEYOND_S)
        while ends > mono():
            await tending.tend()
            await asyncio.sleep(max(0.0, min(ends - mono(), TEND_S)))

    async def _back(self) -> bool:
        """Write it back once and look; True when that shows, or when nothing could show it."""
        goal, text = self._goal, ""
        registers: tuple[str, ...] = ()
        try:
            registers = self.actuator.registers(goal, None)
            await self.actuator.write(self._lane, goal, None)
        except (FieldError, ValueError) as error:
            text = str(error)
        await self._desk.counted(self.control.device, registers, self.control.point)
        shown = await self._settled(goal)
        unreadable = not text and shown.why == "unreadable"
        if unreadable or self.actuator.shows(shown, goal):
            done, also = await put_back_or_why(self.actuator, self._desk, self.control)
            if done:
                why = "no-feedback" if unreadable else ""
                await self._step(State.RESTORED, why, text or also, shown.value)
                return True
            text = also
        log.warning("command %s: %s is not back at %s: %s", self.control.id, self.control.device, goal, text)
        return False

    def _alarm(self, raised: bool, what: str) -> None:
        sentence = f"device {self.control.device}, point {self.control.point}: {what}"
        self._desk.alarm("restore-failing", raised, sentence, self.control.device)

    async def _step(self, state: State, why: str = "", text: str = "", shown: Decimal | None = None) -> None:
        self.control = await self._desk.step(self.control, state, why, text, shown)
