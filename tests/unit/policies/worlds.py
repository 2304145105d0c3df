"""Random worlds for property tests: policies, rosters, assignments, commands and facts that fit nearly.

Everything is drawn from few names and small steps, so that what is drawn often speaks of the same thing; all
edges lie on whole minutes, as the oracle needs.
"""

from collections.abc import Iterable
from dataclasses import fields, replace
from decimal import Decimal
from random import Random
from typing import NamedTuple, TypeVar

from hypothesis import strategies as st

from policies.assignment import Assignment
from policies.command import Command
from policies.facts import (
    UNKNOWN,
    ClockState,
    Contact,
    Facts,
    Freshness,
    Period,
    Running,
    Signed,
    Time,
    TypeLimits,
    Used,
)
from policies.forms import instant_text
from policies.policy import Policy
from policies.roster import Roster
from policies.rulebook import Rulebook
from tests.unit.policies.made import ENTITIES, HEAD, MIN, Table, at

_One = TypeVar("_One")
DAYS = [
    "2026-11-24T15:00:00Z",  # a Tuesday morning
    "2026-11-01T04:30:00Z",  # half an hour past midnight; the hour from 1 to 2 comes twice
    "2026-03-08T05:30:00Z",  # the hour from 2 to 3 does not come
    "2026-11-26T03:00:00Z",  # the evening before a holiday
    "2026-12-01T03:00:00Z",  # the calendar ends at midnight
    "2026-05-01T02:00:00Z",  # a season ends at midnight
    "2027-01-01T03:00:00Z",  # New Year's Eve
]
ISSUERS = [
    ("esco1", "dr-hub", "op-17"),
    ("esco1", "portal", "op-18"),
    ("esco2", "dr-hub", "op-99"),
    ("dso", "control-room", "chief"),
    ("esco1", "dr-hub", "eng-5"),
    ("customer-17", "app", "anna"),
    ("esco9", "dr-hub", "op-17"),
]
PEOPLE = {"dso": ["chief"], "esco1": ["op-17", "op-18", "eng-5"], "esco2": ["op-99"], "customer-17": ["anna"]}
SIGNERS = ["k-op-18", "k-op-99", "k-chief", "k-eng-5", "k-anna"]
GRANTS = ["a", "b", "c"]


class World(NamedTuple):
    """All that one question needs."""

    command: Command
    policy: Policy
    rosters: list[Roster]
    assignment: Assignment | None
    facts: Facts

    def book(self) -> Rulebook:
        return Rulebook(self.policy, self.rosters, self.assignment)


class Dice:
    """What is drawn evenly, from a seed; hypothesis itself prefers the ends of what it draws from."""

    def __init__(self, seed: int) -> None:
        self._random = Random(seed)
        self._calm = self._random.choice((1, 4, 12))

    def one(self, choices: Iterable[_One]) -> _One:
        return self._random.choice(list(choices))

    def several(self, choices: list[_One], least: int, most: int) -> list[_One]:
        return self._random.sample(choices, self._random.randint(least, most))

    def number(self, low: int, high: int) -> int:
        return self._random.randint(low, high)

    def coin(self) -> bool:
        return self._random.random() < 0.5

    def rarely(self, one_in: int = 8) -> bool:
        """Draw what mostly stands against a command: more or less of it, world by world."""
        return self._random.random() * one_in * self._calm < 1


def some(dice: Dice, names: list[str], right: str) -> list[str]:
    """Draw some names, most of the time the right one among them."""
    drawn = dice.several(names, 1, 2)
    return drawn if dice.rarely() or right in drawn else [*drawn, right]


def instant(dice: Dice, now: int, low_min: int, high_min: int) -> str:
    """Draw an instant some minutes from now."""
    return instant_text(now + dice.number(low_min, high_min) * MIN)


def minutes(dice: Dice, low: int, high: int) -> str:
    return f"{dice.number(low, high)}min"


