"""The begin of an epoch: what the files say of the lives before, and the start record that tells it.

Every start of the agent is a new epoch, so whatever happened to the files (a crash,
a copy put back, damage, their loss) the identities that follow are new.  Its first
record says how the epoch before ended, how far each epoch in the store reaches, what
of them is lost, and the last tick of each group, from which the next Gap begins.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

import msgspec

from agent.lived import Lived, joined
from agent.schedule import missed, tick_at_or_before
from agent.store.dropping import Terms
from agent.store.heartbeat import NOTE, Noted, read_beat
from agent.store.lastrows import LastRow, last_rows
from agent.store.livednote import KEY, LivedNote, read_lived, unknown
from agent.store.opening import keep_spare
from agent.store.recordfile import LOOK_BACK, Epoch, RecordFile, is_manifest
from core.codec import encode_record
from core.errors import StoreCorrupt, WireError
from core.manifest import Group, Manifest, decode_manifest
from core.records import Before, Gap, Record, Start

_decode = msgspec.json.Decoder(Record).decode

BEFORE_TOLD: Final = 16
"""Earlier epochs named in a start record."""
REASONS: Final = {"stop": "stopped", "set-aside": "store-lost", "restored": "store-lost"}
"""Why ticks between two lives are missing; else the agent or the machine crashed."""
REASONED: Final = frozenset({"stop", "crash"})
"""Ends after which the file is as the last life left it, with all that it wrote."""


@dataclass(frozen=True, slots=True)
class Birth:
    """What the start record of a new epoch has to say besides the store's own knowledge."""

    now_ms: int
    boot: str
    clock: str
    software: str


@dataclass(frozen=True, slots=True)
class Past:
    """What the files say of the lives before."""

    ended: str
    """``first``, ``stop``, ``crash``, ``set-aside`` or ``restored``."""
    spans: list[tuple[int, Manifest]]
    """Manifests by the id from which they are in force."""
    ticks: dict[str, int]
    """Last committed tick by group key."""
    safe: dict[str, int]
    """By group key, the tick up to which every route had confirmed when the heartbeat was noted."""
    known_top: int
    """Largest id ever noted, in this file or by the heartbeat."""
    before: list[Before] = field(default_factory=list)
    noted: dict[str, Lived] = field(default_factory=dict)
    """By group key, the ticks that were polled, of groups of which that was written down."""
    last_rows: dict[str, LastRow] = field(default_factory=dict)
    """By group key, the last row with a value."""
    polled: dict[str, tuple[int, str]] = field(default_factory=dict)
    """By group key, the last tick that was polled and has no row, and the reason of its Gap."""

    def lived(self, now_ms: int) -> dict[str, Lived]:
        """Return the ticks that were polled of each group that ever was."""
        return {key: self.noted.get(key) or unknown(tick, now_ms) for key, tick in self.ticks.items()}

    @property
    def reason(self) -> str:
        """Return why ticks since the last committed ones are missing."""
        return REASONS.get(self.ended, "crashed")


def look_back(file: RecordFile, control: RecordFile, aside: bool) -> Past:
    """Read what happened before; nothing is written."""
    heartbeat = read_beat(control.note(NOTE))
    ended = _how_it_ended(file, control, heartbeat, aside)
    decoded = {hash_: _manifest(file, hash_, body) for hash_, body in file.manifests().items()}
    spans = [(begin, found) for begin, hash_ in file.manifest_spans() if (found := decoded.get(hash_))]
    keys = {hash_: keys_of(found) for hash_, found in decoded.items()}
    safe = heartbeat.safe
    # A salvaged file may have holes far back; one that was put back may end before the heartbeat.
    remembered = safe if aside or ended == "restored" else heartbeat.ticks
    latest = file.latest(keys, -1 if aside else LOOK_BACK)
    there = latest.ticks
    ticks = remembered | there
    noted = read_lived(file.meta(KEY), there)
    if aside or ended == "restored":
        copy = control.meta(KEY)  # it may know of later rows than the file has, or of earlier ones
        for known in (heartbeat.ticks, there):
            noted = _both(noted, read_lived(copy, known), ticks)
    known_top = max(file.top, heartbeat.top if aside else 0)
    before = list(_told(file, control, heartbeat, aside, known_top))
    last_life = ended in REASONED and heartbeat.epoch == file.epochs[-1].epoch
    polled = heartbeat.polled if last_life else {}
    rows = last_rows(file, latest.rows, spans)
    return Past(ended, spans, ticks, safe, known_top, before, noted, rows, polled)


