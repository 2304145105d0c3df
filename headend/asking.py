"""A question put to a gateway by a person: send these sequences again.

It is signed, and counted in the books like those of a running collector; the gateway answers in its
stream, within its budget for questions. What nobody can answer, as far as the books know, is not asked;
what is doubtful is asked, and the doubts are told.
"""

from __future__ import annotations

import base64
import difflib
import os
import sqlite3
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from certs.contexts import client_context
from certs.signing import SigningKey
from core.codec import encode_plain, seal
from core.errors import PorticoError, Rejected, Unreachable
from core.ranges import RangeSet
from core.records import Ask
from core.topics import ask_topic
from headend.books import Books
from headend.config import HeadendConfig
from headend.inbox import Inbox
from headend.instants import instant
from headend.ledger import Ledger, Space, decode_ranges
from headend.link import NOBODY_LISTENS, Link

TIMEOUT_S: Final = 15.0
FAILED_S: Final = 3.0
"""A connection that failed is tried on for so long."""
SILENT_MS: Final = 600_000
"""A gateway that was not heard of for so long may be off line."""
NAMED: Final = 5


class Unanswerable(PorticoError):
    """Nobody can answer the question, by what the books know."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Data sequences of an epoch of a gateway."""

    gateway: str
    epoch: str
    first: int
    last: int

    def __str__(self) -> str:
        return f"{self.gateway}: send {self.epoch} {self.first}..{self.last} again"


@dataclass(frozen=True, slots=True)
class Asked:
    """A question that went out."""

    n: int
    """Its number."""
    doubts: tuple[str, ...]
    """Brokers that it did not reach, one sentence each."""


def doubts(connection: sqlite3.Connection, wanted: Wanted, entity: str, now_ms: int) -> tuple[str, ...]:
    """Return why there may be no answer, one sentence each.  Raises Unanswerable when there will be none."""
    gateway, epoch = wanted.gateway, wanted.epoch
    known = dict(connection.execute("SELECT gateway, last_seen_ms FROM gateway").fetchall())
    if gateway not in known:
        raise Unanswerable(
            f"not asked ({wanted}): the books know no gateway {gateway}{_near(gateway, known)}"
        )
    found: list[str] = []
    if now_ms - known[gateway] > SILENT_MS:
        found.append(f"{gateway} was heard last at {instant(known[gateway])}: it answers when it is on line")
    every = connection.execute(
        "SELECT gateway, no, closed_last, lost, low FROM epoch WHERE epoch=?", (epoch,)
    ).fetchall()
    own = next((row[1:] for row in every if row[0] == gateway), None)
    if own is None and every:
        raise Unanswerable(f"not asked ({wanted}): epoch {epoch} is of {every[0][0]}, ask that one")
    if own is None:
        found.append(f"the books know nothing of epoch {epoch}: it answers only if its store has it")
        return tuple(found)
    no, closed_last, lost, low = own
    left = RangeSet([(wanted.first, wanted.last)])
    if closed_last is not None and closed_last < wanted.last:
        left.remove(max(wanted.first, closed_last + 1), wanted.last)
    if low > wanted.first:
        left.remove(wanted.first, min(low - 1, wanted.last))
    for first, last in decode_ranges(lost):
        left.remove(first, last)
    gone = _told(left.missing(wanted.first, wanted.last))
    end = "" if closed_last is None else f", and the epoch ended with {closed_last}"
    if not left:
        raise Unanswerable(f"not asked ({wanted}): the store of {gateway} has none of these{end}")
    if gone:
        found.append(f"the store of {gateway} no longer has {gone}{end}")
    held = Ledger(connection).held(no, entity, Space.DATA)
    if not held:
        found.append(f"nothing of this epoch came to {entity}: it answers only if it has a route to it")
    highest = max((last for _, last in held), default=0)
    beyond = _told(left.overlap(highest + 1, wanted.last)) if wanted.last > highest else ""
    if held and closed_last is None and beyond:
        found.append(f"the books know this epoch up to {highest}: it may have no {beyond}")
    there = _told(held.overlap(wanted.first, wanted.last))
    if there:
        found.append(f"the books hold {there} already: what comes again is counted as redelivered")
    return tuple(found)


