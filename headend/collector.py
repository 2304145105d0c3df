"""The collector: from brokers into the books, and confirmations back.

One thread writes: it takes all that waits, judges it, stores it in one transaction, commits, and only
then acknowledges and confirms. So a collector that is killed loses nothing: what was not committed was
not acknowledged and not confirmed, and comes again from the broker or from the gateway. While busy,
transactions are `window_ms` apart and share a flush of the disk.

Not here: the judgement of a message (`headend.intake`), the books (`headend.arrival`), the network
(`headend.link`), when somebody is due an answer (`headend.confirm`).
"""

from __future__ import annotations

import base64
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Final

from certs.contexts import client_context, refuse_development_authority
from certs.signing import SigningKey, TrustedSigners
from core.codec import encode_plain, seal
from core.errors import ConfigError, StoreCorrupt, StoreError, StoreTooNew
from core.records import Ask, Confirmation
from core.topics import ask_topic, audit_filter, confirm_topic, gateway_of, state_filter, stream_filter
from headend.alarms import Alarms, Code
from headend.arrival import Stored, store
from headend.auditheads import AuditHeads
from headend.books import Books
from headend.config import HeadendConfig
from headend.confirm import EPOCHS_IN_ONE, Confirmer, Plan, Question, cut
from headend.controls import Watch as ControlWatch
from headend.healing import Healing
from headend.inbox import Arrival, Inbox
from headend.intake import Accepted, Intake, Refused, Verdict
from headend.ledger import Space
from headend.link import Link
from headend.policylag import CODE as LAG
from headend.policylag import PolicyLag
from headend.presence import Presence
from headend.schema import BooksReplaced
from headend.status import Figures, write_status

log = logging.getLogger(__name__)

BATCH_BYTES: Final = 8 << 20
BATCH_MESSAGES: Final = 500
STATUS_EVERY_S: Final = 1.0
MERGE_EVERY_S: Final = 1.0
"""Refusals and alarms are written that often: a flood of forgeries costs no transaction each."""
LOG_EVERY_S: Final = 60.0
RETRY_S: Final = 1.0
LONGEST_WAIT_S: Final = 0.5
RENEWALS: Final = 20
"""A gateway's word gives the books a new id so often at once; then once every `RENEWAL_EVERY_S`."""
RENEWAL_EVERY_S: Final = 600.0
TOLD_CHARACTERS: Final = 400


