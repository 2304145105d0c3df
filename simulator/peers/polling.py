"""The field of the thin gateway: a thread for each device, which polls it on the grid, and the manifest.

Not here: Modbus (`modbusread`), what becomes of a poll (`gateway`).
"""

import queue
import threading
import time
from dataclasses import dataclass
from typing import Any, Final

from core.manifest import Group, Manifest, Point, ValueKind
from core.ownership import Ownership
from simulator.peers.modbusread import Device, NoAnswer, value_of

KINDS: Final = {"float32": ValueKind.DECIMAL, "string": ValueKind.TEXT}


@dataclass(frozen=True)
class Poll:
    """What came of one poll of a device."""

    group: int
    tick: int
    offset: int
    values: list[int | float | str | None]
    reason: str


class Poller(threading.Thread):
    """Polls one device on the grid."""

    def __init__(
        self, number: int, device: dict[str, Any], every_ms: int, polls: "queue.Queue[Poll]", defect: str
    ) -> None:
        super().__init__(name=f"poll {device['device']}", daemon=True)
        self._number, self._every_ms, self._polls, self._defect = number, every_ms, polls, defect
        self._points: list[dict[str, Any]] = device["points"]
        self._first = min(point["address"] for point in self._points)
        self._count = max(point["address"] + point["registers"] for point in self._points) - self._first
        timeout_s = device["timeout_ms"] / 1000
        self._device = Device(
            device["host"], device["port"], device["unit_id"], timeout_s, trusting=defect == "late-answer"
        )
        self._last: list[int | float | str | None] | None = None

    def run(self) -> None:
        """Poll for ever."""
        tick = now_ms() // self._every_ms * self._every_ms
        while True:
            tick = max(tick + self._every_ms, now_ms() // self._every_ms * self._every_ms)
            time.sleep(max(0.0, (tick - now_ms()) / 1000))
            values, reason = self._read()
            offset = 0 if self._defect == "no-offset" else max(0, now_ms() - tick)
            self._polls.put(Poll(self._number, tick, offset, values, reason))

    def _read(self) -> tuple[list[int | float | str | None], str]:
        try:
            registers = self._device.read(self._first, self._count)
        except NoAnswer as error:
            if self._defect == "old-value" and self._last is not None:
                return self._last, ""
            return [None] * len(self._points), str(error)
        self._last = [self._value(point, registers) for point in self._points]
        return self._last, ""

    def _value(self, point: dict[str, Any], registers: bytes) -> int | float | str | None:
        at = 2 * (point["address"] - self._first)
        return value_of(point, registers[at : at + 2 * point["registers"]])


def manifest_of(site: dict[str, Any]) -> Manifest:
    """Return the manifest of a site: a group for each device, all data the entity's."""
    entity = site["entity"]
    owner = Ownership(entity, (entity,), entity, entity)
    return Manifest(
        site["gateway"],
        tuple(
            Group(
                group=number,
                device=device["device"],
                device_type=device["type"],
                every_ms=site["every_ms"],
                points=tuple(
                    Point(
                        name=point["name"],
                        quantity=point["quantity"],
                        unit=point["unit"],
                        kind=KINDS.get(point["type"], ValueKind.INTEGER),
                        exp=-len(point["scale"].partition(".")[2]),
                        cumulative=point["cumulative"],
                    )
                    for point in device["points"]
                ),
                owners=(owner,),
            )
            for number, device in enumerate(site["devices"], 1)
        ),
    )


def now_ms() -> int:
    """Return the wall clock: UTC, ms since 1970."""
    return time.time_ns() // 1_000_000
