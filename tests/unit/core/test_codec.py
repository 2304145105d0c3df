"""Bodies of messages: what is written is read back; whatever else comes is a WireError with a sentence."""

import contextlib
import json
from collections.abc import Callable
from typing import Any, Final

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.codec import (
    decode_ask,
    decode_audit_head,
    decode_confirmation,
    decode_state,
    decode_stream,
    encode_plain,
    encode_record,
    encode_stream,
    row_body,
    row_bytes,
)
from core.errors import WireError
from core.manifest import EXACT, Value, decode_manifest
from core.records import Ask, AuditHead, Confirmation, Row, State, StreamMessage
from tests.unit.core.wire_made import (
    any_rows,
    asks,
    audit_heads,
    confirmations,
    manifests,
    sequences,
    states,
    stream_messages,
)

EPOCH: Final = "00112233445566aa"
HASH: Final = "0123456789abcdef0123456789abcdef"
BOOKS: Final = "1780000000000-00c0ffee"
ROW: Final = [5, 1, 1780000000000, [12], [2301]]
STREAM: Final[dict[str, Any]] = {
    "v": 1,
    "gateway": "gw-0001",
    "epoch": EPOCH,
    "first": 5,
    "last": 9,
    "manifest": HASH,
    "sent": 1780000000123,
    "rows": [ROW],
    "records": [{"type": "clock", "seq": 6, "at": 1780000000000, "boot": "b", "state": "synchronised"}],
}
CONFIRMATION: Final[dict[str, Any]] = {
    "v": 1,
    "books": BOOKS,
    "n": 7,
    "held": {EPOCH: [[1, 5], [9, 12]]},
}
ASK: Final[dict[str, Any]] = {"v": 1, "books": BOOKS, "n": 8, "ranges": {EPOCH: [[6, 8]]}}
STATE: Final[dict[str, Any]] = {"v": 1, "gateway": "gw-0001", "online": True}
HEAD: Final[dict[str, Any]] = {"v": 1, "gateway": "gw-0001", "note": "portico/v1/gw-0001/evt/audit\n0\n"}

Decoder = Callable[[bytes], object]
DECODERS: Final[dict[str, tuple[Decoder, dict[str, Any]]]] = {
    "stream": (decode_stream, STREAM),
    "confirmation": (decode_confirmation, CONFIRMATION),
    "ask": (decode_ask, ASK),
    "state": (decode_state, STATE),
    "audit-head": (decode_audit_head, HEAD),
}


def body(document: object) -> bytes:
    return json.dumps(document).encode()


def refused(decode: Decoder, raw: bytes) -> str:
    """Return the sentence with which some bytes are refused; a test must not pass on an empty one."""
    with pytest.raises(WireError) as caught:
        decode(raw)
    assert len(str(caught.value)) > 10
    return str(caught.value)


@given(stream_messages())
def test_stream_message_of_every_record_type_reads_back(message: StreamMessage) -> None:
    header = msgspec.structs.replace(message, rows=[], records=[])
    rows = [
        row_bytes(row.seq, row_body(row.tick, row.group, row.offsets, row.values, row.quality))
        for row in message.rows
    ]
    written = encode_stream(header, rows, [encode_record(record) for record in message.records])
    assert decode_stream(written) == message
    assert json.loads(written)["first"] == message.first


@given(confirmations)
def test_confirmation_reads_back(message: Confirmation) -> None:
    assert decode_confirmation(encode_plain(message)) == message


@given(asks)
def test_question_reads_back(message: Ask) -> None:
    assert decode_ask(encode_plain(message)) == message


@given(states)
def test_state_reads_back(message: State) -> None:
    assert decode_state(encode_plain(message)) == message


@given(audit_heads)
def test_audit_head_reads_back(message: AuditHead) -> None:
    assert decode_audit_head(encode_plain(message)) == message


def test_audit_head_with_more_than_anybody_needs_is_refused() -> None:
    assert "64 proofs" in refused(decode_audit_head, body(HEAD | {"proofs": [{"size": 1}] * 65}))
    long = [{"size": 1, "path": ["AA=="] * 65}]
    assert "64 hashes" in refused(decode_audit_head, body(HEAD | {"proofs": long}))


@given(any_rows, sequences)
def test_row_in_the_store_becomes_the_row_of_the_wire_by_its_sequence(row: Row, seq: int) -> None:
    stored = row_body(row.tick, row.group, row.offsets, row.values, row.quality)
    assert msgspec.json.decode(row_bytes(seq, stored), type=Row) == msgspec.structs.replace(row, seq=seq)


@pytest.mark.parametrize("kind", DECODERS)
def test_the_samples_of_these_tests_are_good(kind: str) -> None:
    decode, document = DECODERS[kind]
    decode(body(document))


@pytest.mark.parametrize("kind", DECODERS)
@pytest.mark.parametrize("version", [0, 2, -1, "1", True, 1.5, None])
def test_another_version_is_refused(kind: str, version: object) -> None:
    decode, document = DECODERS[kind]
    refused(decode, body(document | {"v": version}))


