"""Who has signed which grant: the utility, the entity, the owner, and nobody by another's hand."""

import dataclasses
import json
from pathlib import Path

import msgspec
import pytest
from securesystemslib.signer import SSlibKey

from policies.trust.agreement import (
    EVER,
    LONGEST_CONSENT,
    OWNERS,
    Agreed,
    Consent,
    Named,
    Validity,
    agreement,
    digest,
    named_grants,
    seal_consent,
)
from policies.trust.bounds import POLICY_PATH
from policies.trust.ceremony import put_part, set_consent_keys, with_owners
from policies.trust.contents import Table
from policies.trust.held import Held, held
from policies.trust.refusals import PolicyRefused
from tests.support.policy_world import AGGREGATOR, ESCO, UTILITY, World, assignment, grant, pair

OWNER = "cust-0815"


@pytest.fixture
def world(tmp_path: Path) -> World:
    """A gateway that holds a policy with grant g-wh of esco1."""
    world = World(tmp_path)
    world.refresh()
    return world


def consenting(grants: list[str], owner: str = OWNER, evidence: str = "form 4711", **valid: str) -> Table:
    """Return an assignment that names a consent to each grant."""
    entries = [
        {
            "grant": one,
            "revision": 1,
            "owner": owner,
            "evidence": evidence,
            **({"valid": valid} if valid else {}),
        }
        for one in grants
    ]
    return {**assignment(*grants), "consent": entries}


def counted(found: Held) -> list[str]:
    """Return the grants to which a consent is proved."""
    assert found.assigned is not None
    return [one["grant"] for one in json.loads(found.assigned)["consent"]]


def portal(world: World, *owners: str) -> "Portal":
    """Return a consent service that the utility's threshold lists for these owners."""
    key = pair("portal")
    set_consent_keys(world.repository, [with_owners(key.public, owners, OWNERS)], world.now_ms)
    world.sign_all()
    world.refresh()
    return Portal(world, key)


class Portal:
    """Signs consents of customers who have no key."""

    def __init__(self, world: World, key: object) -> None:
        self.world = world
        self.key = key

    def record(self, consent: Consent) -> bytes:
        """Return the signed record."""
        return seal_consent(consent, self.key.signer)  # type: ignore[attr-defined]


def test_utility_and_entity_have_signed_a_grant_that_both_published(world: World) -> None:
    found = world.load()
    assert found is not None
    assert found.agreement.utility == UTILITY
    assert found.agreement.parties("g-wh", 1) == {UTILITY, ESCO}


def test_another_revision_of_a_grant_is_signed_by_nobody(world: World) -> None:
    found = world.load()
    assert found is not None
    assert found.agreement.parties("g-wh", 2) == frozenset()
    assert found.agreement.parties("g-none", 1) == frozenset()


def test_a_changed_grant_asks_the_entity_again(world: World) -> None:
    put_part(
        world.repository, "esco", {"grant": [{**grant("g-wh"), "duration": {"max": "8h"}}]}, (), world.now_ms
    )
    world.sign(*world.keys.targets[:2])  # the entity has not signed its new list
    found = world.refresh()
    assert found.agreement.parties("g-wh", 1) == {UTILITY}
    world.sign(world.keys.entities[ESCO])
    assert world.refresh().agreement.parties("g-wh", 1) == {UTILITY, ESCO}


def test_a_grant_that_did_not_change_stays_agreed_when_others_change(world: World) -> None:
    before = world.named("g-wh")
    put_part(world.repository, "more", {"grant": [grant("g-2")]}, (), world.now_ms)
    world.sign(*world.keys.targets[:2])
    found = world.refresh()
    assert world.named("g-wh") == before
    assert found.agreement.parties("g-wh", 1) == {UTILITY, ESCO}
    assert found.agreement.parties("g-2", 1) == {UTILITY}


def test_an_entity_does_not_sign_for_another(world: World) -> None:
    world.refresh(world.change(grant("g-aggr", AGGREGATOR), name="aggr"))
    found = world.load()
    assert found is not None
    assert found.agreement.parties("g-aggr", 1) == {UTILITY, AGGREGATOR}
    assert found.agreement.parties("g-wh", 1) == {UTILITY, ESCO}


