"""A small world in which one command is allowed, and how to change single things of it.

A Tuesday morning in New York: esco1 may shed the water heater wh-01 of customer-17 at gw-0001.
"""

from dataclasses import replace
from decimal import Decimal

from policies.assignment import Assignment
from policies.command import Command
from policies.decide import decide
from policies.decision import Decision
from policies.facts import (
    ClockState,
    Contact,
    Facts,
    Freshness,
    Signed,
    Time,
    TypeLimits,
)
from policies.forms import instant_text, parse_instant
from policies.policy import Policy
from policies.roster import Roster
from policies.rulebook import Rulebook

Table = dict[str, object]
NOW_MS = parse_instant("2026-11-24T15:00:00Z")
"""Tuesday, 10:00 in New York."""
S, MIN, H, DAY = 1000, 60_000, 3_600_000, 86_400_000


def at(text: str) -> int:
    """Return an instant."""
    return parse_instant(text)


HEAD: Table = {
    "id": "test",
    "version": 3,
    "utility": "dso",
    "zone": "America/New_York",
    "issued": "2026-11-01T00:00:00Z",
    "expires": "2027-05-01T00:00:00Z",
}
ENTITIES: list[Table] = [
    {"id": "dso", "kind": "utility", "application": [{"id": "control-room"}]},
    {"id": "esco1", "kind": "esco", "application": [{"id": "dr-hub"}, {"id": "portal"}]},
    {"id": "esco2", "kind": "esco", "application": [{"id": "dr-hub"}]},
    {"id": "customer-17", "kind": "customer", "application": [{"id": "app"}]},
]
CALENDAR: Table = {
    "id": "us",
    "from": "2026-01-01",
    "until": "2027-12-31",
    "holidays": ["2026-11-26", "2026-12-25"],
}
RELAY: Table = {"type": "relay", "kind": "water-heater", "point": "Shed", "verbs": ["shed"], "hold": "timer"}
CHARGER: Table = {
    "type": "charger",
    "point": "Limit",
    "verbs": ["limit", "set-clock"],
    "min": 6,
    "max": 16,
    "default": 16,
    "hold": "watchdog",
}
GRANT: Table = {
    "id": "g",
    "from": "esco1",
    "may": ["shed"],
    "to": {"kinds": ["water-heater"]},
    "purpose": ["peak"],
    "valid": {"until": "2027-04-01T00:00:00Z"},
    "duration": {"max": "2h"},
}
LIMITING: Table = GRANT | {
    "id": "ev",
    "may": ["limit", "set-clock"],
    "to": {"kinds": ["ev-charger"]},
    "limits": {"min": 6, "max": 16},
}
DENIAL: Table = {"id": "no", "from": "esco1", "shall_not": ["shed"], "to": {}}
ASSIGNED: Table = {
    "gateway": "gw-0001",
    "sequence": 9,
    "policy_version": 3,
    "groups": ["feeder-7"],
    "issued": "2026-11-15T00:00:00Z",
    "expires": "2027-01-14T00:00:00Z",
}
HEATER: Table = {
    "id": "wh-01",
    "type": "relay",
    "kind": "water-heater",
    "ownership": [{"owners": ["customer-17"]}],
}
CAR: Table = {
    "id": "ev-01",
    "type": "charger",
    "kind": "ev-charger",
    "ownership": [{"owners": ["customer-17"]}],
}


def policy(*grants: Table, limits: tuple[Table, ...] = (RELAY, CHARGER), **head: object) -> Policy:
    """Return a policy with some grants, the one above where none is given."""
    return Policy.model_validate(
        {
            "policy": HEAD | head,
            "entity": ENTITIES,
            "calendar": [CALENDAR],
            "limits": list(limits),
            "grant": list(grants or (GRANT,)),
        }
    )


def roster(entity: str, *people: str, expires: str = "2027-01-30T00:00:00Z", **key: object) -> Roster:
    """Return an entity's roster: each person has one key, named ``k-<person>``."""
    applications = next(one["application"] for one in ENTITIES if one["id"] == entity)
    assert isinstance(applications, list)
    plain: Table = {
        "applications": [one["id"] for one in applications],
        "algorithm": "Ed25519",
        "public": "AA==",
        "valid": {"until": "2027-06-01T00:00:00Z"},
    }
    return Roster.model_validate(
        {
            "roster": {
                "entity": entity,
                "version": 1,
                "issued": "2026-11-01T00:00:00Z",
                "expires": expires,
            },
            "individual": [{"id": name, "roles": [_role(name)]} for name in people],
            "key": [plain | {"id": f"k-{name}", "individual": name} | key for name in people],
        }
    )


