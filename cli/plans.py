"""What a stand consists of: gateways, collectors, broker and plant, as frozen plans.

Each plan holds what differs from a plain small site; the rest is written by `cli.stand`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

Setting = str | int | float | bool | list[str]
"""A value of a configuration file."""


@dataclass(frozen=True, slots=True)
class RoutePlan:
    """One `[[route]]` of a gateway."""

    entity: str = "dso.example"
    name: str = ""
    """Default: the entity's first label."""
    keys: Mapping[str, Setting] = field(default_factory=lambda: {"resend_after": "5s"})

    @property
    def called(self) -> str:
        """Name of the route."""
        return self.name or self.entity.partition(".")[0]


@dataclass(frozen=True, slots=True)
class GatewayPlan:
    """One gateway and its gateway.toml."""

    id: str = "gw-0001"
    routes: tuple[RoutePlan, ...] = (RoutePlan(),)
    every: str = "1s"
    owner: str = "dso.example"
    keys: Mapping[str, Setting] = field(default_factory=dict)
    """Further keys of `[gateway]`: commit_window, quota, reserve, keep and so on."""
    line_keys: Mapping[str, Setting] = field(default_factory=dict)
    devices: tuple[str, ...] | None = None
    """Devices of the plant that this gateway polls; None: all."""
    device_keys: Mapping[str, Mapping[str, Setting]] = field(default_factory=dict)
    """Further keys of a device, by its name; they come before `every` and `owner` of the plan."""
    device_tables: Mapping[str, str] = field(default_factory=dict)
    """Text of tables below a device, such as `[[device.override]]`, by its name."""
    tables: str = ""
    """Text of further tables, such as `[policy]`."""
    data_dir: Path | None = None
    """Default: `<id>` in the stand's directory."""
    env: Mapping[str, str] = field(default_factory=dict)
    command: Sequence[str] | None = None
    """In place of `portico agent run -c gateway.toml`."""


@dataclass(frozen=True, slots=True)
class CollectorPlan:
    """One collector and its headend.toml. Several of one entity share books when they name the same."""

    entity: str = "dso.example"
    name: str = "a"
    books: Path | None = None
    """Default: `books-<entity>.db` in the stand's directory."""
    keys: Mapping[str, Setting] = field(default_factory=dict)
    """Further keys of `[headend]`."""
    broker_keys: Mapping[str, Setting] = field(default_factory=dict)
    """Further keys of `[[broker]]`: share, window, session_expiry_s and so on."""
    env: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class BrokerPlan:
    """Settings of mosquitto (`certs.broker.write_broker_config`)."""

    persistence: bool = True
    autosave_s: int = 60
    max_queued_messages: int = 10_000
    max_inflight_messages: int = 100


@dataclass(frozen=True, slots=True)
class StandPlan:
    """Everything that stands on the machine."""

    scenario: str = "household"
    """A scenario file, or the name of one that is shipped."""
    speed: float | None = None
    plant_env: Mapping[str, str] = field(default_factory=dict)
    gateways: tuple[GatewayPlan, ...] = (GatewayPlan(),)
    collectors: tuple[CollectorPlan, ...] = (CollectorPlan(),)
    broker: BrokerPlan = BrokerPlan()
    entities: tuple[str, ...] = ()
    """Entities with certificates and rights besides those of routes and collectors."""
    policy_service: str | None = None
    """Who publishes policies: has a certificate and the right to."""
