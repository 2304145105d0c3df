"""gateway.toml: read whole, every fault told at once with its place, or a frozen `Config`.

    gateway.toml: device[2] "boiler" every: "10" is no duration: write "10s", …

Each table is validated by itself, so that a fault in one hides none in another;
then the rules between tables are applied to all that can be read of them.  Relies on
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
from agent.config_faults import Place, form_faults
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
from agent.config_policy import PolicyConfig
from agent.config_rules import Parts, Types, rule_faults, warnings
from agent.config_said import (
    NO_GATEWAY,
    GatewaySaid,
    IdentitySaid,
    PemFiles,
    Wrong,
    device_said,
    gateway_said,
    line_files,
    route_said,
)
from agent.config_transformer import TransformerConfig
from core.errors import ConfigError
from core.faultwords import near, of_another
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
    "PolicyConfig",
    "RouteConfig",
    "Scheme",
    "Setting",
    "Size",
    "TransformerConfig",
    "connections",
    "load_config",
    "parse_config",
    "survey_config",
    "types_of",
    "warnings",
]

LONGEST_FILE = 4 << 20
"""Bytes; a thousand devices with overrides fit many times."""

_TABLES = {
    "gateway": GatewayConfig,
    "line": LineConfig,
    "device": DeviceConfig,
    "route": RouteConfig,
    "policy": PolicyConfig,
}
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
    return _types_in(() if gateway is None else gateway.types)


def _types_in(folders: tuple[Path, ...]) -> Types:
    @functools.cache
    def load(name: str) -> DeviceType:
        return load_type(name, folders)

    return load


@dataclass(frozen=True, slots=True)
class Survey:
    """A configuration file as far as it can be used, and all that is wrong with it."""

    path: Path
    tables: Config | None
    """Its well-formed tables; None without a gateway among them."""
    identity: IdentitySaid
    """The certificates and keys that it names, also in tables with a fault."""
    faults: tuple[str, ...]

    @property
    def config(self) -> Config:
        """The configuration, which has no fault; :class:`ConfigError` carries every one otherwise."""
        if self.faults or self.tables is None:
            raise ConfigError(problem(self.path, self.faults), self.faults)
        return self.tables


def problem(path: Path, faults: tuple[str, ...]) -> str:
    """Return the sentence that stands above the faults of a file."""
    return f"{path} has {'1 fault' if len(faults) == 1 else f'{len(faults)} faults'}:"


def load_config(path: Path) -> Config:
    """Read a configuration file; :class:`ConfigError` carries every fault found.

    Relative paths in it count from the folder in which it lies.
    """
    return survey_config(path).config


def survey_config(path: Path) -> Survey:
    """Read a configuration file as far as it goes; :class:`ConfigError` when it cannot be read at all."""
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
    return _survey(text, path)


def parse_config(text: str, path: Path) -> Config:
    """Return the configuration in a text; ``path`` says where it stands and what paths count from."""
    return _survey(text, path).config


def _survey(text: str, path: Path) -> Survey:
    try:
        tables: dict[str, object] = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path} is not valid TOML: {error}") from error
    other = of_another(tables, "gateway")
    if other:
        raise ConfigError(f"{path} {other}")
    # A name such as that of /dev/stdin says little by itself.
    reader = _Reader(path.name if path.suffix else str(path), path.absolute().parent)
    parts = reader.parts(tables)
    gateway = parts.gateway.whole
    found = None
    if gateway is not None:
        found = Config(
            gateway=gateway,
            lines=tuple(table for _, table in parts.lines),
            devices=tuple(said.whole for _, said in parts.devices if said.whole is not None),
            routes=tuple(said.whole for _, said in parts.routes if said.whole is not None),
            policy=None if parts.policy is None else parts.policy[1],
        )
    identity = IdentitySaid(
        gateway=parts.gateway.id,
        setting=parts.gateway.setting,
        signing=parts.gateway.signing,
        routes=tuple(said.files for _, said in parts.routes),
        lines=tuple(reader.line_files),
    )
    faults = (*reader.faults, *rule_faults(parts, _types_in(parts.gateway.types or ())))
    return Survey(path, found, identity, faults)


class _Reader:
    """Validates the tables one by one and collects the faults on the way."""

    def __init__(self, file: str, folder: Path) -> None:
        self._file = file
        self._folder = folder
        self.faults: list[str] = []
        self.line_files: list[PemFiles] = []

    def parts(self, tables: _Toml) -> Parts:
        """Return the tables that are well formed, and what the others say."""
        for key in tables:
            if key not in _TABLES:
                place = Place(self._file, key)
                self.faults.append(place.fault(f"no such table: {near(key, _TABLES)}"))
        gateway = self._gateway(tables)
        lines = [(place, self._line(place, table)) for place, table in self._tables(tables, "line")]
        devices = [
            (place, device_said(table, *self._model(place, table, DeviceConfig)))
            for place, table in self._tables(tables, "device")
        ]
        routes = [
            (place, route_said(table, *self._model(place, table, RouteConfig), self._folder))
            for place, table in self._tables(tables, "route")
        ]
        return Parts(
            gateway=gateway,
            lines=tuple((place, line) for place, line in lines if line is not None),
            line_places=tuple(place for place, _ in lines),
            devices=tuple(devices),
            routes=tuple(routes),
            policy=self._policy(tables),
        )

    def _policy(self, tables: _Toml) -> tuple[Place, PolicyConfig] | None:
        place = Place(self._file, "policy")
        table = tables.get("policy")
        if table is None:
            return None
        if not isinstance(table, dict):
            self.faults.append(place.fault("write [policy] with one bracket: there is one policy"))
            return None
        whole, _ = self._model(place, table, PolicyConfig)
        return None if whole is None else (place, whole)

    def _gateway(self, tables: _Toml) -> GatewaySaid:
        place = Place(self._file, "gateway")
        table = tables.get("gateway")
        if not isinstance(table, dict):
            example = 'begin the file with [gateway], id = "gw-0001" and data_dir = "/var/lib/portico"'
            self.faults.append(place.fault(f"is missing: {example}" if table is None else "must be a table"))
            return NO_GATEWAY
        return gateway_said(table, *self._model(place, table, GatewayConfig), self._folder)

    def _line(self, place: Place, table: _Toml) -> LineConfig | None:
        line, wrong = self._model(place, table, LineConfig)
        self.line_files.append(line_files(table, wrong, self._folder))
        return line

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

    def _model(self, place: Place, table: _Toml, model: type[_Model]) -> tuple[_Model | None, Wrong]:
        try:
            return model.model_validate(table, context={"folder": self._folder}), ()
        except ValidationError as error:
            self.faults.extend(form_faults(error, place, model, _NESTED))
            return None, [fault["loc"] for fault in error.errors(include_url=False)]
