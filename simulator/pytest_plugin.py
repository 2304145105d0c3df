"""A pytest plugin: simulated premises for the tests of a head-end, an agent, or any Modbus client.

    def test_my_gateway_survives_a_silent_meter(portico_premises):
        home = portico_premises("household")
        gateway = start_my_gateway(home.url("main-meter"), unit=home.devices["main-meter"].unit_id)
        home.fault("main-meter", "silent", for_s=2)
        ...
        assert home.outcomes("main-meter")["silent"] > 0

A scenario runs as a process of its own on free ports, with its log in the test's temporary directory; it
is ended, by its process id, when the test ends. Installed with Portico as `portico_premises`.

Relies on `portico simulate`. Deliberately light: every pytest of an environment imports it. Not here: what
a scenario may hold (`simulator/README.md`), what faults there are (`docs/simulator.md`).
"""

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import IO, Any, Final, Protocol

import pytest

from core.errors import PorticoError
from simulator.ctlsocket import Ctl

DEADLINE_S: Final = 30.0
"""For a plant to be ready, to end, and for `until`."""
ROOT: Final = str(Path(__file__).resolve().parent.parent)


class NotReady(PorticoError):
    """The simulator ended, or said nothing, in place of being ready."""


@dataclass(frozen=True)
class DeviceAt:
    """Where a device can be reached."""

    premises: str
    device: str
    type: str
    line: str
    kind: str
    """Of the line: tcp, rtu, rtu-tcp, tls or dial-in."""
    url: str
    host: str
    port: int
    """0 for a serial line."""
    path: str
    """Of a serial line: what a client opens."""
    unit_id: int
    counter: bool
    tls: dict[str, str] = field(default_factory=dict)
    """ca, cert and key that a client, or who is dialled, needs."""


class Premises:
    """A scenario that runs. Get one from the fixture `portico_premises`."""

    def __init__(self, process: subprocess.Popen[str], told: dict[str, Any]) -> None:
        self.process: Final = process
        self.told: Final = told
        """The ready line."""
        names = [one.name for one in fields(DeviceAt)]
        self.devices: Final = {
            one["device"]: DeviceAt(**{name: one[name] for name in names}) for one in told["devices"]
        }
        self.log_path: Final = Path(told["log"])

    @property
    def pid(self) -> int:
        """The simulator's process id."""
        return self.process.pid

    def url(self, device: str) -> str:
        """Return a device's line as a gateway's configuration writes it."""
        return self.devices[device].url

    def fault(
        self,
        device: str,
        kind: str,
        *,
        for_s: float | None = None,
        ms: int | None = None,
        code: int | None = None,
        points: Sequence[str] = (),
        by: float | None = None,
        ppm: float | None = None,
    ) -> int:
        """Let a fault begin, for so many seconds or until `clear`, and return its id."""
        answer = self._ask(
            do="fault",
            device=device,
            kind=kind,
            for_s=for_s,
            ms=ms,
            code=code,
            points=list(points) or None,
            by=by,
            ppm=ppm,
        )
        return int(answer["id"])

    def clear(self, device: str | None = None, kind: str | None = None) -> int:
        """End faults and set values, of one device or kind if named; return how many."""
        return int(self._ask(do="clear", device=device, kind=kind)["cleared"])

    def set(self, device: str, point: str, value: object, *, for_s: float | None = None) -> None:
        """Set a value by hand: a counter goes on from there, a writable point takes it as an order."""
        self._ask(do="set", device=device, point=point, value=str(value), for_s=for_s)

    def values(self, device: str) -> dict[str, Any]:
        """Return what every point of a device shows now, by name, in the point's unit."""
        (found,) = self._ask(do="list", device=device)["devices"]
        return {one["point"]: one["value"] for one in found["values"]}

    def troubles(self, device: str | None = None) -> list[dict[str, Any]]:
        """Return the faults and set values that last."""
        found = self._ask(do="list", device=device)["devices"]
        return [trouble for one in found for trouble in one["troubles"]]

    def log(self, kind: str | None = None) -> list[dict[str, Any]]:
        """Return the lines of the plant's log, of one kind if named; requests are up to a second late."""
        found = []
        for line in self.log_path.read_text().splitlines():
            if line.startswith("{") and line.endswith("}"):
                entry = json.loads(line)
                if kind in (None, entry["kind"]):
                    found.append(entry)
        return found

    def outcomes(self, device: str) -> Counter[str]:
        """Return how many requests of a device had which outcome, of those logged so far."""
        found: Counter[str] = Counter()
        for entry in self.log("requests"):
            if entry["device"] == device:
                found[entry["outcome"]] += entry["n"]
        return found

    def until(self, holds: Callable[[], bool], what: str, *, deadline_s: float = DEADLINE_S) -> None:
        """Wait until a condition holds; AssertionError with `what` when it does not in time."""
        deadline = time.monotonic() + deadline_s
        while not holds():
            assert time.monotonic() < deadline, f"not within {deadline_s:g} s: {what}"
            time.sleep(0.02)

    def stop(self) -> dict[str, int]:
        """End the plant in order, and return how many requests had which outcome. Not twice."""
        self.process.send_signal(signal.SIGTERM)
        out, _ = self.process.communicate(timeout=DEADLINE_S)
        assert self.process.returncode == 0, f"the simulator ended with {self.process.returncode}"
        stats: dict[str, int] = json.loads(out.splitlines()[-1])["stats"]
        return stats

    def kill(self) -> None:
        """Kill it with -9, as a power cut would."""
        self.process.kill()
        self.process.wait(DEADLINE_S)

    def _ask(self, **request: object) -> dict[str, Any]:
        with Ctl(Path(self.told["ctl"])) as ctl:
            return ctl.ask(**request)


