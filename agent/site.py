"""What a gateway polls: the configuration and the device types made into groups and requests.

A group is the points of one device with one interval and one history of owners, so
that a row never mixes what different entities may see.  Groups are numbered from 1
in the order of the file.  Pure; relies on `drivers.modbus` for plan and decoder.
Not here: when a group is due (`agent.schedule`), and talking to the device.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal

import msgspec

from agent.amounts import DAY_MS
from agent.config_models import Config, DeviceConfig, LineConfig, OverrideConfig
from agent.config_rules import Types, polled_names
from agent.groupmemory import ByException
from agent.multiplier import Multiplier
from agent.owners import ownership_terms
from core.errors import ConfigError
from core.manifest import Group, Manifest, Point
from core.ownership import Ownership
from core.transformers import described
from drivers.modbus.learned import NOTHING, Learned, learned_plan
from drivers.modbus.plan import Request
from drivers.modbus.values import GroupDecoder
from drivers.types import Block, DeviceType, Limits, PointType


@dataclass(frozen=True, slots=True, eq=False)
class PollGroup:
    """A group with all that the worker of its line needs to poll it."""

    group: Group
    line: str
    unit_id: int
    requests: tuple[Request, ...]
    points: tuple[PointType, ...]
    """In the order of ``group.points``."""
    decoder: GroupDecoder
    limits: Limits
    timeout_s: float
    """For one request: the line's where it gives one, else the device type's."""
    pause_s: float
    """Silence between requests: the longer of the line's and the device type's."""
    by_exception: ByException | None = None
    """Set when only changes are reported."""
    blocks: tuple[Block, ...] = ()
    """Requests made by hand, as far as the device's limits allow them."""
    multiplier: Multiplier | None = None
    """Set when some points stand behind transformers: what the decoder gives is secondary."""

    def planned(self, learned: Learned) -> "PollGroup":
        """Return the group with the requests that fit what was learned of the device."""
        requests = learned_plan(self.points, self.limits, self.blocks, learned)
        if requests == self.requests:
            return self
        return replace(
            self,
            requests=requests,
            decoder=GroupDecoder(self.points, requests),
            group=msgspec.structs.replace(
                self.group,
                points=_core_points(self.points, requests, self.multiplier),
                requests=len(requests),
            ),
        )

    @property
    def every_ms(self) -> int:
        return self.group.every_ms

    @property
    def exps(self) -> list[int]:
        """Exponents of the values as the decoder gives them; those of ``group`` are of primary values."""
        return [point.core_point(0).exp for point in self.points]

    @property
    def phase_ms(self) -> int:
        return self.group.phase_ms


@dataclass(frozen=True, slots=True)
class Site:
    """Everything that one gateway polls."""

    manifest: Manifest
    groups: tuple[PollGroup, ...]

    def on_line(self, line: str) -> tuple[PollGroup, ...]:
        """Return the groups that the worker of a line polls."""
        return tuple(group for group in self.groups if group.line == line)

    def with_owners(
        self, owners: Callable[[str, tuple[Ownership, ...]], tuple[Ownership, ...]], claimed: "Site"
    ) -> "Site":
        """Return the site with the owners that follow, by device, from what another one claims of a group."""
        claims = {one.group.group: one.group.owners for one in claimed.groups}
        return self.with_groups(
            [
                replace(
                    one,
                    group=msgspec.structs.replace(
                        one.group, owners=owners(one.group.device, claims[one.group.group])
                    ),
                )
                for one in self.groups
            ]
        )

    def with_groups(self, groups: Sequence[PollGroup]) -> "Site":
        """Return the site with some groups planned anew; their numbers stay."""
        fresh = {group.group.group: group for group in groups}
        all_ = tuple(fresh.get(group.group.group, group) for group in self.groups)
        manifest = msgspec.structs.replace(self.manifest, groups=tuple(one.group for one in all_))
        return Site(manifest, all_)


def build_site(config: Config, types: Types, learned: Mapping[str, Learned] | None = None) -> Site:
    """Return what a valid configuration polls; ``learned`` is known of devices by their names.

    :class:`ConfigError` carries every device whose points cannot be read within its limits.
    """
    groups: list[PollGroup] = []
    faults: list[str] = []
    alike = _Alike()
    for device in config.devices:
        try:
            known = (learned or {}).get(device.name, NOTHING)
            for group in _device_groups(config, device, types, len(groups) + 1, alike):
                groups.append(group.planned(known) if known else group)
        except ConfigError as error:
            faults.append(f'device "{device.name}": {error}')
    if faults:
        raise ConfigError("the devices cannot be polled as configured:", tuple(faults))
    manifest = Manifest(gateway=config.gateway.id, groups=tuple(one.group for one in groups))
    return Site(manifest, tuple(groups))


def _device_groups(
    config: Config, device: DeviceConfig, types: Types, number: int, alike: "_Alike"
) -> list[PollGroup]:
    kind = types(device.type)
    line = config.line(device.line)
    return [
        _poll_group(config, device, line, kind, every_ms, terms, tuple(points), number + index, alike)
        for index, ((every_ms, terms), points) in enumerate(_split(device, kind, types).items())
    ]


