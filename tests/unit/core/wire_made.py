"""Manifests, rows and messages made by hypothesis, and keys that sign them, for the tests of the wire."""

from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from hypothesis import strategies as st

from core.errors import TrustError, UnknownKey
from core.manifest import EXACT, Extra, Group, Manifest, Point, Value, ValueKind
from core.ownership import Ownership
from core.quality import reasons
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
    Outcome,
    QualityRecord,
    Record,
    Row,
    Start,
    State,
    StreamMessage,
)

NOW_MS: Final = 1_780_000_000_000

_NAME_START = "ABCXYZabcxyz0189"
names = st.builds(
    str.__add__, st.sampled_from(_NAME_START), st.text(_NAME_START + "._-", min_size=0, max_size=20)
)
epochs = st.text("0123456789abcdef", min_size=16, max_size=16)
digests = st.text("0123456789abcdef", min_size=32, max_size=32)
books_ids = st.builds(
    "{:013d}-{}".format, st.integers(0, 10**13 - 1), st.text("0123456789abcdef", min_size=8, max_size=8)
)
sequences = st.integers(1, EXACT)
instants = st.integers(0, EXACT)
counts = st.integers(0, EXACT)
spans = st.integers(-EXACT, EXACT)
texts = st.text(max_size=30)
big_integers = (st.integers(EXACT + 1, 2**64 - 1) | st.integers(-(2**63), -EXACT - 1)).map(str)
floats = st.floats(allow_nan=False, allow_infinity=False)
values: st.SearchStrategy[Value] = st.none() | st.booleans() | spans | floats | texts | big_integers
extras: st.SearchStrategy[Extra] = st.dictionaries(
    texts, values | st.lists(values, max_size=3) | st.dictionaries(texts, values, max_size=3), max_size=2
)
reason_names = st.sampled_from(sorted(reasons()))


@st.composite
def ranges(draw: st.DrawFn) -> list[tuple[int, int]]:
    """Return ascending ranges that do not overlap."""
    ends = sorted(draw(st.sets(st.integers(1, 400) | sequences, max_size=8)))
    return list(zip(ends[::2], ends[1::2], strict=False))


@st.composite
def ownerships(draw: st.DrawFn) -> tuple[Ownership, ...]:
    """Return one term for ever, or a few that do not overlap."""
    bounds = sorted(draw(st.sets(st.integers(NOW_MS - 10**6, NOW_MS + 10**6), max_size=4)))
    between = [(None, None)] if not bounds else list(zip([None, *bounds], [*bounds, None], strict=True))
    owners = st.lists(names, min_size=1, max_size=3, unique=True).map(tuple)
    return tuple(
        Ownership(draw(names), draw(owners), draw(names), draw(names), draw(texts), begin, end)
        for begin, end in between
    )


@st.composite
def groups(draw: st.DrawFn, number: int = 1) -> Group:
    """Return a group whose parts fit each other."""
    requests = draw(st.integers(1, 4))
    every_ms = draw(st.sampled_from([1, 100, 1000, 10_000, 900_000, 86_400_000]))
    point_names = draw(st.lists(names, min_size=1, max_size=6, unique=True))
    points = tuple(
        Point(
            name=name,
            quantity=draw(names),
            unit=draw(st.sampled_from(["V", "A", "W", "Wh", "°C", "1", ""])),
            kind=draw(st.sampled_from(ValueKind)),
            exp=draw(st.integers(-18, 18)),
            request=draw(st.integers(0, requests - 1)),
            cumulative=draw(st.booleans()),
        )
        for name in point_names
    )
    return Group(
        group=number,
        device=draw(names),
        device_type=draw(names),
        every_ms=every_ms,
        points=points,
        owners=draw(ownerships()),
        requests=requests,
        phase_ms=draw(st.integers(0, every_ms - 1)),
        usage_point=draw(names | st.just("")),
        x=draw(extras),
    )


