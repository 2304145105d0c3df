"""Fuzzing of the reply path: our links against devices that answer with mutated bytes, on every kind of line.

    python -m tests.fuzz --seconds 60 --seed 7 [--kind rtu] [--json]
    python -m tests.fuzz --seed 7 --case rtu:1234      # one case again, with all that was sent

A case is a fresh link and a fresh device: some requests whose answers are mutated (`tests.support.fuzz`),
then peace.  Sockets and pseudo-terminals are real, time is virtual: a deadline costs nothing, and a request
that hangs is one that outlives its budget in virtual time.  What must hold:

1.  No crash: a request ends with bytes or with an error of the field, and nothing else is raised anywhere.
2.  No hang: every request ends within its budget.
3.  No good reading out of garbage: what is returned stood in a frame that answers this very request in unit,
    function, length and number or checksum; the same of refusals and of confirmed writes.  A frame that is
    right in all of it and holds another value is counted as `undetectable` (docs/faults.md says which).
4.  Peace: once the device answers rightly, a read is right within some tries.
5.  Nothing grows: endless bytes take no memory to speak of.

The last line is JSON with `cases` (requests judged), `by_kind`, `accepted_valid`, `refused`,
`undetectable`, `crashes`, `hangs`, `ok` and more.  Exit code 0 only when everything held.  A case depends on
its seed, kind and number alone.  Not here: a fuzzer guided by coverage, the pure parsers (hypothesis,
`tests/unit/drivers/modbus`).
"""

import argparse
import asyncio
import gc
import inspect
import json
import random
import socket
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from core.errors import FieldError, LinkDown, Refused
from drivers.modbus.plan import Request
from drivers.modbus.rtulink import ALONE, LONGEST_BABBLE_S
from drivers.points import Table
from tests.support.fuzz.answers import READS, Asked
from tests.support.fuzz.judge import Became, Judged, judge_answer, judge_refusal
from tests.support.fuzz.mutations import BY_NAME, TIMEOUT_S, Mutation, Scene, Step, drawn, one_behind, right
from tests.support.fuzz.peers import KINDS, Contexts, Line
from tests.support.virtual_time import VirtualTimeLoop

GRACE_S: Final = 0.001
"""What the kernel may take to carry bytes over a pseudo-terminal."""
BUDGET_S: Final = 2 * LONGEST_BABBLE_S + (ALONE + 10) * TIMEOUT_S
"""Of one request, in virtual time: a line that is never silent, twice; an exchange before it; listening."""
CONNECT_S: Final = 10.0
PEACE_TRIES: Final = 10
PEACE_S: Final = 1.0
"""Between tries, as an agent would leave them."""
MOST_HELD: Final = 16 * 1024
"""Bytes that a link may hold of those without end, which are 25 times as many."""
TABLES: Final = {1: Table.COIL, 2: Table.DISCRETE, 3: Table.HOLDING, 4: Table.INPUT}
ALONE_SHARE: Final = 0.7
"""Cases with one mutation alone, of which more is required."""
BEHIND_SHARE: Final = 0.1
"""Cases in which the device answers each request with the answer to the one before, until there is peace."""
POLLS_BEHIND: Final = 12
RIGHT_SHARE: Final = 0.25
"""Answers that are left right."""
TOLD: Final = 20
"""Faults of a run that are printed."""


@dataclass(frozen=True)
class Ask:
    """One request of a case."""

    function: int
    address: int
    count: int
    """For a single write the value."""

    @property
    def pdu(self) -> bytes:
        count = self.count
        if self.function == 5:
            count = 0xFF00 if self.count else 0
        head = bytes([self.function]) + self.address.to_bytes(2, "big") + count.to_bytes(2, "big")
        return head + bytes([2 * count]) + bytes(2 * count) if self.function == 16 else head

    async def by(self, link: Any, unit: int) -> bytes:
        """Ask through a link; return the payload, or for a write the confirmation."""
        if self.function in READS:
            request = Request(TABLES[self.function], self.address, self.count, ())
            return bytes(await link.read(unit, request, TIMEOUT_S))
        if self.function == 5:
            await link.write_coil(unit, self.address, bool(self.count), TIMEOUT_S)
        elif self.function == 6:
            await link.write_register(unit, self.address, self.count, TIMEOUT_S)
        else:
            await link.write_registers(unit, self.address, [0] * self.count, TIMEOUT_S)
        return self.pdu[1:5]


