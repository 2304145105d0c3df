"""Notices a route whose messages the broker takes and nobody confirms.

Nothing is lost by that, since the store keeps what is not confirmed; but nothing arrives
either, and from the box all looks well: connected, published, acknowledged.  A collector
that does not trust our certificate says nothing to us, nor does one that is not running.

Pure: time is an argument.  Not here: what is sent again, and when (``agent.uplink.outbox``).
"""

import logging
from collections.abc import Callable
from typing import Final

from agent.uplink.sender import RouteCounts, RouteOptions

log = logging.getLogger(__name__)

CODE: Final = "unconfirmed"
PATIENCE_S: Final = 120.0
"""A collector may be started anew, and a broker too, before anybody is told."""
WITHIN_TIMES: Final = 10
"""So many times what was asked for, and it is no delay any more."""


class Unconfirmed:
    """Of one route: since when messages were acknowledged and no confirmation came."""

    def __init__(
        self,
        options: RouteOptions,
        counts: RouteCounts,
        broker: str,
        on_alarm: Callable[[str, bool, str], None],
    ) -> None:
        self._options = options
        self._counts = counts
        self._broker = broker
        self._on_alarm = on_alarm
        self._since: float | None = None
        self._acked = counts.acked
        self._confirmations = counts.confirmations
        self._told = False

    def look(self, now: float, connected: bool) -> None:
        """Compare with the look before; every few seconds, and whenever something happened."""
        acked, self._acked = self._acked, self._counts.acked
        confirmations, self._confirmations = self._confirmations, self._counts.confirmations
        if confirmations != self._counts.confirmations:
            self._since = None
            if self._told:
                self._tell(False, f"what broker {self._broker} takes is confirmed again")
            return
        if not connected:  # what the broker held may have gone with it: begin anew with the next message
            self._since = None
        elif self._since is None:
            self._since = now if self._counts.acked > acked else None
        elif not self._told and now - self._since >= max(WITHIN_TIMES * self._options.within_s, PATIENCE_S):
            self._tell(True, sentence(self._broker, now - self._since))

    def _tell(self, raised: bool, text: str) -> None:
        self._told = raised
        log.warning("route %s: %s", self._options.name, text)
        self._on_alarm(CODE, raised, text)


def sentence(broker: str, seconds: float) -> str:
    """Say what is the matter and where to look; it names no entity, since every one may read it."""
    return (
        f"broker {broker} takes our messages, but nobody confirmed one for {seconds:.0f} s: the collector "
        "does not run, has no room, or does not trust our signing certificate (its log says so), or "
        "we do not trust its own (trust in the route); all is kept here meanwhile"
    )