def test_an_owner_with_a_role_of_its_own_signs_like_an_entity(world: World) -> None:
    put_part(world.repository, "aggr", {"grant": [grant("g-x", ESCO)]}, (AGGREGATOR,), world.now_ms)
    world.sign_all()
    world.refresh()
    found = world.give(world.assign(consenting(["g-x"], owner=AGGREGATOR)).raw)
    assert found.agreement.parties("g-x", 1) == {UTILITY, ESCO, AGGREGATOR}
    assert counted(found) == ["g-x"]


def test_a_list_that_names_another_entity_counts_for_nobody(world: World) -> None:
    role = world.repository.edit_targets(ESCO, world.now_ms)
    named = world.named("g-wh")
    document = {"format": 1, "entity": AGGREGATOR, "grants": [{"id": named.id, "sha256": named.sha256}]}
    world.repository.put(role.signed, f"entities/{ESCO}/agreed.json", json.dumps(document).encode())
    world.repository.save(ESCO, role)
    world.sign_all()
    assert world.refresh().agreement.parties("g-wh", 1) == {UTILITY}


def test_a_list_that_cannot_be_read_harms_its_own_grants_alone(world: World) -> None:
    world.refresh(world.change(grant("g-aggr", AGGREGATOR), name="aggr"))
    role = world.repository.edit_targets(ESCO, world.now_ms)
    world.repository.put(role.signed, f"entities/{ESCO}/agreed.json", b"[" * 10_000)
    world.repository.save(ESCO, role)
    world.sign_all()
    found = world.refresh()
    assert found.agreement.parties("g-wh", 1) == {UTILITY}
    assert found.agreement.parties("g-aggr", 1) == {UTILITY, AGGREGATOR}


def test_an_id_that_stands_twice_is_agreed_by_nobody(world: World) -> None:
    found = world.load()
    assert found is not None
    assert found.policy is not None
    policy = json.loads(found.policy)
    policy["grant"] *= 2
    documents = {**found.verified.documents, POLICY_PATH: json.dumps(policy).encode()}
    twice = agreement(dataclasses.replace(found.verified, documents=documents))
    assert twice.parties("g-wh", 1) == frozenset()


def test_a_consent_without_a_record_does_not_count(world: World) -> None:
    assert counted(world.give(world.assign(consenting(["g-wh"])).raw)) == []


def test_a_consent_with_a_record_of_a_listed_service_counts(world: World) -> None:
    service = portal(world, "cust-*")
    record = service.record(world.consent(OWNER, "g-wh"))
    found = world.give(world.assign(consenting(["g-wh"]), record).raw)
    assert counted(found) == ["g-wh"]
    assert found.assignment is not None
    assert json.loads(found.assignment.document)["select"] == [{"grant": "g-wh"}]


def test_a_record_that_the_assignment_does_not_name_does_not_count(world: World) -> None:
    record = portal(world, OWNER).record(world.consent(OWNER, "g-wh"))
    found = world.give(world.assign({**assignment("g-wh"), "consent": []}, record).raw)
    assert found.assigned is not None
    assert json.loads(found.assigned)["consent"] == []


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"owner": "cust-0816"}, "of another owner"),
        ({"gateway": "gw-0002"}, "for another gateway"),
        ({"evidence": "form 4712"}, "on other evidence"),
        ({"grants": [Named("g-wh", "0" * 64, 1)]}, "to another wording"),
        ({"format": 2}, "of a later form"),
        ({"valid": Validity("2026-12-01T00:00:00Z", None)}, "from later on"),
        ({"valid": Validity(None, "2026-12-01T00:00:00Z")}, "until earlier"),
    ],
)
def test_a_record_does_not_count_that_is(world: World, change: dict[str, object], why: str) -> None:
    service = portal(world, "cust-*")
    plain = world.consent(OWNER, "g-wh")
    fields = {name: getattr(plain, name) for name in plain.__struct_fields__}
    record = service.record(Consent(**{**fields, **change}))
    assert counted(world.give(world.assign(consenting(["g-wh"]), record).raw)) == [], why


