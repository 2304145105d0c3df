"""The acts of those who keep the policy: begin, add an entity, put in a part, assign, change keys.

Each changes drafts and nothing else; what is in force changes by signing and publishing alone.
Relies on `policies.trust.repository`.  Not here: asking people and telling them (`policies.trust_cli`).
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from securesystemslib.signer import Key, SSlibKey
from tuf.api.metadata import DelegatedRole, Delegations, Metadata, Root, Targets

from core.errors import ConfigError
from core.ids import checked_name, name_fault
from policies.reading import parse_document, together_faults
from policies.trust.assignment import Assignment, Made, open_assignment, read_unverified, seal_assignment
from policies.trust.bounds import (
    ASSIGNMENT_KEYS_PATH,
    CONSENT_KEYS_PATH,
    LONGEST_ASSIGNMENT,
    POLICY_PATH,
    ROOT,
    SNAPSHOT,
    TARGETS,
    TIMESTAMP,
    agreed_path,
    entity_fault,
    entity_folder,
    roster_path,
)
from policies.trust.contents import (
    HEAD,
    Table,
    agreed_document,
    canonical,
    grants_of,
    merged,
    read_part,
    stamped,
)
from policies.trust.dsse import keys_in
from policies.trust.files import write_whole
from policies.trust.generations import read_bounded
from policies.trust.instants import as_datetime, instant_text
from policies.trust.keys import KeyPair
from policies.trust.repository import Repository
from policies.trust.settings import ASSIGNMENT_LIFE_DAYS, DAY_MS, life_ms

ALSO: Final = "agreements.json"
"""In ``source/``: which entities must agree to a grant beside the one it is for."""


@dataclass(frozen=True, slots=True)
class FirstKeys:
    """The public keys with which a policy begins."""

    root: Sequence[Key]
    targets: Sequence[Key]
    snapshot: Key
    timestamp: Key
    assignment: Key
    threshold: int = 2


def begin(base: Path, utility: str, zone: str, keys: FirstKeys, now_ms: int) -> Repository:
    """Draft the first root and an empty policy of a utility."""
    if (base / "source").exists():
        raise ConfigError(f"{base} holds a policy already: nothing was changed")
    fault = name_fault(utility)
    if fault is not None:
        raise ConfigError(f"the utility's id {utility!r} {fault}")
    head: Table = {
        "policy": {"id": "fleet", "utility": utility, "zone": zone},
        "entity": [{"id": utility, "kind": "utility"}],
    }
    write_whole(base / "source" / "policy" / f"{HEAD}.json", canonical(head))
    repository = Repository(base)
    root = Root(expires=as_datetime(now_ms + life_ms(ROOT)), consistent_snapshot=True)
    of = {
        ROOT: keys.root,
        TARGETS: keys.targets,
        SNAPSHOT: (keys.snapshot,),
        TIMESTAMP: (keys.timestamp,),
    }
    for role, some in of.items():
        for key in some:
            root.add_key(key, role)
        root.roles[role].threshold = keys.threshold if role in (ROOT, TARGETS) else 1
    repository.save(ROOT, Metadata(root))
    targets = repository.edit_targets(TARGETS, now_ms)
    repository.put(targets.signed, ASSIGNMENT_KEYS_PATH, _key_list([keys.assignment]))
    _save_policy(repository, targets, now_ms)
    return repository


def add_entity(
    repository: Repository,
    entity: str,
    kind: str,
    keys: Sequence[Key],
    threshold: int,
    now_ms: int,
    applications: Sequence[str] = (),
) -> None:
    """Give an entity its own folder, which it alone can sign for; known already: change its keys."""
    fault = entity_fault(entity)
    if fault is not None:
        raise ConfigError(f"the entity {entity!r} {fault}: choose another id")
    if not 1 <= threshold <= len(keys):
        raise ConfigError(
            f"{threshold} of {len(keys)} keys cannot sign: give at least {threshold} public keys"
        )
    targets = repository.edit_targets(TARGETS, now_ms)
    delegations = targets.signed.delegations or Delegations({}, {})
    roles = delegations.roles or {}
    if entity in roles:
        for keyid in list(roles[entity].keyids):
            targets.signed.revoke_key(keyid, entity)
    roles[entity] = DelegatedRole(
        entity, [], threshold, terminating=True, paths=[entity_folder(entity) + "*"]
    )
    delegations.roles = roles
    targets.signed.delegations = delegations
    for key in keys:
        targets.signed.add_key(key, entity)
    _name_entity(repository, entity, kind, applications)
    _save_policy(repository, targets, now_ms)


def name_applications(
    repository: Repository, entity: str, kind: str, applications: Sequence[str], now_ms: int
) -> None:
    """Draft that an entity has these applications as well."""
    _name_entity(repository, entity, kind, applications)
    _save_policy(repository, repository.edit_targets(TARGETS, now_ms), now_ms)


def set_roster(repository: Repository, entity: str, document: Table, now_ms: int) -> None:
    """Draft an entity's roster; the entity signs it."""
    if entity not in repository.entities():
        raise ConfigError(f"{entity} has no role yet: add it with portico policy add-entity first")
    role = repository.edit_targets(entity, now_ms)
    head = document.get("roster")
    said = head.get("entity", entity) if isinstance(head, dict) else entity
    if said != entity:
        raise ConfigError(f"the roster is of {said}, not of {entity}")
    named = {**document, "roster": {**(head if isinstance(head, dict) else {}), "entity": entity}}
    whole = canonical(stamped(named, "roster", role.signed, now_ms))
    _check_together(repository, whole, "roster")
    repository.put(role.signed, roster_path(entity), whole)
    repository.save(entity, role)


