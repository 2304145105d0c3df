"""The part of the results that is about the field: serial lines, plans, requests, a fleet of devices."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from bench.figures import Figure, Line, spread
from bench.fleet import Fleets, FleetWindow
from bench.plans import PlanUse, over_optimum
from bench.requests import CLIENTS, CONNECTIONS, COUNTS, Asked, ratio
from bench.serialline import AIM, BAUDS, NOT_TRIED, LineUse
from bench.steady import median

COUNT: Final = COUNTS[-1]
"""Registers a read of the figures that have a key."""
SERIAL: Final = (
    "Reads a second beside what the line gives when nobody loses a microsecond (`drivers.modbus.bustime`: "
    "characters, t3.5 twice, 5 ms of turn-around of the device), and beside a master in C (libmodbus) on the "
    "same line in the same rounds: with t3.5 slept before each request, and without any silence, which the "
    "standard does not allow and which may use more than all of the time. Medians, ours with the lowest."
)
PLANS: Final = (
    "All points of each shipped type that can be read. *Fewest*: so many of them are pairwise apart, that is "
    "no two can be in one read by the type's limits, so no plan needs fewer requests."
)
REQUESTS: Final = (
    "One request at a time on each connection, the same server in C for all, interleaved rounds; medians "
    "with the lowest and the highest. libmodbus has a thread a connection, the others one event loop. On one "
    "connection this measures wake-ups across cores. *Ratio*: ours to libmodbus, median over the rounds."
)
FLEET: Final = (
    "500 devices of 50 points, polled every second. *Late*: from the tick to the device's clock in its "
    "answer, in whole milliseconds rounded up. Medians over interleaved rounds with the lowest and the "
    "highest. Without phases all 500 are due at one instant; ten devices on a line also wait for each "
    "other's answers."
)


@dataclass(slots=True)
class FieldResults:
    """Everything measured about the field; what was not measured stays empty."""

    serial: list[LineUse] = field(default_factory=list)
    plans: list[PlanUse] = field(default_factory=list)
    requests: list[Asked] = field(default_factory=list)
    fleets: Fleets | None = None


def field_lines(results: FieldResults) -> list[Line]:
    """Return the figures of the field, in their order."""
    fleets = results.fleets
    alone = fleets.alone.windows if fleets else []
    shared = fleets.shared.windows if fleets else []
    phased = fleets.spread.windows if fleets else []
    found = [
        Line(f"serial_use_{baud}", f"reads at {baud} baud beside the arithmetic, the worst size of reads",
             min((one.ours for one in results.serial if one.baud == baud), default=None), "", AIM, False, 3)
        for baud in BAUDS
    ]  # fmt: skip
    found.append(
        Line("serial_beside_c", "the same beside the master in C that keeps t3.5, the worst of all",
             min((one.ours / one.c_master for one in results.serial), default=None), "", None, False, 3)
    )  # fmt: skip
    found.append(
        Line("plan_over_optimum", "requests for all points beside the fewest possible, the worst device type",
             over_optimum(results.plans), "", 1.0, True, 2)
    )  # fmt: skip
    for connections in CONNECTIONS:
        found += [
            Line(f"requests_per_s_{connections}", f"our link, {COUNT} registers a read, {_on(connections)}",
                 _ours(results.requests, connections), "requests/s", None, False),
            Line(f"requests_ratio_{connections}", "the same beside libmodbus in the same rounds",
                 ratio(results.requests, connections, COUNT), "", None, False, 2),
        ]  # fmt: skip
    return [
        *found,
        Line("fleet_jitter_p99_ms", "500 devices every second, a line each: tick to request, 99 % of polls",
             median(one.p99_ms for one in alone), "ms", 20, True),
        Line("fleet_shared_jitter_p99_ms", "the same, ten devices on each of 50 lines",
             median(one.p99_ms for one in shared), "ms", None, True),
        Line("fleet_phased_jitter_p99_ms", "the same, a line and a phase each",
             median(one.p99_ms for one in phased), "ms", 20, True),
        Line("fleet_pss_mib", "agent's memory (PSS) with 500 devices, a line each",
             median(one.pss_mib for one in alone), "MiB", 150, True, 1),
    ]  # fmt: skip


def field_figures(results: FieldResults) -> dict[str, Figure]:
    """Return what the last line tells besides: counts by which a run can be checked."""
    windows = [one for fleet in results.fleets.all for one in fleet.windows] if results.fleets else []
    return {
        "field_checked": {
            "serial_errors": sum(one.errors for one in results.serial),
            "types": len(results.plans),
            "request_errors": sum(one.errors for one in results.requests),
            "fleet_rows": sum(one.rows for one in windows),
            "fleet_missed_ticks": sum(one.missed_ticks for one in windows),
            "fleet_doubled": sum(one.doubled for one in windows),
            "fleet_holes": sum(one.holes for one in windows),
        }
    }


def field_sections(results: FieldResults) -> list[str]:
    """Return the sections of RESULTS.md."""
    return [
        *_serial(results.serial),
        *_plans(results.plans),
        *_requests(results.requests),
        *_fleets(results.fleets),
    ]


def _on(connections: int) -> str:
    return "1 connection" if connections == 1 else f"{connections} connections"


def _ours(asked: Iterable[Asked], connections: int) -> float | None:
    wanted = ("ours", connections, COUNT)
    return next((one.rate for one in asked if (one.client, one.connections, one.count) == wanted), None)


def _serial(found: Sequence[LineUse]) -> list[str]:
    if not found:
        return []
    return [
        "## A serial line",
        "",
        SERIAL,
        "",
        NOT_TRIED,
        "",
        "| baud | registers | arithmetic, reads/s | ours | C, t3.5 | C, no silence | our CPU | errors |",
        "|---|---|---|---|---|---|---|---|",
        *(
            f"| {one.baud} | {one.registers} | {one.ideal_reads_per_s:.2f} "
            f"| {one.ours:.1%} ({one.ours_lowest:.1%}) | {one.c_master:.1%} "
            f"| {one.c_master_without_silence:.1%} | {one.cpu:.1%} of a core | {one.errors} |"
            for one in found
        ),
        "",
    ]


def _plans(found: Sequence[PlanUse]) -> list[str]:
    if not found:
        return []
    return [
        "## Requests of a device type",
        "",
        PLANS,
        "",
        "| type | points | requests | fewest | registers read | of them needed |",
        "|---|---|---|---|---|---|",
        *(
            f"| `{one.type}` | {one.points} | {one.requests} | {one.fewest} | {one.registers} "
            f"| {one.needed} |"
            for one in found
        ),
        "",
    ]


def _requests(found: Sequence[Asked]) -> list[str]:
    if not found:
        return []
    text = [
        "## Requests a second",
        "",
        REQUESTS,
        "",
        "| connections | registers | client | requests/s | CPU a request, µs | ratio |",
        "|---|---|---|---|---|---|",
    ]
    for connections in CONNECTIONS:
        for count in COUNTS:
            for client in CLIENTS:
                wanted = (client, connections, count)
                for one in found:
                    if (one.client, one.connections, one.count) == wanted:
                        beside = ratio(found, connections, count) if client == "ours" else None
                        text.append(
                            f"| {connections} | {count} | {_NAMES[client]} | {spread(one.per_s, 0)} "
                            f"| {spread(one.cpu_us, 1)} | {'' if beside is None else format(beside, '.2f')} |"
                        )
    return [*text, ""]


_NAMES: Final = {
    "libmodbus": "libmodbus (C)",
    "ours": "our link, uvloop",
    "pymodbus": "pymodbus, stock loop",
}


def _fleets(fleets: Fleets | None) -> list[str]:
    if fleets is None:
        return []
    ways = [fleet.windows for fleet in fleets.all]
    text = [
        "## 500 devices",
        "",
        FLEET,
        "",
        "| | " + " | ".join(fleet.name for fleet in fleets.all) + " |",
        "|---|---|---|---|",
    ]

    def row(name: str, pick: Callable[[FleetWindow], float], digits: int = 0) -> None:
        cells = (spread([pick(one) for one in windows], digits) for windows in ways)
        text.append(f"| {name} | " + " | ".join(cells) + " |")

    row("late, p50, ms", lambda one: one.p50_ms)
    row("late, p99, ms", lambda one: one.p99_ms)
    row("late, worst, ms", lambda one: one.worst_ms)
    row("rows", lambda one: one.rows)
    row("ticks missed", lambda one: one.missed_ticks)
    row("doubled rows", lambda one: one.doubled)
    row("holes (must be 0)", lambda one: one.holes)
    row("agent, % of a core", lambda one: 100 * one.cpu, 1)
    row("agent waited for a core, %", lambda one: 100 * one.waited, 1)
    row("agent, PSS, MiB", lambda one: one.pss_mib, 1)
    row("agent, memory of its own, MiB", lambda one: one.own_mib, 1)
    return [*text, ""]
