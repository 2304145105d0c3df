"""Signing certificates: what is admitted, whose signature holds at which instant, and what is refused."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from hypothesis import example, given, settings
from hypothesis import strategies as st

from certs.authority import DevAuthority
from certs.pem import read_certificates, read_private_key
from certs.profile import SIGNING_PURPOSE, SignerRole
from certs.signing import BadSignature, Expired, SigningKey, TrustedSigners, Untrusted, WrongSubject
from core.codec import seal, unseal
from core.errors import ConfigError, TrustError, UnknownKey

NOW = datetime(2026, 6, 1, 12, 0, tzinfo=UTC)
MESSAGE = b"row 1"

Key = ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


def signing_key(authority: DevAuthority, identity: str = "gw-0001", *, days: int = 825) -> SigningKey:
    issued = authority.issue_signer(identity, role="stream", now=NOW, days=days, force=True)
    return SigningKey.load(issued.key_path, issued.cert_path)


def built(
    authority: DevAuthority,
    key: Key,
    *,
    subject: tuple[tuple[x509.ObjectIdentifier, str], ...] = (
        (NameOID.ORGANIZATIONAL_UNIT_NAME, "stream"),
        (NameOID.COMMON_NAME, "gw-0001"),
    ),
    purpose: x509.ObjectIdentifier | None = SIGNING_PURPOSE,
    usage: bool | None = True,
    ca: bool = False,
    extra: x509.UnrecognizedExtension | None = None,
    begin: datetime = NOW - timedelta(days=1),
    end: datetime = NOW + timedelta(days=90),
) -> x509.Certificate:
    """A certificate by the authority's own key that differs from the profile where a test says so."""
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(oid, value) for oid, value in subject]))
        .issuer_name(authority.certificate.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(end)
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
    )
    if purpose is not None:
        builder = builder.add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
    if usage is not None:
        builder = builder.add_extension(
            x509.KeyUsage(usage, not usage, False, False, False, ca, ca, False, False), critical=True
        )
    if extra is not None:
        builder = builder.add_extension(extra, critical=True)
    ca_key = read_private_key(authority.ca_key_path)
    assert isinstance(ca_key, ec.EllipticCurvePrivateKey)
    return builder.sign(ca_key, hashes.SHA256())


def der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.DER)


@pytest.fixture(params=["e", "p"])
def key(request: pytest.FixtureRequest, authority: DevAuthority) -> SigningKey:
    """A signing key of either algorithm."""
    private: ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey
    if request.param == "e":
        private = ed25519.Ed25519PrivateKey.generate()
    else:
        private = ec.generate_private_key(ec.SECP256R1())
    made = SigningKey(private, built(authority, private))
    assert made.alg == request.param
    return made


@pytest.fixture
def signers(authority: DevAuthority) -> TrustedSigners:
    return TrustedSigners(authority.ca_path)


def test_signature_of_an_admitted_key_holds_and_has_64_bytes(
    key: SigningKey, signers: TrustedSigners
) -> None:
    signer = signers.admit(key.certificate_der, subject="gw-0001", role="stream", at=NOW)
    signature = key.sign(MESSAGE)
    assert len(signature) == 64
    assert (signer.kid, signer.alg, signer.der) == (key.kid, key.alg, key.certificate_der)
    signers.verify(key.kid, "gw-0001", "stream", signature, MESSAGE, NOW, alg=key.alg)


def test_ecdsa_signature_with_a_leading_zero_keeps_its_64_bytes(authority: DevAuthority) -> None:
    private = ec.generate_private_key(ec.SECP256R1())
    key = SigningKey(private, built(authority, private))
    signers = TrustedSigners(authority.ca_path)
    signers.admit(key.certificate_der, subject="gw-0001", role="stream", at=NOW)
    # One signature in 256 has a short r: 4,000 without one would be a chance of 2 in 10 million.
    short = next(s for s in (key.sign(MESSAGE) for _ in range(4000)) if s[0] == 0)
    assert len(short) == 64
    signers.verify(key.kid, "gw-0001", "stream", short, MESSAGE, NOW)


def test_kid_is_the_head_of_sha256_over_the_public_key(key: SigningKey) -> None:
    certificate = x509.load_der_x509_certificate(key.certificate_der)
    spki = certificate.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    digest = hashes.Hash(hashes.SHA256())
    digest.update(spki)
    assert key.kid == digest.finalize()[:8]


