"""Evidence of a head-end that keeps every line, made up answer by answer.

A test changes one thing in it and asks that one line fails. Nothing runs and nothing is signed.
"""

from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any

import msgspec

from cli.conformance.headend_book_lines import AFTER_CONFLICT, AFTER_KILL, LAST
from cli.conformance.headend_evidence import Answer, HeadendEvidence, HeadendLife, Look, Mark, Reading, Sent
from cli.conformance.scripted_gateway import Wanted
from core.ranges import RangeSet
from core.records import Ask, Confirmation
from core.topics import Lane, ask_topic, confirm_topic

ENTITY = "dso.example"
T0 = 1_790_000_000_000
BOOKS, AHEAD = "1790000000000-00000001", "1790000000001-00000001"
MAIN, NEW = "0" * 15 + "1", "0" * 15 + "2"
MISSING = "a" * 32
FIRST = "gw-0001"
BAD = (
    "bad-signature",
    "other-key",
    "moved",
    "other-header",
    "expired",
    "version-2",
    "unknown-member",
    "undecodable",
    "bomb",
    "bad-row",
    "not-owned",
    "wrong-lane",
    "bad-manifest",
)


@dataclass
class Story:
    """What is sent and answered, in order; a good message is answered at once."""

    sent: list[Sent] = field(default_factory=list)
    heard: list[Answer] = field(default_factory=list)
    held: dict[tuple[str, Lane, str], RangeSet] = field(default_factory=dict)
    books: str = BOOKS
    n: int = 0

    @property
    def at_ms(self) -> int:
        return T0 + 100 * (len(self.sent) + len(self.heard))

    def mark(self) -> Mark:
        return Mark(self.at_ms, len(self.heard))

    def send(
        self, label: str, first: int, last: int, epoch: str = MAIN, gateway: str = FIRST, **more: Any
    ) -> None:
        space = more.get("space", Lane.LIVE)
        good = more.get("good", True)
        self.sent.append(
            Sent(
                len(self.sent),
                self.mark(),
                gateway,
                epoch,
                space,
                first,
                last,
                label,
                good,
                1,
                more.get("words", ""),
            )
        )
        if good:
            self.held.setdefault((gateway, space, epoch), RangeSet()).add(first, last)
            self.confirm(gateway, epoch)

    def confirm(self, gateway: str, epoch: str) -> None:
        self.n += 1
        held = {e: list(r) for (g, s, e), r in self.held.items() if (g, s, e) == (gateway, Lane.LIVE, epoch)}
        control = {e: list(r) for (g, s, e), r in self.held.items() if (g, s) == (gateway, Lane.CONTROL)}
        told = Confirmation(1, self.books, self.n, held, control, "x", self.at_ms)
        self.answer(gateway, confirm_topic(gateway, ENTITY), confirmation=told)

    def ask(self, gateway: str, **more: Any) -> None:
        self.n += 1
        self.answer(gateway, ask_topic(gateway, ENTITY), ask=Ask(1, self.books, self.n, **more))

    def answer(self, gateway: str, topic: str, **told: Any) -> None:
        self.heard.append(
            Answer(len(self.heard), self.at_ms, topic, gateway, len(self.sent), 1, False, **told)
        )


def wanted(first: int, last: int, epoch: str = MAIN) -> tuple[Wanted, ...]:
    return tuple(
        Wanted(FIRST, epoch, seq, index, T0 + seq * 1000, Decimal("418.2") if seq % 2 else None, reasons)
        for seq in range(first, last + 1)
        for index in range(2)
        for reasons in [() if seq % 2 else ("later-invented",)]
    )


def look(name: str, every: tuple[Wanted, ...]) -> Look:
    return Look(
        name,
        tuple(
            Reading(
                one.gateway, one.epoch, one.seq, one.index, None if one.value is None else str(one.value),
                one.reasons, "1.5.257" if one.reasons else "1.0.0",
            )
            for one in every
        ),
    )  # fmt: skip


