"""Reading a device once, for a person who stands before it: every point with its value and its registers.

As the agent does it, by the same plan and the same decoder; but where the device refuses a request, its
points are asked for one by one, so that it shows which of them it refuses.  Nothing is written.

Deliberately not here: how it looks (``cli.probe``), finding devices (``drivers.linescan``).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal

from core.errors import FieldError, LinkDown, Refused
from core.manifest import Value, ValueKind
from drivers.modbus.link import Link, reason_of
from drivers.modbus.plan import Request, plan
from drivers.modbus.values import GroupDecoder
from drivers.points import PointType
from drivers.types import DeviceType, Limits


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
    found: dict[int, ProbedPoint] = {}
    asked: list[Asked] = []
    for request in plan(points, kind.limits, blocks):
        answer = await asking.ask(request)
        asked.append(Asked(request, _names(points, request), answer if isinstance(answer, str) else ""))
        if isinstance(answer, bytes):
            found |= _decoded(points, request, answer)
        elif asking.refused and len(request.points) > 1:
            for index in request.points:
                alone = _alone(points, index, request)
                answer = await asking.ask(alone)
                asked.append(Asked(alone, (points[index].name,), answer if isinstance(answer, str) else ""))
                found[index] = (
                    _decoded(points, alone, answer)[index]
                    if isinstance(answer, bytes)
                    else ProbedPoint(points[index], None, asking.reason, None)
                )
        else:
            for index in request.points:
                found[index] = ProbedPoint(points[index], None, asking.reason, None)
    return Probe(tuple(found[index] for index in range(len(points))), tuple(asked))


@dataclass
class _Asking:
    """Asks and repeats; remembers why the last answer failed."""

    link: Link
    unit_id: int
    limits: Limits
    timeout_s: float
    retries: int
    reason: str = ""
    refused: bool = False

    async def ask(self, request: Request) -> bytes | str:
        """Return an answer, or a sentence why there is none."""
        sentence = ""
        for _ in range(self.retries + 1):
            if not self.link.connected:
                await self.link.connect()
            try:
                return await self.link.read(
                    self.unit_id, request, self.timeout_s, self.limits.pause_ms / 1000
                )
            except LinkDown:
                raise
            except FieldError as error:
                sentence, self.reason = str(error), reason_of(error)
                self.refused = isinstance(error, Refused)
                if self.refused:
                    break
        return sentence


def _decoded(points: Sequence[PointType], request: Request, answer: bytes) -> dict[int, ProbedPoint]:
    """Return the points of one answer by their index."""
    inside = [points[index] for index in request.points]
    local = replace(request, points=tuple(range(len(inside))))
    values, reasons = GroupDecoder(inside, [local]).decode([answer])
    found: dict[int, ProbedPoint] = {}
    for place, index in enumerate(request.points):
        said = reasons.get(str(place), reasons.get("*"))
        found[index] = ProbedPoint(
            points[index], values[place], said[0] if said else None, _chunk(points[index], request, answer)
        )
    return found


def _chunk(point: PointType, request: Request, answer: bytes) -> bytes:
    offset = point.address - request.address
    if point.table.is_bits:
        return answer[offset // 8 : offset // 8 + 1]
    return answer[2 * offset : 2 * (offset + point.width)]


def _alone(points: Sequence[PointType], index: int, request: Request) -> Request:
    point = points[index]
    return Request(request.table, point.address, point.width, (index,))


def _names(points: Sequence[PointType], request: Request) -> tuple[str, ...]:
    return tuple(points[index].name for index in request.points)
