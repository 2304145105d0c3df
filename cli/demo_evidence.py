"""What became of the demo's commands, judged from outside: by the plant's log and by owners' books.

The plant's log shows what the relay itself did, whoever ordered it; the books show what the gateway signed.
Neither is read through the code that writes it.  :func:`decide` is pure.

Relies on documented files alone (`docs/books.md`, `simulator/README.md`).  Not here: sending
(`cli.demo_control`), and the readings' balance (`cli.judge`).
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Final

from cli.evidence import NoEvidence, looking


class Refusal(Enum):
    """A command that must not be carried out, and the member of the JSON that tells why it was not."""

    OTHER_ENTITY = "other_entity"
    WINDOW = "window"
    REPLAY = "replay"
    FORGED = "forged"
    OPT_OUT = "opt_out"


EXPECTED: Final[Mapping[Refusal, str]] = {
    Refusal.OTHER_ENTITY: "no-grant",
    Refusal.WINDOW: "window",
    Refusal.REPLAY: "replayed",
    Refusal.FORGED: "bad-signature",
    Refusal.OPT_OUT: "opted-out",
}
"""The code that must be among the reasons: refused for anything else, nothing would be shown."""


@dataclass(frozen=True, slots=True)
class Step:
    """One signed outcome, as it lies in books."""

    at_ms: int
    state: str
    reasons: tuple[str, ...]
    value: Decimal | None
    end_ms: int | None


@dataclass(frozen=True, slots=True)
class Move:
    """The relay took another value, for whatever cause."""

    at_ms: int
    value: Decimal
    cause: str


@dataclass(slots=True)
class Trace:
    """What was sent, and what can be seen only while the gateway lives."""

    shed: str = ""
    """Id of the command that is permitted."""
    sent: dict[Refusal, str] = field(default_factory=dict)
    """Ids of those that are not; a replay has the id of the permitted one."""
    counted: tuple[str, ...] = ()
    """Codes under which the gateway counted what nobody had signed: it answers nothing."""
    notes: list[str] = field(default_factory=list)
    """What was waited for in vain, in half sentences."""


@dataclass(frozen=True, slots=True)
class Seen:
    """Everything that is judged."""

    shed: Sequence[Step]
    """What was told of the permitted command, the replay of it included."""
    refused: Mapping[Refusal, Sequence[Step]]
    """What was told of the others."""
    counted: tuple[str, ...]
    moves: Sequence[Move]


@dataclass(frozen=True, slots=True)
class ControlVerdict:
    """What became of the demo's commands."""

    executed: bool
    """The plant's relay took the value, once, within the control's time."""
    read_back: bool
    """The gateway signed that the feedback shows it."""
    restored: bool
    """The plant's relay is at its default, and the gateway signed that the feedback shows that."""
    refused: Mapping[Refusal, tuple[str, ...]]
    """Reason codes."""
    faults: tuple[str, ...]
    """What does not hold, in half sentences."""

    def as_dict(self) -> dict[str, object]:
        """Return the verdict as plain values."""
        return {
            "executed": self.executed,
            "read_back": self.read_back,
            "restored": self.restored,
            "refused": {one.value: list(self.refused.get(one, ())) for one in Refusal},
        }


def judge_control(trace: Trace, books: Path, owner: Path, plant_log: Path, relay: str) -> ControlVerdict:
    """Look at everything, and judge. Raises NoEvidence.

    Args:
        trace: what was sent.
        books: of the entity that commands.
        owner: books of an owner of the device's data, who is told of everybody's commands to it.
        plant_log: plant.jsonl.
        relay: the device.
    """
    places = {Refusal.OTHER_ENTITY: owner, Refusal.FORGED: owner}
    sent = {one: id_ for one, id_ in trace.sent.items() if one is not Refusal.REPLAY}
    seen = Seen(
        shed=steps(books, trace.shed),
        refused={one: steps(places.get(one, books), id_) for one, id_ in sent.items()},
        counted=trace.counted,
        moves=moves(plant_log, relay),
    )
    verdict = decide(seen)
    return ControlVerdict(
        verdict.executed,
        verdict.read_back,
        verdict.restored,
        verdict.refused,
        (*trace.notes, *verdict.faults),
    )


