"""A gateway that runs: what is started in which order, what stops before what, signals and the event loop.

Read :func:`serve` from outside to inside: the store is closed last, the routes stop
before it, the workers first of all, and what they sampled is committed and, for a
moment, sent before the end.  Not here: the parts themselves (`agent.app`).
"""

import asyncio
import contextlib
import functools
import gc
import logging
import signal
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Final

from agent.app import Agent
from agent.config_models import Config
from agent.notify import READY, STOPPING, Notifier
from core.topics import state_topic

log = logging.getLogger(__name__)

SWITCH_S: Final = 0.0005
"""How long another thread may keep the event loop from Python; CPython's own 5 ms is half a fast tick."""
YOUNG: Final = 20_000
"""New objects at which Python looks for rings among them. A poll under way holds about twenty; with CPython's
own 700 a tick of 500 devices is held up ten times while its requests go out."""

Service = tuple[str, Callable[[], Coroutine[None, None, None]]]
"""A name and what runs under it, for ever."""


@contextlib.asynccontextmanager
async def running(name: str, services: list[Service]) -> AsyncIterator[None]:
    """Run services for as long as the block runs; a failure of one ends the block."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(run(), name=f"{name}:{label}") for label, run in services]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()


async def serve(config: Config, stop: asyncio.Event, ready: Callable[[], None] = lambda: None) -> int:
    """Run a gateway until ``stop`` is set; return the exit code."""
    notifier = Notifier()
    agent = Agent(config)
    async with (
        agent.store as store,
        running("broker", [(broker.name, broker.run) for broker in agent.brokers]),
    ):
        async with running("route", [(route.options.name, route.run) for route in agent.routes]):
            report = functools.partial(agent.report, notifier)
            workers = [(worker.name, worker.run) for worker in agent.workers]
            others: list[Service] = [("report", report), ("audit", agent.audit_heads.run)]
            governance = agent.governance
            async with (
                running("policy", [] if governance is None else [("keeper", governance.keeper.run)]),
                contextlib.nullcontext() if governance is None else governance.running(),
                running("line", [*workers, *others]),
            ):
                _settle()
                notifier.tell(READY)
                ready()
                await _either(stop, store.fatal)
                notifier.tell(STOPPING)
                if governance is not None and store.fatal_error is None:
                    await governance.stop()
            if store.fatal_error is None:
                await agent.drained()
        for route in agent.routes:
            route.close()
        for broker in agent.brokers:
            await broker.farewell(state_topic(config.gateway.id), agent.state(online=False))
    if store.fatal_error is not None:
        log.error("%s", store.fatal_error)
        return 1
    return 0


def _settle() -> None:
    """Keep pauses short from here on: on a grid of 10 ms each one of that length is a missed tick."""
    gc.collect()
    gc.set_threshold(YOUNG)
    gc.freeze()  # what the start built stays: looking through it again takes 20 to 50 ms each time
    sys.setswitchinterval(SWITCH_S)


async def _either(one: asyncio.Event, other: asyncio.Event) -> None:
    async with asyncio.TaskGroup() as group:
        waits = [group.create_task(event.wait(), name="stop-wait") for event in (one, other)]
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()


def run(config: Config, ready: Callable[[], None] = lambda: None) -> int:
    """Run a gateway until SIGTERM or SIGINT; a second signal ends at once."""

    async def main() -> int:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()

        def stopping(number: signal.Signals) -> None:
            if stop.is_set():
                raise SystemExit(1)
            log.info("%s: stopping", number.name)
            stop.set()

        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stopping, number)
        return await serve(config, stop, ready)

    try:
        import uvloop
    except ImportError:
        return asyncio.run(main())
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main())
