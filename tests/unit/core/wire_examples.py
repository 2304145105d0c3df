"""The examples of docs/wire.md: ``python -m tests.unit.core.wire_examples`` writes them there again.

Made with keys that are printed in the document and worth nothing, by the codec itself, so that the
document shows bytes that were on a wire.  ``test_wire_doc.py`` reads them back from the document.
"""

import base64
import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.x509.oid import NameOID

from certs.note import signed_note
from core.checkpoint import Checkpoint
from core.codec import encode_plain, encode_record, encode_stream, row_body, row_bytes, seal
from core.manifest import Group, Manifest, Point, ValueKind
from core.merkle import Tree, leaf_hash
from core.ownership import Ownership
from core.records import (
    Alarm,
    Ask,
    AuditHead,
    AuditProof,
    Before,
    Clock,
    Confirmation,
    Extension,
    Gap,
    ManifestRecord,
    QualityRecord,
    Start,
    State,
    StreamMessage,
)
from core.topics import Lane, StreamTopic, ask_topic, audit_topic, confirm_topic, manifest_topic, state_topic
from tests.unit.core.wire_made import Key, ed25519_key, p256_key

DOCUMENT: Final = Path(__file__).parents[3] / "docs" / "wire.md"
GATEWAY: Final = "gw-0001"
ENTITY: Final = "dso.example"
EPOCH: Final = "5f0c9ae1b2d34477"
BEFORE: Final = "c2a96d10e87b4f35"
BOOKS: Final = "1795000000000-8d1f03ac"
AT: Final = 1_795_348_800_000
SEED: Final = sha256(b"portico wire example, gateway").digest()
NUMBER: Final = int.from_bytes(sha256(b"portico wire example, collector").digest(), "big") >> 1

OWNER: Final = Ownership(ENTITY, (ENTITY, "esco.example"), ENTITY, ENTITY, "settlement")
TENANT: Final = Ownership(ENTITY, (ENTITY,), ENTITY, ENTITY, valid_from_ms=1_788_220_800_000)
MANIFEST: Final = Manifest(
    GATEWAY,
    (
        Group(
            1,
            "main-meter",
            "eastron-sdm630",
            10_000,
            (
                Point("PhVphA", "PhVphA", "V", ValueKind.DECIMAL),
                Point("W", "W", "W", ValueKind.INTEGER, -1),
                Point("TotWhImp", "TotWhImp", "Wh", ValueKind.INTEGER, 0, 1, True),
                Point("serial", "SN", "", ValueKind.TEXT, 0, 1),
            ),
            (OWNER,),
            2,
            usage_point="UP-4711",
        ),
        Group(
            2,
            "boiler",
            "load-relay",
            10_000,
            (Point("on", "on", "", ValueKind.BOOLEAN),),
            (TENANT,),
            phase_ms=1000,
        ),
    ),
)


@dataclass(frozen=True)
class Example:
    """One sealed message: where it goes, what it says and who signs."""

    name: str
    topic: str
    body: bytes
    key: Key


def gateway_key() -> Key:
    """Return the key of the gateway in the examples."""
    return ed25519_key(SEED)


def collector_key() -> Key:
    """Return the key of the collector in the examples."""
    return p256_key(NUMBER)


def public_keys() -> dict[str, str]:
    """Return the public keys in PEM, by the name under which the document shows them."""
    publics: dict[str, ed25519.Ed25519PublicKey | ec.EllipticCurvePublicKey] = {
        "gateway key": ed25519.Ed25519PrivateKey.from_private_bytes(SEED).public_key(),
        "collector key": ec.derive_private_key(NUMBER, ec.SECP256R1()).public_key(),
    }
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return {
        name: key.public_bytes(serialization.Encoding.PEM, form).decode() for name, key in publics.items()
    }


def certificate() -> str:
    """Return a certificate of the gateway's key, as a message brings it."""
    key = ed25519.Ed25519PrivateKey.from_private_bytes(SEED)
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.COMMON_NAME, GATEWAY),
            x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, "stream"),
        ]
    )
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "wire example")]))
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(datetime(2026, 1, 1, tzinfo=UTC))
        .not_valid_after(datetime(2046, 1, 1, tzinfo=UTC))
        .sign(key, None)
    )
    return base64.b64encode(made.public_bytes(serialization.Encoding.DER)).decode()


def audit_head() -> AuditHead:
    """Return the head of a log of five entries, with the proof from its first three."""
    leaves = [leaf_hash(b"entry %d" % number) for number in range(1, 6)]
    tree = Tree(lambda begin, end: leaves[begin:end])
    origin = audit_topic(GATEWAY)
    key = ed25519.Ed25519PrivateKey.from_private_bytes(SEED)
    text = Checkpoint(origin, 5, tree.root(5)).text()
    path = [base64.b64encode(one).decode() for one in tree.consistency(3, 5)]
    note = signed_note(text, origin, key.public_key(), key.sign)
    return AuditHead(1, GATEWAY, note, AT + 900_000, [AuditProof(3, path)])


