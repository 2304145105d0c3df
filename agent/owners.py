"""Which history of owners the points of a device have: the file's keys made into terms.

An override changes single keys of every term, or brings a history of its own.
What is left out follows from what is given *after* that: the data owner is the
device owner, the steward is the first data owner, the validator is the steward.
"""

from datetime import datetime

from agent.config_models import DeviceConfig, OverrideConfig, OwnerKeys
from core.ownership import Ownership


def ownership_terms(device: DeviceConfig, override: OverrideConfig | None = None) -> tuple[Ownership, ...]:
    """Return the ownership of a device's points over time, in the order of the file."""
    if override is not None and override.ownership:
        return tuple(_term(term, None, term.valid_from, term.valid_to) for term in override.ownership)
    if device.ownership:
        return tuple(_term(term, override, term.valid_from, term.valid_to) for term in device.ownership)
    return (_term(device, override, device.valid_from, device.valid_to),)


def _term(
    keys: OwnerKeys, override: OwnerKeys | None, begin: datetime | None, end: datetime | None
) -> Ownership:
    first = keys if override is None else override
    owner = first.owner or keys.owner
    if owner is None:
        raise TypeError("a device without owner passed validation")
    data_owners = first.data_owners or keys.data_owners or (owner,)
    steward = first.steward or keys.steward or data_owners[0]
    purpose = keys.purpose if first.purpose is None else first.purpose
    return Ownership(
        device_owner=owner,
        data_owners=data_owners,
        steward=steward,
        validator=first.validator or keys.validator or steward,
        purpose=purpose or "",
        valid_from_ms=_ms(begin),
        valid_to_ms=_ms(end),
    )


def _ms(at: datetime | None) -> int | None:
    return None if at is None else round(at.timestamp() * 1000)