def test_sealed_message_is_opened_by_the_verifier_and_not_on_another_topic(
    key: SigningKey, signers: TrustedSigners
) -> None:
    signers.admit(key.certificate_der, subject="gw-0001", role="stream", at=NOW)
    payload = seal("portico/v1/gw-0001/stream/dso.example/live", b"[]", key)
    verify = signers.verifier("gw-0001", "stream", NOW)
    assert unseal("portico/v1/gw-0001/stream/dso.example/live", payload, verify) == b"[]"
    with pytest.raises(BadSignature):
        unseal("portico/v1/gw-0001/stream/esco.example/live", payload, verify)


def test_signature_with_any_bit_changed_is_bad(key: SigningKey, signers: TrustedSigners) -> None:
    signers.admit(key.certificate_der, subject="gw-0001", role="stream", at=NOW)
    signature = key.sign(MESSAGE)
    for bit in range(0, 512, 5):
        changed = bytearray(signature)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises(BadSignature):
            signers.verify(key.kid, "gw-0001", "stream", bytes(changed), MESSAGE, NOW)


@pytest.mark.parametrize("signature", [b"", b"\0" * 64, b"\xff" * 64, b"\1" * 63, b"\1" * 65])
def test_signature_of_no_use_is_bad(key: SigningKey, signers: TrustedSigners, signature: bytes) -> None:
    signers.admit(key.certificate_der, subject="gw-0001", role="stream", at=NOW)
    with pytest.raises(BadSignature):
        signers.verify(key.kid, "gw-0001", "stream", signature, MESSAGE, NOW)


def test_signature_over_other_bytes_is_bad(key: SigningKey, signers: TrustedSigners) -> None:
    signers.admit(key.certificate_der, subject="gw-0001", role="stream", at=NOW)
    with pytest.raises(BadSignature):
        signers.verify(key.kid, "gw-0001", "stream", key.sign(MESSAGE), MESSAGE + b"0", NOW)


def test_header_that_states_another_algorithm_is_bad(key: SigningKey, signers: TrustedSigners) -> None:
    signers.admit(key.certificate_der, subject="gw-0001", role="stream", at=NOW)
    other = "p" if key.alg == "e" else "e"
    with pytest.raises(BadSignature, match="states algorithm"):
        signers.verify(key.kid, "gw-0001", "stream", key.sign(MESSAGE), MESSAGE, NOW, alg=other)


def test_key_that_was_not_admitted_is_unknown_and_named(key: SigningKey, signers: TrustedSigners) -> None:
    with pytest.raises(UnknownKey) as caught:
        signers.verify(key.kid, "gw-0001", "stream", key.sign(MESSAGE), MESSAGE, NOW)
    assert caught.value.kid == key.kid


@pytest.mark.parametrize(("subject", "role"), [("gw-0002", "stream"), ("gw-0001", "collector")])
def test_good_signature_of_another_id_or_role_is_refused(
    key: SigningKey, signers: TrustedSigners, subject: str, role: SignerRole
) -> None:
    with pytest.raises(WrongSubject):
        signers.admit(key.certificate_der, subject=subject, role=role, at=NOW)
    assert signers.held == 0
    signers.admit(key.certificate_der, subject="gw-0001", role="stream", at=NOW)
    with pytest.raises(WrongSubject):
        signers.verify(key.kid, subject, role, key.sign(MESSAGE), MESSAGE, NOW)


def test_validity_is_half_open_and_judged_at_the_instant_given(authority: DevAuthority) -> None:
    key = signing_key(authority, days=10)
    signers = TrustedSigners(authority.ca_path)
    signers.admit(key.certificate_der, subject="gw-0001", role="stream", at=NOW)
    signature = key.sign(MESSAGE)

    def holds(at: datetime) -> bool:
        try:
            signers.verify(key.kid, "gw-0001", "stream", signature, MESSAGE, at)
        except Expired:
            return False
        return True

    tick = timedelta(microseconds=1)
    assert [holds(key.not_before - tick), holds(key.not_before)] == [False, True]
    assert [holds(key.not_after - tick), holds(key.not_after)] == [True, False]


