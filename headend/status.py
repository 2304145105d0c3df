"""The figures of a collector: for its status file, its log line and the line on the terminal.

They belong to one life of the process; what must outlive it is counted in the books.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from dataclasses import dataclass, field
from pathlib import Path

from headend.link import Link


@dataclass(slots=True)
class Figures:
    """What a collector has done since it started."""

    name: str
    started_s: float = field(default_factory=time.time)
    readings: int = 0
    rows: int = 0
    messages: int = 0
    redelivered: int = 0
    conflicts: int = 0
    refused: int = 0
    confirmations: int = 0
    transactions: int = 0
    forgotten: int = 0
    """Epochs whose confirmation waits until the gateway sends again: too many were owed at once."""
    waiting: int = 0
    gateways: set[str] = field(default_factory=set)
    failure: str = ""
    """Why the books take nothing, as a sentence; empty while they do."""
    links: list[dict[str, str | int | bool]] = field(default_factory=list)
    readings_per_s: float = 0.0
    running: bool = True
    _last: tuple[float, int] = (0.0, 0)

    def refresh(self, links: list[Link], waiting: int, now_s: float, *, running: bool) -> None:
        """Bring what changes by itself up to date."""
        since_s, readings = self._last
        if since_s and now_s > since_s:
            self.readings_per_s = (self.readings - readings) / (now_s - since_s)
        self._last = (now_s, self.readings)
        self.waiting, self.running = waiting, running
        self.links = [
            {
                "url": link.url,
                "connected": link.connected,
                "failure": link.failure,
                "connects": link.connects,
                "rejected": link.rejected,
                "overflowed": link.overflowed,
            }
            for link in links
        ]

    def as_json(self) -> dict[str, object]:
        """Return the figures by name."""
        return {
            "name": self.name,
            "pid": os.getpid(),
            "running": self.running,
            "at": time.time(),
            "started": self.started_s,
            "readings": self.readings,
            "readings_per_s": round(self.readings_per_s, 1),
            "rows": self.rows,
            "messages": self.messages,
            "redelivered": self.redelivered,
            "conflicts": self.conflicts,
            "refused": self.refused,
            "confirmations": self.confirmations,
            "transactions": self.transactions,
            "forgotten": self.forgotten,
            "waiting": self.waiting,
            "gateways": len(self.gateways),
            "failure": self.failure,
            "links": self.links,
        }

    def line(self) -> str:
        """Return the figures as one line."""
        connected = sum(bool(link["connected"]) for link in self.links)
        text = (
            f"{self.readings} readings ({self.readings_per_s:.0f}/s) of {len(self.gateways)} gateways, "
            f"{self.redelivered} redelivered, {self.refused} messages refused, "
            f"{self.confirmations} confirmations, {self.waiting} waiting, "
            f"{connected} of {len(self.links)} brokers"
        )
        return f"{text}; {self.failure}" if self.failure else text


def write_status(path: Path, figures: Figures) -> None:
    """Replace the status file; a disk without room for it stops nothing."""
    fresh = path.with_name(f"{path.name}.new")
    with contextlib.suppress(OSError):
        fresh.write_text(json.dumps(figures.as_json()) + "\n")
        fresh.replace(path)
