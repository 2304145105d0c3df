"""The books of a collector that is scripted: it confirms what came, save what it was told to withhold.

A neutral reader of the wire: it holds nothing but coverage. It also makes the confirmations that a gateway
must not take; each has a number of its own, by which the gateway betrays itself when it took one. Pure but
for keys and the clock.
"""

import base64
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import msgspec

from certs.signing import SigningKey
from cli.conformance.agent_evidence import header, space_of
from cli.conformance.opened import Heard
from core.codec import encode_plain, seal
from core.ids import new_books_id
from core.ranges import Range, RangeSet
from core.records import Ask, Confirmation
from core.topics import Lane, ask_topic, confirm_topic

Held = dict[str, list[Range]]


@dataclass(frozen=True, slots=True)
class Letter:
    """One message to the gateway, and what there is to know of it."""

    kind: str
    topic: str
    payload: bytes
    books: str
    n: int
    words: str


class Bookkeeper:
    """Books of one entity about one gateway. One owner."""

    def __init__(self, gateway: str, entity: str, key: SigningKey) -> None:
        self._gateway: Final = gateway
        self._entity: Final = entity
        self._key: Final = key
        self._topic: Final = confirm_topic(gateway, entity)
        self.n = 0
        self.books = new_books_id(time.time_ns() // 1_000_000)
        self._held: dict[Lane, dict[str, RangeSet]] = {Lane.LIVE: {}, Lane.CONTROL: {}}
        self._withheld: dict[str, RangeSet] = {}
        self.dirty = False
        """Something came that no confirmation told yet."""

    def take(self, heard: Heard) -> None:
        """Note what a message covers."""
        if heard.good and heard.stream is not None:
            stream = header(heard)
            held = self._held[space_of(heard)]
            held.setdefault(stream.epoch, RangeSet()).add(stream.first, stream.last)
            self.dirty = True

    def withhold(self, epoch: str, first: int, last: int) -> None:
        """Leave data sequences unconfirmed until :meth:`release`."""
        self._withheld.setdefault(epoch, RangeSet()).add(first, last)

    def release(self) -> None:
        """Confirm everything again."""
        self._withheld.clear()
        self.dirty = True

    def renew(self) -> None:
        """Make the books anew: empty, with a later id."""
        self.books = new_books_id(max(time.time_ns() // 1_000_000, int(self.books[:13]) + 1))
        self.n = 0
        self._held = {Lane.LIVE: {}, Lane.CONTROL: {}}
        self.dirty = False

    def holds(self, epoch: str, first: int, last: int) -> bool:
        """Tell whether data sequences are in the books."""
        return self._held[Lane.LIVE].get(epoch, RangeSet()).covers(first, last)

    def whole(self, epoch: str) -> RangeSet:
        """Return the data coverage of an epoch."""
        return self._held[Lane.LIVE].get(epoch, RangeSet()).copy()

    def confirmation(self, *, cert: bool = True, grown: bool = False) -> Letter:
        """Return the next confirmation, of all that is held and not withheld."""
        self.dirty = False
        kind = "growing" if grown else "good" if cert else "bare"
        words = {"growing": "it has a member x", "bare": "it brings no certificate"}.get(kind, "")
        body = encode_plain(self._made(self._data(), cert=cert, x={"later": "unknown here"} if grown else {}))
        return Letter(kind, self._topic, seal(self._topic, body, self._key), self.books, self.n, words)

    def question(
        self, ranges: Mapping[str, Sequence[Range]], manifests: Sequence[str], *, want_cert: bool
    ) -> Letter:
        """Return a question."""
        self.n += 1
        topic = ask_topic(self._gateway, self._entity)
        message = Ask(
            v=1,
            books=self.books,
            n=self.n,
            ranges={epoch: list(each) for epoch, each in ranges.items()},
            manifests=list(manifests),
            want=["cert"] if want_cert else [],
            cert=self._certificate(),
            at=time.time_ns() // 1_000_000,
            text="asked by the conformance report",
        )
        return Letter(
            "good", topic, seal(topic, encode_plain(message), self._key), self.books, self.n, "asks"
        )

    def retained(self) -> list[Letter]:
        """Return a confirmation and a question of books before these, to be published as retained."""
        books = new_books_id(int(self.books[:13]) - 86_400_000)
        confirmation = Confirmation(v=1, books=books, n=9, cert=self._certificate(), at=1)
        question = Ask(v=1, books=books, n=10, cert=self._certificate(), at=1, text="retained")
        ask = ask_topic(self._gateway, self._entity)
        return [
            Letter(
                "retained",
                self._topic,
                seal(self._topic, encode_plain(confirmation), self._key),
                books,
                9,
                "it was retained",
            ),
            Letter(
                "retained", ask, seal(ask, encode_plain(question), self._key), books, 10, "it was retained"
            ),
        ]

    def forged(self, claims: Held, strangers: Mapping[str, SigningKey], elsewhere: str) -> list[Letter]:
        """Return confirmations that claim ranges and must change nothing.

        Args:
            claims: data sequences by epoch.
            strangers: keys that are not the entity's, by the kind of letter.
            elsewhere: a gateway for which one of them is made.
        """
        letters = []

        def letter(
            kind: str, words: str, sealed_for: str, body: bytes, key: SigningKey, books: str = ""
        ) -> None:
            letters.append(
                Letter(kind, self._topic, seal(sealed_for, body, key), books or self.books, self.n, words)
            )

        def body() -> bytes:
            return encode_plain(self._made(claims))

        letter("bad-signature", "one bit of its signature is wrong", self._topic, body(), self._key)
        letters[-1] = replace(letters[-1], payload=_flipped(letters[-1].payload))
        for kind, key in strangers.items():
            text = base64.b64encode(key.certificate_der).decode()
            made = msgspec.structs.replace(self._made(claims), cert=text)
            letter(kind, f"it is signed by {key.subject} as {key.role}", self._topic, encode_plain(made), key)
        letter(
            "moved", f"it was made for {elsewhere}", confirm_topic(elsewhere, self._entity), body(), self._key
        )
        letter(
            "version-2", "it is of version 2", self._topic, body().replace(b'"v":1', b'"v":2', 1), self._key
        )
        unknown = body()[:-1] + b',"all":true}'
        letter(
            "unknown-member", "it has a member that version 1 does not know", self._topic, unknown, self._key
        )
        letter("garbage", "its body is no JSON", self._topic, body()[:-7], self._key)
        earlier = new_books_id(int(self.books[:13]) - 60_000)
        made = msgspec.structs.replace(self._made(claims), books=earlier)
        letter("earlier-books", "it is of earlier books", self._topic, encode_plain(made), self._key, earlier)
        return letters

    def _made(self, held: Held, *, cert: bool = True, x: dict[str, str] | None = None) -> Confirmation:
        self.n += 1
        control = {epoch: list(ranges) for epoch, ranges in self._held[Lane.CONTROL].items() if ranges}
        return Confirmation(
            v=1,
            books=self.books,
            n=self.n,
            held=held,
            control=control,
            cert=self._certificate() if cert else "",
            at=time.time_ns() // 1_000_000,
            x=dict(x or {}),
        )

    def _data(self) -> Held:
        found: Held = {}
        for epoch, ranges in self._held[Lane.LIVE].items():
            left = ranges.copy()
            for first, last in self._withheld.get(epoch, ()):
                left.remove(first, last)
            if left:
                found[epoch] = list(left)
        return found

    def _certificate(self) -> str:
        return base64.b64encode(self._key.certificate_der).decode()


def _flipped(payload: bytes) -> bytes:
    """Return a sealed message with one bit of its signature changed."""
    return payload[:40] + bytes([payload[40] ^ 1]) + payload[41:]
