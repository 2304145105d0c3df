"""The tables of gateway.toml as frozen models: names, forms, defaults and bounds of each key.

Each model checks what can be seen within its own table; what needs two tables, or
the device types, is in `agent.config_rules`.  Every key stands in
docs/configuration.md.  Not here: reading the file and wording its faults.
"""

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    PlainValidator,
    WithJsonSchema,
    model_validator,
)

from agent.amounts import Duration, DurationKey, IntervalKey, Size, SizeKey, within
from agent.config_firstframe import FirstFrame, check_first_frames
from agent.config_forms import FilePath, Name, checked
from agent.config_policy import PolicyConfig
from agent.config_transformer import TransformerConfig
from certs.profile import RESERVED_IDS
from core.errors import ConfigError
from drivers.modbus.lineurl import LineScheme, LinkUrl
from drivers.modbus.wires import SerialSettings


class Setting(Enum):
    """Where a gateway stands: what is convenient on a desk is refused at a customer's."""

    DEVELOPMENT = "development"
    PRODUCTION = "production"


class Scheme(Enum):
    """How a broker is spoken to."""

    MQTTS = "mqtts"
    MQTT = "mqtt"


_PORTS = {Scheme.MQTTS: 8883, Scheme.MQTT: 1883}


@dataclass(frozen=True, slots=True)
class Endpoint:
    """The address of a broker."""

    scheme: Scheme
    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme.value}://{host}:{self.port}"


def parse_endpoint(value: object, allowed: tuple[Scheme, ...], example: str) -> Endpoint:
    """Return the parts of an address; ``ValueError`` shows one of the right form."""
    if not isinstance(value, str):
        raise ValueError(f'must be text in quotes, for example "{example}"')
    try:
        parts = urlsplit(value)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise ValueError(f'"{value}" is no address ({error}): write for example "{example}"') from error
    scheme = next((one for one in allowed if one.value == parts.scheme), None)
    if scheme is None:
        known = " or ".join(f"{one.value}://" for one in allowed)
        raise ValueError(f'"{value}" does not begin with {known}: write for example "{example}"')
    if parts.username is not None or parts.password is not None:
        raise ValueError(
            f"the address of {host} holds a user name: the gateway identifies itself by its certificate"
        )
    if not host or port == 0 or parts.path.strip("/") or parts.query or parts.fragment:
        raise ValueError(f'"{value}" is not host and port: write for example "{example}"')
    return Endpoint(scheme, host, port or _PORTS[scheme])


def _line_url(value: object) -> object:
    if isinstance(value, LinkUrl):
        return value
    if not isinstance(value, str):
        raise ValueError('must be text in quotes, for example "modbus+tcp://192.168.1.50:502"')
    try:
        return LinkUrl.parse(value)
    except ConfigError as error:
        raise ValueError(str(error)) from error


def _broker_url(value: object) -> object:
    return _endpoint(value, (Scheme.MQTTS, Scheme.MQTT), "mqtts://broker.example:8883")


def _endpoint(value: object, allowed: tuple[Scheme, ...], example: str) -> Endpoint:
    return value if isinstance(value, Endpoint) else parse_endpoint(value, allowed, example)


def _identity(text: str) -> str:
    if checked(text) in RESERVED_IDS:
        raise ValueError(f'"{text}" is reserved for topics of the system: choose another name')
    return text


def _address(text: str) -> str:
    try:
        return str(ipaddress.ip_address(text))
    except ValueError as error:
        raise ValueError(f'"{text}" is no address in numbers, such as "192.0.2.7"') from error


def _distinct(names: tuple[str, ...]) -> tuple[str, ...]:
    if not names:
        raise ValueError("an empty list: name at least one, or leave the key out")
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f'names "{twice[0]}" twice')
    return names


def _deadband(value: object) -> object:
    if isinstance(value, str | int) and not isinstance(value, bool):
        try:
            number = Decimal(value)
        except ArithmeticError as error:
            raise ValueError(f'"{value}" is no number: write for example "0.5"') from error
        if number.is_finite() and number >= 0:
            return number
    raise ValueError('must be a number in quotes that is not negative, for example "0.5"')