def test_certificate_is_admitted_only_within_its_validity(authority: DevAuthority) -> None:
    private = ed25519.Ed25519PrivateKey.generate()
    key = SigningKey(private, built(authority, private, begin=NOW, end=NOW + timedelta(days=10)))
    signers = TrustedSigners(authority.ca_path)
    for at in (key.not_before - timedelta(seconds=1), key.not_after):
        with pytest.raises(Expired):
            signers.admit(key.certificate_der, subject="gw-0001", role="stream", at=at)
    assert signers.held == 0


def test_old_signature_holds_after_a_renewal_and_the_new_key_beside_it(authority: DevAuthority) -> None:
    signers = TrustedSigners(authority.ca_path)
    old, new = signing_key(authority, days=10), signing_key(authority, days=100)
    for key in (old, new):
        signers.admit(key.certificate_der, subject="gw-0001", role="stream", at=NOW)
    then, later = NOW + timedelta(days=5), NOW + timedelta(days=50)
    signers.verify(old.kid, "gw-0001", "stream", old.sign(MESSAGE), MESSAGE, then)
    signers.verify(new.kid, "gw-0001", "stream", new.sign(MESSAGE), MESSAGE, later)
    with pytest.raises(Expired):
        signers.verify(old.kid, "gw-0001", "stream", old.sign(MESSAGE), MESSAGE, later)


def test_same_key_in_a_renewed_certificate_holds_in_both_windows(authority: DevAuthority) -> None:
    private = ed25519.Ed25519PrivateKey.generate()
    gap = timedelta(days=20)
    first = built(authority, private, begin=NOW, end=NOW + timedelta(days=10))
    second = built(authority, private, begin=NOW + gap, end=NOW + gap + timedelta(days=10))
    signers = TrustedSigners(authority.ca_path)
    signers.admit(der(first), subject="gw-0001", role="stream", at=NOW)
    signers.admit(der(second), subject="gw-0001", role="stream", at=NOW + gap)
    key = SigningKey(private, first)
    assert signers.held == 1
    for at in (NOW, NOW + gap):
        signers.verify(key.kid, "gw-0001", "stream", key.sign(MESSAGE), MESSAGE, at)
    with pytest.raises(Expired):
        signers.verify(key.kid, "gw-0001", "stream", key.sign(MESSAGE), MESSAGE, NOW + timedelta(days=15))


def test_certificate_of_another_authority_is_untrusted(
    authority: DevAuthority, other_authority: DevAuthority
) -> None:
    key = signing_key(other_authority)
    with pytest.raises(Untrusted, match="no authority"):
        TrustedSigners(authority.ca_path).admit(key.certificate_der, subject="gw-0001", role="stream", at=NOW)
    both = TrustedSigners([authority.ca_path, other_authority.ca_path])
    assert both.admit(key.certificate_der, subject="gw-0001", role="stream", at=NOW).kid == key.kid


def test_authority_of_the_same_name_and_another_key_is_untrusted(
    authority: DevAuthority, other_authority: DevAuthority
) -> None:
    assert authority.certificate.subject == other_authority.certificate.subject
    with pytest.raises(Untrusted, match="no authority"):
        TrustedSigners(authority.ca_path).admit(
            signing_key(other_authority).certificate_der, subject="gw-0001", role="stream", at=NOW
        )


def test_certificate_issued_by_an_end_certificate_is_untrusted(
    authority: DevAuthority, tmp_path: Path
) -> None:
    # A gateway that signs a certificate for another gateway, with its own key as the authority.
    issued = authority.issue_client("gw-0002", now=NOW)
    rogue_certificate = read_certificates(issued.cert_path)[0]
    rogue_key = read_private_key(issued.key_path)
    assert isinstance(rogue_key, ec.EllipticCurvePrivateKey)
    private = ed25519.Ed25519PrivateKey.generate()
    forged = (
        x509.CertificateBuilder()
        .subject_name(x509.load_der_x509_certificate(signing_key(authority).certificate_der).subject)
        .issuer_name(rogue_certificate.subject)
        .public_key(private.public_key())
        .serial_number(7)
        .not_valid_before(NOW - timedelta(days=1))
        .not_valid_after(NOW + timedelta(days=1))
        .add_extension(x509.ExtendedKeyUsage([SIGNING_PURPOSE]), critical=False)
        .sign(rogue_key, hashes.SHA256())
    )
    bundle = tmp_path / "bundle.pem"
    bundle.write_bytes(authority.ca_path.read_bytes() + issued.cert_path.read_bytes())
    with pytest.raises(Untrusted, match="no authority"):
        TrustedSigners(bundle).admit(der(forged), subject="gw-0001", role="stream", at=NOW)


