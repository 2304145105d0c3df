"""Heads of the gateways' audit logs: kept, and each compared with the one before.

A gateway publishes, signed, how long its log is and the root over it, with proofs that it continues
what it published before. Whoever owns the box can rewrite the log; he cannot make it continue a head
that lies here. :func:`judged` is pure.

One owner. Not here: the signature of the message (`headend.intake`).
"""

from __future__ import annotations

import base64
import binascii
from collections import OrderedDict
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, TypeVar

from core.checkpoint import Checkpoint
from core.merkle import consistent
from core.records import AuditHead
from headend.alarms import Code
from headend.books import Books
from headend.intake import Intake, Refusal, Refused

T = TypeVar("T")
GATEWAYS: Final = 4096
HEAD_BYTES: Final = 64 << 10
KEPT: Final = 100
"""Heads a gateway beside those that were alarms: the last ones decide."""


class Verdict(StrEnum):
    """What a head says of the log, compared with the head before."""

    FIRST = "first"
    SAME = "same"
    CONTINUES = "continues"
    UNPROVEN = "unproven"
    """It came without a proof from the head that is held: too many were missed."""
    CUT = "cut"
    REWRITTEN = "rewritten"


ALARMS: Final = {
    Verdict.UNPROVEN: (Code.AUDIT_UNPROVEN, "compare by hand: portico audit verify --head"),
    Verdict.CUT: (
        Code.AUDIT_CUT,
        "published entries are gone: find out who did it, and keep the box",
    ),
    Verdict.REWRITTEN: (Code.AUDIT_REWRITTEN, "what was published is no part of it: find out who did it"),
}


@dataclass(frozen=True, slots=True)
class Held:
    """The head of a gateway that came last."""

    size: int
    root: bytes
    at_ms: int


def judged(held: Held | None, head: AuditHead, found: Checkpoint) -> Verdict:
    """Compare a head with the one that is held."""
    if held is None:
        return Verdict.FIRST
    if found.size == held.size:
        return Verdict.SAME if found.root == held.root else Verdict.REWRITTEN
    if found.size < held.size:
        # A broker may bring back an older head that it had retained.
        return Verdict.CUT if head.at > held.at_ms else Verdict.SAME
    if held.size == 0:
        return Verdict.CONTINUES
    proof = next((one for one in head.proofs if one.size == held.size), None)
    if proof is None:
        return Verdict.UNPROVEN
    try:
        path = [base64.b64decode(one, validate=True) for one in proof.path]
    except binascii.Error:
        return Verdict.REWRITTEN
    holds = consistent(held.size, found.size, held.root, found.root, path)
    return Verdict.CONTINUES if holds else Verdict.REWRITTEN


class AuditHeads:
    """Heads that came and are not written yet."""

    def __init__(self) -> None:
        self._heard: OrderedDict[str, tuple[AuditHead, Checkpoint]] = OrderedDict()
        self._waiting: OrderedDict[str, tuple[str, bytes]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._heard)

    def hear(self, intake: Intake, gateway: str, topic: str, payload: bytes, now_ms: int) -> Refused | None:
        """Take a head; return why it was refused, if it was."""
        if len(payload) > HEAD_BYTES:
            return Refused(Refusal.GARBAGE, gateway, f"an audit head of {len(payload)} bytes")
        found = intake.judge_audit_head(gateway, topic, payload, now_ms)
        if isinstance(found, Refused):
            if found.reason is not Refusal.UNKNOWN_KEY:
                return found
            # As with states: the stream brings the certificate.
            _bounded(self._waiting, gateway, (topic, payload))
            return None
        _bounded(self._heard, gateway, found)
        return None

    def known(self, intake: Intake, gateway: str, now_ms: int) -> None:
        """A message of this gateway was taken: its head, if one waits, can be judged now."""
        waiting = self._waiting.pop(gateway, None)
        if waiting is not None:
            self.hear(intake, gateway, *waiting, now_ms)

    def save(self, books: Books) -> list[str]:
        """Judge and write inside a transaction; return the gateways written, for :meth:`saved`."""
        written = [name for name in self._heard if books.knows(name)]
        for gateway in written:
            self._save(books, gateway, *self._heard[gateway])
        return written

    def saved(self, gateways: list[str]) -> None:
        """Forget what was committed."""
        for gateway in gateways:
            self._heard.pop(gateway, None)

    def _save(self, books: Books, gateway: str, head: AuditHead, found: Checkpoint) -> None:
        row = books.connection.execute(
            "SELECT size, root, at_ms FROM audit_head WHERE gateway = ? ORDER BY no DESC LIMIT 1", (gateway,)
        ).fetchone()
        verdict = judged(None if row is None else Held(*row), head, found)
        if verdict is Verdict.SAME:
            return
        books.connection.execute(
            "INSERT INTO audit_head (gateway, size, root, note, at_ms, received_ms, verdict) "
            "VALUES (?, ?, ?, ?, ?, ?, ?)",
            (gateway, found.size, found.root, head.note, head.at, books.now_ms, verdict.value),
        )
        books.connection.execute(
            "DELETE FROM audit_head WHERE gateway = ?1 AND verdict = 'continues' AND no NOT IN "
            "(SELECT no FROM audit_head WHERE gateway = ?1 ORDER BY no DESC LIMIT ?2)",
            (gateway, KEPT),
        )
        if verdict in ALARMS:
            code, advice = ALARMS[verdict]
            before = 0 if row is None else row[0]
            text = f"the audit log of {gateway} ({found.size} entries, {before} before): {advice}"
            books.alarm(code, gateway, text)


def _bounded(queue: OrderedDict[str, T], key: str, value: T) -> None:
    queue[key] = value
    queue.move_to_end(key)
    if len(queue) > GATEWAYS:
        queue.popitem(last=False)
