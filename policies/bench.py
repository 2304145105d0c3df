"""How long a decision takes: ``python -m policies.bench`` (options: grants, decisions).

Makes a policy of many grants for twenty entities and four kinds of devices, asks commands that are allowed
and commands that are not (then every grant that speaks of them is judged and told), and prints p50 and p99 of
one decision, by the wall and by the thread's own CPU time, the rulebook already arranged.  A rulebook is
arranged once for each new policy; how long that takes is printed too.
"""

import argparse
import gc
import json
import time
from collections.abc import Sequence
from decimal import Decimal

from policies.assignment import Assignment
from policies.command import Command
from policies.decide import decide
from policies.facts import ClockState, Contact, Facts, Freshness, Signed, Time, TypeLimits
from policies.forms import instant_text, parse_instant
from policies.policy import Policy
from policies.roster import Roster
from policies.rulebook import Rulebook

ENTITIES = 20
KINDS = ("water-heater", "ev-charger", "heat-pump", "battery")
NOW_MS = parse_instant("2026-11-24T15:00:00Z")
Table = dict[str, object]


def tables(grants: int) -> tuple[Table, list[Table], Table]:
    """Return a policy with so many grants, its rosters, and an assignment that selects all of them."""
    names = [f"e{number}" for number in range(ENTITIES)]
    rows = [_row(number) for number in range(grants)]
    policy: Table = {
        "policy": {
            "id": "bench",
            "version": 1,
            "utility": "e0",
            "zone": "America/New_York",
            "issued": "2026-11-01T00:00:00Z",
            "expires": "2027-05-01T00:00:00Z",
        },
        "entity": [{"id": name, "kind": "esco", "application": [{"id": "hub"}]} for name in names],
        "calendar": [{"id": "us", "from": "2026-01-01", "until": "2027-12-31", "holidays": ["2026-11-26"]}],
        "limits": [{"type": "relay", "point": "Shed", "verbs": ["shed"], "hold": "timer"}],
        "grant": [*rows, *({**_DENIAL, "id": f"no-{name}", "from": name} for name in names)],
    }
    rosters: list[Table] = [
        {
            "roster": {
                "entity": name,
                "version": 1,
                "issued": "2026-11-01T00:00:00Z",
                "expires": "2027-02-01T00:00:00Z",
            },
            "individual": [{"id": "op", "roles": ["operator"]}],
            "key": [
                {
                    "id": f"k-{name}",
                    "individual": "op",
                    "applications": ["hub"],
                    "algorithm": "Ed25519",
                    "public": "AA==",
                    "valid": {"until": "2027-06-01T00:00:00Z"},
                }
            ],
        }
        for name in names
    ]
    assignment: Table = {
        "assignment": {
            "gateway": "gw-0001",
            "sequence": 1,
            "policy_version": 1,
            "issued": "2026-11-15T00:00:00Z",
            "expires": "2027-01-14T00:00:00Z",
        },
        "device": [
            {"id": "wh-01", "type": "relay", "kind": "water-heater", "ownership": [{"owners": ["home"]}]}
        ],
        "select": [{"grant": row["id"]} for row in rows],
        "consent": [{"grant": row["id"], "revision": 1, "owner": "home", "evidence": "form"} for row in rows],
    }
    return policy, rosters, assignment


