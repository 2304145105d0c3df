"""An entity's own document: its individuals, and the keys with which they sign commands.

The utility cannot add a name to it, the entity cannot give itself a right by it.  Verifying a signature
with a key is elsewhere; here stands whose it is, for which applications, and from when until when.
"""

from typing import Annotated, Literal

from pydantic import Field

from policies.forms import Instant, Name, Names, Noun
from policies.grant import Validity
from policies.policy import twice_faults

Role = Literal["operator", "engineer", "viewer"]
"""Names of IEC 62351-8.  An operator controls, an engineer sets clocks, a viewer commands nothing."""


class Individual(Noun):
    """A person, or an agent with a name, who answers for a command."""

    id: Name
    name: str = ""
    roles: Annotated[tuple[Role, ...], Field(strict=False, min_length=1)]


class Key(Noun):
    """A public key of one individual."""

    id: Name
    """The key's id, as the envelope of a command names it."""
    individual: Name
    applications: Names
    """The applications through which it is used."""
    algorithm: Literal["Ed25519", "ES256"]
    public: Annotated[str, Field(min_length=1, max_length=400)]
    """SubjectPublicKeyInfo, base64."""
    valid: Validity


class RosterHead(Noun):
    """``[roster]``: whose, which version, until when."""

    format: Literal[1] = 1
    entity: Name
    version: Annotated[int, Field(ge=1)]
    issued_ms: Annotated[Instant, Field(alias="issued")]
    expires_ms: Annotated[Instant, Field(alias="expires")]


class Roster(Noun):
    """The whole document."""

    roster: RosterHead
    individuals: Annotated[tuple[Individual, ...], Field(strict=False, alias="individual")]
    keys: Annotated[tuple[Key, ...], Field(strict=False, alias="key")]


def roster_faults(roster: Roster) -> list[str]:
    """Return what the parts of a roster say against each other, each with its place."""
    faults = twice_faults(
        [
            *(("individual", number, one.id) for number, one in enumerate(roster.individuals, 1)),
            *(("key", number, one.id) for number, one in enumerate(roster.keys, 1)),
        ]
    )
    if roster.roster.expires_ms <= roster.roster.issued_ms:
        faults.append("roster expires: ends before it was issued")
    known = {individual.id for individual in roster.individuals}
    for number, key in enumerate(roster.keys, start=1):
        place = f'key[{number}] "{key.id}"'
        if key.individual not in known:
            faults.append(f'{place} individual: "{key.individual}" is no [[individual]] of this roster')
        if key.valid.until_ms is None:
            faults.append(f"{place} valid: has no until: a key ends on some day")
    return faults
