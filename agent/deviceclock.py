"""The clock that a device has of its own, compared with ours: how far it is off, and how fast it runs away.

Some device types have a point that is their clock (``clock`` in ``[point.sense]``).  At each poll it is
compared with the gateway's clock at the instant of the answer: the middle between the request and the
answer.  What that instant and the register's step leave open is kept beside the offset, and a bound counts
as exceeded only where it is exceeded for certain.  A reading's time is never changed by any of it.

Pure: instants are arguments.  Not judged while the gateway's own clock is unsure, and nothing is compared
over a step of it: whoever calls says so.  Not here: how the offset is shown (``agent.status``).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import combinations
from typing import Final

from core.manifest import Value
from drivers.points import ClockSpec, PointType

REASON: Final = "device-clock"
"""Also the code of the alarm."""
KEPT: Final = 32
"""Comparisons that the drift is reckoned from; beyond, every second one goes and the spacing doubles."""
WINDOW_MS: Final = 24 * 3_600_000
"""The drift is that of so long; ours: it follows a day's temperature and still sees a few ppm."""
ENOUGH: Final = 8
"""Comparisons below which no drift is told."""
DRIFTS: Final = Decimal("0.1")
"""No clock that runs by itself runs away by more than this part: what moves more was set.  Ours."""
OURS_MS: Final = 1
"""Our own clock is read in whole milliseconds."""
_MILLION: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Drift:
    """How fast a device's clock runs away from ours; in millionths, positive: it is fast."""

    ppm: float
    within_ppm: float
    """The true one is no further from ``ppm`` than this, as long as the clock runs evenly."""


@dataclass(frozen=True, slots=True)
class Compared:
    """One comparison: where the device's clock stood when ours stood at ``at_ms``."""

    at_ms: float
    offset_ms: float
    """Device minus gateway."""
    within_ms: float
    """The true offset is no further from ``offset_ms`` than this."""


class DeviceClock:
    """The clock of one device."""

    def __init__(self, spec: ClockSpec, exp: int) -> None:
        """Prepare; a value of the point is a number of steps of ``10**exp`` seconds."""
        self._spec = spec
        self._step_ms = float(Decimal(1000).scaleb(exp))
        self._kept: list[Compared] = []
        self._apart_ms = 0.0
        self._beyond = False
        self.last: Compared | None = None
        """The latest comparison."""
        self.drift: Drift | None = None
        self.settings = 0
        """How often it was set, as far as that was seen."""

    def compare(self, shown: int, asked_ms: float, answered_ms: float) -> bool:
        """Compare once; tell whether the offset is beyond its bound for certain.

        Args:
            shown: the value of the point.
            asked_ms: when the request was made, by the gateway's clock, ms since 1970.
            answered_ms: when its answer was there.
        """
        at_ms = (asked_ms + answered_ms) / 2
        offset_ms = self._spec.since_ms + shown * self._step_ms - at_ms
        now = Compared(at_ms, offset_ms, (answered_ms - asked_ms) / 2 + self._step_ms + OURS_MS)
        if self.last is not None and _was_set(self.last, now):
            self.settings += 1
            self.forget()
        self.last = now
        if not self._kept or at_ms - self._kept[-1].at_ms >= self._apart_ms:
            self._keep(now)
        return abs(offset_ms) - now.within_ms > self._spec.max_offset_ms

    def forget(self) -> None:
        """Forget what was compared so far: one of the two clocks was set."""
        self.last = self.drift = None
        self._kept, self._apart_ms = [], 0.0

    def news(self) -> bool | None:
        """Return whether an alarm begins (True) or ends (False), None for no news."""
        beyond = self._is_beyond()
        if beyond is None or beyond == self._beyond:
            return None
        self._beyond = beyond
        return beyond

    @property
    def beyond(self) -> bool:
        """Whether offset or drift were beyond their bounds when that was last known for certain."""
        return self._beyond

    def sentence(self) -> str:
        """Say how the clock stands beside ours."""
        if self.last is None:
            return "its clock was not compared since it or ours was set"
        seconds = self.last.offset_ms / 1000
        way = "ahead of" if seconds > 0 else "behind"
        said = f"its clock is {abs(seconds):.1f} s {way} the gateway's"
        if self.drift is not None:
            said += f" and gains {self.drift.ppm:z.0f} ppm (within {self.drift.within_ppm:.0f})"
        bounds = [f"{self._spec.max_offset_ms / 1000:g} s"]
        if self._spec.max_ppm is not None:
            bounds.append(f"{self._spec.max_ppm} ppm")
        return f"{said}; its type allows {' and '.join(bounds)}"

    def _is_beyond(self) -> bool | None:
        """Tell whether a bound is exceeded, None where that is not certain."""
        if self.last is None:
            return None
        found = [_exceeds(self.last.offset_ms, self.last.within_ms, self._spec.max_offset_ms)]
        if self._spec.max_ppm is not None and self.drift is not None:
            found.append(_exceeds(self.drift.ppm, self.drift.within_ppm, float(self._spec.max_ppm)))
        if True in found:
            return True
        return None if None in found else False

    def _keep(self, now: Compared) -> None:
        self._kept = [one for one in self._kept if now.at_ms - one.at_ms <= WINDOW_MS]
        self._kept.append(now)
        if len(self._kept) > KEPT:
            self._kept = self._kept[::2]
            self._apart_ms = (now.at_ms - self._kept[0].at_ms) / len(self._kept)
        self.drift = drift_of(self._kept) if len(self._kept) >= ENOUGH else None


