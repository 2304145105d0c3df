"""Bytes of the wire: sealed (signed, perhaps compressed) and opened, strict both ways.

A sealed message is::

    "P1"  alg  form  kid  signature  body
    2     1    1     8    64         …      bytes

``alg`` is ``e`` (Ed25519) or ``p`` (ECDSA P-256 with SHA-256, raw r||s); ``form``
is ``j`` (JSON) or ``z`` (JSON compressed by zlib, RFC 1950); ``kid`` is the first
8 bytes of the SHA-256 of the signer's public key (SubjectPublicKeyInfo, DER).
The signature is over ``"portico/v1 signed\\n" + topic + "\\n"``, the 12 bytes before it,
and the body: nothing in a message is outside it, and a message that somebody moved to
another topic does not verify.

Who may sign what is not judged here: :class:`Verifier` does that.  Nothing is
decompressed or parsed before its signature holds, save the first 64 KiB in search of
a certificate (:func:`carried_certificate`).
"""

import base64
import re
import zlib
from typing import Protocol, TypeVar

import msgspec

from core.errors import WireError
from core.ids import books_born_ms, is_epoch, is_hash, name_fault
from core.manifest import EXACT as EXACT
from core.manifest import Group, Value, ValueKind, manifest_fault, manifest_name
from core.quality import reason_fault
from core.records import Ask, AuditHead, Confirmation, Record, Row, State, StreamMessage

MAGIC = b"P1"
HEAD = 76
"""Bytes before the body."""
MAX_SEALED = 4 << 20
"""Longest message accepted, bytes as received."""
MAX_BODY = 32 << 20
"""Longest body accepted after decompression, bytes: a bound against bombs."""
COMPRESS_ABOVE = 200
"""Bodies up to this many bytes stay plain JSON: below, zlib gains little."""
MAX_PROOFS = 64
MAX_PATH = 64
"""Hashes in a proof: a log of 2^64 entries needs no more."""
SEARCHED = 64 << 10
"""How much of a body is searched for a certificate before the signature is known to hold, bytes."""


class Signer(Protocol):
    """Signs as one identity; see ``certs.signing.SigningKey``."""

    @property
    def kid(self) -> bytes: ...
    @property
    def alg(self) -> str: ...
    def sign(self, message: bytes) -> bytes: ...


class Verifier(Protocol):
    """Judges a signature: raises ``UnknownKey`` or another ``TrustError``, else returns."""

    def __call__(self, kid: bytes, alg: str, signature: bytes, message: bytes) -> None: ...


def signed_bytes(topic: str, start: bytes, body: bytes) -> bytes:
    """Return what the signature of a message is over; ``start`` is its first 12 bytes."""
    return b"".join((b"portico/v1 signed\n", topic.encode(), b"\n", start, body))


def seal(topic: str, body: bytes, signer: Signer, level: int = 6) -> bytes:
    """Return the signed message for a topic; compressed by zlib at ``level`` when the body is long."""
    form = b"j"
    if len(body) > COMPRESS_ABOVE:
        form, body = b"z", zlib.compress(body, level)
    start = b"".join((MAGIC, signer.alg.encode(), form, signer.kid))
    return b"".join((start, signer.sign(signed_bytes(topic, start, body)), body))


def unseal(topic: str, payload: bytes, verify: Verifier, limit: int = MAX_BODY) -> bytes:
    """Return the body, at most ``limit`` bytes long, of a message whose signature holds.

    Raises :class:`WireError` for bytes that are no message, and what ``verify`` raises.
    """
    if len(payload) > MAX_SEALED:
        raise WireError(f"a message of {len(payload)} bytes, at most {MAX_SEALED} are accepted")
    if len(payload) < HEAD or payload[:2] != MAGIC:
        raise WireError("not a Portico message: it does not begin with P1 and a signature")
    alg, form = payload[2:3], payload[3:4]
    if alg not in (b"e", b"p") or form not in (b"j", b"z"):
        raise WireError(f"signature algorithm {alg!r} or form {form!r} is not known")
    body = payload[HEAD:]
    verify(payload[4:12], alg.decode(), payload[12:HEAD], signed_bytes(topic, payload[:12], body))
    return _inflated(form, body, limit)


_CERT = re.compile(rb'"cert"\s*:\s*"([A-Za-z0-9+/]{4,8000}={0,2})"')


def carried_certificate(payload: bytes) -> bytes | None:
    """Return the certificate that a message of an unknown key brings along, None when it brings none.

    Nothing is verified here: the caller checks the certificate by its own authority and then
    the signature by the certificate.  So nothing is parsed either, and no more than the first
    :data:`SEARCHED` bytes of the body are looked at: a certificate stands before rows and records.
    """
    if not HEAD < len(payload) <= MAX_SEALED or payload[:2] != MAGIC or payload[3:4] not in (b"j", b"z"):
        return None
    start = payload[HEAD : HEAD + SEARCHED]
    if payload[3:4] == b"z":
        try:
            start = zlib.decompressobj().decompress(start, SEARCHED)
        except zlib.error:
            return None
    found = _CERT.search(start)
    if found is None:
        return None
    try:
        return base64.b64decode(found[1], validate=True)
    except ValueError:
        return None


