"""Devices that answer each request with an exception, poll after poll: who says no, and what that means.

A serial gateway answers in place of a device that is not there: exception 10 (no path) or 11 (the target
gave no response).  Such a device is as good as silent, although something answers for it.  One that
refuses whatever it is asked (another model than its type says, or another unit id) is heard, and of no use.

Pure.  Not here: who is told (``agent.lineworker``), single requests that are refused (``agent.learned``).
Source: Modbus Application Protocol V1.1b3 §7.
"""

from collections.abc import Mapping
from typing import Final

POLLS: Final = 3
"""In a row; one alone may be a device that starts up."""
BY_GATEWAY: Final = frozenset({10, 11})
TEXTS: Final = {
    1: "illegal function",
    2: "illegal data address",
    3: "illegal data value",
    4: "server device failure",
    5: "acknowledge",
    6: "server device busy",
    8: "memory parity error",
    10: "gateway path unavailable",
    11: "gateway target gave no response",
}


class Refusing:
    """Of one device: its polls in a row that brought exceptions alone."""

    def __init__(self) -> None:
        self.absent = False
        """The gateway before it answered the last polls in its place."""
        self.refuses = False
        """It refused all that it was asked in the last polls."""
        self._codes: set[int] = set()
        self._polls = 0
        self._by_gateway = False
        self._last: dict[int, bool] = {}
        self._told = False

    def judge(self, group: int, answers: Mapping[int, bytes | str], codes: Mapping[int, int]) -> None:
        """Judge one poll.

        Args:
            group: its number.
            answers: what became of each request that was made in it.
            codes: of those that an exception answered, which.
        """
        if any(isinstance(answer, bytes) for answer in answers.values()):
            self._last[group] = self.absent = self.refuses = False
            self._polls = 0
            self._codes.clear()
        elif answers and answers.keys() <= codes.keys():
            self._last[group] = True
            by_gateway = BY_GATEWAY.issuperset(codes.values())
            if by_gateway != self._by_gateway:
                self._by_gateway, self._polls = by_gateway, 0
                self._codes.clear()
            self._polls += 1
            self._codes.update(codes.values())
            lasting = self._polls >= POLLS
            self.absent = lasting and by_gateway
            self.refuses = lasting and not by_gateway and all(self._last.values())

    def news(self) -> tuple[bool, str] | None:
        """Return whether it refuses everything, in words, when that is news."""
        if self.refuses == self._told:
            return None
        self._told = self.refuses
        if not self.refuses:
            return False, "does not refuse everything any more"
        return True, f"refuses all that it is asked, with {self._said}: check its type and its unit id"

    @property
    def absence(self) -> str:
        """Say that it is not there."""
        return f"gives no answer; a gateway says so in its place, with {self._said}: check unit id and wiring"

    @property
    def _said(self) -> str:
        named = (f"{code} ({TEXTS.get(code, 'none of the standard')})" for code in sorted(self._codes))
        return "exception " + ", ".join(named)
