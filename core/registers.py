"""Readings of one cumulative point as samples of its register, in whole steps.

What a reader of rows needs to know before it makes intervals, the same at the edge and at the head-end:
in which steps amounts are counted when manifests differ, which register a value was read from, how late
an edge value may be, and at which steps the register begins again.

Pure.  Not here: the rule of intervals (``core.intervals``), where rows come from.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction

from core.errors import ConfigError
from core.intervals import Register, Sample
from core.manifest import Group, Point, ValueKind
from core.transformers import Behind, text_of


@dataclass(frozen=True, slots=True)
class Scale:
    """How amounts are counted: ``steps * 10**exp`` in ``unit``."""

    exp: int
    unit: str

    def amount(self, steps: int | None) -> Decimal | None:
        """Return an amount in the unit, exactly."""
        return None if steps is None else Decimal(steps).scaleb(self.exp)


def scale_of(groups: Iterable[Group], name: str) -> Scale:
    """Return the finest steps that any of some groups writes a point in.

    :class:`ConfigError` when they do not make one register: no such point, not cumulative, two units.
    """
    points = [point for group in groups for point in group.points if point.name == name]
    if not points:
        raise ConfigError(f"there is no point {name!r}: name the device and a point that it has")
    units = sorted({point.unit for point in points})
    if len(units) > 1:
        raise ConfigError(f"point {name!r} is in {' and in '.join(units)}: ask for each time by itself")
    for point in points:
        if not point.cumulative:
            raise ConfigError(f"point {name!r} is no register that only grows: intervals are made of those")
        if point.kind is not ValueKind.INTEGER:
            raise ConfigError(
                f'point {name!r} is not written in whole steps: give it a "resolution" in its device type'
            )
    return Scale(min(point.exp for point in points), units[0])


class RegisterReader:
    """Makes samples of one point of one group."""

    def __init__(
        self, gateway: str, group: Group, point: Point, scale: Scale, tolerance_ms: int | None = None
    ) -> None:
        """Prepare; without a tolerance an edge value may be late by one interval of polling."""
        self._behind = Behind(group, point)
        self._meter = f"{gateway}/{group.device}/{group.device_type}"
        self._scale = scale
        self._finer = 10 ** (point.exp - scale.exp)
        self._known: dict[Fraction, tuple[Register, int | None]] = {}
        """By ratio."""
        self._within_ms = group.every_ms if tolerance_ms is None else tolerance_ms

    def sample(self, tick: int, value: Decimal | str | bool | None, reasons: Sequence[str]) -> Sample:
        """Return a reading, its value as ``core.manifest.shown`` gives it."""
        ratio = self._behind.ratio_at(tick)
        known = self._known.get(ratio)
        if known is None:
            modulus = self._behind.modulus_at(tick)
            steps = None if modulus is None else modulus * self._finer
            known = self._known[ratio] = (Register(self._meter, text_of(ratio)), steps)
        return Sample(
            tick,
            int(value.scaleb(-self._scale.exp)) if isinstance(value, Decimal) else None,
            tuple(reasons),
            known[0],
            self._within_ms,
            known[1],
        )