def _split(
    device: DeviceConfig, kind: DeviceType, types: Types
) -> dict[tuple[int, tuple[Ownership, ...]], list[PointType]]:
    """Return the polled points by interval and owners, both in the order of the type's file."""
    overrides = {name: override for override in device.override for name in override.points}
    polled = polled_names(device, types)
    groups: dict[tuple[int, tuple[Ownership, ...]], list[PointType]] = {}
    for point in kind.points:
        if point.name in polled:
            override = overrides.get(point.name)
            terms = ownership_terms(device, override)
            groups.setdefault((_interval_ms(device, override, point), terms), []).append(point)
    return groups


def _interval_ms(device: DeviceConfig, override: OverrideConfig | None, point: PointType) -> int:
    """Return how often a point is polled: as its override says, or as the device, no quicker than its type.

    A slower point is polled at a multiple of the device's interval that divides a day, as the grid wants.
    """
    if override is not None and override.every is not None:
        return override.every.ms
    every_ms = device.every.ms
    slowest = min(point.every_ms or every_ms, DAY_MS)
    first = -(-slowest // every_ms) * every_ms
    return next(ms for ms in range(max(first, every_ms), DAY_MS + 1, every_ms) if DAY_MS % ms == 0)


@dataclass(frozen=True, slots=True, eq=False)
class _Plan:
    """How some points of a type are read."""

    requests: tuple[Request, ...]
    decoder: GroupDecoder
    """Keeps nothing between rows, so that many devices may share it."""
    points: tuple[Point, ...]
    """As the manifest has them, without transformers."""


class _Alike:
    """What devices of one type with the same points have in common: planned and built once."""

    def __init__(self) -> None:
        self._found: dict[tuple[object, ...], _Plan] = {}

    def plan(self, points: tuple[PointType, ...], limits: Limits, blocks: tuple[Block, ...]) -> _Plan:
        """Return how points are read within limits."""
        # Points and blocks are those of the type, the same objects for each of its devices.
        key = (tuple(map(id, points)), tuple(map(id, blocks)), limits.max_registers, id(limits.forbidden))
        found = self._found.get(key)
        if found is None:
            requests = learned_plan(points, limits, blocks)
            shown = _core_points(points, requests, None)
            found = self._found[key] = _Plan(requests, GroupDecoder(points, requests), shown)
        return found


def _poll_group(
    config: Config,
    device: DeviceConfig,
    line: LineConfig,
    kind: DeviceType,
    every_ms: int,
    terms: tuple[Ownership, ...],
    points: tuple[PointType, ...],
    number: int,
    alike: _Alike,
) -> PollGroup:
    limits = _limits(device, kind)
    blocks = tuple(block for block in kind.blocks if block.count <= limits.span(block.table))
    plan = alike.plan(points, limits, blocks)
    requests = plan.requests
    ratios = tuple(one.term for one in device.transformer)
    behind = {point.name: point.ratio for point in points if point.ratio is not None}
    multiplier = Multiplier(points, ratios) if behind and ratios else None
    group = Group(
        group=number,
        device=device.name,
        device_type=device.type,
        every_ms=every_ms,
        points=plan.points if multiplier is None else _core_points(points, requests, multiplier),
        owners=terms,
        requests=len(requests),
        phase_ms=device.phase.ms % every_ms,
        usage_point=device.usage_point or config.gateway.usage_point or "",
        x=described(ratios, behind, _moduli(points)),
    )
    given = "timeout" in line.model_fields_set
    return PollGroup(
        group=group,
        line=line.name,
        unit_id=device.unit_id,
        requests=requests,
        points=points,
        decoder=plan.decoder,
        limits=limits,
        timeout_s=line.timeout.s if given else limits.timeout_ms / 1000,
        pause_s=max(line.pause.ms, limits.pause_ms) / 1000,
        by_exception=_by_exception(device, points, multiplier),
        blocks=blocks,
        multiplier=multiplier,
    )


def _core_points(
    points: Sequence[PointType], requests: Sequence[Request], multiplier: Multiplier | None
) -> tuple[Point, ...]:
    brought_by = {point: index for index, request in enumerate(requests) for point in request.points}
    found = (point.core_point(brought_by[index]) for index, point in enumerate(points))
    if multiplier is None:
        return tuple(found)
    return tuple(multiplier.point(index, point) for index, point in enumerate(found))


def _moduli(points: Sequence[PointType]) -> dict[str, Decimal]:
    """Return the moduli that a source states: over a guessed one no amount is exact, so readers get none."""
    return {
        point.name: point.sense.known_modulus
        for point in points
        if point.sense is not None and point.sense.known_modulus is not None
    }


def _by_exception(
    device: DeviceConfig, points: tuple[PointType, ...], multiplier: Multiplier | None
) -> ByException | None:
    if device.report == "all":
        return None
    bands = tuple(device.deadband.get(point.name, Decimal(0)) for point in points)
    if multiplier is None:
        return ByException(device.heartbeat.ms, bands)
    # Bands are of primary values, what is compared is secondary: the largest ratio misses no change.
    secondary = tuple(band / multiplier.largest(index) for index, band in enumerate(bands))
    return ByException(device.heartbeat.ms, secondary, multiplier.changes)


def _limits(device: DeviceConfig, kind: DeviceType) -> Limits:
    """Return the limits of a type, with what the operator learnt of this unit."""
    if device.max_registers is None:
        return kind.limits
    most = min(device.max_registers, kind.limits.max_registers)
    return kind.limits.model_copy(update={"max_registers": most})
