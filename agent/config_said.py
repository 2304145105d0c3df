"""What a table of gateway.toml says by those of its keys that can be read, also when another is wrong.

So that all that is wrong is told at once: a device with a bad ``every`` may name an unknown type as
well.  Relies on pydantic's places of faults alone; a key in which there is one says nothing.  Not
here: the rules between tables (``agent.config_rules``).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from agent.config_models import (
    Config,
    DeviceConfig,
    Endpoint,
    GatewayConfig,
    RouteConfig,
    Scheme,
    Setting,
    parse_endpoint,
)
from drivers.modbus.lineurl import LineScheme

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
class PemFiles:
    """Certificates and key that a table names; None where it does not, or where that cannot be read."""

    ca: Path | None
    cert: Path | None
    key: Path | None
    trust: Path | None = None
    listening: bool = False
    """They are a server's: devices dial in."""


@dataclass(frozen=True, slots=True)
class IdentitySaid:
    """Who a file says this gateway is, and by which files it proves it."""

    gateway: str
    """Its id; empty where that cannot be read."""
    setting: Setting | None
    signing: PemFiles
    routes: tuple[PemFiles, ...]
    lines: tuple[PemFiles, ...]


@dataclass(frozen=True, slots=True)
class RouteSaid:
    """What a route's table says of others; empty and None where that cannot be read."""

    entity: str
    url: Endpoint | None
    files: PemFiles
    whole: RouteConfig | None


@dataclass(frozen=True, slots=True)
class GatewaySaid:
    """What the gateway's table says of the others; None where that cannot be read."""

    id: str
    """Empty where that cannot be read."""
    setting: Setting | None
    types: tuple[Path, ...] | None
    signing: PemFiles
    whole: GatewayConfig | None


NO_FILES = PemFiles(None, None, None)
NO_GATEWAY = GatewaySaid("", None, (), NO_FILES, None)


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


def route_said(table: Toml, whole: RouteConfig | None, wrong: Wrong, folder: Path) -> RouteSaid:
    """Return what a route's table says; relative paths count from ``folder``."""
    if whole is not None:
        return RouteSaid(whole.entity, whole.url, route_files(whole), whole)
    try:
        url = (
            parse_endpoint(table.get("url"), (Scheme.MQTTS, Scheme.MQTT), "")
            if _right(wrong, "url")
            else None
        )
    except ValueError:
        url = None
    ca, cert, key, trust = (_file(table, name, wrong, folder) for name in ("ca", "cert", "key", "trust"))
    return RouteSaid(_text(table, "entity", wrong), url, PemFiles(ca, cert, key, trust), None)


def line_files(table: Toml, wrong: Wrong, folder: Path) -> PemFiles:
    """Return the files that a line's table names."""
    ca, cert, key = (_file(table, name, wrong, folder) for name in ("ca", "cert", "key"))
    return PemFiles(ca, cert, key, listening=_text(table, "url", wrong).startswith(LineScheme.LISTEN.value))


def gateway_said(table: Toml, whole: GatewayConfig | None, wrong: Wrong, folder: Path) -> GatewaySaid:
    """Return what the gateway's table says; relative paths count from ``folder``."""
    if whole is not None:
        return GatewaySaid(whole.id, whole.setting, whole.types, signing_files(whole), whole)
    setting = _text(table, "setting", wrong) if "setting" in table else Setting.PRODUCTION.value
    own = _text(table, "id", wrong)
    cert, key = (
        # A default is no fault of its own, although pydantic names it when the id is wrong.
        _file(table, name, wrong, folder) if name in table else folder / f"{own}{usual}" if own else None
        for name, usual in (("signing_cert", ".sign.pem"), ("signing_key", ".sign.key"))
    )
    return GatewaySaid(
        id=own,
        setting=Setting(setting) if setting else None,
        types=tuple(folder / one for one in _texts(table.get("types"), wrong, "types"))
        if _right(wrong, "types")
        else None,
        signing=PemFiles(None, cert, key),
        whole=None,
    )


def identity_of(config: Config) -> IdentitySaid:
    """Return what a whole configuration says."""
    gateway = config.gateway
    return IdentitySaid(
        gateway=gateway.id,
        setting=gateway.setting,
        signing=signing_files(gateway),
        routes=tuple(map(route_files, config.routes)),
        lines=tuple(
            PemFiles(line.ca, line.cert, line.key, listening=line.url.scheme is LineScheme.LISTEN)
            for line in config.lines
        ),
    )


def route_files(route: RouteConfig) -> PemFiles:
    """Return the files that a route names."""
    return PemFiles(route.ca, route.cert, route.key, route.trust)


def signing_files(gateway: GatewayConfig) -> PemFiles:
    """Return the key that signs the stream, and its certificate."""
    return PemFiles(None, gateway.signing_cert, gateway.signing_key)


def _right(wrong: Wrong, *key: int | str) -> bool:
    """Tell whether no fault lies at a key, above it or below it; one of the whole table does not count."""
    return not any(loc and loc[: len(key)] == key[: len(loc)] for loc in wrong)


def _text(table: Toml, key: str, wrong: Wrong) -> str:
    value = table.get(key)
    return value if isinstance(value, str) and _right(wrong, key) else ""


def _file(table: Toml, key: str, wrong: Wrong, folder: Path) -> Path | None:
    name = _text(table, key, wrong)
    return folder / name if name else None


def _texts(value: object, wrong: Wrong, *key: int | str) -> tuple[str, ...]:
    if not isinstance(value, list) or not _right(wrong, *key):
        return ()
    return tuple(one for one in value if isinstance(one, str))
