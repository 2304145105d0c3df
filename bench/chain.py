"""The whole chain of a measurement, each part a process of its own: field, agent, broker, readers.

The field is `fastserver.c`: so many devices of 50 noisy points, a port each. The agent is the real one,
`portico agent run` with a gateway.toml and a device type written here, its store on a real disk. The
broker is mosquitto with mutual TLS. The readers are the light counter (`bench.counter`), our collector
(`portico headend run`), or both: then the collector confirms and the counter only listens.

Relies on `cli.process`, on the development authority and on a C compiler. Not here: what is measured.
"""

import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Final, Self

import msgspec

from bench.counter import Counted
from bench.field import TYPE, Field, write_type
from bench.gauge import Sockets
from certs.authority import DevAuthority
from certs.broker import write_broker_config
from cli.process import Process, ProcessFailed, portico, wait_until
from simulator.broker import Mosquitto, free_port

ROOT: Final = Path(__file__).resolve().parent.parent
GATEWAY: Final = "gw-bench"
ENTITY: Final = "dso.example"
HOST: Final = "127.0.0.1"
POINTS: Final = 50
"""Points of a device that count as readings; its time and its counter come along and do not count."""


class Counter:
    """The light counter as a process that answers questions."""

    def __init__(self, directory: Path, certs: Path, port: int, confirming: bool) -> None:
        self._command = [
            sys.executable, "-m", "bench.counter", "--certs", str(certs), "--entity", ENTITY,
            "--port", str(port), "--points", str(POINTS), *(["--confirm"] if confirming else []),
        ]  # fmt: skip
        self._log_path = directory / "counter.log"
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Start it and wait until it is subscribed."""
        with self._log_path.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                cwd=ROOT,
                start_new_session=True,
            )
        self._read()

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self._process is not None
        return self._process.pid

    def ask(self, *, reset: bool = False) -> Counted:
        """Return its figures; with `reset`, latencies begin anew."""
        process = self._process
        assert process is not None
        assert process.stdin is not None
        process.stdin.write("reset\n" if reset else "tell\n")
        process.stdin.flush()
        return self._read()

    def _read(self) -> Counted:
        assert self._process is not None
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise ProcessFailed(f"the counter ended: {self._log_path.read_text()[-500:]}")
        return msgspec.json.decode(line, type=Counted)

    def stop(self) -> None:
        """End it."""
        if self._process is not None:
            _close(self._process.stdin)
            try:
                self._process.wait(5)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait(5)
            _close(self._process.stdout)


def _close(stream: IO[str] | None) -> None:
    if stream is not None:
        try:
            stream.close()
        except BrokenPipeError:
            pass


@dataclass(frozen=True, slots=True)
class ChainPlan:
    """What stands in the chain."""

    every_ms: int
    devices: int = 50
    per_line: int = 1
    """Devices on one line, and so on one connection."""
    spread: bool = False
    """Each device has a phase, so that they are due one after the other; else all at one instant."""
    counter: bool = True
    """The light counter reads; it confirms unless our collector is there."""
    collector: bool = False
    broker: bool = True
    """False: the agent finds nobody to send to."""
    store: Path | None = None
    """A store to begin with; it is copied."""

    @property
    def offered(self) -> float:
        """Points polled a second when every tick is met."""
        return self.devices * POINTS * 1000 / self.every_ms


class Collected(msgspec.Struct):
    """What the benchmark wants of the collector's figures."""

    pid: int = 0
    rows: int = 0
    waiting: int = 0
    redelivered: int = 0
    refused: int = 0
    conflicts: int = 0
    at: float = 0.0


class Site:
    """What chains share: a directory on a disk, certificates and the device type."""

    def __init__(self, directory: Path) -> None:
        self.directory: Final = directory
        directory.mkdir(parents=True, exist_ok=True)
        self.certs: Final = directory / "certs"
        DevAuthority.create(self.certs).issue_all(gateways=[GATEWAY], entities=[ENTITY], hosts=[HOST])
        self.types: Final = directory / "types"
        write_type(self.types)
        self._runs = 0

    def fresh(self) -> Path:
        """Return an empty directory for a run."""
        self._runs += 1
        path = self.directory / f"run-{self._runs:03d}"
        if path.exists():
            shutil.rmtree(path)
        path.mkdir()
        return path


