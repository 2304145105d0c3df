"""Relays of the command benchmark: `relaypeer.c` behind TCP or behind a line at the pace of a baud rate.

Each tells when a write reached it.  The device type is that of a relay with 50 further values, so that one
poll of it fills the line.  Relies on a C compiler and libmodbus.  Not here: who commands (`bench.command`).
"""

import contextlib
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.field import ROOT, compiled
from cli.process import Process
from core.errors import ConfigError
from drivers.modbus.bustime import TURN_AROUND_S, read_s
from drivers.modbus.plan import Request, plan
from drivers.modbus.wires import SerialSettings
from drivers.types import load_type

BAUD: Final = 9600
TYPE: Final = "bench-relay"
PEER: Final = ROOT / "bench" / "relaypeer.c"
SHED: Final = 0xFF00
VALUES: Final = 50
_TYPE: Final = """\
[type]
name = "bench-relay"
manufacturer = "Portico"
model = "Bench"
description = "A relay with a hold and 50 values that nobody needs; for the benchmark alone"
kind = "relay"
[source]
title = "bench/relaypeer.c"
edition = "1"
where = "bench/relaypeer.c"
read = 2026-11-22
verified = true
[limits]
max_registers = 125
max_hole = 0
timeout_ms = 1000
[defaults]
table = "holding"
byte_order = "big"
word_order = "big"
[[point]]
name = "LoadShed"
table = "coil"
type = "bool"
address = 0
unit = ""
[point.write]
function = "coil"
min = 0
max = 1
step = 1
default = 0
writes_a_day = 1_000_000
hold = "timer"
hold_register = { table = "holding", address = 0, type = "uint16", max = 65535 }
feedback = "LoadState"
min_on_s = 0
min_off_s = 0
essential = false
[[point]]
name = "LoadState"
table = "discrete"
type = "bool"
address = 0
unit = ""
"""


@dataclass(frozen=True, slots=True)
class Written:
    """One write as it reached a relay; wall clock, ns."""

    first_ns: int
    last_ns: int
    function: int
    address: int
    value: int


class Relay:
    """One relay as a process."""

    def __init__(self, directory: Path, name: str, *arguments: str) -> None:
        self.process: Final = Process(
            f"the relay {name}",
            [str(compiled(PEER, "modbus")), *arguments],
            directory / f"{name}.log",
            ready=lambda process: "\n" in process.said(),
        )

    @property
    def port(self) -> int:
        """The port on which it listens."""
        return int(self.process.said().split()[1])

    def written(self) -> list[Written]:
        """Return the writes that came so far."""
        whole = self.process.said().rpartition("\n")[0].splitlines()
        return [Written(*map(int, line.split()[1:])) for line in whole if line.startswith("write ")]


def write_type(directory: Path) -> None:
    """Write the device type."""
    points = [
        f'[[point]]\nname = "V{number:02d}"\ntype = "float32"\naddress = {20 + 2 * number}\nunit = "V"\n'
        'resolution = "0.1"\n'
        for number in range(VALUES)
    ]
    (directory / f"{TYPE}.toml").write_text(_TYPE + "".join(points))


def poll_times_s(types: Path) -> list[float]:
    """Return how long each request of a poll takes on the line, by the arithmetic."""
    requests: list[Request] = list(plan([one for one in load_type(TYPE, [types]).points if one.readable]))
    return [read_s(one, SerialSettings(BAUD)) for one in requests]


@contextlib.contextmanager
def line(directory: Path) -> Iterator[tuple[str, Relay]]:
    """Run a line at the pace of its baud rate with one relay; yield the master's port and the relay."""
    turn_around = str(round(TURN_AROUND_S * 1e6))
    program = str(compiled(ROOT / "bench" / "rtuline.c"))
    with (
        tempfile.TemporaryFile() as log,
        subprocess.Popen(
            [program, str(BAUD), "2", "--turnaround", turn_around],
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            start_new_session=True,
        ) as wires,
    ):
        try:
            if wires.stdout is None:
                raise ConfigError("the line does not start")
            ports = [wires.stdout.readline().strip() for _ in range(2)]
            relay = Relay(directory, "busy", "--rtu", ports[1], str(BAUD), "1")
            try:
                relay.process.start()
                yield ports[0], relay
            finally:
                relay.process.kill9()
        finally:
            wires.terminate()
            wires.wait(10)
