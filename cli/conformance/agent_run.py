"""The scenario for an agent: what is done to it, and in which order.

Parts that were not wanted, or cannot be played, are in `missing` with the reason; the lines that need
them are then not tested. Nothing is judged here: what does not come in time shows in the evidence.
"""

import secrets
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Final

from cli.conformance import agent_lines as steps
from cli.conformance.agent_evidence import AgentEvidence, Hole, Mark, header
from cli.conformance.agent_ground import (
    EVERY_MS,
    GATEWAY,
    OTHER_GATEWAY,
    SET_BY_HAND,
    STEADY,
    STRANGER,
    AgentGround,
)
from cli.conformance.agent_session import ANSWER_S, READY_S, AgentSession, now_ms
from cli.conformance.bookkeeper import Letter
from cli.conformance.peer import Peer
from cli.process import ProcessFailed
from core.codec import encode_plain, seal
from core.ids import new_epoch
from core.records import State
from core.topics import state_topic

BY_HAND_S: Final = 600.0
"""How long somebody has to start a program by hand."""
RECOVER_S: Final = 20.0
SETTLE_S: Final = 20.0
AWAY_S: Final = 3.0
END_S: Final = 10.0
"""Within which the state of a program that ended in order has to say so."""
PAUSE_S: Final = 2.2
"""Between two lives: more than two ticks."""
FAILING: Final[dict[str, dict[str, object]]] = {
    "silent": {"kind": "silent"},
    "refusing": {"kind": "exception", "code": 4},
    "late": {"kind": "late", "ms": EVERY_MS + 200},
    "frozen": {"kind": "frozen"},
    "garbled": {"kind": "garbage"},
    "halving": {"kind": "half"},
    "mistaken": {"kind": "wrong-unit"},
    "lagging": {"kind": "stale"},
    "slow": {"kind": "slow", "ms": 150},
}
"""What each device does while it fails; the slow one answers in time, and only its offsets show it."""
TOGETHER: Final = (
    ("bad-signature", "other-key", "own-key"),
    ("moved",),
    ("version-2", "unknown-member", "garbage"),
    ("earlier-books", "replayed"),
)
"""Bad confirmations that come at once: those of one line."""
HEEDED_MS: Final = 200
"""So long after a confirmation was sent a message of the gateway shows what it made of it."""
ASKED: Final = (2, 5)
"""Sequences of the running epoch that are asked for again."""


