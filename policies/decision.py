"""The answer to a command: allowed with what to do, or not with every reason.

A denial is a value.  Each reason has a stable code from ``reasons.toml`` and a sentence about this very case.
Not here: how the answer is found (`policies.decide`), and the table of codes (`policies.reasons`).
"""

from dataclasses import dataclass
from decimal import Decimal
from typing import Final, Literal

from policies.facts import Period
from policies.forms import instant_text, number_text
from policies.reasons import reason_of

ALLOWED: Final = "ok"
Json = dict[str, object]


@dataclass(frozen=True, slots=True)
class Finding:
    """One condition that is not met."""

    code: str
    why: str
    unknown: bool = False
    """Not met because a fact that it needs is not known."""

    def as_json(self) -> Json:
        """Return it for programs, with the codes of IEC 61850 and IEEE 2030.5."""
        reason = reason_of(self.code)
        return {
            "code": self.code,
            "why": self.why,
            "unknown": self.unknown,
            "addcause": reason.addcause,
            "response": reason.response,
        }


@dataclass(frozen=True, slots=True)
class Judged:
    """What became of one grant."""

    grant: str
    met: tuple[str, ...]
    """Names of the conditions that are met."""
    unmet: tuple[Finding, ...]
    bypassed: tuple[Finding, ...] = ()
    """Not met, and set aside by an emergency that the grant provides for."""

    def as_json(self) -> Json:
        """Return it for programs."""
        return {
            "grant": self.grant,
            "satisfied": not self.unmet,
            "met": list(self.met),
            "unmet": [one.as_json() for one in self.unmet],
            "bypassed": [one.as_json() for one in self.bypassed],
        }


@dataclass(frozen=True, slots=True)
class Reservation:
    """What of a budget has to be written down before anything is done."""

    period: Period
    count: int
    seconds: int


@dataclass(frozen=True, slots=True)
class Plan:
    """What an allowed command comes to.  Instants are ms since 1970, durations seconds."""

    grant: str
    revision: int
    begin_ms: int
    """Not before; the gateway draws a delay of 0 to ``random_start_s`` on top."""
    random_start_s: int
    duration_s: int
    """As asked for; 0 for what is done once."""
    random_end_s: int
    """The restore is spread over so long after the end."""
    latest_end_ms: int
    """By then it is over, whatever was drawn and as long as minimum times allow."""
    value: Decimal | None
    restore_to: Decimal | None
    """None where nothing is restored."""
    hold: Literal["timer", "watchdog", "none"]
    on_comm_loss: Literal["restore", "hold_to_end"]
    comm_loss_after_s: int
    opt_out: Literal["any_time", "before_start", "none"]
    level: int
    preemptible: Literal["never", "before_start", "always"]
    ends: tuple[str, ...]
    """Commands whose controls of this point this one takes over: its own entity's, or weaker ones."""
    reserve: tuple[Reservation, ...]
    bypassed: tuple[str, ...]
    """Codes that an emergency set aside."""
    least_s: int = 0
    """So long the device stays at the value at least, by profile and type: what is shorter lasts so long."""

    def as_json(self) -> Json:
        """Return it for programs."""
        return {
            "grant": self.grant,
            "revision": self.revision,
            "begin": instant_text(self.begin_ms),
            "random_start_s": self.random_start_s,
            "duration_s": self.duration_s,
            "random_end_s": self.random_end_s,
            "latest_end": instant_text(self.latest_end_ms),
            "value": None if self.value is None else number_text(self.value),
            "restore_to": None if self.restore_to is None else number_text(self.restore_to),
            "hold": self.hold,
            "on_comm_loss": self.on_comm_loss,
            "comm_loss_after_s": self.comm_loss_after_s,
            "opt_out": self.opt_out,
            "level": self.level,
            "preemptible": self.preemptible,
            "ends": list(self.ends),
            "reserve": [
                {**one.period._asdict(), "count": one.count, "seconds": one.seconds} for one in self.reserve
            ],
            "bypassed": list(self.bypassed),
        }


@dataclass(frozen=True, slots=True)
class Decision:
    """Allowed or not, and why."""

    code: str
    """``ok``, or the code of the reason that comes first."""
    findings: tuple[Finding, ...] = ()
    """What is not met whatever a grant says."""
    grants: tuple[Judged, ...] = ()
    """Grants that speak of the command, in their order, up to the one that permits it."""
    plan: Plan | None = None
    """Set when a control is allowed; a cancellation has none."""

    @property
    def allowed(self) -> bool:
        """Whether the command is to be carried out."""
        return self.code == ALLOWED

    @property
    def wants_to_know(self) -> bool:
        """Whether something is not met because a fact is not known; else knowing it changes nothing.

        What was judged before the grant that permits counts too: it might have been the one.
        """
        return any(one.unknown for one in self.findings) or any(
            one.unknown for judged in self.grants for one in (*judged.unmet, *judged.bypassed)
        )

    @property
    def codes(self) -> tuple[str, ...]:
        """Every code once: the general ones, then grant by grant."""
        unmet = (one.code for judged in self.grants for one in judged.unmet)
        return (
            tuple(dict.fromkeys((*(one.code for one in self.findings), *unmet))) if not self.allowed else ()
        )

    def as_json(self) -> Json:
        """Return it for programs, and for the audit log."""
        reason = reason_of(self.code)
        return {
            "allowed": self.allowed,
            "code": self.code,
            "codes": list(self.codes),
            "addcause": reason.addcause,
            "response": reason.response,
            "findings": [one.as_json() for one in self.findings],
            "grants": [one.as_json() for one in self.grants],
            "plan": None if self.plan is None else self.plan.as_json(),
        }
