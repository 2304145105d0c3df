"""What must hold between the tables of gateway.toml, and between them and the device types.

Pure: the tables and the device types come in, faults and warnings come out.  A
fault stops the agent from starting; a warning is shown by `portico agent check`
and in the log.  Not here: the files that are named (`agent.identity`).
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise

from agent.config_faults import Place
from agent.config_models import Config, DeviceConfig, LineConfig, Scheme, Setting
from agent.config_policy import PolicyConfig
from agent.config_said import DeviceSaid, GatewaySaid, RouteSaid
from agent.owners import ownership_terms
from core.errors import ConfigError
from core.faultwords import close, near
from core.ownership import Ownership, overlap_fault
from drivers.types import DeviceType

Types = Callable[[str], DeviceType]
"""Loads a device type by its name; :class:`ConfigError` when there is none."""


@dataclass(frozen=True, slots=True)
class Parts:
    """The tables of a file, each with its place: those that are well formed, and what the others say."""

    gateway: GatewaySaid
    lines: tuple[tuple[Place, LineConfig], ...]
    """Well-formed ones alone."""
    line_places: tuple[Place, ...]
    """Of all lines."""
    devices: tuple[tuple[Place, DeviceSaid], ...]
    routes: tuple[tuple[Place, RouteSaid], ...]
    policy: tuple[Place, PolicyConfig] | None = None


def rule_faults(parts: Parts, types: Types) -> Iterator[str]:
    """Yield every contradiction between the tables."""
    yield from _same_names(parts.line_places)
    yield from _same_names(place for place, _ in parts.devices)
    yield from _same_names(place for place, _ in parts.routes)
    yield from _device_faults(parts)
    for place, device in parts.devices:
        if device.whole is not None:
            yield from _ownership_faults(place, device.whole)
        if device.type and parts.gateway.types is not None:
            yield from _type_faults(place, device, types)
        if device.whole is not None:
            yield from _transformer_faults(place, device.whole, types)
    yield from _route_faults(parts)
    yield from _policy_faults(parts)


def _same_names(places: Iterable[Place]) -> Iterator[str]:
    first: dict[str, Place] = {}
    for place in places:
        if not place.name:
            continue
        if place.name in first:
            yield place.at("name").fault(f"also the name of {_short(first[place.name])}: give each its own")
        first.setdefault(place.name, place)


def _short(place: Place) -> str:
    return f"{place.table}[{place.number}]"


def _device_faults(parts: Parts) -> Iterator[str]:
    units: dict[tuple[str, int], Place] = {}
    line_names = {place.name for place in parts.line_places if place.name}
    for place, device in parts.devices:
        if not device.line:
            continue
        if device.line not in line_names:
            hint = near(device.line, line_names)
            yield place.at("line").fault(f'no [[line]] is named "{device.line}": {hint}')
        if device.unit_id is None:
            continue
        unit = (device.line, device.unit_id)
        if unit in units:
            yield place.at("unit_id").fault(
                f'unit id {device.unit_id} on line "{device.line}" is already {_short(units[unit])} '
                f'"{units[unit].name}"'
            )
        units.setdefault(unit, place)
    yield from _line_faults(parts)


def _line_faults(parts: Parts) -> Iterator[str]:
    """Yield what a kind of line does not bear: broadcasts on wires, devices that may not dial in."""
    lines = {line.name: (place, line) for place, line in parts.lines}
    for place, device in parts.devices:
        _, line = lines.get(device.line, (place, None))
        if line is not None and line.url.scheme.is_serial and device.unit_id == 0:
            yield place.at("unit_id").fault(
                f'unit id 0 on line "{line.name}" asks all devices at once and none answers: take 1 to 247'
            )
        if line is not None and line.devices is not None and device.name not in ("", *line.devices):
            yield place.at("line").fault(
                f'devices of line "{line.name}" does not list it, so it may not dial in: add "{device.name}"'
            )
        frames = {} if line is None else line.first_frame or {}
        if frames and line is not None and line.trust_address and device.name not in ("", *frames):
            yield place.at("line").fault(
                f'first_frame of line "{device.line}" does not say how it names itself: add "{device.name}"'
            )
    for place, line in lines.values():
        # A device whose line cannot be read may be the one that is meant.
        on_line = {device.name for _, device in parts.devices if device.line in ("", line.name)}
        for name in line.devices or ():
            if name not in on_line:
                yield place.at("devices").fault(f'no [[device]] of this line is named "{name}"')
        for name in line.first_frame or ():
            if name not in on_line:
                yield place.at("first_frame").fault(f'no [[device]] of this line is named "{name}"')


def _ownership_faults(place: Place, device: DeviceConfig) -> Iterator[str]:
    fault = overlap_fault(ownership_terms(device))
    if fault is not None:
        yield place.at("ownership").fault(fault)
    for number, override in enumerate(device.override, start=1):
        fault = overlap_fault(ownership_terms(device, override)) if override.ownership else None
        if fault is not None:
            yield place.at(f"override[{number}] ownership").fault(fault)


def _type_faults(place: Place, device: DeviceSaid, types: Types) -> Iterator[str]:
    try:
        known = {point.name for point in types(device.type).points}
    except ConfigError as error:
        yield from (place.at("type").fault(fault) for fault in error.faults or (str(error),))
        return
    for name in device.points:
        if name not in known:
            yield place.at("points").fault(f'{device.type} has no point "{name}": {near(name, known)}')
    polled = known if device.whole is None else polled_names(device.whole, types)
    for number, points in enumerate(device.overrides, start=1):
        key = place.at(f"override[{number}] points")
        for name in points:
            if name not in known:
                yield key.fault(f'{device.type} has no point "{name}": {near(name, known)}')
            elif name not in polled:
                yield key.fault(f'point "{name}" is not polled: add it to the points of the device')


def _transformer_faults(place: Place, device: DeviceConfig, types: Types) -> Iterator[str]:
    for number, (before, after) in enumerate(pairwise(device.transformer), start=2):
        key = place.at(f"transformer[{number}] from")
        if after.begin is None:
            yield key.fault("is missing: only the first transformer may be there since ever")
        elif before.begin is not None and after.begin <= before.begin:
            yield key.fault(f"is not after {before.begin.isoformat()}: put them in the order of time")
    if device.transformer:
        try:
            behind = [point for point in types(device.type).points if point.ratio is not None]
        except ConfigError:
            return
        if not behind:
            yield place.at("transformer").fault(
                f"no point of {device.type} stands behind transformers: its values are primary"
            )


def polled_names(device: DeviceConfig, types: Types) -> frozenset[str]:
    """Return the names of the points that a device's table asks for."""
    if device.points is not None:
        return frozenset(device.points)
    return frozenset(point.name for point in types(device.type).points if point.default)


