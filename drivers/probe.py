"""Reading a device once, for a person who stands before it: every point with its value and its registers.

As the agent does it, by the same plan and the same decoder; but where the device refuses a request, its
points are asked for one by one, so that it shows which of them it refuses.  A gateway that says at once that
it does not reach the unit is asked nothing more.  Nothing is written.

Deliberately not here: how it looks (``cli.probe``), finding devices (``drivers.linescan``).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from core.errors import FieldError, LinkDown, Refused
from core.manifest import Value, ValueKind
from drivers.modbus.link import Link, reason_of
from drivers.modbus.plan import Request, plan
from drivers.modbus.values import GroupDecoder
from drivers.points import PointType
from drivers.types import DeviceType, Limits

UNREACHED = frozenset({10, 11})
"""Exceptions by which a gateway says that the unit behind it is not there: they are none of the unit's own
(Modbus Application Protocol V1.1b3 §7)."""


@dataclass(frozen=True, slots=True)
class ProbedPoint:
    """One point as it was read."""

    point: PointType
    value: Value
    """In steps, as on the wire; see :attr:`shown`."""
    reason: str | None
    """Why it is not good (``core.quality``); None when it is."""
    raw: bytes | None
    """The point's own registers, or the byte with its bit; None when there was no answer."""

    @property
    def shown(self) -> str:
        """The value as a person reads it, exact; empty for none."""
        return shown_value(self.point, self.value)


@dataclass(frozen=True, slots=True)
class Asked:
    """One request and what became of it."""

    request: Request
    names: tuple[str, ...]
    """The points that it was to bring."""
    failure: str = ""
    """Why there was no answer, as a sentence; empty when there was one."""


@dataclass(frozen=True, slots=True)
class Probe:
    """What a device answered."""

    points: tuple[ProbedPoint, ...]
    asked: tuple[Asked, ...]

    @property
    def complete(self) -> bool:
        """Whether every point was answered, good or not."""
        return all(one.raw is not None for one in self.points)


def shown_value(point: PointType, value: Value) -> str:
    """Return a value in the point's unit, exact; empty for none."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if point.kind is ValueKind.INTEGER:
        return format(Decimal(value).scaleb(point.steps.exp), "f")
    return str(value)


async def probe(
    link: Link,
    unit_id: int,
    kind: DeviceType,
    points: Sequence[PointType],
    timeout_s: float | None = None,
    retries: int = 1,
) -> Probe:
    """Return the points of one device, read once.

    ``LinkDown`` when the line cannot be reached; any other failure is part of the result.
    """
    asking = _Asking(link, unit_id, kind.limits, timeout_s or kind.limits.timeout_ms / 1000, retries)
    blocks = [block for block in kind.blocks if block.count <= kind.limits.span(block.table)]
    asked: list[Asked] = []
    final: list[tuple[Request, bytes | str]] = []
    """Requests in which each point is once, with the answer or the reason why there is none."""
    for request in plan(points, kind.limits, blocks):
        if asking.unreached and not asking.answered:
            final.append((request, asking.reason))
            continue
        answer = await asking.ask(request)
        asked.append(Asked(request, _names(points, request), asking.failure))
        if answer is None and asking.refused and not asking.unreached and len(request.points) > 1:
            for index in request.points:
                alone = Request(request.table, points[index].address, points[index].width, (index,))
                answer = await asking.ask(alone)
                asked.append(Asked(alone, (points[index].name,), asking.failure))
                final.append((alone, asking.reason if answer is None else answer))
        else:
            final.append((request, asking.reason if answer is None else answer))
    requests, answers = [one for one, _ in final], [answer for _, answer in final]
    values, reasons = GroupDecoder(points, requests).decode(answers)
    chunks = {
        index: _chunk(points[index], request, answer) if isinstance(answer, bytes) else None
        for request, answer in final
        for index in request.points
    }
    everywhere = reasons.get("*", [None])
    return Probe(
        tuple(
            ProbedPoint(point, values[index], reasons.get(str(index), everywhere)[0], chunks[index])
            for index, point in enumerate(points)
        ),
        tuple(asked),
    )


def with_scales(kind: DeviceType, points: Sequence[PointType]) -> list[PointType]:
    """Return some points of a type and those that say their powers of ten, in the order of the type."""
    names = {point.name for point in points} | {point.scale_by for point in points}
    return [point for point in kind.points if point.name in names]


@dataclass
class _Asking:
    """Asks and repeats; remembers why the last answer failed."""

    link: Link
    unit_id: int
    limits: Limits
    timeout_s: float
    retries: int
    failure: str = ""
    """Why the last request got no answer, as a sentence; empty when it did."""
    reason: str = ""
    refused: bool = False
    unreached: bool = False
    """It was the gateway that refused, because the unit does not answer it."""
    answered: bool = False
    """The unit itself answered or refused something."""

    async def ask(self, request: Request) -> bytes | None:
        """Return an answer; None when there is none, for the reason that is kept."""
        self.failure, self.reason, self.refused, self.unreached = "", "", False, False
        for _ in range(self.retries + 1):
            if not self.link.connected:
                await self.link.connect()
            try:
                answer = await self.link.read(
                    self.unit_id, request, self.timeout_s, self.limits.pause_ms / 1000
                )
            except LinkDown:
                raise
            except FieldError as error:
                self.failure, self.reason = str(error), reason_of(error)
                self.refused = isinstance(error, Refused)
                self.unreached = isinstance(error, Refused) and error.code in UNREACHED
                self.answered |= self.refused and not self.unreached
                if self.refused:
                    break
            else:
                self.failure, self.answered = "", True
                return answer
        return None


def _chunk(point: PointType, request: Request, answer: bytes) -> bytes:
    offset = point.address - request.address
    if point.table.is_bits:
        return answer[offset // 8 : offset // 8 + 1]
    return answer[2 * offset : 2 * (offset + point.width)]


def _names(points: Sequence[PointType], request: Request) -> tuple[str, ...]:
    return tuple(points[index].name for index in request.points)
