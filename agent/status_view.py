"""The agent's status as a person reads it in a terminal."""

from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

STALE_S = 15.0


def show(state: dict[str, Any], age_s: float) -> None:
    """Print a status document; ``age_s`` is how old it is."""
    console = Console()
    fresh = age_s < STALE_S
    console.print(
        f"[bold]{state['gateway']}[/]  {state['software']}  "
        + (
            f"[green]running[/] for {state['uptime_s']:.0f} s"
            if fresh
            else f"[red]silent for {age_s:.0f} s[/]"
        )
        + ("" if state["clock_synchronised"] else "  [yellow]clock not synchronised[/]")
    )
    store = state["store"]
    console.print(
        f"store: {store['readings']} readings in {store['rows']} rows, {store['bytes'] / 2**20:.1f} MiB, "
        f"sample to durable p99 {store['durable_p99_ms']:.0f} ms, longest {store['durable_max_ms']:.0f} ms, "
        f"{store['gap_ticks']} ticks in gaps"
    )
    _lines(console, state)
    _learned(console, state.get("learned", {}))
    _clocks(console, state.get("clocks", {}))
    _policy(console, state.get("policy"))
    _routes(console, state)
    for alarm in state["alarms"]:
        console.print(f"[red]alarm[/] {alarm['code']} {alarm['device']}: {alarm['text']}")


def _lines(console: Console, state: dict[str, Any]) -> None:
    table = Table("line", "rows", "requests", "overruns", "failures", "silent devices")
    for name, line in state["lines"].items():
        failures = ", ".join(f"{reason} {count}" for reason, count in line["failures"].items())
        table.add_row(
            name,
            str(line["rows"]),
            str(line["requests"]),
            str(line["overruns"]),
            failures,
            ", ".join(line["silent"]),
        )
    console.print(table)


def _learned(console: Console, learned: dict[str, Any]) -> None:
    if not learned:
        return
    table = Table("device", "largest read", "refused", "")
    for device, known in learned.items():
        table.add_row(
            device,
            ", ".join(f"{name} {count}" for name, count in known["largest"].items()),
            ", ".join(known["holes"]),
            "searching" if known["searching"] else "",
        )
    console.print(table)


def _clocks(console: Console, clocks: dict[str, Any]) -> None:
    if not clocks:
        return
    table = Table("device's clock", "ahead of ours", "drift", "")
    for device, known in clocks.items():
        drift = known["drift_ppm"]
        table.add_row(
            device,
            f"{known['offset_s']:+.1f} s ± {known['offset_within_s']:.1f}",
            "" if drift is None else f"{drift:+.0f} ppm ± {known['drift_within_ppm']:.0f}",
            "[red]beyond its bounds[/]" if known["beyond"] else "",
        )
    console.print(table)


def _policy(console: Console, policy: dict[str, Any] | None) -> None:
    if policy is None:
        return
    colour = "green" if policy["freshness"] == "fresh" else "red"
    console.print(
        f"policy {policy['version'] or 'none'}, assignment {policy['assignment'] or 'none'}: "
        f"[{colour}]{policy['freshness'].replace('_', ' ')}[/]"
    )
    for one in policy["refused"]:
        console.print(f"[red]refused[/] {one['what']} ({one['why']}): {escape(one['text'])}")


def _routes(console: Console, state: dict[str, Any]) -> None:
    up = {name: broker["connected"] for name, broker in state["brokers"].items()}
    table = Table(
        "route", "entity", "waiting", "unconfirmed", "messages", "confirmations", "resent", "refused"
    )
    for name, route in state["routes"].items():
        table.add_row(
            name,
            route["entity"],
            str(route["waiting_records"]),
            f"{route['unconfirmed_bytes'] / 1024:.0f} KiB",
            str(route["messages"]),
            str(route["confirmations"]),
            str(route["resent"]),
            str(route["refused"]),
        )
    console.print(table)
    for name, connected in up.items():
        address = state["brokers"][name]["address"]
        word = (
            "[green]connected[/]"
            if connected
            else f"[red]not connected[/]: {state['brokers'][name]['last_error']}"
        )
        console.print(f"broker {address} as {name}: {word}")
