"""Which ticks of each group were polled over all lives: what is remembered of them between two.

The spans of ticks between the steps of the clock are written down with the first row after a step, in one
transaction with it, and at each start: so however a life ends, the next one knows which ticks a clock that
was set back brings again, and which it does not.  The last span of a life needs no note: it begins with the
life, or with the step, and ends with the last committed tick.

Owned by the writer's thread.  Not here: marking rows (``agent.lived``).
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Final, NamedTuple

import msgspec

from agent.lived import Lived, Span, joined

KEY: Final = "lived"
"""The name of the note, among the readings and, as a copy for when those are lost, in the control file."""
FUTURE_MS: Final = 86_400_000
"""Without a note: a last tick so far ahead was polled by a clock that was wrong, so that nothing before it is
known to have been lived."""
HOLE_MS: Final = 60_000
"""A pause between two lives that is shorter than this counts as lived, so that notes stay small."""


class _Entry(msgspec.Struct, frozen=True, array_like=True):
    """What a note says of one group."""

    spans: list[Span]
    """Those that are over."""
    first: int | None
    """The first tick of the span that runs, where that is not the begin of the life."""
    last: int | None
    """The last committed tick when the life began."""


class _Note(msgspec.Struct, frozen=True):
    begun: int
    """When the life began, by the clock of then."""
    groups: dict[str, _Entry]


class Taken(NamedTuple):
    """What a batch of rows would add."""

    groups: dict[int, _Entry]
    runs: dict[int, Span]
    news: bool
    """A span is over, or begins where no reader could know it: to be written down with the rows."""


class LivedNote:
    """The spans of this life, and the note that holds them."""

    def __init__(
        self,
        keys: Mapping[int, str] | None = None,
        before: Mapping[str, Lived] | None = None,
        begun_ms: int = 0,
    ) -> None:
        """Begin a life: ``keys`` by group number, ``before`` by key."""
        self._keys = dict(keys or {})
        self._begun = begun_ms
        lives = before or {}
        self._groups = {
            number: _Entry(list(joined(life.spans, HOLE_MS)), None, life.last)
            for number, life in ((number, lives.get(key, Lived())) for number, key in self._keys.items())
        }
        self._runs: dict[int, Span] = {}
        """The span that runs, of groups with a row in this life."""
        self.on_change: Callable[[str], object] = lambda text: None
        """Called in the writer's thread with the text of the note when it was written."""

    def after(self, rows: Iterable[tuple[int, int, bool]]) -> Taken:
        """Return what rows add: (group, tick, whether the clock was stepped before it); nothing changes."""
        groups: dict[int, _Entry] = {}
        runs: dict[int, Span] = {}
        news = False
        for grp, tick, stepped in rows:
            run = runs.get(grp) or self._runs.get(grp)
            if run is not None and not stepped and tick > run[1]:
                runs[grp] = (run[0], tick)
                continue
            runs[grp] = (tick, tick)
            if run is None and not stepped and tick >= self._begun:
                continue
            known = groups.get(grp) or self._groups.get(grp, _Entry([], None, None))
            over = known.spans if run is None else list(joined([*known.spans, run]))
            groups[grp] = _Entry(over, tick, known.last)
            news = True
        return Taken(groups, runs, news)

    def keep(self, taken: Taken) -> None:
        """Take over what was committed."""
        self._groups |= taken.groups
        self._runs |= taken.runs
        if taken.news:
            self.on_change(self.text())

    def text(self, taken: Taken | None = None) -> str:
        """Return the note, with what is about to be committed."""
        groups = self._groups | (taken.groups if taken is not None else {})
        note = _Note(
            self._begun, {self._keys[number]: one for number, one in groups.items() if number in self._keys}
        )
        return msgspec.json.encode(note).decode()


def read_lived(text: str | None, ticks: Mapping[str, int]) -> dict[str, Lived]:
    """Return what a note says of the lives before, by group key; groups that it does not know are left out.

    ``ticks`` are the last committed ticks by key.
    """
    try:
        note = msgspec.json.decode(text or "", type=_Note)
    except msgspec.DecodeError:  # there is none, or it is damaged
        return {}
    found: dict[str, Lived] = {}
    for key, entry in note.groups.items():
        tick = ticks.get(key)
        if tick is None:
            continue
        first = entry.first
        if first is None and tick != entry.last:
            first = min(note.begun, tick)
        runs = [] if first is None else [(min(first, tick), tick)]
        found[key] = Lived(joined([*entry.spans, *runs]), tick)
    return found


def unknown(tick: int, now_ms: int) -> Lived:
    """Return what is to be taken for lived where nobody wrote it down: everything up to the last tick."""
    return Lived((), tick) if tick > now_ms + FUTURE_MS else Lived(((0, tick),), tick)
