"""A signed document of its own (DSSE): bytes, their type, and signatures over both.

For what is made for one gateway or by one person, where a repository would be too much.  Relies on
securesystemslib for the envelope.  The protocol: https://github.com/secure-systems-lab/dsse, version 1.0.2.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import VerificationError
from securesystemslib.signer import Key, Signer

from policies.trust.refusals import PolicyRefused, Why, translated
from policies.trust.verified import SCHEMES

MOST_SIGNATURES: Final = 8


@dataclass(frozen=True, slots=True)
class Opened:
    """A payload and the keys whose signatures of it hold."""

    payload: bytes
    keys: frozenset[str]


def seal(payload: bytes, kind: str, *signers: Signer) -> bytes:
    """Return the envelope of a payload, signed by all of these, as JSON."""
    envelope = Envelope(payload, kind, {})
    for signer in signers:
        envelope.sign(signer)
    return json.dumps(envelope.to_dict(), separators=(",", ":")).encode()


def unseal(raw: bytes, kind: str, keys: Mapping[str, Key], longest: int, what: str) -> Opened:
    """Return the payload of an envelope that one of ``keys`` signed; :class:`PolicyRefused` otherwise.

    Nothing of the payload is parsed before its signature holds.
    """
    if len(raw) > longest:
        raise PolicyRefused(Why.TOO_LARGE, f"{what} has {len(raw)} bytes, at most {longest} are taken")
    with translated(what):
        envelope = Envelope.from_dict(json.loads(raw))
        if envelope.payload_type != kind:
            raise PolicyRefused(Why.MALFORMED, f"{what} is of another kind: {envelope.payload_type[:80]!r}")
        if len(envelope.signatures) > MOST_SIGNATURES:
            raise PolicyRefused(Why.TOO_LARGE, f"{what} has more than {MOST_SIGNATURES} signatures")
        usable = [key for key in keys.values() if key.scheme in SCHEMES]
        # Each key by itself: the library stops at the first signature that is enough, so that the order in
        # which somebody put them would say who signed.
        signed = frozenset(key.keyid for key in usable if _has_signed(envelope, key))
        if not signed:
            raise PolicyRefused(Why.UNSIGNED, f"{what} is signed by no key that may")
    return Opened(envelope.payload, signed)


def _has_signed(envelope: Envelope, key: Key) -> bool:
    try:
        envelope.verify([key], 1)
    except VerificationError:
        return False
    return True


def keys_in(document: bytes | None, what: str) -> dict[str, Key]:
    """Return the keys that a verified document lists; none when there is no such document."""
    if document is None:
        return {}
    with translated(what):
        listed = json.loads(document)["keys"]
        return {keyid: Key.from_dict(keyid, dict(key)) for keyid, key in listed.items()}
