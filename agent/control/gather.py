"""The facts of a decision, gathered: what is known stands there, what is not is *unknown*.

Relies on the courses for what runs and on the journal's memory for budgets.  Reading the present value goes
over the line, with the line's own deadlines.  Not here: deciding (`policies.decide`).
"""

from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from typing import Final

from agent.clock import Clock
from agent.control.inforce import InForce
from agent.control.life import Control
from policies.assignment import OptOut
from policies.facts import (
    UNKNOWN,
    ClockState,
    Contact,
    Facts,
    Period,
    Running,
    Time,
    TypeLimits,
    Unknown,
    Used,
)

ERROR_MS: Final = {ClockState.SYNCHRONISED: 500, ClockState.HOLDOVER: 2_000, ClockState.UNSURE: 86_400_000}
"""How far out a clock may be in each state: a guess for the first two, the kernel does not promise it."""


class Budgets(Mapping[Period, Used | Unknown]):
    """What is used, with periods that began before the journal did as unknown."""

    def __init__(self, used: Mapping[Period, Used], born_ms: int) -> None:
        """``born_ms``: 0 where nothing was lost."""
        self._used = used
        self._born = _date(born_ms) if born_ms else ""

    def __getitem__(self, period: Period) -> Used | Unknown:
        if period.first <= self._born:
            return UNKNOWN
        return self._used.get(period, Used(0, 0))

    def __iter__(self) -> Iterator[Period]:
        return iter(self._used)

    def __len__(self) -> int:
        return len(self._used)


def _date(ms: int) -> str:
    from datetime import UTC, datetime, timedelta

    # A day later, so that no zone has the day before it began.
    return (datetime.fromtimestamp(ms / 1000, UTC) + timedelta(days=1)).date().isoformat()


def time_of(clock: Clock) -> Time:
    """Return the present instant and how sure it is."""
    state = ClockState(clock.state())
    return Time(clock.now_ms(), ERROR_MS[state], state)


def running(controls: Iterable[Control]) -> tuple[Running, ...]:
    """Return controls as facts."""
    return tuple(
        Running(
            command=one.id,
            entity=one.entity,
            begin_ms=one.begin_ms,
            end_ms=one.end_ms,
            level=one.level,
            preemptible=one.preemptible,
            started=one.started,
        )
        for one in controls
        if not one.ended
    )


def facts(
    gateway: str,
    clock: Clock,
    in_force: InForce,
    keys: frozenset[str],
    *,
    received_ms: int,
    others: Iterable[Control],
    opt_outs: tuple[OptOut, ...],
    used: Mapping[Period, Used | Unknown],
    contact: Contact,
    type_limits: TypeLimits | Unknown,
    present: Decimal | Unknown,
    unchanged_since_ms: int | Unknown,
    locked_out: bool | Unknown,
) -> Facts:
    """Return the facts of one decision."""
    return Facts(
        gateway=gateway,
        time=time_of(clock),
        received_ms=received_ms,
        freshness=in_force.freshness,
        keys=keys,
        signed=in_force.signed,
        opt_outs=opt_outs,
        used=used,
        running=running(others),
        contact=contact,
        locked_out=locked_out,
        type_limits=type_limits,
        present=present,
        unchanged_since_ms=unchanged_since_ms,
    )
