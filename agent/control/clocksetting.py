"""Setting a device's own clock to the gateway's: read, written once, read back, and nothing to put back.

Only while the gateway's clock is synchronised, which is looked at in the same act on the line, right before
the instant is taken that is written.  Each step is in the journal before it is done, so that an agent that
starts again tells what it does not know.  Relies on `agent.control.desk`.  Not here: who may
(`agent.control.taker`), and comparing clocks day by day (`agent.deviceclock`).
"""

import logging
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from agent.clock import Clock
from agent.commandlane import CommandLane
from agent.config_models import Config
from agent.config_rules import Types
from agent.control import wear
from agent.control.actuator import Actuator, LockedOut
from agent.control.desk import Desk
from agent.control.life import State
from agent.deviceclock import OURS_MS, Compared
from core.errors import FieldError, PorticoError
from drivers.modbus.link import TIMEOUT_S, ControlLink, reason_of
from drivers.modbus.plan import plan
from drivers.modbus.values import GroupDecoder
from drivers.modbus.writes import clock_write, send
from drivers.points import ClockSpec, PointType
from drivers.sections import WRITES_A_DAY
from policies.command import Command

log = logging.getLogger(__name__)

LATER_MS: Final = 1000
"""A command that shall begin later than this is for what lasts."""


class ClockUnsure(PorticoError):
    """The gateway's own clock is not synchronised: nothing was written."""


class WasSet(NamedTuple):
    """How a device's clock stood before and after."""

    before: Compared | None
    """None: it showed nothing that can be compared."""
    after: Compared | None
    """None: it could not be read back."""
    within_ms: float
    """What is left open of the offset after it: transit, and the register's step."""


@dataclass(frozen=True, slots=True, eq=False)
class SettableClock:
    """The clock of one device, where its type says how it is set."""

    device: str
    unit_id: int
    line: str
    point: PointType
    timeout_s: float
    pause_s: float
    locks: tuple[Actuator, ...] = ()
    """Whatever locks control out at the device locks this out too."""

    @property
    def spec(self) -> ClockSpec:
        """What the type says of it."""
        assert self.point.sense is not None
        assert self.point.sense.clock is not None
        return self.point.sense.clock

    @property
    def step_ms(self) -> float:
        """By how much it moves at least."""
        steps = self.point.steps
        return abs(steps.mult) * 10.0**steps.exp * 1000

    @property
    def registers(self) -> tuple[str, ...]:
        """What is written, as wear is counted."""
        return (clock_write(self.point, self.spec.since_ms).register,)

    async def set(self, lane: CommandLane, clock: Clock, first: Callable[[], Awaitable[None]]) -> WasSet:
        """Set it once, after ``first``; a clock that cannot be read before is not set.

        `LockedOut`, `ClockUnsure`, FieldError, or ValueError where its register does not reach so far.
        """

        async def act(link: ControlLink) -> WasSet:
            for lock in self.locks:
                if await lock.is_locked(link) is not False:
                    raise LockedOut(f"{self.device} is locked at the device, or nobody can tell")
            if clock.state() != "synchronised":
                raise ClockUnsure("the gateway's own clock is not synchronised: nothing was written")
            before = await self._compared(link, clock)
            await first()
            now = clock.now_ms()
            await send(link, self.unit_id, clock_write(self.point, now), self.timeout_s, self.pause_s)
            took_ms = clock.now_ms() - now
            try:
                after = await self._compared(link, clock)
            except FieldError:
                after = None
            open_ms = self.step_ms / 2 + took_ms + (after.within_ms if after is not None else 0)
            return WasSet(before, after, open_ms)

        return await lane.take(act)

    async def _compared(self, link: ControlLink, clock: Clock) -> Compared | None:
        [request] = requests = plan((self.point,))
        asked = clock.now_ms()
        answer = await link.read(self.unit_id, request, self.timeout_s, self.pause_s)
        answered = clock.now_ms()
        values, _ = GroupDecoder((self.point,), requests).decode([answer])
        shown = values[0]
        if not isinstance(shown, int) or isinstance(shown, bool):
            return None
        at = (asked + answered) / 2
        offset = self.spec.since_ms + shown * 10.0**self.point.steps.exp * 1000 - at
        return Compared(at, offset, (answered - asked) / 2 + self.step_ms + OURS_MS)


