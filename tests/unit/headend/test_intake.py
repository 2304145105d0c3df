"""What a collector takes, and what it refuses and why."""

import base64
import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from certs.signing import SigningKey, TrustedSigners
from core.codec import encode_record, encode_stream, seal
from core.manifest import Manifest
from core.records import (
    Alarm,
    Before,
    Extension,
    Gap,
    ManifestRecord,
    Outcome,
    QualityRecord,
    Record,
    Start,
    State,
    StreamMessage,
)
from core.topics import Lane
from headend.books import Books
from headend.intake import Accepted, Intake, Refusal, Refused
from headend.ledger import Space
from tests.support.gateway_double import ENTITY, T0, GatewayDouble, Keys, group, owned

NOW = T0 + 60_000
Judge = Callable[[tuple[str, bytes]], Refused]
Take = Callable[..., object]


def accepted(intake: Intake, message: tuple[str, bytes]) -> Accepted:
    verdict = intake.judge(*message, NOW)
    assert isinstance(verdict, Accepted), verdict
    return verdict


def test_message_that_holds_is_accepted_whole(intake: Intake, double: GatewayDouble) -> None:
    found = accepted(intake, double.hello(last=5))
    assert found.space is Space.DATA
    assert [row[:3] for row in found.rows] == [(3, 1, T0), (4, 1, T0 + 1000), (5, 1, T0 + 2000)]
    assert found.rows[0][3] == "[[5],[30,31,32]]"
    assert found.readings == {1: 3}
    assert [one.hash for one in found.brought] == [double.manifest.hash()]
    assert found.signer is not None
    assert found.signer.subject == "gw-0001"


def test_certificate_travels_once(intake: Intake, double: GatewayDouble) -> None:
    accepted(intake, double.hello())
    assert accepted(intake, double.more(6, 7)).signer is None


def test_a_state_brings_the_certificate_and_the_next_message_keeps_it(
    intake: Intake, double: GatewayDouble
) -> None:
    assert isinstance(intake.judge_state(double.gateway, *double.state(), NOW), State)
    found = accepted(intake, double.sealed(1, 1, None, [double.start()]))
    assert found.signer is not None
    assert found.signer.subject == double.gateway


def test_a_state_by_a_key_of_another_authority_makes_nothing_known(
    intake: Intake, double: GatewayDouble, tmp_path: Path
) -> None:
    other = replace(double, key=Keys.create(tmp_path, NOW).stream())
    judged = intake.judge_state(other.gateway, *other.state(), NOW)
    assert isinstance(judged, Refused)
    assert judged.reason is Refusal.UNTRUSTED
    message = other.sealed(1, 1, None, [other.start()])
    judged = intake.judge(*message, NOW)
    assert isinstance(judged, Refused)
    assert judged.reason is Refusal.UNKNOWN_KEY


def test_certificate_of_a_message_that_was_forged_is_kept_with_the_first_good_one(
    intake: Intake, double: GatewayDouble
) -> None:
    topic, payload = double.hello()
    assert isinstance(intake.judge(topic, payload[:-1] + bytes([payload[-1] ^ 1]), NOW), Refused)
    assert accepted(intake, (topic, payload)).signer is not None


def test_unknown_key_asks_for_the_certificate(refused: Judge, double: GatewayDouble) -> None:
    found = refused(double.more(3, 5))
    assert found.reason is Refusal.UNKNOWN_KEY
    assert "the collector asks it by itself for its certificate" in found.text
    assert found.ask_cert
    assert not found.authenticated


def test_certificate_seen_by_another_collector_is_found_in_the_books(
    take: Take, keys: Keys, books: Books, double: GatewayDouble
) -> None:
    take(double.hello())
    other = Intake(ENTITY, TrustedSigners(keys.ca), books)
    accepted(other, double.more(6, 7))


def test_certificate_of_a_foreign_authority_is_untrusted(
    refused: Judge, tmp_path_factory: pytest.TempPathFactory
) -> None:
    foreign = Keys.create(tmp_path_factory.mktemp("foreign"), NOW)
    found = refused(GatewayDouble(foreign.stream()).hello())
    assert found.reason is Refusal.UNTRUSTED
    assert not found.authenticated


def test_gateway_cannot_sign_for_another(refused: Judge, keys: Keys) -> None:
    thief = GatewayDouble(keys.stream("gw-0002"), gateway="gw-0001")
    assert refused(thief.hello()).reason is Refusal.UNTRUSTED


def test_collectors_key_signs_no_stream(refused: Judge, keys: Keys) -> None:
    assert refused(GatewayDouble(keys.collector(), gateway=ENTITY).hello()).reason is Refusal.UNTRUSTED


