"""Manifests prepared for judging rows: what a row of each group must look like, for one entity.

:func:`core.codec.row_fault` is the rule. :meth:`KnownGroup.fault` says the same, and most of the time
without looking at each point: thousands of rows a second pass here.

Not here: where manifests are kept (`headend.books`).
"""

from __future__ import annotations

from typing import Final

from core.codec import row_fault
from core.manifest import Group, Manifest, ValueKind
from core.ownership import owners_at
from core.records import Row

_PLAIN: Final = {
    ValueKind.INTEGER: frozenset({int, type(None)}),
    ValueKind.BITS: frozenset({int, type(None)}),
    ValueKind.DECIMAL: frozenset({int, float, type(None)}),
    ValueKind.TEXT: frozenset({str, type(None)}),
    ValueKind.BOOLEAN: frozenset({bool, type(None)}),
}
"""Types that need no second look, by the kind of the point."""


class KnownGroup:
    """A group of a manifest, with what makes judging its rows quick."""

    __slots__ = ("_always", "_every", "_phase", "_plain", "_points", "_requests", "group")

    def __init__(self, group: Group, entity: str) -> None:
        self.group: Final = group
        self._points = len(group.points)
        self._requests = group.requests
        self._every = group.every_ms
        self._phase = group.phase_ms
        self._plain = frozenset.intersection(*(_PLAIN[point.kind] for point in group.points))
        self._always = (
            len(group.owners) == 1
            and entity in group.owners[0].data_owners
            and group.owners[0].valid_from_ms is None
            and group.owners[0].valid_to_ms is None
        )

    def fault(self, row: Row, entity: str) -> str | None:
        """Return why a row does not fit, or is not for this entity, or None."""
        if (
            len(row.values) != self._points
            or len(row.offsets) != self._requests
            or (row.tick - self._phase) % self._every
            or row.quality
            or not self._plain.issuperset(map(type, row.values))
        ):
            fault = row_fault(row, self.group)
            if fault is not None:
                return f"sequence {row.seq}: {fault}"
        if not self._always and entity not in owners_at(self.group.owners, row.tick):
            return f"sequence {row.seq}: {entity} did not own the data of group {row.group} at that tick"
        return None


class KnownManifest:
    """A manifest with its groups prepared for one entity."""

    __slots__ = ("entity", "groups", "hash", "manifest")

    def __init__(self, digest: str, manifest: Manifest, entity: str) -> None:
        self.hash: Final = digest
        self.manifest: Final = manifest
        self.entity: Final = entity
        self.groups: Final = {group.group: KnownGroup(group, entity) for group in manifest.groups}
