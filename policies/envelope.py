"""The envelope of a command: a JWS by one individual, or by several, bound to what it says.

Whether the individual and the application fit the command is judged by `policies.decide`.

Relies on `policies.jws`.  Not here: replay, order and expiry (the gateway's journal), and which rosters are
in force.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from core.errors import ConfigError
from policies.command import Command
from policies.jws import EnvelopeError, KeyOf, PrivateKey, sign, verify
from policies.reading import canonical, parse_command

TYPE: Final = "portico-command+jws"
LONGEST: Final = 8192
"""Bytes of an envelope."""


@dataclass(frozen=True, slots=True)
class Opened:
    """A command, and by which keys of its entity it is signed."""

    command: Command
    keys: frozenset[str]
    """Ids of keys, as `policies.facts.Facts.keys` wants them; each signature verified."""
    digest: str
    """SHA-256 of what was signed, hex: the same command signed again is the same."""


def sign_command(command: Command, keys: Sequence[tuple[str, PrivateKey]]) -> bytes:
    """Return the envelope of a command, signed with keys by their ids; the first is the issuer's."""
    return sign(canonical(command), TYPE, command.issuer.entity, keys)


def open_envelope(raw: bytes, key_of: KeyOf) -> Opened:
    """Return the command in an envelope, all its signatures verified; :class:`EnvelopeError`."""
    found = verify(raw, TYPE, LONGEST, key_of)
    try:
        command = parse_command(found.payload)
    except ConfigError as error:
        faults = "; ".join(error.faults[:3]) or str(error)
        raise EnvelopeError("malformed", f"signed, but no command: {faults}") from error
    if {entity for entity, _ in found.keys} != {command.issuer.entity}:
        raise EnvelopeError("bad-signature", f"{command.issuer.entity} did not sign all of it")
    return Opened(command, frozenset(id_ for _, id_ in found.keys), sha256(found.payload).hexdigest())


__all__ = ["LONGEST", "TYPE", "EnvelopeError", "Opened", "PrivateKey", "open_envelope", "sign_command"]
