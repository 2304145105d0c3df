"""A point that can be controlled, and the two acts on it: write it once, read what shows the effect.

Acts go through the lane of the line's worker, before its polls.  Nothing is written twice: whoever wants a
write repeated says so by calling again.  Relies on `drivers.modbus.writes` for the requests.  Not here:
when, and whether (`agent.control.commander`).
"""

import math
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Final, Literal

from agent.commandlane import CommandLane
from agent.config_models import Config
from agent.config_rules import Types
from agent.refusing import BY_GATEWAY
from core.errors import FieldError, PorticoError, Refused
from drivers.modbus.link import TIMEOUT_S, ControlLink, reason_of
from drivers.modbus.plan import Request, plan
from drivers.modbus.values import GroupDecoder
from drivers.modbus.writes import Write, hold_count_write, hold_write, send, writes_of
from drivers.points import PointType
from policies.facts import TypeLimits

LOOK_S: Final = (1.0, 10.0)
"""A lock is looked at as often as its device is polled, but not more often, nor more seldom, than this."""


WATCHDOG_LEAST_S: Final = Decimal(10)
"""A watchdog is never set to less, ours: a pause between two polls must not be taken for silence."""
WATCHDOG_S: Final = Decimal(60)
"""The longest time-out that is set of a watchdog which any request feeds, ours: so long after the gateway
fell silent the device falls back, and an agent that starts again meanwhile finds its controls."""


class LockedOut(PorticoError):
    """Control is locked out at the device, or nobody can tell: nothing was written."""


@dataclass(frozen=True, slots=True)
class Shown:
    """What reading a point gave."""

    value: Decimal | None
    why: str = ""
    """The reason why there is none."""


