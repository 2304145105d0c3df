"""What was seen of a head-end from outside: what it was sent, what it said to it, what its books show.

Plain nouns, gathered by `headend_session` and judged by `headend_lines`. Pure.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from functools import cached_property
from typing import Final, NamedTuple

from cli.conformance.scripted_gateway import Wanted
from core.ranges import Range, RangeSet
from core.records import Ask, Confirmation
from core.topics import ROOT, Lane

GOOD_CODE: Final = "1.0.0"


class Mark(NamedTuple):
    """An instant of the scenario: the wall clock, and how many answers had come."""

    at_ms: int
    heard: int


@dataclass(frozen=True, slots=True)
class Sent:
    """One message that was sent to the head-end."""

    number: int
    mark: Mark
    gateway: str
    epoch: str
    space: Lane
    first: int
    last: int
    label: str
    """What it is for."""
    good: bool = True
    """It is to be taken and confirmed."""
    within_s: int = 1
    words: str = ""
    """What is wrong with it."""

    def __str__(self) -> str:
        what = f" ({self.words})" if self.words else ""
        return f"message {self.number} of {self.gateway}, {self.epoch}/{self.first}..{self.last}{what}"


@dataclass(frozen=True)
class Answer:
    """One confirmation or question."""

    number: int
    at_ms: int
    topic: str
    gateway: str
    """By its topic; empty: it is no topic for confirmations and questions of the entity."""
    sent: int
    """How many messages had been sent to the head-end before it came."""
    qos: int
    retained: bool
    unused: tuple[str, ...] = ()
    signature_fault: str = ""
    form_fault: str = ""
    confirmation: Confirmation | None = None
    ask: Ask | None = None

    @property
    def good(self) -> bool:
        """Whether a gateway may act on it."""
        return not self.signature_fault and not self.form_fault and not self.retained

    @property
    def told(self) -> Confirmation | Ask | None:
        """What it says."""
        return self.confirmation or self.ask

    def held(self, space: Lane) -> Mapping[str, list[Range]]:
        """Return what it confirms of a space."""
        if self.confirmation is None:
            return {}
        return self.confirmation.control if space is Lane.CONTROL else self.confirmation.held

    def __str__(self) -> str:
        told = self.told
        where = self.topic.removeprefix(f"{ROOT}/")
        return f"answer {self.number} on {where}" + (f", n {told.n}" if told is not None else "")


@dataclass(frozen=True, slots=True)
class Reading:
    """One reading as the head-end shows it."""

    gateway: str
    epoch: str
    seq: int
    index: int
    value: object
    reasons: tuple[str, ...]
    quality: str

    @property
    def identity(self) -> tuple[str, str, int, int]:
        """What names it for ever."""
        return self.gateway, self.epoch, self.seq, self.index

    def shows(self, wanted: Wanted) -> bool:
        """Tell whether it has the value that was sent."""
        value = wanted.value
        if isinstance(value, Decimal):
            if isinstance(self.value, float | bool) or self.value is None:
                return False  # a binary float is not exact
            try:
                return Decimal(str(self.value)) == value
            except InvalidOperation:
                return False
        return self.value == value and isinstance(self.value, bool) is isinstance(value, bool)


@dataclass(frozen=True, slots=True)
class Look:
    """The books as they were shown at one time."""

    name: str
    readings: tuple[Reading, ...] = ()
    fault: str = ""
    """Why they could not be shown."""


@dataclass(frozen=True, slots=True)
class HeadendLife:
    """One start of the program."""

    begun: Mark
    ended: Mark | None = None
    how: str = ""
    """`stop` or `kill`; empty: by itself, or not yet."""
    exit_code: int | None = None
    words: str = ""
    """What it said last, when it ended by itself."""


@dataclass(frozen=True)
class HeadendEvidence:
    """Everything seen in one run."""

    entity: str
    sent: tuple[Sent, ...]
    heard: tuple[Answer, ...]
    lives: tuple[HeadendLife, ...] = ()
    looks: Mapping[str, Look] = field(default_factory=dict)
    wanted: Mapping[str, tuple[Wanted, ...]] = field(default_factory=dict)
    """By look: readings that must be in the books by then."""
    marks: Mapping[str, Mark] = field(default_factory=dict)
    asked_for: Mapping[str, str] = field(default_factory=dict)
    """By gateway: the name of the manifest that it did not bring."""
    named_books: Mapping[str, str] = field(default_factory=dict)
    """Books ids that the gateway named although these books never gave them, by label."""
    answer_s: float = 15.0

    @cached_property
    def confirmations(self) -> tuple[Answer, ...]:
        """Confirmations that a gateway may act on."""
        return tuple(one for one in self.heard if one.good and one.confirmation is not None)

    @cached_property
    def asks(self) -> tuple[Answer, ...]:
        """Questions that a gateway may act on."""
        return tuple(one for one in self.heard if one.good and one.ask is not None)

    def labelled(self, *labels: str) -> list[Sent]:
        """Return the messages of some labels."""
        return [one for one in self.sent if one.label in labels]

    def covered_by_good(self, gateway: str, epoch: str, space: Lane, until: int) -> RangeSet:
        """Return what good messages covered among the first so many that were sent."""
        found = RangeSet()
        for one in self.sent[:until]:
            if one.good and (one.gateway, one.epoch, one.space) == (gateway, epoch, space):
                found.add(one.first, one.last)
        return found

    def overclaims(self) -> Iterator[tuple[Answer, str, Lane, Range]]:
        """Yield what was confirmed and no good message had covered by then."""
        for answer in self.confirmations:
            for space in (Lane.LIVE, Lane.CONTROL):
                for epoch, ranges in answer.held(space).items():
                    good = self.covered_by_good(answer.gateway, epoch, space, answer.sent)
                    for first, last in ranges:
                        for hole in good.missing(first, last):
                            yield answer, epoch, space, hole

    def confirmed(self, sent: Sent, until: int = 1 << 60) -> Answer | None:
        """Return the first confirmation after a message that covers it, None when none does."""
        for answer in self.confirmations:
            if not sent.mark.heard <= answer.number < until or answer.gateway != sent.gateway:
                continue
            if RangeSet(answer.held(sent.space).get(sent.epoch, ())).covers(sent.first, sent.last):
                return answer
        return None