def _near(gateway: str, known: Sequence[str] | dict[str, int]) -> str:
    close = difflib.get_close_matches(gateway, list(known), 1)
    if close:
        return f"; did you mean {close[0]}?"
    if not known:
        return ", nor any other: start the collector and let a gateway send first"
    names = ", ".join(sorted(known)[:NAMED])
    return f": they know {names}" + (f" and {len(known) - NAMED} more" if len(known) > NAMED else "")


def _told(ranges: Sequence[tuple[int, int]]) -> str:
    text = ", ".join(f"{first}..{last}" for first, last in ranges[:NAMED])
    return text + (f" and {len(ranges) - NAMED} ranges more" if len(ranges) > NAMED else "")


def ask_again(config: HeadendConfig, wanted: Wanted, now_ms: int) -> Asked:
    """Ask over every broker of the configuration.

    Raises Unreachable when no broker is there, and Rejected when they refuse the question or know of
    nobody who would hear it.
    """
    entity, gateway = config.headend.entity, wanted.gateway
    key = SigningKey.load(config.signing.key, config.signing.cert)
    inbox = Inbox()
    links: list[Link] = []
    for number, broker in enumerate(config.broker):
        context = None
        if broker.ca is not None and broker.cert is not None and broker.key is not None and broker.tls:
            context = client_context(broker.ca, broker.cert, broker.key)
        passing = broker.model_copy(update={"session_expiry_s": 0})
        links.append(Link(number, passing, f"{entity}-ask-{os.getpid()}", [], context, inbox))
    try:
        for link in links:
            link.start()
        reached = _reached(links)
        unreached = tuple(
            link.failure or f"no answer from {link.url}" for link in links if link not in reached
        )
        if not reached:
            raise Unreachable(f"not asked ({wanted}): {unreached[0]}")
        books = Books(config.headend.books, now_ms)
        try:
            with books.transaction(now_ms):
                n = books.next_n(gateway, entity)
                books_id = books.books_id
        finally:
            books.close()
        certificate = base64.b64encode(key.certificate_der).decode()
        ranges = {wanted.epoch: [(wanted.first, wanted.last)]}
        message = Ask(v=1, books=books_id, n=n, ranges=ranges, cert=certificate, at=now_ms)
        topic = ask_topic(gateway, entity)
        payload = seal(topic, encode_plain(message), key)
        for link in reached:
            link.publish(topic, payload)
        _wait(reached, wanted)
        return Asked(n, unreached)
    finally:
        for link in links:
            link.stop()


def _reached(links: list[Link]) -> list[Link]:
    """Wait for the connections, for those that failed not long; return which there are."""
    began_s = time.monotonic()
    while True:
        waited_s = time.monotonic() - began_s
        open_ = [link for link in links if not link.connected and not (link.failure and waited_s > FAILED_S)]
        if not open_ or waited_s > TIMEOUT_S:
            return [link for link in links if link.connected]
        time.sleep(0.01)


def _wait(links: list[Link], wanted: Wanted) -> None:
    """Wait until each broker has said something to the question."""
    end_s = time.monotonic() + TIMEOUT_S
    while time.monotonic() < end_s:
        if all(link.delivered or link.rejected for link in links):
            break
        time.sleep(0.01)
    taken = [link for link in links if link.delivered]
    if not taken:
        refused = next((link for link in links if link.rejected), None)
        if refused is not None:
            raise Rejected(0x87, f"broker {refused.url} refuses the question: check its access rules")
        raise Unreachable(f"broker {links[0].url} did not take the question in {TIMEOUT_S:g} s: try again")
    if all(link.unheard for link in taken):
        raise Rejected(
            NOBODY_LISTENS,
            f"nobody heard the question ({wanted}): {wanted.gateway} has no session at {taken[0].url}; "
            "ask again when it is on line",
        )
