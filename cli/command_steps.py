"""A command as its issuer sees it: built from what a person asks, and followed to its end.

Pure: time and outcomes are arguments.  Relies on `headend.controls` for what an outcome changes.  Not here:
the network (`cli.command_wire`), printing (`cli.command_view`), and whether it is allowed: that is decided
at the gateway, and `portico policy explain` asks the same beforehand.
"""

import json
import secrets
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from datetime import time as clock_time
from enum import Enum
from typing import Final

from core.errors import ConfigError
from core.records import Outcome
from headend.controls import after
from policies.command import Command, Issuer
from policies.forms import instant_text, parse_duration, parse_instant
from policies.grant import Verb
from policies.reading import parse_command
from policies.reasons import reasons

END_MARGIN_MS: Final = 180_000
"""How long after a control's end its last word is waited for: settling, and a second try."""
ANSWER_MARGIN_MS: Final = 15_000
"""How long after a command has expired an answer is waited for."""

OTHER_CODES: Final = {
    "ended": "Its time was over.",
    "cancelled": "It was cancelled.",
    "superseded": "Another control of the point took over.",
    "contact-lost": "The gateway heard nothing of the entity for too long.",
    "hold-lost": "The device's own hold could not be kept up: it has fallen back by itself.",
    "stopped": "The gateway was stopped in order.",
    "restarted": "The gateway was started again, and could not go on with it.",
    "goes-on": "The gateway was started again, and found it as it was.",
    "left": "The gateway was stopped; the device's own timer ends it.",
    "not-obeyed": "The device took the order, and its feedback shows something else.",
    "no-answer": "The device did not answer.",
    "no-feedback": "Nothing can be read that would show the effect.",
    "nothing-runs": "No such control was running.",
    "line-down": "The device's line is down.",
    "timeout": "The device did not answer in time.",
    "bad-frame": "The device's answer could not be read.",
}
"""Codes of steps that are no refusals, and so not in the closed list of `policies/reasons.toml`."""


class Ending(Enum):
    """How a command ended for its issuer."""

    AS_WANTED = "as-wanted"
    OTHERWISE = "otherwise"


@dataclass(frozen=True, slots=True)
class Asked:
    """What a person asks for, as typed."""

    gateway: str
    device: str
    point: str
    verb: str
    value: str | None = None
    duration: str | None = None
    at: str | None = None
    purpose: str | None = None
    cancels: str | None = None
    emergency: bool = False
    cosigners: tuple[str, ...] = ()
    expires: str = "60s"


