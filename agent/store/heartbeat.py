"""The heartbeat: what the control file remembers of the readings, in case they are lost or end without a row.

A note in the control file, which has room of its own on a full disk: how far the
readings are, up to which ticks every route had confirmed, what was polled and could
not be written or was left out on purpose, and that the agent was stopped in order.
Written here and read here.  Not here: when it is noted (``agent.store.housekeeping``), what
follows from it at the next start (``agent.store.birth``).
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from agent.store.recordfile import ticks_in
from agent.store.writer import Writer

NOTE: Final = "heartbeat"
STOPPED: Final = "stop"
MARKS_KEPT: Final = 256
WHY_UNWRITTEN: Final = frozenset({"disk-full", "overrun"})
WHY_LEFT_OUT: Final = frozenset({"no-answer", "unchanged", "overrun"})


@dataclass(frozen=True, slots=True)
class Noted:
    """What a life before noted last."""

    epoch: str | None
    """Its epoch; None without a note."""
    top: int
    """Largest id of the readings."""
    ticks: dict[str, int]
    """Last committed tick by group key."""
    safe: dict[str, int]
    """Tick up to which every route had confirmed, by group key."""
    stopped: bool
    """It was stopped in order."""
    polled: dict[str, tuple[int, str]] = field(default_factory=dict)
    """By group key, the last tick that was polled and has no row, and why: it could not be written, or was
    left out on purpose."""


def read_beat(note: Mapping[str, object]) -> Noted:
    """Return what a note says; what is no such thing in it is left out."""
    epoch, top, why = note.get("epoch"), note.get("top"), note.get("why")
    left_out = note.get("left_out")
    polled: dict[str, tuple[int, str]] = {}
    if isinstance(left_out, dict):
        for reason in WHY_LEFT_OUT:
            polled |= {key: (tick, reason) for key, tick in ticks_in(left_out, reason).items()}
    if why in WHY_UNWRITTEN:  # where both are true of a group: its row could not be written
        for key, tick in ticks_in(note, "unwritten").items():
            polled[key] = (max(tick, polled.get(key, (tick, ""))[0]), str(why))
    return Noted(
        epoch=epoch if isinstance(epoch, str) else None,
        top=top if isinstance(top, int) else 0,
        ticks=ticks_in(note, "ticks"),
        safe=ticks_in(note, "safe"),
        stopped=note.get("ended") == STOPPED,
        polled=polled,
    )


class Heartbeat:
    """Makes the note."""

    def __init__(self, epoch: str, keys: Mapping[int, str], safe: dict[str, int]) -> None:
        """Begin with the ticks (by group key) up to which all was confirmed at the last beat before."""
        self._epoch = epoch
        self._keys = keys
        self._safe = safe
        self._marks: list[tuple[int, dict[str, int]]] = []

    def first(self, top: int, ticks: dict[str, int]) -> str:
        """Return the note with which a life begins."""
        self._marks.append((top, ticks))
        return self._note(top, ticks)

    def beat(self, writer: Writer, confirmed_below: int, *, stopped: bool = False) -> str:
        """Return the note of now."""
        ticks = self.ticks(writer)
        for number, tick in writer.missed.begun.items():
            self._safe.setdefault(self._keys[number], tick)
        while self._marks and self._marks[0][0] < confirmed_below:
            self._safe |= self._marks.pop(0)[1]
        self._marks.append((writer.file.top, ticks))
        if len(self._marks) > MARKS_KEPT:  # a long outage: coarser is good enough
            self._marks = self._marks[::2]
        more: dict[str, object] = {"ended": STOPPED} if stopped else {}
        unwritten, why = writer.unwritten()
        if unwritten:
            more |= {"unwritten": self._by_key(unwritten), "why": why}
        left_out: dict[str, dict[int, int]] = {}
        for grp, one in writer.open_spans().items():
            left_out.setdefault(one.reason, {})[grp] = one.tick
        if left_out:
            more["left_out"] = {reason: self._by_key(found) for reason, found in left_out.items()}
        return self._note(writer.file.top, ticks, **more)

    def ticks(self, writer: Writer) -> dict[str, int]:
        """Return the last committed ticks by group key."""
        return self._by_key(writer.ticks)

    def rows(self, writer: Writer) -> dict[str, int]:
        """Return the ids of the last rows with a value by group key."""
        return self._by_key(writer.valued)

    def _by_key(self, found: Mapping[int, int]) -> dict[str, int]:
        return {self._keys[number]: one for number, one in found.items() if number in self._keys}

    def _note(self, top: int, ticks: dict[str, int], **more: object) -> str:
        return json.dumps({"epoch": self._epoch, "top": top, "ticks": ticks, "safe": self._safe, **more})
