"""The plant's own log: what was asked and what was answered, written by nobody else.

One JSON object a line, appended by `write` without a buffer, so that a line once written is there
whatever happens to any process. Requests are counted by the second; every count of a counter device
is a line of its own, written before the answer is sent. The format stands in `simulator/README.md`.

Relies on a file that only this process writes. Not here: any judgement.
"""

import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import msgspec

from core.errors import PorticoError

MOST_ENTRIES: Final = 10_000
"""Different requests counted within a second before they are written early."""
MOST_BYTES: Final = 4 << 30
"""Size of a log file at which it says `full` and takes no more requests and counts."""


class PlantLogFailed(PorticoError):
    """The plant's log cannot be written, so the plant must end: nothing it did could be proved."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What one line of kind `requests` counts."""

    line: str
    """Premises and line."""
    port: int
    """0 where the line has none: a serial port, a device that dials in."""
    unit_id: int
    device: str
    """Empty when no device has that unit id."""
    function: int
    address: int
    count: int
    points: int
    """Points of the device's type that lie wholly inside the request, of those polled by default."""
    outcome: str
    """ok | late | silent | exception <code> | garbage and others: see `simulator/README.md`."""


class PlantLog:
    """Appends to the log of one plant, and knows what its earlier lives counted."""

    def __init__(self, path: Path, *, most_bytes: int = MOST_BYTES) -> None:
        """Open a log, or go on with that of an earlier life. OSError when that is not possible."""
        self.path: Final = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self.last_counts: Final = last_counts(path)
        self._encode = msgspec.json.Encoder().encode
        self._most_bytes = most_bytes
        # Whoever died while writing left half a line, which an empty one ends.
        self._torn = not ends_whole(path)
        self._full = False
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        self._waiting: dict[Asked, list[int]] = {}
        self.totals: Final[Counter[str]] = Counter()
        """Answers by outcome, and `points`: the sum over all read requests."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.flush()
        finally:
            self.close()

    def close(self) -> None:
        """Close the file; what was counted since the last `flush` is not written."""
        os.close(self._file)

    def event(self, kind: str, now_ms: int, **fields: object) -> None:
        """Write one line at once: start, fault, write, stop."""
        self._append([{"kind": kind, "ms": now_ms, **fields}])

    def counted(self, device: str, point: str, count: int, now_ms: int) -> None:
        """Write the count that the next answer will carry."""
        if not self._is_full(now_ms):
            self._append([{"kind": "count", "ms": now_ms, "device": device, "point": point, "count": count}])

    def asked(self, asked: Asked, now_ms: int) -> None:
        """Count a request; `flush` writes the line."""
        entry = self._waiting.get(asked)
        if entry is None:
            if len(self._waiting) >= MOST_ENTRIES:
                self.flush()
            self._waiting[asked] = [now_ms, now_ms, 1]
        else:
            entry[1] = now_ms
            entry[2] += 1

    def flush(self) -> None:
        """Write what was counted since the last call."""
        if not self._waiting:
            return
        lines: list[dict[str, object]] = []
        for asked, (first_ms, last_ms, times) in self._waiting.items():
            self.totals[asked.outcome] += times
            self.totals["points"] += asked.points * times
            lines.append(
                {
                    "kind": "requests",
                    "ms": first_ms,
                    "to_ms": last_ms,
                    "line": asked.line,
                    "port": asked.port,
                    "unit_id": asked.unit_id,
                    "device": asked.device,
                    "function": asked.function,
                    "address": asked.address,
                    "count": asked.count,
                    "points": asked.points,
                    "outcome": asked.outcome,
                    "n": times,
                }
            )
        now_ms = max(last_ms for _, last_ms, _ in self._waiting.values())
        self._waiting.clear()
        if not self._is_full(now_ms):
            self._append(lines)

    def _is_full(self, now_ms: int) -> bool:
        if not self._full and os.fstat(self._file).st_size >= self._most_bytes:
            self._full = True
            self.event("full", now_ms)
        return self._full

    def _append(self, lines: list[dict[str, object]]) -> None:
        body = memoryview(b"\n" * self._torn + b"".join(self._encode(line) + b"\n" for line in lines))
        try:
            while body:
                body = body[os.write(self._file, body) :]
        except OSError as error:
            self._torn = True
            raise PlantLogFailed(
                f"the plant's log {self.path} cannot be written: {error.strerror}."
            ) from error
        self._torn = False


class _Count(msgspec.Struct):
    kind: str
    device: str = ""
    point: str = ""
    count: int = 0


def last_counts(path: Path) -> dict[tuple[str, str], int]:
    """Return the last count of each counter (device, point) in a log; none when there is no log."""
    decode = msgspec.json.Decoder(_Count).decode
    found: dict[tuple[str, str], int] = {}
    try:
        with path.open("rb") as lines:
            for line in lines:
                if not line.startswith(b'{"kind":"count"'):
                    continue
                try:
                    entry = decode(line)
                except msgspec.MsgspecError:  # half a line of a life that was killed: it was never answered
                    continue
                found[entry.device, entry.point] = entry.count
    except FileNotFoundError:
        return {}
    return found


def ends_whole(path: Path) -> bool:
    """Tell whether a log ends with a whole line, or is empty, or is not there."""
    try:
        with path.open("rb") as log:
            if not log.seek(0, os.SEEK_END):
                return True
            log.seek(-1, os.SEEK_END)
            return log.read(1) == b"\n"
    except FileNotFoundError:
        return True