@st.composite
def manifests(draw: st.DrawFn) -> Manifest:
    """Return a manifest without contradictions."""
    numbers = sorted(draw(st.sets(st.integers(1, 99), max_size=4)))
    return Manifest(draw(names), tuple(draw(groups(number)) for number in numbers), x=draw(extras))


_BY_KIND: Final[dict[ValueKind, st.SearchStrategy[Value]]] = {
    ValueKind.INTEGER: spans | big_integers | st.none(),
    ValueKind.BITS: st.integers(0, EXACT) | big_integers | st.none(),
    ValueKind.DECIMAL: floats | spans | st.none(),
    ValueKind.TEXT: texts | st.none(),
    ValueKind.BOOLEAN: st.booleans() | st.none(),
}


@st.composite
def rows_of(draw: st.DrawFn, group: Group, seq: int = 1) -> Row:
    """Return a row that fits a group."""
    keys = st.sampled_from(["*", *map(str, range(len(group.points)))])
    return Row(
        seq=seq,
        group=group.group,
        tick=draw(st.integers(0, 10**6)) * group.every_ms + group.phase_ms,
        offsets=[draw(st.integers(-5, 10_000)) for _ in range(group.requests)],
        values=[draw(_BY_KIND[point.kind]) for point in group.points],
        quality=draw(st.dictionaries(keys, st.lists(reason_names, min_size=1, max_size=2), max_size=3)),
    )


any_rows = st.builds(
    Row,
    seq=sequences,
    group=counts,
    tick=instants,
    offsets=st.lists(spans, max_size=3),
    values=st.lists(values, max_size=5),
    quality=st.dictionaries(st.sampled_from(["*", "0", "4"]), st.lists(reason_names, max_size=2)),
)
befores = st.builds(Before, epoch=epochs, last=counts, control_last=counts, lost=ranges())
_starts = st.builds(
    Start,
    seq=sequences,
    at=instants,
    ended=texts,
    boot=texts,
    clock=texts,
    software=texts,
    before=st.lists(befores, max_size=2),
    ticks=st.dictionaries(texts, instants, max_size=2),
    x=extras,
)
_gaps = st.builds(
    Gap,
    seq=sequences,
    group=counts,
    first_tick=instants,
    last_tick=instants,
    ticks=counts,
    reason=texts,
    unknown_extent=st.booleans(),
    epoch=st.just("") | epochs,
    dropped=ranges(),
    x=extras,
)
_qualities = st.builds(
    QualityRecord,
    seq=sequences,
    at=instants,
    epoch=epochs,
    first=sequences,
    last=sequences,
    group=counts,
    reasons=st.lists(reason_names, max_size=2),
    rule=texts,
    points=st.lists(counts, max_size=2),
    x=extras,
)
_clocks = st.builds(
    Clock, seq=sequences, at=instants, boot=texts, state=texts, step_ms=spans, monotonic_ms=counts, x=extras
)
_alarms = st.builds(
    Alarm, seq=sequences, at=instants, code=texts, raised=st.booleans(), text=texts, device=texts, x=extras
)
_outcomes = st.builds(
    Outcome,
    seq=sequences,
    at=instants,
    command=texts,
    state=texts,
    device=texts,
    point=texts,
    value=values,
    reasons=st.lists(texts, max_size=2),
    text=texts,
    entity=texts,
    x=extras,
)
_manifest_records = st.builds(ManifestRecord, seq=sequences, hash=digests, manifest=manifests(), x=extras)
_extensions = st.builds(Extension, seq=sequences, at=instants, name=texts, body=extras)
records: st.SearchStrategy[Record] = (
    _starts | _gaps | _qualities | _clocks | _alarms | _outcomes | _manifest_records | _extensions
)