def _route_faults(parts: Parts) -> Iterator[str]:
    towards: dict[tuple[str, str, int], Place] = {}
    for place, route in parts.routes:
        if route.url is None:
            continue
        if route.url.scheme is Scheme.MQTT and parts.gateway.setting is Setting.PRODUCTION:
            yield place.at("url").fault(
                f"{route.url} is not encrypted, which production refuses: use mqtts:// with certificates, or "
                'setting = "development" on a desk'
            )
        if not route.entity:
            continue
        end = (route.entity, route.url.host.lower(), route.url.port)
        if end in towards:
            yield place.at("entity").fault(
                f"{route.entity} already gets its readings at {route.url} by {_short(towards[end])} "
                f'"{towards[end].name}": one route for each entity and broker'
            )
        towards.setdefault(end, place)


def _policy_faults(parts: Parts) -> Iterator[str]:
    if parts.policy is None:
        return
    place, policy = parts.policy
    names = {route.name for route, _ in parts.routes if route.name}
    if policy.route is not None and policy.route not in names:
        hint = near(policy.route, names)
        yield place.at("route").fault(f'no [[route]] is named "{policy.route}": {hint}')
    if not parts.routes and policy.folder is None:
        yield place.fault("comes from nowhere: give a [[route]] to its broker, or folder")


