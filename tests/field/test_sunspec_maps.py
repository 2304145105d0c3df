"""SunSpec models by a round trip through foreign servers: a chain of every known model, held by libmodbus and
pymodbus, described here, read by our plan, and compared with what the registers mean.

What they mean is worked out from the tables of the models (``drivers/sunspec/models/*.toml``, read by
``tomllib`` alone) and from what SunSpec says of its types; nothing of ``drivers`` is used for it.
"""

import random
import struct
import tomllib
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import date
from decimal import ROUND_HALF_EVEN, Decimal
from pathlib import Path
from typing import Any

import pytest

from core.manifest import ValueKind
from drivers.modbus.lineurl import LinkUrl
from drivers.modbus.link import ControlLink
from drivers.modbus.links import open_link
from drivers.modbus.plan import plan
from drivers.modbus.values import GroupDecoder
from drivers.modbus.writes import send, writes_of
from drivers.patientread import PatientReader
from drivers.sunspec.devicetype import describe
from drivers.sunspec.discovery import discover
from drivers.types import DeviceType
from tests.support import mappeer
from tests.support.cbuild import BuildUnavailable
from tests.support.mappeer import MapPeer

MODELS = Path(__file__).parents[2] / "drivers" / "sunspec" / "models"
BASE = 40_000
REPEATS = 2
ROUNDS = 8
FORMATS = {"int16": "h", "int32": "i", "int64": "q", "sunssf": "h"}
FORMATS |= {f"{kind}16": "H" for kind in ("uint", "acc", "enum", "bitfield")} | {"count": "H", "pad": "H"}
FORMATS |= {f"{kind}32": "I" for kind in ("uint", "acc", "enum", "bitfield")}
FORMATS |= {f"{kind}64": "Q" for kind in ("uint", "acc")} | {"float32": "f", "float64": "d"}
LARGEST = 10**12
"""Of 64 bits: what is longer than a row can hold, with a scale factor, has tests of its own."""
SERVERS: dict[str, Callable[[], AbstractContextManager[MapPeer]]] = {
    "libmodbus": mappeer.libmodbus,
    "pymodbus": mappeer.pymodbus,
}

Raw = int | float | str


@dataclass(frozen=True, slots=True)
class Cell:
    """One point of one model where it lies in the chain."""

    model: int
    name: str
    kind: str
    address: int
    length: int
    scale: str
    static: bool
    counter: bool = False

    def words(self, raw: Raw) -> list[int]:
        if isinstance(raw, str):
            body = raw.encode().ljust(2 * self.length, b"\0")
        else:
            body = struct.pack(">" + FORMATS[self.kind], raw)
        return list(struct.unpack(f">{len(body) // 2}H", body))

    @property
    def marker(self) -> int | None:
        """The content that means: not implemented."""
        if self.kind.startswith("acc"):
            return 0
        code = FORMATS.get(self.kind, "f")
        if code in "hiq":
            return -(1 << 8 * struct.calcsize(code) - 1)
        return None if code in "fd" else (1 << 8 * struct.calcsize(code)) - 1


def chain() -> tuple[list[Cell], dict[int, int]]:
    """Return every point of a device with all models, and the registers that frame them."""
    frame = dict(enumerate(struct.unpack(">2H", b"SunS"), BASE))
    cells: list[Cell] = []
    at = BASE + 2
    for path in sorted(MODELS.glob("*.toml"), key=lambda one: int(one.stem)):
        document = tomllib.loads(path.read_text())
        model, repeat = document["model"], document.get("repeat", {})
        rows = [*model["points"], *(REPEATS * repeat.get("points", []))]
        length = sum(row[2] for row in rows)
        frame |= {at: model["id"], at + 1: length}
        at += 2
        for name, kind, size, _, scale, flags in rows:
            counter = name == repeat.get("count")
            cells.append(Cell(model["id"], name, kind, at, size, scale, "S" in flags, counter))
            at += size
    return cells, frame | {at: 0xFFFF, at + 1: 0}


def first_contents(cells: list[Cell], chance: random.Random) -> dict[int, Raw]:
    """Return what the registers hold when the device is discovered: every point has a value."""
    found: dict[int, Raw] = {}
    for cell in cells:
        if cell.kind == "string":
            found[cell.address] = f"x{cell.address}"[: 2 * cell.length]
        elif cell.counter:
            found[cell.address] = REPEATS
        elif cell.kind == "sunssf":
            found[cell.address] = chance.randint(-3, 1)
        elif cell.kind == "pad":
            found[cell.address] = 0
        else:
            found[cell.address] = chance.randint(1, 99)
    return found


def later_contents(
    cells: list[Cell], first: Mapping[int, Raw], chance: random.Random, number: int
) -> dict[int, Raw]:
    """Return what they hold later: limits, negative, not available, and other scale factors."""
    found = dict(first)
    for cell in cells:
        if cell.kind == "sunssf" and not cell.static:
            found[cell.address] = chance.randint(-4, 2)
        elif cell.kind not in ("string", "pad", "sunssf") and not cell.counter:
            found[cell.address] = edges(cell)[(number + chance.randint(0, 99)) % len(edges(cell))]
    return found


def edges(cell: Cell) -> list[Raw]:
    code = FORMATS[cell.kind]
    if code in "fd":
        return [0.0, -1.5, 230.25, 1e6, float("nan")]
    size = 8 * struct.calcsize(code)
    top = min((1 << size - (code in "hiq")) - 1, LARGEST if size == 64 else 1 << 62)
    assert cell.marker is not None
    return [0, 1, 7, top, top - 1, cell.marker, *((-1, -12_345, 1 - top) if code in "hiq" else ())]