def put_part(repository: Repository, name: str, part: Table, also: Iterable[str], now_ms: int) -> list[str]:
    """Keep a part of the policy and draft the whole; return the ids of its grants.

    ``also``: entities that are to agree to its grants beside those that they are for, such as the owner of
    the devices.
    """
    ids = [
        str(grant["id"])
        for grant in _list(part.get("grant"))
        if isinstance(grant, dict) and isinstance(grant.get("id"), str)
    ]
    others = tuple(dict.fromkeys(also))
    for entity in others:
        if entity not in repository.entities():
            raise ConfigError(f"{entity} has no role yet: add it with portico policy add-entity first")
    path = repository.base / "source" / "policy" / f"{name}.json"
    before = read_bounded(path, 1 << 30)
    write_whole(path, canonical(part))
    try:
        agreements = {**_also(repository), **{id_: others for id_ in ids if others}}
        targets = repository.edit_targets(TARGETS, now_ms)
        _save_policy(repository, targets, now_ms, agreements)
    except ConfigError:
        path.unlink() if before is None else write_whole(path, before)
        raise
    write_whole(repository.base / "source" / ALSO, canonical(agreements))
    return ids


def renew(repository: Repository, roles: Iterable[str], now_ms: int) -> None:
    """Draft a next version of roles that only run out."""
    for role in roles:
        if role == ROOT:
            root = repository.edit_root(now_ms)
            repository.save(ROOT, root)
        elif role == TARGETS:
            _save_policy(repository, repository.edit_targets(TARGETS, now_ms), now_ms)
        else:
            roster = repository.document(roster_path(role), role)
            if roster is None:
                repository.save(role, repository.edit_targets(role, now_ms))
            else:
                set_roster(repository, role, json.loads(roster), now_ms)


def rotate(repository: Repository, role: str, keys: Sequence[Key], threshold: int, now_ms: int) -> list[str]:
    """Draft that a role is signed by other keys from now on; return the roles that must be signed for it."""
    if role not in (ROOT, TARGETS, SNAPSHOT, TIMESTAMP):
        raise ConfigError(f"{role} is no role of the root: root, targets, snapshot, timestamp are")
    if not 1 <= threshold <= len(keys):
        raise ConfigError(
            f"{threshold} of {len(keys)} keys cannot sign: give at least {threshold} public keys"
        )
    root = repository.edit_root(now_ms)
    for keyid in list(root.signed.roles[role].keyids):
        root.signed.revoke_key(keyid, role)
    for key in keys:
        root.signed.add_key(key, role)
    root.signed.roles[role].threshold = threshold
    repository.save(ROOT, root)
    if role == TARGETS:  # what the old keys signed counts no more
        renew(repository, [TARGETS], now_ms)
    return [ROOT, TARGETS] if role == TARGETS else [ROOT]


def rotate_assignment(repository: Repository, keys: Sequence[Key], now_ms: int) -> None:
    """Draft another list of keys for assignments: what others signed is void when it is in force."""
    targets = repository.edit_targets(TARGETS, now_ms)
    repository.put(targets.signed, ASSIGNMENT_KEYS_PATH, _key_list(keys))
    _save_policy(repository, targets, now_ms)


def set_consent_keys(repository: Repository, keys: Sequence[Key], now_ms: int) -> None:
    """Draft the list of keys that may sign consents of owners who have no role of their own."""
    targets = repository.edit_targets(TARGETS, now_ms)
    repository.put(targets.signed, CONSENT_KEYS_PATH, _key_list(keys))
    _save_policy(repository, targets, now_ms)


def consent_keys(repository: Repository) -> dict[str, Key]:
    """Return the keys that may sign consents, as drafted or published."""
    return keys_in(repository.document(CONSENT_KEYS_PATH), "the consent keys")


