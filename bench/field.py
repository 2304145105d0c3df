"""The field of the benchmark: `fastserver.c` as a process, and the device type that describes its devices.

Relies on a C compiler. Not here: how the server makes its values (they are noisy, see its head comment).
"""

import json
import mmap
import os
import shutil
import struct
import subprocess
from pathlib import Path
from typing import Final

from cli.process import Process
from core.errors import ConfigError

ROOT: Final = Path(__file__).resolve().parent.parent
SERVER: Final = ROOT / "bench" / "fastserver.c"
TYPE: Final = "bench-noisy"
LOG_HEADER: Final = 32
PORT_LOG: Final = struct.Struct("8Q")
ANSWERED: Final = 1
"""Place of the answered reads in fastserver's log of a port."""


def compiled(source: Path, *libraries: str) -> Path:
    """Return the program of one C file, compiled unless that was done before; ``libraries`` as in ``-l``."""
    target = ROOT / ".cache" / "bench" / source.stem
    if target.exists() and target.stat().st_mtime > source.stat().st_mtime:
        return target
    compiler = shutil.which("gcc")
    if compiler is None:
        raise ConfigError("gcc is missing: run apt-get install gcc libc6-dev libmodbus-dev")
    target.parent.mkdir(parents=True, exist_ok=True)
    fresh = target.with_name(f"{target.name}.{os.getpid()}")
    command = [compiler, "-O2", "-std=gnu11", str(source), "-o", str(fresh)]
    command += [f"-l{library}" for library in libraries]
    run = subprocess.run(command, capture_output=True, text=True, timeout=120)
    if run.returncode:
        raise ConfigError(f"{source.name} does not compile: {run.stderr.strip()}")
    fresh.replace(target)
    return target


class Field:
    """The fast server: its ports, and how many reads it answered."""

    def __init__(self, directory: Path, ports: int, units: int = 1) -> None:
        self.log_path: Final = directory / "field.bin"
        self._ports: Final = ports
        self.process: Final = Process(
            "the field",
            [
                str(compiled(SERVER)),
                "--ports",
                str(ports),
                "--units",
                str(units),
                "--log",
                str(self.log_path),
            ],
            directory / "field.log",
            ready=lambda process: process.said().startswith('{"ports"') and "\n" in process.said(),
        )
        self.ports: list[int] = []

    def start(self) -> None:
        """Start it and learn its ports."""
        self.process.start()
        self.ports = json.loads(self.process.said().splitlines()[0])["ports"]

    def answered(self) -> int:
        """Return the reads answered since the start, of all devices."""
        with self.log_path.open("rb") as log, mmap.mmap(log.fileno(), 0, prot=mmap.PROT_READ) as image:
            end = LOG_HEADER + PORT_LOG.size * self._ports
            return sum(one[ANSWERED] for one in PORT_LOG.iter_unpack(image[LOG_HEADER:end]))


def write_type(directory: Path) -> None:
    """Write the device type of the field as the fast server describes it."""
    told = subprocess.run([compiled(SERVER), "--describe"], capture_output=True, check=True, timeout=30)
    described = json.loads(told.stdout)
    lines = [
        "[type]", f'name = "{TYPE}"', 'manufacturer = "Portico"', 'model = "Bench"',
        'description = "50 noisy points, time and counter; for the benchmark alone"', 'kind = "counter"',
        "[source]", 'title = "bench/fastserver.c --describe"', 'edition = "1"',
        'where = "bench/fastserver.c"', "read = 2026-11-22", "verified = true",
        "[limits]", "max_registers = 125",
        "[defaults]", 'table = "holding"', 'type = "float32"', 'byte_order = "big"', 'word_order = "big"',
    ]  # fmt: skip
    for point in described["points"]:
        lines += [
            "[[point]]", f'name = "P{point["index"]:02d}"', f"unit = {json.dumps(point['unit'])}",
            f"address = {point['register']}", f'resolution = "{point["resolution"]}"',
            f"low = {point['min']}", f"high = {point['max']}",
        ]  # fmt: skip
        if point["quantity"] == "energy":
            lines.append("cumulative = true")
    for name, kind, address in (
        ("Time", "uint64", described["time_register"]),
        ("Count", "uint32", described["counter_register"]),
    ):
        lines += ["[[point]]", f'name = "{name}"', 'unit = "1"', f'type = "{kind}"', f"address = {address}"]
    directory.mkdir(parents=True, exist_ok=True)
    (directory / f"{TYPE}.toml").write_text("\n".join(lines) + "\n")
