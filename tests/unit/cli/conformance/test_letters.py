"""What the report sends is what it says: our own judges take good letters and refuse each bad one."""

import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from agent.uplink.hearing import Hearing
from certs.signing import SigningKey, TrustedSigners
from cli.conformance.bad_messages import Bad, bad_messages
from cli.conformance.bookkeeper import Bookkeeper
from cli.conformance.opened import Kind, Opener
from cli.conformance.peer import Arrival
from cli.conformance.scripted_gateway import EVERY_MS, ROOM, ScriptedGateway
from core.records import Ask, Confirmation
from core.topics import Lane
from headend.books import Books
from headend.intake import Accepted, Intake, Refused
from tests.support.gateway_double import Keys

GATEWAY, OTHER, ENTITY, STRANGER = "gw-0001", "gw-0002", "dso.example", "esco.example"
NOW = time.time_ns() // 1_000_000
T0 = NOW - NOW % EVERY_MS - 3_600_000
EPOCH = "0" * 15 + "1"


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    return Keys.create(tmp_path_factory.mktemp("keys"))


@pytest.fixture(scope="module")
def over(keys: Keys) -> SigningKey:
    """The gateway's key of a certificate that is over; its good one is made anew behind it."""
    long_ago = datetime.now(UTC) - timedelta(days=30)
    issued = keys.authority.issue_signer(GATEWAY, role="stream", days=1, now=long_ago, force=True)
    found = SigningKey.load(issued.key_path, issued.cert_path)
    keys.stream(GATEWAY, force=True)
    return found


def life(keys: Keys, number: int = 0) -> ScriptedGateway:
    return ScriptedGateway(keys.stream(GATEWAY), GATEWAY, ENTITY, T0 + number * ROOM * EVERY_MS, NOW - 60_000)


# --- confirmations


@pytest.fixture
def bookkeeper(keys: Keys) -> Bookkeeper:
    return Bookkeeper(GATEWAY, ENTITY, keys.collector(ENTITY))


@pytest.fixture
def hearing(keys: Keys, bookkeeper: Bookkeeper) -> Hearing:
    """Our own judge of confirmations, after a first good one."""
    found = Hearing(GATEWAY, ENTITY, TrustedSigners(keys.ca))
    letter = bookkeeper.confirmation()
    assert found.judge(letter.topic, letter.payload, False, datetime.now(UTC)) is not None
    return found


def test_bad_confirmations_change_nothing_for_our_own_judge(
    keys: Keys, bookkeeper: Bookkeeper, hearing: Hearing
) -> None:
    strangers = {"other-key": keys.collector(STRANGER), "own-key": keys.stream(GATEWAY)}
    letters = bookkeeper.forged({EPOCH: [(1, 9)]}, strangers, OTHER)
    assert len({one.kind for one in letters}) == len(letters) == 8
    taken = [one.kind for one in letters if hearing.judge(one.topic, one.payload, False, datetime.now(UTC))]
    assert taken == []
    assert hearing.n == 1


def test_each_letter_has_a_number_of_its_own(keys: Keys, bookkeeper: Bookkeeper) -> None:
    strangers = {"other-key": keys.collector(STRANGER)}
    letters = [bookkeeper.confirmation(), *bookkeeper.forged({EPOCH: [(1, 9)]}, strangers, OTHER)]
    letters.append(bookkeeper.question({EPOCH: [(1, 2)]}, ["a" * 32], want_cert=True))
    own = [one.n for one in letters if one.kind != "earlier-books"]
    assert own == sorted(set(own))


def test_good_letters_are_taken_by_our_own_judge(bookkeeper: Bookkeeper, hearing: Hearing) -> None:
    for letter, kind in (
        (bookkeeper.confirmation(), Confirmation),
        (bookkeeper.confirmation(grown=True), Confirmation),
        (bookkeeper.question({EPOCH: [(1, 2)]}, ["a" * 32], want_cert=True), Ask),
    ):
        judged = hearing.judge(letter.topic, letter.payload, False, datetime.now(UTC))
        assert judged is not None
        assert isinstance(judged[0], kind)
        assert judged[1] is False
    bookkeeper.renew()
    letter = bookkeeper.confirmation()
    judged = hearing.judge(letter.topic, letter.payload, False, datetime.now(UTC))
    assert judged is not None
    assert judged[1] is True


