"""A plant in several processes: each serves some of the premises, and all of them are told as one.

The log is one file, to which every process appends whole lines; this one writes start and stop. A worker
gets its share as the first line of its standard input, requests of the control socket as further lines,
and ends with its input, so that none outlives whoever started it.

Relies on `simulator.worker` at the other end. Not here: lines, devices.
"""

import asyncio
import os
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import msgspec

from core.errors import ConfigError, PorticoError
from simulator.ctl import ClearAsked, ListAsked, Wrong, known, parsed, refusal
from simulator.ctlsocket import ANSWER_S, LONGEST_ANSWER, CtlServer
from simulator.job import Failed, Job, Ready
from simulator.lines import make_credentials
from simulator.parts import Scenario
from simulator.run import Ended, Running, load_types, open_log, write_start, write_stop

START_S: Final = 120.0
"""How long a worker may take until its lines are open."""
STOP_S: Final = 20.0
ROOT: Final = str(Path(__file__).resolve().parent.parent)
"""Where a worker finds these packages."""


class WorkerFailed(PorticoError):
    """A process of the plant ended, or gave no answer, so what it served is not there any more."""


def shares(scenario: Scenario, workers: int) -> list[Scenario]:
    """Return the scenario cut into at most so many, each with some of the premises and their faults."""
    parts = scenario.premises
    all_devices = sum(len(part.device) for part in parts)
    found: list[Scenario] = []
    taken, at = 0, 0
    for number in range(1, workers + 1):
        begin = at
        while at < len(parts) and (taken < all_devices * number / workers or at == begin):
            taken += len(parts[at].device)
            at += 1
        if at > begin:
            premises = parts[begin:at]
            names = {device.name for part in premises for device in part.device}
            faults = tuple(fault for fault in scenario.fault if fault.device in names)
            found.append(scenario.model_copy(update={"premises": premises, "fault": faults}))
    return found


class Worker:
    """One process; as a context manager it is ended at the end of the block."""

    def __init__(self, share: Scenario, log_dir: Path, types: Sequence[Path], host: str) -> None:
        document = share.model_dump_json(by_alias=True, exclude_defaults=True).encode()
        paths = [str(path.resolve()) for path in types]
        self._job: Final = msgspec.json.encode(
            Job(msgspec.Raw(document), str(log_dir.resolve()), paths, host)
        )
        self._process: asyncio.subprocess.Process | None = None
        self._turn: Final = asyncio.Lock()
        self.running: Running | None = None
        self.ended: Ended | None = None

    async def __aenter__(self) -> Self:
        """Start the process."""
        path = os.pathsep.join(filter(None, (ROOT, os.environ.get("PYTHONPATH", ""))))
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "simulator.worker",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=LONGEST_ANSWER,
            env={**os.environ, "PYTHONPATH": path},
            # A Ctrl-C in the terminal is for this process alone, which then ends the others.
            start_new_session=True,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        process = self._process
        if process is None or process.stdin is None or process.stdout is None:
            return
        process.stdin.close()
        try:
            async with asyncio.timeout(STOP_S):
                last = await process.stdout.read()
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()
            return
        if process.returncode == 0 and last.strip():
            self.ended = msgspec.json.decode(last.splitlines()[-1], type=Ended)

    async def ready(self) -> Running:
        """Wait until the worker's lines are open. ConfigError or WorkerFailed with its sentence if not."""
        said = msgspec.json.decode(await self._ask(self._job, START_S), type=Ready | Failed)
        if isinstance(said, Failed):
            if said.configuration:
                raise ConfigError(said.sentence, said.faults)
            raise WorkerFailed(said.sentence)
        self.running = said.running
        return said.running

    async def ask(self, line: bytes) -> bytes:
        """Hand a request of the control socket on, and return the answer."""
        return await self._ask(line.strip(), ANSWER_S)

    async def watch(self) -> None:
        """Raise WorkerFailed when the process ends."""
        assert self._process is not None
        code = await self._process.wait()
        raise WorkerFailed(f"a process of the plant ended by itself (exit {code}), see what it said above.")

    async def _ask(self, line: bytes, timeout_s: float) -> bytes:
        process = self._process
        assert process is not None
        assert process.stdin is not None
        assert process.stdout is not None
        async with self._turn:
            try:
                async with asyncio.timeout(timeout_s):
                    process.stdin.write(line + b"\n")
                    await process.stdin.drain()
                    said = await process.stdout.readline()
            except (OSError, TimeoutError) as error:
                raise WorkerFailed(f"a process of the plant gave no answer in {timeout_s:g} s.") from error
        if not said.endswith(b"\n"):
            raise WorkerFailed("a process of the plant ended before it answered, see what it said above.")
        return said.strip()


