"""Which device types a device may be: by their hints, and by whether their registers make sense in it.

Nothing here is certain.  A hint that fits is strong evidence; values in their plausible range are weak,
the weaker the more register contents lie in that range; zeros say nothing.  Requests that the device
refuses, values out of range, and a hint that does not fit speak against a type.  The result is a ranked
list with reasons.

Relies on a reader that keeps what it read, so that each register is asked for once for all types, and
that stops asking a device that falls silent.  Deliberately not here: finding units (``drivers.linescan``).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from core.errors import FieldError, LinkDown, NoAnswer, Refused
from core.manifest import Value
from drivers.hints import Hint
from drivers.linescan import NOBODY
from drivers.modbus.link import Link
from drivers.modbus.plan import Request, plan
from drivers.modbus.registers import decode_point
from drivers.points import PointType, RegisterType, Table
from drivers.sunspec.discovery import BASES, MARKER
from drivers.types import DeviceType

MAX_REQUESTS = 400
"""Requests that recognising one device may take."""
MAX_SILENCES = 4
"""Requests without an answer after which the device is asked no more."""
MOST_BITS = 8.0
"""What one point can say for a type: as much as one content in 256."""
AGAINST_BITS = 12.0
"""What a value out of range says against it."""
ENOUGH_BITS = 6.0
"""Below it a type is not named for its values."""
TINY = 1e-4
"""A float that is not zero and below it is more likely no float."""
SUNSPEC = "SunSpec"


class Guess(NamedTuple):
    """A type that a device may be."""

    type: str
    """Name of a device type, or ``SunSpec``."""
    hinted: bool
    """Whether a hint of the type fits."""
    bits: float
    """How much the values say for it, beyond chance; more is likelier."""
    reasons: tuple[str, ...]


@dataclass
class Witness:
    """What one device answers, asked once; a failure is kept too."""

    link: Link
    unit_id: int
    timeout_s: float
    requests: int = 0
    silences: int = 0
    answered: bool = False
    """Whether anything came back, an exception too."""
    _known: dict[tuple[Table, int, int], bytes | str] = field(default_factory=dict)

    async def read(self, table: Table, address: int, count: int, pause_s: float = 0.0) -> bytes | str:
        """Return registers, or why there are none."""
        place = (table, address, count)
        if place not in self._known:
            self._known[place] = await self._ask(Request(table, address, count, ()), pause_s)
        return self._known[place]

    async def _ask(self, request: Request, pause_s: float) -> bytes | str:
        if self.silences > MAX_SILENCES or self.requests >= MAX_REQUESTS:
            return "not asked any more"
        self.requests += 1
        if not self.link.connected:
            await self.link.connect()
        try:
            answer = await self.link.read(self.unit_id, request, self.timeout_s, pause_s)
        except LinkDown:
            raise
        except Refused as error:
            self.answered = self.answered or error.code not in NOBODY
            return f"exception {error.code}"
        except NoAnswer:
            self.silences += 1
            return "no answer"
        except FieldError:
            return "a garbled answer"
        self.answered = True
        return answer


async def recognise(witness: Witness, kinds: Sequence[DeviceType]) -> tuple[Guess, ...]:
    """Return the types that a device may be, the likeliest first."""
    guesses: list[Guess] = []
    for base in BASES:
        if await witness.read(Table.HOLDING, base, 2) == MARKER:
            reason = f"holding registers {base} and {base + 1} say {MARKER.decode()!r}"
            guesses.append(Guess(SUNSPEC, True, math.inf, (reason, "discover it with --sunspec")))
            break
    for kind in kinds:
        guess = await _guess(witness, kind)
        if guess is not None:
            guesses.append(guess)
    return tuple(sorted(guesses, key=lambda guess: (not guess.hinted, -guess.bits, guess.type)))


async def _guess(witness: Witness, kind: DeviceType) -> Guess | None:
    """Return what speaks for a type; None when it is out of the question or nothing does."""
    reasons: list[str] = []
    for hint in kind.recognise:
        said = await _hinted(witness, hint)
        if said is None:
            return None
        reasons += [said] if said else []
    hinted = bool(reasons) and len(reasons) == len(kind.recognise)
    points = [point for point in kind.points if point.default] or list(kind.told)
    tally = _Tally()
    for request in plan(points, kind.limits, kind.blocks):
        answer = await witness.read(
            request.table, request.address, request.count, kind.limits.pause_ms / 1000
        )
        if isinstance(answer, str):
            place = f"{request.table.value} {request.address} to {request.end - 1}"
            if not hinted:
                return None
            reasons.append(f"but {place}: {answer}")
            continue
        for index in request.points:
            tally.add(points[index], *_value(points[index], request, answer))
    if not hinted and (tally.bits < ENOUGH_BITS or tally.against > len(tally.fitting)):
        return None
    return Guess(kind.name, hinted, tally.bits, (*reasons, *tally.in_words()))


async def _hinted(witness: Witness, hint: Hint) -> str | None:
    """Return what a hint says for its type, nothing where it cannot be read; None when against it."""
    point = hint.point
    answer = await witness.read(point.table, point.address, point.width)
    if isinstance(answer, str):
        return ""
    value, _ = decode_point(point, answer)
    if not hint.fits(value):
        return None
    return f"{hint.table.value} register {hint.address} says {value!r}, as this type does"


def _value(point: PointType, request: Request, answer: bytes) -> tuple[Value, str | None, bytes]:
    offset = point.address - request.address
    if point.table.is_bits:
        chunk = bytes([answer[offset // 8] >> offset % 8 & 1])
    else:
        chunk = answer[2 * offset : 2 * (offset + point.width)]
    return (*decode_point(point, chunk), chunk)


@dataclass
class _Tally:
    """What the points of one type say together."""

    bits: float = 0.0
    fitting: list[str] = field(default_factory=list)
    """Points with a value that is not zero, in a range that means something."""
    against: int = 0
    silent: int = 0
    """Points that say nothing: zero, absent, or of any content."""

    def add(self, point: PointType, value: Value, reason: str | None, chunk: bytes) -> None:
        """Count one point."""
        worth = worth_of(point)
        if reason in ("out-of-range", "undecodable") or (_is_tiny(point, value) and any(chunk)):
            self.against += 1
            self.bits -= AGAINST_BITS
        elif value is None or not any(chunk) or worth == 0:
            self.silent += 1
        else:
            self.fitting.append(point.name)
            self.bits += worth

    def in_words(self) -> list[str]:
        """Return the tally for people."""
        words: list[str] = []
        if self.fitting:
            some = ", ".join(self.fitting[:3]) + (" and others" if len(self.fitting) > 3 else "")
            words.append(f"{len(self.fitting)} points plausible ({some})")
        if self.against:
            words.append(f"{self.against} points out of range")
        if self.silent:
            words.append(f"{self.silent} that say nothing")
        return words


def _is_tiny(point: PointType, value: Value) -> bool:
    """Tell whether a float is so small that its registers are rather something else."""
    if not point.type.is_float or isinstance(value, bool | str) or value is None:
        return False
    exact = float(value) * (10.0**point.steps.exp if point.resolution is not None else 1.0)
    return abs(exact) < TINY


def worth_of(point: PointType) -> float:
    """Return how many bits a plausible value of a point says for its type: -log2 of its chance."""
    if point.low is None or point.high is None:
        return 0.0
    if point.type.is_float:
        # Of all contents of a float32 those from TINY to some thousands are about a tenth.
        return 3.0
    if not point.type.is_integer or point.type in (RegisterType.BIT, RegisterType.BOOL):
        return 0.0
    low, high = point.step_bounds
    if low is None or high is None:
        return 0.0
    chance = (high - low + 1) / max(1, abs(point.steps.mult)) / 2.0**point.type.bits
    return min(MOST_BITS, max(0.0, -math.log2(chance))) if chance > 0 else MOST_BITS
