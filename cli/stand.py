"""A whole Portico on one machine: for the demo, the torture and tests, as processes of their own.

A :class:`Stand` lays everything into one directory and starts, each by its own process id and on free
ports of the loopback interface: mosquitto with TLS client certificates and access rules, the plant
(`portico simulate`), gateways (`portico agent run`) and collectors (`portico headend run`). Whatever
happens inside its block, all that it started is ended at its end.

Relies on the command line of each part and on documented files alone (gateway.toml, headend.toml,
status.json), as any operator does. Not here: any judgement (`cli.judge`), any story (`cli.demo`).
"""

import json
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from certs.authority import DevAuthority
from certs.broker import write_broker_config
from cli.plans import BrokerPlan, CollectorPlan, GatewayPlan, RoutePlan, Setting, StandPlan
from cli.process import Process, ProcessFailed, portico
from core.errors import PorticoError
from simulator.broker import Mosquitto, free_ports

__all__ = [
    "Agent",
    "BrokerPlan",
    "CollectorPlan",
    "CollectorProcess",
    "GatewayPlan",
    "PlantDevice",
    "RoutePlan",
    "Setting",
    "Stand",
    "StandPlan",
]

HOST: Final = "127.0.0.1"
SIMULATOR_TYPES: Final = Path(__file__).resolve().parent.parent / "simulator" / "types"
PORTS_WANTED: Final = 16
"""Lines that a scenario of a stand may have."""


@dataclass(frozen=True, slots=True)
class PlantDevice:
    """One simulated device, as the plant announced it."""

    device: str
    type: str
    line: str
    url: str
    unit_id: int
    counter: bool


class Agent(Process):
    """One gateway agent over its lives."""

    def __init__(self, plan: GatewayPlan, directory: Path) -> None:
        self.plan: Final = plan
        self.config_path: Final = directory / f"{plan.id}.toml"
        self.data_dir: Final = plan.data_dir or directory / plan.id
        super().__init__(
            f"the agent of {plan.id}",
            plan.command or portico("agent", "run", "-c", str(self.config_path)),
            directory / f"{plan.id}.log",
            env=plan.env,
            ready=lambda process: any(line.endswith(" ready") for line in process.said().splitlines()),
        )

    @property
    def store_path(self) -> Path:
        """The readings file of its store."""
        return self.data_dir / "readings.db"

    def status(self) -> dict[str, object]:
        """Return its status file, empty when there is none; at most 2 s old while it runs."""
        return _json_of(self.data_dir / "status.json")


class CollectorProcess(Process):
    """One collector over its lives."""

    def __init__(self, plan: CollectorPlan, directory: Path) -> None:
        self.plan: Final = plan
        stem = f"headend-{plan.entity}-{plan.name}"
        self.config_path: Final = directory / f"{stem}.toml"
        self.books_path: Final = plan.books or directory / f"books-{plan.entity}.db"
        self.status_path: Final = directory / f"{stem}.json"
        super().__init__(
            f"collector {plan.name} of {plan.entity}",
            portico("headend", "run", "-c", str(self.config_path), "--name", plan.name),
            directory / f"{stem}.log",
            env=plan.env,
            ready=lambda process: self.status().get("pid") == process.pid,
        )

    def status(self) -> dict[str, object]:
        """Return its figures, empty when there are none; about a second old while it runs."""
        return _json_of(self.status_path)