@st.composite
def stream_messages(draw: st.DrawFn) -> StreamMessage:
    """Return a message whose records are in order inside its coverage."""
    first = draw(st.integers(1, 1000) | st.integers(1, EXACT - 1000))
    last = first + draw(st.integers(0, 50))

    def placed(one: st.SearchStrategy[msgspec.Struct]) -> list[msgspec.Struct]:
        places = sorted(draw(st.sets(st.integers(first, last), max_size=3)))
        return [msgspec.structs.replace(draw(one), seq=place) for place in places]

    rows = placed(any_rows)
    return StreamMessage(
        v=1,
        gateway=draw(names),
        epoch=draw(epochs),
        first=first,
        last=last,
        manifest=draw(digests) if rows else draw(st.just("") | digests),
        sent=draw(instants),
        rows=rows,  # type: ignore[arg-type]  # replace() keeps the type, its signature does not say so
        records=placed(records),  # type: ignore[arg-type]
        books=draw(st.just("") | books_ids),
        n=draw(counts),
        within=draw(counts),
        want=draw(st.sampled_from([[], ["cert"]])),
        cert=draw(st.just("") | st.just("TUlJQg==")),
        low=draw(sequences),
        manifests=draw(st.lists(manifests(), max_size=1)),
        x=draw(extras),
    )


held = st.dictionaries(epochs, ranges(), max_size=3)
confirmations = st.builds(
    Confirmation,
    v=st.just(1),
    books=books_ids,
    n=counts,
    held=held,
    control=held,
    cert=st.just("") | st.just("TUlJQg=="),
    at=instants,
    x=extras,
)
asks = st.builds(
    Ask,
    v=st.just(1),
    books=books_ids,
    n=counts,
    ranges=held,
    manifests=st.lists(digests, max_size=2),
    want=st.sampled_from([[], ["cert"]]),
    cert=st.just(""),
    control=held,
    at=instants,
    text=texts,
    x=extras,
)
states = st.builds(
    State,
    v=st.just(1),
    gateway=names,
    online=st.booleans(),
    at=instants,
    epoch=st.just("") | epochs,
    software=texts,
    clock=texts,
    instance=texts,
    policy=texts,
    assignment=texts,
    x=extras,
)


audit_heads = st.builds(
    AuditHead,
    v=st.just(1),
    gateway=names,
    note=texts,
    at=instants,
    proofs=st.lists(st.builds(AuditProof, size=counts, path=st.lists(texts, max_size=4)), max_size=4),
    x=extras,
)


@dataclass(frozen=True)
class Key:
    """A key pair that signs and verifies as the wire wants it."""

    alg: str
    kid: bytes
    sign: Callable[[bytes], bytes]
    check: Callable[[bytes, bytes], None]

    def verify(self, kid: bytes, alg: str, signature: bytes, message: bytes) -> None:
        """Judge as a :class:`core.codec.Verifier`."""
        if kid != self.kid:
            raise UnknownKey(kid, "this key is not known: ask for its certificate")
        try:
            if alg != self.alg:
                raise InvalidSignature
            self.check(signature, message)
        except InvalidSignature as error:
            raise TrustError("the signature is not by this key over these bytes") from error


def _kid(public: ed25519.Ed25519PublicKey | ec.EllipticCurvePublicKey) -> bytes:
    spki = public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return sha256(spki).digest()[:8]


def ed25519_key(seed: bytes = bytes(range(32))) -> Key:
    """Return an Ed25519 key, the same for the same seed."""
    private = ed25519.Ed25519PrivateKey.from_private_bytes(seed)
    return Key("e", _kid(private.public_key()), private.sign, private.public_key().verify)


def p256_key(number: int = 0xF00D) -> Key:
    """Return a P-256 key, the same for the same number."""
    private = ec.derive_private_key(number, ec.SECP256R1())
    algorithm = ec.ECDSA(hashes.SHA256())

    def sign(message: bytes) -> bytes:
        r, s = decode_dss_signature(private.sign(message, algorithm))
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")

    def check(signature: bytes, message: bytes) -> None:
        r, s = (int.from_bytes(part, "big") for part in (signature[:32], signature[32:]))
        private.public_key().verify(encode_dss_signature(r, s), message, algorithm)

    return Key("p", _kid(private.public_key()), sign, check)
