"""Client, plan and decoder against a server of another make, libmodbus: every function and register kind."""

import struct
import subprocess
from collections.abc import AsyncIterator, Iterator
from decimal import Decimal
from pathlib import Path

import pytest

from core.errors import LinkDown, Refused
from core.manifest import shown
from drivers.modbus.lineurl import LinkUrl
from drivers.modbus.link import ModbusTcpLink
from drivers.modbus.plan import Request, plan
from drivers.modbus.registers import encode
from drivers.modbus.values import GroupDecoder
from drivers.points import Table
from drivers.types import DeviceType, load_type
from tests.support.cbuild import BuildUnavailable, build

PEER = Path(__file__).parents[1] / "peers" / "modbus_peer.c"
TYPES = Path(__file__).parents[1] / "support" / "types"
DEADLINE_S = 10.0


class Peer:
    """The running server: where it listens and what it was asked."""

    def __init__(self, port: int, process: "subprocess.Popen[str]", log: Path) -> None:
        self.port = port
        self.process = process
        self._log = log

    def asked(self) -> list[str]:
        """Return every request so far as ``function address count``."""
        return self._log.read_text().splitlines()


@pytest.fixture
def peer(tmp_path: Path) -> Iterator[Peer]:
    try:
        program = build(PEER, "modbus")
    except BuildUnavailable as error:
        pytest.skip(str(error))
    log = tmp_path / "requests"
    with (
        log.open("wb") as requests,
        subprocess.Popen([program, "0"], stdout=subprocess.PIPE, stderr=requests, text=True) as process,
    ):
        try:
            assert process.stdout is not None
            yield Peer(int(process.stdout.readline().split()[1]), process, log)
        finally:
            process.terminate()
            process.wait(5)


@pytest.fixture
async def link(peer: Peer) -> AsyncIterator[ModbusTcpLink]:
    made = ModbusTcpLink(LinkUrl("127.0.0.1", peer.port))
    await made.connect()
    yield made
    await made.close()


@pytest.fixture
def device() -> DeviceType:
    return load_type("modbus-peer", [TYPES])


async def test_every_register_kind_and_order_is_decoded(
    link: ModbusTcpLink, peer: Peer, device: DeviceType
) -> None:
    points = [point for point in device.points if point.default]
    requests = plan(points, device.limits)
    answers = [await link.read(1, request, DEADLINE_S) for request in requests]
    values, quality = GroupDecoder(points, requests).decode(answers)
    found = {
        point.name: shown(point.core_point(0), value) for point, value in zip(points, values, strict=True)
    }
    assert found == {
        "Abcd": Decimal("230.1"),
        "Cdab": Decimal("230.1"),
        "Badc": Decimal("230.10"),
        "Dcba": Decimal("230.1"),
        "Negative": Decimal(-61728),
        "NegativeSwapped": Decimal(-1234560),
        "Huge": Decimal(9007199254740993),
        "Double": Decimal("123456.789"),
        "DoubleRounded": Decimal("123456.79"),
        "Text": "PORTICO",
        "MarkedInt": None,
        "MarkedUint": None,
        "MarkedFloat": None,
        "BeforeTheHole": Decimal(499 * 257 % 65536),
        "BehindTheHole": Decimal(510 * 257 % 65536),
        "Input7": Decimal(7 * 259 + 1),
        "Input7Bit1": True,  # 7 * 259 + 1 = 0b11100010110
        "Input7Bit3": False,
        "Coil9": True,
        "Coil10": False,
        "Discrete15": True,
        "Discrete16": False,
    }
    names = [point.name for point in points]
    assert {names[int(index)]: reasons for index, reasons in quality.items()} == {
        "MarkedInt": ["not-available"],
        "MarkedUint": ["not-available"],
        "MarkedFloat": ["not-available"],
        "BehindTheHole": ["out-of-range"],
    }