def test_a_confirmation_without_its_certificate_is_asked_for_it(keys: Keys, bookkeeper: Bookkeeper) -> None:
    fresh = Hearing(GATEWAY, ENTITY, TrustedSigners(keys.ca))
    letter = bookkeeper.confirmation(cert=False)
    assert fresh.judge(letter.topic, letter.payload, False, datetime.now(UTC)) is None
    assert fresh.want_cert


def arrival(topic: str, payload: bytes) -> Arrival:
    return Arrival(NOW, topic, payload, 1, False, ())


def test_what_is_withheld_is_not_confirmed_until_it_is_released(keys: Keys, bookkeeper: Bookkeeper) -> None:
    opener, one = Opener(GATEWAY, ENTITY, keys.ca), life(keys)
    hello = one.body(1, 9, one.rows(3, 9), one.introduction(), cert=True)
    bookkeeper.take(opener.open(0, arrival(one.topic(), one.sealed(hello))))
    bookkeeper.withhold(one.epoch, 4, 6)
    judge = Hearing(GATEWAY, ENTITY, TrustedSigners(keys.ca))

    def held() -> list[tuple[int, int]]:
        letter = bookkeeper.confirmation()
        judged = judge.judge(letter.topic, letter.payload, False, datetime.now(UTC))
        assert judged is not None
        assert isinstance(judged[0], Confirmation)
        return judged[0].held[one.epoch]

    assert held() == [(1, 3), (7, 9)]
    bookkeeper.release()
    assert held() == [(1, 9)]


# --- messages of a gateway


@pytest.fixture
def intake(keys: Keys, tmp_path: Path) -> Intake:
    return Intake(ENTITY, TrustedSigners(keys.ca), Books(tmp_path / "books.db", NOW))


def every_bad_one(keys: Keys, over: SigningKey) -> list[Bad]:
    numbers = iter(range(1, 100))
    strangers = {"another gateway": keys.stream(OTHER), "a collector": keys.collector(ENTITY)}
    return list(bad_messages(lambda: life(keys, next(numbers)), strangers, over, OTHER))


def test_every_bad_message_is_refused_by_our_own_judge_and_the_right_one_taken(
    keys: Keys, over: SigningKey, intake: Intake
) -> None:
    first = life(keys)
    hello = first.sealed(first.body(1, 5, first.rows(3, 5), first.introduction(), cert=True))
    assert isinstance(intake.judge(first.topic(), hello, NOW), Accepted)
    bad = every_bad_one(keys, over)
    for one in bad:
        verdict = intake.judge(one.gateway.topic(one.lane), one.payload, NOW)
        assert isinstance(verdict, Refused), one.words
    for one in (one for one in bad if one.again):
        right = one.gateway.sealed(one.gateway.body(3, 5))
        assert isinstance(intake.judge(one.gateway.topic(), right, NOW), Accepted)
    assert sum(one.again for one in bad) == 2


def test_each_bad_message_has_an_epoch_of_its_own(keys: Keys, over: SigningKey) -> None:
    bad = every_bad_one(keys, over)
    assert len({one.gateway.epoch for one in bad}) == len(bad)


def test_reordered_manifest_has_another_name_for_the_same_content(keys: Keys, intake: Intake) -> None:
    one = life(keys)
    plain = one.manifest_name
    one.reordered = True
    assert one.manifest_name != plain
    hello = one.sealed(one.body(1, 5, one.rows(3, 5), one.introduction(), cert=True))
    assert isinstance(intake.judge(one.topic(), hello, NOW), Accepted)


# --- opening


def test_opened_message_tells_who_signed_it_and_what_is_wrong(keys: Keys) -> None:
    opener, one = Opener(GATEWAY, ENTITY, keys.ca), life(keys)
    later = opener.open(0, arrival(one.topic(), one.sealed(one.body(6, 7))))
    assert "not known" in later.signature_fault
    hello = one.body(1, 5, one.rows(3, 5), one.introduction(), cert=True)
    opened = opener.open(1, arrival(one.topic(), one.sealed(hello)))
    assert opened.good
    assert opened.brings_cert
    assert opened.named == ((one.manifest_name, one.manifest_name),)
    assert opener.admitted == 1
    assert opener.open(0, arrival(one.topic(), one.sealed(one.body(6, 7)))).good
    moved = opener.open(2, arrival(one.topic(), one.sealed(one.body(6, 7), Lane.BACKLOG)))
    assert moved.signature_fault
    broken = opener.open(3, arrival(one.topic(), one.sealed(b"{}")))
    assert broken.form_fault
    assert not broken.signature_fault
    assert opener.open(4, arrival("portico/v1/gw-0001/notes", b"x")).kind is Kind.OTHER
