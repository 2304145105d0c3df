"""A line worker in virtual time with all around it: two devices, a link that answers as a test says, a sink.

Not here: frames (`tests.support.ptyline` and others have real ones).
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import pytest

from agent.config import parse_config
from agent.groupmemory import LeftOut
from agent.lineworker import LineWorker
from agent.lived import Lived
from agent.sense import Later, Ticket
from agent.site import PollGroup, Site, build_site
from core.codec import row_bytes
from core.errors import LinkDown, NoAnswer
from core.records import Row
from drivers.modbus.plan import Request
from drivers.types import load_type
from tests.support.virtual_time import NOON, VirtualClock

CONFIG = """
[gateway]
id = "gw-0001"
data_dir = "var"
[[line]]
name = "lan"
url = "modbus+tcp://127.0.0.1"
retries = {retries}
timeout = "1s"
[[device]]
name = "relay-a"
type = "generic-load-relay"
line = "lan"
unit_id = 1
every = "10s"
owner = "dso.example"
[[device]]
name = "relay-b"
type = "generic-load-relay"
line = "lan"
unit_id = 2
every = "10s"
owner = "dso.example"
"""


def site_of(retries: int = 1) -> Site:
    return build_site(parse_config(CONFIG.format(retries=retries), Path("/etc/gateway.toml")), load_type)


def groups_of(retries: int = 1) -> tuple[PollGroup, ...]:
    return site_of(retries).groups


@dataclass
class Sink:
    """Keeps rows as the store would, and can be full."""

    rows: list[Row] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)
    full: bool = False
    judgements: list[tuple[int, Later]] = field(default_factory=list)
    open: dict[int, LeftOut] = field(default_factory=dict)
    """By group number, the ticks left out after its last row, as told last."""

    def left_out(self, grp: int, left_out: LeftOut) -> None:
        self.open[grp] = left_out

    def append_judgement(self, grp: int, later: Later, at_ms: int) -> bool:
        self.judgements.append((grp, later))
        return True

    def append_row(
        self,
        grp: int,
        tick: int,
        points: int,
        body: bytes,
        sampled: float,
        reason: str,
        ticket: Ticket | None = None,
    ) -> bool:
        if self.full:
            return False
        self.rows.append(msgspec.json.decode(row_bytes(1, body), type=Row))
        self.reasons.append(reason)
        return True

    def ticks(self, group: int) -> list[float]:
        """Seconds after noon of the rows of a group."""
        return [(row.tick - NOON) / 1000 for row in self.rows if row.group == group]


Answer = Callable[[int, Request], Awaitable[bytes]]


class ScriptedLink:
    """A line whose devices answer as the test says, in virtual time."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.connected = False
        self.down = False
        self.asked: list[tuple[float, int]] = []
        self.reads: list[tuple[int, Request]] = []
        self.written: list[tuple[float, int]] = []

    async def connect(self) -> None:
        if self.down:
            raise LinkDown("nobody there")
        self.connected = True

    async def close(self) -> None:
        self.connected = False

    async def read(
        self, unit_id: int, request: Request, timeout_s: float = 1.0, pause_s: float = 0.0
    ) -> bytes:
        self.asked.append((asyncio.get_running_loop().time(), unit_id))
        self.reads.append((unit_id, request))
        return await self.answer(unit_id, request)

    async def write_coil(
        self, unit_id: int, address: int, on: bool, timeout_s: float = 1.0, pause_s: float = 0.0
    ) -> None:
        self.written.append((asyncio.get_running_loop().time(), unit_id))

    async def write_register(
        self, unit_id: int, address: int, register: int, timeout_s: float = 1.0, pause_s: float = 0.0
    ) -> None:
        self.written.append((asyncio.get_running_loop().time(), unit_id))

    async def write_coils(
        self,
        unit_id: int,
        address: int,
        states: Sequence[bool],
        timeout_s: float = 1.0,
        pause_s: float = 0.0,
    ) -> None:
        self.written.append((asyncio.get_running_loop().time(), unit_id))

    async def write_registers(
        self,
        unit_id: int,
        address: int,
        registers: Sequence[int],
        timeout_s: float = 1.0,
        pause_s: float = 0.0,
    ) -> None:
        self.written.append((asyncio.get_running_loop().time(), unit_id))


async def prompt(unit_id: int, request: Request) -> bytes:
    await asyncio.sleep(0.005)
    return bytes(request.size)


def silent(*units: int) -> Answer:
    async def answer(unit_id: int, request: Request) -> bytes:
        if unit_id in units:
            await asyncio.sleep(1.0)
            raise NoAnswer(f"unit {unit_id} is silent")
        return await prompt(unit_id, request)

    return answer


@dataclass
class Bench:
    """A worker with everything around it."""

    clock: VirtualClock
    link: ScriptedLink
    sink: Sink
    worker: LineWorker
    alarms: list[tuple[str, bool, str]]


def bench(
    clock: VirtualClock, answer: Answer, retries: int = 1, lived: dict[int, Lived] | None = None
) -> Bench:
    link, sink = ScriptedLink(answer), Sink()
    alarms: list[tuple[str, bool, str]] = []
    worker = LineWorker(
        "lan",
        link,
        groups_of(retries),
        retries,
        clock,
        sink,
        lived or {},
        lambda code, raised, text, device: alarms.append((code, raised, device)),
    )
    return Bench(clock, link, sink, worker, alarms)


async def for_seconds(worker: LineWorker, seconds: float) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(seconds):
            await worker.run()
