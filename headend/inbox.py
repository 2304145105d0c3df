"""The bounded queue between the network threads and the writer.

What does not fit makes the network wait: the broker then stops at its window (Receive Maximum), and the
gateways at theirs. A QoS 0 message has no window and is refused when there is no room.

Not here: what the messages are.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Arrival:
    """One message as it came from a broker."""

    link: int
    """Which connection brought it."""
    generation: int
    """Which life of that connection: an acknowledgement is good in the same life only."""
    mid: int
    qos: int
    topic: str
    payload: bytes


class Inbox:
    """A queue bounded in messages and bytes. Any thread may put; one thread takes."""

    def __init__(self, messages: int = 2000, size_bytes: int = 64 << 20) -> None:
        self._messages: Final = messages
        self._size_bytes: Final = size_bytes
        self._waiting: deque[Arrival] = deque()
        self._bytes = 0
        self._closed = False
        self._woken = False
        self._changed = threading.Condition()

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, arrival: Arrival, timeout_s: float) -> bool:
        """Put a message; False when there was no room in time, or the inbox is closed."""
        with self._changed:
            room = self._changed.wait_for(lambda: self._closed or self._has_room(arrival), timeout_s)
            if not room or self._closed:
                return False
            self._waiting.append(arrival)
            self._bytes += len(arrival.payload)
            self._changed.notify_all()
        return True

    def take(
        self, size_bytes: int, messages: int, until_s: float, not_before_s: float = 0.0
    ) -> list[Arrival]:
        """Return what waits, up to a size; nothing when nothing came until `until_s`.

        With `not_before_s` what comes first waits until then for company. Times are `time.monotonic()`.
        """
        with self._changed:
            self._changed.wait_for(
                lambda: self._waiting or self._ready(), max(0.0, until_s - time.monotonic())
            )
            while self._waiting and not self._ready() and self._bytes < size_bytes:
                left = not_before_s - time.monotonic()
                if left <= 0:
                    break
                self._changed.wait(left)
            self._woken = False
            taken: list[Arrival] = []
            size = 0
            while self._waiting and len(taken) < messages and (size < size_bytes or not taken):
                arrival = self._waiting.popleft()
                size += len(arrival.payload)
                taken.append(arrival)
            self._bytes -= size
            if taken:
                self._changed.notify_all()
        return taken

    def wake(self) -> None:
        """Let :meth:`take` return now."""
        with self._changed:
            self._woken = True
            self._changed.notify_all()

    def close(self) -> None:
        """Take nothing more; what waits can still be taken."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _ready(self) -> bool:
        return self._closed or self._woken

    def _has_room(self, arrival: Arrival) -> bool:
        if not self._waiting:
            return True
        return len(self._waiting) < self._messages and self._bytes + len(arrival.payload) <= self._size_bytes
