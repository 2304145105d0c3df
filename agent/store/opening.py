"""Opening the directory: one agent at a time, each file whole or salvaged, a full disk not the end.

Not here: the new epoch (``agent.store.birth``), and how a file is salvaged.
"""

import contextlib
import errno
import fcntl
import json
import logging
import os
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar

from agent.store.audit import AuditFile
from agent.store.connection import translated
from agent.store.logrepair import looked_at
from agent.store.recordfile import Epoch, RecordFile
from agent.store.room import Room
from agent.store.salvage import Spare, mark_damaged, needs_salvage, set_aside
from core.errors import ConfigError, StoreCorrupt, StoreError, StoreFull
from core.manifest import Manifest

log = logging.getLogger(__name__)
T = TypeVar("T")

READINGS: Final = "readings.db"
CONTROL: Final = "control.db"
AUDIT: Final = "audit.db"


def lock(directory: Path) -> int:
    """Make the directory ours; return the handle that keeps it so.  Raises ConfigError."""
    try:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle = os.open(directory / "lock", os.O_CREAT | os.O_RDWR, 0o600)
    except OSError as error:
        raise ConfigError(f"data_dir {directory} cannot be used: {error.strerror}") from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(handle)
        raise ConfigError(
            f"another agent is using {directory}: stop it, or give this gateway a data_dir of its own"
        ) from error
    return handle


def with_room(room: Room, path: Path, act: Callable[[], T]) -> T:
    """Do something with a file that needs room; on a full disk give the reserve back and do it again.

    A file that turns out to be damaged is marked, so that the next opening salvages it.
    """
    try:
        return _translated(path, act)
    except StoreFull:
        if not room.give_reserve_back():
            raise
        log.warning("the disk is full: the reserve was given back to start at all")
        return _translated(path, act)


def _translated(path: Path, act: Callable[[], T]) -> T:
    try:
        return act()
    except sqlite3.Error as error:
        found = translated(error, path)
        if isinstance(found, StoreCorrupt):
            mark_damaged(path)
        raise found from error
    except StoreCorrupt:
        mark_damaged(path)
        raise
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise StoreFull(f"no room on the disk for {path}: free some") from error
        raise StoreError(f"{path}: {error.strerror}") from error


def opened(
    path: Path, kind: str, checkpoint: int, spare: Callable[[], Spare] = Spare
) -> tuple[RecordFile, str]:
    """Open a file, salvaging it when it is damaged; return it and what a person should know, if anything."""
    if not needs_salvage(path, kind):
        return RecordFile(path, kind, checkpoint), ""
    salvage = set_aside(path, kind, spare())
    text = (
        f"{path.name} was damaged: set aside as {salvage.aside.name}, {salvage.records} records salvaged"
        f"{'' if salvage.whole else ', some may be lost'}"
        f"{', the journal of controls is lost or a part of it' if salvage.journal_lost else ''}"
    )
    log.error("%s", text)
    return RecordFile(path, kind, checkpoint), text


def opened_audit(path: Path) -> AuditFile:
    """Open the audit file; a damaged one is set aside for a person to look at, nothing is salvaged."""
    with contextlib.suppress(StoreCorrupt):
        if not _is_cut(path):
            return AuditFile(path)
    number = 1
    while (aside := path.with_name(f"{path.name}.damaged-{number}")).exists():
        number += 1
    _move_with_log(path, aside)
    log.error("%s was damaged: set aside as %s", path.name, aside.name)
    anew = AuditFile(path)
    anew.append(time.time_ns() // 1_000_000, "set-aside", {"file": path.name, "as": aside.name})
    return anew


def _move_with_log(path: Path, aside: Path) -> None:
    """Rename a file, never leaving it alone without its log: it would go on from an older state."""
    parts = [(path.with_name(path.name + end), aside.with_name(aside.name + end)) for end in ("-wal", "-shm")]
    for part, kept in parts:
        with contextlib.suppress(OSError):  # no log, or a file system without links
            kept.unlink(missing_ok=True)
            os.link(part, kept)
    if path.exists():
        path.rename(aside)
    for part, kept in parts:
        if part.exists():
            part.replace(kept)  # does nothing where both are links to one file
            part.unlink(missing_ok=True)


def _is_cut(path: Path) -> bool:
    """Tell whether a part of the log is behind damage; what SQLite sees itself, it says when it opens."""
    if not path.exists():
        return False
    try:
        with looked_at(path) as (_, cut):
            if cut is not None:
                log.error("%s", cut)
            return cut is not None
    except sqlite3.Error:
        return False


def spare_in(control: RecordFile) -> Spare:
    """Return what the control file remembers of the readings' epochs and manifests."""
    epochs = []
    try:
        for base, epoch, begun_ms, boot, ended, hash_ in json.loads(control.meta(EPOCHS_NOTE) or "[]"):
            epochs.append((Epoch(epoch, base, begun_ms, boot, ended), hash_))
    except (ValueError, TypeError):
        log.warning("%s does not remember the epochs of the readings", control.path.name)
    return Spare(tuple(epochs), tuple(_spans_in(control)), control.manifests())


def _spans_in(control: RecordFile) -> list[tuple[int, str]]:
    try:
        return [(int(from_id), str(hash_)) for from_id, hash_ in json.loads(control.meta(SPANS_NOTE) or "[]")]
    except (ValueError, TypeError):
        log.warning("%s does not remember the manifests of the readings", control.path.name)
        return []


def keep_spare(control: RecordFile, file: RecordFile) -> None:
    """Write into the control file what :func:`spare_in` reads (in the caller's transaction)."""
    spans = file.manifest_spans()
    hashes = dict(spans)
    known = [
        (one.base, one.epoch, one.begun_ms, one.boot, one.ended, hashes.get(one.base + 1, ""))
        for one in file.epochs[-EPOCHS_KEPT:]
    ]
    control.set_meta(EPOCHS_NOTE, json.dumps(known))
    heads = {one.base + 1 for one in file.epochs}
    later = [span for span in spans if span[0] not in heads][-SPANS_KEPT:]
    control.set_meta(SPANS_NOTE, json.dumps(later))
    wanted = {entry[-1] for entry in known} | {hash_ for _, hash_ in later}
    bodies = file.manifests()
    there = control.manifests().keys()
    for hash_ in wanted - there & bodies.keys():
        control.db.execute("INSERT INTO manifest VALUES (?, ?)", (hash_, bodies[hash_]))
    for hash_ in there - wanted:
        control.db.execute("DELETE FROM manifest WHERE hash = ?", (hash_,))


def keep_span(control: RecordFile, from_id: int, manifest: Manifest) -> None:
    """Add a manifest that came in the middle of an epoch (in the caller's transaction)."""
    later = [span for span in _spans_in(control) if span[0] != from_id]
    hash_ = manifest.hash()
    control.set_meta(SPANS_NOTE, json.dumps([*later, (from_id, hash_)][-SPANS_KEPT:]))
    control.db.execute("INSERT OR IGNORE INTO manifest VALUES (?, ?)", (hash_, manifest.encode()))


EPOCHS_NOTE: Final = "epochs"
SPANS_NOTE: Final = "spans"
EPOCHS_KEPT: Final = 256
SPANS_KEPT: Final = 256
"""Changes in the middle of an epoch, over all of them; a gateway learns some at its first starts."""