@dataclass(frozen=True, slots=True, eq=False)
class Actuator:
    """One controllable point of one device."""

    device: str
    type: str
    unit_id: int
    line: str
    point: PointType
    feedback: PointType | None
    """The point that shows the effect; None where nothing but the order itself can be read."""
    timeout_s: float
    pause_s: float
    lock: PointType | None = None
    """The point that shows the local lock of the device; None where it has none."""
    look_s: float = LOOK_S[0]
    """How often the lock is looked at while a control runs."""
    asks: PointType | None = None
    """What is read where any request feeds a watchdog."""
    polled_s: float = 0
    """How often the device is polled."""
    tells: PointType | None = None
    """The point that tells what its hold is set to, where the register itself does not."""

    @property
    def default(self) -> Decimal:
        """The value without control, as the device type has it."""
        assert self.point.write is not None
        return self.point.write.default

    @property
    def proves(self) -> bool:
        """Whether a feedback can show that the device obeyed, not only that it took the order."""
        return self.feedback is not None and self.feedback.name != self.point.name

    def shows(self, shown: Shown, value: Decimal) -> bool:
        """Tell whether what was read is a value, within half of a step of the order."""
        assert self.point.write is not None
        return shown.value is not None and abs(shown.value - value) * 2 <= self.point.write.step

    @property
    def limits(self) -> TypeLimits:
        """What the device type says that the point bears."""
        write = self.point.write
        assert write is not None
        also = [write.min, write.max, *write.also]
        return TypeLimits(min(also), max(also), write.min_on_s, write.min_off_s, write.essential)

    def hold_s(self, remaining_s: float) -> Decimal | None:
        """Return for how long the device shall keep an order by itself.

        A timer is set to no more than what remains.  A watchdog that any request feeds ends nothing while
        the gateway talks: it is never set so short that a pause between two polls could be taken for silence.
        """
        write = self.point.write
        assert write is not None
        if write.hold_register is None and write.on_for is None:
            return None
        bounds = write.hold_register or write.on_for
        assert bounds is not None
        shortest = write.hold_register.min if write.hold_register is not None else bounds.scale
        longest = bounds.max
        if write.fed_by == "contact":
            longest = min(longest, WATCHDOG_S)
            least = max(WATCHDOG_LEAST_S, Decimal(math.ceil(3 * self.polled_s)))
            shortest = max(shortest, min(longest, least))
        return max(shortest, min(longest, Decimal(int(remaining_s))))

    @property
    def hold(self) -> Literal["timer", "watchdog", "none"]:
        """What the device does by itself when nobody speaks to it any more, as its installed type says."""
        assert self.point.write is not None
        return self.point.write.hold

    def ends_by_itself(self, goal: Decimal) -> bool:
        """Tell whether the device's own timer, and nobody else, brings it to a value."""
        write = self.point.write
        assert write is not None
        return self.hold == "timer" and not write.falls_back_to and goal == write.default

    @property
    def fed_by(self) -> Literal["contact", "hold", "value"] | None:
        """What begins the device's hold anew while a control runs; None where nothing is known to."""
        assert self.point.write is not None
        return self.point.write.fed_by

    @property
    def hold_place(self) -> tuple[str, str] | None:
        """The device's register that arms its hold; None where it has none."""
        assert self.point.write is not None
        register = self.point.write.hold_register
        return None if register is None else (self.device, f"holding:{register.address}")

    @property
    def watchdog_place(self) -> tuple[str, str] | None:
        """The register of a watchdog, which has to be put back after a control; None where there is none."""
        assert self.point.write is not None
        return self.hold_place if self.point.write.hold == "watchdog" else None

    @property
    def watchdog_default(self) -> int | None:
        """What the device type says that the register of the watchdog holds without control, as a count."""
        assert self.point.write is not None
        register = self.point.write.hold_register
        if register is None or register.default is None:
            return None
        return int(register.default / register.scale)

    async def watchdog_count(self, link: ControlLink) -> int | None:
        """Read in an act what the register of the watchdog holds; None where it cannot be read."""
        assert self.point.write is not None
        register = self.point.write.hold_register
        assert register is not None
        if self.tells is not None:
            seconds = (await self._asked(link, self.tells)).value
            if seconds is None:
                return None
            return int(seconds * (Decimal("0.001") if self.tells.unit == "ms" else 1) / register.scale)
        request = Request(register.table, register.address, register.width, ())
        try:
            answer = await link.read(self.unit_id, request, self.timeout_s, self.pause_s)
        except FieldError:
            return None
        return int.from_bytes(answer, "big")

    async def set_watchdog(self, link: ControlLink, count: int) -> None:
        """Set the register of the watchdog in an act, once; FieldError where it failed."""
        assert self.point.write is not None
        assert self.point.write.hold_register is not None
        await self._send(link, (hold_count_write(self.point.write.hold_register, count),))

    def too_long(self, length_s: float) -> bool:
        """Tell whether a control is longer than the device holds, and nothing would prolong that."""
        longest = self._longest_hold
        return longest is not None and self.fed_by is None and int(length_s) > longest

    def refreshes(self, length_s: float) -> int:
        """Return how often at most the hold is written again in a control of that length."""
        longest = self._longest_hold
        if longest is None or self.fed_by not in ("hold", "value") or length_s <= longest:
            return 0
        return math.ceil(length_s / (float(longest) / 2))

    @property
    def _longest_hold(self) -> Decimal | None:
        write = self.point.write
        assert write is not None
        bounds = write.hold_register or write.on_for
        return None if bounds is None else bounds.max

    def registers(self, value: Decimal, hold_s: Decimal | None) -> tuple[str, ...]:
        """Return the registers that an order writes; ``ValueError`` when it cannot be given."""
        return tuple(one.register for one in writes_of(self.point, value, hold_s))

    def rests_at(self, value: Decimal) -> bool:
        """Tell whether the device can be put to a value and stays there without a hold.

        A device with a timer rests at the default of its type alone: every other value is held for a time.
        """
        try:
            self.registers(value, None)
        except ValueError:
            return False
        return True

    @property
    def most_writes(self) -> int:
        """How often a day each of its registers may be written."""
        assert self.point.write is not None
        return self.point.write.writes_a_day

    async def write(self, lane: CommandLane, value: Decimal, hold_s: Decimal | None) -> None:
        """Write once, the device's own hold first; FieldError, or ValueError for what cannot be written."""
        writes = writes_of(self.point, value, hold_s)
        await lane.take(lambda link: self._send(link, writes))

    async def order(
        self,
        lane: CommandLane,
        value: Decimal,
        hold_s: Decimal | None,
        first: Callable[[int | None], Awaitable[None]],
    ) -> None:
        """Write once as :meth:`write` does, after ``first``, which writes down that it is going to be.

        ``first`` is told what the register of the watchdog held; None: there is none, or nobody knows.  That,
        and the lock of a device that has one, is read before, in the same act, so that nothing comes between:
        `LockedOut` when it is on or cannot be read, FieldError when the line cannot be had; ``first`` was
        not called then.
        """
        writes = writes_of(self.point, value, hold_s)
        sets = self.watchdog_place is not None and hold_s is not None
        if self.lock is None:
            await self._order_unlocked(lane, writes, first, sets)
            return

        async def act(link: ControlLink) -> None:
            locked = await self.is_locked(link)
            if locked is not False:
                assert self.lock is not None
                found = "cannot be read" if locked is None else "shows that it is locked there"
                raise LockedOut(f"{self.lock.name} of {self.device} {found}: nothing was written")
            await first(await self.watchdog_count(link) if sets else None)
            await self._send(link, writes)

        await lane.take(act)

    async def _order_unlocked(
        self,
        lane: CommandLane,
        writes: tuple[Write, ...],
        first: Callable[[int | None], Awaitable[None]],
        sets: bool,
    ) -> None:
        """Write once; ``first`` is called also where the line cannot be had."""
        begun = not sets

        async def act(link: ControlLink) -> None:
            nonlocal begun
            if not begun:
                begun = True
                await first(await self.watchdog_count(link))
            await self._send(link, writes)

        if begun:
            await first(None)
        try:
            await lane.take(act)
        except FieldError:
            if not begun:
                await first(None)
            raise

    def refreshed(self, value: Decimal, hold_s: Decimal) -> tuple[Write, ...]:
        """Return what has to be written so that the hold begins anew."""
        assert self.point.write is not None
        register = self.point.write.hold_register
        assert register is not None, "the type's faults see to that"
        return (
            (hold_write(register, hold_s),) if self.fed_by == "hold" else writes_of(self.point, value, hold_s)
        )

    async def refresh(self, lane: CommandLane, writes: tuple[Write, ...], still: Callable[[], bool]) -> bool:
        """Begin the hold anew if the control still runs, and is not locked out, when its turn has come."""

        async def act(link: ControlLink) -> bool:
            if not still() or (self.lock is not None and await self.is_locked(link) is not False):
                return False
            await self._send(link, writes)
            return True

        try:
            return await lane.take(act)
        except FieldError:
            return False

    async def contact(self, lane: CommandLane) -> bool:
        """Ask the device for something, which is what its watchdog waits for; tell whether it answered."""
        if self.asks is None:
            return False
        [request] = plan((self.asks,))
        try:
            await lane.take(lambda link: link.read(self.unit_id, request, self.timeout_s, self.pause_s))
        except Refused as error:
            return error.code not in BY_GATEWAY
        except FieldError:
            return False
        return True

    async def _send(self, link: ControlLink, writes: tuple[Write, ...]) -> None:
        for one in writes:
            await send(link, self.unit_id, one, self.timeout_s, self.pause_s)

    async def locked(self, lane: CommandLane) -> bool | None:
        """Tell whether control is locked out at the device; None when nobody knows."""
        if self.lock is None:
            return False
        try:
            return await lane.take(self.is_locked)
        except FieldError:
            return None

    async def is_locked(self, link: ControlLink) -> bool | None:
        """Tell in an act whether control is locked out at the device; None when nobody knows."""
        assert self.lock is not None
        assert self.point.write is not None
        assert self.point.write.locked_if is not None
        shown = await self._asked(link, self.lock)
        return None if shown.value is None else shown.value == self.point.write.locked_if.value

    async def show(self, lane: CommandLane) -> Shown:
        """Read what shows the effect: the feedback, else the point itself."""
        return await self._read(lane, self.feedback or self.point)

    async def present(self, lane: CommandLane) -> Shown:
        """Read the point itself, or its feedback where it cannot be read."""
        return await self._read(lane, self.point if self.point.readable else self.feedback or self.point)

    async def _read(self, lane: CommandLane, point: PointType) -> Shown:
        if not point.readable:
            return Shown(None, "unreadable")
        try:
            return await lane.take(lambda link: self._asked(link, point))
        except FieldError as error:
            return Shown(None, reason_of(error))

    async def _asked(self, link: ControlLink, point: PointType) -> Shown:
        """Read a point that can be read, in an act."""
        [request] = requests = plan((point,))
        try:
            answer = await link.read(self.unit_id, request, self.timeout_s, self.pause_s)
        except FieldError as error:
            return Shown(None, reason_of(error))
        values, quality = GroupDecoder((point,), requests).decode([answer])
        value = values[0]
        if value is None or quality:
            return Shown(None, "undecodable")
        if isinstance(value, int) and not isinstance(value, bool):
            return Shown(Decimal(value).scaleb(point.core_point(0).exp))
        return Shown(Decimal(int(value) if isinstance(value, bool) else str(value)))


def actuators(config: Config, types: Types) -> Iterator[Actuator]:
    """Yield every point of the configured devices that can be written."""
    for device in config.devices:
        found = types(device.type)
        line = config.line(device.line)
        by_name = {point.name: point for point in found.points}
        timeout_s = line.timeout.s if "timeout" in line.model_fields_set else found.limits.timeout_ms / 1000
        for point in found.points:
            if point.write is not None:
                feedback = by_name.get(point.write.feedback) if point.write.feedback else None
                lock = point.write.locked_if
                yield Actuator(
                    device.name,
                    device.type,
                    device.unit_id,
                    device.line,
                    point,
                    feedback,
                    timeout_s or TIMEOUT_S,
                    line.pause.s,
                    None if lock is None else by_name[lock.point],
                    max(LOOK_S[0], min(device.every.s, LOOK_S[1])),
                    next((one for one in (feedback, point, *found.told) if one and one.readable), None),
                    device.every.s,
                    by_name.get(point.write.hold_register.shown_by) if point.write.hold_register else None,
                )
