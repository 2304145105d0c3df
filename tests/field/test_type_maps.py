"""Every shipped type's map by a round trip through foreign servers: libmodbus (TCP and RTU) and pymodbus.

The servers hold words that ``tests.support.typemap`` worked out from the types' files without ``drivers``;
our link reads them by our plan and our decoder, and every value must be exactly what was meant.
"""

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from decimal import Decimal
from pathlib import Path

import pytest

from core.manifest import Value
from drivers.modbus.lineurl import LinkUrl
from drivers.modbus.link import Link
from drivers.modbus.links import LineOptions, open_link
from drivers.modbus.plan import Request, plan
from drivers.modbus.values import GroupDecoder
from drivers.modbus.wires import SerialSettings
from drivers.modbus.writes import send, writes_of
from drivers.points import PointType, RegisterType
from drivers.types import DeviceType, load_type
from simulator.pytest_plugin import Starter
from tests.support import mappeer
from tests.support.cbuild import BuildUnavailable
from tests.support.mappeer import MapPeer
from tests.support.ptyline import PtyLine, honest
from tests.support.typemap import POISON, Field, Map, Raw, read_map, rounds, shipped

SERVERS: dict[str, Callable[[], AbstractContextManager[MapPeer]]] = {
    "libmodbus": mappeer.libmodbus,
    "pymodbus": mappeer.pymodbus,
}
BAUD = 115_200
DEADLINE_S = 2.0


@pytest.fixture(scope="module", params=SERVERS)
def server(request: pytest.FixtureRequest) -> Iterator[MapPeer]:
    """A foreign server over TCP."""
    try:
        with SERVERS[request.param]() as peer:
            yield peer
    except BuildUnavailable as error:
        pytest.skip(str(error))


@contextmanager
def wire(folder: Path) -> Iterator[tuple[str, str]]:
    """Two serial ports joined to one another by socat."""
    program = shutil.which("socat")
    if program is None:
        pytest.skip("socat is missing: run apt-get install socat")
    ends = [folder / "ours", folder / "theirs"]
    with subprocess.Popen([program, *(f"pty,raw,echo=0,link={end}" for end in ends)]) as process:
        try:
            deadline = time.monotonic() + DEADLINE_S
            while not all(end.exists() for end in ends):
                assert time.monotonic() < deadline, "socat made no ports"
                os.sched_yield()
            yield str(ends[0]), str(ends[1])
        finally:
            process.terminate()
            process.wait(10)


def hold(peer: MapPeer, found: Map, requests: Sequence[Request], contents: dict[str, Raw]) -> None:
    """Make a server hold some contents, and poison wherever else a request goes."""
    image: dict[tuple[str, int], int] = {}
    for request in requests:
        for address in range(request.address, request.end):
            image[request.table.value, address] = POISON & 1 if request.table.is_bits else POISON
    bits: dict[tuple[str, int], int] = {}
    for field in found.fields:
        for number, word in enumerate(field.words(contents[field.name])):
            place = field.table, field.address + number
            if field.type == "bit":
                bits[place] = bits.get(place, 0) | word
            else:
                image[place] = word
    for (table, address), word in sorted((image | bits).items()):
        peer.hold(table, address, [word])
    peer.sync()


def amount(point: PointType, value: Value) -> Decimal | str | bool | None:
    """Return what a reader of rows makes of a value."""
    if value is None or isinstance(value, bool):
        return value
    if point.type is RegisterType.STRING:
        return str(value)
    assert isinstance(value, int | str), f"{point.name} is not exact"
    return Decimal(value).scaleb(point.steps.exp)


async def read(link: Link, points: Sequence[PointType], requests: Sequence[Request]) -> dict[str, object]:
    """Return value and reason of every point, read by our plan."""
    answers = [await link.read(1, request, DEADLINE_S) for request in requests]
    values, quality = GroupDecoder(points, requests).decode(answers)
    every = quality.get("*")
    found: dict[str, object] = {}
    for index, point in enumerate(points):
        reasons = every or quality.get(str(index)) or [None]
        assert len(reasons) == 1
        found[point.name] = (amount(point, values[index]), reasons[0])
    return found