def evidence() -> HeadendEvidence:
    """Return it."""
    story = Story()
    lives = [HeadendLife(story.mark())]
    story.send("hello", 1, 5)
    story.send("in-order", 6, 8)
    story.send("later", 12, 14)
    story.send("filling", 9, 11)
    story.send("overlapping", 7, 16)
    story.send("patient", 17, 18)
    story.send("duplicate", 6, 8)
    for number, label in enumerate(BAD, 100):
        story.send(label, 3, 5, f"{number:016x}", good=False, words="for the test")
    story.send("again", 3, 5, f"{100:016x}")
    story.send("start-alone", 1, 1, NEW, "gw-0002")
    story.send("no-manifest", 2, 4, NEW, "gw-0002", good=False)
    story.ask("gw-0002", manifests=[MISSING])
    story.send("manifest-brought", 2, 4, NEW, "gw-0002")
    story.send("no-cert", 1, 5, NEW, "gw-0003", good=False)
    story.ask("gw-0003", want=["cert"])
    story.send("cert-brought", 1, 5, NEW, "gw-0003")
    story.send("reordered", 1, 5, NEW, "gw-0004")
    story.send("wants-cert", 19, 20)
    story.send("new-epoch", 1, 5, NEW)
    story.send("control", 1, 1, NEW, space=Lane.CONTROL)
    story.send("empty", 6, 9, NEW)
    story.send("growth", 10, 24, NEW)
    story.send("conflict", 4, 4)
    story.send("after-outage", 21, 22)
    story.send("burst", 23, 24)
    lives[0] = HeadendLife(lives[0].begun, story.mark(), "kill")
    lives.append(HeadendLife(story.mark()))
    story.send("after-kill", 25, 26)
    lives[1] = HeadendLife(lives[1].begun, story.mark(), "stop", 0)
    lives.append(HeadendLife(story.mark()))
    story.send("after-stop", 27, 28)
    marks = {"restored": story.mark()}
    story.books, story.n = AHEAD, 0
    story.send("ahead", 29, 30)
    lives[2] = HeadendLife(lives[2].begun, story.mark(), "stop", 0)
    everything = wanted(3, 30)
    every = {AFTER_CONFLICT: wanted(3, 4), AFTER_KILL: wanted(3, 24), LAST: everything}
    return HeadendEvidence(
        entity=ENTITY,
        sent=tuple(story.sent),
        heard=tuple(story.heard),
        lives=tuple(lives),
        looks={name: look(name, everything) for name in every},
        wanted=every,
        marks=marks,
        asked_for={"gw-0002": MISSING},
        named_books={"ahead": BOOKS},
    )


# --- changing one thing


def with_answer(seen: HeadendEvidence, number: int, **changes: Any) -> HeadendEvidence:
    """Return the evidence with one answer changed."""
    heard = list(seen.heard)
    heard[number] = replace(heard[number], **changes)
    return replace(seen, heard=tuple(heard))


def confirming(seen: HeadendEvidence, gateway: str, epoch: str, first: int, last: int) -> HeadendEvidence:
    """Return the evidence with a range in the last confirmation to a gateway, beside what it says."""
    number = max(one.number for one in seen.heard if one.gateway == gateway and one.confirmation is not None)
    told = seen.heard[number].confirmation
    assert told is not None
    more = {**told.held, epoch: [(first, last)]}
    return with_answer(seen, number, confirmation=msgspec.structs.replace(told, held=more))


def unconfirmed(seen: HeadendEvidence, label: str) -> HeadendEvidence:
    """Return the evidence as if no confirmation had covered the messages of a label after they were sent."""
    sent = [one for one in seen.sent if one.label == label]
    heard = []
    for answer in seen.heard:
        told = answer.confirmation
        for one in sent:
            if told is None or answer.gateway != one.gateway or answer.number < one.mark.heard:
                continue
            left = {e: r for e, r in answer.held(one.space).items() if e != one.epoch}
            field_name = "control" if one.space is Lane.CONTROL else "held"
            told = msgspec.structs.replace(told, **{field_name: left})
        heard.append(replace(answer, confirmation=told))
    return replace(seen, heard=tuple(heard))


def with_reading(seen: HeadendEvidence, name: str, at: int, **changes: Any) -> HeadendEvidence:
    """Return the evidence with one reading of a look changed."""
    readings = list(seen.looks[name].readings)
    readings[at] = replace(readings[at], **changes)
    return replace(seen, looks={**seen.looks, name: Look(name, tuple(readings))})