def meaning(
    cell: Cell, contents: Mapping[int, Raw], scales: Mapping[tuple[int, str], Cell], step: Decimal | None
) -> tuple[Decimal | str | None, str | None]:
    """Return value and reason of a point; ``step`` is that in which our type states it."""
    raw = contents[cell.address]
    if isinstance(raw, str):
        return raw, None
    if raw != raw or (isinstance(raw, int) and raw == cell.marker):
        return None, "not-available"
    value = Decimal(raw)
    if cell.scale:
        power = contents[scales[cell.model, cell.scale].address]
        assert isinstance(power, int)
        value = value.scaleb(power)
    if step is not None and value % step:
        value = (value / step).to_integral_value(ROUND_HALF_EVEN) * step
    return value, None


@pytest.fixture(scope="module", params=SERVERS)
def server(request: pytest.FixtureRequest) -> Iterator[MapPeer]:
    """A foreign server over TCP."""
    try:
        with SERVERS[request.param]() as peer:
            yield peer
    except BuildUnavailable as error:
        pytest.skip(str(error))


def hold(peer: MapPeer, frame: Mapping[int, int], cells: list[Cell], contents: Mapping[int, Raw]) -> None:
    image = dict(frame)
    for cell in cells:
        image |= dict(enumerate(cell.words(contents[cell.address]), cell.address))
    first = min(image)
    peer.hold("holding", first, [image[at] for at in range(first, max(image) + 1)])
    peer.sync()


async def read(link: ControlLink, kind: DeviceType) -> dict[int, tuple[Any, str | None]]:
    """Return value and reason by address."""
    points = kind.points
    requests = plan(points, kind.limits, kind.blocks)
    values, quality = GroupDecoder(points, requests).decode([await link.read(1, one) for one in requests])
    found: dict[int, tuple[Any, str | None]] = {}
    for index, (point, value) in enumerate(zip(points, values, strict=True)):
        (reason,) = quality.get(str(index), [None])
        if value is not None and point.kind is not ValueKind.TEXT:
            shown = (
                Decimal(value).scaleb(point.steps.exp) if point.kind is ValueKind.INTEGER else Decimal(value)
            )
            found[point.address] = (shown, reason)
        else:
            found[point.address] = (value, reason)
    return found


async def described(link: ControlLink) -> DeviceType:
    found = await discover(PatientReader(link, 1))
    return describe(found, "every-model", date(2026, 11, 22)).type


async def test_every_point_of_every_model_is_read_from_a_foreign_server_as_it_was_meant(
    server: MapPeer,
) -> None:
    chance = random.Random(7)
    cells, frame = chain()
    scales = {(cell.model, cell.name): cell for cell in cells if cell.kind == "sunssf"}
    first = first_contents(cells, chance)
    hold(server, frame, cells, first)
    link = open_link(LinkUrl.parse(f"modbus+tcp://127.0.0.1:{server.place}"))
    await link.connect()
    try:
        kind = await described(link)
        steps = {
            point.address: (point.resolution or point.scale)
            if point.kind is ValueKind.INTEGER and point.type.value != "string"
            else None
            for point in kind.points
        }
        told = [cell for cell in cells if cell.address in steps]
        assert len(told) == len(steps) > 0.9 * sum(cell.kind not in ("pad", "sunssf") for cell in cells)
        for number in range(ROUNDS):
            contents = later_contents(cells, first, chance, number)
            hold(server, frame, cells, contents)
            said = await read(link, kind)
            for cell in told:
                expected = meaning(cell, contents, scales, steps[cell.address])
                assert said[cell.address] == expected, f"model {cell.model} {cell.name} in round {number}"
    finally:
        await link.close()


async def test_every_order_of_every_model_is_found_at_a_foreign_server_as_it_was_meant(
    server: MapPeer,
) -> None:
    cells, frame = chain()
    contents = first_contents(cells, random.Random(11))
    scales = {(cell.model, cell.name): cell for cell in cells if cell.kind == "sunssf"}
    for cell in scales.values():
        contents[cell.address] = -1
    by_address = {cell.address: cell for cell in cells}
    hold(server, frame, cells, contents)
    link = open_link(LinkUrl.parse(f"modbus+tcp://127.0.0.1:{server.place}"))
    await link.connect()
    sent = 0
    try:
        kind = await described(link)
        for point in kind.points:
            if point.write is None:
                continue
            cell = by_address[point.address]
            for value in (point.write.min, point.write.max, point.write.default):
                hold_s = None if point.write.hold_register is None else 3600
                power = -1 if point.scale_by else None
                for one in writes_of(point, value, hold_s, power):
                    assert one.function == 16
                    await send(link, 1, one)
                raw = int(value.scaleb(1)) if cell.scale else int(value)
                assert server.tell("holding", cell.address, cell.length) == cell.words(raw)
                if hold_s is not None and value != point.write.default:
                    assert point.write.hold_register is not None
                    timer = by_address[point.write.hold_register.address]
                    assert timer.name.endswith("RvrtTms")
                    assert server.tell("holding", timer.address, timer.length) == timer.words(3600)
                sent += 1
    finally:
        await link.close()
    assert sent >= 3 * 20