def meant(field: Field, raw: Raw) -> object:
    value, reason = field.meaning(raw)
    return value, reason


async def round_trip(peer: MapPeer, url: str, name: str, most: int = 1000) -> int:
    """Hold and read all contents of a type's points; return how many values were compared."""
    kind, found = load_type(name), read_map(name)
    points = kind.told
    requests = plan(points, kind.limits, kind.blocks)
    fields = {field.name: field for field in found.fields}
    assert fields.keys() == {point.name for point in kind.points}
    link = open_link(LinkUrl.parse(url), LineOptions(serial=SerialSettings(BAUD)))
    await link.connect()
    compared = 0
    try:
        for contents in rounds(found)[:most]:
            hold(peer, found, requests, contents)
            said = await read(link, points, requests)
            expected = {point.name: meant(fields[point.name], contents[point.name]) for point in points}
            assert said == expected
            compared += len(said)
    finally:
        await link.close()
    return compared


@pytest.mark.parametrize("name", shipped())
async def test_every_point_of_a_type_is_read_from_a_foreign_server_as_it_was_meant(
    server: MapPeer, name: str
) -> None:
    compared = await round_trip(server, f"modbus+tcp://127.0.0.1:{server.place}", name)
    assert compared >= 4 * len(read_map(name).fields)


def orders(kind: DeviceType) -> Iterator[tuple[PointType, Decimal]]:
    """Yield every order at the ends of what a device takes."""
    for point in kind.points:
        if point.write is not None:
            wanted = {point.write.min, point.write.max, point.write.default, *point.write.also}
            yield from ((point, value) for value in sorted(wanted))


def held(field: Field, value: Decimal) -> list[int]:
    """Return what a register must hold for a value, worked out from the file's keys."""
    scale, offset = field.number("scale") or Decimal(1), field.number("offset") or Decimal(0)
    return field.words(bool(value) if field.type == "bool" else int((value - offset) / scale))


@pytest.mark.parametrize("name", [name for name in shipped() if any(orders(load_type(name)))])
async def test_every_order_is_found_at_a_foreign_server_as_it_was_meant(server: MapPeer, name: str) -> None:
    kind, found = load_type(name), read_map(name)
    fields = {field.name: field for field in found.fields}
    link = open_link(LinkUrl.parse(f"modbus+tcp://127.0.0.1:{server.place}"))
    await link.connect()
    try:
        for point, value in orders(kind):
            field, write = fields[point.name], point.write
            assert write is not None
            server.hold(field.table, field.address, [POISON & 1 if write.function == "coil" else POISON])
            server.sync()
            if write.on_for is not None and value != write.default:
                continue  # no foreign server knows a time in function 5: see the frame below
            hold_s = None if write.hold_register is None else write.hold_register.max
            for one in writes_of(point, value, hold_s):
                await send(link, 1, one, DEADLINE_S)
            assert server.tell(field.table, field.address, field.count) == held(field, value)
            if write.hold_register is not None and value != write.default:
                keys = field.keys["write"]["hold_register"]
                counts = int(Decimal(str(keys["max"])) / Decimal(str(keys.get("scale", 1))))
                words = [counts >> 16, counts & 0xFFFF] if keys["type"] == "uint32" else [counts]
                assert server.tell("holding", keys["address"], len(words)) == words
    finally:
        await link.close()


async def test_relay_is_sent_its_time_in_the_frame_that_its_maker_shows() -> None:
    """The page of the Waveshare board: 01 05 02 00 00 07 8D B0 switches relay 0 on for 700 ms."""
    relay = load_type("waveshare-rtu-relay-d").point("Relay1")
    with PtyLine(honest) as line:
        link = open_link(LinkUrl.parse(f"modbus+rtu://{line.path}"), LineOptions(SerialSettings(BAUD)))
        await link.connect()
        try:
            (write,) = writes_of(relay, 1, Decimal("0.7"))
            await send(link, 1, write, DEADLINE_S)
        finally:
            await link.close()
    assert line.requests[-1] == bytes.fromhex("01 05 02 00 00 07 8d b0")


