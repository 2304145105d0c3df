"""Alarms of the gateway: each is told when it begins and when it ends, not while it lasts."""

import logging
from collections.abc import Callable
from typing import Protocol

from core.records import Alarm, Record

log = logging.getLogger(__name__)


class ControlSink(Protocol):
    """Takes records of the control lane; see ``agent.store.store.Store``."""

    def append_control(self, at_ms: int, make: Callable[[int], Record]) -> bool: ...


class Shared:
    """Alarms that several parts may raise alike: on from the first of them to the last."""

    def __init__(self, tell: Callable[[str, bool, str], None]) -> None:
        self._tell = tell
        self._raised: set[tuple[str, str]] = set()

    def of(self, name: str) -> Callable[[str, bool, str], None]:
        """Return what one of them calls: (code, raised, text)."""

        def tell(code: str, raised: bool, text: str) -> None:
            (self._raised.add if raised else self._raised.discard)((code, name))
            if raised or all(code != other for other, _ in self._raised):
                self._tell(code, raised, text)

        return tell


class Alarms:
    """Which alarms are on; writes one record for each change."""

    def __init__(self, sink: ControlSink, now_ms: Callable[[], int]) -> None:
        self.raised: dict[tuple[str, str], str] = {}
        """Text by (code, device)."""
        self._sink = sink
        self._now_ms = now_ms

    def tell(self, code: str, raised: bool, text: str, device: str = "") -> None:
        """Note that an alarm is on or off; nothing is written when it was so already."""
        key = (code, device)
        if raised == (key in self.raised):
            return
        if raised:
            self.raised[key] = text
        else:
            del self.raised[key]
        at = self._now_ms()
        made = self._sink.append_control(at, lambda seq: Alarm(seq, at, code, raised, text, device))
        if not made:
            log.error("alarm %s could not be kept: %s", code, text)
