"""A command: one verb to one point of one device behind one gateway, by three named parties.

Entity, application and individual are three different things and all stand on every command.  Whether
somebody really signed it is a fact that comes with it (`policies.facts`); envelope, replay and order
are elsewhere.

Relies on `policies.forms`.  A command that lacks what its verb needs can be written down, so that the
refusal can be explained (code ``incomplete``).
"""

from typing import Annotated

from pydantic import Field

from policies.forms import Instant, Name, Noun, Number, Span
from policies.grant import LONGEST_CONTROL_S, Verb


class Issuer(Noun):
    """Who issues: the business entity, its system, and the person (or named agent) at it."""

    entity: Name
    application: Name
    individual: Name


class Command(Noun):
    """What is asked for."""

    id: Name
    issuer: Issuer
    gateway: Name
    device: Name
    point: Name
    verb: Annotated[Verb, Field(strict=False)]
    value: Number | None = None
    start_ms: Annotated[Instant | None, Field(alias="start")] = None
    """Not before; None: as soon as the gateway has it."""
    duration_s: Annotated[Span | None, Field(alias="duration", ge=1, le=LONGEST_CONTROL_S)] = None
    issued_ms: Annotated[Instant, Field(alias="issued")]
    expires_ms: Annotated[Instant, Field(alias="expires")]
    """The latest instant at which a gateway may take it."""
    purpose: Name | None = None
    emergency: bool = False
    cosigners: Annotated[tuple[Name, ...], Field(strict=False, max_length=8)] = ()
    """Further individuals of the same entity who sign in an emergency."""
    cancels: Name | None = None
    """The id of the command whose control ends; with the verb cancel alone."""