@pytest.mark.parametrize(
    "name", ["eastron-sdm120", "carlo-gavazzi-em24", "heidelberg-energy-control", "waveshare-rtu-relay-d"]
)
async def test_every_point_of_a_type_is_read_over_a_serial_line_as_it_was_meant(
    tmp_path: Path, name: str
) -> None:
    try:
        with wire(tmp_path) as (ours, theirs), mappeer.libmodbus("--rtu", theirs, str(BAUD)) as peer:
            assert await round_trip(peer, f"modbus+rtu://{ours}", name, most=6)
    except BuildUnavailable as error:
        pytest.skip(str(error))


SIMULATED = """
name = "meters"
seed = 7
start = 2026-11-22T18:00:00+01:00
[[premises]]
name = "home"
[[premises.line]]
name = "line"
kind = "{kind}"
{settings}
"""
MBPOLL = {"float32": "float", "int32": "int", "uint32": "int"}
"""What mbpoll calls a register type of two registers."""


def meters(kind: str, names: Sequence[str]) -> str:
    settings = "baud = 115200" if kind == "rtu" else ""
    devices = "".join(
        f'[[premises.device]]\nname = "{name}"\ntype = "{name}"\nline = "line"\nunit_id = {number}\n'
        for number, name in enumerate(names, start=1)
    )
    return SIMULATED.format(kind=kind, settings=settings) + devices


def mbpolled(where: Sequence[str], unit_id: int, point: PointType) -> Decimal:
    """Return what mbpoll makes of a point's two registers."""
    program = shutil.which("mbpoll")
    if program is None:
        pytest.skip("mbpoll is missing: run apt-get install mbpoll")
    table = "3" if point.table.value == "input" else "4"
    order = ["-B"] if point.word_order == "big" else []
    kind = f"{table}:{MBPOLL[point.type.value]}"
    command = [program, "-0", "-1", "-q", "-a", str(unit_id), "-t", kind, *order, "-r", str(point.address)]
    run = subprocess.run([*command, *where], capture_output=True, text=True, timeout=20, check=False)
    (line,) = (one for one in run.stdout.splitlines() if one.startswith("["))
    return Decimal(line.split()[1])


@pytest.mark.parametrize("kind", ["tcp", "rtu"])
async def test_mbpoll_and_our_link_read_the_same_from_our_simulator(
    portico_premises: Starter, kind: str
) -> None:
    names = ["eastron-sdm630", "schneider-iem3155", "carlo-gavazzi-em24", "abb-b23"]
    home = portico_premises(meters(kind, names), "--speed", "0.001")
    place = home.devices[names[0]]
    where = [place.path, "-m", "rtu", "-b", "115200", "-P", "none"] if kind == "rtu" else []
    where = where or ["-p", str(place.port), "127.0.0.1"]
    url = f"modbus+rtu://{place.path}" if kind == "rtu" else f"modbus+tcp://127.0.0.1:{place.port}"
    compared = 0
    for unit_id, name in enumerate(names, start=1):
        device = load_type(name)
        points = [point for point in device.points if point.type.value in MBPOLL and point.default][:6]
        foreign = {point.name: mbpolled(where, unit_id, point) for point in points}
        link = open_link(LinkUrl.parse(url), LineOptions(serial=SerialSettings(BAUD)))
        await link.connect()
        try:
            requests = plan(points, device.limits, device.blocks)
            answers = [await link.read(unit_id, request, DEADLINE_S) for request in requests]
        finally:
            await link.close()
        values, quality = GroupDecoder(points, requests).decode(answers)
        assert quality == {}
        for point, value in zip(points, values, strict=True):
            ours = amount(point, value)
            assert isinstance(ours, Decimal)
            theirs = foreign[point.name] * point.scale
            # mbpoll tells six digits of a float; integers are told whole.
            near = abs(theirs) / 100_000 + (point.resolution or 0) if point.type.is_float else 0
            assert abs(ours - theirs) <= near, f"{name} {point.name}: {ours} and {theirs}"
            compared += 1
    assert compared == 6 * len(names)
