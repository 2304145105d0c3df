"""The ground on which a head-end is judged: a broker with TLS and access rules, certificates, its files.

A head-end of ours reads headend.toml; a foreign one finds the same in `site.json`, described in
docs/conformance.md. Some gateways of the run have keys that must not be believed.

Relies on `cli.stand`. Not here: what is done to the head-end (`headend_run`).
"""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from certs.signing import SigningKey
from cli.conformance.program import Program, command_line
from cli.stand import HOST, CollectorPlan, GatewayPlan, Stand, StandPlan

ENTITY: Final = "dso.example"
FIRST: Final = "gw-0001"
WITHOUT_MANIFEST: Final = "gw-0002"
WITHOUT_CERTIFICATE: Final = "gw-0003"
REORDERED: Final = "gw-0004"
GATEWAYS: Final = (FIRST, WITHOUT_MANIFEST, WITHOUT_CERTIFICATE, REORDERED)
OWN_COMMAND: Final = ("headend", "run", "-c", "{config}")
OWN_READINGS: Final = ("headend", "readings", "-c", "{config}", "--json")
OVER_DAYS: Final = 30


class HeadendGround:
    """Everything around one head-end, in a directory."""

    def __init__(self, directory: Path, command: str | None, readings: str | None, *, by_hand: bool) -> None:
        """Lay certificates and configurations; starts nothing. Raises ConfigError."""
        plan = StandPlan(
            gateways=tuple(GatewayPlan(one) for one in GATEWAYS),
            collectors=(CollectorPlan(ENTITY),),
        )
        self.stand: Final = Stand(directory, plan)
        self.certs: Final = self.stand.authority.directory
        self.over_key: Final = self._key_that_is_over()
        self.config_path: Final = self.stand.collector.config_path
        self.site_path: Final = self.stand.directory / "site.json"
        self.data_dir: Final = self.stand.directory / "data"
        self.data_dir.mkdir(exist_ok=True)
        places = {"config": self.config_path, "site": self.site_path, "data": self.data_dir}
        self.readings_command: Final = (
            None
            if readings is None and (command is not None or by_hand)
            else command_line(readings, OWN_READINGS, places)
        )
        self.program: Final = (
            None
            if by_hand
            else Program(
                "the head-end under test",
                command_line(command, OWN_COMMAND, places),
                self.stand.directory / "program.log",
            )
        )
        self.site_path.write_text(json.dumps(self._site(), indent=1) + "\n")

    @property
    def broker(self) -> tuple[str, int]:
        """Host and port."""
        return HOST, self.stand.broker_port

    def key_of(self, identity: str) -> SigningKey:
        """Return the signing key of a gateway or entity of the run."""
        return SigningKey.load(self.certs / f"{identity}.sign.key", self.certs / f"{identity}.sign.pem")

    def _key_that_is_over(self) -> SigningKey:
        """Return a key of the first gateway whose certificate is over; its good one is made anew."""
        long_ago = datetime.now(UTC) - timedelta(days=OVER_DAYS)
        authority = self.stand.authority
        authority.issue_signer(FIRST, role="stream", days=1, now=long_ago, force=True)
        over = self.key_of(FIRST)
        authority.issue_signer(FIRST, role="stream", force=True)
        return over

    def _site(self) -> dict[str, object]:
        host, port = self.broker
        return {
            "entity": ENTITY,
            "broker": {
                "host": host,
                "port": port,
                "ca": str(self.certs / "ca.pem"),
                "cert": str(self.certs / f"{ENTITY}.pem"),
                "key": str(self.certs / f"{ENTITY}.key"),
            },
            "signing": {
                "cert": str(self.certs / f"{ENTITY}.sign.pem"),
                "key": str(self.certs / f"{ENTITY}.sign.key"),
                "trust": str(self.certs / "ca.pem"),
            },
            "data": str(self.data_dir),
        }