@dataclass
class Tally:
    """What a run came to."""

    by_kind: dict[str, Counter[str]] = field(default_factory=dict)
    undetectable_by: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)

    def total(self, what: str) -> int:
        return sum(counts[what] for counts in self.by_kind.values())

    def as_json(self, seed: int, seconds: float) -> str:
        names = [
            "accepted_valid",
            "refused",
            "undetectable",
            "wrong",
            "crashes",
            "hangs",
            "never_at_peace",
            "grew",
        ]
        totals = {name: self.total(name) for name in names}
        return json.dumps(
            {
                "cases": self.total("cases"),
                "by_kind": {kind: counts["cases"] for kind, counts in self.by_kind.items()},
                **totals,
                "undetectable_by": dict(self.undetectable_by.most_common()),
                "seed": seed,
                "seconds": round(seconds, 1),
                "ok": not any(totals[name] for name in names[3:]) and self.total("accepted_valid") > 0,
            }
        )


class FuzzLoop(VirtualTimeLoop):
    """Virtual time, with addresses in numbers looked up on the spot: a thread would have to be waited for."""

    async def getaddrinfo(self, host: Any, port: Any, **keys: Any) -> Any:  # type: ignore[override]
        return socket.getaddrinfo(host, port, **keys)


class VirtualTimer:
    """The clock of a loop, and waiting by it."""

    def __init__(self, loop: VirtualTimeLoop) -> None:
        self._loop = loop

    def now(self) -> float:
        return self._loop.now

    async def until(self, instant: float) -> None:
        if instant > self._loop.now:
            await asyncio.sleep(instant - self._loop.now)

    def close(self) -> None:
        pass


def held_bytes(link: object) -> int:
    """Return how many bytes an object holds, in itself and in what belongs to it."""
    held, seen, look = 0, {id(link)}, [link]
    while look:
        one = look.pop()
        if isinstance(one, bytes | bytearray):
            held += len(one)
            continue
        for other in gc.get_referents(one):
            strange = isinstance(other, _OTHERS) or inspect.isroutine(other)
            if id(other) not in seen and not strange:
                seen.add(id(other))
                look.append(other)
    return held


_OTHERS: Final = (
    type,
    ModuleType,
    asyncio.AbstractEventLoop,
    asyncio.BaseTransport,
    asyncio.Future,
    asyncio.Handle,
)