def windows(dice: Dice) -> Table:
    """Draw a window."""
    start = dice.number(0, 95) * 15
    length = dice.number(1, 95) * 15
    end = (start + length) % 1440
    days = ["mo", "tu", "we", "th", "fr", "sa", "su", "holiday"]
    calendar = dice.coin()
    window: Table = {"start": _clock(start), "end": "24:00" if end == 0 else _clock(end)}
    if not dice.rarely(3):
        window |= {"start": "00:00", "end": "24:00"}
    if calendar:
        window["calendar"] = "us"
    if dice.coin():
        window["days"] = dice.several(days if calendar else days[:7], 4, 7)
    if dice.rarely(4):
        window["season"] = dice.one([["10-01", "04-30"], ["05-01", "11-24"], ["02-29", "12-31"]])
    if dice.rarely():
        window["zone"] = dice.one(["Europe/Berlin", "Asia/Kolkata", "UTC"])
    return window


def _clock(minute: int) -> str:
    return f"{minute // 60:02d}:{minute % 60:02d}"


def targets(dice: Dice, must: bool) -> Table:
    """Draw to what a row speaks."""
    to: Table = {}
    if must or dice.coin():
        to["kinds"] = (
            ["water-heater", "ev-charger"][: dice.number(1, 2)] if not dice.rarely() else ["heat-pump"]
        )
    for key, names, right in (
        ("groups", ["feeder-7", "feeder-8"], "feeder-7"),
        ("gateways", ["gw-0001", "gw-0002"], "gw-0001"),
        ("devices", ["wh-01", "wh-02"], "wh-01"),
        ("points", ["Shed", "Limit"], "Shed"),
        ("owners", ["customer-17", "customer-18", "esco1"], "customer-17"),
    ):
        if dice.rarely(10):
            to[key] = some(dice, names, right)
    return to


def permits(dice: Dice, name: str, now: int) -> Table:
    """Draw a row that permits."""
    row: Table = {
        "id": name,
        "revision": 2 if dice.rarely(12) else 1,
        "from": dice.one(["esco2", "dso"]) if dice.rarely() else "esco1",
        "may" if dice.coin() else "shall": dice.one(
            [["shed"], ["shed", "limit"], ["shed", "limit", "set-clock"], ["set-clock"]]
        ),
        "to": (targets(dice, must=True)),
        "purpose": some(dice, ["peak", "balancing"], "peak"),
        "valid": {"until": instant(dice, now, 60 if dice.rarely() else 900, 4000)},
        "limits": {"min": 0, "max": 16},
        "duration": {"min": minutes(dice, 1, 20), "max": minutes(dice, 60, 300)},
    }
    if dice.rarely(10):
        names = some(dice, ["dr-hub", "portal"], "dr-hub")
        row |= {"from": "esco1", "by": {"applications": names}}
    if dice.rarely(10):
        row["by"] = {"individuals": some(dice, ["op-17", "op-18"], "op-17")}
    if dice.rarely():
        row["valid"] = {"from": instant(dice, now, -100, 100), "until": instant(dice, now, 101, 600)}
    if dice.rarely():
        row["limits"] = {"values": dice.one([[1], [0, 1], [8, 10]])}
    if dice.rarely():
        row["limits"] = {"min": 0, "max": 10, "step": dice.one([1, 4, "0.5"])}
    if dice.coin():
        row["windows"] = [windows(dice) for _ in range(dice.number(1, 3))]
    if dice.rarely(3):
        row["randomise"] = {"start": minutes(dice, 0, 10), "end": minutes(dice, 0, 10)}
    if dice.rarely(3):
        row["budget"] = dice.one(
            [
                {"count_day": 2},
                {"count_week": 1},
                {"total_day": "90min"},
                {"count_season": 3, "season": ["10-01", "04-30"]},
                {"total_season": "5h", "count_day": 3, "season": ["06-01", "12-31"]},
            ]
        )
    if dice.rarely():
        row["lead"] = {"min": minutes(dice, 0, 30), "max": minutes(dice, 30, 200)}
    if dice.coin():
        row["priority"] = {
            "level": dice.one([10, 63, 64, 100, 120]),
            "preempts": dice.coin(),
        }
    if dice.rarely(4):
        row["opt_out"] = dice.one(["none", "before_start"])
    if dice.coin():
        row["on_comm_loss"] = "hold_to_end"
    if dice.rarely():
        row["restore"] = "previous"
    if dice.coin():
        row |= {"latching": True, "latching_max": minutes(dice, 30, 200)}
    if dice.rarely(3):
        row["emergency"] = {
            "max": minutes(dice, 30, 200),
            "may_bypass": dice.several(["window", "budget", "lead-time"], 0, 3),
            "required": dice.rarely(),
        }
    return row