def _both(one: dict[str, Lived], other: dict[str, Lived], ticks: dict[str, int]) -> dict[str, Lived]:
    """Join what two files remember: rows of either were polled."""
    spans = {
        key: [*one.get(key, Lived()).spans, *other.get(key, Lived()).spans]
        for key in one.keys() | other.keys()
        if key in ticks
    }
    return {key: Lived(joined(found), ticks[key]) for key, found in spans.items()}


def lived_note(past: Past, manifest: Manifest, birth: Birth) -> LivedNote:
    """Return what the writer goes on with of the ticks that were polled."""
    return LivedNote(keys_of(manifest), past.lived(birth.now_ms), birth.now_ms)


def begin(file: RecordFile, past: Past, epoch: str, birth: Birth, manifest: Manifest) -> Epoch:
    """Begin an epoch of the readings: start record, manifest, and Gaps for what damage took."""
    with file.transaction():
        begun = file.begin_epoch(epoch, birth.now_ms, birth.boot, above=past.known_top)
        hash_ = manifest.hash()
        start = Start(
            seq=1,
            at=birth.now_ms,
            ended=past.ended,
            boot=birth.boot,
            clock=birth.clock,
            software=birth.software,
            before=past.before,
            ticks=past.ticks,
        )
        lost = list(_lost_ticks(file, past, manifest)) if past.ended == "set-aside" else []
        gaps = [(group, hole, "store-lost") for group, hole in lost]
        gaps += _polled(past, manifest)
        file.insert(
            [
                (file.top + 1, 0, birth.now_ms, encode_record(start)),
                (file.top + 2, -1, birth.now_ms, hash_.encode()),
            ]
        )
        file.add_manifest(hash_, begun.base + 1, manifest.encode())
        file.loose = file.first_loose()
        for group, (first, last, ticks), reason in gaps:
            gap = Gap(file.top + 1 - begun.base, group.group, first, last, ticks, reason)
            file.insert([(file.top + 1, 0, last, encode_record(gap))])
        file.set_meta("inode", file.inode)
        rows = {key: last.id for key, last in past.last_rows.items()}
        file.note_latest(accounted(past, manifest) | begun_ticks(past, manifest, birth), rows)
        file.set_meta(KEY, lived_note(past, manifest, birth).text())
    return begun


def accounted(past: Past, manifest: Manifest) -> dict[str, int]:
    """Return the tick, by key, after which the next Gap of a group begins: up to it all is told."""
    return past.ticks | {group.key: last for group, (_, last, _), _ in _polled(past, manifest)}


def begun_ticks(past: Past, manifest: Manifest, birth: Birth) -> dict[str, int]:
    """Return the tick, by key, at which groups without any tick begin: from then on none is missing.

    Written with the start record, so that a new group whose first rows were never committed (a full
    disk, kill -9) has its Gap too.
    """
    return {
        group.key: tick_at_or_before(birth.now_ms, group.every_ms, group.phase_ms)
        for group in manifest.groups
        if group.key not in past.ticks
    }


def begin_control(
    control: RecordFile, file: RecordFile, epoch: str, birth: Birth, notes: dict[str, str]
) -> Epoch:
    """Begin the same epoch of the control lane; keep there what names the readings, and some notes."""
    with control.transaction():
        begun = control.begin_epoch(epoch, birth.now_ms, birth.boot)
        keep_spare(control, file)
        for key, note in notes.items():
            control.set_meta(key, note)
    return begun


