"""What one unit on a serial line may still answer: requests without a right answer, in their order.

A device answers in the order in which it was asked.  So a frame that comes can be the answer to any
request of its kind that is still open, and the cautious reading is the first of them: that one is answered
and all before it are lost, all after it may still come.  Only a frame of a kind that no open request has is
surely the answer to the request just sent, and then nothing is owed.  A device that gives each time the
answer to the request before never comes to that, however long it goes on.

A frame that answers nothing open comes from a device that lost its place without a sign: then all that it
was asked lately may come again.

Pure.  Relies on ``drivers.modbus.pdu`` for functions.  Deliberately not here: what is asked to find
out, and time (``drivers.modbus.rtulink``).
"""

from collections import deque
from collections.abc import Iterable
from typing import Final

from drivers.modbus.pdu import ERROR, READS

MOST_OWED: Final = 16
"""Open requests that are kept of a unit; of a device that is farther behind the last are."""
LATELY: Final = 4
"""Answered requests that are remembered."""
FIRM: Final = (1, 2, 3)
"""Exceptions that only the device gives, in its turn; a gateway gives others by itself, at any time."""

Kind = tuple[int, int]
"""Function and bytes of payload: what tells one answer of a device from another; of an exception response the
function with the bit of errors, and the code."""


def kind_of(pdu: bytes) -> Kind:
    """Return the kind of an answer."""
    if pdu[0] & ERROR:
        return pdu[0], pdu[1] if len(pdu) > 1 else 0
    return pdu[0], len(pdu) - 2 if pdu[0] in READS else 0


class Owed:
    """The open requests of one unit."""

    __slots__ = ("_lately", "_open")

    def __init__(self) -> None:
        self._open: list[Kind] = []
        self._lately: deque[Kind] = deque(maxlen=LATELY)

    def __bool__(self) -> bool:
        return bool(self._open)

    def place(self, kind: Kind) -> int | None:
        """Return the place of the first open request that a frame of a kind may answer, None without one."""
        if kind[0] & ERROR:  # has no length: any request of its function may be meant
            same = (at for at, one in enumerate(self._open) if one[0] == kind[0] & ~ERROR)
        else:
            same = (at for at, one in enumerate(self._open) if one == kind)
        return next(same, None)

    def missing(self, kind: Kind) -> None:
        """Note a request that got no answer which is surely its own."""
        self._open = [*self._open, kind][-MOST_OWED:]

    def came(self, kind: Kind) -> bool:
        """Take a frame that may answer something open; False: it answers nothing of that."""
        at = self.place(kind)
        if at is None:
            return False
        if not kind[0] & ERROR or kind[1] in FIRM:
            del self._open[: at + 1]
        return True

    def strayed(self, kind: Kind) -> None:
        """Take a frame in the place of another: the device may be behind by all that it was asked since."""
        if not self.came(kind) and kind in self._lately:
            lately = list(self._lately)
            self._open = [*lately[lately.index(kind) + 1 :], *self._open][-MOST_OWED:]

    def sure(self, kind: Kind) -> None:
        """Note that a request has its own answer: nothing is owed any more."""
        self._open.clear()
        self._lately.append(kind)

    def clearest(self, kinds: Iterable[Kind]) -> Kind:
        """Return the kind whose answer tells most: one that is not open, else one that leaves least."""

        def told(kind: Kind) -> int:
            at = self.place(kind)
            return MOST_OWED if at is None else at

        return max(kinds, key=told)