@pytest.mark.parametrize("kind", DECODERS)
def test_a_member_that_is_not_known_is_refused_and_named(kind: str) -> None:
    decode, document = DECODERS[kind]
    assert "colour" in refused(decode, body(document | {"colour": "red"}))


@pytest.mark.parametrize("kind", DECODERS)
def test_members_that_a_later_version_adds_in_x_are_kept(kind: str) -> None:
    decode, document = DECODERS[kind]
    message = decode(body(document | {"x": {"ratios": {"3": 80}}}))
    assert isinstance(message, StreamMessage | Confirmation | Ask | State | AuditHead)
    assert message.x == {"ratios": {"3": 80}}


@pytest.mark.parametrize("kind", DECODERS)
def test_each_member_that_must_be_there_is_missed(kind: str) -> None:
    decode, document = DECODERS[kind]
    optional = {"rows", "records", "held", "ranges"}
    for name in document.keys() - optional:
        sentence = refused(decode, body({key: value for key, value in document.items() if key != name}))
        assert name in sentence


WRONG: Final = [None, True, "1", 1.5, [], {}, "ä", -1, EXACT + 1, 10**30, [[1]], {"a": 1}]


@pytest.mark.parametrize("kind", DECODERS)
def test_a_member_of_another_type_or_size_is_refused(kind: str) -> None:
    decode, document = DECODERS[kind]
    for name, good in document.items():
        for wrong in WRONG:
            if type(wrong) is type(good) and not (isinstance(wrong, int) and abs(wrong) != 1):
                continue
            refused(decode, body(document | {name: wrong}))


@pytest.mark.parametrize("kind", DECODERS)
@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b" ",
        b"null",
        b"[]",
        b"1",
        b'"',
        b"{",
        b"\x00",
        b"\xff\xfe\x00",
        b'{"v":1,"gateway":"\xff"}',
        b'{"v":NaN}',
        b'{"v":Infinity}',
        b'{"v":1e400}',
        b'{"v":' + b"9" * 5000 + b"}",
        b"[" * 100_000,
        b'{"x":{"a":' * 50_000,
        b'{"v":1,"rows":' + b"[" * 100_000,
    ],
    ids=lambda raw: repr(raw[:24]),
)
def test_what_is_no_message_is_refused(kind: str, raw: bytes) -> None:
    refused(DECODERS[kind][0], raw)


@pytest.mark.parametrize("kind", DECODERS)
def test_a_tail_behind_the_message_is_refused(kind: str) -> None:
    decode, document = DECODERS[kind]
    decode(body(document) + b" \n")
    for tail in (b"{}", b"x", b"\x00", b","):
        refused(decode, body(document) + tail)


@pytest.mark.parametrize("kind", DECODERS)
def test_of_a_member_that_occurs_twice_the_last_counts(kind: str) -> None:
    decode, document = DECODERS[kind]
    good = body(document)
    assert decode(b'{"v":2,' + good[1:]) == decode(good)
    refused(decode, good[:-1] + b',"v":2}')


@pytest.mark.parametrize("kind", DECODERS)
@given(st.binary(max_size=200))
def test_random_bytes_are_refused_and_nothing_else(kind: str, raw: bytes) -> None:
    refused(DECODERS[kind][0], raw)


changes = st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), min_size=1, max_size=4)


@pytest.mark.parametrize("kind", DECODERS)
@given(changes)
def test_changed_bytes_are_read_or_refused_and_nothing_else(kind: str, places: list[tuple[int, int]]) -> None:
    decode, document = DECODERS[kind]
    raw = bytearray(body(document))
    for place, value in places:
        raw[place % len(raw)] = value
    try:
        message = decode(bytes(raw))
    except WireError:
        return
    # What is taken can be written and read again: nothing half-read came through.
    assert isinstance(message, StreamMessage | Confirmation | Ask | State | AuditHead)
    assert decode(msgspec.json.encode(message)) == message


