"""The matrix of faults as data: which quality must be stored for which fault on which kind of line.

A cell that stores no reason and says `seen = False` is a wrong value that no rule can see. Deliberately
not here: running a cell (`tests.faultmatrix`).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

KINDS: Final = ("tcp", "rtu", "rtu-tcp", "tls", "dial-in")
ALL: Final = "*"

Stored = Mapping[str, tuple[str, ...]]


@dataclass(frozen=True)
class Cell:
    """One fault, and what must be stored of it on each kind of line."""

    name: str
    fault: str
    """Kind of the simulator's fault; `set` for a value set by hand."""
    what: str
    stored: Stored
    """Reasons by kind of line, `*` for all others; empty: stored as good."""
    seen: bool = True
    """False: the value is wrong, and no rule can know it."""
    points: tuple[str, ...] = ()
    ms: int | None = None
    code: int | None = None
    by: float | None = None
    ppm: float | None = None
    for_s: float | None = None
    value: int | None = None
    retries: int = 1
    """That of a line where nobody says otherwise."""
    hold: Mapping[str, float] = field(default_factory=dict)
    """Seconds that the fault lasts at least, by kind of line."""
    rows: int = 4
    """Where nothing is to be stored: after so many rows the fault ends."""
    bent: Callable[[int], bool] | None = None
    """Tells a change between two ticks that only the fault makes."""
    later: str = ""
    """A later judgement that must be stored too."""
    also: Stored = field(default_factory=dict)
    """Reasons that may be stored beside or, in later rounds, instead."""
    before: int | None = None
    """What the first point is set to before anything is polled."""
    slip: Mapping[str, int] = field(default_factory=dict)
    """Ticks that the other device may miss in a row, by kind of line, where it is more than elsewhere."""
    other: Stored = field(default_factory=dict)
    """Reasons that the other device of the line may get from it."""

    def stored_on(self, kind: str) -> tuple[str, ...]:
        """Return the reasons that must be stored on a kind of line."""
        return self.stored.get(kind, self.stored.get(ALL, ()))

    def also_on(self, kind: str) -> tuple[str, ...]:
        """Return the reasons that may be stored beside on a kind of line."""
        return self.also.get(kind, self.also.get(ALL, ()))

    def hold_on(self, kind: str) -> float:
        """Return how long the fault lasts at least on a kind of line."""
        return self.hold.get(kind, self.hold.get(ALL, 0.0))

    def other_on(self, kind: str) -> tuple[str, ...]:
        """Return the reasons that the other device may get on a kind of line."""
        return self.other.get(kind, self.other.get(ALL, ()))


def every(*reasons: str) -> Stored:
    """Return the same reasons for all kinds of line."""
    return {ALL: reasons}


def refusal(code: int, reason: str) -> Cell:
    """Return the cell of an exception code."""
    what = f"every read is refused with exception {code}"
    return Cell(f"exception-{code}", "exception", what, every(reason), code=code)


FELLS: Final[Stored] = {"dial-in": ("line-down",)}
"""One connection carries all devices of a caller: what ends it takes them all, until it dials in again."""
AWAY: Final = {"dial-in": 8}
"""Until the caller is back."""
SKIPS: Final = ("skipped",)
COSTLY: Final[Stored] = {ALL: SKIPS, "dial-in": ("skipped", "line-down")}
"""Each of the tries after which a poll is given up costs a timeout, on a bus also the silence after it, and
what the other device should have been asked meanwhile may be left out."""
AGAIN: Final = {"dial-in": 18}
"""The connection is ended again and again, and the caller dials ever more seldom."""
PULLED: Final = {"rtu": 3, **AWAY}
DOWN: Final[Stored] = {"rtu": ("line-down",), **FELLS}
"""Who pulls the adapter takes the line from all devices; it is opened anew after a second."""

TWO: Final = {"rtu": 2, "rtu-tcp": 2, **AWAY}
ENDED: Final[Stored] = dict.fromkeys(("tcp", "rtu", "rtu-tcp", "tls"), ("backoff",))
"""What was not asked any more, after two bad frames."""
BEHIND: Final = ("timeout", "skipped", "backoff")
"""Of a device that is asked something else first, and answers that wrongly too."""

