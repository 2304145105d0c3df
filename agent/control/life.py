"""The life of a control as one table: which state may follow which, and what each means for the device.

A state is written down before what it announces is done; so whoever reads the journal after a crash knows
what may have happened.  Pure.
"""

from dataclasses import dataclass
from decimal import Decimal
from enum import Enum
from typing import Final, Literal

from core.errors import StoreError


class State(Enum):
    """Where a command stands."""

    REFUSED = "refused"
    ACCEPTED = "accepted"
    """Its time has not come."""
    DISPATCHED = "dispatched"
    """It is being written, or was: from here on the device may obey it."""
    CONFIRMED = "confirmed"
    """The feedback shows it."""
    UNVERIFIED = "unverified"
    """It was written, and nothing can show that it was obeyed."""
    FAILED = "failed"
    """The device did not take it, or did not obey: it is put back all the same."""
    RESTORING = "restoring"
    RESTORED = "restored"
    """The device shows the value that it had to go back to."""
    SUPERSEDED = "superseded"
    """Another control of the point took over, which restores in its turn."""
    CANCELLED = "cancelled"
    """It never began."""
    LEFT = "left"
    """The agent stopped in order; the device's own timer ends it."""
    DONE = "done"
    """A command that is done at once and restores nothing: a cancellation, a clock that was set."""


FOLLOWS: Final[dict[State, frozenset[State]]] = {
    State.REFUSED: frozenset(),
    State.ACCEPTED: frozenset({State.REFUSED, State.CANCELLED, State.DISPATCHED, State.DONE}),
    State.DISPATCHED: frozenset(
        {State.CONFIRMED, State.UNVERIFIED, State.FAILED, State.RESTORING, State.SUPERSEDED}
    ),
    State.CONFIRMED: frozenset({State.RESTORING, State.SUPERSEDED, State.LEFT}),
    State.UNVERIFIED: frozenset({State.RESTORING, State.SUPERSEDED, State.LEFT}),
    State.FAILED: frozenset({State.RESTORING, State.SUPERSEDED}),
    State.RESTORING: frozenset({State.RESTORED, State.SUPERSEDED}),
    State.LEFT: frozenset({State.CONFIRMED, State.UNVERIFIED, State.RESTORING, State.RESTORED}),
    State.RESTORED: frozenset(),
    State.SUPERSEDED: frozenset(),
    State.CANCELLED: frozenset(),
    State.DONE: frozenset(),
}
"""What may come next."""

ENDED: Final = frozenset(state for state, next_ in FOLLOWS.items() if not next_)
TOUCHED: Final = frozenset(
    {State.DISPATCHED, State.CONFIRMED, State.UNVERIFIED, State.FAILED, State.RESTORING, State.LEFT}
)
"""The device may hold the control's value: it has to be put back."""


class WrongStep(StoreError):
    """A step that the table does not allow: a mistake of ours, never carried out."""


@dataclass(frozen=True, slots=True)
class Control:
    """One control, as the journal keeps it.  Instants are ms since 1970."""

    entity: str
    id: str
    device: str
    point: str
    verb: str
    grant: str
    revision: int
    level: int
    preemptible: Literal["never", "before_start", "always"]
    value: Decimal
    restore_to: Decimal | None
    hold: Literal["timer", "watchdog", "none"]
    on_comm_loss: Literal["restore", "hold_to_end"]
    comm_loss_after_s: int
    opt_out: Literal["any_time", "before_start", "none"]
    begin_ms: int
    """Drawn: asked for, and a random delay."""
    end_ms: int
    """Drawn: from here on it is put back."""
    state: State
    changed_ms: int
    why: str = ""
    """Why it ended: a code."""
    spread_s: int = 0
    """Where many controls end at one instant, each is put back at one of its own within so long."""
    least_s: int = 0
    """So long the device stays at the value at least, as it was decided."""
    written_ms: int = 0
    """When it was dispatched; 0: not yet, or by an agent that did not keep it."""

    @property
    def key(self) -> tuple[str, str]:
        """What names it: an id means something within its entity."""
        return self.entity, self.id

    @property
    def started(self) -> bool:
        """Whether the device may hold its value."""
        return self.state in TOUCHED

    @property
    def ended(self) -> bool:
        """Whether nothing more is to be done."""
        return self.state in ENDED


def may_follow(before: State, after: State) -> bool:
    """Tell whether a step is in the table."""
    return after in FOLLOWS[before]