class Crew:
    """All workers, asked as one plant."""

    def __init__(self, workers: Sequence[Worker]) -> None:
        self._workers: Final = workers
        self._by_device: Final = {
            one.device: worker for worker in workers if worker.running for one in worker.running.devices
        }

    async def answer(self, line: bytes) -> bytes:
        """Answer one request to the control socket."""
        try:
            asked = parsed(line)
            if isinstance(asked, ListAsked | ClearAsked) and asked.device is None:
                said = [msgspec.json.decode(await worker.ask(line), type=dict) for worker in self._workers]
                if isinstance(asked, ListAsked):
                    whole = {"ok": True, "devices": [one for found in said for one in found["devices"]]}
                else:
                    whole = {"ok": True, "cleared": sum(found["cleared"] for found in said)}
                return msgspec.json.encode(whole)
            assert asked.device is not None
            return await self._by_device[known(asked.device, self._by_device)].ask(line)
        except (Wrong, WorkerFailed) as failed:
            # When a worker failed the plant ends too, but whoever asked hears why.
            return msgspec.json.encode(refusal(str(failed)))


async def run_crew(
    scenario: Scenario,
    log_dir: Path,
    *,
    workers: int,
    types: Sequence[Path] = (),
    host: str = "127.0.0.1",
    ready: Callable[[Running], None],
    stop: asyncio.Event,
) -> Ended:
    """Serve a scenario as `simulator.run.run` does, in several processes.

    The scenario names its start, so that all of them live in the same time.
    """
    loaded = load_types(scenario, types)
    with open_log(log_dir) as log:
        make_credentials(scenario, host, log_dir)
        async with AsyncExitStack() as stack:
            crew = [Worker(share, log_dir, types, host) for share in shares(scenario, workers)]
            for worker in crew:
                await stack.enter_async_context(worker)
            told = await _ready(crew)
            ctl = await stack.enter_async_context(CtlServer(log_dir, Crew(crew).answer))
            whole = msgspec.structs.replace(
                told[0],
                ctl=str(ctl.path.parent.resolve()),
                devices=tuple(one for running in told for one in running.devices),
                workers=len(crew),
            )
            write_start(log, whole, loaded)
            await _until(stop, crew, partial(ready, whole))
        ended = together([worker.ended for worker in crew if worker.ended is not None])
        write_stop(log, ended)
    return ended


async def _ready(crew: Sequence[Worker]) -> list[Running]:
    """Wait until the lines of all workers are open, which they open side by side."""
    try:
        async with asyncio.TaskGroup() as tasks:
            opening = [
                tasks.create_task(worker.ready(), name=f"worker {number}")
                for number, worker in enumerate(crew, 1)
            ]
    except* PorticoError as failed:
        raise failed.exceptions[0] from None
    return [task.result() for task in opening]


async def _until(stop: asyncio.Event, crew: Sequence[Worker], ready: Callable[[], None]) -> None:
    """Wait until `stop` is set, or until a worker ends."""
    try:
        async with asyncio.TaskGroup() as tasks:
            watching = [
                tasks.create_task(worker.watch(), name=f"worker {number}")
                for number, worker in enumerate(crew, 1)
            ]
            ready()
            await stop.wait()
            for task in watching:
                task.cancel()
    except* PorticoError as failed:
        raise failed.exceptions[0] from None


def together(ended: Sequence[Ended]) -> Ended:
    """Return what several processes did as what one plant did."""
    totals: Counter[str] = Counter()
    disorder: dict[str, dict[str, int]] = {}
    for one in ended:
        totals.update(one.totals)
        disorder |= one.disorder
    return Ended(dict(totals), sum(one.refused_connections for one in ended), disorder)
