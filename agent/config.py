"""gateway.toml: read whole, every fault told at once with its place, or a frozen `Config`.

    gateway.toml: device[2] "boiler" every: "10" is no duration: write "10s", …

Each table is validated by itself, so that a fault in one hides none in another;
then the rules between tables are applied to those that are well formed.  Relies on
pydantic for the form and on `drivers.types` for what can be polled.  Not here: the
request plan (`agent.site`), the certificates (`agent.identity`).
"""

import functools
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from agent.amounts import Duration, Size
from agent.config_faults import Place, form_faults, near
from agent.config_models import (
    Config,
    DeviceConfig,
    Endpoint,
    GatewayConfig,
    LineConfig,
    OverrideConfig,
    OwnershipConfig,
    RouteConfig,
    Scheme,
    Setting,
)
from agent.config_rules import Parts, Types, rule_faults, warnings
from agent.config_transformer import TransformerConfig
from core.errors import ConfigError
from drivers.types import DeviceType, load_type

__all__ = [
    "Config",
    "Connection",
    "DeviceConfig",
    "Duration",
    "Endpoint",
    "GatewayConfig",
    "LineConfig",
    "OverrideConfig",
    "OwnershipConfig",
    "RouteConfig",
    "Scheme",
    "Setting",
    "Size",
    "TransformerConfig",
    "connections",
    "load_config",
    "parse_config",
    "types_of",
    "warnings",
]

LONGEST_FILE = 4 << 20
"""Bytes; a thousand devices with overrides fit many times."""

_TABLES = {"gateway": GatewayConfig, "line": LineConfig, "device": DeviceConfig, "route": RouteConfig}
_NESTED: Mapping[str, type[BaseModel]] = {
    "override": OverrideConfig,
    "ownership": OwnershipConfig,
    "transformer": TransformerConfig,
}
_Model = TypeVar("_Model", bound=BaseModel)
_Toml = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Connection:
    """One MQTT connection and the routes that share it."""

    client_id: str
    url: Endpoint
    ca: Path | None
    cert: Path | None
    key: Path | None
    routes: tuple[RouteConfig, ...]

    @property
    def keepalive(self) -> Duration:
        """The shortest that a route of this connection wants."""
        return min(route.keepalive for route in self.routes)


def connections(config: Config) -> tuple[Connection, ...]:
    """Return the MQTT connections of a gateway: routes with the same broker and certificate share one.

    The first has the gateway's id as client id, any further one ``<gateway>:<route>``, also at
    another broker: one broker may have two names, and two equal client ids there would throw
    each other out for ever.
    """
    shared: dict[tuple[str, str, int, Path | None, Path | None, Path | None], list[RouteConfig]] = {}
    for route in config.routes:
        end = (route.url.scheme.value, route.url.host.lower(), route.url.port)
        shared.setdefault((*end, route.ca, route.cert, route.key), []).append(route)
    gateway = config.gateway.id
    return tuple(
        Connection(
            client_id=f"{gateway}:{routes[0].name}" if number else gateway,
            url=routes[0].url,
            ca=routes[0].ca,
            cert=routes[0].cert,
            key=routes[0].key,
            routes=tuple(routes),
        )
        for number, routes in enumerate(shared.values())
    )


def types_of(gateway: GatewayConfig | None) -> Types:
    """Return what loads the device types of a gateway, each file once: its own folders come first."""
    folders = () if gateway is None else gateway.types

    @functools.cache
    def load(name: str) -> DeviceType:
        return load_type(name, folders)

    return load


def load_config(path: Path) -> Config:
    """Read a configuration file; :class:`ConfigError` carries every fault found.

    Relative paths in it count from the folder in which it lies.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(LONGEST_FILE + 1)
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be read ({error.strerror}): give the path of a gateway.toml with -c"
        ) from error
    if len(raw) > LONGEST_FILE:
        raise ConfigError(f"{path} has more than {LONGEST_FILE} bytes: is it really a configuration?")
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise ConfigError(f"{path} is not UTF-8 text (line {line}): save it as UTF-8") from error
    return parse_config(text, path)


def parse_config(text: str, path: Path) -> Config:
    """Return the configuration in a text; ``path`` says where it stands and what paths count from."""
    try:
        tables: dict[str, object] = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path} is not valid TOML: {error}") from error
    reader = _Reader(path.name, path.absolute().parent)
    parts = reader.parts(tables)
    faults = [*reader.faults, *rule_faults(parts, types_of(parts.gateway))]
    if faults or parts.gateway is None:
        many = "1 fault" if len(faults) == 1 else f"{len(faults)} faults"
        raise ConfigError(f"{path} has {many}:", tuple(faults))
    return Config(
        gateway=parts.gateway,
        lines=tuple(table for _, table in parts.lines),
        devices=tuple(table for _, table in parts.devices),
        routes=tuple(table for _, table in parts.routes),
    )


class _Reader:
    """Validates the tables one by one and collects the faults on the way."""

    def __init__(self, file: str, folder: Path) -> None:
        self._file = file
        self._context = {"folder": folder}
        self.faults: list[str] = []

    def parts(self, tables: _Toml) -> Parts:
        """Return the tables that are well formed."""
        for key in tables:
            if key not in _TABLES:
                place = Place(self._file, key)
                self.faults.append(place.fault(f"no such table: {near(key, _TABLES)}"))
        lines = list(self._tables(tables, "line"))
        return Parts(
            gateway=self._gateway(tables),
            lines=tuple(self._valid(lines, LineConfig)),
            devices=tuple(self._valid(self._tables(tables, "device"), DeviceConfig)),
            routes=tuple(self._valid(self._tables(tables, "route"), RouteConfig)),
            line_names=frozenset(place.name for place, _ in lines if place.name),
        )

    def _gateway(self, tables: _Toml) -> GatewayConfig | None:
        place = Place(self._file, "gateway")
        table = tables.get("gateway")
        if not isinstance(table, dict):
            example = 'begin the file with [gateway], id = "gw-0001" and data_dir = "/var/lib/portico"'
            self.faults.append(place.fault(f"is missing: {example}" if table is None else "must be a table"))
            return None
        return self._model(place, table, GatewayConfig)

    def _tables(self, tables: _Toml, kind: str) -> Iterator[tuple[Place, _Toml]]:
        found = tables.get(kind, [])
        if not isinstance(found, list):
            fault = f"write [[{kind}]] with two brackets, because there may be several"
            self.faults.append(Place(self._file, kind).fault(fault))
            return
        for number, table in enumerate(found, start=1):
            if not isinstance(table, dict):
                self.faults.append(Place(self._file, kind, number).fault("must be a table"))
                continue
            name = table.get("name")
            yield Place(self._file, kind, number, name if isinstance(name, str) else ""), table

    def _valid(
        self, tables: Iterator[tuple[Place, _Toml]] | list[tuple[Place, _Toml]], model: type[_Model]
    ) -> Iterator[tuple[Place, _Model]]:
        for place, table in tables:
            valid = self._model(place, table, model)
            if valid is not None:
                yield place, valid

    def _model(self, place: Place, table: _Toml, model: type[_Model]) -> _Model | None:
        try:
            return model.model_validate(table, context=self._context)
        except ValidationError as error:
            self.faults.extend(form_faults(error, place, model, _NESTED))
            return None