def keys_of(manifest: Manifest) -> dict[int, str]:
    """Return the key of each group by its number."""
    return {group.group: group.key for group in manifest.groups}


def _manifest(file: RecordFile, hash_: str, body: bytes) -> Manifest:
    try:
        if is_manifest(hash_, body):
            return decode_manifest(body)
    except WireError:
        pass  # it was one when it was written
    raise StoreCorrupt(f"{file.path} is damaged: manifest {hash_} is not what was written")


def _how_it_ended(file: RecordFile, control: RecordFile, heartbeat: Noted, aside: bool) -> str:
    if aside:
        return "set-aside"
    known = heartbeat.epoch
    if not file.epochs:
        return "restored" if known is not None or control.epochs else "first"
    last = file.epochs[-1]
    if known is not None and all(known != epoch.epoch for epoch in file.epochs):
        return "restored"  # the control file knows a later life than the readings
    if known == last.epoch and heartbeat.top > file.top:
        return "restored"
    if file.meta("inode") not in (
        file.inode,
        file.inode.partition(":")[0],
    ):  # the latter: an earlier version's
        return "restored"  # a copy: how old it is, nobody here can tell
    # On a full disk the readings cannot be told of their end; the control file has room of its own.
    stopped = last.ended == "stop" or (known == last.epoch and heartbeat.stopped)
    return "stop" if stopped else "crash"


def _told(
    file: RecordFile, control: RecordFile, heartbeat: Noted, aside: bool, known_top: int
) -> Iterator[Before]:
    control_last = {known.epoch: end - known.base for known, end in control.epoch_spans()}
    spans = file.epoch_spans()
    for known, end in spans[-1 : -1 - BEFORE_TOLD : -1]:
        if aside and known is spans[-1][0]:
            end = max(end, known_top)
        last = end - known.base
        lost = file.present(known, end).missing(1, last) if aside and last else []
        yield Before(known.epoch, last, control_last.get(known.epoch, 0), lost)
    if not spans and heartbeat.epoch is not None:
        yield Before(heartbeat.epoch, 0, control_last.get(heartbeat.epoch, 0))


def _polled(past: Past, manifest: Manifest) -> Iterator[tuple[Group, "Hole", str]]:
    """Yield (group, (first tick, last tick, ticks), reason) for what was polled and has no row."""
    for group in manifest.groups:
        last = past.ticks.get(group.key)
        upto, reason = past.polled.get(group.key, (None, ""))
        if last is None or upto is None:
            continue
        hole = missed(last, upto + group.every_ms, group.every_ms)
        if hole is not None:
            yield group, hole, reason


Hole = tuple[int, int, int]


def _lost_ticks(file: RecordFile, past: Past, manifest: Manifest) -> Iterator[tuple[Group, Hole]]:
    """Yield (group, (first tick, last tick, ticks)) for what is missing where records are missing.

    Only the other end knows which of them it has already; a row counts more than a Gap there.
    """
    terms = Terms(past.spans, manifest)
    last = {group.key: (0, past.safe[group.key]) for group in manifest.groups if group.key in past.safe}
    before = broken = 0
    query = "SELECT id, grp, tick, CASE grp WHEN 0 THEN body END FROM record ORDER BY id"
    for id_, grp, tick, body in file.db.execute(query):
        if id_ != before + 1:
            broken = id_
        before = id_
        first = tick
        if grp == 0:
            record: Record = _decode(body)
            if not isinstance(record, Gap) or not record.group:
                continue
            grp, first, tick = record.group, record.first_tick, record.last_tick
        group = terms.group_now(id_, grp) if grp > 0 and past.spans else None
        if group is None:
            continue
        at, known = last.get(group.key, (id_, first))
        hole = missed(known, first, group.every_ms)
        if hole is not None and at < broken:
            yield group, hole
        last[group.key] = (id_, tick)