def test_expired_authority_vouches_for_nothing_new(tmp_path: Path) -> None:
    past = NOW - timedelta(days=3650)
    old = DevAuthority.create(tmp_path, now=past)
    private = ed25519.Ed25519PrivateKey.generate()
    outlives = built(old, private, begin=past, end=NOW + timedelta(days=400))
    signers = TrustedSigners(old.ca_path)
    assert signers.admit(der(outlives), subject="gw-0001", role="stream", at=past).subject == "gw-0001"
    with pytest.raises(Untrusted, match="no authority"):
        signers.admit(der(outlives), subject="gw-0001", role="stream", at=NOW)


def test_certificates_outside_the_profile_are_untrusted(authority: DevAuthority) -> None:
    key = ed25519.Ed25519PrivateKey.generate()
    unknown = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.32473.9"), b"\x05\x00")
    cases = {
        "not made for signing": built(authority, key, purpose=ExtendedKeyUsageOID.CLIENT_AUTH),
        "not made for signing records": built(authority, key, purpose=None),
        "not for digital": built(authority, key, usage=False),
        "no key usage": built(authority, key, usage=None),
        "authority's": built(authority, key, ca=True),
        "1.3.6.1.4.1.32473.9": built(authority, key, extra=unknown),
        "neither Ed25519 nor P-256": built(authority, rsa.generate_private_key(65537, 2048)),
    }
    cases["neither Ed25519"] = built(authority, ec.generate_private_key(ec.SECP384R1()))
    signers = TrustedSigners(authority.ca_path)
    for sentence, certificate in cases.items():
        with pytest.raises(Untrusted, match=sentence):
            signers.admit(der(certificate), subject="gw-0001", role="stream", at=NOW)
    assert signers.held == 0


def test_certificate_with_two_common_names_is_nobodys(authority: DevAuthority) -> None:
    key = ed25519.Ed25519PrivateKey.generate()
    cn, ou = NameOID.COMMON_NAME, NameOID.ORGANIZATIONAL_UNIT_NAME
    double = built(authority, key, subject=((ou, "stream"), (cn, "gw-0001"), (cn, "gw-0002")))
    for subject in ("gw-0001", "gw-0002"):
        with pytest.raises(WrongSubject):
            TrustedSigners(authority.ca_path).admit(der(double), subject=subject, role="stream", at=NOW)


def test_tls_certificate_signs_no_record(authority: DevAuthority) -> None:
    issued = authority.issue_client("gw-0001", now=NOW)
    with pytest.raises(ConfigError, match=r"use the one named <id>\.sign\.pem"):
        SigningKey.load(issued.key_path, issued.cert_path)


def test_key_with_another_certificate_is_refused_by_name(authority: DevAuthority) -> None:
    one = authority.issue_signer("gw-0001", role="stream", now=NOW)
    two = authority.issue_signer("gw-0002", role="stream", now=NOW)
    with pytest.raises(ConfigError, match=r"gw-0001\.sign\.key with .*gw-0002\.sign\.pem"):
        SigningKey.load(one.key_path, two.cert_path)


def test_memory_is_bounded_and_what_fell_out_is_unknown_again(authority: DevAuthority) -> None:
    signers = TrustedSigners(authority.ca_path, capacity=2)
    keys = [signing_key(authority, f"gw-{number}") for number in range(3)]
    for key in keys[:2]:
        signers.admit(key.certificate_der, subject=key.subject, role="stream", at=NOW)
    signers.verify(keys[0].kid, "gw-0", "stream", keys[0].sign(MESSAGE), MESSAGE, NOW)
    signers.admit(keys[2].certificate_der, subject="gw-2", role="stream", at=NOW)
    assert signers.held == 2
    for key in (keys[0], keys[2]):
        signers.verify(key.kid, key.subject, "stream", key.sign(MESSAGE), MESSAGE, NOW)
    with pytest.raises(UnknownKey):
        signers.verify(keys[1].kid, "gw-1", "stream", keys[1].sign(MESSAGE), MESSAGE, NOW)