def _role(name: str) -> str:
    return "viewer" if name.startswith("clerk") else "engineer" if name.startswith("eng") else "operator"


ROSTERS = (
    roster("dso", "chief", "deputy"),
    roster("esco1", "op-17", "op-18", "clerk-2", "eng-5"),
    roster("esco2", "op-99"),
    roster("customer-17", "anna"),
)


def assignment(
    *grants: str,
    narrow: Table | None = None,
    devices: tuple[Table, ...] = (HEATER, CAR),
    consents: tuple[Table, ...] | None = None,
    opt_outs: tuple[Table, ...] = (),
    **head: object,
) -> Assignment:
    """Return an assignment that selects some grants, to each of which customer-17 consents."""
    ids = grants or ("g",)
    given = consents
    if given is None:
        given = tuple(
            {"grant": one, "revision": 1, "owner": "customer-17", "evidence": "form 1"} for one in ids
        )
    return Assignment.model_validate(
        {
            "assignment": ASSIGNED | head,
            "device": list(devices),
            "select": [{"grant": one} | (narrow or {}) for one in ids],
            "consent": list(given),
            "opt_out": list(opt_outs),
        }
    )


def book(
    *grants: Table,
    rosters: tuple[Roster, ...] = ROSTERS,
    site: Assignment | None = None,
    limits: tuple[Table, ...] = (RELAY, CHARGER),
    **head: object,
) -> Rulebook:
    """Return a rulebook of some grants, all of them selected and consented to."""
    made = policy(*grants, limits=limits, **head)
    ids = [one.id for one in made.grants if one.permits]
    return Rulebook(made, rosters, site or assignment(*(ids or ["g"])))


def command(**changes: object) -> Command:
    """Return the command: op-17 sheds wh-01 for an hour, at once."""
    tables: Table = {
        "id": "c-1",
        "issuer": {"entity": "esco1", "application": "dr-hub", "individual": "op-17"},
        "gateway": "gw-0001",
        "device": "wh-01",
        "point": "Shed",
        "verb": "shed",
        "value": 1,
        "duration": "1h",
        "issued": instant_text(NOW_MS - 2 * S),
        "expires": instant_text(NOW_MS + MIN),
        "purpose": "peak",
    }
    tables |= changes
    return Command.model_validate({key: one for key, one in tables.items() if one is not None})


def limiting(**changes: object) -> Command:
    """Return another command: op-17 limits ev-01 to 10 A for an hour."""
    return command(**({"device": "ev-01", "point": "Limit", "verb": "limit", "value": 10} | changes))


FACTS = Facts(
    gateway="gw-0001",
    time=Time(NOW_MS, 20, ClockState.SYNCHRONISED),
    received_ms=NOW_MS,
    freshness=Freshness.FRESH,
    keys=frozenset({"k-op-17"}),
    signed={name: Signed(1, True, True) for name in ("g", "ev", "a", "b")},
    opt_outs=(),
    used={},
    running=(),
    contact=Contact.FRESH,
    locked_out=False,
    type_limits=TypeLimits(Decimal(0), Decimal(100), 0, 0, False),
    present=Decimal(0),
    unchanged_since_ms=NOW_MS - DAY,
)


def facts(**changes: object) -> Facts:
    """Return the facts with some of them changed."""
    return replace(FACTS, **changes)


def moment(now_ms: int, **changes: object) -> Facts:
    """Return the facts at another instant, at which the command comes."""
    time = Time(now_ms, 20, ClockState.SYNCHRONISED)
    return facts(time=time, received_ms=now_ms, unchanged_since_ms=now_ms - DAY, **changes)


def ask(rules: Rulebook | None = None, asked: Command | None = None, known: Facts = FACTS) -> Decision:
    """Return the decision, about the plain command and the plain grant where nothing else is given."""
    return decide(asked or command(), rules or book(), known)


def codes_of(decision: Decision) -> set[str]:
    """Return every code of a refusal."""
    assert not decision.allowed
    return set(decision.codes)