async def test_planned_requests_are_what_the_server_was_asked(
    link: ModbusTcpLink, peer: Peer, device: DeviceType
) -> None:
    points = [point for point in device.points if point.default]
    for request in plan(points, device.limits):
        await link.read(1, request, DEADLINE_S)
    assert peer.asked() == [
        "1 9 2",
        "2 15 2",
        "4 7 1",
        "3 100 64",
        "3 499 1",
        "3 510 1",
    ]


async def test_read_over_the_hole_and_larger_than_the_device_bears_is_refused(link: ModbusTcpLink) -> None:
    for address, count, code in ((499, 2, 2), (600, 41, 3), (1199, 2, 2)):
        with pytest.raises(Refused) as error:
            await link.read(1, Request(Table.HOLDING, address, count, ()), DEADLINE_S)
        assert error.value.code == code
    assert await link.read(1, Request(Table.HOLDING, 499, 1, ()), DEADLINE_S) == struct.pack(
        ">H", 499 * 257 % 65536
    )


@pytest.mark.parametrize(
    ("table", "address", "count"),
    [(Table.COIL, 0, 1200), (Table.DISCRETE, 3, 1000), (Table.HOLDING, 0, 125), (Table.INPUT, 1, 125)],
)
async def test_large_reads_of_every_table_hold_the_documented_pattern(
    link: ModbusTcpLink, table: Table, address: int, count: int
) -> None:
    payload = await link.read(255, Request(table, address, count, ()), DEADLINE_S)
    if table.is_bits:
        every = 3 if table is Table.COIL else 5
        bits = int.from_bytes(payload, "little")
        assert [bits >> number & 1 for number in range(count)] == [
            int((address + number) % every == 0) for number in range(count)
        ]
        return
    step, more = (257, 0) if table is Table.HOLDING else (259, 1)
    special = range(100, 170) if table is Table.HOLDING else range(0)
    for number, register in enumerate(struct.unpack(f">{count}H", payload)):
        if address + number not in special:
            assert register == ((address + number) * step + more) % 65536


async def test_what_is_written_is_read_back(link: ModbusTcpLink, peer: Peer, device: DeviceType) -> None:
    for name, value in (("Setpoint", Decimal(-4200)), ("Limit", Decimal("32.5")), ("Switch", Decimal(1))):
        point = device.point(name)
        assert point.write is not None
        items = encode(point, value)
        match point.write.function:
            case "coil":
                await link.write_coil(1, point.address, bool(items[0]), DEADLINE_S)
            case "register":
                await link.write_register(1, point.address, items[0], DEADLINE_S)
            case "registers":
                await link.write_registers(1, point.address, items, DEADLINE_S)
        requests = plan([point])
        answers = [await link.read(1, requests[0], DEADLINE_S)]
        (back,), quality = GroupDecoder([point], requests).decode(answers)
        assert quality == {}
        assert shown(point.core_point(0), back) == (value if name != "Switch" else True)
    await link.write_coils(1, 50, [True, False, False, True], DEADLINE_S)
    assert await link.read(1, Request(Table.COIL, 50, 4, ()), DEADLINE_S) == bytes([0b1001])
    assert [line for line in peer.asked() if int(line.split()[0]) > 4] == [
        "6 300 1",
        "16 310 2",
        "5 40 1",
        "15 50 4",
    ]


async def test_server_that_dies_is_link_down_and_found_again(link: ModbusTcpLink, peer: Peer) -> None:
    await link.read(1, Request(Table.HOLDING, 0, 1, ()), DEADLINE_S)
    peer.process.kill()
    peer.process.wait(5)
    with pytest.raises(LinkDown):
        await link.read(1, Request(Table.HOLDING, 0, 1, ()), DEADLINE_S)
    with pytest.raises(LinkDown, match="refuses"):
        await link.connect()
    with subprocess.Popen(
        [build(PEER, "modbus"), str(peer.port)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as again:
        try:
            assert again.stdout is not None
            assert again.stdout.readline().startswith("port")
            await link.connect()
            assert await link.read(1, Request(Table.HOLDING, 1, 1, ()), DEADLINE_S) == b"\x01\x01"
        finally:
            again.terminate()
            again.wait(5)