Deadband = Annotated[Decimal, PlainValidator(_deadband), WithJsonSchema({"type": "string"})]
"""Change in the unit of a point up to which nothing is reported; in quotes, because it is exact."""
_URL = WithJsonSchema({"type": "string", "format": "uri"})
Identity = Annotated[str, AfterValidator(_identity)]
Names = Annotated[tuple[Name, ...], Field(strict=False), AfterValidator(_distinct)]
Identities = Annotated[tuple[Identity, ...], Field(strict=False), AfterValidator(_distinct)]
LineUrl = Annotated[LinkUrl, PlainValidator(_line_url), _URL]
BrokerUrl = Annotated[Endpoint, PlainValidator(_broker_url), _URL]
Address = Annotated[str, AfterValidator(_address)]
SHORTEST_WITHIN = Duration(1000)
USUAL_KEEPALIVE = Duration(30_000)
LONGEST_KEEPALIVE = Duration(3_600_000)


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, validate_default=True)


def _lasting(low_s: float, high_s: float) -> AfterValidator:
    return AfterValidator(within(_s(low_s), _s(high_s)))


def _keepalive(given: Mapping[str, object]) -> Duration:
    """Return the keep alive of a route: two messages long, so that no ping goes between them."""
    every = given.get("every")
    if not isinstance(every, Duration):
        return USUAL_KEEPALIVE
    return min(max(USUAL_KEEPALIVE, Duration(2 * every.ms)), LONGEST_KEEPALIVE)


def _sized(low: int, high: int) -> AfterValidator:
    return AfterValidator(within(Size(low), Size(high)))


def _s(seconds: float) -> Duration:
    return Duration(int(seconds * 1000))


class GatewayConfig(_Table):
    """``[gateway]``: who this box is, and where it keeps what."""

    id: Identity
    data_dir: FilePath
    setting: Annotated[Setting, Field(strict=False)] = Setting.PRODUCTION
    signing_cert: FilePath = Field(default_factory=lambda given: Path(f"{given.get('id', 'id')}.sign.pem"))
    signing_key: FilePath = Field(default_factory=lambda given: Path(f"{given.get('id', 'id')}.sign.key"))
    types: Annotated[tuple[FilePath, ...], Field(strict=False)] = ()
    usage_point: Name | None = None
    commit_window: Annotated[DurationKey, _lasting(0.001, 60)] = Duration(100)
    slow_commit: Annotated[DurationKey, _lasting(0.01, 3600)] = Duration(5000)
    quota: Annotated[SizeKey, _sized(256 << 10, 1 << 40)] = Size(1 << 30)
    reserve: Annotated[SizeKey, _sized(0, 1 << 30)] = Size(4 << 20)
    clock: Literal["kernel", "trusted"] = "kernel"
    keep: Annotated[DurationKey, _lasting(0, 3660 * 86400)] = _s(30 * 86400)

    @model_validator(mode="after")
    def _fits(self) -> "GatewayConfig":
        if self.reserve.octets * 2 > self.quota.octets:
            raise ValueError(f"reserve {self.reserve} is more than half of quota {self.quota}")
        if self.slow_commit < self.commit_window:
            raise ValueError(
                f"slow_commit {self.slow_commit} is below commit_window {self.commit_window}: "
                "every commit would be an alarm"
            )
        return self


