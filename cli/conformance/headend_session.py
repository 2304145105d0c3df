"""What goes on between scripted gateways and a head-end under test: what is sent, answered and booked.

One thread plays; paho's threads only hand over. Every wait has a deadline. Not here: what is sent, and in
which order (`headend_run`), any judgement.
"""

import json
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import Final

from certs.signing import TrustedSigners
from cli.conformance.headend_evidence import Answer, HeadendEvidence, HeadendLife, Look, Mark, Reading, Sent
from cli.conformance.headend_ground import ENTITY, GATEWAYS, HeadendGround
from cli.conformance.peer import Arrival, Peer
from cli.conformance.scripted_gateway import NOTHING, ScriptedGateway, Wanted
from core.codec import carried_certificate, decode_ask, decode_confirmation, unseal
from core.errors import TrustError, UnknownKey, WireError
from core.topics import ROOT, Lane, ask_topic, confirm_topic

READY_S: Final = 30.0
ANSWER_S: Final = 15.0
SEND_AGAIN_S: Final = 2.0
LOOK_S: Final = 0.02
LONGEST_BODY: Final = 1 << 20
READINGS_S: Final = 60.0


class HeadendSession:
    """One run's conversation. One owner."""

    def __init__(self, ground: HeadendGround, say: Callable[[str], None]) -> None:
        self.ground: Final = ground
        self.say: Final = say
        self.lives: Final[list[HeadendLife]] = []
        self.looks: Final[dict[str, Look]] = {}
        self.wanted: Final[dict[str, tuple[Wanted, ...]]] = {}
        self.marks: Final[dict[str, Mark]] = {}
        self.asked_for: Final[dict[str, str]] = {}
        self.named_books: Final[dict[str, str]] = {}
        self._sent: list[Sent] = []
        self._rows: dict[int, list[Wanted]] = {}
        """By message: the readings that it holds."""
        self._lock = threading.Lock()
        self._heard: list[Answer] = []
        self._trusted: Final = TrustedSigners(ground.certs / "ca.pem")
        self._peers: dict[str, Peer] = {}

    def connect(self, stack: ExitStack) -> None:
        """Connect every gateway, for as long as the block lasts."""
        for gateway in GATEWAYS:
            filters = [f"{ROOT}/{gateway}/confirm/#", f"{ROOT}/{gateway}/ask/#"]
            peer = Peer(gateway, "conformance", self.ground.broker, self.ground.certs, filters, self._hear)
            self._peers[gateway] = stack.enter_context(peer)

    def connected(self) -> bool:
        """Tell whether every gateway has its connection."""
        return all(peer.ready for peer in self._peers.values())

    # --- sending

    def send(
        self,
        gateway: ScriptedGateway,
        payload: bytes,
        first: int,
        last: int,
        label: str,
        *,
        lane: Lane = Lane.LIVE,
        rows: tuple[int, int] | None = None,
        good: bool = True,
        within_s: int = 1,
        words: str = "",
    ) -> Sent:
        """Publish a message on a lane's topic and note it; `rows` are those that it holds."""
        space = Lane.CONTROL if lane is Lane.CONTROL else Lane.LIVE
        with self._lock:
            mark = Mark(now_ms(), len(self._heard))
            sent = Sent(
                len(self._sent),
                mark,
                gateway.gateway,
                gateway.epoch,
                space,
                first,
                last,
                label,
                good,
                within_s,
                words,
            )
            self._sent.append(sent)
        if rows is not None and good:
            self._rows[sent.number] = gateway.wanted(*rows)
        self._peers[gateway.gateway].publish(gateway.topic(lane), payload)
        return sent

    def send_rows(
        self,
        gateway: ScriptedGateway,
        first: int,
        last: int,
        label: str,
        *,
        within_s: int = 1,
        header: Mapping[str, object] = NOTHING,
    ) -> Sent:
        """Send a good message of rows first..last."""
        payload = gateway.sealed(gateway.body(first, last, header={"within": within_s, **header}))
        return self.send(gateway, payload, first, last, label, rows=(first, last), within_s=within_s)

    def until_confirmed(self, *sent: Sent, timeout_s: float = ANSWER_S) -> bool:
        """Wait until messages are confirmed."""
        return self.until(lambda: all(self.is_confirmed(one) for one in sent), timeout_s)

    def insist(self, send: Callable[[], Sent], timeout_s: float) -> bool:
        """Send a message again and again until it is confirmed, as a gateway would."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline and not self.died():
            if self.until_confirmed(send(), timeout_s=min(SEND_AGAIN_S, deadline - time.monotonic())):
                return True
        return False

    # --- hearing

    def is_confirmed(self, sent: Sent) -> bool:
        """Tell whether a message was confirmed after it was sent."""
        with self._lock:
            answers = self._heard[sent.mark.heard :]
        return any(
            answer.gateway == sent.gateway
            and answer.good
            and any(
                a <= sent.first and sent.last <= b for a, b in answer.held(sent.space).get(sent.epoch, ())
            )
            for answer in answers
        )

    def answers(self, gateway: str, since: int = 0) -> list[Answer]:
        """Return good answers to a gateway."""
        with self._lock:
            return [one for one in self._heard[since:] if one.gateway == gateway and one.good]

    def heard(self) -> int:
        """Return how many answers came."""
        with self._lock:
            return len(self._heard)

    def until(self, holds: Callable[[], bool], timeout_s: float) -> bool:
        """Wait for a condition; False at the deadline, or when the program died."""
        deadline = time.monotonic() + timeout_s
        while not holds():
            if time.monotonic() >= deadline or self.died():
                return False
            time.sleep(LOOK_S)
        return True

    def pause(self, seconds: float) -> None:
        """Let time pass in which the head-end may say more."""
        self.until(lambda: False, seconds)

    # --- lives and marks

    def mark(self, name: str) -> Mark:
        """Remember this instant under a name."""
        self.marks[name] = self._now()
        return self.marks[name]

    def begin_life(self) -> None:
        """Start the program, when it is ours to start."""
        self.lives.append(HeadendLife(self._now()))
        if self.ground.program is not None:
            self.ground.program.start(wait=False)

    def end_life(self, how: str, code: int | None) -> None:
        """Note that a life is over."""
        program = self.ground.program
        words = program.tail() if program is not None and not how else ""
        self.lives[-1] = HeadendLife(self.lives[-1].begun, self._now(), how, code, words)

    def died(self) -> bool:
        """Tell whether the program ended although nobody ended it."""
        program = self.ground.program
        alive = program is None or program.running or not self.lives
        return not alive and self.lives[-1].ended is None

    # --- the books

    def confirmed_readings(self) -> tuple[Wanted, ...]:
        """Return the readings of all that was confirmed so far, each once."""
        found: dict[tuple[str, str, int, int], Wanted] = {}
        for sent in list(self._sent):
            if sent.good and self.is_confirmed(sent):
                for one in self._rows.get(sent.number, []):
                    found.setdefault((one.gateway, one.epoch, one.seq, one.index), one)
        return tuple(found.values())

    def look(self, name: str, wanted: tuple[Wanted, ...]) -> None:
        """Look into the books, where there is a command for it, and note what must be there."""
        command = self.ground.readings_command
        if command is None:
            return
        self.wanted[name] = wanted
        try:
            done = subprocess.run(command, capture_output=True, timeout=READINGS_S, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            self.looks[name] = Look(name, fault=str(error))
            return
        if done.returncode:
            said = done.stderr.decode(errors="replace").strip().splitlines()
            self.looks[name] = Look(name, fault=f"exit {done.returncode}: {' / '.join(said[-3:])}")
            return
        self.looks[name] = shown(name, done.stdout)

    def evidence(self) -> HeadendEvidence:
        """Return all that was seen."""
        with self._lock:
            sent, heard = tuple(self._sent), tuple(self._heard)
        return HeadendEvidence(
            entity=ENTITY,
            sent=sent,
            heard=heard,
            lives=tuple(self.lives),
            looks=dict(self.looks),
            wanted=dict(self.wanted),
            marks=dict(self.marks),
            asked_for=dict(self.asked_for),
            named_books=dict(self.named_books),
            answer_s=ANSWER_S,
        )

    # --- inside

    def _now(self) -> Mark:
        return Mark(now_ms(), self.heard())

    def _hear(self, arrival: Arrival) -> None:
        with self._lock:
            self._heard.append(self._opened(arrival))

    def _opened(self, arrival: Arrival) -> Answer:
        gateway = next(
            (
                one
                for one in GATEWAYS
                if arrival.topic in (confirm_topic(one, ENTITY), ask_topic(one, ENTITY))
            ),
            "",
        )
        fault, form, confirmation, ask = "", "", None, None
        try:
            body = self._body(arrival)
            if arrival.topic == ask_topic(gateway, ENTITY):
                ask = decode_ask(body)
            else:
                confirmation = decode_confirmation(body)
        except TrustError as error:
            fault = str(error)
        except WireError as error:
            form = str(error)
        return Answer(
            len(self._heard),
            arrival.at_ms,
            arrival.topic,
            gateway,
            len(self._sent),
            arrival.qos,
            arrival.retained,
            arrival.unused,
            fault,
            form,
            confirmation,
            ask,
        )

    def _body(self, arrival: Arrival) -> bytes:
        at = datetime.fromtimestamp(arrival.at_ms / 1000, UTC)
        verify = self._trusted.verifier(ENTITY, "collector", at)
        try:
            return unseal(arrival.topic, arrival.payload, verify, LONGEST_BODY)
        except UnknownKey:
            der = carried_certificate(arrival.payload)
            if der is None:
                raise
        self._trusted.admit(der, subject=ENTITY, role="collector", at=at)
        return unseal(arrival.topic, arrival.payload, verify, LONGEST_BODY)


def shown(name: str, out: bytes) -> Look:
    """Return the readings in the output of a command: one JSON object a line."""
    found = []
    for number, line in enumerate(out.splitlines(), 1):
        if not line.strip():
            continue
        try:
            one = json.loads(line)
            found.append(
                Reading(
                    one["gateway"],
                    one["epoch"],
                    int(one["seq"]),
                    int(one["index"]),
                    one["value"],
                    tuple(one["reasons"]),
                    one["quality"],
                )
            )
        except (ValueError, TypeError, KeyError) as error:
            return Look(name, fault=f"line {number} of the readings is not as it should be: {error!r}")
    return Look(name, tuple(found))


def now_ms() -> int:
    """Return the wall clock: UTC, ms since 1970."""
    return time.time_ns() // 1_000_000
