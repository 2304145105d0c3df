"""How much of a serial line our link uses, beside a master in C on the same line in the same run.

    python -m bench.serialline [--seconds 3] [--json]

The line is `bench/rtuline.c`: pseudo-terminals at the pace of a baud rate, a device that begins 5 ms after
t3.5, and libmodbus answering.  The arithmetic is that of `drivers.modbus.bustime`: what a line gives when
nobody loses a microsecond.  libmodbus keeps no silence before its next request, so it may use more than
that; with t3.5 slept between it is the fair neighbour.

No real RS-485 driver and no direction pin was tried: a pseudo-terminal has neither a UART's buffers nor the
latency of a USB adapter.
"""

import argparse
import asyncio
import contextlib
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Final

from bench.field import ROOT, compiled
from core.errors import ConfigError, FieldError
from drivers.modbus.bustime import TURN_AROUND_S, read_s
from drivers.modbus.lineurl import LineScheme, LinkUrl
from drivers.modbus.links import LineOptions, open_link
from drivers.modbus.plan import Request
from drivers.modbus.wires import SerialSettings
from drivers.points import Table

BAUDS: Final = (9600, 19200)
COUNTS: Final = (2, 10, 50, 125)
AIM: Final = 0.95
ROUNDS: Final = 3
NOT_TRIED: Final = (
    "No real RS-485 driver and no direction pin was tried: the line is a pair of pseudo-terminals at the "
    "pace of a baud rate, without a UART's buffers or the latency of a USB adapter."
)


@dataclass(frozen=True, slots=True)
class LineUse:
    """One baud rate and one size of reads; uses are shares of the arithmetic."""

    baud: int
    registers: int
    ideal_reads_per_s: float
    ours: float
    ours_lowest: float
    c_master: float
    """libmodbus with t3.5 slept before each request."""
    c_master_without_silence: float
    cpu: float
    """Share of a core that our link took."""
    errors: int


def measure(seconds: float, rounds: int = ROUNDS) -> Iterator[LineUse]:
    """Measure every baud rate and size, at least ``seconds`` for each master and round."""
    programs = [
        compiled(ROOT / "bench" / "rtuline.c"),
        compiled(ROOT / "tests" / "peers" / "modbus_peer.c", "modbus"),
        compiled(ROOT / "bench" / "rtumaster.c", "modbus"),
    ]
    for baud in BAUDS:
        with _line(baud, programs[0], programs[1]) as port:
            for count in COUNTS:
                yield _measured(port, SerialSettings(baud), count, seconds, rounds, programs[2])


def _measured(
    port: str, settings: SerialSettings, count: int, seconds: float, rounds: int, master: Path
) -> LineUse:
    request = Request(Table.HOLDING, 0, count, ())
    ideal = 1 / read_s(request, settings)
    ours: list[float] = []
    silent: list[float] = []
    hasty: list[float] = []
    errors = 0
    before = resource.getrusage(resource.RUSAGE_SELF)
    taken = 0.0
    for _ in range(rounds):  # interleaved: what the machine does meanwhile falls on all
        reads, failed, lasted = run_ours(port, settings, request, seconds)
        ours.append(reads / lasted / ideal)
        errors += failed
        taken += lasted
        for found, silence_s in ((silent, settings.silence_s), (hasty, 0.0)):
            found.append(run_c(master, port, settings, count, seconds, silence_s) / ideal)
    after = resource.getrusage(resource.RUSAGE_SELF)
    cpu = (after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime) / taken
    return LineUse(
        baud=settings.baud,
        registers=count,
        ideal_reads_per_s=round(ideal, 2),
        ours=round(statistics.median(ours), 4),
        ours_lowest=round(min(ours), 4),
        c_master=round(statistics.median(silent), 4),
        c_master_without_silence=round(statistics.median(hasty), 4),
        cpu=round(cpu, 4),
        errors=errors,
    )


def run_ours(port: str, settings: SerialSettings, request: Request, seconds: float) -> tuple[int, int, float]:
    """Return reads, failures and seconds."""

    async def run() -> tuple[int, int, float]:
        link = open_link(LinkUrl("", 0, LineScheme.RTU, port), LineOptions(serial=settings))
        await link.connect()
        reads = failures = 0
        try:
            await link.read(1, request, 0.5)  # the first one listens before it asks
            begin = end = time.monotonic()
            while end - begin < seconds:
                try:
                    await link.read(1, request, 0.5)
                    reads += 1
                except FieldError:
                    failures += 1
                end = time.monotonic()
            return reads, failures, end - begin
        finally:
            await link.close()

    try:
        import uvloop
    except ImportError:
        return asyncio.run(run())
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(run())


def run_c(
    master: Path, port: str, settings: SerialSettings, count: int, seconds: float, silence_s: float
) -> float:
    """Return the reads a second of the master in C."""
    command = [str(master), port, str(settings.baud), "1", str(count), str(seconds)]
    ran = subprocess.run(
        [*command, str(round(silence_s * 1e6))], capture_output=True, text=True, check=True, timeout=60
    )
    words = ran.stdout.split()
    return int(words[1]) / float(words[5])


@contextlib.contextmanager
def _line(baud: int, line: Path, peer: Path) -> Iterator[str]:
    """Run a line with one libmodbus device; yield the master's port."""
    with tempfile.TemporaryFile() as log, contextlib.ExitStack() as stack:
        turn_around = str(round(TURN_AROUND_S * 1e6))
        wires = stack.enter_context(_running([str(line), str(baud), "2", "--turnaround", turn_around], log))
        ports = [wires.stdout.readline().strip() for _ in range(2)] if wires.stdout else []
        device = stack.enter_context(_running([str(peer), "--rtu", ports[1], str(baud), "1"], log))
        if device.stdout is None or not device.stdout.readline().startswith("device"):
            raise ConfigError("the device of the line does not start")
        yield ports[0]


@contextlib.contextmanager
def _running(command: Sequence[str], log: IO[bytes]) -> Iterator["subprocess.Popen[str]"]:
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True) as process:
        try:
            yield process
        finally:
            process.terminate()
            process.wait(10)


def told(one: LineUse) -> str:
    """Return one row of the table."""
    return (
        f"{one.baud:>6} baud, {one.registers:>3} registers, ideal {one.ideal_reads_per_s:>6.2f} reads/s: "
        f"ours {one.ours:.1%} of it (lowest {one.ours_lowest:.1%}), C {one.c_master:.1%}, "
        f"C without silence {one.c_master_without_silence:.1%}, cpu {one.cpu:.1%} of a core, "
        f"errors {one.errors}{'' if one.ours >= AIM else ', below the aim'}"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run and print; 0 when every use reaches the aim."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.serialline", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--seconds", type=float, default=3.0, help="for each master, size and round")
    parser.add_argument("--json", action="store_true", help="one JSON list on the last line")
    options = parser.parse_args(arguments)
    found: list[LineUse] = []
    try:
        for one in measure(options.seconds):
            found.append(one)
            print(told(one), flush=True)
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if options.json:
        print(json.dumps([asdict(one) for one in found]))
    return 0 if all(one.ours >= AIM for one in found) else 1


if __name__ == "__main__":
    sys.exit(main())
