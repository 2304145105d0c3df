"""The demo's policy: who takes part, what each may do, and every signature that it needs to count.

A repository as `portico policy init ... publish` keeps it, by the same calls: two of three keys of the
utility sign, the company and the customer agree with keys of their own, the assignment names what counts at
the one gateway.  It reaches the gateway as everywhere: as retained messages of a broker, believed by its
signatures.

Relies on `policies.trust` for the acts and on `headend.policysend` for the network.  Not here: what is
commanded under it (`cli.demo_control`).
"""

import base64
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from cli.demo_site import CUSTOMER, DSO, ESCO, GATEWAY, OTHER, RELAY, SERVICE
from headend.policysend import Sending, section, send
from policies.trust.bounds import ROOT, SNAPSHOT, TIMESTAMP
from policies.trust.ceremony import FirstKeys, add_entity, assign, begin, put_part, set_roster
from policies.trust.contents import Table
from policies.trust.files import write_whole
from policies.trust.instants import instant_text
from policies.trust.keys import Algorithm, KeyPair, generate, write
from policies.trust.publishing import Publication, publish, write_publication

APPLICATION: Final = "dr-hub"
INDIVIDUAL: Final = "op-17"
KEY_ID: Final = "op-17"
PURPOSE: Final = "peak"
GRANT: Final = "esco1-water-heaters"
SEGMENT: Final = "main"
BEFORE_H: Final = 1
AFTER_H: Final = 3
"""The grant's window of a day, in hours before and after now."""
OUTSIDE_H: Final = 6
"""So many hours from now no control is within the window."""
_KINDS: Final = {DSO: "utility", ESCO: "esco", OTHER: "esco", CUSTOMER: "customer"}


def sign_policy(
    base: Path, operators: Mapping[str, Ed25519PrivateKey], devices: Sequence[Table], now: datetime
) -> Publication:
    """Keep, sign, assign and publish a policy in a new folder; `root.json` there is for the gateway.

    Args:
        base: the folder.
        operators: the key with which the operator of an entity signs commands; its public half stands in
            the entity's roster.
        devices: rows of the gateway's assignment, one a device.
        now: the instant at which everybody acts; the grant's window lies around it.
    """
    now_ms = int(now.timestamp() * 1000)
    pairs = {name: generate(name, Algorithm.ED25519 if odd else Algorithm.P256) for name, odd in _names()}
    for pair in pairs.values():
        write(base / "keys", pair, None)

    def three(role: str) -> list[KeyPair]:
        return [pairs[f"{role}-{number}"] for number in (1, 2, 3)]

    first = FirstKeys(
        [one.public for one in three("root")],
        [one.public for one in three("targets")],
        pairs[SNAPSHOT].public,
        pairs[TIMESTAMP].public,
        pairs["assignment"].public,
    )
    repository = begin(base, DSO, "UTC", first, now_ms)
    for entity, kind in _KINDS.items():
        add_entity(repository, entity, kind, [pairs[entity].public], 1, now_ms)
    put_part(repository, "demo", _part(now), [CUSTOMER], now_ms)
    for entity, key in operators.items():
        set_roster(repository, entity, _roster(entity, key, now), now_ms)
    # Two of the three of each, and everybody who has something of their own to sign.
    for name in ("root-1", "root-3", "targets-1", "targets-2", *_KINDS):
        repository.sign(pairs[name])
    assign(
        repository,
        GATEWAY,
        {
            "device": list(devices),
            "select": [{"grant": GRANT, "devices": [RELAY]}],
            # It counts because the customer has signed the grant's very wording, in its own folder.
            "consent": [
                {
                    "grant": GRANT,
                    "revision": 1,
                    "owner": CUSTOMER,
                    "evidence": "signed by itself",
                }
            ],
        },
        pairs["assignment"],
        (),
        now_ms,
    )
    made = publish(repository, (pairs[SNAPSHOT], pairs[TIMESTAMP]), now_ms)
    write_publication(made, base / "out")
    write_whole(base / "root.json", repository.raw(ROOT, repository.versions(ROOT)[-1]))
    return made


def send_policy(policy: Publication, url: str, certs: Path) -> None:
    """Give a published policy to the broker, as retained messages."""
    broker = section(url, certs / "ca.pem", certs / f"{SERVICE}.pem", certs / f"{SERVICE}.key")
    send(policy, Sending(broker, SEGMENT, SERVICE), {})


def window(now: datetime) -> tuple[str, str]:
    """Return begin and end of the grant's window of a day, in UTC."""
    return (f"{now - timedelta(hours=BEFORE_H):%H:%M}", f"{now + timedelta(hours=AFTER_H):%H:%M}")


def _names() -> Sequence[tuple[str, bool]]:
    roles = [f"{role}-{number}" for role in ("root", "targets") for number in (1, 2, 3)]
    names = [*roles, SNAPSHOT, TIMESTAMP, "assignment", *_KINDS]
    return [(name, at % 2 == 0) for at, name in enumerate(names)]


def _part(now: datetime) -> Table:
    begin, end = window(now)
    return {
        "entity": [
            {"id": entity, "kind": kind, **({"application": [{"id": APPLICATION}]} if kind == "esco" else {})}
            for entity, kind in _KINDS.items()
            if entity != DSO
        ],
        "limits": [
            {"type": "generic-load-relay", "point": "LoadShed", "verbs": ["shed"], "hold": "timer"},
        ],
        "grant": [
            {
                "id": GRANT,
                "from": ESCO,
                "by": {"applications": [APPLICATION]},
                "may": ["shed"],
                "to": {"kinds": ["water-heater"]},
                "purpose": [PURPOSE],
                "valid": {"until": _instant(now + timedelta(days=30))},
                "windows": [{"start": begin, "end": end}],
                "duration": {"max": "2h"},
                "agreement": "Demand response agreement 2026-004",
            }
        ],
    }


def _roster(entity: str, key: Ed25519PrivateKey, now: datetime) -> Table:
    der = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    valid = {"from": _instant(now - timedelta(days=1)), "until": _instant(now + timedelta(days=30))}
    return {
        "roster": {"entity": entity},
        "individual": [{"id": INDIVIDUAL, "roles": ["operator"]}],
        "key": [
            {
                "id": KEY_ID,
                "individual": INDIVIDUAL,
                "applications": [APPLICATION],
                "algorithm": "Ed25519",
                "public": base64.b64encode(der).decode(),
                "valid": valid,
            }
        ],
    }


def _instant(at: datetime) -> str:
    return instant_text(int(at.astimezone(UTC).timestamp()) * 1000)
