"""One process of a plant in several: serves its share until its standard input ends.

Started by `simulator.crew` as `python -m simulator.worker`. Its first line of input is the job; it says
that it is ready, answers each further line, and at the end tells what it did.

Relies on `simulator.run`. Not here: the log's start and stop, the control socket.
"""

import asyncio
import signal
import sys
from pathlib import Path

import msgspec

from core.errors import ConfigError, PorticoError
from simulator.ctlsocket import LONGEST_ANSWER
from simulator.job import Failed, Job, Ready
from simulator.loop import new_event_loop
from simulator.parts import Scenario
from simulator.run import Ended, Served, load_types, open_log, opened


def main() -> int:
    """Do the job; return the exit code."""
    try:
        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            ended = runner.run(_work())
    except PorticoError as error:
        faults = error.faults if isinstance(error, ConfigError) else ()
        say(Failed(str(error), faults, isinstance(error, ConfigError)))
        return error.exit_code
    if ended is not None:
        say(ended)
    return 0


def say(told: Failed | Ready | Ended) -> None:
    """Print one line of JSON."""
    sys.stdout.buffer.write(msgspec.json.encode(told) + b"\n")
    sys.stdout.buffer.flush()


async def _work() -> Ended | None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    reader = asyncio.StreamReader(limit=LONGEST_ANSWER)
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin.buffer
    )
    line = await reader.readline()
    if not line:
        return None  # whoever wanted something has ended first
    job = msgspec.json.decode(line, type=Job)
    scenario = Scenario.model_validate_json(bytes(job.scenario))
    loaded = load_types(scenario, [Path(path) for path in job.types])
    log_dir = Path(job.log_dir)
    with open_log(log_dir) as log:
        async with (
            opened(scenario, log_dir, log, types=loaded, host=job.host) as served,
            asyncio.TaskGroup() as tasks,
        ):
            answering = tasks.create_task(_answer(served, reader, stop), name="answers")
            await served.live(lambda: say(Ready(served.running)), stop)
            answering.cancel()
        return served.ended()


async def _answer(served: Served, reader: asyncio.StreamReader, stop: asyncio.Event) -> None:
    while line := await reader.readline():
        sys.stdout.buffer.write(await served.answer(line) + b"\n")
        sys.stdout.buffer.flush()
    stop.set()


if __name__ == "__main__":
    sys.exit(main())
