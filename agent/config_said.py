"""What a table of gateway.toml says by those of its keys that can be read, also when another is wrong.

So that all that is wrong is told at once: a device with a bad ``every`` may name an unknown type as
well.  Relies on pydantic's places of faults alone; a key in which there is one says nothing.  Not
here: the rules between tables (``agent.config_rules``).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from agent.config_models import (
    DeviceConfig,
    Endpoint,
    GatewayConfig,
    RouteConfig,
    Scheme,
    Setting,
    parse_endpoint,
)

Toml = Mapping[str, object]
Wrong = Sequence[tuple[int | str, ...]]
"""Where in a table pydantic found faults."""


@dataclass(frozen=True, slots=True)
class DeviceSaid:
    """What a device's table says of others; empty and None where that cannot be read."""

    name: str
    type: str
    line: str
    unit_id: int | None
    points: tuple[str, ...]
    overrides: tuple[tuple[str, ...], ...]
    """The points of each override."""
    whole: DeviceConfig | None
    """The table itself, when it is well formed."""


@dataclass(frozen=True, slots=True)
class RouteSaid:
    """What a route's table says of others; empty and None where that cannot be read."""

    entity: str
    url: Endpoint | None
    whole: RouteConfig | None


@dataclass(frozen=True, slots=True)
class GatewaySaid:
    """What the gateway's table says of the others; None where that cannot be read."""

    setting: Setting | None
    types: tuple[Path, ...] | None
    whole: GatewayConfig | None


def device_said(table: Toml, whole: DeviceConfig | None, wrong: Wrong) -> DeviceSaid:
    """Return what a device's table says."""
    unit_id = table.get("unit_id")
    overrides = table.get("override")
    return DeviceSaid(
        name=_text(table, "name", wrong),
        type=_text(table, "type", wrong),
        line=_text(table, "line", wrong),
        unit_id=unit_id if _right(wrong, "unit_id") and isinstance(unit_id, int) else None,
        points=_texts(table.get("points"), wrong, "points"),
        overrides=tuple(
            _texts(one.get("points"), wrong, "override", number, "points") if isinstance(one, dict) else ()
            for number, one in enumerate(overrides if isinstance(overrides, list) else ())
        ),
        whole=whole,
    )


def route_said(table: Toml, whole: RouteConfig | None, wrong: Wrong) -> RouteSaid:
    """Return what a route's table says."""
    if whole is not None:
        return RouteSaid(whole.entity, whole.url, whole)
    try:
        url = (
            parse_endpoint(table.get("url"), (Scheme.MQTTS, Scheme.MQTT), "")
            if _right(wrong, "url")
            else None
        )
    except ValueError:
        url = None
    return RouteSaid(_text(table, "entity", wrong), url, None)


def gateway_said(table: Toml, whole: GatewayConfig | None, wrong: Wrong, folder: Path) -> GatewaySaid:
    """Return what the gateway's table says; relative folders of types count from ``folder``."""
    if whole is not None:
        return GatewaySaid(whole.setting, whole.types, whole)
    setting = _text(table, "setting", wrong) if "setting" in table else Setting.PRODUCTION.value
    return GatewaySaid(
        setting=Setting(setting) if setting else None,
        types=tuple(folder / one for one in _texts(table.get("types"), wrong, "types"))
        if _right(wrong, "types")
        else None,
        whole=None,
    )


def _right(wrong: Wrong, *key: int | str) -> bool:
    """Tell whether no fault lies at a key, above it or below it; one of the whole table does not count."""
    return not any(loc and loc[: len(key)] == key[: len(loc)] for loc in wrong)


def _text(table: Toml, key: str, wrong: Wrong) -> str:
    value = table.get(key)
    return value if isinstance(value, str) and _right(wrong, key) else ""


def _texts(value: object, wrong: Wrong, *key: int | str) -> tuple[str, ...]:
    if not isinstance(value, list) or not _right(wrong, *key):
        return ()
    return tuple(one for one in value if isinstance(one, str))
