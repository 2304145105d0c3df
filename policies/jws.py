"""Documents signed by keys of rosters: a JWS by one individual, or by several, with strict headers.

One signature is written compactly, several as general JSON (RFC 7515).  The protected header holds
exactly ``alg`` (``Ed25519`` of RFC 9864, or ``ES256``), ``kid`` (``<entity>/<key id>`` of that entity's
roster) and ``typ``; there is no other header, and nothing in a message names a key by value.  What was signed
as one type is nothing as another.

Relies on joserfc for signatures.  Not here: what the documents say (`policies.envelope`, `policies.beat`),
and which rosters are in force.
"""

import base64
import binascii
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, KeyParameters, KeySet, OctKey, OKPKey, RSAKey

from core.errors import ConfigError, PorticoError
from policies.roster import Key

MAX_SIGNATURES: Final = 5
ALGORITHMS: Final = ("Ed25519", "ES256")
_REGISTRY: Final = jws.JWSRegistry(algorithms=list(ALGORITHMS))
_HEADER: Final = {"alg", "kid", "typ"}

Key_ = OctKey | RSAKey | ECKey | OKPKey
PrivateKey = ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey
KeyOf = Callable[[str, str], Key | None]
"""Returns a key of a roster by entity and key id; None where there is none that is in force."""


class EnvelopeError(PorticoError):
    """Bytes that nobody signed as what they should be; ``code`` is one of ``policies/reasons.toml``."""

    def __init__(self, code: str, sentence: str) -> None:
        super().__init__(sentence)
        self.code = code


@dataclass(frozen=True, slots=True)
class Verified:
    """What was signed, and by which keys; each signature verified."""

    payload: bytes
    keys: tuple[tuple[str, str], ...]
    """(entity, key id), each once."""


def sign(payload: bytes, typ: str, entity: str, keys: Sequence[tuple[str, PrivateKey]]) -> bytes:
    """Return an envelope, signed with keys of an entity by their ids."""
    headers = [{"alg": _algorithm(key), "kid": f"{entity}/{id_}", "typ": typ} for id_, key in keys]
    if not 1 <= len(keys) <= MAX_SIGNATURES:
        raise ConfigError(f"a document is signed by 1 to {MAX_SIGNATURES} keys")
    imported: list[Key_] = [
        _imported(key, header["kid"]) for (_, key), header in zip(keys, headers, strict=True)
    ]
    if len(keys) == 1:
        return jws.serialize_compact(headers[0], payload, imported[0], registry=_REGISTRY).encode()
    members: list[jws.HeaderDict] = [{"protected": dict(header)} for header in headers]
    found = jws.serialize_json(members, payload, KeySet(imported), registry=_REGISTRY)
    return json.dumps(found, separators=(",", ":")).encode()


def verify(raw: bytes, typ: str, longest: int, key_of: KeyOf) -> Verified:
    """Return what was signed as a type, all signatures verified; :class:`EnvelopeError`.

    Nothing of the payload is believed before the signatures hold.
    """
    if len(raw) > longest:
        raise EnvelopeError("malformed", f"an envelope of {len(raw)} bytes, at most {longest} are read")
    try:
        text = raw.decode("ascii")
    except UnicodeDecodeError as error:
        raise EnvelopeError("malformed", "an envelope is ASCII text") from error
    payload, signatures = _general(text) if text.startswith("{") else _compact(text)
    keys = []
    for protected, signature in signatures:
        header = _header(protected, typ)
        entity, _, id_ = header["kid"].partition("/")
        key = key_of(entity, id_)
        if key is None:
            raise EnvelopeError("unknown-key", f"no roster in force has the key {header['kid'][:130]!r}")
        if key.algorithm != header["alg"]:
            raise EnvelopeError("bad-signature", f"key {header['kid']} is for {key.algorithm}")
        _verify(protected, payload, signature, key, header["kid"])
        keys.append((entity, id_))
    if len(set(keys)) < len(keys):
        raise EnvelopeError("malformed", "one key signed twice")
    return Verified(_decoded(payload), tuple(keys))


def _compact(text: str) -> tuple[str, list[tuple[str, str]]]:
    parts = text.split(".")
    if len(parts) != 3:
        raise EnvelopeError("malformed", "an envelope has three parts, or is a JSON object")
    return parts[1], [(parts[0], parts[2])]