def new_id(now_ms: int) -> str:
    """Return an id that nobody can guess and that sorts by time: ``20261122T170000123-9f3ac2d1``."""
    at = datetime.fromtimestamp(now_ms // 1000, UTC)
    return f"{at:%Y%m%dT%H%M%S}{now_ms % 1000:03d}-{secrets.token_hex(4)}"


def build_command(asked: Asked, issuer: Issuer, now_ms: int, id_: str) -> Command:
    """Return the command; ConfigError tells what is wrong with it."""
    verb = _verb(asked.verb)
    if verb.is_control:
        if asked.value is None:
            raise ConfigError(f"--verb {verb.value} needs --value, for example --value 1")
        if asked.duration is None:
            raise ConfigError(f"--verb {verb.value} needs --for: nothing is controlled without an end")
    document = {
        "id": id_,
        "issuer": issuer.model_dump(),
        "gateway": asked.gateway,
        "device": asked.device,
        "point": asked.point,
        "verb": verb.value,
        "value": asked.value,
        "start": None if asked.at is None else instant_text(start_ms(asked.at, now_ms)),
        "duration": asked.duration,
        "issued": instant_text(now_ms),
        "expires": instant_text(now_ms + _expires_s(asked.expires) * 1000),
        "purpose": asked.purpose,
        "emergency": asked.emergency or None,
        "cosigners": list(asked.cosigners) or None,
        "cancels": asked.cancels,
    }
    plain = {key: value for key, value in document.items() if value is not None}
    return parse_command(json.dumps(plain).encode(), "the command")


def _verb(text: str) -> Verb:
    try:
        return Verb(text)
    except ValueError:
        known = ", ".join(one.value for one in Verb)
        raise ConfigError(f"--verb {text!r} is none: {known}") from None


def _expires_s(text: str) -> int:
    try:
        found = parse_duration(text)
    except ValueError as error:
        raise ConfigError(f"--expires {error}") from None
    if not 1 <= found <= 86_400:
        raise ConfigError("--expires is between 1s and 1d: an older command is not to be taken by anybody")
    return found


def start_ms(text: str, now_ms: int) -> int:
    """Return the instant of ``17:00`` (the next, by this machine's zone) or ``2026-11-22T17:00:00Z``."""
    if len(text) == 5 and text[2] == ":":
        try:
            clock = clock_time.fromisoformat(text)
        except ValueError:
            raise ConfigError(f"--at {text!r} is no time of day: write 17:00") from None
        here = datetime.fromtimestamp(now_ms / 1000).astimezone()
        # From a naive local time, so that the zone's rule of that day counts.
        at = datetime.combine(here.date(), clock).astimezone()
        if at.timestamp() * 1000 < now_ms:
            at = datetime.combine(here.date() + timedelta(days=1), clock).astimezone()
        return int(at.timestamp() * 1000)
    try:
        return parse_instant(text)
    except ValueError as error:
        raise ConfigError(f"--at {text!r} {error}, or 17:00") from None


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a command is, by what was told of it."""

    command: str
    entity: str
    steps: tuple[Outcome, ...] = ()
    """In the order in which they came; each once."""
    state: str | None = None
    begin_ms: int | None = None
    end_ms: int | None = None
    failed: bool = False
    seen: frozenset[tuple[str, int]] = frozenset()
    """(epoch, sequence): the lane may bring one twice."""

    def follow(self, epoch: str, outcome: Outcome) -> "Progress":
        """Return the progress after an outcome; itself when it is of another command, or came before."""
        key = (epoch, outcome.seq)
        other = outcome.command != self.command or (outcome.entity or self.entity) != self.entity
        if other or key in self.seen:
            return self
        begin, end = outcome.x.get("begin"), outcome.x.get("end")
        return replace(
            self,
            steps=(*self.steps, outcome),
            state=after(self.state, outcome.state, outcome.reasons) or self.state,
            begin_ms=begin if isinstance(begin, int) else self.begin_ms,
            end_ms=end if isinstance(end, int) else self.end_ms,
            failed=self.failed or outcome.state == "failed",
            seen=self.seen | {key},
        )

    @property
    def ending(self) -> Ending | None:
        """How it ended; None while it goes on."""
        match self.state:
            case "restored" | "left" | "done":
                return Ending.OTHERWISE if self.failed else Ending.AS_WANTED
            case "refused" | "cancelled" | "superseded":
                return Ending.OTHERWISE
            case _:
                return None

    def deadline_ms(self, expires_ms: int | None) -> int | None:
        """Return until when the next word is waited for; None: nobody can say."""
        if self.end_ms is not None:
            return self.end_ms + END_MARGIN_MS
        return None if expires_ms is None else expires_ms + ANSWER_MARGIN_MS


def explained(code: str) -> dict[str, str | int | None]:
    """Return a code with its sentence and what two standards would call it."""
    known = reasons().get(code)
    if known is not None:
        return {
            "code": code,
            "text": known.text,
            "addcause": known.addcause,
            "response": known.response,
        }
    return {"code": code, "text": OTHER_CODES.get(code, ""), "addcause": None, "response": None}


def as_json(gateway: str, step: Outcome) -> dict[str, object]:
    """Return one step for a program."""
    begin, end = step.x.get("begin"), step.x.get("end")
    return {
        "gateway": gateway,
        "command": step.command,
        "entity": step.entity,
        "device": step.device,
        "point": step.point,
        "at": instant_text(step.at),
        "state": step.state,
        "value": step.value,
        "reasons": [explained(code) for code in step.reasons],
        "text": step.text,
        "begin": instant_text(begin) if isinstance(begin, int) else None,
        "end": instant_text(end) if isinstance(end, int) else None,
        "grant": step.x.get("grant"),
    }
