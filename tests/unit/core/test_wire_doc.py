"""docs/wire.md against the code: every example is read from the page, verified and decoded."""

import base64
import json
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key

from core import codec
from core.codec import (
    HEAD,
    carried_certificate,
    decode_ask,
    decode_audit_head,
    decode_confirmation,
    decode_state,
    decode_stream,
    row_fault,
    unseal,
)
from core.errors import TrustError, WireError
from core.ids import name_fault
from core.manifest import Manifest, decode_manifest
from core.quality import is_reason
from core.records import ManifestRecord, Record, StreamMessage
from core.topics import ROOT, Lane, StreamTopic
from core.wire_schema import BODIES, schema
from tests.unit.core.wire_examples import DOCUMENT, examples, gateway_key, public_keys
from tests.unit.core.wire_made import Key, ed25519_key, p256_key

TEXT: Final = DOCUMENT.read_text("utf-8")
DECODE: Final[dict[str, Callable[[bytes], msgspec.Struct]]] = {
    "stream": decode_stream,
    "confirm": decode_confirmation,
    "ask": decode_ask,
    "state": decode_state,
    "evt": decode_audit_head,
    "manifest": decode_manifest,
}


@dataclass(frozen=True)
class Shown:
    """An example as it stands on the page."""

    name: str
    topic: str
    size: int
    body_size: int
    document: dict[str, Any]
    sealed: bytes

    @property
    def branch(self) -> str:
        return self.topic.split("/")[3]

    @property
    def key_name(self) -> str:
        return "collector key" if self.branch in ("confirm", "ask") else "gateway key"


_EXAMPLE: Final = re.compile(
    r"<!-- made: (\w+) -->\nTopic `([^`]+)`, (\d+) bytes, body (\d+) bytes:\n\n"
    r"```json\n(.*?)```\n\n```base64\n(.*?)```\n<!-- end -->",
    re.DOTALL,
)
SHOWN: Final = [
    Shown(name, topic, int(size), int(body), json.loads(document), base64.b64decode(sealed.replace("\n", "")))
    for name, topic, size, body, document, sealed in _EXAMPLE.findall(TEXT)
]
PEMS: Final = dict(re.findall(r"<!-- made: (\w+ key) -->\n```pem\n(.*?)```\n<!-- end -->", TEXT, re.DOTALL))


def key_on_the_page(name: str) -> Key:
    """Return what the page prints as a key, for verifying alone."""
    public = load_pem_public_key(PEMS[name].encode())
    assert isinstance(public, ed25519.Ed25519PublicKey | ec.EllipticCurvePublicKey)
    kid = sha256(public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).digest()[:8]
    model = ed25519_key() if isinstance(public, ed25519.Ed25519PublicKey) else p256_key()

    def check(signature: bytes, message: bytes) -> None:
        if isinstance(public, ed25519.Ed25519PublicKey):
            public.verify(signature, message)
        else:
            public.verify(der(signature[:32], signature[32:]), message, ec.ECDSA(SHA256()))

    return Key(model.alg, kid, model.sign, check)


