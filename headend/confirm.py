"""When a gateway is due a confirmation or a question, and what stands in it.

Each gateway says within how many seconds it would like to hear; the smallest wish since its first
unconfirmed message counts, and nobody hears more often than :data:`SPACING_S`. A confirmation names the
epochs that were touched since the last one, with all that the ledger holds of them, also when what
touched them was known before: then the gateway has missed a confirmation.

:class:`Confirmer` keeps what is due and has no clock, no books and no network of its own.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final

from core.ranges import Range, RangeSet

SPACING_S: Final = 0.2
GATE_S: Final = 10.0
"""How long the first confirmation of our life to a gateway waits for a message that was written after our
life began: it tells which confirmation the gateway took last, before ours blurs the trace of books that
went back in time."""
EPOCHS_IN_ONE: Final = 32
RANGES_IN_ONE: Final = 200
EPOCHS_WAITING: Final = 4096
"""Touched epochs remembered for one gateway; of more, the oldest wait until the gateway sends again."""
ASK_SPACING_S: Final = 3.0
TELL_SPACING_S: Final = 60.0
"""A gateway whose messages are refused is told so, and why, that often."""
MANIFESTS_ASKED: Final = 16
STRANGERS: Final = 1000
"""Gateways whose key is not known yet, and that are asked for their certificate."""
ASKS_IN_ONE_GO: Final = 20


@dataclass(slots=True)
class _Due:
    link: int
    epochs: OrderedDict[str, None] = field(default_factory=OrderedDict)
    since_s: float = 0.0
    within_s: float = 0.0
    sent_s: float = -1e9
    gate_s: float = 0.0
    introduced: bool = False
    """Our certificate went along once since we started."""
    whole: bool = False
    """The gateway does not know these books: it hears of all that is held."""


@dataclass(slots=True)
class _Question:
    link: int
    manifests: OrderedDict[str, None] = field(default_factory=OrderedDict)
    want_cert: bool = False
    text: str = ""
    asked_s: float = -1e9

    @property
    def urgent(self) -> bool:
        return bool(self.manifests) or self.want_cert

    @property
    def due_s(self) -> float:
        return self.asked_s + (ASK_SPACING_S if self.urgent else TELL_SPACING_S)


@dataclass(frozen=True, slots=True)
class Plan:
    """One confirmation to make: for whom, about which epochs, over which connection."""

    gateway: str
    link: int
    epochs: tuple[str, ...]
    whole: bool
    with_cert: bool


@dataclass(frozen=True, slots=True)
class Question:
    """One question to put."""

    gateway: str
    link: int
    manifests: tuple[str, ...]
    want_cert: bool
    text: str


class Confirmer:
    """What is owed to whom. One owner. All times are monotonic seconds."""

    def __init__(self) -> None:
        self._due: dict[str, _Due] = {}
        self._owed: dict[str, _Due] = {}
        self._questions: OrderedDict[str, _Question] = OrderedDict()
        self.dropped = 0
        """Touched epochs that were not remembered for want of room."""

    def touch(
        self,
        gateway: str,
        link: int,
        epoch: str,
        within_s: float,
        now_s: float,
        *,
        fresh: bool,
        knows_us: bool,
        introduces: bool,
        wants_cert: bool,
    ) -> None:
        """Note that a message of a gateway is in the books; `fresh`: written after our life began."""
        due = self._due.get(gateway)
        if due is None:
            due = self._due[gateway] = _Due(link, gate_s=now_s + GATE_S)
        if fresh:
            due.gate_s = 0.0
        due.link = link
        if not due.epochs:
            due.since_s, due.within_s = now_s, within_s
        due.within_s = min(due.within_s, within_s)
        due.epochs[epoch] = None
        self._owed[gateway] = due
        if len(due.epochs) > EPOCHS_WAITING:
            due.epochs.popitem(last=False)
            self.dropped += 1
        if wants_cert:
            due.within_s = 0.0
        if wants_cert or introduces:
            # Who introduces itself has just started, and knows no certificate of ours any more.
            due.introduced = False
        # Who lacks our certificate could not read what we said before: it hears of everything again.
        due.whole = due.whole or wants_cert or not knows_us
        question = self._questions.get(gateway)
        if question is not None and question.want_cert:
            question.want_cert = False

    def everybody(self, now_s: float) -> None:
        """The books have a new id: each gateway that was heard of is to know, of all that is held."""
        for gateway, due in self._due.items():
            self._owed[gateway] = due
            due.whole = True
            if not due.epochs:
                due.since_s = now_s
            due.within_s = 0.0

    def ask(self, gateway: str, link: int, manifest: str, want_cert: bool, text: str) -> None:
        """Note what is missing (a manifest by its hash, the gateway's certificate), or what was refused."""
        question = self._questions.setdefault(gateway, _Question(link))
        question.link = link
        if manifest:
            question.manifests[manifest] = None
            if len(question.manifests) > MANIFESTS_ASKED:
                question.manifests.popitem(last=False)
        question.want_cert = question.want_cert or want_cert
        question.text = text
        self._questions.move_to_end(gateway)
        while len(self._questions) > STRANGERS:
            self._questions.popitem(last=False)

    def plan(self, now_s: float, connected: set[int], *, flush: bool = False) -> list[Plan]:
        """Return the confirmations that are due; with `flush` all that are owed."""
        plans = []
        for gateway, due in self._owed.items():
            if due.link in connected and (flush or now_s >= _when(due)):
                epochs = tuple(due.epochs)[:EPOCHS_IN_ONE]
                plans.append(Plan(gateway, due.link, epochs, due.whole, not due.introduced))
        return plans

    def sent(self, plan: Plan, now_s: float) -> None:
        """Note that a confirmation was handed to the broker's connection."""
        due = self._due[plan.gateway]
        for epoch in plan.epochs:
            due.epochs.pop(epoch, None)
        due.sent_s = due.since_s = now_s
        due.introduced = due.introduced or plan.with_cert
        due.whole = due.whole and not plan.whole
        if not due.epochs and not due.whole:
            del self._owed[plan.gateway]

    def unsent(self, plan: Plan, now_s: float) -> None:
        """Take back a confirmation that the connection did not accept: it is owed again."""
        due = self._due[plan.gateway]
        due.epochs.update(dict.fromkeys(plan.epochs))
        due.whole = due.whole or plan.whole
        due.introduced = due.introduced and not plan.with_cert
        due.since_s = due.sent_s = now_s
        self._owed[plan.gateway] = due

    def questions(self, now_s: float, connected: set[int]) -> list[Question]:
        """Return the questions that are due, and take them as put."""
        put: list[Question] = []
        for gateway, one in list(self._questions.items()):
            if not one.urgent and not one.text:
                if now_s > one.due_s:
                    del self._questions[gateway]
                continue
            if one.link not in connected or now_s < one.due_s:
                continue
            if len(put) >= ASKS_IN_ONE_GO:
                break
            put.append(Question(gateway, one.link, tuple(one.manifests), one.want_cert, one.text))
            one.manifests.clear()
            one.want_cert, one.text, one.asked_s = False, "", now_s
        return put

    def next_s(self, connected: set[int]) -> float:
        """Return when something may be due next over these connections."""
        due = (_when(one) for one in self._owed.values() if one.link in connected)
        asks = (
            one.due_s
            for one in self._questions.values()
            if one.link in connected and (one.urgent or one.text)
        )
        return min([*due, *asks], default=float("inf"))


def _when(due: _Due) -> float:
    return max(due.since_s + due.within_s, due.sent_s + SPACING_S, due.gate_s)


def cut(ranges: RangeSet) -> list[Range]:
    """Return at most :data:`RANGES_IN_ONE` ranges: the oldest and the newest, which matter most."""
    every = list(ranges)
    if len(every) <= RANGES_IN_ONE:
        return every
    half = RANGES_IN_ONE // 2
    return every[:half] + every[-half:]
