"""Where gateway.toml claims other owners than the assignment: the file is a claim, the assignment decides.

Pure.  Not here: whose readings are by the assignment (`agent.policy.ownership`), and raising the alarm.
"""

from collections.abc import Iterable

from agent.config_models import DeviceConfig
from agent.owners import ownership_terms
from core.ownership import Ownership, term_at
from policies.assignment import Assignment, Term


def differing(devices: Iterable[DeviceConfig], assignment: Assignment, at_ms: int) -> dict[str, str]:
    """Return, by device, in which way the file's claim at an instant differs from the assignment."""
    assigned = {device.id: device.ownership for device in assignment.devices}
    found = {}
    for device in devices:
        told = _told(device, assigned.get(device.name, ()), at_ms)
        if told:
            found[device.name] = f"gateway.toml and the assignment differ on who owns {device.name}: {told}"
    return found


def _told(device: DeviceConfig, terms: tuple[Term, ...], at_ms: int) -> str:
    term = next((one for one in terms if one.valid.holds(at_ms, at_ms + 1)), None)
    for whole, claimed in _claims(device, at_ms):
        if term is None:
            return f"the file says {claimed.device_owner}, the assignment says nobody now"
        if claimed.device_owner not in term.owners:
            return f"the file says {claimed.device_owner}, the assignment {_and(term.owners)}"
        data = term.data_owners or term.owners
        # An override may keep points from somebody; it gives them to nobody else.
        if set(claimed.data_owners) != set(data) and (whole or not set(claimed.data_owners) < set(data)):
            return f"the file gives its data to {_and(claimed.data_owners)}, the assignment to {_and(data)}"
    return ""


def _claims(device: DeviceConfig, at_ms: int) -> Iterable[tuple[bool, Ownership]]:
    """Yield what the file says of the whole device, and of the points that it treats otherwise."""
    for override in (None, *device.override):
        claimed = term_at(ownership_terms(device, override), at_ms)
        if claimed is not None:
            yield override is None, claimed


def _and(names: tuple[str, ...]) -> str:
    return " and ".join(names)