@pytest.mark.parametrize("place", [12, 80, -1])
def test_changed_byte_is_a_bad_signature(
    intake: Intake, refused: Judge, double: GatewayDouble, place: int
) -> None:
    accepted(intake, double.hello())
    topic, payload = double.more(6, 7)
    changed = bytearray(payload)
    changed[place] ^= 1
    found = refused((topic, bytes(changed)))
    assert found.reason is Refusal.BAD_SIGNATURE
    assert not found.authenticated


def test_message_moved_to_another_topic_is_a_bad_signature(
    intake: Intake, refused: Judge, double: GatewayDouble
) -> None:
    accepted(intake, double.hello())
    _, payload = double.more(6, 7)
    assert refused((double.topic(Lane.BACKLOG), payload)).reason is Refusal.BAD_SIGNATURE


@pytest.mark.parametrize(
    "payload", [b"", b"P1", b"hello", bytes(100), b'{"v":1}', b"P1ej" + bytes(200), b"P1xx" + bytes(200)]
)
def test_garbage_is_refused(refused: Judge, double: GatewayDouble, payload: bytes) -> None:
    assert refused((double.topic(), payload)).reason in (Refusal.GARBAGE, Refusal.UNKNOWN_KEY)


def test_signed_garbage_is_the_gateways_fault(intake: Intake, refused: Judge, double: GatewayDouble) -> None:
    accepted(intake, double.hello())
    found = refused((double.topic(), seal(double.topic(), b'{"v":2}', double.key)))
    assert found.reason is Refusal.GARBAGE
    assert found.authenticated


@pytest.mark.parametrize(
    "topic",
    [
        "portico/v1/gw-0001/stream/esco.example/live",
        "portico/v1/gw-0001/stream/dso.example/fast",
        "portico/v1/gw-0001/cmd/dso.example/relay",
        "portico/v2/gw-0001/stream/dso.example/live",
        "",
    ],
)
def test_other_entitys_or_other_topic_is_refused(refused: Judge, double: GatewayDouble, topic: str) -> None:
    assert refused((topic, double.hello()[1])).reason is Refusal.TOPIC


def test_gateway_outside_the_list_is_unknown(keys: Keys, books: Books, double: GatewayDouble) -> None:
    strict = Intake(ENTITY, TrustedSigners(keys.ca), books, frozenset({"gw-0009"}))
    found = strict.judge(*double.hello(), NOW)
    assert isinstance(found, Refused)
    assert found.reason is Refusal.UNKNOWN_GATEWAY


def test_header_of_another_gateway_is_refused(refused: Judge, double: GatewayDouble) -> None:
    found = refused(double.sealed(1, 5, double.rows(3, 5), cert=True, gateway="gw-0002"))
    assert found.reason is Refusal.OTHER_GATEWAY


def test_row_without_its_manifest_is_asked_for_by_hash(refused: Judge, double: GatewayDouble) -> None:
    found = refused(double.sealed(3, 5, double.rows(3, 5), cert=True))
    assert found.reason is Refusal.MANIFEST_MISSING
    assert found.ask_manifest == double.manifest.hash()


def test_manifest_is_found_in_the_books_after_a_restart(
    take: Take, keys: Keys, books: Books, double: GatewayDouble
) -> None:
    take(double.hello())
    restarted = Intake(ENTITY, TrustedSigners(keys.ca), books)
    assert accepted(restarted, double.more(6, 9)).known is not None


def test_manifest_that_is_not_its_hash_is_refused(refused: Judge, double: GatewayDouble) -> None:
    wrong = ManifestRecord(2, "0" * 32, double.manifest)
    found = refused(double.sealed(1, 2, [], [double.start(), wrong], cert=True))
    assert found.reason is Refusal.BAD_MANIFEST


def test_manifest_of_another_gateway_is_refused(refused: Judge, double: GatewayDouble) -> None:
    other = Manifest(gateway="gw-0002", groups=(group(),))
    found = refused(double.sealed(1, 2, [], [ManifestRecord(2, other.hash(), other)], cert=True))
    assert found.reason is Refusal.BAD_MANIFEST


def test_manifest_with_a_group_of_others_is_refused(refused: Judge, keys: Keys) -> None:
    double = GatewayDouble(keys.stream(), groups=(group(owners=(owned("esco.example"),)),))
    assert refused(double.hello()).reason is Refusal.BAD_MANIFEST


