"""Readings looked up in the books, in the order of their ticks, with what is known of each now.

The books are read in short pieces, each a transaction of its own: a long read would let the WAL grow.
So a listing that runs while the collector writes may hold what came after it began.

Relies on an open reader's connection. Not here: how readings are shown (`headend.shown`).
"""

from __future__ import annotations

import heapq
import json
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from operator import itemgetter
from typing import Final

import msgspec

from core.manifest import Group, shown
from core.ownership import term_at
from core.quality import Precedence
from headend.journal import Entry, Quality, current, entry_of
from headend.terms import ownership_corrections, usage_point_at, usage_point_terms

PIECE_ROWS: Final = 500
LAST_TICK: Final = 2**53

_group = msgspec.json.Decoder(Group).decode


@dataclass(frozen=True, slots=True)
class Selection:
    """Which readings; None and empty: all. Ticks in [from_ms, to_ms)."""

    from_ms: int | None = None
    to_ms: int | None = None
    usage_point: str = ""
    device: str = ""
    gateway: str = ""
    entity: str = ""
    """A data owner of the reading, at its tick."""
    point: str = ""


@dataclass(frozen=True, slots=True)
class Reading:
    """One reading with its identity (gateway, epoch, sequence, index)."""

    gateway: str
    epoch: str
    seq: int
    index: int
    device: str
    device_type: str
    usage_point: str
    point: str
    quantity: str
    unit: str
    value: Decimal | str | bool | None
    quality: Quality
    owners: tuple[str, ...]
    steward: str
    validator: str
    tick_ms: int
    answered_ms: int
    received_ms: int
    group: Group
    """As in the manifest that it came with."""

    @property
    def delay_ms(self) -> int:
        """From the answer of the device to the books."""
        return self.received_ms - self.answered_ms


_Row = tuple[int, int, int, int, str]
"""Tick, epoch number, sequence, received, body."""


@dataclass(frozen=True, slots=True)
class _Series:
    no: int
    gateway: str
    group: Group


def readings(
    connection: sqlite3.Connection, selection: Selection, *, newest_first: bool = False
) -> Iterator[Reading]:
    """Yield readings by tick, then series; points in the order of their group."""
    epochs: dict[int, str] = {}
    walks = [
        _walk(connection, series, selection, newest_first, epochs)
        for series in _series(connection, selection)
    ]
    for _, rows in heapq.merge(*walks, key=itemgetter(0), reverse=newest_first):
        yield from rows


def _series(connection: sqlite3.Connection, selection: Selection) -> list[_Series]:
    found = connection.execute(
        "SELECT no, gateway, body FROM grp WHERE (?1 = '' OR gateway = ?1) AND (?2 = '' OR device = ?2) "
        "AND (?3 = '' OR usage_point = ?3 OR EXISTS (SELECT 1 FROM usage_point_term AS term WHERE "
        "term.gateway = grp.gateway AND term.device = grp.device AND term.usage_point = ?3)) "
        "ORDER BY gateway, device, no",
        (selection.gateway, selection.device, selection.usage_point),
    ).fetchall()
    every = [_Series(no, gateway, _group(body)) for no, gateway, body in found]
    if not selection.point:
        return every
    return [one for one in every if any(point.name == selection.point for point in one.group.points)]


def _walk(
    connection: sqlite3.Connection,
    series: _Series,
    selection: Selection,
    newest_first: bool,
    epochs: dict[int, str],
) -> Iterator[tuple[int, list[Reading]]]:
    """Yield (tick, readings of a row) of one series."""
    group = series.group
    usage_points = usage_point_terms(connection, series.gateway, group.device)
    corrections = ownership_corrections(connection, series.gateway, group.key)
    begin = 0 if selection.from_ms is None else selection.from_ms
    end = LAST_TICK if selection.to_ms is None else selection.to_ms
    order = "DESC" if newest_first else "ASC"
    beyond = "<" if newest_first else ">"
    at: tuple[int, int, int] = (LAST_TICK, LAST_TICK, LAST_TICK) if newest_first else (-1, -1, -1)
    while True:
        rows: list[_Row] = connection.execute(
            "SELECT tick, epoch_no, seq, received_ms, body FROM row WHERE grp_no = ? AND tick >= ? "
            f"AND tick < ? AND (tick, epoch_no, seq) {beyond} (?, ?, ?) "
            f"ORDER BY tick {order}, epoch_no {order}, seq {order} LIMIT {PIECE_ROWS}",
            (series.no, begin, end, *at),
        ).fetchall()
        if not rows:
            return
        judged = _Judged(connection, series, rows, epochs)
        for row in rows:
            tick = row[0]
            usage_point = usage_point_at(usage_points, tick, group.usage_point)
            if selection.usage_point and usage_point != selection.usage_point:
                continue
            term = term_at(group.owners, tick)
            owners = () if term is None else term.data_owners
            steward, validator = ("", "") if term is None else (term.steward, term.validator)
            for correction in corrections:
                if correction.holds_at(tick):
                    owners = correction.data_owners
                    steward, validator = correction.steward, correction.validator
                    break
            if selection.entity and selection.entity not in owners:
                continue
            expanded = _expand(series, row, judged, epochs[row[1]], selection.point)
            yield (
                tick,
                [
                    Reading(*identity, usage_point, *what, owners, steward, validator, *when, group)
                    for identity, what, when in expanded
                ],
            )
        at = rows[-1][:3]
        if newest_first:
            end = min(end, at[0] + 1)
        else:
            begin = max(begin, at[0])