def denials(dice: Dice, name: str, now: int) -> Table:
    """Draw a row with *shall not*."""
    row: Table = {
        "id": name,
        "from": dice.one(["esco1", "esco2", "*"]),
        "shall_not": dice.several(["shed", "limit", "switch"], 1, 2),
        "to": (targets(dice, must=False)),
    }
    if dice.coin():
        row["windows"] = [windows(dice) for _ in range(dice.number(1, 2))]
    if dice.coin():
        row["purpose"] = dice.one([["peak"], ["balancing"]])
    if dice.rarely():
        row["by"] = {"individuals": ["op-18"]}
    if dice.rarely():
        row["valid"] = {"from": instant(dice, now, -200, 200), "until": instant(dice, now, 201, 400)}
    if dice.rarely():
        row["limits"] = dice.one([{"values": [1]}, {"max": 7}, {"min": 1, "max": 5}])
    return row


def policies(dice: Dice, now: int) -> Policy:
    """Draw a policy."""
    rows = [(permits(dice, name, now)) for name in GRANTS[: dice.number(1, 3)]]
    rows += [(denials(dice, f"no-{number}", now)) for number in range(dice.one([0, 0, 1, 2]))]
    profile: Table = {
        "hold": dice.one(["timer", "watchdog", "none"]),
        "essential": dice.rarely(),
        "min_on": minutes(dice, 0, 60) if dice.rarely(4) else "0s",
        "min_off": minutes(dice, 0, 60) if dice.rarely(4) else "0s",
    }
    limits: list[Table] = [
        profile | {"type": "relay", "point": "Shed", "verbs": ["shed"]},
        {
            "type": "charger",
            "point": "Limit",
            "verbs": ["limit", "set-clock"],
            "min": 6,
            "max": 16,
            "default": 16,
            "hold": dice.one(["watchdog", "none"]),
        },
    ]
    if dice.coin():
        limits.append(
            {"type": "relay", "kind": "water-heater", "point": "Shed", "verbs": ["shed"], "hold": "timer"}
        )
    calendar = {"id": "us", "from": "2026-02-01", "until": "2026-11-30", "holidays": ["2026-11-26"]}
    return Policy.model_validate(
        {"policy": HEAD, "entity": ENTITIES, "calendar": [calendar], "limits": limits, "grant": rows}
    )


def rosters(dice: Dice, now: int) -> list[Roster]:
    """Draw a roster of each entity."""
    found = []
    for entity, people in PEOPLE.items():
        keys = [
            {
                "id": f"k-{name}",
                "individual": name,
                "applications": ["control-room", "dr-hub", "portal", "app"][: 1 if dice.rarely(20) else 4],
                "algorithm": "Ed25519",
                "public": "AA==",
                "valid": {"until": instant(dice, now, 30 if dice.rarely(10) else 900, 2000)},
            }
            for name in people
        ]
        found.append(
            Roster.model_validate(
                {
                    "roster": {
                        "entity": entity,
                        "version": 1,
                        "issued": instant(dice, now, -900, -600),
                        "expires": instant(dice, now, 30 if dice.rarely(10) else 900, 2000),
                    },
                    "individual": [
                        {"id": name, "roles": ["engineer" if name == "eng-5" else "operator"]}
                        for name in people
                    ],
                    "key": keys,
                }
            )
        )
    return found