@given(manifests(), changes)
def test_changed_bytes_of_a_manifest_are_read_or_refused_and_nothing_else(
    manifest: object, places: list[tuple[int, int]]
) -> None:
    raw = bytearray(msgspec.json.encode(manifest))
    for place, value in places:
        raw[place % len(raw)] = value
    with contextlib.suppress(WireError):
        taken = decode_manifest(bytes(raw))
        assert decode_manifest(taken.encode()) == taken


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"first": 6}, "sequence 5 is outside the coverage"),
        ({"first": 10}, "coverage 10..9 is empty"),
        ({"first": 0}, ">= 1"),
        ({"last": 5}, "sequence 6 is outside the coverage"),
        ({"rows": [[10, *ROW[1:]]]}, "sequence 10 is outside"),
        ({"rows": [[7, *ROW[1:]], [6, *ROW[1:]]]}, "sequence 6 is outside the coverage or out of order"),
        ({"rows": [ROW, ROW]}, "sequence 5 is outside the coverage or out of order"),
        ({"rows": [[5, 1, 0]]}, "at least"),
        ({"rows": [[*ROW, {}, 1]]}, "at most"),
        ({"rows": [[5, -1, *ROW[2:]]]}, ">= 0"),
        ({"rows": [[5, True, *ROW[2:]]]}, "got `bool`"),
        ({"rows": [[*ROW[:4], [EXACT + 1]]]}, "<= 9007199254740992"),
        ({"rows": [[*ROW[:4], [[1]]]]}, "got `array`"),
        ({"manifest": ""}, "names no manifest"),
        ({"manifest": HASH.upper()}, "names no manifest"),
        ({"rows": [], "manifest": "odd"}, "names no manifest"),
        ({"gateway": ""}, "the gateway's name is empty"),
        ({"gateway": "a/b"}, "letters, digits"),
        ({"epoch": EPOCH.upper()}, "16 hexadecimal digits"),
        ({"epoch": EPOCH + "\n"}, "16 hexadecimal digits"),
        ({"books": "yesterday"}, "books id"),
        ({"records": [{"type": "dream", "seq": 5}]}, "dream"),
        ({"records": [{"seq": 5}]}, "type"),
        ({"manifests": [{"gateway": "gw-0001", "groups": [], "v": 2}]}, "version 2"),
    ],
    ids=lambda one: str(one)[:60],
)
def test_stream_that_contradicts_itself_is_refused(change: dict[str, object], sentence: str) -> None:
    assert sentence in refused(decode_stream, body(STREAM | change))


def test_a_gap_of_a_malformed_epoch_is_refused() -> None:
    gap = {
        "type": "gap",
        "seq": 5,
        "group": 1,
        "first_tick": 0,
        "last_tick": 0,
        "ticks": 1,
        "reason": "quota",
    }
    decode_stream(body(STREAM | {"records": [gap]}))
    quality = {
        "type": "quality",
        "seq": 5,
        "at": 0,
        "epoch": EPOCH + "\n",
        "first": 1,
        "last": 2,
        "group": 1,
        "reasons": [],
        "rule": "",
    }
    assert "records[0].epoch" in refused(decode_stream, body(STREAM | {"records": [quality]}))


BAD_RANGES: Final[list[object]] = [
    [[0, 1]],
    [[2, 1]],
    [[1, 5], [5, 6]],
    [[7, 9], [1, 2]],
    [[1]],
    [[1, 2, 3]],
    [[1, 2.5]],
    [[True, 2]],
    [1, 2],
    [[-3, -1]],
    [[1, EXACT + 1]],
]


@pytest.mark.parametrize("wrong", BAD_RANGES, ids=str)
@pytest.mark.parametrize(("kind", "name"), [("confirmation", "held"), ("confirmation", "control")])
def test_confirmation_of_impossible_ranges_is_refused(kind: str, name: str, wrong: object) -> None:
    refused(decode_confirmation, body(CONFIRMATION | {name: {EPOCH: wrong}}))


@pytest.mark.parametrize("wrong", BAD_RANGES, ids=str)
@pytest.mark.parametrize("name", ["ranges", "control"])
def test_question_for_impossible_ranges_is_refused(name: str, wrong: object) -> None:
    refused(decode_ask, body(ASK | {name: {EPOCH: wrong}}))


@pytest.mark.parametrize("epoch", ["", "0", EPOCH.upper(), EPOCH + "0", "g" * 16])
def test_ranges_of_a_malformed_epoch_are_refused(epoch: str) -> None:
    assert "is not an epoch" in refused(decode_confirmation, body(CONFIRMATION | {"held": {epoch: [[1, 2]]}}))
    assert "is not an epoch" in refused(decode_ask, body(ASK | {"control": {epoch: [[1, 2]]}}))


@pytest.mark.parametrize(
    "books", ["", "-", "1780000000000", "1780000000000-0", "x" * 22, "٣" * 13 + "-00c0ffee"]
)
def test_malformed_books_id_is_refused(books: str) -> None:
    assert "books id" in refused(decode_confirmation, body(CONFIRMATION | {"books": books}))
    assert "books id" in refused(decode_ask, body(ASK | {"books": books}))


def test_question_for_a_manifest_by_a_malformed_name_is_refused() -> None:
    assert "not the name of a manifest" in refused(decode_ask, body(ASK | {"manifests": ["latest"]}))


@pytest.mark.parametrize("value", [EXACT, -EXACT, str(2**64 - 1), 0.1, 1e-300, "x", True, None])
def test_value_in_a_stored_row_comes_out_as_it_went_in(value: Value) -> None:
    row = msgspec.json.decode(row_bytes(1, row_body(0, 1, [0], [value], {})), type=Row)
    assert row.values == [value]
    assert type(row.values[0]) is type(value)