def test_row_of_a_time_when_the_data_were_anothers_is_refused(intake: Intake, keys: Keys) -> None:
    terms = (owned(ENTITY, end=T0 + 2000), owned("customer", begin=T0 + 2000))
    double = GatewayDouble(keys.stream(), groups=(group(owners=terms),))
    accepted(intake, double.hello(last=4))
    found = intake.judge(*double.more(5, 5), NOW)
    assert isinstance(found, Refused)
    assert found.reason is Refusal.BAD_ROW


@pytest.mark.parametrize(
    ("rows", "fault"),
    [
        (b"[6,1,%d,[5],[1,2]]" % T0, "2 values for 3 points"),
        (b"[6,1,%d,[],[1,2,3]]" % T0, "0 answer offsets"),
        (b"[6,1,%d,[5],[1,2,3]]" % (T0 + 1), "not on the grid"),
        (b"[6,2,%d,[5],[1,2,3]]" % T0, "group 2 is not in"),
        (b"[6,1,%d,[5],[1.5,2,3]]" % T0, "wrong type"),
        (b"[6,1,%d,[5],[true,2,3]]" % T0, "wrong type"),
        (b'[6,1,%d,[5],["x",2,3]]' % T0, "text where an integer"),
        (b'[6,1,%d,[5],[1,2,3],{"7":["timeout"]}]' % T0, "no point"),
        (b'[6,1,%d,[5],[1,2,3],{"0":["Made Up"]}]' % T0, "small letters"),
    ],
)
def test_row_that_does_not_fit_refuses_the_whole_message(
    intake: Intake, double: GatewayDouble, rows: bytes, fault: str
) -> None:
    accepted(intake, double.hello())
    found = intake.judge(*double.sealed(6, 7, [rows, double.row(7, T0)]), NOW)
    assert isinstance(found, Refused)
    assert found.reason is Refusal.BAD_ROW
    assert fault in found.text


def test_integer_beyond_53_bits_keeps_its_digits(intake: Intake, double: GatewayDouble) -> None:
    accepted(intake, double.hello())
    row = b'[6,1,%d,[5],["18446744073709551615",null,-9007199254740991]]' % T0
    found = accepted(intake, double.sealed(6, 6, [row]))
    assert found.rows[0][3] == '[[5],["18446744073709551615",null,-9007199254740991]]'


ALARM = Alarm(seq=1, at=T0, code="c", raised=True, text="t")
OUTCOME = Outcome(seq=1, at=T0, command="c", state="confirmed")
WRONG_LANE: list[tuple[Lane, Record]] = [
    (Lane.LIVE, ALARM),
    (Lane.BACKLOG, OUTCOME),
    (Lane.CONTROL, Start(seq=1, at=T0, ended="first", boot="b", clock="unsure", software="s")),
]


@pytest.mark.parametrize(("lane", "record"), WRONG_LANE)
def test_record_on_the_wrong_lane_is_refused(
    refused: Judge, double: GatewayDouble, lane: Lane, record: Record
) -> None:
    assert refused(double.sealed(1, 1, [], [record], lane=lane, cert=True)).reason is Refusal.LANE


def test_row_on_the_control_lane_is_refused(refused: Judge, double: GatewayDouble) -> None:
    found = refused(double.sealed(3, 3, double.rows(3, 3), lane=Lane.CONTROL, cert=True))
    assert found.reason is Refusal.LANE


def test_control_lane_takes_alarms_and_outcomes(intake: Intake, double: GatewayDouble) -> None:
    alarm = Alarm(seq=2, at=T0, code="c", raised=True, text="t")
    found = accepted(intake, double.sealed(1, 2, [], [OUTCOME, alarm], lane=Lane.CONTROL, cert=True))
    assert found.space is Space.CONTROL


IMPOSSIBLE: list[Record] = [
    Gap(seq=1, group=1, first_tick=5, last_tick=4, ticks=1, reason="stopped"),
    Gap(seq=1, group=0, first_tick=0, last_tick=0, ticks=0, reason="quota", epoch="x", dropped=[(1, 2)]),
    Gap(seq=1, group=0, first_tick=0, last_tick=0, ticks=0, reason="quota", dropped=[(2, 1)]),
    QualityRecord(seq=1, at=T0, epoch="0" * 16, first=2, last=1, group=1, reasons=["stale"], rule="r"),
    QualityRecord(seq=1, at=T0, epoch="0" * 16, first=1, last=1, group=1, reasons=[], rule="r"),
    QualityRecord(seq=1, at=T0, epoch="0" * 16, first=1, last=1, group=1, reasons=["Odd!"], rule="r"),
    Start(
        seq=1, at=1, ended="x", boot="b", clock="c", software="s",
        before=[Before("0" * 16, 5, 0, [(4, 5), (2, 3)])],
    ),
]  # fmt: skip