class Stand:
    """All parts in one directory. As a context manager: everything runs inside the block."""

    def __init__(self, directory: Path, plan: StandPlan | None = None) -> None:
        """Lay certificates and configurations; starts nothing. Raises ConfigError, also without mosquitto."""
        self.plan: Final = plan or StandPlan()
        self.directory: Final = Path(directory).resolve()
        self.directory.mkdir(parents=True, exist_ok=True)
        self.entities: Final = self._entities()
        self.authority: Final = DevAuthority.create(self.directory / "certs")
        self.authority.issue_all(
            gateways=[one.id for one in self.plan.gateways],
            entities=[*self.entities, *filter(None, [self.plan.policy_service])],
            hosts=[HOST, "localhost"],
        )
        # The same over all lives, so that gateway.toml stays true; chosen at once, so that none is twice.
        self.broker_port: Final = free_ports(1 + PORTS_WANTED)
        self.broker = Mosquitto(self._broker_config(self.plan.broker))
        self.plant: Final = self._plant()
        self.plant_log: Final = self.directory / "plant" / "plant.jsonl"
        self.devices: tuple[PlantDevice, ...] = ()
        self.agents: Final = tuple(Agent(one, self.directory) for one in self.plan.gateways)
        self.collectors: Final = tuple(CollectorProcess(one, self.directory) for one in self.plan.collectors)
        for collector in self.collectors:
            collector.config_path.write_text(self._headend_toml(collector))
        self._stack = ExitStack()

    # --- the parts, where there is one of each

    @property
    def agent(self) -> Agent:
        """The first gateway."""
        return self.agents[0]

    @property
    def collector(self) -> CollectorProcess:
        """The first collector."""
        return self.collectors[0]

    def books(self) -> dict[str, Path]:
        """Return the books of each entity that has a collector."""
        return {one.plan.entity: one.books_path for one in self.collectors}

    # --- starting and ending

    def start(self, *, agents: bool = True) -> None:
        """Start everything: broker, plant, collectors, gateways. What fails ends what was started.

        Plant and collectors start beside each other. With `agents` False the gateways wait for
        :meth:`start_agents`.
        """
        try:
            self._stack.callback(self.broker_end)
            self.broker.start()
            for one in (self.plant, *self.collectors):
                self._stack.callback(one.kill9)
                one.start(wait=False)
            self._learn_devices()
            for collector in self.collectors:
                collector.wait_ready()
            if agents:
                self.start_agents()
        except BaseException:
            self.kill()
            raise

    def start_agents(self) -> None:
        """Write each gateway.toml and start its agent."""
        for agent in self.agents:
            self.write_gateway_config(agent)
            self._stack.callback(agent.kill9)
            agent.start()

    def start_plant(self) -> None:
        """Start the plant alone and learn its devices."""
        self._stack.callback(self.plant.kill9)
        self.plant.start(wait=False)
        self._learn_devices()

    def _learn_devices(self) -> None:
        self.plant.wait_ready()
        announced = _announced(self.plant)
        if announced is None:
            raise ProcessFailed(f"the plant announced no devices: {self.plant.tail()}")
        self.devices = announced

    def stop(self) -> None:
        """End everything in order: gateways, collectors, plant, broker. The first failure is raised last."""
        failures: list[PorticoError] = []
        for end in (*(one.stop for one in (*self.agents, *self.collectors, self.plant)), self._broker_stop):
            try:
                end()
            except PorticoError as error:
                failures.append(error)
        self.kill()
        if failures:
            raise failures[0]

    def kill(self) -> None:
        """Kill whatever of it still runs."""
        self._stack.close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.stop()
        else:
            self.kill()

    def broker_end(self) -> None:
        """Kill the broker that stands now."""
        self.broker.kill9()

    def reconfigure_broker(self, plan: BrokerPlan) -> None:
        """Give the broker other settings; it must not be running, and keeps its port."""
        if self.broker.running:
            raise ProcessFailed("the broker runs: stop it before its configuration changes")
        self.broker = Mosquitto(self._broker_config(plan))

    def write_gateway_config(self, agent: Agent) -> Path:
        """Write gateway.toml for the devices of the plant, which must have been started."""
        agent.config_path.write_text(self._gateway_toml(agent))
        return agent.config_path

    # --- what is written down

    def _entities(self) -> tuple[str, ...]:
        named = [route.entity for gateway in self.plan.gateways for route in gateway.routes]
        named += [one.entity for one in self.plan.collectors]
        return tuple(dict.fromkeys([*named, *self.plan.entities]))

    def _broker_stop(self) -> int:
        self.broker.stop()
        return 0

    def _broker_config(self, plan: BrokerPlan) -> Path:
        certs = self.authority.directory
        return write_broker_config(
            self.directory / "broker",
            port=self.broker_port,
            ca=certs / "ca.pem",
            cert=certs / "broker.pem",
            key=certs / "broker.key",
            gateways=[one.id for one in self.plan.gateways],
            entities=self.entities,
            policy_service=self.plan.policy_service,
            persistence=plan.persistence,
            autosave_s=plan.autosave_s,
            max_queued_messages=plan.max_queued_messages,
            max_inflight_messages=plan.max_inflight_messages,
        )

    def _plant(self) -> Process:
        arguments = ["--json", "-s", self.plan.scenario, "--log", str(self.directory / "plant")]
        if self.plan.speed is not None:
            arguments += ["--speed", str(self.plan.speed)]
        return Process(
            "the plant",
            portico("simulate", *arguments, "--port-base", str(self.broker_port + 1)),
            self.directory / "plant.log",
            env=self.plan.plant_env,
            ready=lambda process: _announced(process) is not None,
        )

    def _gateway_toml(self, agent: Agent) -> str:
        plan, certs = agent.plan, self.authority.directory
        devices = [one for one in self.devices if plan.devices is None or one.device in plan.devices]
        tables = [
            _table(
                "[gateway]",
                {
                    "id": plan.id,
                    "data_dir": str(agent.data_dir),
                    "setting": "development",
                    "clock": "trusted",  # all parts of a stand have the clock of one machine
                    "signing_cert": str(certs / f"{plan.id}.sign.pem"),
                    "signing_key": str(certs / f"{plan.id}.sign.key"),
                    "types": [str(SIMULATOR_TYPES)],
                    **plan.keys,
                },
            )
        ]
        for url in dict.fromkeys(one.url for one in devices):
            tables.append(_table("[[line]]", {"name": _line_of(url), "url": url, **plan.line_keys}))
        for one in devices:
            keys: dict[str, Setting] = {
                "name": one.device,
                "type": one.type,
                "line": _line_of(one.url),
                "unit_id": one.unit_id,
                "every": plan.every,
                "owner": plan.owner,
                **plan.device_keys.get(one.device, {}),
            }
            tables.append(_table("[[device]]", keys) + plan.device_tables.get(one.device, ""))
        for route in plan.routes:
            tables.append(
                _table(
                    "[[route]]",
                    {
                        "name": route.called,
                        "entity": route.entity,
                        "url": f"mqtts://{HOST}:{self.broker_port}",
                        "ca": str(certs / "ca.pem"),
                        "cert": str(certs / f"{plan.id}.pem"),
                        "key": str(certs / f"{plan.id}.key"),
                        **route.keys,
                    },
                )
            )
        return "\n".join([*tables, plan.tables])

    def _headend_toml(self, collector: CollectorProcess) -> str:
        plan, certs = collector.plan, self.authority.directory
        headend: dict[str, Setting] = {
            "entity": plan.entity,
            "books": str(collector.books_path),
            "setting": "development",
            "status": str(collector.status_path),
            **plan.keys,
        }
        broker: dict[str, Setting] = {
            "url": f"mqtts://{HOST}:{self.broker_port}",
            "ca": str(certs / "ca.pem"),
            "cert": str(certs / f"{plan.entity}.pem"),
            "key": str(certs / f"{plan.entity}.key"),
            **plan.broker_keys,
        }
        signing: dict[str, Setting] = {
            "cert": str(certs / f"{plan.entity}.sign.pem"),
            "key": str(certs / f"{plan.entity}.sign.key"),
            "trust": [str(certs / "ca.pem")],
        }
        return "\n".join(
            [_table("[headend]", headend), _table("[[broker]]", broker), _table("[signing]", signing)]
        )


def _announced(plant: Process) -> tuple[PlantDevice, ...] | None:
    """Return the devices from the line by which this life of the plant says that it is ready."""
    for line in plant.said().splitlines():
        if not line.startswith('{"ready"'):
            continue
        try:
            document = json.loads(line)
        except ValueError:
            return None  # half written
        return tuple(
            PlantDevice(
                device=one["device"],
                type=one["type"],
                line=one["line"],
                url=one["url"],
                unit_id=one["unit_id"],
                counter=one["counter"],
            )
            for one in document["devices"]
        )
    return None


def _json_of(path: Path) -> dict[str, object]:
    try:
        document = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return document if isinstance(document, dict) else {}


def _line_of(url: str) -> str:
    return f"line-{url.rpartition(':')[2]}"


def _table(head: str, keys: Mapping[str, Setting]) -> str:
    # JSON's strings, numbers, truths and lists of strings are TOML's too.
    return "\n".join([head, *(f"{key} = {json.dumps(value)}" for key, value in keys.items())]) + "\n"
