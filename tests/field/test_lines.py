"""Serial lines against foreign peers: libmodbus and mbpoll, through socat.

The serial line is `bench/rtuline.c`: pseudo-terminals joined like stations on two wires, at the pace of a
baud rate.  No real RS-485 driver and no direction pin is behind any of it.
"""

import asyncio
import contextlib
import functools
import json
import re
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import serial

from bench.serialline import run_c, run_ours
from certs.authority import DevAuthority
from core.errors import FieldError, NoAnswer, Refused
from drivers.modbus.lineurl import LinkUrl
from drivers.modbus.link import ControlLink
from drivers.modbus.links import open_link
from drivers.modbus.plan import Request
from drivers.modbus.wires import SerialSettings
from drivers.points import Table
from simulator.broker import free_port
from tests.support.foreign import (
    DEADLINE_S,
    FLOATS,
    FOUR,
    PATTERN,
    PATTERN_OCTETS,
    ROOT,
    SHORT_S,
    Bus,
    eventually,
    linked,
    options_of,
    program,
    running,
    tool,
)


@pytest.fixture
def bus(tmp_path: Path) -> Iterator[Bus]:
    with contextlib.ExitStack() as stack:
        yield Bus(tmp_path, 38400, 4, stack)


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
