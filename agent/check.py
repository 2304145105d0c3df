"""`portico agent check`: what a configuration would do, before anything does it.

Faults, warnings, and for each line what is asked of whom: requests with their
address ranges, the holes they bridge, how many a second, and on a serial line how
much of its time that takes.  Where an agent has learned what a device refuses, the
plan is the one that it uses.  Relies on `rich` for the look; imported by the command
alone, so that the start of the agent does not pay for it.  Not here: whether a device
answers (`portico probe`).
"""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.tree import Tree

from agent.amounts import Duration
from agent.config import Config, LineConfig, connections, problem, survey_config, types_of, warnings
from agent.config_rules import Types
from agent.datadir import data_dir_fault
from agent.identity import file_faults, identity_warnings
from agent.learned import Shown, shown, told
from agent.learnednote import read_note, to_forget, types_by_device
from agent.linelink import port_warnings
from agent.site import PollGroup, Site, build_site
from core.errors import ConfigError
from core.ownership import Ownership
from drivers.modbus.bustime import TURN_AROUND_S, read_s
from drivers.modbus.learned import NOTHING, Learned
from drivers.modbus.plan import Request

NO_BUS_TIME = "the time that requests take is reckoned for serial lines alone"
UNKNOWN_BUS_TIME = "give baud, and the time that requests take behind the serial server is reckoned"
FULL = 1.0
CROWDED = 0.8
"""Beyond this share of its time a line has no room for a device that is silent, or for commands."""


@dataclass(frozen=True, slots=True)
class PlannedRequest:
    """One read of a plan, as a person checks it against the manual."""

    table: str
    first: int
    """First address, zero-based as on the wire; ``last`` is the last one read."""
    last: int
    count: int
    unused: int
    """Addresses that are read although no polled point needs them: holes bridged, or a block made by hand."""
    points: tuple[str, ...]
    refused: str = ""
    """Why the device refuses it, as learned; it is asked now and then, which no rate counts."""


@dataclass(frozen=True, slots=True)
class PlannedGroup:
    """A group and the requests that bring it."""

    group: int
    device: str
    type: str
    unit_id: int
    every: str
    phase: str
    owners: tuple[str, ...]
    """One text for each term of the ownership."""
    requests: tuple[PlannedRequest, ...]

    @property
    def points(self) -> int:
        """How many points a row of it has."""
        return sum(len(request.points) for request in self.requests)


@dataclass(frozen=True, slots=True)
class PlannedLine:
    """What the worker of one line has to do."""

    name: str
    url: str
    devices: int
    groups: tuple[PlannedGroup, ...]
    requests_per_s: float
    registers_per_s: float
    bits_per_s: float
    points_per_s: float
    bus_time: float | None
    """Share of its time that a serial line needs, 1.37 for 137 %; None where it is not reckoned."""
    bus_time_of: tuple[tuple[str, float], ...]
    """The share of each device, the largest first."""
    bus_time_told: str
    """In a sentence."""


@dataclass(frozen=True, slots=True)
class PlannedConnection:
    """One connection to a broker."""

    client_id: str
    url: str
    routes: tuple[str, ...]
    entities: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Checked:
    """The answer: usable when there are no faults."""

    file: str
    problem: str = ""
    """What is wrong in one sentence; empty when nothing is."""
    faults: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    lines: tuple[PlannedLine, ...] = ()
    connections: tuple[PlannedConnection, ...] = ()
    learned: dict[str, Shown] = field(default_factory=dict)
    """What was learned of devices, by name; the plan is made with it."""

    @property
    def ok(self) -> bool:
        """Whether the agent would start."""
        return not self.problem

    def as_json(self) -> str:
        """Return all of it as one JSON object on one line."""
        return json.dumps({"ok": self.ok, **asdict(self)}, ensure_ascii=False)


def _data_dir_faults(tables: Config | None) -> tuple[str, ...]:
    """Return why the folder of the store could not be used."""
    fault = "" if tables is None else data_dir_fault(tables.gateway.data_dir)
    return (f"gateway.toml: gateway data_dir: {fault}",) if fault else ()


def _policy_faults(tables: Config | None) -> tuple[str, ...]:
    """Return what is wrong with the root of the policy."""
    if tables is None or tables.policy is None:
        return ()
    from agent.policy.keeper import built_in_root  # here, because who has no policy need not load it

    try:
        built_in_root(tables.policy.root)
    except ConfigError as error:
        return (f"gateway.toml: policy root: {error}",)
    return ()


