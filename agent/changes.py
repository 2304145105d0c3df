"""What is not as it was when last seen: configuration, keys, the customer's no; told in the audit.

Each is a map from what it is about to a text, kept in the control file, so that a change made while no agent
ran is found by the next start.  The entry is appended before the map is kept: a crash between the two tells
it twice and never loses it.  Not here: what a person did with a command (`agent.acts`).
"""

import base64
import json
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.hashes import SHA256
from pydantic import BaseModel

from agent.config import Connection
from agent.config_models import Config
from agent.store.recordfile import RecordFile
from agent.store.store import Store
from certs.pem import read_certificates
from certs.signing import SigningKey
from core.errors import ConfigError

TOLD: Final = 50
"""So many differences stand in one entry; of more there is the number."""
LONGEST: Final = 200
"""A text is cut behind so many signs."""
LONGEST_NOTE: Final = 8 << 20
NOTE: Final = "was-"
"""With the kind behind it: the note in the control file."""

Said = Mapping[str, str]


class Changes:
    """Compares with what is kept, and tells what differs."""

    def __init__(self, store: Store, now_ms: Callable[[], int]) -> None:
        """Prepare; nothing is told yet."""
        self._store = store
        self._now_ms = now_ms
        self._seen: dict[str, Said] = {}

    def see(self, kind: str, now: Said, *, always: bool = False) -> None:
        """Tell in an entry of this kind what differs from what was seen last; `always`: also nothing."""
        if self._seen.get(kind) == now and not always:
            return
        self._seen[kind] = now
        at_ms = self._now_ms()

        def compare(file: RecordFile) -> None:
            kept = file.meta(NOTE + kind)
            before = None if kept is None else decoded(kept)
            if before != now or always:
                self._store.audit_file.append(at_ms, kind, entry(before, now))
            if before != now:
                file.set_meta(NOTE + kind, encoded(now))

        self._store.control.writer.call(compare)


def entry(before: Said | None, now: Said) -> dict[str, object]:
    """Return the body of an audit entry: both digests, and what differs where the one before is known."""
    found = [] if before is None else list(differences(before, now))
    body: dict[str, object] = {
        "sha256": digest(now),
        "before": None if before is None else digest(before),
        "differs": found[:TOLD],
    }
    return body if len(found) <= TOLD else {**body, "more": len(found) - TOLD}


def differences(before: Said, now: Said) -> Iterator[dict[str, str | None]]:
    """Yield what was added, taken away or changed, in the order of the names."""
    for what in sorted(before.keys() | now.keys()):
        was, is_ = before.get(what), now.get(what)
        if was != is_:
            yield {"what": _cut(what), "was": was and _cut(was), "is": is_ and _cut(is_)}


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"


def digest(said: Said) -> str:
    """Return the SHA-256 of a map as JSON with sorted members, in hexadecimal."""
    return sha256(_plain(said)).hexdigest()


def _plain(said: Said) -> bytes:
    return json.dumps(dict(said), sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def encoded(said: Said) -> str:
    """Return a map as it is kept: text, small."""
    return base64.b64encode(zlib.compress(_plain(said))).decode()


def decoded(note: str) -> dict[str, str] | None:
    """Return a map as it was kept; None when it cannot be read."""
    try:
        inflate = zlib.decompressobj()
        found = json.loads(inflate.decompress(base64.b64decode(note, validate=True), LONGEST_NOTE))
    except (ValueError, zlib.error):
        return None
    return {str(what): str(text) for what, text in found.items()} if isinstance(found, dict) else None


def configuration(config: Config, types: Mapping[str, tuple[str, str]]) -> dict[str, str]:
    """Return what gateway.toml says, each key with its place, and the version of each device type."""
    said = dict(_said("", config))
    said |= {f"type/{name}": version for name, version in types.values()}
    return said


def _said(place: str, value: object) -> Iterator[tuple[str, str]]:
    if isinstance(value, BaseModel):
        fields = type(value).model_fields
        for name in value.model_fields_set:
            yield from _said(f"{place}/{fields[name].alias or name}".lstrip("/"), getattr(value, name))
    elif isinstance(value, tuple):
        if value and isinstance(value[0], BaseModel):
            for number, one in enumerate(value, 1):
                yield from _said(f"{place}/{getattr(one, 'name', number)}", one)
        else:
            yield place, ", ".join(map(str, value))
    elif isinstance(value, dict):
        for key, one in value.items():
            yield from _said(f"{place}/{key}", one)
    elif value is not None:
        yield place, str(value)


def own_keys(config: Config, key: SigningKey) -> dict[str, str]:
    """Return the fingerprints of what is in force from the start on: the signing key, and who is trusted."""
    said: dict[str, str] = {
        "signing/kid": key.kid.hex(),
        "signing/certificate": sha256(key.certificate_der).hexdigest(),
        "signing/until": key.not_after.isoformat(),
    }
    for route in config.routes:
        if route.trust is not None:
            said[f"route/{route.name}/trust"] = _of_file(route.trust)
    if config.policy is not None:
        said["policy/root"] = _of_file(config.policy.root)
    return said


def _of_file(path: Path) -> str:
    try:
        return sha256(path.read_bytes()).hexdigest()
    except OSError:
        return "unreadable"


class ConnectionKeys:
    """Certificates and authorities of the connections, which are read anew at each connecting."""

    def __init__(self, connections: Sequence[Connection]) -> None:
        self._files: dict[Path, str] = {}
        """What each is."""
        for connection in connections:
            if connection.cert is not None:
                self._files.setdefault(connection.cert, "certificate")
            if connection.ca is not None:
                self._files.setdefault(connection.ca, "authorities")
        self._seen: dict[Path, tuple[int, int, int] | None] = {}
        self._said: dict[str, str] = {}

    def now(self) -> dict[str, str]:
        """Return the fingerprints; a file is read again only when it changed."""
        for path, what in self._files.items():
            try:
                status = path.stat()
                seen = (status.st_mtime_ns, status.st_size, status.st_ino)
            except OSError:
                seen = None
            if path not in self._seen or seen != self._seen[path]:
                self._seen[path] = seen
                self._said[f"{what}/{path}"] = _certificate(path) if what == "certificate" else _of_file(path)
        return dict(self._said)


def _certificate(path: Path) -> str:
    """Return the fingerprint by which a certificate is shown elsewhere: of its DER form."""
    try:
        return bytes(read_certificates(path)[0].fingerprint(SHA256())).hex()
    except ConfigError:
        return "unreadable"
