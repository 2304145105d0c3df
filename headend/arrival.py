"""An accepted message put into the books: rows, records, ledger, and what contradicts what was there.

What arrives again is compared with what is stored. Equal content is counted as redelivered. Other
content under the same identity is never a duplicate: it is kept beside the first, in `conflict`, with
an alarm. Only then does the ledger cover it, so a confirmation never speaks of what is nowhere.

Everything here runs inside one transaction of :class:`headend.books.Books`.

Not here: what an epoch's start says about those before it (`headend.epochs`).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final

import msgspec

from core.codec import encode_record
from core.ranges import RangeSet
from core.records import Gap, ManifestRecord, Outcome, QualityRecord, Record, Start
from headend.alarms import Code
from headend.books import Books, Epoch
from headend.controls import enter_outcome
from headend.epochs import begin_epoch, check_growth, mark_lost, raise_low
from headend.intake import Accepted
from headend.journal import append_gateway_entry
from headend.ledger import Space

AHEAD_MS: Final = 24 * 3_600_000
"""A tick further ahead of our clock than this is taken, with an alarm."""


@dataclass(frozen=True, slots=True)
class Stored:
    """What became of a message in the books."""

    gateway: str
    epoch: str
    space: Space
    readings: int
    """New readings."""
    redelivered: int
    """Readings refused as known."""
    conflicts: int
    """Rows and records that contradict what was there, and were kept beside it."""
    renewed: bool
    """The books took a new id: every gateway has to hear of it."""


def store(books: Books, message: Accepted, *, may_renew: bool = True) -> Stored:
    """Store a message and advance the ledger, inside the caller's transaction."""
    header, entity, space = message.message, message.topic.entity, message.space
    books.seen(header.gateway)
    if message.signer is not None:
        books.enter_certificate(message.signer, hashlib.sha256(message.signer.der).hexdigest())
    renewed = books.check_identity(header, entity, may_renew)
    for known in message.brought:
        books.enter_manifest(known)
    epoch = books.epoch(header.gateway, header.epoch)
    held = books.ledger.held(epoch.no, entity, space)
    check_growth(books, epoch, space, held, header.last)
    if space is Space.DATA and header.low > epoch.low:
        raise_low(books, epoch, header.low)
    covered = RangeSet(held.overlap(header.first, header.last))
    if space is Space.DATA:
        readings, redelivered, row_conflicts = _rows(books, epoch, message, covered)
    else:
        readings, redelivered, row_conflicts = 0, 0, 0
    conflicts = row_conflicts + _records(books, epoch, message, covered)
    books.ledger.add(epoch.no, entity, space, header.first, header.last)
    books.count("messages.taken", header.gateway)
    if readings:
        books.count("readings.stored", header.gateway, readings)
    if redelivered:
        books.count("readings.redelivered", header.gateway, redelivered)
    if conflicts:
        books.count("conflicts", header.gateway, conflicts)
        books.alarm(
            Code.CONFLICT,
            header.gateway,
            f"{conflicts} rows or records of epoch {header.epoch} within {header.first}..{header.last} came "
            "again with other content; both are kept: look into the table conflict",
        )
    return Stored(header.gateway, header.epoch, space, readings, redelivered, conflicts, renewed)


def _rows(books: Books, epoch: Epoch, message: Accepted, covered: RangeSet) -> tuple[int, int, int]:
    """Return readings stored, readings known, and rows that contradict."""
    known, rows = message.known, message.rows
    if known is None or not rows:
        return 0, 0, 0
    header, now = message.message, books.now_ms
    numbers = {number: books.group(known, number) for number in message.readings}
    there = {
        seq: (grp_no, tick, body)
        for seq, grp_no, tick, body in books.connection.execute(
            "SELECT seq, grp_no, tick, body FROM row WHERE epoch_no=? AND seq BETWEEN ? AND ?",
            (epoch.no, header.first, header.last),
        )
    }
    stored = redelivered = conflicts = 0
    new: list[tuple[int, int, int, int, int, str]] = []
    for seq, number, tick, body in rows:
        first = there.get(seq)
        if first is None and not (covered and seq in covered):
            new.append((epoch.no, seq, numbers[number], tick, now, body))
            stored += message.readings[number]
        elif (
            first is not None and first[1:] == (tick, body) and _same_group(books, first[0], numbers[number])
        ):
            redelivered += message.readings[number]
        else:
            conflicts += 1
            arrived = msgspec.json.encode([numbers[number], tick, msgspec.Raw(body.encode())]).decode()
            kept = None
            if first is not None:
                kept = msgspec.json.encode([first[0], first[1], msgspec.Raw(first[2].encode())]).decode()
            _keep_conflict(books, epoch, Space.DATA, seq, arrived, kept)
    books.connection.executemany(
        "INSERT INTO row (epoch_no, seq, grp_no, tick, received_ms, body) VALUES (?, ?, ?, ?, ?, ?)", new
    )
    latest = max(row[2] for row in rows)
    if latest > now + AHEAD_MS:
        books.alarm(
            Code.CLOCK_AHEAD,
            header.gateway,
            f"rows of tick {latest} came at {now} (ms since 1970): the gateway's clock, or ours, is wrong",
        )
    return stored, redelivered, conflicts


