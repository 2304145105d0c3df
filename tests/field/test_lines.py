"""Lines of every kind against foreign peers: libmodbus, mbpoll and pymodbus's servers, through socat.

The serial line is `bench/rtuline.c`: pseudo-terminals joined like stations on two wires, at the pace of a
baud rate.  No real RS-485 driver and no direction pin is behind any of it.
"""

import asyncio
import contextlib
import functools
import json
import re
import shutil
import signal
import socket
import ssl
import struct
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

import pytest
import serial
from pymodbus import FramerType
from pymodbus.server import ModbusTcpServer, ModbusTlsServer
from pymodbus.simulator import DataType, SimData, SimDevice

from bench.serialline import run_c, run_ours
from certs.authority import DevAuthority
from certs.contexts import client_context, server_context
from core.errors import FieldError, LinkDown, NoAnswer, Refused
from drivers.modbus.dialin import Callers
from drivers.modbus.lineurl import LinkUrl
from drivers.modbus.link import ControlLink
from drivers.modbus.links import LineOptions, open_link
from drivers.modbus.plan import Request
from drivers.modbus.wires import SerialSettings
from drivers.points import Table
from tests.support.cbuild import BuildUnavailable, build
from tests.support.rolecert import issue_with_role

ROOT = Path(__file__).parents[2]
PEER = ROOT / "tests" / "peers" / "modbus_peer.c"
RTULINE = ROOT / "bench" / "rtuline.c"
Answer = TypeVar("Answer")
DEADLINE_S = 10.0
SHORT_S = 0.3
FOUR = Request(Table.HOLDING, 100, 4, ())
FLOATS = struct.pack(">4H", 0x4366, 0x199A, 0x199A, 0x4366)
"""230.1 in two word orders, as the peer holds it at 100 and 102."""
PATTERN = Request(Table.HOLDING, 2, 3, ())
PATTERN_OCTETS = struct.pack(">3H", 2 * 257, 3 * 257, 4 * 257)


def program(source: Path, *libs: str) -> Path:
    """Return a compiled program, or skip and say what is missing."""
    try:
        return build(source, *libs)
    except BuildUnavailable as error:
        pytest.skip(str(error))


