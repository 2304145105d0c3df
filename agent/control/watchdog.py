"""What a device's watchdog was set to before a control, and setting it to that again afterwards.

A time-out that a control has left behind would end the device's own will at the next short silence, with
nobody there to put it back.  So what the register held is read before it is written, kept beside the control
(``control.db``), and written again when the control is put back.  Controls of one register, as those of the
relays of a board, share what it held before the first of them, and the last one puts it back.

Where nobody knows what it held, it gets what the device type says.  Relies on `agent.control.actuator` for
the acts.  Not here: arming it (`agent.control.course`) and feeding it (`agent.control.tending`).
"""

import sqlite3
from dataclasses import dataclass

from agent.control.actuator import Actuator
from agent.control.desk import Desk
from agent.control.life import Control, State
from core.errors import FieldError, StoreError
from drivers.modbus.link import ControlLink


@dataclass(frozen=True, slots=True)
class Kept:
    """What the journal knows of a control's watchdog."""

    before: int | None
    """The content of the register before; None: nobody knows."""
    shared: bool
    """Another control of it goes on, and puts it back."""


def kept(db: sqlite3.Connection, control: Control, register: str) -> Kept:
    """Return what is known of a control's watchdog."""
    row = db.execute("SELECT before FROM armed WHERE entity = ? AND id = ?", control.key).fetchone()
    others = db.execute(
        "SELECT 1 FROM armed JOIN control USING (entity, id) WHERE armed.device = ? AND register = ? "
        "AND (entity, id) != (?, ?) AND state != ?",
        (control.device, register, *control.key, State.RESTORING.value),
    ).fetchone()
    return Kept(row[0] if row else None, others is not None)


async def put_back(actuator: Actuator, desk: Desk, control: Control) -> str:
    """Set the watchdog to what it was; return what there is to say; FieldError, StoreError."""
    place = actuator.watchdog_place
    if place is None:
        return ""
    device, register = place

    async def act(link: ControlLink) -> str:
        # In the act, so that a control that begins meanwhile either is seen or arms it after this.
        found = await desk.call(lambda db: kept(db, control, register))
        if found.shared:
            return ""
        count = actuator.watchdog_default if found.before is None else found.before
        if count is None:
            return "its watchdog stays as the control has set it: nobody knows what it was"
        await actuator.set_watchdog(link, count)
        await desk.counted(device, (register,))
        return ""

    return await desk.lanes[actuator.line].take(act)


async def put_back_or_why(actuator: Actuator, desk: Desk, control: Control) -> tuple[bool, str]:
    """Set the watchdog to what it was; tell whether that is done, and what there is to say."""
    try:
        return True, await put_back(actuator, desk, control)
    except (FieldError, StoreError) as error:
        return False, f"its watchdog cannot be put back: {error}"
