"""The result of a run: the figures by name for the last line, and `RESULTS.md` for people."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.backlog import Backlog
from bench.controlreport import ControlResults, control_figures, control_lines, control_sections
from bench.fieldreport import FieldResults, field_figures, field_lines, field_sections
from bench.figures import Figure, Line, rounded, spread
from bench.household import Household
from bench.starts import Starts
from bench.steady import Highest, Setting, Window, median

AIM_RATE: Final = 250_000
READ_MORE: Final = (
    "How each figure is taken, what limits it and where the time goes: "
    "[docs/performance.md](../docs/performance.md)."
)
RATES: Final = (
    "Medians over interleaved rounds; in brackets lowest and highest. 50 devices of 50 points, each with "
    "noise of its own; time and counter of each device travel as two more points and do not count as "
    "readings. *Held*: everything polled arrived, nothing piled up, not one tick was missed; *kept up "
    "with*: at most one in a thousand was. *Waited*: ready to run and no core free. CPU as a share of one "
    "core. *Late*: how often in a window a process that only sleeps was woken more than 10 ms late, which "
    "is the machine and not Portico."
)
SEARCH: Final = (
    "Steps of more devices on the shortest grid (10 ms); the highest step kept up with (at most 0.1 % of "
    "the ticks missed) is measured again for longer. The step above it shows what gives way first."
)
HOUSEHOLD: Final = (
    "60 points every 10 s (a main meter and a relay of the simulator), our collector confirming, "
    "{minutes} minutes in steady state. Bytes a reading at the TLS socket, both directions; megabytes a "
    "month with the headers of TCP and IP, estimated at 52 bytes a segment."
)


@dataclass(slots=True)
class Results:
    """Everything measured; what was not measured stays empty."""

    slow: Setting | None = None
    """2,500 points/s, light counter."""
    fast: Setting | None = None
    """250,000 points/s, light counter."""
    both: Setting | None = None
    """250,000 points/s, light counter and our collector together."""
    highest: Highest | None = None
    highest_books: Highest | None = None
    starts: Starts | None = None
    starts_full: Starts | None = None
    backlog: Backlog | None = None
    households: list[Household] = dataclasses.field(default_factory=list)
    field: FieldResults = dataclasses.field(default_factory=FieldResults)
    control: ControlResults = dataclasses.field(default_factory=ControlResults)


def lines(results: Results) -> list[Line]:
    """Return the figures that the project has aims for, in their order."""
    slow, fast, both = (_windows(one) for one in (results.slow, results.fast, results.both))
    cost = both or fast
    home = next((one for one in results.households if one.batch_s == 60), None)
    backlog = results.backlog
    return [
        Line("points_per_s", "received by the light counter, highest rate held",
             _held_rate(results.highest, results.fast, _counted), "points/s", AIM_RATE, False,
             held=_is_held(results.highest, results.fast)),
        Line("collector_points_per_s", "into the books of our collector beside it, highest rate held",
             _held_rate(results.highest_books, results.both, _collected), "points/s", AIM_RATE, False,
             held=_is_held(results.highest_books, results.both)),
        Line("highest_points_per_s", "received by the counter, at most 0.1 % of the ticks missed",
             _top(results.highest, results.fast, _counted), "points/s", None, False),
        Line("highest_collector_points_per_s", "into the books, the same way",
             _top(results.highest_books, results.both, _collected), "points/s", None, False),
        Line("cpu_s_per_100k", "agent's CPU at 250,000/s, counter and collector reading",
             median(one.cpu_s_per_100k for one in cost), "s/100,000 points", 0.3, True, 3),
        Line("pss_mib", "agent's memory (PSS) at 2,500/s",
             median(one.pss_mib for one in slow), "MiB", 50, True, 1),
        Line("p99_ms", "tick to arrival at the counter, 99 % of rows, at 2,500/s",
             median(one.tick_p99_ms for one in slow), "ms", 150, True),
        Line("wire_bytes_per_reading", "at the TLS socket, both directions, at 250,000/s",
             median(one.wire for one in cost), "bytes", 5, True, 2),
        Line("household_wire_bytes_per_reading", "the same for a household in one-minute messages",
             home.wire if home else None, "bytes", 3.5, True, 2),
        Line("disk_bytes_per_reading", "written to the disk by the agent at 250,000/s",
             median(one.disk for one in cost), "bytes", 25, True, 1),
        Line("disk_bytes_per_reading_at_2500", "the same at 2,500/s",
             median(one.disk for one in slow), "bytes", 100, True, 1),
        Line("start_s", "process start to READY",
             results.starts.median if results.starts else None, "s", 1, True, 2),
        Line("start_full_s", "the same with the backlog in the store",
             results.starts_full.median if results.starts_full else None, "s", 1, True, 2),
        Line("backlog_insert_ratio", "insert rate while the backlog drains, to that of an empty store",
             backlog.insert_ratio if backlog else None, "", 0.9, False, 2),
        Line("backlog_drain_ratio", "drain rate of the whole backlog, to that of a small one",
             backlog.drain_ratio if backlog else None, "", 0.8, False, 2),
        *field_lines(results.field),
        *control_lines(results.control),
    ]  # fmt: skip


def figures(results: Results) -> dict[str, Figure]:
    """Return the JSON object of the last line."""
    found: dict[str, Figure] = {line.key: rounded(line.value) for line in lines(results)}
    found["monthly_mb"] = {f"{one.batch_s}s": round(one.monthly_mb, 2) for one in results.households}
    for name, setting in (("by_counter", results.fast), ("together", results.both)):
        if setting is not None and setting.windows:
            found[f"held_250k_{name}"] = 2 * setting.held > len(setting.windows)
    slow, both = _windows(results.slow), _windows(results.both)
    every = [one for setting in (results.slow, results.fast, results.both) for one in _windows(setting)]
    found["checked"] = {
        "polled_rows": sum(one.polled_rows for one in every),
        "rows": sum(one.rows for one in every),
        "missed_ticks": sum(one.missed_ticks for one in every),
        "doubled": sum(one.doubled for one in every),
        "holes": sum(one.holes for one in every),
    }
    found["p50_ms"] = median(one.tick_p50_ms for one in slow)
    found["p99_ms_at_250k"] = median(one.tick_p99_ms for one in both)
    found["pss_mib_at_250k"] = rounded(median(one.pss_mib for one in both))
    return found | field_figures(results.field) | control_figures(results.control)


def _windows(setting: Setting | None) -> list[Window]:
    return setting.windows if setting is not None else []


def _counted(window: Window) -> float | None:
    return window.counted


def _collected(window: Window) -> float | None:
    return window.collected


def _top(
    highest: Highest | None, setting: Setting | None, reader: Callable[[Window], float | None]
) -> float | None:
    """Return the highest rate kept up with: by the search, else 250,000/s if most rounds kept up with it."""
    if highest is not None and highest.window is not None:
        return reader(highest.window)
    kept_up = [one for one in _windows(setting) if one.kept_up]
    return median(reader(one) for one in kept_up) if 2 * len(kept_up) > len(_windows(setting)) else None


def _held_rate(
    highest: Highest | None, setting: Setting | None, reader: Callable[[Window], float | None]
) -> float | None:
    """Return the rate of the search when that was held strictly, else that of the rounds."""
    if highest is not None and highest.window is not None and highest.window.held:
        return reader(highest.window)
    return median(reader(one) for one in _windows(setting))


def _is_held(highest: Highest | None, setting: Setting | None) -> bool:
    if highest is not None and highest.window is not None and highest.window.held:
        return True
    return setting is not None and 2 * setting.held > len(setting.windows)


# --- for people


def markdown(
    results: Results, machine: list[tuple[str, str]], date: str, command: str, loads: tuple[str, str]
) -> str:
    """Return the text of RESULTS.md."""
    text = [
        "# Benchmark results",
        "",
        f"Measured {date} by `{command}`. Load averages before and after: {loads[0]} and {loads[1]}.",
        READ_MORE,
        "",
        "## Figures and aims",
        "",
        "| key | what | measured | aim | |",
        "|---|---|---|---|---|",
    ]
    for line in lines(results):
        aim = "" if line.aim is None else f"{'≤' if line.at_most else '≥'} {line.aim:,g}"
        met = {True: "met", False: "**missed**", None: ""}[line.met]
        if not line.held and line.value is not None:
            met = "**not held** in most rounds: ticks were missed, see below"
        value = "not measured" if line.value is None else f"{line.value:,.{line.digits}f} {line.unit}".strip()
        text.append(f"| `{line.key}` | {line.what} | {value} | {aim} | {met} |")
    text += ["", *_rates(results), *_search(results), *_backlog(results), *_starts(results), *_home(results)]
    text += field_sections(results.field)
    text += control_sections(results.control)
    text += [
        "## Machine",
        "",
        "| | |",
        "|---|---|",
        *(f"| {name} | {value} |" for name, value in machine),
        "",
    ]
    return "\n".join(text)


def _rates(results: Results) -> list[str]:
    if results.slow is results.fast is results.both is None:
        return []
    text = [
        "## Steady rates",
        "",
        RATES,
        "",
        "| | 2,500/s, counter | 250,000/s, counter | 250,000/s, counter and collector |",
        "|---|---|---|---|",
    ]
    settings = [_windows(one) for one in (results.slow, results.fast, results.both)]

    def row(name: str, values: list[list[float | None]], digits: int) -> None:
        text.append(f"| {name} | " + " | ".join(spread(one, digits) for one in values) + " |")

    text.append(
        "| rounds held | "
        + " | ".join(f"{sum(w.held for w in one)} of {len(one)}" for one in settings)
        + " |"
    )
    text.append(
        "| rounds kept up with | "
        + " | ".join(f"{sum(w.kept_up for w in one)} of {len(one)}" for one in settings)
        + " |"
    )
    row("polled, points/s", [[w.polled for w in one] for one in settings], 0)
    row("received by the counter, points/s", [[w.counted for w in one] for one in settings], 0)
    row("into the books, points/s", [[w.collected for w in one] for one in settings], 0)
    row(
        "ticks missed, % of due",
        [[100 * w.missed_ticks / max(w.due_ticks, 1) for w in one] for one in settings],
        3,
    )
    row("agent waited for a core, %", [[100 * w.waited for w in one] for one in settings], 1)
    row("late", [[float(w.late) for w in one] for one in settings], 0)
    row("tick to counter, p50, ms", [[w.tick_p50_ms for w in one] for one in settings], 0)
    row("tick to counter, p99, ms", [[w.tick_p99_ms for w in one] for one in settings], 0)
    row("answer to counter, p50, ms", [[w.answer_p50_ms for w in one] for one in settings], 0)
    row("answer to counter, p99, ms", [[w.answer_p99_ms for w in one] for one in settings], 0)
    for part in ("agent", "counter", "collector", "broker", "field"):
        row(f"{part}, % of a core", [[_cpu(w, part) for w in one] for one in settings], 1)
    row("agent, CPU s/100,000 points", [[w.cpu_s_per_100k for w in one] for one in settings], 3)
    row("agent, PSS, MiB", [[w.pss_mib for w in one] for one in settings], 1)
    row("agent, memory of its own, MiB", [[w.own_mib for w in one] for one in settings], 1)
    row("wire, bytes a reading at the socket", [[w.wire for w in one] for one in settings], 2)
    row("of it downwards", [[w.wire_down for w in one] for one in settings], 3)
    row(
        "wire with TCP and IP headers (estimate)", [[w.wire_with_headers for w in one] for one in settings], 2
    )
    row("disk, bytes a reading", [[w.disk for w in one] for one in settings], 1)
    row("doubled rows", [[float(w.doubled) for w in one] for one in settings], 0)
    row("holes (must be 0)", [[float(w.holes) for w in one] for one in settings], 0)
    return [*text, ""]


def _cpu(window: Window, part: str) -> float | None:
    return 100 * window.cpu[part] if part in window.cpu else None


def _search(results: Results) -> list[str]:
    if results.highest is None and results.highest_books is None:
        return []
    text = [
        "## The highest rate",
        "",
        SEARCH,
        "",
        "| | kept up with | ticks missed | agent, % | p99, ms | step above: polled | missed | agent |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, highest in (
        ("light counter", results.highest),
        ("counter and collector", results.highest_books),
    ):
        if highest is None:
            continue
        held, above = highest.window, highest.above
        cells = [
            f"{held.counted:,.0f}" if held else "none",
            f"{100 * held.missed_ticks / held.due_ticks:.3f} %" if held else "",
            f"{100 * held.cpu['agent']:.0f}" if held else "",
            f"{held.tick_p99_ms:.0f}" if held else "",
            f"{above.polled:,.0f} of {above.offered:,.0f}" if above else "not tried",
            f"{100 * above.missed_ticks / above.due_ticks:.2f} %" if above else "",
            f"{100 * above.cpu['agent']:.0f} %" if above else "",
        ]
        text.append(f"| {name} | " + " | ".join(cells) + " |")
    books = results.highest_books
    if books is not None and books.in_books is not None:
        said = "were in the books" if books.in_books else "were **not** all in the books"
        text += ["", f"After the end all rows that the agent had committed {said}."]
    return [*text, ""]


def _backlog(results: Results) -> list[str]:
    found = results.backlog
    if found is None:
        return []
    rounds = len(found.insert_empty)
    rows = [
        ("committed at 250,000/s polled", found.insert_empty, found.insert_draining, 0, found.insert_ratio),
        ("ticks missed meanwhile, %", _percent(found.missed_empty), _percent(found.missed_draining), 1, None),
        ("drained beside that", [], found.drained_beside, 0, None),
        ("drained at 2,500/s polled", found.drain_small, found.drain_large, 0, found.drain_ratio),
    ]
    return [
        "## A backlog",
        "",
        f"{found.waiting:,} readings wait. Readings/s, medians over {rounds} interleaved rounds.",
        "",
        "| | empty or small | with the backlog | ratio |",
        "|---|---|---|---|",
        *(
            f"| {name} | {spread([*small], digits)} | {spread([*large], digits)} "
            f"| {'' if ratio is None else format(ratio, '.2f')} |"
            for name, small, large, digits, ratio in rows
        ),
        "",
    ]


def _percent(shares: list[float]) -> list[float]:
    return [100 * share for share in shares]


def _starts(results: Results) -> list[str]:
    text = []
    for name, starts in (
        ("a small store", results.starts),
        ("the backlog in the store", results.starts_full),
    ):
        if starts is not None:
            text.append(f"| {name} | {spread([*starts.seconds], 2)} | {len(starts.seconds)} |")
    head = ["## Start", "", "Seconds from the start of the process to READY, warm cache.", ""]
    return [*head, "| | median | starts |", "|---|---|---|", *text, ""] if text else []


def _home(results: Results) -> list[str]:
    if not results.households:
        return []
    minutes = results.households[0].minutes
    text = [
        "## One household",
        "",
        HOUSEHOLD.format(minutes=minutes),
        "",
        "| batching | up | down | both | with headers | MB a month |",
        "|---|---|---|---|---|---|",
    ]
    for one in results.households:
        text.append(
            f"| {one.batch_s} s | {one.sent / one.readings:.2f} | {one.received / one.readings:.2f} "
            f"| {one.wire:.2f} | {one.with_headers / one.readings:.2f} | {one.monthly_mb:.1f} |"
        )
    return [*text, ""]


def write(path: Path, text: str) -> None:
    """Write RESULTS.md as a whole."""
    fresh = path.with_name(f"{path.name}.new")
    fresh.write_text(text)
    fresh.replace(path)
