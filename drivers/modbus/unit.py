"""One unit on a serial line: what it owes, and what it can be asked to find out whether it is behind.

To find out takes a read whose answer has another length: one that the unit has answered before, half of the
range that is wanted, or a little more than it.  A refusal will do as well; silence will not, because a
device that is behind is silent too.  So a read counts as of no use only when the unit stayed silent to it
several times and answered something else in between each time, which one that is behind does not.

Pure.  Relies on ``drivers.modbus.owed`` for what may still come.  Deliberately not here: asking, and time
(``drivers.modbus.rtulink``).
"""

from collections.abc import Mapping
from typing import Final

from drivers.modbus import pdu
from drivers.modbus.owed import FIRM, Kind, Owed, kind_of

GAVE_UP: Final = (10, 11)
"""Exceptions of a gateway that waited no longer: the device's own answer may still come."""
DEAF_AFTER: Final = 4
"""Times in a row that a unit gave nothing to a read, always in the same way, and answered others between."""
MOST_KNOWN: Final = 4
"""Reads of different lengths that are remembered of a unit."""


class Unit:
    """What is known of one unit."""

    __slots__ = ("_deaf", "_known", "_lately", "_spoke", "alternate", "owed")

    def __init__(self) -> None:
        self.owed = Owed()
        self.alternate = False
        """It gave nothing to what was to find out: the next try asks what is wanted, and believes nothing."""
        self._known: dict[Kind, bytes] = {}
        """Reads that it has answered, by kind."""
        self._lately: dict[Kind, bytes] = {}
        """Reads that it was asked for last, answered or not."""
        self._deaf: dict[Kind, tuple[int, int]] = {}
        """Exception that it gave to a read, 0 for silence, and how often in a row."""
        self._spoke = True

    def others(self, wanted: bytes, size: int) -> Mapping[Kind, bytes]:
        """Return the reads of other kinds that may tell whether it is behind."""
        kind = (wanted[0], size)
        first = {**self._known, **pdu.shorter(wanted, size)}
        return self._of_use(first, kind) or self._of_use({**self._lately, **pdu.wider(wanted, size)}, kind)

    def _of_use(self, reads: Mapping[Kind, bytes], kind: Kind) -> dict[Kind, bytes]:
        return {
            one: asked
            for one, asked in reads.items()
            if one != kind and self._deaf.get(one, (0, 0))[1] < DEAF_AFTER
        }

    def asked(self, wanted: bytes, size: int) -> None:
        """Note a request that is sent."""
        if size:
            self._lately = dict([*self._lately.items(), ((wanted[0], size), wanted)][-MOST_KNOWN:])

    def told_nothing(self, kind: Kind, code: int = 0) -> None:
        """Note silence, or an exception that is no refusal, where an answer was to find out."""
        self.alternate = True
        before, times = self._deaf.get(kind, (code, 0))
        if before != code:
            self._deaf[kind] = (code, 1)
        elif self._spoke:
            self._deaf[kind] = (code, times + 1)
        self._spoke = False

    def answered(self, wanted: bytes, size: int, found: bytes) -> bool:
        """Note an answer, and tell whether it surely is that of the request just sent."""
        kind = (wanted[0], size)
        self._spoke = True
        refused = bool(found[0] & pdu.ERROR)
        if not refused or found[1] in FIRM:
            self._deaf.pop(kind, None)
        if not refused and size and (len(self._known) < MOST_KNOWN or kind in self._known):
            self._known[kind] = wanted
        if refused and found[1] in GAVE_UP:
            self.owed.missing(kind)
            return True
        if self.owed.came(kind_of(found)):
            self.owed.missing(kind)
            return False
        if not refused:
            self.owed.sure(kind)
        return True

    def strayed(self, body: bytes) -> None:
        """Note a frame that was no answer to what was asked."""
        self._unasked()
        self.owed.strayed(kind_of(body))

    def late(self, body: bytes) -> bool:
        """Note a frame that came when nothing was asked; tell whether it was owed."""
        self._unasked()
        return self.owed.came(kind_of(body))

    def _unasked(self) -> None:
        """Who speaks out of turn is late, and to nothing deaf."""
        self._spoke = True
        self.alternate = False
        self._deaf.clear()


def is_firm(answer: bytes) -> bool:
    """Tell whether an answer is an exception that only the device itself gives, in its turn."""
    return bool(answer[0] & pdu.ERROR) and answer[1] in FIRM
