"""The peer that sends commands and the gateway's judge were written apart, and agree on the bytes."""

import base64
from datetime import UTC, datetime

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from core.topics import command_parts
from policies.envelope import EnvelopeError, open_envelope
from policies.reading import canonical, parse_command
from policies.roster import Key
from simulator.peers.esco import Esco, PrivateKey

AT = datetime(2026, 11, 22, 17, 0, 0, 250_000, tzinfo=UTC)
KEYS: list[PrivateKey] = [ed25519.Ed25519PrivateKey.generate(), ec.generate_private_key(ec.SECP256R1())]


def esco(key: PrivateKey = KEYS[0]) -> Esco:
    return Esco("esco1", "hub", "op-17", "k1", key)


def shed(peer: Esco) -> dict[str, object]:
    more = {"value": "1", "duration": "30min", "purpose": "peak"}
    return peer.command("gw-0001", "wh-01", "LoadShed", "shed", AT, **more)


def roster_key(key: PrivateKey, entity: str, id_: str) -> Key | None:
    if (entity, id_) != ("esco1", "k1"):
        return None
    der = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    algorithm = "Ed25519" if isinstance(key, ed25519.Ed25519PrivateKey) else "ES256"
    return Key.model_validate(
        {
            "id": id_,
            "individual": "op-17",
            "applications": ["hub"],
            "algorithm": algorithm,
            "public": base64.b64encode(der).decode(),
            "valid": {},
        }
    )


@pytest.mark.parametrize("key", KEYS, ids=["Ed25519", "P-256"])
def test_what_the_peer_signs_is_what_a_gateway_reads(key: PrivateKey) -> None:
    peer = esco(key)
    opened = open_envelope(peer.envelope(shed(peer)), lambda *who: roster_key(key, *who))
    command = opened.command
    assert (command.issuer.entity, command.device, command.duration_s) == ("esco1", "wh-01", 1800)
    assert (command.issued_ms, command.expires_ms) == (
        int(AT.timestamp() * 1000), int(AT.timestamp() * 1000) + 60_000,
    )  # fmt: skip
    assert opened.keys == {"k1"}


def test_its_json_is_the_canonical_one() -> None:
    peer = esco()
    signed = base64.urlsafe_b64decode(peer.envelope(shed(peer)).split(b".")[1] + b"==")
    assert canonical(parse_command(signed)) == signed


def test_its_topic_is_one_of_commands() -> None:
    assert command_parts(esco().topic("gw-0001", "wh-01"), "gw-0001") == ("esco1", "wh-01")


@pytest.mark.parametrize(
    ("header", "code"),
    [
        ({"alg": "none"}, "malformed"),
        ({"alg": "HS256"}, "malformed"),
        ({"alg": "ES256"}, "bad-signature"),
        ({"jwk": "x"}, "malformed"),
        ({"typ": "JWT"}, "malformed"),
        ({"kid": "esco2/k1"}, "unknown-key"),
    ],
)
def test_a_header_that_confuses_is_refused(header: dict[str, str], code: str) -> None:
    peer = esco()
    with pytest.raises(EnvelopeError) as refused:
        open_envelope(peer.envelope(shed(peer), **header), lambda *who: roster_key(KEYS[0], *who))
    assert refused.value.code == code
