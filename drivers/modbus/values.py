"""The answers of one poll as the values of a row: compiled once for a group, then fast.

:class:`GroupDecoder` turns each answer into numbers by few precompiled ``struct`` calls and the
numbers into values by one comprehension for each kind of arithmetic (``drivers.modbus.lanes``).
Whatever a comprehension does not surely decode (a marker, a value out of range, not-a-number, text)
is judged point by point by ``drivers.modbus.registers``, the reference that it must agree with.

Pure.  Deliberately not here: time, backoff and ownership.
"""

import struct
from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from core.errors import ConfigError
from core.manifest import Value
from drivers.modbus.lanes import CODES, lanes
from drivers.modbus.plan import Request
from drivers.modbus.registers import decode_point, rescaled
from drivers.points import PointType, RegisterType

BAD_FRAME = "bad-frame"

Row = tuple[list[Value], dict[str, list[str]]]
"""Values in the order of the points, and reasons by point index, ``*`` for all."""


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a point's bytes lie in the answers; for a bit table the byte with its bit."""

    request: int
    start: int
    end: int
    bit: int = 0


@dataclass(frozen=True, slots=True)
class _Layout:
    """How the numbers of one ``struct`` call are laid: which answer, bytes swapped first, byte order."""

    request: int
    swapped: bool
    order: str


@dataclass(frozen=True, slots=True)
class _Pass:
    """One ``struct`` call."""

    request: int
    swapped: bool
    unpack: Callable[[bytes], tuple[float, ...]]


class GroupDecoder:
    """Decodes the answers of one group of points; keeps nothing between rows."""

    def __init__(self, points: Sequence[PointType], requests: Sequence[Request]) -> None:
        self._points = tuple(points)
        self._requests = tuple(requests)
        self._sizes = tuple(request.size for request in requests)
        self._places = _places(self._points, self._requests)
        self._passes, positions = _passes(self._points, self._places)
        self._lanes, lane_order = lanes(self._points, positions, [place.bit for place in self._places])
        taken = set(lane_order)
        self._slow = [index for index in range(len(points)) if index not in taken]
        order = [*lane_order, *self._slow]
        where = {index: position for position, index in enumerate(order)}
        self._arranged = [where[index] for index in range(len(points))]
        self._in_order = self._arranged == sorted(self._arranged)
        self._scales = _scales(self._points)

    def decode(self, answers: Sequence[bytes | str]) -> Row:
        """Return the row of one poll.

        For each request an answer: its payload as it came (registers with the most significant byte
        first, bits packed from the least significant), or the reason why there is none.
        """
        row = self._decode(answers)
        return _rescaled(self._points, self._scales, row) if self._scales else row

    def _decode(self, answers: Sequence[bytes | str]) -> Row:
        payloads: list[bytes] = []
        failed: dict[int, str] = {}
        for answer, size in zip(answers, self._sizes, strict=True):
            if type(answer) is bytes and len(answer) == size:
                payloads.append(answer)
            else:
                failed[len(payloads)] = answer if isinstance(answer, str) else BAD_FRAME
                payloads.append(bytes(size))
        if len(failed) == len(payloads) and len(set(failed.values())) == 1:
            return [None] * len(self._points), {"*": [failed[0]]}
        numbers: tuple[float, ...] = ()
        for one in self._passes:
            payload = payloads[one.request]
            numbers += one.unpack(swapped_bytes(payload) if one.swapped else payload)
        values: list[Value] = []
        doubtful = self._slow.copy()
        for lane in self._lanes:
            values += lane.decode(numbers, doubtful)
        values += [None] * len(self._slow)
        if not self._in_order:
            values = [values[position] for position in self._arranged]
        if not doubtful and not failed:
            return values, {}
        return self._judged(values, doubtful, payloads, failed)

    def _judged(
        self, values: list[Value], doubtful: list[int], payloads: list[bytes], failed: Mapping[int, str]
    ) -> Row:
        """Return the row with the doubtful points judged by the reference and the failed ones empty."""
        reasons: dict[int, str] = {}
        for index in doubtful:
            values[index], reason = self._reference(index, payloads)
            if reason is not None:
                reasons[index] = reason
        for number, reason in failed.items():
            for index in self._requests[number].points:
                values[index] = None
                reasons[index] = reason
        if len(reasons) == len(values) and len(set(reasons.values())) == 1:
            return values, {"*": [reasons[0]]}
        return values, {str(index): [reasons[index]] for index in sorted(reasons)}

    def _reference(self, index: int, payloads: Sequence[bytes]) -> tuple[Value, str | None]:
        place = self._places[index]
        chunk = payloads[place.request][place.start : place.end]
        if self._points[index].table.is_bits:
            chunk = bytes([chunk[0] >> place.bit & 1])
        return decode_point(self._points[index], chunk)


@dataclass(frozen=True, slots=True)
class _Scale:
    """A point that holds the power of ten of others."""

    by: int
    home: int
    """The power by which the others were decoded."""
    points: tuple[int, ...]


def _scales(points: Sequence[PointType]) -> tuple[_Scale, ...]:
    """Return which points say the power of ten of which; ``ConfigError`` when one is not among them."""
    places = {point.name: index for index, point in enumerate(points)}
    found: dict[tuple[int, int], list[int]] = {}
    for index, point in enumerate(points):
        if point.scale_by:
            if point.scale_by not in places:
                raise ConfigError(
                    f"point {point.name} needs {point.scale_by}, which says its power of ten: "
                    "poll both, at the same interval and with the same owners"
                )
            found.setdefault((places[point.scale_by], point.steps.exp), []).append(index)
    return tuple(_Scale(by, home, tuple(members)) for (by, home), members in found.items())


