"""What the agent says about itself: a small JSON file, written over and over, for people and monitors."""

import json
import os
import time
from dataclasses import asdict
from pathlib import Path

from agent.deviceclock import DeviceClock
from agent.learned import shown
from agent.lineworker import LineWorker
from agent.store.store import Store
from agent.uplink.broker import Broker
from agent.uplink.route import Route

FILE = "status.json"


def snapshot(
    gateway: str,
    software: str,
    started: float,
    store: Store,
    workers: list[LineWorker],
    brokers: list[Broker],
    routes: list[Route],
    alarms: dict[tuple[str, str], str],
    governance: dict[str, object],
) -> dict[str, object]:
    """Return the state of the agent as plain values; times in seconds unless the name says else."""
    writer = store.data.writer.counts
    return {
        "gateway": gateway,
        "software": software,
        "pid": os.getpid(),
        "at_ms": time.time_ns() // 1_000_000,
        "uptime_s": round(time.monotonic() - started, 1),
        "epoch": store.epoch,
        "ended_before": store.ended_before,
        "clock_synchronised": store.clock_synchronised,
        "store": {
            "rows": writer.rows,
            "readings": writer.readings,
            "commits": writer.commits,
            "refused_rows": writer.refused_rows,
            "failed_commits": writer.failed_commits,
            "gap_ticks": writer.gap_ticks,
            "durable_max_ms": round(writer.longest_durable_s * 1000, 1),
            "durable_p99_ms": round(writer.durable_p99_s() * 1000, 1),
            "commit_max_ms": round(writer.longest_commit_s * 1000, 1),
            "bytes": store.used_bytes(),
            "pruned": store.room.counts.pruned,
            "dropped": store.room.counts.dropped,
        },
        "lines": {
            worker.name: {
                "rows": worker.counts.rows,
                "requests": worker.counts.requests,
                "overruns": worker.counts.overruns,
                "failures": worker.counts.failures,
                "silent": sorted(worker.counts.silent),
                "unasked": {str(unit): frames for unit, frames in sorted(worker.twice.frames.items())},
            }
            for worker in workers
        },
        "learned": {
            device: {**asdict(shown(learning.learned)), "searching": learning.searching}
            for worker in workers
            for device, learning in worker.learning.items()
            if learning.learned or learning.searching
        },
        "clocks": {device: clock_state(clock) for worker in workers for device, clock in worker.clocks()},
        "brokers": {
            broker.options.client_id: {
                "address": broker.name,
                "connected": broker.connected,
                "connects": broker.counts.connects,
                "refused": broker.counts.refused,
                "last_error": broker.counts.last_error,
            }
            for broker in brokers
        },
        "routes": {route.options.name: route_state(route) for route in routes},
        "policy": None,
        "control": None,
        **governance,
        "alarms": [{"code": code, "device": device, "text": text} for (code, device), text in alarms.items()],
    }


def clock_state(clock: DeviceClock) -> dict[str, object]:
    """Return how the clock of a device stands beside ours; what is not known is null."""
    last, drift = clock.last, clock.drift
    return {
        "offset_s": None if last is None else round(last.offset_ms / 1000, 3),
        "offset_within_s": None if last is None else round(last.within_ms / 1000, 3),
        "compared_ms": None if last is None else round(last.at_ms),
        "drift_ppm": None if drift is None else round(drift.ppm, 1),
        "drift_within_ppm": None if drift is None else round(drift.within_ppm, 1),
        "set": clock.settings,
        "beyond": clock.beyond,
    }


def route_state(route: Route) -> dict[str, object]:
    """Return the state of one route."""
    counts, data = route.counts, route.data.outbox
    return {
        "entity": route.options.entity,
        "books": route.hearing.books,
        "n": route.hearing.n,
        "waiting_records": data.waiting(),
        "unconfirmed_messages": len(data.flights),
        "unconfirmed_bytes": data.unconfirmed_bytes,
        "messages": counts.messages,
        "bytes": counts.bytes,
        "rows": counts.rows,
        "acknowledged": counts.acked,
        "refused": counts.refused,
        "confirmations": counts.confirmations,
        "ignored": route.hearing.ignored,
        "resent": counts.probes,
    }


def write(directory: Path, state: dict[str, object]) -> None:
    """Replace the status file as a whole."""
    path = directory / FILE
    fresh = directory / (FILE + ".new")
    fresh.write_text(json.dumps(state, indent=1))
    fresh.replace(path)
