"""The assignment of one gateway: a small signed document that can only select and narrow.

The online enrolment service signs it with a key that the policy lists; taking the key from the list voids
all that it signed.  It is bound to one gateway, counted, and good for a policy of at least one version, so
that it can be neither replayed elsewhere, nor put back, nor mixed with an older policy.  Its content is the
policy language's matter: only its head is read here.

Pure.  Not here: where it lies (`policies.trust.folder`), and consents that come with it
(`policies.trust.agreement`).
"""

import base64
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Final

import msgspec
from msgspec import Meta
from securesystemslib.signer import Key, Signer

from policies.trust.bounds import LONGEST_ASSIGNMENT
from policies.trust.dsse import seal, unseal
from policies.trust.instants import parse_instant
from policies.trust.refusals import PolicyRefused, Why, translated

KIND: Final = "application/vnd.portico.assignment+json"
MOST_CONSENTS: Final = 64
_Count = Annotated[int, Meta(ge=1, le=2**53)]


class _Head(msgspec.Struct, frozen=True):
    gateway: str
    sequence: _Count
    policy_version: _Count
    issued: str
    expires: str


class _Document(msgspec.Struct, frozen=True):
    assignment: _Head


class _Message(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What travels: the signed document, and signed consents beside it."""

    assignment: msgspec.Raw
    consents: Annotated[list[msgspec.Raw], Meta(max_length=MOST_CONSENTS)] = []


@dataclass(frozen=True, slots=True)
class Last:
    """The newest assignment that was ever taken, as it is remembered."""

    sequence: int
    digest: str
    key: str


@dataclass(frozen=True, slots=True)
class Assignment:
    """An assignment whose signature holds."""

    gateway: str
    sequence: int
    policy_version: int
    """The oldest policy with which it may be used."""
    issued_ms: int
    expires_ms: int
    document: bytes
    consents: tuple[bytes, ...]
    """Consent records that came with it, not yet verified."""
    key: str
    raw: bytes

    @property
    def last(self) -> Last:
        """What is remembered of it."""
        return Last(self.sequence, hashlib.sha256(self.document).hexdigest(), self.key)


def seal_assignment(document: bytes, signer: Signer, consents: tuple[bytes, ...] = ()) -> bytes:
    """Return the message that carries an assignment."""
    envelope = json.loads(seal(document, KIND, signer))
    message = {"assignment": envelope, "consents": [json.loads(one) for one in consents]}
    return json.dumps(message, separators=(",", ":")).encode()


def open_assignment(raw: bytes, keys: Mapping[str, Key], gateway: str, policy_version: int) -> Assignment:
    """Return an assignment that holds for this gateway under these keys and this version of the policy.

    Whether it is in date, and newer than the last, is judged by :func:`judge_succession`.
    """
    if len(raw) > LONGEST_ASSIGNMENT:
        raise PolicyRefused(
            Why.TOO_LARGE, f"an assignment of {len(raw)} bytes, at most {LONGEST_ASSIGNMENT} are taken"
        )
    with translated("the assignment"):
        message = msgspec.json.decode(raw, type=_Message)
    opened = unseal(bytes(message.assignment), KIND, keys, LONGEST_ASSIGNMENT, "the assignment")
    with translated("the assignment"):
        head = msgspec.json.decode(opened.payload, type=_Document).assignment
    issued, expires = parse_instant(head.issued), parse_instant(head.expires)
    if issued is None or expires is None or expires <= issued:
        raise PolicyRefused(Why.MALFORMED, "the assignment does not say from when until when it holds")
    if head.gateway != gateway:
        raise PolicyRefused(
            Why.OTHER_GATEWAY, f"the assignment is for {head.gateway[:64]!r}, this is {gateway}"
        )
    if head.policy_version > policy_version:
        raise PolicyRefused(
            Why.NEEDS_NEWER,
            f"assignment {head.sequence} needs version {head.policy_version} of the policy, "
            f"version {policy_version} is held",
        )
    return Assignment(
        gateway=gateway,
        sequence=head.sequence,
        policy_version=head.policy_version,
        issued_ms=issued,
        expires_ms=expires,
        document=opened.payload,
        consents=tuple(bytes(one) for one in message.consents),
        key=min(opened.keys),
        raw=raw,
    )


@dataclass(frozen=True, slots=True)
class Made:
    """An assignment as those who made it read it: nothing of it is verified."""

    sequence: int
    expires_ms: int
    keys: frozenset[str]
    """Ids of the keys that are said to have signed it."""
    document: bytes
    consents: tuple[bytes, ...]


def read_unverified(raw: bytes) -> Made:
    """Return an assignment without asking who signed it: for those who made it."""
    with translated("the assignment"):
        message = msgspec.json.decode(raw, type=_Message)
        envelope = json.loads(bytes(message.assignment))
        document = base64.b64decode(envelope["payload"], validate=True)
        head = msgspec.json.decode(document, type=_Document).assignment
        keys = frozenset(str(one["keyid"]) for one in envelope["signatures"])
        consents = tuple(bytes(one) for one in message.consents)
        return Made(head.sequence, parse_instant(head.expires) or 0, keys, document, consents)


def judge_succession(offered: Assignment, last: Last | None, keys: Mapping[str, Key]) -> None:
    """Refuse an assignment that is older than the last one taken, or another one with its number.

    The number counts for as long as its key is listed: with a stolen key goes the number that it pushed up.
    """
    if last is None or last.key not in keys:
        return
    if offered.sequence < last.sequence:
        raise PolicyRefused(
            Why.ROLLBACK, f"assignment {offered.sequence} is older than {last.sequence}, which was taken"
        )
    if offered.sequence == last.sequence and offered.last.digest != last.digest:
        raise PolicyRefused(Why.ROLLBACK, f"there are two different assignments {offered.sequence}")


def judge_date(offered: Assignment, now_ms: int) -> None:
    """Refuse an assignment that has run out when it comes."""
    if now_ms >= offered.expires_ms:
        raise PolicyRefused(Why.EXPIRED, f"assignment {offered.sequence} has run out")