CELLS: Final = (
    Cell("silence", "silent", "no answer, the connection stays", every("timeout"), other=COSTLY, slip=TWO),
    Cell("slow", "slow", "answers 120 ms late, within the timeout", every(), ms=120),
    Cell(
        "too-slow", "slow", "answers later than the timeout", every("timeout"), other=COSTLY, slip=TWO, ms=350
    ),
    Cell(
        "late",
        "late",
        "the answer comes after the timeout, within another one",
        every("timeout"),
        other=COSTLY,
        slip=TWO,
        ms=350,
    ),
    Cell(
        "late-retry",
        "late",
        "the answer comes after two timeouts, while the request is made again",
        {ALL: ("timeout",), "rtu": ("bad-frame",), "rtu-tcp": ("bad-frame",)},
        also={"rtu": BEHIND, "rtu-tcp": BEHIND},
        other=COSTLY,
        slip={**TWO, **AGAIN},
        ms=500,
        hold={ALL: 3.0},
    ),
    Cell(
        "stale",
        "stale",
        "each request gets the answer to the one before",
        {ALL: ("bad-frame",), "dial-in": ("timeout",)},
        also={ALL: BEHIND, "dial-in": ("bad-frame", "line-down", "backoff")},
        other=COSTLY,
        slip={**TWO, **AGAIN},
        hold={ALL: 3.0, "rtu": 20.0},
    ),
    refusal(1, "exception-1"),
    refusal(2, "exception-2"),
    refusal(3, "exception-3"),
    refusal(4, "exception-4"),
    refusal(6, "exception-6"),
    refusal(11, "exception-other"),
    Cell(
        "wrong-unit",
        "wrong-unit",
        "another unit id answers",
        {ALL: ("bad-frame",), "dial-in": ("bad-frame", "line-down")},
        also=ENDED,
        other=COSTLY,
        slip=TWO,
    ),
    Cell(
        "half",
        "half",
        "half a frame, then nothing",
        {ALL: ("timeout",), "rtu": ("bad-frame",), "rtu-tcp": ("bad-frame",)},
        also={"rtu": ("backoff",), "rtu-tcp": ("backoff",)},
        other=COSTLY,
        slip={**TWO, **AGAIN},
    ),
    Cell(
        "garbage",
        "garbage",
        "what comes is no answer, in seven manners",
        {ALL: ("bad-frame",), "dial-in": ("timeout",)},
        also={ALL: ("timeout", "backoff"), "dial-in": ("bad-frame", "line-down")},
        other=COSTLY,
        slip={**TWO, **AGAIN},
    ),
    Cell(
        "close",
        "close",
        "the connection is closed, a serial adapter pulled",
        every("line-down"),
        slip=PULLED,
        other=DOWN,
    ),
    Cell(
        "reset",
        "reset",
        "the connection is reset, a serial adapter pulled",
        every("line-down"),
        slip=PULLED,
        other=DOWN,
    ),
    Cell(
        "reboot", "reboot", "without power for a second", every("timeout"), other=COSTLY, slip=TWO, for_s=1.0
    ),
    Cell(
        "frozen",
        "frozen",
        "a value stays, longer than its limit",
        every("frozen"),
        points=("Sway",),
        later="frozen",
    ),
    Cell(
        "frozen-short",
        "frozen",
        "a value stays, shorter than its limit",
        every(),
        seen=False,
        points=("Sway",),
        for_s=1.4,
        bent=lambda change: change == 0,
    ),
    Cell(
        "frozen-unwatched",
        "frozen",
        "a value stays for which no limit is declared",
        every(),
        seen=False,
        points=("Energy",),
        bent=lambda change: change == 0,
    ),
    Cell(
        "rollover",
        "rollover",
        "a counter is put before its end, goes over it and on",
        every("rate", "reset", "rollover"),
        points=("Energy",),
        by=180,
    ),
    Cell(
        "counter-reset", "counter-reset", "a counter begins again at zero", every("reset"), points=("Energy",)
    ),
    Cell("jump", "jump", "a counter is far too high", every("rate", "reset"), points=("Energy",), by=1e6),
    Cell(
        "jump-back",
        "jump",
        "a counter goes back a little",
        every("decreased", "reset"),
        points=("Energy",),
        by=-1000,
        before=1_000_000,
    ),
    Cell(
        "jump-small",
        "jump",
        "a counter is higher by less than it can gain",
        every(),
        seen=False,
        points=("Energy",),
        by=200,
        bent=lambda change: change > 150,
    ),
    Cell(
        "clock-jump",
        "clock-drift",
        "the device's clock is an hour off",
        every("rate", "device-clock"),
        points=("Clock",),
        by=-3600,
    ),
    Cell(
        "clock-drift",
        "clock-drift",
        "the device's clock is some seconds off, and runs away",
        every("device-clock"),
        points=("Clock",),
        by=5,
        ppm=1e6,
    ),
    Cell(
        "clock-small",
        "clock-drift",
        "the device's clock is off by less than its bound",
        every(),
        seen=False,
        points=("Clock",),
        by=2,
        bent=lambda change: change >= 2,
    ),
    Cell(
        "substituted",
        "set",
        "a value that stands for none measured",
        every("substituted"),
        points=("Sway",),
        value=777,
    ),
    Cell(
        "out-of-range",
        "set",
        "a value above its range",
        every("out-of-range"),
        points=("Sway",),
        value=2_000_000,
    ),
    Cell(
        "not-available",
        "set",
        "the marker of no value",
        every("not-available"),
        points=("Sway",),
        value=0xFFFFFFFF,
    ),
)
