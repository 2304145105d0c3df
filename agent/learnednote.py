"""What was learned of the devices, kept over restarts as a note in the control file, and its forgetting.

It counts for one device and one version of its type's file: when either changes, it is forgotten.
To forget by hand, a person's command leaves an empty file ``forget-<device>`` in the data directory;
a running agent takes it away within seconds, one that is started before it makes its first plan.

Not here: how it is learned (``agent.learned``).
"""

import hashlib
import json
import logging
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Final

import msgspec

from agent.config_models import Config
from agent.config_rules import Types
from agent.store.look import read_only
from agent.store.opening import CONTROL
from core.errors import StoreError
from drivers.modbus.learned import Learned
from drivers.types import DeviceType

log = logging.getLogger(__name__)

KEY: Final = "learned"
"""Of the note in the control file's table ``meta``."""
FORGET: Final = "forget-"


class Known(msgspec.Struct, frozen=True):
    """What is kept of one device."""

    type: str
    version: str
    learned: Learned


def version_of(kind: DeviceType) -> str:
    """Return a name for what of a type decides how it is read: it changes with its file."""
    parts = [kind.limits, *kind.blocks, *kind.points]
    return hashlib.sha256("".join(part.model_dump_json() for part in parts).encode()).hexdigest()[:16]


def encode(known: Mapping[str, Known]) -> str:
    """Return the note."""
    return msgspec.json.encode(dict(known)).decode()


def decode(note: str, types: Mapping[str, tuple[str, str]]) -> dict[str, Known]:
    """Return what a note says of devices that are as they were; ``types``: (type, version) by device."""
    try:
        found = msgspec.json.decode(note, type=dict[str, Known])
    except (msgspec.MsgspecError, json.JSONDecodeError, ValueError):
        log.warning("what was learned of the devices cannot be read: it is learned again")
        return {}
    return {
        device: known for device, known in found.items() if types.get(device) == (known.type, known.version)
    }


def types_by_device(config: Config, types: Types) -> dict[str, tuple[str, str]]:
    """Return type and version by device."""
    versions = {name: version_of(types(name)) for name in {device.type for device in config.devices}}
    return {device.name: (device.type, versions[device.type]) for device in config.devices}


def read_note(directory: Path, types: Mapping[str, tuple[str, str]]) -> dict[str, Known]:
    """Return what the control file remembers; nothing when there is none, or when it cannot be read."""
    path = directory / CONTROL
    if not path.exists():
        return {}
    try:
        with closing(read_only(path)) as db:
            row = db.execute("SELECT value FROM meta WHERE key = ?", (KEY,)).fetchone()
    except (sqlite3.Error, StoreError, OSError) as error:
        log.warning("what was learned of the devices cannot be read (%s): it is learned again", error)
        return {}
    return {} if row is None else decode(str(row[0]), types)


def ask_to_forget(directory: Path, device: str) -> Path:
    """Leave the request that a device be forgotten; return its file, which goes when it is done."""
    request = directory / f"{FORGET}{device}"
    request.touch()
    return request


def to_forget(directory: Path) -> list[str]:
    """Return the devices that somebody asked to forget."""
    try:
        return [path.name.removeprefix(FORGET) for path in directory.glob(FORGET + "*")]
    except OSError:
        return []


def forgotten(directory: Path, device: str) -> None:
    """Take the request away: it is done."""
    (directory / f"{FORGET}{device}").unlink(missing_ok=True)