def test_a_service_does_not_sign_for_owners_that_are_not_its_own(world: World) -> None:
    record = portal(world, "cust-9*").record(world.consent(OWNER, "g-wh"))
    assert counted(world.give(world.assign(consenting(["g-wh"]), record).raw)) == []


@pytest.mark.parametrize("owners", ["c*", "cust-08*", "cust-0815*"])
def test_a_service_signs_for_all_owners_that_begin_as_its_entry_does(world: World, owners: str) -> None:
    record = portal(world, owners).record(world.consent(OWNER, "g-wh"))
    assert counted(world.give(world.assign(consenting(["g-wh"]), record).raw)) == ["g-wh"]


def test_one_service_that_may_sign_is_enough_beside_one_that_may_not(world: World) -> None:
    mine, other = pair("portal"), pair("portal-9")
    listed = [with_owners(mine.public, [OWNER], OWNERS), with_owners(other.public, ["cust-9*"], OWNERS)]
    set_consent_keys(world.repository, listed, world.now_ms)
    world.sign_all()
    world.refresh()
    record = seal_consent(world.consent(OWNER, "g-wh"), other.signer, mine.signer)
    assert counted(world.give(world.assign(consenting(["g-wh"]), record).raw)) == ["g-wh"]


def test_the_enrolment_key_cannot_consent_for_anybody(world: World) -> None:
    portal(world, "cust-*")
    record = seal_consent(world.consent(OWNER, "g-wh"), world.keys.assignment.signer)
    assert counted(world.give(world.assign(consenting(["g-wh"]), record).raw)) == []


def test_a_consent_ends_when_the_key_of_its_service_is_taken_away(world: World) -> None:
    record = portal(world, "cust-*").record(world.consent(OWNER, "g-wh"))
    assert counted(world.give(world.assign(consenting(["g-wh"]), record).raw)) == ["g-wh"]
    set_consent_keys(world.repository, [pair("portal-2").public], world.now_ms)
    world.sign_all()
    assert counted(world.refresh()) == []


def test_a_consent_ends_when_the_wording_of_the_grant_changes(world: World) -> None:
    record = portal(world, "cust-*").record(world.consent(OWNER, "g-wh"))
    world.give(world.assign(consenting(["g-wh"]), record).raw)
    found = world.refresh(world.change({**grant("g-wh"), "duration": {"max": "8h"}}))
    assert counted(found) == []


def test_a_consent_within_the_time_of_its_record_counts(world: World) -> None:
    service = portal(world, OWNER)
    plain = world.consent(OWNER, "g-wh")
    fields = {name: getattr(plain, name) for name in plain.__struct_fields__}
    record = service.record(Consent(**{**fields, "valid": Validity(None, "2026-12-31T00:00:00Z")}))
    document = consenting(["g-wh"], until="2026-12-01T00:00:00Z")
    assert counted(world.give(world.assign(document, record).raw)) == ["g-wh"]


def test_validity_without_bounds_is_for_ever_and_the_wrong_way_round_is_refused() -> None:
    assert Validity().bounds() == (0, EVER)
    with pytest.raises(PolicyRefused):
        Validity("2026-12-01T00:00:00Z", "2026-12-01T00:00:00Z").bounds()
    with pytest.raises(PolicyRefused):
        Validity("tomorrow").bounds()


def test_a_grant_is_named_by_the_sha256_of_its_bytes() -> None:
    assert digest(b"{}") == "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"


def test_a_set_without_a_policy_has_no_grants_and_an_entity_without_a_list_agreed_to_nothing(
    world: World,
) -> None:
    found = world.load()
    assert found is not None
    left = {path: raw for path, raw in found.verified.documents.items() if path != POLICY_PATH}
    assert agreement(dataclasses.replace(found.verified, documents=left)).grants == {}
    left = {path: raw for path, raw in found.verified.documents.items() if not path.endswith("agreed.json")}
    alone = agreement(dataclasses.replace(found.verified, documents=left))
    assert alone.parties("g-wh", 1) == {UTILITY}