def assignments(dice: Dice, now: int) -> Assignment | None:
    """Draw an assignment of gw-0001."""
    if dice.rarely(40):
        return None
    mover = now + dice.number(-60, 200) * MIN
    ownership: list[Table] = [{"owners": ["customer-17"]}]
    if dice.rarely():
        ownership = [
            {"owners": ["customer-17"], "valid": {"until": instant_text(mover)}},
            {
                "owners": dice.one([["customer-18"], ["esco1"], ["customer-17", "customer-18"]]),
                "valid": {"from": instant_text(mover + (MIN if dice.rarely() else 0))},
            },
        ]
    selections = []
    for name in GRANTS:
        if dice.rarely(8):
            continue
        one: Table = {"grant": name}
        if dice.rarely():
            one |= dice.one(
                [{"devices": ["wh-02"]}, {"max": 0}, {"longest": "45min"}, {"points": ["Shed", "Limit"]}]
            )
        if dice.rarely():
            one["valid"] = {"until": instant(dice, now, 30, 400)}
        selections.append(one)
    consents = [
        {
            "grant": name,
            "revision": 2 if dice.rarely(12) else 1,
            "owner": owner,
            "evidence": "form",
            "valid": {"until": instant(dice, now, 30, 400)} if dice.rarely(8) else {},
        }
        for name in [one["grant"] for one in selections]
        for owner in ("customer-17", "customer-18")
        if not dice.rarely(12)
    ]
    return Assignment.model_validate(
        {
            "assignment": {
                "gateway": "gw-0002" if dice.rarely(40) else "gw-0001",
                "sequence": 1,
                "policy_version": 4 if dice.rarely(40) else 3,
                "groups": ["feeder-7"],
                "issued": instant(dice, now, -900, -1),
                "expires": instant(dice, now, 60 if dice.rarely(20) else 900, 2000),
            },
            "device": [
                {"id": "wh-01", "type": "relay", "kind": "water-heater", "ownership": ownership},
                {"id": "wh-02", "type": "relay", "kind": "heat-pump", "ownership": [{"owners": ["esco1"]}]},
                {"id": "ev-01", "type": "charger", "kind": "ev-charger", "ownership": ownership},
            ],
            "select": selections,
            "consent": consents,
            "opt_out": [(opt_outs(dice, now))] if dice.rarely(10) else [],
        }
    )


def opt_outs(dice: Dice, now: int) -> Table:
    """Draw an opt-out."""
    found: Table = {}
    for key, names in (
        ("device", ["wh-01", "wh-02"]),
        ("entity", ["esco1", "esco2"]),
        ("grant", ["a", "b"]),
    ):
        if dice.coin():
            found[key] = dice.one(names)
    if dice.coin():
        found["valid"] = {"from": instant(dice, now, -100, 100), "until": instant(dice, now, 101, 200)}
    return found


def commands(dice: Dice, now: int, came: int) -> Command:
    """Draw a command other than a cancellation."""
    entity, application, individual = ISSUERS[0] if not dice.rarely(8) else dice.one(ISSUERS)
    tables: Table = {
        "id": "c-1",
        "issuer": {"entity": entity, "application": application, "individual": individual},
        "gateway": "gw-0002" if dice.rarely(40) else "gw-0001",
        "device": "wh-01",
        "point": "Shed",
        "verb": "shed",
        "value": dice.one([1, 1, 1, 0]),
        "duration": minutes(dice, 1, 180),
        "issued": instant_text(came - MIN),
        "expires": instant_text(came + dice.number(0, 5) * MIN),
        "purpose": dice.one(["peak", "peak", "peak", "balancing"]),
    }
    if dice.rarely(4):
        tables |= {"device": "ev-01", "point": "Limit", "verb": "limit"}
        tables["value"] = dice.number(5, 17) if dice.rarely() else dice.number(8, 10)
    if dice.rarely(10):
        tables |= {"device": "ev-01", "point": "Limit", "verb": "set-clock", "value": None, "duration": None}
    if dice.rarely(10):
        tables["device"] = dice.one(["wh-02", "wh-99"])
    if dice.rarely(3):
        tables["start"] = instant_text(max(0, came + dice.number(-2, 300) * MIN))
    if dice.rarely(5):
        tables |= {"emergency": True, "cosigners": dice.one([[], ["op-18"], ["op-18"]])}
    if dice.rarely(10):
        tables |= dice.one(
            [
                {"value": None},
                {"duration": None},
                {"purpose": None},
                {"value": 2},
                {"cancels": "x"},
                {"cosigners": ["op-18"], "emergency": False},
                {"expires": instant_text(came - MIN)},
                {"issued": instant_text(came + MIN)},
            ]
        )
    return Command.model_validate({key: one for key, one in tables.items() if one is not None})


