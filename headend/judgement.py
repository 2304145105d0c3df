"""Who may append a judgement to the quality journal, and appending it.

An entity judges only what the ownership of the data names it for: the steward as steward, the billing
validator as validator; the head-end judges by its own rules what it collects.

Everything here runs inside a transaction of :class:`headend.books.Books`.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from core.errors import ConfigError
from core.manifest import Group
from core.ownership import Ownership
from core.quality import Precedence, code_of, is_reason
from headend.books import Books
from headend.instants import instant
from headend.journal import Entry, append_entry, is_code
from headend.terms import ownership_corrections


@dataclass(frozen=True, slots=True)
class Judgement:
    """Ticks of a device (of one point of it, or all) in [from_ms, to_ms), judged."""

    gateway: str
    device: str
    point: str
    from_ms: int
    to_ms: int
    code: str
    """IEC 61968-9; empty: that of the reason."""
    reason: str
    rule: str
    entity: str
    who: str
    precedence: Precedence


def append_judgement(books: Books, one: Judgement, headend_entity: str) -> Entry:
    """Check and append. Raises ConfigError when it may not be, saying why."""
    if one.reason and not is_reason(one.reason):
        raise ConfigError(f"reason {one.reason!r} is not in the closed list (core/quality.toml)")
    code = one.code or (code_of([one.reason]) if one.reason else "")
    if not is_code(code):
        raise ConfigError("a judgement needs --reason, or --code of the form system.category.index")
    if one.from_ms >= one.to_ms:
        raise ConfigError("the period ends before it begins: --to is the first instant not judged")
    groups = [
        msgspec.json.decode(body, type=Group)
        for (body,) in books.connection.execute(
            "SELECT body FROM grp WHERE gateway=? AND device=?", (one.gateway, one.device)
        )
    ]
    if one.point:
        groups = [group for group in groups if any(point.name == one.point for point in group.points)]
    if not groups:
        what = f"{one.gateway}/{one.device}" + (f" {one.point}" if one.point else "")
        raise ConfigError(
            f"the books know no {what}: look at portico headend readings --gateway {one.gateway}"
        )
    for group in groups:
        fault = _fault(books, one, group, headend_entity)
        if fault:
            raise ConfigError(fault)
    entry = Entry(
        code, (one.reason,) if one.reason else (), one.rule, one.entity, one.precedence, books.now_ms
    )
    append_entry(books.connection, one.gateway, one.device, one.point, one.from_ms, one.to_ms, entry, one.who)
    return entry


def _fault(books: Books, one: Judgement, group: Group, headend_entity: str) -> str:
    if one.precedence is Precedence.HEADEND:
        return "" if one.entity == headend_entity else f"only {headend_entity} judges as this head-end"
    if one.precedence not in (Precedence.STEWARD, Precedence.VALIDATOR):
        return "gateways and devices judge in their streams, not here"
    corrections = [
        Ownership(
            term.device_owner, term.data_owners, term.steward, term.validator, term.purpose,
            term.valid_from_ms, term.valid_to_ms,
        )
        for term in ownership_corrections(books.connection, one.gateway, group.key)
    ]  # fmt: skip
    terms = corrections or [*group.owners]
    for term in terms:
        if not _overlaps(term, one.from_ms, one.to_ms):
            continue
        named = term.steward if one.precedence is Precedence.STEWARD else term.validator
        if named != one.entity:
            role = "steward" if one.precedence is Precedence.STEWARD else "billing validator"
            since = "" if term.valid_from_ms is None else f" from {instant(term.valid_from_ms)}"
            return f"{one.entity} is not the {role} of {one.device}{since}: {named} is"
    return ""


def _overlaps(term: Ownership, from_ms: int, to_ms: int) -> bool:
    return (term.valid_from_ms is None or term.valid_from_ms < to_ms) and (
        term.valid_to_ms is None or from_ms < term.valid_to_ms
    )
