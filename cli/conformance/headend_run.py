"""The scenario for a head-end: what scripted gateways send it, and in which order.

Parts that were not wanted, or cannot be played, are in `missing` with the reason; the lines that need
them are then not tested. Nothing is judged here: what does not come in time shows in the evidence.
"""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Final

from cli.conformance import headend_lines as steps
from cli.conformance.bad_messages import FIRST as BAD_FIRST
from cli.conformance.bad_messages import LAST as BAD_LAST
from cli.conformance.bad_messages import bad_messages
from cli.conformance.headend_book_lines import AFTER_CONFLICT, AFTER_KILL, LAST
from cli.conformance.headend_evidence import HeadendEvidence, Sent
from cli.conformance.headend_ground import (
    ENTITY,
    FIRST,
    REORDERED,
    WITHOUT_CERTIFICATE,
    WITHOUT_MANIFEST,
    HeadendGround,
)
from cli.conformance.headend_session import ANSWER_S, READY_S, HeadendSession, now_ms
from cli.conformance.scripted_gateway import EVERY_MS, NOTHING, ROOM, ScriptedGateway
from cli.process import ProcessFailed
from core.codec import encode_record, row_body, row_bytes
from core.ids import new_books_id
from core.records import Alarm, Before, Extension
from core.topics import Lane

BY_HAND_S: Final = 600.0
QUIET_S: Final = 1.0
"""So long after the last answer something else may still come that should not."""
AWAY_S: Final = 2.0
BURST: Final = 10
"""Messages of two rows that are sent before a kill."""
DAY_MS: Final = 86_400_000
PATIENT_S: Final = 3