def facts(dice: Dice, now: int, came: int) -> Facts:
    """Draw facts, here and there one that is unknown."""
    day = [Period(name, "wh-01", "day", first) for name in GRANTS for first in ("2026-11-24", "2026-10-31")]
    other = [
        Period("a", "wh-01", "week", "2026-11-23"),
        Period("a", "wh-01", "season", "2026-10-01"),
        Period("a", "wh-01", "season", "2026-06-01"),
    ]
    found = Facts(
        gateway="gw-0001",
        time=Time(
            now,
            6000 if dice.rarely(20) else 20,
            ClockState.UNSURE if dice.rarely(20) else dice.one(list(ClockState)[:2]),
        ),
        received_ms=came,
        freshness=dice.one(list(Freshness)[1:]) if dice.rarely(8) else Freshness.FRESH,
        keys=frozenset([] if dice.rarely(12) else ["k-op-17", *dice.one([[], ["k-op-18"], SIGNERS])]),
        signed={
            name: dice.one([*[Signed(1, True, True)] * 9, Signed(1, True, UNKNOWN), UNKNOWN])
            for name in GRANTS
        },
        opt_outs=(),
        used={
            period: dice.one([Used(0, 0), Used(1, 3000), Used(3, 6000), UNKNOWN])
            for period in [*day, *other]
            if dice.rarely(4)
        },
        running=tuple(
            Running(
                dice.one(["x", "y", "c-1"]),
                dice.one(["esco1", "esco2"]),
                now + dice.number(-100, 100) * MIN,
                now + dice.number(-50, 200) * MIN,
                dice.one([10, 63, 100]),
                dice.one(["never", "before_start", "always"]),
                dice.coin(),
            )
            for _ in range(dice.one([0, 0, 0, 1, 2]))
        ),
        contact=Contact.LOST if dice.rarely(10) else Contact.FRESH,
        locked_out=dice.rarely(20),
        type_limits=TypeLimits(
            Decimal(0),
            Decimal(1 if dice.rarely(20) else 32),
            60 * dice.one([0, 0, 5]),
            60 * dice.one([0, 0, 30]),
            dice.rarely(20),
        ),
        present=dice.one([Decimal(0), Decimal(0), Decimal(1), Decimal(12)]),
        unchanged_since_ms=now - dice.number(0, 100) * MIN,
    )
    if dice.rarely(3):
        unknown = dice.one([one.name for one in fields(Facts)])
        found = replace(found, **{unknown: UNKNOWN})
    return found


def world(seed: int) -> World:
    """Return the question that a seed gives, with all that belongs to it."""
    dice = Dice(seed)
    now = at(dice.one(DAYS)) + dice.number(0, 180) * MIN
    came = now - (dice.number(0, 30) * MIN if dice.rarely() else 0)
    return World(
        commands(dice, now, came),
        policies(dice, now),
        rosters(dice, now),
        assignments(dice, now),
        facts(dice, now, came),
    )


def worlds() -> st.SearchStrategy[World]:
    """Draw a question."""
    return st.integers(0, 2**32 - 1).map(world)
