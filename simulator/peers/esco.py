"""An energy service company that sends commands, written from docs/control.md alone.

It knows nothing of how commands are decided or followed: it builds the JSON, signs it as a JWS with the
standard library and `cryptography`, and publishes.  So it is no mirror of `policies` or of `portico command`,
and what it may send is also what ought to be refused: any document, any header, any topic.

Relies on the grammar of topics in `core`.
"""

import base64
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

import paho.mqtt.client as mqtt
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from core.topics import command_topic

TYPE: Final = "portico-command+jws"
BEAT_TYPE: Final = "portico-beat+jws"
PrivateKey = ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey


@dataclass(frozen=True, slots=True)
class Esco:
    """One operator of one company."""

    entity: str
    application: str
    individual: str
    key_id: str
    key: PrivateKey

    def command(
        self, gateway: str, device: str, point: str, verb: str, now: datetime, **more: object
    ) -> dict[str, object]:
        """Return a command as a document, good for a minute; ``more`` adds to it or changes it."""
        found: dict[str, object] = {
            "id": f"{now.astimezone(UTC):%Y%m%d%H%M%S}-{secrets.token_hex(6)}",
            "issuer": {
                "entity": self.entity,
                "application": self.application,
                "individual": self.individual,
            },
            "gateway": gateway,
            "device": device,
            "point": point,
            "verb": verb,
            "issued": instant(now),
            "expires": instant(now + timedelta(seconds=60)),
            "emergency": False,
            "cosigners": [],
        }
        return {key: value for key, value in {**found, **more}.items() if value is not None}

    def envelope(self, command: Mapping[str, object], **header: str) -> bytes:
        """Return a command signed; ``header`` adds to the protected header or changes it."""
        alg = "Ed25519" if isinstance(self.key, ed25519.Ed25519PrivateKey) else "ES256"
        protected = {"alg": alg, "kid": f"{self.entity}/{self.key_id}", "typ": TYPE, **header}
        body = json.dumps(command, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        signed = b".".join((_part(json.dumps(protected).encode()), _part(body.encode())))
        return b".".join((signed, _part(self._signature(signed))))

    def beat(self, segment: str, now: datetime, **more: object) -> bytes:
        """Return a beat of the hub to the gateways of a segment, signed; ``more`` changes it."""
        found: dict[str, object] = {
            "entity": self.entity,
            "application": self.application,
            "segment": segment,
            "issued": instant(now),
            **more,
        }
        return self.envelope(found, typ=BEAT_TYPE)

    def topic(self, gateway: str, device: str) -> str:
        """Return where a command to a device goes."""
        return command_topic(gateway, self.entity, device)

    def _signature(self, signed: bytes) -> bytes:
        if isinstance(self.key, ed25519.Ed25519PrivateKey):
            return self.key.sign(signed)
        r, s = decode_dss_signature(self.key.sign(signed, ec.ECDSA(hashes.SHA256())))
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")


def send(
    client: mqtt.Client, topic: str, envelope: bytes, *, expires_s: int = 60, retain: bool = False
) -> mqtt.MQTTMessageInfo:
    """Publish by a connected MQTT 5 client; ``retain`` is what nobody ought to do."""
    properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
    properties.MessageExpiryInterval = expires_s
    return client.publish(topic, envelope, qos=1, retain=retain, properties=properties)


def instant(at: datetime) -> str:
    """Return an instant as a command has it: RFC 3339 in UTC, milliseconds where there are some."""
    at = at.astimezone(UTC)
    milliseconds = at.microsecond // 1000
    return f"{at:%Y-%m-%dT%H:%M:%S}" + (f".{milliseconds:03d}Z" if milliseconds else "Z")


def _part(raw: bytes) -> bytes:
    return base64.urlsafe_b64encode(raw).rstrip(b"=")