def _row(number: int) -> Table:
    return {
        "id": f"g{number}",
        "from": f"e{number % ENTITIES}",
        "may": ["shed"],
        "to": {"kinds": [KINDS[number // ENTITIES % len(KINDS)]]},
        "purpose": ["peak"],
        "valid": {"until": "2027-04-01T00:00:00Z"},
        "windows": [
            {"days": ["mo", "tu", "we", "th", "fr"], "start": "06:00", "end": "22:00", "calendar": "us"}
        ],
        "duration": {"max": f"{60 + number % 60}min"},
        "budget": {"count_day": 2, "total_week": "10h"},
        "randomise": {"start": "2min", "end": "5min"},
        "priority": {"level": number % 256},
    }


_DENIAL: Table = {
    "shall_not": ["shed"],
    "to": {},
    "windows": [{"days": ["holiday"], "calendar": "us"}],
}


def command(number: int, duration: str = "30min") -> Command:
    """Return a command of one of the entities."""
    return Command.model_validate(
        {
            "id": f"c-{number}",
            "issuer": {"entity": f"e{number % ENTITIES}", "application": "hub", "individual": "op"},
            "gateway": "gw-0001",
            "device": "wh-01",
            "point": "Shed",
            "verb": "shed",
            "value": 1,
            "duration": duration,
            "issued": instant_text(NOW_MS - 1000),
            "expires": instant_text(NOW_MS + 60_000),
            "purpose": "peak",
        }
    )


def facts(grants: int) -> Facts:
    """Return facts under which the commands are allowed."""
    return Facts(
        gateway="gw-0001",
        time=Time(NOW_MS, 20, ClockState.SYNCHRONISED),
        received_ms=NOW_MS,
        freshness=Freshness.FRESH,
        keys=frozenset(f"k-e{number}" for number in range(ENTITIES)),
        signed={f"g{number}": Signed(1, True, True) for number in range(grants)},
        opt_outs=(),
        used={},
        running=(),
        contact=Contact.FRESH,
        locked_out=False,
        type_limits=TypeLimits(Decimal(0), Decimal(1), 0, 0, False),
        present=Decimal(0),
        unchanged_since_ms=NOW_MS - 86_400_000,
    )


def measured(grants: int, decisions: int) -> dict[str, float]:
    """Return what was measured, in microseconds; arranging in milliseconds.

    *Judged*: how many grants one decision looks into and tells of.
    """
    policy, rosters, assignment = tables(grants)
    parsed = (
        Policy.model_validate(policy),
        [Roster.model_validate(one) for one in rosters],
        Assignment.model_validate(assignment),
    )
    begun = time.perf_counter()
    book = Rulebook(*parsed)
    arranged_ms = (time.perf_counter() - begun) * 1000
    known = facts(grants)
    gc.collect()
    gc.freeze()  # a rulebook stays: looking through it for garbage would be what is measured
    found: dict[str, float] = {"grants": grants, "decisions": decisions, "arrange_ms": round(arranged_ms, 1)}
    for name, duration in (("allowed", "30min"), ("refused", "3h")):
        spent: list[float] = []
        cpu: list[float] = []
        judged = 0
        for number in range(decisions):
            asked = command(number, duration)
            begun_ns = time.perf_counter_ns()
            cpu_ns = time.thread_time_ns()
            decision = decide(asked, book, known)
            cpu.append((time.thread_time_ns() - cpu_ns) / 1000)
            spent.append((time.perf_counter_ns() - begun_ns) / 1000)
            judged += len(decision.grants)
            if decision.allowed != (name == "allowed"):
                raise RuntimeError(f"the bench asks something else than it means: {decision.codes}")
        found[f"{name}_per_s"] = round(1e6 * decisions / sum(spent))
        found[f"{name}_judged"] = round(judged / decisions, 1)
        for kind, times in (("", sorted(spent)), ("cpu_", sorted(cpu))):
            found[f"{name}_{kind}p50_us"] = round(times[len(times) // 2], 1)
            found[f"{name}_{kind}p99_us"] = round(times[len(times) * 99 // 100], 1)
    return found


def main(argv: Sequence[str] | None = None) -> None:
    """Print one JSON object."""
    parser = argparse.ArgumentParser(
        prog="python -m policies.bench", description="How long a decision takes."
    )
    parser.add_argument("--grants", type=int, default=1000)
    parser.add_argument("--decisions", type=int, default=2000)
    options = parser.parse_args(argv)
    print(json.dumps(measured(options.grants, options.decisions)))


if __name__ == "__main__":
    main()
