"""What gateways say of themselves on their state topics: on line, versions, instance.

A state is signed, but retained and replayed by brokers: it is for people and for one alarm, never a
reason to confirm or drop anything. A state by a key that is not known yet waits, within bounds, for
the stream that brings the certificate.

One owner. Not here: the judgement of the signature (`headend.intake`).
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from core.codec import encode_plain
from core.records import State
from headend.books import Books
from headend.intake import Intake, Refusal, Refused

GATEWAYS: Final = 4096
WAITING: Final = 1024
STATE_BYTES: Final = 16 << 10
INSTANCES: Final = 8


class Presence:
    """The last state of each gateway, until it is written."""

    def __init__(self) -> None:
        self._changed: OrderedDict[str, State] = OrderedDict()
        self._waiting: OrderedDict[str, tuple[str, bytes]] = OrderedDict()
        self._instances: OrderedDict[str, list[str]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._changed)

    def hear(
        self, intake: Intake, gateway: str, topic: str, payload: bytes, now_ms: int
    ) -> tuple[Refused | None, str]:
        """Take a state; return why it was refused, and the text of an alarm, if any."""
        if len(payload) > STATE_BYTES:
            return Refused(Refusal.GARBAGE, gateway, f"a state of {len(payload)} bytes"), ""
        found = intake.judge_state(gateway, topic, payload, now_ms)
        if isinstance(found, Refused):
            # One that brings the certificate of another authority is perhaps not for us at all.
            if found.reason not in (Refusal.UNKNOWN_KEY, Refusal.UNTRUSTED):
                return found, ""
            self._waiting[gateway] = (topic, payload)
            self._waiting.move_to_end(gateway)
            if len(self._waiting) > WAITING:
                self._waiting.popitem(last=False)
            return None, ""
        self._changed[gateway] = found
        self._changed.move_to_end(gateway)
        if len(self._changed) > GATEWAYS:
            self._changed.popitem(last=False)
        return None, self._twins(gateway, found)

    def known(self, intake: Intake, gateway: str, now_ms: int) -> None:
        """A message of this gateway was taken: its state, if one waits, can be judged now."""
        waiting = self._waiting.pop(gateway, None)
        if waiting is not None:
            self.hear(intake, gateway, *waiting, now_ms)

    def save(self, books: Books) -> list[str]:
        """Write states inside a transaction; return the gateways written, for :meth:`saved`."""
        written = [name for name in self._changed if books.knows(name)]
        for gateway in written:
            books.note_state(gateway, encode_plain(self._changed[gateway]).decode())
        return written

    def saved(self, gateways: list[str]) -> None:
        """Forget what was committed."""
        for gateway in gateways:
            self._changed.pop(gateway, None)

    def _twins(self, gateway: str, state: State) -> str:
        """Two instances that are on line in turn are two boxes with one id."""
        if not state.online or not state.instance:
            return ""
        seen = self._instances.setdefault(gateway, [])
        self._instances.move_to_end(gateway)
        if len(self._instances) > GATEWAYS:
            self._instances.popitem(last=False)
        twins = state.instance in seen[:-1]
        if state.instance in seen:
            seen.remove(state.instance)
        seen.append(state.instance)
        del seen[:-INSTANCES]
        if not twins:
            return ""
        return f"two boxes are connected as {gateway} in turn: find the one that is not it"
