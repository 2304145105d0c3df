"""Whether a device bears a control, beside what policy says: for so long, and so often.

Relies on the actuator for what the type says and on the journal for what was written today.  Not here: who
may (`policies.decide`).
"""

from agent.control import wear
from agent.control.actuator import Actuator
from agent.control.desk import Desk
from agent.control.life import Control


async def unfit(desk: Desk, actuator: Actuator, control: Control, born_ms: int) -> str:
    """Return a code why the device is not fit for a control that begins now, empty where it is.

    ``born_ms`` is when the journal began, where the one before was lost: what was written on that day is not
    known, and counts as all that may be.
    """
    length_s = (control.end_ms - control.begin_ms) / 1000
    if actuator.too_long(length_s):
        return "hold-too-short"
    if control.restore_to is not None and not actuator.rests_at(control.restore_to):
        return "cannot-restore"
    try:
        registers = actuator.registers(control.value, actuator.hold_s(length_s))
    except ValueError:
        return "value-range"
    if wear.day(born_ms) == wear.day(desk.clock.now_ms()):
        return "write-budget"
    most = actuator.most_writes - actuator.refreshes(length_s)
    return "" if await desk.has_room(control.device, registers, most) else "write-budget"