def check(path: Path, at: datetime | None = None) -> Checked:
    """Return what is wrong with a configuration and what it would do; ``at`` judges certificates (now)."""
    now = datetime.now(UTC) if at is None else at
    try:
        survey = survey_config(path)
    except ConfigError as error:
        return Checked(str(path), str(error), error.faults)
    # The files that its tables name are looked at as well: who mends a file wants to hear it once.
    identity = (
        *_data_dir_faults(survey.tables),
        *file_faults(survey.identity, now),
        *_policy_faults(survey.tables),
    )
    if survey.faults or survey.tables is None:
        faults = (*survey.faults, *identity)
        return Checked(str(path), problem(path, faults), faults)
    config = survey.tables
    types = types_of(config.gateway)
    learned, unread = _learned(config, types)
    try:
        site = build_site(config, types, learned)
    except ConfigError as error:
        return Checked(str(path), str(error), (*error.faults, *identity))
    lines = tuple(_lines(config, site, learned))
    return Checked(
        file=str(path),
        problem=f"{path} names files that cannot be used:" if identity else "",
        faults=identity,
        warnings=(
            *warnings(config, types),
            *port_warnings(config),
            *identity_warnings(config, now),
            *unread,
            *_bus_warnings(lines),
        ),
        lines=lines,
        learned={device: shown(one) for device, one in learned.items()},
        connections=tuple(
            PlannedConnection(
                one.client_id,
                str(one.url),
                tuple(route.name for route in one.routes),
                tuple(dict.fromkeys(route.entity for route in one.routes)),
            )
            for one in connections(config)
        ),
    )


def _learned(config: Config, types: Types) -> tuple[dict[str, Learned], tuple[str, ...]]:
    """Return what an agent with this data directory would know at its start, and a warning."""
    directory = config.gateway.data_dir
    try:
        found = read_note(directory, types_by_device(config, types))
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        return {}, (f"what was learned of the devices is not shown: {directory} cannot be read ({why})",)
    forget = to_forget(directory)
    return {name: one.learned for name, one in found.items() if one.learned and name not in forget}, ()


def _lines(config: Config, site: Site, learned: Mapping[str, Learned]) -> Iterator[PlannedLine]:
    for line in config.lines:
        groups = site.on_line(line.name)
        asked = {one.group.group: _asked(one, learned) for one in groups}
        reads = [(request, 1000 / one.every_ms) for one in groups for request in asked[one.group.group]]
        registers = [request.count * rate for request, rate in reads if not request.table.is_bits]
        bits = [request.count * rate for request, rate in reads if request.table.is_bits]
        shares = _bus_shares(line, groups, asked)
        yield PlannedLine(
            name=line.name,
            url=str(line.url),
            devices=len({group.group.device for group in groups}),
            groups=tuple(_group(one, learned.get(one.group.device, NOTHING)) for one in groups),
            requests_per_s=round(sum(rate for _, rate in reads), 3),
            registers_per_s=round(sum(registers), 3),
            bits_per_s=round(sum(bits), 3),
            points_per_s=round(sum(len(group.points) * 1000 / group.every_ms for group in groups), 3),
            bus_time=None if line.serial is None else round(sum(share for _, share in shares), 4),
            bus_time_of=tuple((device, round(share, 4)) for device, share in shares),
            bus_time_told=_told(line, shares),
        )


def _asked(group: PollGroup, learned: Mapping[str, Learned]) -> tuple[Request, ...]:
    """Return the requests of a group that are made at every tick."""
    known = learned.get(group.group.device, NOTHING)
    return tuple(request for request in group.requests if known.refusal(request) is None)


def _bus_shares(
    line: LineConfig, groups: Sequence[PollGroup], asked: Mapping[int, Sequence[Request]]
) -> list[tuple[str, float]]:
    """Return what share of its time a line needs for each device, the largest first."""
    if line.serial is None:
        return []
    shares: dict[str, float] = {}
    for group in groups:
        poll_s = sum(read_s(request, line.serial, group.pause_s) for request in asked[group.group.group])
        device = group.group.device
        shares[device] = shares.get(device, 0.0) + poll_s * 1000 / group.every_ms
    return sorted(shares.items(), key=lambda one: -one[1])


def _told(line: LineConfig, shares: Sequence[tuple[str, float]]) -> str:
    if line.serial is None:
        return UNKNOWN_BUS_TIME if line.url.scheme.is_serial else NO_BUS_TIME
    if not shares:
        return "the line has nothing to do"
    device, most = shares[0]
    whole = _percent(sum(share for _, share in shares))
    return (
        f"the line needs {whole} of its time at {line.serial.baud} baud, "
        f"with {TURN_AROUND_S * 1000:g} ms until a device begins; most of it {device}: {_percent(most)}"
    )