class Case:
    """Some requests to one device, the judgement of each, and peace."""

    def __init__(
        self, seed: int, kind: str, number: int, contexts: Contexts, only: Mutation | None = None
    ) -> None:
        self.name: Final = f"{kind}:{number}"
        self.kind: Final = kind
        self.counts: Counter[str] = Counter()
        self.undetectable_by: Counter[str] = Counter()
        self.faults: list[str] = []
        self._draw = random.Random(f"{seed}/{kind}/{number}")
        self._contexts = contexts
        self._unit = self._draw.choice([1, 1, 17, 247])
        alone = drawn(self._draw) if self._draw.random() < ALONE_SHARE else None
        self._only = only or alone
        self._behind = only is None and self._draw.random() < BEHIND_SHARE
        """The device is one request behind; with the mutation of that name alone, in every case."""
        if only is one_behind:
            self._behind = True
        self._fell = False
        """It left out the answer by which it is behind."""
        self._used: set[str] = set()
        self._peace = False
        self._sendings = 0
        self._line: Line

    def run(self) -> None:
        """Run it in a loop of its own."""
        with asyncio.Runner(loop_factory=lambda: FuzzLoop(GRACE_S if self.kind == "rtu" else 0.0)) as runner:
            loop = runner.get_loop()
            loop.set_exception_handler(self._crashed)
            try:
                runner.run(self._lived(VirtualTimer(loop)))  # type: ignore[arg-type]
            except RuntimeError as error:  # nothing can ever happen: a task waits for what does not come
                self._fault("hangs", f"{error}")

    async def _lived(self, timer: VirtualTimer) -> None:
        async with Line(self.kind, self._unit, self._contexts, timer) as line:
            self._line = line
            line.peer.play = self._play
            if self._behind:
                await self._fallen_behind()
            for _ in range(0 if self._behind else self._draw.randint(1, 4)):
                await self._connected()
                await self._unasked()
                await self._asked(self._drawn_ask())
            await self._made_peace()

    async def _fallen_behind(self) -> None:
        """Poll what was read well before, from a device that is one answer behind from some request on."""
        asks = [Ask(3, 0, 10), *(self._drawn_ask() for _ in range(self._draw.randint(0, 3)))]
        self._peace = True
        await self._connected()
        await self._asked(asks[0])
        self._peace = False
        for number in range(POLLS_BEHIND):
            await self._connected()
            await self._asked(asks[number % len(asks)])

    def _drawn_ask(self) -> Ask:
        draw = self._draw
        function = draw.choice([1, 2, 3, 3, 3, 3, 4, 4, 5, 6, 16])
        if function in (5, 6):
            return Ask(function, draw.randrange(4), draw.randrange(2))
        most = {1: 60, 2: 2000, 16: 4}.get(function, 125)
        return Ask(
            function, draw.choice([0, 1, 100, 65000]), draw.choice([1, 2, 2, 3, 10, draw.randint(1, most)])
        )

    def _play(self, asked: Asked) -> list[Step]:
        if self._peace:
            return right(self._scene(asked))
        if self._behind:
            self._used.add(one_behind.__name__)
            fell, self._fell = self._fell, True
            return one_behind(self._scene(asked)) if fell else []
        mutation: Mutation = self._only or drawn(self._draw)
        if self._draw.random() < RIGHT_SHARE:
            mutation = right
        self._used.add(mutation.__name__)
        if mutation.__name__ == "endless":
            self._line.peer.sent = self._weigh
        return mutation(self._scene(asked))

    def _scene(self, asked: Asked) -> Scene:
        return Scene(self._draw, asked, tuple(self._line.peer.requests[: asked.ordinal]))

    async def _connected(self) -> None:
        """Connect where that is needed; a new adapter where one was pulled."""
        if self._line.link.connected and not self.kind.startswith("dial-in"):
            return
        if not self._line.link.connected:
            if self._line.pulled:
                await self._line.link.close()
                self._line.renew()
            try:
                async with asyncio.timeout(CONNECT_S):
                    await self._line.link.connect()
            except TimeoutError:
                self._fault("hangs", "connecting")
            except LinkDown:
                pass
        if self.kind.startswith("dial-in"):
            await asyncio.sleep(0.2)  # the device dials

    async def _unasked(self) -> None:
        """Say something before it is asked, sometimes."""
        peer = self._line.peer
        if not peer.requests or self._draw.random() > 0.1:
            return
        self._used.add("unasked")
        last = peer.requests[-1]
        # With the number of the request to come only as long as that is not made: else it is an answer.
        ahead = self._draw.random() < 0.5
        peer.say(last.framed(last.right, transaction=last.transaction % 0xFFFF + ahead))
        if ahead or self._draw.random() < 0.5:
            await asyncio.sleep(0.005)

    async def _asked(self, ask: Ask) -> bool:
        """Ask and judge; tell whether the answer was the right one."""
        self.counts["cases"] += 1
        began = len(self._line.peer.requests)
        try:
            async with asyncio.timeout(BUDGET_S):
                payload = await ask.by(self._line.link, self._unit)
        except TimeoutError:
            self._fault("hangs", f"{ask} outlived {BUDGET_S:g} s")
            return False
        except Refused as error:
            judged = judge_refusal(self._line.peer.events, self._unit, ask.pdu, error.code)
        except FieldError:
            judged = Judged(Became.REFUSED)
        except Exception as error:
            self._fault("crashes", f"{ask}: {error!r}")
            return False
        else:
            judged = judge_answer(
                self._line.peer.events[:], self._unit, ask.pdu, payload, frozenset(self._used)
            )
        self.counts[judged.became.value] += 1
        if judged.became is Became.UNDETECTABLE:
            self.undetectable_by["+".join(sorted(self._used - {"right"}))] += 1
        elif judged.became is Became.WRONG:
            self.faults.append(
                f"{self.name}: {ask}: {judged.why}; requests {began} and on; {sorted(self._used)}"
            )
        return judged.became is Became.ACCEPTED

    async def _made_peace(self) -> None:
        """Answer rightly from now on: a read must be right within some tries."""
        self._peace = True
        for number in range(PEACE_TRIES):
            await asyncio.sleep(PEACE_S)
            await self._connected()
            if await self._asked(Ask(3, 500 + number, 2)):
                return
        self._fault("never_at_peace", f"no right answer in {PEACE_TRIES} tries after {sorted(self._used)}")

    def _weigh(self) -> None:
        """Look, now and then, how many bytes the link holds."""
        self._sendings += 1
        if self._sendings % 20 == 0 and held_bytes(self._line.link) > MOST_HELD:
            self._fault("grew", f"the link holds {held_bytes(self._line.link)} bytes")

    def _crashed(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self._fault("crashes", f"{context.get('message')}: {context.get('exception')!r}")

    def _fault(self, what: str, why: str) -> None:
        self.counts[what] += 1
        self.faults.append(f"{self.name}: {what}: {why}")

    def told(self) -> str:
        """All that went over the line."""
        return "\n".join(
            f"  {event.at:8.3f} s  {event.connection} {'asked' if event.asked else 'sent '}"
            f" {event.octets.hex()}"
            for event in self._line.peer.events
        )


def run(
    kinds: Sequence[str],
    seed: int,
    seconds: float,
    most: int | None = None,
    say: bool = False,
    only: Mutation | None = None,
) -> tuple[Tally, float]:
    """Run cases of all kinds in turn until the time is over, or there were enough of each.

    Returns what they came to, and how long they took in seconds.
    """
    tally = Tally({kind: Counter() for kind in kinds})
    began = told = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        contexts = Contexts(Path(folder))
        number = 0
        while time.monotonic() - began < seconds and (most is None or number < most):
            for kind in kinds:
                case = Case(seed, kind, number, contexts, only)
                case.run()
                tally.by_kind[kind] += case.counts
                tally.undetectable_by += case.undetectable_by
                tally.faults += case.faults
            number += 1
            if number % 50 == 0:
                gc.collect()
            if say and time.monotonic() - told > 5:
                told = time.monotonic()
                print(
                    f"{told - began:5.0f} s  {tally.total('cases')} requests, {len(tally.faults)} faults",
                    flush=True,
                )
    return tally, time.monotonic() - began


def again(seed: int, name: str, only: Mutation | None) -> int:
    """Run one case and print all of it."""
    kind, _, number = name.partition(":")
    with tempfile.TemporaryDirectory() as folder:
        case = Case(seed, kind, int(number), Contexts(Path(folder)), only)
        case.run()
    print(case.told())
    print("\n".join(case.faults) or "nothing is wrong")
    return 1 if case.faults else 0


def main() -> int:
    """Fuzz for a time; 0 when everything held."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kind", choices=KINDS, action="append", help="only lines of this kind")
    parser.add_argument("--cases", type=int, help="at most so many cases of each kind")
    parser.add_argument("--only", choices=sorted(BY_NAME), help="only answers mutated so, and right ones")
    parser.add_argument("--case", help="one case again, as kind:number")
    parser.add_argument("--json", action="store_true", help="nothing but the last line")
    asked = parser.parse_args()
    if asked.case:
        return again(asked.seed, asked.case, BY_NAME.get(asked.only))
    tally, seconds = run(
        asked.kind or KINDS,
        asked.seed,
        asked.seconds,
        asked.cases,
        say=not asked.json,
        only=BY_NAME.get(asked.only),
    )
    for fault in tally.faults[:TOLD]:
        print(fault, file=sys.stderr)
    text = tally.as_json(asked.seed, seconds)
    print(text)
    return 0 if json.loads(text)["ok"] else 1


if __name__ == "__main__":
    sys.exit(main())
