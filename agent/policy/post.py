"""What comes by MQTT: the newest message of each topic, until it is in the spool.

The callback keeps at most one message a place, within its size, and judges nothing.  Not here: writing it
down (`agent.policy.taking`), because a disk may take a while and the event loop may not.
"""

import asyncio
from collections.abc import Mapping
from typing import Final

from core.topics import assign_topic, policy_bundle_topic, policy_timestamp_topic
from policies.trust.spool import LONGEST, Place


def policy_topics(gateway: str, segment: str) -> dict[str, Place]:
    """Return what is subscribed to, and where it belongs."""
    return {
        policy_bundle_topic(segment): Place.BUNDLE,
        policy_timestamp_topic(segment): Place.TIMESTAMP,
        assign_topic(gateway): Place.ASSIGNMENT,
    }


class Post:
    """Listens to one connection."""

    def __init__(self, topics: Mapping[str, Place]) -> None:
        self.news: Final = asyncio.Event()
        """Set when something waits."""
        self.too_long = 0
        """Messages that were longer than their place is; they were not kept."""
        self.topics: Final = dict(topics)
        """What it hears, and where it belongs."""
        self._waiting: dict[Place, bytes] = {}

    def up(self, session_present: bool) -> None:
        """Nothing to do: what is retained comes by itself."""

    def down(self) -> None:
        """Nothing to do."""

    def heard(self, topic: str, payload: bytes, retained: bool) -> None:
        """Keep a message of ours; an empty one only takes a retained one away, and says nothing."""
        place = self.topics.get(topic)
        if place is None or not payload:
            return
        if len(payload) > LONGEST[place]:
            self.too_long += 1
            return
        self._waiting[place] = payload
        self.news.set()

    def take(self) -> dict[Place, bytes]:
        """Return what waits, and forget it."""
        waiting, self._waiting = self._waiting, {}
        self.news.clear()
        return waiting

    def give_back(self, untaken: Mapping[Place, bytes]) -> None:
        """Wait on with what could not be written down, as far as nothing newer came; it is not news."""
        self._waiting = {**untaken, **self._waiting}
