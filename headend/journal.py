"""The quality journal: judgements over ranges, appended and never changed, and which of them counts.

The gateway's own judgements are the reasons in a row and the quality records that come later; both
say something of the same measurement, so they add up. Above them stand, each overruling those below,
the head-end, the steward and the billing validator; within one of these, the latest entry counts.
A judgement of lower precedence that is later and worse than the one that counts changes nothing, but
the reading's period is *reopened* for the billing validator.

:func:`current` is pure. Not here: how readings are looked up (`headend.readings`).
"""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from core.quality import GOOD_CODE, Precedence, code_of, reason_of, reasons
from core.records import QualityRecord

UNRANKED: Final = 45
"""Badness of a code that is neither valid nor one of our reasons: between a clock in doubt and stale."""
_CODE: Final = re.compile(r"\d{1,3}\.\d{1,3}\.\d{1,5}")


@dataclass(frozen=True, slots=True)
class Entry:
    """One judgement, as far as it decides."""

    code: str
    reasons: tuple[str, ...]
    rule: str
    entity: str
    precedence: Precedence
    known_ms: int


@dataclass(frozen=True, slots=True)
class Quality:
    """What counts for a reading now."""

    code: str
    """IEC 61968-9 ReadingQualityType."""
    reasons: tuple[str, ...]
    by: Precedence
    entity: str = ""
    """Who judged; empty for the gateway."""
    reopened: bool = False


GOOD: Final = Quality(GOOD_CODE, (), Precedence.DEVICE)


def is_code(text: str) -> bool:
    """Tell whether a text has the form ``system.category.index``."""
    return _CODE.fullmatch(text) is not None


def badness(code: str, names: Sequence[str]) -> int:
    """Return how bad a judgement is; 0 is good. Comparable with the ranks of the reasons."""
    if names:
        return max(reason_of(name).rank for name in names)
    if code.split(".")[1:2] == ["0"]:
        return 0
    return max((reason.rank for reason in reasons().values() if reason.code == code), default=UNRANKED)


def current(carried: Sequence[str], received_ms: int, entries: Sequence[Entry]) -> Quality:
    """Return what counts: `carried` are the reasons in the row, which came at `received_ms`."""
    if not carried and not entries:
        return GOOD
    own = [entry for entry in entries if entry.precedence <= Precedence.GATEWAY]
    names = tuple(dict.fromkeys([*carried, *(name for entry in own for name in entry.reasons)]))
    gateway = Quality(code_of(names), names, Precedence.GATEWAY if names else Precedence.DEVICE)
    above = [entry for entry in entries if entry.precedence > Precedence.GATEWAY]
    if not above:
        return gateway
    top = max(above, key=lambda entry: (entry.precedence, entry.known_ms))
    bad = badness(top.code, top.reasons)
    reopened = (bool(carried) and received_ms > top.known_ms and badness("", carried) > bad) or any(
        entry.known_ms > top.known_ms
        and entry.precedence < top.precedence
        and badness(entry.code, entry.reasons) > bad
        for entry in entries
    )
    return Quality(top.code, top.reasons, top.precedence, top.entity, reopened)


_COLUMNS = (
    "gateway, device, point, from_ms, to_ms, epoch, number, first_seq, last_seq, points, "
    "code, reasons, rule, entity, who, precedence, known_ms"
)
_PLACES = ", ".join("?" * 17)


def append_gateway_entry(
    connection: sqlite3.Connection, gateway: str, record: QualityRecord, known_ms: int
) -> None:
    """Append a gateway's later judgement of its own rows."""
    connection.execute(
        f"INSERT INTO quality_entry ({_COLUMNS}) VALUES ({_PLACES})",
        (
            gateway,
            "",
            "",
            None,
            None,
            record.epoch,
            record.group,
            record.first,
            record.last,
            json.dumps(record.points),
            code_of(record.reasons),
            json.dumps(record.reasons),
            record.rule,
            "",
            gateway,
            int(Precedence.GATEWAY),
            known_ms,
        ),
    )


def append_entry(
    connection: sqlite3.Connection,
    gateway: str,
    device: str,
    point: str,
    from_ms: int,
    to_ms: int,
    entry: Entry,
    who: str,
) -> None:
    """Append the judgement of an entity over the ticks of a device in [from_ms, to_ms)."""
    connection.execute(
        f"INSERT INTO quality_entry ({_COLUMNS}) VALUES ({_PLACES})",
        (
            gateway,
            device,
            point,
            from_ms,
            to_ms,
            "",
            0,
            0,
            0,
            "[]",
            entry.code,
            json.dumps(entry.reasons),
            entry.rule,
            entry.entity,
            who,
            int(entry.precedence),
            entry.known_ms,
        ),
    )


def entry_of(code: str, names: str, rule: str, entity: str, precedence: int, known_ms: int) -> Entry:
    """Return an entry from the columns of the journal."""
    return Entry(code, tuple(json.loads(names)), rule, entity, Precedence(precedence), known_ms)