def warnings(config: Config, types: Types) -> tuple[str, ...]:
    """Return what is allowed and perhaps not meant, one sentence each."""
    return (*_line_warnings(config), *_device_warnings(config, types), *_route_warnings(config))


def _line_warnings(config: Config) -> Iterator[str]:
    used = {device.line for device in config.devices}
    ends: dict[str, str] = {}
    if not config.devices:
        yield "there is no [[device]]: nothing will be polled"
    for line in config.lines:
        if line.name not in used:
            yield f'line "{line.name}" has no device'
        end = line.url.end
        if end in ends:
            yield (
                f'lines "{ends[end]}" and "{line.name}" lead to the same address {line.url}: they will '
                "poll at the same time, which many converters to serial lines do not stand"
            )
        ends.setdefault(end, line.name)
        if line.trust_address is not None:
            says = " and says the first frame of a device" if line.first_frame else ""
            where = " or ".join(line.trust_address)
            yield (
                f'line "{line.name}" believes whoever has the address {where}{says}: '
                "better give its devices certificates"
            )


def _device_warnings(config: Config, types: Types) -> Iterator[str]:
    for device in config.devices:
        if 248 <= device.unit_id <= 254:
            yield (
                f'device "{device.name}" has unit id {device.unit_id}: 248 to 254 are reserved '
                "(Modbus over serial line V1.02 §2.2)"
            )
        unsure = _unverified(device, types)
        if unsure:
            yield (
                f'device "{device.name}": no source confirmed {", ".join(unsure)} of type {device.type}; '
                "compare the values with the device's own display"
            )
        polled = polled_names(device, types)
        behind = [
            one.name for one in types(device.type).points if one.ratio is not None and one.name in polled
        ]
        if behind and not device.transformer:
            yield (
                f'device "{device.name}": {", ".join(behind)} of {device.type} stand behind transformers and '
                "there is no [[device.transformer]]: the ratio is taken for 1"
            )
        end = _open_end(ownership_terms(device))
        if end:
            yield f'device "{device.name}": {end}'


def _unverified(device: DeviceConfig, types: Types) -> list[str]:
    """Return the polled points whose registers nobody confirmed."""
    kind = types(device.type)
    polled = polled_names(device, types)
    return [
        point.name
        for point in kind.points
        if point.name in polled and not (kind.source.verified if point.verified is None else point.verified)
    ]


def _open_end(terms: tuple[Ownership, ...]) -> str | None:
    """Return where a history has a time without an owner after its begin."""
    ordered = sorted(terms, key=lambda term: term.valid_from_ms or -(2**63))
    for before, after in pairwise(ordered):
        if before.valid_to_ms is not None and before.valid_to_ms != after.valid_from_ms:
            return "between two terms of its ownership nobody owns the data, and no route carries it"
    if ordered[-1].valid_to_ms is not None:
        return "its last ownership ends; from then on nobody owns the data, and no route carries it"
    return None


def _route_warnings(config: Config) -> Iterator[str]:
    if not config.routes:
        yield "there is no [[route]]: readings stay in the store of this box"
    routed = {route.entity for route in config.routes}
    owners: dict[str, list[str]] = {}
    for device in config.devices:
        for override in (None, *device.override):
            for term in ownership_terms(device, override):
                for entity in term.data_owners:
                    devices = owners.setdefault(entity, [])
                    if device.name not in devices:
                        devices.append(device.name)
    for entity, devices in owners.items():
        if entity not in routed and routed:
            meant = close(entity, routed, cutoff=0.85)
            hint = f'did you mean "{meant}"?' if meant else "it receives nothing from here"
            yield f"{entity} owns data of {', '.join(devices)} and has no [[route]]: {hint}"
    for route in config.routes:
        if route.entity not in owners:
            yield f'route "{route.name}": {route.entity} owns no data here, nothing will be sent'
        if route.url.scheme is Scheme.MQTT:
            yield (
                f'route "{route.name}" is NOT ENCRYPTED and the broker does not know who connects: '
                "for a desk only"
            )
