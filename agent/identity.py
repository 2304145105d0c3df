"""Whether the certificates and keys that gateway.toml names make this gateway who it says it is.

Reads the files; relies on `certs` for what makes them usable.  Told before the
first connection, because a broker's refusal says nothing of the cause.  Not here:
the contexts and signatures themselves.
"""

import contextlib
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from agent.config import Config, Connection, LineConfig, Scheme, Setting, connections
from agent.linelink import line_context, role_warnings
from certs.contexts import client_context, refuse_development_authority
from certs.pem import read_certificates
from certs.profile import common_name
from certs.signing import SigningKey, TrustedSigners
from core.errors import ConfigError, TrustError

SOON_DAYS = 30
"""A certificate that ends within so many days is worth a warning."""


def identity_faults(config: Config, at: datetime | None = None) -> tuple[str, ...]:
    """Return one sentence for each file that would stop a route or a signature; ``at`` is now."""
    now = datetime.now(UTC) if at is None else at
    faults = [*_told(_signing_faults(config))]
    for connection in connections(config):
        faults += _told(_connection_faults(config, connection, now))
        for route in connection.routes:
            trust = route.trust
            if trust is not None and trust != connection.ca:
                faults += _told(_trust_faults(config, trust))
    for line in config.lines:
        faults += _told(_line_faults(config, line, now))
    return tuple(dict.fromkeys(faults))


def identity_warnings(config: Config, at: datetime | None = None) -> tuple[str, ...]:
    """Return which certificates of this gateway have ended or end soon."""
    now = datetime.now(UTC) if at is None else at
    paths = [config.gateway.signing_cert, *(one.cert for one in connections(config) if one.cert is not None)]
    paths += [line.cert for line in config.lines if line.cert is not None]
    found: list[str] = []
    for path in dict.fromkeys(paths):
        try:
            end = read_certificates(path)[0].not_valid_after_utc
        except ConfigError:
            continue  # told by identity_faults
        days = (end - now).days
        if days < 0:
            found.append(f"certificate {path} ended on {end:%Y-%m-%d}: the other end refuses what it proves")
        elif days < SOON_DAYS:
            found.append(f"certificate {path} ends on {end:%Y-%m-%d}, in {days} days: issue the next one")
    with contextlib.suppress(ConfigError):  # told by identity_faults
        found += role_warnings(config)
    return tuple(found)


def _told(faults: Iterator[str]) -> Iterator[str]:
    """Yield the faults, and as the last one the error that kept from looking further."""
    try:
        yield from faults
    except (ConfigError, TrustError) as error:
        yield str(error)


def _signing_faults(config: Config) -> Iterator[str]:
    gateway = config.gateway
    key = SigningKey.load(gateway.signing_key, gateway.signing_cert)
    yield from _subject_faults(key.subject, gateway.signing_cert, gateway.id)


def _connection_faults(config: Config, connection: Connection, now: datetime) -> Iterator[str]:
    ca, cert, key = connection.ca, connection.cert, connection.key
    if ca is None or cert is None or key is None:
        if connection.url.scheme is Scheme.MQTTS:
            raise TypeError("a route by mqtts without certificates passed validation")
        return
    client_context(ca, cert, key, now=now)
    refuse_development_authority(ca, _setting(config))
    yield from _subject_faults(common_name(read_certificates(cert)[0]), cert, config.gateway.id)


def _line_faults(config: Config, line: LineConfig, now: datetime) -> Iterator[str]:
    make = line_context(config, line, now)
    if make is not None:
        make()
    yield from ()


def _subject_faults(subject: str, cert: Path, gateway: str) -> Iterator[str]:
    if subject != gateway:
        yield (
            f"certificate {cert} is issued to {subject or 'nobody'} and the gateway is {gateway}: "
            "the broker would take it for another; use its own certificate or correct gateway id"
        )


def _trust_faults(config: Config, trust: Path) -> Iterator[str]:
    TrustedSigners(trust)
    refuse_development_authority(trust, _setting(config))
    yield from ()


def _setting(config: Config) -> Literal["development", "production"]:
    return "development" if config.gateway.setting is Setting.DEVELOPMENT else "production"
