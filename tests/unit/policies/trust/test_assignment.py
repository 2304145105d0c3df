"""The assignment by itself: its signature, its head, its bounds, and which one follows which."""

import base64
import json

import pytest
from securesystemslib.signer import CryptoSigner, Key

from policies.trust.assignment import (
    KIND,
    MOST_CONSENTS,
    Assignment,
    Last,
    judge_date,
    judge_succession,
    open_assignment,
    read_unverified,
    seal_assignment,
)
from policies.trust.bounds import LONGEST_ASSIGNMENT
from policies.trust.dsse import MOST_SIGNATURES, keys_in, seal, unseal
from policies.trust.refusals import PolicyRefused, Why
from tests.support.policy_world import pair

SIGNER = pair("enrolment").signer
KEYS: dict[str, Key] = {SIGNER.public_key.keyid: SIGNER.public_key}
HEAD = {
    "gateway": "gw-1",
    "sequence": 3,
    "policy_version": 2,
    "issued": "2026-11-22T10:00:00Z",
    "expires": "2026-11-22T10:00:01Z",
}
EXPIRES = 1_795_341_601_000


def sealed(*signers: CryptoSigner, consents: int = 0, **head: object) -> bytes:
    """Return an assignment whose head says something else."""
    given = {key: value for key, value in {**HEAD, **head}.items() if value is not ...}
    envelope = json.loads(seal(json.dumps({"assignment": given}).encode(), KIND, *(signers or (SIGNER,))))
    return json.dumps({"assignment": envelope, "consents": [{}] * consents}).encode()


def opened(raw: bytes, keys: dict[str, Key] | None = None, policy_version: int = 2) -> Assignment:
    """Open an assignment as gateway gw-1."""
    return open_assignment(raw, KEYS if keys is None else keys, "gw-1", policy_version)


def why(raw: bytes, keys: dict[str, Key] | None = None, policy_version: int = 2) -> Why:
    """Return why an assignment is refused."""
    with pytest.raises(PolicyRefused) as caught:
        opened(raw, keys, policy_version)
    return caught.value.why


def test_what_was_signed_is_read_with_all_of_its_head() -> None:
    found = opened(sealed())
    assert (found.gateway, found.sequence, found.policy_version) == ("gw-1", 3, 2)
    assert (found.issued_ms, found.expires_ms) == (EXPIRES - 1000, EXPIRES)
    assert found.key == SIGNER.public_key.keyid
    assert json.loads(found.document) == {"assignment": HEAD}
    assert found.consents == ()
    made = read_unverified(found.raw)
    assert (made.sequence, made.expires_ms, made.document) == (3, EXPIRES, found.document)
    assert made.keys == set(KEYS)


@pytest.mark.parametrize(
    "head",
    [
        {"issued": ...},
        {"expires": ...},
        {"issued": "yesterday"},
        {"expires": "2026-11-22"},
        {"expires": "2026-11-22T10:00:00Z"},
        {"expires": "2026-11-22T09:59:59Z"},
        {"sequence": 0},
        {"sequence": -1},
        {"sequence": 1.5},
        {"sequence": "3"},
        {"sequence": 2**53 + 1},
        {"policy_version": 0},
        {"policy_version": ...},
        {"gateway": ...},
        {"gateway": 7},
    ],
)
def test_a_head_without_a_sense_is_refused(head: dict[str, object]) -> None:
    assert why(sealed(**head)) is Why.MALFORMED


def test_the_largest_number_is_a_number() -> None:
    assert opened(sealed(sequence=2**53)).sequence == 2**53


def test_it_needs_at_least_its_version_of_the_policy() -> None:
    assert why(sealed(), policy_version=1) is Why.NEEDS_NEWER
    assert opened(sealed(), policy_version=3).policy_version == 2


def test_it_is_for_one_gateway() -> None:
    assert why(sealed(gateway="gw-2")) is Why.OTHER_GATEWAY


def test_without_any_key_it_is_unsigned() -> None:
    assert why(sealed(), {}) is Why.UNSIGNED


def test_a_key_of_another_scheme_does_not_count() -> None:
    rsa = CryptoSigner.generate_rsa()
    assert why(sealed(rsa), {rsa.public_key.keyid: rsa.public_key}) is Why.UNSIGNED


def test_one_of_several_keys_is_enough_and_a_stranger_beside_it_does_no_harm() -> None:
    other, stranger = pair("other").signer, pair("stranger").signer
    keys = {**KEYS, other.public_key.keyid: other.public_key}
    assert opened(sealed(other, stranger), keys).key == other.public_key.keyid
    assert why(sealed(stranger), keys) is Why.UNSIGNED


def test_members_that_nobody_knows_are_refused_in_the_message() -> None:
    message = {**json.loads(sealed()), "more": 1}
    assert why(json.dumps(message).encode()) is Why.MALFORMED