def _rescaled(points: Sequence[PointType], scales: Sequence[_Scale], row: Row) -> Row:
    """Return a row by the powers of ten that stand in it."""
    values, reasons = row
    if all(values[scale.by] == scale.home for scale in scales) or "*" in reasons:
        return row
    for scale in scales:
        power = values[scale.by]
        if power == scale.home:
            continue
        why = reasons.get(str(scale.by))
        for index in scale.points:
            if values[index] is None:
                continue
            values[index], reason = rescaled(points[index], values[index], power)
            if reason is None:
                reasons.pop(str(index), None)
            else:
                reasons[str(index)] = why if why is not None and power is None else [reason]
    if len(reasons) == len(values) and len({reason for (reason, *_) in reasons.values()}) == 1:
        return values, {"*": next(iter(reasons.values()))}
    return values, {str(index): reasons[str(index)] for index in sorted(map(int, reasons))}


def reference_row(
    points: Sequence[PointType], requests: Sequence[Request], answers: Sequence[bytes | str]
) -> Row:
    """Return what :class:`GroupDecoder` must return, point by point and slowly (for tests and doubt)."""
    values: list[Value] = []
    reasons: list[str | None] = []
    for point, place in zip(points, _places(points, requests), strict=True):
        answer = answers[place.request]
        value: Value = None
        reason: str | None = None
        if isinstance(answer, str):
            reason = answer
        elif len(answer) != requests[place.request].size:
            reason = BAD_FRAME
        else:
            chunk = answer[place.start : place.end]
            if point.table.is_bits:
                chunk = bytes([chunk[0] >> place.bit & 1])
            value, reason = decode_point(point, chunk)
        values.append(value)
        reasons.append(reason)
    places = {point.name: index for index, point in enumerate(points)}
    said = list(zip(values, reasons, strict=True))
    for index, point in enumerate(points):
        if point.scale_by and values[index] is not None:
            power, why = said[places[point.scale_by]]
            values[index], reasons[index] = rescaled(point, values[index], power)
            reasons[index] = why if power is None else reasons[index]
    if reasons and reasons[0] is not None and len(set(reasons)) == 1:
        return values, {"*": [reasons[0]]}
    return values, {str(index): [reason] for index, reason in enumerate(reasons) if reason is not None}


def _places(points: Sequence[PointType], requests: Sequence[Request]) -> tuple[_Place, ...]:
    found: dict[int, _Place] = {}
    for number, request in enumerate(requests):
        for index in request.points:
            point = points[index]
            offset = point.address - request.address
            if not 0 <= offset <= request.count - point.width or point.table is not request.table:
                raise ValueError(f"point {point.name} does not lie in its request")
            if point.table.is_bits:
                found[index] = _Place(number, offset // 8, offset // 8 + 1, offset % 8)
            else:
                found[index] = _Place(number, 2 * offset, 2 * (offset + point.width), point.bit or 0)
    if len(found) != len(points):
        raise ValueError("a point is in no request")
    return tuple(found[index] for index in range(len(points)))


def swapped_bytes(payload: bytes) -> bytes:
    """Return registers with the two bytes of each one exchanged."""
    words = array("H", payload)
    words.byteswap()
    return words.tobytes()


def _passes(
    points: Sequence[PointType], places: Sequence[_Place]
) -> tuple[tuple[_Pass, ...], dict[int, int]]:
    """Return the ``struct`` calls that bring every number, and at which position of all numbers each is."""
    wide = {
        _layout(point, place)
        for point, place in zip(points, places, strict=True)
        if point.width > 1 and point.type is not RegisterType.STRING
    }
    by_layout: dict[_Layout, dict[tuple[int, str], list[int]]] = {}
    for index, (point, place) in enumerate(zip(points, places, strict=True)):
        if point.type is RegisterType.STRING:
            continue
        layout = _layout(point, place)
        if point.width == 1 and not point.table.is_bits and layout not in wide:
            # One register reads the same with its bytes swapped and in the other order: join a call.
            twin = _Layout(layout.request, not layout.swapped, ">" if layout.order == "<" else "<")
            layout = twin if twin in wide else layout
        by_layout.setdefault(layout, {}).setdefault((place.start, CODES[point.type]), []).append(index)
    passes: list[_Pass] = []
    positions: dict[int, int] = {}
    position = 0
    for layout, slots in by_layout.items():
        for run in _apart(slots):
            pads, at = [layout.order], 0
            for start, code in run:
                pads.append(f"{start - at}x{code}")
                at = start + struct.calcsize(">" + code)
                positions.update(dict.fromkeys(slots[start, code], position))
                position += 1
            passes.append(_Pass(layout.request, layout.swapped, struct.Struct("".join(pads)).unpack_from))
    return tuple(passes), positions


def _layout(point: PointType, place: _Place) -> _Layout:
    if point.width == 1:
        return _Layout(place.request, False, "<" if point.byte_order == "little" else ">")
    order = "<" if point.word_order == "little" else ">"
    return _Layout(place.request, point.byte_order != point.word_order, order)


def _apart(slots: Iterable[tuple[int, str]]) -> list[list[tuple[int, str]]]:
    """Return the slots in runs without overlap: one register may be read as two types."""
    runs: list[list[tuple[int, str]]] = []
    ends: list[int] = []
    for start, code in sorted(slots):
        end = start + struct.calcsize(">" + code)
        for number, before in enumerate(ends):
            if before <= start:
                runs[number].append((start, code))
                ends[number] = end
                break
        else:
            runs.append([(start, code)])
            ends.append(end)
    return runs
