"""Billing intervals from the books: what a register counted in each interval of the clock.

The rule is that of `core.intervals`, the same as at the edge. What makes these the ones for bills is the
quality: each reading counts with the one that holds *now*, by the journal. And they go by usage point
where that is asked for: over all meters that stood there, one after the other; registers of two meters
are never subtracted from each other.

Relies on an open reader's connection. Not here: how they are shown (`headend.cli_intervals`).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, replace

import msgspec

from core.errors import ConfigError
from core.intervals import Interval, Sample, intervals, last_needed
from core.manifest import Group
from core.registers import RegisterReader, Scale, scale_of
from headend.instants import instant
from headend.journal import badness
from headend.readings import Reading, Selection, readings


@dataclass(frozen=True, slots=True)
class Billing:
    """Intervals, and what their amounts are counted in."""

    scale: Scale
    intervals: Iterator[Interval]


def billing_intervals(
    connection: sqlite3.Connection, selection: Selection, every_ms: int, tolerance_ms: int | None = None
) -> Billing:
    """Return the intervals of one point at one usage point, or of one device.

    Bounds are those of the selection. Raises ConfigError when the selection is not one register after the
    other: no point, nothing that fits, two units, or two meters at a time.
    """
    if not selection.point or not (selection.usage_point or selection.device):
        raise ConfigError("intervals are made of one point of a usage point or of a device: name them")
    scale = scale_of(_groups(connection, selection), selection.point)
    end = None if selection.to_ms is None else last_needed(every_ms, selection.to_ms)
    found = readings(connection, replace(selection, to_ms=end))
    samples = _one_at_a_time(_samples(found, scale, tolerance_ms), every_ms)
    return Billing(scale, intervals(samples, every_ms, selection.from_ms, selection.to_ms))


def _groups(connection: sqlite3.Connection, selection: Selection) -> list[Group]:
    bodies = connection.execute(
        "SELECT DISTINCT body FROM grp WHERE (?1 = '' OR gateway = ?1) AND (?2 = '' OR device = ?2) "
        "AND (?3 = '' OR usage_point = ?3 OR EXISTS (SELECT 1 FROM usage_point_term AS term WHERE "
        "term.gateway = grp.gateway AND term.device = grp.device AND term.usage_point = ?3))",
        (selection.gateway, selection.device, selection.usage_point),
    ).fetchall()
    if not bodies:
        raise ConfigError("the books know no such usage point or device: look at portico headend readings")
    return [msgspec.json.decode(body, type=Group) for (body,) in bodies]


def _samples(found: Iterator[Reading], scale: Scale, tolerance_ms: int | None) -> Iterator[Sample]:
    readers: dict[tuple[str, int, int], tuple[Group, RegisterReader]] = {}
    for one in found:
        place = (one.gateway, id(one.group), one.index)
        known = readers.get(place)
        if known is None:
            point = one.group.points[one.index]
            if point.exp < scale.exp:
                raise ConfigError("a gateway changed its points while the books were read: ask again")
            reader = RegisterReader(one.gateway, one.group, point, scale, tolerance_ms)
            known = readers[place] = (one.group, reader)
        yield known[1].sample(one.tick_ms, one.value, _doubts(one))


def _doubts(one: Reading) -> tuple[str, ...]:
    """Return the reasons that count now; a verdict by code alone counts as its code."""
    quality = one.quality
    if quality.reasons or not badness(quality.code, ()):
        return quality.reasons
    return (quality.code,)


def _one_at_a_time(samples: Iterator[Sample], every_ms: int) -> Iterator[Sample]:
    """Pass samples on; refuse two meters that take turns: the sum of both is no register."""
    meter, left = "", dict[str, int]()
    for sample in samples:
        if sample.register.meter != meter:
            since = left.get(sample.register.meter)
            if since is not None and sample.tick - since < every_ms:
                raise ConfigError(
                    f"{meter} and {sample.register.meter} measure at the same time "
                    f"({instant(sample.tick)}): name one by --device and --gateway"
                )
            if meter:
                left[meter] = sample.tick
            meter = sample.register.meter
        yield sample
