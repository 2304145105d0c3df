"""Samples of one cumulative point out of a store, in the order of their ticks, for intervals at the edge.

Reads a little at a time, so that a running agent is not held up; in memory are the later judgements of
the device's rows, and as many samples as a clock that was set back may put out of order.

Relies on :mod:`agent.store.look`.  Not here: the rule of intervals (``core.intervals``).
"""

import heapq
from collections.abc import Iterator
from typing import Final

import msgspec

from agent.store.look import Look
from agent.store.recordfile import Stored
from core.codec import row_bytes
from core.errors import ConfigError, StoreCorrupt
from core.intervals import Sample
from core.manifest import Group, shown
from core.ranges import Range
from core.records import QualityRecord, Record, Row
from core.registers import RegisterReader, Scale, scale_of

DISORDER: Final = 10_000
"""Samples held back to be put in order; one that is later than that is passed over by the rule."""
_row = msgspec.json.Decoder(Row).decode
_record = msgspec.json.Decoder(Record).decode
_Judged = dict[tuple[str, int], list[tuple[Range, QualityRecord]]]


class RegisterLook:
    """One point of one device in a store."""

    def __init__(self, look: Look, device: str, point: str, tolerance_ms: int | None = None) -> None:
        """Find the point; :class:`ConfigError` when there is none that intervals can be made of."""
        self._look, self._device, self._point = look, device, point
        self._tolerance_ms = tolerance_ms
        every = [group for found in look.manifests.values() for group in found.groups]
        groups = [group for group in every if group.device == device]
        if not groups:
            known = ", ".join(sorted({group.device for group in every})) or "none"
            raise ConfigError(f"no device {device!r} in {look.directory}; there is {known}")
        if not any(one.name == point for group in groups for one in group.points):
            known = ", ".join(
                dict.fromkeys(one.name for group in groups for one in group.points if one.cumulative)
            )
            raise ConfigError(f"device {device!r} has no point {point!r}; registers of it: {known or 'none'}")
        self.scale: Scale = scale_of(groups, point)
        self._readers: dict[int, tuple[Group, int, RegisterReader | None]] = {}

    def samples(self, from_ms: int, to_ms: int) -> Iterator[Sample]:
        """Yield the samples with ticks in [from_ms, to_ms) by their ticks."""
        waiting: list[tuple[int, int, Sample]] = []
        for number, sample in enumerate(self._in_order_of_ids(from_ms, to_ms)):
            heapq.heappush(waiting, (sample.tick, number, sample))
            if len(waiting) > DISORDER:
                yield heapq.heappop(waiting)[2]
        while waiting:
            yield heapq.heappop(waiting)[2]

    def _in_order_of_ids(self, from_ms: int, to_ms: int) -> Iterator[Sample]:
        judged = self._judgements()
        for stored in self._look.records(*self._look.edges()):
            if stored.grp <= 0 or not from_ms <= stored.tick < to_ms:
                continue
            group = self._look.group_of(stored.id, stored.grp)
            if group is None or group.device != self._device:
                continue
            index, reader = self._reader(stored, group)
            if reader is not None:
                yield self._sample(stored, group, index, reader, judged)

    def _reader(self, stored: Stored, group: Group) -> tuple[int, RegisterReader | None]:
        known = self._readers.get(id(group))
        if known is None:
            index = next((at for at, one in enumerate(group.points) if one.name == self._point), -1)
            reader = None
            if index >= 0:
                if group.points[index].exp < self.scale.exp:
                    raise ConfigError(
                        "the agent was started with other points while its store was read: ask again"
                    )
                reader = RegisterReader(
                    self._look.gateway_of(stored.id),
                    group,
                    group.points[index],
                    self.scale,
                    self._tolerance_ms,
                )
            known = self._readers[id(group)] = (group, index, reader)
        return known[1], known[2]

    def _sample(
        self, stored: Stored, group: Group, index: int, reader: RegisterReader, judged: _Judged
    ) -> Sample:
        epoch = self._look.epoch_of(stored.id)
        if epoch is None:
            raise StoreCorrupt(f"{self._look.path}: row {stored.id} belongs to no epoch")
        try:
            row = _row(row_bytes(stored.id - epoch.base, stored.body))
            value = shown(group.points[index], row.values[index])
        except (msgspec.MsgspecError, IndexError) as error:
            raise StoreCorrupt(f"{self._look.path}: row {stored.id} cannot be read: {error}") from error
        reasons = [*row.quality.get("*", ()), *row.quality.get(str(index), ())]
        for (first, last), record in judged.get((epoch.epoch, stored.grp), ()):
            if first <= row.seq <= last and (not record.points or index in record.points):
                reasons += record.reasons
        return reader.sample(stored.tick, value, tuple(dict.fromkeys(reasons)))

    def _judgements(self) -> _Judged:
        """Return what was said of rows after they were written, by epoch and group."""
        found: _Judged = {}
        for stored in self._look.records(*self._look.edges()):
            if stored.grp == 0 and b'"quality"' in stored.body:
                try:
                    record = _record(stored.body)
                except msgspec.MsgspecError as error:
                    raise StoreCorrupt(f"{self._look.path}: record {stored.id}: {error}") from error
                if isinstance(record, QualityRecord):
                    place = (record.epoch, record.group)
                    found.setdefault(place, []).append(((record.first, record.last), record))
        return found