class HeadendRun:
    """One run. Everything that it starts ends with :meth:`play`."""

    def __init__(self, ground: HeadendGround, wanted: frozenset[str], say: Callable[[str], None]) -> None:
        self.missing: Final[dict[str, str]] = {}
        self._ground: Final = ground
        self._session: Final = HeadendSession(ground, say)
        self._wanted: Final = wanted
        now = now_ms()
        self._next_t0 = now - DAY_MS - now % EVERY_MS
        self._lent_until: Final = now - DAY_MS // 4 - now % EVERY_MS
        self._main: Final = self._life(FIRST)
        self._top = 5
        """Last sequence of the main epoch that was sent."""

    def play(self) -> HeadendEvidence:
        """Play everything that is wanted, and return what was seen. Raises what a part of ours fails with."""
        ground, session = self._ground, self._session
        with ExitStack() as stack:
            stack.callback(ground.stand.kill)
            session.say("the broker and four scripted gateways are started")
            stack.callback(ground.stand.broker.kill9)
            ground.stand.broker.start()
            session.connect(stack)
            if ground.program is not None:
                stack.callback(ground.program.kill9)
            if ground.readings_command is None:
                self.missing[steps.BOOKS] = "no command shows the books: name one by --readings-command"
            if self._begin():
                self._play_steps()
            else:
                self.missing.update(dict.fromkeys(steps.STEPS, "the program did not come up"))
            session.say("the books are looked at, and it is ended")
            session.look(LAST, session.confirmed_readings())
            self._finish()
            return session.evidence()

    def _play_steps(self) -> None:
        plays: dict[str, Callable[[], None]] = {
            steps.ORDER: self._order,
            steps.BAD: self._bad,
            steps.MISSING: self._missing,
            steps.EPOCHS: self._epochs,
            steps.CONFLICT: self._conflict,
            steps.OUTAGE: self._outage,
            steps.KILL: self._kill,
            steps.STOP: self._stop,
            steps.RESTORED: self._restored,
        }
        program = self._ground.program
        for step in steps.STEPS:
            if step not in self._wanted:
                self.missing[step] = f"the part {step!r} was not played"
            elif program is None and step in (steps.STOP, steps.KILL):
                self.missing[step] = "the program was started by hand, so it is not ended here"
            elif program is not None and not program.running:
                self.missing[step] = f"the program had ended by itself before the part {step!r}"
            else:
                plays[step]()

    def _life(self, gateway: str) -> ScriptedGateway:
        """Return a gateway in a new epoch, whose ticks are those of no other."""
        t0, self._next_t0 = self._next_t0, self._next_t0 + ROOM * EVERY_MS
        return ScriptedGateway(self._ground.key_of(gateway), gateway, ENTITY, t0, self._lent_until)

    # --- parts

    def _begin(self) -> bool:
        """Start it, and let a gateway introduce itself until it is confirmed."""
        session, main = self._session, self._main
        session.begin_life()
        timeout_s = READY_S
        if self._ground.program is None:
            session.say(f"start your program now; it finds everything in {self._ground.site_path}")
            timeout_s = BY_HAND_S

        def introduce() -> Sent:
            payload = main.sealed(main.body(1, 5, main.rows(3, 5), main.introduction(), cert=True))
            return session.send(main, payload, 1, 5, "hello", rows=(3, 5))

        return session.insist(introduce, timeout_s)

    def _order(self) -> None:
        session, main = self._session, self._main
        session.say("messages in order, with a hole, out of order, overlapping, and one twice")
        in_order = session.send_rows(main, 6, 8, "in-order")
        session.until_confirmed(in_order)
        session.until_confirmed(session.send_rows(main, 12, 14, "later"))
        session.pause(QUIET_S)
        session.until_confirmed(session.send_rows(main, 9, 11, "filling"))
        session.until_confirmed(session.send_rows(main, 7, 16, "overlapping"))
        session.until_confirmed(session.send_rows(main, 17, 18, "patient", within_s=PATIENT_S))
        session.pause(QUIET_S)
        session.until_confirmed(session.send_rows(main, 6, 8, "duplicate"))
        self._top = 18

    def _bad(self) -> None:
        session, ground = self._session, self._ground
        session.say("messages that it must not take, each in an epoch of its own")
        strangers = {
            f"{WITHOUT_MANIFEST}, another gateway": ground.key_of(WITHOUT_MANIFEST),
            "a collector": ground.key_of(ENTITY),
        }
        every = list(bad_messages(lambda: self._life(FIRST), strangers, ground.over_key, WITHOUT_MANIFEST))
        for bad in every:
            session.send(
                bad.gateway,
                bad.payload,
                BAD_FIRST,
                BAD_LAST,
                bad.label,
                lane=bad.lane,
                good=False,
                words=bad.words,
            )
        session.until_confirmed(self._next_rows("marker"))
        session.pause(QUIET_S)
        again = [session.send_rows(bad.gateway, BAD_FIRST, BAD_LAST, "again") for bad in every if bad.again]
        session.until_confirmed(*again)

    def _missing(self) -> None:
        session = self._session
        session.say("a manifest and a certificate are missing, and come when they are asked for")
        bare = self._life(WITHOUT_MANIFEST)
        start = bare.sealed(bare.body(1, 1, [], bare.introduction()[:1], cert=True))
        session.until_confirmed(session.send(bare, start, 1, 1, "start-alone"))
        since = session.heard()
        rows = bare.body(2, 4)
        session.asked_for[bare.gateway] = bare.manifest_name
        session.send(
            bare, bare.sealed(rows), 2, 4, "no-manifest", good=False, words="its manifest never came"
        )
        session.until(
            lambda: any(
                one.ask is not None and bare.manifest_name in one.ask.manifests
                for one in session.answers(bare.gateway, since)
            ),
            ANSWER_S,
        )
        brought = bare.sealed(bare.body(2, 4, manifests=True))
        session.until_confirmed(session.send(bare, brought, 2, 4, "manifest-brought", rows=(2, 4)))

        stranger = self._life(WITHOUT_CERTIFICATE)
        body = stranger.body(1, 5, stranger.rows(3, 5), stranger.introduction())
        since = session.heard()
        session.send(
            stranger, stranger.sealed(body), 1, 5, "no-cert", good=False, words="its certificate never came"
        )
        session.until(
            lambda: any(
                one.ask is not None and "cert" in one.ask.want
                for one in session.answers(stranger.gateway, since)
            ),
            ANSWER_S,
        )
        known = stranger.body(1, 5, stranger.rows(3, 5), stranger.introduction(), cert=True)
        session.until_confirmed(
            session.send(stranger, stranger.sealed(known), 1, 5, "cert-brought", rows=(3, 5))
        )

        other = self._life(REORDERED)
        other.reordered = True
        payload = other.sealed(other.body(1, 5, other.rows(3, 5), other.introduction(), cert=True))
        session.until_confirmed(session.send(other, payload, 1, 5, "reordered", rows=(3, 5)))

        wants = self._next_rows("wants-cert", {"want": ["cert"]})
        session.until(
            lambda: any(
                one.told is not None and bool(one.told.cert)
                for one in session.answers(FIRST, wants.mark.heard)
            ),
            ANSWER_S,
        )

    def _epochs(self) -> None:
        session, main = self._session, self._main
        session.say(
            "a second epoch with the same sequences, the control lane, empty coverage, what is new to it"
        )
        later = self._life(FIRST)
        before = Before(main.epoch, self._top)
        body = later.body(1, 5, later.rows(3, 5), later.introduction("crash", [before]), cert=True)
        new = session.send(later, later.sealed(body), 1, 5, "new-epoch", rows=(3, 5))
        alarm = Alarm(
            seq=1, at=later.tick(1), code="device-silent", raised=True, text="for the test", device="meter"
        )
        told = later.sealed(later.body(1, 1, [], [encode_record(alarm)]), Lane.CONTROL)
        control = session.send(later, told, 1, 1, "control", lane=Lane.CONTROL)
        empty = session.send(later, later.sealed(later.body(6, 9, [])), 6, 9, "empty")
        record = Extension(seq=24, at=later.tick(24), name="invented-later", body={"any": "thing"})
        grown = later.body(
            10, 24, later.rows(20, 23), [encode_record(record)], header={"x": {"later": [1, 2]}}
        )
        growth = session.send(later, later.sealed(grown), 10, 24, "growth", rows=(20, 23))
        session.until_confirmed(new, control, empty, growth)

    def _conflict(self) -> None:
        session, main = self._session, self._main
        session.say("other content comes under an identity that is known")
        original = tuple(main.wanted(3, 4))
        row = row_bytes(4, row_body(main.tick(4), 1, [5, 31], [999, 999, 999, 9.5, "other", True], {}))
        session.until_confirmed(session.send(main, main.sealed(main.body(4, 4, [row])), 4, 4, "conflict"))
        session.look(AFTER_CONFLICT, original)

    def _outage(self) -> None:
        session, broker = self._session, self._ground.stand.broker
        session.say(f"the broker is killed, and comes back after {AWAY_S:g} s without its memory")
        broker.kill9()
        session.pause(AWAY_S)
        broker.start()
        session.until(session.connected, ANSWER_S)
        self._insist_rows("after-outage", READY_S)

    def _kill(self) -> None:
        session, program = self._session, self._ground.program
        if program is None:
            return
        session.say("it is killed with -9 as soon as it confirms one of ten messages, and started again")
        burst = [self._next_rows("burst") for _ in range(BURST)]
        session.until(lambda: any(session.is_confirmed(one) for one in burst), ANSWER_S)
        program.kill9()
        session.pause(QUIET_S / 4)  # what was confirmed by then may be on its way
        session.end_life("kill", None)
        confirmed = session.confirmed_readings()
        self._begin_again()
        session.look(AFTER_KILL, confirmed)
        for one in burst:
            if not session.is_confirmed(one):
                session.until_confirmed(session.send_rows(self._main, one.first, one.last, "after-kill"))
        self._insist_rows("after-kill", READY_S)

    def _stop(self) -> None:
        self._session.say("it is ended in order, and started again")
        self._finish()
        self._begin_again()
        self._insist_rows("after-stop", READY_S)

    def _restored(self) -> None:
        session = self._session
        session.say("a gateway proves that the books went back in time")
        session.mark("restored")
        books = self._books()
        n = max((one.told.n for one in session.answers(FIRST) if one.told is not None), default=0)
        self._prove("ahead", books, n + 1000)
        self._prove("later-books", new_books_id(now_ms() + 60_000), 5)

    def _prove(self, label: str, books: str, n: int) -> None:
        session = self._session
        session.named_books[label] = books
        sent = self._next_rows(label, {"books": books, "n": n})
        session.until(
            lambda: any(
                one.told is not None and one.told.books > books
                for one in session.answers(FIRST, sent.mark.heard)
            ),
            ANSWER_S,
        )
        session.until_confirmed(sent)

    # --- pieces

    def _books(self) -> str:
        told = [one.told.books for one in self._session.answers(FIRST) if one.told is not None]
        return told[-1] if told else new_books_id(now_ms())

    def _next_rows(self, label: str, header: Mapping[str, object] = NOTHING) -> Sent:
        """Send the next two rows of the main epoch."""
        first = self._top + 1
        self._top += 2
        return self._session.send_rows(self._main, first, self._top, label, header=header)

    def _insist_rows(self, label: str, timeout_s: float) -> None:
        session = self._session
        first = self._top + 1
        self._top += 2
        last = self._top
        session.insist(lambda: session.send_rows(self._main, first, last, label), timeout_s)

    def _begin_again(self) -> None:
        self._session.begin_life()

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
        session.end_life("stop", code)
