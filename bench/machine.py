"""On what a measurement was made: machine, disk, versions, without any name or path of the machine."""

import importlib.metadata
import os
import platform
import re
import sqlite3
import ssl
import statistics
import subprocess
import time
from pathlib import Path
from typing import Final

from simulator.broker import find_mosquitto

PACKAGES: Final = ("pymodbus", "paho-mqtt", "uvloop", "msgspec", "cryptography")
FLUSHES: Final = 200


def described(directory: Path) -> list[tuple[str, str]]:
    """Return name and value of what matters; ``directory`` lies on the disk that was used."""
    return [
        ("processor", f"{_processor()}, {os.cpu_count()} cores"),
        ("memory", f"{_memory_gib():.0f} GiB"),
        ("system", f"{_system()}, kernel {platform.release()}"),
        (
            "disk",
            f"{_disk(directory)}; fdatasync of one page {flush_ms(directory):.2f} ms (median of {FLUSHES})",
        ),
        ("Python", f"{platform.python_version()}, {ssl.OPENSSL_VERSION.rpartition(' ')[0]}"),
        ("SQLite", sqlite3.sqlite_version),
        ("mosquitto", _mosquitto()),
        *((name, importlib.metadata.version(name)) for name in PACKAGES),
    ]


def flush_ms(directory: Path) -> float:
    """Return how long one page takes to the disk, in ms: the price of a commit, whatever writes it."""
    path = directory / "flush.probe"
    handle = os.open(path, os.O_CREAT | os.O_RDWR)
    try:
        times = []
        for number in range(FLUSHES):
            os.pwrite(handle, os.urandom(4096), 4096 * number)
            begun = time.perf_counter()
            os.fdatasync(handle)
            times.append(time.perf_counter() - begun)
    finally:
        os.close(handle)
        path.unlink()
    return statistics.median(times) * 1000


def load() -> str:
    """Return the load averages, and so whether somebody else was at work."""
    return " ".join(f"{one:.2f}" for one in os.getloadavg())


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _memory_gib() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30


def _system() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        return platform.system()


def _disk(directory: Path) -> str:
    """Return file system and kind of the disk under a directory."""
    mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    path = str(directory.resolve())
    under = [one for one in mounts if path == one[1] or path.startswith(one[1].rstrip("/") + "/")]
    if not under:
        return "unknown"
    device, _, system, options, *_ = max(under, key=lambda one: len(one[1]))
    name = re.sub(r"p?\d+$", "", Path(device).name)
    queue = Path("/sys/block") / name / "queue"
    kind = "virtual disk" if name.startswith("vd") else "disk"
    try:
        kind += ", rotating" if (queue / "rotational").read_text().strip() == "1" else ", not rotating"
        kind += f", cache {(queue / 'write_cache').read_text().strip()}"
    except OSError:
        kind = "no block device"
    shown = ",".join(one for one in options.split(",") if one.startswith(("data=", "barrier", "nobarrier")))
    return f"{system}{' ' + shown if shown else ''} on a {kind}"


def _mosquitto() -> str:
    run = subprocess.run([find_mosquitto(), "-h"], capture_output=True, text=True, timeout=10)
    return run.stdout.partition("\n")[0].removeprefix("mosquitto version ").strip() or "unknown"