def drift_of(compared: Sequence[Compared]) -> Drift | None:
    """Return the drift that some comparisons show, in the order of their instants; None without a lapse.

    The median of the slopes of all pairs (Theil and Sen), which a few bad comparisons do not move, moved
    into what the pairs leave possible: each of them bounds the slope by what its two offsets leave open.
    """
    slopes: list[float] = []
    least, most = -float("inf"), float("inf")
    for one, other in combinations(compared, 2):
        lapse = (other.at_ms - one.at_ms) / _MILLION
        if lapse <= 0:
            continue
        gained, open_ms = other.offset_ms - one.offset_ms, one.within_ms + other.within_ms
        slopes.append(gained / lapse)
        least = max(least, (gained - open_ms) / lapse)
        most = min(most, (gained + open_ms) / lapse)
    if not slopes:
        return None
    from statistics import median  # only where a device has a clock

    middle = median(slopes)
    if least > most:  # it does not run evenly: no line goes through all comparisons
        return Drift(middle, max(middle - most, least - middle))
    ppm = min(max(middle, least), most)
    return Drift(ppm, max(ppm - least, most - ppm))


def _was_set(before: Compared, now: Compared) -> bool:
    lapse = abs(now.at_ms - before.at_ms)
    moved = abs(now.offset_ms - before.offset_ms)
    return moved > before.within_ms + now.within_ms + float(DRIFTS) * lapse


def _exceeds(found: float, within: float, bound: float) -> bool | None:
    """Tell whether a figure is beyond a bound; None where that is not certain.

    One that is below half of its bound is within it, however coarse the register is.
    """
    if abs(found) - within > bound:
        return True
    return False if abs(found) + within <= bound or abs(found) <= bound / 2 else None


class GroupClocks:
    """The points of one group that are clocks of their device."""

    def __init__(self, points: Sequence[PointType], exps: Sequence[int], steps: int = 0) -> None:
        """Prepare; ``exps`` are the exponents of the values, ``steps`` how often our clock was stepped."""
        self.by_point: dict[int, DeviceClock] = {
            index: DeviceClock(point.sense.clock, exp)
            for index, (point, exp) in enumerate(zip(points, exps, strict=True))
            if point.sense is not None and point.sense.clock is not None
        }
        self._steps = steps

    def judge(
        self,
        tick: int,
        steps: int,
        values: Sequence[Value],
        quality: dict[str, list[str]],
        exchanges: Mapping[int, tuple[float, float]],
    ) -> None:
        """Compare, and add reasons to the quality of a row; not to be called while our clock is unsure.

        Args:
            tick: of the poll, by our clock.
            steps: how often that was stepped before the poll.
            values: of the group.
            quality: by point, as decoded and judged so far; a clock whose value is no good is not compared.
            exchanges: by point, when it was asked for and answered, in ms from the tick.
        """
        if steps != self._steps:
            self._steps = steps
            for clock in self.by_point.values():
                clock.forget()
        for index, clock in self.by_point.items():
            value, exchange = values[index], exchanges.get(index)
            if exchange is None or not isinstance(value, int) or isinstance(value, bool):
                continue
            if quality.get("*") or not _MOVED.issuperset(quality.get(str(index), ())):
                continue
            if clock.compare(value, tick + exchange[0], tick + exchange[1]):
                quality.setdefault(str(index), []).append(REASON)

    def news(self) -> Iterator[tuple[bool, str]]:
        """Yield (raised, sentence) for every clock that began or ceased to be beyond its bounds."""
        for clock in self.by_point.values():
            raised = clock.news()
            if raised is not None:
                yield raised, clock.sentence()


_MOVED: Final = frozenset({"rate", "decreased", "reset", "frozen"})
"""Reasons with which a clock is compared nevertheless: it is these that a clock has that was set."""
