"""Signed notes: both algorithms, and every way in which a note is not by whom it names."""

import base64
from hashlib import sha256

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from certs.authority import DevAuthority
from certs.note import MAX_SIGNATURES, note_by, open_note, signed_note
from certs.signing import BadSignature, SigningKey
from core.errors import WireError

NAME = "portico/v1/gw-0001/evt/audit"
TEXT = f"{NAME}\n3\nAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n"


@pytest.fixture
def key(authority: DevAuthority) -> SigningKey:
    issued = authority.issue_signer("gw-0001", role="stream")
    return SigningKey.load(issued.key_path, issued.cert_path)


def certificate(key: SigningKey) -> x509.Certificate:
    return x509.load_der_x509_certificate(key.certificate_der)


def test_a_note_opens_with_the_certificate_of_its_key(key: SigningKey) -> None:
    assert open_note(note_by(key, TEXT, NAME), NAME, certificate(key)) == TEXT


def test_ed25519_is_written_as_the_document_says() -> None:
    private = ed25519.Ed25519PrivateKey.generate()
    raw = private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    note = signed_note(TEXT, NAME, private.public_key(), private.sign)
    text, _, line = note.rpartition("\n\n")
    dash, name, encoded = line.rstrip("\n").split(" ")
    assert (dash, name, text + "\n") == ("—", NAME, TEXT)
    signature = base64.b64decode(encoded)
    assert signature[:4] == sha256(NAME.encode() + b"\n" + b"\x01" + raw).digest()[:4]
    private.public_key().verify(signature[4:], TEXT.encode())


def test_p256_is_written_as_rekor_writes_it() -> None:
    private = ec.generate_private_key(ec.SECP256R1())
    from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

    def sign(message: bytes) -> bytes:
        r, s = decode_dss_signature(private.sign(message, ec.ECDSA(hashes.SHA256())))
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")

    note = signed_note(TEXT, NAME, private.public_key(), sign)
    signature = base64.b64decode(note.rstrip("\n").rpartition(" ")[2])
    der = private.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert signature[:4] == sha256(der).digest()[:4]
    private.public_key().verify(signature[4:], TEXT.encode(), ec.ECDSA(hashes.SHA256()))


def test_another_text_name_or_key_does_not_hold(key: SigningKey, other_authority: DevAuthority) -> None:
    note = note_by(key, TEXT, NAME)
    with pytest.raises(BadSignature, match="not over this text"):
        open_note(note.replace("\n3\n", "\n4\n"), NAME, certificate(key))
    with pytest.raises(BadSignature, match="no signature of"):
        open_note(note, "portico/v1/gw-0002/evt/audit", certificate(key))
    issued = other_authority.issue_signer("gw-0001", role="stream")
    other = SigningKey.load(issued.key_path, issued.cert_path)
    with pytest.raises(BadSignature, match="no signature of"):
        open_note(note, NAME, certificate(other))


def test_signatures_of_others_are_passed_over(key: SigningKey) -> None:
    witness = ed25519.Ed25519PrivateKey.generate()
    line = signed_note(TEXT, "witness.example", witness.public_key(), witness.sign).splitlines()[-1]
    own = note_by(key, TEXT, NAME).splitlines()[-1]
    assert open_note(f"{TEXT}\n{line}\n{own}\n", NAME, certificate(key)) == TEXT


@pytest.mark.parametrize(
    "note",
    [
        "",
        TEXT,
        TEXT + "\n",
        TEXT + "\n— \n",
        TEXT + "\n- name AAAA\n",
        TEXT + "\n— name AAAA",
        TEXT + "\n— name !!!!\n",
        "a\x00b\n\n— name AAAA\n",
        TEXT + "\n" + "— name AAAA\n" * (MAX_SIGNATURES + 1),
        "x" * (1 << 17),
    ],
)
def test_what_is_no_note_is_refused(key: SigningKey, note: str) -> None:
    with pytest.raises(WireError):
        open_note(note, NAME, certificate(key))