@pytest.mark.parametrize("record", IMPOSSIBLE)
def test_record_that_contradicts_itself_is_refused(
    refused: Judge, double: GatewayDouble, record: Record
) -> None:
    assert refused(double.sealed(1, 1, [], [record], cert=True)).reason is Refusal.BAD_RECORD


@pytest.mark.parametrize(
    "row", [b"[6,1,-1000,[5],[1,2,3]]", b"[6,1,99999999999999999999000,[5],[1,2,3]]", b"[6,1,0,[5],[1e999]]"]
)
def test_number_beyond_what_can_be_is_refused(
    intake: Intake, refused: Judge, double: GatewayDouble, row: bytes
) -> None:
    accepted(intake, double.hello())
    assert refused(double.sealed(6, 6, [row])).reason is Refusal.GARBAGE


def test_sequence_beyond_what_can_be_is_refused(refused: Judge, double: GatewayDouble) -> None:
    assert refused(double.sealed(1, 2**60, [], cert=True)).reason is Refusal.GARBAGE


@pytest.mark.parametrize("lane", Lane)
def test_record_of_a_later_version_is_kept_in_either_sequence(
    intake: Intake, double: GatewayDouble, lane: Lane
) -> None:
    later = Extension(seq=1, at=T0, name="later", body={"a": 1})
    assert accepted(intake, double.sealed(1, 1, [], [later], lane=lane, cert=True)).message.records == [later]


def test_manifest_is_known_by_its_bytes_in_whatever_order_its_members_stand(
    intake: Intake, double: GatewayDouble
) -> None:
    turned = msgspec.json.encode(dict(reversed(msgspec.to_builtins(double.manifest).items())))
    name = hashlib.sha256(turned).hexdigest()[:32]
    assert name != double.manifest.hash()
    record = b'{"type":"manifest","seq":2,"hash":"%s","manifest":%s}' % (name.encode(), turned)
    start = encode_record(double.start())
    header = StreamMessage(
        v=1, gateway=double.gateway, epoch=double.epoch, first=1, last=5, manifest=name, sent=T0,
        cert=base64.b64encode(double.key.certificate_der).decode(),
    )  # fmt: skip
    topic = double.topic()
    body = encode_stream(header, double.rows(3, 5), [start, record])
    assert [one.hash for one in accepted(intake, (topic, seal(topic, body, double.key))).brought] == [name]

    loose = b'{"manifests":[%s],' % turned + double.body(6, 6, double.rows(6, 6), manifest=name)[1:]
    assert [one.hash for one in accepted(intake, (topic, seal(topic, loose, double.key))).brought] == [name]


def test_manifest_that_was_asked_for_travels_outside_the_sequence(
    intake: Intake, refused: Judge, double: GatewayDouble
) -> None:
    rows = double.rows(3, 5)
    assert refused(double.sealed(3, 5, rows, cert=True)).ask_manifest == double.manifest.hash()
    found = accepted(intake, double.sealed(3, 5, rows, manifests=[double.manifest]))
    assert [one.hash for one in found.brought] == [double.manifest.hash()]


def test_gap_without_its_manifest_is_asked_for_by_hash(refused: Judge, double: GatewayDouble) -> None:
    gap = Gap(seq=3, group=1, first_tick=T0, last_tick=T0, ticks=1, reason="crashed")
    found = refused(double.sealed(3, 3, [], [gap], cert=True, manifest=double.manifest.hash()))
    assert found.reason is Refusal.MANIFEST_MISSING


def test_key_that_was_renewed_is_taken(intake: Intake, keys: Keys) -> None:
    accepted(intake, GatewayDouble(keys.stream("gw-0007"), gateway="gw-0007").hello())
    renewed: SigningKey = keys.stream("gw-0007", force=True)
    accepted(intake, GatewayDouble(renewed, gateway="gw-0007").hello())


def test_what_nobody_signed_for_is_told_with_its_topic_and_not_more_of_it_than_fits() -> None:
    stranger = Refused(Refusal.GARBAGE, "gw-1", "no message of ours")
    assert stranger.on("portico/v1/gw-1/stream/x/live") == (
        "no message of ours (on topic 'portico/v1/gw-1/stream/x/live')"
    )
    assert len(stranger.on("x" * 65_000)) < 250
    assert Refused(Refusal.GARBAGE, "gw-1", "a bad row", authenticated=True).on("t") == "a bad row"