def _records(books: Books, epoch: Epoch, message: Accepted, covered: RangeSet) -> int:
    """Store the records; return how many contradict what was there."""
    header, space = message.message, message.space
    if not header.records:
        return 0
    there = dict(
        books.connection.execute(
            "SELECT seq, body FROM record WHERE epoch_no=? AND space=? AND seq BETWEEN ? AND ?",
            (epoch.no, space.value, header.first, header.last),
        ).fetchall()
    )
    conflicts = 0
    for record in header.records:
        body = record_body(record)
        first = there.get(record.seq)
        if first == body:
            continue
        if first is not None or (covered and record.seq in covered):
            conflicts += 1
            _keep_conflict(books, epoch, space, record.seq, body, first)
            continue
        books.connection.execute(
            "INSERT INTO record (epoch_no, space, seq, type, received_ms, body) VALUES (?, ?, ?, ?, ?, ?)",
            (epoch.no, space.value, record.seq, record_type(record), books.now_ms, body),
        )
        _unfold(books, epoch, message, record)
    return conflicts


def _unfold(books: Books, epoch: Epoch, message: Accepted, record: Record) -> None:
    """Enter what a new record means beyond itself."""
    match record:
        case Start():
            begin_epoch(books, epoch, message.topic.entity, record)
        case ManifestRecord():
            _resolve_gaps(books, epoch, record)
        case Gap():
            if record.dropped:
                mark_lost(books, epoch.gateway, record.epoch or epoch.epoch, RangeSet(record.dropped))
            if not record.ticks:
                return
            books.connection.execute(
                "INSERT INTO gap (epoch_no, seq, number, grp_no, first_tick, last_tick, ticks, reason, "
                "unknown_extent) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    epoch.no,
                    record.seq,
                    record.group,
                    _gap_group(books, epoch, message, record),
                    record.first_tick,
                    record.last_tick,
                    record.ticks,
                    record.reason,
                    record.unknown_extent,
                ),
            )
        case QualityRecord():
            append_gateway_entry(books.connection, epoch.gateway, record, books.now_ms)
        case Outcome():
            enter_outcome(books.connection, epoch.gateway, message.topic.entity, record)
        case _:
            pass


def _gap_group(books: Books, epoch: Epoch, message: Accepted, gap: Gap) -> int | None:
    """Return the group of a gap by the manifest of the message, else by the last one before it."""
    if message.known is not None:
        books.enter_manifest(message.known)
        return _group_of(books, message.known.hash, gap.group)
    found = books.connection.execute(
        "SELECT json_extract(body, '$.hash') FROM record WHERE epoch_no=? AND space='data' "
        "AND type='manifest' AND seq < ? ORDER BY seq DESC LIMIT 1",
        (epoch.no, gap.seq),
    ).fetchone()
    return None if found is None else _group_of(books, found[0], gap.group)


def _resolve_gaps(books: Books, epoch: Epoch, record: ManifestRecord) -> None:
    """Give their group to gaps that came before the manifest that their epoch begins with."""
    for (number,) in books.connection.execute(
        "SELECT DISTINCT number FROM gap WHERE epoch_no=? AND grp_no IS NULL AND seq > ?",
        (epoch.no, record.seq),
    ).fetchall():
        books.connection.execute(
            "UPDATE gap SET grp_no=? WHERE epoch_no=? AND number=? AND grp_no IS NULL AND seq > ?",
            (_group_of(books, record.hash, number), epoch.no, number, record.seq),
        )


def _group_of(books: Books, digest: str, number: int) -> int | None:
    found = books.connection.execute(
        "SELECT no FROM grp WHERE manifest=? AND number=?", (digest, number)
    ).fetchone()
    return None if found is None else found[0]


def _same_group(books: Books, first: int, second: int) -> bool:
    """Tell whether two groups of different manifests have the same points of the same device."""
    if first == second:
        return True
    keys = books.connection.execute(
        "SELECT DISTINCT gateway, key, json_extract(body, '$.points') FROM grp WHERE no IN (?, ?)",
        (first, second),
    ).fetchall()
    return len(keys) == 1


def _keep_conflict(
    books: Books, epoch: Epoch, space: Space, seq: int, arrived: str, stored: str | None
) -> None:
    books.connection.execute(
        "INSERT INTO conflict (epoch_no, space, seq, arrived, stored, first_ms, last_ms, arrivals) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, 1) "
        "ON CONFLICT DO UPDATE SET last_ms = excluded.last_ms, arrivals = arrivals + 1",
        (epoch.no, space.value, seq, arrived, stored, books.now_ms, books.now_ms),
    )


def record_type(record: Record) -> str:
    """Return the type of a record as it stands on the wire."""
    return str(record.__struct_config__.tag)


def record_body(record: Record) -> str:
    """Return a record as it is stored: as on the wire, save that a manifest is kept by its name."""
    if isinstance(record, ManifestRecord):
        return msgspec.json.encode({"type": "manifest", "seq": record.seq, "hash": record.hash}).decode()
    return encode_record(record).decode()