class Starter(Protocol):
    """What the fixture gives."""

    def __call__(
        self, scenario: str | Path = "household", *options: str, log: Path | None = None
    ) -> Premises:
        """Start a scenario and return it when every line is open.

        `scenario` is the name of one that is shipped, a file, or TOML text; `options` are further ones of
        `portico simulate`; `log` is a directory to go on with, for another life of the same plant.
        """
        ...


@pytest.fixture
def portico_premises(tmp_path: Path) -> Iterator[Starter]:
    """Start simulated premises; they end with the test."""
    started: list[tuple[subprocess.Popen[str], IO[str]]] = []

    def start(scenario: str | Path = "household", *options: str, log: Path | None = None) -> Premises:
        directory = tmp_path / f"premises-{len(started) + 1}"
        directory.mkdir()
        if isinstance(scenario, str) and "\n" in scenario:
            path = directory / "scenario.toml"
            path.write_text(scenario)
            scenario = path
        errors = (directory / "stderr").open("w+")
        process = subprocess.Popen(
            [
                *(sys.executable, "-c", "from cli.main import main; main()", "simulate"),
                *("-s", str(scenario), "--log", str(log or directory / "log")),
                *("--json", "--stats", "--free-ports", "--end-with-input", *options),
            ],
            # Ends with this process, however that ends, and so does what it served.
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, (ROOT, _path())))},
        )
        started.append((process, errors))
        return Premises(process, _ready(process, errors))

    yield start
    for process, errors in started:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(DEADLINE_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(DEADLINE_S)
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()
        errors.close()


def _path() -> str:
    return os.environ.get("PYTHONPATH", "")


def _ready(process: subprocess.Popen[str], errors: IO[str]) -> dict[str, Any]:
    """Return the ready line. NotReady with what was said on stderr when there is none."""
    assert process.stdout is not None
    line = ""
    if select.select([process.stdout], [], [], DEADLINE_S)[0]:
        line = process.stdout.readline()
    if not line:
        process.kill()
        process.wait(DEADLINE_S)
        errors.seek(0)
        raise NotReady(f"the simulator is not ready: {errors.read().strip() or 'it said nothing'}")
    told: dict[str, Any] = json.loads(line)
    return told