def _inflated(form: bytes, body: bytes, limit: int) -> bytes:
    if form == b"j":
        if len(body) > limit:
            raise WireError(f"the body has {len(body)} bytes, at most {limit} are accepted")
        return body
    stream = zlib.decompressobj()
    try:
        plain = stream.decompress(body, limit + 1)
    except zlib.error as error:
        raise WireError(f"the compressed body is damaged: {error}") from error
    if len(plain) > limit:
        raise WireError(f"the compressed body holds more than the {limit} bytes that are accepted")
    if not stream.eof or stream.unused_data:
        raise WireError("the compressed body is cut or has a tail")
    return plain


_T = TypeVar("_T")


def _parsed(decoder: "msgspec.json.Decoder[_T]", body: bytes, what: str) -> _T:
    try:
        return decoder.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise WireError(f"not a {what}: {error}") from error


_stream = msgspec.json.Decoder(StreamMessage)
_confirmation = msgspec.json.Decoder(Confirmation)
_ask = msgspec.json.Decoder(Ask)
_state = msgspec.json.Decoder(State)
_audit_head = msgspec.json.Decoder(AuditHead)


def row_body(
    tick: int, group: int, offsets: list[int], values: list[Value], quality: dict[str, list[str]]
) -> bytes:
    """Return a row without its sequence, ready for the store: ``group,tick,[offsets],[values]{,quality}]``.

    :func:`row_bytes` puts the sequence in front.  Integers beyond 2**53 must already be strings.
    """
    parts: list[object] = [group, tick, offsets, values]
    if quality:
        parts.append(quality)
    return _encode(parts)[1:]


_encode = msgspec.json.Encoder().encode


def row_bytes(seq: int, body: bytes) -> bytes:
    """Return the row of the wire from a stored body and its sequence."""
    return b"[%d,%s" % (seq, body)


def encode_stream(header: StreamMessage, rows: list[bytes], records: list[bytes]) -> bytes:
    """Return the body of a stream message from a header without rows and records, and those as bytes."""
    parts = [_encode(header)[:-1]]
    if rows:
        parts += (b',"rows":[', b",".join(rows), b"]")
    if records:
        parts += (b',"records":[', b",".join(records), b"]")
    parts.append(b"}")
    return b"".join(parts)


def encode_record(record: Record) -> bytes:
    """Return a record as it stands in a message."""
    return _encode(record)


def encode_plain(message: Confirmation | Ask | State | AuditHead) -> bytes:
    """Return the body of a confirmation, a question, a state or a head of an audit log."""
    return _encode(message)


def decode_stream(body: bytes) -> StreamMessage:
    """Return a stream message of right form; rows still have to fit their manifest (:func:`row_fault`)."""
    message = _parsed(_stream, body, "stream message")
    fault = _stream_fault(message)
    if fault is not None:
        raise WireError(f"stream message of {message.gateway or 'nobody'}: {fault}")
    return message


class _ManifestBytes(msgspec.Struct):
    type: str = ""
    manifest: msgspec.Raw = msgspec.Raw(b"")


class _Manifests(msgspec.Struct):
    records: list[_ManifestBytes] = []
    manifests: list[msgspec.Raw] = []


_manifests = msgspec.json.Decoder(_Manifests)


def manifest_names(body: bytes) -> tuple[list[str], list[str]]:
    """Return the names of the manifests in a stream message: of its records, and of its member ``manifests``.

    A name is the hash of the bytes as they stand there, in whatever order a gateway writes its members.
    """
    found = _parsed(_manifests, body, "stream message")
    named = [manifest_name(one.manifest) for one in found.records if one.type == "manifest"]
    return named, [manifest_name(one) for one in found.manifests]


def _stream_fault(message: StreamMessage) -> str | None:
    if message.v != 1:
        return f"version {message.v} is not known, 1 is"
    if name_fault(message.gateway):
        return f"the gateway's name {name_fault(message.gateway)}"
    if not is_epoch(message.epoch):
        return "the epoch has not the form of 16 hexadecimal digits"
    if not 1 <= message.first <= message.last:
        return f"the coverage {message.first}..{message.last} is empty or negative"
    if not is_hash(message.manifest) and (message.rows or message.manifest):
        return "it has rows but names no manifest"
    if message.books:
        try:
            books_born_ms(message.books)
        except ValueError as error:
            return str(error)
    for manifest in message.manifests:
        fault = manifest_fault(manifest)
        if fault is not None:
            return f"a manifest that it brings is not usable: {fault}"
    for run in (message.rows, message.records):
        before = message.first - 1
        for record in run:
            if not before < record.seq <= message.last:
                return f"sequence {record.seq} is outside the coverage or out of order"
            before = record.seq
    return None


