"""A question in a person's words made into a command, and the answer made into lines.

"May operator op-17 of esco1 shed wh-01 at gw-0001 tomorrow at 17:00, and if not, why not?"  What is left out
is filled in where the documents leave one choice, and told.  The judgement is `policies.decide` itself.

Pure, with the present instant as an argument.  Not here: options and printing (`policies.cli`).
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from pydantic import ValidationError

from core.errors import ConfigError
from policies.command import Command
from policies.decision import Decision, Finding, Judged
from policies.forms import duration_text, instant_text, number_text, parse_instant
from policies.grant import Verb
from policies.reasons import reason_of
from policies.rulebook import Rulebook
from policies.when import local_time

_AT = re.compile(r"(?:(today|tomorrow)\s+(?:at\s+)?)?(\d\d?):(\d\d)", re.ASCII)
_TO_ARRIVE: Final = 60_000
DEFAULT_DURATION: Final = "1h"


@dataclass(frozen=True, slots=True)
class Asked:
    """What somebody asks, in words."""

    who: str
    """``entity/application/individual``, or ``entity/individual`` where there is one application."""
    verb: Verb
    device: str
    point: str | None = None
    value: str | None = None
    at: str = "now"
    lasting: str | None = None
    gateway: str | None = None
    purpose: str | None = None
    emergency: bool = False
    cosigners: tuple[str, ...] = ()
    cancels: str | None = None


@dataclass(frozen=True, slots=True)
class Put:
    """The question as a command, and what was filled in."""

    command: Command
    filled_in: tuple[str, ...]


def parse_at(text: str, now_ms: int, zone: ZoneInfo) -> int | None:
    """Return the instant of ``now`` (None), ``17:00``, ``tomorrow 17:00`` or RFC 3339 text."""
    words = text.strip().lower()
    if words == "now":
        return None
    parts = _AT.fullmatch(words)
    try:
        if parts is None:
            return parse_instant(text.strip())
        local = local_time(now_ms, zone).replace(hour=int(parts[2]), minute=int(parts[3]), second=0)
    except ValueError as error:
        raise ConfigError(
            f'"{text}" is no time: write now, 17:00, "tomorrow 17:00" or 2026-11-24T17:00:00-05:00'
        ) from error
    if parts[1] == "tomorrow":
        local += timedelta(days=1)
    return _instant_of(local)


def _instant_of(local: datetime) -> int:
    return int(local.timestamp()) * 1000


def put(asked: Asked, book: Rulebook, now_ms: int) -> Put:
    """Return the command that somebody asks about; :class:`ConfigError` says what is missing."""
    filled: list[str] = []
    entity, application, individual = _who(asked.who, book, filled)
    gateway = asked.gateway
    if gateway is None:
        if book.assignment is None:
            raise ConfigError("no gateway is named and there is no assignment that names one: give --gateway")
        gateway = book.assignment.assignment.gateway
        filled.append(f"gateway {gateway}")
    point = asked.point or _point(asked, book, filled)
    value, lasting = asked.value, asked.lasting
    if asked.verb.is_control and lasting is None:
        lasting = DEFAULT_DURATION
        filled.append(f"for {lasting}")
    if asked.verb.is_on_off and value is None:
        value = _away(asked, book, point)
        filled.append(f"value {value}")
    purpose = asked.purpose
    if purpose is None and asked.verb is not Verb.CANCEL:
        purpose = _purpose(entity, asked, book)
        if purpose is not None:
            filled.append(f"purpose {purpose}")
    start_ms = parse_at(asked.at, now_ms, book.zone)
    tables = {
        "id": "explained",
        "issuer": {"entity": entity, "application": application, "individual": individual},
        "gateway": gateway,
        "device": asked.device,
        "point": point,
        "verb": asked.verb.value,
        "value": value,
        "start": None if start_ms is None else instant_text(start_ms),
        "duration": lasting,
        "issued": instant_text(now_ms),
        "expires": instant_text(now_ms + _TO_ARRIVE),
        "purpose": purpose,
        "emergency": asked.emergency,
        "cosigners": asked.cosigners,
        "cancels": asked.cancels,
    }
    try:
        command = Command.model_validate({key: one for key, one in tables.items() if one is not None})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = " ".join(str(part) for part in first["loc"])
        raise ConfigError(f"{where}: {first.get('ctx', {}).get('error', first['msg'])}") from error
    return Put(command, tuple(filled))


def _who(text: str, book: Rulebook, filled: list[str]) -> tuple[str, str, str]:
    parts = text.split("/")
    if len(parts) == 3:
        return parts[0], parts[1], parts[2]
    if len(parts) != 2:
        raise ConfigError(f'"{text}" does not say who: write entity/application/individual')
    known = sorted(book.applications.get(parts[0], ()))
    if len(known) != 1:
        listed = ", ".join(known) or "none that the policy names"
        raise ConfigError(f"{parts[0]} has these applications: {listed}; write entity/application/individual")
    filled.append(f"application {known[0]}")
    return parts[0], known[0], parts[1]


def _point(asked: Asked, book: Rulebook, filled: list[str]) -> str:
    device = book.devices.get(asked.device)
    points = sorted(
        {
            one.point
            for one in book.policy.limits
            if device is not None
            and one.type == device.type
            and one.kind in (None, device.kind)
            and (asked.verb is Verb.CANCEL or asked.verb.value in one.verbs)
        }
    )
    if len(points) != 1:
        listed = ", ".join(points) or "none"
        raise ConfigError(f"points of {asked.device} for {asked.verb.value}: {listed}; name one with --point")
    filled.append(f"point {points[0]}")
    return points[0]


def _away(asked: Asked, book: Rulebook, point: str) -> str:
    device = book.devices.get(asked.device)
    profile = book.limits(device, point) if device is not None else None
    return "0" if profile is not None and profile.default == 1 else "1"


def _purpose(entity: str, asked: Asked, book: Rulebook) -> str | None:
    device = book.devices.get(asked.device)
    rows = book.candidates(entity, asked.verb.value, device.kind if device is not None else None)
    return next((row.grant.purpose[0] for row in rows if row.grant.purpose), None)


def question_text(command: Command, allowed: bool, zone: ZoneInfo, now_ms: int) -> str:
    """Return the answer as a sentence: who may or may not do what, where, when."""
    issuer = command.issuer
    words = [
        f"{issuer.individual} of {issuer.entity} ({issuer.application})",
        f"{'may' if allowed else 'may not'} {command.verb.value}",
        f"{command.device} {command.point} at {command.gateway}",
        local_time(command.start_ms or now_ms, zone).strftime("on %a %Y-%m-%d at %H:%M %Z"),
    ]
    if command.value is not None:
        words.insert(3, f"to {number_text(command.value)}")
    if command.duration_s is not None:
        words.append(f"for {duration_text(command.duration_s)}")
    if command.purpose is not None:
        words.append(f"for the purpose {command.purpose}")
    return " ".join(words)


def answer_lines(decision: Decision) -> Iterator[tuple[str, str]]:
    """Yield the answer as lines: a mark (``head``, ``yes``, ``no``, ``aside``) and the text."""
    for one in decision.findings:
        yield "no", _line(one)
    for judged in decision.grants:
        yield "head", _heading(judged)
        if judged.met:
            yield "yes", f"met: {', '.join(judged.met)}"
        for one in judged.unmet:
            yield "no", _line(one)
        for one in judged.bypassed:
            yield "aside", f"{_line(one)}; set aside by the emergency"


def _heading(judged: Judged) -> str:
    if not judged.unmet:
        return f"{judged.grant}: everything is met"
    others = any(one.code in ("actor", "verb", "target") for one in judged.unmet)
    return f"{judged.grant}: {'does not speak of it' if others else f'{len(judged.unmet)} not met'}"


def _line(finding: Finding) -> str:
    reason = reason_of(finding.code)
    return f"{finding.code}: {finding.why} (AddCause {reason.addcause}, 2030.5 {reason.response})"


def explained(decision: Decision, asked: Put, granted: Sequence[str], now_ms: int) -> dict[str, object]:
    """Return question and answer for programs."""
    return {
        "now": instant_text(now_ms),
        "command": asked.command.model_dump(mode="json", by_alias=True, exclude_none=True),
        "filled_in": list(asked.filled_in),
        "taken_for_granted": list(granted),
        **decision.as_json(),
    }