_Identity = tuple[str, str, int, int, str, str]
_What = tuple[str, str, str, Decimal | str | bool | None, Quality]
_When = tuple[int, int, int]


def _expand(
    series: _Series, row: _Row, judged: _Judged, epoch: str, only: str
) -> Iterator[tuple[_Identity, _What, _When]]:
    tick, epoch_no, seq, received_ms, body = row
    content = json.loads(body)
    offsets, values = content[0], content[1]
    carried = content[2] if len(content) > 2 else {}
    every = carried.get("*", [])
    group = series.group
    entries = judged.of_row(tick, epoch_no, seq)
    for index, (point, value) in enumerate(zip(group.points, values, strict=True)):
        if only and point.name != only:
            continue
        names = [*every, *carried.get(str(index), [])]
        own = [entry for entry, points, name in entries if _meant(index, point.name, points, name)]
        yield (
            (series.gateway, epoch, seq, index, group.device, group.device_type),
            (point.name, point.quantity, point.unit, shown(point, value), current(names, received_ms, own)),
            (tick, tick + offsets[point.request], received_ms),
        )


def _meant(index: int, point: str, points: frozenset[int], name: str) -> bool:
    return (not points or index in points) and (not name or name == point)


_Scope = tuple[Entry, frozenset[int], str]


class _Judged:
    """The journal's entries for a piece of a series."""

    def __init__(
        self, connection: sqlite3.Connection, series: _Series, rows: list[_Row], epochs: dict[int, str]
    ) -> None:
        for epoch_no in {row[1] for row in rows} - epochs.keys():
            epochs[epoch_no] = connection.execute(
                "SELECT epoch FROM epoch WHERE no=?", (epoch_no,)
            ).fetchone()[0]
        low, high = min(row[0] for row in rows), max(row[0] for row in rows)
        self._by_tick: list[tuple[int, int, _Scope]] = [
            (from_ms, to_ms, (entry_of(*entry), frozenset(), point))
            for from_ms, to_ms, point, *entry in connection.execute(
                "SELECT from_ms, to_ms, point, code, reasons, rule, entity, precedence, known_ms "
                "FROM quality_entry WHERE gateway=? AND device=? AND from_ms <= ? AND to_ms > ? ORDER BY id",
                (series.gateway, series.group.device, high, low),
            )
        ]
        self._by_seq: dict[int, list[tuple[int, int, _Scope]]] = {}
        for epoch_no in {row[1] for row in rows}:
            entries = [
                (first, last, (entry_of(*entry), frozenset(json.loads(points)), ""))
                for first, last, points, *entry in connection.execute(
                    "SELECT first_seq, last_seq, points, code, reasons, rule, entity, precedence, known_ms "
                    "FROM quality_entry WHERE epoch=? AND number=? AND gateway=? ORDER BY id",
                    (epochs[epoch_no], series.group.group, series.gateway),
                )
            ]
            if entries:
                self._by_seq[epoch_no] = entries

    def of_row(self, tick: int, epoch_no: int, seq: int) -> list[_Scope]:
        """Return the entries that judge a row, in the order in which they were made."""
        found = [scope for from_ms, to_ms, scope in self._by_tick if from_ms <= tick < to_ms]
        found += [scope for first, last, scope in self._by_seq.get(epoch_no, ()) if first <= seq <= last]
        return found


def precedence_name(quality: Quality) -> str:
    """Return who judged, as a word."""
    return Precedence(quality.by).name.lower()