def assign(
    repository: Repository,
    gateway: str,
    document: Table,
    pair: KeyPair,
    consents: tuple[bytes, ...],
    now_ms: int,
) -> Assignment:
    """Write the next assignment of a gateway, signed; its head is counted and dated here.

    It asks for the version of the policy that counts when it is published.
    """
    checked = checked_name(gateway, "gateway")
    keys = keys_in(repository.document(ASSIGNMENT_KEYS_PATH), "the assignment keys")
    if pair.public.keyid not in keys:
        raise ConfigError(f"the key {pair.holder} may not sign assignments: the policy lists another one")
    before = _made(repository, checked)
    given = document.get("assignment")
    head = given if isinstance(given, dict) else {}
    if head.get("gateway", checked) != checked:
        raise ConfigError(f"the assignment is for {head['gateway']}, not for {checked}")
    now = now_ms // 1000 * 1000
    whole = {
        **document,
        "assignment": {
            **head,
            "format": 1,
            "gateway": checked,
            "sequence": 1 if before is None else before.sequence + 1,
            "policy_version": repository.latest_targets().version,
            "issued": instant_text(now),
            "expires": head.get("expires", instant_text(now + ASSIGNMENT_LIFE_DAYS * DAY_MS)),
        },
    }
    _check_together(repository, canonical(whole), "assignment")
    raw = seal_assignment(canonical(whole), pair.signer, consents)
    made = open_assignment(raw, keys, checked, repository.latest_targets().version)
    write_whole(repository.base / "assign" / f"{checked}.json", raw)
    return made


def present_assignment(repository: Repository, gateway: str) -> tuple[Table, tuple[bytes, ...]] | None:
    """Return the document and the consents of the last assignment that was made for a gateway."""
    made = _made(repository, gateway)
    if made is None:
        return None
    tables: Table = json.loads(made.document)
    return tables, made.consents


# --- inside


def _made(repository: Repository, gateway: str) -> Made | None:
    raw = read_bounded(repository.base / "assign" / f"{gateway}.json", LONGEST_ASSIGNMENT)
    return None if raw is None else read_unverified(raw)


def _check_together(repository: Repository, raw: bytes, name: str) -> None:
    """Refuse a document with a fault, or that does not fit the policy; ConfigError tells every one."""
    policy = repository.document(POLICY_PATH)
    documents = [(Path(name), parse_document(raw, name))]
    if policy is not None:
        documents.append((Path("policy"), parse_document(policy, "policy")))
    faults = tuple(together_faults(documents))
    if faults:
        raise ConfigError(f"the {name} does not fit the policy", faults)


def _save_policy(
    repository: Repository,
    targets: Metadata[Targets],
    now_ms: int,
    also: Mapping[str, tuple[str, ...]] | None = None,
) -> None:
    """Draft the policy document anew, and what each entity is to agree to in it."""
    folder = repository.base / "source" / "policy"
    parts = {path.stem: read_part(path) for path in sorted(folder.glob("*.json"))}
    document = canonical(stamped(merged(parts), "policy", targets.signed, now_ms))
    parse_document(document, "policy")
    agreements = _also(repository) if also is None else also
    named = grants_of(document)
    lists = {
        entity: agreed_document(entity, named, agreements)
        for entity in (targets.signed.delegations.roles or {} if targets.signed.delegations else {})
    }
    repository.put(targets.signed, POLICY_PATH, document)
    repository.save(TARGETS, targets)
    for entity, agreed in lists.items():
        if repository.document(agreed_path(entity), entity) != agreed:
            role = repository.edit_targets(entity, now_ms)
            repository.put(role.signed, agreed_path(entity), agreed)
            repository.save(entity, role)


def _name_entity(repository: Repository, entity: str, kind: str, applications: Sequence[str]) -> None:
    path = repository.base / "source" / "policy" / f"{HEAD}.json"
    head = read_part(path)
    listed = _list(head.get("entity"))
    named = next((one for one in listed if isinstance(one, dict) and one.get("id") == entity), None)
    present = _list((named or {}).get("application"))
    known = {one.get("id") for one in present if isinstance(one, dict)}
    added = [{"id": checked_name(one, "application")} for one in applications if one not in known]
    if named is not None and not added:
        return
    whole = {"id": entity, "kind": kind, **(named or {})}
    if added:
        whole["application"] = [*present, *added]
    others = [one for one in listed if one is not named]
    write_whole(path, canonical({**head, "entity": [*others, whole]}))


def _also(repository: Repository) -> dict[str, tuple[str, ...]]:
    path = repository.base / "source" / ALSO
    if not path.exists():
        return {}
    return {str(id_): tuple(map(str, _list(names))) for id_, names in read_part(path).items()}


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else []


def _key_list(keys: Iterable[Key]) -> bytes:
    return canonical({"keys": {key.keyid: key.to_dict() for key in keys}})


def with_owners(key: SSlibKey, owners: Sequence[str], member: str) -> SSlibKey:
    """Return a consent key that may sign for these owners."""
    key.unrecognized_fields[member] = list(owners)
    return key
