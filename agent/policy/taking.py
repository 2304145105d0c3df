"""From the spool into force: what every source offers is tried, and what is to be believed is taken.

Blocking, in a thread of its own; one owner.  Not here: when (`agent.policy.keeper`).
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from policies.trust.floor import raised
from policies.trust.folder import Memory, PolicyFolder
from policies.trust.generations import read_bounded
from policies.trust.held import Held
from policies.trust.inforce import Readings
from policies.trust.refusals import PolicyRefused, Why
from policies.trust.spool import LONGEST, Offer, Place, Spool

log = logging.getLogger(__name__)

MQTT: Final = "mqtt"
FOLDER: Final = "folder"
_HARMLESS: Final = frozenset({Why.ROLLBACK, Why.EXPIRED, Why.INCOMPLETE, Why.NEEDS_NEWER})


@dataclass(frozen=True, slots=True)
class Refusal:
    """What was not taken, from where, and why."""

    source: str
    what: str
    why: Why
    text: str


@dataclass(frozen=True, slots=True)
class Taken:
    """What is held after a look, and what was refused in it."""

    held: Held | None
    memory: Memory
    refused: tuple[Refusal, ...] = ()


class Taking:
    """The policy's folder and its spool below the data directory."""

    def __init__(
        self,
        base: Path,
        built_in: bytes,
        gateway: str,
        folder: Path | None,
        readings: Readings,
        at_step: Callable[[str], None] = lambda step: None,
    ) -> None:
        """``folder``: where files may be laid by hand, as `portico policy publish` writes them."""
        self._folder: Final = PolicyFolder(base, built_in, gateway, readings.check, at_step)
        self._spool: Final = Spool(base / "spool", (MQTT, FOLDER))
        self._laid: Final = folder
        self._gateway: Final = gateway
        self._holds = False

    def load(self, memory: Memory) -> Taken:
        """Return the last good policy, verified again."""
        return self._after(self._folder.load(memory), memory)

    def keep(self, waiting: Mapping[Place, bytes]) -> bool:
        """Put what came by MQTT, and what lies in the folder, into the spool; tell whether there is news."""
        news = [self._put(MQTT, place, content) for place, content in waiting.items()]
        news += [self._put(FOLDER, place, content) for place, content in self._lying().items()]
        return any(news)

    def look(self, memory: Memory, clock_ms: int) -> Taken:
        """Try everything on offer; what is refused changes nothing."""
        held: Held | None = None
        refused: list[Refusal] = []
        taken = False
        for offer in self._spool.offers():
            found, why = self._try(offer, memory, clock_ms)
            if found is not None:
                held, memory, taken = found, _remembered(found, memory), True
            elif why is not None:
                refused.append(Refusal(offer.source, "policy", why.why, str(why)))
        if self._holds:  # that it is not renewed shows in its freshness
            refused = [one for one in refused if one.why is not Why.EXPIRED]
        refused = _worth_telling(refused, taken)
        late: list[Refusal] = []
        taken = False
        for source, raw in self._spool.assignments():
            try:
                held = self._folder.assign(raw, memory, clock_ms)
                memory, taken = _remembered(held, memory), True
            except PolicyRefused as error:
                late.append(Refusal(source, "assignment", error.why, str(error)))
        if held is None:
            held = self._folder.load(memory)
        told = (*refused, *_worth_telling(late, taken))
        return replace(self._after(held, memory), refused=told)

    def _try(self, offer: Offer, memory: Memory, clock_ms: int) -> tuple[Held | None, PolicyRefused | None]:
        why = offer.unread
        for files in offer.sets:
            try:
                return self._folder.refresh(files, memory, clock_ms), None
            except PolicyRefused as error:
                why = why or error
        return None, why

    def _after(self, held: Held | None, memory: Memory) -> Taken:
        self._holds = held is not None
        return Taken(held, memory if held is None else _remembered(held, memory))

    def _put(self, source: str, place: Place, content: bytes) -> bool:
        try:
            return self._spool.put(source, place, content)
        except PolicyRefused as error:
            log.warning("%s from %s was not kept: %s", place.value, source, error)
            return False

    def _lying(self) -> dict[Place, bytes]:
        """Return what lies in the folder: nothing, as long as no stick is in."""
        if self._laid is None:
            return {}
        paths = {
            Place.BUNDLE: self._laid / Place.BUNDLE.value,
            Place.TIMESTAMP: self._laid / Place.TIMESTAMP.value,
            Place.ASSIGNMENT: self._laid / "assign" / f"{self._gateway}.json",
        }
        found = {}
        for place, path in paths.items():
            try:
                content = read_bounded(path, LONGEST[place])
            except PolicyRefused as error:
                log.warning("%s is not taken: %s", path, error)
                continue
            if content:
                found[place] = content
        return found


def _worth_telling(refused: list[Refusal], taken: bool) -> list[Refusal]:
    """Leave out what is merely older, or half there, while another source brought what counts."""
    return [one for one in refused if not (taken and one.why in _HARMLESS)]


def _remembered(held: Held, memory: Memory) -> Memory:
    last = memory.last if held.assignment is None else held.assignment.last
    return Memory(raised(memory.floor, held.verified), last)
