"""What holds at one gateway: its groups, its devices and their owners, the grants that count there, consents.

It selects grants and narrows them; there is no key in it that widens one.  Ownership and consents carry from
when until when they hold.  Opt-outs that the service knows stand here too; those made at the gateway are
facts (`policies.facts`).

Relies on `policies.grant`.  Not here: its signature, its sequence, and whether it is fresh.
"""

from typing import Annotated, Literal

from pydantic import Field

from policies.forms import Instant, Name, Names, Noun, Number, Span
from policies.grant import LONGEST_CONTROL_S, Validity
from policies.policy import twice_faults


class Term(Noun):
    """Who owned a device and its data, for a time; joint owners are several names."""

    owners: Names
    """Of the device: each must consent to a control that is not the utility's or its own."""
    data_owners: Names | None = None
    steward: Name | None = None
    validator: Name | None = None
    valid: Validity = Validity()


class Device(Noun):
    """A device at the gateway, as it is known to those who make policies."""

    id: Name
    type: Name
    """Name of the device type; must have limits in the policy for the point that is controlled."""
    kind: Name
    """What it is to its owner: ``water-heater``, ``ev-charger``, ``heat-pump``."""
    ownership: Annotated[tuple[Term, ...], Field(strict=False, min_length=1)]


class Selection(Noun):
    """A grant that counts at this gateway, perhaps narrower than the policy has it."""

    grant: Name
    devices: Names | None = None
    points: Names | None = None
    min: Number | None = None
    max: Number | None = None
    max_s: Annotated[Span | None, Field(alias="longest", le=LONGEST_CONTROL_S)] = None
    valid: Validity = Validity()


class Consent(Noun):
    """That an owner agreed to one revision of a grant, and what shows it."""

    grant: Name
    revision: Annotated[int, Field(ge=1)]
    owner: Name
    evidence: Annotated[str, Field(min_length=1, max_length=200)]
    valid: Validity = Validity()


class OptOut(Noun):
    """That the customer wants no control, for a time; what is left out is not restricted."""

    device: Name | None = None
    entity: Name | None = None
    grant: Name | None = None
    valid: Validity = Validity()


class AssignmentHead(Noun):
    """``[assignment]``: for which gateway, in which order, until when."""

    format: Literal[1] = 1
    gateway: Name
    sequence: Annotated[int, Field(ge=1)]
    policy_version: Annotated[int, Field(ge=1)]
    """The oldest policy with which it may be used."""
    groups: Annotated[tuple[Name, ...], Field(strict=False)] = ()
    issued_ms: Annotated[Instant, Field(alias="issued")]
    expires_ms: Annotated[Instant, Field(alias="expires")]


class Assignment(Noun):
    """The whole document."""

    assignment: AssignmentHead
    devices: Annotated[tuple[Device, ...], Field(strict=False, alias="device")] = ()
    selections: Annotated[tuple[Selection, ...], Field(strict=False, alias="select")] = ()
    consents: Annotated[tuple[Consent, ...], Field(strict=False, alias="consent")] = ()
    opt_outs: Annotated[tuple[OptOut, ...], Field(strict=False, alias="opt_out")] = ()


def assignment_faults(assignment: Assignment) -> list[str]:
    """Return what the parts of an assignment say against each other, each with its place."""
    faults = twice_faults(
        [
            *(("device", number, one.id) for number, one in enumerate(assignment.devices, 1)),
            *(("select", number, one.grant) for number, one in enumerate(assignment.selections, 1)),
        ]
    )
    if assignment.assignment.expires_ms <= assignment.assignment.issued_ms:
        faults.append("assignment expires: ends before it was issued")
    for number, device in enumerate(assignment.devices, start=1):
        terms = device.ownership
        for position, term in enumerate(terms[1:], start=2):
            if any(_overlap(term.valid, earlier.valid) for earlier in terms[: position - 1]):
                faults.append(
                    f'device[{number}] "{device.id}" ownership[{position}]: '
                    "is valid at the same time as one before it: joint owners stand in one"
                )
    selected = {one.grant for one in assignment.selections}
    faults += [
        f'consent[{number}]: "{one.grant}" is not selected here'
        for number, one in enumerate(assignment.consents, start=1)
        if one.grant not in selected
    ]
    return faults


def _overlap(one: Validity, other: Validity) -> bool:
    begin = max(one.from_ms or 0, other.from_ms or 0)
    ends = [end for end in (one.until_ms, other.until_ms) if end is not None]
    return not ends or begin < min(ends)