class AgentRun:
    """One run. Everything that it starts ends with :meth:`play`."""

    def __init__(
        self, ground: AgentGround, wanted: frozenset[str], fault_s: float, say: Callable[[str], None]
    ) -> None:
        self.missing: Final[dict[str, str]] = {}
        self._ground: Final = ground
        self._session: Final = AgentSession(ground, say)
        self._wanted: Final = wanted
        self._fault_s: Final = fault_s

    def play(self) -> AgentEvidence:
        """Play everything that is wanted, and return what was seen. Raises what a part of ours fails with."""
        ground, session = self._ground, self._session
        with ExitStack() as stack:
            stack.callback(ground.stand.kill)
            session.say("devices, broker and a collector that is scripted are started")
            ground.stand.start(agents=False)
            for point, value in SET_BY_HAND.items():
                session.ctl(do="set", device=STEADY, point=point, value=value)
            ground.write_site()
            stack.enter_context(session.peer())
            for letter in session.books.retained():
                session.send(letter, retain=True)
            if ground.program is not None:
                stack.callback(ground.program.kill9)
            if self._begin():
                self._play_steps()
            else:
                self.missing.update(dict.fromkeys(steps.STEPS, "the program did not come up"))
            session.say("it is ended, and the last messages settle")
            session.muted = False
            self._finish()
            self._settle(2.0)
            return session.evidence()

    def _play_steps(self) -> None:
        plays: dict[str, Callable[[], None]] = {
            steps.FAULTS: self._failures,
            steps.HOLES: self._failures,
            steps.BOOKS: self._new_books,
            steps.ASK: self._questions,
            steps.OUTAGE: self._outage,
            steps.TWIN: self._twin,
            steps.STOP: self._stop,
            steps.KILL: self._kill,
        }
        program = self._ground.program
        played: list[Callable[[], None]] = []
        for step in steps.STEPS:
            if step not in self._wanted:
                self.missing[step] = f"the part {step!r} was not played"
            elif program is None and step in (steps.STOP, steps.KILL):
                self.missing[step] = "the program was started by hand, so it is not ended here"
            elif program is not None and not program.running:
                self.missing[step] = f"the program had ended by itself before the part {step!r}"
            elif plays[step] not in played:
                played.append(plays[step])
                plays[step]()

    # --- normal polling

    def _begin(self) -> bool:
        """Start it, wait for rows of every device, introduce the collector; False: nothing came."""
        session, ground = self._session, self._ground
        session.begin_life()
        timeout_s = READY_S
        if ground.program is None:
            session.say(f"start your program now; it finds everything in {ground.site_path}")
            timeout_s = BY_HAND_S
        devices = set(ground.devices)
        session.until(lambda: devices <= session.polled_after(0), timeout_s)
        if not session.polled_after(0):
            return False
        session.say("it is up; a confirmation without a certificate comes first, and then good ones")
        since = session.now().heard
        session.send(session.books.confirmation(cert=False))
        session.until(lambda: any("cert" in header(one).want for one in session.streams(since)), ANSWER_S)
        session.muted = False
        session.until(lambda: any(header(one).n > 1 for one in session.streams(since)), ANSWER_S)
        return True

    # --- devices that fail, and confirmations that must not count

    def _failures(self) -> None:
        session = self._session
        begun_s = time.monotonic()
        if steps.FAULTS in self._wanted:
            session.say(
                f"eight devices fail for {self._fault_s:g} s, each in its own way, one is slow, one well"
            )
            for device, fault in FAILING.items():
                session.trouble(device, fault)
        if steps.HOLES in self._wanted:
            self._bad_confirmations()
        if steps.FAULTS not in self._wanted:
            return
        session.pause(max(0.0, begun_s + self._fault_s - time.monotonic()))
        for device in FAILING:
            session.well(device)
        over = session.mark("faults-over")
        session.say("the devices are well again")
        session.until(lambda: FAILING.keys() <= session.polled_after(over.at_ms), RECOVER_S)

    def _bad_confirmations(self) -> None:
        session = self._session
        session.say("two ranges stay unconfirmed; of one of them bad confirmations claim that it is held")
        unconfirmed, claimed = self._hole("unconfirmed"), self._hole("forged")
        if unconfirmed is None or claimed is None:
            return
        strangers = {
            "other-key": self._ground.key_of(STRANGER),
            "own-key": self._ground.key_of(GATEWAY),
        }
        claims = {claimed.epoch: [(claimed.first, claimed.last)]}
        letters = session.books.forged(claims, strangers, OTHER_GATEWAY)
        again = session.first_good
        if again is not None:
            words = "it came before"
            letters.append(Letter("replayed", again.topic, again.payload, again.books, again.n, words))
        # No good one comes between: what was taken has to show in the next header.
        session.muted = True
        for kinds in TOGETHER:
            for letter in (one for one in letters if one.kind in kinds):
                session.send(letter)
            self._next_message()
        session.muted = False
        session.until(lambda: self._came_again(unconfirmed) and self._came_again(claimed), ANSWER_S)
        session.mark("holes-over")
        session.books.release()
        session.muted = True
        since = session.now().heard
        grown = session.books.confirmation(grown=True)
        session.send(grown)
        session.until(lambda: session.names(grown, since), ANSWER_S)
        session.muted = False

    def _next_message(self) -> None:
        """Wait for a message that was written after all that was sent."""
        session = self._session
        now = session.now()
        session.until(
            lambda: any(header(one).sent > now.at_ms + HEEDED_MS for one in session.streams(now.heard)),
            ANSWER_S,
        )

    def _hole(self, name: str) -> Hole | None:
        """Withhold the next message with rows from confirmation; None when none comes."""
        session = self._session
        since = session.now().heard
        session.muted = True
        session.until(lambda: bool(session.fresh(since)), ANSWER_S)
        found = session.fresh(since)
        if found:
            stream = header(found[0])
            session.books.withhold(stream.epoch, stream.first, stream.last)
            session.holes.append(Hole(name, stream.epoch, stream.first, stream.last, session.mark(name)))
        session.muted = False
        return session.holes[-1] if found else None

    def _came_again(self, hole: Hole) -> bool:
        return self._session.covered(hole.since.heard, hole.epoch).covers(hole.first, hole.last)

    # --- books and questions

    def _new_books(self) -> None:
        session = self._session
        session.say("the books are made anew: everything has to come again")
        epoch = session.epoch()
        before = session.books.whole(epoch)
        session.muted = True
        session.books.renew()
        # The mark comes first: what it sends for it may be here at once.
        session.mark("new-books")
        session.send(session.books.confirmation())
        session.muted = False
        session.until(lambda: all(session.books.holds(epoch, *span) for span in before), ANSWER_S)

    def _questions(self) -> None:
        session = self._session
        session.say("a range, a manifest and the certificate are asked for")
        epoch = session.epoch()
        name = next((header(one).manifest for one in reversed(session.streams()) if header(one).manifest), "")
        session.asked, session.asked_manifest = {epoch: ASKED}, name
        since = session.mark("asked").heard
        session.send(session.books.question({epoch: [ASKED]}, [name] if name else [], want_cert=True))

        def came() -> bool:
            later = session.streams(since)
            everything = session.covered(since, epoch).covers(*ASKED)
            return (
                everything
                and any(one.brings_cert for one in later)
                and any(name in one.names for one in later)
            )

        session.until(came, ANSWER_S)

    # --- outages, a twin, ends

    def _outage(self) -> None:
        session, broker = self._session, self._ground.stand.broker
        session.say(f"the broker is killed, and comes back after {AWAY_S:g} s without its memory")
        broker.kill9()
        session.mark("broker-away")
        session.pause(AWAY_S)
        broker.start()
        back = session.mark("broker-back")
        session.until(lambda: session.peer().ready, ANSWER_S)
        session.until(lambda: STEADY in session.polled_after(back.at_ms), RECOVER_S)
        self._settle(SETTLE_S)

    def _twin(self) -> None:
        session, ground = self._session, self._ground
        session.say("a second box with its id says that it is on line")
        topic = state_topic(GATEWAY)
        at_ms = now_ms()
        state = State(
            v=1,
            gateway=GATEWAY,
            online=True,
            at=at_ms,
            epoch=new_epoch(),
            software="another box",
            clock="synchronised",
            instance=secrets.token_hex(8),
        )
        payload = seal(topic, encode_plain(state), ground.key_of(GATEWAY))
        session.marks["twin"] = Mark(at_ms, session.now().heard)
        with Peer(GATEWAY, "second-box", ground.broker, ground.certs, [], lambda _: None) as box:
            box.publish(topic, payload, retain=True)
        session.until(lambda: STEADY in session.polled_after(at_ms + 2 * EVERY_MS), RECOVER_S)
        session.mark("twin-over")

    def _stop(self) -> None:
        self._session.say("it is ended in order, and started again")
        self._finish()
        self._session.pause(PAUSE_S)
        self._start_again()

    def _kill(self) -> None:
        session, program = self._session, self._ground.program
        if program is None:
            return
        session.say("nothing is confirmed for a while, it is killed with -9, and started again")
        since = session.now().heard
        session.muted = True
        session.until(lambda: len(session.fresh(since)) >= 3, ANSWER_S)
        killed = [
            Hole("killed", header(one).epoch, header(one).first, header(one).last, session.now())
            for one in session.fresh(since)
        ]
        session.holes.extend(killed)
        program.kill9()
        session.end_life("kill", None)
        session.until(session.offline, ANSWER_S)
        session.pause(PAUSE_S)
        begun = self._start_again()
        session.until(
            lambda: all(session.covered(begun, one.epoch).covers(one.first, one.last) for one in killed),
            ANSWER_S,
        )
        session.muted = False
        self._settle(SETTLE_S)

    def _start_again(self) -> int:
        """Start it, wait for its start record and values; return how many messages were there before."""
        session = self._session
        begun = session.now()
        session.begin_life()
        session.until(lambda: any(number >= begun.heard for number, _, _ in session.starts), READY_S)
        session.until(lambda: STEADY in session.polled_after(begun.at_ms), READY_S)
        return begun.heard

    def _finish(self) -> None:
        """End it in order, when it is ours and has not ended by itself."""
        session, program = self._session, self._ground.program
        if program is None or session.lives[-1].ended is not None:
            return
        if not program.running:
            session.end_life("", program.exit_code)
            return
        code: int | None = None
        try:
            code = program.stop()
        except ProcessFailed as error:
            session.say(str(error))
        session.until(session.offline, END_S)
        session.end_life("stop", code)

    def _settle(self, timeout_s: float) -> None:
        """Wait until nothing of the epochs that are known is missing."""
        self._session.until(self._session.whole, timeout_s)
