"""Sealed messages: who signed what for which topic, and nothing is believed before that is known."""

import base64
import contextlib
import json
import zlib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.codec import (
    COMPRESS_ABOVE,
    HEAD,
    MAGIC,
    MAX_SEALED,
    SEARCHED,
    carried_certificate,
    seal,
    signed_bytes,
    unseal,
)
from core.errors import PorticoError, TrustError, UnknownKey, WireError
from tests.unit.core.wire_made import Key, ed25519_key, p256_key

TOPIC = "portico/v1/gw-0001/stream/dso.example/live"
KEYS = [pytest.param(ed25519_key(), id="Ed25519"), pytest.param(p256_key(), id="P-256")]
SHORT = b'{"v":1}'
LONG = json.dumps(
    {"v": 1, "rows": [[n, 1, 1780000000000 + n, [3], [n * 7 % 13]] for n in range(100)]}
).encode()
CERTIFICATE = bytes(range(256)) * 2


def anybody(kid: bytes, alg: str, signature: bytes, message: bytes) -> None:
    """Hold every signature for good: for what comes behind it."""


@pytest.mark.parametrize("key", KEYS)
@given(st.binary(max_size=600), st.integers(1, 9))
def test_what_is_sealed_is_opened(key: Key, body: bytes, level: int) -> None:
    message = seal(TOPIC, body, key, level)
    assert unseal(TOPIC, message, key.verify) == body
    assert message[:3] == MAGIC + key.alg.encode()
    assert message[4:12] == key.kid
    assert message[3:4] == (b"z" if len(body) > COMPRESS_ABOVE else b"j")
    assert len(message) >= HEAD


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("body", [SHORT, LONG], ids=["plain", "compressed"])
def test_every_flipped_bit_is_refused(key: Key, body: bytes) -> None:
    message = seal(TOPIC, body, key)
    for place in range(len(message)):
        # In the long middle of a body one bit in a byte is enough; in header and signature all count.
        bits = range(8) if place < HEAD + 8 else [place % 8]
        for bit in bits:
            broken = bytearray(message)
            broken[place] ^= 1 << bit
            with pytest.raises((WireError, TrustError)):
                unseal(TOPIC, bytes(broken), key.verify)


def test_no_byte_of_a_message_is_outside_its_signature() -> None:
    key = ed25519_key()
    message = seal(TOPIC, SHORT, key)
    key.check(message[12:HEAD], signed_bytes(TOPIC, message[:12], message[HEAD:]))
    seen: set[bytes] = set()
    changed = [
        b"P1pj" + message[4:],
        b"P1ez" + message[4:],
        MAGIC + b"ej" + bytes(8) + message[12:],
        message + b" ",
    ]
    for one in changed:
        with contextlib.suppress(WireError):  # the form that is wrong now shows after the signature
            unseal(TOPIC, one, lambda kid, alg, signature, signed: seen.add(signed))
    assert len(seen) == len(changed)
    assert signed_bytes(TOPIC, message[:12], message[HEAD:]) not in seen


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize(
    "elsewhere",
    [
        "portico/v1/gw-0002/stream/dso.example/live",
        "portico/v1/gw-0001/stream/esco.example/live",
        "portico/v1/gw-0001/stream/dso.example/backlog",
        "portico/v1/gw-0001/confirm/dso.example",
        TOPIC + "\n",
        "",
    ],
)
def test_message_moved_to_another_topic_is_refused(key: Key, elsewhere: str) -> None:
    with pytest.raises(TrustError):
        unseal(elsewhere, seal(TOPIC, SHORT, key), key.verify)


@pytest.mark.parametrize("cut", [0, 1, 2, 11, HEAD - 1])
def test_message_that_ends_in_its_header_is_refused(cut: int) -> None:
    key = ed25519_key()
    with pytest.raises(WireError, match="does not begin with P1"):
        unseal(TOPIC, seal(TOPIC, SHORT, key)[:cut], key.verify)


def test_message_of_another_key_names_the_key_that_is_missing() -> None:
    with pytest.raises(UnknownKey) as caught:
        unseal(TOPIC, seal(TOPIC, SHORT, p256_key(5)), p256_key(6).verify)
    assert caught.value.kid == p256_key(5).kid


@pytest.mark.parametrize(("alg", "form"), [(b"x", b"j"), (b"e", b"x"), (b"\0", b"\0"), (b"E", b"J")])
def test_unknown_algorithm_or_form_is_refused_before_any_key_is_asked_for(alg: bytes, form: bytes) -> None:
    with pytest.raises(WireError, match="is not known"):
        unseal(TOPIC, MAGIC + alg + form + bytes(72) + SHORT, ed25519_key().verify)


