"""The envelope of a command: a JWS by one individual, or by several, bound to what it says.

One signature is written compactly, several as general JSON (RFC 7515).  The protected header holds
exactly ``alg`` (``Ed25519`` of RFC 9864, or ``ES256``), ``kid`` (``<entity>/<key id>`` of that entity's
roster) and ``typ``; there is no other header, and nothing in a message names a key by value.  Whether the
individual and the application fit the command is judged by `policies.decide`.

Relies on joserfc for signatures.  Not here: replay, order and expiry (the gateway's journal), and which
rosters are in force.
"""

import base64
import binascii
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, KeyParameters, KeySet, OctKey, OKPKey, RSAKey

from core.errors import ConfigError, PorticoError
from policies.command import Command
from policies.reading import canonical, parse_command
from policies.roster import Key

TYPE: Final = "portico-command+jws"
LONGEST: Final = 8192
"""Bytes of an envelope."""
MAX_SIGNATURES: Final = 5
ALGORITHMS: Final = ("Ed25519", "ES256")
_REGISTRY: Final = jws.JWSRegistry(algorithms=list(ALGORITHMS))
_HEADER: Final = {"alg", "kid", "typ"}

Key_ = OctKey | RSAKey | ECKey | OKPKey
PrivateKey = ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey
KeyOf = Callable[[str, str], Key | None]
"""Returns a key of a roster by entity and key id; None where there is none that is in force."""


class EnvelopeError(PorticoError):
    """Bytes that are no command of anybody; ``code`` is one of ``policies/reasons.toml``."""

    def __init__(self, code: str, sentence: str) -> None:
        super().__init__(sentence)
        self.code = code


@dataclass(frozen=True, slots=True)
class Opened:
    """A command, and by which keys of its entity it is signed."""

    command: Command
    keys: frozenset[str]
    """Ids of keys, as `policies.facts.Facts.keys` wants them; each signature verified."""
    digest: str
    """SHA-256 of what was signed, hex: the same command signed again is the same."""


def sign_command(command: Command, keys: Sequence[tuple[str, PrivateKey]]) -> bytes:
    """Return the envelope of a command, signed with keys by their ids; the first is the issuer's."""
    payload = canonical(command)
    headers = [
        {"alg": _algorithm(key), "kid": f"{command.issuer.entity}/{id_}", "typ": TYPE} for id_, key in keys
    ]
    if not 1 <= len(keys) <= MAX_SIGNATURES:
        raise ConfigError(f"a command is signed by 1 to {MAX_SIGNATURES} keys")
    imported: list[Key_] = [
        _imported(key, header["kid"]) for (_, key), header in zip(keys, headers, strict=True)
    ]
    if len(keys) == 1:
        return jws.serialize_compact(headers[0], payload, imported[0], registry=_REGISTRY).encode()
    members: list[jws.HeaderDict] = [{"protected": dict(header)} for header in headers]
    found = jws.serialize_json(members, payload, KeySet(imported), registry=_REGISTRY)
    return json.dumps(found, separators=(",", ":")).encode()


def open_envelope(raw: bytes, key_of: KeyOf) -> Opened:
    """Return the command in an envelope, all its signatures verified; :class:`EnvelopeError`.

    Nothing of the payload is believed before the signatures hold.
    """
    if len(raw) > LONGEST:
        raise EnvelopeError("malformed", f"an envelope of {len(raw)} bytes, at most {LONGEST} are read")
    try:
        text = raw.decode("ascii")
    except UnicodeDecodeError as error:
        raise EnvelopeError("malformed", "an envelope is ASCII text") from error
    payload, signatures = _general(text) if text.startswith("{") else _compact(text)
    entities, ids = set(), []
    for protected, signature in signatures:
        header = _header(protected)
        entity, _, id_ = header["kid"].partition("/")
        key = key_of(entity, id_)
        if key is None:
            raise EnvelopeError("unknown-key", f"no roster in force has the key {header['kid'][:130]!r}")
        if key.algorithm != header["alg"]:
            raise EnvelopeError("bad-signature", f"key {header['kid']} is for {key.algorithm}")
        _verify(protected, payload, signature, key, header["kid"])
        entities.add(entity)
        ids.append(id_)
    if len(set(ids)) < len(ids):
        raise EnvelopeError("malformed", "one key signed twice")
    body = _decoded(payload)
    try:
        command = parse_command(body)
    except ConfigError as error:
        faults = "; ".join(error.faults[:3]) or str(error)
        raise EnvelopeError("malformed", f"signed, but no command: {faults}") from error
    if entities != {command.issuer.entity}:
        raise EnvelopeError("bad-signature", f"{command.issuer.entity} did not sign all of it")
    return Opened(command, frozenset(ids), sha256(body).hexdigest())


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


def _header(protected: str) -> Mapping[str, str]:
    found = _object(_decoded(protected).decode("utf-8", "replace"))
    if set(found) != _HEADER or not all(isinstance(value, str) for value in found.values()):
        raise EnvelopeError("malformed", "the header of a signature has alg, kid and typ alone")
    if found["typ"] != TYPE:
        raise EnvelopeError("malformed", f"typ is {str(found['typ'])[:40]!r}, a command has {TYPE!r}")
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
        raise EnvelopeError("bad-signature", f"no signature by key {kid} over this command") from error


def _is_p256(public: object) -> bool:
    return isinstance(public, ec.EllipticCurvePublicKey) and public.curve.name == "secp256r1"


def _algorithm(key: PrivateKey) -> str:
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return "Ed25519"
    if key.curve.name == "secp256r1":
        return "ES256"
    raise ConfigError("a command is signed with Ed25519 or P-256")


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
