"""Who owns a device's data, as the signed assignment has it: gateway.toml is a claim, the assignment decides.

The file may keep points of a device from somebody (an override), and never give them to anybody whom the
assignment does not name.  A device that the assignment does not name is as the file claims it.  Pure.

Not here: the alarm about claims that differ (`agent.policy.claims`), and when manifests change (`agent.app`).
"""

from collections.abc import Iterable, Mapping

from agent.config_models import DeviceConfig
from agent.owners import ownership_terms
from core.ownership import Ownership
from policies.assignment import Assignment, Term


class Owners:
    """The owners of the groups of one gateway, by an assignment."""

    def __init__(self, devices: Iterable[DeviceConfig], assignment: Assignment | None) -> None:
        """``assignment`` None: the file alone says it."""
        assigned: Mapping[str, tuple[Term, ...]] = {
            one.id: one.ownership for one in (assignment.devices if assignment is not None else ())
        }
        self._of = {
            device.name: (ownership_terms(device), assigned[device.name])
            for device in devices
            if device.name in assigned
        }

    def decide(self, device: str, claimed: tuple[Ownership, ...]) -> tuple[Ownership, ...]:
        """Return the owners of a group of a device, of which the file claims some."""
        if device not in self._of:
            return claimed
        whole, assigned = self._of[device]
        purpose = claimed[0].purpose if claimed else ""
        kept = None if claimed == whole else {name for term in claimed for name in term.data_owners}
        found = (_term(term, purpose, kept) for term in assigned)
        return tuple(term for term in found if term is not None)


def _term(term: Term, purpose: str, kept: set[str] | None) -> Ownership | None:
    """Return a term as manifests have it, None when nobody is left who may have the data."""
    data = tuple(name for name in term.data_owners or term.owners if kept is None or name in kept)
    if not data:
        return None
    steward = term.steward or data[0]
    return Ownership(
        device_owner=term.owners[0],
        data_owners=data,
        steward=steward,
        validator=term.validator or steward,
        purpose=purpose,
        valid_from_ms=term.valid.from_ms,
        valid_to_ms=term.valid.until_ms,
    )
