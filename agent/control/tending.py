"""What a running control wants of its device while it holds: is it locked out by now, and is its hold fed?

A watchdog that any request feeds is asked something three times in its time-out.  A hold whose register has
to be written again, alone or with the order, is written again when half of it is over, to no more than the
rest of the control, and counted against the register's budget first.  Where that fails for as long as the
hold lasts, the device has fallen back by itself, and the control is over.

Each act goes through the lane of the line, before its polls.  Time is monotonic.  Relies on
`agent.control.actuator`.  Not here: what follows from it (`agent.control.course`).
"""

from collections.abc import Callable
from decimal import Decimal
from typing import Final

from agent.control.actuator import Actuator
from agent.control.desk import Armed, Desk

UNKNOWN_LOOKS: Final = 3
"""A lock that could not be read so often in a row counts as on: one lost answer ends no control."""
ASSUMED_S: Final = 15.0
"""How long a hold counts as armed that an agent before this one has armed; ours."""
UNARMED_S: Final = 1.0
"""By so much a hold may end before its control does: it is armed in whole seconds."""
LOCKED, LOST, GOES_ON = "locked-out", "hold-lost", ""


class Tending:
    """The watch over one control that holds."""

    def __init__(self, actuator: Actuator, desk: Desk, value: Decimal, left: Callable[[], float]) -> None:
        """Prepare; the first look is due at once.

        ``left`` tells for how many seconds the control still lasts, 0 or less once it is to end.
        """
        self._actuator = actuator
        self._desk = desk
        self._lane = desk.lanes[actuator.line]
        self._mono = desk.clock.mono
        self._value = value
        self._left = left
        self._began = self._look_at = self._fed_at = self._mono()
        self._unknown = 0

    async def tend(self) -> str:
        """Do what is due; return the code why the control has to end, empty where it goes on."""
        if self._actuator.lock is not None and self._mono() >= self._look_at:
            self._look_at = self._mono() + self._actuator.look_s
            if await self._is_locked():
                return LOCKED
        match self._actuator.fed_by:
            case "contact":
                return await self._keep_contact()
            case "hold" | "value":
                return await self._keep_hold()
            case None:
                return GOES_ON

    async def _is_locked(self) -> bool:
        locked = await self._actuator.locked(self._lane)
        self._unknown = self._unknown + 1 if locked is None else 0
        return locked is True or self._unknown >= UNKNOWN_LOOKS

    @property
    def _armed(self) -> Armed | None:
        place = self._actuator.hold_place
        return None if place is None else self._desk.armed.get(place)

    async def _keep_contact(self) -> str:
        """Ask something where a third of the time-out is over since the device answered."""
        # Another control of the device may have set another time-out meanwhile.
        seconds, _ = self._armed or Armed(ASSUMED_S, self._began)
        now = self._mono()
        if now - self._fed_at < seconds / 3:
            return GOES_ON
        if await self._actuator.contact(self._lane):
            self._fed_at = now
            return GOES_ON
        return LOST if self._mono() - self._fed_at > seconds else GOES_ON

    async def _keep_hold(self) -> str:
        """Write the hold again where half of it is over and the control lasts longer than it."""
        now, left, armed = self._mono(), self._left(), self._armed
        ends = (armed.at + armed.seconds if armed is not None else self._began + ASSUMED_S) - now
        if armed is not None and (ends > armed.seconds / 2 or ends >= left - UNARMED_S):
            return GOES_ON
        hold_s = self._actuator.hold_s(left)
        if hold_s is None or hold_s > left:
            return GOES_ON
        if await self._refreshed(hold_s):
            place = self._actuator.hold_place
            assert place is not None
            self._desk.armed[place] = Armed(float(hold_s), now)
            return GOES_ON
        return LOST if ends <= 0 < self._left() else GOES_ON

    async def _refreshed(self, hold_s: Decimal) -> bool:
        actuator = self._actuator
        writes = actuator.refreshed(self._value, hold_s)
        registers = [one.register for one in writes]
        if not await self._desk.take_room(actuator.device, registers, actuator.most_writes):
            return False
        return await actuator.refresh(self._lane, writes, lambda: self._left() > 0)