def _percent(share: float) -> str:
    return f"{share * 100:.{0 if share >= 0.1 else 1}f} %"


def _bus_warnings(lines: Sequence[PlannedLine]) -> Iterator[str]:
    for line in lines:
        if line.bus_time is not None and line.bus_time > FULL:
            yield (
                f'line "{line.name}" cannot keep up: {line.bus_time_told}; polls will be skipped: poll less '
                "often, fewer points, a higher baud rate, or a second line"
            )
        elif line.bus_time is not None and line.bus_time > CROWDED:
            yield f'line "{line.name}" has little room for retries and commands: {line.bus_time_told}'


def _group(one: PollGroup, learned: Learned) -> PlannedGroup:
    return PlannedGroup(
        group=one.group.group,
        device=one.group.device,
        type=one.group.device_type,
        unit_id=one.unit_id,
        every=str(Duration(one.every_ms)),
        phase=str(Duration(one.phase_ms)),
        owners=tuple(map(_term, one.group.owners)),
        requests=tuple(_request(one, request, learned) for request in one.requests),
    )


def _request(one: PollGroup, request: Request, learned: Learned) -> PlannedRequest:
    refusal = learned.refusal(request)
    members = [one.points[index] for index in request.points]
    used = {address for point in members for address in range(point.address, point.end)}
    return PlannedRequest(
        table=request.table.value,
        first=request.address,
        last=request.end - 1,
        count=request.count,
        unused=request.count - len(used),
        points=tuple(point.name for point in members),
        refused="" if refusal is None else refusal.reason,
    )


def _term(term: Ownership) -> str:
    owners = " and ".join(term.data_owners)
    begin = f" from {_instant(term.valid_from_ms)}" if term.valid_from_ms is not None else ""
    end = f" until {_instant(term.valid_to_ms)}" if term.valid_to_ms is not None else ""
    return f"{owners}{begin}{end}"


def _instant(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def run_check(config_path: Path, as_json: bool) -> int:
    """Print what a configuration would do; return the exit code, 0 or 2."""
    checked = check(config_path)
    if as_json:
        sys.stdout.write(checked.as_json() + "\n")
    else:
        _print(checked)
    return 0 if checked.ok else 2


def _print(checked: Checked) -> None:
    out = Console(highlight=False)
    for line in checked.lines:
        out.print(_tree(line, checked.learned))
    for connection in checked.connections:
        whom = ", ".join(connection.entities)
        out.print(f"{connection.url} as {connection.client_id}: {escape(whom)}", soft_wrap=True)
    for warning in checked.warnings:
        out.print(f"[yellow]warning:[/] {escape(warning)}", soft_wrap=True)
    if checked.ok:
        out.print(f"[green]ok:[/] {escape(checked.file)} can be used", soft_wrap=True)
        return
    err = Console(stderr=True, highlight=False)
    err.print(f"[red]error:[/] {escape(checked.problem)}", soft_wrap=True)
    for fault in checked.faults:
        err.print(f"  {escape(fault)}", soft_wrap=True)


def _tree(line: PlannedLine, learned: Mapping[str, Shown]) -> Tree:
    many = "1 device" if line.devices == 1 else f"{line.devices} devices"
    tree = Tree(f"[bold]line {line.name}[/]  {escape(line.url)}, {many}", guide_style="dim")
    for group in line.groups:
        phase = "" if group.phase == "0ms" else f" + {group.phase}"
        branch = tree.add(
            f"[bold]{group.device}[/] ({group.type}), unit id {group.unit_id}, group {group.group}, "
            f"every {group.every}{phase}, {group.points} points for {'; '.join(group.owners)}"
        )
        for request in group.requests:
            span = str(request.first) if request.count == 1 else f"{request.first}-{request.last}"
            unused = f", {request.unused} addresses not needed" if request.unused else ""
            refused = f", refused ({request.refused}): asked now and then" if request.refused else ""
            branch.add(f"{request.table:<8} {span:<11} {len(request.points):>4} points{unused}{refused}")
        if group.device in learned:
            branch.add(f"planned as learned, not as its type says: {escape(told(learned[group.device]))}")
    tree.add(
        f"in all {line.requests_per_s:g} requests, {line.registers_per_s:g} registers, "
        f"{line.bits_per_s:g} bits, {line.points_per_s:g} points a second"
    )
    style = "dim" if line.bus_time is None else "red" if line.bus_time > FULL else "default"
    tree.add(f"[{style}]{escape(line.bus_time_told)}[/]")
    return tree
