"""What the kernel knows of a process: CPU time, memory, bytes to the disk, bytes on a socket.

Linux only (/proc, and ss of iproute2). Pure looking: nothing here starts or changes anything.
"""

import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

TICKS: Final = os.sysconf("SC_CLK_TCK")
HEADERS_BYTES: Final = 52
"""IPv4 header 20, TCP header 20, timestamps option 12: what a segment costs beside its payload."""


def cpu_s(pid: int) -> float:
    """Return the CPU seconds of a process so far, all threads, user and system (proc(5), stat)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def waited_s(pid: int) -> float:
    """Return how long the main thread of a process was ready to run and had no core (proc(5), schedstat)."""
    try:
        return int(Path(f"/proc/{pid}/task/{pid}/schedstat").read_text().split()[1]) / 1e9
    except (OSError, IndexError):
        return 0.0


def written_bytes(pid: int) -> int:
    """Return the bytes that a process caused to be written to a disk so far (proc(5), io: write_bytes)."""
    for line in Path(f"/proc/{pid}/io").read_text().splitlines():
        if line.startswith("write_bytes:"):
            return int(line.split()[1])
    return 0


def memory_mib(pid: int) -> dict[str, float]:
    """Return the memory of a process in MiB: pss, rss, and what is its own alone (smaps_rollup)."""
    found: dict[str, int] = {}
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
        name, kib, *_ = line.split()
        found[name] = int(kib)
    own = found.get("Private_Clean:", 0) + found.get("Private_Dirty:", 0)
    return {
        "pss": found.get("Pss:", 0) / 1024,
        "rss": found.get("Rss:", 0) / 1024,
        "own": own / 1024,
    }


@dataclass(frozen=True, slots=True)
class Carried:
    """What a TCP connection carried so far."""

    sent: int
    """Payload bytes that the other end acknowledged."""
    received: int
    segments: int
    """Both directions, also those without payload."""

    @property
    def payload(self) -> int:
        """Bytes at the socket, both directions."""
        return self.sent + self.received

    @property
    def with_headers(self) -> int:
        """The same with an estimate of the headers of TCP and IPv4."""
        return self.payload + self.segments * HEADERS_BYTES


class Sockets:
    """The connections of one process to one port."""

    def __init__(self, pid: int, port: int) -> None:
        self._pid = pid
        self._port = port

    def look(self) -> Carried | None:
        """Return what was carried; None without ss, or without a connection."""
        try:
            run = subprocess.run(
                ["ss", "-Htinp", f"dport = :{self._port}"], capture_output=True, text=True, timeout=10
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
        sent = received = segments = 0
        seen = False
        # Two lines a connection: addresses and owner, then an indented line of figures.
        for owner, figures in re.findall(r"^(\S.*)\n\s+(.*)$", run.stdout, re.MULTILINE):
            if f"pid={self._pid}," in owner:
                seen = True
                sent += _figure(figures, "bytes_acked")
                received += _figure(figures, "bytes_received")
                segments += _figure(figures, "segs_out") + _figure(figures, "segs_in")
        return Carried(sent, received, segments) if seen else None


def _figure(text: str, name: str) -> int:
    found = re.search(rf"\b{name}:(\d+)", text)
    return int(found[1]) if found else 0
