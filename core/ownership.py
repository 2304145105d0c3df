"""Who owns a device and its data, since when, and who answers for them.

Data may have joint owners (power-quality values belong to the customer and to the
distribution company).  The *steward* answers for correctness, the *billing
validator* decides what may become a bill.  Ownership has a validity; what an
entity may see of a reading is judged by the ownership at the reading's time.
"""

from itertools import pairwise
from typing import Annotated

import msgspec
from msgspec import Meta

_Bound = Annotated[int, Meta(ge=-(2**53), le=2**53)]


class Ownership(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Ownership of a device and of the data of some of its points, for a time."""

    device_owner: str
    data_owners: tuple[str, ...]
    """One or more entities; joint owners each receive the data."""
    steward: str
    """The entity that answers for correctness."""
    validator: str
    """The billing validator."""
    purpose: str = ""
    """What the data may be used for, as agreed; free text until policies name it."""
    valid_from_ms: _Bound | None = None
    """First instant (UTC, ms since 1970) of validity, inclusive; None: since ever."""
    valid_to_ms: _Bound | None = None
    """End of validity, exclusive; None: open."""

    def holds_at(self, at_ms: int) -> bool:
        """Tell whether this ownership is valid at an instant."""
        return (self.valid_from_ms is None or self.valid_from_ms <= at_ms) and (
            self.valid_to_ms is None or at_ms < self.valid_to_ms
        )


def owners_at(terms: tuple[Ownership, ...], at_ms: int) -> tuple[str, ...]:
    """Return the data owners at an instant; empty when nobody's ownership is known then."""
    for term in terms:
        if term.holds_at(at_ms):
            return term.data_owners
    return ()


def term_at(terms: tuple[Ownership, ...], at_ms: int) -> Ownership | None:
    """Return the ownership that is valid at an instant."""
    for term in terms:
        if term.holds_at(at_ms):
            return term
    return None


def overlap_fault(terms: tuple[Ownership, ...]) -> str | None:
    """Return what is wrong with a list of terms (two valid at once, one that ends before it begins)."""
    begins: list[tuple[int, int]] = []
    for term in terms:
        begin = -(2**63) if term.valid_from_ms is None else term.valid_from_ms
        end = 2**63 if term.valid_to_ms is None else term.valid_to_ms
        if end <= begin:
            return "an ownership ends before it begins"
        begins.append((begin, end))
    begins.sort()
    for (_, end), (begin, _) in pairwise(begins):
        if begin < end:
            return "two ownerships are valid at the same time"
    return None
