"""Who has agreed to which grant: facts that are proved here and judged by the policy language.

A grant is one object in the utility's policy, named by its id and by the SHA-256 of its bytes as they stand
there: whoever agreed to it agreed to these bytes, and any change asks again.

- The *utility* signed it, by its threshold: it stands in the verified policy.
- An *entity* signs by listing id and digest in ``agreed.json`` in its own folder.
- A *device's owner* who is an entity does the same.  Any other owner signs a consent record, itself or by
  a consent service whose key the utility's threshold lists for that owner.  The assignment names the consents
  that count; one that it names without a record that holds does not.

Pure.  Formats: docs/policy-distribution.md.  Not here: which of these a grant needs (`policies.decide`).
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated, Final

import msgspec
from msgspec import Meta
from securesystemslib.signer import Key, Signer

from policies.trust.assignment import Assignment
from policies.trust.bounds import CONSENT_KEYS_PATH, POLICY_PATH, agreed_path
from policies.trust.dsse import keys_in, seal, unseal
from policies.trust.instants import parse_instant
from policies.trust.refusals import PolicyRefused, Why, translated
from policies.trust.verified import Verified

CONSENT_KIND: Final = "application/vnd.portico.consent+json"
LONGEST_CONSENT: Final = 8 << 10
OWNERS: Final = "x-portico-owners"
"""Member of a key in the list of consent keys: for which owners it may sign."""
EVER: Final = 2**53


class _Grant(msgspec.Struct, frozen=True, rename={"entity": "from"}):
    id: str
    entity: str = ""
    revision: Annotated[int, Meta(ge=1)] = 1
    shall_not: msgspec.Raw = msgspec.Raw(b"")


class _PolicyHead(msgspec.Struct, frozen=True):
    utility: str


class _Policy(msgspec.Struct, frozen=True):
    policy: _PolicyHead
    grant: list[msgspec.Raw] = []


class Named(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A grant as those who agree to it name it."""

    id: str
    sha256: str
    revision: int = 1


