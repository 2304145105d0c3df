"""Where a line notes what it was asked, and what came of it.

Relies on the plant's log and on the wall clock for time stamps. Not here: the log's format.
"""

import time
from typing import Final

from simulator import pdu
from simulator.device import Device
from simulator.exchange import Asking
from simulator.log import Asked, PlantLog


class Notes:
    """The notes of one line."""

    def __init__(self, log: PlantLog, line: str) -> None:
        self._log: Final = log
        self._line: Final = line
        self.port = 0

    def note(self, device: Device | None, asking: Asking, outcome: str) -> None:
        """Note one request."""
        asked = pdu.describe(asking.request)
        name, points = ("", 0) if device is None else (device.name, device.points_inside(asked))
        self._log.asked(
            Asked(
                self._line,
                self.port,
                asking.unit_id,
                name,
                asked.function,
                asked.address,
                asked.count,
                points,
                outcome,
            ),
            time.time_ns() // 1_000_000,
        )
