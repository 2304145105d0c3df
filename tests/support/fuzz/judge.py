"""What became of a request, by what the peer really sent: taken rightly, refused, or a fault of ours.

A value that no rule can tell from a right one is `undetectable`: its frame was an answer to this very
request in all that a frame shows.  Where a mutation must be seen whatever it makes, it is a fault all the
same: an answer that comes late is of another time, and no frame of another request may pass for it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

from tests.support.fuzz.answers import ERROR, READS, Asked, Framing, truth
from tests.support.fuzz.peers import Event

_WHOLE: Final = frozenset(
    {"right", "silent", "late", "handed_on", "slow_pieces", "pieces", "cut", "hung_up", "refused", "unasked"}
    | {"one_behind"}
)
SEEN: Final = {
    Framing.RTU: _WHOLE,
    Framing.MBAP: _WHOLE
    | {"twice", "joined", "replayed", "other_transaction", "other_unit", "other_function", "other_count"}
    | {"other_size", "echoed", "refused_oddly"},
}
"""Mutations that alone never make a wrong value, whatever they make.  Of the others some frame is right in
all that it shows: what no checksum guards (MBAP), a right frame of another time without a number (RTU), a
checksum that is right by chance or on purpose.  So may two of them together make one: a late answer in the
place of one that was lost, the end of one frame in the place of another's."""


class Became(Enum):
    """What became of a request."""

    ACCEPTED = "accepted_valid"
    REFUSED = "refused"
    UNDETECTABLE = "undetectable"
    WRONG = "wrong"


@dataclass(frozen=True)
class Judged:
    """A judgement and its ground."""

    became: Became
    why: str = ""


def _sent_after(events: Sequence[Event], pdu: bytes, unit: int) -> tuple[Asked, bytes] | None:
    """Return the last request like this one, and what was sent behind it on its connection."""
    for at in range(len(events) - 1, -1, -1):
        asked = events[at].asked
        if asked is not None and asked.pdu == pdu and asked.unit == unit:
            same = events[at].connection
            sent = [one.octets for one in events[at:] if one.connection == same and one.asked is None]
            return asked, b"".join(sent)
    return None


def judge_answer(
    events: Sequence[Event], unit: int, pdu: bytes, payload: bytes, mutations: frozenset[str]
) -> Judged:
    """Judge what a read returned, or (with its echo as `payload`) a write that was confirmed."""
    found = _sent_after(events, pdu, unit)
    if found is None:
        return Judged(Became.WRONG, "an answer to a request that the device never saw")
    asked, sent = found
    read = asked.function in READS
    answer = bytes([asked.function, len(payload)]) + payload if read else asked.pdu[:5]
    if asked.framed(answer) not in sent:
        return Judged(Became.WRONG, "no frame that answers this request was sent")
    if not read or payload == truth(asked.ordinal, asked.pdu):
        return Judged(Became.ACCEPTED)
    made = mutations - {"right", "unasked"}
    if len(made) > 1 or made - SEEN[asked.framing]:
        return Judged(Became.UNDETECTABLE)
    return Judged(Became.WRONG, "another value, although it could be told from the right one")


def judge_refusal(events: Sequence[Event], unit: int, pdu: bytes, code: int) -> Judged:
    """Judge an exception response."""
    found = _sent_after(events, pdu, unit)
    if found is not None:
        asked, sent = found
        if asked.framed(bytes([asked.function | ERROR, code])) in sent:
            return Judged(Became.REFUSED)
    return Judged(Became.WRONG, f"a refusal with code {code} that the device never gave")
