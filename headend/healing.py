"""Refusals that heal by themselves: told quietly, and aloud when they have not healed in time.

A collector that meets a gateway for the first time, or opens new books, lacks its certificate and its
manifests; it asks for them and has them with the next message. Only when that does not happen should a
person look. Counts and alarms are not concerned. Time is an argument; one owner.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from headend.intake import Refusal

HEALS: Final = frozenset({Refusal.UNKNOWN_KEY, Refusal.MANIFEST_MISSING})
HEAL_S: Final = 60.0
"""So long a gateway has to answer; it does so within a second when it is on line."""
REMEMBERED: Final = 1024
"""Names on topics may be made up: beyond this the oldest is forgotten."""


@dataclass(slots=True)
class _Open:
    text: str
    since_s: float
    told: bool = False


class Healing:
    """What has not healed yet, by gateway and cause."""

    def __init__(self) -> None:
        self._open: OrderedDict[tuple[str, Refusal], _Open] = OrderedDict()

    def quiet(self, gateway: str, reason: Refusal, text: str, now_s: float) -> bool:
        """Note a refusal; True when it may still heal by itself and is not worth a warning."""
        if reason not in HEALS:
            return False
        known = self._open.setdefault((gateway, reason), _Open(text, now_s))
        known.text = text
        if len(self._open) > REMEMBERED:
            self._open.popitem(last=False)
        return not known.told

    def taken(self, gateway: str, *, with_manifest: bool) -> None:
        """Note that a message was taken: its key is known, and if it needed a manifest, that one too."""
        self._open.pop((gateway, Refusal.UNKNOWN_KEY), None)
        if with_manifest:
            self._open.pop((gateway, Refusal.MANIFEST_MISSING), None)

    def overdue(self, now_s: float) -> list[str]:
        """Return, once each, what has not healed in time."""
        found = []
        for (gateway, reason), one in self._open.items():
            if not one.told and now_s - one.since_s >= HEAL_S:
                one.told = True
                found.append(
                    f"messages of {gateway} are refused for {now_s - one.since_s:.0f} s "
                    f"({reason.value}: {one.text}): it does not answer the question, look at its log"
                )
        return found