def der(r: bytes, s: bytes) -> bytes:
    """Return r and s as ASN.1 SEQUENCE of two INTEGERs, written by hand (X.690 §8.3)."""
    numbers = [int.from_bytes(one, "big") for one in (r, s)]
    octets = [number.to_bytes(number.bit_length() // 8 + 1, "big") for number in numbers]
    inner = b"".join(bytes([2, len(one)]) + one for one in octets)
    return bytes([0x30, len(inner)]) + inner


def body_of(shown: Shown) -> bytes:
    return unseal(shown.topic, shown.sealed, key_on_the_page(shown.key_name).verify)


def by_name(shown: Shown) -> str:
    return shown.name


def test_page_shows_every_example_that_the_code_makes_and_no_other() -> None:
    assert [shown.name for shown in SHOWN] == sorted(
        (one.name for one in examples()), key=lambda name: TEXT.index(f"<!-- made: {name} -->")
    )
    assert {shown.name for shown in SHOWN} == {one.name for one in examples()}
    assert public_keys() == PEMS
    assert {shown.branch for shown in SHOWN} == set(BODIES)


@pytest.mark.parametrize("shown", SHOWN, ids=by_name)
def test_example_verifies_by_the_key_on_the_page_and_on_its_topic_alone(shown: Shown) -> None:
    key = key_on_the_page(shown.key_name)
    assert shown.sealed[:2] == b"P1"
    assert shown.sealed[4:12] == key.kid
    assert len(shown.sealed) == shown.size
    assert len(body_of(shown)) == shown.body_size
    with pytest.raises(TrustError):
        unseal(shown.topic + "x", shown.sealed, key.verify)


@pytest.mark.parametrize("shown", SHOWN, ids=by_name)
def test_example_says_what_the_page_says_and_the_code_writes_the_same_bytes(shown: Shown) -> None:
    body = body_of(shown)
    assert json.loads(body) == shown.document
    message = DECODE[shown.branch](body)
    assert type(message) is BODIES[shown.branch]
    made = next(one for one in examples() if one.name == shown.name)
    assert (body, shown.topic) == (made.body, made.topic), "run python -m tests.unit.core.wire_examples"
    again = msgspec.json.decode(msgspec.json.encode(message))
    for row in again.get("rows", []):
        row[5:] = [quality for quality in row[5:] if quality]
    assert again == shown.document, "a member with its default is left out"


@pytest.mark.parametrize("shown", SHOWN, ids=by_name)
def test_example_has_no_member_that_the_page_does_not_explain(shown: Shown) -> None:
    names = {
        name
        for match in re.finditer(r'"(\w+)": ', json.dumps(shown.document))
        if (name := match[1]) not in ("device", "intact", "code", "text", "quantity")
    }
    quoted = set(re.findall(r"`(\w+)`", TEXT))
    assert {name for name in names if not name.isdigit() and not re.fullmatch("[0-9a-f]{16}", name)} <= quoted


def stream(name: str) -> StreamMessage:
    return decode_stream(body_of(next(shown for shown in SHOWN if shown.name == name)))


def manifest_on_the_page() -> Manifest:
    record = stream("start").records[1]
    assert isinstance(record, ManifestRecord)
    assert record.hash == record.manifest.hash()
    return record.manifest


def test_rows_on_the_page_fit_the_manifest_on_the_page() -> None:
    manifest = manifest_on_the_page()
    message = stream("rows")
    assert message.manifest == manifest.hash()
    groups = manifest.group_by_number()
    assert message.rows
    assert [row_fault(row, groups[row.group]) for row in message.rows] == [None] * len(message.rows)
    assert all(is_reason(name) for row in message.rows for names in row.quality.values() for name in names)


def test_name_of_the_manifest_is_the_hash_of_its_bytes_as_they_stand_in_the_message() -> None:
    body = body_of(next(shown for shown in SHOWN if shown.name == "start"))
    begin = body.index(b'"manifest":{') + len(b'"manifest":')
    _, length = json.JSONDecoder().raw_decode(body[begin:].decode())
    raw = body[begin:].decode()[:length].encode()
    assert sha256(raw).hexdigest()[:32] == manifest_on_the_page().hash()
    retained = next(shown for shown in SHOWN if shown.name == "manifest")
    assert body_of(retained) == raw


def test_certificate_on_the_page_is_of_the_key_on_the_page_and_is_found_unverified() -> None:
    start = next(shown for shown in SHOWN if shown.name == "start")
    carried = carried_certificate(start.sealed)
    assert carried is not None
    certificate = x509.load_der_x509_certificate(carried)
    assert certificate.subject.rfc4514_string() == "OU=stream,CN=gw-0001"
    public = certificate.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    assert public.decode() == PEMS["gateway key"]


def test_examples_show_both_forms_both_algorithms_and_every_lane() -> None:
    assert {shown.sealed[2:3] for shown in SHOWN} == {b"e", b"p"}
    assert {shown.sealed[3:4] for shown in SHOWN} == {b"j", b"z"}
    lanes = {StreamTopic.parse(shown.topic) for shown in SHOWN if shown.branch == "stream"}
    assert {lane.lane for lane in lanes if lane is not None} == set(Lane)


def test_records_on_the_page_are_all_that_there_are_but_the_reserved_one() -> None:
    shown = {type(record) for name in ("start", "rows", "later", "alarm") for record in stream(name).records}
    assert {kind.__name__ for kind in Record.__args__} - {kind.__name__ for kind in shown} == {"Outcome"}


def snippet(language: str) -> str:
    found = re.findall(rf"```{language}\n(.*?)```", TEXT, re.DOTALL)
    assert len(found) == 1
    return str(found[0])


@pytest.mark.parametrize("shown", SHOWN, ids=by_name)
def test_python_on_the_page_opens_the_examples_and_refuses_a_changed_one(shown: Shown) -> None:
    space: dict[str, Any] = {}
    exec(snippet("python"), space)  # noqa: S102 - the page's own code is what is tested
    pem = PEMS[shown.key_name].encode()
    assert space["opened"](shown.topic, shown.sealed, pem) == shown.document
    with pytest.raises(InvalidSignature):
        space["opened"](shown.topic, shown.sealed[:-1] + b"?", pem)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
@pytest.mark.parametrize("good", [True, False], ids=["good", "changed"])
def test_shell_on_the_page_verifies_the_example(tmp_path: Path, good: bool) -> None:
    shown = next(one for one in SHOWN if one.name == "rows")
    sealed = shown.sealed if good else shown.sealed[:HEAD] + b"?" + shown.sealed[HEAD + 1 :]
    script = snippet("sh")
    assert shown.topic in script
    (tmp_path / "message.b64").write_bytes(base64.encodebytes(sealed))
    (tmp_path / "gateway.pem").write_text(PEMS["gateway key"])
    ran = subprocess.run(["sh", "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=30)
    if "rawin" in ran.stderr and "Usage" in ran.stderr:
        pytest.skip("this openssl is older than 3")
    assert (ran.returncode == 0) is good, ran.stderr
    assert ("Verified Successfully" in ran.stdout) is good


def test_schema_is_that_of_the_types() -> None:
    kept = DOCUMENT.with_name("wire.schema.json").read_text("utf-8")
    assert kept == schema(), "run python -m core.wire_schema > docs/wire.schema.json"


def test_schema_refuses_as_the_decoder_does() -> None:
    definitions = json.loads(schema())["$defs"]
    for body in BODIES.values():
        assert definitions[body.__name__]["additionalProperties"] is False
    assert definitions["StreamMessage"]["properties"]["first"] == {
        "type": "integer",
        "minimum": 1,
        "maximum": codec.EXACT,
    }
    for record in Record.__args__:
        assert definitions[record.__name__]["additionalProperties"] is False
    assert set(definitions["StreamMessage"]["required"]) == {
        "v",
        "gateway",
        "epoch",
        "first",
        "last",
        "manifest",
        "sent",
    }


def test_limits_on_the_page_are_those_of_the_code() -> None:
    assert f"| sealed message | {codec.MAX_SEALED >> 20} MiB" in TEXT
    assert f"| body after decompression | {codec.MAX_BODY >> 20} MiB" in TEXT
    assert f"The first {codec.SEARCHED >> 10} KiB".lower() in TEXT.lower()
    assert f"above {codec.COMPRESS_ABOVE} bytes" in TEXT
    assert f"| 12-{HEAD - 1} | signature" in TEXT
    assert codec.EXACT == 2**53


def test_topics_on_the_page_are_those_of_the_grammar() -> None:
    for branch in BODIES:
        assert f"`{ROOT}/<gateway>/{branch}" in TEXT
    for lane in Lane:
        assert f"`{ROOT}/<gateway>/stream/<entity>/{lane.value}`" in TEXT
    for shown in SHOWN:
        assert name_fault(shown.topic.split("/")[2]) is None


def test_gateway_key_is_the_one_that_signs() -> None:
    assert gateway_key().kid == key_on_the_page("gateway key").kid
    with pytest.raises(WireError):
        decode_state(body_of(next(shown for shown in SHOWN if shown.branch == "confirm")))