def _general(text: str) -> tuple[str, list[tuple[str, str]]]:
    found = _object(text)
    signatures = found.get("signatures")
    payload = found.get("payload")
    if set(found) != {"payload", "signatures"} or not isinstance(payload, str):
        raise EnvelopeError("malformed", "a JSON envelope has payload and signatures alone")
    if not isinstance(signatures, list) or not 1 <= len(signatures) <= MAX_SIGNATURES:
        raise EnvelopeError("malformed", f"an envelope has 1 to {MAX_SIGNATURES} signatures")
    pairs = []
    for one in signatures:
        if not isinstance(one, dict) or set(one) != {"protected", "signature"}:
            raise EnvelopeError("malformed", "a signature has protected and signature alone")
        if not all(isinstance(value, str) for value in one.values()):
            raise EnvelopeError("malformed", "members of a signature are text")
        pairs.append((one["protected"], one["signature"]))
    return payload, pairs


def _header(protected: str, typ: str) -> Mapping[str, str]:
    found = _object(_decoded(protected).decode("utf-8", "replace"))
    if set(found) != _HEADER or not all(isinstance(value, str) for value in found.values()):
        raise EnvelopeError("malformed", "the header of a signature has alg, kid and typ alone")
    if found["typ"] != typ:
        raise EnvelopeError("malformed", f"typ is {str(found['typ'])[:40]!r}, not {typ!r}")
    if found["alg"] not in ALGORITHMS:
        raise EnvelopeError("malformed", f"alg is {str(found['alg'])[:40]!r}, not one of {ALGORITHMS}")
    return {name: str(value) for name, value in found.items()}


def _verify(protected: str, payload: str, signature: str, key: Key, kid: str) -> None:
    try:
        der = base64.b64decode(key.public, validate=True)
        public = serialization.load_der_public_key(der)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise EnvelopeError("unknown-key", f"the roster's key {kid} is not readable") from error
    fits = isinstance(public, ed25519.Ed25519PublicKey) if key.algorithm == "Ed25519" else _is_p256(public)
    if not fits:
        raise EnvelopeError("unknown-key", f"the roster's key {kid} is not of {key.algorithm}")
    pem = public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    imported = OKPKey.import_key(pem) if key.algorithm == "Ed25519" else ECKey.import_key(pem)
    try:
        jws.deserialize_compact(f"{protected}.{payload}.{signature}", imported, registry=_REGISTRY)
    except (JoseError, ValueError) as error:
        raise EnvelopeError("bad-signature", f"no signature by key {kid} over this") from error


def _is_p256(public: object) -> bool:
    return isinstance(public, ec.EllipticCurvePublicKey) and public.curve.name == "secp256r1"


def _algorithm(key: PrivateKey) -> str:
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return "Ed25519"
    if key.curve.name == "secp256r1":
        return "ES256"
    raise ConfigError("keys that sign are Ed25519 or P-256")


def _imported(key: PrivateKey, kid: str) -> Key_:
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    found: KeyParameters = {"kid": kid}
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return OKPKey.import_key(pem, found)
    return ECKey.import_key(pem, found)


def _decoded(part: str) -> bytes:
    try:
        if "=" in part or not part:
            raise ValueError
        found = base64.b64decode(part + "=" * (-len(part) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as error:
        raise EnvelopeError("malformed", "a part of the envelope is not base64url") from error
    if base64.urlsafe_b64encode(found).rstrip(b"=").decode() != part:
        raise EnvelopeError("malformed", "a part of the envelope is base64url in another form")
    return found


def _object(text: str) -> dict[str, object]:
    def once(pairs: list[tuple[str, object]]) -> dict[str, object]:
        found = dict(pairs)
        if len(found) < len(pairs):
            raise ValueError("a member stands twice")
        return found

    try:
        found = json.loads(text, object_pairs_hook=once)
    except (ValueError, RecursionError) as error:
        raise EnvelopeError("malformed", "a part of the envelope is not JSON") from error
    if not isinstance(found, dict):
        raise EnvelopeError("malformed", "a part of the envelope is no JSON object")
    return found