def decode_confirmation(body: bytes) -> Confirmation:
    """Return a confirmation; :class:`WireError` when the bytes are none."""
    message = _parsed(_confirmation, body, "confirmation")
    _check_books(message.v, message.books, "confirmation")
    _check_ranges(message.held, "confirmation")
    _check_ranges(message.control, "confirmation")
    return message


def decode_ask(body: bytes) -> Ask:
    """Return a question; :class:`WireError` when the bytes are none."""
    message = _parsed(_ask, body, "question")
    _check_books(message.v, message.books, "question")
    _check_ranges(message.ranges, "question")
    _check_ranges(message.control, "question")
    for name in message.manifests:
        if not is_hash(name):
            raise WireError(f"question: {name[:60]!r} is not the name of a manifest")
    return message


def decode_state(body: bytes) -> State:
    """Return a state; :class:`WireError` when the bytes are none."""
    message = _parsed(_state, body, "state")
    if message.v != 1 or name_fault(message.gateway):
        raise WireError("not a state: unknown version or malformed gateway name")
    return message


def decode_audit_head(body: bytes) -> AuditHead:
    """Return the head of an audit log, its note not judged yet; :class:`WireError` when it is none."""
    message = _parsed(_audit_head, body, "head of an audit log")
    if message.v != 1 or name_fault(message.gateway):
        raise WireError("not a head of an audit log: unknown version or malformed gateway name")
    if len(message.proofs) > MAX_PROOFS or any(len(one.path) > MAX_PATH for one in message.proofs):
        raise WireError(f"more than {MAX_PROOFS} proofs, or over {MAX_PATH} hashes in one")
    return message


def _check_books(v: int, books: str, what: str) -> None:
    if v != 1:
        raise WireError(f"{what} of version {v}, 1 is known")
    try:
        books_born_ms(books)
    except ValueError as error:
        raise WireError(f"{what}: {error}") from error


def _check_ranges(held: dict[str, list[tuple[int, int]]], what: str) -> None:
    for epoch, ranges in held.items():
        if not is_epoch(epoch):
            raise WireError(f"{what}: {epoch[:60]!r} is not an epoch")
        before = 0
        for first, last in ranges:
            if not before < first <= last:
                raise WireError(f"{what}: the ranges of epoch {epoch} are not ascending")
            before = last


_NUMBERS = frozenset({int, str, type(None)})
_ALLOWED: dict[ValueKind, frozenset[type]] = {
    ValueKind.INTEGER: _NUMBERS,
    ValueKind.BITS: _NUMBERS,
    ValueKind.DECIMAL: frozenset({int, float, str, type(None)}),
    ValueKind.TEXT: frozenset({str, type(None)}),
    ValueKind.BOOLEAN: frozenset({bool, type(None)}),
}
_PLAIN = frozenset({int, type(None)})
_NUMERIC = frozenset({ValueKind.INTEGER, ValueKind.BITS, ValueKind.DECIMAL})


def row_fault(row: Row, group: Group) -> str | None:
    """Return why a row does not fit its group in the manifest, or None."""
    values = row.values
    if len(values) != len(group.points):
        return f"{len(values)} values for {len(group.points)} points"
    if len(row.offsets) != group.requests:
        return f"{len(row.offsets)} answer offsets for {group.requests} requests"
    if (row.tick - group.phase_ms) % group.every_ms:
        return f"tick {row.tick} is not on the grid of {group.every_ms} ms"
    if not set(map(type, values)) <= _PLAIN or not all(point.kind in _NUMERIC for point in group.points):
        for point, value in zip(group.points, values, strict=True):
            if type(value) not in _ALLOWED[point.kind]:
                return f"point {point.name} has a value of the wrong type"
            if isinstance(value, str) and point.kind is not ValueKind.TEXT and not _is_integer(value):
                return f"point {point.name} has text where an integer belongs"
    if row.quality:
        return _quality_fault(row.quality, len(values))
    return None


_INTEGER = re.compile(r"-?[1-9][0-9]{15,19}")


def _is_integer(text: str) -> bool:
    """Tell whether a text is an integer in its one form: no number would hold it, no digit is idle."""
    return _INTEGER.fullmatch(text) is not None and abs(int(text)) > EXACT


def _quality_fault(quality: dict[str, list[str]], points: int) -> str | None:
    for index, names in quality.items():
        if index != "*" and not (_INDEX.fullmatch(index) and int(index) < points):
            return f"quality for {index[:20]!r}, which is no point of the group"
        if not names:
            return f"quality for {index!r} without a reason: a good value has no entry"
        for name in names:
            fault = reason_fault(name)
            if fault is not None:
                return fault
    return None


_INDEX = re.compile(r"0|[1-9][0-9]{0,8}")