def test_one_certificate_admitted_often_is_held_once(authority: DevAuthority) -> None:
    private = ed25519.Ed25519PrivateKey.generate()
    signers = TrustedSigners(authority.ca_path)
    first = der(built(authority, private, end=NOW + timedelta(days=400)))
    for days in range(1, 8):
        signers.admit(first, subject="gw-0001", role="stream", at=NOW)
        renewed = der(built(authority, private, end=NOW + timedelta(days=days)))
        signers.admit(renewed, subject="gw-0001", role="stream", at=NOW)
    key = SigningKey(private, x509.load_der_x509_certificate(first))
    late = NOW + timedelta(days=300)
    signers.verify(key.kid, "gw-0001", "stream", key.sign(MESSAGE), MESSAGE, late)


def test_bundle_without_an_authority_is_refused(authority: DevAuthority) -> None:
    issued = authority.issue_client("gw-0001", now=NOW)
    with pytest.raises(ConfigError, match="holds no authority"):
        TrustedSigners(issued.cert_path)
    with pytest.raises(ConfigError, match="no CA bundle"):
        TrustedSigners([])


def test_instant_without_a_time_zone_is_our_own_mistake(authority: DevAuthority) -> None:
    key = signing_key(authority)
    with pytest.raises(TypeError):
        TrustedSigners(authority.ca_path).admit(
            key.certificate_der, subject="gw-0001", role="stream", at=NOW.replace(tzinfo=None)
        )


@pytest.fixture(scope="module")
def one_authority(tmp_path_factory: pytest.TempPathFactory) -> DevAuthority:
    return DevAuthority.create(tmp_path_factory.mktemp("ca"), now=NOW)


@pytest.fixture(scope="module")
def good_der(one_authority: DevAuthority) -> bytes:
    return signing_key(one_authority).certificate_der


@given(garbage=st.binary(max_size=5000))
@example(b"")
@example(b"\x30\x80")
def test_garbage_is_untrusted(one_authority: DevAuthority, garbage: bytes) -> None:
    with pytest.raises(Untrusted):
        TrustedSigners(one_authority.ca_path).admit(garbage, subject="gw-0001", role="stream", at=NOW)


@settings(max_examples=300)
@given(change=st.data())
def test_certificate_with_one_byte_changed_is_refused_or_says_the_same(
    one_authority: DevAuthority, good_der: bytes, change: st.DataObject
) -> None:
    place = change.draw(st.integers(0, len(good_der) - 1))
    changed = bytearray(good_der)
    changed[place] ^= change.draw(st.integers(1, 255))
    signers = TrustedSigners(one_authority.ca_path)
    good = signers.admit(good_der, subject="gw-0001", role="stream", at=NOW)
    try:
        found = signers.admit(bytes(changed), subject="gw-0001", role="stream", at=NOW)
    except TrustError:
        return
    # The count of unused bits in front of the authority's signature is not itself signed.
    assert replace(found, der=good.der) == good
    assert changed[:-80] == good_der[:-80]


def test_one_certificate_written_in_two_ways_is_held_once(authority: DevAuthority) -> None:
    # r, s and r, n - s are the same ECDSA signature: whoever saw a certificate can write its twin.
    private = ed25519.Ed25519PrivateKey.generate()
    first, second = (built(authority, private, end=NOW + timedelta(days=days)) for days in (90, 30))
    r, s = decode_dss_signature(first.signature)
    order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551  # FIPS 186-4 D.1.2.3
    algorithm = bytes.fromhex("300a06082a8648ce3d040302")  # ecdsa-with-SHA256, RFC 5758
    signature = b"\0" + encode_dss_signature(r, order - s)
    content = first.tbs_certificate_bytes + algorithm + bytes([0x03, len(signature)]) + signature
    twin = b"\x30\x82" + len(content).to_bytes(2, "big") + content
    assert twin != der(first)
    signers = TrustedSigners(authority.ca_path)
    signers.admit(der(second), subject="gw-0001", role="stream", at=NOW)
    for written in (der(first), twin) * 8:
        signers.admit(written, subject="gw-0001", role="stream", at=NOW)
    assert [signer.not_after for signer in signers.certificates(SigningKey(private, first).kid)] == [
        second.not_valid_after_utc,
        first.not_valid_after_utc,
    ]