class Chain:
    """One chain; as a context manager it runs inside the block and leaves nothing behind."""

    def __init__(self, site: Site, plan: ChainPlan) -> None:
        self.site: Final = site
        self.plan: Final = plan
        self.directory: Final = site.fresh()
        self.data_dir: Final = self.directory / "store"
        self.port: Final = free_port()
        certs = site.certs
        self.broker: Final = Mosquitto(
            write_broker_config(
                self.directory / "broker",
                port=self.port,
                ca=certs / "ca.pem",
                cert=certs / "broker.pem",
                key=certs / "broker.key",
                gateways=[GATEWAY],
                entities=[ENTITY],
            )
        )
        self.field: Final = Field(self.directory, plan.devices // plan.per_line, plan.per_line)
        self.config_path: Final = self.directory / "gateway.toml"
        self.agent: Final = Process(
            "the agent",
            portico("agent", "run", "-c", str(self.config_path), "--log-level", "warning"),
            self.directory / "agent.log",
        )
        self.start_s = 0.0
        """From the start of the agent's process to its READY."""
        self.counter: Final = Counter(self.directory, certs, self.port, not plan.collector)
        self.headend_path: Final = self.directory / "headend.toml"
        self.headend_status: Final = self.directory / "collector.json"
        self.books_path: Final = self.directory / "books.db"
        self.collector: Final = (
            Process(
                "the collector",
                portico("headend", "run", "-c", str(self.headend_path)),
                self.directory / "collector.log",
                ready=lambda process: self.collected().pid == process.pid,
            )
            if plan.collector
            else None
        )

    # --- starting and ending

    def start(self) -> None:
        """Start everything, the readers first."""
        try:
            if self.plan.broker:
                self.broker.start()
            self.field.start()
            if self.plan.store is not None:
                shutil.copytree(self.plan.store, self.data_dir)
            self._write_configs()
            if self.collector is not None:
                self.collector.start()
            if self.plan.counter:
                self.counter.start()
            self.start_agent()
        except BaseException:
            self.kill()
            raise

    def start_agent(self) -> None:
        """Start the agent and measure how long it takes to say READY."""
        with _notify_socket() as (listening, address):
            self.agent.env["NOTIFY_SOCKET"] = address
            begun = time.monotonic()
            self.agent.start(wait=False)
            listening.settimeout(0.5)
            while True:
                try:
                    if b"READY=1" in listening.recv(4096):
                        break
                except TimeoutError:
                    if not self.agent.running or time.monotonic() > begun + 60:
                        raise ProcessFailed(f"the agent did not become ready: {self.agent.tail()}") from None
            self.start_s = time.monotonic() - begun

    def stop(self) -> None:
        """End everything in order; whatever does not end is killed."""
        try:
            self.agent.stop()
            if self.collector is not None:
                self.collector.stop()
        finally:
            self.kill()

    def kill(self) -> None:
        """Kill whatever still runs, and remove what the run left on the disk."""
        self.agent.kill9()
        if self.collector is not None:
            self.collector.kill9()
        self.counter.stop()
        self.field.process.kill9()
        self.broker.kill9()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.stop()
        else:
            self.kill()
        shutil.rmtree(self.directory, ignore_errors=True)

    # --- looking

    def collected(self) -> Collected:
        """Return the collector's figures; about a second old."""
        try:
            return msgspec.json.decode(self.headend_status.read_bytes(), type=Collected)
        except (OSError, msgspec.MsgspecError):
            return Collected()

    def rows_committed(self) -> int:
        """Return the rows in the agent's store."""
        return rows_in(self.data_dir)

    def rows_due_in(self, from_ms: int, to_ms: int) -> int:
        """Return the rows in the agent's store whose tick lies in from..to, the end not included."""
        query = f"SELECT count(*) FROM record WHERE grp > 0 AND tick >= {from_ms} AND tick < {to_ms}"
        return _number(self.data_dir / "readings.db", query)

    def pids(self) -> dict[str, int]:
        """Return the process ids of what runs, by part."""
        found = {"agent": self.agent.pid, "broker": self.broker.pid or 0, "field": self.field.process.pid}
        if self.plan.counter:
            found["counter"] = self.counter.pid
        if self.collector is not None:
            found["collector"] = self.collector.pid
        return {name: pid for name, pid in found.items() if pid}

    def in_books(self) -> int:
        """Return the rows in the books."""
        return _number(self.books_path, "SELECT count(*) FROM row")

    def sockets(self) -> Sockets:
        """Return the agent's connection to the broker."""
        return Sockets(self.agent.pid, self.port)

    def wait_flowing(self, timeout_s: float = 20.0) -> None:
        """Wait until readings arrive where they are counted."""
        wait_until(
            lambda: self._arrived() > 0, timeout_s, lambda: f"no reading arrived: {self.agent.tail()}", 0.1
        )

    def _arrived(self) -> int:
        return self.counter.ask().rows if self.plan.counter else self.collected().rows

    # --- configuration

    def _write_configs(self) -> None:
        certs, site = self.site.certs, self.site
        text = [
            "[gateway]", f'id = "{GATEWAY}"', f'data_dir = "{self.data_dir}"', 'setting = "development"',
            f'signing_cert = "{certs}/{GATEWAY}.sign.pem"', f'signing_key = "{certs}/{GATEWAY}.sign.key"',
            f'types = ["{site.types}"]', 'quota = "4GiB"',
        ]  # fmt: skip
        for number, port in enumerate(self.field.ports):
            text += ["[[line]]", f'name = "l{number:03d}"', f'url = "modbus+tcp://{HOST}:{port}"']
            for unit in range(1, self.plan.per_line + 1):
                device = number * self.plan.per_line + unit - 1
                phase_ms = self.plan.every_ms * device // self.plan.devices if self.plan.spread else 0
                text += [
                    "[[device]]", f'name = "d{device:03d}"', f'type = "{TYPE}"', f'line = "l{number:03d}"',
                    f'phase = "{phase_ms}ms"',
                    f"unit_id = {unit}", f'every = "{self.plan.every_ms}ms"', f'owner = "{ENTITY}"',
                ]  # fmt: skip
        text += [
            "[[route]]", 'name = "bench"', f'entity = "{ENTITY}"', f'url = "mqtts://{HOST}:{self.port}"',
            f'ca = "{certs}/ca.pem"', f'cert = "{certs}/{GATEWAY}.pem"', f'key = "{certs}/{GATEWAY}.key"',
        ]  # fmt: skip
        self.config_path.write_text("\n".join(text) + "\n")
        self.headend_path.write_text(
            f"""[headend]
entity = "{ENTITY}"
books = "{self.books_path}"
setting = "development"
status = "{self.headend_status}"
[[broker]]
url = "mqtts://{HOST}:{self.port}"
ca = "{certs}/ca.pem"
cert = "{certs}/{ENTITY}.pem"
key = "{certs}/{ENTITY}.key"
[signing]
cert = "{certs}/{ENTITY}.sign.pem"
key = "{certs}/{ENTITY}.sign.key"
trust = ["{certs}/ca.pem"]
"""
        )


def rows_in(store: Path) -> int:
    """Return the rows in a store."""
    return _number(store / "readings.db", "SELECT count(*) FROM record WHERE grp > 0")


def _number(path: Path, query: str) -> int:
    """Return the one number that a query gives; 0 for none, and while there is no file."""
    if not path.exists():
        return 0
    db = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=10)
    try:
        return int(db.execute(query).fetchone()[0] or 0)
    finally:
        db.close()


@contextmanager
def _notify_socket() -> Iterator[tuple[socket.socket, str]]:
    """Yield a socket as the service manager has it, and its address; abstract: no path can be too long."""
    address = f"@portico-bench-{os.getpid()}-{time.monotonic_ns()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind("\0" + address[1:])
        yield listening, address