def test_consents_have_a_bound() -> None:
    assert len(opened(sealed(consents=MOST_CONSENTS)).consents) == MOST_CONSENTS
    assert why(sealed(consents=MOST_CONSENTS + 1)) is Why.MALFORMED


def test_length_has_a_bound() -> None:
    raw = sealed()
    full = raw + b" " * (LONGEST_ASSIGNMENT - len(raw))
    assert opened(full).sequence == 3
    assert why(full + b" ") is Why.TOO_LARGE


def test_signatures_have_a_bound() -> None:
    many = [pair(f"k-{number}").signer for number in range(MOST_SIGNATURES - 1)]
    assert opened(sealed(SIGNER, *many)).sequence == 3
    assert why(sealed(SIGNER, *many, pair("k-last").signer)) is Why.TOO_LARGE


def test_an_envelope_has_a_bound_of_its_own() -> None:
    raw = seal(b"{}", KIND, SIGNER)
    assert unseal(raw, KIND, KEYS, len(raw), "it").payload == b"{}"
    with pytest.raises(PolicyRefused) as caught:
        unseal(raw, KIND, KEYS, len(raw) - 1, "it")
    assert caught.value.why is Why.TOO_LARGE


def test_a_signature_over_another_kind_does_not_count() -> None:
    envelope = json.loads(seal(json.dumps({"assignment": HEAD}).encode(), "text/plain", SIGNER))
    assert why(json.dumps({"assignment": envelope, "consents": []}).encode()) is Why.MALFORMED
    envelope["payloadType"] = KIND
    assert why(json.dumps({"assignment": envelope, "consents": []}).encode()) is Why.UNSIGNED


def test_a_payload_that_is_changed_after_signing_does_not_count() -> None:
    message = json.loads(sealed())
    payload = json.dumps({"assignment": {**HEAD, "sequence": 4}}).encode()
    message["assignment"]["payload"] = base64.b64encode(payload).decode()
    assert why(json.dumps(message).encode()) is Why.UNSIGNED


def test_a_higher_number_follows_and_the_same_one_only_if_it_is_the_same() -> None:
    third = opened(sealed())
    judge_succession(third, None, KEYS)
    judge_succession(third, third.last, KEYS)
    judge_succession(opened(sealed(sequence=4)), third.last, KEYS)
    for other in (opened(sealed(sequence=2)), opened(sealed(policy_version=1))):
        with pytest.raises(PolicyRefused) as caught:
            judge_succession(other, third.last, KEYS)
        assert caught.value.why is Why.ROLLBACK


def test_the_same_document_signed_anew_is_the_same_one() -> None:
    other = pair("other").signer
    keys = {**KEYS, other.public_key.keyid: other.public_key}
    judge_succession(opened(sealed(other), keys), opened(sealed()).last, keys)


def test_the_number_of_a_key_that_is_listed_no_more_binds_nobody() -> None:
    far = Last(2**50, "0" * 64, "gone")
    judge_succession(opened(sealed()), far, KEYS)
    with pytest.raises(PolicyRefused):
        judge_succession(opened(sealed()), Last(2**50, "0" * 64, SIGNER.public_key.keyid), KEYS)


def test_it_is_in_date_until_the_instant_of_its_end() -> None:
    found = opened(sealed())
    judge_date(found, EXPIRES - 1)
    with pytest.raises(PolicyRefused) as caught:
        judge_date(found, EXPIRES)
    assert caught.value.why is Why.EXPIRED


def test_what_is_sealed_opens_with_its_consents() -> None:
    document = json.dumps({"assignment": HEAD}).encode()
    found = opened(seal_assignment(document, SIGNER, (b'{"a":1}',)))
    assert found.consents == (b'{"a":1}',)


def test_keys_are_read_from_a_document_and_none_from_none() -> None:
    listed = {"keys": {keyid: key.to_dict() for keyid, key in KEYS.items()}}
    assert set(keys_in(json.dumps(listed).encode(), "keys")) == set(KEYS)
    assert keys_in(None, "keys") == {}
    with pytest.raises(PolicyRefused):
        keys_in(b'{"keys": [1]}', "keys")


def test_of_several_keys_that_signed_the_first_by_id_is_remembered() -> None:
    others = [pair(f"other-{number}").signer for number in range(3)]
    keys = {**KEYS, **{one.public_key.keyid: one.public_key for one in others}}
    assert opened(sealed(SIGNER, *others), keys).key == min(keys)


def test_those_who_made_it_read_it_without_a_guess() -> None:
    assert read_unverified(sealed(expires="someday")).expires_ms == 0
    message = json.loads(sealed())
    message["assignment"]["payload"] = "!" + message["assignment"]["payload"]
    with pytest.raises(PolicyRefused):
        read_unverified(json.dumps(message).encode())