class Collector:
    """A collector. :meth:`run` belongs to one thread; :meth:`stop` may be called from any, or a signal."""

    def __init__(
        self,
        config: HeadendConfig,
        name: str = "a",
        *,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        """Read keys and certificates. Raises ConfigError and TrustError."""
        self.figures: Final = Figures(name=name)
        self.ready: Final = threading.Event()
        """Set when the books are open and the connections are being made."""
        self._config: Final = config
        self._entity: Final = config.headend.entity
        self._now_ms: Final = now_ms
        signing = config.signing
        for ca in [*signing.trust, *(one.ca for one in config.broker if one.ca is not None)]:
            refuse_development_authority(ca, config.headend.setting)
        self._key: Final = SigningKey.load(signing.key, signing.cert)
        if self._key.subject != self._entity or self._key.role != "collector":
            raise ConfigError(
                f"signing certificate {signing.cert} is of {self._key.subject!r} in role {self._key.role!r}: "
                f"it must be of {self._entity!r} in role 'collector'"
            )
        self._trusted: Final = TrustedSigners(signing.trust)
        self._inbox: Final = Inbox()
        self._stopping: Final = threading.Event()
        self._confirmer = Confirmer()
        self._alarms = Alarms()
        self._refused: Counter[tuple[str, str]] = Counter()
        self._rejected: Counter[int] = Counter()
        self._renewals: dict[str, tuple[float, float]] = {}
        self._presence = Presence()
        policy = config.policy
        self._lag = None if policy is None else PolicyLag(policy.published, policy.lag_s * 1000)
        self._audit_heads = AuditHeads()
        self._controls = ControlWatch()
        self._healing = Healing()
        self._links: Final = [self._link(number, name) for number in range(len(config.broker))]
        self._status_s = self._logged_s = self._merged_s = self._committed_s = 0.0
        self._status_path: Final = config.status_path(name)

    def stop(self) -> None:
        """Ask for an orderly end: what was received is stored and confirmed."""
        self._stopping.set()
        self._inbox.wake()

    def run(self) -> None:
        """Collect until :meth:`stop`. Raises StoreError when the books cannot be used."""
        books = self._open()
        try:
            for link in self._links:
                link.start()
            self.ready.set()
            while not self._stopping.is_set():
                arrivals = self._inbox.take(
                    BATCH_BYTES, BATCH_MESSAGES, self._wait_until(), self._committed_s + self._window_s
                )
                books = self._work(books, arrivals)
            self._inbox.close()
            while arrivals := self._inbox.take(BATCH_BYTES, BATCH_MESSAGES, 0.0):
                books = self._work(books, arrivals, flush=True)
            self._work(books, [], flush=True)
        finally:
            self._inbox.close()
            for link in self._links:
                link.stop()
            books.close()
            self._report(stopped=True)

    @property
    def links(self) -> list[Link]:
        """The connections."""
        return self._links

    @property
    def _window_s(self) -> float:
        return self._config.headend.window_ms / 1000

    def _link(self, number: int, name: str) -> Link:
        broker = self._config.broker[number]
        context = None
        if broker.tls and broker.ca is not None and broker.cert is not None and broker.key is not None:
            context = client_context(broker.ca, broker.cert, broker.key)
        stream = stream_filter(self._entity)
        filters = [
            f"$share/{broker.share}/{stream}" if broker.share else stream,
            state_filter(),
            audit_filter(),
        ]
        return Link(number, broker, f"{self._entity}-collector-{name}", filters, context, self._inbox)

    def _open(self) -> Books:
        self._opened_ms = self._now_ms()
        books = Books(self._config.headend.books, self._opened_ms)
        self._intake = Intake(self._entity, self._trusted, books, self._config.headend.gateways)
        return books

    def _wait_until(self) -> float:
        now_s = time.monotonic()
        return min(now_s + LONGEST_WAIT_S, max(now_s, self._confirmer.next_s(self._connected())))

    def _connected(self) -> set[int]:
        return {link.number for link in self._links if link.connected}

    def _work(self, books: Books, arrivals: list[Arrival], *, flush: bool = False) -> Books:
        """Bring one batch home: retried until the books take it, or until we are told to stop."""
        now_ms = self._now_ms()
        judged = [(arrival, self._judge(arrival, now_ms)) for arrival in arrivals]
        verdicts = [(arrival, verdict) for arrival, verdict in judged if verdict is not None]
        self._watch_policy(books, now_ms)
        failing = False
        while True:
            try:
                self._step(books, verdicts, flush)
                break
            except (StoreCorrupt, StoreTooNew):
                raise
            except BooksReplaced as error:
                log.warning("%s: opening what is there now", error)
                books.close()
                books = self._open()
            except StoreError as error:
                if not failing:
                    log.error("%s; %d messages wait", error, len(arrivals) + len(self._inbox))
                failing = True
                self.figures.failure = str(error)
                self._report()
                if self._stopping.wait(RETRY_S):
                    return books
        if failing:
            log.warning("the books take messages again")
            self.figures.failure = ""
        for arrival in arrivals:
            self._links[arrival.link].acknowledge(arrival)
        self._report()
        return books

    def _watch_policy(self, books: Books, now_ms: int) -> None:
        if self._lag is None:
            return
        for gateway, text in self._lag.look(books.connection, now_ms):
            if self._alarms.add(LAG, gateway, text, now_ms):
                log.warning("%s", text)

    def _judge(self, arrival: Arrival, now_ms: int) -> Verdict | None:
        """Return the verdict on a stream message; None for what is dealt with here: states, audit heads."""
        gateway = gateway_of(arrival.topic, "state")
        if gateway is not None:
            self._note_state(gateway, arrival, now_ms)
            return None
        gateway = gateway_of(arrival.topic, "evt")
        if gateway is not None:
            refused = self._audit_heads.hear(self._intake, gateway, arrival.topic, arrival.payload, now_ms)
            self._note_refused("audit", gateway, arrival.topic, refused, now_ms)
            return None
        verdict = self._intake.judge(arrival.topic, arrival.payload, now_ms)
        if isinstance(verdict, Refused):
            known = verdict.gateway if verdict.authenticated else ""
            self._refused[f"refused.{verdict.reason.value}", known] += 1
            self.figures.refused += 1
            quiet = self._healing.quiet(verdict.gateway, verdict.reason, verdict.text, time.monotonic())
            told = verdict.on(arrival.topic)
            if self._alarms.add(verdict.reason.value, known, told, now_ms):
                level = logging.INFO if quiet else logging.WARNING
                log.log(level, "a message was refused (%s): %s", verdict.reason.value, told)
            if verdict.ask_cert or verdict.authenticated:
                text = f"{verdict.reason.value}: {verdict.text}" if verdict.authenticated else ""
                self._confirmer.ask(
                    verdict.gateway,
                    arrival.link,
                    verdict.ask_manifest,
                    verdict.ask_cert,
                    text[:TOLD_CHARACTERS],
                )
        return verdict

    def _step(self, books: Books, verdicts: list[tuple[Arrival, Verdict]], flush: bool) -> None:
        """One transaction: rows, ledger, confirmations; and after it what may be said aloud."""
        accepted = [(a, verdict) for a, verdict in verdicts if isinstance(verdict, Accepted)]
        now_s = time.monotonic()
        connected = self._connected()
        merging = flush or self._merged_s + MERGE_EVERY_S <= now_s
        looking = merging and self._controls.due(now_s)
        gathered = self._refused or self._presence or self._audit_heads or self._alarms
        waiting = looking or (merging and gathered)
        if not accepted and not waiting and not flush and self._confirmer.next_s(connected) > now_s:
            return
        with books.transaction(self._now_ms()):
            stored = [(arrival, verdict, self._store(books, verdict)) for arrival, verdict in accepted]
            states, heads = self._merge(books) if merging else ([], [])
            if looking:
                self._controls.look(books, now_s)
            # What is due is known only now, and its ranges are those of this transaction.
            for arrival, verdict, one in stored:
                self._touch(books, arrival, verdict, one, now_s)
            plans = self._confirmer.plan(now_s, connected, flush=flush)
            questions = self._confirmer.questions(now_s, connected)
            confirmations = [self._confirmation(books, plan) for plan in plans]
            asks = [self._question(books, question) for question in questions]
        self._committed_s = time.monotonic()
        if merging:
            self._merged_s = now_s
            self._presence.saved(states)
            self._audit_heads.saved(heads)
            self._refused.clear()
            self._alarms.clear()
        self._settle(stored, now_s)
        for plan, message in zip(plans, confirmations, strict=True):
            if self._publish(plan.link, message):
                self._confirmer.sent(plan, now_s)
                self.figures.confirmations += 1
            else:
                self._confirmer.unsent(plan, now_s)
        for question, message in zip(questions, asks, strict=True):
            # One that does not go is asked again when the gateway sends again.
            self._publish(question.link, message)

    def _publish(self, number: int, message: tuple[str, bytes]) -> bool:
        return self._links[number].publish(*message)

    def _store(self, books: Books, verdict: Accepted) -> Stored:
        gateway = verdict.topic.gateway
        return store(books, verdict, may_renew=self._renewal_left(gateway) >= 1)

    def _touch(self, books: Books, arrival: Arrival, verdict: Accepted, one: Stored, now_s: float) -> None:
        header = verdict.message
        self._confirmer.touch(
            one.gateway,
            arrival.link,
            one.epoch,
            max(0, header.within),
            now_s,
            fresh=header.sent >= self._opened_ms,
            knows_us=header.books == books.books_id,
            wants_cert="cert" in header.want,
            # Who introduces itself has just started, and knows no certificate of ours any more.
            introduces=bool(header.cert),
        )
        if one.renewed:
            self._confirmer.everybody(now_s)

    def _settle(self, stored: list[tuple[Arrival, Accepted, Stored]], now_s: float) -> None:
        """Count what was committed."""
        figures = self.figures
        figures.transactions += 1
        for _, verdict, one in stored:
            self._healing.taken(one.gateway, with_manifest=verdict.known is not None)
            figures.messages += 1
            figures.rows += len(verdict.rows)
            figures.readings += one.readings
            figures.redelivered += one.redelivered
            figures.conflicts += one.conflicts
            if one.gateway not in figures.gateways:
                figures.gateways.add(one.gateway)
                self._presence.known(self._intake, one.gateway, self._now_ms())
                self._audit_heads.known(self._intake, one.gateway, self._now_ms())
            if one.renewed:
                left = self._renewal_left(one.gateway)
                self._renewals[one.gateway] = (left - 1, now_s)
                log.error("the books were put back to an older state; they have a new id")

    def _renewal_left(self, gateway: str) -> float:
        left, since_s = self._renewals.get(gateway, (float(RENEWALS), 0.0))
        return min(float(RENEWALS), left + (time.monotonic() - since_s) / RENEWAL_EVERY_S)

    def _merge(self, books: Books) -> tuple[list[str], list[str]]:
        """Write what was gathered since the last transaction: refusals, alarms, states."""
        for (name, gateway), number in self._refused.items():
            books.count(name, gateway, number)
        self._alarms.save(books.connection)
        return self._presence.save(books), self._audit_heads.save(books)

    def _confirmation(self, books: Books, plan: Plan) -> tuple[str, bytes]:
        entity = self._entity
        epochs = list(plan.epochs)
        if plan.whole:
            more = books.held_of(plan.gateway, entity, EPOCHS_IN_ONE)
            epochs += [one for one in more if one not in plan.epochs][: EPOCHS_IN_ONE - len(epochs)]
        held = {e: books.held(plan.gateway, e, entity, Space.DATA) for e in epochs}
        control = {e: books.held(plan.gateway, e, entity, Space.CONTROL) for e in epochs}
        message = Confirmation(
            v=1,
            books=books.books_id,
            n=books.next_n(plan.gateway, entity),
            held={epoch: cut(ranges) for epoch, ranges in held.items() if ranges},
            control={epoch: cut(ranges) for epoch, ranges in control.items() if ranges},
            cert=self._certificate() if plan.with_cert else "",
            at=books.now_ms,
        )
        books.count("confirmations", plan.gateway)
        topic = confirm_topic(plan.gateway, entity)
        return topic, seal(topic, encode_plain(message), self._key)

    def _question(self, books: Books, question: Question) -> tuple[str, bytes]:
        message = Ask(
            v=1,
            books=books.books_id,
            n=books.next_n(question.gateway, self._entity),
            manifests=list(question.manifests),
            want=["cert"] if question.want_cert else [],
            cert=self._certificate(),
            at=books.now_ms,
            text=question.text,
        )
        topic = ask_topic(question.gateway, self._entity)
        return topic, seal(topic, encode_plain(message), self._key)

    def _certificate(self) -> str:
        return base64.b64encode(self._key.certificate_der).decode()

    def _note_state(self, gateway: str, arrival: Arrival, now_ms: int) -> None:
        """Take what a gateway says of itself."""
        refused, twins = self._presence.hear(self._intake, gateway, arrival.topic, arrival.payload, now_ms)
        self._note_refused("state", gateway, arrival.topic, refused, now_ms)
        if twins:
            self._alarms.add(Code.TWO_GATEWAYS, gateway, twins, now_ms)

    def _note_refused(
        self, what: str, gateway: str, topic: str, refused: Refused | None, now_ms: int
    ) -> None:
        if refused is not None:
            known = gateway if refused.authenticated else ""
            self._refused[f"refused.{what}.{refused.reason.value}", known] += 1
            self._alarms.add(refused.reason.value, known, refused.on(topic), now_ms)

    def _report(self, *, stopped: bool = False) -> None:
        """Write the status file and, from time to time, a line of the log."""
        now_s = time.monotonic()
        if not stopped and now_s - self._status_s < STATUS_EVERY_S:
            return
        self._status_s = now_s
        for link in self._links:
            if link.rejected > self._rejected[link.number]:
                self._rejected[link.number] = link.rejected
                text = f"broker {link.url} refused {link.rejected} confirmations: check its access rules"
                self._alarms.add(Code.BROKER_REFUSED, "", text, self._now_ms())
        for sentence in self._healing.overdue(now_s):
            log.warning("%s", sentence)
        self.figures.forgotten = self._confirmer.dropped
        self.figures.refresh(self._links, len(self._inbox), now_s, running=not stopped)
        write_status(self._status_path, self.figures)
        if stopped or now_s - self._logged_s >= LOG_EVERY_S:
            self._logged_s = now_s
            log.info("%s", self.figures.line())
