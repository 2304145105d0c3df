"""What one poll asked of its device, and whether asking on is worth the time of the others.

A device that is silent, or whose frames are wrong, costs its line a deadline a try and the silence after it.
So a poll stops asking when the device gave no answer to the first request, however often that was tried, or
when two frames in a row were none that answers; what was not asked then says so (``backoff``).  One who is
on probation, because of earlier polls, has one try alone.

Pure.  Not here: how long a device is left alone between polls (``agent.lineworker``).
"""

from collections.abc import Iterable
from typing import Final

from agent.refusing import BY_GATEWAY

BAD_FRAMES: Final = 2
"""In a row, and a poll ends: one may be noise."""


def is_answer(got: bytes | str) -> bool:
    """Tell whether a device answered at all: values, or an exception response."""
    return isinstance(got, bytes) or got.startswith("exception")


class PollRound:
    """What was asked in one poll so far, and what came of it."""

    __slots__ = ("_bad", "_heard", "_last", "answers", "codes", "probation")

    def __init__(self, probation: bool) -> None:
        """With ``probation`` the device gave no answer before: the first failure ends the poll."""
        self.answers: Final[dict[int, bytes | str]] = {}
        """The last answer, or the reason that there is none, by what was asked."""
        self.codes: Final[dict[int, int]] = {}
        """The exception code by what was asked and is answered by one."""
        self.probation = probation
        """It gave no answer before and none yet."""
        self._bad = 0
        self._heard = False
        self._last: bytes | str = ""

    def note(self, index: int, got: bytes | str, code: int | None = None) -> None:
        """Take what one try of a request brought, with the code of an exception."""
        self.answers[index] = self._last = got
        self.codes.pop(index, None)
        if code is not None:
            self.codes[index] = code
        if is_answer(got):
            self._bad, self._heard, self.probation = 0, True, False
        elif got == "bad-frame":
            self._bad += 1

    @property
    def by_gateway(self) -> bool:
        """Whether all that answered is what lies before the device, in its place."""
        return bool(self.codes) and BY_GATEWAY.issuperset(
            self.codes.get(index, 0) for index, got in self.answers.items() if is_answer(got)
        )

    @property
    def too_bad(self) -> bool:
        """Whether its frames are so wrong that not even the same is asked again."""
        return self._bad >= (1 if self.probation else BAD_FRAMES)

    @property
    def instead(self) -> str | None:
        """The reason for all that is not asked any more; None: go on."""
        if self.too_bad:
            return "backoff"
        if self._heard or self._last not in ("timeout", "line-down"):
            return None
        return "timeout" if "timeout" in self.answers.values() else "line-down"


def any_answer(answers: Iterable[bytes | str]) -> bool:
    """Tell whether there is an answer among them."""
    return any(map(is_answer, answers))
