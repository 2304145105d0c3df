"""The ground on which an agent is judged: simulated devices, a broker with TLS and access rules, its files.

An agent of ours reads gateway.toml; a foreign one finds the same in `site.json`, described in
docs/conformance.md: where the broker is, certificates and keys, devices with their registers.

Relies on `cli.stand`. Not here: what is done to the agent (`agent_run`).
"""

import json
from pathlib import Path
from typing import Final

from certs.signing import SigningKey
from cli.conformance.program import Program, command_line
from cli.stand import HOST, SIMULATOR_TYPES, GatewayPlan, RoutePlan, Stand, StandPlan
from drivers.types import load_type

PREMISES: Final = Path(__file__).parent / "premises.toml"
GATEWAY: Final = "gw-0001"
OTHER_GATEWAY: Final = "gw-0002"
ENTITY: Final = "dso.example"
STRANGER: Final = "esco.example"
EVERY_MS: Final = 1000
RESEND_S: Final = 2
WITHIN_S: Final = 1
STEADY: Final = "steady"
SET_BY_HAND: Final = {"W": "418.2", "Serial": "9007199254740994", "PhVphA": "230.1"}
"""Tenths; an even number beyond 2^53, which a double still holds and a careless reader does not; a float."""
OWN_COMMAND: Final = ("agent", "run", "-c", "{config}")


class AgentGround:
    """Everything around one agent, in a directory."""

    def __init__(self, directory: Path, command: str | None, *, by_hand: bool) -> None:
        """Lay certificates and configurations; starts nothing. Raises ConfigError."""
        route = RoutePlan(ENTITY, keys={"resend_after": f"{RESEND_S}s", "within": f"{WITHIN_S}s"})
        gateway = GatewayPlan(GATEWAY, (route,), every=f"{EVERY_MS // 1000}s", owner=ENTITY)
        plan = StandPlan(
            scenario=str(PREMISES),
            gateways=(gateway,),
            collectors=(),
            entities=(ENTITY, STRANGER),
        )
        self.stand: Final = Stand(directory, plan)
        self.certs: Final = self.stand.authority.directory
        self.config_path: Final = self.stand.agent.config_path
        self.site_path: Final = self.stand.directory / "site.json"
        self.data_dir: Final = self.stand.directory / "data"
        self.data_dir.mkdir(exist_ok=True)
        self.plant_dir: Final = self.stand.plant_log.parent
        self.program: Final = None if by_hand else self._program(command)

    @property
    def broker(self) -> tuple[str, int]:
        """Host and port."""
        return HOST, self.stand.broker_port

    @property
    def devices(self) -> list[str]:
        """Names of the devices; there are none before the plant was started."""
        return [one.device for one in self.stand.devices]

    def key_of(self, identity: str) -> SigningKey:
        """Return the signing key of a gateway or entity of the run."""
        return SigningKey.load(self.certs / f"{identity}.sign.key", self.certs / f"{identity}.sign.pem")

    def write_site(self) -> None:
        """Write both files; the devices of the plant must be known."""
        self.stand.write_gateway_config(self.stand.agent)
        self.site_path.write_text(json.dumps(self._site(), indent=1) + "\n")

    def _program(self, command: str | None) -> Program:
        places = {"config": self.config_path, "site": self.site_path, "data": self.data_dir}
        return Program(
            "the agent under test",
            command_line(command, OWN_COMMAND, places),
            self.stand.directory / "program.log",
        )

    def _site(self) -> dict[str, object]:
        host, port = self.broker
        return {
            "gateway": GATEWAY,
            "entity": ENTITY,
            "broker": {
                "host": host,
                "port": port,
                "ca": str(self.certs / "ca.pem"),
                "cert": str(self.certs / f"{GATEWAY}.pem"),
                "key": str(self.certs / f"{GATEWAY}.key"),
            },
            "signing": {
                "cert": str(self.certs / f"{GATEWAY}.sign.pem"),
                "key": str(self.certs / f"{GATEWAY}.sign.key"),
                "trust": str(self.certs / "ca.pem"),
            },
            "data": str(self.data_dir),
            "every_ms": EVERY_MS,
            "resend_after_s": RESEND_S,
            "within_s": WITHIN_S,
            "devices": [
                {
                    "device": one.device,
                    "type": one.type,
                    "host": one.url.rpartition("//")[2].rpartition(":")[0],
                    "port": int(one.url.rpartition(":")[2]),
                    "unit_id": one.unit_id,
                    "timeout_ms": load_type(one.type, [SIMULATOR_TYPES]).limits.timeout_ms,
                    "points": _points(one.type),
                }
                for one in self.stand.devices
            ],
        }


def _points(name: str) -> list[dict[str, object]]:
    """Return what a Modbus client has to know of each point of a type."""
    return [
        {
            "name": point.name,
            "quantity": point.quantity,
            "unit": point.unit,
            "table": point.table.value,
            "address": point.address,
            "registers": point.width,
            "type": point.type.value,
            "scale": str(point.scale),
            "cumulative": point.cumulative,
        }
        for point in load_type(name, [SIMULATOR_TYPES]).points
    ]