def tool(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is missing: run apt-get install {name}")
    return found


@contextlib.contextmanager
def running(command: Sequence[str | Path], log: Path) -> Iterator["subprocess.Popen[str]"]:
    """Run a program until the block ends."""
    with (
        log.open("ab") as errors,
        subprocess.Popen(
            list(map(str, command)), stdout=subprocess.PIPE, stderr=errors, text=True
        ) as process,
    ):
        try:
            yield process
        finally:
            process.send_signal(signal.SIGCONT)
            process.terminate()
            process.wait(10)


def said(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


class Bus:
    """A serial line with some stations and what runs on them."""

    def __init__(self, folder: Path, baud: int, stations: int, stack: contextlib.ExitStack) -> None:
        self.baud = baud
        self.folder = folder
        self._stack = stack
        command = [program(RTULINE), str(baud), str(stations), "--turnaround", "3000"]
        line = stack.enter_context(running(command, folder / "line"))
        self.ports = [said(line) for _ in range(stations)]
        self._free = self.ports[1:]

    def peer(self, unit_id: int) -> "subprocess.Popen[str]":
        """Start a libmodbus server on the next station."""
        command = [program(PEER, "modbus"), "--rtu", self._free.pop(0), str(self.baud), str(unit_id)]
        process = self._stack.enter_context(running(command, self.folder / f"peer-{unit_id}"))
        assert said(process).startswith("device ")
        return process

    def asked(self, unit_id: int) -> list[str]:
        """Return every request so far as ``function address count``."""
        return (self.folder / f"peer-{unit_id}").read_text().splitlines()

    @property
    def url(self) -> LinkUrl:
        return LinkUrl.parse(f"modbus+rtu://{self.ports[0]}")


@pytest.fixture
def bus(tmp_path: Path) -> Iterator[Bus]:
    with contextlib.ExitStack() as stack:
        yield Bus(tmp_path, 38400, 4, stack)


@asynccontextmanager
async def linked(url: LinkUrl, options: LineOptions | None = None) -> AsyncIterator[ControlLink]:
    link = open_link(url, options)
    await link.connect()
    try:
        yield link
    finally:
        await link.close()


def options_of(bus: Bus) -> LineOptions:
    return LineOptions(serial=SerialSettings(bus.baud))


async def eventually(ask: Callable[[], Coroutine[None, None, Answer]]) -> Answer:
    """Ask again until there is an answer."""
    end = time.monotonic() + DEADLINE_S
    while True:
        try:
            return await ask()
        except FieldError:
            if time.monotonic() > end:
                raise
            await asyncio.sleep(0.02)


async def test_every_function_is_understood_by_a_foreign_device_on_the_line(bus: Bus) -> None:
    bus.peer(1)
    async with linked(bus.url, options_of(bus)) as link:
        assert await link.read(1, FOUR, DEADLINE_S / 50) == FLOATS
        coils = await link.read(1, Request(Table.COIL, 0, 100, ()), DEADLINE_S)
        discretes = await link.read(1, Request(Table.DISCRETE, 0, 100, ()), DEADLINE_S)
        inputs = await link.read(1, Request(Table.INPUT, 1, 125, ()), DEADLINE_S)
        for every, bits in ((3, coils), (5, discretes)):
            assert [int.from_bytes(bits, "little") >> at & 1 for at in range(100)] == [
                int(at % every == 0) for at in range(100)
            ]
        assert struct.unpack(">125H", inputs) == tuple((at * 259 + 1) % 65536 for at in range(1, 126))
        await link.write_coil(1, 40, True, DEADLINE_S)
        await link.write_register(1, 300, 4711, DEADLINE_S)
        await link.write_coils(1, 50, [True, False, False, True], DEADLINE_S)
        await link.write_registers(1, 310, [1, 65535], DEADLINE_S)
        assert await link.read(1, Request(Table.COIL, 40, 1, ()), DEADLINE_S) == b"\x01"
        assert await link.read(1, Request(Table.COIL, 50, 4, ()), DEADLINE_S) == bytes([0b1001])
        assert await link.read(1, Request(Table.HOLDING, 310, 2, ()), DEADLINE_S) == b"\0\1\xff\xff"
        with pytest.raises(Refused) as error:
            await link.read(1, Request(Table.HOLDING, 499, 2, ()), DEADLINE_S)
        assert error.value.code == 2
        assert [line for line in bus.asked(1) if int(line.split()[0]) > 4] == [
            "5 40 1",
            "6 300 1",
            "15 50 4",
            "16 310 2",
        ]


async def test_devices_on_one_line_are_told_apart_and_a_dead_one_costs_its_tries(bus: Bus) -> None:
    bus.peer(1)
    bus.peer(2)
    async with linked(bus.url, options_of(bus)) as link:
        await link.write_register(1, 7, 111, SHORT_S)
        await link.write_register(2, 7, 222, SHORT_S)
        seven = Request(Table.HOLDING, 7, 1, ())
        for _ in range(2):
            with pytest.raises(NoAnswer):
                await link.read(3, seven, SHORT_S)
            # libmodbus takes the request that follows for the answer that did not come.
            one, two = (
                functools.partial(link.read, 1, seven, SHORT_S),
                functools.partial(link.read, 2, seven, SHORT_S),
            )
            assert await eventually(one) == (111).to_bytes(2, "big")
            assert await eventually(two) == (222).to_bytes(2, "big")


async def test_answer_of_a_foreign_device_that_was_stopped_is_never_taken_for_the_next(bus: Bus) -> None:
    """It answers what it finds when it goes on: the same unit, function and length, other registers."""
    stopped = bus.peer(1)
    async with linked(bus.url, options_of(bus)) as link:
        assert await link.read(1, Request(Table.HOLDING, 100, 3, ()), SHORT_S) == FLOATS[:6]
        for round_, pause_s in enumerate((0.0, SHORT_S, 1.7 * SHORT_S, 0.0, SHORT_S, 1.7 * SHORT_S)):
            if round_ == 3:  # from here on the link knows a read of another length
                assert await link.read(1, FOUR, SHORT_S) == FLOATS
            stopped.send_signal(signal.SIGSTOP)
            with pytest.raises(NoAnswer):
                await link.read(1, Request(Table.HOLDING, 100, 3, ()), SHORT_S)
            await asyncio.sleep(pause_s)
            stopped.send_signal(signal.SIGCONT)
            right = 0
            for _ in range(5):
                with contextlib.suppress(FieldError):
                    assert await link.read(1, PATTERN, SHORT_S) == PATTERN_OCTETS
                    right += 1
            assert right >= 3


async def test_mbpoll_and_our_link_read_the_same_from_one_line(bus: Bus) -> None:
    bus.peer(1)
    command = [
        tool("mbpoll"),
        "-m",
        "rtu",
        "-b",
        str(bus.baud),
        "-P",
        "none",
        "-a",
        "1",
        "-r",
        "101",
        "-c",
        "4",
    ]
    ran = subprocess.run(
        [*command, "-t", "4", "-o", "2", "-1", bus.ports[0]],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    foreign = [int(value) for value in re.findall(r"^\[\d+\]:\s+(\d+)", ran.stdout, flags=re.MULTILINE)]
    async with linked(bus.url, options_of(bus)) as link:
        assert struct.unpack(">4H", await link.read(1, FOUR, SHORT_S)) == tuple(foreign)


def test_line_of_the_bench_takes_its_time_and_destroys_what_is_said_at_once(bus: Bus) -> None:
    """Twenty characters of 10 bits at 38,400 baud are 5.2 ms; two stations at once bring nothing whole."""
    with contextlib.ExitStack() as stack:
        ports = [stack.enter_context(serial.Serial(port, timeout=DEADLINE_S)) for port in bus.ports]
        begin = time.monotonic()
        ports[0].write(bytes(range(20)))
        assert [port.read(20) for port in ports[1:]] == [bytes(range(20))] * 3
        assert time.monotonic() - begin >= 20 * 10 / 38400
        ports[1].write(bytes(200))
        ports[2].write(b"U" * 200)
        assert b"\xff" in ports[0].read(400)


def test_bench_of_the_line_counts_reads_and_no_error(bus: Bus) -> None:
    master = program(ROOT / "bench" / "rtumaster.c", "modbus")
    bus.peer(1)
    settings = SerialSettings(bus.baud)
    reads, errors, _ = run_ours(bus.ports[0], settings, FOUR, 0.3)
    assert reads > 1
    assert errors == 0
    assert run_c(master, bus.ports[0], settings, 4, 0.3, settings.silence_s) > 1


async def test_two_lines_are_asked_at_the_same_time_and_do_not_wait_for_each_other(tmp_path: Path) -> None:
    with contextlib.ExitStack() as stack:
        for name in ("a", "b"):
            (tmp_path / name).mkdir()
        one, other = (Bus(tmp_path / name, 38400, 2, stack) for name in ("a", "b"))
        one.peer(1)
        async with (
            linked(one.url, options_of(one)) as good,
            linked(other.url, options_of(other)) as dead,
            asyncio.TaskGroup() as group,
        ):
            silent = group.create_task(no_answer(dead), name="dead")
            for _ in range(5):
                assert await good.read(1, FOUR, SHORT_S) == FLOATS
            assert not silent.done()


async def no_answer(link: ControlLink) -> None:
    with pytest.raises(NoAnswer):
        await link.read(1, FOUR, 2.0)


async def test_transparent_serial_server_is_a_line(bus: Bus, tmp_path: Path) -> None:
    """socat takes the place of the converter: TCP on one side, the line on the other."""
    bus.peer(1)
    port = free_port()
    command = [
        tool("socat"),
        f"TCP-LISTEN:{port},bind=127.0.0.1,reuseaddr,fork",
        f"{bus.ports[0]},raw,echo=0",
    ]
    with running(command, tmp_path / "socat"):
        link = open_link(LinkUrl.parse(f"modbus+rtu+tcp://127.0.0.1:{port}"))
        await eventually(link.connect)
        try:
            assert await link.read(1, FOUR, SHORT_S) == FLOATS
            with pytest.raises(NoAnswer):
                await link.read(2, FOUR, SHORT_S)
            await eventually(functools.partial(link.write_register, 1, 9, 4711, SHORT_S))
            assert await link.read(1, Request(Table.HOLDING, 9, 1, ()), SHORT_S) == b"\x12\x67"
        finally:
            await link.close()


def held() -> SimDevice:
    """A device of pymodbus's server: holding registers 0 to 9 hold 1000 and more."""
    return SimDevice(1, SimData(0, values=list(range(1000, 1010)), datatype=DataType.UINT16))


@asynccontextmanager
async def serving(server: ModbusTcpServer) -> AsyncIterator[int]:
    await server.serve_forever(background=True)
    try:
        yield server.transport.sockets[0].getsockname()[1]  # type: ignore[attr-defined]
    finally:
        await server.shutdown()


async def test_rtu_over_tcp_is_understood_by_the_server_of_pymodbus() -> None:
    server = ModbusTcpServer(held(), framer=FramerType.RTU, address=("127.0.0.1", 0))
    async with serving(server) as port, linked(LinkUrl.parse(f"modbus+rtu+tcp://127.0.0.1:{port}")) as link:
        for _ in range(3):
            octets = await link.read(1, Request(Table.HOLDING, 2, 3, ()), SHORT_S)
            assert struct.unpack(">3H", octets) == (1002, 1003, 1004)
        await link.write_register(1, 4, 7, SHORT_S)
        assert await link.read(1, Request(Table.HOLDING, 4, 1, ()), SHORT_S) == b"\0\7"


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A folder with an authority, a device's server certificate and our certificate with a role."""
    authority = DevAuthority.create(tmp_path)
    authority.issue_server(["127.0.0.1"], name="device")
    authority.issue_server(["meter.example"], name="elsewhere")
    authority.issue_client("meter-7")
    authority.issue_client("stranger")
    issue_with_role(tmp_path, "gw-0001", b"\x0c\x08Operator")
    return tmp_path


def tls_options(site: Path, server_name: str | None = None) -> LineOptions:
    return LineOptions(
        tls=lambda: client_context(site / "ca.pem", site / "gw-0001.pem", site / "gw-0001.key"),
        server_name=server_name,
    )


async def test_modbus_security_is_understood_by_the_server_of_pymodbus(site: Path) -> None:
    context = server_context(site / "ca.pem", site / "device.pem", site / "device.key")
    server = ModbusTlsServer(held(), address=("127.0.0.1", 0), sslctx=context)
    async with serving(server) as port:
        url = LinkUrl.parse(f"modbus+tls://127.0.0.1:{port}")
        async with linked(url, tls_options(site)) as link:
            assert await link.read(1, Request(Table.HOLDING, 2, 1, ()), SHORT_S) == b"\x03\xea"
            await link.write_register(1, 4, 7, SHORT_S)
            assert await link.read(1, Request(Table.HOLDING, 4, 1, ()), SHORT_S) == b"\0\7"


async def test_modbus_security_is_modbus_tcp_inside_tls(site: Path, tmp_path: Path) -> None:
    """socat takes TLS off, libmodbus answers: no framing of our own make is between."""
    with contextlib.ExitStack() as stack:
        peer = stack.enter_context(running([program(PEER, "modbus"), "0"], tmp_path / "peer"))
        inner, outer = said(peer).split()[1], free_port()
        listen = f"OPENSSL-LISTEN:{outer},bind=127.0.0.1,reuseaddr,fork,verify=1,cafile={site / 'ca.pem'}"
        files = f",cert={site / 'device.pem'},key={site / 'device.key'}"
        command = [tool("socat"), listen + files, f"TCP:127.0.0.1:{inner}"]
        stack.enter_context(running(command, tmp_path / "socat"))
        link = open_link(LinkUrl.parse(f"modbus+tls://127.0.0.1:{outer}"), tls_options(site))
        await eventually(link.connect)
        try:
            assert await link.read(1, FOUR, SHORT_S) == FLOATS
        finally:
            await link.close()


async def test_device_with_a_certificate_of_another_name_is_not_asked(site: Path) -> None:
    context = server_context(site / "ca.pem", site / "elsewhere.pem", site / "elsewhere.key")
    async with serving(ModbusTlsServer(held(), address=("127.0.0.1", 0), sslctx=context)) as port:
        url = LinkUrl.parse(f"modbus+tls://127.0.0.1:{port}")
        with pytest.raises(LinkDown, match="its certificate does not hold"):
            await open_link(url, tls_options(site)).connect()
        async with linked(url, tls_options(site, "meter.example")) as link:
            assert await link.read(1, Request(Table.HOLDING, 2, 1, ()), SHORT_S) == b"\x03\xea"


async def test_plain_server_where_tls_is_expected_is_told() -> None:
    async with serving(ModbusTcpServer(held(), address=("127.0.0.1", 0))) as port:
        options = LineOptions(tls=ssl.create_default_context, connect_timeout_s=SHORT_S)
        with pytest.raises(LinkDown):
            await open_link(LinkUrl.parse(f"modbus+tls://127.0.0.1:{port}"), options).connect()


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


async def test_device_that_dials_in_from_a_trusted_address_is_asked(tmp_path: Path) -> None:
    port = free_port()
    url = LinkUrl.parse(f"modbus+listen://127.0.0.1:{port}")
    with contextlib.ExitStack() as stack:
        peer = stack.enter_context(running([program(PEER, "modbus"), "0"], tmp_path / "peer"))
        inner = said(peer).split()[1]
        trusted = LineOptions(callers=Callers(addresses=frozenset({"127.0.0.1"})))
        async with linked(url, trusted) as link:
            with pytest.raises(LinkDown, match="has not dialled in"):
                await link.read(1, FOUR, SHORT_S)
            dial = [tool("socat"), f"TCP:127.0.0.1:{port}", f"TCP:127.0.0.1:{inner}"]
            for _ in range(2):  # the second dials while the first still holds
                stack.enter_context(running(dial, tmp_path / "socat"))
                assert await eventually(lambda: link.read(1, FOUR, SHORT_S)) == FLOATS
            await link.write_register(1, 9, 4711, SHORT_S)
            assert link.connected
        stranger = LineOptions(callers=Callers(addresses=frozenset({"127.0.0.2"})))
        async with linked(url, stranger) as link:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            assert await _.read() == b""
            writer.close()
            with pytest.raises(LinkDown, match="has not dialled in"):
                await link.read(1, FOUR, SHORT_S)


async def test_device_that_dials_in_is_what_its_certificate_says(site: Path, tmp_path: Path) -> None:
    port = free_port()
    with contextlib.ExitStack() as stack:
        peer = stack.enter_context(running([program(PEER, "modbus"), "0"], tmp_path / "peer"))
        inner = said(peer).split()[1]
        options = LineOptions(
            tls=lambda: server_context(site / "ca.pem", site / "device.pem", site / "device.key"),
            callers=Callers(units={"meter-7": 7, "meter-8": 8}),
        )

        def dial(name: str) -> None:
            files = f"cert={site / f'{name}.pem'},key={site / f'{name}.key'},cafile={site / 'ca.pem'}"
            command = [tool("socat"), f"OPENSSL:127.0.0.1:{port},{files}", f"TCP:127.0.0.1:{inner}"]
            stack.enter_context(running(command, tmp_path / f"socat-{name}"))

        async with linked(LinkUrl.parse(f"modbus+listen://127.0.0.1:{port}"), options) as link:
            dial("stranger")
            dial("meter-7")
            assert await eventually(lambda: link.read(7, FOUR, SHORT_S)) == FLOATS
            with pytest.raises(LinkDown, match="unit 8 has not dialled in"):
                await link.read(8, FOUR, SHORT_S)  # the peer would answer any unit: it is not asked
            with pytest.raises(LinkDown, match="unit 1 has not dialled in"):
                await link.read(1, FOUR, SHORT_S)
            await until(lambda: getattr(link, "refused", 0) == 1)


async def until(done: Callable[[], bool]) -> None:
    end = time.monotonic() + DEADLINE_S
    while not done():
        assert time.monotonic() < end
        await asyncio.sleep(0.01)


AGENT = """\
[gateway]
id = "gw-0001"
data_dir = "var"
setting = "development"
clock = "trusted"
types = ["{types}"]

[[line]]
name = "wires"
url = "modbus+rtu://{port}"
baud = {baud}
timeout = "300ms"
"""
DEVICE = """
[[device]]
name = "meter-{unit}"
type = "modbus-peer"
line = "wires"
unit_id = {unit}
every = "1s"
points = ["Abcd", "Huge", "Text"]
owner = "dso.example"
"""


@pytest.mark.timeout(90)
async def test_agent_stores_what_the_devices_of_a_serial_line_hold(bus: Bus, tmp_path: Path) -> None:
    bus.peer(1)
    bus.peer(2)
    DevAuthority.create(tmp_path).issue_all(gateways=["gw-0001"])
    config = tmp_path / "gateway.toml"
    text = AGENT.format(types=ROOT / "tests" / "support" / "types", port=bus.ports[0], baud=bus.baud)
    config.write_text(text + "".join(DEVICE.format(unit=unit) for unit in (1, 2, 3)))
    portico: list[str | Path] = [sys.executable, "-c", "from cli.main import main; main()"]
    with running([*portico, "agent", "run", "-c", config], tmp_path / "agent"):
        rows: list[dict[str, object]] = []

        def stored() -> bool:
            ran = subprocess.run(
                [*portico, "store", "tail", tmp_path / "var", "--json", "-n", "60"],
                capture_output=True,
                text=True,
                timeout=30,
                check=False,
                cwd=ROOT,
            )
            rows[:] = [json.loads(line) for line in ran.stdout.splitlines()]
            return sum("230.1" in json.dumps(row) for row in rows) >= 6

        await until_slowly(stored)
    assert any("timeout" in json.dumps(row) for row in rows)  # unit 3 is not there


async def until_slowly(done: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not done():
        assert time.monotonic() < end
        await asyncio.sleep(0.5)
