"""The part of the results that is about control: decisions, commands to the wire, believing a policy."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from bench.command import DAYS, Commands, Times
from bench.figures import Figure, Line, spread
from bench.relay import BAUD
from bench.rulings import ENTITIES, GRANTS, ROWS, Figures
from bench.steady import median

AIM_DECISION_US: Final = 300
AIM_MS: Final = 50
DECISIONS: Final = (
    "{grants:,} grants of 20 entities for four kinds of devices; {judged:.0f} of them speak of a command. "
    "One that is allowed ends with the strongest grant that permits it, one that is refused lists every "
    "unmet condition of all that speak of it. Medians over rounds of a process each, in brackets lowest "
    "and highest. By the thread's own CPU time too: what another program on the core takes is not in it."
)
COMMAND: Final = (
    "From just before an operator publishes a signed command, over mosquitto and the agent, to the first "
    "byte of the write at the device, by one clock; {days} days of readings ({waiting:,}) wait in the "
    "store meanwhile, because nobody confirms. The device's own hold is written first, in the same act, "
    "and then the value. Four commits to the disk (taken in, audited, accepted, dispatched) lie before "
    "the first write; nothing is read from the device before. *Busy*: a line at {baud} baud of whose time "
    "polls want {share:.0%}; its longest request takes {longest:.0f} ms by the arithmetic, and a command "
    "waits for the one that is on its way. The aim is of the first byte that a command sends, not of the "
    "value. Of fewer than 100 commands 99 % is the worst one."
)
REFRESH: Final = (
    "{entities} entities of ten people each and {grants:,} grants, all signed with P-256, as one gateway "
    "takes them. Milliseconds, the least of some repetitions; medians over rounds, in brackets lowest and "
    "highest."
)


@dataclass(slots=True)
class ControlResults:
    """Everything measured about control; what was not measured stays empty."""

    decisions: list[Figures] = field(default_factory=list)
    commands: Commands | None = None
    refresh: list[Figures] = field(default_factory=list)


def control_lines(results: ControlResults) -> list[Line]:
    """Return the figures of control, in their order."""
    found = results.commands
    idle, busy = (found.idle, found.busy) if found else (Times(), Times())
    longest_ms = found.transaction_ms if found else 0.0
    size = results.refresh[0] if results.refresh else {"entities": ENTITIES, "grants": ROWS}
    taken = f"a policy of {size['entities']:.0f} entities and {size['grants']:,.0f} grants"
    aim_busy_ms = round(longest_ms + AIM_MS) if found else None
    decisions = [
        Line(f"decision_{kind}_p99_us", f"a decision with {GRANTS:,} grants, {kind}, 99 %",
             _of(results.decisions, f"{kind}_p99_us"), "µs", AIM_DECISION_US, True)
        for kind in ("allowed", "refused")
    ]  # fmt: skip
    return [
        *decisions,
        Line("decisions_per_s", "decisions that are allowed, one after the other",
             _of(results.decisions, "allowed_per_s"), "decisions/s", None, False),
        Line("refusals_per_s", "decisions that are refused, with every reason",
             _of(results.decisions, "refused_per_s"), "decisions/s", None, False),
        Line("command_idle_p50_ms", "command published to its first write at the device, idle line, half",
             _share(idle.first, 0.5), "ms", None, True, 1),
        Line("command_idle_p99_ms", "the same, 99 %", _share(idle.first, 0.99), "ms", AIM_MS, True, 1),
        Line("command_busy_p50_ms", f"the same on a fully busy line at {BAUD} baud, half",
             _share(busy.first, 0.5), "ms", None, True, 1),
        Line("command_busy_p99_ms", "the same, 99 %; aim: one transaction and 50 ms",
             _share(busy.first, 0.99), "ms", aim_busy_ms, True, 1),
        Line("refresh_first_ms", f"taking {taken}, the first time",
             _of(results.refresh, "first_refresh_ms"), "ms", None, True),
        Line("refresh_one_row_ms", "taking it again with one row changed",
             _of(results.refresh, "refresh_one_row_ms"), "ms", None, True),
        Line("refresh_one_roster_ms", "the same with one roster changed",
             _of(results.refresh, "refresh_one_roster_ms"), "ms", None, True),
        Line("refresh_load_ms", "proving it again at a start",
             _of(results.refresh, "load_at_start_ms"), "ms", None, True),
        Line("refresh_held_mib", "memory that it takes",
             _of(results.refresh, "held_mib"), "MiB", None, True, 1),
    ]  # fmt: skip


def control_figures(results: ControlResults) -> dict[str, Figure]:
    """Return what the last line tells besides: counts by which a run can be checked."""
    found = results.commands
    return {
        "control_checked": {
            "decisions": sum(one["decisions"] * 2 for one in results.decisions),
            "judged": _of(results.decisions, "refused_judged") or 0.0,
            "commands_idle": len(found.idle.first) if found else 0,
            "commands_busy": len(found.busy.first) if found else 0,
            "waiting": found.waiting if found else 0,
            "refresh_grants": _of(results.refresh, "agreed") or 0.0,
        }
    }


def control_sections(results: ControlResults) -> list[str]:
    """Return the sections of RESULTS.md."""
    return [*_decisions(results.decisions), *_commands(results.commands), *_refresh(results.refresh)]


def _of(rounds: Sequence[Figures], name: str) -> float | None:
    return median(one[name] for one in rounds)


def _share(times: Sequence[float], share: float) -> float | None:
    ordered = sorted(times)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else None


def _decisions(rounds: Sequence[Figures]) -> list[str]:
    if not rounds:
        return []
    text = [
        "## Decisions",
        "",
        DECISIONS.format(grants=GRANTS, judged=rounds[0]["refused_judged"]),
        "",
        "| | decisions/s | p50, µs | p99, µs | p50 by CPU | p99 by CPU |",
        "|---|---|---|---|---|---|",
    ]
    for kind in ("allowed", "refused"):
        names = ("per_s", "p50_us", "p99_us", "cpu_p50_us", "cpu_p99_us")
        cells = (spread([one[f"{kind}_{name}"] for one in rounds], 0) for name in names)
        text.append(f"| {kind} | " + " | ".join(cells) + " |")
    return [*text, ""]


def _commands(found: Commands | None) -> list[str]:
    if found is None:
        return []
    text = [
        "## A command to the wire",
        "",
        COMMAND.format(
            days=DAYS, waiting=found.waiting, baud=BAUD, share=found.busy_share, longest=found.transaction_ms
        ),
        "",
        "| ms | idle: p50 | p99 | worst | busy: p50 | p99 | worst |",
        "|---|---|---|---|---|---|---|",
    ]

    def row(name: str, idle: Sequence[float], busy: Sequence[float]) -> None:
        cells = [_share(times, share) for times in (idle, busy) for share in (0.5, 0.99, 1)]
        text.append(f"| {name} | " + " | ".join("" if one is None else f"{one:.1f}" for one in cells) + " |")

    idle, busy = found.idle, found.busy
    row("accepted (as the agent noted it)", idle.accepted, busy.accepted)
    row("dispatched: written down, waits for the line", idle.dispatched, busy.dispatched)
    row("first byte of the first write, the device's hold", idle.first, busy.first)
    row("first byte of the value", idle.value, busy.value)
    row("cancelled to the first byte that puts back", idle.back, busy.back)
    return [*text, "", f"{len(idle.first)} commands on the idle line, {len(busy.first)} on the busy one.", ""]


def _refresh(rounds: Sequence[Figures]) -> list[str]:
    if not rounds:
        return []
    text = [
        "## Believing a policy",
        "",
        REFRESH.format(entities=int(rounds[0]["entities"]), grants=int(rounds[0]["grants"])),
        "",
        "| | by the wall | of CPU |",
        "|---|---|---|",
    ]
    for name, what in (
        ("first_refresh", "taking it the first time: verified, and every row read"),
        ("refresh_one_row", "with one row changed"),
        ("refresh_one_roster", "with one roster changed"),
        ("refresh_timestamp", "a new timestamp alone"),
        ("load_at_start", "proving it again at a start"),
        ("arrange_rulebook", "reading the rows and arranging them for decisions"),
        ("publish", "publishing it, at the utility"),
    ):
        cells = (spread([one[f"{name}{kind}_ms"] for one in rounds], 0) for kind in ("", "_cpu"))
        text.append(f"| {what} | " + " | ".join(cells) + " |")
    held, size = spread([one["held_mib"] for one in rounds], 1), rounds[0]["bundle_bytes"]
    told = f"The bundle has {size / 1000:.0f} KB; what is held takes {held} MiB of memory."
    return [*text, "", told, ""]