def clocks(config: Config, types: Types, actuators: Sequence[Actuator]) -> Iterator[SettableClock]:
    """Yield the clocks of the configured devices that can be set."""
    for device in config.devices:
        found, line = types(device.type), config.line(device.line)
        given = "timeout" in line.model_fields_set
        timeout_s = line.timeout.s if given else found.limits.timeout_ms / 1000
        locks = [one for one in actuators if one.device == device.name and one.lock is not None]
        for point in found.points:
            if point.sense is not None and point.sense.clock is not None and point.sense.clock.set:
                yield SettableClock(
                    device.name,
                    device.unit_id,
                    device.line,
                    point,
                    timeout_s or TIMEOUT_S,
                    line.pause.s,
                    tuple({one.lock.name: one for one in locks if one.lock is not None}.values()),
                )


class ClockSetting:
    """Carries out commands that set a clock."""

    def __init__(self, desk: Desk, settable: Sequence[SettableClock]) -> None:
        self._desk = desk
        self._clocks = {(one.device, one.point.name): one for one in settable}

    async def unfit(self, command: Command, begin_ms: int, born_ms: int) -> str:
        """Return a code why it cannot be carried out, empty where it can."""
        found, now = self._clocks.get((command.device, command.point)), self._desk.clock.now_ms()
        if found is None:
            return "no-clock"
        if begin_ms > now + LATER_MS:
            return "incomplete"
        if self._desk.clock.state() != "synchronised":
            return "clock-unsure"
        lost_today = wear.day(born_ms) == wear.day(now)
        if lost_today or not await self._desk.has_room(found.device, found.registers, WRITES_A_DAY):
            return "write-budget"
        return ""

    async def carry_out(self, command: Command) -> None:
        """Set it, and tell each step."""
        found = self._clocks[command.device, command.point]
        dispatched = False

        async def first() -> None:
            nonlocal dispatched
            await self._desk.answer(command, State.DISPATCHED, "", "", found.registers)
            dispatched = True

        try:
            was = await found.set(self._desk.lanes[found.line], self._desk.clock, first)
        except LockedOut as error:
            await self._desk.answer(command, State.REFUSED, "locked-out", str(error))
        except ClockUnsure as error:
            await self._desk.answer(command, State.REFUSED, "clock-unsure", str(error))
        except FieldError as error:
            if dispatched:
                await self._failed(command, reason_of(error), str(error))
            else:
                await self._desk.answer(command, State.REFUSED, reason_of(error), str(error))
        except ValueError as error:
            await self._failed(command, "value-range", str(error))
        else:
            await self._judge(command, found, was)

    async def _judge(self, command: Command, found: SettableClock, was: WasSet) -> None:
        if was.after is None:
            await self._failed(command, "no-answer", "it could not be read back")
            return
        text = f"it is {_seconds(was.after)} s off, within {was.within_ms / 1000:.1f} s"
        if was.before is not None:
            text += f"; it was {_seconds(was.before)} s off"
        if abs(was.after.offset_ms) > was.within_ms or was.within_ms > found.spec.max_offset_ms:
            await self._failed(command, "not-obeyed", text)
        else:
            await self._desk.answer(command, State.DONE, "", text)

    async def _failed(self, command: Command, code: str, text: str) -> None:
        """Tell that it failed, and that it is over: nothing is put back."""
        await self._desk.answer(command, State.FAILED, code, text)
        await self._desk.answer(command, State.DONE, code, "nothing is put back")


def _seconds(one: Compared) -> str:
    return f"{one.offset_ms / 1000:+.1f}"