def test_message_longer_than_any_may_be_is_refused_unread() -> None:
    def asked(kid: bytes, alg: str, signature: bytes, message: bytes) -> None:
        raise AssertionError("the signature of an oversized message was judged")

    with pytest.raises(WireError, match=f"at most {MAX_SEALED}"):
        unseal(TOPIC, MAGIC + b"ej" + bytes(72 + MAX_SEALED), asked)


def sealed_by_hand(form: bytes, body: bytes) -> bytes:
    return MAGIC + b"e" + form + bytes(72) + body


def test_bomb_is_not_unpacked_beyond_the_limit() -> None:
    bomb = sealed_by_hand(b"z", zlib.compress(bytes(64 << 20), 9))
    assert len(bomb) < 1 << 17
    with pytest.raises(WireError, match="holds more than the 33554432 bytes"):
        unseal(TOPIC, bomb, anybody)
    with pytest.raises(WireError, match="holds more than the 1000 bytes"):
        unseal(TOPIC, bomb, anybody, limit=1000)


def test_body_of_exactly_the_limit_is_opened_and_one_byte_more_is_not() -> None:
    for form, pack in ((b"j", bytes), (b"z", zlib.compress)):
        assert unseal(TOPIC, sealed_by_hand(form, pack(bytes(1000))), anybody, limit=1000) == bytes(1000)
        with pytest.raises(WireError, match="1000 "):
            unseal(TOPIC, sealed_by_hand(form, pack(bytes(1001))), anybody, limit=1000)


@pytest.mark.parametrize(
    "damage",
    [
        lambda packed: packed[:-1],
        lambda packed: packed[:5],
        lambda packed: packed + b"\0",
        lambda packed: packed + packed,
        lambda packed: b"",
        lambda packed: b"{}" + packed,
        lambda packed: packed[2:-4],
    ],
    ids=["cut", "almost nothing", "tail", "two streams", "empty", "not zlib", "raw deflate"],
)
def test_damaged_compression_is_refused(damage: Callable[[bytes], bytes]) -> None:
    with pytest.raises(WireError, match="compressed body"):
        unseal(TOPIC, sealed_by_hand(b"z", damage(zlib.compress(LONG))), anybody)


@given(st.binary(max_size=300))
def test_random_bytes_are_refused_and_nothing_else(raw: bytes) -> None:
    for payload in (raw, MAGIC + raw, MAGIC + b"ez" + raw, sealed_by_hand(b"z", raw)):
        with pytest.raises(PorticoError, match=r".{10}"):
            unseal(TOPIC, payload, ed25519_key().verify)


def bearing(certificate: bytes, rows: str = "") -> bytes:
    return f'{{"v":1,"cert":"{base64.b64encode(certificate).decode()}"{rows}}}'.encode()


@pytest.mark.parametrize("form", [b"j", b"z"])
def test_certificate_that_a_message_brings_is_found(form: bytes) -> None:
    body = bearing(CERTIFICATE)
    assert (
        carried_certificate(sealed_by_hand(form, zlib.compress(body) if form == b"z" else body))
        == CERTIFICATE
    )


def test_certificate_is_found_before_any_number_of_rows() -> None:
    body = bearing(
        CERTIFICATE, ',"rows":[' + ",".join(f"[{n},1,0,[1],[{n * 17}]]" for n in range(30_000)) + "]"
    )
    assert len(body) > 4 * SEARCHED
    assert carried_certificate(seal(TOPIC, body, ed25519_key())) == CERTIFICATE


@pytest.mark.parametrize(
    "body", [b"{}", b'{"cert":""}', b'{"cert":"#"}', b'{"cert":"abc"}', b'{"cert":1}', b"\xff", b"[" * 1000]
)
def test_message_without_a_certificate_brings_none(body: bytes) -> None:
    assert carried_certificate(sealed_by_hand(b"j", body)) is None


def test_certificate_is_not_looked_for_in_what_is_not_searched() -> None:
    late = b'{"rows":[' + b"0," * SEARCHED + b'0],"cert":"' + base64.b64encode(CERTIFICATE) + b'"}'
    assert carried_certificate(sealed_by_hand(b"j", late)) is None
    assert carried_certificate(sealed_by_hand(b"z", zlib.compress(late))) is None


@given(st.binary(max_size=400), st.integers(0, 10_000))
def test_search_for_a_certificate_never_fails(raw: bytes, cut: int) -> None:
    packed = zlib.compress(bearing(CERTIFICATE))
    cut_short = packed[: cut % len(packed)] + raw
    for body in (raw, b'{"cert":"' + raw + b'"}', packed + raw, cut_short):
        for form in (b"j", b"z"):
            found = carried_certificate(sealed_by_hand(form, body))
            assert found is None or isinstance(found, bytes)
    for payload in (raw, MAGIC + raw):
        assert carried_certificate(payload) is None
