"""A mosquitto configuration with Portico's access rules, for development, demo and tests.

The certificate's common name is the MQTT user name, and the rules go by user name: a gateway writes
in its own branch alone, and an entity reads its own streams alone. They are the first of two locks:
what matters is signed, and filtered at the edge.

Not here: running the broker (`simulator.broker`). mosquitto cannot bind client ids to user names while a
gateway may hold several connections, so one gateway can disconnect another by taking its client id; it gains
nothing to read.

Source: the topic table in *Wire* of the design; mosquitto.conf(5), version 2.0.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from certs.pem import write_atomically
from certs.profile import checked_id
from core.errors import ConfigError
from core.topics import ROOT

GATEWAY_RULES: Final = (
    ("readwrite", "{id}/state"),  # read: it notices a twin with its id
    ("write", "{id}/stream/#"),
    ("write", "{id}/manifest/#"),
    ("write", "{id}/evt/#"),
    ("read", "{id}/confirm/#"),
    ("read", "{id}/ask/#"),
    ("read", "{id}/cmd/#"),
    ("read", "{id}/assign"),
    ("read", "grp/+/cmd/#"),
    ("read", "beat/#"),
    ("read", "policy/#"),
)

ENTITY_RULES: Final = (
    ("read", "+/stream/{id}/#"),
    ("read", "+/state"),
    ("read", "+/evt/audit"),
    ("read", "+/manifest/{id}"),
    ("write", "+/confirm/{id}"),
    ("write", "+/ask/{id}"),
    ("write", "+/cmd/{id}/+"),
    ("write", "grp/+/cmd/{id}"),
    ("write", "beat/+/{id}"),
)

POLICY_RULES: Final = (
    ("write", "policy/+/bundle"),
    ("write", "policy/+/timestamp"),
    ("write", "+/assign"),
)


def access_rules(
    gateways: Sequence[str] | None, entities: Sequence[str], policy_service: str | None = None
) -> str:
    """The text of mosquitto's ACL file.

    `gateways` None gives the gateways' rules to every certificate in its own branch (`pattern`, `%u`);
    a list names those who have one, and entities then have no branch at all, which is tighter.
    `policy_service` publishes policies and assignments. Raises ConfigError for an unusable id, or one that
    has two parts.
    """
    both = set(gateways or ()) & set(entities)
    if both:
        raise ConfigError(f"{sorted(both)[0]!r} is named as gateway and as entity: give it one part")
    if policy_service is not None and policy_service in {*(gateways or ()), *entities}:
        raise ConfigError(f"{policy_service!r} is the policy service and something else: give it one part")
    lines = ["# Written by portico. The user name is the common name of the client's certificate."]
    if gateways is None:
        lines += [f"pattern {access} {ROOT}/{topic.format(id='%u')}" for access, topic in GATEWAY_RULES]
    for gateway in gateways or ():
        lines += _user(gateway, GATEWAY_RULES)
    for entity in entities:
        lines += _user(entity, ENTITY_RULES)
    if policy_service is not None:
        lines += _user(policy_service, POLICY_RULES)
    return "\n".join(lines) + "\n"


def write_broker_config(
    directory: Path,
    *,
    port: int,
    ca: Path,
    cert: Path,
    key: Path,
    gateways: Sequence[str] | None = None,
    entities: Sequence[str] = (),
    policy_service: str | None = None,
    persistence: bool = True,
    autosave_s: int = 60,
    max_queued_messages: int = 10_000,
    max_inflight_messages: int = 100,
    max_packet_bytes: int = 4 * 1024 * 1024,
    crl: Path | None = None,
) -> Path:
    """Write `mosquitto.conf` and `acl` into `directory`; return the path of the former.

    One TLS listener on 127.0.0.1:`port` that requires client certificates. The log is
    `mosquitto.log`; the sessions, with `persistence`, lie in `sessions/`, saved every `autosave_s`
    seconds (0: only at an orderly end). `max_queued_messages` counts per client beyond those in
    flight; mosquitto drops what is over it, silently after its PUBACK.
    """
    directory = Path(directory).resolve()
    sessions = directory / "sessions"
    try:
        sessions.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"directory {sessions} cannot be made: {error.strerror}") from error
    acl = directory / "acl"
    write_atomically(acl, access_rules(gateways, entities, policy_service).encode(), 0o600)
    lines = [
        "# Written by portico, for development. One listener, on this machine alone.",
        "per_listener_settings false",
        f"listener {port} 127.0.0.1",
        f"cafile {Path(ca).resolve()}",
        f"certfile {Path(cert).resolve()}",
        f"keyfile {Path(key).resolve()}",
        *([f"crlfile {Path(crl).resolve()}"] if crl is not None else []),
        "tls_version tlsv1.2",
        "require_certificate true",
        "use_identity_as_username true",
        "allow_anonymous false",
        f"acl_file {acl}",
        "set_tcp_nodelay true",
        f"max_inflight_messages {max_inflight_messages}",
        f"max_queued_messages {max_queued_messages}",
        f"max_packet_size {max_packet_bytes}",
        "persistent_client_expiration 14d",
        f"persistence {'true' if persistence else 'false'}",
        *([f"persistence_location {sessions}/", f"autosave_interval {autosave_s}"] if persistence else []),
        f"log_dest file {directory / 'mosquitto.log'}",
        "log_timestamp_format %Y-%m-%dT%H:%M:%S",
        "log_type error",
        "log_type warning",
        "log_type notice",
        "log_type information",
        # As root mosquitto would become another user, who cannot read a key of mode 0600.
        *(["user root"] if os.geteuid() == 0 else []),
    ]
    path = directory / "mosquitto.conf"
    write_atomically(path, ("\n".join(lines) + "\n").encode(), 0o600)
    return path


def _user(identity: str, rules: Iterable[tuple[str, str]]) -> list[str]:
    checked_id(identity)
    granted = [f"topic {access} {ROOT}/{topic.format(id=identity)}" for access, topic in rules]
    return ["", f"user {identity}", *granted]