def examples() -> list[Example]:
    """Return every example, in the order of the document."""
    gateway, collector = gateway_key(), collector_key()
    digest = MANIFEST.view(ENTITY).hash()

    def stream(name: str, lane: Lane, header: StreamMessage, rows: list[bytes], *records: bytes) -> Example:
        topic = str(StreamTopic(GATEWAY, ENTITY, lane))
        return Example(name, topic, encode_stream(header, rows, list(records)), gateway)

    start = Start(
        seq=1,
        at=AT + 2_310,
        ended="crash",
        boot="1d3f5ba2-7a0e-4f0e-9a4e-0c2b5ad0f9b1",
        clock="synchronised",
        software="portico 0.1.0",
        before=[Before(BEFORE, 90_211, 12)],
        ticks={MANIFEST.groups[0].key: AT - 60_000},
    )
    first = stream(
        "start",
        Lane.LIVE,
        StreamMessage(
            1, GATEWAY, EPOCH, 1, 2, digest, AT + 2_450, books=BOOKS, n=4711, within=5, cert=certificate()
        ),
        [],
        encode_record(start),
        encode_record(ManifestRecord(2, digest, MANIFEST.view(ENTITY))),
    )
    rows = [
        row_bytes(4, row_body(AT + 10_000, 1, [14, 31], [230.1, 4182, "9007199254740993", "23070145"], {})),
        row_bytes(6, row_body(AT + 11_000, 2, [9], [True], {})),
        row_bytes(
            7,
            row_body(
                AT + 20_000, 1, [12, 1012], [229.9, 4190, None, None], {"2": ["timeout"], "3": ["timeout"]}
            ),
        ),
        row_bytes(8, row_body(AT + 21_000, 2, [1003], [None], {"*": ["timeout"]})),
    ]
    gap = Gap(3, 1, AT - 50_000, AT, 6, "crashed")
    second = stream(
        "rows",
        Lane.LIVE,
        StreamMessage(1, GATEWAY, EPOCH, 3, 8, digest, AT + 22_480, books=BOOKS, n=4712, within=5),
        rows,
        encode_record(gap),
    )
    third = stream(
        "later",
        Lane.BACKLOG,
        StreamMessage(1, GATEWAY, EPOCH, 9, 12, digest, AT + 95_000, books=BOOKS, n=4713, within=5),
        [],
        encode_record(Clock(9, AT + 27_000, start.boot, "synchronised", -3_000, 912_345)),
        encode_record(QualityRecord(10, AT + 60_000, EPOCH, 4, 7, 1, ["stale"], "frozen-register", [2])),
        encode_record(Gap(11, 0, 0, 0, 0, "quota", epoch=BEFORE, dropped=[(1, 20_000)])),
        encode_record(Extension(12, AT + 90_000, "seal-state", {"device": "main-meter", "intact": True})),
    )
    fourth = stream(
        "alarm",
        Lane.CONTROL,
        StreamMessage(1, GATEWAY, EPOCH, 1, 1, "", AT + 23_000, books=BOOKS, n=4712, within=5),
        [],
        encode_record(
            Alarm(1, AT + 22_900, "device-silent", True, "device boiler gives no answer", "boiler")
        ),
    )
    confirmation = Confirmation(
        1, BOOKS, 4713, {EPOCH: [(1, 8)], BEFORE: [(20_001, 90_211)]}, {EPOCH: [(1, 1)]}, at=AT + 23_400
    )
    ask = Ask(
        1,
        BOOKS,
        4714,
        {EPOCH: [(9, 12)]},
        [digest],
        at=AT + 100_000,
        text="sequences 9 to 12 were refused: their manifest has not arrived",
    )
    state = State(1, GATEWAY, True, AT + 2_400, EPOCH, "portico 0.1.0", "synchronised", "b5e80f3c19d2a764")
    return [
        first,
        second,
        third,
        fourth,
        Example("confirmation", confirm_topic(GATEWAY, ENTITY), encode_plain(confirmation), collector),
        Example("question", ask_topic(GATEWAY, ENTITY), encode_plain(ask), collector),
        Example("state", state_topic(GATEWAY), encode_plain(state), gateway),
        Example("audit", audit_topic(GATEWAY), encode_plain(audit_head()), gateway),
        Example("manifest", manifest_topic(GATEWAY, ENTITY), MANIFEST.view(ENTITY).encode(), gateway),
    ]


def shown(body: bytes) -> str:
    """Return a body as people want to read it: a line a member, a line a row or record."""
    lines = []
    for name, value in json.loads(body).items():
        if isinstance(value, list) and value and not isinstance(value[0], str):
            inner = ",\n".join(f"    {json.dumps(one, ensure_ascii=False)}" for one in value)
            lines.append(f'  "{name}": [\n{inner}\n  ]')
        else:
            lines.append(f'  "{name}": {json.dumps(value, ensure_ascii=False)}')
    return "{\n" + ",\n".join(lines) + "\n}\n"


def block(example: Example) -> str:
    """Return an example as it stands in the document."""
    sealed = base64.b64encode(seal(example.topic, example.body, example.key)).decode()
    wrapped = "\n".join(sealed[at : at + 100] for at in range(0, len(sealed), 100))
    plain, payload = len(example.body), len(base64.b64decode(sealed))
    return (
        f"Topic `{example.topic}`, {payload} bytes, body {plain} bytes:\n\n"
        f"```json\n{shown(example.body)}```\n\n```base64\n{wrapped}\n```\n"
    )


def written(text: str) -> str:
    """Return the document with its examples and keys made anew."""
    parts = {example.name: block(example) for example in examples()}
    parts |= {name: f"```pem\n{pem}```\n" for name, pem in public_keys().items()}
    for name, part in parts.items():
        mark = re.compile(rf"(<!-- made: {re.escape(name)} -->\n).*?(<!-- end -->)", re.DOTALL)
        text, count = mark.subn(lambda found, part=part: f"{found[1]}{part}{found[2]}", text)  # type: ignore[misc]
        if count != 1:
            raise ValueError(f"the document has {count} places for {name!r}")
    return text


if __name__ == "__main__":
    DOCUMENT.write_text(written(DOCUMENT.read_text("utf-8")), "utf-8")
