"""A beat: what opens, what does not, and why one that somebody signed may count for nothing."""

import base64
import json
from datetime import UTC, datetime

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from policies.beat import FRESH_MS, Beat, Beaten, Doubt, doubt, listened_to, open_beat, sign_beat
from policies.envelope import open_envelope, sign_command
from policies.jws import EnvelopeError, PrivateKey
from policies.roster import Key
from policies.rulebook import Rulebook
from simulator.peers.esco import Esco, instant
from tests.support.controlrig import KEY, OTHER_KEY, command, now_ms, public, rulebook

P256 = ec.derive_private_key(12345678901234567890, ec.SECP256R1())
NOW = now_ms()
PEER = Esco("esco1", "hub", "op-17", "k1", KEY)


BOOK = rulebook()


def key_of(entity: str, id_: str) -> Key | None:
    holder = BOOK.holders(entity).get(id_)
    return None if holder is None else holder.key


def beat(issued_ms: int = NOW, **changed: str) -> Beat:
    at = instant(datetime.fromtimestamp(issued_ms / 1000, UTC))
    found = {"entity": "esco1", "application": "hub", "segment": "main", "issued": at}
    return Beat.model_validate({**found, **changed})


def beaten(issued_ms: int = NOW, **changed: str) -> Beaten:
    return open_beat(sign_beat(beat(issued_ms, **changed), "k1", KEY), key_of)


def refusal(raw: bytes) -> str:
    with pytest.raises(EnvelopeError) as refused:
        open_beat(raw, key_of)
    return refused.value.code


def test_a_beat_of_another_program_opens() -> None:
    at = datetime(2026, 11, 22, 16, 0, 0, 250_000, UTC)
    found = open_beat(PEER.beat("main", at), key_of)
    assert found == Beaten(beat(round(at.timestamp() * 1000)), "k1")


def test_the_bytes_that_are_signed_are_small_and_always_the_same() -> None:
    raw = sign_beat(beat(1_795_363_200_000), "k1", KEY)
    payload = raw.split(b".")[1]
    assert json.loads(base64.urlsafe_b64decode(payload + b"=" * (-len(payload) % 4))) == {
        "application": "hub",
        "entity": "esco1",
        "issued": "2026-11-22T16:00:00Z",
        "segment": "main",
    }
    assert raw == sign_beat(beat(1_795_363_200_000), "k1", KEY)
    assert len(raw) < 330


def test_a_command_is_no_beat_and_a_beat_no_command() -> None:
    assert refusal(sign_command(command(), [("k1", KEY)])) == "malformed"
    with pytest.raises(EnvelopeError, match="portico-beat"):
        open_envelope(sign_beat(beat(), "k1", KEY), key_of)


@pytest.mark.parametrize(
    ("key", "entity", "kid", "code"),
    [
        (OTHER_KEY, "esco1", "k1", "bad-signature"),
        (KEY, "esco1", "k2", "unknown-key"),
        (KEY, "esco9", "k1", "unknown-key"),
        (P256, "esco1", "k1", "bad-signature"),
    ],
)
def test_nobody_beats_for_another(key: PrivateKey, entity: str, kid: str, code: str) -> None:
    assert refusal(sign_beat(beat(entity=entity), kid, key)) == code


def test_an_entity_cannot_sign_a_beat_of_another_with_its_own_key() -> None:
    peer = Esco("esco2", "hub", "op-17", "k1", OTHER_KEY)
    assert refusal(peer.beat("main", datetime.now(UTC), entity="esco1")) == "bad-signature"


@pytest.mark.parametrize("more", [{"issued": "now"}, {"extra": 1}, {"application": "a b"}, {"issued": None}])
def test_what_is_signed_and_no_beat_is_refused(more: dict[str, object]) -> None:
    assert refusal(PEER.beat("main", datetime.now(UTC), **more)) == "malformed"


def test_a_long_message_is_not_looked_at() -> None:
    assert refusal(sign_beat(beat(), "k1", KEY) + b"A" * 1024) == "malformed"


@pytest.mark.parametrize(
    ("now", "last", "found"),
    [
        (NOW, None, None),
        (NOW, NOW - 1, None),
        (NOW, NOW, Doubt.AGAIN),
        (NOW, NOW + 1, Doubt.AGAIN),
        (NOW + FRESH_MS, None, None),
        (NOW + FRESH_MS + 1, None, Doubt.OLD),
        (NOW - 5000, None, None),
        (NOW - 5001, None, Doubt.EARLY),
        (NOW + 25 * 3_600_000, None, Doubt.KEY_ENDED),
        (NOW - 25 * 3_600_000, None, Doubt.KEY_ENDED),
    ],
    ids=[
        "now",
        "after the last",
        "the last again",
        "before the last",
        "just fresh",
        "old",
        "a little early",
        "early",
        "after the key",
        "before the key",
    ],
)
def test_a_beat_counts_once_while_it_is_fresh_and_its_key_in_date(
    now: int, last: int | None, found: Doubt | None
) -> None:
    assert doubt(beaten(), BOOK, now, last) is found


def test_a_key_beats_for_its_applications_alone_and_for_those_of_the_policy() -> None:
    assert doubt(beaten(application="other"), rulebook(), NOW, None) is Doubt.APPLICATION
    gone = rulebook().policy.model_copy(update={"entities": ()})
    assert doubt(beaten(), Rulebook(gone, rulebook().rosters.values()), NOW, None) is Doubt.APPLICATION


def test_a_viewer_who_may_command_nothing_may_beat() -> None:
    book = rulebook()
    roster = book.rosters["esco1"]
    viewer = roster.individuals[0].model_copy(update={"roles": ("viewer",)})
    rosters = [roster.model_copy(update={"individuals": (viewer,)})]
    assert public(KEY) == roster.keys[0].public
    assert doubt(beaten(), Rulebook(book.policy, rosters, book.assignment), NOW, None) is None


def test_those_are_listened_to_whose_silence_would_end_a_control_here() -> None:
    book = rulebook()
    assert listened_to(book) == {"esco1"}
    assert listened_to(Rulebook(book.policy, (), None)) == frozenset()
    assert listened_to(rulebook(on_comm_loss="hold_to_end")) == frozenset()
    assert listened_to(None) == frozenset()
