"""Two devices with one unit id on a serial line: each request is answered twice, and values of both mix.

Judged by poll: so many of the last that brought a frame more than was asked, and none in as many polls ends
it.  One poll alone may be a repeated frame of a serial server.

Pure.  Relies on the link to count (``drivers.modbus.surplus``); other lines have numbers in their answers.
Not here: who is told (``agent.lineworker``).
"""

from collections import deque
from typing import Final, Protocol, runtime_checkable

CODE: Final = "answered-twice"
POLLS: Final = 10
"""The last polls of a unit that count; ours."""
MANY: Final = 5
"""So many of them with a frame that nobody asked for are no chance; ours."""


@runtime_checkable
class CountsSurplus(Protocol):
    """A link that counts the frames of a unit beyond its requests."""

    def surplus(self, unit_id: int) -> int: ...


class AnsweredTwice:
    """The units of one line."""

    def __init__(self, line: str) -> None:
        self.frames: dict[int, int] = {}
        """By unit id, frames that nobody asked for, of those that had any."""
        self._line: Final = line
        self._polls: dict[int, deque[bool]] = {}
        self._told: dict[int, str] = {}
        """Devices that the alarm names, by unit id."""

    def polled(self, unit_id: int, device: str, frames: int) -> tuple[bool, str, str] | None:
        """Judge a unit after a poll of a device in which it was asked; return what is new.

        ``frames`` is how many went beyond its requests so far.  What is new: raised or ended, a sentence, and
        the device that the alarm is of.
        """
        before = self.frames.get(unit_id, 0)
        polls = self._polls.setdefault(unit_id, deque(maxlen=POLLS))
        polls.append(frames > before)
        if frames:
            self.frames[unit_id] = frames
        if unit_id not in self._told and sum(polls) >= MANY:
            self._told[unit_id] = device
            sentence = (
                f"two devices have unit id {unit_id} on line {self._line}, or something there repeats what "
                "it hears: more answers come than are asked for, and values of both may mix; give each "
                "device a unit id of its own"
            )
            return True, sentence, device
        if unit_id in self._told and len(polls) == POLLS and not any(polls):
            sentence = f"unit id {unit_id} on line {self._line} answers each request once again"
            return False, sentence, self._told.pop(unit_id)
        return None