class Agreed(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``agreed.json``: what an entity agreed to, in its own folder."""

    format: int
    entity: str
    grants: list[Named] = []


class Validity(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"begin": "from"}):
    """From when until when, RFC 3339; what is left out is open."""

    begin: str | None = None
    until: str | None = None

    def bounds(self) -> tuple[int, int]:
        """Return begin and end in milliseconds; :class:`PolicyRefused` when one cannot be read."""
        begin = 0 if self.begin is None else parse_instant(self.begin)
        until = EVER if self.until is None else parse_instant(self.until)
        if begin is None or until is None or begin >= until:
            raise PolicyRefused(Why.MALFORMED, "a consent does not say from when until when it holds")
        return begin, until


class Consent(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What an owner signs: these grants, at this gateway, on this evidence."""

    format: int
    owner: str
    gateway: str
    grants: list[Named]
    evidence: str
    """What shows it: the reference of a form, a recording, a session of a portal."""
    issued: str
    valid: Validity = Validity()


class _Listed(msgspec.Struct, frozen=True):
    """A consent as the assignment names it; further members are the language's."""

    grant: str
    revision: int
    owner: str
    evidence: str
    valid: Validity = Validity()


class _Assigned(msgspec.Struct, frozen=True):
    consent: list[msgspec.Raw] = []


@dataclass(frozen=True, slots=True)
class GrantFact:
    """A grant that the utility's threshold signed, and which entities signed the very same."""

    id: str
    revision: int
    entity: str
    sha256: str
    parties: frozenset[str]
    """The utility, and each entity that listed this digest."""
    denies: bool
    """It says *shall not*: that needs nobody's consent."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """All that is known of who agreed to what."""

    utility: str
    grants: Mapping[str, GrantFact]
    """By id; an id that stands twice in the policy is not here, because nobody can say which was meant."""

    def parties(self, grant: str, revision: int) -> frozenset[str]:
        """Return who signed that revision of a grant; nobody for one that is not the one in force."""
        found = self.grants.get(grant)
        return found.parties if found is not None and found.revision == revision else frozenset()


def digest(grant: bytes) -> str:
    """Return the name of a grant's content."""
    return hashlib.sha256(grant).hexdigest()


def named_grants(policy: bytes) -> list[tuple[Named, str]]:
    """Return the grants of a policy document as one agrees to them, each with the entity it is for."""
    return [(named, one.entity) for named, one in _grants(policy)]


def _grants(policy: bytes) -> Iterator[tuple[Named, _Grant]]:
    with translated("the policy"):
        for raw in msgspec.json.decode(policy, type=_Policy).grant:
            one = msgspec.json.decode(raw, type=_Grant)
            yield Named(one.id, digest(bytes(raw)), one.revision), one


def agreement(verified: Verified) -> Agreement:
    """Return who signed which grant of a verified set."""
    policy = verified.documents.get(POLICY_PATH)
    if policy is None:
        return Agreement("", MappingProxyType({}))
    with translated("the policy"):
        utility = msgspec.json.decode(policy, type=_Policy).policy.utility
    signed: dict[tuple[str, str], set[str]] = {}
    for entity in verified.entities:
        for listed in _agreed(verified, entity):
            signed.setdefault((listed.id, listed.sha256), set()).add(entity)
    grants: dict[str, GrantFact] = {}
    twice: set[str] = set()
    for named, one in _grants(policy):
        if named.id in grants:
            twice.add(named.id)
        parties = frozenset({utility, *signed.get((named.id, named.sha256), ())})
        grants[named.id] = GrantFact(
            named.id, named.revision, one.entity, named.sha256, parties, bool(bytes(one.shall_not))
        )
    return Agreement(
        utility, MappingProxyType({id_: fact for id_, fact in grants.items() if id_ not in twice})
    )


def _agreed(verified: Verified, entity: str) -> list[Named]:
    """Return what an entity listed; nothing when its list cannot be read: that harms its own grants alone."""
    raw = verified.documents.get(agreed_path(entity))
    if raw is None:
        return []
    try:
        found = msgspec.json.decode(raw, type=Agreed)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return []
    return found.grants if found.format == 1 and found.entity == entity else []


def seal_consent(consent: Consent, *signers: Signer) -> bytes:
    """Return the signed record of a consent."""
    return seal(msgspec.json.encode(consent), CONSENT_KIND, *signers)


def assignment_in_force(assignment: Assignment, verified: Verified, facts: Agreement) -> bytes:
    """Return the assignment's document with those consents alone that are proved."""
    with translated("the assignment"):
        listed = msgspec.json.decode(assignment.document, type=_Assigned).consent
        if not listed:
            return assignment.document
        document = json.loads(assignment.document)
        entries = [msgspec.json.decode(raw, type=_Listed) for raw in listed]
    records = list(_records(assignment, verified))
    document["consent"] = [
        entry
        for entry, one in zip(document["consent"], entries, strict=True)
        if _is_proved(one, facts, records)
    ]
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()


def _is_proved(entry: _Listed, facts: Agreement, records: Sequence[Consent]) -> bool:
    grant = facts.grants.get(entry.grant)
    if grant is None or grant.revision != entry.revision:
        return False
    if entry.owner in grant.parties:
        return True
    begin, until = entry.valid.bounds()
    named = Named(grant.id, grant.sha256, grant.revision)
    for record in records:
        first, last = record.valid.bounds()
        if (
            record.owner == entry.owner
            and record.evidence == entry.evidence
            and named in record.grants
            and first <= begin
            and until <= last
        ):
            return True
    return False


def _records(assignment: Assignment, verified: Verified) -> Iterable[Consent]:
    """Yield the consent records whose signature holds for their owner."""
    keys = keys_in(verified.documents.get(CONSENT_KEYS_PATH), "the consent keys")
    for raw in assignment.consents:
        try:
            opened = unseal(raw, CONSENT_KIND, keys, LONGEST_CONSENT, "a consent")
            with translated("a consent"):
                consent = msgspec.json.decode(opened.payload, type=Consent)
            consent.valid.bounds()
        except PolicyRefused:
            continue
        may = any(_may_sign_for(keys[keyid], consent.owner) for keyid in opened.keys)
        if consent.format == 1 and consent.gateway == assignment.gateway and may:
            yield consent


def _may_sign_for(key: Key, owner: str) -> bool:
    owners = key.unrecognized_fields.get(OWNERS)
    if not isinstance(owners, list):
        return False
    return any(
        isinstance(one, str)
        and (one == owner or (one.endswith("*") and len(one) > 1 and owner.startswith(one[:-1])))
        for one in owners
    )