class LineConfig(_Table):
    """``[[line]]``: one connection to the field; one worker owns it."""

    name: Name
    url: LineUrl
    timeout: Annotated[DurationKey, _lasting(0.01, 60)] = Duration(1000)
    pause: Annotated[DurationKey, _lasting(0, 10)] = Duration(0)
    retries: Annotated[int, Field(ge=0, le=3)] = 1
    baud: Annotated[int, Field(ge=300, le=4_000_000)] = 9600
    parity: Literal["none", "even", "odd"] = "none"
    stop_bits: Literal[1, 2] = 1
    data_bits: Literal[8] = 8
    echo: bool = False
    ca: FilePath | None = None
    cert: FilePath | None = None
    key: FilePath | None = None
    server_name: str | None = None
    devices: Names | None = None
    trust_address: Annotated[tuple[Address, ...], Field(strict=False), AfterValidator(_distinct)] | None = (
        None
    )
    first_frame: dict[Name, FirstFrame] | None = None

    @model_validator(mode="after")
    def _fits(self) -> "LineConfig":
        scheme = self.url.scheme
        for name, schemes in _ONLY_ON.items():
            if name in self.model_fields_set and scheme not in schemes:
                where = " and ".join(f"{one.value}://" for one in schemes)
                raise ValueError(f"{name} belongs to a line by {where}, not by {scheme.value}://")
        missing = [name for name in ("ca", "cert", "key") if getattr(self, name) is None]
        if scheme is LineScheme.TLS and missing:
            raise ValueError(f"modbus+tls:// needs {' and '.join(missing)}: the paths of PEM files")
        if scheme is LineScheme.LISTEN:
            self._check_callers(missing)
        return self

    def _check_callers(self, missing: list[str]) -> None:
        if self.first_frame is not None:
            check_first_frames(self.first_frame, self.devices, self.trust_address is not None)
        if self.devices is not None and self.trust_address is not None:
            raise ValueError("has devices and trust_address: devices are known by certificate or by address")
        if self.devices is not None and missing:
            raise ValueError(f"devices are known by their certificates, which needs {' and '.join(missing)}")
        if self.devices is None and len(missing) < 3:
            raise ValueError("has certificates and no devices: list the common names that may dial in")
        if self.devices is None and self.trust_address is None:
            raise ValueError(
                "says nobody may dial in: give devices with ca, cert and key, or "
                'trust_address = ["192.0.2.7"] where the network itself is trusted'
            )

    @property
    def serial(self) -> SerialSettings | None:
        """How characters are written; None where that is unknown, behind a serial server."""
        told = self.url.scheme is LineScheme.RTU or "baud" in self.model_fields_set
        if not (self.url.scheme.is_serial and told):
            return None
        return SerialSettings(self.baud, self.parity, self.stop_bits)


_SERIAL = (LineScheme.RTU, LineScheme.RTU_TCP)
_CERTIFIED = (LineScheme.TLS, LineScheme.LISTEN)
_ONLY_ON = {
    **dict.fromkeys(("baud", "parity", "stop_bits", "data_bits", "echo"), _SERIAL),
    **dict.fromkeys(("ca", "cert", "key"), _CERTIFIED),
    "server_name": (LineScheme.TLS,),
    **dict.fromkeys(("devices", "trust_address", "first_frame"), (LineScheme.LISTEN,)),
}
"""Keys of a line that mean something for some kinds of lines alone."""


class OwnerKeys(_Table):
    """Who owns, who answers and who validates, as far as a table says it."""

    owner: Identity | None = None
    data_owners: Identities | None = None
    steward: Identity | None = None
    validator: Identity | None = None
    purpose: str | None = None


class OwnershipConfig(OwnerKeys):
    """``[[device.ownership]]``: one term of a history of owners."""

    owner: Identity
    valid_from: AwareDatetime | None = None
    valid_to: AwareDatetime | None = None

    @model_validator(mode="after")
    def _lasts(self) -> "OwnershipConfig":
        _check_term(self.valid_from, self.valid_to)
        return self


History = Annotated[tuple[OwnershipConfig, ...], Field(strict=False)]


class OverrideConfig(OwnerKeys):
    """``[[device.override]]``: what differs for some points of a device."""

    points: Names
    every: IntervalKey | None = None
    ownership: History = ()

    @model_validator(mode="after")
    def _changes(self) -> "OverrideConfig":
        if not self.model_fields_set - {"points"}:
            raise ValueError("overrides nothing: give it every, owner, data_owners or another key")
        _check_one_way(self.model_fields_set)
        return self


