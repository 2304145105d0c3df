"""Frames of units on a serial line that answer nothing: more came of a unit than it was asked.

A device that is late, or a request behind, answers at most as often as it was asked.  Where more comes, two
devices have one unit id, or something on the line repeats.  The first of two answers cannot be told from the
right one, so values of both would mix as good: all that a line can do is to count, and to say so.

Pure.  Deliberately not here: which answer is believed (``drivers.modbus.owed``), who is told
(``agent.answeredtwice``).
"""

from typing import Final

MOST_OPEN: Final = 8
"""Requests without an answer that are kept of a unit: a device that was silent for long answers no more."""


class Surplus:
    """Of one line: the frames of each unit that went beyond its requests."""

    __slots__ = ("_open", "_surplus")

    def __init__(self) -> None:
        self._open: dict[int, int] = {}
        self._surplus: dict[int, int] = {}

    def asked(self, unit_id: int) -> None:
        """Note a request."""
        self._open[unit_id] = min(self._open.get(unit_id, 0) + 1, MOST_OPEN)

    def came(self, unit_id: int) -> None:
        """Note a whole frame; of a unit that was never asked it counts for nothing."""
        still_open = self._open.get(unit_id)
        if still_open is None:
            return
        if still_open:
            self._open[unit_id] = still_open - 1
        else:
            self._surplus[unit_id] = self.of(unit_id) + 1

    def of(self, unit_id: int) -> int:
        """Return how many frames of a unit went beyond its requests so far."""
        return self._surplus.get(unit_id, 0)
