"""The beat of an entity's hub: signed, every minute, so that a gateway knows who still looks after a control.

A beat says that a hub of an entity lives, to the gateways of one segment, at the instant at which it was
issued.  It orders nothing: a key whose individual is a mere *viewer* signs beats and can command nobody, and
that is the key to lay on a machine that beats by itself.

Relies on `policies.jws`.  Not here: what is contact, and for how long (`agent.control.contacts`).
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Final

from pydantic import Field

from core.errors import ConfigError
from policies.forms import Instant, Name, Noun
from policies.jws import EnvelopeError, KeyOf, PrivateKey, sign, verify
from policies.reading import canonical, parse_as
from policies.rulebook import Rulebook

TYPE: Final = "portico-beat+jws"
LONGEST: Final = 1024
"""Bytes of a beat: four names of 64 characters, a key's id and a signature."""
EVERY_S: Final = 60.0
"""How often a hub beats.  No grant has a `comm_loss_after` below that; one of less than three needs more."""
FRESH_MS: Final = 120_000
"""A beat that took longer than this is no word of now: somebody kept it."""


class Beat(Noun):
    """What a hub says."""

    entity: Name
    application: Name
    """The hub, as the policy and the key know it."""
    segment: Name
    """The gateways that are meant, as in the topic."""
    issued_ms: Annotated[Instant, Field(alias="issued")]
    """When; later than in the beat before by the same key."""


class Doubt(StrEnum):
    """Why a beat that somebody signed is none."""

    APPLICATION = "application"
    """The key is not for this application, or the policy does not know it."""
    KEY_ENDED = "key-ended"
    """Its key or its roster is not in date."""
    EARLY = "early"
    """Issued later than now, by more than clocks may differ."""
    OLD = "old"
    AGAIN = "again"
    """Not later than the last one of its key."""


@dataclass(frozen=True, slots=True)
class Beaten:
    """A beat, and the key that signed it."""

    beat: Beat
    key: str


def sign_beat(beat: Beat, key_id: str, key: PrivateKey) -> bytes:
    """Return what is published."""
    return sign(canonical(beat), TYPE, beat.entity, [(key_id, key)])


def open_beat(raw: bytes, key_of: KeyOf) -> Beaten:
    """Return the beat in some bytes, its signature verified; :class:`EnvelopeError`."""
    found = verify(raw, TYPE, LONGEST, key_of)
    try:
        beat = parse_as(found.payload, Beat, "beat")
    except ConfigError as error:
        faults = "; ".join(error.faults[:3]) or str(error)
        raise EnvelopeError("malformed", f"signed, but no beat: {faults}") from error
    (entity, id_), *more = found.keys
    if more or entity != beat.entity:
        raise EnvelopeError("bad-signature", f"a beat of {beat.entity} is signed by one key of its own")
    return Beaten(beat, id_)


def doubt(beaten: Beaten, book: Rulebook, now_ms: int, last_ms: int | None) -> Doubt | None:
    """Return why a beat does not count at an instant, None when it does.

    ``last_ms``: when the last one that counted was issued by the same key.
    """
    beat = beaten.beat
    holder = book.holders(beat.entity).get(beaten.key)
    if holder is None or beat.application not in holder.key.applications:
        return Doubt.APPLICATION
    if beat.application not in book.applications.get(beat.entity, ()):
        return Doubt.APPLICATION
    if now_ms >= holder.roster.roster.expires_ms or not holder.key.valid.holds(now_ms, now_ms + 1):
        return Doubt.KEY_ENDED
    if beat.issued_ms > now_ms + book.tolerance_ms:
        return Doubt.EARLY
    if now_ms - beat.issued_ms > FRESH_MS:
        return Doubt.OLD
    if last_ms is not None and beat.issued_ms <= last_ms:
        return Doubt.AGAIN
    return None


def listened_to(book: Rulebook | None) -> frozenset[str]:
    """Return the entities whose silence would end a control here."""
    if book is None:
        return frozenset()
    return frozenset(
        row.grant.entity
        for row in book.permits
        if row.selection is not None and row.grant.on_comm_loss == "restore"
    )