class DeviceConfig(OwnerKeys):
    """``[[device]]``: one unit behind a line, polled as its type says."""

    name: Name
    type: Name
    line: Name
    unit_id: Annotated[int, Field(ge=0, le=255)]
    every: IntervalKey
    phase: DurationKey = Duration(0)
    points: Names | None = None
    max_registers: Annotated[int, Field(ge=1, le=125)] | None = None
    usage_point: Name | None = None
    valid_from: AwareDatetime | None = None
    valid_to: AwareDatetime | None = None
    ownership: History = ()
    override: Annotated[tuple[OverrideConfig, ...], Field(strict=False)] = ()
    report: Literal["all", "changes"] = "all"
    heartbeat: Annotated[DurationKey, _lasting(0.01, 86400)] = _s(300)
    deadband: Annotated[dict[Name, Deadband], Field(strict=False)] = Field(default_factory=dict)
    transformer: Annotated[tuple[TransformerConfig, ...], Field(strict=False)] = ()

    @model_validator(mode="after")
    def _fits(self) -> "DeviceConfig":
        if self.report == "all" and {"heartbeat", "deadband"} & self.model_fields_set:
            raise ValueError('heartbeat and deadband belong to report = "changes"')
        if self.phase >= self.every:
            raise ValueError(f"phase {self.phase} must be shorter than every {self.every}")
        if self.owner is None and not self.ownership:
            raise ValueError('nobody owns it: give owner = "…" or a [[device.ownership]] table')
        _check_one_way(self.model_fields_set)
        _check_term(self.valid_from, self.valid_to)
        seen: set[str] = set()
        for override in self.override:
            again = seen & set(override.points)
            if again:
                raise ValueError(f"point {min(again)} is in two [[device.override]] tables: merge them")
            seen.update(override.points)
        return self


_FLAT = frozenset(OwnerKeys.model_fields) | {"valid_from", "valid_to"}


def _check_one_way(given: set[str]) -> None:
    both = sorted(_FLAT & given)
    if "ownership" in given and both:
        raise ValueError(f"has an ownership history and also {both[0]}: put it into the history's tables")


def _check_term(begin: datetime | None, end: datetime | None) -> None:
    if begin is not None and end is not None and end <= begin:
        raise ValueError(f"valid_to {end.isoformat()} is not after valid_from {begin.isoformat()}")


class RouteConfig(_Table):
    """``[[route]]``: one destination for one entity."""

    name: Name
    entity: Identity
    url: BrokerUrl
    ca: FilePath | None = None
    cert: FilePath | None = None
    key: FilePath | None = None
    trust: FilePath | None = Field(default_factory=lambda given: given.get("ca"))
    every: Annotated[DurationKey, _lasting(0, 86400)] = Duration(0)
    within: Annotated[DurationKey, _lasting(SHORTEST_WITHIN.s, 7 * 86400)] = Field(
        default_factory=lambda given: max(SHORTEST_WITHIN, Duration(5 * given.get("every", Duration(0)).ms))
    )
    unconfirmed: Annotated[SizeKey, _sized(64 << 10, 1 << 30)] = Size(8 << 20)
    window: Annotated[int, Field(ge=1, le=1000)] = 50
    resend_after: Annotated[DurationKey, _lasting(1, 86400)] = _s(30)
    ask_budget: Annotated[SizeKey, _sized(0, 1 << 40)] = Size(64 << 20)
    priority: Annotated[int, Field(ge=-100, le=100)] = 0
    keepalive: Annotated[DurationKey, _lasting(5, LONGEST_KEEPALIVE.s)] = Field(default_factory=_keepalive)

    @model_validator(mode="after")
    def _identified(self) -> "RouteConfig":
        files = {"ca": self.ca, "cert": self.cert, "key": self.key}
        missing = [name for name, path in files.items() if path is None]
        if self.url.scheme is Scheme.MQTTS and missing:
            raise ValueError(f"mqtts:// needs {' and '.join(missing)}: the paths of PEM files")
        if self.trust is None:
            raise ValueError("needs trust: the CA bundle that signed the collector's certificates")
        return self


class Config(_Table):
    """The whole of gateway.toml."""

    gateway: GatewayConfig
    lines: tuple[LineConfig, ...] = Field(default=(), alias="line")
    devices: tuple[DeviceConfig, ...] = Field(default=(), alias="device")
    routes: tuple[RouteConfig, ...] = Field(default=(), alias="route")
    policy: PolicyConfig | None = None

    model_config = ConfigDict(populate_by_name=True)

    def line(self, name: str) -> LineConfig:
        """Return a line by its name; ``KeyError`` when there is none."""
        for line in self.lines:
            if line.name == name:
                return line
        raise KeyError(name)
