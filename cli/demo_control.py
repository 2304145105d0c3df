"""The demo's commands: one that is permitted, from sent to restored, and five that are refused.

An operator of a company types `portico command send`, the customer types `portico optout`; what ought to be
refused comes from programs that share nothing with either but the wire.  All of it happens beside the story,
step by step, and never begins just before the agent is killed.

Relies on `cli.demo_policy` for what is permitted.  Not here: judging it (`cli.demo_evidence`).
"""

import json
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from certs.pem import key_pem, write_atomically
from cli.demo_evidence import Refusal, Step, Trace, holds_policy, steps
from cli.demo_peers import Sender, Tap
from cli.demo_policy import APPLICATION, INDIVIDUAL, KEY_ID, OUTSIDE_H, PURPOSE
from cli.demo_site import DSO, ESCO, GATEWAY, OTHER, POINT, RELAY
from cli.evidence import NoEvidence
from cli.process import Process, portico
from cli.stand import HOST, Stand
from simulator.peers.esco import Esco, instant

LONGEST_SHED_S: Final = 8.0
SHORTEST_SHED_S: Final = 3.0
PATIENCE_S: Final = 30.0
"""Longest wait for one thing to happen; what did not is missed at the end, by name."""
BEFORE_OUTAGE_S: Final = 2.0
"""A command is not begun to be sent when the broker goes away sooner."""
BEFORE_KILL_S: Final = 3.0
"""What was begun is over for so long before the agent is killed."""
Way = Generator[None, None, None]


@dataclass(frozen=True, slots=True)
class Ahead:
    """What the story does to the site next, in seconds from now; none of it: infinite."""

    outage_s: float
    kill_s: float