@pytest.mark.parametrize("change", [{"revision": 2}, {"grant": "g-none"}])
def test_a_consent_to_what_is_not_in_force_does_not_count(world: World, change: dict[str, object]) -> None:
    service = portal(world, OWNER)
    plain = world.consent(OWNER, "g-wh")
    fields = {name: getattr(plain, name) for name in plain.__struct_fields__}
    named = Named(str(change.get("grant", "g-wh")), plain.grants[0].sha256, 2 if "revision" in change else 1)
    record = service.record(Consent(**{**fields, "grants": [*plain.grants, named]}))
    found = world.give(world.assign(consenting(["g-wh"]), record).raw)
    assert found.assignment is not None
    listed = json.loads(found.assignment.document)
    listed["consent"][0] |= change
    given = dataclasses.replace(found.assignment, document=json.dumps(listed).encode())
    assert counted(held(found.verified, given)) == []


@pytest.mark.parametrize("owners", [None, "cust-0815", ["*"], [7], []])
def test_a_consent_key_signs_for_those_alone_that_it_is_listed_for(world: World, owners: object) -> None:
    key = pair("portal")
    listed = key.public.to_dict() | ({} if owners is None else {OWNERS: owners})
    fresh = SSlibKey.from_dict(key.public.keyid, listed)
    set_consent_keys(world.repository, [fresh], world.now_ms)
    world.sign_all()
    world.refresh()
    record = Portal(world, key).record(world.consent(OWNER, "g-wh"))
    assert counted(world.give(world.assign(consenting(["g-wh"]), record).raw)) == []


def test_a_record_without_a_sense_is_as_if_it_were_not_there(world: World) -> None:
    service = portal(world, OWNER)
    plain = world.consent(OWNER, "g-wh")
    fields = {name: getattr(plain, name) for name in plain.__struct_fields__}
    odd = service.record(Consent(**{**fields, "valid": Validity("tomorrow")}))
    good = service.record(plain)
    assert counted(
        world.give(world.assign(consenting(["g-wh"]), b"{}", odd, b'{"payload":1}', good).raw)
    ) == ["g-wh"]


@pytest.mark.parametrize("kind", [Named, Agreed, Validity, Consent])
def test_members_that_nobody_knows_are_refused_in_what_is_agreed(kind: type[msgspec.Struct]) -> None:
    named = {"id": "g", "sha256": "0" * 64}
    plain = {
        Named: named,
        Agreed: {"format": 1, "entity": "e"},
        Validity: {},
        Consent: {
            "format": 1,
            "owner": "o",
            "gateway": "g",
            "grants": [named],
            "evidence": "",
            "issued": "2026-11-22T12:00:00Z",
        },
    }[kind]
    msgspec.json.decode(json.dumps(plain), type=kind)
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(json.dumps({**plain, "more": 1}), type=kind)


def test_a_grant_that_says_no_revision_is_of_the_first() -> None:
    policy = {"policy": {"utility": "dso"}, "grant": [{"id": "g", "from": "esco1"}]}
    ((named, entity),) = named_grants(json.dumps(policy).encode())
    assert (named.id, named.revision, entity) == ("g", 1, "esco1")
    assert Named("g", "0" * 64).revision == 1


def test_a_record_that_just_fits_counts_and_one_byte_more_does_not(world: World) -> None:
    service = portal(world, OWNER)
    assert LONGEST_CONSENT == 8192
    record = service.record(world.consent(OWNER, "g-wh"))
    for size, proved in ((LONGEST_CONSENT, ["g-wh"]), (LONGEST_CONSENT + 1, [])):
        longer = json.loads(record) | {"note": ""}
        longer["note"] = "x" * (size - len(json.dumps(longer, separators=(",", ":"))))
        raw = json.dumps(longer, separators=(",", ":")).encode()
        assert len(raw) == size
        assert counted(world.give(world.assign(consenting(["g-wh"]), raw).raw)) == proved
