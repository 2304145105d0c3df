"""The agent's status as a person reads it in a terminal.

Relies on the form that `agent.status` writes; a file of another form is told, not guessed at.
"""

from pathlib import Path

import msgspec
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from core.errors import StoreError

STALE_S = 15.0
_LINE_COLUMNS = ("line", "rows", "requests", "overruns", "failures", "silent devices")
VAGUE_PPM = 1000.0
"""No clock is so bad: a drift that is known no better is not known; ours."""
SHARP_PPM = 100.0
"""A drift that is known so well counts even where it is next to nothing; ours."""


class _StoreState(msgspec.Struct, frozen=True):
    readings: int
    rows: int
    bytes: int
    durable_p99_ms: float
    durable_max_ms: float
    gap_ticks: int


class _LineState(msgspec.Struct, frozen=True):
    rows: int
    requests: int
    overruns: int
    failures: dict[str, int]
    silent: list[str]
    unasked: dict[str, int] = {}
    """Frames that nobody asked for, by unit id."""


class _LearnedState(msgspec.Struct, frozen=True):
    largest: dict[str, int]
    holes: list[str]
    searching: bool


class _ClockState(msgspec.Struct, frozen=True):
    offset_s: float | None
    offset_within_s: float | None
    drift_ppm: float | None
    drift_within_ppm: float | None
    beyond: bool


class _RefusedState(msgspec.Struct, frozen=True):
    what: str
    why: str
    text: str


class _PolicyState(msgspec.Struct, frozen=True):
    freshness: str
    version: int
    assignment: int
    refused: list[_RefusedState]


class _BrokerState(msgspec.Struct, frozen=True):
    address: str
    connected: bool
    last_error: str


class _RouteState(msgspec.Struct, frozen=True):
    entity: str
    waiting_records: int
    unconfirmed_bytes: int
    messages: int
    confirmations: int
    resent: int
    refused: int


class _AlarmState(msgspec.Struct, frozen=True):
    code: str
    device: str
    text: str


class Status(msgspec.Struct, frozen=True):
    """What is shown of a status document; it has more."""

    gateway: str
    software: str
    at_ms: int
    uptime_s: float
    clock_synchronised: bool
    store: _StoreState
    lines: dict[str, _LineState]
    brokers: dict[str, _BrokerState]
    routes: dict[str, _RouteState]
    alarms: list[_AlarmState]
    learned: dict[str, _LearnedState] = {}
    clocks: dict[str, _ClockState] = {}
    policy: _PolicyState | None = None


def read(path: Path, raw: bytes, runs: bool) -> Status:
    """Return a status document; StoreError when the file is none, ``runs`` says whether an agent does."""
    try:
        return msgspec.json.decode(raw, type=Status)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        what = "is empty" if not raw else f"is not as an agent writes it ({error})"
        do = (
            "an agent runs and writes it anew every few seconds: ask again, and see the log if it stays so"
            if runs
            else "no agent runs: start it, and it writes the status anew"
        )
        raise StoreError(f"the status at {path} {what}; {do}") from error


def show(state: Status, age_s: float, runs: bool) -> None:
    """Print a status document; ``age_s`` is how old it is, ``runs`` whether an agent holds the folder."""
    console = Console()
    if not runs:
        told = f"[red]not running[/] (stopped, killed or crashed; last sign of life {age_s:.0f} s ago)"
    elif age_s < STALE_S:
        told = f"[green]running[/] for {state.uptime_s:.0f} s"
    else:
        told = f"[red]silent for {age_s:.0f} s[/]"
    console.print(
        f"[bold]{escape(state.gateway)}[/]  {escape(state.software)}  {told}"
        + ("" if state.clock_synchronised else "  [yellow]clock not synchronised[/]")
    )
    store = state.store
    console.print(
        f"store: {store.readings} readings in {store.rows} rows, {store.bytes / 2**20:.1f} MiB, "
        f"sample to durable p99 {store.durable_p99_ms:.0f} ms, longest {store.durable_max_ms:.0f} ms, "
        f"{store.gap_ticks} ticks in gaps"
    )
    _lines(console, state.lines)
    _learned(console, state.learned)
    _clocks(console, state.clocks)
    _policy(console, state.policy)
    _routes(console, state)
    for alarm in state.alarms:
        console.print(f"[red]alarm[/] {alarm.code} {escape(alarm.device)}: {escape(alarm.text)}")


def _lines(console: Console, lines: dict[str, _LineState]) -> None:
    table = Table(*(Column(name, overflow="fold") for name in _LINE_COLUMNS))
    for name, line in lines.items():
        failures = ", ".join(
            (
                *(f"{reason} {count}" for reason, count in line.failures.items()),
                *(f"unasked from unit {unit}: {frames}" for unit, frames in line.unasked.items()),
            )
        )
        table.add_row(
            name,
            str(line.rows),
            str(line.requests),
            str(line.overruns),
            failures,
            ", ".join(line.silent),
        )
    console.print(table)


def _learned(console: Console, learned: dict[str, _LearnedState]) -> None:
    if not learned:
        return
    table = Table("device", "largest read", "refused", "")
    for device, known in learned.items():
        table.add_row(
            device,
            ", ".join(f"{name} {count}" for name, count in known.largest.items()),
            ", ".join(known.holes),
            "searching" if known.searching else "",
        )
    console.print(table)


def _clocks(console: Console, clocks: dict[str, _ClockState]) -> None:
    if not clocks:
        return
    table = Table("device's clock", "ahead of ours", "drift", "")
    for device, known in clocks.items():
        offset = known.offset_s
        table.add_row(
            device,
            "" if offset is None else f"{offset:+z.1f} s ± {known.offset_within_s or 0:.1f}",
            drift_in_words(known.drift_ppm, known.drift_within_ppm or 0),
            "[red]beyond its bounds[/]" if known.beyond else "",
        )
    console.print(table)


def drift_in_words(ppm: float | None, within_ppm: float) -> str:
    """Return the drift of a clock; what a few seconds show may be anything, and is not known."""
    if ppm is None or within_ppm > VAGUE_PPM or within_ppm > max(SHARP_PPM, 10 * abs(ppm)):
        return "not known yet"
    return f"{ppm:+z.0f} ppm ± {within_ppm:.0f}"


def _policy(console: Console, policy: _PolicyState | None) -> None:
    if policy is None:
        return
    colour = "green" if policy.freshness == "fresh" else "red"
    console.print(
        f"policy {policy.version or 'none'}, assignment {policy.assignment or 'none'}: "
        f"[{colour}]{policy.freshness.replace('_', ' ')}[/]"
    )
    for one in policy.refused:
        console.print(f"[red]refused[/] {one.what} ({one.why}): {escape(one.text)}")


def _routes(console: Console, state: Status) -> None:
    up = {name: broker.connected for name, broker in state.brokers.items()}
    names = ("route", "entity", "waiting", "unconfirmed", "messages", "confirmations", "resent", "refused")
    table = Table(*(Column(name, overflow="fold") for name in names))
    for name, route in state.routes.items():
        table.add_row(
            name,
            route.entity,
            str(route.waiting_records),
            f"{route.unconfirmed_bytes / 1024:.0f} KiB",
            str(route.messages),
            str(route.confirmations),
            str(route.resent),
            str(route.refused),
        )
    console.print(table)
    for name, connected in up.items():
        address = state.brokers[name].address
        word = (
            "[green]connected[/]"
            if connected
            else f"[red]not connected[/]: {escape(state.brokers[name].last_error)}"
        )
        console.print(f"broker {address} as {name}: {word}")