class ControlStory:
    """What happens to commands while the story is told; a context manager. :meth:`advance` goes on."""

    def __init__(
        self,
        stand: Stand,
        keys: Mapping[str, Ed25519PrivateKey],
        seconds: float,
        ahead: Callable[[], Ahead],
        say: Callable[[str], None],
    ) -> None:
        """Prepare; `keys` are those with which the operators of entities sign."""
        self.trace: Final = Trace()
        self.state = ""
        """Where the permitted command stands."""
        self.over = False
        self._stand = stand
        self._keys = keys
        self._shed_s = round(min(LONGEST_SHED_S, max(SHORTEST_SHED_S, seconds / 4)))
        self._ahead = ahead
        self._say = say
        self._stack = ExitStack()
        self._sending: Process | None = None
        certs, port = stand.authority.directory, stand.broker_port
        self._tap = Tap(GATEWAY, HOST, port, certs)
        self._company = Sender(f"{ESCO}-stolen", ESCO, HOST, port, certs)
        self._other = Sender(f"{OTHER}-hub", OTHER, HOST, port, certs)
        self._way = self._all()

    def __enter__(self) -> "ControlStory":
        for one in (self._tap, self._company, self._other):
            self._stack.enter_context(one)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def advance(self) -> None:
        """Do what can be done now; never waits."""
        if not self.over:
            try:
                next(self._way)
            except StopIteration:
                self.over = True

    # --- the way

    def _all(self) -> Way:
        yield from self._until(self._policy_held, "the gateway to hold the policy")
        self._say(
            f"the gateway holds the policy, signed by two of {_short(DSO)}'s three, by {_short(ESCO)} and "
            f"by the customer: {_short(ESCO)} may shed the heater"
        )
        yield from self._quiet(self._shed_s)
        sending = self._begin_shed()
        yield from self._until(lambda: self._shed_is("confirmed") or not sending.running, "the shed")
        yield from self._refusals()
        yield from self._until(lambda: not sending.running, "the end of portico command send")
        yield from self._until(lambda: self._shed_is("restored"), "the relay to be put back")
        self._say("its time is over: the relay is put back, and its feedback shows that")
        yield from self._replay()
        yield from self._opt_out()

    def _begin_shed(self) -> Process:
        """Let the operator type it."""
        arguments = ["--gateway", GATEWAY, "--device", RELAY, "--point", POINT, "--verb", "shed"]
        arguments += ["--value", "1", "--for", f"{self._shed_s}s", "--purpose", PURPOSE]
        place = self._stand.directory / "operator"
        process = Process(
            "portico command send",
            portico("command", "send", *arguments, "-c", str(self._operator(place)), "--json"),
            place / "send.log",
        )
        self._stack.callback(process.kill9)
        process.start(wait=False)
        self._say(
            f"{INDIVIDUAL} of {_short(ESCO)} sheds the heater for {self._shed_s} s: portico command send"
        )
        self._sending = process
        return process

    def _refusals(self) -> Way:
        """Send what another company, a late hand and a forger send, while the control runs."""
        yield from self._quiet(1)
        now = datetime.now(UTC)
        other, own = self._peer(OTHER, self._keys[OTHER]), self._peer(ESCO, self._keys[ESCO])
        forger = self._peer(ESCO, Ed25519PrivateKey.generate())
        before = self._no_commands()
        self._send(Refusal.OTHER_ENTITY, other, self._other, now)
        late = now + timedelta(hours=OUTSIDE_H)
        self._send(Refusal.WINDOW, own, self._company, now, start=instant(late))
        self._send(Refusal.FORGED, forger, self._company, now)
        yield from self._refused(Refusal.OTHER_ENTITY, f"the same by {_short(OTHER)}")
        yield from self._refused(Refusal.WINDOW, f"the same at {late:%H:%M} UTC")
        yield from self._until(lambda: self._no_commands() != before, "the gateway to count what was forged")
        after = self._no_commands()
        self.trace.counted = tuple(code for code, n in after.items() if n > before.get(code, 0))
        self._say(f"the same, forged: counted and not answered: {', '.join(self.trace.counted)}")

    def _replay(self) -> Way:
        """Send the operator's own bytes again, as somebody who heard them can."""
        yield from self._quiet(1)
        heard = self._tap.heard(ESCO)
        if not heard:
            self.trace.notes.append("nobody heard the command that was to be sent again")
            return
        self.trace.sent[Refusal.REPLAY] = self.trace.shed
        self._company.send(self._peer(ESCO, self._keys[ESCO]).topic(GATEWAY, RELAY), heard[0])

        def answers() -> list[Step]:
            return [one for one in self._steps(self.trace.shed) if "replayed" in one.reasons]

        yield from self._until(lambda: bool(answers()), "an answer to the replay")
        for one in answers()[:1]:
            self._say(f"its bytes once more: not done again, {', '.join(one.reasons)}")

    def _opt_out(self) -> Way:
        """Let the customer say no at the box, then send the same command once more."""
        yield from self._quiet(3)
        config = str(self._stand.agent.config_path)
        log = self._stand.directory / "operator" / "optout.log"
        no = Process("portico optout", portico("optout", "-c", config, "--device", RELAY), log)
        self._stack.callback(no.kill9)
        no.start(wait=False)
        yield from self._until(lambda: not no.running, "portico optout")
        peer = self._peer(ESCO, self._keys[ESCO])
        self._send(Refusal.OPT_OUT, peer, self._company, datetime.now(UTC))
        yield from self._refused(Refusal.OPT_OUT, "the customer says no (portico optout), and the same")

    # --- waiting

    def _until(self, holds: Callable[[], bool], what: str) -> Way:
        deadline = time.monotonic() + PATIENCE_S
        while not holds():
            if time.monotonic() > deadline:
                self.trace.notes.append(f"waited in vain for {what}")
                return
            yield

    def _quiet(self, needs_s: float) -> Way:
        """Wait until something that takes so long can begin: the story leaves it the time."""

        def calm() -> bool:
            ahead, stand = self._ahead(), self._stand
            there = stand.agent.running and stand.broker.running and self._holds_again()
            return there and ahead.outage_s > BEFORE_OUTAGE_S and ahead.kill_s > needs_s + BEFORE_KILL_S

        yield from self._until(calm, "a quiet moment")

    # --- looking

    def _policy_held(self) -> bool:
        """Tell whether the gateway says, signed, that it holds policy and assignment."""
        try:
            return holds_policy(self._stand.books()[DSO], GATEWAY)
        except NoEvidence:
            return False

    def _holds_again(self) -> bool:
        """Tell whether an agent that was started again has its policy proved again, or it obeys nobody."""
        agent = self._stand.agent
        if agent.lives == 1:
            return True
        status = agent.status()
        policy = status.get("policy")
        held = isinstance(policy, dict) and policy.get("freshness") == "fresh"
        return held and status.get("pid") == agent.pid

    def _no_commands(self) -> dict[str, int]:
        control = self._stand.agent.status().get("control")
        counts = control.get("no_commands") if isinstance(control, dict) else None
        # A message that the broker brings twice is counted there too, and was forged by nobody.
        return (
            {code: n for code, n in counts.items() if code != "replayed"} if isinstance(counts, dict) else {}
        )

    def _shed_is(self, state: str) -> bool:
        """Tell whether the permitted command came to a state; learns its id from who sent it."""
        if not self.trace.shed and self._sending is not None:
            for line in self._sending.said().splitlines():
                if line.startswith("{") and line.endswith("}"):
                    self.trace.shed = str(json.loads(line).get("command", ""))
                    break
        told = self._steps(self.trace.shed) if self.trace.shed else []
        if told and told[-1].state != self.state:
            self.state = told[-1].state
            if self.state == "confirmed":
                self._say(
                    f"confirmed: the relay's feedback shows {told[-1].value}, the heater is without power"
                )
        return any(one.state == state for one in told)

    def _steps(self, command: str, entity: str = ESCO) -> list[Step]:
        try:
            return steps(self._stand.books()[entity], command)
        except NoEvidence:
            return []

    # --- sending

    def _peer(self, entity: str, key: Ed25519PrivateKey) -> Esco:
        return Esco(entity, APPLICATION, INDIVIDUAL, KEY_ID, key)

    def _send(self, what: Refusal, peer: Esco, by: Sender, now: datetime, **more: object) -> None:
        """Send the same command by another hand."""
        same = {"value": "1", "duration": f"{self._shed_s}s", "purpose": PURPOSE, **more}
        command = peer.command(GATEWAY, RELAY, POINT, "shed", now, **same)
        self.trace.sent[what] = str(command["id"])
        by.send(peer.topic(GATEWAY, RELAY), peer.envelope(command))

    def _refused(self, what: Refusal, words: str) -> Way:
        reader = DSO if what is Refusal.OTHER_ENTITY else ESCO

        def answers() -> list[Step]:
            return self._steps(self.trace.sent[what], reader)

        yield from self._until(lambda: bool(answers()), f"an answer: {what.value}")
        for one in answers()[:1]:
            self._say(f"{words}: {one.state}, {', '.join(one.reasons)}")

    def _operator(self, place: Path) -> Path:
        """Lay what an operator of the company has on his desk."""
        certs, books = self._stand.authority.directory, self._stand.books()[ESCO]
        place.mkdir(exist_ok=True)
        write_atomically(place / f"{KEY_ID}.key", key_pem(self._keys[ESCO]), 0o600)
        tables: dict[str, dict[str, str]] = {
            "operator": {
                "entity": ESCO,
                "application": APPLICATION,
                "individual": INDIVIDUAL,
                "key": f"{KEY_ID}.key",
                "key_id": KEY_ID,
            },
            "broker": {
                "url": f"mqtts://{HOST}:{self._stand.broker_port}",
                "ca": str(certs / "ca.pem"),
                "cert": str(certs / f"{ESCO}.pem"),
                "key": str(certs / f"{ESCO}.key"),
            },
            "gateways": {"books": str(books)},
        }
        lines = []
        for head, keys in tables.items():
            lines += [f"[{head}]", *(f"{key} = {json.dumps(value)}" for key, value in keys.items())]
        path = place / "operator.toml"
        path.write_text("\n".join(lines) + "\n")
        return path


def _short(entity: str) -> str:
    return entity.partition(".")[0]
