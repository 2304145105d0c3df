"""What a running control wants of its device while it holds: is it locked out there by now?

Each act goes through the lane of the line, before its polls.  Time is monotonic.  Relies on
`agent.control.actuator`.  Not here: what follows from it (`agent.control.course`).
"""

from collections.abc import Callable
from typing import Final

from agent.commandlane import CommandLane
from agent.control.actuator import Actuator

UNKNOWN_LOOKS: Final = 3
"""A lock that could not be read so often in a row counts as on: one lost answer ends no control."""


class Tending:
    """The watch over one control that holds."""

    def __init__(self, actuator: Actuator, lane: CommandLane, mono: Callable[[], float]) -> None:
        """Prepare; the first look is due at once."""
        self._actuator = actuator
        self._lane = lane
        self._mono = mono
        self._look_at = mono()
        self._unknown = 0

    async def tend(self) -> str:
        """Do what is due; return the code why the control has to end, empty where it goes on."""
        if self._actuator.lock is not None and self._mono() >= self._look_at:
            self._look_at = self._mono() + self._actuator.look_s
            return await self._look()
        return ""

    async def _look(self) -> str:
        locked = await self._actuator.locked(self._lane)
        self._unknown = self._unknown + 1 if locked is None else 0
        return "locked-out" if locked or self._unknown >= UNKNOWN_LOOKS else ""
