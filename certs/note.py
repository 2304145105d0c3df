"""Signed notes (C2SP signed-note): a text, an empty line, and who signed it.

    — portico/v1/gw-0001/audit NnugSzTjtVAewIS+Z/iJhUPe…

Ed25519 as the document says it (type 1); P-256 in the layout of Rekor and transparency-dev/witness
(type 2): the key id is the truncated SHA-256 of the DER public key, the signature is DER.  Source read:
c2sp.org/signed-note, commit 0552876.  Relies on `cryptography`.  Not here: what the text says
(`core.checkpoint`).
"""

import base64
import binascii
from collections.abc import Callable
from hashlib import sha256
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from certs.signing import BadSignature, SigningKey
from core.errors import WireError

KEY_ID_BYTES: Final = 4
MAX_SIGNATURES: Final = 16
MAX_BYTES: Final = 64 << 10
_DASH: Final = "— "


def note_by(key: SigningKey, text: str, name: str) -> str:
    """Return the note of a text that ends with a newline, signed by a key under a name."""
    public = x509.load_der_x509_certificate(key.certificate_der).public_key()
    return signed_note(text, name, public, key.sign)


def signed_note(text: str, name: str, public: object, sign: Callable[[bytes], bytes]) -> str:
    """Return the note of a text; ``sign`` makes 64 bytes as `certs.signing.SigningKey` does."""
    signature = sign(text.encode())
    if isinstance(public, ec.EllipticCurvePublicKey):
        half = len(signature) // 2
        signature = encode_dss_signature(
            int.from_bytes(signature[:half], "big"), int.from_bytes(signature[half:], "big")
        )
    line = base64.b64encode(_key_id(name, public) + signature).decode()
    return f"{text}\n{_DASH}{name} {line}\n"


def open_note(note: str, name: str, certificate: x509.Certificate) -> str:
    """Return the text of a note that ``name`` signed with the key of a certificate.

    Raises `WireError` for what is no note, `BadSignature` when no signature by that key is there, or it
    is not over this text.  Whether the certificate is to be believed is the caller's to know.
    """
    if len(note) > MAX_BYTES:
        raise WireError(f"a note of more than {MAX_BYTES} characters")
    text, separator, below = note.rpartition("\n\n")
    if not separator or not below.endswith("\n") or any(ord(one) < 32 and one != "\n" for one in note):
        raise WireError("no signed note: a text, an empty line and signatures")
    text += "\n"
    public = certificate.public_key()
    wanted = _key_id(name, public)
    lines = below.splitlines()
    if len(lines) > MAX_SIGNATURES:
        raise WireError(f"a note with more than {MAX_SIGNATURES} signatures")
    for line in lines:
        signer, _, encoded = line.removeprefix(_DASH).rpartition(" ")
        if not line.startswith(_DASH) or not signer:
            raise WireError("a line below a note is no signature")
        try:
            raw = base64.b64decode(encoded, validate=True)
        except binascii.Error as error:
            raise WireError("a signature of a note is not base64") from error
        if signer == name and raw[:KEY_ID_BYTES] == wanted:
            _check(public, raw[KEY_ID_BYTES:], text.encode(), name)
            return text
    raise BadSignature(f"the note bears no signature of {name} by this key")


def _key_id(name: str, public: object) -> bytes:
    if isinstance(public, ed25519.Ed25519PublicKey):
        raw = public.public_bytes(Encoding.Raw, PublicFormat.Raw)
        return sha256(name.encode() + b"\n\x01" + raw).digest()[:KEY_ID_BYTES]
    if isinstance(public, ec.EllipticCurvePublicKey):
        der = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        return sha256(der).digest()[:KEY_ID_BYTES]
    raise BadSignature("a note is signed with Ed25519 or P-256")


def _check(public: object, signature: bytes, message: bytes, name: str) -> None:
    try:
        if isinstance(public, ed25519.Ed25519PublicKey):
            public.verify(signature, message)
        elif isinstance(public, ec.EllipticCurvePublicKey):
            public.verify(signature, message, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature as error:
        raise BadSignature(f"the signature of {name} is not over this text") from error
