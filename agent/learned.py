"""Learning what a device refuses, while it is polled: when to doubt a read, what to ask, when to plan anew.

One :class:`Learning` a device.  A read that is refused (exception 2 or 3), or that stays silent while
the device answers others, is asked no more; in its place the halves of it are, one more read a poll
at most.  What is found is planned with at once as far as is known, and asked until no read of the
new plan is refused; only then the plan in force changes, or earlier where points would wait for long.

A point that is refused by itself keeps a request of its own, which is asked at growing intervals.

Pure: time is an argument.  Relies on ``drivers.modbus.learned``.  Not here: asking
(``agent.lineworker``), keeping (``agent.learnednote``).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from agent.site import PollGroup
from drivers.modbus.learned import Largest, Learned, Refusal, Search, learned_plan
from drivers.modbus.plan import Request
from drivers.points import Table

REFUSED: Final = frozenset({"exception-2", "exception-3"})
"""Illegal address, illegal value: what a device says of a hole, and of a read that is too long."""
SILENT: Final = "timeout"
SPOILED: Final = "bad-frame"
REFUSALS_WANTED: Final = 2
"""A read is doubted when it was refused so often in a row."""
SILENCES_WANTED: Final = 3
"""And when it was silent so often, while the device answered others; frames get lost too."""
UNSURE_ANSWERS: Final = 5
"""A search that gets neither an answer nor a refusal so often in a row is given up for now."""
ADOPT_AFTER: Final = 10
"""Polls after which points that can be read do not wait for the end of a search."""
FIRST_PAUSE_S: Final = 60.0
LONGEST_PAUSE_S: Final = 3600.0
"""A point that is refused is asked again at least this often."""
CYCLE: Final = 1.1
"""Intervals within which the device must have answered something, for silence to mean a range."""

Key = tuple[Table, int, int]


def key_of(request: Request) -> Key:
    """Return which addresses a request reads."""
    return request.table, request.address, request.count


@dataclass(frozen=True, slots=True)
class Shown:
    """What was learned of a device, for people and monitors."""

    holes: tuple[str, ...]
    """Addresses that no read may cover as a whole, with the reason."""
    largest: dict[str, int]
    """Longest read by table."""


def shown(learned: Learned) -> Shown:
    """Return what was learned as it is shown."""
    holes = []
    for one in sorted(learned.refused, key=lambda one: (one.table.value, one.first, one.last)):
        span = str(one.first) if one.first == one.last else f"{one.first}-{one.last}"
        holes.append(f"{one.table.value} {span} ({one.reason})")
    return Shown(tuple(holes), {one.table.value: one.count for one in learned.largest})


def told(known: Shown) -> str:
    """Return what was learned in a sentence."""
    largest = [f"reads at most {count} of {table} at once" for table, count in known.largest.items()]
    holes = [f"refuses {hole}" for hole in known.holes]
    return "; ".join([*largest, *holes]) or "nothing is refused"


@dataclass(slots=True)
class Again:
    """When a point that is refused is asked again."""

    pause_s: float
    until: float

    def longer(self, now: float) -> None:
        """Note one more refusal."""
        self.until = now + self.pause_s
        self.pause_s = min(self.pause_s * 2, LONGEST_PAUSE_S)


class Learning:
    """What one device refuses, as far as known, and the search for the rest."""

    def __init__(self, groups: Sequence[PollGroup], learned: Learned, now: float) -> None:
        """Begin with what was known; ``groups`` are all of the device, planned with it."""
        self.learned = learned
        self._dirty = False
        """Something was found that the plan in force does not know."""
        self._gained = False
        """And a read was answered that it does not have."""
        self._polls = 0
        """Polls since the plan in force lost a read."""
        self._answered: set[Key] = set()
        """Reads that were answered in this life."""
        self._doubts: dict[Key, int] = {}
        """How often in a row reads were refused."""
        self._tried: set[Key] = set()
        """Reads that stayed silent since the device answered last."""
        self._spoiled: dict[Key, int] = {}
        """Reads whose last answer was a bad frame, the later the higher."""
        self._spoilt = 0
        self._lost: dict[Key, str] = {}
        """Reads of the plan in force that are asked no more, and why they have no answer."""
        self._search: Search | None = None
        self._pending: Request | None = None
        self._group: int = 0
        """The group whose reads are searched."""
        self._unsure = 0
        self._silences = 0
        self._quiet = Again(FIRST_PAUSE_S, now)
        """No search begins before that."""
        self._again: dict[Key, Again] = {}
        self._rejoined: dict[Key, int] = {}
        """How often a refused point answered after all: the next time it is asked later."""
        self._turn: Key | None = None
        self._alive = float("-inf")
        """When the device answered last."""
        self._groups: dict[int, PollGroup] = {}
        self._whole: dict[int, PollGroup] = {}
        """Groups of which every read was answered, by number."""
        self.adopted(groups, now)

    # --- a poll

    def calm(self, group: PollGroup) -> bool:
        """Tell whether a group is to be asked as planned: there is nothing to order, leave out or try."""
        if self._lost or self._again or self._dirty or self._spoiled or self._pending is not None:
            return False
        return self._whole.get(group.group.group) is group

    def order(self, group: PollGroup) -> list[int]:
        """Return in which order to ask: what was answered before comes first, then what was tried least.

        What got a bad frame comes last, the latest of them at the end: two of them end a poll.
        """
        keys = [key_of(request) for request in group.requests]
        if not self._spoiled and self._answered.issuperset(keys):
            self._whole[group.group.group] = group
            return list(range(len(keys)))
        return sorted(
            range(len(keys)),
            key=lambda at: (
                self._spoiled.get(keys[at], 0),
                keys[at] not in self._answered,
                keys[at] in self._tried,
                at,
            ),
        )

    def begin(self, group: PollGroup, now: float) -> None:
        """Choose which of the refused points of a group is asked in this poll: one at most."""
        self._turn = None
        if self._again:
            keys = (key_of(request) for request in group.requests)
            due = (key for key in keys if key in self._again and now >= self._again[key].until)
            self._turn = next(due, None)
        if self._dirty or self._lost:
            self._polls += 1

    def instead(self, request: Request) -> str | None:
        """Return the reason that stands for a request which is not asked in this poll."""
        if not self._lost and not self._again:
            return None
        key = key_of(request)
        if key in self._again and key != self._turn:
            refusal = self.learned.refusal(request)
            return refusal.reason if refusal is not None else None
        return self._lost.get(key)

    def once(self, request: Request) -> bool:
        """Tell whether a request is not worth a second try."""
        return key_of(request) in self._again

    def note(self, group: PollGroup, asked: Mapping[int, bytes | str], now: float) -> None:
        """Take what the requests of a poll brought; begin a search when one is doubted."""
        for answer in asked.values():
            if isinstance(answer, bytes) or answer.startswith("exception"):
                self._alive = now
                self._tried.clear()
        alive = self._is_alive(group, now)
        for index, answer in asked.items():
            request = group.requests[index]
            key = key_of(request)
            if answer == SPOILED:
                self._spoilt += 1
                self._spoiled[key] = self._spoilt
            else:
                self._spoiled.pop(key, None)
            if isinstance(answer, bytes):
                self._works(request, now)
            elif (again := self._again.get(key)) is not None:
                if answer != "line-down":
                    again.longer(now)
            elif answer in REFUSED or (answer == SILENT and alive and key not in self._answered):
                self._doubts[key] = self._doubts.get(key, 0) + 1
                wanted = REFUSALS_WANTED if answer in REFUSED else SILENCES_WANTED
                if self._doubts[key] >= wanted and self._search is None and self._pending is None:
                    self._doubt(group, request, answer, now)
            elif answer == SILENT and key not in self._answered:
                self._tried.add(key)

    def suspected(self, group: PollGroup, asked: Mapping[int, bytes | str], now: float) -> bool:
        """Tell whether silence is that of ranges never answered, of a device that answers others."""
        return self._is_alive(group, now) and not any(
            key_of(group.requests[index]) in self._answered for index in asked if index >= 0
        )

    def tell_less(self, request: Request) -> bool:
        """Tell whether this read stayed silent already, and others of the device were not asked yet."""
        if key_of(request) not in self._tried:
            return False
        others = {key_of(one) for group in self._groups.values() for one in group.requests}
        if others <= self._tried:
            self._tried.clear()
            return False
        return True

    def _is_alive(self, group: PollGroup, now: float) -> bool:
        return now - self._alive <= CYCLE * group.every_ms / 1000

    def _works(self, request: Request, now: float) -> None:
        key = key_of(request)
        if key not in self._answered:
            self._answered.add(key)
            self._gained = True
        self._doubts.pop(key, None)
        self._lost.pop(key, None)
        refusal = self.learned.refusal(request)
        if refusal is None:
            return
        self.learned = self.learned.without(refusal)
        self._rejoined[key] = self._rejoined.get(key, 0) + 1
        self._again.pop(key, None)
        for again in self._again.values():
            again.until = now  # it may be that all of them are back
        self._dirty = True

    def _doubt(self, group: PollGroup, request: Request, reason: str, now: float) -> None:
        if now < self._quiet.until:
            return
        key = key_of(request)
        self._doubts.pop(key, None)
        self._forget_answers_over(request)
        self._lost[key] = reason
        self._group = group.group.group
        self._unsure = self._silences = 0
        self._search = Search.of(request, group.points, reason)
        self._go_on(now)

    def _forget_answers_over(self, request: Request) -> None:
        self._whole.clear()
        table, first, end = request.table, request.address, request.end
        self._answered = {
            (one, at, count)
            for one, at, count in self._answered
            if one is not table or at > first or at + count < end
        }

    # --- the search

    def probe(self, group: PollGroup) -> Request | None:
        """Return the one read to ask besides the plan, None when there is none for this group."""
        return self._pending if group.group.group == self._group else None

    def told(self, group: PollGroup, answer: bytes | str, now: float) -> None:
        """Take the answer to the probe."""
        pending = self._pending
        if pending is None:
            return
        if isinstance(answer, bytes):
            self._alive = now
            self._gained = True
            self._answered.add(key_of(pending))
            self._heard(pending, True, "", now)
        elif answer in REFUSED:
            self._alive = now
            self._heard(pending, False, answer, now)
        elif answer == SILENT and self._is_alive(group, now):
            self._silences += 1
            if self._silences >= REFUSALS_WANTED:
                self._heard(pending, False, answer, now)
        else:
            self._unsure += 1
            if self._unsure >= UNSURE_ANSWERS:
                self._give_up(now)

    def _heard(self, pending: Request, accepted: bool, reason: str, now: float) -> None:
        self._unsure = self._silences = 0
        self._pending = None
        if self._search is not None:
            self._search = self._search.told(accepted, reason)
        elif not accepted:
            group = self._groups[self._group]
            self._search = Search.of(pending, group.points, reason)
        self._go_on(now)

    def _go_on(self, now: float) -> None:
        """Find the next read to ask, by what is known already as far as it goes."""
        group = self._groups[self._group]
        while True:
            if self._search is None:
                self._pending = self._untried_of_plan(group)
                return
            step = self._search.step(self._longest(self._search.request.table))
            if isinstance(step, Request):
                if self._is_accepted(step):
                    self._search = self._search.told(True)
                elif not self.learned.allows(step):
                    self._search = self._search.told(False)
                else:
                    self._pending = step
                    return
            else:
                self._found(step, now)

    def _found(self, found: Refusal | Largest, now: float) -> None:
        self.learned = self.learned.plus(found)
        self._search = None
        self._dirty = True

    def _untried_of_plan(self, group: PollGroup) -> Request | None:
        """Return the first read of the plan to come of which nobody knows whether it is accepted."""
        for request in learned_plan(group.points, group.limits, group.blocks, self.learned):
            if not self._is_accepted(request) and self.learned.refusal(request) is None:
                return request
        return None

    def _is_accepted(self, request: Request) -> bool:
        table, first, end = request.table, request.address, request.end
        return any(one is table and at <= first and end <= at + count for one, at, count in self._answered)

    def _longest(self, table: Table) -> int:
        return max((count for one, _, count in self._answered if one is table), default=0)

    def _give_up(self, now: float) -> None:
        """The device says neither yes nor no: ask as before, and try later."""
        self._search = self._pending = None
        self._lost.clear()
        self._doubts.clear()
        self._quiet.longer(now)

    # --- the plan

    @property
    def sentence(self) -> str:
        """What is known, for people."""
        return told(shown(self.learned))

    @property
    def searching(self) -> bool:
        """Tell whether something is still unknown."""
        return self._pending is not None

    def ready(self, now: float) -> bool:
        """Tell whether the plan in force should change now."""
        if not self._dirty:
            return False
        if self._pending is None and not any(now >= again.until for again in self._again.values()):
            return True
        return self._gained and self._polls >= ADOPT_AFTER

    def planned(self, group: PollGroup) -> tuple[Request, ...]:
        """Return the requests of a group by what is known now."""
        return learned_plan(group.points, group.limits, group.blocks, self.learned)

    def adopted(self, groups: Sequence[PollGroup], now: float) -> None:
        """Take the plan in force, which knows all that was learned so far."""
        self._groups = {group.group.group: group for group in groups}
        self._dirty = self._gained = False
        self._polls = 0
        self._lost = {}
        if self._search is not None:
            self._lost[key_of(self._search.request)] = self._search.reason
        requests = [request for group in groups for request in group.requests]
        refused = [key_of(request) for request in requests if self.learned.refusal(request) is not None]
        self._again = {key: self._again.get(key) or self._first_again(key, now) for key in refused}
        keys = {key_of(request) for request in requests}
        self._doubts = {key: count for key, count in self._doubts.items() if key in keys}
        self._spoiled = {key: turn for key, turn in self._spoiled.items() if key in keys}
        self._turn = None

    def _first_again(self, key: Key, now: float) -> Again:
        pause = min(FIRST_PAUSE_S * 2 ** min(self._rejoined.get(key, 0), 10), LONGEST_PAUSE_S)
        return Again(min(pause * 2, LONGEST_PAUSE_S), now + pause)

    def forget(self, now: float) -> None:
        """Know nothing any more; the caller plans anew and says so by :meth:`adopted`."""
        self.learned = Learned()
        self._search = self._pending = None
        self._lost.clear()
        self._doubts.clear()
        self._answered.clear()
        self._whole.clear()
        self._tried.clear()
        self._spoiled.clear()
        self._rejoined.clear()
        self._again.clear()
        self._quiet = Again(FIRST_PAUSE_S, now)
        self._dirty = True
