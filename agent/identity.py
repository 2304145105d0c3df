"""Whether the certificates and keys that gateway.toml names make this gateway who it says it is.

Reads the files; relies on `certs` for what makes them usable.  Told before the
first connection, because a broker's refusal says nothing of the cause.  Not here:
the contexts and signatures themselves.
"""

import contextlib
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from agent.config import Config, connections
from agent.config_said import IdentitySaid, PemFiles, identity_of
from agent.linelink import role_warnings
from certs.contexts import client_context, refuse_development_authority, server_context
from certs.pem import check_key_file, read_certificates
from certs.profile import common_name
from certs.signing import SigningKey, TrustedSigners
from core.errors import ConfigError, TrustError

SOON_DAYS = 30
"""A certificate that ends within so many days is worth a warning."""


def identity_faults(config: Config, at: datetime | None = None) -> tuple[str, ...]:
    """Return one sentence for each file that would stop a route or a signature; ``at`` is now."""
    return file_faults(identity_of(config), at)


def file_faults(said: IdentitySaid, at: datetime | None = None) -> tuple[str, ...]:
    """Return the same of what can be read of a file that has faults of its own."""
    now = datetime.now(UTC) if at is None else at
    faults = [*_told(_signing_faults(said))]
    for files in dict.fromkeys(said.routes):
        faults += _told(_connection_faults(said, files, now))
        if files.trust is not None and files.trust != files.ca:
            faults += _told(_trust_faults(said, files.trust))
    for files in dict.fromkeys(said.lines):
        faults += _told(_line_faults(said, files, now))
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


def _signing_faults(said: IdentitySaid) -> Iterator[str]:
    cert, key = said.signing.cert, said.signing.key
    if cert is None or key is None:
        yield from _lone_faults(said.signing)
        return
    yield from _subject_faults(said, SigningKey.load(key, cert).subject, cert)


def _connection_faults(said: IdentitySaid, files: PemFiles, now: datetime) -> Iterator[str]:
    ca, cert, key = files.ca, files.cert, files.key
    if ca is None or cert is None or key is None:
        yield from _lone_faults(files)
        return
    client_context(ca, cert, key, now=now)
    _refuse_development(said, ca)
    yield from _subject_faults(said, common_name(read_certificates(cert)[0]), cert)


def _line_faults(said: IdentitySaid, files: PemFiles, now: datetime) -> Iterator[str]:
    ca, cert, key = files.ca, files.cert, files.key
    if ca is None or cert is None or key is None:
        yield from _lone_faults(files)
        return
    _refuse_development(said, ca)
    make = server_context if files.listening else client_context
    make(ca, cert, key, now=now)


def _lone_faults(files: PemFiles) -> Iterator[str]:
    """Yield what is wrong with files by themselves, where a pair or a bundle is not complete."""
    if files.ca is not None:
        yield from _told(_read(files.ca, "CA bundle"))
    if files.cert is not None:
        yield from _told(_read(files.cert, "certificate"))
    if files.key is not None:
        check_key_file(files.key)


def _read(path: Path, what: str) -> Iterator[str]:
    read_certificates(path, what)
    yield from ()


def _subject_faults(said: IdentitySaid, subject: str, cert: Path) -> Iterator[str]:
    if said.gateway and subject != said.gateway:
        yield (
            f"certificate {cert} is issued to {subject or 'nobody'} and the gateway is {said.gateway}: "
            "the broker would take it for another; use its own certificate or correct gateway id"
        )


def _trust_faults(said: IdentitySaid, trust: Path) -> Iterator[str]:
    TrustedSigners(trust)
    _refuse_development(said, trust)
    yield from ()


def _refuse_development(said: IdentitySaid, ca: Path) -> None:
    if said.setting is not None:
        refuse_development_authority(ca, said.setting.value)