def decide(seen: Seen) -> ControlVerdict:
    """Judge what was seen."""
    end_ms = max((one.end_ms for one in seen.shed if one.end_ms is not None), default=0)
    accepted_ms = min((one.at_ms for one in seen.shed if one.state == "accepted"), default=end_ms + 1)
    ordered = [one for one in seen.moves if one.value == 1]
    executed = len(ordered) == 1 and accepted_ms <= ordered[0].at_ms <= end_ms
    read_back = any(one.state == "confirmed" and one.value == 1 for one in seen.shed)
    back = [one for one in seen.shed if one.state == "restored" and one.value == 0]
    restored = executed and bool(back) and seen.moves[-1].value == 0
    refused = {
        one: tuple(dict.fromkeys(code for step in told if step.state == "refused" for code in step.reasons))
        for one, told in seen.refused.items()
    }
    refused[Refusal.FORGED] = seen.counted
    replays = [
        step for step in seen.shed if "replayed" in step.reasons and back and step.at_ms >= back[0].at_ms
    ]
    refused[Refusal.REPLAY] = replays[0].reasons if replays else ()

    faults = []
    if not executed:
        faults.append(f"the relay was switched {len(ordered)} times instead of once while it was permitted")
    if not read_back:
        faults.append("no signed outcome says that the feedback shows the value")
    if not restored:
        faults.append("the relay was not put back, or nobody signed that it shows that")
    for one, told in seen.refused.items():
        done = sorted({step.state for step in told} - {"refused"})
        if done:
            faults.append(f"{one.value} was to be refused, and became {', '.join(done)}")
    if seen.refused.get(Refusal.FORGED):
        faults.append("what was forged had an answer")
    for one, code in EXPECTED.items():
        if code not in refused.get(one, ()):
            given = ", ".join(refused.get(one, ())) or "no reason"
            faults.append(f"{one.value} was to be refused with {code}, and there is {given}")
    return ControlVerdict(executed, read_back, restored, refused, tuple(faults))


def steps(books: Path, command: str) -> list[Step]:
    """Return what was told of a command, in the order in which it happened. Raises NoEvidence."""
    with looking(books) as db:
        rows = db.execute(
            "SELECT at_ms, state, reasons, value, end_ms FROM outcome WHERE command = ? ORDER BY at_ms, seq",
            (command,),
        ).fetchall()
    return [
        Step(at, state, tuple(json.loads(reasons)), None if value is None else Decimal(str(value)), end)
        for at, state, reasons, value, end in rows
    ]


def holds_policy(books: Path, gateway: str) -> bool:
    """Tell whether a gateway says in its signed state that it holds a policy and an assignment that count."""
    with looking(books) as db:
        row = db.execute(
            "SELECT json_extract(state, '$.x.policy.freshness'), json_extract(state, '$.assignment') "
            "FROM gateway WHERE gateway = ? AND state IS NOT NULL",
            (gateway,),
        ).fetchone()
    return row is not None and row[0] == "fresh" and bool(row[1])


def moves(plant_log: Path, relay: str) -> list[Move]:
    """Return every change of what a device is ordered to, by the plant itself. Raises NoEvidence."""
    try:
        lines = plant_log.read_bytes().splitlines()
    except OSError as error:
        raise NoEvidence(f"the plant's log {plant_log} cannot be read: {error.strerror}") from error
    return list(_moves(lines, relay))


def _moves(lines: Iterable[bytes], relay: str) -> Iterable[Move]:
    for line in lines:
        if b'"write"' not in line or not line.endswith(b"}"):
            continue  # another kind, or torn by a kill
        entry = json.loads(line)
        if entry["kind"] == "write" and entry["device"] == relay and "/" not in entry["point"]:
            yield Move(entry["ms"], Decimal(str(entry["value"])), entry["cause"])
