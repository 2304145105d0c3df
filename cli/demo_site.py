"""The demo's site: who takes part, what stands there, and who owns it.

Plans alone; `cli.stand` starts them.  Not here: what happens (`cli.demo_story`, `cli.demo_control`), and who
may do what (`cli.demo_policy`).
"""

import json
from pathlib import Path
from typing import Final

from cli.plans import CollectorPlan, GatewayPlan, RoutePlan, StandPlan
from drivers.types import load_type
from policies.trust.contents import Table

DSO: Final = "dso.example"
CUSTOMER: Final = "customer.example"
OWNERS: Final = (DSO, CUSTOMER)
"""Whose readings there are."""
ESCO: Final = "esco1.example"
"""May shed the water heater."""
OTHER: Final = "esco2.example"
"""Has a certificate, people and keys of its own, and no grant."""
SERVICE: Final = "policy-service"
GATEWAY: Final = "gw-0001"
RELAY: Final = "heater-relay"
POINT: Final = "LoadShed"
EVERY_S: Final = 2
"""Interval of polling; ticks are multiples of it."""
SPEED: Final = 10.0
"""Simulated seconds a second, so that values move; quicker, counters would gain more than meters of their
type can, and readings be marked for it."""
_POWER_QUALITY: Final = ("PhVphA", "PhVphB", "PhVphC", "Hz")


def site(root: Path) -> StandPlan:
    """Return the site: a household of two owners, one gateway, one broker, a collector for each who reads.

    ``root`` is the root of the policy, which comes with the gateway.
    """
    return StandPlan(
        scenario="household",
        speed=SPEED,
        gateways=(
            GatewayPlan(
                id=GATEWAY,
                every=f"{EVERY_S}s",
                owner=DSO,
                # What waits unconfirmed is sent again soon, or a short demo would end before.
                routes=(
                    RoutePlan(DSO, keys={"resend_after": "5s"}),
                    RoutePlan(CUSTOMER, keys={"resend_after": "5s"}),
                    # It owns no readings and gets none: what becomes of its commands is told there.
                    RoutePlan(ESCO, keys={"resend_after": "5s"}),
                ),
                device_keys={
                    "sub-meter": {"owner": CUSTOMER},
                    RELAY: {"owner": CUSTOMER, "data_owners": [DSO, CUSTOMER]},
                    # Power quality belongs to the distribution company and the customer, all else to it.
                    "main-meter": {"data_owners": [DSO, CUSTOMER], "purpose": "power quality"},
                },
                device_tables={
                    "main-meter": "[[device.override]]\n"
                    f"points = {json.dumps(_billed())}\n"
                    f'data_owners = ["{DSO}"]\n'
                    'purpose = "settlement"\n',
                },
                tables=f"[policy]\nroot = {json.dumps(str(root))}\n",
            ),
        ),
        collectors=(CollectorPlan(DSO), CollectorPlan(CUSTOMER), CollectorPlan(ESCO)),
        entities=(OTHER,),
        policy_service=SERVICE,
    )


def _billed() -> list[str]:
    points = load_type("eastron-sdm630").points
    return [one.name for one in points if one.default and one.name not in _POWER_QUALITY]


def assigned() -> list[Table]:
    """Return the rows of the assignment: whose each device is, as `gateway.toml` claims it too."""
    return [
        _row("main-meter", "eastron-sdm630", "meter", DSO, [DSO, CUSTOMER]),
        _row("sub-meter", "schneider-iem3155", "meter", CUSTOMER),
        _row("counter", "simulator-counter", "meter", DSO),
        _row(RELAY, "generic-load-relay", "water-heater", CUSTOMER, [DSO, CUSTOMER]),
    ]


def _row(device: str, type_: str, kind: str, owner: str, data: list[str] | None = None) -> Table:
    terms: Table = {"owners": [owner], **({"data_owners": data} if data else {})}
    return {"id": device, "type": type_, "kind": kind, "ownership": [terms]}
